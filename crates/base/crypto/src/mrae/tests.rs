//! Boxes recorded from the reference, and refusals.

use super::*;
use crate::vectors::{array, bytes, cases};

#[test]
fn recorded_boxes() {
    for case in cases("mrae.json") {
        let secret = BoxSecretKey::from_bytes(&array(&case, "secret_key"));
        let peer = array(&case, "peer_public_key");
        let (nonce, aad) = (array(&case, "nonce"), bytes(&case, "additional_data"));
        let (text, sealed) = (bytes(&case, "text"), bytes(&case, "sealed"));
        assert_eq!(secret.public(), array(&case, "public_key"));
        assert_eq!(secret.derive(&peer).expose(), &array(&case, "symmetric_key"));
        assert_eq!(seal(&secret, &peer, &nonce, &text, &aad).unwrap(), sealed);
        assert_eq!(open(&secret, &peer, &nonce, &sealed, &aad).unwrap(), text);
    }
}

#[test]
fn both_sides_share_a_key() {
    let (a, b) = (BoxSecretKey::from_bytes(&[1; 32]), BoxSecretKey::from_bytes(&[2; 32]));
    let sealed = seal(&a, &b.public(), &[3; 15], b"text", b"aad").unwrap();
    assert_eq!(sealed.len(), 4 + TAG_LEN);
    assert_eq!(open(&b, &a.public(), &[3; 15], &sealed, b"aad").unwrap(), b"text");
}

#[test]
fn anything_changed_is_refused() {
    let key = SymmetricKey::from_bytes(&[5; 32]);
    let sealed = key.seal(&[6; 15], b"secret text longer than one block of the cipher", b"aad").unwrap();
    let refused = |k: &SymmetricKey, nonce: &[u8; 15], sealed: &[u8], aad: &[u8]| {
        assert_eq!(k.open(nonce, sealed, aad), Err(MraeError::NotAuthentic));
    };
    for i in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[i] ^= 0x10;
        refused(&key, &[6; 15], &changed, b"aad");
        refused(&key, &[6; 15], &sealed[..i], b"aad");
    }
    refused(&key, &[7; 15], &sealed, b"aad");
    refused(&key, &[6; 15], &sealed, b"aaD");
    refused(&SymmetricKey::from_bytes(&[4; 32]), &[6; 15], &sealed, b"aad");
}

#[test]
fn keys_are_not_printed() {
    assert_eq!(format!("{:?}", BoxSecretKey::from_bytes(&[9; 32])), "BoxSecretKey(redacted)");
    assert_eq!(format!("{:?}", SymmetricKey::from_bytes(&[9; 32])), "SymmetricKey(redacted)");
}
