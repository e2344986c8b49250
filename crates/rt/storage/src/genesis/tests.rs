//! Where storages begin.

use super::*;
use crate::testing::*;

/// A runtime that begins at round 10 with the state of round 8 of an old chain.
fn later(chain: &[Round]) -> Header {
    let mut genesis = chain[5].header.clone();
    genesis.round = FIRST + 7;
    genesis.io_root = base_prims::Hash::EMPTY;
    genesis
}

#[test]
fn an_empty_runtime_begins_with_nothing() {
    let chain = chain(3);
    let storage = memory();
    let genesis = &chain[0].header;
    let found = start(&storage, genesis, &mut |r| header(&chain, r), None).unwrap();
    assert_eq!(found, Start { synced: None, fresh: true, checkpoint_required: false });
    assert_eq!((found.wants_checkpoint(false), found.wants_checkpoint(true)), (true, false));
    assert_eq!(storage.db().latest_version(), Some(FIRST));
    let again = start(&storage, genesis, &mut |r| header(&chain, r), None).unwrap();
    assert_eq!(again.synced, Some(Synced::of(genesis)));
}

#[test]
fn a_storage_goes_on_where_it_was() {
    let chain = chain(8);
    let storage = full(&chain);
    let found = start(&storage, &chain[0].header, &mut |r| header(&chain, r), None).unwrap();
    let expected = Start { synced: Some(Synced::of(&chain[8].header)), fresh: false, checkpoint_required: false };
    assert_eq!((found, found.wants_checkpoint(false)), (expected, false));
    // The same round with another root was made final here.
    let mut other = chain[8].header.clone();
    other.state_root = base_prims::Hash::of(&[b"other"]);
    let wrong = start(&storage, &chain[0].header, &mut |_| Some(other.clone()), None);
    assert!(matches!(wrong, Err(StorageError::OtherRoots { .. })));
}

#[test]
fn states_of_old_networks() {
    let old = chain(5);
    let genesis = later(&old);
    let storage = full(&old);
    let found = start(&storage, &genesis, &mut |r| (r == genesis.round).then(|| genesis.clone()), None).unwrap();
    assert_eq!(found, Start { synced: None, fresh: true, checkpoint_required: false });
    assert_eq!(storage.db().latest_version(), Some(genesis.round), "filled up");
    assert!(is_whole(&storage, &genesis));

    // Rounds that were not final when the old network ended.
    let storage = full(&old[..5]);
    let [_, state] = roots(&old[5].header);
    storage.apply(&Apply { start: roots(&old[4].header)[1], end: state, log: &old[5].state }).unwrap();
    let found = start(&storage, &genesis, &mut |r| (r == genesis.round).then(|| genesis.clone()), None).unwrap();
    assert!(!found.checkpoint_required && is_whole(&storage, &genesis));

    // Another state, or none at all.
    let found = start(&full(&old[..3]), &genesis, &mut |_| None, None).unwrap();
    assert!(found.checkpoint_required && found.wants_checkpoint(true));
    let found = start(&memory(), &genesis, &mut |_| None, None).unwrap();
    assert!(found.checkpoint_required);
    let mut beyond = genesis.clone();
    beyond.round = FIRST + 2;
    let refused = start(&full(&old), &beyond, &mut |_| None, None);
    assert!(matches!(refused, Err(StorageError::IncompatibleGenesis)));
}

fn roots(header: &Header) -> [Root; 2] {
    crate::roots_of(header)
}

#[test]
fn histories_that_begin_later() {
    let chain = chain(8);
    let mut early = chain[0].header.clone();
    early.round = FIRST + 4;
    let storage = memory();
    let known = |early: Header| move |r| (r == early.round).then(|| early.clone());
    let found = start(&storage, &chain[0].header, &mut known(early.clone()), Some(&early)).unwrap();
    assert_eq!((found.synced, found.checkpoint_required), (Some(Synced::of(&early)), false));
    assert_eq!(storage.db().latest_version(), Some(FIRST + 4));
    let late = chain[6].header.clone();
    let found = start(&memory(), &chain[0].header, &mut known(late.clone()), Some(&late)).unwrap();
    assert_eq!((found.synced, found.checkpoint_required), (None, true));
}
