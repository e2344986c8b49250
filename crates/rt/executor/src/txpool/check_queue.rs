//! Transactions that wait for the runtime to check them, in order of arrival. Source:
//! `go/runtime/txpool/check_queue.go`.

use std::collections::{HashMap, VecDeque};

use base_prims::Hash;

use super::{Ticket, Tx};

/// Most bytes of a batch of checks, and of one transaction. Source: `maxBatchBytes`.
pub const MAX_CHECK_BYTES: usize = 31 << 20;

/// A transaction to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The transaction.
    pub tx: Tx,
    /// Whether it came from this node's own clients.
    pub local: bool,
    /// Whether it is only checked, not queued.
    pub discard: bool,
    /// Whether it passed a check before.
    pub checked: bool,
    /// Who waits for the result.
    pub tickets: Vec<Ticket>,
}

/// The queue.
#[derive(Debug)]
pub struct CheckQueue {
    max_txs: usize,
    max_bytes: usize,
    max_batch: usize,
    bytes: usize,
    queue: VecDeque<Pending>,
    /// What is queued or being checked, and how often.
    index: HashMap<Hash, (Tx, usize)>,
}

impl CheckQueue {
    /// An empty queue for so many transactions and bytes, with batches of at most `max_batch`.
    pub fn new(max_txs: usize, max_bytes: usize, max_batch: usize) -> Self {
        let max_batch = max_batch.max(1);
        Self { max_txs, max_bytes, max_batch, bytes: 0, queue: VecDeque::new(), index: HashMap::new() }
    }

    /// Number of transactions that wait, those being checked left out.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none wait.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// A transaction that waits or is being checked.
    pub fn get(&self, hash: &Hash) -> Option<&Tx> {
        self.index.get(hash).map(|(tx, _)| tx)
    }

    /// Whether there is room for a transaction of so many bytes.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.queue.len() < self.max_txs && self.bytes.saturating_add(bytes) <= self.max_bytes
    }

    /// The transaction that waits, to add somebody who wants to know.
    pub fn waiting(&mut self, hash: &Hash) -> Option<&mut Pending> {
        if !self.index.contains_key(hash) {
            return None;
        }
        self.queue.iter_mut().find(|p| p.tx.hash == *hash)
    }

    fn enter(&mut self, pending: &Pending) {
        self.bytes = self.bytes.saturating_add(pending.tx.data.len());
        self.index.entry(pending.tx.hash).or_insert_with(|| (pending.tx.clone(), 0)).1 += 1;
    }

    /// Takes a transaction that was popped off the books.
    pub fn done(&mut self, tx: &Tx) {
        self.bytes = self.bytes.saturating_sub(tx.data.len());
        if let Some((_, count)) = self.index.get_mut(&tx.hash) {
            *count -= 1;
            if *count == 0 {
                self.index.remove(&tx.hash);
            }
        }
    }

    /// Adds a transaction at the end.
    pub fn push(&mut self, pending: Pending) {
        self.enter(&pending);
        self.queue.push_back(pending);
    }

    /// Adds transactions that were queued before at the front, whatever the limits.
    pub fn push_front(&mut self, all: Vec<Pending>) {
        for pending in all.into_iter().rev() {
            self.enter(&pending);
            self.queue.push_front(pending);
        }
    }

    /// Puts a popped batch back at the front.
    pub fn retry(&mut self, batch: Vec<Pending>) {
        for pending in batch.into_iter().rev() {
            self.queue.push_front(pending);
        }
    }

    /// The next batch to check. Its transactions count as queued until they are [`CheckQueue::done`].
    pub fn pop(&mut self) -> Vec<Pending> {
        let mut bytes = 0usize;
        let mut out = Vec::new();
        while out.len() < self.max_batch {
            let Some(next) = self.queue.front() else { break };
            bytes = bytes.saturating_add(next.tx.data.len());
            if bytes > MAX_CHECK_BYTES && !out.is_empty() {
                break;
            }
            out.extend(self.queue.pop_front());
        }
        out
    }
}
