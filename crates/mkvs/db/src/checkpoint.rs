//! Checkpoints: a tree cut into chunks that can be fetched from anybody and verified one by one.
//!
//! Metadata (CBOR): `{version: 1, root, chunks: [digest]}`; its hash identifies the checkpoint. A chunk is a snappy
//! framed stream of CBOR items, each an entry of a version 0 proof for the whole root; its digest is SHA-512/256 of the
//! compressed bytes. Source: `go/storage/mkvs/checkpoint`.
//!
//! `chunk` has the form of a chunk, `create` the sequential and `subtree` the parallel way of cutting, `restore` the way
//! back, `files` the folder in which checkpoints are kept.

mod chunk;
mod create;
mod files;
mod restore;
mod subtree;

use base_codec::Codec;
use base_prims::Hash;
use mkvs_tree::{Root, RootType};

pub use chunk::{MAX_CHUNK_BYTES, decode_chunk, encode_chunk};
pub use create::{ChunkSink, create};
pub use files::Files;
pub use restore::Restorer;

use crate::error::DbError;

/// The version of metadata and chunks.
pub const VERSION: u16 = 1;

/// Describes a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug, Default, Codec)]
pub struct Metadata {
    /// Form of the checkpoint.
    pub version: u16,
    /// The tree.
    pub root: Root,
    /// Digest of each chunk.
    pub chunks: Vec<Hash>,
}

/// Names a chunk of a checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Codec)]
pub struct ChunkMetadata {
    /// Form of the checkpoint.
    pub version: u16,
    /// The tree.
    pub root: Root,
    /// Number of the chunk.
    pub index: u64,
    /// Its digest.
    pub digest: Hash,
}

impl Metadata {
    /// The hash that identifies the checkpoint.
    pub fn id(&self) -> Hash {
        Hash::of_cbor(self)
    }

    /// Checks what can be checked without the chunks.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn validate(&self) -> Result<(), CheckpointError> {
        if self.version != VERSION {
            return Err(CheckpointError::UnknownVersion(self.version));
        }
        if !RootType::KNOWN.contains(&self.root.root_type) {
            return Err(CheckpointError::RootType(self.root.root_type.0));
        }
        if self.chunks.is_empty() {
            return Err(CheckpointError::NoChunks);
        }
        Ok(())
    }

    /// Names a chunk.
    pub fn chunk(&self, index: u64) -> Option<ChunkMetadata> {
        let digest = *self.chunks.get(usize::try_from(index).ok()?)?;
        Some(ChunkMetadata { version: self.version, root: self.root, index, digest })
    }
}

/// Making, reading or restoring a checkpoint failed.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A file could not be read or written.
    #[error("cannot {action} {path}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file or folder.
        path: std::path::PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The receiver of chunks failed.
    #[error("cannot store chunk {index}")]
    Sink {
        /// Number of the chunk.
        index: u64,
        /// The receiver's error.
        source: std::io::Error,
    },
    /// The metadata has a version that is not known.
    #[error("unknown checkpoint version {0}")]
    UnknownVersion(u16),
    /// The metadata is for a type of root that is not known.
    #[error("invalid root type {0}")]
    RootType(u8),
    /// The metadata lists no chunks.
    #[error("checkpoint has no chunks")]
    NoChunks,
    /// The stored metadata cannot be read.
    #[error("checkpoint metadata in {path} is malformed")]
    Metadata {
        /// The file.
        path: std::path::PathBuf,
    },
    /// There is no such checkpoint.
    #[error("checkpoint not found: {0}")]
    NotFound(Root),
    /// There is no such chunk.
    #[error("chunk {0} not found")]
    ChunkNotFound(u64),
    /// The chunk is not what the metadata says: fetch it again from somebody else.
    #[error("chunk {index} is corrupted: expected digest {expected}, got {got}")]
    ChunkCorrupted {
        /// Number of the chunk.
        index: u64,
        /// The metadata's digest.
        expected: Hash,
        /// The chunk's digest.
        got: Hash,
    },
    /// The chunk is what the metadata says but proves nothing: the checkpoint is bad.
    #[error("chunk {index} does not verify: {reason}")]
    ChunkInvalid {
        /// Number of the chunk.
        index: u64,
        /// What is wrong.
        reason: String,
    },
    /// The chunk was restored before.
    #[error("chunk {0} is already restored")]
    ChunkAlreadyRestored(u64),
    /// A restore is in progress.
    #[error("a restore is already in progress")]
    RestoreInProgress,
    /// No restore is in progress.
    #[error("no restore is in progress")]
    NoRestore,
}
