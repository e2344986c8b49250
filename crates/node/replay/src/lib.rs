//! Replaying recorded chains: executes every block from genesis and compares what comes out with what was recorded.
//!
//! Layer L4. Reference counterpart: none; the format of recorded chains is described in `vectors/README.md`.
//!
//! Blocks are read, decoded and their transactions' signatures verified on one thread, those of commits on another, while
//! a third executes: like a node that syncs.
//!
//! Execution reads `genesis.json` and the `block` of every line of `blocks.jsonl.gz`; everything else is read for
//! comparison only. It does not speak to peers and writes nothing outside the state store that it is given.
//!
//! Main types: [`Options`], [`Report`], [`replay`], [`Mismatch`].
//!
//! Invariant: what could not be compared is counted, never passed over.
//!
//! Tested by replaying all recorded chains of the project, and recordings with single values changed.

mod compare;
mod files;
mod keys;
mod pipeline;
mod report;
mod run;

pub use compare::Mismatch;
pub use files::{FileError, RecordedBlock, RecordedDiff};
pub use keys::describe_key;
pub use report::Report;
pub use run::{Observer, Options, ReplayError, replay};

#[cfg(test)]
mod tests;
