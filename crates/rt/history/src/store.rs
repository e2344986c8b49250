//! The store. Source: `go/runtime/history/{history,db}.go`; the form on disk is our own.
//!
//! Keys: `01` for CBOR `{v, runtime_id, last_consensus_height, last_round, started}`; `02 | round u64 BE` for the CBOR of
//! the annotated block.

use std::ops::ControlFlow;
use std::sync::Arc;

use base_codec::{Codec, cbor};
use base_kv::{Batch, Durability, KvStore, Order};
use base_prims::Namespace;
use parking_lot::Mutex;
use tokio::sync::watch;
use wire_consensus::roothash::{AnnotatedBlock, ROUND_LATEST};

use crate::error::HistoryError;
use crate::watch::Watcher;

/// Version of the form.
const VERSION: u64 = 1;
const META: &[u8] = &[0x01];
const BLOCK: u8 = 0x02;

/// First record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
struct Meta {
    v: u64,
    runtime_id: Namespace,
    last_consensus_height: i64,
    last_round: u64,
    /// Whether there ever was a block.
    started: bool,
}

/// Whether blocks are shown before the storage has their state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Not before [`History::storage_synced`] named their round.
    Honor,
    /// At once: there is no storage here, or it does not matter.
    Ignore,
}

/// A runtime's blocks. Cheap to clone; clones are the same history.
#[derive(Clone)]
pub struct History(Arc<Inner>);

struct Inner {
    kv: Arc<dyn KvStore>,
    runtime: Namespace,
    sync: Sync,
    meta: Mutex<Meta>,
    /// Newest round, once the history is initialized.
    committed: watch::Sender<Option<u64>>,
    /// Newest round whose state is there.
    synced: watch::Sender<Option<u64>>,
    initialized: watch::Sender<bool>,
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History").field("meta", &*self.0.meta.lock()).finish_non_exhaustive()
    }
}

fn block_key(round: u64) -> [u8; 9] {
    let mut key = [BLOCK; 9];
    key[1..].copy_from_slice(&round.to_be_bytes());
    key
}

fn round_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(1..)?.try_into().ok()?))
}

fn round(block: &AnnotatedBlock) -> Result<u64, HistoryError> {
    let inner = block.block.as_ref().ok_or(HistoryError::NoBlock(block.consensus_height))?;
    Ok(inner.header.round)
}

impl History {
    /// Opens the history in a store, or begins one in an empty store.
    ///
    /// # Errors
    /// If the store is of another runtime or form, or fails.
    pub fn open(kv: Arc<dyn KvStore>, runtime: Namespace, sync: Sync) -> Result<Self, HistoryError> {
        let meta = match kv.get(META)? {
            Some(bytes) => cbor::from_slice_exact(&bytes).map_err(|_| HistoryError::Corrupt { what: "metadata" })?,
            None => {
                let meta = Meta { v: VERSION, runtime_id: runtime, ..Meta::default() };
                kv.write(Batch::new().put(META, &cbor::to_vec(&meta)), Durability::Synced)?;
                meta
            }
        };
        if meta.v != VERSION {
            return Err(HistoryError::Version { expected: VERSION, found: meta.v });
        }
        if meta.runtime_id != runtime {
            return Err(HistoryError::OtherRuntime { expected: runtime, found: meta.runtime_id });
        }
        let (committed, synced, initialized) = (watch::Sender::new(None), watch::Sender::new(None), false);
        let initialized = watch::Sender::new(initialized);
        Ok(Self(Arc::new(Inner { kv, runtime, sync, meta: Mutex::new(meta), committed, synced, initialized })))
    }

    /// Whose history it is.
    pub fn runtime(&self) -> Namespace {
        self.0.runtime
    }

    /// Consensus height of the newest block; 0 before the first.
    pub fn last_consensus_height(&self) -> i64 {
        self.0.meta.lock().last_consensus_height
    }

    /// Newest round, if there ever was one.
    pub fn last_round(&self) -> Option<u64> {
        let meta = self.0.meta.lock();
        meta.started.then_some(meta.last_round)
    }

    /// Adds blocks, durably: all of them or none.
    ///
    /// # Errors
    /// If they are of another runtime, or do not come after those that are there.
    pub fn commit(&self, blocks: &[AnnotatedBlock]) -> Result<(), HistoryError> {
        if blocks.is_empty() {
            return Ok(());
        }
        let mut meta = self.0.meta.lock();
        let mut new = *meta;
        let mut batch = Batch::new();
        for block in blocks {
            let round = round(block)?;
            let found = block.block.as_ref().map(|b| b.header.namespace).unwrap_or_default();
            if found != self.0.runtime {
                return Err(HistoryError::OtherRuntime { expected: self.0.runtime, found });
            }
            let (current, wanted) = (new.last_consensus_height, block.consensus_height);
            if wanted < current {
                return Err(HistoryError::LowerHeight { current, wanted });
            }
            if new.started && round <= new.last_round {
                return Err(HistoryError::LowerRound { current: new.last_round, wanted: round });
            }
            batch.put(&block_key(round), &cbor::to_vec(block));
            (new.last_consensus_height, new.last_round, new.started) = (wanted, round, true);
        }
        batch.put(META, &cbor::to_vec(&new));
        self.0.kv.write(&batch, Durability::Synced)?;
        *meta = new;
        drop(meta);
        if *self.0.initialized.borrow() {
            self.announce(new.last_round);
        }
        Ok(())
    }

    fn announce(&self, round: u64) {
        self.0.committed.send_replace(Some(round));
        if self.0.sync == Sync::Ignore {
            self.0.synced.send_replace(Some(round));
        }
    }

    /// All old blocks are there: from now on watchers are told of new ones, beginning with the newest.
    pub fn set_initialized(&self) {
        self.0.initialized.send_replace(true);
        if let Some(round) = self.last_round() {
            self.announce(round);
        }
        if self.0.sync == Sync::Honor {
            // What the storage said before counts now.
            self.0.synced.send_modify(|_| ());
        }
    }

    /// Whether all old blocks are there; can be waited for.
    pub fn initialized(&self) -> watch::Receiver<bool> {
        self.0.initialized.subscribe()
    }

    /// The storage has the state of a round.
    ///
    /// # Errors
    /// If it had that of a later one, or the round is not in the history.
    pub fn storage_synced(&self, round: u64) -> Result<(), HistoryError> {
        let before = *self.0.synced.borrow();
        if self.0.sync == Sync::Ignore || before == Some(round) {
            return Ok(());
        }
        if let Some(current) = before.filter(|before| round < *before) {
            return Err(HistoryError::SyncedBack { current, wanted: round });
        }
        self.stored(round)?;
        self.0.synced.send_replace(Some(round));
        Ok(())
    }

    /// The newest round whose state is there, as far as the storage said.
    pub fn last_synced(&self) -> Option<u64> {
        *self.0.synced.borrow()
    }

    fn stored(&self, round: u64) -> Result<AnnotatedBlock, HistoryError> {
        let bytes = self.0.kv.get(&block_key(round))?.ok_or(HistoryError::NotFound)?;
        cbor::from_slice_exact(&bytes).map_err(|_| HistoryError::Corrupt { what: "block" })
    }

    /// A block, or the newest one ([`ROUND_LATEST`]), whether its state is there or not.
    ///
    /// # Errors
    /// If it is not there.
    pub fn committed_block(&self, round: u64) -> Result<AnnotatedBlock, HistoryError> {
        let round = if round == ROUND_LATEST { self.last_round().ok_or(HistoryError::NotFound)? } else { round };
        self.stored(round)
    }

    /// A block, or the newest one ([`ROUND_LATEST`]), of those whose state is there.
    ///
    /// # Errors
    /// If it is not there, or its state is not.
    pub fn block(&self, round: u64) -> Result<AnnotatedBlock, HistoryError> {
        if self.0.sync == Sync::Ignore {
            return self.committed_block(round);
        }
        let synced = self.last_synced().ok_or(HistoryError::NotFound)?;
        match round {
            ROUND_LATEST => self.stored(synced.min(self.last_round().unwrap_or(synced))),
            round if round > synced => Err(HistoryError::NotFound),
            round => self.stored(round),
        }
    }

    /// The earliest block.
    ///
    /// # Errors
    /// If there is none.
    pub fn earliest_block(&self) -> Result<AnnotatedBlock, HistoryError> {
        let round = self.rounds(1, u64::MAX)?.first().copied().ok_or(HistoryError::NotFound)?;
        self.stored(round)
    }

    /// The earliest rounds before `end`, at most `max`.
    pub(crate) fn rounds(&self, max: usize, end: u64) -> Result<Vec<u64>, HistoryError> {
        let mut out = Vec::new();
        if max == 0 {
            return Ok(out);
        }
        let to = if end == u64::MAX { vec![BLOCK + 1] } else { block_key(end).to_vec() };
        self.0.kv.scan(&[BLOCK], Some(&to), Order::Forward, &mut |key, _| {
            out.extend(round_of(key));
            if out.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(out)
    }

    /// The least round from `from` on.
    pub(crate) fn next_round(&self, from: u64) -> Result<Option<u64>, HistoryError> {
        let mut found = None;
        self.0.kv.scan(&block_key(from), Some(&[BLOCK + 1]), Order::Forward, &mut |key, _| {
            found = round_of(key);
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    pub(crate) fn remove(&self, rounds: &[u64]) -> Result<(), HistoryError> {
        let mut batch = Batch::new();
        for round in rounds {
            batch.delete(&block_key(*round));
        }
        Ok(self.0.kv.write(&batch, Durability::Buffered)?)
    }

    /// Drops all blocks before a round; the newest one is always kept. Returns how many were dropped.
    ///
    /// # Errors
    /// If the store fails.
    pub fn prune_before(&self, round: u64) -> Result<u64, HistoryError> {
        let Some(last) = self.last_round() else { return Ok(0) };
        let mut dropped = 0;
        loop {
            let rounds = self.rounds(1024, round.min(last))?;
            if rounds.is_empty() {
                return Ok(dropped);
            }
            self.remove(&rounds)?;
            dropped += rounds.len() as u64;
        }
    }

    /// Whether the consensus layer may forget the state of a height.
    ///
    /// # Errors
    /// If this history has not got its blocks yet.
    pub fn can_prune_consensus(&self, height: i64) -> Result<(), HistoryError> {
        if height > self.last_consensus_height() {
            return Err(HistoryError::NotIndexed { height, runtime: self.0.runtime });
        }
        Ok(())
    }

    /// Follows blocks as they are committed, beginning with the newest; those before the first call to
    /// [`History::set_initialized`] do not count.
    pub fn watch_committed(&self) -> Watcher {
        Watcher::new(self.clone(), self.0.committed.subscribe(), self.0.initialized.subscribe())
    }

    /// Follows blocks as their state becomes available, beginning with the newest.
    pub fn watch_synced(&self) -> Watcher {
        Watcher::new(self.clone(), self.0.synced.subscribe(), self.0.initialized.subscribe())
    }

    /// The newest round, once the history is initialized; can be waited for.
    pub fn committed(&self) -> watch::Receiver<Option<u64>> {
        self.0.committed.subscribe()
    }

    /// Waits until the state of a round is there; gives the newest round then.
    ///
    /// # Errors
    /// If the history is gone.
    pub async fn wait_synced(&self, round: u64) -> Result<u64, HistoryError> {
        let mut synced = self.0.synced.subscribe();
        let reached = synced.wait_for(|at| at.is_some_and(|at| at >= round)).await;
        reached.map_or(Err(HistoryError::NotFound), |at| Ok(at.unwrap_or(round)))
    }

    /// Gives unused space back.
    ///
    /// # Errors
    /// If the store fails.
    pub fn compact(&self) -> Result<(), HistoryError> {
        Ok(self.0.kv.compact()?)
    }
}

#[cfg(test)]
mod tests;
