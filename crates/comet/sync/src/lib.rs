//! Catching up with a chain: blocks from peers, the application's snapshots from peers, and headers that nobody is
//! trusted for.
//!
//! Layer: L3. Reference counterpart: `cometbft` (tag v0.37.18-oasis3) `blocksync`, `statesync`, `light`.
//!
//! It does not vote, gossip or decide when to sync: the engine runs it and takes over what comes out. It knows no
//! transport but `comet_net`'s channels; where light blocks come from is behind
//! [`comet_chain::light::LightBlockProvider`].
//!
//! Main types: [`BlockSync`] (with the pure [`block_sync::scheduler::Scheduler`] and [`block_sync::verify::prove`]),
//! [`StateSync`], [`LightClient`], [`LocalProvider`].
//!
//! Invariants: no block is stored that two thirds of its validators did not sign; blocks are durable before the first of
//! them is executed; what peers send takes bounded memory and disk, whoever they are; a header is trusted only if it
//! follows from the trusted one and at least one witness has the same.
//!
//! Tests: recorded chains served by honest and by lying peers; snapshots of a toy application with bad chunks; light
//! clients over recorded chains with changed blocks and over a forked one; the scheduler against random peers.

pub mod block_sync;
pub mod light;
mod port;
mod rate;
mod server;
pub mod state_sync;

pub use block_sync::{
    BlockSink, BlockSource, BlockSync, BlockSyncConfig, BlockSyncError, Goal, StoreSink, SyncEnd, SyncStatus,
};
pub use light::{Clock, LightClient, LightClientError, LightConfig, LocalProvider, SystemClock, TrustOptions};
pub use port::Port;
pub use state_sync::{
    LightStateProvider, ParamsSource, Restored, StateProvider, StateSync, StateSyncConfig, StateSyncError,
};
