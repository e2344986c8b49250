//! Master secrets in the host's storage, sealed to the enclave.
//!
//! Keys: `keymanager_master_secret | generation`, `keymanager_master_secret_checksum | generation` (little-endian) and
//! `keymanager_master_secret_proposal`. Source: `keymanager/src/crypto/kdf.rs`.

use std::collections::HashMap;

use base_prims::Namespace;
use parking_lot::Mutex;
use rt_guest::{
    Host,
    seal::{SealPolicy, seal, unseal},
    tee::Tee,
};

use crate::{KeyManagerError, api::Secret};

const SECRET_KEY: &[u8] = b"keymanager_master_secret";
const CHECKSUM_KEY: &[u8] = b"keymanager_master_secret_checksum";
const PROPOSAL_KEY: &[u8] = b"keymanager_master_secret_proposal";
const SECRET_CONTEXT: &[u8] = b"oasis-core/keymanager: master secret seal";
/// Another one, so that a rejected proposal cannot be passed off as a secret.
const PROPOSAL_CONTEXT: &[u8] = b"oasis-core/keymanager: master secret proposal seal";

/// A store of bytes by key, which is not trusted with anything. A missing key has no bytes.
pub trait Storage: Send + Sync {
    /// The bytes of a key.
    ///
    /// # Errors
    /// If the store fails.
    fn get(&self, key: &[u8]) -> Result<Vec<u8>, rt_guest::Error>;
    /// Sets the bytes of a key.
    ///
    /// # Errors
    /// If the store fails.
    fn set(&self, key: &[u8], value: Vec<u8>) -> Result<(), rt_guest::Error>;
}

impl Storage for Host {
    fn get(&self, key: &[u8]) -> Result<Vec<u8>, rt_guest::Error> {
        self.local_get(key)
    }

    fn set(&self, key: &[u8], value: Vec<u8>) -> Result<(), rt_guest::Error> {
        self.local_set(key, value)
    }
}

/// A store in memory.
#[derive(Debug, Default)]
pub struct MemoryStorage(pub Mutex<HashMap<Vec<u8>, Vec<u8>>>);

impl Storage for MemoryStorage {
    fn get(&self, key: &[u8]) -> Result<Vec<u8>, rt_guest::Error> {
        Ok(self.0.lock().get(key).cloned().unwrap_or_default())
    }

    fn set(&self, key: &[u8], value: Vec<u8>) -> Result<(), rt_guest::Error> {
        self.0.lock().insert(key.to_vec(), value);
        Ok(())
    }
}

impl<S: Storage + ?Sized> Storage for std::sync::Arc<S> {
    fn get(&self, key: &[u8]) -> Result<Vec<u8>, rt_guest::Error> {
        (**self).get(key)
    }

    fn set(&self, key: &[u8], value: Vec<u8>) -> Result<(), rt_guest::Error> {
        (**self).set(key, value)
    }
}

/// Master secrets, their checksums and the proposal.
pub struct SecretStorage {
    tee: Tee,
    storage: Box<dyn Storage>,
}

impl std::fmt::Debug for SecretStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretStorage").field("tee", &self.tee).finish_non_exhaustive()
    }
}

fn numbered(key: &[u8], generation: u64) -> Vec<u8> {
    [key, &generation.to_le_bytes()].concat()
}

fn aad(key_manager: &Namespace, generation: u64) -> Vec<u8> {
    [key_manager.as_bytes().as_slice(), &generation.to_le_bytes()].concat()
}

impl SecretStorage {
    /// Secrets sealed by the enclave of this TEE.
    pub fn new(tee: Tee, storage: Box<dyn Storage>) -> Self {
        Self { tee, storage }
    }

    fn open(&self, key: &[u8], context: &[u8], aad: &[u8]) -> Result<Option<Result<Secret, ()>>, KeyManagerError> {
        let sealed = self.storage.get(key)?;
        if sealed.is_empty() {
            return Ok(None);
        }
        let opened = unseal(&self.tee, SealPolicy::MrEnclave, context, &sealed, aad).map_err(drop);
        Ok(Some(opened.and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).map(Secret).map_err(drop))))
    }

    fn put(&self, key: &[u8], context: &[u8], aad: &[u8], secret: &Secret) -> Result<(), KeyManagerError> {
        let sealed = seal(&self.tee, SealPolicy::MrEnclave, context, &secret.0, aad);
        let sealed = sealed.map_err(rt_guest::Error::other)?;
        Ok(self.storage.set(key, sealed)?)
    }

    /// A master secret. That it opens proves that this enclave stored it for this generation.
    pub(super) fn master_secret(&self, id: &Namespace, generation: u64) -> Result<Option<Secret>, KeyManagerError> {
        match self.open(&numbered(SECRET_KEY, generation), SECRET_CONTEXT, &aad(id, generation))? {
            None => Ok(None),
            Some(Ok(secret)) => Ok(Some(secret)),
            Some(Err(())) => Err(KeyManagerError::StorageCorrupted),
        }
    }

    /// Stores a master secret that was proven to be the published one, and the checksum before it.
    pub(super) fn set_master_secret(
        &self,
        id: &Namespace,
        generation: u64,
        secret: &Secret,
        before: &[u8],
    ) -> Result<(), KeyManagerError> {
        self.put(&numbered(SECRET_KEY, generation), SECRET_CONTEXT, &aad(id, generation), secret)?;
        Ok(self.storage.set(&numbered(CHECKSUM_KEY, generation), before.to_vec())?)
    }

    /// The checksum before a generation; nothing proves it.
    pub(super) fn checksum(&self, generation: u64) -> Result<Vec<u8>, KeyManagerError> {
        Ok(self.storage.get(&numbered(CHECKSUM_KEY, generation))?)
    }

    /// The proposal, if it is for that generation. It may have been replaced by another one since.
    pub(super) fn proposal(&self, id: &Namespace, generation: u64) -> Result<Option<Secret>, KeyManagerError> {
        Ok(self.open(PROPOSAL_KEY, PROPOSAL_CONTEXT, &aad(id, generation))?.and_then(Result::ok))
    }

    pub(super) fn set_proposal(&self, id: &Namespace, generation: u64, secret: &Secret) -> Result<(), KeyManagerError> {
        self.put(PROPOSAL_KEY, PROPOSAL_CONTEXT, &aad(id, generation), secret)
    }
}
