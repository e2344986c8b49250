//! What is known of a peer after what it announced and what it was sent.

use wire_cometbft::block::CommitSig;

use super::*;
use crate::testing::{block_id, votes};

fn step(height: i64, round: i32, step: u32, last_commit_round: i32) -> NewRoundStep {
    NewRoundStep { height, round, step, seconds_since_start_time: 0, last_commit_round }
}

/// Everything that would be sent of a set, until nothing is left.
fn send_all(peer: &mut PeerRound, source: VoteSource<'_>) -> Vec<i32> {
    let mut random = Random::new(1);
    let mut sent = Vec::new();
    while let Some(vote) = peer.pick_vote(source, &mut random) {
        peer.set_has_vote(vote.height, vote.round, vote.kind, vote.validator_index);
        sent.push(vote.validator_index);
        assert!(sent.len() <= 100, "a vote is sent again and again");
    }
    sent.sort_unstable();
    sent
}

#[test]
fn a_peer_that_announced_nothing_gets_nothing() {
    let mut peer = PeerRound::default();
    assert_eq!(send_all(&mut peer, VoteSource::Set(&votes(5, 0, SignedMsgType::PREVOTE, 4))), [0; 0]);
    assert_eq!(send_all(&mut peer, VoteSource::Set(&votes(5, 0, SignedMsgType::PRECOMMIT, 4))), [0; 0]);
}

#[test]
fn each_vote_is_sent_once_unless_the_peer_corrects_it() {
    let mut peer = PeerRound::default();
    assert!(peer.apply_new_round_step(&step(5, 0, 4, 0)));
    let set = votes(5, 0, SignedMsgType::PREVOTE, 4);
    peer.ensure_vote_bits(5, 4);
    peer.set_has_vote(5, 0, SignedMsgType::PREVOTE, 2);
    assert_eq!(send_all(&mut peer, VoteSource::Set(&set)), [0, 1, 3]);
    assert_eq!(send_all(&mut peer, VoteSource::Set(&set)), [0; 0]);
    // It says that it has only the last: what this node has is believed, what it has not is kept.
    let bits = |bits: [bool; 4]| bits.into_iter().collect::<BitArray>();
    let answer = VoteSetBits {
        height: 5,
        round: 0,
        kind: SignedMsgType::PREVOTE,
        block_id: block_id(1),
        votes: bits([false, false, false, true]),
    };
    peer.apply_vote_set_bits(&answer, Some(&bits([true, true, false, false])));
    assert_eq!(send_all(&mut peer, VoteSource::Set(&set)), [0, 1]);
    peer.apply_vote_set_bits(&answer, None);
    assert_eq!(send_all(&mut peer, VoteSource::Set(&set)), [0, 1, 2]);
}

#[test]
fn steps_go_forward_only() {
    let mut peer = PeerRound::default();
    assert!(peer.apply_new_round_step(&step(5, 1, 4, 0)));
    for stale in [step(5, 1, 4, 0), step(5, 1, 3, 0), step(5, 0, 8, 0), step(4, 9, 8, 0)] {
        assert!(!peer.apply_new_round_step(&stale));
    }
    assert_eq!((peer.height, peer.round, peer.step), (5, 1, 4));
}

#[test]
fn precommits_become_the_last_commit_if_the_round_is_the_one_that_decided() {
    for (last_commit_round, left) in [(1, vec![]), (0, vec![0, 1, 2, 3])] {
        let mut peer = PeerRound::default();
        peer.apply_new_round_step(&step(5, 1, 6, 0));
        // A set without two thirds, so that the round is not known to decide.
        let two = votes(5, 1, SignedMsgType::PRECOMMIT, 2);
        assert_eq!(send_all(&mut peer, VoteSource::Set(&two)), [0, 1]);
        peer.set_has_vote(5, 1, SignedMsgType::PRECOMMIT, 2);
        peer.set_has_vote(5, 1, SignedMsgType::PRECOMMIT, 3);
        peer.apply_new_round_step(&step(6, 0, 1, last_commit_round));
        let all = votes(5, last_commit_round, SignedMsgType::PRECOMMIT, 4);
        assert_eq!(send_all(&mut peer, VoteSource::Set(&all)), left);
    }
}

#[test]
fn a_commit_is_sent_whatever_round_the_peer_is_in_and_remembered_over_rounds() {
    let mut peer = PeerRound::default();
    peer.apply_new_round_step(&step(5, 0, 6, 0));
    let commit = Commit {
        height: 5,
        round: 3,
        block_id: block_id(1),
        signatures: (0..4u8)
            .map(|n| {
                if n == 1 {
                    CommitSig::absent()
                } else {
                    votes(5, 3, SignedMsgType::PRECOMMIT, 4).get(n.into()).unwrap().commit_sig().unwrap()
                }
            })
            .collect(),
    };
    assert_eq!(send_all(&mut peer, VoteSource::Commit(&commit)), [0, 2, 3]);
    assert_eq!(peer.catchup_round, 3);
    // In the deciding round it is known to hold them, and afterwards still.
    for round in [1, 3, 4] {
        peer.apply_new_round_step(&step(5, round, 3, 0));
        assert_eq!(send_all(&mut peer, VoteSource::Commit(&commit)), [0; 0]);
    }
    // At the next height they are not.
    peer.apply_new_round_step(&step(6, 0, 1, 2));
    assert_eq!(peer.catchup_round, -1);
}

#[test]
fn parts_follow_proposal_and_valid_block() {
    let mut peer = PeerRound::default();
    peer.apply_new_round_step(&step(5, 1, 3, 0));
    let proposal = Proposal { height: 5, round: 1, pol_round: 0, block_id: block_id(1), ..Proposal::default() };
    peer.set_has_proposal(&Proposal { round: 0, ..proposal.clone() });
    assert!(!peer.proposal);
    peer.set_has_proposal(&proposal);
    assert_eq!((peer.proposal, peer.pol_round, peer.parts.as_ref().map(BitArray::len)), (true, 0, Some(3)));
    peer.set_has_part(5, 1, 2);
    peer.set_has_part(5, 0, 1);
    peer.set_has_part(5, 1, 99);
    assert_eq!(peer.parts.as_ref().unwrap().ones().collect::<Vec<_>>(), [2]);

    let other = NewValidBlock {
        height: 5,
        round: 0,
        block_part_set_header: PartSetHeader { total: 2, hash: vec![9; 32] },
        block_parts: Some(BitArray::new(2)),
        is_commit: false,
    };
    peer.apply_new_valid_block(&other);
    assert_eq!(peer.parts_header.total, 3);
    peer.apply_new_valid_block(&NewValidBlock { is_commit: true, ..other.clone() });
    assert_eq!(peer.parts_header.total, 2);
    peer.apply_new_round_step(&step(5, 2, 3, 0));
    assert!(peer.parts.is_none() && !peer.proposal);
}

#[test]
fn what_a_hostile_peer_says_takes_no_memory_and_sends_nothing_for_ever() {
    let mut peer = PeerRound::default();
    peer.apply_new_round_step(&step(5, 1, 3, 0));
    let mut proposal = Proposal { height: 5, round: 1, pol_round: 0, block_id: block_id(1), ..Proposal::default() };
    proposal.block_id.part_set_header.total = u32::MAX;
    peer.set_has_proposal(&proposal);
    assert!(peer.parts.is_none());
    // A row that is shorter than the set of validators.
    let pol = ProposalPol { height: 5, proposal_pol_round: 0, proposal_pol: BitArray::new(1) };
    peer.apply_proposal_pol(pol);
    assert_eq!(send_all(&mut peer, VoteSource::Set(&votes(5, 0, SignedMsgType::PREVOTE, 4))), [0]);
    peer.apply_new_round_step(&step(5, 2, 3, 0));
    peer.ensure_vote_bits(5, usize::MAX);
    assert_eq!(peer.prevotes.as_ref().unwrap().len(), MAX_VOTES);
    for index in [-1, i32::MAX] {
        peer.set_has_vote(5, 2, SignedMsgType::PREVOTE, index);
    }
    peer.set_has_vote(i64::MAX, 0, SignedMsgType::PRECOMMIT, 0);
    peer.apply_new_round_step(&step(i64::MAX, i32::MAX, 8, i32::MAX));
    peer.ensure_vote_bits(i64::MAX - 1, 4);
    assert_eq!(send_all(&mut peer, VoteSource::Set(&votes(5, 0, SignedMsgType::PREVOTE, 4))), [0; 0]);
}
