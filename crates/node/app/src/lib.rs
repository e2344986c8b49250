//! The consensus application of a node: all services over a versioned state, behind the engine's border.
//!
//! Layer L4. Reference counterpart: `go/consensus/cometbft/{abci,full}` as far as they run services.
//!
//! It does not speak to peers and decides nothing about rounds; the engine calls it through
//! [`comet_chain::app::Application`].
//!
//! Main types: [`NodeApp`], [`StateStore`], [`MemoryStore`].
//!
//! Invariant: what is on disk is always the state after a whole block.
//!
//! Tested by replaying recorded chains (`node-replay`).

mod app;
mod check;
mod sanity;
mod services;
mod store;

pub use app::NodeApp;
pub use sanity::sanity_check;
pub use services::{NodeOptions, build_mux};
pub use store::{Change, DbStore, MemoryStore, StateStore, StoreError};

#[cfg(test)]
mod tests;
