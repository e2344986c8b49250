//! Channel 0x30: transactions to and from peers.
//!
//! Reference: `cometbft:mempool/v1/reactor.go`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use comet_core::PeerId;
use comet_net::{ChannelDescriptor, DropPeer, Peer, Reactor};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wire_cometbft::Message;
use wire_cometbft::limits::MAX_MEMPOOL_MESSAGE_BYTES;
use wire_cometbft::mempool::{MempoolMessage, MempoolMessageSum, Txs};

use super::TxPool;
use crate::peers::{PEER_RETRY, PeerHeights};

/// Number of the channel.
pub const TX_CHANNEL: u8 = 0x30;
/// Share of the connection.
pub const TX_CHANNEL_PRIORITY: u32 = 5;
/// Most transactions in one message; nodes send one.
pub const MAX_TXS_PER_MESSAGE: usize = 5_000;
/// How long a peer is given to apply the block that a transaction was taken after. Checked against an older state, one
/// that depends on the new block (a proof due from then on, a commitment to its round) is refused, and no peer asks again.
/// The reference does not wait; it is slower to send.
pub const CATCH_UP: Duration = Duration::from_millis(500);
/// How often is looked whether it has.
const CATCH_UP_RETRY: Duration = Duration::from_millis(5);

/// Sends the pool's transactions to each peer in order of arrival, and checks what peers send.
///
/// A peer's transactions are checked one after the other on its own read task, and all peers and submitters take turns:
/// a peer that floods is slowed by its own connection filling up and holds one message in memory.
pub struct TxPoolReactor {
    pool: Arc<TxPool>,
    heights: Arc<dyn PeerHeights>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl TxPoolReactor {
    /// A reactor whose tasks end with `stop`.
    pub fn new(pool: Arc<TxPool>, heights: Arc<dyn PeerHeights>, stop: CancellationToken) -> Self {
        Self { pool, heights, stop, tasks: TaskTracker::new() }
    }

    /// Ends with the last gossip task after the token was cancelled.
    pub async fn finished(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Takes one message of a peer.
    async fn take(&self, from: &PeerId, message: Bytes) -> Result<(), DropPeer> {
        let txs = decode(&message)?;
        drop(message);
        for tx in txs {
            let outcome = self.pool.submit(Bytes::from(tx), Some(from.clone())).await;
            tracing::trace!(peer = %from.0, ?outcome, "transaction from peer");
        }
        Ok(())
    }

    fn spawn_gossip(&self, peer: Peer) {
        if self.pool.config().broadcast {
            let (pool, heights, stop) = (Arc::clone(&self.pool), Arc::clone(&self.heights), self.stop.clone());
            self.tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = peer.stopped() => {}
                    () = gossip(&pool, &*heights, &peer) => {}
                }
            });
        }
    }
}

/// The transactions of a message; none if it is empty.
fn decode(message: &[u8]) -> Result<Vec<Vec<u8>>, DropPeer> {
    let message = MempoolMessage::decode_limited(message, MAX_MEMPOOL_MESSAGE_BYTES)
        .map_err(|error| DropPeer::new(format!("transaction message: {error}")))?;
    let Some(MempoolMessageSum::Txs(Txs { txs })) = message.sum else {
        return Err(DropPeer::new("transaction message of unknown kind"));
    };
    if txs.len() > MAX_TXS_PER_MESSAGE {
        return Err(DropPeer::new(format!("{} transactions in one message", txs.len())));
    }
    Ok(txs)
}

fn encode(tx: &[u8]) -> Bytes {
    let message: MempoolMessage = MempoolMessageSum::Txs(Txs { txs: vec![tx.to_vec()] }).into();
    Bytes::from(message.encode_to_vec())
}

/// A peer that has yet to apply a block, and since when it is known to be at that height.
struct Behind {
    at: i64,
    since: Instant,
}

impl Behind {
    /// Whether a peer at this height is still worth a wait.
    fn wait(known: &mut Option<Self>, at: i64) -> bool {
        if known.as_ref().is_none_or(|behind| behind.at != at) {
            *known = Some(Self { at, since: Instant::now() });
        }
        known.as_ref().is_some_and(|behind| behind.since.elapsed() < CATCH_UP)
    }
}

/// Sends transactions for as long as it is polled.
async fn gossip(pool: &TxPool, heights: &dyn PeerHeights, peer: &Peer) {
    let mut arrivals = pool.subscribe_arrivals();
    let mut last = 0;
    let mut behind = None;
    loop {
        arrivals.borrow_and_update();
        while let Some(next) = pool.next_for(peer.id(), last) {
            if next.known {
                last = next.seq;
                continue;
            }
            // The one it works on.
            let height = heights.height(peer.id());
            if let Some(at) = height
                && at <= next.height
                && at >= next.height.saturating_sub(1)
                && Behind::wait(&mut behind, at)
            {
                tokio::time::sleep(CATCH_UP_RETRY).await;
                continue;
            }
            // A peer may be one block behind when it checks the transaction.
            let caught_up = height.is_some_and(|height| height >= next.height.saturating_sub(1));
            if caught_up && peer.send(TX_CHANNEL, encode(&next.tx)).await {
                last = next.seq;
            } else {
                tokio::time::sleep(PEER_RETRY).await;
            }
        }
        if arrivals.changed().await.is_err() {
            return;
        }
    }
}

impl Reactor for TxPoolReactor {
    fn channels(&self) -> Vec<ChannelDescriptor> {
        vec![ChannelDescriptor {
            id: TX_CHANNEL,
            priority: TX_CHANNEL_PRIORITY,
            send_queue: 1,
            max_message: MAX_MEMPOOL_MESSAGE_BYTES,
        }]
    }

    fn add_peer(&self, peer: &Peer) {
        if peer.has_channel(TX_CHANNEL) {
            self.spawn_gossip(peer.clone());
        }
    }

    fn receive<'a>(&'a self, _channel: u8, peer: &'a Peer, message: Bytes) -> BoxFuture<'a, Result<(), DropPeer>> {
        self.take(peer.id(), message).boxed()
    }
}

#[cfg(test)]
pub(crate) mod tests;
