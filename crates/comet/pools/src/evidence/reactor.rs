//! Channel 0x38: evidence to and from peers.
//!
//! Reference: `cometbft:evidence/reactor.go`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use comet_core::PeerId;
use comet_net::{ChannelDescriptor, DropPeer, Peer, Reactor};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wire_cometbft::Message;
use wire_cometbft::evidence::{Evidence, EvidenceList};
use wire_cometbft::limits::MAX_CONSENSUS_MESSAGE_BYTES;

use super::{AddError, EvidencePool};
use crate::peers::{PEER_RETRY, PeerHeights};

/// Number of the channel.
pub const EVIDENCE_CHANNEL: u8 = 0x38;
/// Share of the connection.
pub const EVIDENCE_CHANNEL_PRIORITY: u32 = 6;
/// Largest message in bytes.
pub const MAX_EVIDENCE_MESSAGE_BYTES: usize = MAX_CONSENSUS_MESSAGE_BYTES;
/// How often everything that still waits is sent to a peer again.
pub const REBROADCAST: Duration = Duration::from_secs(10);

/// Sends pending evidence to each peer that can check it, and checks what peers send.
pub struct EvidenceReactor {
    pool: Arc<EvidencePool>,
    heights: Arc<dyn PeerHeights>,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// Messages are checked one at a time, on a thread for blocking work.
    turn: Arc<Semaphore>,
}

impl EvidenceReactor {
    /// A reactor whose tasks end with `stop`.
    pub fn new(pool: Arc<EvidencePool>, heights: Arc<dyn PeerHeights>, stop: CancellationToken) -> Self {
        Self { pool, heights, stop, tasks: TaskTracker::new(), turn: Arc::new(Semaphore::new(1)) }
    }

    /// Ends with the last gossip task after the token was cancelled.
    pub async fn finished(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Takes one message of a peer.
    async fn take(&self, from: &PeerId, message: Bytes) -> Result<(), DropPeer> {
        let list = EvidenceList::decode_checked(&message, MAX_EVIDENCE_MESSAGE_BYTES)
            .map_err(|error| DropPeer::new(format!("evidence message: {error}")))?;
        drop(message);
        if list.evidence.is_empty() {
            return Ok(());
        }
        let Ok(turn) = Arc::clone(&self.turn).acquire_owned().await else { return Ok(()) };
        let pool = Arc::clone(&self.pool);
        let from = from.clone();
        let checked = tokio::task::spawn_blocking(move || {
            let result = add_all(&pool, &from, list.evidence);
            drop(turn);
            result
        });
        checked.await.unwrap_or(Ok(()))
    }

    fn spawn_gossip(&self, peer: Peer) {
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

/// Adds evidence up to the first bad piece.
fn add_all(pool: &EvidencePool, from: &PeerId, evidence: Vec<Evidence>) -> Result<(), DropPeer> {
    for piece in evidence {
        match pool.add(piece) {
            Ok(added) => tracing::debug!(peer = %from.0, ?added, "evidence from peer"),
            Err(error @ AddError::Invalid(_)) => return Err(DropPeer::new(error.to_string())),
            Err(error) => tracing::warn!(peer = %from.0, %error, "evidence from peer not added"),
        }
    }
    Ok(())
}

/// A list of one: the channel's messages have no wrapper.
fn encode(evidence: &Evidence) -> Bytes {
    Bytes::from(EvidenceList { evidence: vec![evidence.clone()] }.encode_to_vec())
}

/// Whether a peer working on that height has the block that the evidence is about, and does not find it too old.
pub(crate) fn in_window(peer_height: i64, evidence_height: i64, max_age_blocks: i64) -> bool {
    peer_height > evidence_height && peer_height.saturating_sub(evidence_height) <= max_age_blocks
}

/// Sends evidence for as long as it is polled.
async fn gossip(pool: &EvidencePool, heights: &dyn PeerHeights, peer: &Peer) {
    let mut arrivals = pool.subscribe_arrivals();
    loop {
        let mut last = 0;
        let again = tokio::time::Instant::now() + REBROADCAST;
        loop {
            arrivals.borrow_and_update();
            while let Some((seq, evidence)) = pool.next_after(last) {
                let max_age = pool.state().consensus_params.evidence.max_age_num_blocks;
                let wanted =
                    heights.height(peer.id()).is_some_and(|height| in_window(height, evidence.height(), max_age));
                if wanted && !peer.send(EVIDENCE_CHANNEL, encode(&evidence)).await {
                    tokio::time::sleep(PEER_RETRY).await;
                    continue;
                }
                last = seq;
            }
            tokio::select! {
                changed = arrivals.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(again) => break,
            }
        }
    }
}

impl Reactor for EvidenceReactor {
    fn channels(&self) -> Vec<ChannelDescriptor> {
        vec![ChannelDescriptor {
            id: EVIDENCE_CHANNEL,
            priority: EVIDENCE_CHANNEL_PRIORITY,
            send_queue: 1,
            max_message: MAX_EVIDENCE_MESSAGE_BYTES,
        }]
    }

    fn add_peer(&self, peer: &Peer) {
        if peer.has_channel(EVIDENCE_CHANNEL) {
            self.spawn_gossip(peer.clone());
        }
    }

    fn receive<'a>(&'a self, _channel: u8, peer: &'a Peer, message: Bytes) -> BoxFuture<'a, Result<(), DropPeer>> {
        self.take(peer.id(), message).boxed()
    }
}

#[cfg(test)]
mod tests;
