//! The work of a node in a runtime's committee, and its transaction pool.
//!
//! Layer: L4. Reference counterpart: `go/worker/compute/executor/committee`, `go/worker/common/committee` (blocks, committee,
//! gossip of transactions) and the transactions' side of `go/worker/client/committee`.
//!
//! What it does not do: it decides nothing about rounds or transactions, that is `rt_executor`'s; it starts no hosted code, does
//! not follow blocks into the history or sync state, does not register the node, and does not watch what becomes of a
//! transaction after it was submitted.
//!
//! Main types: [`Setup`], [`Executor`], [`ExecutorStatus`].
//!
//! Invariants:
//! * One task owns pool and machine and never waits: every effect is a task of its own whose end is the next input.
//! * What is about to be signed is on disk first, records are written one after another, in order.
//! * Whatever peers send: queues are bounded, gossip that finds them full is put off, clients' requests have a queue of their own.
//! * Nothing that was started outlives [`Executor::run`].
//!
//! Tested with committees of several nodes in one process, over the root hash service itself, and with hosts that fail or
//! hang, members that restart, and gossip of outsiders.

mod client;
mod effects;
mod gossip;
mod metrics;
mod position;
mod record;
mod setup;
mod status;
mod task;

pub use client::Executor;
pub use setup::{ExecutorError, Setup, SubmitError};
pub use status::{CommitteeState, CommitteeStatus, ExecutorStatus, HostVersions, Liveness, WorkerState, WorkerStatus};
