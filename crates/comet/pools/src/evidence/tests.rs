//! Evidence of a chain of our own making, through its whole life.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use base_crypto::ed25519::SecretKey;
use base_kv::{Faulty, Memory};
use comet_chain::app::{BlockResults, InitChainResult, ValidatorUpdate};
use comet_chain::detect::attack_evidence;
use comet_chain::light::LightBlock;
use comet_chain::validators::{Validator, ValidatorSet};
use comet_store::EvidencePool as _;
use wire_cometbft::block::{Block, BlockId, BlockIdFlag, Commit, CommitSig, Header};
use wire_cometbft::evidence::EvidenceList;
use wire_cometbft::keys::{Address, signing_digest};
use wire_cometbft::merkle::sha256;
use wire_cometbft::params::{BlockParams, ConsensusParams, EvidenceParams, ValidatorParams, VersionParams};
use wire_cometbft::vote::SignedMsgType;
use wire_cometbft::{Duration, Time};

use super::*;

const CHAIN_ID: &str = "test-chain";
/// A block every four seconds (the median of precommits one to four seconds after the block).
const MAX_AGE_BLOCKS: i64 = 5;

/// Four validators and the blocks they made; as much of it is stored as `head` and `base` say.
pub(crate) struct Net {
    keys: BTreeMap<Address, SecretKey>,
    /// State before each block, the block, and the commit for it.
    steps: Vec<(State, Block, Commit)>,
    head: AtomicI64,
    base: AtomicI64,
    broken: AtomicBool,
}

fn params() -> ConsensusParams {
    ConsensusParams {
        block: BlockParams { max_bytes: 1 << 20, max_gas: -1 },
        evidence: EvidenceParams {
            max_age_num_blocks: MAX_AGE_BLOCKS,
            max_age_duration: Duration::from_secs(10),
            max_bytes: 1 << 16,
        },
        validator: ValidatorParams { pub_key_types: vec!["ed25519".into()] },
        version: VersionParams { app: 3 },
    }
}

impl Net {
    /// So many blocks, all of them stored.
    pub(crate) fn new(heights: usize) -> Self {
        let secrets: Vec<SecretKey> = (1..=4u8).map(|seed| SecretKey::from_seed(&[seed; 32])).collect();
        let members: Vec<ValidatorUpdate> = secrets
            .iter()
            .zip([40, 30, 20, 10])
            .map(|(secret, power)| ValidatorUpdate { pub_key: secret.public(), power })
            .collect();
        let start = Time::new(1_700_000_000, 5).unwrap();
        let mut state = State::genesis(CHAIN_ID.into(), 1, start, params(), &members).unwrap();
        state.apply_init_chain(&InitChainResult { app_hash: vec![1; 32], ..Default::default() }).unwrap();
        let keys = secrets.into_iter().map(|secret| (Address::of(&secret.public()), secret)).collect();
        let (head, base, broken) = (AtomicI64::new(heights as i64), AtomicI64::new(1), AtomicBool::new(false));
        let mut net = Self { keys, steps: vec![], head, base, broken };
        let mut last_commit = Commit::default();
        // One more, for the state after the last one.
        for height in 1..=heights + 1 {
            let proposer = state.validators.proposer().unwrap().address;
            let block = state.make_block(vec![vec![height as u8]], last_commit, vec![], proposer).unwrap();
            let commit = net.commit_for(&state.validators, &block.header, &block.id().unwrap());
            last_commit = commit.clone();
            let next = state.after(block.id().unwrap(), &block.header, &BlockResults::default()).unwrap();
            net.steps.push((state, block, commit));
            state = State { app_hash: vec![height as u8; 32], ..next };
        }
        net
    }

    fn sign(&self, address: &Address, bytes: &[u8]) -> Vec<u8> {
        self.keys[address].sign(&signing_digest(bytes)).to_vec()
    }

    fn commit_for(&self, set: &ValidatorSet, header: &Header, id: &BlockId) -> Commit {
        let entry = |(at, validator): (usize, &Validator)| CommitSig {
            block_id_flag: BlockIdFlag::COMMIT,
            validator_address: validator.address.0.to_vec(),
            timestamp: header.time.saturating_add(Duration::from_secs(at as i64 + 1)),
            signature: vec![],
        };
        let signatures = set.validators().iter().enumerate().map(entry).collect();
        let mut commit = Commit { height: header.height, round: 0, block_id: id.clone(), signatures };
        for (at, validator) in set.validators().iter().enumerate() {
            let bytes = commit.sign_bytes(CHAIN_ID, at).unwrap();
            commit.signatures[at].signature = self.sign(&validator.address, &bytes);
        }
        commit
    }

    fn step(&self, height: i64) -> &(State, Block, Commit) {
        &self.steps[usize::try_from(height - 1).unwrap()]
    }

    /// The state after the block of that height.
    pub(crate) fn after(&self, height: i64) -> &State {
        &self.step(height + 1).0
    }

    /// The state after the last block.
    pub(crate) fn latest(&self) -> &State {
        &self.steps.last().unwrap().0
    }

    fn vote(&self, height: i64, voter: usize, round: i32, text: &str) -> Vote {
        let (state, block, _) = self.step(height);
        let validator = &state.validators.validators()[voter];
        let mut vote = Vote {
            kind: SignedMsgType::PREVOTE,
            height,
            round,
            block_id: BlockId { hash: sha256(text.as_bytes()).to_vec(), ..block.id().unwrap() },
            timestamp: block.header.time,
            validator_address: validator.address.0.to_vec(),
            validator_index: i32::try_from(voter).unwrap(),
            signature: vec![],
        };
        vote.signature = self.sign(&validator.address, &vote.sign_bytes(CHAIN_ID));
        vote
    }

    fn votes(&self, height: i64, voter: usize, round: i32) -> (Vote, Vote) {
        (self.vote(height, voter, round, "one"), self.vote(height, voter, round, "two"))
    }

    /// Evidence of a double vote.
    pub(crate) fn double_vote(&self, height: i64, voter: usize, round: i32) -> Evidence {
        let (state, block, _) = self.step(height);
        let (first, second) = self.votes(height, voter, round);
        new_duplicate_vote(first, second, block.header.time, &state.validators).unwrap().into()
    }

    fn light(&self, height: i64) -> LightBlock {
        let (state, block, commit) = self.step(height);
        LightBlock { header: block.header.clone(), commit: commit.clone(), validators: state.validators.clone() }
    }

    /// Everybody signed a header that can't be.
    fn attack(&self, common: i64, height: i64, text: &str) -> Evidence {
        let honest = self.light(height);
        let mut forged = honest.clone();
        forged.header.app_hash = sha256(text.as_bytes()).to_vec();
        let hash = forged.header.hash().unwrap().to_vec();
        let id = BlockId { hash, part_set_header: forged.commit.block_id.part_set_header.clone() };
        forged.commit = self.commit_for(&forged.validators, &forged.header, &id);
        attack_evidence(&forged, &honest, &self.light(common)).unwrap().into()
    }
}

impl EvidenceSource for Net {
    fn header(&self, height: i64) -> Result<Option<Header>, SourceError> {
        if self.broken.load(Ordering::Relaxed) {
            return Err("disk on fire".into());
        }
        let stored = self.base.load(Ordering::Relaxed)..=self.head.load(Ordering::Relaxed);
        Ok(stored.contains(&height).then(|| self.step(height).1.header.clone()))
    }
    fn commit(&self, height: i64) -> Result<Option<Commit>, SourceError> {
        Ok(match self.header(height.saturating_add(1))? {
            Some(_) => self.step(height + 1).1.last_commit.clone(),
            None => None,
        })
    }
    fn validators(&self, height: i64) -> Result<Option<ValidatorSet>, SourceError> {
        Ok(self.header(height)?.map(|_| self.step(height).0.validators.clone()))
    }
    fn latest_height(&self) -> i64 {
        self.head.load(Ordering::Relaxed)
    }
}

/// A pool at the head of a chain of so many blocks.
pub(crate) fn pool(heights: usize) -> (Arc<EvidencePool>, Arc<Net>) {
    let net = Arc::new(Net::new(heights));
    (Arc::new(open(&net, Arc::new(Memory::new()), heights as i64)), net)
}

fn open(net: &Arc<Net>, store: Arc<dyn KvStore>, height: i64) -> EvidencePool {
    EvidencePool::open(store, Arc::clone(net) as _, Arc::new(net.after(height).clone())).unwrap()
}

fn size_of(list: &[Evidence]) -> i64 {
    EvidenceList { evidence: list.to_vec() }.encoded_len() as i64
}

fn committed(pool: &EvidencePool, evidence: &Evidence) -> bool {
    pool.is_committed(evidence.height(), &evidence.hash()).unwrap()
}

#[test]
fn double_vote_from_pool_to_block() {
    let (pool, net) = pool(6);
    let evidence = net.double_vote(4, 1, 0);
    assert_eq!(pool.add(evidence.clone()).unwrap(), Added::New);
    assert_eq!(pool.add(evidence.clone()).unwrap(), Added::Pending);
    assert!(pool.is_pending(4, &evidence.hash()));
    assert_eq!(pool.pending(-1), std::slice::from_ref(&evidence));
    pool.check(net.after(6), std::slice::from_ref(&evidence)).unwrap();

    pool.update(net.after(6), std::slice::from_ref(&evidence));
    assert_eq!((pool.size(), committed(&pool, &evidence)), (0, true));
    assert_eq!(pool.add(evidence.clone()).unwrap(), Added::Committed);
    assert_eq!(pool.size(), 0);
    assert_eq!(pool.check(net.after(6), &[evidence]), Err("evidence was already committed".into()));
}

#[test]
fn evidence_of_a_block_that_was_not_known() {
    let (pool, net) = pool(6);
    let (first, second) = (net.double_vote(4, 1, 0), net.double_vote(4, 2, 0));
    let list = [first.clone(), second.clone()];
    pool.check(net.after(6), &list).unwrap();
    assert_eq!(pool.size(), 2, "kept so that the next check is fast");
    net.broken.store(true, Ordering::Relaxed);
    pool.check(net.after(6), &list).unwrap();
    net.broken.store(false, Ordering::Relaxed);
    pool.update(net.after(6), &list);
    pool.update(net.after(6), &list);
    assert!(pool.size() == 0 && committed(&pool, &first) && committed(&pool, &second));
}

#[test]
fn lists_that_no_block_may_carry() {
    let (pool, net) = pool(6);
    let state = net.after(6);
    let good = net.double_vote(4, 1, 0);
    assert_eq!(pool.check(state, &[good.clone(), good.clone()]), Err("duplicate evidence".into()));
    let mut limited = state.clone();
    limited.consensus_params.evidence.max_bytes = size_of(std::slice::from_ref(&good));
    pool.check(&limited, std::slice::from_ref(&good)).unwrap();
    limited.consensus_params.evidence.max_bytes -= 1;
    assert!(pool.check(&limited, std::slice::from_ref(&good)).unwrap_err().contains("bytes"));
    let Some(EvidenceSum::DuplicateVote(mut forged)) = net.double_vote(4, 2, 0).sum else { panic!() };
    forged.vote_b.as_mut().unwrap().signature[0] ^= 1;
    let text = pool.check(state, &[(*forged).into()]).unwrap_err();
    assert_eq!(text, "invalid evidence: invalid signature of vote b");
    assert!(pool.check(state, &[Evidence::default()]).is_err());
    net.broken.store(true, Ordering::Relaxed);
    assert_eq!(pool.check(state, &[net.double_vote(4, 3, 0)]).unwrap_err(), "evidence can't be checked: disk on fire");
}

#[test]
fn bad_unknown_and_unreadable_are_told_apart() {
    let (pool, net) = pool(6);
    let Some(EvidenceSum::DuplicateVote(mut forged)) = net.double_vote(4, 1, 0).sum else { panic!() };
    forged.validator_power += 1;
    assert!(matches!(pool.add((*forged).into()), Err(AddError::Invalid(VerifyError::Power { .. }))));
    let evidence = net.double_vote(4, 1, 0);
    net.base.store(5, Ordering::Relaxed);
    assert!(matches!(pool.add(evidence.clone()), Err(AddError::Unknown(_))), "the peer can't know what was pruned");
    net.base.store(1, Ordering::Relaxed);
    net.head.store(3, Ordering::Relaxed);
    assert!(matches!(pool.add(evidence.clone()), Err(AddError::Unknown(_))));
    net.broken.store(true, Ordering::Relaxed);
    assert!(matches!(pool.add(evidence), Err(AddError::Source(_))));
    assert_eq!(pool.size(), 0);
}

#[test]
fn expires_by_both_limits() {
    let (pool, net) = pool(14);
    let (old, newer) = (net.double_vote(7, 1, 0), net.double_vote(9, 1, 0));
    assert!(
        matches!(pool.add(old), Err(AddError::Invalid(VerifyError::Expired(7)))),
        "7 blocks and more than 10 s old"
    );
    assert_eq!(pool.add(newer).unwrap(), Added::New, "5 blocks are not too many");

    let net = Arc::new(Net::new(14));
    let pool = open(&net, Arc::new(Memory::new()), 9);
    for height in 4..=9 {
        assert_eq!(pool.add(net.double_vote(height, 1, 0)).unwrap(), Added::New);
    }
    pool.update(net.after(9), &[net.double_vote(4, 1, 0)]);
    assert_eq!(pool.size(), 5);
    for height in 10..=14 {
        pool.update(net.after(height), &[]);
        let oldest = pool.pending(-1).first().unwrap().height();
        assert_eq!(oldest, (height - MAX_AGE_BLOCKS).max(5), "after block {height}");
    }
    assert!(!committed(&pool, &net.double_vote(4, 1, 0)), "the record goes with its age");
    assert!(pool.check(net.after(14), &[net.double_vote(4, 1, 0)]).unwrap_err().contains("too old"));
    // Time alone does not make it expire.
    let mut state = net.after(14).clone();
    state.last_block_height = 9;
    assert!(!is_expired(&state, 5, net.double_vote(5, 1, 0).time()));
}

#[test]
fn survives_a_restart() {
    let net = Arc::new(Net::new(14));
    let store = Arc::new(Memory::new());
    let pool = open(&net, Arc::clone(&store) as _, 6);
    let (first, second, third) = (net.double_vote(3, 1, 0), net.double_vote(4, 1, 0), net.double_vote(5, 1, 0));
    for evidence in [&first, &second, &third] {
        pool.add(evidence.clone()).unwrap();
    }
    pool.update(net.after(6), std::slice::from_ref(&second));
    drop(pool);
    // Something that is no evidence.
    let mut batch = base_kv::Batch::new();
    batch.put(&[1, 2, 3], b"nonsense");
    store.write(&batch, base_kv::Durability::Synced).unwrap();

    let pool = open(&net, Arc::clone(&store) as _, 6);
    assert_eq!(pool.pending(-1), [first.clone(), third.clone()]);
    assert!(committed(&pool, &second));
    assert!(!store.get_with(&[1, 2, 3], &mut |_| {}).unwrap());
    drop(pool);

    let pool = open(&net, Arc::clone(&store) as _, 10);
    assert_eq!(pool.pending(-1), [third], "the first one expired meanwhile");
    let mut records = 0;
    let all = base_kv::Order::Forward;
    store
        .scan(&[0], None, all, &mut |_, _| {
            records += 1;
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(records, 2);
}

/// Whatever a power loss takes: what was committed is never taken again.
#[test]
fn committed_evidence_survives_power_loss() {
    let net = Arc::new(Net::new(8));
    let evidence = net.double_vote(4, 1, 0);
    for luck in 0..8 {
        let store = Arc::new(Faulty::new(Memory::new(), None));
        let pool = open(&net, Arc::clone(&store) as _, 6);
        pool.add(evidence.clone()).unwrap();
        pool.update(net.after(6), std::slice::from_ref(&evidence));
        pool.add(net.double_vote(5, 2, 0)).unwrap();
        let pool = open(&net, Arc::new(store.restart(luck)), 6);
        assert_eq!(pool.add(evidence.clone()).unwrap(), Added::Committed, "luck {luck}");
    }
}

#[test]
fn a_failing_store_does_not_let_committed_evidence_back() {
    let net = Arc::new(Net::new(8));
    let evidence = net.double_vote(4, 1, 0);
    let crash = base_kv::Crash { at_write: 1, applied: false };
    let store = Arc::new(Faulty::new(Memory::new(), Some(crash)));
    let pool = open(&net, store, 6);
    pool.add(evidence.clone()).unwrap();
    pool.update(net.after(6), std::slice::from_ref(&evidence));
    assert_eq!(pool.add(evidence.clone()).unwrap(), Added::Committed);
    assert!(pool.check(net.after(6), &[evidence]).is_err());
    assert!(matches!(pool.add(net.double_vote(5, 1, 0)), Err(AddError::Store(_))));
    assert_eq!(pool.size(), 0);
}

#[test]
fn conflicting_votes_become_evidence_after_their_height() {
    let net = Arc::new(Net::new(8));
    let pool = open(&net, Arc::new(Memory::new()), 5);
    // Of the block being made, an old one and one that was never made.
    for height in [6, 4, 8] {
        let (first, second) = net.votes(height, 1, 0);
        pool.report_conflicting_votes(second, first);
    }
    assert_eq!(pool.size(), 0);
    pool.update(net.after(6), &[]);
    assert_eq!(pool.pending(-1), [net.double_vote(4, 1, 0), net.double_vote(6, 1, 0)]);
    for evidence in pool.pending(-1) {
        verify(&evidence, net.after(6), &*net).unwrap();
    }
    pool.update(net.after(7), &[]);
    pool.update(net.after(8), &[]);
    assert_eq!(pool.size(), 2, "votes of a height too far ahead are not kept");

    // Votes for the height that follows are.
    let pool = open(&net, Arc::new(Memory::new()), 5);
    let (first, second) = net.votes(7, 1, 0);
    pool.report_conflicting_votes(first, second);
    pool.update(net.after(6), &[]);
    assert_eq!(pool.size(), 0);
    pool.update(net.after(7), &[]);
    assert_eq!(pool.pending(-1), [net.double_vote(7, 1, 0)]);
    // The same again does nothing, neither while it waits nor when it was committed.
    let (first, second) = net.votes(7, 1, 0);
    pool.report_conflicting_votes(first.clone(), second.clone());
    pool.update(net.after(8), &[net.double_vote(7, 1, 0)]);
    pool.report_conflicting_votes(first, second);
    pool.update(net.after(8), &[]);
    assert_eq!(pool.size(), 0);
}

#[test]
fn conflicting_votes_that_prove_nothing() {
    let net = Arc::new(Net::new(8));
    let pool = open(&net, Arc::new(Memory::new()), 5);
    let (first, second) = net.votes(6, 1, 0);
    pool.report_conflicting_votes(first.clone(), first.clone());
    pool.report_conflicting_votes(first.clone(), Vote { round: 3, ..second.clone() });
    pool.report_conflicting_votes(first.clone(), Vote { signature: vec![1; 64], ..second });
    pool.report_conflicting_votes(Vote { validator_address: vec![9; 20], ..first.clone() }, first.clone());
    pool.report_conflicting_votes(Vote::default(), first);
    pool.update(net.after(6), &[]);
    assert_eq!(pool.size(), 0);
}

#[test]
fn buffers_are_bounded() {
    let net = Arc::new(Net::new(8));
    let pool = open(&net, Arc::new(Memory::new()), 5);
    for round in 0..100 {
        let (first, second) = net.votes(6, 1, round);
        pool.report_conflicting_votes(first, second);
    }
    let (first, second) = net.votes(6, 2, 0);
    pool.report_conflicting_votes(first, second);
    assert_eq!(pool.inner.lock().conflicts.len(), MAX_CONFLICTS_PER_VALIDATOR + 1);
    for number in 0..2 * MAX_CONFLICTS as u32 {
        let stranger = Vote { height: 6, validator_address: number.to_be_bytes().to_vec(), ..Vote::default() };
        pool.report_conflicting_votes(stranger.clone(), stranger);
    }
    assert_eq!(pool.inner.lock().conflicts.len(), MAX_CONFLICTS);
    pool.update(net.after(6), &[]);
    assert_eq!(pool.size(), MAX_CONFLICTS_PER_VALIDATOR + 1);

    // One validator's votes do not fill the pool, however many it signs.
    let rounds = MAX_PENDING_PER_VALIDATOR as i32;
    let added: Vec<_> = (0..rounds + 5).map(|round| pool.add(net.double_vote(6, 3, round)).unwrap()).collect();
    assert_eq!(added.iter().filter(|added| **added == Added::New).count(), MAX_PENDING_PER_VALIDATOR);
    assert_eq!(added[MAX_PENDING_PER_VALIDATOR..], [Added::NoRoom; 5]);
    // A block may carry them nevertheless.
    let extra = net.double_vote(6, 3, rounds + 1);
    pool.check(net.after(6), std::slice::from_ref(&extra)).unwrap();
    assert!(!pool.is_pending(6, &extra.hash()));
    pool.update(net.after(7), std::slice::from_ref(&extra));
    assert!(committed(&pool, &extra));
}

#[test]
fn memory_and_disk_have_a_limit() {
    let (pool, net) = pool(6);
    let filler = net.double_vote(4, 1, 0);
    let mut inner = pool.inner.lock();
    inner.bytes = MAX_PENDING_BYTES - listed_bytes(&filler);
    assert!(inner.has_room(&filler, listed_bytes(&filler)));
    inner.bytes += 1;
    assert!(!inner.has_room(&filler, listed_bytes(&filler)));
    inner.bytes = 0;
    for number in 0..MAX_PENDING as u64 {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_be_bytes());
        let vote = Vote { validator_address: hash.to_vec(), ..Vote::default() };
        let strange = DuplicateVoteEvidence { vote_a: Some(vote), ..Default::default() }.into();
        assert!(inner.has_room(&strange, 1));
        inner.insert((1, hash), strange, 1);
    }
    assert!(!inner.has_room(&filler, 1));
    drop(inner);
    assert_eq!(pool.add(filler).unwrap(), Added::NoRoom);
}

#[test]
fn proposals_take_what_fits_oldest_first() {
    let (pool, net) = pool(6);
    let attack = net.attack(3, 4, "forged");
    let (old, new) = (net.double_vote(2, 1, 0), net.double_vote(5, 1, 0));
    for evidence in [&new, &attack, &old] {
        assert_eq!(pool.add(evidence.clone()).unwrap(), Added::New);
    }
    assert_eq!(pool.pending(-1), [old.clone(), attack.clone(), new.clone()]);
    let all = size_of(&pool.pending(-1));
    assert_eq!(pool.pending(all).len(), 3);
    assert_eq!(pool.pending(all - 1), [old.clone(), attack.clone()]);
    // What is too large does not hold up the rest.
    assert_eq!(pool.pending(size_of(&[old.clone(), new.clone()])), [old.clone(), new]);
    assert_eq!(pool.pending(size_of(std::slice::from_ref(&old))), std::slice::from_ref(&old));
    assert!(pool.pending(size_of(&[old]) - 1).is_empty());
    assert!(pool.pending(0).is_empty());
}

#[test]
fn light_client_attacks() {
    let (pool, net) = pool(8);
    let attack = net.attack(3, 5, "forged");
    assert_eq!(pool.add(attack.clone()).unwrap(), Added::New);
    // Same key, other content: checked although it waits.
    let Some(EvidenceSum::LightClientAttack(mut twisted)) = attack.sum.clone() else { panic!() };
    twisted.byzantine_validators.swap(0, 1);
    let twisted = Evidence::from(*twisted);
    assert_eq!(twisted.hash(), attack.hash());
    assert!(pool.check(net.after(8), &[twisted]).is_err());
    pool.check(net.after(8), std::slice::from_ref(&attack)).unwrap();
    pool.update(net.after(8), std::slice::from_ref(&attack));
    assert!(pool.check(net.after(8), &[attack]).is_err());
    assert_eq!(pool.size(), 0);
    for number in 0..MAX_PENDING_ATTACKS {
        assert_eq!(pool.add(net.attack(3, 5, &number.to_string())).unwrap(), Added::New);
    }
    assert_eq!(pool.add(net.attack(3, 5, "one more")).unwrap(), Added::NoRoom);
    assert_eq!(pool.add(net.double_vote(5, 1, 0)).unwrap(), Added::New);
}

#[test]
fn an_older_state_is_not_taken() {
    let (pool, net) = pool(6);
    pool.update(net.after(4), &[net.double_vote(3, 1, 0)]);
    assert_eq!(pool.state().last_block_height, 6);
    assert!(committed(&pool, &net.double_vote(3, 1, 0)));
}
