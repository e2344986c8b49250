//! What a compute node does for a runtime: its transaction pool and the rounds of its committee, as pure state machines.
//!
//! Layer L3. Reference counterpart: `go/runtime/txpool`, `go/worker/compute/executor/committee`, and the messages of
//! `go/p2p/api`, `go/worker/common/p2p/txsync` and `go/worker/keymanager/p2p`.
//!
//! What it does not do: no network, no runtime process, no storage, no clock, no tasks. Inputs go in with the time at
//! which they came, effects come out; whoever drives it performs them in order.
//!
//! Main types: [`txpool::Pool`], [`round::Machine`] and its record on disk [`round::Record`], [`messages`].
//!
//! Tested with tables, with property tests against independent models, and by simulation of whole committees under the
//! consensus layer's own rules.

pub mod messages;
pub mod round;
pub mod txpool;

/// A point in time: how long after an arbitrary start, the same for all calls to one machine.
pub type Moment = std::time::Duration;
