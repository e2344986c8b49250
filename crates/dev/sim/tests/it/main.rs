//! Simulated networks.

mod faults;
mod seeds;
