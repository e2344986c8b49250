//! A chain of our own making with keys at hand: evidence of double votes and of light client attacks.

use std::collections::BTreeMap;

use base_crypto::ed25519::SecretKey;
use comet_chain::app::{BlockResults, InitChainResult, ValidatorUpdate};
use comet_chain::app::{ConsensusParamsUpdate, MisbehaviorKind};
use comet_chain::commit::{
    CommitError, Scope, TrustLevel, check_full, median_time, verify_full, verify_light_trusting,
};
use comet_chain::detect::{
    Comparison, ExamineError, ExamineStep, TraceExamination, attack_evidence, compare, conflicts_by_time,
};
use comet_chain::evidence::{EvidenceSource, SourceError, VerifyError, new_duplicate_vote, verify};
use comet_chain::exec::misbehavior;
use comet_chain::light::LightBlock;
use comet_chain::state::{BlockError, State};
use comet_chain::validators::ValidatorSet;
use wire_cometbft::block::{Block, BlockId, BlockIdFlag, Commit, CommitSig, Header};
use wire_cometbft::evidence::Evidence;
use wire_cometbft::keys::{Address, signing_digest};
use wire_cometbft::merkle::sha256;
use wire_cometbft::params::*;
use wire_cometbft::vote::{SignedMsgType, Vote};
use wire_cometbft::{Duration, Message, Time};

use crate::light::POLICY;

const CHAIN_ID: &str = "test-chain";

struct Net {
    keys: BTreeMap<Address, SecretKey>,
    /// State before each block, the block, and the commit for it.
    steps: Vec<(State, Block, Commit)>,
}

fn params() -> ConsensusParams {
    ConsensusParams {
        block: BlockParams { max_bytes: 1 << 20, max_gas: -1 },
        evidence: EvidenceParams {
            max_age_num_blocks: 5,
            max_age_duration: Duration::from_secs(20),
            max_bytes: 1 << 16,
        },
        validator: ValidatorParams { pub_key_types: vec!["ed25519".into()] },
        version: VersionParams { app: 3 },
    }
}

impl Net {
    /// Four validators, so many blocks; a block every two seconds.
    fn new(heights: usize) -> Self {
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
        let mut net = Self { keys, steps: vec![] };
        let mut last_commit = Commit::default();
        for height in 1..=heights {
            let proposer = state.validators.proposer().unwrap().address;
            let block = state.make_block(vec![vec![height as u8]], last_commit, vec![], proposer).unwrap();
            state.validate_block(&block).unwrap();
            let commit = net.commit(&state.validators, &block.header, &block.id().unwrap(), 0);
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

    /// Everybody's precommit, one second apart.
    fn commit(&self, set: &ValidatorSet, header: &Header, id: &BlockId, round: i32) -> Commit {
        let entry = |(at, validator): (usize, &comet_chain::validators::Validator)| CommitSig {
            block_id_flag: BlockIdFlag::COMMIT,
            validator_address: validator.address.0.to_vec(),
            timestamp: header.time.saturating_add(Duration::from_secs(at as i64 + 1)),
            signature: vec![],
        };
        let signatures = set.validators().iter().enumerate().map(entry).collect();
        let mut commit = Commit { height: header.height, round, block_id: id.clone(), signatures };
        for (at, validator) in set.validators().iter().enumerate() {
            let bytes = commit.sign_bytes(CHAIN_ID, at).unwrap();
            commit.signatures[at].signature = self.sign(&validator.address, &bytes);
        }
        commit
    }

    fn light(&self, height: usize) -> LightBlock {
        let (state, block, commit) = &self.steps[height - 1];
        LightBlock { header: block.header.clone(), commit: commit.clone(), validators: state.validators.clone() }
    }

    /// A light block of that height with a changed header, signed by everybody.
    fn forged(&self, height: usize, round: i32, change: impl Fn(&mut Header)) -> LightBlock {
        let mut block = self.light(height);
        change(&mut block.header);
        let id = BlockId {
            hash: block.header.hash().unwrap().to_vec(),
            part_set_header: block.commit.block_id.part_set_header.clone(),
        };
        block.commit = self.commit(&block.validators, &block.header, &id, round);
        block
    }

    fn latest(&self) -> &State {
        &self.steps.last().unwrap().0
    }
}

/// The newest stored block is the one before the last: its commit is in the last one.
impl EvidenceSource for Net {
    fn header(&self, height: i64) -> Result<Option<Header>, SourceError> {
        let step = usize::try_from(height - 1).ok().and_then(|at| self.steps.get(at));
        Ok(step.map(|(_, block, _)| block.header.clone()))
    }

    fn commit(&self, height: i64) -> Result<Option<Commit>, SourceError> {
        let next = usize::try_from(height).ok().and_then(|at| self.steps.get(at));
        Ok(next.and_then(|(_, block, _)| block.last_commit.clone()))
    }

    fn validators(&self, height: i64) -> Result<Option<ValidatorSet>, SourceError> {
        let step = usize::try_from(height - 1).ok().and_then(|at| self.steps.get(at));
        Ok(step.map(|(state, ..)| state.validators.clone()))
    }

    fn latest_height(&self) -> i64 {
        self.steps.len() as i64
    }
}

fn votes(net: &Net, height: usize) -> (Vote, Vote) {
    let (state, block, _) = &net.steps[height - 1];
    let voter = &state.validators.validators()[1];
    let vote = |hash: [u8; 32]| {
        let mut vote = Vote {
            kind: SignedMsgType::PREVOTE,
            height: block.header.height,
            round: 0,
            block_id: BlockId { hash: hash.to_vec(), ..block.id().unwrap() },
            timestamp: block.header.time,
            validator_address: voter.address.0.to_vec(),
            validator_index: 1,
            signature: vec![],
        };
        vote.signature = net.sign(&voter.address, &vote.sign_bytes(CHAIN_ID));
        vote
    };
    (vote(sha256(b"one")), vote(sha256(b"two")))
}

#[test]
fn duplicate_votes() {
    let net = Net::new(6);
    let (state, block, _) = &net.steps[3];
    let (one, two) = votes(&net, 4);
    let evidence = new_duplicate_vote(one, two, block.header.time, &state.validators).unwrap();
    let first = evidence.vote_a.clone().unwrap();
    let second = evidence.vote_b.clone().unwrap();
    let swapped = new_duplicate_vote(second, first, block.header.time, &state.validators).unwrap();
    assert_eq!(swapped, evidence);
    let check = |evidence: &_| {
        let evidence = Evidence::from(wire_cometbft::evidence::DuplicateVoteEvidence::clone(evidence));
        verify(&evidence, net.latest(), &net)
    };
    check(&evidence).unwrap();

    type Change = Box<dyn Fn(&mut wire_cometbft::evidence::DuplicateVoteEvidence)>;
    let changes: Vec<(&str, Change)> = vec![
        ("order", Box::new(|e| std::mem::swap(&mut e.vote_a, &mut e.vote_b))),
        ("same", Box::new(|e| e.vote_b = e.vote_a.clone())),
        ("time", Box::new(|e| e.timestamp = e.timestamp.saturating_add(Duration::from_nanos(1)))),
        ("total", Box::new(|e| e.total_voting_power += 1)),
        ("power", Box::new(|e| e.validator_power += 1)),
        ("signature", Box::new(|e| e.vote_a.as_mut().unwrap().signature[0] ^= 1)),
        ("round", Box::new(|e| e.vote_b.as_mut().unwrap().round += 1)),
        ("type", Box::new(|e| e.vote_b.as_mut().unwrap().kind = SignedMsgType::PRECOMMIT)),
        ("voter", Box::new(|e| e.vote_b.as_mut().unwrap().validator_address[0] ^= 1)),
        (
            "stranger",
            Box::new(|e| {
                e.vote_a.as_mut().unwrap().validator_address[0] ^= 1;
                e.vote_b.as_mut().unwrap().validator_address[0] ^= 1;
            }),
        ),
        (
            "height",
            Box::new(|e| {
                e.vote_a.as_mut().unwrap().height = 9;
                e.vote_b.as_mut().unwrap().height = 9;
            }),
        ),
        ("missing", Box::new(|e| e.vote_b = None)),
    ];
    for (what, change) in changes {
        let mut changed = evidence.clone();
        change(&mut changed);
        assert!(check(&changed).is_err(), "{what}");
    }
    // Its bytes, bit by bit.
    let bytes = evidence.encode_to_vec();
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        if let Ok(changed) = wire_cometbft::evidence::DuplicateVoteEvidence::decode(&changed) {
            // The index within the set is neither signed nor checked.
            let index = |e: &wire_cometbft::evidence::DuplicateVoteEvidence| {
                [&e.vote_a, &e.vote_b].map(|v| v.as_ref().map(|v| v.validator_index))
            };
            assert!(check(&changed).is_err() || index(&changed) != index(&evidence), "bit {bit}");
        }
    }
    let told = misbehavior(&[evidence.clone().into()]);
    assert_eq!((told.len(), told[0].kind, told[0].power), (1, MisbehaviorKind::DuplicateVote, 30));
}

/// Evidence is too old only when older than both limits.
#[test]
fn evidence_expires_by_both_limits() {
    let net = Net::new(14);
    let (one, two) = votes(&net, 2);
    let (state, block, _) = &net.steps[1];
    let evidence = new_duplicate_vote(one, two, block.header.time, &state.validators).unwrap();
    let evidence = Evidence::from(evidence);
    let mut late = net.latest().clone();
    late.last_block_height = 8;
    late.last_block_time = block.header.time.saturating_add(Duration::from_secs(21));
    assert!(matches!(verify(&evidence, &late, &net), Err(VerifyError::Expired(2))));
    verify(&evidence, &State { last_block_height: 7, ..late.clone() }, &net).unwrap();
    late.last_block_time = block.header.time.saturating_add(Duration::from_secs(20));
    verify(&evidence, &late, &net).unwrap();
}

fn examine(
    net: &Net,
    trace: Vec<LightBlock>,
    target: LightBlock,
) -> Result<comet_chain::detect::Divergence, ExamineError> {
    let now = net.light(net.steps.len()).header.time;
    let mut examination = TraceExamination::new(trace, target, POLICY)?;
    loop {
        match examination.step(now)? {
            ExamineStep::Done(divergence) => return Ok(*divergence),
            ExamineStep::Fetch(height) => examination.provide(net.light(usize::try_from(height).unwrap()))?,
        }
    }
}

fn check_attack(net: &Net, forged: &LightBlock, common: usize, at_fault: usize) {
    let height = usize::try_from(forged.height()).unwrap();
    let honest = net.light(height);
    assert_eq!(compare(forged, &honest), Comparison::Conflict);
    let trace = vec![net.light(common), forged.clone()];
    let divergence = examine(net, trace, honest.clone()).unwrap();
    assert_eq!(divergence.divergent, *forged);
    let (first, last) = (&divergence.source_trace[0], divergence.source_trace.last().unwrap());
    assert_eq!((first.height(), last), (common as i64, &honest));

    let evidence = attack_evidence(&divergence.divergent, last, first).unwrap();
    assert_eq!(evidence.byzantine_validators.len(), at_fault);
    let wrapped = Evidence::from(evidence.clone());
    let decoded = Evidence::decode(&wrapped.encode_to_vec()).unwrap();
    assert_eq!(decoded, wrapped);
    verify(&wrapped, net.latest(), net).unwrap();
    let told = misbehavior(std::slice::from_ref(&wrapped));
    assert_eq!((told.len(), told[0].kind), (at_fault, MisbehaviorKind::LightClientAttack));

    let refuse = |change: &dyn Fn(&mut wire_cometbft::evidence::LightClientAttackEvidence)| {
        let mut changed = evidence.clone();
        change(&mut changed);
        let verdict = verify(&changed.into(), net.latest(), net);
        assert!(verdict.is_err());
    };
    refuse(&|e| e.byzantine_validators.clear());
    refuse(&|e| e.byzantine_validators.swap(0, 1));
    refuse(&|e| e.byzantine_validators[0].voting_power += 1);
    refuse(&|e| e.total_voting_power += 1);
    refuse(&|e| e.timestamp = Time::UNIX_EPOCH);
    refuse(&|e| e.common_height += 100);
    refuse(&|e| e.common_height = 0);
    refuse(&|e| e.conflicting_block = None);
    refuse(&|e| e.conflicting_block = Some(honest.to_wire()));
    refuse(&|e| {
        let signed = e.conflicting_block.as_mut().unwrap().signed_header.as_mut().unwrap();
        signed.commit.as_mut().unwrap().signatures[3].signature[0] ^= 1;
    });
}

#[test]
fn lunatic_attack() {
    let net = Net::new(6);
    let forged = net.forged(4, 0, |header| header.app_hash = vec![9; 32]);
    check_attack(&net, &forged, 2, 4);
}

#[test]
fn equivocation() {
    let net = Net::new(6);
    let forged = net.forged(4, 0, |header| header.data_hash = sha256(b"other").to_vec());
    check_attack(&net, &forged, 2, 4);
}

/// In another round nobody can be named, and such evidence is refused.
#[test]
fn amnesia() {
    let net = Net::new(6);
    let forged = net.forged(4, 1, |header| header.data_hash = sha256(b"other").to_vec());
    let evidence = attack_evidence(&forged, &net.light(4), &net.light(2)).unwrap();
    assert!(evidence.byzantine_validators.is_empty());
    let verdict = verify(&evidence.into(), net.latest(), &net);
    assert!(matches!(verdict, Err(VerifyError::ByzantineValidators)));
}

/// An equivocating commit that names a stranger (light checks compare no addresses) is refused, not fatal.
#[test]
fn strangers_in_a_commit() {
    let net = Net::new(6);
    let mut forged = net.forged(4, 0, |header| header.data_hash = sha256(b"other").to_vec());
    let mut evidence = attack_evidence(&forged, &net.light(4), &net.light(2)).unwrap();
    forged.commit.signatures[2].validator_address = vec![7; 20];
    evidence.conflicting_block = Some(forged.to_wire());
    let verdict = verify(&evidence.into(), net.latest(), &net);
    assert!(matches!(verdict, Err(VerifyError::ByzantineValidators)));
}

#[test]
fn witnesses_behind_and_diverging_priorities() {
    let net = Net::new(5);
    let mut early = net.light(5);
    early.header.time = net.light(3).header.time;
    assert!(conflicts_by_time(&early, &net.light(3)) && !conflicts_by_time(&net.light(5), &net.light(3)));
    let mut rotated = net.light(5);
    rotated.validators.increment_proposer_priority(1).unwrap();
    assert_eq!(compare(&net.light(5), &rotated), Comparison::PrioritiesDiverge);
    assert_eq!(compare(&net.light(5), &net.light(5)), Comparison::Match);
    let verdict = examine(&net, vec![net.light(2), net.light(4)], net.light(4));
    assert_eq!(verdict, Err(ExamineError::NoDivergence));
    assert!(TraceExamination::new(vec![], net.light(1), POLICY).is_err());
    assert!(TraceExamination::new(vec![net.light(3)], net.light(1), POLICY).is_err());
}

/// The rules of the full and the light checks where they differ.
#[test]
fn commit_rules() {
    let net = Net::new(3);
    let (state, block, commit) = &net.steps[2];
    let (set, id, height) = (&state.validators, &block.id().unwrap(), 3);
    let full = |commit: &Commit| verify_full(set, CHAIN_ID, id, height, commit);
    let light = |commit: &Commit, scope| comet_chain::commit::verify_light(set, CHAIN_ID, id, height, commit, scope);
    full(commit).unwrap();

    // Powers 40, 30, 20, 10: two thirds of 100 is 66; 40 + 30 is enough, so the light check reads no further.
    let mut bad_tail = commit.clone();
    bad_tail.signatures[3].signature[0] ^= 1;
    assert_eq!(full(&bad_tail), Err(CommitError::Signature(3)));
    light(&bad_tail, Scope::Enough).unwrap();
    assert_eq!(light(&bad_tail, Scope::AllSignatures), Err(CommitError::Signature(3)));

    let mut swapped = commit.clone();
    swapped.signatures[2].validator_address = set.validators()[3].address.0.to_vec();
    assert_eq!(full(&swapped), Err(CommitError::Address(2)));
    light(&swapped, Scope::AllSignatures).unwrap();

    // A vote for none counts as signed, not as power, unless all signatures are asked for.
    let mut nil = commit.clone();
    nil.signatures[0].block_id_flag = BlockIdFlag::NIL;
    let bytes = nil.sign_bytes(CHAIN_ID, 0).unwrap();
    nil.signatures[0].signature = net.sign(&set.validators()[0].address, &bytes);
    assert_eq!(full(&nil), Err(CommitError::NotEnoughPower { got: 60, needed: 66 }));
    assert!(light(&nil, Scope::Enough).is_err());
    light(&nil, Scope::AllSignatures).unwrap();

    let mut absent = commit.clone();
    absent.signatures[1] = CommitSig::absent();
    full(&absent).unwrap();
    absent.signatures[3] = CommitSig::absent();
    assert_eq!(full(&absent), Err(CommitError::NotEnoughPower { got: 60, needed: 66 }));

    let mut short = commit.clone();
    short.signatures[0].signature.pop();
    assert_eq!(full(&short), Err(CommitError::Signature(0)));
    assert!(matches!(check_full(set, CHAIN_ID, id, 4, commit), Err(CommitError::Height { .. })));
    assert!(matches!(check_full(set, CHAIN_ID, &BlockId::default(), 3, commit), Err(CommitError::BlockId)));

    // Trusting: by address, unknown ones passed over, nobody twice.
    let trusting = |commit: &Commit, level| verify_light_trusting(set, CHAIN_ID, commit, level, Scope::AllSignatures);
    let third = TrustLevel::ONE_THIRD;
    trusting(commit, third).unwrap();
    let mut twice = commit.clone();
    twice.signatures[3] = twice.signatures[0].clone();
    assert!(matches!(trusting(&twice, third), Err(CommitError::DoubleVote { first: 0, second: 3, .. })));
    let mut strangers = commit.clone();
    for entry in &mut strangers.signatures[..3] {
        entry.validator_address = vec![1; 20];
    }
    assert_eq!(trusting(&strangers, third), Err(CommitError::NotEnoughPower { got: 10, needed: 33 }));
    assert!(trusting(commit, TrustLevel { numerator: u64::MAX, denominator: 3 }).is_err());
    assert!(trusting(commit, TrustLevel { numerator: 1, denominator: 0 }).is_err());

    // Times are one second apart; half of 100 is passed by the second validator (40 < 50 ≤ 70).
    let median = |commit: &Commit| median_time(commit, set).unwrap().since(block.header.time).nanos();
    assert_eq!(median(commit), 2_000_000_000);
    let mut heavy_late = commit.clone();
    heavy_late.signatures[0].timestamp = block.header.time.saturating_add(Duration::from_secs(9));
    // 30, 20 come first: exactly 50, which the 20 reaches.
    assert_eq!(median(&heavy_late), 3_000_000_000);
    let mut unknown = commit.clone();
    unknown.signatures[0].validator_address = vec![1; 20];
    assert_eq!(median_time(&unknown, set), Err(CommitError::UnknownValidator(0)));
}

#[test]
fn blocks_with_too_much_evidence_are_refused() {
    let net = Net::new(6);
    let (one, two) = votes(&net, 4);
    let (state, block, _) = &net.steps[3];
    let evidence = new_duplicate_vote(one, two, block.header.time, &state.validators).unwrap();
    let evidence: Evidence = evidence.into();
    let (state, block, _) = &net.steps[5];
    let proposer = state.validators.validators()[0].address;
    let last_commit = block.last_commit.clone().unwrap();
    let with = |count| state.make_block(vec![], last_commit.clone(), vec![evidence.clone(); count], proposer).unwrap();
    state.validate_block(&with(1)).unwrap();
    let block = Block::decode_checked(&with(1).encode_to_vec()).unwrap();
    assert_eq!(block, with(1));
    assert!(matches!(state.validate_block(&with(300)), Err(BlockError::EvidenceBytes { .. })));
    let mut other = with(1);
    other.evidence.evidence.clear();
    assert!(state.validate_block(&other).is_err());
}

#[test]
fn results_change_validators_and_params() {
    let net = Net::new(2);
    let (state, block, _) = &net.steps[1];
    let id = block.id().unwrap();
    let secret = SecretKey::from_seed(&[9; 32]);
    let first = state.validators.validators()[0].pub_key;
    let results = BlockResults {
        validator_updates: vec![
            ValidatorUpdate { pub_key: secret.public(), power: 7 },
            ValidatorUpdate { pub_key: first, power: 0 },
        ],
        consensus_param_updates: Some(ConsensusParamsUpdate {
            version: Some(VersionParams { app: 4 }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let next = state.after(id.clone(), &block.header, &results).unwrap();
    assert_eq!(next.validators, state.next_validators);
    assert_eq!((next.next_validators.len(), next.next_validators.total_voting_power()), (4, 67));
    assert_eq!((next.last_height_validators_changed, next.last_height_consensus_params_changed), (4, 3));
    assert_eq!((next.version.app, next.consensus_params.block.max_gas), (4, -1));
    let refuse = |results: BlockResults| assert!(state.after(id.clone(), &block.header, &results).is_err());
    let update = |pub_key, power| BlockResults {
        validator_updates: vec![ValidatorUpdate { pub_key, power }],
        ..Default::default()
    };
    refuse(update(secret.public(), 0));
    refuse(update(first, -1));
    refuse(BlockResults {
        consensus_param_updates: Some(ConsensusParamsUpdate {
            block: Some(BlockParams { max_bytes: 0, max_gas: 0 }),
            ..Default::default()
        }),
        ..Default::default()
    });
}
