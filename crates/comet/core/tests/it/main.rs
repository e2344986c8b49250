//! Tests of the round machine against recorded data.

#![allow(clippy::unwrap_used)]

mod chain;
mod lab;
mod recorded;
mod rounds;
