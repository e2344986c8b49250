//! The rules of a round, one by one: locking and unlocking, valid blocks, skipping rounds, committing.
//!
//! The scenarios are those of the reference's `consensus/state_test.go`, and some that it lacks.

use comet_chain::app::Verdict;
use comet_core::{Config, Effect, Failure, Input, Message, Misuse, PeerId, Refusal, Reply, Step, Timeout};
use wire_cometbft::Duration;
use wire_cometbft::block::BlockId;
use wire_cometbft::consensus::BlockPart;

use crate::lab::{Lab, Made, PRECOMMIT, PREVOTE, at};

/// Locks the machine on a block in round 0 and leads it to `Propose` of round 1.
fn locked(my_round: u32) -> (Lab, Made) {
    let mut lab = Lab::started(my_round);
    let made = lab.make(1);
    lab.propose(&made, -1);
    assert_eq!(lab.last_vote(), (0, PREVOTE, Some(made.id.clone())));
    let [a, b, c] = lab.others();
    lab.votes_of(&[a, b], PREVOTE, 0, Some(&made.id));
    assert_eq!(lab.last_vote(), (0, PRECOMMIT, Some(made.id.clone())));
    assert_eq!((lab.rs().locked_round, lab.rs().valid_round), (0, 0));
    lab.votes_of(&[b, c], PRECOMMIT, 0, None);
    lab.expire(Step::PrecommitWait);
    assert_eq!(lab.place(), (1, 1, Step::Propose));
    (lab, made)
}

#[test]
fn a_lone_proposer_proposes_prevotes_and_waits() {
    let mut lab = Lab::started(0);
    assert_eq!(lab.place(), (1, 0, Step::Prevote));
    let proposal = lab.proposals[0].clone();
    assert_eq!((proposal.height, proposal.round, proposal.pol_round), (1, 0, -1));
    assert_eq!(lab.last_vote(), (0, PREVOTE, Some(proposal.block_id.clone())));
    let [a, b, c] = lab.others();
    lab.votes_of(&[a, b], PREVOTE, 0, Some(&proposal.block_id));
    lab.votes_of(&[a, b], PRECOMMIT, 0, Some(&proposal.block_id));
    assert_eq!(lab.place(), (2, 0, Step::NewHeight));
    assert_eq!(lab.saved[0].1.block_id, proposal.block_id);
    // A late precommit joins what the next block will carry, not what was stored.
    assert!(lab.saved[0].1.signatures[c].is_absent());
    let late = lab.vote(c, PRECOMMIT, 1, 0, Some(&proposal.block_id));
    lab.receive(Message::Vote(late.clone()));
    assert!(lab.rs().last_commit.as_ref().unwrap().has_all());
    assert_eq!(lab.timer.unwrap().duration, Duration::from_secs(1));
    lab.expire(Step::NewHeight);
    assert_eq!(lab.place().0, 2);
    lab.receive(Message::Vote(late));
    assert_eq!(lab.refused, []);
}

#[test]
fn nothing_proposed_means_a_vote_for_none() {
    let mut lab = Lab::started(1);
    assert_eq!(lab.timer.unwrap().duration, Duration::from_secs(3));
    lab.expire(Step::Propose);
    assert_eq!(lab.last_vote(), (0, PREVOTE, None));
    let [a, b, _] = lab.others();
    lab.votes_of(&[a, b], PREVOTE, 0, None);
    assert_eq!(lab.last_vote(), (0, PRECOMMIT, None));
    lab.votes_of(&[a, b], PRECOMMIT, 0, None);
    assert_eq!(lab.place(), (1, 0, Step::Precommit));
    assert_eq!(lab.timer.unwrap().duration, Duration::from_secs(1));
    lab.expire(Step::PrecommitWait);
    assert_eq!(lab.rs().round, 1);
    // This node's turn: it proposes and goes on at once.
    assert_eq!((lab.proposals[0].round, lab.rs().step), (1, Step::Prevote));
}

#[test]
fn locked_prevotes_the_locked_block_whatever_is_proposed() {
    let (mut lab, made) = locked(2);
    let other = lab.make(2);
    lab.propose(&other, -1);
    assert_eq!(lab.last_vote(), (1, PREVOTE, Some(made.id.clone())));
    // No two thirds for anything: precommit none, keep the lock.
    let [a, b, c] = lab.others();
    lab.votes_of(&[a, b], PREVOTE, 1, Some(&other.id));
    assert_eq!(lab.place().2, Step::PrevoteWait);
    assert_eq!(lab.timer.unwrap().duration, Duration::from_millis(1500));
    lab.expire(Step::PrevoteWait);
    assert_eq!(lab.last_vote(), (1, PRECOMMIT, None));
    assert_eq!(lab.rs().locked_round, 0);
    // And in round 2, without any proposal but its own: the valid block with its round.
    lab.votes_of(&[a, c], PRECOMMIT, 1, None);
    assert_eq!(lab.rs().round, 1);
    lab.expire(Step::PrecommitWait);
    let proposal = lab.proposals.last().unwrap();
    assert_eq!((proposal.round, proposal.pol_round, &proposal.block_id), (2, 0, &made.id));
    assert_eq!(lab.last_vote(), (2, PREVOTE, Some(made.id)));
}

#[test]
fn locked_prevotes_the_locked_block_on_timeout_too() {
    let (mut lab, made) = locked(2);
    lab.expire(Step::Propose);
    assert_eq!(lab.last_vote(), (1, PREVOTE, Some(made.id)));
}

#[test]
fn two_thirds_for_the_locked_block_lock_it_anew() {
    let (mut lab, made) = locked(2);
    lab.expire(Step::Propose);
    let [a, b, _] = lab.others();
    // Nothing was proposed in this round, so the block is here only as the locked one.
    lab.votes_of(&[a, b], PREVOTE, 1, Some(&made.id));
    assert_eq!(lab.place().2, Step::PrevoteWait);
    lab.expire(Step::PrevoteWait);
    assert_eq!(lab.last_vote(), (1, PRECOMMIT, Some(made.id)));
    assert_eq!((lab.rs().locked_round, lab.rs().valid_round), (1, 0));
}

#[test]
fn two_thirds_for_none_unlock() {
    let (mut lab, made) = locked(3);
    let other = lab.make(2);
    lab.propose(&other, -1);
    let others = lab.others();
    lab.votes_of(&others, PREVOTE, 1, None);
    assert_eq!(lab.last_vote(), (1, PRECOMMIT, None));
    assert_eq!(lab.rs().locked_round, -1);
    assert!(lab.rs().locked_block.is_none());
    // The valid block stays, but another one may now be prevoted.
    assert_eq!((lab.rs().valid_round, lab.rs().valid_block.as_ref().unwrap().hash().to_vec()), (0, made.id.hash));
    lab.votes_of(&others, PRECOMMIT, 1, None);
    lab.expire(Step::PrecommitWait);
    let other = lab.make(3);
    lab.propose(&other, -1);
    assert_eq!(lab.last_vote(), (2, PREVOTE, Some(other.id)));
}

#[test]
fn two_thirds_for_an_unknown_block_unlock_and_fetch_it() {
    let (mut lab, _) = locked(3);
    let other = lab.make(2);
    lab.expire(Step::Propose);
    let others = lab.others();
    lab.votes_of(&others, PREVOTE, 1, Some(&other.id));
    lab.expire(Step::PrevoteWait);
    assert_eq!(lab.last_vote(), (1, PRECOMMIT, None));
    assert_eq!((lab.rs().locked_round, lab.rs().valid_round), (-1, 0));
    let announced = lab.valid_blocks.last().unwrap();
    assert_eq!((&announced.block_part_set_header, announced.is_commit), (&other.id.part_set_header, false));
    // The parts come after the votes: the block becomes the valid one, but is not locked.
    lab.parts(&other);
    assert_eq!((lab.rs().locked_round, lab.rs().valid_round), (-1, 1));
}

#[test]
fn older_two_thirds_do_not_unlock() {
    let mut lab = Lab::started(3);
    let [a, b, c] = lab.others();
    let first = lab.make(1);
    lab.expire(Step::Propose);
    lab.votes_of(&[a], PREVOTE, 0, Some(&first.id));
    lab.votes_of(&[b], PREVOTE, 0, None);
    lab.expire(Step::PrevoteWait);
    lab.votes_of(&[a, b], PRECOMMIT, 0, None);
    lab.expire(Step::PrecommitWait);
    let second = lab.make(2);
    lab.propose(&second, -1);
    lab.votes_of(&[a, b], PREVOTE, 1, Some(&second.id));
    assert_eq!(lab.rs().locked_round, 1);
    // The last prevote of round 0 makes no difference, nor does one for a proposal that refers to that round.
    lab.votes_of(&[c], PREVOTE, 0, Some(&first.id));
    assert_eq!(lab.rs().locked_round, 1);
    lab.votes_of(&[a, b], PRECOMMIT, 1, None);
    lab.expire(Step::PrecommitWait);
    lab.propose(&first, 0);
    lab.expire(Step::Propose);
    assert_eq!(lab.last_vote(), (2, PREVOTE, Some(second.id)));
}

#[test]
fn newer_two_thirds_unlock_before_the_precommit() {
    let (mut lab, _) = locked(3);
    let other = lab.make(2);
    lab.propose(&other, -1);
    let others = lab.others();
    lab.votes_of(&others[..2], PREVOTE, 1, Some(&other.id));
    lab.expire(Step::PrevoteWait);
    assert_eq!((lab.last_vote(), lab.rs().locked_round), ((1, PRECOMMIT, None), 0));
    lab.votes_of(&others[..2], PRECOMMIT, 1, None);
    lab.expire(Step::PrecommitWait);
    // Late, in round 2: two thirds for the other block in round 1.
    lab.votes_of(&others[2..], PREVOTE, 1, Some(&other.id));
    assert_eq!(lab.rs().locked_round, -1);
    lab.propose(&other, 1);
    assert_eq!(lab.last_vote(), (2, PREVOTE, Some(other.id)));
}

#[test]
fn a_late_prevote_makes_the_block_valid_not_locked() {
    let mut lab = Lab::started(3);
    let made = lab.make(1);
    lab.propose(&made, -1);
    let [a, b, c] = lab.others();
    lab.votes_of(&[a], PREVOTE, 0, Some(&made.id));
    lab.votes_of(&[b], PREVOTE, 0, None);
    lab.expire(Step::PrevoteWait);
    assert_eq!((lab.last_vote(), lab.rs().valid_round), ((0, PRECOMMIT, None), -1));
    lab.votes_of(&[c], PREVOTE, 0, Some(&made.id));
    assert_eq!((lab.rs().valid_round, lab.rs().locked_round), (0, -1));
}

#[test]
fn two_thirds_replace_what_was_proposed() {
    let mut lab = Lab::started(3);
    let (made, other) = (lab.make(1), lab.make(2));
    lab.propose(&made, -1);
    let others = lab.others();
    lab.votes_of(&others, PREVOTE, 0, Some(&other.id));
    assert!(lab.rs().proposal_block.is_none());
    assert_eq!(lab.rs().proposal_block_parts.as_ref().unwrap().header(), &other.id.part_set_header);
    lab.parts(&other);
    assert_eq!((lab.rs().valid_round, lab.rs().locked_round), (0, -1));
    assert_eq!(lab.rs().proposal_block.as_ref().unwrap().hash().to_vec(), other.id.hash);
}

#[test]
fn a_proposal_waits_for_the_prevotes_it_refers_to() {
    for timeout in [false, true] {
        let mut lab = Lab::started(3);
        let made = lab.make(1);
        let [a, b, c] = lab.others();
        lab.expire(Step::Propose);
        lab.votes_of(&[a], PREVOTE, 0, Some(&made.id));
        lab.votes_of(&[b], PREVOTE, 0, None);
        lab.expire(Step::PrevoteWait);
        lab.votes_of(&[a, b], PRECOMMIT, 0, None);
        lab.expire(Step::PrecommitWait);
        lab.propose(&made, 0);
        assert_eq!(lab.place(), (1, 1, Step::Propose));
        if timeout {
            // On timeout the block is prevoted without them.
            lab.expire(Step::Propose);
        } else {
            lab.votes_of(&[c], PREVOTE, 0, Some(&made.id));
            assert_eq!(lab.place(), (1, 1, Step::Propose), "this node voted for none: not two thirds");
            lab.expire(Step::Propose);
        }
        assert_eq!(lab.last_vote(), (1, PREVOTE, Some(made.id)));
    }
    // Here this node prevoted the block in round 0 too; the third vote comes in round 1.
    let mut lab = Lab::started(3);
    let made = lab.make(1);
    lab.propose(&made, -1);
    let [a, b, c] = lab.others();
    lab.votes_of(&[a], PREVOTE, 0, Some(&made.id));
    lab.votes_of(&[b], PREVOTE, 0, None);
    lab.expire(Step::PrevoteWait);
    lab.votes_of(&[a, b], PRECOMMIT, 0, None);
    lab.expire(Step::PrecommitWait);
    lab.propose(&made, 0);
    assert_eq!(lab.place(), (1, 1, Step::Propose));
    lab.votes_of(&[c], PREVOTE, 0, Some(&made.id));
    assert_eq!(lab.place(), (1, 1, Step::Prevote));
    assert_eq!(lab.last_vote(), (1, PREVOTE, Some(made.id)));
}

#[test]
fn rounds_are_skipped_on_two_thirds_of_any_votes() {
    for kind in [PREVOTE, PRECOMMIT] {
        let mut lab = Lab::started(2);
        let [a, b, c] = lab.others();
        let made = lab.make(1);
        lab.votes_of(&[a], kind, 5, None);
        lab.votes_of(&[b], kind, 5, Some(&made.id));
        assert_eq!(lab.rs().round, 0, "more than a third is not enough");
        lab.votes_of(&[c], kind, 5, None);
        assert_eq!(lab.place(), (1, 5, Step::Propose));
        // Proposers rotate by the difference in one call.
        let expected = lab.core.state().validators.incremented(5).unwrap();
        assert_eq!(*lab.rs().validators, expected);
        if kind == PRECOMMIT {
            assert!(lab.rs().triggered_timeout_precommit);
            lab.expire(Step::PrecommitWait);
            assert_eq!(lab.rs().round, 6);
        }
    }
}

#[test]
fn a_peer_brings_up_two_rounds_ahead_and_no_more() {
    let mut lab = Lab::started(2);
    let [a, b, _] = lab.others();
    for round in [7, 9] {
        lab.votes_of(&[a], PREVOTE, round, None);
    }
    assert_eq!(lab.refused, []);
    lab.votes_of(&[a], PREVOTE, 11, None);
    assert!(matches!(lab.refused[..], [Refusal::Vote(comet_core::vote_set::VoteError::UnwantedRound(11))]));
    // The next round needs no such leave; and another peer has two of its own.
    lab.votes_of(&[a], PREVOTE, 1, None);
    let vote = lab.vote(b, PREVOTE, 1, 11, None);
    lab.receive_from("another", Message::Vote(vote));
    assert_eq!(lab.refused.len(), 1);
    assert_eq!(lab.rs().votes.rounds().collect::<Vec<_>>(), [0, 1, 7, 9, 11]);
}

#[test]
fn a_commit_without_the_block_tells_peers_and_fetches_it() {
    let mut lab = Lab::started(2);
    let made = lab.make(1);
    let others = lab.others();
    lab.votes_of(&others, PRECOMMIT, 0, Some(&made.id));
    assert_eq!(lab.place(), (1, 0, Step::Commit));
    let announced = lab.valid_blocks.last().unwrap();
    // Sent before the step is `Commit`, hence not marked as one.
    assert_eq!((&announced.block_part_set_header, announced.is_commit), (&made.id.part_set_header, false));
    assert!(lab.saved.is_empty());
    lab.parts(&made);
    assert_eq!(lab.place(), (2, 0, Step::NewHeight));
    assert_eq!((lab.saved.len(), lab.saved[0].0.hash().to_vec()), (1, made.id.hash));
}

#[test]
fn a_commit_of_an_earlier_round_counts() {
    let (mut lab, made) = locked(3);
    let [a, _, _] = lab.others();
    // Two are there: this node's and one more now. The one of `a` makes three only with another.
    lab.votes_of(&[a], PRECOMMIT, 0, Some(&made.id));
    assert_eq!(lab.place(), (1, 1, Step::Propose));

    let mut lab = Lab::started(3);
    let made = lab.make(1);
    let [a, b, c] = lab.others();
    lab.propose(&made, -1);
    lab.votes_of(&[a, b], PREVOTE, 0, Some(&made.id));
    lab.votes_of(&[a], PRECOMMIT, 0, Some(&made.id));
    lab.votes_of(&[b], PRECOMMIT, 0, None);
    lab.expire(Step::PrecommitWait);
    assert_eq!(lab.rs().round, 1);
    lab.votes_of(&[c], PRECOMMIT, 0, Some(&made.id));
    assert_eq!(lab.place(), (2, 0, Step::NewHeight));
    assert_eq!(lab.saved[0].1.round, 0);
}

#[test]
fn votes_of_a_later_round_lead_out_of_commit_and_back() {
    let mut lab = Lab::started(3);
    let made = lab.make(1);
    let [a, b, c] = lab.others();
    lab.propose(&lab.make(2), -1);
    lab.votes_of(&[a, b, c], PRECOMMIT, 0, Some(&made.id));
    assert_eq!(lab.place(), (1, 0, Step::Commit));
    lab.votes_of(&[a, b, c], PREVOTE, 1, None);
    assert_eq!(lab.place(), (1, 1, Step::Propose));
    assert!(lab.rs().proposal_block_parts.is_none());
    // Only one more precommit of the commit's round leads back. Until then parts are not wanted.
    lab.parts(&made);
    assert_eq!(lab.place(), (1, 1, Step::Propose));
}

#[test]
fn with_every_precommit_the_next_height_need_not_wait() {
    let config = Config { skip_timeout_commit: true, ..Config::default() };
    let mut lab = Lab::with(3, config);
    lab.expire(Step::NewHeight);
    let made = lab.make(1);
    lab.propose(&made, -1);
    let [a, b, c] = lab.others();
    lab.votes_of(&[a, b, c], PREVOTE, 0, Some(&made.id));
    lab.votes_of(&[a, b], PRECOMMIT, 0, Some(&made.id));
    assert_eq!(lab.place(), (2, 0, Step::NewHeight));
    let vote = lab.vote(c, PRECOMMIT, 1, 0, Some(&made.id));
    lab.receive(Message::Vote(vote));
    assert_eq!((lab.rs().height, lab.rs().round), (2, 0));
    assert!(lab.rs().step >= Step::Propose);
}

#[test]
fn votes_are_later_than_the_block() {
    let mut lab = Lab::started(3);
    lab.now = at(-500);
    let made = lab.make(1);
    lab.propose(&made, -1);
    // The first block has genesis time.
    assert_eq!(lab.votes.last().unwrap().timestamp, at(1));
    lab.now = at(5000);
    let [a, b, _] = lab.others();
    lab.votes_of(&[a, b], PREVOTE, 0, Some(&made.id));
    assert_eq!(lab.votes.last().unwrap().timestamp, at(5000));
}

#[test]
fn bad_blocks_get_a_vote_for_none() {
    let mut lab = Lab::started(3);
    lab.verdict = Verdict::Reject;
    let made = lab.make(1);
    lab.propose(&made, -1);
    assert_eq!((lab.last_vote(), lab.refused.pop()), ((0, PREVOTE, None), Some(Refusal::Rejected)));

    let mut lab = Lab::started(3);
    let made = lab.make_with(1, |block| block.header.app_hash = vec![9]);
    lab.propose(&made, -1);
    assert_eq!(lab.last_vote(), (0, PREVOTE, None));
    assert!(matches!(lab.refused.pop(), Some(Refusal::InvalidBlock(_))));

    // Two thirds for an invalid block: the network is broken, this node stops.
    let others = lab.others();
    lab.votes_of(&others, PREVOTE, 0, Some(&made.id));
    assert!(matches!(&lab.other[..], [Effect::Halt(failure)] if matches!(**failure, Failure::InvalidBlock { .. })));
    assert!(lab.core.is_halted());
    let vote = lab.vote(others[0], PRECOMMIT, 1, 0, None);
    let input = Input::Message { peer: PeerId::new("peer"), message: Box::new(Message::Vote(vote)) };
    assert_eq!(lab.try_input(input), Err(Misuse::Halted));
}

#[test]
fn bad_proposals_and_parts_are_refused() {
    let mut lab = Lab::started(3);
    let made = lab.make(1);
    let good = lab.proposal(&made, -1);
    let mut bad = good.clone();
    bad.pol_round = 0;
    lab.receive(Message::Proposal(bad));
    assert_eq!(lab.refused.pop(), Some(Refusal::PolRound(0)));
    let mut bad = good.clone();
    bad.signature[0] ^= 1;
    lab.receive(Message::Proposal(bad));
    assert_eq!(lab.refused.pop(), Some(Refusal::ProposalSignature));
    let mut large = made.clone();
    large.id.part_set_header.total = 5;
    let large = lab.proposal(&large, -1);
    lab.receive(Message::Proposal(large));
    assert_eq!(lab.refused.pop(), Some(Refusal::TooManyParts(5)));
    let mut elsewhere = good.clone();
    elsewhere.round = 1;
    lab.receive(Message::Proposal(elsewhere));
    assert!(lab.rs().proposal.is_none() && lab.refused.is_empty());

    lab.receive(Message::Proposal(good.clone()));
    let mut part = made.parts.part(0).unwrap().clone();
    part.bytes[9] ^= 1;
    lab.receive(Message::BlockPart(BlockPart { height: 1, round: 0, part }));
    assert!(matches!(lab.refused.pop(), Some(Refusal::Part(_))));
    // Of another round the part is good all the same.
    let part = made.parts.part(0).unwrap().clone();
    lab.receive(Message::BlockPart(BlockPart { height: 1, round: 7, part }));
    assert_eq!(lab.last_vote(), (0, PREVOTE, Some(made.id)));
    // A second proposal does not count.
    let second = lab.make(2);
    let second = lab.proposal(&second, -1);
    lab.receive(Message::Proposal(second));
    assert_eq!(lab.rs().proposal, Some(good));
}

#[test]
fn parts_that_are_no_block_leave_nothing_to_vote_for() {
    let mut lab = Lab::started(3);
    let parts = wire_cometbft::part_set::PartSet::from_bytes(&[0xff; 300], 65_536);
    let id = BlockId { hash: vec![3; 32], part_set_header: parts.header().clone() };
    lab.propose(&Made { parts, id }, -1);
    assert!(matches!(lab.refused.pop(), Some(Refusal::Block(_))));
    assert_eq!(lab.place(), (1, 0, Step::Propose));
    lab.expire(Step::Propose);
    assert_eq!(lab.last_vote(), (0, PREVOTE, None));
}

#[test]
fn conflicting_votes_are_reported_but_own_ones_are_not() {
    let mut lab = Lab::started(3);
    let made = lab.make(1);
    let [a, ..] = lab.others();
    lab.votes_of(&[a], PREVOTE, 0, Some(&made.id));
    lab.votes_of(&[a], PREVOTE, 0, None);
    assert_eq!(lab.conflicts, 1);
    lab.expire(Step::Propose);
    lab.votes_of(&[lab.me], PREVOTE, 0, Some(&made.id));
    assert_eq!(lab.conflicts, 1);
    assert!(matches!(lab.refused.pop(), Some(Refusal::OwnConflictingVote { .. })));
}

#[test]
fn claims_are_answered_and_contradictions_stop_the_peer() {
    let mut lab = Lab::started(3);
    let made = lab.make(1);
    let [a, ..] = lab.others();
    lab.votes_of(&[a], PREVOTE, 0, Some(&made.id));
    let claim = |block_id: BlockId, height| Input::Claim {
        peer: PeerId::new("peer"),
        height,
        round: 0,
        kind: PREVOTE,
        block_id,
    };
    lab.input(claim(made.id.clone(), 1));
    assert!(matches!(lab.other.pop(), Some(Effect::Send { .. })));
    lab.input(claim(made.id.clone(), 2));
    assert_eq!(lab.other.pop(), None);
    lab.input(claim(BlockId::default(), 1));
    assert!(matches!(lab.other.pop(), Some(Effect::StopPeer { .. })));
}

#[test]
fn empty_blocks_wait_for_the_interval_or_for_transactions() {
    let config = Config {
        create_empty_blocks_interval: Duration::from_secs(60),
        timeout_commit: Duration::from_secs(1),
        ..Config::default()
    };
    let mut lab = Lab::with(3, config);
    lab.expire(Step::NewHeight);
    // The initial height does not wait.
    let made = lab.make(1);
    lab.propose(&made, -1);
    let [a, b, _] = lab.others();
    lab.votes_of(&[a, b], PREVOTE, 0, Some(&made.id));
    lab.votes_of(&[a, b], PRECOMMIT, 0, Some(&made.id));
    lab.expire(Step::NewHeight);
    // The application hash is as it was.
    assert_eq!(lab.place(), (2, 0, Step::NewRound));
    assert_eq!(lab.timer.unwrap().duration, Duration::from_secs(60));
    let mut early = lab.core.clone();
    lab.input(Input::TxsAvailable);
    assert!(lab.rs().step >= Step::Propose);
    let timeout = Timeout { duration: Duration::from_secs(60), height: 2, round: 0, step: Step::NewRound };
    early.step(at(99_999), Input::Timeout(timeout)).unwrap();
    assert!(early.round_state().step >= Step::Propose);
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let mut lab = Lab::new(3);
    assert_eq!(lab.try_input(Input::Start), Err(Misuse::AlreadyStarted));
    assert_eq!(lab.try_input(Input::Reply(Reply::Built(None))), Err(Misuse::UnexpectedReply));
    lab.expire(Step::NewHeight);
    let made = lab.make(1);
    let proposal = lab.proposal(&made, -1);
    lab.receive(Message::Proposal(proposal));
    let part = BlockPart { height: 1, round: 0, part: made.parts.part(0).unwrap().clone() };
    let mut core = lab.core.clone();
    let message = Box::new(Message::BlockPart(part));
    core.step(lab.now, Input::Message { peer: PeerId::new("peer"), message }).unwrap();
    assert!(core.awaits_reply());
    assert_eq!(core.step(lab.now, Input::TxsAvailable), Err(Misuse::AwaitingReply));
    assert_eq!(core.step(lab.now, Input::Reply(Reply::Built(None))), Err(Misuse::UnexpectedReply));
    assert!(core.awaits_reply());
    let effects = core.step(lab.now, Input::Reply(Reply::Processed(Verdict::Accept))).unwrap();
    assert!(effects.iter().any(|effect| matches!(effect, Effect::SignVote(_))));
}

#[test]
fn a_restart_does_not_forget_the_lock() {
    let (lab, made) = locked(3);
    let core = lab.restarted();
    let rs = core.round_state();
    assert_eq!((rs.height, rs.round, rs.step), (1, 1, Step::Propose));
    assert_eq!((rs.locked_round, rs.valid_round), (0, 0));
    assert_eq!(rs.locked_block.as_ref().unwrap().hash().to_vec(), made.id.hash);
}

#[test]
fn block_sync_is_asked_for_only_where_configured() {
    for (lag, height, expected) in [(None, 99, 0), (Some(3), 3, 0), (Some(3), 4, 1)] {
        let mut lab = Lab::with(3, Config { block_sync_lag: lag, ..Config::default() });
        lab.input(Input::CommitSeen { height });
        assert_eq!(lab.other.len(), expected);
    }
}

#[test]
fn a_state_from_block_sync_is_taken_over() {
    let mut ahead = Lab::started(0);
    let id = ahead.proposals[0].block_id.clone();
    let [a, b, _] = ahead.others();
    ahead.votes_of(&[a, b], PREVOTE, 0, Some(&id));
    ahead.votes_of(&[a, b], PRECOMMIT, 0, Some(&id));
    let (state, seen_commit) = (ahead.core.state().clone(), ahead.saved[0].1.clone());

    let mut lab = Lab::started(3);
    let advanced = |commit: &wire_cometbft::block::Commit| Input::Advanced {
        state: Box::new(state.clone()),
        seen_commit: Box::new(commit.clone()),
        last_header_app_hash: Some(vec![1]),
    };
    lab.input(advanced(&seen_commit));
    assert_eq!(lab.place(), (2, 0, Step::NewHeight));
    assert_eq!(lab.rs().last_commit.as_ref().unwrap().make_commit(), Some(seen_commit.clone()));
    lab.expire(Step::NewHeight);
    // Again, or older: nothing happens.
    let place = lab.place();
    lab.input(advanced(&seen_commit));
    assert_eq!(lab.place(), place);

    let mut lab = Lab::started(3);
    let mut bad = seen_commit;
    bad.signatures.iter_mut().for_each(|entry| entry.signature = vec![1; 64]);
    lab.input(advanced(&bad));
    assert!(lab.core.is_halted());
}
