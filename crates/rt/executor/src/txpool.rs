//! A runtime's transaction pool: transactions that wait for checks, for a batch, or for being published again.
//!
//! A transaction is checked by the runtime, in batches; what passes is queued by sender and priority and gossiped. Source:
//! `go/runtime/txpool`. The pool does nothing by itself: calls change it, [`Pool::poll`] says what is to be done now and
//! [`Pool::next_wakeup`] when to ask again. Where the reference leaves memory unbounded, the pool counts bytes too.

mod check_queue;
mod main_queue;
mod seen;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use base_prims::Hash;
use wire_consensus::roothash::IncomingMessage;
use wire_runtime::runtime::CheckTxResult;

pub use check_queue::{CheckQueue, MAX_CHECK_BYTES, Pending};
pub use main_queue::{MAX_SCHEDULE, MainQueue, Refused, Schedule};
pub use seen::Seen;

use crate::Moment;

/// Longest time a batch of checks may take in the runtime. Source: `checkTxTimeout`.
pub const CHECK_TIME: Duration = Duration::from_secs(15);
/// The pause before a failed batch is checked again. Source: `checkTxRetryDelay`.
pub const CHECK_RETRY: Duration = Duration::from_secs(1);
/// How long a batch of checks waits for the round's state. Source: `checkTxWaitRoundSyncedTimeout`.
pub const SYNC_WAIT: Duration = Duration::from_secs(5);
/// Most transactions published again at once. Source: `maxRepublishTxs`.
pub const MAX_REPUBLISH: usize = 128;
/// Most transactions published for the first time at once, and the pause before more of them: what the queues of gossip
/// hold. (The reference counts them among those of [`MAX_REPUBLISH`], which bounds what clients of one node can send.)
pub const MAX_PUBLISH: usize = 512;
/// See [`MAX_PUBLISH`].
pub const PUBLISH_PAUSE: Duration = Duration::from_millis(50);
/// The pause after a block before new transactions are published: about what a block takes to spread. Source:
/// `newBlockPublishDelay`.
pub const NEW_BLOCK_PUBLISH_DELAY: Duration = Duration::from_millis(200);
/// The pause before publishing goes on after [`MAX_REPUBLISH`], or after a failure. Source:
/// `republishLimitReinvokeTimeout`.
pub const REPUBLISH_AGAIN: Duration = Duration::from_secs(1);
/// Longest transaction that is published: gossip messages have at most 1 MiB, envelope included. Longer ones wait for this
/// node's own turn to schedule.
pub const MAX_PUBLISH_BYTES: usize = (1 << 20) - 1024;
/// Most bytes of the transactions of proposals in one round.
pub const MAX_PROPOSED_BYTES: usize = 128 << 20;
/// Who waits for one and the same transaction, at most.
pub const MAX_TICKETS: usize = 64;

/// Module of the pool's errors in check results.
pub const MODULE: &str = "txpool";
/// Code of a transaction that passed its check but was not queued.
pub const CODE_NOT_QUEUED: u32 = 1;

/// A transaction: hash and bytes. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tx {
    /// Hash of the bytes.
    pub hash: Hash,
    /// The bytes.
    pub data: Arc<[u8]>,
}

impl Tx {
    /// Computes the hash.
    pub fn new(data: impl Into<Arc<[u8]>>) -> Self {
        let data = data.into();
        Self { hash: Hash::of(&[&data]), data }
    }
}

/// Names somebody who waits for the result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Settings; the names in the configuration file are `runtime.tx_pool.*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Most transactions in the main queue (`schedule_max_tx_pool_size`).
    pub max_txs: usize,
    /// Most bytes of the transactions in the main queue, and again in the check queue.
    pub max_bytes: usize,
    /// Transactions to remember as seen (`schedule_tx_cache_size`).
    pub seen_cache: usize,
    /// Most transactions in a batch of checks (`check_tx_max_batch_size`).
    pub check_batch: usize,
    /// Rounds after which all transactions are checked again (`recheck_interval`).
    pub recheck_rounds: u64,
    /// Time after which a transaction is published again (`republishinterval`).
    pub republish: Duration,
    /// Least value of `republish` that the network allows.
    pub min_republish: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_txs: 50_000,
            max_bytes: 512 << 20,
            seen_cache: 100_000,
            check_batch: 128,
            recheck_rounds: 5,
            republish: Duration::from_secs(60),
            min_republish: Duration::from_secs(125),
        }
    }
}

/// Why a transaction is not taken. The texts are the reference's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// It was seen before.
    #[error("duplicate transaction")]
    Duplicate,
    /// Too many wait for checks.
    #[error("check queue is full")]
    Full,
    /// It is longer than [`MAX_CHECK_BYTES`].
    #[error("transaction is too large")]
    TooLarge,
}

/// Where a transaction comes from and what is to become of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// From this node's own clients: published at once.
    pub local: bool,
    /// Only checked, then forgotten.
    pub discard: bool,
}

/// How a batch of checks went.
#[derive(Clone, Debug, PartialEq)]
pub enum Checked {
    /// One result per transaction, in order.
    Results(Vec<CheckTxResult>),
    /// The round's state was not there in time; the runtime was not asked.
    NotSynced,
    /// The runtime answered with an error, or was not there.
    Failed,
    /// The runtime took longer than [`CHECK_TIME`].
    TimedOut,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Wait up to [`SYNC_WAIT`] for the state of the newest block, let the runtime check the batch within [`CHECK_TIME`],
    /// and call [`Pool::checked`] with this number.
    Check {
        /// Number of the batch.
        batch: u64,
        /// The transactions.
        txs: Vec<Tx>,
    },
    /// The runtime hangs: ask it to abort.
    AbortRuntime,
    /// Somebody gets the result of a check.
    Answer {
        /// Who.
        ticket: Ticket,
        /// The result.
        result: CheckTxResult,
    },
    /// Gossip a transaction; on failure call [`Pool::publish_failed`].
    Publish(Tx),
    /// New transactions can be scheduled; proposals may have waited for them.
    Available(Vec<Tx>),
}

/// A batch of hashes resolved to transactions as far as they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// The transactions in the batch's order.
    pub batch: Vec<Option<Tx>>,
}

impl Resolved {
    /// Hashes that are not known, each once.
    pub fn missing(&self, batch: &[Hash]) -> Vec<Hash> {
        let unknown = batch.iter().zip(&self.batch).filter(|(_, tx)| tx.is_none()).map(|(hash, _)| *hash);
        unknown.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// What the pool holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Waiting for a check.
    pub checking: usize,
    /// Waiting for a batch.
    pub main: usize,
    /// From incoming messages.
    pub incoming: usize,
    /// Accepted so far.
    pub accepted: u64,
    /// Rejected by checks so far.
    pub rejected: u64,
}

/// The pool.
#[derive(Debug)]
pub struct Pool {
    config: Config,
    seen: Seen,
    checks: CheckQueue,
    /// The batch that the runtime has.
    in_flight: Option<(u64, Vec<Pending>)>,
    next_batch: u64,
    /// Of those that wait for a check or are being checked: what is in a block already.
    included: BTreeSet<Hash>,
    retry_at: Moment,
    main: MainQueue,
    incoming: HashMap<Hash, Tx>,
    proposed: HashMap<Hash, Tx>,
    proposed_bytes: usize,
    /// When the newest block came, if one did: before, nothing is checked.
    block_at: Option<Moment>,
    round: u64,
    recheck_round: u64,
    /// When to publish what is in the main queue.
    publish_at: BTreeSet<(Moment, Hash)>,
    publish_due: HashMap<Hash, Moment>,
    publish_not_before: Moment,
    /// The same for what was published before.
    again_not_before: Moment,
    effects: Vec<Effect>,
    accepted: u64,
    rejected: u64,
}

impl Pool {
    /// An empty pool.
    pub fn new(config: Config) -> Self {
        // Room for a full main queue that is checked again.
        let max_checks = config.max_txs.saturating_add(config.max_txs / 10);
        Self {
            config,
            seen: Seen::new(config.seen_cache),
            checks: CheckQueue::new(max_checks, config.max_bytes, config.check_batch),
            in_flight: None,
            next_batch: 0,
            included: BTreeSet::new(),
            retry_at: Moment::ZERO,
            main: MainQueue::new(config.max_txs, config.max_bytes),
            incoming: HashMap::new(),
            proposed: HashMap::new(),
            proposed_bytes: 0,
            block_at: None,
            round: 0,
            recheck_round: 0,
            publish_at: BTreeSet::new(),
            publish_due: HashMap::new(),
            publish_not_before: Moment::ZERO,
            again_not_before: Moment::ZERO,
            effects: Vec::new(),
            accepted: 0,
            rejected: 0,
        }
    }

    /// Queues a transaction for its check. The ticket, if any, is answered by [`Effect::Answer`].
    ///
    /// # Errors
    /// If it is not taken; nobody is answered then.
    pub fn submit(&mut self, data: Vec<u8>, origin: Origin, ticket: Option<Ticket>) -> Result<Hash, SubmitError> {
        if data.len() > MAX_CHECK_BYTES {
            return Err(SubmitError::TooLarge);
        }
        let tx = Tx::new(data);
        let hash = tx.hash;
        if self.seen.contains(&hash) {
            return Err(SubmitError::Duplicate);
        }
        if self.checks.get(&hash).is_some() {
            // It waits for its check already: whoever wants to know shares the result.
            let Some(ticket) = ticket else { return Err(SubmitError::Duplicate) };
            if let Some(same) = self.checks.waiting(&hash)
                && same.discard == origin.discard
                && same.tickets.len() < MAX_TICKETS
            {
                same.local |= origin.local;
                same.tickets.push(ticket);
                return Ok(hash);
            }
        }
        if !self.checks.has_room(tx.data.len()) {
            return Err(SubmitError::Full);
        }
        let Origin { local, discard } = origin;
        self.checks.push(Pending { tx, local, discard, checked: false, tickets: ticket.into_iter().collect() });
        Ok(hash)
    }

    /// Adds transactions of a proposal that peers had: to those of the round's proposals, and for checks as far as there
    /// is room. Returns those that were kept.
    pub fn submit_proposed(&mut self, batch: Vec<Vec<u8>>) -> Vec<Tx> {
        let mut kept = Vec::new();
        for data in batch {
            let tx = Tx::new(data);
            if self.propose(&tx) {
                let _ = self.submit(tx.data.to_vec(), Origin::default(), None);
                kept.push(tx);
            }
        }
        kept
    }

    /// Keeps a transaction of a proposal until the round ends; whether there was room.
    fn propose(&mut self, tx: &Tx) -> bool {
        if self.proposed.contains_key(&tx.hash) {
            return true;
        }
        let bytes = self.proposed_bytes.saturating_add(tx.data.len());
        if bytes > MAX_PROPOSED_BYTES {
            return false;
        }
        self.proposed_bytes = bytes;
        self.proposed.insert(tx.hash, tx.clone());
        true
    }

    /// The transaction, wherever it waits.
    pub fn get(&self, hash: &Hash) -> Option<&Tx> {
        self.incoming
            .get(hash)
            .or_else(|| self.main.get(hash))
            .or_else(|| self.proposed.get(hash))
            .or_else(|| self.checks.get(hash))
    }

    /// Resolves a proposal's hashes; what is found stays until the round ends.
    pub fn promote(&mut self, batch: &[Hash]) -> Resolved {
        let batch: Vec<Option<Tx>> = batch.iter().map(|hash| self.get(hash).cloned()).collect();
        for tx in batch.iter().flatten() {
            self.propose(tx);
        }
        Resolved { batch }
    }

    /// Forgets the transactions of the round's proposals.
    pub fn clear_proposed(&mut self) {
        self.proposed.clear();
        self.proposed_bytes = 0;
    }

    /// The runtime threw these out of a batch: they are dropped and may be submitted again.
    pub fn reject(&mut self, hashes: &[Hash]) {
        for hash in hashes {
            self.seen.remove(hash);
        }
        self.take_out(hashes);
    }

    /// These are in a block: they leave the pool, are not queued when a check that is under way ends, and count as seen.
    pub fn used(&mut self, hashes: &[Hash]) {
        for hash in hashes {
            if self.checks.get(hash).is_some() {
                self.included.insert(*hash);
            }
            if !self.seen.contains(hash) {
                self.seen.put(*hash, None);
            }
        }
        self.take_out(hashes);
    }

    fn take_out(&mut self, hashes: &[Hash]) {
        let gone = self.main.used(hashes);
        self.forget_publishing(&gone);
    }

    /// Begins a schedule: the best transactions, at most `limit`.
    pub fn suggest(&mut self, limit: usize) -> Vec<Tx> {
        self.main.schedule(limit)
    }

    /// Goes on with the schedule.
    pub fn suggest_extra(&mut self, limit: usize) -> Vec<Tx> {
        self.main.schedule_extra(limit)
    }

    /// Replaces the transactions in incoming messages. They serve to resolve proposals only.
    pub fn load_incoming(&mut self, messages: &[IncomingMessage]) {
        let data = messages.iter().map(|m| m.data.as_ref().map_or_else(Vec::new, |d| d.0.clone()));
        self.incoming = data.map(Tx::new).map(|tx| (tx.hash, tx)).collect();
    }

    /// A new block of the runtime: checks are made against it.
    pub fn new_block(&mut self, now: Moment, round: u64) {
        self.block_at = Some(now);
        self.round = round;
        if round.saturating_sub(self.recheck_round) > self.config.recheck_rounds {
            self.recheck();
        }
    }

    /// Checks all queued transactions again, as when the committee changes. Before the first block there is nothing to
    /// check against.
    pub fn recheck(&mut self) {
        if self.block_at.is_none() {
            return;
        }
        self.recheck_round = self.round;
        let again = |tx| Pending { tx, local: false, discard: false, checked: true, tickets: Vec::new() };
        let all: Vec<Pending> = self.main.drain().into_iter().map(again).collect();
        self.publish_at.clear();
        self.publish_due.clear();
        self.checks.push_front(all);
    }

    /// Number of transactions and so on.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            checking: self.checks.len() + self.in_flight.as_ref().map_or(0, |(_, batch)| batch.len()),
            main: self.main.len(),
            incoming: self.incoming.len(),
            accepted: self.accepted,
            rejected: self.rejected,
        }
    }

    /// All transactions that can be scheduled or resolved, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Tx> {
        self.incoming.values().chain(self.main.iter())
    }

    /// A batch of checks is over. Numbers of batches that are over already are passed over.
    pub fn checked(&mut self, now: Moment, batch: u64, outcome: Checked) {
        let Some((_, pending)) = self.in_flight.take_if(|(number, _)| *number == batch) else { return };
        match outcome {
            Checked::Results(results) if results.len() == pending.len() => self.take_results(now, pending, results),
            Checked::NotSynced => self.checks.retry(pending),
            outcome => {
                if outcome == Checked::TimedOut {
                    self.effects.push(Effect::AbortRuntime);
                }
                self.checks.retry(pending);
                self.retry_at = now + CHECK_RETRY;
            }
        }
    }

    fn take_results(&mut self, now: Moment, pending: Vec<Pending>, results: Vec<CheckTxResult>) {
        let mut new = Vec::new();
        // A batch is checked against one state, so a sender's number there is the one of its first transaction: runtimes
        // of the SDK count it up during the batch.
        let mut state_seqs: HashMap<Vec<u8>, u64> = HashMap::new();
        for (pending, mut result) in pending.into_iter().zip(results) {
            self.checks.done(&pending.tx);
            let hash = pending.tx.hash;
            let included = self.included.contains(&hash);
            if included && self.checks.get(&hash).is_none() {
                self.included.remove(&hash);
            }
            if result.error.code != 0 {
                self.rejected += 1;
                self.seen.remove(&hash);
            } else if !pending.discard && !included {
                let meta = result.meta.clone().into_option().unwrap_or_default();
                let state_seq = *state_seqs.entry(meta.sender.0.clone()).or_insert(meta.sender_state_seq);
                let (priority, seq) = (meta.priority, meta.sender_seq);
                let how = Schedule { priority, sender: meta.sender.0, seq, state_seq };
                match self.main.add(pending.tx.clone(), &how) {
                    Ok(dropped) => {
                        self.forget_publishing(&dropped);
                        self.queued(now, &pending, &mut new);
                    }
                    Err(refused) => {
                        result.error.module = MODULE.to_owned();
                        result.error.code = CODE_NOT_QUEUED;
                        result.error.message = refused.to_string();
                    }
                }
            }
            for ticket in pending.tickets {
                self.effects.push(Effect::Answer { ticket, result: result.clone() });
            }
        }
        if !new.is_empty() {
            let block_at = self.block_at.unwrap_or(now);
            self.publish_not_before = self.publish_not_before.max(block_at + NEW_BLOCK_PUBLISH_DELAY);
            self.effects.push(Effect::Available(new));
        }
    }

    /// A transaction is in the main queue.
    fn queued(&mut self, now: Moment, pending: &Pending, new: &mut Vec<Tx>) {
        let hash = pending.tx.hash;
        if !pending.checked {
            self.accepted += 1;
            new.push(pending.tx.clone());
            // What comes from elsewhere was published just now by somebody else.
            self.seen.put(hash, (!pending.local).then_some(now));
        }
        if pending.tx.data.len() > MAX_PUBLISH_BYTES {
            return;
        }
        let due = self.seen.published(&hash).map_or(Moment::ZERO, |at| at + self.republish_interval());
        self.set_due(hash, due);
    }

    fn republish_interval(&self) -> Duration {
        self.config.republish.max(self.config.min_republish)
    }

    fn set_due(&mut self, hash: Hash, due: Moment) {
        if let Some(old) = self.publish_due.insert(hash, due) {
            self.publish_at.remove(&(old, hash));
        }
        self.publish_at.insert((due, hash));
    }

    fn forget_publishing(&mut self, hashes: &[Hash]) {
        for hash in hashes {
            if let Some(due) = self.publish_due.remove(hash) {
                self.publish_at.remove(&(due, *hash));
            }
        }
    }

    /// A transaction could not be gossiped: it is tried again soon.
    pub fn publish_failed(&mut self, now: Moment, hash: &Hash) {
        if self.main.get(hash).is_some() {
            self.seen.put(*hash, None);
            self.set_due(*hash, now + REPUBLISH_AGAIN);
        }
    }

    fn publish(&mut self, now: Moment) {
        if now < self.publish_not_before {
            return;
        }
        let (mut new, mut again) = (0, 0);
        // What was never published comes first: it is due since the beginning of time.
        while let Some((due, hash)) = self.publish_at.first().copied().filter(|(due, _)| *due <= now) {
            let (count, max, pause) = if due == Moment::ZERO {
                (&mut new, MAX_PUBLISH, PUBLISH_PAUSE)
            } else {
                (&mut again, MAX_REPUBLISH, REPUBLISH_AGAIN)
            };
            let not_before =
                if due == Moment::ZERO { &mut self.publish_not_before } else { &mut self.again_not_before };
            if now < *not_before {
                break;
            }
            if *count == max {
                *not_before = now + pause;
                break;
            }
            *count += 1;
            self.publish_at.remove(&(due, hash));
            self.publish_due.remove(&hash);
            let Some(tx) = self.main.get(&hash).cloned() else { continue };
            self.seen.put(hash, Some(now));
            self.set_due(hash, now + self.republish_interval());
            self.effects.push(Effect::Publish(tx));
        }
    }

    /// What is to be done now.
    pub fn poll(&mut self, now: Moment) -> Vec<Effect> {
        if self.block_at.is_some() && self.in_flight.is_none() && now >= self.retry_at && !self.checks.is_empty() {
            let pending = self.checks.pop();
            let batch = self.next_batch;
            self.next_batch += 1;
            self.effects.push(Effect::Check { batch, txs: pending.iter().map(|p| p.tx.clone()).collect() });
            self.in_flight = Some((batch, pending));
        }
        if self.block_at.is_some() {
            self.publish(now);
        }
        std::mem::take(&mut self.effects)
    }

    /// When [`Pool::poll`] will have something to do by itself; it may have at once after any other call.
    pub fn next_wakeup(&self) -> Option<Moment> {
        self.block_at?;
        let check = (self.in_flight.is_none() && !self.checks.is_empty()).then_some(self.retry_at);
        let publish = self.publish_at.first().map(|(due, _)| {
            let again = if *due == Moment::ZERO { Moment::ZERO } else { self.again_not_before };
            (*due).max(self.publish_not_before).max(again)
        });
        check.into_iter().chain(publish).min()
    }
}
