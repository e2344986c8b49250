//! Filling a history from the consensus layer. Source: `go/runtime/history/indexer.go`.
//!
//! First the blocks of old heights are looked up in the consensus state, batch by batch, up to the newest one; then new
//! ones are added as they come. [`Indexer`] decides what to do next; the node does it and says how it went.

use std::collections::VecDeque;
use std::time::Duration;

use wire_consensus::roothash::{AnnotatedBlock, RuntimeState};

use crate::Moment;

/// Most new blocks that wait for being committed; with more the indexer gives up. Source: `maxPendingBlocks`.
pub const MAX_PENDING_BLOCKS: usize = 10;
/// The first pause after a failure; it doubles with each.
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// Longest pause after a failure.
const MAX_RETRY: Duration = Duration::from_secs(60);

/// What the indexer does. The texts are the reference's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It waits for the first block.
    Started,
    /// It looks up old blocks.
    Reindexing,
    /// It adds new blocks.
    Indexing,
    /// It was stopped, or gave up.
    Stopped,
}

impl Status {
    /// The reference's text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Reindexing => "reindexing",
            Self::Indexing => "indexing",
            Self::Stopped => "stopped",
        }
    }
}

/// How far looking up old blocks is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReindexStatus {
    /// Heights of a batch.
    pub batch_size: u16,
    /// The last height that was looked up.
    pub last_height: i64,
    /// The first height to look up.
    pub start_height: i64,
    /// The last height to look up.
    pub end_height: i64,
    /// How long it will take at the speed so far.
    pub remaining: Duration,
}

/// How the indexer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexerStatus {
    /// What it does.
    pub status: Status,
    /// The last round that was added.
    pub last_round: u64,
    /// While it looks up old blocks: how far that is.
    pub reindex: Option<ReindexStatus>,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Nothing before the next block or the next wake-up.
    Wait,
    /// Look up the blocks of these heights ([`blocks_between`]), commit them, and call [`Indexer::reindexed`].
    Reindex {
        /// First height.
        from: i64,
        /// Last height.
        to: i64,
    },
    /// Commit these blocks and call [`Indexer::committed`].
    Commit(Vec<AnnotatedBlock>),
    /// All old blocks are there: call [`crate::History::set_initialized`].
    Initialized,
}

/// Why the indexer gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Blocks could not be committed for too long.
    #[error("too many pending blocks for commit, terminating")]
    TooManyPending,
}

#[derive(Debug)]
enum Phase {
    Reindex,
    /// Old blocks are there, or as many as there will be; the newest one may have to be added by itself.
    Last,
    Follow,
    Stopped,
}

/// Decides what to add to a history.
#[derive(Debug)]
pub struct Indexer {
    batch_size: u16,
    phase: Phase,
    /// What the history has.
    last_height: i64,
    last_round: u64,
    /// The newest block of the first phases, or those that wait in the last one.
    pending: VecDeque<AnnotatedBlock>,
    busy: bool,
    /// Next height to look up; none before the first block.
    next_height: Option<i64>,
    start_height: i64,
    started: Moment,
    retry_at: Moment,
    pause: Duration,
}

impl Indexer {
    /// An indexer of a history whose newest block has this height and round (0 before the first).
    pub fn new(batch_size: u16, last_height: i64, last_round: u64) -> Self {
        Self {
            batch_size: batch_size.max(1),
            phase: Phase::Reindex,
            last_height,
            last_round,
            pending: VecDeque::new(),
            busy: false,
            next_height: None,
            start_height: 0,
            started: Moment::ZERO,
            retry_at: Moment::ZERO,
            pause: FIRST_RETRY,
        }
    }

    /// A block of the runtime that the consensus layer just made, or the newest one at the start.
    ///
    /// # Errors
    /// If too many wait: the indexer is stopped then.
    pub fn new_block(&mut self, block: AnnotatedBlock) -> Result<(), Failure> {
        if !matches!(self.phase, Phase::Follow) {
            self.pending.clear();
        }
        self.pending.push_back(block);
        if self.pending.len() > MAX_PENDING_BLOCKS {
            self.stop();
            return Err(Failure::TooManyPending);
        }
        Ok(())
    }

    /// What is to be done now. `last_retained` is the earliest height of which the consensus layer has the state.
    pub fn poll(&mut self, now: Moment, last_retained: i64) -> Action {
        if self.busy || now < self.retry_at {
            return Action::Wait;
        }
        let Some(newest) = self.pending.back() else { return Action::Wait };
        match self.phase {
            Phase::Reindex => {
                let newest = newest.consensus_height;
                let from = match self.next_height {
                    Some(next) => next,
                    None => {
                        let first = self.last_height.saturating_add(1).max(last_retained);
                        (self.start_height, self.started) = (first, now);
                        first
                    }
                };
                self.next_height = Some(from);
                if from > newest {
                    self.phase = Phase::Last;
                    return self.poll(now, last_retained);
                }
                let to = from.saturating_add(i64::from(self.batch_size) - 1).min(newest);
                self.busy = true;
                Action::Reindex { from, to }
            }
            Phase::Last => {
                // Heights that came meanwhile may have more than the newest block.
                if self.next_height.is_some_and(|next| newest.consensus_height >= next) {
                    self.phase = Phase::Reindex;
                    return self.poll(now, last_retained);
                }
                // After a power loss the consensus layer may have to make again what is here already.
                if self.last_height > newest.consensus_height {
                    return Action::Wait;
                }
                // Its height may be one whose state was never here: then at least the block is.
                if self.last_height != newest.consensus_height {
                    self.busy = true;
                    return Action::Commit(vec![newest.clone()]);
                }
                self.phase = Phase::Follow;
                self.pending.clear();
                Action::Initialized
            }
            Phase::Follow => {
                self.busy = true;
                Action::Commit(self.pending.iter().cloned().collect())
            }
            Phase::Stopped => Action::Wait,
        }
    }

    fn outcome(&mut self, now: Moment, ok: bool) {
        self.busy = false;
        if ok {
            self.pause = FIRST_RETRY;
        } else {
            self.retry_at = now + self.pause;
            self.pause = (self.pause * 2).min(MAX_RETRY);
        }
    }

    fn has(&mut self, height: i64, round: u64) {
        (self.last_height, self.last_round) = (height, round);
    }

    /// The heights of [`Action::Reindex`] up to `to` were looked up; `last` is the height and round of the last block that
    /// was committed, if there was one. Nothing if it failed.
    pub fn reindexed(&mut self, now: Moment, done: Option<(i64, Option<(i64, u64)>)>) {
        self.outcome(now, done.is_some());
        if let Some((to, last)) = done {
            self.next_height = Some(to.saturating_add(1));
            if let Some((height, round)) = last {
                self.has(height, round);
            }
        }
    }

    /// The blocks of [`Action::Commit`] were committed, or not.
    pub fn committed(&mut self, now: Moment, blocks: &[AnnotatedBlock], ok: bool) {
        self.outcome(now, ok);
        if !ok {
            return;
        }
        if let Some(last) = blocks.last() {
            self.has(last.consensus_height, last.block.as_ref().map_or(0, |b| b.header.round));
        }
        if matches!(self.phase, Phase::Follow) {
            self.pending.drain(..blocks.len().min(self.pending.len()));
        }
    }

    /// When to poll again if nothing happens.
    pub fn next_wakeup(&self, now: Moment) -> Option<Moment> {
        (!self.busy && !self.pending.is_empty() && self.retry_at > now).then_some(self.retry_at)
    }

    /// Stops.
    pub fn stop(&mut self) {
        self.phase = Phase::Stopped;
        self.pending.clear();
    }

    /// How it stands.
    pub fn status(&self, now: Moment) -> IndexerStatus {
        let status = match self.phase {
            Phase::Reindex if self.next_height.is_none() => Status::Started,
            Phase::Reindex | Phase::Last => Status::Reindexing,
            Phase::Follow => Status::Indexing,
            Phase::Stopped => Status::Stopped,
        };
        let reindex = self.next_height.filter(|_| status == Status::Reindexing).map(|next| {
            let end = self.pending.back().map_or(next, |b| b.consensus_height);
            let done = next.saturating_sub(self.start_height).max(1).unsigned_abs();
            let left = end.saturating_sub(next).saturating_add(1).max(0).unsigned_abs();
            let nanos = now.saturating_sub(self.started).as_nanos() * u128::from(left) / u128::from(done);
            ReindexStatus {
                batch_size: self.batch_size,
                last_height: next.saturating_sub(1),
                start_height: self.start_height,
                end_height: end,
                remaining: Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)),
            }
        });
        IndexerStatus { status, last_round: self.last_round, reindex }
    }
}

/// A runtime's state at a height.
#[derive(Clone, Debug, PartialEq)]
pub enum Lookup {
    /// It is there.
    State(Box<RuntimeState>),
    /// The height's state was pruned, or the runtime was not there yet.
    Missing,
}

/// The blocks that were made at heights from `from` to `to`. A state names its newest block's height, so only one
/// height per block is asked for, latest first.
///
/// # Errors
/// What `lookup` fails with.
pub fn blocks_between<E>(
    from: i64,
    to: i64,
    mut lookup: impl FnMut(i64) -> Result<Lookup, E>,
) -> Result<Vec<AnnotatedBlock>, E> {
    let mut out = Vec::new();
    let mut height = to;
    while height >= from {
        match lookup(height)? {
            Lookup::State(state) => {
                let made = state.last_block_height;
                if made >= from && made <= height {
                    out.push(AnnotatedBlock { consensus_height: made, block: Some(state.last_block) });
                }
                height = made.min(height).saturating_sub(1);
            }
            Lookup::Missing => height = height.saturating_sub(1),
        }
    }
    out.reverse();
    Ok(out)
}

#[cfg(test)]
mod tests;
