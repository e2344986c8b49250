//! Votes, proposals and the bytes that validators sign.
//!
//! Reference: `cometbft:types/{vote,proposal,canonical}.go`, `proto/tendermint/types/{types,canonical}.proto`.

use crate::block::{BasicError, BlockId, BlockIdFlag, CommitSig, PartSetHeader, validate_signature};
use crate::codec::{Message, Sfixed64, messages, open_enums};
use crate::keys::ADDRESS_SIZE;
use crate::time::Time;

open_enums! {
    /// What a signed message is.
    pub struct SignedMsgType {
        /// First vote of a round.
        PREVOTE = 1,
        /// Second vote of a round.
        PRECOMMIT = 2,
        /// A proposer's proposal.
        PROPOSAL = 32,
    }
}

impl SignedMsgType {
    /// Whether this is one of the two votes.
    pub fn is_vote(self) -> bool {
        self == Self::PREVOTE || self == Self::PRECOMMIT
    }
}

messages! {
    /// A prevote or precommit.
    pub struct Vote {
        /// Prevote or precommit.
        1 => kind: SignedMsgType,
        /// Height.
        2 => height: i64,
        /// Round.
        3 => round: i32,
        /// The block voted for; all empty: none.
        4 => block_id: BlockId,
        /// When the vote was made.
        5 => timestamp: Time,
        /// The voter's address.
        6 => validator_address: Vec<u8>,
        /// The voter's place in the validator set.
        7 => validator_index: i32,
        /// Signature of [`Vote::sign_bytes`].
        8 => signature: Vec<u8>,
    }

    /// A proposer's announcement of a block.
    pub struct Proposal {
        /// Always [`SignedMsgType::PROPOSAL`].
        1 => kind: SignedMsgType,
        /// Height.
        2 => height: i64,
        /// Round.
        3 => round: i32,
        /// Round in which the block had two thirds of the prevotes; -1: none.
        4 => pol_round: i32,
        /// The block proposed.
        5 => block_id: BlockId,
        /// When the proposal was made.
        6 => timestamp: Time,
        /// Signature of [`Proposal::sign_bytes`].
        7 => signature: Vec<u8>,
    }

    /// Block id within what is signed.
    pub struct CanonicalBlockId {
        /// Header hash.
        1 => hash: Vec<u8>,
        /// Parts.
        2 => part_set_header: PartSetHeader,
    }

    /// What a voter signs.
    pub struct CanonicalVote {
        /// Prevote or precommit.
        1 => kind: SignedMsgType,
        /// Height.
        2 => height: Sfixed64,
        /// Round.
        3 => round: Sfixed64,
        /// The block voted for.
        4 => block_id: Option<CanonicalBlockId>,
        /// When the vote was made.
        5 => timestamp: Time,
        /// Chain id.
        6 => chain_id: String,
    }

    /// What a proposer signs.
    pub struct CanonicalProposal {
        /// Always [`SignedMsgType::PROPOSAL`].
        1 => kind: SignedMsgType,
        /// Height.
        2 => height: Sfixed64,
        /// Round.
        3 => round: Sfixed64,
        /// Proof-of-lock round.
        4 => pol_round: i64,
        /// The block proposed.
        5 => block_id: Option<CanonicalBlockId>,
        /// When the proposal was made.
        6 => timestamp: Time,
        /// Chain id.
        7 => chain_id: String,
    }
}

fn canonical_block_id(id: &BlockId) -> Option<CanonicalBlockId> {
    (!id.is_zero()).then(|| CanonicalBlockId { hash: id.hash.clone(), part_set_header: id.part_set_header.clone() })
}

/// The bytes signed for a vote: length-prefixed [`CanonicalVote`].
pub fn vote_sign_bytes(
    chain_id: &str,
    kind: SignedMsgType,
    height: i64,
    round: i32,
    block_id: &BlockId,
    timestamp: Time,
) -> Vec<u8> {
    CanonicalVote {
        kind,
        height: Sfixed64(height),
        round: Sfixed64(i64::from(round)),
        block_id: canonical_block_id(block_id),
        timestamp,
        chain_id: chain_id.to_owned(),
    }
    .encode_delimited()
}

impl Vote {
    /// The bytes signed.
    pub fn sign_bytes(&self, chain_id: &str) -> Vec<u8> {
        vote_sign_bytes(chain_id, self.kind, self.height, self.round, &self.block_id, self.timestamp)
    }

    /// Checks type, ranges and lengths, and that the block id is complete or empty.
    pub fn validate_basic(&self) -> Result<(), BasicError> {
        self.block_id.validate_basic()?;
        if !self.kind.is_vote() {
            return Err(BasicError::Type(self.kind.0));
        }
        if self.height <= 0 {
            return Err(BasicError::Height(self.height));
        }
        if self.round < 0 {
            return Err(BasicError::Round(self.round));
        }
        if !self.block_id.is_zero() && !self.block_id.is_complete() {
            return Err(BasicError::BlockIdShape);
        }
        if self.validator_address.len() != ADDRESS_SIZE {
            return Err(BasicError::AddressSize(self.validator_address.len()));
        }
        if self.validator_index < 0 {
            return Err(BasicError::ValidatorIndex(self.validator_index));
        }
        validate_signature(&self.signature)
    }

    /// The commit entry for this vote; `None` if the block id is neither complete nor empty.
    pub fn commit_sig(&self) -> Option<CommitSig> {
        let block_id_flag = if self.block_id.is_complete() {
            BlockIdFlag::COMMIT
        } else if self.block_id.is_zero() {
            BlockIdFlag::NIL
        } else {
            return None;
        };
        Some(CommitSig {
            block_id_flag,
            validator_address: self.validator_address.clone(),
            timestamp: self.timestamp,
            signature: self.signature.clone(),
        })
    }
}

impl Proposal {
    /// The bytes signed: length-prefixed [`CanonicalProposal`].
    pub fn sign_bytes(&self, chain_id: &str) -> Vec<u8> {
        CanonicalProposal {
            kind: SignedMsgType::PROPOSAL,
            height: Sfixed64(self.height),
            round: Sfixed64(i64::from(self.round)),
            pol_round: i64::from(self.pol_round),
            block_id: canonical_block_id(&self.block_id),
            timestamp: self.timestamp,
            chain_id: chain_id.to_owned(),
        }
        .encode_delimited()
    }

    /// Checks type, ranges and lengths, and that the block id is complete.
    pub fn validate_basic(&self) -> Result<(), BasicError> {
        self.block_id.validate_basic()?;
        if self.kind != SignedMsgType::PROPOSAL {
            return Err(BasicError::Type(self.kind.0));
        }
        if self.height < 0 {
            return Err(BasicError::Height(self.height));
        }
        if self.round < 0 {
            return Err(BasicError::Round(self.round));
        }
        if self.pol_round < -1 {
            return Err(BasicError::Round(self.pol_round));
        }
        if !self.block_id.is_complete() {
            return Err(BasicError::BlockIdShape);
        }
        validate_signature(&self.signature)
    }
}
