//! Counting, conflicts, claims, commits.

use super::*;
use base_crypto::ed25519::SecretKey;
use comet_chain::app::ValidatorUpdate;
use wire_cometbft::Time;
use wire_cometbft::block::{BlockIdFlag, PartSetHeader};
use wire_cometbft::keys::signing_digest;

const CHAIN: &str = "votes";

/// Keys in the order of a set of equal validators.
fn validators(count: u8) -> (Vec<SecretKey>, Arc<ValidatorSet>) {
    let mut keys: Vec<SecretKey> = (1..=count).map(|seed| SecretKey::from_seed(&[seed; 32])).collect();
    let members: Vec<_> = keys.iter().map(|key| ValidatorUpdate { pub_key: key.public(), power: 10 }).collect();
    let set = ValidatorSet::new(&members).unwrap();
    let place = |key: &SecretKey| set.validators().iter().position(|v| v.pub_key == key.public());
    keys.sort_by_key(place);
    (keys, Arc::new(set))
}

fn block_id(byte: u8) -> BlockId {
    match byte {
        0 => BlockId::default(),
        _ => BlockId { hash: vec![byte; 32], part_set_header: PartSetHeader { total: 1, hash: vec![byte; 32] } },
    }
}

fn vote(keys: &[SecretKey], set: &ValidatorSet, index: usize, block: u8) -> Vote {
    let mut vote = Vote {
        kind: SignedMsgType::PRECOMMIT,
        height: 3,
        round: 1,
        block_id: block_id(block),
        timestamp: Time::UNIX_EPOCH,
        validator_address: set.get(index).unwrap().address.0.to_vec(),
        validator_index: i32::try_from(index).unwrap(),
        signature: vec![],
    };
    vote.signature = keys[index].sign(&signing_digest(&vote.sign_bytes(CHAIN))).to_vec();
    vote
}

fn empty(set: &Arc<ValidatorSet>) -> VoteSet {
    VoteSet::new(Arc::from(CHAIN), 3, 1, SignedMsgType::PRECOMMIT, Arc::clone(set))
}

type Change = fn(&mut Vote);

const NEW: Result<Added, VoteError> = Ok(Added { added: true, conflicting: None });

#[test]
fn two_thirds_are_more_than_two_thirds() {
    let (keys, set) = validators(6);
    let mut votes = empty(&set);
    for index in 0..4 {
        assert_eq!(votes.add(vote(&keys, &set, index, 1)), NEW);
        assert!(!votes.has_two_thirds_any() && votes.two_thirds_majority().is_none());
    }
    assert_eq!(votes.add(vote(&keys, &set, 4, 0)), NEW);
    assert!(votes.has_two_thirds_any() && votes.two_thirds_majority().is_none() && votes.make_commit().is_none());
    assert_eq!(votes.add(vote(&keys, &set, 5, 1)), NEW);
    assert_eq!(votes.two_thirds_majority(), Some(&block_id(1)));
    assert!(votes.has_all());
    let flags: Vec<_> = votes.make_commit().unwrap().signatures.iter().map(|entry| entry.block_id_flag).collect();
    let (yes, nil) = (BlockIdFlag::COMMIT, BlockIdFlag::NIL);
    assert_eq!(flags, [yes, yes, yes, yes, nil, yes]);
    let again = VoteSet::from_commit(Arc::from(CHAIN), &votes.make_commit().unwrap(), set).unwrap();
    assert_eq!(again.make_commit(), votes.make_commit());
}

#[test]
fn bad_votes_are_refused() {
    let (keys, set) = validators(4);
    let mut votes = empty(&set);
    let good = vote(&keys, &set, 1, 1);
    let with = |change: fn(&mut Vote)| {
        let mut vote = good.clone();
        change(&mut vote);
        vote
    };
    let cases: [(Change, VoteError); 7] = [
        (|v| v.height = 4, VoteError::UnexpectedStep { height: 4, round: 1, kind: 2 }),
        (|v| v.round = 0, VoteError::UnexpectedStep { height: 3, round: 0, kind: 2 }),
        (|v| v.kind = SignedMsgType::PREVOTE, VoteError::UnexpectedStep { height: 3, round: 1, kind: 1 }),
        (|v| v.validator_index = -1, VoteError::Index(-1)),
        (|v| v.validator_index = 4, VoteError::Index(4)),
        (|v| v.validator_index = 2, VoteError::Address(2)),
        (|v| v.timestamp = Time::ZERO, VoteError::Signature(1)),
    ];
    for (change, error) in cases {
        assert_eq!(votes.add(with(change)), Err(error));
    }
    assert_eq!(votes.add(good.clone()), NEW);
    assert_eq!(votes.add(good.clone()), Ok(Added { added: false, conflicting: None }));
    assert_eq!(votes.add(with(|v| v.signature[3] ^= 1)), Err(VoteError::NonDeterministicSignature(1)));
}

#[test]
fn conflicting_votes_count_only_where_a_peer_claims_two_thirds() {
    let (keys, set) = validators(4);
    let mut votes = empty(&set);
    let first = vote(&keys, &set, 0, 1);
    votes.add(first.clone()).unwrap();
    let conflicting = Some(Arc::new(first));
    let second = vote(&keys, &set, 0, 2);
    assert_eq!(votes.add(second.clone()), Ok(Added { added: false, conflicting: conflicting.clone() }));
    assert_eq!(votes.bits_for(&block_id(2)), None);

    let peer = PeerId::new("peer");
    votes.claim(&peer, &block_id(2)).unwrap();
    votes.claim(&peer, &block_id(2)).unwrap();
    assert_eq!(votes.claim(&peer, &block_id(1)), Err(ClaimError::Conflicting));
    assert_eq!(votes.add(second.clone()), Ok(Added { added: true, conflicting }));
    assert_eq!(votes.add(second), Ok(Added { added: false, conflicting: None }));
    // Still shown: the first. It counts once towards "any".
    assert_eq!(votes.get(0).unwrap().block_id, block_id(1));
    assert_eq!(votes.bits_for(&block_id(2)).unwrap().ones().collect::<Vec<_>>(), [0]);
    for index in 1..3 {
        assert!(!votes.has_two_thirds_any());
        votes.add(vote(&keys, &set, index, 2)).unwrap();
    }
    assert_eq!(votes.two_thirds_majority(), Some(&block_id(2)));
    // Now the votes of the majority are shown, and later ones for it replace others at once.
    assert_eq!(votes.get(0).unwrap().block_id, block_id(2));
    votes.add(vote(&keys, &set, 3, 3)).unwrap();
    assert!(votes.make_commit().unwrap().signatures[3].is_absent());
    assert!(votes.add(vote(&keys, &set, 3, 2)).unwrap().added);
    assert_eq!(votes.get(3).unwrap().block_id, block_id(2));
}

#[test]
fn claims_are_bounded() {
    let (_, set) = validators(1);
    let mut votes = empty(&set);
    for peer in 0..MAX_CLAIMS {
        votes.claim(&PeerId::new(&peer.to_string()), &block_id(1)).unwrap();
    }
    assert_eq!(votes.claim(&PeerId::new("one more"), &block_id(2)), Err(ClaimError::TooMany));
    assert_eq!(votes.bits_for(&block_id(2)), None);
}

#[test]
fn a_commit_with_a_bad_entry_gives_no_votes() {
    let (keys, set) = validators(4);
    let mut votes = empty(&set);
    (0..3).for_each(|index| assert_eq!(votes.add(vote(&keys, &set, index, 1)), NEW));
    let commit = votes.make_commit().unwrap();
    let rebuild = |commit: &Commit| VoteSet::from_commit(Arc::from(CHAIN), commit, Arc::clone(&set)).map(|_| ());
    rebuild(&commit).unwrap();
    let mut spoiled = commit.clone();
    spoiled.signatures[2].signature[0] ^= 1;
    assert_eq!(rebuild(&spoiled), Err(CommitVotesError::Vote { index: 2, source: VoteError::Signature(2) }));
    let mut few = commit;
    few.signatures[2] = CommitSig::absent();
    assert_eq!(rebuild(&few), Err(CommitVotesError::NoMajority));
}
