//! Messages of the consensus channels (0x20 state, 0x21 data, 0x22 vote, 0x23 vote set bits).
//!
//! Reference: `cometbft:proto/tendermint/consensus/types.proto`, `consensus/{msgs,reactor}.go`.

use crate::bits::{BitArray, BitArrayError};
use crate::block::{BasicError, BlockId, PartSetHeader};
use crate::codec::{DecodeError, Message, messages, oneofs};
use crate::limits::{MAX_BLOCK_PARTS, MAX_VOTES};
use crate::part_set::{Part, PartError};
use crate::vote::{Proposal, SignedMsgType, Vote};

messages! {
    /// The sender's height, round and step.
    pub struct NewRoundStep {
        /// Height.
        1 => height: i64,
        /// Round.
        2 => round: i32,
        /// Step, 1 to 8.
        3 => step: u32,
        /// Seconds since the height's start; may be negative.
        4 => seconds_since_start_time: i64,
        /// Round of the last commit; -1 at the initial height.
        5 => last_commit_round: i32,
    }

    /// The sender saw two thirds vote for a block and holds these parts of it.
    pub struct NewValidBlock {
        /// Height.
        1 => height: i64,
        /// Round.
        2 => round: i32,
        /// The block's parts.
        3 => block_part_set_header: PartSetHeader,
        /// Which parts the sender holds.
        4 => block_parts: Option<BitArray>,
        /// Whether the votes were precommits.
        5 => is_commit: bool,
    }

    /// Carries a proposal.
    pub struct ProposalMessage {
        /// The proposal.
        1 => proposal: Proposal,
    }

    /// Which prevotes of a proposal's proof-of-lock round the sender has.
    pub struct ProposalPol {
        /// Height.
        1 => height: i64,
        /// The proposal's proof-of-lock round.
        2 => proposal_pol_round: i32,
        /// One bit per validator.
        3 => proposal_pol: BitArray,
    }

    /// Carries a block part.
    pub struct BlockPart {
        /// Height.
        1 => height: i64,
        /// Round.
        2 => round: i32,
        /// The part.
        3 => part: Part,
    }

    /// Carries a vote.
    pub struct VoteMessage {
        /// The vote.
        1 => vote: Option<Vote>,
    }

    /// The sender has a vote.
    pub struct HasVote {
        /// Height.
        1 => height: i64,
        /// Round.
        2 => round: i32,
        /// Prevote or precommit.
        3 => kind: SignedMsgType,
        /// The voter's place in the validator set.
        4 => index: i32,
    }

    /// The sender saw two thirds vote for a block.
    pub struct VoteSetMaj23 {
        /// Height.
        1 => height: i64,
        /// Round.
        2 => round: i32,
        /// Prevote or precommit.
        3 => kind: SignedMsgType,
        /// The block.
        4 => block_id: BlockId,
    }

    /// Which votes for a block the sender has.
    pub struct VoteSetBits {
        /// Height.
        1 => height: i64,
        /// Round.
        2 => round: i32,
        /// Prevote or precommit.
        3 => kind: SignedMsgType,
        /// The block.
        4 => block_id: BlockId,
        /// One bit per validator.
        5 => votes: BitArray,
    }
}

oneofs! {
    /// A message of the consensus channels (`tendermint.consensus.Message`).
    pub struct ConsensusMessage = enum ConsensusMessageSum {
        /// The sender's step.
        1 => NewRoundStep(NewRoundStep),
        /// Two thirds voted for a block.
        2 => NewValidBlock(NewValidBlock),
        /// A proposal.
        3 => Proposal(ProposalMessage),
        /// Prevotes behind a proposal.
        4 => ProposalPol(ProposalPol),
        /// A block part.
        5 => BlockPart(BlockPart),
        /// A vote.
        6 => Vote(VoteMessage),
        /// The sender has a vote.
        7 => HasVote(HasVote),
        /// Two thirds voted for a block.
        8 => VoteSetMaj23(VoteSetMaj23),
        /// Which votes the sender has.
        9 => VoteSetBits(VoteSetBits),
    }
}

/// Why a message is refused before the state machine sees it; its sender is dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The bytes do not decode.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// No member set, or a vote message without vote.
    #[error("empty message")]
    Empty,
    /// A field out of its range.
    #[error("{field} out of range: {value}")]
    Range {
        /// Name of the field.
        field: &'static str,
        /// Value found.
        value: i64,
    },
    /// A vote, proposal or block id breaks a rule.
    #[error(transparent)]
    Basic(#[from] BasicError),
    /// A block part breaks a rule.
    #[error(transparent)]
    Part(#[from] PartError),
    /// A row of bits whose words do not fit.
    #[error(transparent)]
    Bits(#[from] BitArrayError),
    /// A row of bits that is empty, too long, or not as long as the number of parts.
    #[error("row of {len} bits, {max} allowed")]
    BitsLength {
        /// Length found.
        len: usize,
        /// Length wanted or allowed.
        max: usize,
    },
}

fn check_range(field: &'static str, value: i64, allowed: std::ops::RangeInclusive<i64>) -> Result<(), MessageError> {
    if allowed.contains(&value) { Ok(()) } else { Err(MessageError::Range { field, value }) }
}

fn check_height_and_round(height: i64, round: i32) -> Result<(), MessageError> {
    check_range("height", height, 0..=i64::MAX)?;
    check_range("round", i64::from(round), 0..=i64::MAX)
}

fn check_vote_type(kind: SignedMsgType) -> Result<(), MessageError> {
    if kind.is_vote() { Ok(()) } else { Err(BasicError::Type(kind.0).into()) }
}

impl NewRoundStep {
    /// Checks ranges that do not depend on the chain.
    pub fn validate_basic(&self) -> Result<(), MessageError> {
        check_height_and_round(self.height, self.round)?;
        check_range("step", i64::from(self.step), 1..=8)?;
        check_range("last commit round", i64::from(self.last_commit_round), -1..=i64::MAX)
    }

    /// Checks height and last commit round against the chain's first height.
    pub fn validate_height(&self, initial_height: i64) -> Result<(), MessageError> {
        check_range("height", self.height, initial_height..=i64::MAX)?;
        let round = i64::from(self.last_commit_round);
        if self.height == initial_height {
            check_range("last commit round", round, -1..=-1)
        } else {
            check_range("last commit round", round, 0..=i64::MAX)
        }
    }
}

impl NewValidBlock {
    /// Checks ranges and that the bits are those of the parts.
    pub fn validate_basic(&self) -> Result<(), MessageError> {
        self.block_part_set_header.validate_basic()?;
        check_height_and_round(self.height, self.round)?;
        let empty = BitArray::default();
        let bits = self.block_parts.as_ref().unwrap_or(&empty);
        bits.validate_basic()?;
        let total = self.block_part_set_header.total;
        if bits.is_empty() || bits.bits != i64::from(total) || total > MAX_BLOCK_PARTS {
            return Err(MessageError::BitsLength { len: bits.len(), max: total.min(MAX_BLOCK_PARTS) as usize });
        }
        Ok(())
    }
}

impl ProposalPol {
    /// Checks ranges and that there are bits.
    pub fn validate_basic(&self) -> Result<(), MessageError> {
        check_height_and_round(self.height, self.proposal_pol_round)?;
        self.proposal_pol.validate_basic()?;
        let len = self.proposal_pol.len();
        if len == 0 || len > MAX_VOTES {
            return Err(MessageError::BitsLength { len, max: MAX_VOTES });
        }
        Ok(())
    }
}

impl BlockPart {
    /// Checks ranges and the part.
    pub fn validate_basic(&self) -> Result<(), MessageError> {
        self.part.validate_basic()?;
        check_height_and_round(self.height, self.round)
    }
}

impl HasVote {
    /// Checks ranges and type.
    pub fn validate_basic(&self) -> Result<(), MessageError> {
        check_height_and_round(self.height, self.round)?;
        check_vote_type(self.kind)?;
        check_range("index", i64::from(self.index), 0..=i64::MAX)
    }
}

impl VoteSetMaj23 {
    /// Checks ranges, type and block id.
    pub fn validate_basic(&self) -> Result<(), MessageError> {
        check_height_and_round(self.height, self.round)?;
        check_vote_type(self.kind)?;
        Ok(self.block_id.validate_basic()?)
    }
}

impl VoteSetBits {
    /// Checks height (the reference leaves the round unchecked), type, block id and bits.
    pub fn validate_basic(&self) -> Result<(), MessageError> {
        check_height_and_round(self.height, 0)?;
        check_vote_type(self.kind)?;
        self.block_id.validate_basic()?;
        self.votes.validate_basic()?;
        let len = self.votes.len();
        if len > MAX_VOTES { Err(MessageError::BitsLength { len, max: MAX_VOTES }) } else { Ok(()) }
    }
}

impl ConsensusMessage {
    /// Checks what every receiver checks.
    pub fn validate_basic(&self) -> Result<(), MessageError> {
        use ConsensusMessageSum as Sum;
        match self.sum.as_ref().ok_or(MessageError::Empty)? {
            Sum::NewRoundStep(message) => message.validate_basic(),
            Sum::NewValidBlock(message) => message.validate_basic(),
            Sum::Proposal(message) => Ok(message.proposal.validate_basic()?),
            Sum::ProposalPol(message) => message.validate_basic(),
            Sum::BlockPart(message) => message.validate_basic(),
            Sum::Vote(message) => Ok(message.vote.as_ref().ok_or(MessageError::Empty)?.validate_basic()?),
            Sum::HasVote(message) => message.validate_basic(),
            Sum::VoteSetMaj23(message) => message.validate_basic(),
            Sum::VoteSetBits(message) => message.validate_basic(),
        }
    }

    /// Decodes a message of at most `max` bytes and checks it.
    pub fn decode_checked(bytes: &[u8], max: usize) -> Result<Self, MessageError> {
        let message = Self::decode_limited(bytes, max)?;
        message.validate_basic()?;
        Ok(message)
    }
}
