//! Committees of several nodes under the consensus layer's own rules, in simulated time.

#![allow(clippy::unwrap_used)]

mod consensus;
mod scenarios;
mod world;
