//! The staking service: accounts, delegations, fees, rewards and penalties.
//!
//! Layer L3. Reference counterpart: `go/consensus/cometbft/apps/staking`.
//!
//! What it does not do: no wire types (`wire_consensus::staking`), no registry (only the few keys of nodes that decide
//! who proposed, voted or misbehaved, in [`nodes`]), no dispatch (`apps_core`), no I/O.
//!
//! Main items: [`Staking`] (the service, and what authenticates transactions), [`state`] (keys and values),
//! [`accumulator::StakeAccumulator`] (claims on stake), [`rewards`], [`slashing`].
//!
//! Invariants:
//! * Account balances, escrow pools, common pool, fees and governance deposits always add up to the total supply.
//! * The shares of all delegations to an account are the shares of its pool.
//! * A failing transaction changes nothing but the sender's fee and nonce.
//!
//! Tested by the recorded chains (`oasis-node debug replay`), by tables of refusals, and by a seeded random workload
//! that checks the invariants after every block.

pub mod accumulator;
mod auth;
mod epoch;
pub mod fees;
mod genesis;
mod messages;
pub mod nodes;
pub mod query;
pub mod rewards;
mod service;
pub mod slashing;
pub mod state;
#[cfg(test)]
mod tests;
mod tx;

pub use service::Staking;

/// Name of the service.
pub const NAME: &str = "100_staking";
/// Priority of its transactions in the pool.
pub const PRIORITY: i64 = 1000;
