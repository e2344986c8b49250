//! What binds a channel's key into an enclave's report.

use sha2::{Digest as _, Sha256};

/// The first 32 bytes of the report data: SHA-256 of the quote's nonce, the channel's X25519 key and, where there is one,
/// the block signing key.
pub fn hash(nonce: &[u8; 16], key: &[u8; 32], custom_identity: Option<&[u8; 32]>) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(nonce);
    hasher.update(key);
    if let Some(identity) = custom_identity {
        hasher.update(identity);
    }
    hasher.finalize().into()
}
