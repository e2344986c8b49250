//! What the services stand on.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use apps_core::submit::TransactionSubmitter;
use base_grpc::{Code, RpcError};
use base_prims::{Epoch, PublicKey};
use comet_core::RoundState;
use comet_engine::EngineHandle;
use comet_store::{BlockStore, ChainStore, NewBlock};
use node_app::{Queries, QueryError, StateAt};
use tokio::sync::{Semaphore, broadcast, watch};
use tokio_util::sync::CancellationToken;
use wire_cometbft::evidence::Evidence;
use wire_consensus::node::ConsensusAddress;
use wire_consensus::upgrade::Descriptor;

use crate::status::Status;

/// A boxed future, so that traits can be objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Most reads of disk at once; further calls wait.
pub const MAX_READS: usize = 64;

/// Module of the consensus service's errors.
pub(crate) const CONSENSUS: &str = "consensus";

/// Where blocks come from and transactions go.
pub trait Engine: Send + Sync {
    /// The blocks.
    fn blocks(&self) -> &Arc<BlockStore>;
    /// Validators, parameters and results.
    fn chain(&self) -> &Arc<ChainStore>;
    /// Tells of every block applied from now on.
    fn subscribe(&self) -> broadcast::Receiver<Arc<NewBlock>>;
    /// Takes transactions.
    fn submitter(&self) -> &dyn TransactionSubmitter;
    /// Takes evidence, to be gossiped and put into a block.
    ///
    /// # Errors
    /// Why it is refused.
    fn submit_evidence(&self, evidence: Evidence) -> Result<(), String>;
    /// Transactions that wait, in the pool's order.
    fn unconfirmed(&self) -> Vec<bytes::Bytes>;
    /// This node's id among consensus peers: 40 lower-case hexadecimal digits.
    fn node_id(&self) -> String;
    /// Consensus peers as `ID@IP:PORT`.
    fn peers(&self) -> Vec<String>;
}

impl Engine for EngineHandle {
    fn blocks(&self) -> &Arc<BlockStore> {
        self.blocks()
    }

    fn chain(&self) -> &Arc<ChainStore> {
        self.chain()
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<NewBlock>> {
        self.subscribe()
    }

    fn submitter(&self) -> &dyn TransactionSubmitter {
        self.submitter()
    }

    fn submit_evidence(&self, evidence: Evidence) -> Result<(), String> {
        self.submit_evidence(evidence).map(|_| ()).map_err(|error| error.to_string())
    }

    fn unconfirmed(&self) -> Vec<bytes::Bytes> {
        self.pool().unconfirmed()
    }

    fn node_id(&self) -> String {
        self.switch().id().0.to_string()
    }

    fn peers(&self) -> Vec<String> {
        let peers = self.switch().statuses();
        peers.iter().map(|peer| format!("{}@{}", peer.id.0, peer.remote_addr)).collect()
    }
}

/// What a node is asked beside its chain. What it does not have stays as it is here: `control/1`, not implemented.
pub trait Control: Send + Sync {
    /// Everything of the status but `consensus`, which is filled in by the service. May read disk.
    fn status(&self) -> Status;

    /// Stops the node: at once, or with `wait` once it has stopped, which is when its registration has expired.
    fn request_shutdown(&self, wait: bool) -> BoxFuture<'_, Result<(), RpcError>>;

    /// Whether the node has caught up with the network; never goes back to `false`. `None`: not a node that syncs.
    fn synced(&self) -> Option<watch::Receiver<bool>> {
        None
    }

    /// Whether all of the node's services are ready. `None`: not a node that gets ready.
    fn ready(&self) -> Option<watch::Receiver<bool>> {
        None
    }

    /// Takes an upgrade. May write to disk.
    ///
    /// # Errors
    /// If it is refused.
    fn upgrade_binary(&self, descriptor: Descriptor) -> Result<(), RpcError> {
        drop(descriptor);
        Err(NotImplemented.into())
    }

    /// Takes an upgrade back. May write to disk.
    ///
    /// # Errors
    /// If there is none, or it is under way.
    fn cancel_upgrade(&self, descriptor: Descriptor) -> Result<(), RpcError> {
        drop(descriptor);
        Err(NotImplemented.into())
    }

    /// Whether the methods for test networks are served.
    fn is_debug(&self) -> bool {
        false
    }

    /// Begins an epoch, where epochs are moved by transactions (test networks).
    fn set_epoch(&self, epoch: Epoch) -> BoxFuture<'_, Result<(), RpcError>> {
        let _ = epoch;
        Box::pin(async { Err(NotImplemented.into()) })
    }

    /// Loads a runtime bundle from a file.
    fn add_bundle(&self, path: String) -> BoxFuture<'_, Result<(), RpcError>> {
        drop(path);
        Box::pin(async { Err(NotImplemented.into()) })
    }
}

/// The error of what a node does not have: `control/1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("control: not implemented")]
pub struct NotImplemented;

impl From<NotImplemented> for RpcError {
    fn from(error: NotImplemented) -> Self {
        Self::service("control", 1, error.to_string())
    }
}

/// Keys and addresses that the status of the consensus layer shows.
#[derive(Debug, Clone, Default)]
pub struct NodeKeys {
    /// Key that the node signs votes with.
    pub consensus: PublicKey,
    /// Key of connections to peers.
    pub p2p: PublicKey,
    /// Where peers reach the node.
    pub addresses: Vec<ConsensusAddress>,
}

/// Shows where the round machine stands; `None` while it does not run.
pub type RoundStates = Box<dyn Fn() -> Option<Arc<RoundState>> + Send + Sync>;

/// What the services stand on.
pub struct Backend {
    /// The state.
    pub queries: Queries,
    /// Blocks, transactions.
    pub engine: Arc<dyn Engine>,
    /// The node.
    pub control: Arc<dyn Control>,
    /// Its keys.
    pub keys: NodeKeys,
    /// Needed for `GetNextBlockState`, which is unknown without.
    pub rounds: Option<RoundStates>,
    /// Ends streams and waiting calls.
    pub stop: CancellationToken,
    reads: Arc<Semaphore>,
}

impl Backend {
    /// A backend without round states.
    pub fn new(
        queries: Queries,
        engine: Arc<dyn Engine>,
        control: Arc<dyn Control>,
        keys: NodeKeys,
        stop: CancellationToken,
    ) -> Self {
        Self { queries, engine, control, keys, rounds: None, stop, reads: Arc::new(Semaphore::new(MAX_READS)) }
    }

    /// Runs something that reads disk.
    pub(crate) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Arc<Self>) -> Result<T, RpcError> + Send + 'static,
    ) -> Result<T, RpcError> {
        let internal = |text: &str| RpcError::with(Code::Internal, text);
        let permit = Arc::clone(&self.reads).acquire_owned().await.map_err(|_| internal("node is shutting down"))?;
        let backend = Arc::clone(self);
        let reading = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            read(&backend)
        });
        reading.await.map_err(|_| internal("query ended unexpectedly"))?
    }

    /// The state after a block. As in the reference, any height below 1 stands for the newest.
    pub(crate) fn state(&self, height: i64) -> Result<StateAt, RpcError> {
        self.queries.state(height.max(0)).map_err(query_error)
    }

    /// A height, with 0 replaced by the newest one whose state is there.
    pub(crate) fn height(&self, height: i64) -> Result<i64, RpcError> {
        if height != 0 {
            return Ok(height);
        }
        match self.queries.latest().height {
            0 => Err(no_blocks()),
            latest => Ok(latest),
        }
    }

    /// Height of the last block that is still there; that of the genesis document if nothing was pruned.
    pub(crate) fn last_retained(&self) -> i64 {
        self.engine.blocks().base().max(self.queries.genesis().height)
    }
}

/// `consensus/1`.
pub(crate) fn no_blocks() -> RpcError {
    RpcError::service(CONSENSUS, 1, "consensus: no committed blocks")
}

/// `consensus/3`.
pub(crate) fn no_version() -> RpcError {
    RpcError::service(CONSENSUS, 3, "consensus: version not found")
}

/// As clients know it.
pub(crate) fn query_error(error: QueryError) -> RpcError {
    match error {
        QueryError::NoBlocks => no_blocks(),
        QueryError::Height { .. } => no_version(),
        QueryError::State(error) => service_error(&error),
        error @ QueryError::Database(_) => RpcError::unknown(error.to_string()),
    }
}

/// As clients know it.
pub(crate) fn service_error(error: &apps_core::Error) -> RpcError {
    match error {
        apps_core::Error::Coded(..) => {
            let (module, code) = error.code();
            RpcError::service(module, code, error.to_string())
        }
        error => RpcError::unknown(error.to_string()),
    }
}

/// A failure of a store.
pub(crate) fn store_error(error: impl std::fmt::Display) -> RpcError {
    RpcError::unknown(format!("cometbft: {error}"))
}
