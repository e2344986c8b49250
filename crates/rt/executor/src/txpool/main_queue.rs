//! The queue of checked transactions: which to schedule next, which to drop when there are too many.
//!
//! Each sender's transactions follow one another by sequence number without gaps; among the senders the highest
//! priority goes first, and the older transaction if priorities are equal. Source: `go/runtime/txpool/main_queue*.go`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use base_prims::Hash;

use super::Tx;

/// Most transactions that one call to [`MainQueue::schedule`] gives. Source: `maxBatchSize`.
pub const MAX_SCHEDULE: usize = 100;

/// How the runtime wants a transaction scheduled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Higher goes first.
    pub priority: u64,
    /// The sender; those without one share one.
    pub sender: Vec<u8>,
    /// Number of the transaction among the sender's.
    pub seq: u64,
    /// Number of the sender's next transaction in the state.
    pub state_seq: u64,
}

/// Why a checked transaction is not queued. The texts are the reference's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its number lies before the sender's next one.
    #[error("transaction expired")]
    Expired,
    /// Another one of the same number has at least its priority.
    #[error("replacement transaction underpriced")]
    ReplacementUnderpriced,
    /// The queue is full of better ones.
    #[error("transaction underpriced")]
    Underpriced,
}

/// Place in the order of eviction: the least goes first, of equals the newest.
type Worth = (u64, Reverse<u64>, Hash);
/// Place in the order of scheduling: the least goes first.
type Turn = (Reverse<u64>, u64, Hash);

#[derive(Debug)]
struct Entry {
    tx: Tx,
    sender: Arc<[u8]>,
    seq: u64,
    priority: u64,
    /// Number of the transaction's arrival.
    age: u64,
}

impl Entry {
    fn worth(&self) -> Worth {
        (self.priority, Reverse(self.age), self.tx.hash)
    }

    fn turn(&self) -> Turn {
        (Reverse(self.priority), self.age, self.tx.hash)
    }
}

#[derive(Debug, Default)]
struct Sender {
    /// The sender's next number in the state, as far as known.
    state_seq: u64,
    txs: BTreeMap<u64, Hash>,
    /// Its transaction in `MainQueue::ready`.
    ready: Option<Turn>,
}

/// The queue.
#[derive(Debug)]
pub struct MainQueue {
    capacity: usize,
    max_bytes: usize,
    bytes: usize,
    next_age: u64,
    txs: HashMap<Hash, Entry>,
    senders: HashMap<Arc<[u8]>, Sender>,
    by_worth: BTreeSet<Worth>,
    /// The next transaction of each sender that has one.
    ready: BTreeSet<Turn>,
    /// Of the schedule in progress: the last number scheduled, by sender.
    scheduled: HashMap<Arc<[u8]>, u64>,
}

impl MainQueue {
    /// An empty queue for so many transactions and bytes.
    pub fn new(capacity: usize, max_bytes: usize) -> Self {
        Self {
            capacity,
            max_bytes,
            bytes: 0,
            next_age: 0,
            txs: HashMap::new(),
            senders: HashMap::new(),
            by_worth: BTreeSet::new(),
            ready: BTreeSet::new(),
            scheduled: HashMap::new(),
        }
    }

    /// Number of transactions.
    pub fn len(&self) -> usize {
        self.txs.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.txs.is_empty()
    }

    /// Bytes of all transactions.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The transaction of that hash.
    pub fn get(&self, hash: &Hash) -> Option<&Tx> {
        self.txs.get(hash).map(|e| &e.tx)
    }

    /// All transactions, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Tx> {
        self.txs.values().map(|e| &e.tx)
    }

    /// The sender's number that can be scheduled next; nothing after the last number there is.
    fn next_seq(&self, id: &[u8], sender: &Sender) -> Option<u64> {
        match self.scheduled.get(id) {
            None => Some(sender.state_seq),
            Some(last) => last.checked_add(1).map(|next| next.max(sender.state_seq)),
        }
    }

    /// Puts the sender's next transaction, if there is one, in the order of scheduling.
    fn refresh(&mut self, id: &Arc<[u8]>) {
        let Some(sender) = self.senders.get(id) else { return };
        let next = self.next_seq(id, sender).and_then(|seq| sender.txs.get(&seq));
        let turn = next.and_then(|hash| self.txs.get(hash)).map(Entry::turn);
        let Some(sender) = self.senders.get_mut(id) else { return };
        if sender.ready != turn {
            if let Some(old) = sender.ready.take() {
                self.ready.remove(&old);
            }
            if let Some(new) = turn {
                self.ready.insert(new);
            }
            sender.ready = turn;
        }
        if sender.txs.is_empty() {
            self.senders.remove(id);
        }
    }

    /// Removes a transaction; its sender is left to be refreshed.
    fn take(&mut self, hash: &Hash) -> Option<Entry> {
        let entry = self.txs.remove(hash)?;
        self.bytes = self.bytes.saturating_sub(entry.tx.data.len());
        self.by_worth.remove(&entry.worth());
        if let Some(sender) = self.senders.get_mut(&entry.sender) {
            sender.txs.remove(&entry.seq);
        }
        Some(entry)
    }

    /// Moves a sender on: what lies before is expired.
    fn forward(&mut self, id: &Arc<[u8]>, seq: u64) -> Vec<Hash> {
        let Some(sender) = self.senders.get_mut(id) else { return Vec::new() };
        if seq <= sender.state_seq {
            return Vec::new();
        }
        sender.state_seq = seq;
        let expired: Vec<Hash> = sender.txs.range(..seq).map(|(_, hash)| *hash).collect();
        for hash in &expired {
            self.take(hash);
        }
        expired
    }

    /// Queues a transaction. Returns those that had to go for it: expired, replaced or worth less.
    ///
    /// # Errors
    /// If it is not queued; the sender's number in the state is taken note of nevertheless.
    pub fn add(&mut self, tx: Tx, how: &Schedule) -> Result<Vec<Hash>, Refused> {
        let id = match self.senders.get_key_value(how.sender.as_slice()) {
            Some((id, _)) => Arc::clone(id),
            None => Arc::from(how.sender.as_slice()),
        };
        let mut dropped = self.forward(&id, how.state_seq);
        let result = self.insert(&id, tx, how, &mut dropped);
        self.refresh(&id);
        result.map(|()| dropped)
    }

    fn insert(&mut self, id: &Arc<[u8]>, tx: Tx, how: &Schedule, dropped: &mut Vec<Hash>) -> Result<(), Refused> {
        let known = self.senders.get(id);
        if how.seq < known.map_or(how.state_seq, |s| s.state_seq) {
            return Err(Refused::Expired);
        }
        if let Some(old) = known.and_then(|s| s.txs.get(&how.seq)).copied() {
            if self.txs.get(&old).is_some_and(|e| e.priority >= how.priority) {
                return Err(Refused::ReplacementUnderpriced);
            }
            self.take(&old);
            if old != tx.hash {
                dropped.push(old);
            }
        }
        // The same bytes under another sender or number: the runtime changed its mind.
        if let Some(other) = self.take(&tx.hash)
            && other.sender != *id
        {
            self.refresh(&other.sender);
        }
        let hash = tx.hash;
        let age = self.next_age;
        self.next_age += 1;
        let entry = Entry { tx, sender: Arc::clone(id), seq: how.seq, priority: how.priority, age };
        self.bytes = self.bytes.saturating_add(entry.tx.data.len());
        self.by_worth.insert(entry.worth());
        let new = || Sender { state_seq: how.state_seq, ..Sender::default() };
        self.senders.entry(Arc::clone(id)).or_insert_with(new).txs.insert(how.seq, hash);
        self.txs.insert(hash, entry);
        self.trim(id, &hash, dropped)
    }

    /// Drops the transactions that are worth least until the queue fits its limits.
    fn trim(&mut self, id: &Arc<[u8]>, added: &Hash, dropped: &mut Vec<Hash>) -> Result<(), Refused> {
        while self.txs.len() > self.capacity || self.bytes > self.max_bytes {
            let Some((_, _, least)) = self.by_worth.first().copied() else { break };
            let Some(entry) = self.take(&least) else { break };
            if least == *added {
                return Err(Refused::Underpriced);
            }
            dropped.push(least);
            if entry.sender != *id {
                self.refresh(&entry.sender);
            }
        }
        Ok(())
    }

    /// Removes transactions that are in a block and moves their senders on. Returns what is gone, expired ones included.
    pub fn used(&mut self, hashes: &[Hash]) -> Vec<Hash> {
        let mut gone = Vec::new();
        for hash in hashes {
            let Some(entry) = self.take(hash) else { continue };
            gone.push(*hash);
            if let Some(next) = entry.seq.checked_add(1) {
                gone.extend(self.forward(&entry.sender, next));
            }
            self.refresh(&entry.sender);
        }
        gone
    }

    /// Begins a new schedule and gives its first transactions.
    pub fn schedule(&mut self, limit: usize) -> Vec<Tx> {
        let senders: Vec<Arc<[u8]>> = std::mem::take(&mut self.scheduled).into_keys().collect();
        for id in &senders {
            self.refresh(id);
        }
        self.schedule_extra(limit)
    }

    /// Goes on with the schedule.
    pub fn schedule_extra(&mut self, limit: usize) -> Vec<Tx> {
        let mut out = Vec::new();
        while out.len() < limit.min(MAX_SCHEDULE) {
            let Some((_, _, hash)) = self.ready.first().copied() else { break };
            let Some(entry) = self.txs.get(&hash) else { break };
            out.push(entry.tx.clone());
            let (id, seq) = (Arc::clone(&entry.sender), entry.seq);
            self.scheduled.insert(Arc::clone(&id), seq);
            self.refresh(&id);
        }
        out
    }

    /// Removes all transactions, oldest first. The schedule in progress stays, so that what is added again is not
    /// scheduled twice.
    pub fn drain(&mut self) -> Vec<Tx> {
        let mut entries: Vec<Entry> = std::mem::take(&mut self.txs).into_values().collect();
        entries.sort_unstable_by_key(|e| e.age);
        self.senders.clear();
        self.by_worth.clear();
        self.ready.clear();
        self.bytes = 0;
        entries.into_iter().map(|e| e.tx).collect()
    }

    /// Says what is wrong inside, if anything.
    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.bytes, self.iter().map(|t| t.data.len()).sum::<usize>());
        assert_eq!(self.by_worth.len(), self.txs.len());
        assert!(self.txs.len() <= self.capacity && self.bytes <= self.max_bytes);
        assert_eq!(self.senders.values().map(|s| s.txs.len()).sum::<usize>(), self.txs.len());
        let ready: BTreeSet<Turn> = self.senders.values().filter_map(|s| s.ready).collect();
        assert_eq!(ready, self.ready);
        for (id, sender) in &self.senders {
            assert!(!sender.txs.is_empty());
            for (seq, hash) in &sender.txs {
                let e = self.txs.get(hash).unwrap();
                assert!(e.sender == *id && e.seq == *seq && *seq >= sender.state_seq);
            }
        }
    }
}
