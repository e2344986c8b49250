//! The byte formats of CometBFT 0.37 as the network runs it: messages, hashes, sign bytes and log records.
//!
//! Layer: L1, pure. Reference counterpart: `cometbft` (tag v0.37.18-oasis3) `proto/tendermint`, `types`,
//! `crypto/merkle`, `consensus/{msgs,wal}.go`.
//!
//! It does not know validator powers, verify signatures or judge a block against a state: that is `comet_chain`.
//! Nor does it read or write files or sockets.
//!
//! Main types: [`codec::Message`] (how every message is encoded and decoded), [`block::Block`], [`block::Header`],
//! [`block::Commit`], [`vote::Vote`], [`vote::Proposal`], [`part_set::PartSet`], [`evidence::Evidence`],
//! [`validators::ValidatorSet`], [`params::ConsensusParams`], [`abci::AbciResponses`], [`consensus::ConsensusMessage`],
//! [`wal::WalReader`], [`time::Time`].
//!
//! Invariants: decoding accepts what the reference's decoder accepts (apart from text that is not UTF-8) and never
//! panics; a decoded message holds at most some eighty times the memory of its input, so callers bound the input by
//! what the channel and the chain's parameters allow; encoding a decoded canonical message gives the same bytes.
//!
//! Tests: every block, commit, result and validator set of the recorded chains and every record of the recorded
//! logs is decoded, encoded again and hashed; two published blocks of the main network; arbitrary bytes.

pub mod abci;
pub mod bits;
pub mod block;
pub mod blocksync;
pub mod codec;
pub mod consensus;
pub mod evidence;
pub mod keys;
pub mod limits;
pub mod mempool;
pub mod merkle;
pub mod p2p;
pub mod params;
pub mod part_set;
pub mod state;
pub mod statesync;
pub mod time;
pub mod validators;
pub mod vote;
pub mod wal;

pub use codec::{DecodeError, Message};
pub use time::{Duration, Time};
