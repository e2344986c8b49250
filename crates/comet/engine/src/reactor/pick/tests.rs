//! What is sent next, for places of this node and of the peer.

use std::sync::Arc;

use wire_cometbft::consensus::NewRoundStep;
use wire_cometbft::part_set::PartSet;

use super::*;
use crate::reactor::is_wanted;
use crate::testing::{block_id, place, vote, votes};

const PREVOTE: SignedMsgType = SignedMsgType::PREVOTE;
const PRECOMMIT: SignedMsgType = SignedMsgType::PRECOMMIT;

fn peer(height: i64, round: i32, step: Step) -> PeerRound {
    let mut peer = PeerRound::default();
    let last_commit_round = if height == 1 { -1 } else { 0 };
    let step = step.number();
    let message = NewRoundStep { height, round, step, seconds_since_start_time: 0, last_commit_round };
    assert!(peer.apply_new_round_step(&message));
    peer
}

/// Types and rounds of the votes in the order in which they are sent.
fn order(rs: &RoundState, peer: &mut PeerRound) -> Vec<(SignedMsgType, i32)> {
    let (mut random, mut sent) = (Random::new(1), Vec::new());
    while let NextVote::Vote(vote) = next_vote(rs, peer, 0, &mut random) {
        peer.set_has_vote(vote.height, vote.round, vote.kind, vote.validator_index);
        sent.push((vote.kind, vote.round));
        assert!(sent.len() < 100);
    }
    sent.dedup();
    sent
}

/// A node in round 1 with votes of both rounds.
fn in_round_1() -> RoundState {
    let mut rs = place();
    rs.votes.set_round(2);
    rs.round = 1;
    rs.step = Step::Prevote;
    for index in 0..3 {
        for (round, kind) in [(0, PREVOTE), (0, PRECOMMIT), (1, PREVOTE), (1, PRECOMMIT)] {
            rs.votes.add(vote(1, round, kind, index), None).unwrap();
        }
    }
    rs
}

#[test]
fn who_has_announced_nothing_is_sent_nothing() {
    let (rs, mut random) = (in_round_1(), Random::new(1));
    let mut stranger = PeerRound::default();
    assert_eq!(next_vote(&rs, &mut stranger, 1, &mut random), NextVote::Nothing);
    assert_eq!(next_data(&rs, &stranger, 1, &mut random), NextData::Nothing);
    assert_eq!(claims(&rs, &stranger), []);
}

#[test]
fn votes_are_those_of_the_peers_round_in_order_of_its_step() {
    let rs = in_round_1();
    assert_eq!(order(&rs, &mut peer(1, 0, Step::Propose)), [(PREVOTE, 0), (PRECOMMIT, 0)]);
    // Beyond the prevotes they come last.
    assert_eq!(order(&rs, &mut peer(1, 1, Step::Precommit)), [(PRECOMMIT, 1), (PREVOTE, 1)]);
    // A round that this node has not reached.
    assert_eq!(order(&rs, &mut peer(1, 2, Step::Propose)), []);
    let mut with_lock = peer(1, 1, Step::Propose);
    let proposal = Proposal { height: 1, round: 1, pol_round: 0, block_id: block_id(1), ..Proposal::default() };
    with_lock.set_has_proposal(&proposal);
    assert_eq!(order(&rs, &mut with_lock), [(PREVOTE, 0), (PREVOTE, 1), (PRECOMMIT, 1)]);
}

#[test]
fn who_is_behind_gets_the_last_commit_or_the_stored_one() {
    let mut rs = place();
    rs.height = 7;
    rs.last_commit = Some(votes(6, 0, PRECOMMIT, 3));
    let mut random = Random::new(1);
    assert_eq!(order(&rs, &mut peer(6, 3, Step::Propose)), [(PRECOMMIT, 0)]);
    assert_eq!(order(&rs, &mut peer(7, 0, Step::NewHeight)), [(PRECOMMIT, 0)]);
    assert_eq!(order(&rs, &mut peer(7, 0, Step::Propose)), []);
    for (base, expected) in [
        (1, NextVote::FromStore { height: 5 }),
        (5, NextVote::FromStore { height: 5 }),
        (6, NextVote::Nothing),
        (0, NextVote::Nothing),
    ] {
        assert_eq!(next_vote(&rs, &mut peer(5, 0, Step::Propose), base, &mut random), expected);
    }
    for (base, expected) in [(5, NextData::FromStore { height: 5 }), (6, NextData::Nothing)] {
        assert_eq!(next_data(&rs, &peer(5, 0, Step::Propose), base, &mut random), expected);
    }
}

#[test]
fn data_is_the_proposal_and_then_the_parts_that_are_missing() {
    let mut rs = place();
    let parts = PartSet::from_bytes(&[5; 150_000], 65_536);
    let mut id = block_id(1);
    id.part_set_header = parts.header().clone();
    let proposal = Proposal { height: 1, round: 0, pol_round: -1, block_id: id, ..Proposal::default() };
    rs.proposal = Some(proposal.clone());
    rs.proposal_block_parts = Some(Arc::new(parts));
    let (mut peer, mut random) = (peer(1, 0, Step::Propose), Random::new(1));
    let next = next_data(&rs, &peer, 0, &mut random);
    assert_eq!(next, NextData::Proposal(Box::new(proposal.clone()), None));
    peer.set_has_proposal(&proposal);
    let mut sent = Vec::new();
    while let NextData::Part(part) = next_data(&rs, &peer, 0, &mut random) {
        peer.set_has_part(1, 0, part.part.index);
        sent.push(part.part.index);
        assert!(sent.len() < 10);
    }
    sent.sort_unstable();
    assert_eq!(sent, [0, 1, 2]);
}

#[test]
fn two_thirds_are_claimed_to_peers_at_this_height() {
    let rs = in_round_1();
    let claimed = |peer: &PeerRound| -> Vec<_> {
        claims(&rs, peer).into_iter().map(|claim| (claim.kind, claim.round, claim.block_id)).collect()
    };
    assert_eq!(claimed(&peer(1, 1, Step::Prevote)), [(PREVOTE, 1, block_id(1)), (PRECOMMIT, 1, block_id(1))]);
    assert_eq!(claimed(&peer(1, 2, Step::Prevote)), []);
    assert_eq!(claimed(&peer(2, 1, Step::Prevote)), []);
}

#[test]
fn votes_that_cannot_matter_stop_before_the_machine() {
    let mut rs = in_round_1();
    assert!(!is_wanted(&rs, &vote(1, 1, PREVOTE, 0)), "held already");
    let other = Vote { block_id: block_id(9), ..vote(1, 1, PREVOTE, 0) };
    assert!(is_wanted(&rs, &other), "conflicting votes are evidence");
    assert!(is_wanted(&rs, &vote(1, 1, PREVOTE, 3)));
    assert!(is_wanted(&rs, &vote(2, 0, PREVOTE, 0)), "the machine may be there already");
    assert!(!is_wanted(&rs, &vote(3, 0, PREVOTE, 0)));
    rs.height = 2;
    rs.step = Step::NewHeight;
    rs.last_commit = Some(votes(1, 0, PRECOMMIT, 3));
    assert!(is_wanted(&rs, &vote(1, 0, PRECOMMIT, 3)) && !is_wanted(&rs, &vote(1, 0, PRECOMMIT, 1)));
    assert!(!is_wanted(&rs, &vote(1, 0, PREVOTE, 3)));
    rs.step = Step::Propose;
    assert!(!is_wanted(&rs, &vote(1, 0, PRECOMMIT, 3)));
}
