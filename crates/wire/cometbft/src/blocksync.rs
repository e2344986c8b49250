//! Messages of the block sync channel (0x40).
//!
//! Reference: `cometbft:proto/tendermint/blocksync/types.proto`, `blocksync/msgs.go`.

use crate::block::Block;
use crate::codec::{messages, oneofs};

messages! {
    /// Asks for a block.
    pub struct BlockRequest {
        /// Height.
        1 => height: i64,
    }

    /// Says that a block is not there.
    pub struct NoBlockResponse {
        /// Height.
        1 => height: i64,
    }

    /// Carries a block.
    pub struct BlockResponse {
        /// The block.
        1 => block: Option<Block>,
    }

    /// Asks for the range of blocks.
    pub struct StatusRequest {
    }

    /// States the range of blocks.
    pub struct StatusResponse {
        /// Highest height.
        1 => height: i64,
        /// Lowest height.
        2 => base: i64,
    }
}

oneofs! {
    /// A message of the channel.
    pub struct BlocksyncMessage = enum BlocksyncMessageSum {
        /// Asks for a block.
        1 => BlockRequest(BlockRequest),
        /// A block is not there.
        2 => NoBlockResponse(NoBlockResponse),
        /// A block.
        3 => BlockResponse(BlockResponse),
        /// Asks for the range.
        4 => StatusRequest(StatusRequest),
        /// The range.
        5 => StatusResponse(StatusResponse),
    }
}

/// Why a message is refused before anything else looks at it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlocksyncError {
    /// No member set.
    #[error("empty message")]
    Empty,
    /// A height or base below zero.
    #[error("negative height")]
    NegativeHeight,
    /// A base above the height.
    #[error("base {base} above height {height}")]
    BaseAboveHeight {
        /// Lowest height.
        base: i64,
        /// Highest height.
        height: i64,
    },
    /// A response without block, or with one that breaks a stateless rule.
    #[error("invalid block: {0}")]
    Block(#[from] crate::block::BasicError),
}

impl BlocksyncMessage {
    /// Checks ranges and, in a response, the block.
    pub fn validate_basic(&self) -> Result<(), BlocksyncError> {
        let height = match self.sum.as_ref().ok_or(BlocksyncError::Empty)? {
            BlocksyncMessageSum::BlockRequest(message) => message.height,
            BlocksyncMessageSum::NoBlockResponse(message) => message.height,
            BlocksyncMessageSum::BlockResponse(message) => {
                let block = message.block.as_ref().ok_or(crate::block::BasicError::Missing("block"))?;
                block.validate_basic()?;
                0
            }
            BlocksyncMessageSum::StatusRequest(_) => 0,
            BlocksyncMessageSum::StatusResponse(StatusResponse { height, base }) => {
                if *base < 0 {
                    return Err(BlocksyncError::NegativeHeight);
                }
                if *height >= 0 && base > height {
                    return Err(BlocksyncError::BaseAboveHeight { base: *base, height: *height });
                }
                *height
            }
        };
        if height < 0 { Err(BlocksyncError::NegativeHeight) } else { Ok(()) }
    }
}
