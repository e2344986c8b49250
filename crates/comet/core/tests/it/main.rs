//! Tests of the round machine against recorded data.

mod chain;
mod recorded;
