//! Hashing to the Edwards curve: suite `edwards25519_XMD:SHA-512_ELL2_RO_` of RFC 9380.

use curve25519_dalek::EdwardsPoint;
use sha2::Sha512;

/// The encoding of the curve point that `message` hashes to under a domain separation tag of 1 to 255 bytes; nothing
/// if the tag's length is outside that range.
#[must_use]
pub fn hash_to_edwards25519(tag: &[u8], message: &[u8]) -> Option<[u8; 32]> {
    if tag.is_empty() || tag.len() > 255 {
        return None;
    }
    Some(EdwardsPoint::hash_to_curve::<Sha512>(&[message], &[tag]).compress().to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burn_address_pseudo_key() {
        let got =
            hash_to_edwards25519(b"oasis-core/reserved-address", b"Do Kwon Memorial SafeLunaRoseInu Burn Address");
        assert_eq!(got, Some(crate::blacklist::BURN));
    }

    #[test]
    fn tag_length() {
        assert!(hash_to_edwards25519(b"", b"m").is_none());
        assert!(hash_to_edwards25519(&[1; 256], b"m").is_none());
        assert!(hash_to_edwards25519(&[1; 255], b"m").is_some());
    }
}
