//! Key pairs and public keys; signatures in the Oasis context.

use std::sync::Arc;

use base_crypto::context::{P2P, prepare, sign_with_context};
use base_crypto::ed25519::{self, KeyError, SecretKey};

use crate::{DecodingError, OtherVariantError, PeerId, SigningError, proto};

/// Type of a key; there is only one here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyType {
    /// Ed25519.
    Ed25519,
}

/// Whatever holds a node's peer-to-peer key if it is not at hand: a plugin or another process.
pub trait Signer: Send + Sync {
    /// The public key.
    fn public(&self) -> [u8; 32];
    /// Signs SHA-512/256(context ‖ `message`), the context being [`base_crypto::context::P2P`].
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SigningError>;
}

/// The key of the local node.
#[derive(Clone)]
pub struct Keypair(Inner);

#[derive(Clone)]
enum Inner {
    Local(Arc<SecretKey>),
    Remote(Arc<dyn Signer>),
}

impl Keypair {
    /// A new key from the operating system's randomness.
    ///
    /// # Panics
    ///
    /// If the operating system gives no randomness.
    #[must_use]
    pub fn generate_ed25519() -> Self {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).expect("the operating system provides randomness");
        SecretKey::from_seed(&seed).into()
    }

    /// The key behind a signer.
    #[must_use]
    pub fn from_signer(signer: Arc<dyn Signer>) -> Self {
        Self(Inner::Remote(signer))
    }

    /// A key from its 64 bytes: seed ‖ public key.
    pub fn ed25519_from_bytes(bytes: &[u8]) -> Result<Self, DecodingError> {
        let bytes: &[u8; 64] = bytes.try_into().map_err(|_| DecodingError::Length(bytes.len()))?;
        match SecretKey::from_bytes(bytes) {
            Ok(key) => Ok(key.into()),
            Err(KeyError::PublicMismatch) => Err(DecodingError::Mismatch),
        }
    }

    /// Signs a message in the Oasis context; 64 bytes.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        match &self.0 {
            Inner::Local(key) => match sign_with_context(key, &P2P, None, None, message) {
                Ok(signature) => Ok(signature.to_vec()),
                Err(error) => Err(SigningError(error.to_string())),
            },
            Inner::Remote(signer) => signer.sign(message).map(|s| s.to_vec()),
        }
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(match &self.0 {
            Inner::Local(key) => key.public(),
            Inner::Remote(signer) => signer.public(),
        })
    }

    /// Always Ed25519.
    #[must_use]
    pub fn key_type(&self) -> KeyType {
        KeyType::Ed25519
    }
}

impl From<SecretKey> for Keypair {
    fn from(key: SecretKey) -> Self {
        Self(Inner::Local(Arc::new(key)))
    }
}

impl std::fmt::Debug for Keypair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keypair({} redacted)", self.public().to_peer_id())
    }
}

/// An Ed25519 public key. Whether it is a point of the curve shows when a signature is checked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// A key from its 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether the signature covers the message in the Oasis context.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok(signature) = <&[u8; 64]>::try_from(signature) else { return false };
        prepare(&P2P, None, None, message).is_ok_and(|digest| ed25519::verify(&self.0, &digest, signature))
    }

    /// The protobuf message `08 01 12 20 ‖ key`.
    #[must_use]
    pub fn encode_protobuf(&self) -> Vec<u8> {
        proto::encode(&self.0).to_vec()
    }

    /// Reads the protobuf message.
    pub fn try_decode_protobuf(bytes: &[u8]) -> Result<Self, DecodingError> {
        proto::decode(bytes).map(Self)
    }

    /// The peer id: identity multihash of the protobuf message.
    #[must_use]
    pub fn to_peer_id(&self) -> PeerId {
        PeerId::from_public_key(self)
    }

    /// Always Ed25519.
    #[must_use]
    pub fn key_type(&self) -> KeyType {
        KeyType::Ed25519
    }

    /// The key as an Ed25519 key.
    pub fn try_into_ed25519(self) -> Result<Ed25519PublicKey, OtherVariantError> {
        Ok(Ed25519PublicKey(self.0))
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({})", self.0.iter().map(|b| format!("{b:02x}")).collect::<String>())
    }
}

/// An Ed25519 public key under the name that generic code asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ed25519PublicKey([u8; 32]);

impl Ed25519PublicKey {
    /// A key from its 32 bytes.
    pub fn try_from_bytes(bytes: &[u8]) -> Result<Self, DecodingError> {
        bytes.try_into().map(Self).map_err(|_| DecodingError::Length(bytes.len()))
    }

    /// Its 32 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0
    }
}

impl From<Ed25519PublicKey> for PublicKey {
    fn from(key: Ed25519PublicKey) -> Self {
        Self(key.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base_crypto::hash::sha512_256;

    #[test]
    fn signatures_cover_the_context() {
        let secret = SecretKey::from_seed(&[1; 32]);
        let pair = Keypair::from(secret.clone());
        let signature = pair.sign(b"noise-libp2p-static-key:").unwrap();
        let public = pair.public();
        assert!(public.verify(b"noise-libp2p-static-key:", &signature));
        assert!(!public.verify(b"noise-libp2p-static-key", &signature));
        assert!(!public.verify(b"noise-libp2p-static-key:", &signature[..63]));
        // What is signed is the digest of context and message, never the message.
        let digest = sha512_256(&[b"oasis-core/worker: libp2p", b"noise-libp2p-static-key:"]);
        assert_eq!(signature, secret.sign(&digest));
        assert!(!public.verify(b"m", &secret.sign(b"m")));
    }

    #[test]
    fn a_remote_signer_is_a_key() {
        struct Plugin(SecretKey);
        impl Signer for Plugin {
            fn public(&self) -> [u8; 32] {
                self.0.public()
            }
            fn sign(&self, message: &[u8]) -> Result<[u8; 64], SigningError> {
                if message.is_empty() {
                    return Err(SigningError("away".into()));
                }
                Ok(self.0.sign(&sha512_256(&[b"oasis-core/worker: libp2p", message])))
            }
        }
        let secret = SecretKey::from_seed(&[2; 32]);
        let pair = Keypair::from_signer(Arc::new(Plugin(secret.clone())));
        assert_eq!(pair.public(), Keypair::from(secret.clone()).public());
        assert_eq!(pair.sign(b"x"), Keypair::from(secret).sign(b"x"));
        assert!(pair.sign(b"").is_err());
    }

    #[test]
    fn secret_bytes() {
        let secret = SecretKey::from_seed(&[3; 32]);
        let bytes = secret.to_bytes();
        assert_eq!(Keypair::ed25519_from_bytes(&bytes[..]).unwrap().public().as_bytes(), &secret.public());
        assert_eq!(Keypair::ed25519_from_bytes(&bytes[..32]).unwrap_err(), DecodingError::Length(32));
        let mut wrong = *bytes;
        wrong[40] ^= 1;
        assert_eq!(Keypair::ed25519_from_bytes(&wrong).unwrap_err(), DecodingError::Mismatch);
        assert!(format!("{:?}", Keypair::generate_ed25519()).ends_with("redacted)"));
    }
}
