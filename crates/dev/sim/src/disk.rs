//! What a node keeps over a crash.
//!
//! Writes of blocks, states, the application and the double-sign guard are atomic and durable when done, as the
//! engine's stores are; the log is durable only up to its last sync, and a crash may keep any part of the rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use comet_chain::app::BlockResults;
use comet_chain::evidence::{EvidenceSource, SourceError};
use comet_chain::state::State;
use comet_chain::validators::ValidatorSet;
use comet_core::HeldBlock;
use comet_core::guard::LastSigned;
use wire_cometbft::block::{BlockId, Commit, Header};
use wire_cometbft::evidence::Evidence;
use wire_cometbft::part_set::PartSet;
use wire_cometbft::wal::{TimedWalMessage, encode_record};

use crate::app::KvApp;
use crate::rng::Rng;

/// A stored block.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The block.
    pub block: Arc<HeldBlock>,
    /// Its parts.
    pub parts: Arc<PartSet>,
    /// The commit seen for it.
    pub seen_commit: Commit,
}

impl Stored {
    /// The block's id.
    pub fn id(&self) -> BlockId {
        self.block.id(self.parts.header().clone())
    }
}

/// A node's disk.
#[derive(Debug, Clone)]
pub struct Disk {
    log: Vec<u8>,
    synced: usize,
    /// What was signed last.
    pub guard: LastSigned,
    /// Blocks by height.
    pub blocks: BTreeMap<i64, Stored>,
    /// The engine's state.
    pub state: State,
    /// Validators by height.
    pub validators: BTreeMap<i64, ValidatorSet>,
    /// Results of the last executed block, kept before the application commits.
    pub results: Option<(i64, BlockResults)>,
    /// The application's disk.
    pub app: KvApp,
    /// Evidence not in a block yet.
    pub evidence: Vec<Evidence>,
}

impl Disk {
    /// The disk of a node that starts with the chain.
    pub fn new(state: State, app: KvApp) -> Self {
        let mut disk = Self {
            log: Vec::new(),
            synced: 0,
            guard: LastSigned::default(),
            blocks: BTreeMap::new(),
            validators: BTreeMap::new(),
            results: None,
            app,
            evidence: Vec::new(),
            state: state.clone(),
        };
        disk.save_state(state);
        disk
    }

    /// Appends a record to the log.
    pub fn append(&mut self, record: &TimedWalMessage, sync: bool) {
        self.log.extend(encode_record(record).unwrap_or_default());
        if sync {
            self.sync();
        }
    }

    /// Makes the log durable.
    pub fn sync(&mut self) {
        self.synced = self.log.len();
    }

    /// The log.
    pub fn log(&self) -> &[u8] {
        &self.log
    }

    /// Cuts the log after its last whole record.
    pub fn repair(&mut self) {
        let intact = comet_core::wal::intact_prefix(&self.log);
        self.log.truncate(intact);
        self.sync();
    }

    /// A crash: of what was not synced, any first part survives, down to the byte.
    pub fn crash(&mut self, rng: &mut Rng) {
        let unsynced = self.log.len() - self.synced;
        let kept = match rng.below(3) {
            0 => 0,
            1 => unsynced,
            _ => usize::try_from(rng.below(unsynced as u64 + 1)).unwrap_or(0),
        };
        self.log.truncate(self.synced + kept);
    }

    /// Forgets the log and what was signed: what an honest node's operator must never do.
    pub fn forget(&mut self) {
        self.log.clear();
        self.synced = 0;
        self.guard = LastSigned::default();
    }

    /// Stores the engine's state.
    pub fn save_state(&mut self, state: State) {
        let next = state.next_height();
        self.validators.insert(next, state.validators.clone());
        self.validators.insert(next + 1, state.next_validators.clone());
        self.state = state;
    }

    /// Height of the newest block; 0: none.
    pub fn height(&self) -> i64 {
        self.blocks.keys().next_back().copied().unwrap_or(0)
    }
}

impl EvidenceSource for Disk {
    fn header(&self, height: i64) -> Result<Option<Header>, SourceError> {
        Ok(self.blocks.get(&height).map(|stored| stored.block.block().header.clone()))
    }

    fn commit(&self, height: i64) -> Result<Option<Commit>, SourceError> {
        Ok(self.blocks.get(&(height + 1)).and_then(|stored| stored.block.block().last_commit.clone()))
    }

    fn validators(&self, height: i64) -> Result<Option<ValidatorSet>, SourceError> {
        Ok(self.validators.get(&height).cloned())
    }

    fn latest_height(&self) -> i64 {
        self.height()
    }
}
