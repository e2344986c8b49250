//! What the duties of a node see of the consensus layer.

use std::sync::Arc;

use apps_core::submit::{BoxFuture, Included, SubmitError};
use base_crypto::context::ChainContext;
use base_prims::PublicKey;
use mkvs_tree::KvRead;
use tokio::sync::{broadcast, watch};
use wire_consensus::roothash::{Event, ExecutorCommit};
use wire_consensus::transaction::Transaction;

/// Why the consensus layer could not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// There is no block yet.
    #[error("no committed blocks")]
    NoBlocks,
    /// The state of that height is not there: pruned, or not yet made.
    #[error("no state at height {0}")]
    NoState(i64),
    /// The state could not be read, or a service refused.
    #[error("{0}")]
    Service(String),
}

impl From<apps_core::Error> for ChainError {
    fn from(error: apps_core::Error) -> Self {
        Self::Service(error.to_string())
    }
}

/// The consensus layer: its state at any height, and where transactions go.
pub trait Chain: Send + Sync {
    /// Height of the newest state; 0: none.
    fn latest_height(&self) -> i64;
    /// State after the block at a height; 0: the newest.
    fn state(&self, height: i64) -> Result<Box<dyn KvRead + Send>, ChainError>;
    /// Gas that a transaction of the signer would use.
    fn estimate_gas(&self, signer: PublicKey, tx: &Transaction) -> Result<u64, ChainError>;
    /// Checks, gossips, and waits for inclusion.
    fn submit(&self, tx: Vec<u8>) -> BoxFuture<'_, Result<Included, SubmitError>>;
    /// The newest height, told at every block.
    fn heights(&self) -> watch::Receiver<i64>;
    /// Whether the first synchronisation is over.
    fn synced(&self) -> watch::Receiver<bool>;
    /// What signatures of transactions are bound to.
    fn context(&self) -> &ChainContext;
}

/// What workers of runtimes see beside the state.
pub trait Blocks: Chain {
    /// Height of the genesis document.
    fn genesis_height(&self) -> i64;
    /// Height of the oldest block that is still there.
    fn last_retained(&self) -> i64;
    /// Events of the root hash service that the block at a height brought, of all runtimes, in order. Reads disk.
    fn roothash_events(&self, height: i64) -> Result<Vec<Event>, ChainError>;
    /// Commitments in transactions that the pool has taken, from now on; who lags behind misses some.
    fn commitments(&self) -> broadcast::Receiver<Arc<ExecutorCommit>>;
}
