//! Recorded chains and published light blocks, followed and attacked.
#![allow(clippy::unwrap_used, missing_docs)]

mod chains;
mod fork;
mod light;
