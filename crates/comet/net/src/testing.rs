//! Peers without a connection, for the tests of reactors.

use std::net::SocketAddr;

use bytes::Bytes;
use comet_core::PeerId;
use tokio_util::sync::CancellationToken;
use wire_cometbft::p2p::NodeInfo;

use crate::peer::{Peer, Standing};
use crate::reactor::{ChannelDescriptor, DropPeer};

/// A peer that is connected to nothing and listed all the channels: what is sent to it stays in its queues.
pub fn peer(id: &str, outbound: bool, channels: &[ChannelDescriptor]) -> Peer {
    let info = NodeInfo {
        default_node_id: id.to_owned(),
        channels: channels.iter().map(|channel| channel.id).collect(),
        ..NodeInfo::default()
    };
    let standing = Standing { outbound, persistent: false, unconditional: false };
    let remote = SocketAddr::from(([127, 0, 0, 1], 1));
    Peer::new(PeerId::new(id), info, remote, standing, channels.into(), CancellationToken::new())
}

/// Takes the oldest message waiting to be sent on the channel.
pub fn take_sent(peer: &Peer, channel: u8) -> Option<Bytes> {
    let at = peer.channels().iter().position(|descriptor| descriptor.id == channel)?;
    peer.pop(at)
}

/// Why the peer was stopped; `None` while it runs.
pub fn stop_reason(peer: &Peer) -> Option<DropPeer> {
    (!peer.is_running()).then(|| peer.take_reason())
}
