//! Messages: proposals, block parts, votes, and what follows from them.
//!
//! Reference: `handleMsg`, `defaultSetProposal`, `addProposalBlockPart`, `handleCompleteProposal`, `tryAddVote`, `addVote`.

use std::sync::Arc;

use comet_chain::signature;
use wire_cometbft::block::Block;
use wire_cometbft::consensus::{BlockPart, ConsensusMessageSum, HasVote, ProposalMessage, VoteMessage};
use wire_cometbft::limits::{BLOCK_PART_BYTES, MAX_BLOCK_BYTES};
use wire_cometbft::part_set::PartSet;
use wire_cometbft::vote::{Proposal, SignedMsgType, Vote};
use wire_cometbft::wal::{MsgInfo, WalMessageSum};

use super::{Core, Task};
use crate::effect::{Effect, HeldBlock, Message, PeerId, Refusal};
use crate::round_state::{has_header, hashes_to};
use crate::timeout::Step;
use crate::vote_set::{Added, VoteSet};

fn to_wire(message: &Message) -> ConsensusMessageSum {
    match message {
        Message::Proposal(proposal) => ConsensusMessageSum::Proposal(ProposalMessage { proposal: proposal.clone() }),
        Message::BlockPart(part) => ConsensusMessageSum::BlockPart(part.clone()),
        Message::Vote(vote) => ConsensusMessageSum::Vote(VoteMessage { vote: Some(vote.clone()) }),
    }
}

impl Core {
    pub(super) fn write_message(&mut self, message: &Message, peer: Option<&PeerId>, sync: bool) {
        let peer_id = peer.map_or_else(String::new, |peer| peer.0.to_string());
        self.write_wal(WalMessageSum::MsgInfo(MsgInfo { msg: to_wire(message).into(), peer_id }), sync);
    }

    pub(super) fn handle_message(&mut self, message: Message, peer: Option<PeerId>) {
        match message {
            Message::Proposal(proposal) => self.set_proposal(proposal, peer),
            Message::BlockPart(part) => self.handle_block_part(part, peer),
            Message::Vote(vote) => self.handle_vote(vote, peer),
        }
    }

    /// # Consensus
    /// The first proposal of the round counts, if the round's proposer signed it. Parts being collected already (for a
    /// block that has two thirds) stay.
    fn set_proposal(&mut self, proposal: Proposal, peer: Option<PeerId>) {
        let rs = &self.rs;
        if rs.proposal.is_some() || (proposal.height, proposal.round) != (rs.height, rs.round) {
            return;
        }
        if proposal.pol_round < -1 || (proposal.pol_round >= 0 && proposal.pol_round >= proposal.round) {
            return self.refuse(peer, Refusal::PolRound(proposal.pol_round));
        }
        let sign_bytes = proposal.sign_bytes(&self.chain_id);
        let signed = rs
            .validators
            .proposer()
            .is_some_and(|proposer| signature::verify(&proposer.pub_key, &sign_bytes, &proposal.signature));
        if !signed {
            return self.refuse(peer, Refusal::ProposalSignature);
        }
        let max_bytes = match self.state.consensus_params.block.max_bytes {
            -1 => i64::try_from(MAX_BLOCK_BYTES).unwrap_or(i64::MAX),
            max_bytes => max_bytes,
        };
        let part_bytes = i64::try_from(BLOCK_PART_BYTES).unwrap_or(i64::MAX);
        let header = &proposal.block_id.part_set_header;
        if i64::from(header.total) > max_bytes.saturating_sub(1) / part_bytes + 1 {
            return self.refuse(peer, Refusal::TooManyParts(header.total));
        }
        if self.rs.proposal_block_parts.is_none() {
            match PartSet::from_header(header.clone()) {
                Ok(parts) => self.rs.proposal_block_parts = Some(Arc::new(parts)),
                Err(error) => return self.refuse(peer, error),
            }
        }
        self.rs.proposal = Some(proposal.clone());
        if peer.is_none() {
            self.broadcast(ConsensusMessageSum::Proposal(ProposalMessage { proposal }));
        }
    }

    fn handle_block_part(&mut self, message: BlockPart, peer: Option<PeerId>) {
        let round = message.round;
        let own = peer.is_none().then(|| message.clone());
        match self.add_block_part(message) {
            Ok(false) => return,
            Ok(true) => {}
            Err((added, refusal)) => {
                // Parts of other rounds come in after every round change: not worth a word.
                if round == self.rs.round {
                    self.refuse(peer, refusal);
                }
                if !added {
                    return;
                }
            }
        }
        if let Some(part) = own {
            self.broadcast(ConsensusMessageSum::BlockPart(part));
        }
        if self.rs.proposal_block_parts.as_ref().is_some_and(|parts| parts.is_complete()) {
            self.handle_complete_proposal();
        }
    }

    /// Takes a part of the block being collected, of whatever round, and the block once it is complete. On error tells
    /// whether the part was kept all the same.
    fn add_block_part(&mut self, message: BlockPart) -> Result<bool, (bool, Refusal)> {
        if message.height != self.rs.height {
            return Ok(false);
        }
        let max = self.state.consensus_params.block.max_bytes;
        let Some(parts) = &mut self.rs.proposal_block_parts else { return Ok(false) };
        if parts.is_complete() && parts.part(message.part.index as usize).is_some() {
            return Ok(false);
        }
        let parts = Arc::make_mut(parts);
        let added = parts.add(message.part).map_err(|error| (false, error.into()))?;
        let got = parts.byte_size();
        if i64::try_from(got).unwrap_or(i64::MAX) > max {
            return Err((added, Refusal::BlockTooLarge { got, max }));
        }
        if !added || !parts.is_complete() {
            return Ok(added);
        }
        let bytes = parts.assemble().unwrap_or_default();
        let block = Block::decode_checked(&bytes).map_err(|error| (true, error.into()))?;
        self.rs.proposal_block = HeldBlock::new(block).map(Arc::new);
        Ok(true)
    }

    /// # Consensus
    /// If the block that just became complete has two thirds of this round's prevotes, it becomes the valid one. Before
    /// the prevote, a complete proposal leads to it; while committing, to the end of the height.
    fn handle_complete_proposal(&mut self) {
        let rs = &mut self.rs;
        let (height, round) = (rs.height, rs.round);
        let polka = rs.votes.prevotes(round).and_then(VoteSet::two_thirds_majority).cloned();
        if let Some(block_id) = &polka
            && rs.valid_round < round
            && hashes_to(rs.proposal_block.as_ref(), &block_id.hash)
        {
            rs.valid_round = round;
            rs.valid_block = rs.proposal_block.clone();
            rs.valid_block_parts = rs.proposal_block_parts.clone();
        }
        if rs.step <= Step::Propose && rs.is_proposal_complete() {
            if polka.is_some() {
                self.tasks.push(Task::Precommit { height, round });
            }
            self.tasks.push(Task::Prevote { height, round });
        } else if rs.step == Step::Commit {
            self.tasks.push(Task::TryFinalize { height });
        }
    }

    fn handle_vote(&mut self, vote: Vote, peer: Option<PeerId>) {
        let late_precommit =
            vote.height.checked_add(1) == Some(self.rs.height) && vote.kind == SignedMsgType::PRECOMMIT;
        if late_precommit {
            return self.add_late_precommit(vote, peer);
        }
        if vote.height != self.rs.height {
            return;
        }
        match self.rs.votes.add(vote.clone(), peer.as_ref()) {
            Err(error) => self.refuse(peer, error),
            Ok(Added { added, conflicting }) => {
                if let Some(other) = conflicting {
                    self.report_conflict(&other, &vote, peer.as_ref());
                }
                if added {
                    self.vote_added(vote, peer.is_none());
                }
            }
        }
    }

    /// A precommit for the height before joins the last commit, which the next proposal is made from.
    fn add_late_precommit(&mut self, vote: Vote, peer: Option<PeerId>) {
        if self.rs.step != Step::NewHeight {
            return;
        }
        let Some(last_commit) = &mut self.rs.last_commit else { return };
        match last_commit.add(vote.clone()) {
            Err(error) => self.refuse(peer, error),
            Ok(Added { added, conflicting }) => {
                let all = last_commit.has_all();
                if let Some(other) = conflicting {
                    self.report_conflict(&other, &vote, peer.as_ref());
                }
                if added {
                    self.tell_vote(vote, peer.is_none());
                    if self.config.skip_timeout_commit && all {
                        self.tasks.push(Task::NewRoundOfNewHeight);
                    }
                }
            }
        }
    }

    fn report_conflict(&mut self, first: &Vote, second: &Vote, peer: Option<&PeerId>) {
        if self.address.is_some_and(|address| second.validator_address == address.0) {
            let (height, round) = (second.height, second.round);
            return self.refuse(peer.cloned(), Refusal::OwnConflictingVote { height, round });
        }
        let (first, second) = (Box::new(first.clone()), Box::new(second.clone()));
        self.out.push(Effect::ReportConflictingVotes(first, second));
    }

    fn tell_vote(&mut self, vote: Vote, own: bool) {
        let Vote { height, round, kind, validator_index: index, .. } = vote;
        if own {
            self.broadcast(ConsensusMessageSum::Vote(VoteMessage { vote: Some(vote) }));
        }
        self.announce(ConsensusMessageSum::HasVote(HasVote { height, round, kind, index }));
    }

    fn vote_added(&mut self, vote: Vote, own: bool) {
        let (round, kind) = (vote.round, vote.kind);
        self.tell_vote(vote, own);
        if kind == SignedMsgType::PREVOTE { self.prevote_added(round) } else { self.precommit_added(round) }
    }

    /// # Consensus
    /// Two thirds for anything newer than the lock, up to the current round and not the locked block: unlock. Two thirds
    /// for a block in the current round: it becomes the valid one if it is here, otherwise it is fetched in place of
    /// what was proposed. Then the round moves on: to a later round in which two thirds voted, to the precommit, to
    /// the wait for more, or to the prevote if this completed the proposal.
    fn prevote_added(&mut self, round: i32) {
        let rs = &self.rs;
        let Some(votes) = rs.votes.prevotes(round) else { return };
        let (polka, any) = (votes.two_thirds_majority().cloned(), votes.has_two_thirds_any());
        if let Some(block_id) = &polka {
            let locked_on_other = rs.locked_block.is_some() && !hashes_to(rs.locked_block.as_ref(), &block_id.hash);
            if locked_on_other && rs.locked_round < round && round <= rs.round {
                self.unlock();
            }
            let rs = &mut self.rs;
            if !block_id.hash.is_empty() && rs.valid_round < round && round == rs.round {
                if hashes_to(rs.proposal_block.as_ref(), &block_id.hash) {
                    rs.valid_round = round;
                    rs.valid_block = rs.proposal_block.clone();
                    rs.valid_block_parts = rs.proposal_block_parts.clone();
                } else {
                    rs.proposal_block = None;
                }
                if !has_header(rs.proposal_block_parts.as_ref(), &block_id.part_set_header) {
                    rs.proposal_block_parts = PartSet::from_header(block_id.part_set_header.clone()).ok().map(Arc::new);
                }
                self.announce_valid_block();
            }
        }
        let rs = &self.rs;
        let height = rs.height;
        if rs.round < round && any {
            self.tasks.push(Task::NewRound { height, round });
        } else if rs.round == round && rs.step >= Step::Prevote {
            let decided = polka.is_some_and(|block_id| rs.is_proposal_complete() || block_id.hash.is_empty());
            if decided {
                self.tasks.push(Task::Precommit { height, round });
            } else if any {
                self.tasks.push(Task::PrevoteWait { height, round });
            }
        } else if rs.proposal.as_ref().is_some_and(|proposal| proposal.pol_round >= 0 && proposal.pol_round == round)
            && rs.is_proposal_complete()
        {
            let round = rs.round;
            self.tasks.push(Task::Prevote { height, round });
        }
    }

    /// # Consensus
    /// Two thirds for one thing, in whatever round: go there, precommit, and commit the block or, for none, wait for the
    /// round's end. Two thirds for anything in this or a later round: go there and wait.
    fn precommit_added(&mut self, round: i32) {
        let rs = &self.rs;
        let Some(votes) = rs.votes.precommits(round) else { return };
        let height = rs.height;
        match votes.two_thirds_majority() {
            Some(block_id) if !block_id.hash.is_empty() => {
                if self.config.skip_timeout_commit && votes.has_all() {
                    self.tasks.push(Task::NewRoundOfNewHeight);
                }
                self.then([
                    Task::NewRound { height, round },
                    Task::Precommit { height, round },
                    Task::Commit { height, round },
                ]);
            }
            Some(_) => self.then([
                Task::NewRound { height, round },
                Task::Precommit { height, round },
                Task::PrecommitWait { height, round },
            ]),
            None if rs.round <= round && votes.has_two_thirds_any() => {
                self.then([Task::NewRound { height, round }, Task::PrecommitWait { height, round }]);
            }
            None => {}
        }
    }
}
