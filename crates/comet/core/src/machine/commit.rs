//! Committing: waiting for the block, storing it, executing it, going to the next height.
//!
//! Reference: `enterCommit`, `tryFinalizeCommit`, `finalizeCommit`, `updateToState`.

use std::sync::Arc;

use comet_chain::state::State;
use wire_cometbft::block::BlockId;
use wire_cometbft::consensus::ConsensusMessageSum;
use wire_cometbft::wal::{EndHeight, WalMessageSum};

use super::{Core, Task, Waiting, has_evidence};
use crate::effect::{Effect, Failure, HeldBlock, Request};
use crate::height_votes::HeightVotes;
use crate::round_state::{has_header, hashes_to};
use crate::timeout::Step;
use crate::vote_set::VoteSet;

impl Core {
    /// # Consensus
    /// From any round, unless the step is `Commit` already. The locked block is taken if it is the committed one;
    /// otherwise, unless its parts are being collected, collecting begins and peers are told, before the step is
    /// `Commit`.
    pub(super) fn enter_commit(&mut self, height: i64, round: i32) {
        let rs = &mut self.rs;
        if height != rs.height || rs.step >= Step::Commit {
            return;
        }
        let majority = rs.votes.precommits(round).and_then(VoteSet::two_thirds_majority).cloned();
        let Some(block_id) = majority else { return };
        if hashes_to(rs.locked_block.as_ref(), &block_id.hash) {
            rs.proposal_block = rs.locked_block.clone();
            rs.proposal_block_parts = rs.locked_block_parts.clone();
        }
        let held = hashes_to(rs.proposal_block.as_ref(), &block_id.hash);
        if !held && !has_header(rs.proposal_block_parts.as_ref(), &block_id.part_set_header) {
            self.fetch_parts(&block_id.part_set_header);
            self.announce_valid_block();
        }
        self.rs.step = Step::Commit;
        self.rs.commit_round = round;
        self.rs.commit_time = Some(self.now);
        self.new_step();
        self.tasks.push(Task::TryFinalize { height });
    }

    pub(super) fn announce_valid_block(&mut self) {
        if let Some(message) = self.rs.new_valid_block() {
            self.announce(ConsensusMessageSum::NewValidBlock(message));
        }
    }

    /// Finalizes once two thirds of the precommits and the block itself are there.
    pub(super) fn try_finalize_commit(&mut self, height: i64) {
        let rs = &self.rs;
        if height != rs.height || rs.step != Step::Commit {
            return;
        }
        let majority = rs.votes.precommits(rs.commit_round).and_then(VoteSet::two_thirds_majority).cloned();
        let Some(block_id) = majority else { return };
        let Some(block) = rs.proposal_block.clone() else { return };
        if !hashes_to(Some(&block), &block_id.hash) {
            return;
        }
        if !has_header(rs.proposal_block_parts.as_ref(), &block_id.part_set_header) {
            return self.fail(Failure::CommittedParts(height));
        }
        if let Err(reason) = self.validate(&block) {
            return self.finalize_after_evidence(block, block_id, Err(reason));
        }
        if has_evidence(&block) {
            let request = Request::CheckEvidence(Arc::clone(&block));
            return self.request(Waiting::CommitEvidence { block, block_id }, request);
        }
        self.finalize_after_evidence(block, block_id, Ok(()));
    }

    /// # Correctness
    /// The block is stored with its commit before the log says that the height has ended, and that is durable before
    /// the application executes: after a crash anywhere in between, the stored block is executed on start.
    pub(super) fn finalize_after_evidence(
        &mut self,
        block: Arc<HeldBlock>,
        block_id: BlockId,
        verdict: Result<(), String>,
    ) {
        let height = self.rs.height;
        if let Err(reason) = verdict {
            return self.fail(Failure::InvalidBlock { what: "committed", height, reason });
        }
        let seen_commit = self.rs.votes.precommits(self.rs.commit_round).and_then(VoteSet::make_commit);
        let (Some(seen_commit), Some(parts)) = (seen_commit, self.rs.proposal_block_parts.clone()) else {
            return self.fail(Failure::CommittedParts(height));
        };
        let seen_commit = Box::new(seen_commit);
        self.out.push(Effect::SaveBlock { block: Arc::clone(&block), parts, seen_commit });
        self.write_wal(WalMessageSum::EndHeight(EndHeight { height }), true);
        let request = Request::Apply { block: Arc::clone(&block), block_id };
        self.request(Waiting::Apply { block }, request);
    }

    pub(super) fn applied(&mut self, block: &HeldBlock, state: State) {
        let expected = self.rs.height;
        if state.last_block_height != expected {
            return self.fail(Failure::WrongState { expected, got: state.last_block_height });
        }
        self.last_header_app_hash = Some(block.block().header.app_hash.clone());
        match self.rs.votes.take_precommits(self.rs.commit_round) {
            Some(precommits) => self.rs.last_commit = Some(precommits),
            None => return self.fail(Failure::WrongState { expected, got: state.last_block_height }),
        }
        self.update_to_state(state);
        self.schedule_round_0();
    }

    /// Begins the height after `state`; the last commit is in place.
    pub(super) fn update_to_state(&mut self, state: State) {
        let height = state.next_height();
        if state.validators.proposer().is_none() {
            return self.fail(Failure::NoValidators(height));
        }
        let validators = Arc::new(state.validators.clone());
        let rs = &mut self.rs;
        rs.height = height;
        rs.round = 0;
        rs.step = Step::NewHeight;
        rs.start_time = rs.commit_time.unwrap_or(self.now).saturating_add(self.config.timeout_commit);
        rs.votes = HeightVotes::new(Arc::clone(&self.chain_id), height, Arc::clone(&validators));
        rs.validators = validators;
        rs.proposal = None;
        rs.proposal_block = None;
        rs.proposal_block_parts = None;
        rs.valid_round = -1;
        rs.valid_block = None;
        rs.valid_block_parts = None;
        rs.commit_round = -1;
        rs.last_validators = Arc::new(state.last_validators.clone());
        rs.triggered_timeout_precommit = false;
        self.unlock();
        self.validated = None;
        self.state = state;
        self.new_step();
    }
}
