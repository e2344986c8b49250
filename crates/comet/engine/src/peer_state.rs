//! What a peer holds of the height it is at, as far as this node knows: what to send it next follows from that.
//!
//! Reference: `cometbft:consensus/reactor.go` (`PeerState`), `consensus/types/peer_round_state.go`.
//!
//! # Security
//! Everything here is bounded: rows of bits are at most [`MAX_VOTES`] or [`MAX_BLOCK_PARTS`] long, whatever the peer says.

use comet_core::vote_set::VoteSet;
use wire_cometbft::bits::BitArray;
use wire_cometbft::block::{Commit, PartSetHeader};
use wire_cometbft::consensus::{NewRoundStep, NewValidBlock, ProposalPol, VoteSetBits};
use wire_cometbft::limits::{MAX_BLOCK_PARTS, MAX_VOTES};
use wire_cometbft::vote::{Proposal, SignedMsgType, Vote};

use crate::random::Random;

/// Votes that may be sent to a peer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum VoteSource<'a> {
    /// Votes collected.
    Set(&'a VoteSet),
    /// A stored commit.
    Commit(&'a Commit),
}

impl VoteSource<'_> {
    fn place(&self) -> (i64, i32, SignedMsgType) {
        match self {
            Self::Set(set) => (set.height(), set.round(), set.kind()),
            Self::Commit(commit) => (commit.height, commit.round, SignedMsgType::PRECOMMIT),
        }
    }

    /// Who voted; as long as there are validators.
    fn bits(&self) -> BitArray {
        match self {
            Self::Set(set) => set.bits(),
            Self::Commit(commit) => commit.signatures.iter().map(|entry| !entry.is_absent()).collect(),
        }
    }

    /// Whether these are precommits that decide a height.
    fn is_commit(&self) -> bool {
        match self {
            Self::Set(set) => set.kind() == SignedMsgType::PRECOMMIT && set.two_thirds_majority().is_some(),
            Self::Commit(_) => true,
        }
    }

    fn vote(&self, index: usize) -> Option<Vote> {
        match self {
            Self::Set(set) => set.get(index).map(|vote| vote.as_ref().clone()),
            Self::Commit(commit) => commit.vote(index),
        }
    }
}

/// A peer's place and what it holds there. Rounds of -1 mean "none".
#[derive(Debug, Clone)]
pub(crate) struct PeerRound {
    /// Height; 0: the peer has announced nothing yet.
    pub(crate) height: i64,
    /// Round.
    pub(crate) round: i32,
    /// Step's number; 0: nothing announced yet.
    pub(crate) step: u32,
    /// Whether it has the round's proposal.
    pub(crate) proposal: bool,
    /// The parts that it collects.
    pub(crate) parts_header: PartSetHeader,
    /// Which of them it has; `None`: it collects none.
    pub(crate) parts: Option<BitArray>,
    /// Proof-of-lock round of its proposal.
    pub(crate) pol_round: i32,
    pol: Option<BitArray>,
    prevotes: Option<BitArray>,
    precommits: Option<BitArray>,
    /// Round of its last commit.
    pub(crate) last_commit_round: i32,
    last_commit: Option<BitArray>,
    /// Round in which its height was decided, once this node has sent it votes of that.
    pub(crate) catchup_round: i32,
    catchup: Option<BitArray>,
}

impl Default for PeerRound {
    fn default() -> Self {
        Self {
            height: 0,
            round: -1,
            step: 0,
            proposal: false,
            parts_header: PartSetHeader::default(),
            parts: None,
            pol_round: -1,
            pol: None,
            prevotes: None,
            precommits: None,
            last_commit_round: -1,
            last_commit: None,
            catchup_round: -1,
            catchup: None,
        }
    }
}

impl PeerRound {
    /// Takes the peer's announcement of a step; what is not ahead of the last one is ignored. Tells whether it was
    /// taken.
    pub(crate) fn apply_new_round_step(&mut self, message: &NewRoundStep) -> bool {
        if (message.height, message.round, message.step) <= (self.height, self.round, self.step) {
            return false;
        }
        let (height, round) = (self.height, self.round);
        self.height = message.height;
        self.round = message.round;
        self.step = message.step;
        if (height, round) == (message.height, message.round) {
            return true;
        }
        self.proposal = false;
        self.parts_header = PartSetHeader::default();
        self.parts = None;
        self.pol_round = -1;
        self.pol = None;
        self.prevotes = None;
        let precommits = self.precommits.take();
        if height == message.height {
            // The row of the deciding round stays, whichever of its two names it had.
            if self.catchup_round == round && precommits.is_some() {
                self.catchup = precommits;
            }
            if message.round == self.catchup_round {
                self.precommits = self.catchup.clone();
            }
            return true;
        }
        let follows = height.checked_add(1) == Some(message.height) && round == message.last_commit_round;
        self.last_commit_round = message.last_commit_round;
        self.last_commit = precommits.filter(|_| follows);
        self.catchup_round = -1;
        self.catchup = None;
        true
    }

    /// Takes the announcement of the parts that the peer collects.
    pub(crate) fn apply_new_valid_block(&mut self, message: &NewValidBlock) {
        if self.height != message.height || (self.round != message.round && !message.is_commit) {
            return;
        }
        self.parts_header = message.block_part_set_header.clone();
        self.parts.clone_from(&message.block_parts);
    }

    /// Takes the announcement of which prevotes of the proposal's proof-of-lock round the peer has.
    pub(crate) fn apply_proposal_pol(&mut self, message: ProposalPol) {
        if self.height == message.height && self.pol_round == message.proposal_pol_round {
            self.pol = Some(message.proposal_pol);
        }
    }

    /// Notes that the peer has a vote.
    pub(crate) fn set_has_vote(&mut self, height: i64, round: i32, kind: SignedMsgType, index: i32) {
        let Ok(index) = usize::try_from(index) else { return };
        if let Some(bits) = self.votes(height, round, kind) {
            bits.set(index, true);
        }
    }

    /// Takes the peer's answer about which votes for a block it has. `ours` are this node's votes for that block, if it
    /// is at that height: about others the answer says nothing.
    pub(crate) fn apply_vote_set_bits(&mut self, message: &VoteSetBits, ours: Option<&BitArray>) {
        let Some(bits) = self.votes(message.height, message.round, message.kind) else { return };
        for index in 0..bits.len() {
            let about = ours.is_none_or(|ours| ours.get(index));
            if about {
                bits.set(index, message.votes.get(index));
            } else if message.votes.get(index) {
                bits.set(index, true);
            }
        }
    }

    /// Notes that the peer has the proposal, and which parts it will collect because of that.
    pub(crate) fn set_has_proposal(&mut self, proposal: &Proposal) {
        if (self.height, self.round) != (proposal.height, proposal.round) || self.proposal {
            return;
        }
        self.proposal = true;
        if self.parts.is_some() {
            return;
        }
        self.init_parts(&proposal.block_id.part_set_header);
        self.pol_round = proposal.pol_round;
        self.pol = None;
    }

    /// Assumes that the peer collects these parts and has none, unless it has said what it collects.
    pub(crate) fn init_parts(&mut self, header: &PartSetHeader) {
        // A header of more parts than any block has is nobody's: there is nothing to send for it.
        if self.parts.is_none() && header.total <= MAX_BLOCK_PARTS {
            self.parts_header = header.clone();
            self.parts = Some(BitArray::new(header.total as usize));
        }
    }

    /// Notes that the peer has a part.
    pub(crate) fn set_has_part(&mut self, height: i64, round: i32, index: u32) {
        if (self.height, self.round) == (height, round)
            && let Some(parts) = &mut self.parts
        {
            parts.set(index as usize, true);
        }
    }

    /// Makes rows of bits for a height of so many validators, where they are wanted and not there.
    pub(crate) fn ensure_vote_bits(&mut self, height: i64, validators: usize) {
        let validators = validators.min(MAX_VOTES);
        if self.height == height {
            for bits in [&mut self.prevotes, &mut self.precommits, &mut self.catchup, &mut self.pol] {
                bits.get_or_insert_with(|| BitArray::new(validators));
            }
        } else if height.checked_add(1) == Some(self.height) {
            self.last_commit.get_or_insert_with(|| BitArray::new(validators));
        }
    }

    /// A vote that the peer lacks, chosen at random.
    pub(crate) fn pick_vote(&mut self, votes: VoteSource<'_>, random: &mut Random) -> Option<Vote> {
        let (height, round, kind) = votes.place();
        let bits = votes.bits();
        if bits.is_empty() {
            return None;
        }
        if votes.is_commit() {
            self.ensure_catchup(height, round, bits.len());
        }
        self.ensure_vote_bits(height, bits.len());
        let held = self.votes(height, round, kind)?;
        // Beyond the end of the peer's row nothing could be noted as sent.
        let missing = bits.ones().filter(|&index| index < held.len() && !held.get(index));
        votes.vote(random.choose(missing)?)
    }

    fn ensure_catchup(&mut self, height: i64, round: i32, validators: usize) {
        if self.height != height || self.catchup_round == round {
            return;
        }
        self.catchup_round = round;
        let precommits = self.precommits.clone().filter(|_| self.round == round);
        self.catchup = precommits.or_else(|| Some(BitArray::new(validators.min(MAX_VOTES))));
    }

    /// The row for votes of a height, round and type, if the peer can be holding any.
    fn votes(&mut self, height: i64, round: i32, kind: SignedMsgType) -> Option<&mut BitArray> {
        let prevote = kind == SignedMsgType::PREVOTE;
        if !kind.is_vote() {
            return None;
        }
        if self.height == height {
            if self.round == round {
                return if prevote { self.prevotes.as_mut() } else { self.precommits.as_mut() };
            }
            if self.catchup_round == round {
                return if prevote { None } else { self.catchup.as_mut() };
            }
            return if self.pol_round == round && prevote { self.pol.as_mut() } else { None };
        }
        let last = height.checked_add(1) == Some(self.height) && self.last_commit_round == round && !prevote;
        if last { self.last_commit.as_mut() } else { None }
    }
}

#[cfg(test)]
mod tests;
