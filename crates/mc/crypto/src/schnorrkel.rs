//! Deterministic Schnorrkel signatures by Ristretto keys; fog authorities are vouched for with them.

use merlin::Transcript;
use rand_core::SeedableRng as _;
use rand_hc::Hc128Rng;
use schnorrkel::context::{SigningContext, attach_rng};
use schnorrkel::{PublicKey, SecretKey, Signature};
use wire_mobilecoin::{Point, Scalar32};

/// Why there is no signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The key is not a reduced scalar.
    #[error("not a private key")]
    Key,
}

/// The nonce that makes signatures deterministic; it also seeds the generator (HC-128) that signing asks.
fn nonce(private: &Scalar32, context: &[u8], message: &[u8]) -> [u8; 32] {
    let mut transcript = Transcript::new(b"SigningNonce");
    transcript.append_message(b"context", context);
    transcript.append_message(b"private", &private.0);
    transcript.append_message(b"message", message);
    let mut nonce = [0u8; 32];
    transcript.challenge_bytes(b"nonce", &mut nonce);
    nonce
}

/// Signs a message in a context.
///
/// # Errors
/// If the key is not a reduced scalar.
pub fn sign(private: &Scalar32, context: &[u8], message: &[u8]) -> Result<[u8; 64], Error> {
    let mut bytes = [0u8; 64];
    bytes[..32].copy_from_slice(&private.0);
    let nonce = nonce(private, context, message);
    bytes[32..].copy_from_slice(&nonce);
    let keypair = SecretKey::from_bytes(&bytes).map_err(|_| Error::Key)?.to_keypair();
    let transcript = SigningContext::new(context).bytes(message);
    Ok(keypair.sign(attach_rng(transcript, Hc128Rng::from_seed(nonce))).to_bytes())
}

/// Whether the signature of the message in the context is by the key.
pub fn verify(public: &Point, context: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let (Ok(key), Ok(signature)) = (PublicKey::from_bytes(&public.0), Signature::from_bytes(signature)) else {
        return false;
    };
    key.verify(SigningContext::new(context).bytes(message), &signature).is_ok()
}
