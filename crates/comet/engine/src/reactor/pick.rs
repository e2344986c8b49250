//! What to send a peer next: decided from this node's place and the peer's.
//!
//! Reference: `gossipDataRoutine`, `gossipVotesForHeight`, `gossipVotesRoutine`, `queryMaj23Routine`.

use comet_core::{RoundState, Step};
use wire_cometbft::consensus::{BlockPart, ProposalPol, VoteSetMaj23};
use wire_cometbft::vote::{Proposal, SignedMsgType, Vote};

use crate::peer_state::{PeerRound, VoteSource};
use crate::random::Random;

/// What to send on the data channel.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum NextData {
    /// A part of the block that both collect.
    Part(BlockPart),
    /// The proposal and, if it has a proof-of-lock round, which prevotes of that round this node has.
    Proposal(Box<Proposal>, Option<ProposalPol>),
    /// The peer is at a height that is stored: parts from the store.
    FromStore {
        /// The peer's height.
        height: i64,
    },
    /// Nothing now.
    Nothing,
}

/// What to send on the vote channel.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum NextVote {
    /// A vote.
    Vote(Box<Vote>),
    /// The peer is two heights behind or more: votes of the stored commit.
    FromStore {
        /// The peer's height.
        height: i64,
    },
    /// Nothing now.
    Nothing,
}

/// Chooses what to send on the data channel; `base` is the lowest height stored, 0: none.
pub(crate) fn next_data(rs: &RoundState, peer: &PeerRound, base: i64, random: &mut Random) -> NextData {
    if let (Some(ours), Some(theirs)) = (&rs.proposal_block_parts, &peer.parts)
        && *ours.header() == peer.parts_header
    {
        let missing = ours.present().enumerate().filter(|&(index, present)| present && !theirs.get(index));
        // Beyond the end of the peer's row nothing could be noted as sent.
        let missing = missing.map(|(index, _)| index).filter(|&index| index < theirs.len());
        if let Some(part) = random.choose(missing).and_then(|index| ours.part(index)) {
            return NextData::Part(BlockPart { height: rs.height, round: rs.round, part: part.clone() });
        }
    }
    if base > 0 && peer.height >= base && peer.height < rs.height {
        return NextData::FromStore { height: peer.height };
    }
    if (rs.height, rs.round) != (peer.height, peer.round) {
        return NextData::Nothing;
    }
    match &rs.proposal {
        Some(proposal) if !peer.proposal => {
            let prevotes = (proposal.pol_round >= 0).then(|| rs.votes.prevotes(proposal.pol_round)).flatten();
            let pol = prevotes.map(|votes| ProposalPol {
                height: rs.height,
                proposal_pol_round: proposal.pol_round,
                proposal_pol: votes.bits(),
            });
            NextData::Proposal(Box::new(proposal.clone()), pol)
        }
        _ => NextData::Nothing,
    }
}

/// Chooses what to send on the vote channel; `base` is the lowest height stored, 0: none.
pub(crate) fn next_vote(rs: &RoundState, peer: &mut PeerRound, base: i64, random: &mut Random) -> NextVote {
    if peer.height == 0 {
        return NextVote::Nothing;
    }
    let vote = if rs.height == peer.height {
        vote_for_same_height(rs, peer, random)
    } else if peer.height.checked_add(1) == Some(rs.height) {
        rs.last_commit.as_ref().and_then(|votes| peer.pick_vote(VoteSource::Set(votes), random))
    } else {
        None
    };
    match vote {
        Some(vote) => NextVote::Vote(Box::new(vote)),
        None if base > 0 && peer.height >= base && rs.height.saturating_sub(peer.height) >= 2 => {
            NextVote::FromStore { height: peer.height }
        }
        None => NextVote::Nothing,
    }
}

fn vote_for_same_height(rs: &RoundState, peer: &mut PeerRound, random: &mut Random) -> Option<Vote> {
    let (round, step, pol_round) = (peer.round, peer.step, peer.pol_round);
    let reached = round >= 0 && round <= rs.round;
    let last_commit = rs.last_commit.as_ref().filter(|_| step == Step::NewHeight.number());
    let prevotes = rs.votes.prevotes(round).filter(|_| reached);
    let precommits = rs.votes.precommits(round).filter(|_| reached && step <= Step::PrecommitWait.number());
    let pol = (pol_round >= 0).then(|| rs.votes.prevotes(pol_round)).flatten();
    let order = [
        last_commit,
        pol.filter(|_| reached && step <= Step::Propose.number()),
        prevotes.filter(|_| step <= Step::PrevoteWait.number()),
        precommits,
        prevotes,
        pol,
    ];
    order.into_iter().flatten().find_map(|votes| peer.pick_vote(VoteSource::Set(votes), random))
}

/// The claims of two thirds to be made to a peer at this node's height.
pub(crate) fn claims(rs: &RoundState, peer: &PeerRound) -> Vec<VoteSetMaj23> {
    if rs.height != peer.height {
        return Vec::new();
    }
    let sets = [
        rs.votes.prevotes(peer.round),
        rs.votes.precommits(peer.round),
        (peer.pol_round >= 0).then(|| rs.votes.prevotes(peer.pol_round)).flatten(),
    ];
    let claim = |kind: SignedMsgType, round: i32, block_id| VoteSetMaj23 { height: rs.height, round, kind, block_id };
    sets.into_iter()
        .flatten()
        .filter_map(|votes| Some(claim(votes.kind(), votes.round(), votes.two_thirds_majority()?.clone())))
        .collect()
}

#[cfg(test)]
mod tests;
