//! Answering requests for blocks: one task per peer, at a bounded rate.
//!
//! Reference: `respondToPeer` of `cometbft:blocksync/reactor.go`, which answers on the peer's read routine, from blocks
//! encoded anew, at any rate.

use std::sync::Arc;

use bytes::Bytes;
use comet_store::BlockStore;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wire_cometbft::Message;
use wire_cometbft::blocksync::{BlocksyncMessage, BlocksyncMessageSum, NoBlockResponse};
use wire_cometbft::codec::{WireType, put_key, put_varint};

use super::CHANNEL;
use crate::port::Port;
use crate::rate::{Budget, ServeLimits};

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

/// One peer's requests; its task ends when this is dropped.
pub(super) struct Server {
    requests: mpsc::Sender<i64>,
}

impl Server {
    pub(super) fn start(
        tasks: &TaskTracker,
        runtime: &Handle,
        stop: &CancellationToken,
        port: Arc<dyn Port>,
        source: Arc<dyn BlockSource>,
        limits: ServeLimits,
    ) -> Self {
        let (requests, queue) = mpsc::channel(limits.queue.max(1));
        let stop = stop.clone();
        tasks.spawn_on(
            async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = serve(queue, port, source, limits) => {}
                }
            },
            runtime,
        );
        Self { requests }
    }

    /// Queues a request.
    pub(super) fn ask(&self, height: i64) {
        if self.requests.try_send(height).is_err() {
            tracing::debug!(height, "too many block requests wait");
        }
    }
}

async fn serve(mut queue: mpsc::Receiver<i64>, port: Arc<dyn Port>, source: Arc<dyn BlockSource>, limits: ServeLimits) {
    let mut budget = Budget::new(limits, Instant::now());
    while let Some(height) = queue.recv().await {
        let wait = budget.wait(Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        let reader = Arc::clone(&source);
        let Ok(block) = tokio::task::spawn_blocking(move || reader.block_bytes(height)).await else {
            return;
        };
        let answer = block.map_or_else(|| no_block(height), |block| block_response(&block));
        budget.spend(answer.len() as u64, Instant::now());
        let _sent = port.send(CHANNEL, answer).await;
    }
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
