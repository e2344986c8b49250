//! The rules of the chain: who proposes, which blocks, commits and evidence hold, and what a light client may trust.
//!
//! Layer: L2, pure. Reference counterpart: `cometbft` (tag v0.37.18-oasis3) `types/validator_set.go`, `state`, `evidence`,
//! `light`.
//!
//! It does not run rounds (`comet_core`), store or fetch anything, or read a clock: stored headers and the time are
//! arguments. The byte formats are in `wire_cometbft`.
//!
//! Main types: [`app::Application`] (the border to the application), [`validators::ValidatorSet`], [`state::State`],
//! [`commit::PendingCommit`], [`evidence::EvidenceSource`], [`light::Bisection`], [`detect::TraceExamination`].
//!
//! Invariants: the sum of a set's powers is at most 2^60; a set has a proposer once it was rotated; nothing here panics
//! on what a peer sent.
//!
//! Tests: every recorded chain is followed from its first block through validator sets with priorities, commits,
//! results and headers; changed bits are refused; two published light blocks of the main network; the reference's
//! rotation sequences.

pub mod app;
pub mod commit;
pub mod detect;
pub mod evidence;
pub mod exec;
pub mod light;
pub mod signature;
pub mod state;
pub mod validators;
