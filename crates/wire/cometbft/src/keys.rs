//! Public keys, addresses, and what is signed.
//!
//! Reference: `cometbft:proto/tendermint/crypto/keys.proto`, `crypto/ed25519`, `crypto/encoding`.

use sha2::{Digest, Sha512_256};

use crate::codec::oneofs;
use crate::merkle::sha256;

/// Length of an address in bytes.
pub const ADDRESS_SIZE: usize = 20;
/// Length of an Ed25519 public key in bytes.
pub const ED25519_KEY_SIZE: usize = 32;
/// The context that separates every signature of the consensus engine, the connection handshake included.
pub const SIGNATURE_CONTEXT: &[u8] = b"oasis-core/tendermint";

/// A validator's address: the first 20 bytes of the SHA-256 of its public key.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub [u8; ADDRESS_SIZE]);

impl Address {
    /// Address of an Ed25519 public key.
    pub fn of(key: &[u8; ED25519_KEY_SIZE]) -> Self {
        let hash = sha256(key);
        let mut address = [0; ADDRESS_SIZE];
        address.copy_from_slice(&hash[..ADDRESS_SIZE]);
        Self(address)
    }

    /// Address from its bytes; `None` unless there are 20.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

/// Upper-case hexadecimal, as the reference prints addresses.
impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl AsRef<[u8]> for Address {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

oneofs! {
    /// A public key of either kind (`tendermint.crypto.PublicKey`).
    pub struct PublicKey = enum PublicKeySum {
        /// Ed25519, 32 bytes.
        1 => Ed25519(Vec<u8>),
        /// secp256k1, 33 bytes; the network's parameters do not allow it.
        2 => Secp256k1(Vec<u8>),
    }
}

impl PublicKey {
    /// Message for an Ed25519 key.
    pub fn ed25519(key: &[u8; ED25519_KEY_SIZE]) -> Self {
        PublicKeySum::Ed25519(key.to_vec()).into()
    }

    /// The Ed25519 key, if it is one of the right length.
    pub fn as_ed25519(&self) -> Option<[u8; ED25519_KEY_SIZE]> {
        match &self.sum {
            Some(PublicKeySum::Ed25519(key)) => key.as_slice().try_into().ok(),
            _ => None,
        }
    }
}

/// What Ed25519 signs for a message: SHA-512/256 of context and message.
///
/// # Consensus
/// Applies to votes, proposals and the handshake challenge alike (`oasis-core:go/consensus/cometbft/crypto/signature.go`).
pub fn signing_digest(message: &[u8]) -> [u8; 32] {
    Sha512_256::new().chain_update(SIGNATURE_CONTEXT).chain_update(message).finalize().into()
}
