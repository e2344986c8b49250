//! The threads beside the one that executes.

use std::{
    cell::RefCell,
    collections::VecDeque,
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::{Duration, Instant},
};

use comet_chain::{
    commit::{CommitError, PendingCommit},
    signature::verify_batch,
};
use node_app::Ahead;
use wire_cometbft::block::{Block, BlockId};

use crate::{
    files::{JsonLines, RecordedBlock},
    run::ReplayError,
};

/// Blocks that are made ready ahead of the one being executed.
const MAX_COMING: usize = 16;
/// Most blocks whose transactions are opened together, or commits verified together: they share a batch of signatures.
const MAX_GROUP: usize = 8;

/// A block that can be executed.
pub(crate) struct Prepared {
    pub(crate) recorded: RecordedBlock,
    pub(crate) block: Block,
    pub(crate) id: BlockId,
}

/// Blocks in their order.
pub(crate) struct Coming(Receiver<Result<Prepared, ReplayError>>);

impl Coming {
    /// The next block, if there is one more.
    pub(crate) fn next(&mut self) -> Result<Option<Prepared>, ReplayError> {
        self.0.recv().ok().transpose()
    }
}

/// Commits that may await their verdict: execution of a few blocks goes on meanwhile.
pub(crate) const MAX_AWAITED: usize = 2 * MAX_GROUP;

/// How long a commit waits for others to be verified with.
const GATHER: Duration = Duration::from_millis(2);

/// Verifies commits on another thread, in their order.
pub(crate) struct Verifier {
    pending: Sender<PendingCommit>,
    verdicts: Receiver<Result<(), CommitError>>,
    // Heights of the blocks whose last commits are being verified.
    awaited: RefCell<VecDeque<i64>>,
}

impl Verifier {
    /// Starts to verify the last commit of a block.
    pub(crate) fn start(&self, height: i64, pending: PendingCommit) {
        self.pending.send(pending).expect("the thread takes commits as long as this exists");
        self.awaited.borrow_mut().push_back(height);
    }

    /// Waits until no more than `most` verdicts are open; the first bad one is the error.
    pub(crate) fn finish(&self, most: usize) -> Result<(), ReplayError> {
        while self.awaited.borrow().len() > most {
            let verdict = self.verdicts.recv().expect("the thread gives a verdict on each commit before it ends");
            if let Some(height) = self.awaited.borrow_mut().pop_front()
                && let Err(e) = verdict
            {
                return Err(ReplayError::Block { height, reason: format!("last commit: {e}") });
            }
        }
        Ok(())
    }
}

/// Runs `execute` with blocks being read, opened and verified beside it. Returns the times of reading, opening and
/// verifying commits.
pub(crate) fn run(
    mut blocks: JsonLines,
    results: bool,
    to: Option<i64>,
    ahead: Ahead,
    execute: impl FnOnce(&mut Coming, &Verifier) -> Result<(), ReplayError>,
) -> Result<(Duration, Duration, Duration), ReplayError> {
    thread::scope(|scope| {
        let (block_in, block_out) = mpsc::sync_channel(MAX_COMING);
        let reader = scope.spawn(move || {
            let (mut reading, mut opening) = (Duration::ZERO, Duration::ZERO);
            // The first groups are small, so that execution begins soon.
            let mut size = 1;
            loop {
                let started = Instant::now();
                let group: Vec<_> = (0..size).map_while(|_| prepare(&mut blocks, results, to).transpose()).collect();
                size = (2 * size).min(MAX_GROUP);
                reading += started.elapsed();
                let started = Instant::now();
                let readable = group.iter().flatten();
                let txs: Vec<_> = readable.map(|p| (&p.id.hash[..], &p.block.data.txs[..])).collect();
                ahead.open_all(&txs);
                opening += started.elapsed();
                let ended = group.is_empty();
                let mut stop = ended;
                for next in group {
                    stop |= next.is_err();
                    stop |= block_in.send(next).is_err();
                    if stop {
                        break;
                    }
                }
                if stop {
                    break;
                }
            }
            (reading, opening)
        });
        let (pending, commits) = mpsc::channel::<PendingCommit>();
        let (verdict_in, verdicts) = mpsc::channel();
        let verifier = scope.spawn(move || {
            let mut verifying = Duration::ZERO;
            while let Ok(first) = commits.recv() {
                let mut group = vec![first];
                while group.len() < MAX_GROUP {
                    let Ok(next) = commits.recv_timeout(GATHER) else { break };
                    group.push(next);
                }
                let started = Instant::now();
                let claims: Vec<_> = group.iter().flat_map(PendingCommit::claims).cloned().collect();
                let valid = verify_batch(&claims);
                verifying += started.elapsed();
                let mut valid = &valid[..];
                for commit in group {
                    let (own, rest) = valid.split_at(commit.claims().len().min(valid.len()));
                    valid = rest;
                    if verdict_in.send(commit.finish(own)).is_err() {
                        return verifying;
                    }
                }
            }
            verifying
        });
        let mut coming = Coming(block_out);
        let thread = Verifier { pending, verdicts, awaited: RefCell::default() };
        let outcome = execute(&mut coming, &thread);
        // Both threads end when nobody takes what they make.
        drop((coming, thread));
        let (reading, opening) = reader.join().unwrap_or_default();
        let verifying = verifier.join().unwrap_or_default();
        outcome.map(|()| (reading, opening, verifying))
    })
}

fn prepare(blocks: &mut JsonLines, results: bool, to: Option<i64>) -> Result<Option<Prepared>, ReplayError> {
    let Some(recorded) = blocks.next_block(results)? else { return Ok(None) };
    let height = recorded.height;
    if to.is_some_and(|to| height > to) {
        return Ok(None);
    }
    let bad = |reason: String| ReplayError::Block { height, reason };
    let block = Block::decode_checked(&recorded.block).map_err(|e| bad(e.to_string()))?;
    let id = block.id().ok_or_else(|| bad("block has no hash".to_owned()))?;
    Ok(Some(Prepared { recorded, block, id }))
}
