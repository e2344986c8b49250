//! Keys from secrets, and which secrets there are.
//!
//! Master secrets form a chain: each generation's checksum covers the one before, and the consensus layer holds the
//! newest. Source: `keymanager/src/crypto/kdf.rs`.

mod storage;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

use base_crypto::{cshake::cshake256, ed25519::SecretKey};
use base_prims::{Epoch, Namespace, PublicKey};
use parking_lot::Mutex;
use rt_guest::{seal::kmac256, tee::Tee};
use wire_consensus::keymanager::rpc::SignedPublicKey;
use zeroize::Zeroizing;

use crate::{
    KeyManagerError,
    api::{KeyOf, KeyPair, KeyPairId, Secret, sign_public_key},
};

pub use storage::{MemoryStorage, SecretStorage, Storage};

/// Generations of the master secret that are kept in memory.
pub const KEPT_MASTER_SECRETS: usize = 20;
/// Epochs whose ephemeral secrets are kept.
pub const KEPT_EPHEMERAL_SECRETS: usize = 20;
/// Long-term keys that are kept.
const KEPT_LONGTERM_KEYS: usize = 1024;
/// Ephemeral keys that are kept.
const KEPT_EPHEMERAL_KEYS: usize = 128;

/// A checksum over secrets.
pub type Checksum = [u8; 32];

/// What derivations are separated by. Builds that hold no real secrets have texts of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Domains {
    secure: bool,
}

impl Domains {
    /// Those of runtimes in this TEE.
    pub fn of(tee: &Tee) -> Self {
        Self { secure: matches!(tee, Tee::Tdx(_)) }
    }

    /// Whether secrets are real.
    pub fn is_secure(self) -> bool {
        self.secure
    }

    fn text(self, secure: &'static [u8], insecure: &'static [u8]) -> &'static [u8] {
        if self.secure { secure } else { insecure }
    }

    fn runtime(self) -> &'static [u8] {
        self.text(b"ekiden-derive-runtime-secret", b"ekiden-derive-runtime-secret-insecure")
    }

    fn ephemeral(self) -> &'static [u8] {
        self.text(b"ekiden-derive-ephemeral-secret", b"ekiden-derive-ephemeral-secret-insecure")
    }

    fn ephemeral_keys(self) -> &'static [u8] {
        self.text(b"ekiden-derive-ephemeral-keys", b"ekiden-derive-ephemeral-keys-insecure")
    }

    fn signing_key(self) -> &'static [u8] {
        self.text(b"ekiden-derive-signing-key", b"ekiden-derive-signing-key-insecure")
    }

    /// Checksum of a master secret after those that `last` covers; the first follows the key manager's id.
    pub fn master_checksum(self, secret: &Secret, last: &[u8]) -> Checksum {
        let domain = self.text(b"ekiden-checksum-master-secret", b"ekiden-checksum-master-secret-insecure");
        let mut out = [0; 32];
        kmac256(&secret.0, domain, &[last], &mut out);
        out
    }

    /// Checksum of an ephemeral secret.
    pub fn ephemeral_checksum(self, secret: &Secret, key_manager: &Namespace, epoch: Epoch) -> Checksum {
        let domain = self.text(b"ekiden-checksum-ephemeral-secret", b"ekiden-checksum-ephemeral-secret-insecure");
        let mut out = [0; 32];
        kmac256(&secret.0, domain, &[key_manager.as_bytes(), &epoch.to_le_bytes()], &mut out);
        out
    }

    fn derive(secret: &Secret, domain: &[u8], seed: &[u8]) -> Secret {
        let mut out = Secret::default();
        kmac256(&secret.0, domain, &[seed], &mut out.0);
        out
    }

    fn keys(secret: &Secret, domain: &[u8]) -> KeyPair {
        let mut out = Zeroizing::new([0; 64]);
        cshake256(b"", domain, &secret.0, &mut *out);
        let (mut state_key, mut sk) = (Secret::default(), Secret::default());
        state_key.0.copy_from_slice(&out[..32]);
        sk.0.copy_from_slice(&out[32..]);
        KeyPair::new(state_key, sk)
    }

    /// Long-term keys. The second step repeats the first one's text, though one of its own exists: what was derived so
    /// once must be derived so forever.
    pub fn longterm_keys(self, secret: &Secret, runtime: &Namespace, id: &KeyPairId) -> KeyPair {
        let seed = [runtime.as_bytes().as_slice(), id].concat();
        Self::keys(&Self::derive(secret, self.runtime(), &seed), self.runtime())
    }

    /// Ephemeral keys.
    pub fn ephemeral_key_pair(self, secret: &Secret, runtime: &Namespace, id: &KeyPairId, epoch: Epoch) -> KeyPair {
        let seed = [runtime.as_bytes().as_slice(), id, &epoch.to_be_bytes()].concat();
        Self::keys(&Self::derive(secret, self.ephemeral(), &seed), self.ephemeral_keys())
    }

    /// The key with which the key manager vouches for public keys.
    pub fn runtime_signing_key(self, secret: &Secret, key_manager: &Namespace) -> SecretKey {
        SecretKey::from_seed(&Self::derive(secret, self.signing_key(), key_manager.as_bytes()).0)
    }
}

/// Where secrets come from that this enclave does not have: other enclaves, one after the other, which need not be
/// trusted with master secrets.
pub trait SecretProvider {
    /// Calls `take` with the master secret and the checksum before it that each enclave gives, until it says true.
    fn master_secret(&self, generation: u64, take: &mut dyn FnMut(Secret, Vec<u8>) -> bool);
    /// Calls `take` with the ephemeral secret that each enclave gives, until it says true.
    fn ephemeral_secret(&self, epoch: Epoch, take: &mut dyn FnMut(Secret) -> bool);
}

/// What the key manager registers with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KdfState {
    /// Checksum over the master secrets; `None` without any.
    pub checksum: Option<Checksum>,
    /// Checksum with the proposed secret, if there is one.
    pub next_checksum: Option<Checksum>,
    /// Signing key of the newest secret.
    pub signing_key: Option<PublicKey>,
    /// Signing key of the proposed secret.
    pub next_signing_key: Option<PublicKey>,
}

/// A map that forgets what was used longest ago.
struct Lru<K, V> {
    max: usize,
    clock: u64,
    map: HashMap<K, (u64, V)>,
}

impl<K: Eq + Hash + Clone, V: Clone> Lru<K, V> {
    fn new(max: usize) -> Self {
        Self { max, clock: 0, map: HashMap::new() }
    }

    fn get(&mut self, key: &K) -> Option<V> {
        self.clock += 1;
        let (used, value) = self.map.get_mut(key)?;
        *used = self.clock;
        Some(value.clone())
    }

    fn put(&mut self, key: K, value: V) {
        self.clock += 1;
        if self.map.len() >= self.max
            && !self.map.contains_key(&key)
            && let Some(oldest) = self.map.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone())
        {
            self.map.remove(&oldest);
        }
        self.map.insert(key, (self.clock, value));
    }
}

struct Inner {
    key_manager: Option<Namespace>,
    /// Generation and checksum of the newest master secret, and the signing key derived from it.
    newest: Option<(u64, Checksum, SecretKey)>,
    proposal: Option<(Checksum, PublicKey)>,
    master_secrets: Lru<u64, Secret>,
    ephemeral_secrets: BTreeMap<Epoch, Secret>,
    longterm_keys: Lru<(Namespace, KeyPairId, u64), KeyPair>,
    ephemeral_keys: Lru<(Namespace, KeyPairId, Epoch), KeyPair>,
}

impl Inner {
    fn new() -> Self {
        Self {
            key_manager: None,
            newest: None,
            proposal: None,
            master_secrets: Lru::new(KEPT_MASTER_SECRETS),
            ephemeral_secrets: BTreeMap::new(),
            longterm_keys: Lru::new(KEPT_LONGTERM_KEYS),
            ephemeral_keys: Lru::new(KEPT_EPHEMERAL_KEYS),
        }
    }

    /// Forgets everything but the proposal, and fails.
    fn reset<T>(&mut self, error: KeyManagerError) -> Result<T, KeyManagerError> {
        *self = Self { proposal: self.proposal.take(), ..Self::new() };
        Err(error)
    }

    fn set_key_manager(&mut self, id: &Namespace) -> Result<(), KeyManagerError> {
        if *self.key_manager.get_or_insert(*id) == *id { Ok(()) } else { Err(KeyManagerError::RuntimeMismatch) }
    }

    fn key_manager(&self) -> Result<Namespace, KeyManagerError> {
        self.key_manager.ok_or(KeyManagerError::NotInitialized)
    }

    fn check_key_manager(&self, id: &Namespace) -> Result<(), KeyManagerError> {
        if self.key_manager()? == *id { Ok(()) } else { Err(KeyManagerError::RuntimeMismatch) }
    }

    fn generation(&self) -> Result<u64, KeyManagerError> {
        self.newest.as_ref().map(|(generation, ..)| *generation).ok_or(KeyManagerError::NotInitialized)
    }

    fn next_generation(&self) -> u64 {
        self.newest.as_ref().map_or(0, |(generation, ..)| generation.saturating_add(1))
    }

    fn check_next_generation(&self, got: u64) -> Result<(), KeyManagerError> {
        let expected = self.next_generation();
        if expected == got { Ok(()) } else { Err(KeyManagerError::InvalidGeneration { expected, got }) }
    }

    /// What the next master secret's checksum follows.
    fn last_checksum(&self, key_manager: &Namespace) -> Checksum {
        self.newest.as_ref().map_or(*key_manager.as_bytes(), |(_, checksum, _)| *checksum)
    }

    fn add_ephemeral_secret(&mut self, secret: Secret, epoch: Epoch) {
        self.ephemeral_secrets.insert(epoch, secret);
        while self.ephemeral_secrets.len() > KEPT_EPHEMERAL_SECRETS {
            self.ephemeral_secrets.pop_first();
        }
    }

    fn state(&self) -> KdfState {
        KdfState {
            checksum: self.newest.as_ref().map(|(_, checksum, _)| *checksum),
            next_checksum: self.proposal.map(|(checksum, _)| checksum),
            signing_key: self.newest.as_ref().map(|(_, _, signer)| PublicKey::new(signer.public())),
            next_signing_key: self.proposal.map(|(_, key)| key),
        }
    }
}

/// The key manager's secrets, and the keys derived from them.
pub struct Kdf {
    domains: Domains,
    storage: SecretStorage,
    inner: Mutex<Inner>,
}

impl std::fmt::Debug for Kdf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kdf").field("state", &self.inner.lock().state()).finish_non_exhaustive()
    }
}

impl Kdf {
    /// No secrets yet.
    pub fn new(domains: Domains, storage: SecretStorage) -> Self {
        Self { domains, storage, inner: Mutex::new(Inner::new()) }
    }

    /// How keys are derived.
    pub fn domains(&self) -> Domains {
        self.domains
    }

    /// Brings the secrets to what the consensus layer says: generation and checksum (empty without secrets).
    ///
    /// Secrets that are missing are taken from the stored proposal or from other enclaves; nothing is believed that
    /// does not lead to the checksum.
    ///
    /// # Errors
    /// If a secret is missing or something contradicts; what is in memory is then forgotten.
    pub fn init(
        &self,
        key_manager: &Namespace,
        generation: u64,
        checksum: &[u8],
        epoch: Epoch,
        provider: &dyn SecretProvider,
    ) -> Result<KdfState, KeyManagerError> {
        let mut inner = self.inner.lock();
        inner.set_key_manager(key_manager)?;
        if checksum.is_empty() {
            if inner.newest.is_some() {
                return inner.reset(KeyManagerError::StateCorrupted);
            }
            return Ok(inner.state());
        }
        let Ok(checksum) = Checksum::try_from(checksum) else {
            return inner.reset(KeyManagerError::StateCorrupted);
        };
        let startup = inner.newest.is_none();
        let (mut next, mut current) = (inner.next_generation(), inner.last_checksum(key_manager));
        if startup {
            match self.load_chain(key_manager) {
                Ok(loaded) => (next, current) = loaded,
                Err(error) => return inner.reset(error),
            }
        }
        // Where one secret is missing, it may be the one that was proposed.
        if next == generation
            && let Some(secret) = self.storage.proposal(key_manager, generation)?
        {
            let with_proposal = self.domains.master_checksum(&secret, &current);
            if with_proposal == checksum {
                self.storage.set_master_secret(key_manager, generation, &secret, &current)?;
                (next, current) = (next.saturating_add(1), with_proposal);
            }
        }
        let reached = match self.replicate(key_manager, next, generation, checksum, provider) {
            Ok(reached) => reached,
            Err(error @ KeyManagerError::StorageCorrupted) => return inner.reset(error),
            Err(error) => return Err(error),
        };
        if next > generation.saturating_add(1) || current != reached {
            return inner.reset(KeyManagerError::StateCorrupted);
        }
        if startup {
            self.replicate_ephemeral(&mut inner, epoch, provider);
        }
        if inner.newest.as_ref().map(|(generation, ..)| *generation) != Some(generation) {
            let Some(secret) = self.storage.master_secret(key_manager, generation)? else {
                return Err(KeyManagerError::StateCorrupted);
            };
            let signer = self.domains.runtime_signing_key(&secret, key_manager);
            inner.newest = Some((generation, checksum, signer));
            inner.proposal = None;
            inner.master_secrets.put(generation, secret);
        }
        Ok(inner.state())
    }

    /// The secrets that are stored from the first on: how many there are and the checksum over them.
    fn load_chain(&self, key_manager: &Namespace) -> Result<(u64, Checksum), KeyManagerError> {
        let (mut next, mut current) = (0, *key_manager.as_bytes());
        while let Some(secret) = self.storage.master_secret(key_manager, next)? {
            if self.storage.checksum(next)? != current {
                return Err(KeyManagerError::StorageCorrupted);
            }
            current = self.domains.master_checksum(&secret, &current);
            next += 1;
        }
        Ok((next, current))
    }

    /// Fetches missing secrets from the newest back, so that each is checked before it is stored; returns the checksum
    /// before the first of them.
    fn replicate(
        &self,
        key_manager: &Namespace,
        from: u64,
        to: u64,
        checksum: Checksum,
        provider: &dyn SecretProvider,
    ) -> Result<Checksum, KeyManagerError> {
        let mut last = checksum;
        for generation in (from..=to).rev() {
            if let Some(secret) = self.storage.master_secret(key_manager, generation)? {
                let before = self.storage.checksum(generation)?;
                if self.domains.master_checksum(&secret, &before) != last {
                    return Err(KeyManagerError::StorageCorrupted);
                }
                last = Checksum::try_from(before.as_slice()).map_err(|_| KeyManagerError::StorageCorrupted)?;
                continue;
            }
            let mut found = None;
            provider.master_secret(generation, &mut |secret, before| {
                let before = if before.is_empty() { Ok(*key_manager.as_bytes()) } else { before.as_slice().try_into() };
                if let Ok(before) = before
                    && self.domains.master_checksum(&secret, &before) == last
                {
                    found = Some((secret, before));
                }
                found.is_some()
            });
            let (secret, before) = found.ok_or(KeyManagerError::MasterSecretNotReplicated(generation))?;
            self.storage.set_master_secret(key_manager, generation, &secret, &before)?;
            last = before;
        }
        Ok(last)
    }

    /// Fetches ephemeral secrets from the next epoch's back, until one is missing.
    fn replicate_ephemeral(&self, inner: &mut Inner, epoch: Epoch, provider: &dyn SecretProvider) {
        let to = epoch.saturating_add(1);
        for epoch in (to.saturating_sub(KEPT_EPHEMERAL_SECRETS as u64)..=to).rev() {
            let mut found = None;
            provider.ephemeral_secret(epoch, &mut |secret| {
                found = Some(secret);
                true
            });
            match found {
                Some(secret) => inner.add_ephemeral_secret(secret, epoch),
                // The next epoch's may not have been made yet.
                None if epoch == to => {}
                None => break,
            }
        }
    }

    /// The key manager's id.
    ///
    /// # Errors
    /// Before [`Kdf::init`].
    pub fn key_manager(&self) -> Result<Namespace, KeyManagerError> {
        self.inner.lock().key_manager()
    }

    fn master_secret(&self, inner: &mut Inner, generation: u64, keep: bool) -> Result<Secret, KeyManagerError> {
        let max = inner.generation()?;
        if generation > max {
            return Err(KeyManagerError::GenerationFromFuture { max, got: generation });
        }
        if let Some(secret) = inner.master_secrets.get(&generation) {
            return Ok(secret);
        }
        let key_manager = inner.key_manager()?;
        let Some(secret) = self.storage.master_secret(&key_manager, generation)? else {
            return inner.reset(KeyManagerError::StateCorrupted);
        };
        if keep {
            inner.master_secrets.put(generation, secret.clone());
        }
        Ok(secret)
    }

    /// Long-term keys of a runtime.
    ///
    /// # Errors
    /// If there is no such generation.
    pub fn longterm_keys(
        &self,
        runtime: &Namespace,
        id: &KeyPairId,
        generation: u64,
    ) -> Result<KeyPair, KeyManagerError> {
        let mut inner = self.inner.lock();
        let secret = self.master_secret(&mut inner, generation, true)?;
        let key = (*runtime, *id, generation);
        if let Some(keys) = inner.longterm_keys.get(&key) {
            return Ok(keys);
        }
        let keys = self.domains.longterm_keys(&secret, runtime, id);
        inner.longterm_keys.put(key, keys.clone());
        Ok(keys)
    }

    /// Ephemeral keys of a runtime.
    ///
    /// # Errors
    /// If there is no secret for the epoch.
    pub fn ephemeral_keys(
        &self,
        runtime: &Namespace,
        id: &KeyPairId,
        epoch: Epoch,
    ) -> Result<KeyPair, KeyManagerError> {
        let mut inner = self.inner.lock();
        let key = (*runtime, *id, epoch);
        if let Some(keys) = inner.ephemeral_keys.get(&key) {
            return Ok(keys);
        }
        let secret = inner.ephemeral_secrets.get(&epoch).ok_or(KeyManagerError::EphemeralSecretNotFound(epoch))?;
        let keys = self.domains.ephemeral_key_pair(secret, runtime, id, epoch);
        inner.ephemeral_keys.put(key, keys.clone());
        Ok(keys)
    }

    /// Vouches for the public part of keys.
    ///
    /// # Errors
    /// Without secrets.
    pub fn sign(&self, of: &KeyOf, keys: &KeyPair) -> Result<SignedPublicKey, KeyManagerError> {
        let inner = self.inner.lock();
        let (_, checksum, signer) = inner.newest.as_ref().ok_or(KeyManagerError::NotInitialized)?;
        sign_public_key(of, keys.input_keypair.pk, checksum, signer)
    }

    /// A master secret and the checksum before it, for another enclave.
    ///
    /// # Errors
    /// If there is no such generation.
    pub fn share_master_secret(&self, generation: u64) -> Result<(Secret, Vec<u8>), KeyManagerError> {
        let secret = self.master_secret(&mut self.inner.lock(), generation, false)?;
        Ok((secret, self.storage.checksum(generation)?))
    }

    /// An ephemeral secret, for another enclave.
    ///
    /// # Errors
    /// If there is none for the epoch.
    pub fn share_ephemeral_secret(&self, epoch: Epoch) -> Result<Secret, KeyManagerError> {
        let inner = self.inner.lock();
        inner.ephemeral_secrets.get(&epoch).cloned().ok_or(KeyManagerError::EphemeralSecretNotFound(epoch))
    }

    /// Checksum that a new secret of the next generation would have.
    ///
    /// # Errors
    /// If it is not the next generation.
    pub fn proposal_checksum(&self, secret: &Secret, generation: u64) -> Result<Checksum, KeyManagerError> {
        let inner = self.inner.lock();
        let key_manager = inner.key_manager()?;
        inner.check_next_generation(generation)?;
        Ok(self.domains.master_checksum(secret, &inner.last_checksum(&key_manager)))
    }

    /// Stores a published proposal for the next master secret.
    ///
    /// # Errors
    /// If it is not the one that was published.
    pub fn add_proposal(
        &self,
        key_manager: &Namespace,
        secret: &Secret,
        generation: u64,
        checksum: &[u8],
    ) -> Result<(), KeyManagerError> {
        let mut inner = self.inner.lock();
        inner.check_key_manager(key_manager)?;
        inner.check_next_generation(generation)?;
        let next = self.domains.master_checksum(secret, &inner.last_checksum(key_manager));
        if next != checksum {
            return Err(KeyManagerError::MasterSecretChecksumMismatch);
        }
        self.storage.set_proposal(key_manager, generation, secret)?;
        let signer = self.domains.runtime_signing_key(secret, key_manager);
        inner.proposal = Some((next, PublicKey::new(signer.public())));
        Ok(())
    }

    /// Keeps a published ephemeral secret.
    ///
    /// # Errors
    /// If it is not the one that was published.
    pub fn add_ephemeral_secret(
        &self,
        key_manager: &Namespace,
        secret: Secret,
        epoch: Epoch,
        checksum: &[u8],
    ) -> Result<(), KeyManagerError> {
        if self.domains.ephemeral_checksum(&secret, key_manager, epoch) != checksum {
            return Err(KeyManagerError::EphemeralSecretChecksumMismatch);
        }
        let mut inner = self.inner.lock();
        inner.check_key_manager(key_manager)?;
        inner.add_ephemeral_secret(secret, epoch);
        Ok(())
    }
}
