//! Evidence of misbehaviour: messages, hashes, stateless rules.
//!
//! Reference: `cometbft:types/evidence.go`, `proto/tendermint/types/evidence.proto`.

use crate::block::{BasicError, Header, LightBlock};
use crate::codec::{DecodeError, Message, messages, oneofs};
use crate::limits::MAX_EVIDENCE;
use crate::merkle::{self, Hash, sha256};
use crate::time::Time;
use crate::validators::Validator;
use crate::vote::Vote;

oneofs! {
    /// Evidence of either kind.
    pub struct Evidence [at most MAX_EVIDENCE] = enum EvidenceSum {
        /// Two different votes of one validator in one round.
        1 => DuplicateVote(Box<DuplicateVoteEvidence>),
        /// A header, signed by enough to fool a light client, that is not the chain's.
        2 => LightClientAttack(Box<LightClientAttackEvidence>),
    }
}

messages! {
    /// A list of evidence.
    pub struct EvidenceList {
        /// Items in order.
        1 => evidence: Vec<Evidence>,
    }

    /// Two different votes of one validator for one height, round and type.
    pub struct DuplicateVoteEvidence {
        /// The vote with the lower block id key.
        1 => vote_a: Option<Vote>,
        /// The other vote.
        2 => vote_b: Option<Vote>,
        /// Power of all validators at the votes' height.
        3 => total_voting_power: i64,
        /// Power of the voter.
        4 => validator_power: i64,
        /// Time of the block at the votes' height.
        5 => timestamp: Time,
    }

    /// A light block that conflicts with the chain.
    pub struct LightClientAttackEvidence {
        /// The conflicting light block.
        1 => conflicting_block: Option<LightBlock>,
        /// Last height at which the conflicting branch and the chain agree.
        2 => common_height: i64,
        /// The validators at fault, by power.
        3 => byzantine_validators: Vec<Validator>,
        /// Power of all validators at the common height.
        4 => total_voting_power: i64,
        /// Time of the block at the common height.
        5 => timestamp: Time,
    }
}

/// Which stateless rule evidence breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// Neither kind is set.
    #[error("evidence is not recognized")]
    Unknown,
    /// A part of the message that must be there is not.
    #[error("missing {0}")]
    Missing(&'static str),
    /// The two votes are not ordered by block id, or are for the same block.
    #[error("duplicate votes in invalid order")]
    VoteOrder,
    /// Total power or common height not above zero.
    #[error("{field} must be above zero, not {value}")]
    NotPositive {
        /// Name of the field.
        field: &'static str,
        /// Value found.
        value: i64,
    },
    /// The common height lies above the conflicting block.
    #[error("common height {common} is ahead of conflicting height {conflicting}")]
    CommonAhead {
        /// Common height.
        common: i64,
        /// Height of the conflicting block.
        conflicting: i64,
    },
    /// A vote or the light block is malformed.
    #[error(transparent)]
    Basic(#[from] BasicError),
    /// The bytes do not decode.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl DuplicateVoteEvidence {
    /// Both votes, if they are there.
    pub fn votes(&self) -> Result<(&Vote, &Vote), EvidenceError> {
        match (&self.vote_a, &self.vote_b) {
            (Some(a), Some(b)) => Ok((a, b)),
            _ => Err(EvidenceError::Missing("vote")),
        }
    }

    /// Checks both votes and their order.
    pub fn validate_basic(&self) -> Result<(), EvidenceError> {
        let (a, b) = self.votes()?;
        a.validate_basic()?;
        b.validate_basic()?;
        if a.block_id.key() >= b.block_id.key() { Err(EvidenceError::VoteOrder) } else { Ok(()) }
    }
}

impl LightClientAttackEvidence {
    /// Header of the conflicting block, if it is there.
    pub fn conflicting_header(&self) -> Option<&Header> {
        self.conflicting_block.as_ref()?.signed_header.as_ref()?.header.as_ref()
    }

    /// Checks ranges and the conflicting light block.
    pub fn validate_basic(&self) -> Result<(), EvidenceError> {
        let block = self.conflicting_block.as_ref().ok_or(EvidenceError::Missing("conflicting block"))?;
        let header = self.conflicting_header().ok_or(EvidenceError::Missing("conflicting header"))?;
        if self.total_voting_power <= 0 {
            return Err(EvidenceError::NotPositive { field: "total voting power", value: self.total_voting_power });
        }
        if self.common_height <= 0 {
            return Err(EvidenceError::NotPositive { field: "common height", value: self.common_height });
        }
        if self.common_height > header.height {
            return Err(EvidenceError::CommonAhead { common: self.common_height, conflicting: header.height });
        }
        block.validate_basic(&header.chain_id)?;
        for validator in &self.byzantine_validators {
            if validator.pub_key.as_ed25519().is_none() {
                return Err(BasicError::ValidatorSet("key is not ed25519").into());
            }
        }
        Ok(())
    }

    /// Whether the conflicting header could not have come from `trusted`'s state: a lunatic attack.
    pub fn conflicting_header_is_invalid(&self, trusted: &Header) -> bool {
        self.conflicting_header().is_none_or(|header| {
            trusted.validators_hash != header.validators_hash
                || trusted.next_validators_hash != header.next_validators_hash
                || trusted.consensus_hash != header.consensus_hash
                || trusted.app_hash != header.app_hash
                || trusted.last_results_hash != header.last_results_hash
        })
    }

    /// The evidence's own hash: conflicting header hash without its last byte, a zero, and the common height
    /// as zigzag varint. Only a local key; same header and height collide on purpose.
    fn hash(&self) -> Hash {
        let header_hash = self.conflicting_header().and_then(Header::hash).unwrap_or_default();
        let mut bytes = header_hash.to_vec();
        bytes[31] = 0;
        let zigzag = (self.common_height << 1) ^ (self.common_height >> 63);
        crate::codec::put_varint(zigzag as u64, &mut bytes);
        sha256(&bytes)
    }
}

impl From<DuplicateVoteEvidence> for Evidence {
    fn from(evidence: DuplicateVoteEvidence) -> Self {
        EvidenceSum::DuplicateVote(Box::new(evidence)).into()
    }
}

impl From<LightClientAttackEvidence> for Evidence {
    fn from(evidence: LightClientAttackEvidence) -> Self {
        EvidenceSum::LightClientAttack(Box::new(evidence)).into()
    }
}

impl Evidence {
    /// The evidence's own message without the wrapper that tells the kinds apart.
    pub fn inner_bytes(&self) -> Vec<u8> {
        match &self.sum {
            Some(EvidenceSum::DuplicateVote(evidence)) => evidence.encode_to_vec(),
            Some(EvidenceSum::LightClientAttack(evidence)) => evidence.encode_to_vec(),
            None => Vec::new(),
        }
    }

    /// Hash by which evidence pools tell evidence apart.
    pub fn hash(&self) -> Hash {
        match &self.sum {
            Some(EvidenceSum::LightClientAttack(evidence)) => evidence.hash(),
            _ => sha256(&self.inner_bytes()),
        }
    }

    /// Height of the misbehaviour; 0 if the vote is missing.
    pub fn height(&self) -> i64 {
        match &self.sum {
            Some(EvidenceSum::DuplicateVote(evidence)) => evidence.vote_a.as_ref().map_or(0, |vote| vote.height),
            Some(EvidenceSum::LightClientAttack(evidence)) => evidence.common_height,
            None => 0,
        }
    }

    /// Time of the misbehaviour as the evidence states it.
    pub fn time(&self) -> Time {
        match &self.sum {
            Some(EvidenceSum::DuplicateVote(evidence)) => evidence.timestamp,
            Some(EvidenceSum::LightClientAttack(evidence)) => evidence.timestamp,
            None => Time::ZERO,
        }
    }

    /// Clears what the reference drops when it takes evidence over from the wire: the stated sum of a
    /// conflicting validator set.
    pub fn normalize(&mut self) {
        if let Some(EvidenceSum::LightClientAttack(evidence)) = &mut self.sum
            && let Some(validators) = evidence.conflicting_block.as_mut().and_then(|block| block.validator_set.as_mut())
        {
            validators.total_voting_power = 0;
        }
    }

    /// Checks every stateless rule.
    pub fn validate_basic(&self) -> Result<(), EvidenceError> {
        match &self.sum {
            Some(EvidenceSum::DuplicateVote(evidence)) => evidence.validate_basic(),
            Some(EvidenceSum::LightClientAttack(evidence)) => evidence.validate_basic(),
            None => Err(EvidenceError::Unknown),
        }
    }
}

impl EvidenceList {
    /// The header's `evidence_hash`: root over the inner messages.
    pub fn hash(&self) -> Hash {
        merkle::root(&self.evidence.iter().map(Evidence::inner_bytes).collect::<Vec<_>>())
    }

    /// Decodes a list from a peer and checks each item.
    pub fn decode_checked(bytes: &[u8], max: usize) -> Result<Self, EvidenceError> {
        let mut list = Self::decode_limited(bytes, max)?;
        for evidence in &mut list.evidence {
            evidence.normalize();
            evidence.validate_basic()?;
        }
        Ok(list)
    }
}
