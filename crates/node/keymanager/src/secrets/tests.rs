//! The decisions as tables; the work with enclaves is tested with the worker.

use super::*;
use crate::testing::{km, policy};

#[test]
fn tries_are_few_and_one_at_a_time() {
    let mut tries = Tries::default();
    for _ in 0..MAX_TRIES {
        assert!(tries.begin());
        assert!(!tries.begin(), "one at a time");
        tries.end(false);
    }
    assert!(!tries.begin(), "used up");
    tries.arm();
    assert!(tries.begin());
    tries.end(true);
    assert!(!tries.begin(), "nothing is left to do");
    tries.arm();
    assert!(tries.begin());
    // Armed for something new while the old one runs: its success is not the new one's.
    tries.arm();
    tries.end(true);
    assert!(tries.begin());
}

#[test]
fn master_secrets_are_made_an_epoch_before_they_are_due() {
    let proposed = |epoch| {
        let mut signed = SignedEncryptedMasterSecret::default();
        signed.secret.epoch = epoch;
        signed
    };
    let first = Status::default();
    assert_eq!(master_secret_epoch(&first, None), Some(0), "the first one at once");
    assert_eq!(master_secret_epoch(&first, Some(&proposed(7))), Some(7), "after a proposal that failed");
    let later = |interval| Status {
        checksum: Some(vec![1; 32].into()),
        rotation_epoch: 10,
        policy: Some(policy(0, interval)),
        ..Status::default()
    };
    assert_eq!(master_secret_epoch(&later(0), None), None, "rotation is not allowed");
    assert_eq!(master_secret_epoch(&Status { policy: None, ..later(3) }, None), None);
    assert_eq!(master_secret_epoch(&later(3), None), Some(12));
    assert_eq!(master_secret_epoch(&later(3), Some(&proposed(13))), Some(13));
    assert_eq!(master_secret_epoch(&later(3), Some(&proposed(11))), Some(12));
    assert_eq!(master_secret_epoch(&later(u64::MAX), None), None, "beyond all epochs");
}

#[test]
fn secrets_are_made_within_a_window_by_chance() {
    let seen = Snapshot { epoch_height: 1000, interval: 200, ..Snapshot::default() };
    let (from, to) = GENERATION_WINDOW;
    let heights: Vec<i64> = (0..500).map(|chance| seen.random_height(from, to, chance)).collect();
    assert_eq!((heights.iter().min(), heights.iter().max()), (Some(&1020), Some(&1099)));
    // Epochs that are moved by hand have no length.
    let seen = Snapshot { interval: 0, ..seen };
    assert_eq!(seen.random_height(from, to, 12345), 1000);
    let seen = Snapshot { interval: i64::MAX, epoch_height: i64::MAX, ..seen };
    assert_eq!(seen.random_height(from, to, u64::MAX), i64::MAX, "nothing overflows");
}

#[test]
fn the_answer_goes_into_the_entry_of_the_version() {
    let (old, new) = (Version::new(1, 0, 0), Version::new(2, 0, 0));
    let entry = NodeRuntime { id: km(), version: old, ..NodeRuntime::default() };
    let mut node = Node { runtimes: Some(vec![entry]), ..Node::default() };
    with_extra_info(km(), old, vec![1])(&mut node).expect("adds");
    with_extra_info(km(), new, vec![2])(&mut node).expect("adds");
    let infos: Vec<_> = node.runtimes().iter().map(|entry| (entry.version, entry.extra_info.clone())).collect();
    assert_eq!(infos, [(old, Some(vec![1].into())), (new, Some(vec![2].into()))]);
}
