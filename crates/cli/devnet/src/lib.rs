//! A whole local network of real processes by one command: keys, entity, genesis, configuration, start, supervision, stop.
//!
//! Layer: L4. Reference counterpart: `oasis-net-runner` (`go/oasis-net-runner`).
//!
//! It knows nothing that an operator could not do by hand: it writes the files that a node reads, starts `oasis-node`,
//! and speaks to the nodes over their sockets. It has no part of a node in it.
//!
//! Main types: [`Plan`] (what to build: sizes, ports, times), [`Network`] (files on disk), [`Running`] (processes).
//!
//! Invariants: everything lies below one directory, which is marked as a devnet and never removed unless it is;
//! every process started is stopped when [`Running`] goes, save after `--detach`; no port is taken from anyone.
//!
//! Tests: the plan and its genesis pass the node's own checks; a network of real processes comes up, transacts, loses a
//! validator and gets it back, and leaves nothing running.

mod blueprint;
pub mod chain;
mod cli;
mod config;
mod connection;
mod error;
mod fixture;
mod genesis;
mod keys;
pub mod keyvalue;
pub mod load;
mod network;
mod paratime;
pub mod plan;
pub mod process;
mod session;
pub mod state;
pub mod trial;
mod user;
mod view;

pub use cli::run;
pub use error::DevnetError;
pub use network::{Funded, Network};
pub use plan::{BundleId, KeyManager, Node, ParaTime, Plan, Role};
pub use process::Running;
pub use state::State;
pub use user::User;

#[cfg(test)]
mod tests;
