//! libp2p behind a small interface: remote calls, gossip, discovery and seed service.
//!
//! Layer L3. Reference counterpart: `go/p2p`, `go/consensus/p2p/light`, and the peer-facing half of
//! `go/consensus/cometbft/light`.
//!
//! What it does not do: it knows nothing of consensus or runtimes beyond the names of protocols and topics; it reads no
//! registry (the node tells it what is registered, [`Node::set_registry`]); it verifies no light blocks; it speaks no
//! transport but TCP.
//!
//! Main types: [`api::P2p`] is what others hold, [`Node`] is it; [`rpc::Client`] and [`rpc::Service`] are the two ends
//! of a remote-call protocol; [`seed::SeedNode`]; [`light::ProviderPool`]; [`config::Config`].
//!
//! Invariants:
//! * Everything that a peer sends is bounded in size, number and time by named constants; nothing of it panics.
//! * No lock is held over an await; one task owns the swarm, everything else asks it over a bounded channel.
//! * Every task ends when the node's token is cancelled; [`Node::stop`] waits for them.
//! * A blocked peer is refused on every way in and out.
//!
//! Tested by nodes talking over loopback (both handshakes, calls, limits, discovery, light blocks, gossip), by recorded
//! bytes of the reference, and with arbitrary bytes to every decoder.

pub mod address;
pub mod api;
mod backoff;
pub mod backup;
pub mod bootstrap;
pub mod config;
mod gossip;
pub mod ids;
pub mod light;
mod links;
mod manager;
mod node;
mod random;
pub mod registry;
pub mod rpc;
pub mod seed;
mod serve;
pub mod store;
mod swarm;
mod table;
mod transport;

pub use libp2p_core::Multiaddr;
pub use libp2p_identity::{Keypair, PeerId, PublicKey};
pub use node::{Node, StartError, Status};
