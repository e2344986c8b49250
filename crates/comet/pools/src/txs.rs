//! The transaction pool: checked transactions that wait for a block.
//!
//! Reference: `cometbft:mempool/v1/mempool.go` (the priority pool).
//!
//! Locks are taken in the order application, pool. A transaction is checked and put into the pool under the
//! application's lock, and the application's lock is held from `before_commit` to `after_commit`: so no transaction that
//! was checked against an older state gets into the pool after the rest was checked again.

pub(crate) mod cache;
mod config;
pub(crate) mod queue;
pub mod reactor;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use comet_chain::app::{Application, CheckKind, CheckResult, TxResult};
use comet_chain::state::State;
use comet_core::PeerId;
use comet_store::SharedApp;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, broadcast, watch};
use wire_cometbft::limits::max_data_bytes;
use wire_cometbft::merkle::{Hash, sha256};

use cache::SeenCache;
pub use config::{DEFAULT_CACHE_SIZE, DEFAULT_MAX_BYTES, DEFAULT_MAX_TX_BYTES, DEFAULT_MAX_TXS, TxPoolConfig};
pub use queue::MAX_SENDERS_PER_TX;
use queue::{Entry, Queue, Seq, encoded_size};

/// Checks that may wait for the application's lock at a time, each on a thread: one waits, one is being checked.
pub const CONCURRENT_CHECKS: usize = 2;
/// Local submissions that may wait for their check; further ones are refused. Each peer has at most one waiting.
pub const MAX_WAITING_SUBMISSIONS: usize = 256;
/// Notices of dropped transactions kept for a subscriber that lags behind.
pub const DROPPED_BACKLOG: usize = 8192;

/// Why the pool does not take a transaction. Texts are the reference's where clients see them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// Larger than what is gossiped.
    #[error("Tx too large. Max size is {max}, but got {actual}")]
    TooLarge {
        /// Bytes allowed.
        max: usize,
        /// Bytes found.
        actual: usize,
    },
    /// Would not fit in a block.
    #[error("tx size is too big: {size}, max: {max}")]
    TooBigForBlock {
        /// Bytes in the list of a block.
        size: i64,
        /// Bytes that a block has for transactions.
        max: i64,
    },
    /// Seen lately: in the pool, in a block, or being checked.
    #[error("tx already exists in cache")]
    InCache,
    /// The application named a negative amount of gas.
    #[error("gas wanted {0} is negative")]
    NegativeGas(i64),
    /// Wants more gas than a block has.
    #[error("gas wanted {wanted} is greater than max gas {max}")]
    Gas {
        /// Gas wanted.
        wanted: i64,
        /// Gas of a block.
        max: i64,
    },
    /// The sender has a transaction in the pool.
    #[error("rejected valid incoming transaction; tx already exists for sender {sender:?} ({hash})")]
    SenderBusy {
        /// Sender as the application names it.
        sender: String,
        /// Hash of the transaction in the pool, upper-case hex.
        hash: String,
    },
    /// No room, and not enough of lower priority to give up.
    #[error("mempool is full: number of txs {txs} (max: {max_txs}), total txs bytes {bytes} (max: {max_bytes})")]
    Full {
        /// Transactions in the pool.
        txs: usize,
        /// Transactions allowed.
        max_txs: usize,
        /// Bytes in the pool.
        bytes: u64,
        /// Bytes allowed.
        max_bytes: u64,
    },
    /// Too many submissions wait for their check.
    #[error("too many transactions wait to be checked (max: {0})")]
    Busy(usize),
    /// A block is being committed, or its commit failed.
    #[error("mempool is closed while a block is committed")]
    Committing,
    /// The node stops.
    #[error("mempool is stopped")]
    Stopped,
}

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckOutcome {
    /// It is in the pool.
    Added(CheckResult),
    /// The application found it bad.
    Rejected(CheckResult),
    /// The pool did not take it; with the application's verdict if it was asked.
    Refused {
        /// Why.
        error: PoolError,
        /// The application's verdict.
        result: Option<CheckResult>,
    },
}

impl CheckOutcome {
    fn refused(error: PoolError) -> Self {
        Self::Refused { error, result: None }
    }

    /// Whether the transaction went into the pool now.
    pub fn is_added(&self) -> bool {
        matches!(self, Self::Added(_))
    }

    /// The pool's refusal, if there is one.
    pub fn error(&self) -> Option<&PoolError> {
        match self {
            Self::Refused { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// A transaction that left the pool without being in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedTx {
    /// SHA-256 of its bytes.
    pub hash: Hash,
    /// Why.
    pub reason: DropReason,
}

/// Why a transaction left the pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DropReason {
    /// After a block the application found it bad.
    Invalid(CheckResult),
    /// After a block it wants more gas than a block has.
    Unfit(PoolError),
    /// It made room for others.
    Evicted,
    /// It waited too long.
    Expired,
}

/// A transaction on its way to a peer.
#[derive(Debug, Clone)]
pub(crate) struct GossipTx {
    pub(crate) seq: Seq,
    pub(crate) tx: Bytes,
    pub(crate) height: i64,
    /// Whether the peer sent it itself.
    pub(crate) known: bool,
}

#[derive(Debug)]
struct Inner {
    queue: Queue,
    cache: SeenCache,
    /// Last committed height.
    height: i64,
    /// Whether it was told that there are transactions at this height.
    notified: bool,
    committing: bool,
    /// Bytes that a block has for transactions; `None`: not known.
    max_data_bytes: Option<i64>,
    /// Gas of a block; -1: not limited.
    max_gas: i64,
}

/// Transactions by priority, with the hashes of those seen lately.
pub struct TxPool {
    config: TxPoolConfig,
    app: SharedApp,
    inner: Mutex<Inner>,
    /// Place of the newest transaction.
    arrivals: watch::Sender<Seq>,
    available: watch::Sender<i64>,
    dropped: broadcast::Sender<DroppedTx>,
    checks: Arc<Semaphore>,
    submissions: AtomicUsize,
}

impl std::fmt::Debug for TxPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TxPool").field("size", &self.size()).field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

/// One submission that waits; gives its place back however the wait ends.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl TxPool {
    /// An empty pool after the block of that height.
    pub fn new(config: TxPoolConfig, app: SharedApp, height: i64) -> Self {
        let inner = Inner {
            queue: Queue::default(),
            cache: SeenCache::new(config.cache_size),
            height,
            notified: false,
            committing: false,
            max_data_bytes: None,
            max_gas: -1,
        };
        Self {
            config,
            app,
            inner: Mutex::new(inner),
            arrivals: watch::Sender::new(0),
            available: watch::Sender::new(-1),
            dropped: broadcast::Sender::new(DROPPED_BACKLOG),
            checks: Arc::new(Semaphore::new(CONCURRENT_CHECKS)),
            submissions: AtomicUsize::new(0),
        }
    }

    /// The configuration.
    pub fn config(&self) -> &TxPoolConfig {
        &self.config
    }

    /// Takes the limits of the next block from the state after the last one; to be called at start and after each block.
    ///
    /// Transactions in the pool are held against the limits of gas when they are checked again, after the next block.
    pub fn follow(&self, state: &State) {
        let params = &state.consensus_params.block;
        let max_data = max_data_bytes(params.max_bytes, 0, state.validators.len());
        let mut inner = self.inner.lock();
        inner.max_data_bytes = Some(max_data.unwrap_or(0));
        inner.max_gas = params.max_gas;
        inner.height = inner.height.max(state.last_block_height);
    }

    /// Checks a transaction and takes it if it is good and there is room; `from` is the peer that sent it.
    ///
    /// Blocks on the application's lock: for async callers there is [`Self::submit`].
    pub fn check(&self, tx: Bytes, from: Option<&PeerId>) -> CheckOutcome {
        let hash = sha256(&tx);
        self.check_hashed(tx, hash, from)
    }

    /// As [`Self::check`], on a thread for blocking work, in the order of the calls.
    ///
    /// What needs no check is refused without waiting. A check that has begun ends even if the future is dropped.
    pub async fn submit(self: &Arc<Self>, tx: Bytes, from: Option<PeerId>) -> CheckOutcome {
        let hash = sha256(&tx);
        if let Err(error) = self.precheck(&mut self.inner.lock(), &tx, &hash, from.as_ref()) {
            return CheckOutcome::refused(error);
        }
        let waiting = if from.is_none() {
            let before = self.submissions.fetch_add(1, Ordering::Relaxed);
            let waiting = Waiting(&self.submissions);
            if before >= MAX_WAITING_SUBMISSIONS {
                return CheckOutcome::refused(PoolError::Busy(MAX_WAITING_SUBMISSIONS));
            }
            Some(waiting)
        } else {
            None
        };
        let Ok(permit) = Arc::clone(&self.checks).acquire_owned().await else {
            return CheckOutcome::refused(PoolError::Stopped);
        };
        let pool = Arc::clone(self);
        let check = tokio::task::spawn_blocking(move || {
            let outcome = pool.check_hashed(tx, hash, from.as_ref());
            drop(permit);
            outcome
        });
        let outcome = check.await.unwrap_or_else(|_| CheckOutcome::refused(PoolError::Stopped));
        drop(waiting);
        outcome
    }

    fn check_hashed(&self, tx: Bytes, hash: Hash, from: Option<&PeerId>) -> CheckOutcome {
        {
            let mut inner = self.inner.lock();
            if let Err(error) = self.precheck(&mut inner, &tx, &hash, from) {
                return CheckOutcome::refused(error);
            }
            inner.cache.push(hash);
        }
        let mut app = self.app.lock();
        {
            // Only if whoever commits let go of the application in between.
            let mut inner = self.inner.lock();
            if inner.committing {
                inner.cache.remove(&hash);
                return CheckOutcome::refused(PoolError::Committing);
            }
        }
        let result = app.check_tx(&tx, CheckKind::New);
        let outcome = self.add(tx, hash, from, result);
        drop(app);
        outcome
    }

    /// What is known without asking the application. A peer that sends what is in the pool is remembered as having it.
    fn precheck(&self, inner: &mut Inner, tx: &Bytes, hash: &Hash, from: Option<&PeerId>) -> Result<(), PoolError> {
        if tx.len() > self.config.max_tx_bytes {
            return Err(PoolError::TooLarge { max: self.config.max_tx_bytes, actual: tx.len() });
        }
        let size = encoded_size(tx.len());
        if let Some(max) = inner.max_data_bytes
            && size > max
        {
            return Err(PoolError::TooBigForBlock { size, max });
        }
        let Inner { queue, cache, .. } = inner;
        let entry = queue.get_mut(hash);
        if entry.is_none() && !cache.has(hash) {
            return Ok(());
        }
        cache.push(*hash);
        if let (Some(entry), Some(peer)) = (entry, from) {
            entry.add_peer(peer);
        }
        Err(PoolError::InCache)
    }

    /// Takes a transaction that the application has judged.
    fn add(&self, tx: Bytes, hash: Hash, from: Option<&PeerId>, result: CheckResult) -> CheckOutcome {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        if result.code != 0 {
            if !self.config.keep_invalid_in_cache {
                inner.cache.remove(&hash);
            }
            tracing::debug!(code = result.code, module = result.codespace, "transaction rejected");
            return CheckOutcome::Rejected(result);
        }
        if let Err(error) = post_check(inner.max_gas, &result) {
            if !self.config.keep_invalid_in_cache {
                inner.cache.remove(&hash);
            }
            return CheckOutcome::Refused { error, result: Some(result) };
        }
        if !result.sender.is_empty()
            && let Some(busy) = inner.queue.of_sender(&result.sender)
        {
            // It stays in the cache, as in the reference.
            let error = PoolError::SenderBusy { sender: result.sender.clone(), hash: upper_hex(&busy.hash) };
            return CheckOutcome::Refused { error, result: Some(result) };
        }
        if let Err(error) = self.make_room(inner, tx.len() as u64, result.priority) {
            inner.cache.remove(&hash);
            tracing::debug!(%error, priority = result.priority, "transaction refused");
            return CheckOutcome::Refused { error, result: Some(result) };
        }
        let entry = Entry {
            // A slice of a larger message would keep all of it in memory.
            tx: Bytes::copy_from_slice(&tx),
            hash,
            height: inner.height,
            since: Instant::now(),
            gas_wanted: result.gas_wanted,
            priority: result.priority,
            sender: result.sender.clone(),
            peers: from.cloned().into_iter().collect(),
        };
        let seq = inner.queue.insert(entry);
        self.arrivals.send_replace(seq);
        self.notify(inner);
        CheckOutcome::Added(result)
    }

    /// Gives up transactions of lower priority if there is no room for so many bytes.
    fn make_room(&self, inner: &mut Inner, size: u64, priority: i64) -> Result<(), PoolError> {
        let (txs, bytes) = (inner.queue.len(), inner.queue.bytes());
        if txs < self.config.max_txs && bytes.saturating_add(size) <= self.config.max_bytes {
            return Ok(());
        }
        let Some(victims) = inner.queue.victims(size, priority) else {
            let (max_txs, max_bytes) = (self.config.max_txs, self.config.max_bytes);
            return Err(PoolError::Full { txs, max_txs, bytes, max_bytes });
        };
        for seq in victims {
            if let Some(entry) = inner.queue.remove(seq) {
                inner.cache.remove(&entry.hash);
                self.tell_dropped(entry.hash, DropReason::Evicted);
            }
        }
        Ok(())
    }

    fn tell_dropped(&self, hash: Hash, reason: DropReason) {
        // Nobody may be listening.
        let _ = self.dropped.send(DroppedTx { hash, reason });
    }

    fn notify(&self, inner: &mut Inner) {
        if !inner.notified && inner.queue.len() > 0 {
            inner.notified = true;
            self.available.send_replace(inner.height);
        }
    }

    /// Takes out what waited too long.
    fn purge_expired(&self, inner: &mut Inner) {
        let (blocks, time) = (self.config.ttl_blocks, self.config.ttl);
        if blocks <= 0 && time.is_zero() {
            return;
        }
        let now = Instant::now();
        let height = inner.height;
        let expired = |entry: &Entry| {
            (blocks > 0 && height.saturating_sub(entry.height) > blocks)
                || (!time.is_zero() && now.saturating_duration_since(entry.since) > time)
        };
        let gone: Vec<Seq> = inner.queue.iter().filter(|(_, entry)| expired(entry)).map(|(seq, _)| seq).collect();
        for seq in gone {
            if let Some(entry) = inner.queue.remove(seq) {
                inner.cache.remove(&entry.hash);
                self.tell_dropped(entry.hash, DropReason::Expired);
            }
        }
    }

    /// Checks everything that is left again, in order of arrival. The pool can be read meanwhile.
    fn recheck(&self, app: &mut dyn Application) {
        let left: Vec<(Seq, Bytes)> =
            self.inner.lock().queue.iter().map(|(seq, entry)| (seq, entry.tx.clone())).collect();
        for (seq, tx) in left {
            let result = app.check_tx(&tx, CheckKind::Recheck);
            let mut inner = self.inner.lock();
            let reason = if result.code != 0 {
                DropReason::Invalid(result)
            } else if let Err(error) = post_check(inner.max_gas, &result) {
                DropReason::Unfit(error)
            } else {
                inner.queue.set_priority(seq, result.priority);
                continue;
            };
            if let Some(entry) = inner.queue.remove(seq) {
                if !self.config.keep_invalid_in_cache {
                    inner.cache.remove(&entry.hash);
                }
                self.tell_dropped(entry.hash, reason);
            }
        }
    }

    /// Number of transactions.
    pub fn size(&self) -> usize {
        self.inner.lock().queue.len()
    }

    /// Bytes of all transactions.
    pub fn bytes(&self) -> u64 {
        self.inner.lock().queue.bytes()
    }

    /// Last committed height that the pool knows of.
    pub fn height(&self) -> i64 {
        self.inner.lock().height
    }

    /// Whether a transaction, given by SHA-256, is in the pool.
    pub fn contains(&self, hash: &Hash) -> bool {
        self.inner.lock().queue.contains(hash)
    }

    /// Number of hashes of seen transactions that are remembered.
    pub fn remembered(&self) -> usize {
        self.inner.lock().cache.len()
    }

    /// All transactions by priority, then arrival.
    pub fn unconfirmed(&self) -> Vec<Bytes> {
        self.inner.lock().queue.reap(-1, -1)
    }

    /// Takes a transaction out, by SHA-256; it stays in the cache. Says whether it was there.
    pub fn remove(&self, hash: &Hash) -> bool {
        self.inner.lock().queue.remove_hash(hash).is_some()
    }

    /// Forgets all transactions and all hashes.
    pub fn flush(&self) {
        let mut inner = self.inner.lock();
        inner.queue.clear();
        inner.cache.clear();
    }

    /// Transactions that leave the pool without being in a block. Who lags by more than [`DROPPED_BACKLOG`] misses some
    /// and can ask [`Self::contains`].
    pub fn subscribe_dropped(&self) -> broadcast::Receiver<DroppedTx> {
        self.dropped.subscribe()
    }

    /// Changes once for every height at which there are transactions; the value is that (last committed) height, -1 if
    /// there was none yet.
    pub fn subscribe_available(&self) -> watch::Receiver<i64> {
        self.available.subscribe()
    }

    /// Changes with every new transaction.
    pub(crate) fn subscribe_arrivals(&self) -> watch::Receiver<Seq> {
        self.arrivals.subscribe()
    }

    /// The transaction that came next after that one.
    pub(crate) fn next_for(&self, peer: &PeerId, after: Seq) -> Option<GossipTx> {
        let inner = self.inner.lock();
        let (seq, entry) = inner.queue.after(after)?;
        Some(GossipTx { seq, tx: entry.tx.clone(), height: entry.height, known: entry.peers.contains(peer) })
    }
}

impl comet_store::TxPool for TxPool {
    fn reap(&self, max_bytes: i64, max_gas: i64) -> Vec<Vec<u8>> {
        let reaped = self.inner.lock().queue.reap(max_bytes, max_gas);
        reaped.iter().map(|tx| tx.to_vec()).collect()
    }

    fn before_commit(&self) {
        self.inner.lock().committing = true;
    }

    fn after_commit(&self, height: i64, txs: &[Vec<u8>], results: &[TxResult], app: &mut dyn Application) {
        if txs.len() != results.len() {
            tracing::error!(
                height,
                txs = txs.len(),
                results = results.len(),
                "block without a result for each transaction"
            );
        }
        {
            let mut guard = self.inner.lock();
            let inner = &mut *guard;
            inner.height = height;
            inner.notified = false;
            for (at, tx) in txs.iter().enumerate() {
                let hash = sha256(tx);
                if results.get(at).is_some_and(|result| result.code == 0) {
                    inner.cache.push(hash);
                } else if !self.config.keep_invalid_in_cache {
                    inner.cache.remove(&hash);
                }
                inner.queue.remove_hash(&hash);
            }
            self.purge_expired(inner);
        }
        if self.config.recheck {
            self.recheck(app);
        }
        let mut inner = self.inner.lock();
        inner.committing = false;
        self.notify(&mut inner);
    }

    fn commit_failed(&self) {
        self.inner.lock().committing = false;
    }
}

fn post_check(max_gas: i64, result: &CheckResult) -> Result<(), PoolError> {
    if max_gas == -1 {
        return Ok(());
    }
    match result.gas_wanted {
        wanted if wanted < 0 => Err(PoolError::NegativeGas(wanted)),
        wanted if wanted > max_gas => Err(PoolError::Gas { wanted, max: max_gas }),
        _ => Ok(()),
    }
}

fn upper_hex(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02X}")).collect()
}

#[cfg(test)]
pub(crate) mod tests;
