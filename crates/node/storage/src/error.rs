//! What can go wrong with a runtime's storage on a node.

use mkvs_db::DbError;
use mkvs_db::checkpoint::CheckpointError;
use mkvs_tree::Root;
use node_workers::ChainError;
use p2p_net::api::P2pError;
use rt_history::HistoryError;
use rt_storage::StorageError;

/// A runtime's storage failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A store on disk cannot be opened.
    #[error("cannot open {what} of the runtime")]
    Open {
        /// Which.
        what: &'static str,
        /// Why.
        source: base_kv::KvError,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// The history failed.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The state failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The consensus layer cannot answer.
    #[error("can't retrieve {what}")]
    Chain {
        /// What was asked for.
        what: &'static str,
        /// Why.
        source: ChainError,
    },
    /// A protocol cannot be served.
    #[error("cannot serve a protocol")]
    Serve(#[from] P2pError),
    /// A round is here, but not that root.
    #[error("root {0} is not stored")]
    NoRoot(Box<Root>),
    /// A task ended in a way that it must not.
    #[error("task failed: {0}")]
    Task(String),
    /// The node keeps no state of this runtime.
    #[error("no state of the runtime is kept here")]
    Stateless,
}

impl From<DbError> for StoreError {
    fn from(e: DbError) -> Self {
        Self::Storage(e.into())
    }
}

impl From<CheckpointError> for StoreError {
    fn from(e: CheckpointError) -> Self {
        Self::Storage(e.into())
    }
}

/// An error with what led to it, for logs and status.
pub(crate) fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(e) = source {
        text = format!("{text}: {e}");
        source = e.source();
    }
    text
}
