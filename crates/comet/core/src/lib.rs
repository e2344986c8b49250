//! The consensus round machine: from messages, timers and answers to votes and committed blocks.
//!
//! Layer: L2, pure. Reference counterpart: `cometbft` (tag v0.37.18-oasis3) `consensus/{state,replay,ticker}.go`,
//! `consensus/types`, `types/vote_set.go`, `privval/file.go`.
//!
//! It does no I/O, reads no clock, signs nothing, executes nothing and keeps no per-peer gossip state: the host performs
//! [`Effect`]s in order and feeds [`Input`]s. Blocks are checked by `comet_chain`.
//!
//! Main types: [`Core`] ([`Core::step`]), [`Input`], [`Effect`], [`Request`] and [`Reply`], [`RoundState`],
//! [`vote_set::VoteSet`], [`guard::LastSigned`], [`wal::tail`].
//!
//! # Rules
//! Each is kept as the reference has it, also where the literature or later versions differ (a network switches together
//! or forks):
//!
//! | Rule | Reference |
//! |---|---|
//! | A transition to a step of (height, round) happens only at that height and from an earlier (round, step); `NewRound` of the current round only from `NewHeight`; `Commit` from any round | guards of `enter…` |
//! | Round 0 begins `timeout_commit` after two thirds of precommits were seen, or at once if all came and `skip_timeout_commit` | `updateToState`, `scheduleRound0`, `addVote` |
//! | A later round rotates proposers by the difference in one call and drops proposal, block and parts | `enterNewRound` |
//! | With an interval for empty blocks, round 0 waits for it or for transactions, but for the initial height and after a change of the application's hash | `enterNewRound`, `needProofBlock`, `handleTxsAvailable` |
//! | The proposer repeats the valid block with its round as proof-of-lock round, or builds one; the log is durable before it signs | `defaultDecideProposal` |
//! | The first proposal signed by the round's proposer counts; proof-of-lock round −1 or below its round; parts limited by the parameters | `defaultSetProposal` |
//! | Parts of any round of this height are taken; the block counts once complete and well-formed | `addProposalBlockPart` |
//! | Prevote: the locked block whatever is proposed; else the complete block if valid and accepted; else none | `defaultDoPrevote` |
//! | Before the prevote, a complete proposal needs the prevotes of its proof-of-lock round; on timeout it does not | `isProposalComplete`, `enterPrevote` |
//! | Two thirds of prevotes newer than the lock, for none or for another block, unlock | `addVote`, `enterPrecommit` |
//! | Two thirds of this round's prevotes for a block make it the valid one, or replace what was proposed and have it fetched | `addVote`, `handleCompleteProposal` |
//! | Precommit: the block with two thirds of the round's prevotes, if held (then locked or locked anew); else none | `enterPrecommit` |
//! | Two thirds of any prevotes, or of precommits, of a later round lead to that round | `addVote` |
//! | Two thirds of precommits for a block, in any round, commit it; if it is not held, peers are told and its parts fetched | `enterCommit` |
//! | A block is stored before its height ends in the log, durably before it is executed | `finalizeCommit` |
//! | Precommits of the height before join the last commit until round 0 begins | `addVote` |
//! | A vote's time is now, but at least 1 ms after the locked block's (or else the complete block's) | `voteTime` |
//! | One timer; a later (height, round, step) replaces it | `timeoutTicker` |
//! | First vote counts; a conflicting one only for a block that a peer claims has two thirds | `VoteSet` |
//! | Each peer may bring up two rounds ahead | `HeightVoteSet` |
//! | Own messages are durable in the log before they are acted on or sent; those of peers are logged first | `receiveRoutine` |
//! | Never two signatures for one height, round, step, but for the same thing at another time | `FilePV` |
//! | On start, the records after the last ended height are taken in again | `catchupReplay` |
//!
//! Invariants: no input makes it panic; memory is bounded by the parts of three blocks, the votes of the rounds tracked
//! and the limits in [`height_votes`] and [`vote_set`]; the same inputs give the same effects.
//!
//! Tests: the recorded logs of reference nodes are taken in, and steps, own votes and committed blocks compared; the
//! reference's scenarios for locking; `dev_sim` runs networks of it with crashes, partitions and hostile validators.

mod config;
mod effect;
pub mod guard;
pub mod height_votes;
mod machine;
mod round_state;
mod timeout;
pub mod vote_set;
pub mod wal;

pub use config::Config;
pub use effect::{Effect, Failure, HeldBlock, Input, Message, Misuse, PeerId, Refusal, Reply, Request, StartError};
pub use machine::Core;
pub use round_state::RoundState;
pub use timeout::{Step, Ticker, Timeout};
