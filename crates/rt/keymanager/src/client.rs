//! What ParaTimes, and other key managers, ask of a key manager.
//!
//! Source: `keymanager/src/client`.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    sync::Arc,
};

use base_prims::{Epoch, Namespace, PublicKey};
use parking_lot::{Mutex, RwLock};
use rt_guest::{
    Env, Error,
    rpc::{Client, HostEndpoint, Limits, SessionConfig},
    verifier::Verifier,
};
use rt_tee::{EnclaveIdentity, Policy as QuotePolicy};
use wire_consensus::keymanager::{
    Status,
    rpc::{
        EphemeralKeyRequest, LongTermKeyRequest, METHOD_GET_OR_CREATE_EPHEMERAL_KEYS, METHOD_GET_OR_CREATE_KEYS,
        METHOD_GET_PUBLIC_EPHEMERAL_KEY, METHOD_GET_PUBLIC_KEY, METHOD_REPLICATE_EPHEMERAL_SECRET,
        METHOD_REPLICATE_MASTER_SECRET, SignedPublicKey,
    },
};
use wire_runtime::host::ENDPOINT_KEY_MANAGER;

use crate::{
    KeyManagerError,
    api::{
        KeyOf, KeyPair, KeyPairId, ReplicateEphemeralSecretRequest, ReplicateEphemeralSecretResponse,
        ReplicateMasterSecretRequest, ReplicateMasterSecretResponse, Secret, verify_public_key,
    },
    churp,
    kdf::SecretProvider,
    policy::{TrustedSigners, identity},
};

/// Most sessions with key managers.
const MAX_SESSIONS: usize = 32;
/// Most sessions with one key manager.
const MAX_SESSIONS_PER_PEER: usize = 2;
/// Keys of each kind that are kept.
const KEPT_KEYS: usize = 1024;

/// Keys of the runtime that asks.
#[derive(Clone, Debug)]
pub struct Keys {
    /// For the state.
    pub state_key: [u8; 32],
    /// Secret key for what is sent to the runtime.
    pub input_secret: [u8; 32],
}

impl From<&KeyPair> for Keys {
    fn from(pair: &KeyPair) -> Self {
        Self { state_key: pair.state_key.0, input_secret: pair.input_keypair.sk.0 }
    }
}

/// A key manager as ParaTimes see it.
pub trait KeyManager: Send + Sync {
    /// Long-term keys of an id.
    ///
    /// # Errors
    /// If no key manager gives them.
    fn keys(&self, id: &KeyPairId, generation: u64) -> Result<Keys, KeyManagerError>;
    /// The public part of long-term keys, vouched for.
    ///
    /// # Errors
    /// If no key manager gives it.
    fn public_key(&self, id: &KeyPairId, generation: u64) -> Result<SignedPublicKey, KeyManagerError>;
    /// Keys of an id for an epoch.
    ///
    /// # Errors
    /// If no key manager gives them.
    fn ephemeral_keys(&self, id: &KeyPairId, epoch: Epoch) -> Result<Keys, KeyManagerError>;
    /// The public part of ephemeral keys, vouched for.
    ///
    /// # Errors
    /// If no key manager gives it.
    fn public_ephemeral_key(&self, id: &KeyPairId, epoch: Epoch) -> Result<SignedPublicKey, KeyManagerError>;
    /// A key that a committee shares.
    ///
    /// # Errors
    /// If too few nodes give their shares.
    fn churp_state_key(&self, churp: u8, id: &KeyPairId) -> Result<[u8; 32], KeyManagerError>;
}

/// Keeps a bounded number of values, and forgets all when it is full.
struct Cache<K, V>(Mutex<HashMap<K, V>>);

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    fn get(&self, key: &K) -> Option<V> {
        self.0.lock().get(key).cloned()
    }

    fn put(&self, key: K, value: V) {
        let mut map = self.0.lock();
        if map.len() >= KEPT_KEYS {
            map.clear();
        }
        map.insert(key, value);
    }
}

/// A key manager elsewhere, reached through the host.
pub struct RemoteClient {
    runtime: Namespace,
    client: Client,
    verifier: Arc<Verifier>,
    signers: TrustedSigners,
    enforced: bool,
    key_manager: RwLock<Option<Namespace>>,
    rsk: RwLock<Option<PublicKey>>,
    longterm: Cache<(KeyPairId, u64), Keys>,
    longterm_public: Cache<(KeyPairId, u64), SignedPublicKey>,
    ephemeral: Cache<(KeyPairId, Epoch), Keys>,
    ephemeral_public: Cache<(KeyPairId, Epoch), SignedPublicKey>,
    churp: Cache<(KeyPairId, u8, Epoch), [u8; 32]>,
}

impl std::fmt::Debug for RemoteClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteClient").field("runtime", &self.runtime).finish_non_exhaustive()
    }
}

impl RemoteClient {
    /// For a ParaTime. In a TEE, no key manager is accepted before a policy that the signers signed names its enclave.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn new(env: &Env, signers: TrustedSigners) -> Result<Self, Error> {
        let enforced = env.identity.tee().enclave().is_some() && !signers.signers.is_empty();
        let enclaves = enforced.then(BTreeSet::new);
        Self::with_config(env, signers, enforced, enclaves, None, None)
    }

    /// For a key manager that replicates from others of its kind.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn for_replication(
        env: &Env,
        signers: TrustedSigners,
        enclaves: Option<BTreeSet<EnclaveIdentity>>,
    ) -> Result<Self, Error> {
        let policy = env.identity.quote_policy();
        Self::with_config(env, signers, enclaves.is_some(), enclaves, policy, Some(env.runtime_id()))
    }

    fn with_config(
        env: &Env,
        signers: TrustedSigners,
        enforced: bool,
        remote_enclaves: Option<BTreeSet<EnclaveIdentity>>,
        policy: Option<QuotePolicy>,
        key_manager: Option<Namespace>,
    ) -> Result<Self, Error> {
        let config = SessionConfig {
            identity: Some(Arc::clone(&env.identity)),
            remote_enclaves,
            policy,
            registry: key_manager.map(|id| (Arc::clone(&env.verifier), id)),
            ..SessionConfig::default()
        };
        let endpoint = HostEndpoint::new(env.host.clone(), ENDPOINT_KEY_MANAGER);
        let limits = Limits { sessions: MAX_SESSIONS, per_peer: MAX_SESSIONS_PER_PEER, ..Limits::default() };
        Ok(Self {
            runtime: env.runtime_id(),
            client: Client::new(Box::new(endpoint), config, limits)?,
            verifier: Arc::clone(&env.verifier),
            signers,
            enforced,
            key_manager: RwLock::new(key_manager),
            rsk: RwLock::new(None),
            longterm: Cache::new(),
            longterm_public: Cache::new(),
            ephemeral: Cache::new(),
            ephemeral_public: Cache::new(),
            churp: Cache::new(),
        })
    }

    /// The client below, for calls that this one has no method for.
    pub fn rpc(&self) -> &Client {
        &self.client
    }

    /// Takes the published status of the key manager: its id, signing key and policy.
    ///
    /// # Errors
    /// If the policy is not signed as it must.
    pub fn set_status(&self, status: &Status) -> Result<(), Error> {
        if let Some(rsk) = status.rsk {
            *self.rsk.write() = Some(rsk);
        }
        let changed = self.key_manager.write().replace(status.id) != Some(status.id);
        let registry = Some((Arc::clone(&self.verifier), status.id));
        if changed {
            self.client.update(|config| config.registry = registry);
        }
        let Some(policy) = &status.policy else { return Ok(()) };
        self.signers.verify(policy, &status.id)?;
        let enclaves: BTreeSet<_> = policy.policy.enclaves.iter().flatten().map(|(id, _)| identity(id)).collect();
        if self.enforced && self.client.config().remote_enclaves.as_ref() != Some(&enclaves) {
            self.client.update(|config| config.remote_enclaves = Some(enclaves));
        }
        Ok(())
    }

    /// Takes the published policy for the key manager's quotes.
    pub fn set_quote_policy(&self, policy: &QuotePolicy) {
        if self.client.config().policy.as_ref() != Some(policy) {
            self.client.update(|config| config.policy = Some(policy.clone()));
        }
    }

    /// The key manager, once it is known.
    pub fn key_manager(&self) -> Option<Namespace> {
        *self.key_manager.read()
    }

    fn verify(&self, key: &SignedPublicKey, of: &KeyOf, now: Option<Epoch>) -> Result<(), KeyManagerError> {
        let rsk = (*self.rsk.read()).ok_or(KeyManagerError::RskMissing)?;
        verify_public_key(key, of, now, &rsk)
    }

    fn longterm_request(&self, id: &KeyPairId, generation: u64) -> Result<LongTermKeyRequest, KeyManagerError> {
        let height = Some(self.verifier.latest_height()?);
        Ok(LongTermKeyRequest { height, id: self.runtime, key_pair_id: *id, generation })
    }

    fn ephemeral_request(&self, id: &KeyPairId, epoch: Epoch) -> Result<EphemeralKeyRequest, KeyManagerError> {
        let height = Some(self.verifier.latest_height()?);
        Ok(EphemeralKeyRequest { height, id: self.runtime, key_pair_id: *id, epoch })
    }

    /// A master secret of one of the nodes; only [`crate::kdf::Kdf::init`] tells whether it is the right one.
    ///
    /// # Errors
    /// If no node gives it.
    pub fn replicate_master_secret(
        &self,
        generation: u64,
        nodes: &[PublicKey],
    ) -> Result<(Secret, Vec<u8>), KeyManagerError> {
        let request = ReplicateMasterSecretRequest { height: self.verifier.latest_height()?, generation };
        let response: ReplicateMasterSecretResponse =
            self.client.secure_call(METHOD_REPLICATE_MASTER_SECRET, &request, nodes).into_result()?;
        Ok((response.master_secret, response.checksum.0))
    }

    /// An ephemeral secret of one of the nodes.
    ///
    /// # Errors
    /// If no node gives it.
    pub fn replicate_ephemeral_secret(&self, epoch: Epoch, nodes: &[PublicKey]) -> Result<Secret, KeyManagerError> {
        let request = ReplicateEphemeralSecretRequest { height: self.verifier.latest_height()?, epoch };
        let response: ReplicateEphemeralSecretResponse =
            self.client.secure_call(METHOD_REPLICATE_EPHEMERAL_SECRET, &request, nodes).into_result()?;
        Ok(response.ephemeral_secret)
    }
}

impl KeyManager for RemoteClient {
    fn keys(&self, id: &KeyPairId, generation: u64) -> Result<Keys, KeyManagerError> {
        let key = (*id, generation);
        if let Some(keys) = self.longterm.get(&key) {
            return Ok(keys);
        }
        let request = self.longterm_request(id, generation)?;
        let pair: KeyPair = self.client.secure_call(METHOD_GET_OR_CREATE_KEYS, &request, &[]).into_result()?;
        let keys = Keys::from(&pair);
        self.longterm.put(key, keys.clone());
        Ok(keys)
    }

    fn public_key(&self, id: &KeyPairId, generation: u64) -> Result<SignedPublicKey, KeyManagerError> {
        let (key, of) = ((*id, generation), KeyOf { runtime: self.runtime, id: *id, epoch: None });
        if let Some(known) = self.longterm_public.get(&key)
            && self.verify(&known, &of, None).is_ok()
        {
            return Ok(known);
        }
        let request = self.longterm_request(id, generation)?;
        let signed: SignedPublicKey = self.client.insecure_call(METHOD_GET_PUBLIC_KEY, &request, &[]).into_result()?;
        self.verify(&signed, &of, None)?;
        self.longterm_public.put(key, signed.clone());
        Ok(signed)
    }

    fn ephemeral_keys(&self, id: &KeyPairId, epoch: Epoch) -> Result<Keys, KeyManagerError> {
        let key = (*id, epoch);
        if let Some(keys) = self.ephemeral.get(&key) {
            return Ok(keys);
        }
        let request = self.ephemeral_request(id, epoch)?;
        let pair: KeyPair =
            self.client.secure_call(METHOD_GET_OR_CREATE_EPHEMERAL_KEYS, &request, &[]).into_result()?;
        let keys = Keys::from(&pair);
        self.ephemeral.put(key, keys.clone());
        Ok(keys)
    }

    fn public_ephemeral_key(&self, id: &KeyPairId, epoch: Epoch) -> Result<SignedPublicKey, KeyManagerError> {
        let (key, of) = ((*id, epoch), KeyOf { runtime: self.runtime, id: *id, epoch: Some(epoch) });
        let now = Some(self.verifier.latest_state()?.epoch()?);
        if let Some(known) = self.ephemeral_public.get(&key)
            && self.verify(&known, &of, now).is_ok()
        {
            return Ok(known);
        }
        let request = self.ephemeral_request(id, epoch)?;
        let signed: SignedPublicKey =
            self.client.insecure_call(METHOD_GET_PUBLIC_EPHEMERAL_KEY, &request, &[]).into_result()?;
        self.verify(&signed, &of, now)?;
        self.ephemeral_public.put(key, signed.clone());
        Ok(signed)
    }

    fn churp_state_key(&self, churp: u8, id: &KeyPairId) -> Result<[u8; 32], KeyManagerError> {
        let state = self.verifier.latest_state()?;
        let key_manager = rt_guest::policy::key_manager(&state, &self.runtime)?;
        let status = state.churp_status(&key_manager, churp)?.ok_or(KeyManagerError::StatusNotFound)?;
        let key = (*id, churp, status.handoff);
        if let Some(known) = self.churp.get(&key) {
            return Ok(known);
        }
        let state_key = churp::client::state_key(&self.client, &self.runtime, id, &status)?;
        self.churp.put(key, state_key);
        Ok(state_key)
    }
}

/// The other key managers of the committee, asked one after the other.
#[derive(Debug)]
pub struct Peers {
    client: RemoteClient,
    nodes: Vec<PublicKey>,
}

impl Peers {
    /// Key managers at these nodes.
    pub fn new(client: RemoteClient, nodes: Vec<PublicKey>) -> Self {
        Self { client, nodes }
    }
}

impl SecretProvider for Peers {
    fn master_secret(&self, generation: u64, take: &mut dyn FnMut(Secret, Vec<u8>) -> bool) {
        for node in &self.nodes {
            match self.client.replicate_master_secret(generation, &[*node]) {
                Err(error) => tracing::debug!(node = %node, generation, err = %error, "no master secret from peer"),
                Ok((secret, checksum)) => {
                    if take(secret, checksum) {
                        return;
                    }
                    tracing::warn!(node = %node, generation, "master secret of a peer is not the published one");
                }
            }
        }
    }

    fn ephemeral_secret(&self, epoch: Epoch, take: &mut dyn FnMut(Secret) -> bool) {
        for node in &self.nodes {
            match self.client.replicate_ephemeral_secret(epoch, &[*node]) {
                Err(error) => tracing::debug!(node = %node, epoch, err = %error, "no ephemeral secret from peer"),
                Ok(secret) => {
                    if take(secret) {
                        return;
                    }
                    tracing::warn!(node = %node, epoch, "ephemeral secret of a peer is not the published one");
                }
            }
        }
    }
}
