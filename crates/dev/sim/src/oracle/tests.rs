//! The oracle is shown what must not happen.

use super::*;
use base_crypto::ed25519::SecretKey;
use comet_chain::app::{
    BlockParams, ConsensusParams, EvidenceParams, InitChainResult, ValidatorParams, ValidatorUpdate, VersionParams,
};
use std::sync::Arc;
use wire_cometbft::Duration;
use wire_cometbft::block::{CommitSig, PartSetHeader};
use wire_cometbft::keys::{Address, signing_digest};

fn keys() -> Vec<SecretKey> {
    (1..=4).map(|seed| SecretKey::from_seed(&[seed; 32])).collect()
}

fn genesis() -> State {
    let params = ConsensusParams {
        block: BlockParams { max_bytes: 200_000, max_gas: -1 },
        evidence: EvidenceParams { max_age_num_blocks: 9, max_age_duration: Duration::from_secs(9), max_bytes: 1000 },
        validator: ValidatorParams { pub_key_types: vec!["ed25519".into()] },
        version: VersionParams { app: 1 },
    };
    let members: Vec<_> = keys().iter().map(|key| ValidatorUpdate { pub_key: key.public(), power: 10 }).collect();
    let mut state = State::genesis("oracle".into(), 1, Time::UNIX_EPOCH, params, &members).unwrap();
    state.apply_init_chain(&InitChainResult::default()).unwrap();
    state
}

fn id(byte: u8) -> BlockId {
    if byte == 0 {
        return BlockId::default();
    }
    BlockId { hash: vec![byte; 32], part_set_header: PartSetHeader { total: 1, hash: vec![byte; 32] } }
}

fn vote(voter: usize, kind: SignedMsgType, round: i32, block: u8) -> Vote {
    let validator_address = Address::of(&keys()[voter].public()).0.to_vec();
    Vote { kind, height: 1, round, block_id: id(block), validator_address, ..Vote::default() }
}

fn cast(oracle: &mut Oracle, kind: SignedMsgType, round: i32, block: u8) {
    let vote = vote(0, kind, round, block);
    let bytes = vote.sign_bytes("oracle");
    let observed = Observed::Signed { height: 1, round, kind, bytes, vote: Some(Box::new(vote)) };
    oracle.observe(9, &observed);
}

fn deliver(oracle: &mut Oracle, round: i32, block: u8, voters: &[usize]) {
    for &voter in voters {
        oracle.delivered(9, &vote(voter, SignedMsgType::PREVOTE, round, block));
    }
}

const PREVOTE: SignedMsgType = SignedMsgType::PREVOTE;
const PRECOMMIT: SignedMsgType = SignedMsgType::PRECOMMIT;

/// Locked on block 1 since round 0.
fn locked() -> Oracle {
    let mut oracle = Oracle::new(&genesis());
    cast(&mut oracle, PREVOTE, 0, 1);
    deliver(&mut oracle, 0, 1, &[1, 2]);
    cast(&mut oracle, PRECOMMIT, 0, 1);
    assert_eq!(oracle.violations(), [""; 0]);
    oracle
}

#[test]
fn the_lock_binds_until_newer_two_thirds() {
    for (delivered, voted, allowed) in [
        (None, 1, true),
        (None, 2, false),
        (None, 0, false),
        (Some((1, 2, &[1, 2, 3][..])), 2, true),
        (Some((1, 0, &[1, 2, 3])), 0, true),
        (Some((1, 2, &[1, 2])), 2, false),
        (Some((0, 2, &[1, 2, 3])), 2, false),
        (Some((3, 2, &[1, 2, 3])), 2, false),
    ] {
        let mut oracle = locked();
        if let Some((round, block, voters)) = delivered {
            deliver(&mut oracle, round, block, voters);
        }
        cast(&mut oracle, PREVOTE, 2, voted);
        assert_eq!(oracle.violations().is_empty(), allowed, "{delivered:?} {voted}");
        assert_eq!(oracle.locked_votes(), 1);
    }
}

#[test]
fn a_precommit_needs_two_thirds_of_prevotes() {
    let mut oracle = Oracle::new(&genesis());
    deliver(&mut oracle, 0, 1, &[1, 2]);
    cast(&mut oracle, PRECOMMIT, 0, 1);
    assert!(oracle.violations()[0].contains("without two thirds"));
    let mut oracle = Oracle::new(&genesis());
    cast(&mut oracle, PRECOMMIT, 0, 0);
    assert!(oracle.violations().is_empty());
}

#[test]
fn a_second_signature_is_seen() {
    let mut oracle = Oracle::new(&genesis());
    cast(&mut oracle, PREVOTE, 0, 1);
    cast(&mut oracle, PREVOTE, 0, 1);
    assert!(oracle.violations().is_empty());
    cast(&mut oracle, PREVOTE, 0, 2);
    assert!(oracle.violations()[0].contains("signed twice"));
}

fn block_and_commit(tx: u8, signers: &[usize]) -> (Arc<HeldBlock>, Box<Commit>) {
    let state = genesis();
    let proposer = state.validators.proposer().unwrap().address;
    let block = state.make_block(vec![vec![tx]], Commit::default(), vec![], proposer).unwrap();
    let id = block.id().unwrap();
    let mut commit = Commit { height: 1, round: 3, block_id: id, signatures: vec![CommitSig::absent(); 4] };
    for &signer in signers {
        let key = &keys()[signer];
        let address = Address::of(&key.public());
        let index = state.validators.find(&address).unwrap().0;
        let vote = Vote {
            kind: PRECOMMIT,
            height: 1,
            round: 3,
            block_id: commit.block_id.clone(),
            timestamp: Time::new(5, 6).unwrap(),
            validator_address: address.0.to_vec(),
            ..Vote::default()
        };
        let signature = key.sign(&signing_digest(&vote.sign_bytes("oracle"))).to_vec();
        commit.signatures[index] = Vote { signature, ..vote }.commit_sig().unwrap();
    }
    (Arc::new(HeldBlock::new(block).unwrap()), Box::new(commit))
}

#[test]
fn commits_are_checked_and_compared() {
    let mut oracle = Oracle::new(&genesis());
    let (block, commit) = block_and_commit(1, &[0, 1, 2]);
    oracle.observe(9, &Observed::Saved(Arc::clone(&block), commit.clone()));
    oracle.observe(8, &Observed::Saved(Arc::clone(&block), commit.clone()));
    assert_eq!(oracle.violations(), [""; 0]);
    let (other, commit2) = block_and_commit(2, &[0, 1, 2, 3]);
    oracle.observe(8, &Observed::Saved(other, commit2));
    assert!(oracle.violations()[0].contains("another block"));

    let (few_block, few) = block_and_commit(1, &[0, 1]);
    let mut spoiled = commit;
    spoiled.signatures.iter_mut().for_each(|entry| entry.signature.reverse());
    for (block, commit) in [(few_block, few), (block, spoiled)] {
        let mut oracle = Oracle::new(&genesis());
        oracle.observe(9, &Observed::Saved(block, commit));
        assert!(oracle.violations()[0].contains("does not hold"));
    }
}

#[test]
fn application_hashes_and_evidence_are_compared() {
    let mut oracle = Oracle::new(&genesis());
    let mut state = genesis();
    state.last_block_height = 1;
    oracle.observe(9, &Observed::Applied(Box::new(state.clone())));
    state.app_hash = vec![7];
    oracle.observe(8, &Observed::Applied(Box::new(state)));
    assert!(oracle.violations()[0].contains("application hash"));

    let mut oracle = Oracle::new(&genesis());
    oracle.observe(9, &Observed::Conflict(Box::new(vote(1, PREVOTE, 0, 1))));
    oracle.blocks.insert(EVIDENCE_WITHIN, (vec![], Time::UNIX_EPOCH));
    oracle.finish();
    assert!(oracle.violations().is_empty());
    oracle.blocks.insert(EVIDENCE_WITHIN + 1, (vec![], Time::UNIX_EPOCH));
    oracle.finish();
    assert!(oracle.violations()[0].contains("did not land"));
}
