//! The CometBFT peer-to-peer transport: encrypted and multiplexed connections, switch, peer exchange.
//!
//! Layer: L3. Reference counterpart: `cometbft` (tag v0.37.18-oasis3) `p2p`, `p2p/conn`, `p2p/pex`, and
//! `oasis-core:go/consensus/cometbft/seed`.
//!
//! It knows bytes and peers, not blocks: what goes over the channels is up to the [`Reactor`]s.
//!
//! Main types: [`Switch`] and [`SwitchHandle`], [`Peer`], [`Reactor`], [`NetConfig`], [`book::Book`].
//! Pure parts, each usable alone: [`secret`] (key agreement and frames), [`packet`] (packets and messages), [`schedule`]
//! (which channel sends), [`flow`] (rates), [`node_info`] (who may be a peer), [`book`] and [`routable`] (addresses).
//!
//! Invariants:
//! * Who a peer is was proven by a signature over the connection's challenge before anything of it is looked at.
//! * A peer's messages reach reactors one after another, after `add_peer` and never after `remove_peer` of that peer.
//! * Every wait for a peer has an end: dialing, handshakes, writes, keep-alives, room in queues.
//! * Memory per peer: buffers of some 200 KiB; [`peer::MAX_QUEUED_BYTES`] waiting to be sent, and in addition one message
//!   per channel however long; of unfinished messages [`budget::FREE_BYTES`], and for all peers together
//!   [`budget::SHARED_BYTES`] more. Buffers that grow may take twice that for a moment.
//!
//! Tests: pure parts against golden values; two switches over loopback; hostile ends driven by hand.

pub mod address;
pub mod book;
pub mod budget;
pub mod config;
pub mod connection;
pub mod flow;
pub mod node_info;
pub mod packet;
pub mod peer;
pub mod pex;
mod random;
pub mod reactor;
pub mod routable;
pub mod schedule;
pub mod secret;
pub mod switch;
pub mod testing;

pub use address::{NetAddress, PeerAddress, node_id};
pub use config::{ConnectionFilter, Intervals, NetConfig};
pub use peer::{Peer, PeerStatus};
pub use reactor::{ChannelDescriptor, DropPeer, Reactor};
pub use switch::dial::DialError;
pub use switch::{PeerCounts, StartError, Switch, SwitchHandle};
