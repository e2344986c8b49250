//! Errors, with the texts that the reference's key manager sends.

use base_prims::Epoch;

/// Why the key manager, or a client of it, refuses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyManagerError {
    /// The caller is no enclave.
    #[error("client session is not authenticated")]
    NotAuthenticated,
    /// The caller's enclave may not.
    #[error("client is not authorized")]
    NotAuthorized,
    /// Too early or too late.
    #[error("invalid epoch: expected {expected}, got {got}")]
    InvalidEpoch {
        /// The right one, or the current one.
        expected: Epoch,
        /// That of the request.
        got: Epoch,
    },
    /// Not the next one.
    #[error("invalid generation: expected {expected}, got {got}")]
    InvalidGeneration {
        /// The right one.
        expected: u64,
        /// That of the request.
        got: u64,
    },
    /// A generation that is not known yet.
    #[error("generation is in the future: expected max {max}, got {got}")]
    GenerationFromFuture {
        /// The newest.
        max: u64,
        /// That of the request.
        got: u64,
    },
    /// The caller's view of the consensus layer is old.
    #[error("height is not fresh")]
    HeightNotFresh,
    /// There is no secret yet.
    #[error("key manager is not initialized")]
    NotInitialized,
    /// What is known contradicts the consensus layer.
    #[error("key manager state corrupted")]
    StateCorrupted,
    /// What is stored contradicts itself.
    #[error("key manager storage corrupted")]
    StorageCorrupted,
    /// Enclaves need a policy.
    #[error("policy required")]
    PolicyRequired,
    /// An older policy.
    #[error("policy rollback")]
    PolicyRollback,
    /// Another policy of the same number.
    #[error("policy alteration, without serial increment")]
    PolicyChanged,
    /// A policy of another key manager.
    #[error("policy has invalid runtime")]
    PolicyInvalidRuntime,
    /// Too few nodes gave their share of a key.
    #[error("insufficient key shares")]
    InsufficientKeyShares,
    /// Too few trusted signers.
    #[error("insufficient signatures")]
    InsufficientSignatures,
    /// No signing key of the key manager is known.
    #[error("runtime signing key missing")]
    RskMissing,
    /// The own encryption key is not registered.
    #[error("runtime encryption key not published")]
    RekNotPublished,
    /// A signature.
    #[error("signature verification failed: {0}")]
    InvalidSignature(String),
    /// A secret is not the published one.
    #[error("master secret checksum mismatch")]
    MasterSecretChecksumMismatch,
    /// No enclave gave it.
    #[error("master secret generation {0} not replicated")]
    MasterSecretNotReplicated(u64),
    /// Not in the consensus state.
    #[error("master secret not published")]
    MasterSecretNotPublished,
    /// Not there.
    #[error("ephemeral secret for epoch {0} not found")]
    EphemeralSecretNotFound(Epoch),
    /// No enclave gave it.
    #[error("ephemeral secret for epoch {0} not replicated")]
    EphemeralSecretNotReplicated(Epoch),
    /// Not in the consensus state.
    #[error("ephemeral secret not published")]
    EphemeralSecretNotPublished,
    /// A secret is not the published one.
    #[error("ephemeral secret checksum mismatch")]
    EphemeralSecretChecksumMismatch,
    /// Not sealed for this enclave.
    #[error("invalid ciphertext")]
    InvalidCiphertext,
    /// The key manager has no status.
    #[error("status not found")]
    StatusNotFound,
    /// Another key manager.
    #[error("runtime mismatch")]
    RuntimeMismatch,
    /// No randomness.
    #[error("no randomness: {0}")]
    Random(getrandom::Error),
    /// Secret sharing.
    #[error(transparent)]
    Churp(#[from] crate::churp::ChurpError),
    /// The library below.
    #[error(transparent)]
    Guest(#[from] rt_guest::Error),
}

impl From<KeyManagerError> for rt_guest::Error {
    fn from(error: KeyManagerError) -> Self {
        match error {
            KeyManagerError::Guest(error) => error,
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<rt_guest::rpc::RpcError> for KeyManagerError {
    fn from(error: rt_guest::rpc::RpcError) -> Self {
        Self::Guest(error.into())
    }
}
