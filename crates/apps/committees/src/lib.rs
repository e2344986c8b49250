//! The services that decide who does what: beacon, registry, scheduler and root hash.
//!
//! Layer L3. Reference counterpart: `go/consensus/cometbft/apps/{beacon,registry,scheduler,roothash}`.
//!
//! What it does not do: no wire types (`wire_consensus`), no balances (`apps_staking`, which it calls), no transaction
//! authentication or dispatch (`apps_core`), no I/O.
//!
//! Main types: [`beacon::Beacon`], [`scheduler::Scheduler`], [`roothash::RootHash`]; each implements
//! [`apps_core::Service`] and has the same files: `state` (keys and values), `tx`, `epoch`, `messages`, `genesis`,
//! `query`.
//!
//! Invariants: results, events and state depend on nothing but the state, the block and the genesis document; workers
//! precede backup workers in every committee; a runtime that is not suspended has a committee and a pool.
//!
//! Tested by the recorded chains (`oasis-node debug replay`) and, for what those do not reach, by tables in each
//! module's `tests`.

pub mod beacon;
#[cfg(test)]
mod recorded;
pub mod registry;
pub mod roothash;
pub mod scheduler;
#[cfg(test)]
mod testing;
