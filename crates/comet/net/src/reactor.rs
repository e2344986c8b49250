//! What a protocol on top of the connections implements.
//!
//! Reference: `cometbft:p2p/base_reactor.go`, `p2p/conn/connection.go` (channel descriptors).

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::peer::Peer;
use crate::switch::SwitchHandle;

/// One channel of a multiplexed connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelDescriptor {
    /// Number of the channel, the same for all nodes.
    pub id: u8,
    /// Share of the connection relative to other channels, at least 1.
    pub priority: u32,
    /// Messages that may wait to be sent, at least 1.
    pub send_queue: usize,
    /// Largest message taken, in bytes; a longer one closes the connection.
    pub max_message: usize,
}

/// Close the connection; with `ban`, also forget and refuse to dial the peer for that long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropPeer {
    /// Why, for the log.
    pub reason: String,
    /// For how long the address stays out of the book and is not dialed; persistent peers are dialed again nevertheless.
    pub ban: Option<Duration>,
}

impl DropPeer {
    /// Drop without a ban.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), ban: None }
    }

    /// Drop with a ban.
    pub fn banned(reason: impl Into<String>, time: Duration) -> Self {
        Self { reason: reason.into(), ban: Some(time) }
    }
}

/// A protocol that talks on some channels to every peer.
pub trait Reactor: Send + Sync + 'static {
    /// The channels it serves; no two reactors may serve the same one.
    fn channels(&self) -> Vec<ChannelDescriptor>;

    /// Called once, before there is any peer.
    fn start(&self, switch: &SwitchHandle) {
        let _ = switch;
    }

    /// A peer is about to be added; nothing can be sent yet.
    fn init_peer(&self, peer: &Peer) {
        let _ = peer;
    }

    /// A peer was added: messages can be sent, none was received yet. Must not block.
    fn add_peer(&self, peer: &Peer) {
        let _ = peer;
    }

    /// The peer is gone; called once for each [`Reactor::init_peer`], and no message of it comes afterwards.
    fn remove_peer(&self, peer: &Peer, reason: &str) {
        let _ = (peer, reason);
    }

    /// Takes one message.
    ///
    /// Awaited on the peer's own read task: a slow handler slows that peer only. When the peer is stopped meanwhile, the
    /// future is dropped at its next await.
    fn receive<'a>(&'a self, channel: u8, peer: &'a Peer, message: Bytes) -> BoxFuture<'a, Result<(), DropPeer>>;
}
