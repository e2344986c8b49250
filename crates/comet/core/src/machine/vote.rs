//! Voting: prevotes, precommits, the lock, and the waits for more votes.
//!
//! Reference: `enterPrevote`, `defaultDoPrevote`, `enterPrevoteWait`, `enterPrecommit`, `enterPrecommitWait`, `signVote`,
//! `voteTime`, `signAddVote`.

use std::sync::Arc;

use comet_chain::app::Verdict;
use wire_cometbft::block::{BlockId, PartSetHeader};
use wire_cometbft::part_set::PartSet;
use wire_cometbft::vote::{SignedMsgType, Vote};
use wire_cometbft::{Duration, Time};

use super::{Core, Task, Waiting, has_evidence};
use crate::effect::{Effect, Failure, HeldBlock, Refusal, Request};
use crate::round_state::{has_header, hashes_to};
use crate::timeout::{Step, Timeout};

/// A vote is at least this much later than the block it is for.
const TIME_IOTA: Duration = Duration::from_millis(1);

impl Core {
    /// # Consensus
    /// A locked node prevotes its locked block whatever is proposed. Otherwise it prevotes the complete block if that is
    /// valid, its evidence holds and the application accepts it; else none. Whether the proposal itself or its
    /// proof-of-lock prevotes are there does not matter here.
    pub(super) fn enter_prevote(&mut self, height: i64, round: i32) {
        let rs = &self.rs;
        if height != rs.height || (round, Step::Prevote) <= (rs.round, rs.step) {
            return;
        }
        self.tasks.push(Task::EndPrevote { round });
        let rs = &self.rs;
        if let (Some(block), Some(parts)) = (&rs.locked_block, &rs.locked_block_parts) {
            let block_id = block.id(parts.header().clone());
            return self.sign_vote(SignedMsgType::PREVOTE, block_id);
        }
        let Some(block) = rs.proposal_block.clone() else {
            return self.sign_vote(SignedMsgType::PREVOTE, BlockId::default());
        };
        if let Err(reason) = self.validate(&block) {
            return self.prevote_after_evidence(block, Err(reason));
        }
        if has_evidence(&block) {
            let request = Request::CheckEvidence(Arc::clone(&block));
            return self.request(Waiting::PrevoteEvidence { block }, request);
        }
        self.prevote_after_evidence(block, Ok(()));
    }

    pub(super) fn prevote_after_evidence(&mut self, block: Arc<HeldBlock>, verdict: Result<(), String>) {
        match verdict {
            Ok(()) => {
                let request = Request::ProcessProposal(Arc::clone(&block));
                self.request(Waiting::PrevoteProcess { block }, request);
            }
            Err(reason) => {
                self.refuse(None, Refusal::InvalidBlock(reason));
                self.sign_vote(SignedMsgType::PREVOTE, BlockId::default());
            }
        }
    }

    pub(super) fn processed(&mut self, block: &HeldBlock, verdict: Verdict) {
        let parts = self.rs.proposal_block_parts.as_ref();
        match (verdict, parts) {
            (Verdict::Accept, Some(parts)) => {
                let block_id = block.id(parts.header().clone());
                self.sign_vote(SignedMsgType::PREVOTE, block_id);
            }
            _ => {
                self.refuse(None, Refusal::Rejected);
                self.sign_vote(SignedMsgType::PREVOTE, BlockId::default());
            }
        }
    }

    pub(super) fn enter_prevote_wait(&mut self, height: i64, round: i32) {
        let rs = &self.rs;
        let any = rs.votes.prevotes(round).is_some_and(|votes| votes.has_two_thirds_any());
        if height != rs.height || (round, Step::PrevoteWait) <= (rs.round, rs.step) || !any {
            return;
        }
        let duration = self.config.prevote(round);
        self.schedule(Timeout { duration, height, round, step: Step::PrevoteWait });
        self.end_step(round, Step::PrevoteWait);
    }

    /// # Consensus
    /// Without two thirds of the prevotes for one thing: precommit none, keep the lock. Two thirds for none: unlock,
    /// precommit none. For the locked block: lock it anew in this round. For the complete block: validate, lock,
    /// precommit it. For a block that is not here: unlock, fetch it, precommit none.
    pub(super) fn enter_precommit(&mut self, height: i64, round: i32) {
        let rs = &self.rs;
        if height != rs.height || (round, Step::Precommit) <= (rs.round, rs.step) {
            return;
        }
        self.tasks.push(Task::EndPrecommit { round });
        let rs = &mut self.rs;
        let polka = rs.votes.prevotes(round).and_then(|votes| votes.two_thirds_majority()).cloned();
        let Some(block_id) = polka else {
            return self.sign_vote(SignedMsgType::PRECOMMIT, BlockId::default());
        };
        if block_id.hash.is_empty() {
            self.unlock();
            return self.sign_vote(SignedMsgType::PRECOMMIT, BlockId::default());
        }
        if hashes_to(rs.locked_block.as_ref(), &block_id.hash) {
            rs.locked_round = round;
            return self.sign_vote(SignedMsgType::PRECOMMIT, block_id);
        }
        if hashes_to(rs.proposal_block.as_ref(), &block_id.hash) {
            return self.lock(round, block_id);
        }
        self.unlock();
        if !has_header(self.rs.proposal_block_parts.as_ref(), &block_id.part_set_header) {
            self.fetch_parts(&block_id.part_set_header);
        }
        self.sign_vote(SignedMsgType::PRECOMMIT, BlockId::default());
    }

    fn lock(&mut self, round: i32, block_id: BlockId) {
        let Some(block) = self.rs.proposal_block.clone() else { return };
        if let Err(reason) = self.validate(&block) {
            return self.precommit_after_evidence(round, block_id, Err(reason));
        }
        if has_evidence(&block) {
            return self.request(Waiting::PrecommitEvidence { round, block_id }, Request::CheckEvidence(block));
        }
        self.precommit_after_evidence(round, block_id, Ok(()));
    }

    pub(super) fn precommit_after_evidence(&mut self, round: i32, block_id: BlockId, verdict: Result<(), String>) {
        if let Err(reason) = verdict {
            let height = self.rs.height;
            return self.fail(Failure::InvalidBlock { what: "prevoted", height, reason });
        }
        self.rs.locked_round = round;
        self.rs.locked_block = self.rs.proposal_block.clone();
        self.rs.locked_block_parts = self.rs.proposal_block_parts.clone();
        self.sign_vote(SignedMsgType::PRECOMMIT, block_id);
    }

    pub(super) fn enter_precommit_wait(&mut self, height: i64, round: i32) {
        let rs = &self.rs;
        let any = rs.votes.precommits(round).is_some_and(|votes| votes.has_two_thirds_any());
        let stale = round < rs.round || (round == rs.round && rs.triggered_timeout_precommit);
        if height != rs.height || stale || !any {
            return;
        }
        let duration = self.config.precommit(round);
        self.schedule(Timeout { duration, height, round, step: Step::PrecommitWait });
        self.rs.triggered_timeout_precommit = true;
        self.new_step();
    }

    pub(super) fn unlock(&mut self) {
        self.rs.locked_round = -1;
        self.rs.locked_block = None;
        self.rs.locked_block_parts = None;
    }

    /// Drops the complete block and begins to collect the parts of another. A header of more parts than any block has
    /// (which two thirds never vote for) leaves nothing to collect.
    pub(super) fn fetch_parts(&mut self, header: &PartSetHeader) {
        self.rs.proposal_block = None;
        self.rs.proposal_block_parts = PartSet::from_header(header.clone()).ok().map(Arc::new);
    }

    /// Asks for a signature if this node is a validator.
    pub(super) fn sign_vote(&mut self, kind: SignedMsgType, block_id: BlockId) {
        let Some(address) = self.address else { return };
        let Some((index, _)) = self.rs.validators.find(&address) else { return };
        let Ok(validator_index) = i32::try_from(index) else { return };
        let vote = Vote {
            kind,
            height: self.rs.height,
            round: self.rs.round,
            block_id,
            timestamp: self.vote_time(),
            validator_address: address.0.to_vec(),
            validator_index,
            signature: Vec::new(),
        };
        self.out.push(Effect::SyncWal);
        self.out.push(Effect::SignVote(Box::new(vote)));
    }

    /// # Consensus
    /// Now, but later than the locked block (or else the complete one), so that block times always grow.
    fn vote_time(&self) -> Time {
        let block = self.rs.locked_block.as_ref().or(self.rs.proposal_block.as_ref());
        let least = block.map(|block| block.block().header.time.saturating_add(TIME_IOTA));
        least.map_or(self.now, |least| least.max(self.now))
    }
}
