//! Where the machine stands: what peers are told and what gossip is made from.
//!
//! Reference: `cometbft:consensus/types/round_state.go`.

use std::sync::Arc;

use comet_chain::validators::ValidatorSet;
use wire_cometbft::Time;
use wire_cometbft::block::PartSetHeader;
use wire_cometbft::consensus::{NewRoundStep, NewValidBlock};
use wire_cometbft::part_set::PartSet;
use wire_cometbft::vote::Proposal;

use crate::effect::HeldBlock;
use crate::height_votes::HeightVotes;
use crate::timeout::Step;
use crate::vote_set::VoteSet;

/// Where the machine stands. Rounds of -1 mean "none".
#[derive(Debug, Clone)]
pub struct RoundState {
    /// Height being decided.
    pub height: i64,
    /// Round.
    pub round: i32,
    /// Step.
    pub step: Step,
    /// When round 0 begins or began.
    pub start_time: Time,
    /// When two thirds of precommits for the last block were seen; `None` after start or block sync.
    pub commit_time: Option<Time>,
    /// Validators of this height, rotated to this round.
    pub validators: Arc<ValidatorSet>,
    /// The round's proposal.
    pub proposal: Option<Proposal>,
    /// The complete block, of the proposal or of the votes.
    pub proposal_block: Option<Arc<HeldBlock>>,
    /// The parts being collected.
    pub proposal_block_parts: Option<Arc<PartSet>>,
    /// Round in which this node locked.
    pub locked_round: i32,
    /// The block it locked on.
    pub locked_block: Option<Arc<HeldBlock>>,
    /// Its parts.
    pub locked_block_parts: Option<Arc<PartSet>>,
    /// Last round in which a block that this node holds had two thirds of the prevotes.
    pub valid_round: i32,
    /// That block.
    pub valid_block: Option<Arc<HeldBlock>>,
    /// Its parts.
    pub valid_block_parts: Option<Arc<PartSet>>,
    /// Votes of this height.
    pub votes: HeightVotes,
    /// Round of the precommits that decide this height.
    pub commit_round: i32,
    /// Precommits of the last height; `None` at the initial height.
    pub last_commit: Option<VoteSet>,
    /// Validators of the last height.
    pub last_validators: Arc<ValidatorSet>,
    /// Whether the timer for more precommits was armed in this round.
    pub triggered_timeout_precommit: bool,
}

/// Whether a block is there and has this hash; an empty hash is no block's.
pub(crate) fn hashes_to(block: Option<&Arc<HeldBlock>>, hash: &[u8]) -> bool {
    !hash.is_empty() && block.is_some_and(|block| block.hash() == hash)
}

/// Whether parts are there and have this header.
pub(crate) fn has_header(parts: Option<&Arc<PartSet>>, header: &PartSetHeader) -> bool {
    parts.is_some_and(|parts| parts.header() == header)
}

impl RoundState {
    /// Whether the proposal and its block are there and, if it names a proof-of-lock round, the prevotes for it too.
    pub fn is_proposal_complete(&self) -> bool {
        let (Some(proposal), Some(_)) = (&self.proposal, &self.proposal_block) else { return false };
        if proposal.pol_round < 0 {
            return true;
        }
        self.votes.prevotes(proposal.pol_round).is_some_and(|votes| votes.two_thirds_majority().is_some())
    }

    /// The announcement of this step; `now` gives the seconds since the height's start.
    pub fn new_round_step(&self, now: Time) -> NewRoundStep {
        NewRoundStep {
            height: self.height,
            round: self.round,
            step: self.step.number(),
            seconds_since_start_time: now.since(self.start_time).nanos() / 1_000_000_000,
            last_commit_round: self.last_commit.as_ref().map_or(-1, VoteSet::round),
        }
    }

    /// The announcement of the parts being collected; `None` if there are none.
    pub fn new_valid_block(&self) -> Option<NewValidBlock> {
        let parts = self.proposal_block_parts.as_ref()?;
        Some(NewValidBlock {
            height: self.height,
            round: self.round,
            block_part_set_header: parts.header().clone(),
            block_parts: Some(parts.present().collect()),
            is_commit: self.step == Step::Commit,
        })
    }
}
