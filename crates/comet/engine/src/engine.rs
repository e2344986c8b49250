//! An engine and what the node sees of it.
//!
//! Reference: `cometbft:node/node.go`, `oasis-core:go/consensus/cometbft/full`.

mod open;
mod supervise;

pub use supervise::{HALT_GRACE, RESYNC_INTERVAL};

use std::sync::Arc;

use bytes::Bytes;
use comet_core::{PeerId, RoundState};
use comet_net::{StartError, SwitchHandle};
use comet_pools::{AddError, Added, CheckOutcome, EvidencePool, PeerHeights, TxPool};
use comet_store::{BlockStore, ChainStore, Executor, GuardFileError, HandshakeError, NewBlock, StoreError};
use comet_sync::BlockSync;
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use wire_cometbft::evidence::Evidence;
use wire_cometbft::keys::Address;

use crate::driver::StopReason;
use crate::intake::Intake;
use crate::reactor::ConsensusReactor;
use crate::setup::Setup;
use crate::status::{EngineStatus, Phase, RoundStatus, Unsigned, waits_for};
use crate::submit::Submitter;

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A folder could not be made.
    #[error("failed to make {path}: {source}")]
    Folder {
        /// The folder.
        path: std::path::PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The evidence store failed.
    #[error("evidence store: {0}")]
    Evidence(#[source] base_kv::KvError),
    /// Application and stores cannot be brought level.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// Genesis is out of range.
    #[error("genesis: {0}")]
    Genesis(#[from] comet_chain::state::UpdateError),
    /// The guard file is refused.
    #[error(transparent)]
    Guard(#[from] GuardFileError),
    /// The transport did not start.
    #[error(transparent)]
    Net(#[from] StartError),
    /// A thread ended without a result.
    #[error("{0} ended without a result")]
    Thread(&'static str),
    /// Asked to stop before it had started.
    #[error("stopped before the engine had started")]
    Stopped,
}

impl From<&EngineError> for StopReason {
    fn from(error: &EngineError) -> Self {
        match error {
            EngineError::Handshake(HandshakeError::App(fatal)) => fatal.into(),
            EngineError::Stopped => Self::Requested,
            error => Self::failed("start", error),
        }
    }
}

/// What everything of an engine shares.
struct Inner {
    switch: SwitchHandle,
    executor: Arc<Executor>,
    pool: Arc<TxPool>,
    evidence: Arc<EvidencePool>,
    reactor: ConsensusReactor,
    block_sync: Arc<BlockSync>,
    intake: Arc<Intake>,
    address: Option<Address>,
    phase: watch::Sender<Phase>,
    submitter: Submitter,
    /// The last vote or proposal, if it was not signed.
    unsigned: Arc<Mutex<Option<Unsigned>>>,
}

/// Starts engines.
pub struct Engine;

impl Engine {
    /// Brings application and stores level, starts the transport, and goes on in the background: state sync, block
    /// sync, rounds, as the setup says. Ends when `stop` is cancelled: the step under way is finished and the log made
    /// durable; see [`EngineHandle::stopped`].
    ///
    /// # Errors
    /// If stores, application, guard file or transport refuse.
    pub async fn start(setup: Setup, stop: CancellationToken) -> Result<EngineHandle, EngineError> {
        open::start(setup, stop).await
    }
}

/// What the node sees of its engine. Cheap to clone.
#[derive(Clone)]
pub struct EngineHandle(Arc<Inner>);

impl EngineHandle {
    /// Checks a transaction, takes it into the pool and has it gossiped.
    pub async fn check_tx(&self, tx: Vec<u8>) -> CheckOutcome {
        self.0.pool.submit(Bytes::from(tx), None).await
    }

    /// Submits transactions and waits for their blocks.
    pub fn submitter(&self) -> &Submitter {
        &self.0.submitter
    }

    /// The blocks.
    pub fn blocks(&self) -> &Arc<BlockStore> {
        self.0.executor.blocks()
    }

    /// States, validators, parameters and results.
    pub fn chain(&self) -> &Arc<ChainStore> {
        self.0.executor.chain()
    }

    /// The executor: application and stores.
    pub fn executor(&self) -> &Arc<Executor> {
        &self.0.executor
    }

    /// Tells of every block applied from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<NewBlock>> {
        self.0.executor.subscribe()
    }

    /// The switch.
    pub fn switch(&self) -> &SwitchHandle {
        &self.0.switch
    }

    /// The transaction pool.
    pub fn pool(&self) -> &Arc<TxPool> {
        &self.0.pool
    }

    /// The evidence pool.
    pub fn evidence(&self) -> &Arc<EvidencePool> {
        &self.0.evidence
    }

    /// Takes evidence, to be gossiped and put into a block.
    ///
    /// # Errors
    /// If it is bad or cannot be checked.
    pub fn submit_evidence(&self, evidence: Evidence) -> Result<Added, AddError> {
        self.0.evidence.add(evidence)
    }

    /// This node's validator address; `None`: it has no key.
    pub fn address(&self) -> Option<Address> {
        self.0.address
    }

    /// What the engine is doing.
    pub fn phase(&self) -> Phase {
        self.0.phase.borrow().clone()
    }

    /// Told when the engine does something else.
    pub fn watch_phase(&self) -> watch::Receiver<Phase> {
        self.0.phase.subscribe()
    }

    /// State of the engine. Reads the stores: from async code of many callers better within `spawn_blocking`.
    pub fn status(&self) -> EngineStatus {
        let inner = &self.0;
        let (blocks, chain) = (inner.executor.blocks(), inner.executor.chain());
        let state = chain.load().ok().flatten();
        let height = state.as_ref().map_or(0, |state| state.last_block_height);
        let phase = inner.phase.borrow().clone();
        let sync = inner.block_sync.status();
        let round = inner.reactor.place().map(|rs| RoundStatus::of(&rs));
        let peers = inner.switch.statuses();
        let validators = state.as_ref().map(|state| &state.validators);
        let is_validator =
            inner.address.is_some_and(|address| validators.is_some_and(|set| set.find(&address).is_some()));
        EngineStatus {
            node_id: inner.switch.id().clone(),
            earliest_height: blocks.base(),
            latest_height: height,
            latest_hash: state.as_ref().and_then(|state| state.last_block_id.hash.as_slice().try_into().ok()),
            latest_time: state.as_ref().filter(|_| height > 0).map(|state| state.last_block_time),
            latest_app_hash: state.map(|state| state.app_hash).unwrap_or_default(),
            address: inner.address,
            is_validator,
            waits_for: waits_for(&phase, sync.as_ref(), round.as_ref(), peers.len()),
            unsigned: inner.unsigned.lock().clone(),
            sync,
            round,
            phase,
            counts: inner.switch.counts(),
            peer_heights: inner.reactor.peer_heights(),
            waiting_txs: inner.pool.size(),
            peers,
        }
    }

    /// Ready once everything has ended, with the reason.
    pub async fn stopped(&self) -> StopReason {
        let mut phase = self.0.phase.subscribe();
        let stopped = phase.wait_for(|phase| matches!(phase, Phase::Stopped(_))).await;
        match stopped.as_deref() {
            Ok(Phase::Stopped(reason)) => reason.clone(),
            _ => StopReason::Failed("engine was dropped".into()),
        }
    }

    /// Where the round machine stands; `None` while it does not run.
    pub fn round_state(&self) -> Option<Arc<RoundState>> {
        self.0.reactor.place()
    }

    /// Stops the round machine as a crash would: before its next effect, with nothing finished and the log as it is.
    /// For tests of recovery.
    #[doc(hidden)]
    pub fn abort(&self) {
        self.0.intake.abort();
    }
}

/// The heights that peers announced, for the pools' gossip.
pub(crate) struct Heights(pub(crate) ConsensusReactor);

impl PeerHeights for Heights {
    fn height(&self, id: &PeerId) -> Option<i64> {
        self.0.peer_height(id)
    }
}
