//! What can be wrong with keys.

/// A key could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodingError {
    /// The protobuf message is cut off or malformed.
    #[error("malformed key message")]
    Malformed,
    /// The key is not Ed25519; carries the type's number.
    #[error("key type {0} is not supported")]
    UnsupportedType(u64),
    /// The key has another length than 32 (public) or 64 (secret) bytes.
    #[error("key of {0} bytes")]
    Length(usize),
    /// The two halves of a secret key do not belong together.
    #[error("public half of the secret key does not belong to its seed")]
    Mismatch,
}

/// A message could not be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("signing failed: {0}")]
pub struct SigningError(pub String);

/// A key is of another type than asked for. Never happens here; part of the replaced crate's interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("key is of another type")]
pub struct OtherVariantError;
