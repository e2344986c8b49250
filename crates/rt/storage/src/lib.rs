//! A runtime's storage: applying rounds, following the chain by differences and checkpoints, serving it to peers.
//!
//! Layer L3. Reference counterpart: `go/worker/storage` without its network, and of `go/storage` what is local.
//!
//! What it does not do: it has no network, no clock and no tasks. [`DiffSync`] and [`CheckpointSync`] say what to ask of
//! peers and are told what came; calls that write block on the disk and are made from threads that may.
//!
//! Main types: [`Storage`], [`DiffSync`], [`CheckpointSync`], [`Server`], [`messages`], [`Checkpointer`],
//! [`Availability`].
//!
//! Invariants: nothing of a peer is kept before it led to a root of a block; rounds become final in order and without
//! gaps; whatever a crash leaves behind, the next start goes on from the last final round.
//!
//! Tested with peers that lie, lose and stop, with a crash at every write, and against trees built directly.

mod availability;
mod checkpoint_sync;
mod checkpointer;
mod diff_sync;
mod error;
mod genesis;
pub mod messages;
mod server;
mod storage;
#[cfg(test)]
mod testing;

pub use availability::{AVAILABLE_BELOW, Availability, UNAVAILABLE_ABOVE};
pub use checkpoint_sync::{
    CHUNK_TIME, CheckpointSync, ChunkOutcome, ChunkRequest, Event, LIST_TIME, MAX_CHECKPOINTS_PER_PEER, MAX_CHUNKS,
    Progress, RETRY_DELAY,
};
pub use checkpointer::{CHUNKER_THREADS, Checkpointer, CheckpointerParams, Plan};
pub use diff_sync::{
    DIFF_TIME, DiffSync, Effect, FETCHERS, FetchDiff, FetchId, MAX_FETCHED_BYTES, MAX_IN_FLIGHT_ROUNDS,
};
pub use error::StorageError;
pub use genesis::{Start, start};
pub use server::{MAX_ANSWER, MAX_PREFETCH, MAX_PROOF, ServeError, Server};
pub use storage::{Apply, Storage, Synced, roots_of};

/// A point in time: how long after an arbitrary start.
pub type Moment = std::time::Duration;

/// What a peer's answer was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was right.
    Good,
    /// It was useless.
    Failure,
    /// It was a lie: the peer is to be blocked.
    Bad,
}

/// What the storage worker is doing. The texts are the reference's (`go/worker/storage/api`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Not started.
    Initializing,
    /// Started.
    Starting,
    /// Bringing the database to the runtime's first round.
    InitializingGenesis,
    /// Finding out where to go on.
    SyncStartCheck,
    /// Restoring a checkpoint.
    SyncingCheckpoints,
    /// Following the chain.
    SyncingRounds,
    /// Ending.
    Stopping,
}

impl Status {
    /// The reference's text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initializing => "initializing",
            Self::Starting => "starting",
            Self::InitializingGenesis => "initializing genesis",
            Self::SyncStartCheck => "sync start check",
            Self::SyncingCheckpoints => "syncing checkpoints",
            Self::SyncingRounds => "syncing rounds",
            Self::Stopping => "stopping",
        }
    }
}
