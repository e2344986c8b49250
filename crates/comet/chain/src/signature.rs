//! Signatures of the consensus engine: Ed25519 over a prehash with the engine's context.
//!
//! Reference: `cometbft:crypto/ed25519/oasis_core.go`, `crypto/batchsig`. One signature holds or not whether it is checked
//! alone or with others.

use base_crypto::ed25519::{self, BatchVerifier};
use wire_cometbft::keys::signing_digest;

/// A signature to be checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Place of the signature in its commit.
    pub index: usize,
    /// The signer's key.
    pub key: [u8; 32],
    /// Prehash of what was signed.
    pub digest: [u8; 32],
    /// The signature; `None` if it is not 64 bytes, which never holds.
    pub signature: Option<[u8; 64]>,
}

impl Claim {
    /// Claim that `key` signed `sign_bytes`.
    pub fn new(index: usize, key: [u8; 32], sign_bytes: &[u8], signature: &[u8]) -> Self {
        Self { index, key, digest: signing_digest(sign_bytes), signature: signature.try_into().ok() }
    }
}

/// Checks one signature of `sign_bytes`.
pub fn verify(key: &[u8; 32], sign_bytes: &[u8], signature: &[u8]) -> bool {
    signature.try_into().is_ok_and(|signature| ed25519::verify(key, &signing_digest(sign_bytes), signature))
}

/// Checks many signatures together; one verdict for each.
pub fn verify_batch(claims: &[Claim]) -> Vec<bool> {
    let mut batch = BatchVerifier::with_capacity(claims.len());
    for claim in claims {
        match &claim.signature {
            Some(signature) => batch.add(&claim.key, &claim.digest, signature),
            None => batch.add_invalid(),
        }
    }
    batch.verify().1
}
