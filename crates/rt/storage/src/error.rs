//! What can go wrong with a runtime's storage.

use mkvs_db::DbError;
use mkvs_db::checkpoint::CheckpointError;
use mkvs_tree::{Root, TreeError};

/// An operation failed.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// Reading or writing a checkpoint failed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A write log does not lead to the root it should.
    #[error("write log does not lead to {root}")]
    BadLog {
        /// The root.
        root: Box<Root>,
        /// What happened instead.
        source: Box<TreeError>,
    },
    /// A final version has other roots than the block.
    #[error("version {version} is final without root {root}")]
    OtherRoots {
        /// The version.
        version: u64,
        /// The block's root.
        root: Box<Root>,
    },
    /// The database holds another chain than the one that the runtime begins with.
    #[error("existing state is incompatible with runtime genesis state")]
    IncompatibleGenesis,
    /// A block that must be there is not.
    #[error("failed to get block for round {0}")]
    NoBlock(u64),
}

impl StorageError {
    /// Whether whoever made the write log is to blame, not this node.
    pub fn is_bad_log(&self) -> bool {
        matches!(self, Self::BadLog { .. })
    }
}
