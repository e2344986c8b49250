//! Votes of one round and type: who voted for what, and whether it is enough.
//!
//! Reference: `cometbft:types/vote_set.go`, `types/block.go` (`CommitToVoteSet`).
//!
//! # Correctness
//! The first vote of a validator is the one that is shown and counted. A second, conflicting one is kept only for a
//! block of which a peer claims that two thirds voted for it; it then counts for that block alone. When a block
//! first crosses two thirds, its votes become the ones shown.
//!
//! # Security
//! One entry per block that somebody voted for first (at most one per validator) plus one per claim; claims are limited
//! to one per peer and [`MAX_CLAIMS`] in all. DEVIATION: the reference has no limit over all peers.

use std::collections::BTreeMap;
use std::sync::Arc;

use comet_chain::signature;
use comet_chain::validators::ValidatorSet;
use wire_cometbft::bits::BitArray;
use wire_cometbft::block::{BlockId, Commit, CommitSig};
use wire_cometbft::vote::{SignedMsgType, Vote};

use crate::effect::PeerId;

/// Most claims of two thirds that a set keeps, over all peers.
pub const MAX_CLAIMS: usize = 512;

/// Why a vote is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VoteError {
    /// Not of this set's height, round or type.
    #[error("unexpected step {height}/{round}/{kind}")]
    UnexpectedStep {
        /// Height of the vote.
        height: i64,
        /// Round of the vote.
        round: i32,
        /// Type of the vote.
        kind: i32,
    },
    /// No validator at that place.
    #[error("no validator at index {0}")]
    Index(i32),
    /// The address is not that of the validator at that place.
    #[error("address is not that of the validator at index {0}")]
    Address(i32),
    /// The signature does not hold.
    #[error("invalid signature of validator {0}")]
    Signature(i32),
    /// The same vote with another signature.
    #[error("non-deterministic signature of validator {0}")]
    NonDeterministicSignature(i32),
    /// A round far ahead, and the peer has used up its two.
    #[error("vote from unwanted round {0}")]
    UnwantedRound(i32),
}

/// What became of a vote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// Whether it was new and is kept.
    pub added: bool,
    /// The vote of the same validator for another block, if there is one.
    pub conflicting: Option<Arc<Vote>>,
}

/// A peer contradicts itself about who has two thirds, or too many claims were made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// The peer named another block before.
    #[error("conflicting block id claimed to have two thirds")]
    Conflicting,
    /// Too many claims in this set; the claim is ignored.
    #[error("more than {MAX_CLAIMS} claims")]
    TooMany,
}

/// Why a commit cannot be turned back into votes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitVotesError {
    /// An entry is no good.
    #[error("entry {index}: {source}")]
    Vote {
        /// Place of the entry.
        index: usize,
        /// What is wrong with it.
        source: VoteError,
    },
    /// An entry conflicts with another.
    #[error("entry {0} conflicts with another one")]
    Conflicting(usize),
    /// Less than two thirds are for its block.
    #[error("commit does not have two thirds")]
    NoMajority,
}

#[derive(Debug, Clone, Default)]
struct BlockVotes {
    claimed: bool,
    votes: BTreeMap<usize, Arc<Vote>>,
    sum: i64,
}

/// Votes of one height, round and type.
#[derive(Debug, Clone)]
pub struct VoteSet {
    chain_id: Arc<str>,
    height: i64,
    round: i32,
    kind: SignedMsgType,
    validators: Arc<ValidatorSet>,
    votes: BTreeMap<usize, Arc<Vote>>,
    sum: i64,
    majority: Option<BlockId>,
    by_block: BTreeMap<Vec<u8>, BlockVotes>,
    claims: BTreeMap<PeerId, BlockId>,
}

impl VoteSet {
    /// An empty set.
    pub fn new(
        chain_id: Arc<str>,
        height: i64,
        round: i32,
        kind: SignedMsgType,
        validators: Arc<ValidatorSet>,
    ) -> Self {
        Self {
            chain_id,
            height,
            round,
            kind,
            validators,
            votes: BTreeMap::new(),
            sum: 0,
            majority: None,
            by_block: BTreeMap::new(),
            claims: BTreeMap::new(),
        }
    }

    /// The precommits of a commit, each checked; two thirds must be for its block.
    pub fn from_commit(
        chain_id: Arc<str>,
        commit: &Commit,
        validators: Arc<ValidatorSet>,
    ) -> Result<Self, CommitVotesError> {
        let mut set = Self::new(chain_id, commit.height, commit.round, SignedMsgType::PRECOMMIT, validators);
        for (index, entry) in commit.signatures.iter().enumerate() {
            if entry.is_absent() {
                continue;
            }
            let Some(vote) = commit.vote(index) else { continue };
            match set.add(vote) {
                Ok(Added { added: true, conflicting: None }) => {}
                Ok(_) => return Err(CommitVotesError::Conflicting(index)),
                Err(source) => return Err(CommitVotesError::Vote { index, source }),
            }
        }
        if set.majority.is_none() { Err(CommitVotesError::NoMajority) } else { Ok(set) }
    }

    /// Height.
    pub fn height(&self) -> i64 {
        self.height
    }

    /// Round.
    pub fn round(&self) -> i32 {
        self.round
    }

    /// Prevotes or precommits.
    pub fn kind(&self) -> SignedMsgType {
        self.kind
    }

    /// Takes a vote; checks everything, the signature last.
    pub fn add(&mut self, vote: Vote) -> Result<Added, VoteError> {
        let at = vote.validator_index;
        if (vote.height, vote.round, vote.kind) != (self.height, self.round, self.kind) {
            return Err(VoteError::UnexpectedStep { height: vote.height, round: vote.round, kind: vote.kind.0 });
        }
        let index = usize::try_from(at).map_err(|_| VoteError::Index(at))?;
        let validator = self.validators.get(index).ok_or(VoteError::Index(at))?;
        if vote.validator_address != validator.address.0 {
            return Err(VoteError::Address(at));
        }
        let key = vote.block_id.key();
        if let Some(existing) = self.find(index, &key) {
            if existing.signature == vote.signature {
                return Ok(Added { added: false, conflicting: None });
            }
            return Err(VoteError::NonDeterministicSignature(at));
        }
        if !signature::verify(&validator.pub_key, &vote.sign_bytes(&self.chain_id), &vote.signature) {
            return Err(VoteError::Signature(at));
        }
        let power = validator.voting_power;
        Ok(self.add_verified(index, Arc::new(vote), key, power))
    }

    fn find(&self, index: usize, key: &[u8]) -> Option<&Arc<Vote>> {
        let shown = self.votes.get(&index).filter(|vote| vote.block_id.key() == key);
        shown.or_else(|| self.by_block.get(key)?.votes.get(&index))
    }

    fn add_verified(&mut self, index: usize, vote: Arc<Vote>, key: Vec<u8>, power: i64) -> Added {
        let conflicting = self.votes.get(&index).cloned();
        if conflicting.is_none() {
            self.votes.insert(index, Arc::clone(&vote));
            self.sum += power;
        } else if self.majority.as_ref() == Some(&vote.block_id) {
            self.votes.insert(index, Arc::clone(&vote));
        }
        let tracked = self.by_block.get(&key).is_some_and(|entry| entry.claimed);
        if conflicting.is_some() && !tracked {
            return Added { added: false, conflicting };
        }
        let quorum = self.validators.two_thirds() + 1;
        let entry = self.by_block.entry(key).or_default();
        let before = entry.sum;
        if entry.votes.insert(index, Arc::clone(&vote)).is_none() {
            entry.sum += power;
        }
        if before < quorum && quorum <= entry.sum && self.majority.is_none() {
            self.majority = Some(vote.block_id.clone());
            self.votes.extend(entry.votes.iter().map(|(&index, vote)| (index, Arc::clone(vote))));
        }
        Added { added: true, conflicting }
    }

    /// Notes that a peer claims two thirds for a block, so that conflicting votes for it are kept.
    pub fn claim(&mut self, peer: &PeerId, block_id: &BlockId) -> Result<(), ClaimError> {
        match self.claims.get(peer) {
            Some(existing) if existing == block_id => return Ok(()),
            Some(_) => return Err(ClaimError::Conflicting),
            None if self.claims.len() >= MAX_CLAIMS => return Err(ClaimError::TooMany),
            None => {}
        }
        self.claims.insert(peer.clone(), block_id.clone());
        self.by_block.entry(block_id.key()).or_default().claimed = true;
        Ok(())
    }

    /// The block (or none) that has two thirds, if any has.
    pub fn two_thirds_majority(&self) -> Option<&BlockId> {
        self.majority.as_ref()
    }

    /// Whether two thirds voted, for whatever.
    pub fn has_two_thirds_any(&self) -> bool {
        self.sum > self.validators.two_thirds()
    }

    /// Whether every validator voted.
    pub fn has_all(&self) -> bool {
        self.sum == self.validators.total_voting_power()
    }

    /// The shown vote of the validator at a place.
    pub fn get(&self, index: usize) -> Option<&Arc<Vote>> {
        self.votes.get(&index)
    }

    /// The shown votes in order.
    pub fn votes(&self) -> impl Iterator<Item = &Arc<Vote>> {
        self.votes.values()
    }

    /// Who voted.
    pub fn bits(&self) -> BitArray {
        let mut bits = BitArray::new(self.validators.len());
        self.votes.keys().for_each(|&index| {
            bits.set(index, true);
        });
        bits
    }

    /// Who voted for a block; `None` if nobody did and no peer claims two thirds for it.
    pub fn bits_for(&self, block_id: &BlockId) -> Option<BitArray> {
        let entry = self.by_block.get(&block_id.key())?;
        let mut bits = BitArray::new(self.validators.len());
        entry.votes.keys().for_each(|&index| {
            bits.set(index, true);
        });
        Some(bits)
    }

    /// The commit for the block that has two thirds: shown votes for it and for none; others become absent. `None`
    /// without a majority or for prevotes.
    pub fn make_commit(&self) -> Option<Commit> {
        if self.kind != SignedMsgType::PRECOMMIT {
            return None;
        }
        let block_id = self.majority.clone()?;
        let signatures = (0..self.validators.len())
            .map(|index| {
                let vote = self.votes.get(&index).filter(|vote| vote.block_id.is_zero() || vote.block_id == block_id);
                vote.and_then(|vote| vote.commit_sig()).unwrap_or_else(CommitSig::absent)
            })
            .collect();
        Some(Commit { height: self.height, round: self.round, block_id, signatures })
    }
}

#[cfg(test)]
mod tests;
