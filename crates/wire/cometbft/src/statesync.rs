//! Messages of the state sync channels (0x60 snapshots, 0x61 chunks).
//!
//! Reference: `cometbft:proto/tendermint/statesync/types.proto`, `statesync/messages.go`.

use crate::codec::{messages, oneofs};

messages! {
    /// Asks for snapshots.
    pub struct SnapshotsRequest {
    }

    /// Describes one snapshot.
    pub struct SnapshotsResponse {
        /// Height.
        1 => height: u64,
        /// Format.
        2 => format: u32,
        /// Number of chunks.
        3 => chunks: u32,
        /// Hash that tells snapshots apart.
        4 => hash: Vec<u8>,
        /// Whatever the application needs to restore it.
        5 => metadata: Vec<u8>,
    }

    /// Asks for a chunk.
    pub struct ChunkRequest {
        /// Height.
        1 => height: u64,
        /// Format.
        2 => format: u32,
        /// Number of the chunk, from 0.
        3 => index: u32,
    }

    /// Carries a chunk or says that it is missing.
    pub struct ChunkResponse {
        /// Height.
        1 => height: u64,
        /// Format.
        2 => format: u32,
        /// Number of the chunk.
        3 => index: u32,
        /// The chunk.
        4 => chunk: Vec<u8>,
        /// Whether the sender does not have it.
        5 => missing: bool,
    }
}

oneofs! {
    /// A message of either channel.
    pub struct StatesyncMessage = enum StatesyncMessageSum {
        /// Asks for snapshots.
        1 => SnapshotsRequest(SnapshotsRequest),
        /// A snapshot.
        2 => SnapshotsResponse(SnapshotsResponse),
        /// Asks for a chunk.
        3 => ChunkRequest(ChunkRequest),
        /// A chunk.
        4 => ChunkResponse(ChunkResponse),
    }
}

/// Why a message is refused before anything else looks at it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatesyncError {
    /// No member set.
    #[error("empty message")]
    Empty,
    /// Height 0.
    #[error("zero height")]
    ZeroHeight,
    /// A snapshot without chunks.
    #[error("snapshot has no chunks")]
    NoChunks,
    /// A snapshot without hash.
    #[error("snapshot has no hash")]
    NoHash,
    /// A missing chunk with contents, or one that is neither missing nor has contents.
    #[error("chunk contents do not agree with the missing mark")]
    ChunkContents,
}

impl StatesyncMessage {
    /// Checks what every receiver checks.
    pub fn validate_basic(&self) -> Result<(), StatesyncError> {
        let height = match self.sum.as_ref().ok_or(StatesyncError::Empty)? {
            StatesyncMessageSum::SnapshotsRequest(_) => 1,
            StatesyncMessageSum::SnapshotsResponse(message) => {
                if message.height != 0 && message.hash.is_empty() {
                    return Err(StatesyncError::NoHash);
                }
                if message.height != 0 && message.chunks == 0 {
                    return Err(StatesyncError::NoChunks);
                }
                message.height
            }
            StatesyncMessageSum::ChunkRequest(message) => message.height,
            StatesyncMessageSum::ChunkResponse(message) => {
                // An empty chunk that is present and a nil one look alike on the wire.
                if message.missing && !message.chunk.is_empty() {
                    return Err(StatesyncError::ChunkContents);
                }
                if !message.missing && message.chunk.is_empty() {
                    return Err(StatesyncError::ChunkContents);
                }
                message.height
            }
        };
        if height == 0 { Err(StatesyncError::ZeroHeight) } else { Ok(()) }
    }
}
