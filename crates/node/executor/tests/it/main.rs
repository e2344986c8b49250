//! Committees of nodes in one process, over the root hash service itself.

#![allow(clippy::unwrap_used)]

mod chain;
mod network;
mod scenarios;
mod world;
