//! What the services stand on.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use apps_core::submit::TransactionSubmitter;
use base_grpc::{Code, RpcError};
use base_prims::{Epoch, PublicKey};
use comet_chain::app::BlockResults;
use comet_chain::light::LightBlock;
use comet_chain::validators::ValidatorSet;
use comet_core::RoundState;
use comet_engine::EngineHandle;
use comet_store::{NewBlock, StoredChain};
use node_app::{Queries, QueryError, StateAt};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, broadcast, watch};
use tokio_util::sync::CancellationToken;
use wire_cometbft::block::Block;
use wire_cometbft::evidence::Evidence;
use wire_cometbft::params::ConsensusParams;
use wire_consensus::node::ConsensusAddress;
use wire_consensus::upgrade::Descriptor;

use crate::status::Status;

/// A boxed future, so that traits can be objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Most reads of disk at once; further calls wait.
pub const MAX_READS: usize = 64;

/// Module of the consensus service's errors.
pub const CONSENSUS: &str = "consensus";
/// Its code for what a kind of node does not do.
pub const UNSUPPORTED: u32 = 4;
/// And the text.
pub const UNSUPPORTED_TEXT: &str = "consensus: method not supported";

/// A block could not be read or fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReadError(pub String);

impl ReadError {
    fn of(error: &impl std::error::Error) -> Self {
        Self(error.to_string())
    }
}

/// Blocks and what belongs to them; `None` for heights that are not there. Calls wait: for the disk, or for the network.
pub trait Blocks: Send + Sync {
    /// A block. That of a node that keeps none has no evidence in it.
    ///
    /// # Errors
    /// If it cannot be read, or not be verified.
    fn block(&self, height: i64) -> Result<Option<Block>, ReadError>;
    /// What its execution gave.
    ///
    /// # Errors
    /// As [`Self::block`].
    fn results(&self, height: i64) -> Result<Option<BlockResults>, ReadError>;
    /// Header, commit and validators.
    ///
    /// # Errors
    /// As [`Self::block`].
    fn light_block(&self, height: i64) -> Result<Option<LightBlock>, ReadError>;
    /// Validators; of the height after the newest too.
    ///
    /// # Errors
    /// As [`Self::block`].
    fn validators(&self, height: i64) -> Result<Option<ValidatorSet>, ReadError>;
    /// CometBFT's parameters.
    ///
    /// # Errors
    /// As [`Self::block`].
    fn params(&self, height: i64) -> Result<Option<ConsensusParams>, ReadError>;
    /// Height of the oldest block; 0: none.
    fn base(&self) -> i64;
    /// Height of the newest block; 0: none.
    fn height(&self) -> i64;
}

impl Blocks for StoredChain {
    fn block(&self, height: i64) -> Result<Option<Block>, ReadError> {
        self.blocks.block(height).map_err(|error| ReadError::of(&error))
    }

    fn results(&self, height: i64) -> Result<Option<BlockResults>, ReadError> {
        self.chain.results(height).map_err(|error| ReadError::of(&error))
    }

    fn light_block(&self, height: i64) -> Result<Option<LightBlock>, ReadError> {
        self.chain.light_block(&self.blocks, height).map_err(|error| ReadError::of(&error))
    }

    fn validators(&self, height: i64) -> Result<Option<ValidatorSet>, ReadError> {
        self.chain.validators(height).map_err(|error| ReadError::of(&error))
    }

    fn params(&self, height: i64) -> Result<Option<ConsensusParams>, ReadError> {
        self.chain.params(height).map_err(|error| ReadError::of(&error))
    }

    fn base(&self) -> i64 {
        self.blocks.base()
    }

    fn height(&self) -> i64 {
        self.blocks.height()
    }
}

/// A block and what its execution gave.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Its height.
    pub height: i64,
    /// The block.
    pub block: Arc<Block>,
    /// What its execution gave.
    pub results: Arc<BlockResults>,
}

impl From<&NewBlock> for Applied {
    fn from(new: &NewBlock) -> Self {
        let (block, results) = (Arc::clone(&new.block), Arc::clone(&new.results));
        Self { height: block.header.height, block, results }
    }
}

/// Tells of blocks. May be dropped while it waits, without loss.
pub trait Feed: Send {
    /// The next block; who lags behind is told so.
    fn next(&mut self) -> BoxFuture<'_, Result<Applied, RecvError>>;
}

impl Feed for broadcast::Receiver<Arc<NewBlock>> {
    fn next(&mut self) -> BoxFuture<'_, Result<Applied, RecvError>> {
        Box::pin(async move { self.recv().await.map(|new| new.as_ref().into()) })
    }
}

impl Feed for broadcast::Receiver<Applied> {
    fn next(&mut self) -> BoxFuture<'_, Result<Applied, RecvError>> {
        Box::pin(self.recv())
    }
}

/// What kind of node this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Takes part in the network.
    Full,
    /// Keeps nothing, and verifies what others say.
    Stateless,
    /// Has what it has, and takes no part.
    Archive,
}

/// Where blocks come from and transactions go.
pub trait Engine: Send + Sync {
    /// What kind of node this is.
    fn kind(&self) -> Kind {
        Kind::Full
    }
    /// The blocks.
    fn blocks(&self) -> &dyn Blocks;
    /// Tells of every block applied from now on.
    fn subscribe(&self) -> Box<dyn Feed>;
    /// Takes transactions.
    fn submitter(&self) -> &dyn TransactionSubmitter;
    /// Takes evidence, to be gossiped and put into a block.
    ///
    /// # Errors
    /// Why it is refused.
    fn submit_evidence(&self, evidence: Evidence) -> Result<(), RpcError>;
    /// Transactions that wait, in the pool's order.
    ///
    /// # Errors
    /// If whoever knows cannot be asked.
    fn unconfirmed(&self) -> Result<Vec<bytes::Bytes>, RpcError>;
    /// This node's id among consensus peers: 40 lower-case hexadecimal digits; empty if it has none.
    fn node_id(&self) -> String;
    /// Consensus peers as `ID@IP:PORT`.
    fn peers(&self) -> Vec<String>;
}

/// The engine of a node that takes part.
pub struct Running {
    handle: EngineHandle,
    stored: StoredChain,
}

impl Running {
    /// Around a running engine.
    pub fn new(handle: EngineHandle) -> Self {
        let stored = StoredChain { blocks: Arc::clone(handle.blocks()), chain: Arc::clone(handle.chain()) };
        Self { handle, stored }
    }
}

impl Engine for Running {
    fn blocks(&self) -> &dyn Blocks {
        &self.stored
    }

    fn subscribe(&self) -> Box<dyn Feed> {
        Box::new(self.handle.subscribe())
    }

    fn submitter(&self) -> &dyn TransactionSubmitter {
        self.handle.submitter()
    }

    fn submit_evidence(&self, evidence: Evidence) -> Result<(), RpcError> {
        let submitted = self.handle.submit_evidence(evidence).map(|_| ());
        submitted.map_err(|error| store_error(format!("broadcast evidence failed: {error}")))
    }

    fn unconfirmed(&self) -> Result<Vec<bytes::Bytes>, RpcError> {
        Ok(self.handle.pool().unconfirmed())
    }

    fn node_id(&self) -> String {
        self.handle.switch().id().0.to_string()
    }

    fn peers(&self) -> Vec<String> {
        let peers = self.handle.switch().statuses();
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

/// `consensus/4`: what this kind of node does not do.
pub fn unsupported() -> RpcError {
    RpcError::service(CONSENSUS, UNSUPPORTED, UNSUPPORTED_TEXT)
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
        error @ (QueryError::Database(_) | QueryError::Remote(_)) => RpcError::unknown(error.to_string()),
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
