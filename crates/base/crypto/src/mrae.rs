//! Boxes: X25519 key agreement with the misuse-resistant cipher Deoxys-II-256-128.
//!
//! The cipher key is HMAC-SHA-512/256 of the shared point under a fixed label. Reference:
//! `go/common/crypto/mrae/deoxysii`.

use curve25519_dalek::MontgomeryPoint;
use deoxys::{
    DeoxysII256,
    aead::{Aead, KeyInit, Payload},
};
use hmac::{Hmac, Mac};
use sha2::Sha512_256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Label of the key derivation.
const KDF_LABEL: &[u8] = b"MRAE_Box_Deoxys-II-256-128";
/// Bytes of a nonce.
pub const NONCE_LEN: usize = 15;
/// Bytes by which a sealed text is longer.
pub const TAG_LEN: usize = 16;

/// Why a box could not be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MraeError {
    /// The sealed text was made with another key, nonce or additional data, or was changed.
    #[error("sealed text is not authentic")]
    NotAuthentic,
    /// The text is longer than the cipher takes.
    #[error("text of {got} bytes is too long for the cipher")]
    TooLong {
        /// Its length in bytes.
        got: usize,
    },
}

/// An X25519 secret key.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct BoxSecretKey([u8; 32]);

impl BoxSecretKey {
    /// Takes 32 random bytes; they are clamped where they are used.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(*bytes)
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        MontgomeryPoint::mul_base_clamped(self.0).to_bytes()
    }

    /// The cipher key shared with the owner of `public_key`. Low-order public keys are not refused, as in the
    /// reference: they give a key that anyone can compute.
    #[must_use]
    pub fn derive(&self, public_key: &[u8; 32]) -> SymmetricKey {
        let shared = Zeroizing::new(MontgomeryPoint(*public_key).mul_clamped(self.0).to_bytes());
        let mut mac = Hmac::<Sha512_256>::new_from_slice(KDF_LABEL).expect("HMAC takes keys of any length");
        mac.update(shared.as_slice());
        SymmetricKey(mac.finalize().into_bytes().into())
    }
}

impl std::fmt::Debug for BoxSecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BoxSecretKey(redacted)")
    }
}

/// A Deoxys-II-256-128 key.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SymmetricKey([u8; 32]);

impl SymmetricKey {
    /// Takes raw key bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(*bytes)
    }

    /// The raw key bytes, to hand to another cipher implementation.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Encrypts; the result is [`TAG_LEN`] bytes longer.
    pub fn seal(&self, nonce: &[u8; NONCE_LEN], text: &[u8], aad: &[u8]) -> Result<Vec<u8>, MraeError> {
        DeoxysII256::new(&self.0.into())
            .encrypt(&(*nonce).into(), Payload { msg: text, aad })
            .map_err(|_| MraeError::TooLong { got: text.len() })
    }

    /// Decrypts and checks.
    pub fn open(&self, nonce: &[u8; NONCE_LEN], sealed: &[u8], aad: &[u8]) -> Result<Vec<u8>, MraeError> {
        DeoxysII256::new(&self.0.into())
            .decrypt(&(*nonce).into(), Payload { msg: sealed, aad })
            .map_err(|_| MraeError::NotAuthentic)
    }
}

impl std::fmt::Debug for SymmetricKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SymmetricKey(redacted)")
    }
}

/// Encrypts for the owner of `peer`.
pub fn seal(
    secret: &BoxSecretKey,
    peer: &[u8; 32],
    nonce: &[u8; NONCE_LEN],
    text: &[u8],
    aad: &[u8],
) -> Result<Vec<u8>, MraeError> {
    secret.derive(peer).seal(nonce, text, aad)
}

/// Decrypts what the owner of `peer` sealed.
pub fn open(
    secret: &BoxSecretKey,
    peer: &[u8; 32],
    nonce: &[u8; NONCE_LEN],
    sealed: &[u8],
    aad: &[u8],
) -> Result<Vec<u8>, MraeError> {
    secret.derive(peer).open(nonce, sealed, aad)
}

#[cfg(test)]
mod tests;
