//! Making the machine from what is stored, and replaying the log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use comet_chain::state::State;
use comet_core::{Config, Core, Input};
use comet_store::{BlockStore, EvidencePool, Executor, Guard, Wal};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use wire_cometbft::Time;
use wire_cometbft::block::Commit;
use wire_cometbft::keys::Address;
use wire_cometbft::wal::{EndHeight, TimedWalMessage, WalMessage, WalMessageSum};

use super::{Driver, StopReason};
use crate::clock;
use crate::intake::Intake;
use crate::reactor::ConsensusReactor;
use crate::status::Unsigned;

/// Whether the log is replayed on start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartKind {
    /// The state is the one the node was left with: the log's records of the height under way are taken in again.
    Restart,
    /// Block sync or state sync moved the state on: the log has nothing of this height.
    Synced,
}

/// What a driver is made of.
pub(crate) struct DriverParts {
    pub(crate) config: Config,
    pub(crate) address: Option<Address>,
    pub(crate) state: State,
    pub(crate) wal: Wal,
    pub(crate) guard: Option<Guard>,
    pub(crate) executor: Arc<Executor>,
    pub(crate) evidence: Arc<dyn EvidencePool>,
    pub(crate) blocks: Arc<BlockStore>,
    pub(crate) reactor: ConsensusReactor,
    pub(crate) intake: Arc<Intake>,
    pub(crate) sync_wanted: mpsc::Sender<i64>,
    pub(crate) unsigned: Arc<Mutex<Option<Unsigned>>>,
    pub(crate) kind: StartKind,
}

impl Driver {
    /// A driver that is not running yet; its log is replayed by [`Driver::run`].
    ///
    /// # Errors
    /// If the commit seen for the last block does not hold.
    pub(crate) fn new(parts: DriverParts) -> Result<Self, StopReason> {
        let DriverParts { config, address, state, kind, .. } = parts;
        let blocks = parts.blocks;
        let store = |error| StopReason::failed("block store", &error);
        let last = state.last_block_height;
        let (seen_commit, app_hash) = if last > 0 {
            let seen: Option<Commit> = blocks.seen_commit(last).map_err(store)?;
            let meta = blocks.meta(last).map_err(store)?;
            (seen, meta.map(|meta| meta.header.app_hash))
        } else {
            (None, None)
        };
        let chain_id = state.chain_id.clone();
        let initial_height = state.initial_height;
        let now = clock::now().unwrap_or(Time::UNIX_EPOCH);
        let core = Core::new(config, address, state, seen_commit.as_ref(), app_hash, now)
            .map_err(|error| StopReason::failed("consensus start", &error))?;
        let mut driver = Self {
            core,
            chain_id,
            initial_height,
            wal: parts.wal,
            guard: parts.guard,
            executor: parts.executor,
            evidence: parts.evidence,
            blocks,
            reactor: parts.reactor,
            intake: parts.intake,
            sync_wanted: parts.sync_wanted,
            unsigned: parts.unsigned,
            effects: VecDeque::new(),
            timer: None,
            paused: false,
            held_txs: false,
            last_time: now,
            last_flush: Instant::now(),
            unflushed: false,
            unpublished: Some(Instant::now()),
        };
        if kind == StartKind::Synced {
            driver.write_end(last)?;
        }
        Ok(driver)
    }

    /// Replays the log and begins.
    pub(super) fn start(&mut self) -> Result<(), StopReason> {
        let height = self.round_state().height;
        let records =
            self.wal.recover(height, self.initial_height).map_err(|error| StopReason::failed("log", &error))?;
        tracing::info!(height, records = records.len(), "log read");
        for record in records {
            self.drive(Input::Replay(record))?;
        }
        self.drive(Input::Start)?;
        self.publish();
        self.reactor.set_syncing(false);
        Ok(())
    }

    fn write_end(&mut self, height: i64) -> Result<(), StopReason> {
        let msg = Some(WalMessage::from(WalMessageSum::EndHeight(EndHeight { height })));
        let record = TimedWalMessage { time: self.last_time, msg };
        self.wal.append(&record).map_err(|error| StopReason::failed("log", &error))?;
        self.sync_wal()
    }
}
