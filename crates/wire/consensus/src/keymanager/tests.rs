//! Tests of the key manager's stateless rules.

use base_codec::json;
use base_crypto::{blacklist::test_key, context::sign_with_context, ed25519::SecretKey};

use super::*;

/// A policy that the reference signed with its test keys (from a recorded chain's genesis document).
const RECORDED: &str = r#"{"policy": {"serial": 1,
    "id": "c000000000000000ffffffffffffffffffffffffffffffffffffffffffffffff", "enclaves": {}},
  "signatures": [
    {"public_key": "x8J3rP0FKaNJX+QFy54d8djcukkKBg9ewdgeHKD4RDI=",
     "signature": "DILBPtgJx5B4lagR7ZS8nW4H0TKfKXwueNicmX6DrKZN0LmzZ8uyFXjYuuycpEe15IELefgj6UT5nivc3QX7Cg=="},
    {"public_key": "1kKU6e9aIrPmizG6K6/4oieEns/FjH61eyybb67UdxU=",
     "signature": "9Y59XsRdndGzj+g9TkgpHlf6Q4zjKGbz2A2AMtX1xZCl8aCGAeE25x6VCON6Uj4K56fQ1yWsp1M/72retj1mCw=="},
    {"public_key": "7OGGvUK2AH5SFVx1iyLL2DCOKjRuEexG060h+okuWzM=",
     "signature": "Z2QtePImsJbhQeFo5KcuC6UsFEWLc/nUxgceYj8zRU2uSP22u/aF6JY7WzTxvJH0mAxfOt6f7Vhptv3rRCsRBA=="}]}"#;

fn recorded() -> SignedPolicySgx {
    json::from_str(RECORDED).unwrap()
}

fn lax() -> Blacklist {
    Blacklist::allowing_test_keys()
}

fn says(got: Result<(), Invalid>, text: &str) {
    let err = got.unwrap_err().to_string();
    assert!(err.contains(text), "{err} should say {text}");
}

fn sign(key: &SecretKey, context: &Context, message: &[u8]) -> RawSignature {
    RawSignature::new(sign_with_context(key, context, None, None, message).unwrap())
}

#[test]
fn recorded_policy_verifies() {
    assert_eq!(recorded().verify(None, &lax()), Ok(()));
    says(
        recorded().verify(None, &Blacklist::production()),
        "public key x8J3rP0FKaNJX+QFy54d8djcukkKBg9ewdgeHKD4RDI= is invalid",
    );
    let mut p = recorded();
    p.policy.serial = 2;
    says(p.verify(None, &lax()), "signature from x8J3rP0FKaNJX+QFy54d8djcukkKBg9ewdgeHKD4RDI= is invalid");
    // Nil and empty are different bytes, so a different signed message.
    let mut p = recorded();
    p.policy.enclaves = None;
    says(p.verify(None, &lax()), "is invalid");
}

#[test]
fn a_policy_must_follow_its_predecessor() {
    let unsigned = |serial: u32, id: u8| {
        let policy = PolicySgx { serial, id: Namespace::from_bytes_unchecked([id; 32]), ..PolicySgx::default() };
        SignedPolicySgx { policy, signatures: None }
    };
    assert_eq!(unsigned(2, 0).verify(Some(&unsigned(1, 0)), &lax()), Ok(()));
    assert_eq!(unsigned(9, 0).verify(Some(&unsigned(1, 0)), &lax()), Ok(()));
    assert_eq!(unsigned(0, 0).verify(None, &lax()), Ok(()));
    says(unsigned(1, 0).verify(Some(&unsigned(1, 0)), &lax()), "serial number did not increase");
    says(unsigned(0, 0).verify(Some(&unsigned(1, 0)), &lax()), "serial number did not increase");
    says(unsigned(2, 1).verify(Some(&unsigned(1, 0)), &lax()), "runtime ID changed");
}

#[test]
fn rotation() {
    let policy = |interval: Epoch| {
        let policy = PolicySgx { master_secret_rotation_interval: interval, ..PolicySgx::default() };
        Some(SignedPolicySgx { policy, signatures: None })
    };
    let first = Status::default();
    assert_eq!((first.next_generation(), first.verify_rotation_epoch(0)), (0, Ok(())));
    let later = Status { generation: 3, rotation_epoch: 10, checksum: Some(vec![1].into()), ..Status::default() };
    assert_eq!(later.next_generation(), 4);
    says(later.verify_rotation_epoch(99), "rotation disabled");
    let later = Status { policy: policy(0), ..later };
    says(later.verify_rotation_epoch(99), "rotation disabled");
    let later = Status { policy: policy(5), ..later };
    says(later.verify_rotation_epoch(14), "not yet expired");
    assert_eq!(later.verify_rotation_epoch(15), Ok(()));
    // An empty checksum is as good as none.
    let empty = Status { checksum: Some(Bytes::default()), ..later };
    assert_eq!(empty.next_generation(), 0);
}

fn rek(n: u8) -> X25519PublicKey {
    X25519PublicKey::new([n; 32])
}

fn secret_for(recipients: &[u8]) -> EncryptedSecret {
    let ciphertexts = recipients.iter().map(|n| (rek(*n), Some(vec![*n].into()))).collect();
    EncryptedSecret { checksum: Some(vec![7; 32].into()), pub_key: rek(9), ciphertexts: Some(ciphertexts) }
}

#[test]
fn secrets_must_reach_enough_known_enclaves() {
    for (known, recipients, want) in [
        (&[1, 2, 3][..], &[1, 2][..], None),
        (&[1, 2, 3], &[1, 2, 3], None),
        (&[1], &[1], None),
        (&[], &[], Some("at least one key")),
        (&[], &[1], Some("at least one key")),
        (&[1, 2, 3], &[1, 2, 4], Some("unknown key")),
        (&[1, 2, 3], &[1], Some("not encrypted with enough keys")),
        (&[1], &[], Some("not encrypted with enough keys")),
    ] {
        let reks = known.iter().map(|n| rek(*n)).collect();
        let got = secret_for(recipients).validate(&reks);
        match want {
            None => assert_eq!(got, Ok(())),
            Some(text) => says(got, text),
        }
    }
}

#[test]
fn secrets_are_signed_by_the_enclave() {
    let key = test_key("an enclave");
    let rak = PublicKey::new(key.public());
    let reks: BTreeSet<_> = [rek(1)].into();
    let secret = EncryptedMasterSecret { generation: 1, epoch: 2, secret: secret_for(&[1]), ..Default::default() };
    let signature = sign(&key, &context::KEYMANAGER_MASTER_SECRET, &cbor::to_vec(&secret));
    let mut s = SignedEncryptedMasterSecret { secret, signature };
    assert_eq!(s.verify(1, 2, &reks, &rak, &lax()), Ok(()));
    says(s.verify(0, 2, &reks, &rak, &lax()), "generation: (expected: 0, got: 1)");
    says(s.verify(1, 3, &reks, &rak, &lax()), "epoch: (expected: 3, got: 2)");
    says(s.verify(1, 2, &BTreeSet::new(), &rak, &lax()), "at least one key");
    says(s.verify(1, 2, &reks, &PublicKey::default(), &lax()), "signature");
    let mut refused = lax();
    refused.insert(*rak.as_bytes());
    says(s.verify(1, 2, &reks, &rak, &refused), "signature");
    s.secret.secret.pub_key = rek(8);
    says(s.verify(1, 2, &reks, &rak, &lax()), "signature");

    let secret = EncryptedEphemeralSecret { epoch: 2, secret: secret_for(&[1]), ..Default::default() };
    let raw = cbor::to_vec(&secret);
    let signature = sign(&key, &context::KEYMANAGER_EPHEMERAL_SECRET, &raw);
    let s = SignedEncryptedEphemeralSecret { secret, signature };
    assert_eq!(s.verify(2, &reks, &rak, &lax()), Ok(()));
    says(s.verify(1, &reks, &rak, &lax()), "epoch: (expected: 1, got: 2)");
    let signature = sign(&key, &context::KEYMANAGER_MASTER_SECRET, &raw);
    says(SignedEncryptedEphemeralSecret { signature, ..s }.verify(2, &reks, &rak, &lax()), "signature");
}

#[test]
fn init_responses_are_signed() {
    let key = test_key("an enclave");
    let rak = PublicKey::new(key.public());
    let init_response = InitResponse { is_secure: true, ..InitResponse::default() };
    let signature = sign(&key, &context::KEYMANAGER_INIT_RESPONSE, &cbor::to_vec(&init_response));
    let good = SignedInitResponse { init_response, signature: Some(signature.as_bytes().to_vec().into()) };
    assert_eq!(good.verify(&rak, &lax()), Ok(()));
    for signature in [None, Some(Bytes::default()), Some(vec![0; 64].into()), Some(vec![0; 65].into())] {
        says(SignedInitResponse { signature, ..good.clone() }.verify(&rak, &lax()), "invalid initialization response");
    }
}

#[test]
fn genesis_rules() {
    let id = recorded().policy.id;
    let status = Status { id, policy: Some(recorded()), ..Status::default() };
    let genesis = |s: Status| Genesis { statuses: vec![s], ..Genesis::default() };
    assert_eq!(genesis(status.clone()).sanity_check(&lax()), Ok(()));
    says(genesis(Status { id: Namespace::ZERO, ..status.clone() }).sanity_check(&lax()), "runtime ID");
    let reserved = PublicKey::new(base_crypto::blacklist::BURN);
    says(genesis(Status { nodes: Some(vec![reserved]), ..status.clone() }).sanity_check(&lax()), "node ID");
    let mut forged = recorded();
    forged.policy.serial = 9;
    says(genesis(Status { policy: Some(forged), ..status.clone() }).sanity_check(&lax()), "signature from");
    says(genesis(Status { next_policy: Some(recorded()), ..status }).sanity_check(&lax()), "did not increase");
}

#[test]
fn nil_and_empty_survive() {
    let status: Status = json::from_str(
        r#"{"id": "c000000000000000ffffffffffffffffffffffffffffffffffffffffffffffff", "is_initialized": false,
            "is_secure": false, "checksum": "", "nodes": null, "policy": null}"#,
    )
    .unwrap();
    assert_eq!((status.checksum.clone(), status.nodes.clone()), (Some(Bytes::default()), None));
    let bytes = cbor::to_vec(&status);
    let want = [
        &b"\xa6\x62id\x58\x20\xc0\0\0\0\0\0\0\0"[..],
        &[0xff; 24],
        b"\x65nodes\xf6\x66policy\xf6\x68checksum\x40\x69is_secure\xf4\x6eis_initialized\xf4",
    ]
    .concat();
    assert_eq!(hex::encode(&bytes), hex::encode(&want));
    assert_eq!(cbor::from_slice::<Status>(&bytes).unwrap(), status);
}
