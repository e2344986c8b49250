//! What can go wrong in the node database.

use base_kv::KvError;
use base_prims::{Hash, Namespace};
use mkvs_tree::{LoadError, Root, RootType, TreeError};

/// A database operation failed.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The key-value store failed.
    #[error("node database storage failed")]
    Kv(#[from] KvError),
    /// A tree operation failed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The store holds something that is no node database.
    #[error("store is not a node database: {0}")]
    NotADatabase(&'static str),
    /// The store was written by a newer program.
    #[error("node database has format {found}, this program knows formats up to {known}; use a newer program")]
    NewerFormat {
        /// The store's format.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// The store belongs to another namespace.
    #[error("node database belongs to namespace {found}, not {expected}")]
    OtherNamespace {
        /// The namespace asked for.
        expected: Namespace,
        /// The store's namespace.
        found: Namespace,
    },
    /// A record cannot be read.
    #[error("{what} in the node database is malformed")]
    Corrupt {
        /// The kind of record.
        what: &'static str,
    },
    /// The root is not stored, or was pruned.
    #[error("root not found: {0}")]
    RootNotFound(Root),
    /// The version is not stored, or was pruned.
    #[error("version {0} not found")]
    VersionNotFound(u64),
    /// The version is final and cannot be changed.
    #[error("version {version} is already finalized (latest is {latest})")]
    AlreadyFinalized {
        /// The version asked for.
        version: u64,
        /// The latest finalized version.
        latest: u64,
    },
    /// The version must be finalized for this.
    #[error("version {0} is not finalized")]
    NotFinalized(u64),
    /// A tree cannot be committed to this version.
    #[error("root of version {base} cannot be followed by version {version}")]
    MustFollow {
        /// Version of the tree's base.
        base: u64,
        /// Version it was to be committed to.
        version: u64,
    },
    /// Roots of this type start empty in each version.
    #[error("roots of type {0} cannot build on an earlier version")]
    NoChildRoots(RootType),
    /// The list of roots to finalize is not one version with at most one root per type.
    #[error("roots to finalize must be of one version and of different types")]
    MixedRoots,
    /// Only the earliest version can be pruned.
    #[error("version {version} is not the earliest, which is {earliest}")]
    NotEarliest {
        /// The version asked for.
        version: u64,
        /// The earliest version.
        earliest: u64,
    },
    /// The latest version cannot be pruned.
    #[error("version {0} is the latest and cannot be pruned")]
    CannotPruneLatest(u64),
    /// A restore is running.
    #[error("multipart restore of version {0} is in progress")]
    MultipartInProgress(u64),
    /// No restore of this version is running.
    #[error("no multipart restore of version {0} is in progress")]
    NoMultipart(u64),
    /// A restore lacks a node.
    #[error("restored tree lacks node {0}")]
    Incomplete(Hash),
    /// There is no path of write logs between the roots.
    #[error("write log not found between {start} and {end}")]
    WriteLogNotFound {
        /// Where the log was to start.
        start: Hash,
        /// Where it was to end.
        end: Hash,
    },
    /// An earlier commit of this tree failed; open it anew.
    #[error("tree is unusable after a failed commit")]
    TreePoisoned,
    /// Too many competing roots in one version.
    #[error("version {0} has too many batches")]
    TooManyBatches(u64),
}

impl From<LoadError> for DbError {
    fn from(e: LoadError) -> Self {
        Self::Tree(e.into())
    }
}
