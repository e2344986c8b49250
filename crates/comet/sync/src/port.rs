//! What the reactors here need of a peer, so that they can be run without connections too.

use bytes::Bytes;
use comet_chain::light::BoxFuture;
use comet_core::PeerId;
use comet_net::{DropPeer, Peer};

/// A connected peer.
pub trait Port: Send + Sync + 'static {
    /// Node id.
    fn id(&self) -> &PeerId;
    /// Queues a message; `false` if there is no room or the peer is gone.
    fn try_send(&self, channel: u8, message: Bytes) -> bool;
    /// Queues a message, waiting for room for a while.
    fn send(&self, channel: u8, message: Bytes) -> BoxFuture<'_, bool>;
    /// Closes the connection.
    fn stop(&self, reason: DropPeer);
}

impl Port for Peer {
    fn id(&self) -> &PeerId {
        Peer::id(self)
    }

    fn try_send(&self, channel: u8, message: Bytes) -> bool {
        Peer::try_send(self, channel, message)
    }

    fn send(&self, channel: u8, message: Bytes) -> BoxFuture<'_, bool> {
        Box::pin(Peer::send(self, channel, message))
    }

    fn stop(&self, reason: DropPeer) {
        Peer::stop(self, reason);
    }
}
