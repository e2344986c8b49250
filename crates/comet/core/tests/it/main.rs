//! Tests of the round machine against recorded data.

mod chain;
mod lab;
mod recorded;
mod rounds;
