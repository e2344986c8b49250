//! The consensus application of a node: all services over a versioned state, behind the engine's border.
//!
//! Layer L4. Reference counterpart: `go/consensus/cometbft/{abci,full}` as far as they run services.
//!
//! It does not speak to peers and decides nothing about rounds; the engine calls it through
//! [`comet_chain::app::Application`].
//!
//! Main types: [`EngineApp`] (what a node gives its engine), [`Queries`] (reading the state beside it), [`NodeApp`],
//! [`StateStore`], [`MemoryStore`].
//!
//! Invariants: what is on disk is always the state after a whole block; no version that is read, or that a checkpoint is
//! made of, is pruned.
//!
//! Tested by replaying recorded chains (`node-replay`, and here with restarts, snapshots and pruning in between).

mod ahead;
mod app;
mod background;
mod behind;
mod check;
mod checkpointer;
mod dump;
mod engine_app;
mod pruner;
mod sanity;
mod services;
mod snapshots;
mod store;
mod supplementary;
mod versions;

pub use ahead::Ahead;
pub use app::NodeApp;
pub use behind::WriteBehind;
pub use checkpointer::{CheckpointerConfig, CheckpointerHandle};
pub use dump::export_genesis;
pub use engine_app::{EngineApp, EngineConfig, HaltHook, OpenError, STATE_DB, SaveUpgrades, open_state_db};
pub use pruner::{MIN_KEPT, PruneConfig, PruneHandler, PruneStrategy};
pub use sanity::sanity_check;
pub use services::{NodeOptions, build_mux};
pub use snapshots::SNAPSHOT_FORMAT;
pub use store::{Change, DbStore, MemoryStore, StateStore, StoreError};
pub use supplementary::{NAME as SUPPLEMENTARY_SANITY, SanityAt, check_state};
pub use versions::{Latest, MAX_WATCHED, Queries, QueryError, RemoteState, StateAt};

#[cfg(test)]
mod tests;
