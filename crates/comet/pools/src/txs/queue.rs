//! The transactions of the pool, by arrival, hash, sender and priority.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::time::Instant;

use bytes::Bytes;
use comet_core::PeerId;
use wire_cometbft::merkle::Hash;

/// Peers remembered per transaction as having it; beyond that, a peer may get a transaction back that it sent.
pub const MAX_SENDERS_PER_TX: usize = 128;

/// Place of a transaction in the order of arrival; never used twice.
pub(crate) type Seq = u64;

/// A transaction that the application found good.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Bytes.
    pub(crate) tx: Bytes,
    /// SHA-256 of the bytes.
    pub(crate) hash: Hash,
    /// Last committed height when it came.
    pub(crate) height: i64,
    /// When it came.
    pub(crate) since: Instant,
    /// Most gas that it may use.
    pub(crate) gas_wanted: i64,
    /// Higher goes first.
    pub(crate) priority: i64,
    /// Sender as the application names it; empty: not restricted.
    pub(crate) sender: String,
    /// Peers that sent it.
    pub(crate) peers: Vec<PeerId>,
}

impl Entry {
    /// Remembers that a peer has it.
    pub(crate) fn add_peer(&mut self, peer: &PeerId) {
        if self.peers.len() < MAX_SENDERS_PER_TX && !self.peers.contains(peer) {
            self.peers.push(peer.clone());
        }
    }

    fn size(&self) -> u64 {
        self.tx.len() as u64
    }
}

/// Bytes that a transaction takes in the list of a block: key, length, content.
pub(crate) fn encoded_size(len: usize) -> i64 {
    let bits = usize::BITS - (len | 1).leading_zeros();
    let prefix = 1 + bits.div_ceil(7) as usize;
    i64::try_from(len.saturating_add(prefix)).unwrap_or(i64::MAX)
}

/// All transactions; no two have the same hash or the same non-empty sender.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    by_arrival: BTreeMap<Seq, Entry>,
    by_hash: HashMap<Hash, Seq>,
    by_sender: HashMap<String, Seq>,
    by_priority: BTreeSet<(Reverse<i64>, Seq)>,
    next: Seq,
    bytes: u64,
}

impl Queue {
    /// Number of transactions.
    pub(crate) fn len(&self) -> usize {
        self.by_arrival.len()
    }

    /// Bytes of all transactions.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends a transaction whose hash and sender are not there yet.
    pub(crate) fn insert(&mut self, entry: Entry) -> Seq {
        self.next += 1;
        let seq = self.next;
        self.bytes += entry.size();
        self.by_hash.insert(entry.hash, seq);
        if !entry.sender.is_empty() {
            self.by_sender.insert(entry.sender.clone(), seq);
        }
        self.by_priority.insert((Reverse(entry.priority), seq));
        self.by_arrival.insert(seq, entry);
        seq
    }

    /// Takes a transaction out.
    pub(crate) fn remove(&mut self, seq: Seq) -> Option<Entry> {
        let entry = self.by_arrival.remove(&seq)?;
        self.bytes -= entry.size();
        self.by_hash.remove(&entry.hash);
        if !entry.sender.is_empty() {
            self.by_sender.remove(&entry.sender);
        }
        self.by_priority.remove(&(Reverse(entry.priority), seq));
        Some(entry)
    }

    /// Takes a transaction out.
    pub(crate) fn remove_hash(&mut self, hash: &Hash) -> Option<Entry> {
        self.by_hash.get(hash).copied().and_then(|seq| self.remove(seq))
    }

    /// The transaction with that hash.
    pub(crate) fn get_mut(&mut self, hash: &Hash) -> Option<&mut Entry> {
        self.by_hash.get(hash).and_then(|seq| self.by_arrival.get_mut(seq))
    }

    /// Whether there is a transaction with that hash.
    pub(crate) fn contains(&self, hash: &Hash) -> bool {
        self.by_hash.contains_key(hash)
    }

    /// The transaction of a sender.
    pub(crate) fn of_sender(&self, sender: &str) -> Option<&Entry> {
        self.by_sender.get(sender).and_then(|seq| self.by_arrival.get(seq))
    }

    /// Changes a priority; the place in the order of arrival stays.
    pub(crate) fn set_priority(&mut self, seq: Seq, priority: i64) {
        if let Some(entry) = self.by_arrival.get_mut(&seq) {
            self.by_priority.remove(&(Reverse(entry.priority), seq));
            entry.priority = priority;
            self.by_priority.insert((Reverse(priority), seq));
        }
    }

    /// What to give up for `size` bytes of that priority: transactions of lower priority, lowest and newest first, as
    /// few as free at least `size` bytes. `None` if all of them would not do.
    pub(crate) fn victims(&self, size: u64, priority: i64) -> Option<Vec<Seq>> {
        let mut victims = Vec::new();
        let mut freed = 0;
        for &(Reverse(theirs), seq) in self.by_priority.iter().rev() {
            if theirs >= priority {
                return None;
            }
            victims.push(seq);
            freed += self.by_arrival.get(&seq).map_or(0, Entry::size);
            if freed >= size {
                return Some(victims);
            }
        }
        None
    }

    /// Transactions by priority, then arrival, as long as their encoded bytes and their gas stay within the limits;
    /// negative: no limit.
    pub(crate) fn reap(&self, max_bytes: i64, max_gas: i64) -> Vec<Bytes> {
        let (mut bytes, mut gas) = (0_i64, 0_i64);
        let mut out = Vec::new();
        for (_, seq) in &self.by_priority {
            let Some(entry) = self.by_arrival.get(seq) else { continue };
            bytes = bytes.saturating_add(encoded_size(entry.tx.len()));
            gas = gas.saturating_add(entry.gas_wanted);
            if (max_bytes >= 0 && bytes > max_bytes) || (max_gas >= 0 && gas > max_gas) {
                break;
            }
            out.push(entry.tx.clone());
        }
        out
    }

    /// The first transaction that came after that one.
    pub(crate) fn after(&self, seq: Seq) -> Option<(Seq, &Entry)> {
        self.by_arrival.range((Bound::Excluded(seq), Bound::Unbounded)).next().map(|(seq, entry)| (*seq, entry))
    }

    /// All transactions in order of arrival.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Seq, &Entry)> {
        self.by_arrival.iter().map(|(seq, entry)| (*seq, entry))
    }

    /// Takes everything out.
    pub(crate) fn clear(&mut self) {
        *self = Self { next: self.next, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use wire_cometbft::codec::Message;
    use wire_cometbft::mempool::Txs;

    use super::*;

    #[test]
    fn encoded_sizes_are_those_of_the_codec() {
        for len in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152] {
            let encoded = Txs { txs: vec![vec![7; len]] }.encoded_len();
            assert_eq!(encoded_size(len), encoded as i64, "length {len}");
        }
        assert_eq!(encoded_size(usize::MAX), i64::MAX);
    }
}
