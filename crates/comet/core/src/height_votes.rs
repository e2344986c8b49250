//! Votes of all rounds of one height.
//!
//! Reference: `cometbft:consensus/types/height_vote_set.go`.
//!
//! # Security
//! Rounds up to the current one and the next exist; for others each peer may open [`CATCHUP_ROUNDS`], and at most
//! [`MAX_CATCHUP_PEERS`] peers may. DEVIATION: the reference has no limit on peers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use comet_chain::validators::ValidatorSet;
use wire_cometbft::block::BlockId;
use wire_cometbft::vote::{SignedMsgType, Vote};

use crate::effect::PeerId;
use crate::vote_set::{Added, ClaimError, VoteError, VoteSet};

/// Rounds ahead of the machine that one peer may bring up: the one of its last commit and the official one.
pub const CATCHUP_ROUNDS: usize = 2;
/// Peers that may bring up rounds at one height.
pub const MAX_CATCHUP_PEERS: usize = 512;

#[derive(Debug, Clone)]
struct RoundVotes {
    prevotes: VoteSet,
    precommits: VoteSet,
}

/// Prevotes and precommits by round.
#[derive(Debug, Clone)]
pub struct HeightVotes {
    chain_id: Arc<str>,
    height: i64,
    validators: Arc<ValidatorSet>,
    round: i32,
    rounds: BTreeMap<i32, RoundVotes>,
    /// Rounds opened ahead, by peer; `None` stands for this node.
    catchup: BTreeMap<Option<PeerId>, BTreeSet<i32>>,
}

impl HeightVotes {
    /// No votes yet; round 0 is tracked.
    pub fn new(chain_id: Arc<str>, height: i64, validators: Arc<ValidatorSet>) -> Self {
        let mut votes =
            Self { chain_id, height, validators, round: 0, rounds: BTreeMap::new(), catchup: BTreeMap::new() };
        votes.open(0);
        votes
    }

    fn open(&mut self, round: i32) -> &mut RoundVotes {
        let Self { chain_id, height, validators, rounds, .. } = self;
        let set = |kind| VoteSet::new(Arc::clone(chain_id), *height, round, kind, Arc::clone(validators));
        rounds.entry(round).or_insert_with(|| RoundVotes {
            prevotes: set(SignedMsgType::PREVOTE),
            precommits: set(SignedMsgType::PRECOMMIT),
        })
    }

    /// Tracks every round up to this one.
    pub fn set_round(&mut self, round: i32) {
        for round in self.round..=round {
            self.open(round);
        }
        self.round = self.round.max(round);
    }

    /// Highest round tracked without a peer having asked for it.
    pub fn round(&self) -> i32 {
        self.round
    }

    /// Takes a vote of this height; `peer` is `None` for this node's own.
    pub fn add(&mut self, vote: Vote, peer: Option<&PeerId>) -> Result<Added, VoteError> {
        let (round, kind) = (vote.round, vote.kind);
        if !kind.is_vote() {
            return Ok(Added { added: false, conflicting: None });
        }
        if !self.rounds.contains_key(&round) {
            let peers = self.catchup.len();
            let opened = self.catchup.get(&peer.cloned());
            let allowed = match opened {
                Some(opened) => opened.len() < CATCHUP_ROUNDS,
                None => peers < MAX_CATCHUP_PEERS,
            };
            if !allowed {
                return Err(VoteError::UnwantedRound(round));
            }
            self.catchup.entry(peer.cloned()).or_default().insert(round);
        }
        let votes = self.open(round);
        if kind == SignedMsgType::PREVOTE { votes.prevotes.add(vote) } else { votes.precommits.add(vote) }
    }

    /// Prevotes of a round, if it is tracked.
    pub fn prevotes(&self, round: i32) -> Option<&VoteSet> {
        self.rounds.get(&round).map(|votes| &votes.prevotes)
    }

    /// Precommits of a round, if it is tracked.
    pub fn precommits(&self, round: i32) -> Option<&VoteSet> {
        self.rounds.get(&round).map(|votes| &votes.precommits)
    }

    /// Votes of a round and type, if it is tracked.
    pub fn get(&self, round: i32, kind: SignedMsgType) -> Option<&VoteSet> {
        if kind == SignedMsgType::PREVOTE { self.prevotes(round) } else { self.precommits(round) }
    }

    /// Takes the precommits of a round out.
    pub(crate) fn take_precommits(&mut self, round: i32) -> Option<VoteSet> {
        self.rounds.remove(&round).map(|votes| votes.precommits)
    }

    /// Rounds tracked, in order.
    pub fn rounds(&self) -> impl Iterator<Item = i32> + '_ {
        self.rounds.keys().copied()
    }

    /// Notes a peer's claim that a block has two thirds in a round; rounds that are not tracked are ignored.
    pub fn claim(
        &mut self,
        round: i32,
        kind: SignedMsgType,
        peer: &PeerId,
        block_id: &BlockId,
    ) -> Result<(), ClaimError> {
        let Some(votes) = self.rounds.get_mut(&round) else { return Ok(()) };
        let set = if kind == SignedMsgType::PREVOTE { &mut votes.prevotes } else { &mut votes.precommits };
        set.claim(peer, block_id)
    }
}
