//! The member's state and its transitions. Source: `node.go`, `state.go`, `transactions.go`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base_crypto::blacklist::Blacklist;
use base_prims::{Hash, PublicKey};
use mkvs_tree::{KvWrite, Sequential, Tree};
use wire_consensus::known::KnownSignatures;
use wire_consensus::roothash::{ExecutorCommitment, HeaderType, Pool as CommitmentPool, Proposal, Verifier};
use wire_consensus::scheduler::Role;
use wire_runtime::runtime::{ExecuteTxBatchResponse, ExecutionMode};
use wire_runtime::transaction::input_pairs;

use super::observe::Discrepancy;
use super::saving::Saving;
use super::{
    EXECUTION_FACTOR, EXECUTION_RETRY, Effect, Execution, Input, Members, NO_RANK, Proposals, Record, Round,
    RuntimeInfo, Setup, StateName, Transactions,
};
use crate::Moment;
use crate::txpool::Tx;

/// Least timeout of proposers, in place of none.
const MIN_PROPOSER_TIMEOUT: Duration = Duration::from_millis(1);

/// A proposal whose transactions are not all there.
#[derive(Debug)]
pub(super) struct Waiting {
    job: Job,
    batch: Vec<Option<Tx>>,
    /// Where in the batch the missing ones belong.
    missing: BTreeMap<Hash, Vec<usize>>,
    bytes: u64,
    fetch: u64,
}

/// A batch of somebody, or of this node.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) rank: u64,
    pub(super) scheduler: PublicKey,
    /// The proposal; none if the batch is to be scheduled here.
    pub(super) proposal: Option<Arc<Proposal>>,
}

#[derive(Debug)]
pub(super) enum State {
    WaitingForBatch,
    WaitingForTxs(Box<Waiting>),
    WaitingForEvent {
        job: Job,
        batch: Vec<Tx>,
    },
    /// The runtime still executes something that is no longer wanted.
    Queued {
        job: Job,
        batch: Vec<Tx>,
    },
    Executing {
        job: Job,
        id: u64,
    },
    Saving(Box<Saving>),
}

/// The round in progress.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) round: Box<Round>,
    pub(super) members: Arc<Members>,
    pub(super) worker: bool,
    pub(super) backup: bool,
    /// This node's rank.
    pub(super) rank: u64,
    /// Best rank of a scheduler that committed, as far as observed.
    pub(super) pool_rank: u64,
    pub(super) discrepancy: Option<Discrepancy>,
    /// Commitments observed by a backup worker.
    pub(super) pool: CommitmentPool,
    /// First commitments, by node and scheduler.
    pub(super) commitments: BTreeMap<(PublicKey, PublicKey), ExecutorCommitment>,
    /// Nodes against which evidence was given.
    pub(super) accused: BTreeSet<PublicKey>,
    /// Ranks that this node is done with.
    pub(super) submitted: BTreeSet<u64>,
    started: Moment,
}

/// What this node committed to.
#[derive(Debug)]
pub(super) struct Proposed {
    pub(super) io_root: Hash,
    pub(super) batch: Vec<Hash>,
}

/// A call that the runtime has not answered.
#[derive(Clone, Copy, Debug)]
struct Running {
    id: u64,
    deadline: Moment,
}

/// A committee member. See [`Input`] and [`Effect`].
#[derive(Debug)]
pub struct Machine {
    setup: Setup,
    known: KnownSignatures,
    runtime: Option<RuntimeInfo>,
    members: Option<Arc<Members>>,
    epoch_change_next: bool,
    pub(super) proposals: Proposals,
    pub(super) active: Option<Active>,
    pub(super) state: State,
    pub(super) proposed: Option<Proposed>,
    pub(super) record: Record,
    running: Option<Running>,
    retry_at: Moment,
    next_id: u64,
}

impl Machine {
    /// A member before its first round. `record` is the one on disk, if there is one.
    pub fn new(setup: Setup, record: Option<Record>) -> Self {
        let record = record.filter(|r| r.is_of(&setup));
        Self {
            record: record.unwrap_or_else(|| Record::new(&setup, 0)),
            setup,
            known: KnownSignatures::default(),
            runtime: None,
            members: None,
            epoch_change_next: false,
            proposals: Proposals::default(),
            active: None,
            state: State::WaitingForBatch,
            proposed: None,
            running: None,
            retry_at: Moment::ZERO,
            next_id: 0,
        }
    }

    /// Who the machine is.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The committee of the newest block's epoch.
    pub fn members(&self) -> Option<&Arc<Members>> {
        self.members.as_ref()
    }

    /// Where the machine stands.
    pub fn state(&self) -> StateName {
        match self.state {
            State::WaitingForBatch => StateName::WaitingForBatch,
            State::WaitingForTxs(_) => StateName::WaitingForTxs,
            State::WaitingForEvent { .. } => StateName::WaitingForEvent,
            State::Queued { .. } | State::Executing { .. } | State::Saving(_) => StateName::ProcessingBatch,
        }
    }

    /// The round in progress, if this node takes part in it.
    pub fn round(&self) -> Option<u64> {
        self.active.as_ref().map(|a| a.round.number())
    }

    /// This node's rank in the round; [`NO_RANK`] if it has none.
    pub fn rank(&self) -> u64 {
        self.active.as_ref().map_or(NO_RANK, |a| a.rank)
    }

    /// This node's roles in the round's committee.
    pub fn roles(&self) -> Vec<Role> {
        let Some(active) = &self.active else { return Vec::new() };
        let both = [(active.worker, Role::WORKER), (active.backup, Role::BACKUP_WORKER)];
        both.into_iter().filter(|(is, _)| *is).map(|(_, role)| role).collect()
    }

    pub(super) fn verifier(&self) -> Verifier<'_> {
        let blacklist: &Blacklist = &self.setup.blacklist;
        Verifier { chain: &self.setup.chain, blacklist, known: &self.known }
    }

    pub(super) fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Takes an input and adds what is to be done.
    pub fn step(&mut self, now: Moment, input: Input, txs: &mut dyn Transactions, out: &mut Vec<Effect>) {
        match input {
            Input::Round(round) => self.new_round(now, round, txs, out),
            Input::Consensus { epoch_change_next } => self.epoch_change_next = epoch_change_next,
            Input::Runtime(info) => self.runtime = info,
            Input::Transactions(new) => self.transactions(&new),
            Input::Executed { id, result } => self.executed(now, id, result, txs, out),
            Input::Stored { id, ok } => self.stored(id, ok, out),
            Input::Recorded { id, ok } => self.recorded(id, ok, out),
            Input::Observed(commit) => self.observed(&commit, out),
            Input::Committed(commit) => self.committed(&commit, out),
            Input::Discrepancy { height, round, rank } => {
                if self.round() == Some(round) {
                    self.discrepancy(height, Discrepancy { rank, authoritative: true }, out);
                }
            }
            Input::Tick => {}
        }
        self.check_deadline(now, out);
        self.advance(now, txs, out);
    }

    /// When an [`Input::Tick`] is due, if nothing else happens before.
    pub fn next_wakeup(&self, now: Moment) -> Option<Moment> {
        let active = self.active.as_ref();
        let rank = active.and_then(|a| {
            // Beyond the last rank there is nothing to wait for.
            let last = a.members.committee.workers().count() as u64;
            let next = self.allowed_rank(now).checked_add(1).filter(|next| *next <= last)?;
            let times = u32::try_from(next).ok()?;
            Some(a.started + proposer_timeout(&a.round).checked_mul(times)?)
        });
        let flush = active.map(|a| a.started + flush_timeout(&a.round)).filter(|at| *at > now);
        let deadline = self.running.map(|r| r.deadline);
        let retry = Some(self.retry_at).filter(|at| *at > now);
        [rank, flush, deadline, retry].into_iter().flatten().min()
    }

    /// The worst rank whose turn has come.
    fn allowed_rank(&self, now: Moment) -> u64 {
        let Some(active) = &self.active else { return 0 };
        let elapsed = now.saturating_sub(active.started).as_nanos();
        u64::try_from(elapsed / proposer_timeout(&active.round).as_nanos()).unwrap_or(u64::MAX)
    }

    fn new_round(&mut self, now: Moment, round: Box<Round>, txs: &mut dyn Transactions, out: &mut Vec<Effect>) {
        self.finish_round(&round, txs);
        self.reset(out);
        let number = round.number();
        let epoch = |m: &Option<Arc<Members>>| m.as_ref().map(|m| m.committee.valid_for);
        if epoch(&self.members) != epoch(&round.committee) {
            self.proposals.clear();
        }
        self.proposals.prune(number);
        self.members.clone_from(&round.committee);
        self.active = None;
        self.retry_at = now;
        let Some(members) = self.members.clone() else { return };
        // A node that catches up gets rounds for which it may have signed something that the record no longer has.
        if number < self.record.round {
            return;
        }
        let node = &self.setup.node;
        let (worker, backup) = (members.has(node, Role::WORKER), members.has(node, Role::BACKUP_WORKER));
        if !worker && !backup {
            return;
        }
        self.active = Some(Active {
            rank: members.committee.scheduler_rank(number, node).unwrap_or(NO_RANK),
            members,
            round,
            worker,
            backup,
            pool_rank: NO_RANK,
            discrepancy: None,
            pool: CommitmentPool::new(),
            commitments: BTreeMap::new(),
            accused: BTreeSet::new(),
            submitted: BTreeSet::new(),
            started: now,
        });
        self.resume(out);
    }

    /// Drops the transactions of the node's own batch from the pool, if it became the block.
    fn finish_round(&mut self, round: &Round, txs: &mut dyn Transactions) {
        let header = &round.block.header;
        if let Some(proposed) = self.proposed.take()
            && header.header_type == HeaderType::NORMAL
            && header.io_root == proposed.io_root
        {
            txs.used(&proposed.batch);
        }
        txs.clear_proposed();
    }

    /// Leaves whatever state it is for the first one.
    pub(super) fn reset(&mut self, out: &mut Vec<Effect>) {
        if let State::WaitingForTxs(waiting) = std::mem::replace(&mut self.state, State::WaitingForBatch) {
            out.push(Effect::StopFetch { id: waiting.fetch });
        }
    }

    fn transactions(&mut self, new: &[Tx]) {
        let State::WaitingForTxs(waiting) = &mut self.state else { return };
        for tx in new {
            for position in waiting.missing.remove(&tx.hash).unwrap_or_default() {
                if let Some(place) = waiting.batch.get_mut(position) {
                    *place = Some(tx.clone());
                    waiting.bytes = waiting.bytes.saturating_add(tx.data.len() as u64);
                }
            }
        }
    }

    fn check_deadline(&mut self, now: Moment, out: &mut Vec<Effect>) {
        if self.running.is_some_and(|r| r.deadline <= now) {
            self.running = None;
            out.push(Effect::AbortRuntime);
            self.execution_failed(now);
        }
    }

    fn execution_failed(&mut self, now: Moment) {
        self.retry_at = now + EXECUTION_RETRY;
        if matches!(self.state, State::Executing { .. }) {
            self.state = State::WaitingForBatch;
        }
    }

    fn executed(
        &mut self,
        now: Moment,
        id: u64,
        result: Option<Box<ExecuteTxBatchResponse>>,
        txs: &mut dyn Transactions,
        out: &mut Vec<Effect>,
    ) {
        if self.running.is_none_or(|r| r.id != id) {
            return;
        }
        self.running = None;
        let job = match &self.state {
            State::Executing { job, id: wanted } if *wanted == id => job.clone(),
            _ => return,
        };
        match result.filter(|r| self.is_plausible(&job, r)) {
            Some(result) => self.begin_saving(job, *result, txs, out),
            None => self.execution_failed(now),
        }
    }

    /// Whether a runtime's result has what the consensus layer asks of every commitment.
    fn is_plausible(&self, job: &Job, result: &ExecuteTxBatchResponse) -> bool {
        let Some(active) = &self.active else { return false };
        let header = &result.batch.header;
        let hashes = [header.io_root, header.state_root, header.messages_hash, header.in_messages_hash];
        let batch = result.tx_hashes.as_option().map_or(0, Vec::len) as u64;
        let too_many = job.proposal.is_none() && batch > active.round.descriptor.txn_scheduler.max_batch_size;
        header.follows(&active.round.block.header) && hashes.iter().all(Option::is_some) && !too_many
    }

    /// Does what can be done now: follow the best proposal, or schedule.
    fn advance(&mut self, now: Moment, txs: &mut dyn Transactions, out: &mut Vec<Effect>) {
        self.start_queued(now, out);
        let Some(active) = &self.active else { return };
        let (round, own) = (active.round.number(), active.rank);
        match active.discrepancy {
            None => {
                let limit = self.allowed_rank(now).min(active.pool_rank).min(own);
                match self.proposals.best(round, 0, limit, &active.submitted) {
                    Some((rank, proposal)) if rank < own => {
                        self.update_state(now, 0, rank, false, out);
                        self.process_proposal(now, &proposal, rank, false, txs, out);
                    }
                    _ if own <= limit => {
                        let flush = now >= active.started + flush_timeout(&active.round);
                        self.update_state(now, 0, own, false, out);
                        self.schedule(now, flush, txs, out);
                    }
                    // Transactions that were waited for may be there.
                    _ => self.update_state(now, 0, NO_RANK, false, out),
                }
            }
            Some(Discrepancy { rank, .. }) => {
                self.update_state(now, rank, rank, true, out);
                let Some(active) = &self.active else { return };
                if let Some((rank, proposal)) = self.proposals.best(round, rank, rank, &active.submitted) {
                    self.process_proposal(now, &proposal, rank, true, txs, out);
                } else if own == rank {
                    self.schedule(now, true, txs, out);
                }
            }
        }
    }

    /// Leaves a state whose rank is out of bounds, and goes on from one that waits if it has what it waited for.
    fn update_state(&mut self, now: Moment, min: u64, max: u64, discrepancy: bool, out: &mut Vec<Effect>) {
        let rank = match &self.state {
            State::WaitingForBatch | State::Saving(_) => return,
            State::WaitingForTxs(waiting) => waiting.job.rank,
            State::WaitingForEvent { job, .. } | State::Queued { job, .. } | State::Executing { job, .. } => job.rank,
        };
        if rank < min || rank > max {
            self.reset(out);
            return;
        }
        match std::mem::replace(&mut self.state, State::WaitingForBatch) {
            State::WaitingForTxs(waiting) => self.check_waiting(now, waiting, discrepancy, out),
            State::WaitingForEvent { job, batch } if discrepancy => self.execute(now, job, batch, out),
            other => self.state = other,
        }
    }

    fn check_waiting(&mut self, now: Moment, waiting: Box<Waiting>, discrepancy: bool, out: &mut Vec<Effect>) {
        if self.is_too_large(waiting.batch.len(), waiting.bytes) {
            out.push(Effect::StopFetch { id: waiting.fetch });
            self.begin_failure(&waiting.job, out);
        } else if waiting.missing.is_empty() {
            out.push(Effect::StopFetch { id: waiting.fetch });
            let batch = waiting.batch.into_iter().flatten().collect();
            self.wait_or_execute(now, waiting.job, batch, discrepancy, out);
        } else {
            self.state = State::WaitingForTxs(waiting);
        }
    }

    /// Backup workers that are nothing else wait for a discrepancy.
    fn wait_or_execute(&mut self, now: Moment, job: Job, batch: Vec<Tx>, discrepancy: bool, out: &mut Vec<Effect>) {
        if !discrepancy && !self.active.as_ref().is_some_and(|a| a.worker) {
            self.state = State::WaitingForEvent { job, batch };
        } else {
            self.execute(now, job, batch, out);
        }
    }

    fn is_too_large(&self, count: usize, bytes: u64) -> bool {
        let Some(active) = &self.active else { return false };
        let limits = &active.round.descriptor.txn_scheduler;
        let max_bytes = limits.max_batch_size_bytes;
        count as u64 > limits.max_batch_size || (max_bytes > 0 && bytes > max_bytes)
    }

    fn process_proposal(
        &mut self,
        now: Moment,
        proposal: &Arc<Proposal>,
        rank: u64,
        discrepancy: bool,
        txs: &mut dyn Transactions,
        out: &mut Vec<Effect>,
    ) {
        let Some(active) = &self.active else { return };
        if !matches!(self.state, State::WaitingForBatch) || self.runtime.is_none() || now < self.retry_at {
            return;
        }
        if discrepancy && !active.backup {
            return;
        }
        if proposal.header.previous_hash != active.round.block.header.hash() {
            self.proposals.reject(proposal.header.round, rank);
            return;
        }
        let job = Job { rank, scheduler: proposal.node_id, proposal: Some(Arc::clone(proposal)) };
        // What is too long by number alone need not be resolved.
        if self.is_too_large(proposal.batch.len(), 0) {
            self.begin_failure(&job, out);
            return;
        }
        let batch = txs.promote(&proposal.batch).batch;
        let bytes = batch.iter().flatten().map(|tx| tx.data.len() as u64).sum();
        if self.is_too_large(batch.len(), bytes) {
            self.begin_failure(&job, out);
            return;
        }
        let mut missing: BTreeMap<Hash, Vec<usize>> = BTreeMap::new();
        for (position, (hash, tx)) in proposal.batch.iter().zip(&batch).enumerate() {
            if tx.is_none() {
                missing.entry(*hash).or_default().push(position);
            }
        }
        if missing.is_empty() {
            self.wait_or_execute(now, job, batch.into_iter().flatten().collect(), discrepancy, out);
            return;
        }
        let fetch = self.new_id();
        out.push(Effect::Fetch { id: fetch, hashes: missing.keys().copied().collect() });
        self.state = State::WaitingForTxs(Box::new(Waiting { job, batch, missing, bytes, fetch }));
    }

    fn schedule(&mut self, now: Moment, force: bool, txs: &mut dyn Transactions, out: &mut Vec<Effect>) {
        let (Some(active), Some(info)) = (&self.active, self.runtime) else { return };
        if !matches!(self.state, State::WaitingForBatch)
            || now < self.retry_at
            || !active.worker
            || active.submitted.contains(&active.rank)
            || self.epoch_change_next
        {
            return;
        }
        let round = &active.round;
        let reason = force
            || round.has_message_results
            || round.has_incoming_messages
            || round.last_normal_round == round.genesis_round;
        let rank = active.rank;
        let batch = txs.suggest(usize::try_from(info.initial_batch_size).unwrap_or(usize::MAX));
        if batch.is_empty() && !reason {
            return;
        }
        let job = Job { rank, scheduler: self.setup.node, proposal: None };
        self.execute(now, job, batch, out);
    }

    /// Lets the runtime execute, now or when it has done with what it does.
    fn execute(&mut self, now: Moment, job: Job, batch: Vec<Tx>, out: &mut Vec<Effect>) {
        if let Some(proposal) = &job.proposal
            && input_root(&batch) != Some(proposal.header.batch_hash)
        {
            self.proposals.reject(proposal.header.round, job.rank);
            self.state = State::WaitingForBatch;
            return;
        }
        self.state = State::Queued { job, batch };
        self.start_queued(now, out);
    }

    fn start_queued(&mut self, now: Moment, out: &mut Vec<Effect>) {
        let State::Queued { .. } = self.state else { return };
        if self.running.is_some() {
            return;
        }
        let State::Queued { job, batch } = std::mem::replace(&mut self.state, State::WaitingForBatch) else { return };
        let Some(active) = &self.active else { return };
        let round = active.round.number();
        let within = proposer_timeout(&active.round).saturating_mul(EXECUTION_FACTOR);
        let id = self.new_id();
        self.running = Some(Running { id, deadline: now.saturating_add(within) });
        let (mode, io_root) = match &job.proposal {
            Some(proposal) => (ExecutionMode::EXECUTE, proposal.header.batch_hash),
            None => (ExecutionMode::SCHEDULE, Hash::default()),
        };
        self.state = State::Executing { job, id };
        out.push(Effect::Execute(Execution { id, round, mode, io_root, inputs: batch }));
    }
}

/// A positive duration of so many nanoseconds; zero otherwise.
fn nanos(n: i64) -> Duration {
    Duration::from_nanos(u64::try_from(n).unwrap_or(0))
}

fn proposer_timeout(round: &Round) -> Duration {
    nanos(round.descriptor.txn_scheduler.proposer_timeout).max(MIN_PROPOSER_TIMEOUT)
}

fn flush_timeout(round: &Round) -> Duration {
    nanos(round.descriptor.txn_scheduler.batch_flush_timeout)
}

/// Root of the tree of a batch's inputs; nothing if an input is empty.
pub(super) fn input_root(batch: &[Tx]) -> Option<Hash> {
    let inputs: Vec<base_codec::Bytes> = batch.iter().map(|tx| tx.data.to_vec().into()).collect();
    let mut tree = Tree::in_memory();
    for (key, value) in input_pairs(&inputs).ok()? {
        tree.insert(&key, &value).ok()?;
    }
    Some(tree.root_hash(&Sequential))
}
