//! Committees of nodes in one process, over the root hash service itself.

mod chain;
mod network;
mod scenarios;
mod world;
