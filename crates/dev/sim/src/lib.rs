//! Deterministic simulation of consensus networks: faults, hostile validators, crashes, and oracles that watch.
//!
//! Layer: dev. Reference counterpart: none; the reference tests consensus with real time and goroutines.
//!
//! It does not simulate the encrypted transport or the reactors' per-peer bookkeeping: nodes tell what they have and are
//! sent what they lack ([`net`]).
//!
//! Main types: [`scenario::Scenario`] (what happens, drawn from a seed), [`world::run`], [`world::Outcome`],
//! [`oracle::Oracle`], [`node::Node`] (`comet_core` + `comet_chain` + [`app::KvApp`]), [`byzantine`].
//!
//! Invariants: one thread, virtual time, seeded streams: the same scenario gives the same [`world::Outcome::trace`]. The
//! oracles use no vote set, commit check or sign-byte encoder of the code under test.
//!
//! Tests: a corpus of seeds, each run twice; crashes at every point; one scenario per kind of hostile validator; seeds
//! in `regressions/`. `WADI_SIM_SEEDS=FROM..TO cargo test -p dev-sim --test it seeds` runs a range.

pub mod app;
pub mod byzantine;
pub mod disk;
pub mod net;
pub mod node;
pub mod oracle;
pub mod rng;
pub mod scenario;
pub mod world;
