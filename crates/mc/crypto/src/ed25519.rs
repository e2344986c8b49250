//! Ed25519 keys, their DER forms, signatures.

use ed25519_dalek::{Signature, Signer as _, SigningKey, Verifier as _, VerifyingKey};
use wire_mobilecoin::{Ed25519Key, Ed25519Sig};

/// What precedes the 32 key bytes of a private key in PKCS#8 DER.
const PRIVATE_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// What precedes the 32 key bytes of a public key in DER.
const PUBLIC_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Why a key is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not the DER form of an Ed25519 key.
    #[error("not the DER form of an Ed25519 key")]
    Der,
}

/// A private key.
#[derive(Clone)]
pub struct PrivateKey(SigningKey);

impl PrivateKey {
    /// The key of a seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// Reads PKCS#8 DER.
    ///
    /// # Errors
    /// If it is another form.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let seed = der.strip_prefix(&PRIVATE_PREFIX).and_then(|seed| seed.try_into().ok()).ok_or(Error::Der)?;
        Ok(Self::from_seed(seed))
    }

    /// PKCS#8 DER, 48 bytes.
    pub fn to_der(&self) -> Vec<u8> {
        [PRIVATE_PREFIX.as_slice(), self.0.as_bytes()].concat()
    }

    /// The seed, 32 bytes.
    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The public key.
    pub fn public(&self) -> Ed25519Key {
        Ed25519Key(self.0.verifying_key().to_bytes())
    }

    /// Signs.
    pub fn sign(&self, message: &[u8]) -> Ed25519Sig {
        Ed25519Sig(self.0.sign(message).to_bytes())
    }
}

/// Whether the signature of the message is by the key.
pub fn verify(key: &Ed25519Key, message: &[u8], signature: &Ed25519Sig) -> bool {
    VerifyingKey::from_bytes(&key.0).is_ok_and(|key| key.verify(message, &Signature::from_bytes(&signature.0)).is_ok())
}

/// A public key in DER, 44 bytes.
pub fn public_to_der(key: &Ed25519Key) -> Vec<u8> {
    [PUBLIC_PREFIX.as_slice(), &key.0].concat()
}

/// Reads a public key in DER.
///
/// # Errors
/// If it is another form, or no key.
pub fn public_from_der(der: &[u8]) -> Result<Ed25519Key, Error> {
    let key: [u8; 32] = der.strip_prefix(&PUBLIC_PREFIX).and_then(|key| key.try_into().ok()).ok_or(Error::Der)?;
    VerifyingKey::from_bytes(&key).map_err(|_| Error::Der)?;
    Ok(Ed25519Key(key))
}
