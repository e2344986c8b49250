//! Tables for one machine: what it accepts, when it acts, what it signs.

use base_prims::Quantity;
use wire_consensus::node::Node as NodeDescriptor;
use wire_consensus::roothash::{ExecutorCommitmentFailure, HeaderType, message};
use wire_consensus::scheduler::{CommitteeKind, CommitteeNode};
use wire_consensus::staking::{Slash, SlashReason};
use wire_runtime::Field;

use super::machine::input_root;
use super::*;
use crate::Moment;
use crate::messages::CommitteeMessage;
use crate::txpool::{Config, Origin};

fn key(i: u8) -> SecretKey {
    SecretKey::from_seed(&[i; 32])
}

fn id(i: u8) -> PublicKey {
    PublicKey::new(key(i).public())
}

fn peer(i: u8) -> PublicKey {
    PublicKey::new([200 + i; 32])
}

fn runtime_id() -> Namespace {
    "8000000000000000000000000000000000000000000000000000000000000001".parse().unwrap()
}

fn ms(n: u64) -> Moment {
    Duration::from_millis(n)
}

/// Workers 1 to 3, backup workers 3 and 4; in round 9 the ranks of 1, 2, 3 are 0, 1, 2.
fn members(epoch: Epoch) -> Arc<Members> {
    let member = |role| move |i| CommitteeNode { role, public_key: id(i) };
    let members = (1..=3).map(member(Role::WORKER)).chain((3..=4).map(member(Role::BACKUP_WORKER))).collect();
    let committee = Committee {
        kind: CommitteeKind::COMPUTE_EXECUTOR,
        members: Some(members),
        runtime_id: runtime_id(),
        valid_for: epoch,
    };
    let nodes = (1..=4).map(|i| {
        let mut node = NodeDescriptor { id: id(i), ..NodeDescriptor::default() };
        node.p2p.id = peer(i);
        node
    });
    Arc::new(Members::new(committee, nodes))
}

fn round(change: impl FnOnce(&mut Round)) -> Box<Round> {
    let mut block = Block::genesis(runtime_id(), 1);
    block.header.round = 8;
    let mut descriptor = Runtime { id: runtime_id(), ..Runtime::default() };
    descriptor.txn_scheduler.proposer_timeout = 2_000_000_000;
    descriptor.txn_scheduler.batch_flush_timeout = 1_000_000_000;
    descriptor.txn_scheduler.max_batch_size = 3;
    descriptor.txn_scheduler.max_batch_size_bytes = 100;
    let slash = Slash { amount: Quantity::from(1u64), freeze_interval: 0 };
    descriptor.staking.slashing = [(SlashReason::RUNTIME_EQUIVOCATION, slash)].into();
    let members = Some(members(5));
    let mut round =
        Round { block, height: 77, descriptor, committee: members, last_normal_round: 7, ..Round::default() };
    change(&mut round);
    Box::new(round)
}

struct One {
    machine: Machine,
    pool: Pool,
    now: Moment,
}

impl One {
    fn new(node: u8, record: Option<Record>) -> Self {
        let setup = Setup {
            runtime: runtime_id(),
            node: id(node),
            chain: ChainContext::from_hash(Hash::of(&[b"test"]).as_bytes()),
            blacklist: Arc::new(Blacklist::production()),
        };
        Self { machine: Machine::new(setup, record), pool: Pool::new(Config::default()), now: ms(0) }
    }

    fn started(node: u8) -> Self {
        let mut one = Self::new(node, None);
        assert_eq!(one.step(Input::Runtime(Some(RuntimeInfo { initial_batch_size: 10 }))), []);
        assert_eq!(one.step(Input::Round(round(|_| ()))), []);
        one
    }

    fn step(&mut self, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        self.machine.step(self.now, input, &mut self.pool, &mut out);
        out
    }

    fn at(&mut self, at: u64) -> Vec<Effect> {
        self.now = ms(at);
        self.step(Input::Tick)
    }

    fn gossip(&mut self, author: u8, message: &CommitteeMessage) -> (Acceptance, Vec<Effect>) {
        let mut out = Vec::new();
        let verdict = self.machine.accept(&peer(author), false, message, &mut out);
        (verdict, out)
    }

    /// A proposal of node `i` for the round.
    fn proposal(&self, i: u8, batch: &[Tx], change: impl FnOnce(&mut ProposalHeader)) -> CommitteeMessage {
        let mut header = ProposalHeader {
            round: 9,
            previous_hash: round(|_| ()).block.header.hash(),
            batch_hash: input_root(batch).unwrap(),
        };
        change(&mut header);
        let draft = ProposalDraft { epoch: 5, header, batch: batch.iter().map(|t| t.hash).collect() };
        CommitteeMessage { epoch: 5, proposal: Some(draft.sign(&key(i), self.machine.setup()).unwrap()) }
    }

    fn propose(&mut self, i: u8, batch: &[Tx]) -> Vec<Effect> {
        let message = self.proposal(i, batch, |_| ());
        assert_eq!(self.gossip(i, &message), (Acceptance::Accept, vec![]));
        self.step(Input::Tick)
    }

    fn know(&mut self, batch: &[Tx]) {
        for tx in batch {
            self.pool.submit(tx.data.to_vec(), Origin::default(), None).unwrap();
        }
    }

    fn commitment(&self, i: u8, scheduler: u8, state: &[u8]) -> Box<ExecutorCommitment> {
        let header = ExecutorCommitmentHeader {
            scheduler_id: id(scheduler),
            header: result(state).batch.header,
            ..ExecutorCommitmentHeader::default()
        };
        let draft = CommitmentDraft { header, messages: vec![] };
        Box::new(draft.sign(&key(i), self.machine.setup()).unwrap())
    }
}

fn txs(n: std::ops::Range<u8>) -> Vec<Tx> {
    n.map(|n| Tx::new(vec![n + 1; 10])).collect()
}

fn result(state: &[u8]) -> Box<ExecuteTxBatchResponse> {
    let mut r = ExecuteTxBatchResponse::default();
    let header = &mut r.batch.header;
    let block = round(|_| ()).block;
    (header.round, header.previous_hash) = (9, block.header.hash());
    header.io_root = Some(Hash::of(&[b"io"]));
    header.state_root = Some(Hash::of(&[state]));
    header.messages_hash = Some(message::messages_hash(&[]));
    header.in_messages_hash = Some(message::in_messages_hash(&[]));
    Box::new(r)
}

fn execution(effects: &[Effect]) -> &Execution {
    match effects {
        [Effect::Execute(e)] => e,
        other => panic!("{other:?}"),
    }
}

/// Answers the requests to the disk.
fn save(one: &mut One, effects: &[Effect], stored: bool, recorded: bool) -> Vec<Effect> {
    let mut out = Vec::new();
    for effect in effects {
        out.extend(match effect {
            Effect::Store(s) => one.step(Input::Stored { id: s.id, ok: stored }),
            Effect::Record { id, .. } => one.step(Input::Recorded { id: *id, ok: recorded }),
            _ => vec![],
        });
    }
    out
}

#[test]
fn what_gossip_is_accepted() {
    use Acceptance::*;
    let mut one = One::new(2, None);
    let message = one.proposal(1, &txs(0..1), |_| ());
    assert_eq!(one.gossip(1, &message).0, Retry, "no committee is known");
    let mut one = One::started(2);
    let with = |epoch| CommitteeMessage { epoch, ..message.clone() };
    for (epoch, expected) in [(4, Reject), (6, Retry), (7, Reject), (u64::MAX, Reject)] {
        assert_eq!(one.gossip(1, &with(epoch)).0, expected, "epoch {epoch}");
    }
    assert_eq!(one.gossip(9, &message).0, Reject, "not a member");
    assert_eq!(one.gossip(1, &CommitteeMessage { epoch: 5, proposal: None }).0, Reject);
    assert_eq!(one.machine.accept(&peer(2), true, &message, &mut vec![]), Accept, "its own, and passed over");
    let backup = one.proposal(4, &txs(0..1), |_| ());
    assert_eq!(one.gossip(4, &backup).0, Reject, "no scheduler");
    let mut forged = message.clone();
    forged.proposal.as_mut().unwrap().header.batch_hash = Hash::EMPTY;
    assert_eq!(one.gossip(1, &forged).0, Reject);
    let past = one.proposal(1, &txs(0..1), |h| h.round = 8);
    assert_eq!(one.gossip(1, &past).0, Reject);
    let future = one.proposal(1, &txs(0..1), |h| h.round = 20);
    assert_eq!(one.gossip(4, &future).0, Accept, "any member may pass it on");
    assert_eq!(one.gossip(1, &message).0, Accept);
    assert_eq!(one.gossip(1, &message), (Accept, vec![]), "the same again");
    let other = one.proposal(1, &txs(0..2), |_| ());
    let (verdict, effects) = one.gossip(1, &other);
    assert!(
        verdict == Accept && matches!(&effects[..], [Effect::SubmitEvidence(e)] if e.culprit() == Some((id(1), 9)))
    );
    assert_eq!(one.gossip(1, &other), (Accept, vec![]), "accused once");
    one.step(Input::Round(round(|r| (r.block.header.round, r.committee) = (9, Some(members(6))))));
    assert_eq!(one.gossip(1, &message).0, Reject, "another epoch");
    assert!(one.machine.proposals.is_empty(), "other committees have other ranks");
}

#[test]
fn schedulers_take_their_turn() {
    let mut one = One::started(2);
    assert_eq!((one.machine.rank(), one.machine.next_wakeup(ms(0))), (1, Some(ms(1000))));
    assert_eq!(one.at(1000), []);
    assert_eq!(one.machine.next_wakeup(ms(1000)), Some(ms(2000)));
    assert_eq!(one.at(1999), []);
    let effects = one.at(2000);
    assert_eq!((execution(&effects).mode, execution(&effects).round), (ExecutionMode::SCHEDULE, 9));
    assert_eq!(one.machine.state(), StateName::ProcessingBatch);
    // A better scheduler's commitment closes the turn of all after it.
    let mut one = One::started(2);
    let commit = one.commitment(1, 1, b"s");
    one.step(Input::Observed(commit));
    assert_eq!(one.at(5000), []);
    let mut forged = One::started(2);
    let mut commit = forged.commitment(1, 1, b"s");
    commit.header.header.state_root = Some(Hash::EMPTY);
    forged.step(Input::Observed(commit));
    assert_eq!(forged.at(5000).len(), 1, "a forged one does not");
}

#[test]
fn reasons_to_schedule() {
    let run = |change: fn(&mut Round), before: fn(&mut One)| {
        let mut one = One::new(1, None);
        one.step(Input::Runtime(Some(RuntimeInfo { initial_batch_size: 10 })));
        before(&mut one);
        one.step(Input::Round(round(change))).len()
    };
    assert_eq!(run(|_| (), |_| ()), 0, "nothing to do before the flush");
    assert_eq!(run(|r| r.has_message_results = true, |_| ()), 1);
    assert_eq!(run(|r| r.has_incoming_messages = true, |_| ()), 1);
    assert_eq!(run(|r| (r.last_normal_round, r.genesis_round) = (3, 3), |_| ()), 1);
    assert_eq!(run(|r| r.has_message_results = true, |one| drop(one.step(Input::Runtime(None)))), 0);
    let last = |one: &mut One| drop(one.step(Input::Consensus { epoch_change_next: true }));
    assert_eq!(run(|r| r.has_message_results = true, last), 0, "it would be lost");
    assert_eq!(run(|r| (r.has_message_results, r.committee) = (true, None), |_| ()), 0);
    let with_tx = |one: &mut One| {
        one.pool.new_block(ms(0), 8);
        one.know(&txs(0..1));
        let effects = one.pool.poll(ms(0));
        assert_eq!(effects.len(), 1);
        let meta = Field::Is(Default::default());
        let ok = wire_runtime::runtime::CheckTxResult { meta, ..Default::default() };
        one.pool.checked(ms(0), 0, crate::txpool::Checked::Results(vec![ok]));
    };
    assert_eq!(run(|_| (), with_tx), 1);
    let mut one = One::started(1);
    assert_eq!((one.at(999).len(), one.at(1000).len()), (0, 1), "forced");
}

#[test]
fn nothing_is_signed_before_it_is_on_disk() {
    let mut one = One::started(1);
    let effects = one.at(1000);
    let id = execution(&effects).id;
    let saving = one.step(Input::Executed { id, result: Some(result(b"s")) });
    let [Effect::Record { id: record_id, record }, Effect::Store(store)] = &saving[..] else { panic!("{saving:?}") };
    assert_eq!((record.round, record.proposals.len(), record.commitments.len()), (9, 1, 1));
    let proposed = one.step(Input::Recorded { id: *record_id, ok: true });
    assert!(matches!(&proposed[..], [Effect::Propose(_)]), "gossiped while results are stored");
    let committed = one.step(Input::Stored { id: store.id, ok: true });
    let [Effect::Commit(draft)] = &committed[..] else { panic!("{committed:?}") };
    assert_eq!(CommitmentRecord { header: draft.header.clone(), messages: vec![] }, record.commitments[0]);
    assert_eq!(one.at(30_000), [], "once per rank");

    // In the other order nothing goes out before the record is there.
    let mut one = One::started(1);
    let id = execution(&one.at(1000)).id;
    let saving = one.step(Input::Executed { id, result: Some(result(b"s")) });
    assert_eq!(save(&mut one, &saving[1..], true, true), []);
    assert_eq!(save(&mut one, &saving[..1], true, true).len(), 2);

    for (stored, recorded) in [(false, true), (true, false)] {
        let mut one = One::started(1);
        let id = execution(&one.at(1000)).id;
        let saving = one.step(Input::Executed { id, result: Some(result(b"s")) });
        let signed = save(&mut one, &saving, stored, recorded);
        assert!(!signed.iter().any(|e| matches!(e, Effect::Commit(_))), "a scheduler does not fail: {signed:?}");
        assert_eq!((one.at(30_000), one.machine.state()), (vec![], StateName::WaitingForBatch));
    }
}

#[test]
fn results_that_cannot_be_stored_are_failures() {
    let mut one = One::started(2);
    one.know(&txs(0..2));
    let effects = one.propose(1, &txs(0..2));
    let run = execution(&effects);
    assert_eq!((run.mode, run.io_root), (ExecutionMode::EXECUTE, input_root(&txs(0..2)).unwrap()));
    let saving = one.step(Input::Executed { id: run.id, result: Some(result(b"s")) });
    let again = save(&mut one, &saving, false, true);
    let [Effect::Record { record, .. }] = &again[..] else { panic!("{again:?}") };
    assert_eq!((record.commitments.len(), record.commitments[0].header.failure.0), (1, 1));
    let signed = save(&mut one, &again, true, true);
    let [Effect::Commit(draft)] = &signed[..] else { panic!("{signed:?}") };
    assert_eq!(draft.header.failure, ExecutorCommitmentFailure::UNKNOWN);
    let commit = draft.clone().sign(&key(2), one.machine.setup()).unwrap();
    assert_eq!(commit.validate_basic(), Ok(()));
}

#[test]
fn own_transactions_leave_the_pool_with_their_block() {
    let mut one = One::started(2);
    one.pool.new_block(ms(0), 8);
    one.know(&txs(0..1));
    one.pool.poll(ms(0));
    let ok = wire_runtime::runtime::CheckTxResult { meta: Field::Is(Default::default()), ..Default::default() };
    one.pool.checked(ms(0), 0, crate::txpool::Checked::Results(vec![ok]));
    let id = execution(&one.propose(1, &txs(0..1))).id;
    let saving = one.step(Input::Executed { id, result: Some(result(b"s")) });
    assert_eq!(save(&mut one, &saving, true, true).len(), 1);
    let mut same = |kind, io: &[u8]| {
        let mut copy = One {
            pool: Pool::new(Config::default()),
            now: ms(0),
            machine: Machine::new(one.machine.setup().clone(), None),
        };
        std::mem::swap(&mut copy, &mut one);
        copy.step(Input::Round(round(|r| {
            r.block.header.round = 9;
            (r.block.header.header_type, r.block.header.io_root) = (kind, Hash::of(&[io]));
        })));
        copy.pool.sizes().main
    };
    assert_eq!(same(HeaderType::NORMAL, b"io"), 0);
}

#[test]
fn bad_proposals() {
    let mut one = One::started(2);
    let wrong_parent = one.proposal(1, &txs(0..1), |h| h.previous_hash = Hash::EMPTY);
    one.gossip(1, &wrong_parent);
    assert_eq!((one.at(1), one.machine.state()), (vec![], StateName::WaitingForBatch));
    assert_eq!(execution(&one.at(2000)).mode, ExecutionMode::SCHEDULE, "it goes on as if there were none");

    let mut one = One::started(2);
    one.know(&txs(0..1));
    let wrong_root = one.proposal(1, &txs(0..1), |h| h.batch_hash = Hash::EMPTY);
    one.gossip(1, &wrong_root);
    assert_eq!(one.at(1), []);

    for (count, size) in [(4u8, 1usize), (3, 40)] {
        let batch: Vec<Tx> = (0..count).map(|n| Tx::new(vec![n; size])).collect();
        let mut one = One::started(2);
        one.know(&batch);
        let effects = one.propose(1, &batch);
        let [Effect::Record { .. }] = &effects[..] else { panic!("{effects:?}") };
        let signed = save(&mut one, &effects, true, true);
        assert!(matches!(&signed[..], [Effect::Commit(c)] if c.header.failure == ExecutorCommitmentFailure::UNKNOWN));
        assert_eq!(one.at(1999), []);
    }
}

#[test]
fn missing_transactions_are_fetched() {
    let batch = txs(0..3);
    let mut one = One::started(2);
    one.know(&batch[..1]);
    let effects = one.propose(1, &batch);
    let [Effect::Fetch { id, hashes }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((hashes.len(), one.machine.state()), (2, StateName::WaitingForTxs));
    assert_eq!(one.step(Input::Transactions(vec![batch[2].clone(), Tx::new(vec![99])])), []);
    let effects = one.step(Input::Transactions(vec![batch[1].clone()]));
    let [stop, Effect::Execute(run)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((stop, &run.inputs), (&Effect::StopFetch { id: *id }, &batch));

    // Too large only when all is there; and a round that ends.
    let large: Vec<Tx> = (0..3u8).map(|n| Tx::new(vec![n; 40])).collect();
    let mut one = One::started(2);
    let effects = one.propose(1, &large);
    let [Effect::Fetch { id, .. }] = &effects[..] else { panic!("{effects:?}") };
    let effects = one.step(Input::Transactions(large));
    assert!(matches!(&effects[..], [Effect::StopFetch { id: i }, Effect::Record { .. }] if i == id), "{effects:?}");
    let mut one = One::started(2);
    one.propose(1, &batch);
    let effects = one.step(Input::Round(round(|r| r.block.header.round = 9)));
    assert!(matches!(&effects[..], [Effect::StopFetch { .. }]));
}

#[test]
fn better_proposals_win_and_the_runtime_is_not_asked_twice() {
    let mut one = One::started(3);
    one.know(&txs(0..2));
    one.propose(2, &txs(0..1));
    let first = execution(&one.at(2000)).id;
    assert_eq!(one.propose(1, &txs(0..2)), [], "the runtime is busy");
    assert_eq!(one.machine.state(), StateName::ProcessingBatch);
    let effects = one.step(Input::Executed { id: first, result: Some(result(b"s")) });
    assert_eq!(execution(&effects).inputs.len(), 2, "the first result is not wanted any more");
    assert_eq!(one.step(Input::Executed { id: first, result: None }), []);
}

#[test]
fn broken_runtimes() {
    let mut one = One::started(1);
    let id = execution(&one.at(1000)).id;
    assert_eq!(one.step(Input::Executed { id, result: None }), []);
    assert_eq!(one.machine.next_wakeup(one.now), Some(ms(1100)));
    let id = execution(&one.at(1100)).id;
    let mut short = result(b"s");
    short.batch.header.io_root = None;
    assert_eq!(one.step(Input::Executed { id, result: Some(short) }), [], "no result at all");
    let id = execution(&one.at(1200)).id;
    assert_eq!(one.at(7199), []);
    assert_eq!(one.at(7200), [Effect::AbortRuntime], "three times the timeout");
    assert_eq!(one.step(Input::Executed { id, result: Some(result(b"s")) }), [], "too late");
    assert_eq!(one.at(7300).len(), 1);
}

#[test]
fn backup_workers_wait_for_discrepancies() {
    let batch = txs(0..1);
    let mut one = One::started(4);
    one.know(&batch);
    assert_eq!(one.propose(1, &batch), []);
    assert_eq!((one.machine.state(), one.machine.rank()), (StateName::WaitingForEvent, NO_RANK));
    for other in [10, 8] {
        assert_eq!(one.step(Input::Discrepancy { height: 80, round: other, rank: 0 }), []);
    }
    let effects = one.step(Input::Discrepancy { height: 80, round: 9, rank: 0 });
    assert!(matches!(&effects[..], [Effect::SyncRuntime { height: 80 }, Effect::Execute(_)]), "{effects:?}");

    // Another rank than the one it waited with.
    let mut one = One::started(4);
    one.know(&batch);
    one.propose(1, &batch);
    let effects = one.step(Input::Discrepancy { height: 80, round: 9, rank: 1 });
    assert_eq!(effects, [Effect::SyncRuntime { height: 80 }]);
    assert_eq!(one.machine.state(), StateName::WaitingForBatch);
    let effects = one.propose(2, &batch);
    assert_eq!(execution(&effects).inputs, batch, "whatever its turn");

    // A worker that is no backup worker has nothing to do with it.
    let mut one = One::started(1);
    let effects = one.step(Input::Discrepancy { height: 80, round: 9, rank: 1 });
    assert_eq!(effects, [Effect::SyncRuntime { height: 80 }]);
    assert_eq!(one.propose(2, &batch), []);
}

#[test]
fn discrepancies_are_predicted() {
    let batch = txs(0..1);
    let mut one = One::started(4);
    one.know(&batch);
    one.propose(1, &batch);
    let commit = one.commitment(1, 1, b"one");
    assert_eq!(one.step(Input::Observed(commit)), []);
    let commit = one.commitment(2, 1, b"two");
    let effects = one.step(Input::Observed(commit));
    assert!(matches!(&effects[..], [Effect::SyncRuntime { height: 77 }, Effect::Execute(_)]), "{effects:?}");
    // What the consensus layer says replaces it.
    let effects = one.step(Input::Discrepancy { height: 80, round: 9, rank: 1 });
    assert_eq!(effects, [Effect::SyncRuntime { height: 80 }]);
    assert_eq!(one.machine.state(), StateName::WaitingForBatch);
    one.step(Input::Discrepancy { height: 81, round: 9, rank: 2 });
    let effects = one.propose(2, &batch);
    assert_eq!(effects, [], "but once only, and the runtime is busy");
    assert_eq!(one.machine.state(), StateName::ProcessingBatch);
}

#[test]
fn two_commitments_of_one_node_are_evidence() {
    let mut one = One::started(2);
    let (a, b) = (one.commitment(3, 1, b"a"), one.commitment(3, 1, b"b"));
    let other = one.commitment(3, 3, b"b");
    for commit in [&a, &a, &other] {
        assert_eq!(one.step(Input::Observed(commit.clone())), []);
    }
    let effects = one.step(Input::Committed(b.clone()));
    let [Effect::SubmitEvidence(e)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(e.validate_basic(&one.machine.verifier()), Ok(()));
    assert_eq!(one.step(Input::Observed(b)), [], "once");

    // Where it is not punished there is no point in it.
    let mut one = One::new(2, None);
    one.step(Input::Round(round(|r| r.descriptor.staking.slashing.clear())));
    for state in [b"a", b"b"] {
        let commit = one.commitment(3, 1, state);
        assert_eq!(one.step(Input::Observed(commit)), []);
    }
}

#[test]
fn a_restarted_node_stands_by_its_record() {
    let mut one = One::started(1);
    let id = execution(&one.at(1000)).id;
    let saving = one.step(Input::Executed { id, result: Some(result(b"s")) });
    let Effect::Record { record, .. } = &saving[0] else { panic!("{saving:?}") };
    let bytes = base_codec::cbor::to_vec(&**record);
    // The form on disk.
    assert_eq!(Hash::of(&[&bytes]).to_string(), "b7d5aae356be8a269e00d23de3a194681fcdbdde17a24bb8a50185bb02affcb8");
    let record: Record = base_codec::cbor::from_slice(&bytes).unwrap();

    let restart = |record: &Record| {
        let mut one = One::new(1, Some(record.clone()));
        one.step(Input::Runtime(Some(RuntimeInfo { initial_batch_size: 10 })));
        one
    };
    for ok in [true, false] {
        let mut one = restart(&record);
        let effects = one.step(Input::Round(round(|_| ())));
        let [Effect::FindRoots { id, round: 9, .. }, Effect::Propose(p)] = &effects[..] else { panic!("{effects:?}") };
        assert_eq!(ProposalRecord { header: p.header.clone(), batch: p.batch.clone() }, record.proposals[0]);
        let effects = one.step(Input::Stored { id: *id, ok });
        assert_eq!(effects.len(), usize::from(ok), "without the state there is nothing to commit to");
        assert_eq!(one.at(30_000), [], "nothing else of this rank in either case");
    }
    let mut later = restart(&record);
    assert_eq!(later.step(Input::Round(round(|r| r.block.header.round = 9))), []);
    assert_eq!(later.at(30_000).len(), 1, "another round is another matter");
    // Rounds before that of the record: what was signed for them is not known any more.
    let mut earlier = restart(&record);
    earlier.step(Input::Round(round(|r| r.block.header.round = 7)));
    assert_eq!((earlier.at(30_000), earlier.machine.round()), (vec![], None));
    // Other runtimes' and networks' records count for nothing.
    for change in [|r: &mut Record| r.runtime_id = Namespace::default(), |r: &mut Record| r.chain.clear()] {
        let mut strange = record.clone();
        change(&mut strange);
        let mut one = restart(&strange);
        assert_eq!(one.step(Input::Round(round(|_| ()))), []);
        assert_eq!(one.at(1000).len(), 1);
    }
}
