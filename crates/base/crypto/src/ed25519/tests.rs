//! Published vectors, verdicts recorded from the reference, and agreement of all ways to check.

use super::*;
use crate::vectors::{array, bytes, cases, unhex};
use proptest::prelude::*;

type Triple = ([u8; 32], Vec<u8>, [u8; 64], bool);

fn triples(file: &str) -> Vec<Triple> {
    cases(file)
        .iter()
        .map(|c| (array(c, "public_key"), bytes(c, "message"), array(c, "signature"), c["valid"].as_bool().unwrap()))
        .collect()
}

/// Every way to check must give `valid` for each triple.
fn check_all_ways(triples: &[Triple]) {
    let mut cache = PublicKeyCache::new(8);
    let (mut batch, mut cached_batch) = (BatchVerifier::new(), BatchVerifier::with_capacity(triples.len()));
    for (i, (pk, msg, sig, valid)) in triples.iter().enumerate() {
        assert_eq!(verify(pk, msg, sig), *valid, "case {i}");
        assert_eq!(cache.verify(pk, msg, sig), *valid, "case {i}, cached");
        let mut one = BatchVerifier::new();
        one.add(pk, msg, sig);
        assert_eq!(one.verify(), (*valid, vec![*valid]), "case {i}, batch of one");
        batch.add(pk, msg, sig);
        cached_batch.add_cached(&mut cache, pk, msg, sig);
    }
    let want: Vec<bool> = triples.iter().map(|t| t.3).collect();
    let all = want.iter().all(|v| *v);
    assert_eq!(batch.verify(), (all, want.clone()));
    assert_eq!(cached_batch.verify(), (all, want));
}

/// RFC 8032, section 7.1: tests 1, 2, 3 and SHA(abc).
#[test]
fn rfc8032_vectors() {
    let check = |seed: &str, public: &str, message: &str, signature: &str| {
        let key = SecretKey::from_seed(&unhex(seed));
        let message = hex::decode(message).unwrap();
        assert_eq!(key.public(), unhex(public));
        assert_eq!(hex::encode(key.sign(&message)), signature);
        check_all_ways(&[(key.public(), message, unhex(signature), true)]);
    };
    check(
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155\
         5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    );
    check(
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
         085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    );
    check(
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac\
         18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    );
    check(
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        &hex::encode(crate::hash::sha512(&[b"abc"])),
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b589\
         09351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    );
}

#[test]
fn published_edge_cases() {
    let triples = triples("eddsa_chalkias.json");
    assert_eq!(triples.len(), 12);
    check_all_ways(&triples);
}

#[test]
fn recorded_edge_cases() {
    let triples = triples("ed25519_edge_cases.json");
    assert!(triples.len() > 500);
    check_all_ways(&triples);
    let valid: Vec<Triple> = triples.into_iter().filter(|t| t.3).collect();
    assert!(valid.len() >= 72);
    check_all_ways(&valid);
}

/// The same 14 encodings of small-order points as in ZIP 215: as A or R, alone or together, nothing verifies.
#[test]
fn small_order_never_verifies() {
    let mut encodings: Vec<[u8; 32]> = cases("ed25519_edge_cases.json")
        .iter()
        .filter(|c| c["kind"] == "small A, small R")
        .map(|c| array(c, "public_key"))
        .collect();
    encodings.sort_unstable();
    encodings.dedup();
    assert_eq!(encodings.len(), 14);
    for a in &encodings {
        assert!(CompressedEdwardsY(*a).decompress().is_some_and(|p| p.is_small_order()));
        assert!(PublicKey::decode(a).is_none());
        for r in &encodings {
            let mut sig = [0; 64];
            sig[..32].copy_from_slice(r);
            assert!(!verify(a, b"Zcash", &sig));
        }
    }
}

#[test]
fn empty_batch_holds_and_invalid_entries_keep_positions() {
    assert_eq!(BatchVerifier::new().verify(), (true, vec![]));
    let key = SecretKey::from_seed(&[1; 32]);
    let mut batch = BatchVerifier::new();
    for i in 0..4u8 {
        batch.add(&key.public(), &[i], &key.sign(&[i]));
    }
    batch.add_invalid();
    batch.add(&[2; 32], b"not on the curve", &[0; 64]);
    assert_eq!(batch.len(), 6);
    assert_eq!(batch.verify(), (false, vec![true, true, true, true, false, false]));
}

#[test]
fn cache_is_bounded() {
    let mut cache = PublicKeyCache::new(8);
    for i in 0..100u8 {
        let key = SecretKey::from_seed(&[i; 32]);
        assert!(cache.verify(&key.public(), b"m", &key.sign(b"m")));
        assert!(cache.len() <= 8 && !cache.is_empty());
    }
    assert!(cache.get(&[2; 32]).is_none());
}

#[test]
fn secret_key_forms() {
    let key = SecretKey::from_seed(&[3; 32]);
    let mut bytes = *key.to_bytes();
    assert_eq!(bytes[..32], [3; 32]);
    assert_eq!(bytes[32..], key.public());
    assert_eq!(SecretKey::from_bytes(&bytes).unwrap().public(), key.public());
    bytes[40] ^= 1;
    assert_eq!(SecretKey::from_bytes(&bytes).unwrap_err(), KeyError::PublicMismatch);
    let printed = format!("{key:?}");
    assert!(printed.contains(&hex::encode(key.public())) && !printed.contains(&hex::encode([3; 32])), "{printed}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any mixture of good, damaged and edge-case signatures, with repeated keys, in any order.
    #[test]
    fn batch_agrees_with_single(picks in proptest::collection::vec((any::<u16>(), any::<u8>(), any::<u8>()), 0..40)) {
        let edge = triples("ed25519_edge_cases.json");
        let mut batch = BatchVerifier::new();
        let mut want = Vec::new();
        for (n, kind, byte) in picks {
            let key = SecretKey::from_seed(&[n as u8 % 5; 32]);
            let (mut pk, mut msg, mut sig) = (key.public(), n.to_le_bytes().to_vec(), key.sign(&n.to_le_bytes()));
            match kind % 8 {
                0 => (pk, msg, sig, _) = edge[usize::from(n) % edge.len()].clone(),
                1 => sig[usize::from(byte) % 64] ^= 1 << (n % 8),
                2 => pk[usize::from(byte) % 32] ^= 1 << (n % 8),
                _ => {}
            }
            want.push(verify(&pk, &msg, &sig));
            batch.add(&pk, &msg, &sig);
        }
        let all = want.iter().all(|v| *v);
        prop_assert_eq!(batch.verify(), (all, want));
    }
}
