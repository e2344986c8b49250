//! What can go wrong with stores.

use std::path::PathBuf;

use base_kv::KvError;

/// A store failed, or what it holds is not usable.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The key-value store failed.
    #[error(transparent)]
    Kv(#[from] KvError),
    /// A file could not be read or written.
    #[error("failed to {action} {path}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// What is stored is damaged.
    #[error("stored {what} is damaged: {reason}")]
    Corrupt {
        /// What.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The folder holds another chain.
    #[error("store is of chain {stored:?}, not of {wanted:?}")]
    OtherChain {
        /// Chain id in the store.
        stored: String,
        /// Chain id asked for.
        wanted: String,
    },
    /// The folder was written by a newer version of this program.
    #[error("store has format {stored}, this program knows up to {known}")]
    FutureFormat {
        /// Format of the store.
        stored: u32,
        /// Newest format known.
        known: u32,
    },
    /// Blocks are stored one height after another.
    #[error("block of height {got} does not follow height {height}")]
    NotContiguous {
        /// Newest height stored.
        height: i64,
        /// Height to be stored.
        got: i64,
    },
    /// Another block is stored at this height.
    #[error("another block is stored at height {0}")]
    OtherBlock(i64),
    /// The block, its parts or its commit do not belong together.
    #[error("block of height {height}: {reason}")]
    BadBlock {
        /// Its height.
        height: i64,
        /// What is wrong.
        reason: &'static str,
    },
    /// Something that must be there is not.
    #[error("no {what} stored for height {height}")]
    Missing {
        /// What.
        what: &'static str,
        /// Height.
        height: i64,
    },
    /// What is to be removed reaches above what is stored.
    #[error("cannot prune to height {retain}: store ends at {height}")]
    PruneAbove {
        /// Lowest height to be kept.
        retain: i64,
        /// Newest height stored.
        height: i64,
    },
    /// A record is longer than the log allows.
    #[error("log record is too long")]
    RecordTooLong,
    /// A historical validator set is too far from the stored one.
    #[error("validator set of height {height} cannot be rotated {steps} steps on")]
    Rotation {
        /// Height of the stored set.
        height: i64,
        /// Steps.
        steps: i64,
    },
}

/// Turns an error of the system into one that names file and action.
pub(crate) fn io(action: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { action, path, source }
}

pub(crate) fn corrupt(what: &'static str, reason: impl ToString) -> StoreError {
    StoreError::Corrupt { what, reason: reason.to_string() }
}
