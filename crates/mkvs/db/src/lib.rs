//! The versioned node database under authenticated trees, with pruning, checkpoints and maintenance.
//!
//! Layer L3. Reference counterpart: `go/storage/mkvs/db` and `go/storage/mkvs/checkpoint`. The layout on disk is our own.
//!
//! What it does not do: it knows no disk engine (any [`base_kv::KvStore`] will do), fetches nothing from the network,
//! and does not decide when to prune or checkpoint.
//!
//! Main types: [`NodeDb`], [`DbTree`], [`Threads`], and in [`checkpoint`] `Metadata`, `Creator`, `Restorer`.
//!
//! How versions work: a [`DbTree`] is opened at a root, changed and committed as a root of the next version. A version
//! may get several roots (several types, competing results); [`NodeDb::finalize`] keeps one per type and drops the
//! rest. Nodes are keyed by (version, batch, index), so commits append and a dropped batch is one key range. Each commit
//! lists the older nodes it no longer uses; pruning a version removes what the lists of the next one name, so
//! its cost is that of what it removes.
//!
//! Invariants:
//! * A crash at any point leaves every finalized and unpruned version readable, and the store usable.
//! * A store of a newer format, or of another namespace, is refused before anything of it is read or changed.
//! * What a multipart restore brought is invisible until it is complete, and gone if it is aborted.
//!
//! Tested with every recorded chain, with property tests against a map of versions, with thousands of seeded crashes
//! through [`base_kv::Faulty`], and with checkpoints made by the reference.

mod batches;
pub mod checkpoint;
mod db;
mod error;
mod exec;
mod finalize;
mod keys;
mod maintain;
mod meta;
mod multipart;
mod prune;
mod record;
mod tree;
mod writelogs;

#[cfg(test)]
mod tests;

pub use db::{Config, NodeDb};
pub use error::DbError;
pub use exec::Threads;
pub use maintain::{CheckReport, Usage};
pub use tree::DbTree;
