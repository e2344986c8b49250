//! Answering requests for blocks.
//!
//! Reference: `respondToPeer` of `cometbft:blocksync/reactor.go`, which sends blocks encoded anew.

use bytes::Bytes;
use comet_store::BlockStore;
use wire_cometbft::Message;
use wire_cometbft::blocksync::{BlocksyncMessage, BlocksyncMessageSum, NoBlockResponse};
use wire_cometbft::codec::{WireType, put_key, put_varint};

use super::CHANNEL;
use crate::server::Answer;

/// Blocks as they are served.
pub trait BlockSource: Send + Sync + 'static {
    /// Lowest height; 0: none.
    fn base(&self) -> i64;
    /// Greatest height; 0: none.
    fn height(&self) -> i64;
    /// A block's encoding; `None` if it is not there or cannot be read. May block.
    fn block_bytes(&self, height: i64) -> Option<Bytes>;
}

impl BlockSource for BlockStore {
    fn base(&self) -> i64 {
        BlockStore::base(self)
    }

    fn height(&self) -> i64 {
        BlockStore::height(self)
    }

    fn block_bytes(&self, height: i64) -> Option<Bytes> {
        BlockStore::block_bytes(self, height).unwrap_or_else(|error| {
            tracing::error!(height, %error, "stored block cannot be read");
            None
        })
    }
}

/// The answer that carries a block's stored bytes.
pub(super) fn block_response(block: &[u8]) -> Bytes {
    let mut inner = Vec::with_capacity(12);
    put_key(1, WireType::Bytes, &mut inner);
    put_varint(block.len() as u64, &mut inner);
    let mut out = Vec::with_capacity(block.len() + 24);
    put_key(3, WireType::Bytes, &mut out);
    put_varint((inner.len() + block.len()) as u64, &mut out);
    out.extend_from_slice(&inner);
    out.extend_from_slice(block);
    out.into()
}

fn no_block(height: i64) -> Bytes {
    let sum = Some(BlocksyncMessageSum::NoBlockResponse(NoBlockResponse { height }));
    BlocksyncMessage { sum }.encode_to_vec().into()
}

/// The answer to a request for a block. May block.
pub(super) fn answer(source: &dyn BlockSource, height: i64) -> Vec<Answer> {
    let block = source.block_bytes(height);
    vec![(CHANNEL, block.map_or_else(|| no_block(height), |block| block_response(&block)))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire_cometbft::block::Block;
    use wire_cometbft::blocksync::BlockResponse;

    #[test]
    fn stored_bytes_make_the_same_answer() {
        let block = Block::default();
        let sum = Some(BlocksyncMessageSum::BlockResponse(BlockResponse { block: Some(block.clone()) }));
        assert_eq!(block_response(&block.encode_to_vec()), BlocksyncMessage { sum }.encode_to_vec());
    }
}
