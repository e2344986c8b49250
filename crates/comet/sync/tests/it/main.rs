//! Recorded chains served by honest and by lying peers.

#![allow(clippy::unwrap_used)] // helpers of tests

mod block_sync;
mod fork;
mod lab;
mod light;
mod scheduler;
mod state_sync;
