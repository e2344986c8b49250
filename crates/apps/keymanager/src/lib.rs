//! The key manager service: policies, secrets and committees of the runtimes that hold keys for other runtimes.
//!
//! Layer L2 (pure). Reference counterpart: `go/consensus/cometbft/apps/keymanager`.
//!
//! What it does not do: no wire types and no stateless rules (`wire_consensus::{keymanager, churp}`), no node or
//! runtime registrations (`apps_committees::registry`), no secrets in the clear: those never leave the enclaves.
//!
//! Main types: [`KeyManager`], the [`apps_core::Service`], which runs the two extensions [`secrets`] and [`churp`] in
//! this order.
//!
//! Invariants: the status of a key manager changes at new epochs, by policy updates before release 26.1, and by nothing
//! else; a committee of secret sharing is sorted and never smaller than its instance demands.
//!
//! Tested by tables of each rule and refusal in each module's `tests`, and by the recorded chains.

pub mod churp;
pub mod common;
pub mod secrets;
mod service;
#[cfg(test)]
mod testing;

pub use service::{KeyManager, NAME};
