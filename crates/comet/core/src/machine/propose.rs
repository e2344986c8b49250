//! Proposing: building or repeating a block, signing the proposal, sending the parts.
//!
//! Reference: `enterPropose`, `isProposer`, `defaultDecideProposal`, `createProposalBlock`.

use std::sync::Arc;

use wire_cometbft::block::{Block, Commit};
use wire_cometbft::consensus::BlockPart;
use wire_cometbft::part_set::PartSet;
use wire_cometbft::vote::{Proposal, SignedMsgType};

use super::{Core, Task, Waiting};
use crate::effect::{Effect, HeldBlock, Message, Refusal, Request};
use crate::timeout::{Step, Timeout};
use crate::vote_set::VoteSet;

impl Core {
    pub(super) fn enter_propose(&mut self, height: i64, round: i32) {
        let rs = &self.rs;
        if height != rs.height || (round, Step::Propose) <= (rs.round, rs.step) {
            return;
        }
        self.tasks.push(Task::EndPropose { height, round });
        let duration = self.config.propose(round);
        self.schedule(Timeout { duration, height, round, step: Step::Propose });

        let Some(address) = self.address else { return };
        let rs = &self.rs;
        if rs.validators.proposer().is_none_or(|proposer| proposer.address != address) {
            return;
        }
        if let (Some(block), Some(parts)) = (rs.valid_block.clone(), rs.valid_block_parts.clone()) {
            return self.propose(height, round, &block, parts);
        }
        let last_commit = if height == self.state.initial_height {
            Some(Commit::default())
        } else {
            rs.last_commit.as_ref().and_then(VoteSet::make_commit)
        };
        match last_commit {
            Some(last_commit) => {
                let last_commit = Box::new(last_commit);
                let request = Request::BuildProposal { height, round, last_commit, proposer: address };
                self.request(Waiting::Build { height, round }, request);
            }
            None => self.refuse(None, Refusal::NothingToPropose),
        }
    }

    pub(super) fn built(&mut self, height: i64, round: i32, block: Option<Box<Block>>) {
        let Some(block) = block.and_then(|block| HeldBlock::new(*block)) else {
            return self.refuse(None, Refusal::NothingToPropose);
        };
        let parts = Arc::new(block.block().part_set());
        self.propose(height, round, &block, parts);
    }

    fn propose(&mut self, height: i64, round: i32, block: &HeldBlock, parts: Arc<PartSet>) {
        let proposal = Proposal {
            kind: SignedMsgType::PROPOSAL,
            height,
            round,
            pol_round: self.rs.valid_round,
            block_id: block.id(parts.header().clone()),
            timestamp: self.now,
            signature: Vec::new(),
        };
        // Otherwise a restart might propose something else, which the guard would refuse.
        self.out.push(Effect::SyncWal);
        self.unsigned = Some((proposal.clone(), parts));
        self.out.push(Effect::SignProposal(Box::new(proposal)));
    }

    /// Queues the proposal and its parts; a signature that was not asked for (any more) is ignored.
    pub(super) fn proposal_signed(&mut self, proposal: Proposal) {
        let asked = |unsigned: &Proposal| {
            (unsigned.height, unsigned.round, unsigned.pol_round)
                == (proposal.height, proposal.round, proposal.pol_round)
                && unsigned.block_id == proposal.block_id
        };
        let Some((_, parts)) = self.unsigned.take_if(|(unsigned, _)| asked(unsigned)) else { return };
        let (height, round) = (proposal.height, proposal.round);
        self.enqueue_own(Message::Proposal(proposal));
        for index in 0..parts.count() {
            if let Some(part) = parts.part(index) {
                self.enqueue_own(Message::BlockPart(BlockPart { height, round, part: part.clone() }));
            }
        }
    }
}
