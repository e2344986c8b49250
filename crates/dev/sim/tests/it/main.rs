//! Simulated networks.

#![allow(clippy::unwrap_used)]

mod faults;
mod seeds;
