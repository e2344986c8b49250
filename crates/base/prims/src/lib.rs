//! Primitive types of the Oasis Network: hashes, keys, addresses, namespaces, quantities, versions.
//!
//! Layer L0. Reference counterpart: `go/common/{quantity,version,crypto/hash,crypto/address}`, `go/common/namespace.go`,
//! `go/common/crypto/signature` (the value types) and `go/staking/api/address.go`.
//!
//! Every type has its CBOR, JSON and text forms as the reference writes them, and accepts what the reference accepts.
//! This crate does no I/O, holds no mutable state and knows nothing of services.
//!
//! Invariants: a [`Quantity`] is never negative and always in its smallest representation; a decoded
//! [`Namespace`] has only flag bits that the reference knows.
//!
//! Tested by tables of known addresses and hashes, and by property tests of each text and byte form.

pub mod address;
pub mod bytes;
pub mod keys;
pub mod namespace;
pub mod quantity;
pub mod version;

pub use address::Address;
pub use bytes::Hash;
pub use keys::{PublicKey, RawSignature};
pub use namespace::Namespace;
pub use quantity::Quantity;
pub use version::{ProtocolVersions, Version};

/// Number of an epoch.
pub type Epoch = u64;

/// The epoch that stands for "no epoch" (`2^64 - 1`); source: `go/beacon/api`.
pub const EPOCH_INVALID: Epoch = u64::MAX;

/// A text form that could not be read: what was expected and what was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found:?}")]
pub struct ParseError {
    /// What the text should have been.
    pub expected: &'static str,
    /// The text, shortened.
    pub found: String,
}

impl ParseError {
    /// An error about `found`, of which at most 80 characters are kept.
    pub fn new(expected: &'static str, found: &str) -> Self {
        Self { expected, found: found.chars().take(80).collect() }
    }
}

/// Gives a type with `Display` and `FromStr` its JSON value and map-key forms: a string.
#[macro_export]
macro_rules! json_as_text {
    ($t:ty, $expected:expr) => {
        impl ::base_codec::json::ToJson for $t {
            fn to_json(&self) -> ::base_codec::json::Value {
                ::base_codec::json::Value::String(self.to_string())
            }
        }
        impl ::base_codec::json::FromJson for $t {
            fn from_json(
                v: &::base_codec::json::Value,
                cx: &mut ::base_codec::json::Context,
            ) -> Result<Self, ::base_codec::json::Error> {
                match v {
                    ::base_codec::json::Value::Null => Ok(Self::default()),
                    ::base_codec::json::Value::String(s) => s.parse::<$t>().map_err(|e| cx.error(e.to_string())),
                    other => Err(cx.expected($expected, other)),
                }
            }
        }
        impl ::base_codec::json::JsonKey for $t {
            fn to_key(&self) -> String {
                self.to_string()
            }
            fn from_key(s: &str) -> Result<Self, String> {
                s.parse::<$t>().map_err(|e| e.to_string())
            }
        }
    };
}
