//! What can go wrong with a history.

use base_kv::KvError;
use base_prims::Namespace;

/// An operation failed.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The store failed.
    #[error("history store failed")]
    Kv(#[from] KvError),
    /// There is no such block here, or its state is not there yet. The text is the reference's.
    #[error("roothash: block not found")]
    NotFound,
    /// The store belongs to another runtime.
    #[error("runtime/history: database for different runtime (expected: {expected} got: {found})")]
    OtherRuntime {
        /// The runtime asked for.
        expected: Namespace,
        /// The store's, or the block's.
        found: Namespace,
    },
    /// The store has a form that this program does not know.
    #[error("runtime/history: unsupported database version (expected: {expected} got: {found})")]
    Version {
        /// The known one.
        expected: u64,
        /// The store's.
        found: u64,
    },
    /// A record cannot be read.
    #[error("history record {what} is malformed")]
    Corrupt {
        /// Which.
        what: &'static str,
    },
    /// An annotated block without block.
    #[error("no block given for height {0}")]
    NoBlock(i64),
    /// The block's height lies before that of one that is there.
    #[error("commit at lower consensus height (current: {current} wanted: {wanted})")]
    LowerHeight {
        /// The newest.
        current: i64,
        /// The block's.
        wanted: i64,
    },
    /// The block's round is not after those that are there.
    #[error("commit at lower or equal round (current: {current} wanted: {wanted})")]
    LowerRound {
        /// The newest.
        current: u64,
        /// The block's.
        wanted: u64,
    },
    /// The storage says that it is at an earlier round than before.
    #[error("runtime/history: storage sync checkpoint at lower round (current: {current} wanted: {wanted})")]
    SyncedBack {
        /// What it said before.
        current: u64,
        /// What it says now.
        wanted: u64,
    },
    /// Somebody still needs the rounds.
    #[error("prune handler blocked pruning: {0}")]
    Veto(String),
    /// The consensus layer must keep a height.
    #[error("height {height} not yet indexed for {runtime}")]
    NotIndexed {
        /// The height.
        height: i64,
        /// The runtime.
        runtime: Namespace,
    },
}
