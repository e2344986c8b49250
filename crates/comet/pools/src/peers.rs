//! What gossip needs to know about a peer.

use std::time::Duration;

use comet_core::PeerId;

/// How long gossip waits before it looks again at a peer that is behind, unknown or does not take messages.
pub const PEER_RETRY: Duration = Duration::from_millis(100);

/// Heights that peers announced; the consensus reactor knows them.
pub trait PeerHeights: Send + Sync {
    /// The height that the peer works on; `None` if it has not said, or is not connected.
    fn height(&self, id: &PeerId) -> Option<i64>;
}
