//! Every way to ask twice.

use super::*;
use wire_cometbft::Duration;
use wire_cometbft::block::{BlockId, PartSetHeader};

const CHAIN: &str = "test";

fn block_id(byte: u8) -> BlockId {
    BlockId { hash: vec![byte; 32], part_set_header: PartSetHeader { total: 1, hash: vec![byte; 32] } }
}

fn at(seconds: i64) -> Time {
    Time::UNIX_EPOCH.saturating_add(Duration::from_secs(seconds))
}

fn vote(height: i64, round: i32, kind: SignedMsgType, block: u8, seconds: i64) -> Vote {
    Vote { kind, height, round, block_id: block_id(block), timestamp: at(seconds), ..Vote::default() }
}

fn proposal(height: i64, round: i32, block: u8, seconds: i64) -> Proposal {
    Proposal {
        kind: SignedMsgType::PROPOSAL,
        height,
        round,
        pol_round: -1,
        block_id: block_id(block),
        timestamp: at(seconds),
        signature: vec![],
    }
}

fn sign(last: &LastSigned, vote: &Vote) -> LastSigned {
    match last.check_vote(CHAIN, vote).unwrap() {
        Decision::Sign(request) => {
            assert_eq!(request.sign_bytes(), vote.sign_bytes(CHAIN));
            request.signed(vec![7; 64])
        }
        Decision::Reuse { .. } => panic!("already signed"),
    }
}

#[test]
fn steps_only_go_forward() {
    let (prevote, precommit) = (SignedMsgType::PREVOTE, SignedMsgType::PRECOMMIT);
    let last = sign(&LastSigned::default(), &vote(5, 2, prevote, 1, 10));
    for later in [vote(5, 2, precommit, 2, 0), vote(5, 3, prevote, 2, 0), vote(6, 0, prevote, 2, 0)] {
        sign(&last, &later);
    }
    for earlier in [vote(4, 9, precommit, 1, 0), vote(5, 1, precommit, 1, 0)] {
        assert!(matches!(last.check_vote(CHAIN, &earlier), Err(GuardError::Regression { .. })), "{earlier:?}");
    }
    assert!(matches!(last.check_proposal(CHAIN, &proposal(5, 2, 1, 0)), Err(GuardError::Regression { .. })));
    assert!(matches!(last.check_proposal(CHAIN, &proposal(5, 3, 1, 0)), Ok(Decision::Sign(_))));
    let odd = Vote { kind: SignedMsgType(9), ..vote(9, 0, prevote, 1, 0) };
    assert_eq!(last.check_vote(CHAIN, &odd), Err(GuardError::NotAVote(9)));
}

#[test]
fn the_same_again_reuses_the_signature_and_its_time() {
    let first = vote(5, 2, SignedMsgType::PRECOMMIT, 1, 10);
    let last = sign(&LastSigned::default(), &first);
    for seconds in [10, 99, 3] {
        let again = vote(5, 2, SignedMsgType::PRECOMMIT, 1, seconds);
        let reuse = Decision::Reuse { timestamp: at(10), signature: vec![7; 64] };
        assert_eq!(last.check_vote(CHAIN, &again), Ok(reuse));
    }
    let nil = Vote { block_id: BlockId::default(), ..first.clone() };
    let conflict = GuardError::Conflicting { height: 5, round: 2, step: STEP_PRECOMMIT };
    assert_eq!(last.check_vote(CHAIN, &nil), Err(conflict.clone()));
    assert_eq!(last.check_vote("other", &first), Err(conflict));

    let first = proposal(6, 0, 1, 10);
    let Decision::Sign(request) = last.check_proposal(CHAIN, &first).unwrap() else { panic!() };
    let last = request.signed(vec![8; 64]);
    let reuse = Decision::Reuse { timestamp: at(10), signature: vec![8; 64] };
    assert_eq!(last.check_proposal(CHAIN, &proposal(6, 0, 1, 11)), Ok(reuse));
    let conflict = GuardError::Conflicting { height: 6, round: 0, step: STEP_PROPOSE };
    assert_eq!(last.check_proposal(CHAIN, &proposal(6, 0, 2, 10)), Err(conflict.clone()));
    let other_pol = Proposal { pol_round: 0, ..first };
    assert_eq!(last.check_proposal(CHAIN, &other_pol), Err(conflict));
}

#[test]
fn a_spoiled_record_signs_nothing() {
    let wanted = vote(5, 2, SignedMsgType::PREVOTE, 1, 10);
    let good = sign(&LastSigned::default(), &wanted);
    let empty = LastSigned { sign_bytes: vec![], ..good.clone() };
    assert_eq!(empty.check_vote(CHAIN, &wanted), Err(GuardError::EmptyRecord));
    let unsigned = LastSigned { signature: vec![], ..good.clone() };
    assert_eq!(unsigned.check_vote(CHAIN, &wanted), Err(GuardError::EmptyRecord));
    let torn = LastSigned { sign_bytes: good.sign_bytes[..9].to_vec(), ..good };
    assert!(matches!(torn.check_vote(CHAIN, &wanted), Err(GuardError::Record(_))));
}
