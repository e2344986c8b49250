//! The rule by which a validator never signs two different things for one height, round and step.
//!
//! Reference: `cometbft:privval/file.go`, `oasis-core:go/consensus/cometbft/crypto/priv_val.go`.
//!
//! # Correctness
//! The host makes [`LastSigned`] durable after signing and before the signature leaves the node. A node that crashed
//! in between is asked again for the same thing at another time of day; it then releases the old signature with the
//! old time.

use wire_cometbft::Message;
use wire_cometbft::Time;
use wire_cometbft::codec::DecodeError;
use wire_cometbft::vote::{CanonicalProposal, CanonicalVote, Proposal, SignedMsgType, Vote};

/// Step number of a proposal in the stored record.
pub const STEP_PROPOSE: i8 = 1;
/// Step number of a prevote in the stored record.
pub const STEP_PREVOTE: i8 = 2;
/// Step number of a precommit in the stored record.
pub const STEP_PRECOMMIT: i8 = 3;

/// What was signed last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastSigned {
    /// Height.
    pub height: i64,
    /// Round.
    pub round: i32,
    /// Step: 0 nothing yet, 1 proposal, 2 prevote, 3 precommit.
    pub step: i8,
    /// Signature.
    pub signature: Vec<u8>,
    /// The bytes signed.
    pub sign_bytes: Vec<u8>,
}

/// Why nothing is signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    /// Height, round or step lies before the last one.
    #[error("regression: asked for {height}/{round}/{step} after {last_height}/{last_round}/{last_step}")]
    Regression {
        /// Height asked for.
        height: i64,
        /// Round asked for.
        round: i32,
        /// Step asked for.
        step: i8,
        /// Height signed last.
        last_height: i64,
        /// Round signed last.
        last_round: i32,
        /// Step signed last.
        last_step: i8,
    },
    /// Something else was signed for this height, round and step.
    #[error("conflicting data at {height}/{round}/{step}")]
    Conflicting {
        /// Height.
        height: i64,
        /// Round.
        round: i32,
        /// Step.
        step: i8,
    },
    /// The record holds no bytes or no signature although it names this step.
    #[error("no sign bytes in the record of the last signature")]
    EmptyRecord,
    /// The bytes in the record are none of this kind.
    #[error("record of the last signature: {0}")]
    Record(#[from] DecodeError),
    /// Neither prevote nor precommit.
    #[error("type {0} is no vote")]
    NotAVote(i32),
}

/// What to do about a request for a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Sign these bytes, make [`LastSigned`] durable, then release.
    Sign(SignRequest),
    /// Release this signature with this time: it was signed before.
    Reuse {
        /// Time that was signed.
        timestamp: Time,
        /// Signature.
        signature: Vec<u8>,
    },
}

/// Bytes that may be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignRequest {
    height: i64,
    round: i32,
    step: i8,
    sign_bytes: Vec<u8>,
}

impl SignRequest {
    /// The bytes to be signed (prehashed with the engine's context).
    pub fn sign_bytes(&self) -> &[u8] {
        &self.sign_bytes
    }

    /// The record to be made durable before the signature is released.
    pub fn signed(self, signature: Vec<u8>) -> LastSigned {
        let Self { height, round, step, sign_bytes } = self;
        LastSigned { height, round, step, signature, sign_bytes }
    }
}

impl LastSigned {
    /// Whether the same height, round and step were signed already; refuses what lies before.
    fn same_step(&self, height: i64, round: i32, step: i8) -> Result<bool, GuardError> {
        let last = (self.height, self.round, self.step);
        if (height, round, step) < last {
            let (last_height, last_round, last_step) = last;
            return Err(GuardError::Regression { height, round, step, last_height, last_round, last_step });
        }
        if (height, round, step) > last {
            return Ok(false);
        }
        if self.sign_bytes.is_empty() || self.signature.is_empty() {
            return Err(GuardError::EmptyRecord);
        }
        Ok(true)
    }

    /// What to do about a vote to be signed.
    pub fn check_vote(&self, chain_id: &str, vote: &Vote) -> Result<Decision, GuardError> {
        let step = match vote.kind {
            SignedMsgType::PREVOTE => STEP_PREVOTE,
            SignedMsgType::PRECOMMIT => STEP_PRECOMMIT,
            SignedMsgType(other) => return Err(GuardError::NotAVote(other)),
        };
        let (height, round) = (vote.height, vote.round);
        let sign_bytes = vote.sign_bytes(chain_id);
        if !self.same_step(height, round, step)? {
            return Ok(Decision::Sign(SignRequest { height, round, step, sign_bytes }));
        }
        if sign_bytes == self.sign_bytes {
            return Ok(Decision::Reuse { timestamp: vote.timestamp, signature: self.signature.clone() });
        }
        let mut last: CanonicalVote = decode_delimited(&self.sign_bytes)?;
        let new: CanonicalVote = decode_delimited(&sign_bytes)?;
        let timestamp = std::mem::replace(&mut last.timestamp, new.timestamp);
        self.reuse(last == new, timestamp, (height, round, step))
    }

    /// What to do about a proposal to be signed.
    pub fn check_proposal(&self, chain_id: &str, proposal: &Proposal) -> Result<Decision, GuardError> {
        let (height, round, step) = (proposal.height, proposal.round, STEP_PROPOSE);
        let sign_bytes = proposal.sign_bytes(chain_id);
        if !self.same_step(height, round, step)? {
            return Ok(Decision::Sign(SignRequest { height, round, step, sign_bytes }));
        }
        if sign_bytes == self.sign_bytes {
            return Ok(Decision::Reuse { timestamp: proposal.timestamp, signature: self.signature.clone() });
        }
        let mut last: CanonicalProposal = decode_delimited(&self.sign_bytes)?;
        let new: CanonicalProposal = decode_delimited(&sign_bytes)?;
        let timestamp = std::mem::replace(&mut last.timestamp, new.timestamp);
        self.reuse(last == new, timestamp, (height, round, step))
    }

    fn reuse(&self, alike: bool, timestamp: Time, place: (i64, i32, i8)) -> Result<Decision, GuardError> {
        if alike {
            return Ok(Decision::Reuse { timestamp, signature: self.signature.clone() });
        }
        let (height, round, step) = place;
        Err(GuardError::Conflicting { height, round, step })
    }
}

/// Decodes a message behind its length.
fn decode_delimited<M: Message>(bytes: &[u8]) -> Result<M, DecodeError> {
    Ok(M::decode_delimited(bytes, bytes.len())?.0)
}

#[cfg(test)]
mod tests;
