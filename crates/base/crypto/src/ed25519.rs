//! Ed25519 with the network's verification rules.
//!
//! # Consensus
//!
//! * The equation is cofactored: \[8\]R = \[8\](sB - hA); s must be below the group order.
//! * A or R of small order is refused; encodings of A and R that are not canonical are accepted.
//! * h = SHA-512(R ‖ A ‖ message) over the encodings as received.
//!
//! Reference: the options of `go/common/crypto/signature/signature.go` for `curve25519-voi`. A signature's verdict is
//! the same whether checked alone, with a prepared key or in a batch: because every check ends in a multiplication by
//! the cofactor, torsion components never count.

mod batch;
mod cache;

pub use batch::BatchVerifier;
pub use cache::PublicKeyCache;

use std::sync::Arc;

use curve25519_dalek::{EdwardsPoint, Scalar, edwards::CompressedEdwardsY};
use ed25519_dalek::Signer;
use sha2::{Digest, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Why a secret key was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The second half of a 64-byte key is not the public key of the first half.
    #[error("public half of the secret key does not belong to its seed")]
    PublicMismatch,
}

/// Whoever holds a key that this process does not have: a plugin or another machine. Calls may block.
pub trait KeyHolder: Send + Sync {
    /// Signs SHA-512/256(`context` ‖ `message`); the context is complete.
    ///
    /// # Errors
    /// If there is no signature: why, in words.
    fn sign(&self, context: &[u8], message: &[u8]) -> Result<[u8; 64], String>;
    /// Proves the output of the verifiable random function for `alpha`.
    ///
    /// # Errors
    /// If there is no proof: why, in words.
    fn prove(&self, alpha: &[u8]) -> Result<[u8; 80], String>;
}

/// A signing key, at hand or held by somebody else; wiped on drop, printed as its public key only.
#[derive(Clone)]
pub struct SecretKey(Inner);

#[derive(Clone)]
enum Inner {
    Local(ed25519_dalek::SigningKey),
    Held([u8; 32], Arc<dyn KeyHolder>),
}

impl SecretKey {
    /// Makes the key of an RFC 8032 seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(Inner::Local(ed25519_dalek::SigningKey::from_bytes(seed)))
    }

    /// The key `public` that `holder` signs with. It signs in contexts only: see [`crate::context::sign_with_context`].
    #[must_use]
    pub fn held(public: [u8; 32], holder: Arc<dyn KeyHolder>) -> Self {
        Self(Inner::Held(public, holder))
    }

    /// Who holds the key, unless it is at hand.
    #[must_use]
    pub fn holder(&self) -> Option<&dyn KeyHolder> {
        match &self.0 {
            Inner::Local(_) => None,
            Inner::Held(_, holder) => Some(&**holder),
        }
    }

    /// Takes the 64-byte form seed ‖ public key.
    pub fn from_bytes(bytes: &[u8; 64]) -> Result<Self, KeyError> {
        let (seed, public) = bytes.split_at(32);
        let seed = Zeroizing::new(<[u8; 32]>::try_from(seed).expect("half of 64 bytes"));
        let key = Self::from_seed(&seed);
        if bool::from(key.public().as_slice().ct_eq(public)) { Ok(key) } else { Err(KeyError::PublicMismatch) }
    }

    /// The 64-byte form seed ‖ public key; the seed of a held key is zeros, as nobody here knows it.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 64]> {
        let mut bytes = Zeroizing::new([0; 64]);
        bytes[..32].copy_from_slice(self.seed().as_slice());
        bytes[32..].copy_from_slice(&self.public());
        bytes
    }

    /// The seed; zeros for a held key.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        match &self.0 {
            Inner::Local(key) => Zeroizing::new(key.to_bytes()),
            Inner::Held(..) => Zeroizing::new([0; 32]),
        }
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        match &self.0 {
            Inner::Local(key) => key.verifying_key().to_bytes(),
            Inner::Held(public, _) => *public,
        }
    }

    /// Signs a message as RFC 8032 says, without any context. A held key, which signs in contexts only, gives zeros,
    /// which verify under no key.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        match &self.0 {
            Inner::Local(key) => key.sign(message).to_bytes(),
            Inner::Held(..) => [0; 64],
        }
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretKey({} redacted)", self.public().iter().map(|b| format!("{b:02x}")).collect::<String>())
    }
}

/// A public key that was decoded and found fit for verification.
#[derive(Clone, Copy, Debug)]
pub struct PublicKey {
    bytes: [u8; 32],
    /// The negated point, which is what the equation needs.
    minus_a: EdwardsPoint,
}

impl PublicKey {
    /// Decodes a key; nothing if it is not on the curve or of small order, since no signature verifies then.
    #[must_use]
    pub fn decode(bytes: &[u8; 32]) -> Option<Self> {
        let point = decode_point(bytes)?;
        Some(Self { bytes: *bytes, minus_a: -point })
    }

    /// The encoding as received.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// Whether `signature` covers `message`.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        Claim::new(*self, message, signature).is_some_and(|c| c.holds())
    }
}

/// Whether `signature` covers `message` under the rules of this module.
#[must_use]
pub fn verify(public_key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    PublicKey::decode(public_key).is_some_and(|k| k.verify(message, signature))
}

/// Decodes a point, canonically encoded or not, that is not of small order.
fn decode_point(bytes: &[u8; 32]) -> Option<EdwardsPoint> {
    CompressedEdwardsY(*bytes).decompress().filter(|p| !p.is_small_order())
}

/// A signature whose parts are well-formed, so that only the equation is open.
#[derive(Clone, Copy)]
struct Claim {
    key: PublicKey,
    r: EdwardsPoint,
    s: Scalar,
    /// SHA-512(R ‖ A ‖ message), before reduction.
    digest: [u8; 64],
}

impl Claim {
    fn new(key: PublicKey, message: &[u8], signature: &[u8; 64]) -> Option<Self> {
        let (r_bytes, s_bytes) = signature.split_at(32);
        let r_bytes: [u8; 32] = r_bytes.try_into().ok()?;
        let s = Option::from(Scalar::from_canonical_bytes(s_bytes.try_into().ok()?))?;
        let r = decode_point(&r_bytes)?;
        let digest =
            Sha512::new().chain_update(r_bytes).chain_update(key.bytes).chain_update(message).finalize().into();
        Some(Self { key, r, s, digest })
    }

    fn h(&self) -> Scalar {
        Scalar::from_bytes_mod_order_wide(&self.digest)
    }

    /// \[8\](sB - hA - R) = 0.
    fn holds(&self) -> bool {
        let sum = EdwardsPoint::vartime_double_scalar_mul_basepoint(&self.h(), &self.key.minus_a, &self.s);
        (sum - self.r).is_small_order()
    }
}

#[cfg(test)]
mod tests;
