//! Tables and crashes.

use std::task::{Context, Poll, Waker};

use base_kv::{Crash, Faulty, Memory};
use wire_consensus::roothash::Block;

use super::*;
use crate::{MIN_PRUNE_INTERVAL, PruneConfig, PruneStrategy, Pruner};

fn id() -> Namespace {
    "8000000000000000000000000000000000000000000000000000000000000001".parse().unwrap()
}

fn block(height: i64, round: u64) -> AnnotatedBlock {
    let mut block = Block::genesis(id(), 1);
    block.header.round = round;
    AnnotatedBlock { consensus_height: height, block: Some(block) }
}

fn blocks(rounds: std::ops::Range<u64>) -> Vec<AnnotatedBlock> {
    rounds.map(|r| block(r as i64 * 2, r)).collect()
}

fn open(sync: Sync) -> History {
    History::open(Arc::new(Memory::new()), id(), sync).unwrap()
}

fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn round_now(watcher: &mut Watcher) -> Option<u64> {
    now(watcher.next()).map(|block| round(&block.unwrap().unwrap()).unwrap())
}

#[test]
fn blocks_come_in_order() {
    let history = open(Sync::Ignore);
    assert!((history.last_round(), history.last_consensus_height()) == (None, 0));
    assert!(matches!(history.committed_block(ROUND_LATEST), Err(HistoryError::NotFound)));
    assert!(matches!(history.earliest_block(), Err(HistoryError::NotFound)));
    history.commit(&[]).unwrap();
    history.commit(&[block(10, 0)]).unwrap();
    history.commit(&[block(10, 1), block(12, 5)]).unwrap();
    assert!(matches!(history.commit(&[block(12, 5)]), Err(HistoryError::LowerRound { current: 5, wanted: 5 })));
    assert!(matches!(history.commit(&[block(11, 6)]), Err(HistoryError::LowerHeight { current: 12, wanted: 11 })));
    assert!(matches!(
        history.commit(&[block(13, 6), block(13, 6)]),
        Err(HistoryError::LowerRound { current: 6, wanted: 6 })
    ));
    let mut other = block(13, 6);
    other.block.as_mut().unwrap().header.namespace = Namespace::default();
    assert!(matches!(history.commit(&[other]), Err(HistoryError::OtherRuntime { .. })));
    let none = AnnotatedBlock { consensus_height: 13, block: None };
    assert!(matches!(history.commit(&[none]), Err(HistoryError::NoBlock(13))));
    assert_eq!((history.last_round(), history.last_consensus_height()), (Some(5), 12), "nothing of all that");
    assert_eq!(history.committed_block(ROUND_LATEST).unwrap(), block(12, 5));
    assert_eq!(history.earliest_block().unwrap(), block(10, 0));
    assert!(matches!(history.committed_block(3), Err(HistoryError::NotFound)));
    history.can_prune_consensus(12).unwrap();
    assert!(matches!(history.can_prune_consensus(13), Err(HistoryError::NotIndexed { height: 13, .. })));
}

#[test]
fn stores_of_others_are_refused() {
    let kv = Arc::new(Memory::new());
    History::open(kv.clone(), id(), Sync::Ignore).unwrap();
    assert!(matches!(
        History::open(kv.clone(), Namespace::default(), Sync::Ignore),
        Err(HistoryError::OtherRuntime { .. })
    ));
    let newer = Meta { v: 2, runtime_id: id(), ..Meta::default() };
    kv.write(Batch::new().put(META, &cbor::to_vec(&newer)), Durability::Synced).unwrap();
    assert!(matches!(History::open(kv.clone(), id(), Sync::Ignore), Err(HistoryError::Version { found: 2, .. })));
    kv.write(Batch::new().put(META, b"?"), Durability::Synced).unwrap();
    assert!(matches!(History::open(kv, id(), Sync::Ignore), Err(HistoryError::Corrupt { .. })));
}

#[test]
fn the_form_on_disk() {
    let kv = Arc::new(Memory::new());
    let history = History::open(kv.clone(), id(), Sync::Ignore).unwrap();
    history.commit(&[block(7, 3)]).unwrap();
    let mut keys = Vec::new();
    kv.scan(&[], None, Order::Forward, &mut |key, _| {
        keys.push(key.to_vec());
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(keys, [vec![1], vec![2, 0, 0, 0, 0, 0, 0, 0, 3]]);
    assert_eq!(kv.get(&keys[1]).unwrap().unwrap(), cbor::to_vec(&block(7, 3)));
    let meta = kv.get(META).unwrap().unwrap();
    let pinned = base_prims::Hash::of(&[&meta]).to_string();
    assert_eq!(pinned, "be5e437b25b4575ccb622ed7d872fc372c26d8e82398c4e9595067b819e45ac4");
}

#[test]
fn blocks_wait_for_their_state() {
    let history = open(Sync::Honor);
    history.commit(&blocks(1..5)).unwrap();
    assert!(matches!(history.block(ROUND_LATEST), Err(HistoryError::NotFound)));
    assert!(matches!(history.block(1), Err(HistoryError::NotFound)));
    assert!(matches!(history.storage_synced(9), Err(HistoryError::NotFound)));
    history.storage_synced(2).unwrap();
    history.storage_synced(2).unwrap();
    assert!(matches!(history.storage_synced(1), Err(HistoryError::SyncedBack { current: 2, wanted: 1 })));
    assert_eq!(history.block(ROUND_LATEST).unwrap(), block(4, 2));
    assert!(history.block(1).is_ok() && history.block(3).is_err() && history.committed_block(3).is_ok());
    assert_eq!(now(history.wait_synced(2)).unwrap().unwrap(), 2);
    assert!(now(history.wait_synced(3)).is_none());
    let all = open(Sync::Ignore);
    all.commit(&blocks(1..5)).unwrap();
    assert!(all.block(4).is_ok());
    all.storage_synced(3).unwrap();
}

#[test]
fn watchers_see_every_block() {
    let history = open(Sync::Honor);
    let (mut committed, mut synced) = (history.watch_committed(), history.watch_synced());
    let mut all = history.watch_committed().starting_at(2);
    history.commit(&blocks(1..4)).unwrap();
    assert_eq!(round_now(&mut committed), None, "not initialized");
    history.storage_synced(2).unwrap();
    assert_eq!(round_now(&mut synced), None);
    history.set_initialized();
    assert_eq!(std::array::from_fn(|_| round_now(&mut committed)), [Some(3), None]);
    assert_eq!(std::array::from_fn(|_| round_now(&mut synced)), [Some(2), None]);
    history.commit(&[block(9, 4), block(9, 7), block(10, 8)]).unwrap();
    assert_eq!(std::array::from_fn(|_| round_now(&mut committed)), [Some(4), Some(7), Some(8), None]);
    assert_eq!(round_now(&mut synced), None);
    history.storage_synced(7).unwrap();
    assert_eq!(std::array::from_fn(|_| round_now(&mut synced)), [Some(3), Some(4), Some(7), None]);
    assert_eq!(round_now(&mut all), Some(2));
    history.prune_before(7).unwrap();
    assert_eq!(std::array::from_fn(|_| round_now(&mut all)), [Some(7), Some(8), None], "pruned ones are skipped");
}

#[test]
fn pruning() {
    let history = open(Sync::Ignore);
    history.commit(&blocks(0..300)).unwrap();
    let second = MIN_PRUNE_INTERVAL;
    let config = PruneConfig { strategy: PruneStrategy::KeepLast, num_kept: 200, interval: second * 10 };
    let mut pruner = Pruner::new(config, std::time::Duration::ZERO);
    let mut asked = Vec::new();
    assert!(pruner.run(second * 9, &history, &mut |_| Ok(())).unwrap().is_empty(), "not yet");
    let refused = pruner.run(second * 10, &history, &mut |rounds| {
        asked = rounds.to_vec();
        Err("needed".into())
    });
    assert!(matches!(refused, Err(HistoryError::Veto(why)) if why == "needed"));
    assert_eq!((asked.len(), history.earliest_block().unwrap()), (64, block(0, 0)));
    assert_eq!(pruner.next_wakeup(), Some(second * 20));
    assert_eq!(pruner.run(second * 20, &history, &mut |_| Ok(())).unwrap(), (0..64).collect::<Vec<_>>());
    assert_eq!(pruner.run(second * 21, &history, &mut |_| Ok(())).unwrap(), (64..100).collect::<Vec<_>>());
    assert!(pruner.run(second * 31, &history, &mut |_| Ok(())).unwrap().is_empty());
    assert_eq!(history.earliest_block().unwrap(), block(200, 100));
    let nothing = PruneConfig { num_kept: 0, ..config };
    let mut pruner = Pruner::new(nothing, std::time::Duration::ZERO);
    for at in 1..20 {
        pruner.run(second * 10 * at, &history, &mut |_| Ok(())).unwrap();
    }
    assert_eq!(history.earliest_block().unwrap(), block(598, 299), "the newest stays");
    assert_eq!(Pruner::new(PruneConfig::default(), second).next_wakeup(), None);
    history.commit(&[block(600, 300)]).unwrap();
    assert_eq!((history.prune_before(u64::MAX).unwrap(), history.prune_before(1).unwrap()), (1, 0));
}

#[test]
fn crashes_lose_nothing_that_was_confirmed() {
    for at_write in 0..12 {
        for applied in [false, true] {
            let kv = Arc::new(Faulty::new(Memory::new(), Some(Crash { at_write, applied })));
            let mut confirmed = None;
            if let Ok(history) = History::open(kv.clone(), id(), Sync::Ignore) {
                for r in 0..10 {
                    if history.commit(&[block(r as i64, r)]).is_err() {
                        break;
                    }
                    confirmed = Some(r);
                    if r == 5 && history.prune_before(3).is_err() {
                        break;
                    }
                }
            }
            for luck in 0..3 {
                let history = History::open(Arc::new(kv.restart(luck)), id(), Sync::Ignore).unwrap();
                let last = history.last_round();
                assert!(last >= confirmed && last <= confirmed.map_or(Some(0), |r| Some(r + 1)));
                if let Some(last) = last {
                    assert_eq!(history.committed_block(ROUND_LATEST).unwrap(), block(last as i64, last));
                    history.commit(&[block(50, 50)]).unwrap();
                }
            }
        }
    }
}
