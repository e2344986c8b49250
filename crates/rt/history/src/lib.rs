//! The blocks of a runtime as the consensus layer made them: store, indexer, pruner, and what a block's roots hold.
//!
//! Layer L3. Reference counterpart: `go/runtime/history`, and of `go/runtime/transaction` the reading of trees.
//!
//! What it does not do: it asks the consensus layer nothing by itself, has no clock, and starts no tasks. It keeps no
//! results of rounds: the reference no longer does either, they are read from the consensus state.
//!
//! Main types: [`History`] with [`Watcher`], [`Indexer`], [`PruneConfig`] and [`Pruner`], and the functions of
//! [`artifacts`].
//!
//! Invariants: rounds only grow, heights never shrink; what [`History::commit`] accepted survives a power loss, so that the
//! consensus layer may forget it; blocks are shown as synced only when the storage said so.
//!
//! Tested with tables, against a model, with crashes at every write, and with trees recorded from the reference.

pub mod artifacts;
mod error;
mod indexer;
mod prune;
mod store;
mod watch;

pub use error::HistoryError;
pub use indexer::{
    Action, Failure, Indexer, IndexerStatus, Lookup, MAX_PENDING_BLOCKS, ReindexStatus, Status, blocks_between,
};
pub use prune::{MAX_PRUNE, MIN_PRUNE_INTERVAL, PruneConfig, PruneStrategy, Pruner};
pub use store::{History, Sync};
pub use watch::Watcher;

/// A point in time: how long after an arbitrary start.
pub type Moment = std::time::Duration;
