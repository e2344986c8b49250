//! Following and serving the blocks and states of runtimes: one running part of a node per runtime.
//!
//! Layer: L4. Reference counterpart: `go/worker/storage`, and of `go/runtime/history` and `go/runtime/registry` what runs.
//!
//! What it does not do: what to index, fetch, apply and prune is decided by the state machines of `rt_history` and
//! `rt_storage`; it executes nothing, registers nothing, and speaks no gRPC.
//!
//! Main types: [`Setup`], [`RuntimeStore`], [`StoreStatus`].
//!
//! Invariants: what blocks runs on threads that may; when [`RuntimeStore::run`] has returned nothing writes to the stores any
//! more; nothing of one runtime is shared with another; what peers send and ask is bounded in number, size and time.
//!
//! The state reaches the disk behind the back of whoever writes: after a power loss some of the newest rounds may be gone,
//! never one without those after it, and are fetched again; what `Storage::sync` was called for is there.
//!
//! Tested with several stores over a chain in memory and a network of function calls: indexing from nothing and from the
//! middle, synchronisation by differences and checkpoints, lying peers, restarts, pruning.

mod checkpoint;
mod error;
mod fetch;
mod host;
mod index;
mod prune;
mod serve;
mod status;
mod store;
mod sync;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use error::StoreError;
pub use fetch::{MAX_LIST, MAX_PEERS_ASKED};
pub use serve::MAX_SERVED_AT_ONCE;
pub use status::{StorageStatus, StoreStatus, UNDEFINED_ROUND};
pub use store::{CHECKPOINTS, HISTORY, PruneVeto, RuntimeStore, STORAGE, Setup, Stores};
