//! The reference's file, and a crash at every step of writing it.

use std::os::unix::fs::PermissionsExt;

use wire_cometbft::Time;
use wire_cometbft::block::{BlockId, PartSetHeader};
use wire_cometbft::keys::signing_digest;
use wire_cometbft::vote::SignedMsgType;

use super::*;

const CHAIN: &str = "chain";

fn signer(seed: u8) -> Arc<dyn ConsensusSigner> {
    Arc::new(FileSigner::new(SecretKey::from_seed(&[seed; 32])))
}

fn block_id(fill: u8) -> BlockId {
    BlockId { hash: vec![fill; 32], part_set_header: PartSetHeader { total: 1, hash: vec![fill; 32] } }
}

fn vote(height: i64, kind: SignedMsgType, fill: u8, seconds: i64) -> Vote {
    Vote {
        kind,
        height,
        block_id: block_id(fill),
        timestamp: Time::new(seconds, 5).unwrap(),
        validator_address: vec![1; 20],
        ..Vote::default()
    }
}

fn proposal(height: i64, fill: u8, seconds: i64) -> Proposal {
    Proposal {
        kind: SignedMsgType::PROPOSAL,
        height,
        pol_round: -1,
        block_id: block_id(fill),
        timestamp: Time::new(seconds, 5).unwrap(),
        ..Proposal::default()
    }
}

/// A file that a node of the reference wrote.
const REFERENCE: &str = r#"{"height":34,"round":0,"step":3,"signature":"6weVKR8mV/Rcb3lClPrW9Sd0kvcY+uYEeabsU5CFV7kiuiA9MH0EKlP+yHlofy7sqwENsDYEAwjAdAbCQhKACg==","signbytes":"9701080211220000000000000022480A20E640D4F24A451BE3352C7E1C268B10F0AD331E09968359D965022BDCDEA5FBC61224080112205F41870B5D013D888A6FACEAA750630D3D34780D2BBD5B486CE9CB2CEB53DE442A0C08EB8E86D806109CD28F810132323232383831303531643836386436373631633236623831396261353566613937343534346632376262343432306461646330","public_key":"gzwANnkMP2iv1Qjii6c8hXEle18Kw2+Y1q5myCg6lv4="}"#;

#[test]
fn the_references_file_is_read_and_written_byte_for_byte() {
    let (last, public) = parse(REFERENCE.as_bytes()).unwrap();
    assert_eq!((last.height, last.round, last.step), (34, 0, 3));
    // The signature in it holds under the engine's context.
    let signature = last.signature.as_slice().try_into().unwrap();
    assert!(base_crypto::ed25519::verify(&public, &signing_digest(&last.sign_bytes), signature));
    assert_eq!(String::from_utf8(render(&last, &public)).unwrap(), REFERENCE);

    let new = String::from_utf8(render(&LastSigned::default(), &[0; 32])).unwrap();
    let zeroes = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert_eq!(new, format!(r#"{{"height":0,"round":0,"step":0,"public_key":"{zeroes}"}}"#));
}

#[test]
fn files_that_must_not_be_used_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(GUARD_FILE);
    let missing = Guard::open(&path, signer(1), MissingGuard::Refuse).unwrap_err();
    assert!(matches!(missing, GuardFileError::Missing { .. }) && !path.exists());
    let mut guard = Guard::open(&path, signer(1), MissingGuard::Create).unwrap();
    guard.sign_vote(CHAIN, vote(5, SignedMsgType::PREVOTE, 1, 10)).unwrap();
    drop(guard);
    let other = Guard::open(&path, signer(2), MissingGuard::Create).unwrap_err();
    assert!(matches!(other, GuardFileError::OtherKey { .. }), "{other}");
    assert_eq!(Guard::open(&path, signer(1), MissingGuard::Refuse).unwrap().last_signed().height, 5);

    let good = fs::read(&path).unwrap();
    for cut in 0..good.len() {
        fs::write(&path, &good[..cut]).unwrap();
        let error = Guard::open(&path, signer(1), MissingGuard::Create).unwrap_err();
        assert!(matches!(error, GuardFileError::Malformed { .. }), "{cut}: {error}");
    }
    for wrong in [
        r#"{"height":"5"}"#,
        r#"{"height":1e40}"#,
        r#"{"height":-1}"#,
        r#"{"step":4}"#,
        r#"{"round":5000000000}"#,
        r#"{"signature":"?"}"#,
        r#"{"signbytes":"0"}"#,
        r#"{"public_key":"AA=="}"#,
        "{}",
        "[]",
    ] {
        assert!(parse(wrong.as_bytes()).is_err(), "{wrong}");
    }
    fs::write(&path, vec![b' '; MAX_GUARD_FILE_BYTES as usize + 1]).unwrap();
    assert!(matches!(Guard::open(&path, signer(1), MissingGuard::Create), Err(GuardFileError::Malformed { .. })));
}

#[test]
fn only_the_owner_may_read_it_and_it_says_what_was_signed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(GUARD_FILE);
    // Left over by a crash, open to all.
    let left_over = path.with_extension("json.new");
    fs::write(&left_over, vec![b'x'; 4000]).unwrap();
    fs::set_permissions(&left_over, fs::Permissions::from_mode(0o666)).unwrap();
    let mut guard = Guard::open(&path, signer(1), MissingGuard::Create).unwrap();
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);

    let signed = guard.sign_proposal(CHAIN, proposal(7, 1, 10)).unwrap();
    let digest = signing_digest(&signed.sign_bytes(CHAIN));
    assert!(base_crypto::ed25519::verify(&guard.public(), &digest, signed.signature.as_slice().try_into().unwrap()));
    let again = guard.sign_proposal(CHAIN, proposal(7, 1, 20)).unwrap();
    assert_eq!(again, signed);
    assert!(matches!(guard.sign_proposal(CHAIN, proposal(7, 2, 10)), Err(GuardFileError::Rule(_))));
    let prevote = guard.sign_vote(CHAIN, vote(7, SignedMsgType::PREVOTE, 1, 11)).unwrap();
    assert_eq!(guard.sign_vote(CHAIN, vote(7, SignedMsgType::PREVOTE, 1, 12)).unwrap(), prevote);
    assert!(guard.sign_vote(CHAIN, vote(7, SignedMsgType::PREVOTE, 2, 11)).is_err());
    assert!(guard.sign_vote(CHAIN, vote(6, SignedMsgType::PRECOMMIT, 1, 11)).is_err());
    assert!(!left_over.exists());
    assert_eq!(mode(), 0o600);
    let opened = Guard::open(&path, signer(1), MissingGuard::Refuse).unwrap();
    assert_eq!(opened.last_signed(), guard.last_signed());
}

#[test]
fn a_signer_that_fails_changes_nothing() {
    struct Broken;
    impl ConsensusSigner for Broken {
        fn public(&self) -> [u8; 32] {
            [1; 32]
        }
        fn sign(&self, _: &str, _: &[u8]) -> Result<[u8; 64], SignError> {
            Err(SignError("away".into()))
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(GUARD_FILE);
    let mut guard = Guard::open(&path, Arc::new(Broken), MissingGuard::Create).unwrap();
    for _ in 0..2 {
        let error = guard.sign_vote(CHAIN, vote(5, SignedMsgType::PREVOTE, 1, 10)).unwrap_err();
        assert!(matches!(error, GuardFileError::Signer(_)), "{error}");
    }
    assert_eq!(guard.last_signed(), &LastSigned::default());
}

/// Whatever step a crash falls on, nothing was released, the file can be read, and once the new record is in place nothing
/// that conflicts with it is signed.
#[test]
fn a_crash_at_every_step_releases_nothing_and_loses_nothing() {
    for fail_at in 0..=5 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(GUARD_FILE);
        let mut guard = Guard::open(&path, signer(1), MissingGuard::Create).unwrap();
        let first = guard.sign_vote(CHAIN, vote(5, SignedMsgType::PREVOTE, 1, 10)).unwrap();
        let before = guard.last_signed().clone();
        guard.fail_at = Some(fail_at);
        let failed = guard.sign_vote(CHAIN, vote(5, SignedMsgType::PRECOMMIT, 1, 11));
        assert!(matches!(failed, Err(GuardFileError::Io { .. })), "{fail_at}");
        guard.fail_at = None;
        let poisoned = guard.sign_vote(CHAIN, vote(6, SignedMsgType::PREVOTE, 1, 12));
        assert!(matches!(poisoned, Err(GuardFileError::Poisoned)), "{fail_at}");
        let poisoned = guard.sign_proposal(CHAIN, proposal(6, 1, 12));
        assert!(matches!(poisoned, Err(GuardFileError::Poisoned)), "{fail_at}");
        let intended = guard.last_signed().clone();
        drop(guard);

        let mut guard = Guard::open(&path, signer(1), MissingGuard::Refuse).unwrap();
        let in_place = fail_at >= 4;
        assert_eq!(guard.last_signed(), if in_place { &intended } else { &before }, "{fail_at}");
        if !in_place {
            // What was released before still stands.
            assert_eq!(guard.sign_vote(CHAIN, vote(5, SignedMsgType::PREVOTE, 1, 99)).unwrap(), first);
        }
        let other = guard.sign_vote(CHAIN, vote(5, SignedMsgType::PRECOMMIT, 2, 11));
        assert_eq!(other.is_ok(), !in_place, "{fail_at}");
        let same = guard.sign_vote(CHAIN, vote(5, SignedMsgType::PRECOMMIT, 1, 12));
        assert_eq!(same.is_ok(), in_place, "{fail_at}");
    }
}
