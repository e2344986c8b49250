//! The ParaTimes of a node put together: for each one its host, state, pool, committee work and clients.
//!
//! Layer: L4. Reference counterpart: `go/worker/common`, `go/worker/client`, `go/runtime/registry`.
//!
//! What it does not do: each part is a crate of its own (`node_hosting`, `node_storage`, `node_executor`,
//! `node_keymanager`); here they are only joined, as decisions 0006 and 0007 say.
//!
//! Main types: [`ParaTimes`] (all of a node), [`ParaTime`] (one), [`Client`] (what clients ask of one).
//!
//! Invariants: a ParaTime that fails ends its own tasks and no other's; its error is in its status. A node is registered for
//! a ParaTime only while that is hosted, its state is near the chain's, and its committee worker is ready.
//!
//! Tests: waiting for results and the services here; whole nodes in `bin/oasis-node/tests`.

mod client;
mod late;
mod node;
mod results;
mod service;
mod status;
mod trees;
mod worker;

pub use client::Client;
pub use node::{ParaTimes, Parts, StartError};
pub use results::MAX_WAITING;
pub use status::RuntimeStatus;
pub use worker::ParaTime;
