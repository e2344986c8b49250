//! The indexer over a chain of heights some of which have blocks.

use std::cell::Cell;

use proptest::prelude::*;
use wire_consensus::roothash::Block;

use super::*;

fn block(height: i64, round: u64) -> AnnotatedBlock {
    let mut block = Block::default();
    block.header.round = round;
    AnnotatedBlock { consensus_height: height, block: Some(block) }
}

/// Heights with blocks, whose rounds count up; states are there from `earliest` on.
struct Chain {
    heights: Vec<i64>,
    earliest: i64,
    asked: Cell<usize>,
}

impl Chain {
    fn block(&self, index: usize) -> AnnotatedBlock {
        block(self.heights[index], index as u64)
    }

    fn lookup(&self, height: i64) -> Result<Lookup, ()> {
        self.asked.set(self.asked.get() + 1);
        let Some(index) = self.heights.iter().rposition(|h| *h <= height) else { return Ok(Lookup::Missing) };
        if height < self.earliest {
            return Ok(Lookup::Missing);
        }
        let made = self.block(index);
        let state = RuntimeState {
            last_block: made.block.unwrap(),
            last_block_height: made.consensus_height,
            ..RuntimeState::default()
        };
        Ok(Lookup::State(Box::new(state)))
    }
}

/// Does what the indexer says until it waits; whether it said that it is initialized.
fn run(indexer: &mut Indexer, chain: &Chain, out: &mut Vec<AnnotatedBlock>) -> bool {
    let mut initialized = false;
    let now = Moment::ZERO;
    loop {
        match indexer.poll(now, chain.earliest) {
            Action::Wait => return initialized,
            Action::Reindex { from, to } => {
                let found = blocks_between(from, to, |h| chain.lookup(h)).unwrap();
                let last = found.last().map(|b| (b.consensus_height, b.block.as_ref().unwrap().header.round));
                out.extend(found);
                indexer.reindexed(now, Some((to, last)));
            }
            Action::Commit(blocks) => {
                out.extend(blocks.clone());
                indexer.committed(now, &blocks, true);
            }
            Action::Initialized => initialized = true,
        }
    }
}

proptest! {
    #[test]
    fn gets_every_block_that_can_be_had(
        steps in prop::collection::vec(1..6i64, 1..30),
        have in 0..30usize,
        lost in 0..60i64,
        batch in 1..20u16,
        new in 0..5usize,
    ) {
        let heights: Vec<i64> = steps.iter().scan(0, |h, s| { *h += s; Some(*h) }).collect();
        let chain = Chain { earliest: lost.min(*heights.last().unwrap() + 3), asked: Cell::new(0), heights };
        let count = chain.heights.len();
        let seen = count - new.min(count - 1);
        let have = have.min(seen);
        let last = have.checked_sub(1).map(|i| chain.heights[i]).unwrap_or(0);
        let mut indexer = Indexer::new(batch, last, have.saturating_sub(1) as u64);
        prop_assert_eq!(indexer.status(Moment::ZERO).status, Status::Started);
        let mut out = Vec::new();
        prop_assert!(!run(&mut indexer, &chain, &mut out));
        indexer.new_block(chain.block(seen - 1)).unwrap();
        prop_assert!(run(&mut indexer, &chain, &mut out));
        prop_assert_eq!(indexer.status(Moment::ZERO).status, Status::Indexing);
        for index in seen..count {
            indexer.new_block(chain.block(index)).unwrap();
            run(&mut indexer, &chain, &mut out);
        }
        // All after what was there and not pruned, and the newest in any case.
        let newest = seen - 1;
        let expected: Vec<AnnotatedBlock> = (have..count)
            .filter(|i| chain.heights[*i] >= chain.earliest || *i >= newest)
            .map(|i| chain.block(i))
            .collect();
        prop_assert_eq!(out, expected);
    }
}

#[test]
fn few_heights_are_asked() {
    let chain = Chain { heights: vec![3, 500, 900], earliest: 1, asked: Cell::new(0) };
    let found = blocks_between(1, 1000, |h| chain.lookup(h)).unwrap();
    assert_eq!(found, [chain.block(0), chain.block(1), chain.block(2)]);
    assert!(chain.asked.get() <= 6, "{}", chain.asked.get());
    assert_eq!(blocks_between(1, 5, |_| Err::<Lookup, i32>(7)), Err(7));
}

#[test]
fn failures_are_retried_with_growing_pauses() {
    let seconds = Duration::from_secs;
    let mut indexer = Indexer::new(10, 0, 0);
    indexer.new_block(block(5, 0)).unwrap();
    assert_eq!(indexer.poll(seconds(0), 2), Action::Reindex { from: 2, to: 5 });
    assert_eq!(indexer.poll(seconds(0), 2), Action::Wait, "one thing at a time");
    indexer.reindexed(seconds(1), None);
    assert_eq!(indexer.next_wakeup(seconds(1)), Some(seconds(1) + FIRST_RETRY));
    assert_eq!(indexer.poll(seconds(1), 2), Action::Wait);
    assert_eq!(indexer.poll(seconds(2), 2), Action::Reindex { from: 2, to: 5 });
    indexer.reindexed(seconds(2), None);
    assert_eq!(indexer.next_wakeup(seconds(2)), Some(seconds(3)));
    // A newer block meanwhile.
    indexer.new_block(block(25, 1)).unwrap();
    assert_eq!(indexer.poll(seconds(3), 2), Action::Reindex { from: 2, to: 11 });
    let status = indexer.status(seconds(3));
    let reindex = status.reindex.unwrap();
    assert_eq!((status.status.as_str(), reindex.start_height, reindex.end_height), ("reindexing", 2, 25));
    indexer.reindexed(seconds(3), Some((11, Some((5, 0)))));
    let reindex = indexer.status(seconds(4)).reindex.unwrap();
    assert_eq!((reindex.last_height, reindex.remaining), (11, seconds(4) * 14 / 10));
    for (from, to) in [(12, 21), (22, 25)] {
        assert_eq!(indexer.poll(seconds(4), 2), Action::Reindex { from, to });
        indexer.reindexed(seconds(4), Some((to, (to == 25).then_some((25, 1)))));
    }
    assert_eq!(indexer.poll(seconds(4), 2), Action::Initialized);

    indexer.new_block(block(26, 2)).unwrap();
    let mut at = seconds(4);
    for round in 3..12u64 {
        let Action::Commit(blocks) = indexer.poll(at, 2) else { panic!("round {round}") };
        assert_eq!(blocks.len() as u64, round - 2);
        indexer.committed(at, &blocks, false);
        at = indexer.next_wakeup(at).unwrap();
        indexer.new_block(block(26, round)).unwrap();
    }
    assert_eq!(indexer.new_block(block(26, 12)), Err(Failure::TooManyPending));
    assert_eq!((indexer.status(at).status, indexer.poll(at, 2)), (Status::Stopped, Action::Wait));
}

/// The history may have more than the consensus layer after a power loss; nothing is left out when that catches up.
#[test]
fn waits_for_a_chain_that_lost_blocks() {
    let chain = Chain { heights: (1..=9).collect(), earliest: 1, asked: Cell::new(0) };
    let (mut indexer, mut out) = (Indexer::new(10, 6, 5), Vec::new());
    indexer.new_block(chain.block(3)).unwrap();
    assert!(!run(&mut indexer, &chain, &mut out));
    assert!(out.is_empty());
    indexer.new_block(chain.block(8)).unwrap();
    assert!(run(&mut indexer, &chain, &mut out));
    let heights: Vec<i64> = out.iter().map(|b| b.consensus_height).collect();
    assert_eq!(heights, [7, 8, 9]);
}

/// A block that cannot be committed at the end of reindexing is not replaced by a later one.
#[test]
fn the_last_block_is_not_skipped() {
    let chain = Chain { heights: vec![3, 5, 6], earliest: 5, asked: Cell::new(0) };
    let mut indexer = Indexer::new(10, 0, 0);
    indexer.new_block(chain.block(0)).unwrap();
    let now = Moment::ZERO;
    let Action::Commit(first) = indexer.poll(now, 5) else { panic!("not committed by itself") };
    assert_eq!(first[0].consensus_height, 3);
    indexer.committed(now, &first, false);
    indexer.new_block(chain.block(2)).unwrap();
    assert_eq!(indexer.poll(now + FIRST_RETRY, 5), Action::Reindex { from: 5, to: 6 });
}
