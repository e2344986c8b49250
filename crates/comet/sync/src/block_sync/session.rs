//! One run of fetching: a scheduler, a thread that proves blocks, a thread that stores and applies them.
//!
//! Reference: `poolRoutine` of `cometbft:blocksync/reactor.go`, which does all of it in one loop.
//!
//! # Durability
//! A group of proven blocks is stored first, durably, and only then is the first of them executed: neither state nor
//! application is ever ahead of the block store, whenever the machine stops. What was stored and not executed is
//! executed by the handshake at the next start.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use comet_chain::state::State;
use comet_chain::validators::ValidatorSet;
use comet_core::PeerId;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;
use wire_cometbft::block::Commit;
use wire_cometbft::keys::Address;

use super::scheduler::{Effect, Fault, Input, Limits, Scheduler};
use super::verify::{Candidate, Expected, Outcome, Proven, prove};
use super::{BlockSink, BlockSyncError};

/// Most consecutive blocks whose commits are checked in one batch.
pub const MAX_RUN: usize = 64;
/// Most blocks that are stored with one sync of the disk.
pub const MAX_GROUP: usize = 64;
/// Most bytes of blocks (as the scheduler counts them) stored with one sync.
pub const MAX_GROUP_BYTES: u64 = 16 << 20;
/// Proven blocks that may wait to be applied; the proving thread then waits.
pub const MAX_PROVEN: usize = 4 * MAX_GROUP;
/// Validator sets remembered by their hash.
const MAX_SETS: usize = 4;

/// Time spent in the stages, for measurements.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StageTimes {
    /// Proving blocks by commits.
    pub prove: Duration,
    /// Storing groups of blocks, with the sync of the disk.
    pub store: Duration,
    /// Checking, executing and committing.
    pub apply: Duration,
    /// The applying thread had nothing to do.
    pub starved: Duration,
    /// Number of groups stored.
    pub groups: u64,
    /// Number of batches proven.
    pub runs: u64,
}

/// How a run of the workers ended, if not by an error.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) state: State,
    pub(super) seen_commit: Option<Commit>,
    pub(super) applied: u64,
    pub(super) times: StageTimes,
    pub(super) caught_up: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// End after what is stored was applied.
    Finishing,
    /// End after the block being applied.
    Stopping,
}

struct Core {
    scheduler: Scheduler,
    blocks: BTreeMap<i64, Arc<Candidate>>,
    sets: VecDeque<([u8; 32], Arc<ValidatorSet>)>,
    proven: VecDeque<Proven>,
    phase: Phase,
    /// Whether this node's own power keeps the chain from going on without it.
    blocks_the_chain: bool,
    times: StageTimes,
}

impl Core {
    /// Takes an input; keeps the blocks in step with the scheduler. What is left concerns peers.
    fn step(&mut self, now: Duration, input: Input, block: Option<Arc<Candidate>>) -> Vec<PeerAction> {
        let mut block = block;
        let effects = self.scheduler.step(now, input);
        let mut actions = Vec::with_capacity(effects.len());
        for effect in effects {
            match effect {
                Effect::Keep(height) => {
                    if let Some(block) = block.take() {
                        self.blocks.insert(height, block);
                    }
                }
                Effect::Forget(height) => {
                    self.blocks.remove(&height);
                }
                Effect::Request { peer, height } => actions.push(PeerAction::Request { peer, height }),
                Effect::Drop { peer, fault } => actions.push(PeerAction::Drop { peer, fault }),
            }
        }
        actions
    }

    fn remember_sets(&mut self, state: &State) {
        for set in [&state.validators, &state.next_validators] {
            let hash = set.hash();
            if self.sets.iter().all(|(known, _)| *known != hash) {
                self.sets.push_back((hash, Arc::new(set.clone())));
                if self.sets.len() > MAX_SETS {
                    self.sets.pop_front();
                }
            }
        }
    }

    fn set(&self, hash: &[u8]) -> Option<Arc<ValidatorSet>> {
        self.sets.iter().find(|(known, _)| known == hash).map(|(_, set)| Arc::clone(set))
    }

    /// Whether exactly this block is held.
    fn holds(&self, block: &Arc<Candidate>) -> bool {
        self.blocks.get(&block.height()).is_some_and(|held| Arc::ptr_eq(held, block))
    }

    /// Takes what came out of proving `run`, which went on without the lock; gives what to expect next.
    ///
    /// Meanwhile a sender may have been banned and its blocks forgotten, and others may have sent the same heights. What
    /// was proven then counts only if all of it is still held: the scheduler would not count it as verified, and
    /// nobody could go on from there. A wrong block that is no longer held is no fault of whoever sent the one that is.
    fn conclude(
        &mut self,
        now: Duration,
        expected: Expected,
        outcome: Outcome,
        run: &[Arc<Candidate>],
    ) -> (Expected, Vec<PeerAction>) {
        if !outcome.proven.iter().all(|proven| self.holds(&proven.block)) {
            return (expected, Vec::new());
        }
        let mut actions = Vec::new();
        if let Some(last) = outcome.proven.last() {
            actions.extend(self.step(now, Input::Verified(last.block.height()), None));
        }
        for proven in outcome.proven {
            self.blocks.remove(&proven.block.height());
            self.proven.push_back(proven);
        }
        if let Some((height, reason)) = outcome.bad
            && run.iter().any(|block| block.height() == height && self.holds(block))
        {
            tracing::warn!(height, reason, "block from a peer does not hold");
            actions.extend(self.step(now, Input::Bad(height), None));
        }
        (outcome.expected, actions)
    }
}

/// What the scheduler wants of a peer.
#[derive(Debug)]
pub(super) enum PeerAction {
    Request { peer: PeerId, height: i64 },
    Drop { peer: PeerId, fault: Fault },
}

/// Performs what the scheduler wants of peers; must not block.
pub(super) type Perform = Box<dyn Fn(Vec<PeerAction>) + Send + Sync>;

/// What an own validator's power means for catching up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own(pub(super) Option<Address>);

impl Own {
    /// Whether the chain cannot go on without this node, so that it must not wait for others.
    fn blocks_the_chain(self, state: &State) -> bool {
        let Some((_, validator)) = self.0.and_then(|address| state.validators.find(&address)) else {
            return false;
        };
        validator.voting_power >= state.validators.total_voting_power() / 3
    }
}

/// Shared by driver, reactor and the two threads.
pub(super) struct Session {
    core: Mutex<Core>,
    to_prove: Condvar,
    to_apply: Condvar,
    started: Instant,
    perform: Perform,
    own: Own,
}

/// Ends the threads when the driver goes away.
pub(super) struct Stopper(pub(super) Arc<Session>);

impl Drop for Stopper {
    fn drop(&mut self) {
        self.0.end(Phase::Stopping);
    }
}

impl Session {
    pub(super) fn new(state: &State, limits: Limits, own: Own, perform: Perform) -> Arc<Self> {
        let mut core = Core {
            scheduler: Scheduler::new(state.next_height(), limits),
            blocks: BTreeMap::new(),
            sets: VecDeque::new(),
            proven: VecDeque::new(),
            phase: Phase::Running,
            blocks_the_chain: own.blocks_the_chain(state),
            times: StageTimes::default(),
        };
        core.remember_sets(state);
        Arc::new(Self {
            core: Mutex::new(core),
            to_prove: Condvar::new(),
            to_apply: Condvar::new(),
            started: Instant::now(),
            perform,
            own,
        })
    }

    /// Starts the two threads; the receiver tells how they ended.
    pub(super) fn start(
        self: &Arc<Self>,
        state: State,
        sink: Arc<dyn BlockSink>,
    ) -> std::io::Result<oneshot::Receiver<Result<Finished, BlockSyncError>>> {
        let (done, ended) = oneshot::channel();
        let expected = Expected {
            height: state.next_height(),
            validators_hash: state.validators.hash().to_vec(),
            last_block_id: state.last_block_id.clone(),
            last_commit_checked_by: None,
        };
        let chain_id = state.chain_id.clone();
        let session = Arc::clone(self);
        std::thread::Builder::new().name("blocksync-prove".into()).spawn(move || session.prove(&chain_id, expected))?;
        let session = Arc::clone(self);
        std::thread::Builder::new().name("blocksync-apply".into()).spawn(move || {
            let result = session.apply(state, sink.as_ref());
            session.end(Phase::Stopping);
            // The driver may be gone.
            let _ = done.send(result);
        })?;
        Ok(ended)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn end(&self, phase: Phase) {
        let mut core = self.core.lock();
        if core.phase != Phase::Stopping {
            core.phase = phase;
        }
        drop(core);
        self.to_prove.notify_all();
        self.to_apply.notify_all();
    }

    /// Ends after the block being applied.
    pub(super) fn stop(&self) {
        self.end(Phase::Stopping);
    }

    /// Takes an input that has no block.
    pub(super) fn input(&self, input: Input) {
        let now = self.now();
        let actions = self.core.lock().step(now, input, None);
        (self.perform)(actions);
        self.to_prove.notify_one();
    }

    /// Takes a block from a peer.
    pub(super) fn block(&self, block: Candidate) {
        let block = Arc::new(block);
        let input = Input::Block { peer: block.peer.clone(), height: block.height(), bytes: block.bytes };
        let now = self.now();
        let actions = self.core.lock().step(now, input, Some(block));
        (self.perform)(actions);
        self.to_prove.notify_one();
    }

    /// Whether a block from this peer is worth decoding.
    pub(super) fn expects_from(&self, peer: &PeerId) -> bool {
        self.core.lock().scheduler.expects_from(peer)
    }

    /// Whether the peer takes part.
    pub(super) fn knows(&self, peer: &PeerId) -> bool {
        self.core.lock().scheduler.knows(peer)
    }

    /// Ends after what is stored was applied.
    pub(super) fn finish(&self) {
        self.end(Phase::Finishing);
    }

    /// Ends the run if this node is level with its peers; tells whether it is.
    pub(super) fn finish_if_caught_up(&self) -> bool {
        let core = self.core.lock();
        let level = core.scheduler.is_caught_up() || core.blocks_the_chain;
        drop(core);
        if level {
            self.end(Phase::Finishing);
        }
        level
    }

    /// Next height, greatest height of peers, number of peers, live requests, bytes held.
    pub(super) fn progress(&self) -> (i64, i64, usize, usize, u64) {
        let core = self.core.lock();
        let scheduler = &core.scheduler;
        let (next, max) = (scheduler.next_apply(), scheduler.max_peer_height());
        (next, max, scheduler.peer_count(), scheduler.pending(), scheduler.held_bytes())
    }

    /// The proving thread.
    fn prove(&self, chain_id: &str, mut expected: Expected) {
        loop {
            let (set, run) = {
                let mut core = self.core.lock();
                loop {
                    if core.phase != Phase::Running {
                        return;
                    }
                    let held = if core.proven.len() < MAX_PROVEN { core.scheduler.held_run(MAX_RUN + 1) } else { 0 };
                    // A set that is not known yet follows from blocks that are being applied.
                    if held >= 2
                        && let Some(set) = core.set(&expected.validators_hash)
                    {
                        let from = core.scheduler.next_verify();
                        let run: Vec<_> = core.blocks.range(from..).take(held).map(|(_, b)| Arc::clone(b)).collect();
                        break (set, run);
                    }
                    self.to_prove.wait(&mut core);
                }
            };
            let begun = Instant::now();
            let outcome = prove(&set, chain_id, expected.clone(), &run);
            let spent = begun.elapsed();
            let actions;
            {
                let now = self.now();
                let mut core = self.core.lock();
                core.times.prove += spent;
                core.times.runs += 1;
                (expected, actions) = core.conclude(now, expected, outcome, &run);
            }
            self.to_apply.notify_one();
            (self.perform)(actions);
        }
    }

    /// The applying thread.
    fn apply(&self, mut state: State, sink: &dyn BlockSink) -> Result<Finished, BlockSyncError> {
        let mut seen_commit = None;
        let mut applied = 0u64;
        loop {
            let begun = Instant::now();
            let Some(group) = self.next_group(begun) else {
                let core = self.core.lock();
                let caught_up = core.phase == Phase::Finishing;
                return Ok(Finished { state, seen_commit, applied, times: core.times, caught_up });
            };
            let begun = Instant::now();
            sink.store(&group)?;
            let stored = begun.elapsed();
            for proven in group {
                let height = proven.block.height();
                state = sink.apply(&state, &proven)?;
                seen_commit = Some(proven.commit);
                applied += 1;
                let now = self.now();
                let mut core = self.core.lock();
                core.remember_sets(&state);
                core.blocks_the_chain = self.own.blocks_the_chain(&state);
                let actions = core.step(now, Input::Applied(height), None);
                let stopping = core.phase == Phase::Stopping;
                drop(core);
                self.to_prove.notify_one();
                (self.perform)(actions);
                if stopping {
                    break;
                }
            }
            let mut core = self.core.lock();
            core.times.store += stored;
            core.times.apply += begun.elapsed().saturating_sub(stored);
            core.times.groups += 1;
        }
    }

    /// Waits for proven blocks; `None` when the run ends.
    fn next_group(&self, begun: Instant) -> Option<Vec<Proven>> {
        let mut core = self.core.lock();
        loop {
            if core.phase == Phase::Stopping {
                return None;
            }
            if !core.proven.is_empty() {
                break;
            }
            if core.phase == Phase::Finishing {
                return None;
            }
            self.to_apply.wait(&mut core);
        }
        let mut group = Vec::new();
        let mut bytes = 0u64;
        while let Some(next) = core.proven.front() {
            bytes = bytes.saturating_add(next.block.bytes);
            if !group.is_empty() && (group.len() >= MAX_GROUP || bytes > MAX_GROUP_BYTES) {
                break;
            }
            group.extend(core.proven.pop_front());
        }
        core.times.starved += begun.elapsed();
        drop(core);
        self.to_prove.notify_one();
        Some(group)
    }
}

#[cfg(test)]
mod tests;
