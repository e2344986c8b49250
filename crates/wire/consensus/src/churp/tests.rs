//! Tests of the stateless rules of secret sharing.

use base_crypto::{blacklist::test_key, context::sign_with_context};

use super::*;

fn says(got: Result<(), Invalid>, text: &str) {
    let err = got.unwrap_err().to_string();
    assert!(err.contains(text), "{err} should say {text}");
}

fn lax() -> Blacklist {
    Blacklist::allowing_test_keys()
}

fn node(n: u8) -> PublicKey {
    PublicKey::new([n; 32])
}

fn status(threshold: u8, extra_shares: u8, committee: &[u8], applicants: &[u8]) -> Status {
    Status {
        threshold,
        extra_shares,
        committee: committee.iter().map(|n| node(*n)).collect(),
        applications: applicants.iter().map(|n| (node(*n), Application::default())).collect(),
        ..Status::default()
    }
}

#[test]
fn kinds_of_handoff() {
    use HandoffKind::*;
    for (committee, applicants, want) in [
        (&[][..], &[1, 2][..], DealingPhase),
        (&[1, 2], &[1, 2], CommitteeUnchanged),
        (&[1, 2], &[2, 3], CommitteeChanged),
        (&[1, 2], &[1], CommitteeChanged),
        (&[1, 2], &[1, 2, 3], CommitteeChanged),
    ] {
        assert_eq!(status(1, 0, committee, applicants).handoff_kind(), want, "{committee:?} {applicants:?}");
    }
}

#[test]
fn sizes_of_committees() {
    // threshold, extra shares, committee, applicants: fewest members, fewest applicants.
    for (t, e, committee, applicants, size, least) in [
        (0, 0, &[][..], &[][..], 1, 2),
        (2, 0, &[], &[], 3, 4),
        (2, 3, &[], &[], 6, 6),
        (2, 1, &[1, 2, 3, 4], &[1, 2, 3, 4], 4, 4),
        (2, 1, &[1, 2, 3, 4], &[1, 2, 3, 5], 4, 5),
        (2, 4, &[1, 2, 3, 4], &[1], 7, 7),
        (127, 255, &[], &[], 383, 383),
    ] {
        let s = status(t, e, committee, applicants);
        assert_eq!((s.min_committee_size(), s.min_applicants()), (size, least), "{t} {e} {committee:?}");
    }
}

fn policy(serial: u32, id: u8, runtime: u8) -> PolicySgx {
    let identity = Identity { id, runtime_id: Namespace::from_bytes_unchecked([runtime; 32]) };
    PolicySgx { identity, serial, ..PolicySgx::default() }
}

#[test]
fn policies_follow_one_another() {
    assert_eq!(policy(0, 1, 1).validate(None), Ok(()));
    says(policy(1, 1, 1).validate(None), "serial number must be 0 and not 1");
    assert_eq!(policy(4, 1, 1).validate(Some(&policy(3, 1, 1))), Ok(()));
    says(policy(5, 1, 1).validate(Some(&policy(3, 1, 1))), "serial number must be 4 and not 5");
    says(policy(3, 1, 1).validate(Some(&policy(3, 1, 1))), "serial number must be 4 and not 3");
    says(policy(4, 2, 1).validate(Some(&policy(3, 1, 1))), "ID changed from 1 to 2");
    says(policy(4, 1, 2).validate(Some(&policy(3, 1, 1))), "runtime ID changed");
}

#[test]
fn policies_are_signed() {
    let key = test_key("a signer");
    let policy = policy(0, 1, 1);
    let raw = cbor::to_vec(&policy);
    let signature = sign_with_context(&key, &context::CHURP_POLICY, None, None, &raw).unwrap();
    let signature = Signature { public_key: PublicKey::new(key.public()), signature: RawSignature::new(signature) };
    let mut signed = SignedPolicySgx { policy, signatures: vec![signature] };
    assert_eq!(signed.verify(None, &lax()), Ok(()));
    let mut refused = lax();
    refused.insert(key.public());
    says(signed.verify(None, &refused), "public key");
    says(signed.verify(Some(&signed.policy), &lax()), "serial number");
    signed.policy.may_share = Some(Vec::new());
    says(signed.verify(None, &lax()), "policy signature from");
}

#[test]
fn requests() {
    let identity = policy(0, 1, 1).identity;
    let signed = |id: u8, runtime: u8| SignedPolicySgx { policy: policy(0, id, runtime), signatures: Vec::new() };
    let create = CreateRequest { identity, threshold: 127, policy: signed(1, 1), ..CreateRequest::default() };
    assert_eq!(create.validate_basic(), Ok(()));
    says(CreateRequest { suite_id: 1, ..create.clone() }.validate_basic(), "unsupported suite, ID 1");
    says(CreateRequest { threshold: 128, ..create.clone() }.validate_basic(), "threshold too large");
    says(CreateRequest { policy: signed(2, 1), ..create.clone() }.validate_basic(), "policy ID mismatch");
    says(CreateRequest { policy: signed(1, 2), ..create }.validate_basic(), "policy runtime ID mismatch");
    let update = UpdateRequest { identity, ..UpdateRequest::default() };
    says(update.validate_basic(), "should not be empty");
    assert_eq!(UpdateRequest { extra_shares: Some(0), ..update.clone() }.validate_basic(), Ok(()));
    assert_eq!(UpdateRequest { handoff_interval: Some(0), ..update.clone() }.validate_basic(), Ok(()));
    assert_eq!(UpdateRequest { policy: Some(signed(1, 1)), ..update.clone() }.validate_basic(), Ok(()));
    says(UpdateRequest { policy: Some(signed(2, 1)), ..update }.validate_basic(), "policy ID mismatch");
}

#[test]
fn enclaves_sign_requests() {
    let key = test_key("an enclave");
    let rak = PublicKey::new(key.public());
    let application = ApplicationRequest { epoch: 1, ..ApplicationRequest::default() };
    let confirmation = ConfirmationRequest { epoch: 1, ..ConfirmationRequest::default() };
    // Both have the same bytes; the contexts keep them apart.
    let raw = cbor::to_vec(&application);
    assert_eq!(raw, cbor::to_vec(&confirmation));
    let sign = |c| RawSignature::new(sign_with_context(&key, c, None, None, &raw).unwrap());
    let signature = sign(&context::CHURP_APPLICATION_REQUEST);
    assert_eq!(SignedApplicationRequest { application, signature }.verify_rak(&rak, &lax()), Ok(()));
    says(SignedConfirmationRequest { confirmation, signature }.verify_rak(&rak, &lax()), "RAK signature");
    let signature = sign(&context::CHURP_CONFIRMATION_REQUEST);
    assert_eq!(SignedConfirmationRequest { confirmation, signature }.verify_rak(&rak, &lax()), Ok(()));
    says(SignedApplicationRequest { application, signature }.verify_rak(&rak, &lax()), "RAK signature");
}

#[test]
fn identity_is_part_of_the_map() {
    let bytes = cbor::to_vec(&ConfirmationRequest::default());
    let want = [&b"\xa4\x62id\x00\x65epoch\x00\x68checksum\x58\x20"[..], &[0; 32], b"\x6aruntime_id\x58\x20", &[0; 32]]
        .concat();
    assert_eq!(hex::encode(bytes), hex::encode(want));
    assert_eq!(
        stake_claim(&Namespace::ZERO, 7),
        "keymanager.churp.Scheme.0000000000000000000000000000000000000000000000000000000000000000.7"
    );
}
