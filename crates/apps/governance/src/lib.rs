//! The services by which many decide together: governance, network upgrades, and vaults.
//!
//! Layer L2 (pure). Reference counterpart: `go/consensus/cometbft/apps/{governance,vault}`, `go/upgrade`.
//!
//! What it does not do: no wire types and no stateless rules (`wire_consensus::{governance, upgrade, vault}`), no
//! authentication or dispatch (`apps_core`); it does not store what a node remembers of pending upgrades
//! ([`upgrade::Manager`] says when there is something to store).
//!
//! Main types: [`governance::Governance`], [`vault::Vaults`] (both [`apps_core::Service`]), [`upgrade::Manager`].
//!
//! Invariants: governance deposits are the sum of the deposits of active proposals; a vault has at most one pending
//! action, the one with its nonce; an upgrade's handler runs exactly at the block after its upgrade height, once at the
//! beginning and once at the end.
//!
//! Tested by tables of each rule and refusal in each module's `tests`, and by the recorded chains.

pub mod governance;
#[cfg(test)]
mod testing;
pub mod upgrade;
pub mod vault;
