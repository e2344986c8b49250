//! What a node does on its own account: submitting transactions, registering itself, proving randomness.
//!
//! Layer: L4. Reference counterpart: `go/worker/{registration,beacon}`, `go/consensus/api/submission.go`.
//!
//! It does not speak to the network or hold state of its own beyond nonces and what the registration needs: everything
//! goes through [`Chain`].
//!
//! Main types: [`Chain`] (what workers see of the consensus layer), [`Submission`], [`registration::Registration`] with
//! its [`registration::Slot`]s, [`beacon::run`].
//!
//! Invariants: a node never registers while any of its slots is unavailable; at most one proof per epoch is on its way.
//!
//! Tests: the schedule of registrations and the decisions of the beacon worker as tables; all workers against a chain of
//! their own, kept in memory.

pub mod backoff;
pub mod beacon;
mod chain;
pub mod registration;
pub mod runtime;
mod submission;

pub use chain::{Blocks, Chain, ChainError};
pub use submission::{Submission, SubmissionError};

#[cfg(test)]
mod testing;
