//! What is judged, built, told and remembered.

use base_kv::Memory;
use comet_chain::app::{Application, TxResult};
use comet_chain::evidence::new_duplicate_vote;
use wire_cometbft::evidence::{Evidence, EvidenceSum};
use wire_cometbft::vote::Vote;

use super::*;
use crate::blocks::Durability;
use crate::toy::{CHAIN, Made, Toy, chain, commit, genesis, stores};
use crate::{Genesis, handshake};

/// Pools that note what they are asked, in order.
#[derive(Default)]
struct Pools {
    notes: Mutex<Vec<String>>,
    txs: Mutex<Vec<Vec<u8>>>,
    evidence: Mutex<Vec<Evidence>>,
    refuse: Mutex<bool>,
}

impl Pools {
    fn note(&self, text: String) {
        self.notes.lock().push(text);
    }
}

impl TxPool for Pools {
    fn reap(&self, max_bytes: i64, max_gas: i64) -> Vec<Vec<u8>> {
        self.note(format!("reap {max_bytes} {max_gas}"));
        self.txs.lock().clone()
    }
    fn before_commit(&self) {
        self.note("before commit".into());
    }
    fn after_commit(&self, height: i64, txs: &[Vec<u8>], results: &[TxResult], app: &mut dyn Application) {
        assert_eq!(txs.len(), results.len());
        assert_eq!(app.info().last_height, height);
        self.note(format!("after commit {height}"));
    }
    fn commit_failed(&self) {
        self.note("commit failed".into());
    }
}

impl EvidencePool for Pools {
    fn pending(&self, _: i64) -> Vec<Evidence> {
        self.evidence.lock().clone()
    }
    fn check(&self, _: &State, evidence: &[Evidence]) -> Result<(), String> {
        self.note(format!("check {}", evidence.len()));
        if *self.refuse.lock() { Err("refused".into()) } else { Ok(()) }
    }
    fn update(&self, state: &State, committed: &[Evidence]) {
        self.note(format!("evidence {} {}", state.last_block_height, committed.len()));
    }
    fn report_conflicting_votes(&self, _: Vote, _: Vote) {}
}

struct Lab {
    _dir: tempfile::TempDir,
    pools: Arc<Pools>,
    executor: Executor,
    judged: Arc<Mutex<usize>>,
    state: State,
}

fn lab(genesis: &Genesis, crash: Option<crate::toy::AppCrash>) -> Lab {
    let dir = tempfile::tempdir().unwrap();
    let (blocks, chain) = stores(dir.path(), Arc::new(Memory::new())).unwrap();
    let mut app = Toy::new(&Arc::default());
    app.crash = crash;
    let judged = Arc::clone(&app.judged);
    let pools = Arc::new(Pools::default());
    let executor = Executor::new(blocks, chain, app.shared(), pools.clone(), pools.clone());
    let state = handshake(&executor, genesis).unwrap();
    Lab { _dir: dir, pools, executor, judged, state }
}

impl Lab {
    fn save(&self, made: &Made) {
        self.executor.blocks().save(&made.block, &made.parts, &made.seen, Durability::Deferred).unwrap();
    }

    fn apply(&mut self, made: &Made) {
        self.save(made);
        self.state = self.executor.apply(&self.state, &made.block, &made.id).unwrap();
    }
}

/// Two votes of one validator at height 1.
fn evidence(made: &Made) -> Evidence {
    let set = &made.after.last_validators;
    let mut first = made.seen.vote(0).unwrap();
    first.block_id = made.id.clone();
    let mut second = first.clone();
    second.block_id.hash = vec![9; 32];
    let duplicate = new_duplicate_vote(first, second, made.block.header.time, set).unwrap();
    EvidenceSum::DuplicateVote(Box::new(duplicate)).into()
}

#[test]
fn blocks_are_applied_in_order_and_told() {
    let (_, made) = chain(4, 10);
    let mut lab = lab(&genesis(), None);
    let mut told = lab.executor.subscribe();
    for made in &made {
        lab.apply(made);
        assert_eq!(lab.state, made.after);
        assert!(lab.executor.blocks().durable_height() >= made.block.header.height);
        let new = told.try_recv().unwrap();
        assert_eq!((&*new.block, &new.block_id, &*new.state), (&made.block, &made.id, &made.after));
        assert_eq!(new.results.tx_results.len(), made.block.data.txs.len());
    }
    let notes = lab.pools.notes.lock().clone();
    assert_eq!(notes[..4], ["before commit", "after commit 1", "evidence 1 0", "before commit"]);
    // A slow reader costs no more than the queue.
    drop(told);
    assert_eq!(lab.executor.applied.receiver_count(), 0);
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let (_, made) = chain(3, 10);
    let mut lab = lab(&genesis(), None);
    let refused = |lab: &Lab, made: &Made| lab.executor.apply(&lab.state, &made.block, &made.id).unwrap_err();
    let error = refused(&lab, &made[0]);
    assert!(matches!(error, ExecError::Store(StoreError::Missing { what: "block", height: 1 })), "{error}");
    lab.apply(&made[0]);
    lab.save(&made[1]);
    lab.save(&made[2]);
    assert!(refused(&lab, &made[2]).is_bad_block());
    let mut other = made[1].clone();
    other.block.header.app_hash = vec![3; 32];
    assert!(refused(&lab, &other).is_bad_block());
    let mut other = made[1].clone();
    other.id.hash = vec![3; 32];
    let error = refused(&lab, &other);
    assert!(matches!(error, ExecError::Store(StoreError::OtherBlock(2))), "{error}");
    assert_eq!(lab.executor.chain().load().unwrap().unwrap(), made[0].after);
    lab.state = lab.executor.apply(&lab.state, &made[1].block, &made[1].id).unwrap();
    assert_eq!(lab.state, made[1].after);
}

#[test]
fn a_failed_commit_opens_the_pool_and_stops() {
    let (_, made) = chain(1, 10);
    let lab = lab(&genesis(), Some(crate::toy::AppCrash::Before(1)));
    lab.save(&made[0]);
    let error = lab.executor.apply(&lab.state, &made[0].block, &made[0].id).unwrap_err();
    assert!(matches!(error, ExecError::App(_)) && !error.is_bad_block());
    assert_eq!(*lab.pools.notes.lock(), ["before commit", "commit failed"]);
    assert_eq!(lab.executor.chain().load().unwrap().unwrap(), lab.state);
}

#[test]
fn proposals_carry_what_pools_and_application_give() {
    let (_, made) = chain(2, 10);
    let mut lab = lab(&genesis(), None);
    let proposer = lab.state.validators.proposer().unwrap().address;
    *lab.pools.txs.lock() = vec![b"one".to_vec(), b"two".to_vec()];
    let first = lab.executor.propose(&lab.state, 1, &Commit::default(), proposer).unwrap().unwrap();
    assert_eq!(first.data.txs, [b"one".to_vec(), b"two".to_vec(), b"prepared".to_vec()]);
    assert_eq!(first.header.time, genesis().time);
    lab.state.validate_block(&first).unwrap();
    assert!(lab.executor.propose(&lab.state, 2, &Commit::default(), proposer).unwrap_err().is_bad_block());

    lab.apply(&made[0]);
    let item = evidence(&made[0]);
    *lab.pools.evidence.lock() = vec![item.clone()];
    lab.pools.notes.lock().clear();
    let proposer = lab.state.validators.proposer().unwrap().address;
    let second = lab.executor.propose(&lab.state, 2, &made[0].seen, proposer).unwrap().unwrap();
    assert_eq!(second.evidence.evidence, std::slice::from_ref(&item));
    let id = second.id().unwrap();
    lab.executor.validate(&lab.state, &second, &id).unwrap();
    let bytes = EvidenceList { evidence: vec![item.clone()] }.encoded_len() as i64;
    let max = (1 << 20) - 11 - 626 - (94 + 4 * 111) - bytes;
    assert_eq!(*lab.pools.notes.lock(), [format!("reap {max} -1"), "check 1".to_owned()]);
    // Found good once: not checked again.
    *lab.pools.refuse.lock() = true;
    lab.executor.validate(&lab.state, &second, &id).unwrap();
    assert_eq!(lab.pools.notes.lock().len(), 2);
    let other = commit(&made[0].after, &made[0].id, 1, None);
    assert_eq!(other.height, 1);
    let mut third = second.clone();
    third.header.time = third.header.time.saturating_add(wire_cometbft::Duration::from_secs(1));
    let error = lab.executor.validate(&lab.state, &third, &third.id().unwrap()).unwrap_err();
    assert!(matches!(error, ExecError::Invalid(_)), "{error}");

    // Evidence that a careless pool gives beyond the limit is left out; so is a block that holds too much.
    *lab.pools.evidence.lock() = vec![item; 500];
    let many = lab.executor.propose(&lab.state, 2, &made[0].seen, proposer).unwrap().unwrap();
    let bytes = evidence_len(&many.evidence);
    assert!(bytes <= 50_000 && many.evidence.evidence.len() > 50, "{bytes}");
    lab.pools.evidence.lock().clear();
    *lab.pools.txs.lock() = vec![b"too much".to_vec()];
    assert!(lab.executor.propose(&lab.state, 2, &made[0].seen, proposer).unwrap().is_none());
    let mut small = lab.state.clone();
    small.consensus_params.block.max_bytes = 500;
    assert!(lab.executor.propose(&small, 2, &made[0].seen, proposer).unwrap().is_none());
    // A commit that says nothing about the time of the block.
    let absent = Commit { signatures: vec![], ..made[0].seen.clone() };
    assert!(!matches!(lab.executor.propose(&lab.state, 2, &absent, proposer), Ok(Some(_))));
}

#[test]
fn a_block_is_judged_once() {
    let (_, made) = chain(2, 10);
    let mut lab = lab(&genesis(), None);
    for _ in 0..3 {
        let verdict = lab.executor.process_proposal(&lab.state, &made[0].block).unwrap();
        assert_eq!(verdict, Verdict::Accept);
    }
    assert_eq!(*lab.judged.lock(), 1);
    let bad = lab
        .state
        .make_block(vec![b"bad".to_vec()], Commit::default(), vec![], lab.state.validators.get(0).unwrap().address)
        .unwrap();
    for _ in 0..2 {
        assert_eq!(lab.executor.process_proposal(&lab.state, &bad).unwrap(), Verdict::Reject);
    }
    assert_eq!(*lab.judged.lock(), 2);
    for tx in 0..20u8 {
        let block = lab.state.make_block(vec![vec![tx]], Commit::default(), vec![], Address::default()).unwrap();
        lab.executor.process_proposal(&lab.state, &block).unwrap();
    }
    assert_eq!(lab.executor.memory.lock().verdicts.len(), REMEMBERED);
    lab.apply(&made[0]);
    assert!(lab.executor.memory.lock().verdicts.is_empty() && lab.executor.memory.lock().valid.is_empty());
    assert_eq!(lab.state.chain_id, CHAIN);
}
