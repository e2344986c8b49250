//! A node put together from its configuration: what starts, in which order, and how it all ends.
//!
//! Layer: L4. Reference counterpart: `go/oasis-node/cmd/node`.
//!
//! No rule of the network is decided here: each part lives in a crate of its own.
//!
//! Main types: [`Node`] ([`Node::start`], [`Node::run`]), [`Options`], [`RunError`].
//!
//! Invariants: nothing touches the data directory before it is checked and locked; a node without its guard file does not
//! vote on a chain that it has; everything started is stopped before [`Node::run`] returns.
//!
//! Tests: nodes of several modes in one process over loopback.

mod addresses;
mod archive;
mod chain;
mod control;
mod engine;
mod error;
mod events;
mod foreign;
mod halt;
mod keys;
mod light;
mod metrics;
mod network;
mod paratimes;
mod runtime_view;
mod seed;
mod sentry;
mod socket;
mod start;
mod stateless;
mod store;
mod web;

pub use chain::LocalChain;
pub use error::RunError;
pub use start::{Ended, Node, Options, init_logging};
pub use store::CommonStore;
