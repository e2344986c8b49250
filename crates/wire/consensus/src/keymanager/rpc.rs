//! Calls into a key manager's enclave: method names, requests, responses. Source: `go/keymanager/secrets/api.go`.

use base_codec::{Bytes, Codec};
use base_prims::{Epoch, Namespace, RawSignature};

use super::{SignedEncryptedEphemeralSecret, SignedEncryptedMasterSecret, Status};
use crate::node::X25519PublicKey;

/// Opens an encrypted session.
pub const METHOD_CONNECT: &str = "";
/// Initializes the enclave.
pub const METHOD_INIT: &str = "init";
/// Fetches long-term private keys.
pub const METHOD_GET_OR_CREATE_KEYS: &str = "get_or_create_keys";
/// Fetches long-term public keys.
pub const METHOD_GET_PUBLIC_KEY: &str = "get_public_key";
/// Fetches ephemeral private keys.
pub const METHOD_GET_OR_CREATE_EPHEMERAL_KEYS: &str = "get_or_create_ephemeral_keys";
/// Fetches ephemeral public keys.
pub const METHOD_GET_PUBLIC_EPHEMERAL_KEY: &str = "get_public_ephemeral_key";
/// Fetches a master secret from another enclave.
pub const METHOD_REPLICATE_MASTER_SECRET: &str = "replicate_master_secret";
/// Fetches an ephemeral secret from another enclave.
pub const METHOD_REPLICATE_EPHEMERAL_SECRET: &str = "replicate_ephemeral_secret";
/// Makes a master secret.
pub const METHOD_GENERATE_MASTER_SECRET: &str = "generate_master_secret";
/// Makes an ephemeral secret.
pub const METHOD_GENERATE_EPHEMERAL_SECRET: &str = "generate_ephemeral_secret";
/// Hands a published master secret to the enclave.
pub const METHOD_LOAD_MASTER_SECRET: &str = "load_master_secret";
/// Hands a published ephemeral secret to the enclave.
pub const METHOD_LOAD_EPHEMERAL_SECRET: &str = "load_ephemeral_secret";

/// Argument of [`METHOD_INIT`].
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct InitRequest {
    /// Current status.
    #[codec(omitempty)]
    pub status: Status,
}

/// Argument of the methods for long-term keys.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct LongTermKeyRequest {
    /// Height at which access is checked.
    pub height: Option<u64>,
    /// The runtime.
    #[codec(rename = "runtime_id")]
    pub id: Namespace,
    /// Which keys.
    pub key_pair_id: [u8; 32],
    /// Generation of the master secret.
    pub generation: u64,
}

/// Argument of the methods for ephemeral keys.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct EphemeralKeyRequest {
    /// Height at which access is checked.
    pub height: Option<u64>,
    /// The runtime.
    #[codec(rename = "runtime_id")]
    pub id: Namespace,
    /// Which keys.
    pub key_pair_id: [u8; 32],
    /// Epoch of the ephemeral secret.
    pub epoch: Epoch,
}

/// A public key that a key manager vouches for.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct SignedPublicKey {
    /// The key.
    pub key: X25519PublicKey,
    /// Checksum of the secret it is derived from.
    pub checksum: Option<Bytes>,
    /// Signature by the runtime signing key.
    pub signature: RawSignature,
    /// Epoch after which the key is not to be used.
    #[codec(omitempty)]
    pub expiration: Option<Epoch>,
}

/// Argument of [`METHOD_GENERATE_MASTER_SECRET`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Codec)]
pub struct GenerateMasterSecretRequest {
    /// Generation.
    pub generation: u64,
    /// Epoch at which it is to be accepted.
    pub epoch: Epoch,
}

/// Result of [`METHOD_GENERATE_MASTER_SECRET`].
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct GenerateMasterSecretResponse {
    /// The secret.
    pub signed_secret: SignedEncryptedMasterSecret,
}

/// Argument of [`METHOD_GENERATE_EPHEMERAL_SECRET`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Codec)]
pub struct GenerateEphemeralSecretRequest {
    /// Epoch to which it belongs.
    pub epoch: Epoch,
}

/// Result of [`METHOD_GENERATE_EPHEMERAL_SECRET`].
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct GenerateEphemeralSecretResponse {
    /// The secret.
    pub signed_secret: SignedEncryptedEphemeralSecret,
}

/// Argument of [`METHOD_LOAD_MASTER_SECRET`].
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct LoadMasterSecretRequest {
    /// The secret.
    pub signed_secret: SignedEncryptedMasterSecret,
}

/// Argument of [`METHOD_LOAD_EPHEMERAL_SECRET`].
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct LoadEphemeralSecretRequest {
    /// The secret.
    pub signed_secret: SignedEncryptedEphemeralSecret,
}
