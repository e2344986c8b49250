//! The host of the round machine: a CometBFT-compatible node without its application.
//!
//! Layer: L3. Reference counterpart: `cometbft` (tag v0.37.18-oasis3) `consensus/{state,reactor,ticker}.go`,
//! `node/node.go`, and of `oasis-core` `go/consensus/cometbft/full`.
//!
//! It decides nothing about consensus (that is [`comet_core`]'s), knows no formats of disks and no bytes of connections.
//!
//! Main types: [`Engine`] and [`Setup`], [`EngineHandle`], [`EngineStatus`], [`StopReason`], [`Submitter`].
//!
//! One thread owns the machine and performs its effects in order ([`driver`]); in front of it lies a queue from which peers
//! are served in turns ([`intake`]); the reactor ([`reactor`]) keeps what each peer has and sends it what it lacks.
//!
//! Invariants: own votes and proposals reach the log durably, and the guard file, before anybody sees them; a peer can
//! fill its own queue only, and slows nobody but itself; blocks are applied by one of rounds and block sync at a time; a
//! stop lets the step under way finish.
//!
//! Tests: networks of engines over loopback connections that lose nodes, links and power; hostile peers on every
//! channel; per-peer state and queue by themselves.

mod clock;
pub mod driver;
pub mod engine;
pub mod intake;
mod peer_state;
mod random;
pub mod reactor;
pub mod setup;
pub mod status;
pub mod submit;
#[cfg(test)]
mod testing;

pub use driver::StopReason;
pub use engine::{Engine, EngineError, EngineHandle};
pub use setup::{Setup, StateSyncSetup, foreign_databases};
pub use status::{EngineStatus, Phase, RoundStatus, Unsigned};
pub use submit::Submitter;
