//! Tables for what recorded chains do not reach: late and wrong commitments, discrepancies, penalties, queues.

use apps_core::{GasMeter, Mode, Result};
use base_crypto::ed25519::SecretKey;
use base_prims::{Address, Hash, Namespace, PublicKey, Quantity};
use comet_chain::app::Event;
use wire_consensus::{
    errors::{commitment as ccodes, roothash as codes},
    node::Node,
    registry::{FREEZE_FOREVER, NodeStatus, Runtime, RuntimeGovernanceModel, RuntimeKind},
    roothash::{message::*, *},
    scheduler::{Committee, CommitteeKind, CommitteeNode, Role},
    staking::{self, Slash, SlashReason, Transfer},
};

use super::{epoch, finalize, genesis, liveness, messages, query, state, tx};
use crate::{
    registry,
    testing::{Sink, World, kinds},
};

fn key(i: u8) -> SecretKey {
    SecretKey::from_seed(&[i; 32])
}

fn id(i: u8) -> PublicKey {
    PublicKey::new(key(i).public())
}

/// The entity of node `i`.
fn entity(i: u8) -> PublicKey {
    PublicKey::new([100 + i; 32])
}

fn runtime_id() -> Namespace {
    "8000000000000000000000000000000000000000000000000000000000000001".parse().unwrap()
}

fn q(n: u64) -> Quantity {
    Quantity::from(n)
}

const TIMEOUT: i64 = 10;

fn runtime() -> Runtime {
    let mut rt = Runtime {
        v: 3,
        id: runtime_id(),
        entity_id: entity(1),
        kind: RuntimeKind::COMPUTE,
        governance_model: RuntimeGovernanceModel::ENTITY,
        ..Runtime::default()
    };
    rt.executor.round_timeout = TIMEOUT;
    rt.executor.max_messages = 8;
    rt.txn_scheduler.max_in_messages = 2;
    rt.staking.min_in_message_fee = q(5);
    let slash = |amount| Slash { amount: q(amount), freeze_interval: 3 };
    rt.staking.slashing = [
        (SlashReason::RUNTIME_INCORRECT_RESULTS, slash(1000)),
        (SlashReason::RUNTIME_EQUIVOCATION, slash(300)),
        (SlashReason::RUNTIME_LIVENESS, slash(7)),
    ]
    .into();
    rt.staking.reward_slash_bad_results_runtime_percent = 10;
    rt.staking.reward_slash_equivocation_runtime_percent = 50;
    rt
}

/// Workers 1 to 4 and backup workers 4 to 6; in round 10 worker 3 is first in line, then 4, 1 and 2.
fn committee() -> Committee {
    let member = |role| move |i| CommitteeNode { role, public_key: id(i) };
    let members = (1..=4).map(member(Role::WORKER)).chain((4..=6).map(member(Role::BACKUP_WORKER)));
    Committee {
        kind: CommitteeKind::COMPUTE_EXECUTOR,
        members: Some(members.collect()),
        runtime_id: runtime_id(),
        valid_for: 5,
    }
}

/// A runtime at round 9 with committee and fresh pool; nodes 1 to 6 with an entity and 10000 tokens in escrow each.
fn world(change: impl FnOnce(&mut RuntimeState)) -> World {
    let mut world = World::new();
    world.services.push(Box::new(Sink { refuse: |m| matches!(m, apps_core::Message::RuntimeGovernance(_)) }));
    let params = Parameters {
        gas_costs: [("compute_commit".to_owned(), 11), ("evidence".to_owned(), 12), ("submit_msg".to_owned(), 13)]
            .into(),
        max_runtime_messages: 8,
        max_in_runtime_messages: 8,
        max_evidence_age: 5,
        max_past_roots_stored: 3,
        ..Parameters::default()
    };
    state::set_parameters(&mut world.state, &params).unwrap();
    world.put(&[0x56], &staking::Parameters::default());
    world.put(&[0x40], &wire_consensus::beacon::EpochTimeState { epoch: 5, height: 3 });
    for i in 1..=6 {
        add_node(&mut world, i);
        let mut account = staking::Account::default();
        account.escrow.active.balance = q(10_000);
        account.escrow.active.total_shares = q(10_000);
        apps_staking::state::set_account(&mut world.state, &Address::of_key(&entity(i)), &account).unwrap();
    }
    let mut block = Block::genesis(runtime_id(), 1);
    block.header.round = 9;
    let mut rt = RuntimeState {
        runtime: runtime(),
        genesis_block: block.clone(),
        last_block: block,
        committee: Some(committee()),
        commitment_pool: Some(Pool::new()),
        ..RuntimeState::default()
    };
    registry::state::set_runtime(&mut world.state, &rt.runtime, false).unwrap();
    change(&mut rt);
    state::set_runtime_state(&mut world.state, &rt).unwrap();
    world
}

fn add_node(world: &mut World, i: u8) {
    let node = Node { v: 3, id: id(i), entity_id: entity(i), expiration: 100, ..Node::default() };
    let signed = wire_consensus::node::MultiSignedNode {
        untrusted_raw_value: Some(base_codec::cbor::to_vec(&node).into()),
        signatures: None,
    };
    let key = apps_core::kv::Key::new(0x11).key_hash(&node.id);
    world.put(&key, &signed);
    registry::state::set_node_status(&mut world.state, &node.id, &NodeStatus::default()).unwrap();
}

fn rt_state(world: &World) -> RuntimeState {
    state::runtime_state(&world.state, &runtime_id()).unwrap().unwrap()
}

fn escrow(world: &World, i: u8) -> u64 {
    let account = apps_staking::state::account(&world.state, &Address::of_key(&entity(i))).unwrap();
    account.escrow.active.balance.to_u64().unwrap()
}

fn runtime_balance(world: &World) -> u64 {
    let account = apps_staking::state::account(&world.state, &Address::of_runtime(&runtime_id())).unwrap();
    account.general.balance.to_u64().unwrap()
}

fn results(world: &World) -> ComputeResultsHeader {
    let last = &rt_state(world).last_block.header;
    ComputeResultsHeader {
        round: last.round + 1,
        previous_hash: last.hash(),
        io_root: Some(Hash::of(&[b"io"])),
        state_root: Some(Hash::of(&[b"state"])),
        messages_hash: Some(Hash::EMPTY),
        in_messages_hash: Some(Hash::EMPTY),
        in_messages_count: 0,
    }
}

fn sign(
    world: &World,
    node: u8,
    scheduler: u8,
    results: ComputeResultsHeader,
    msgs: Vec<Message>,
) -> ExecutorCommitment {
    let header = ExecutorCommitmentHeader { scheduler_id: id(scheduler), header: results, ..Default::default() };
    ExecutorCommitment::signed(&key(node), &world.chain, &runtime_id(), header, msgs).unwrap()
}

fn good(world: &World, node: u8, scheduler: u8) -> ExecutorCommitment {
    sign(world, node, scheduler, results(world), vec![])
}

fn wrong(world: &World, node: u8, scheduler: u8) -> ExecutorCommitment {
    let results = ComputeResultsHeader { state_root: Some(Hash::of(&[b"wrong"])), ..results(world) };
    sign(world, node, scheduler, results, vec![])
}

fn failed(world: &World, node: u8, scheduler: u8) -> ExecutorCommitment {
    let mut header =
        ExecutorCommitmentHeader { scheduler_id: id(scheduler), header: results(world), ..Default::default() };
    header.set_failure(ExecutorCommitmentFailure::UNKNOWN);
    ExecutorCommitment::signed(&key(node), &world.chain, &runtime_id(), header, vec![]).unwrap()
}

/// A block with one transaction of these commitments, and its end.
fn block(world: &mut World, commits: Vec<ExecutorCommitment>) -> (Result<()>, Vec<Event>) {
    world.last_height += 1;
    world.run(Mode::DeliverTx, |ctx| {
        let body = ExecutorCommit { id: runtime_id(), commits: Some(commits) };
        let result = tx::executor_commit(ctx, &body);
        ctx.begin_phase(Mode::EndBlock);
        finalize::end_block(ctx).unwrap();
        result
    })
}

fn code(result: Result<()>) -> (&'static str, u32) {
    result.unwrap_err().code()
}

#[test]
fn all_commitments_are_taken_or_none() {
    let mut world = world(|_| {});
    let before = world.dump();
    let cases = [
        (vec![good(&world, 3, 3), good(&world, 3, 3)], (ccodes::MODULE, 6)),
        (vec![good(&world, 3, 3), good(&world, 7, 3)], (ccodes::MODULE, 5)),
        (vec![good(&world, 3, 3), good(&world, 1, 5)], (ccodes::MODULE, 11)),
        (vec![failed(&world, 3, 3)], (ccodes::MODULE, 11)),
        (vec![ExecutorCommitment { node_id: id(2), ..good(&world, 3, 3) }], ("unknown", 1)),
    ];
    for (commits, expected) in cases {
        let (result, events) = block(&mut world, commits);
        assert_eq!(code(result), expected);
        assert!(events.is_empty());
        assert_eq!(world.dump(), before);
    }
    assert_eq!(block(&mut world, vec![]).0, Ok(()), "an empty list is fine");
    assert_eq!(world.dump(), before);
}

#[test]
fn commitments_need_a_runtime_that_can_go_on() {
    type Change = fn(&mut RuntimeState);
    let cases: [(Change, u32); 3] =
        [(|rt| rt.suspended = true, 5), (|rt| rt.committee = None, 6), (|rt| rt.commitment_pool = None, 4)];
    for (change, expected) in cases {
        let mut world = world(change);
        let commits = vec![good(&world, 3, 3)];
        assert_eq!(code(block(&mut world, commits).0), (codes::MODULE, expected));
    }
    let mut world = World::new();
    state::set_parameters(&mut world.state, &Parameters::default()).unwrap();
    let body = ExecutorCommit { id: runtime_id(), commits: Some(vec![ExecutorCommitment::default()]) };
    assert_eq!(code(world.deliver(|ctx| tx::executor_commit(ctx, &body))), (codes::MODULE, 3));
}

#[test]
fn gas_is_charged_first_and_for_messages() {
    let mut world = world(|_| {});
    let msgs = vec![Message {
        staking: Some(StakingMessage { transfer: Some(Transfer::default()), ..StakingMessage::default() }),
        ..Message::default()
    }];
    let results = ComputeResultsHeader { messages_hash: Some(messages_hash(&msgs)), ..results(&world) };
    let commit = sign(&world, 3, 3, results, msgs);
    let body = ExecutorCommit { id: runtime_id(), commits: Some(vec![commit]) };
    let run = |world: &mut World, mode, limit| {
        world
            .run(mode, |ctx| {
                ctx.set_gas(GasMeter::limited(limit));
                (tx::executor_commit(ctx, &body).is_ok(), ctx.gas_used())
            })
            .0
    };
    let before = world.dump();
    assert_eq!(run(&mut world, Mode::CheckTx, 0), (true, 0));
    assert_eq!(run(&mut world, Mode::DeliverTx, 10), (false, 0));
    assert_eq!(run(&mut world, Mode::SimulateTx, 20), (true, 11));
    assert_eq!(world.dump(), before, "neither leaves anything behind, not even what the messages did");
    assert_eq!(run(&mut world, Mode::DeliverTx, 11), (true, 11));
    assert_eq!(world.get::<u64>(b"\xeeseen"), None);
    assert_eq!(rt_state(&world).commitment_pool.unwrap().highest_rank, 0);
}

#[test]
fn a_round_ends_when_all_agree() {
    let mut world = world(|_| {});
    let height = world.last_height + 2;
    let first = vec![good(&world, 3, 3), good(&world, 1, 3)];
    let (result, events) = block(&mut world, first);
    result.unwrap();
    // Events of the transaction went to its result already; waiting brings none.
    assert!(events.is_empty());
    let rt = rt_state(&world);
    assert_eq!((rt.last_block.header.round, rt.timeout), (9, height + TIMEOUT));
    assert_eq!(rt.liveness_stats, Some(LivenessStatistics::new(7)), "made by the first attempt");
    assert_eq!(state::timeouts_at(&world.state, height + TIMEOUT).unwrap(), [runtime_id()]);

    let rest = vec![good(&world, 2, 3), good(&world, 4, 3)];
    let (result, events) = block(&mut world, rest);
    result.unwrap();
    assert_eq!(kinds(&events), ["999_roothash/finalized"]);
    assert_eq!(events[0].attributes[1].key, "runtime_id");
    let rt = rt_state(&world);
    let header = &rt.last_block.header;
    assert_eq!((header.round, header.header_type, header.timestamp.0), (10, HeaderType::NORMAL, 1_700_000_000));
    assert_eq!((header.state_root, header.io_root), (Hash::of(&[b"state"]), Hash::of(&[b"io"])));
    assert_eq!((rt.last_normal_round, rt.last_normal_height, rt.last_block_height), (10, 13, 13));
    assert_eq!((rt.timeout, rt.commitment_pool), (TIMEOUT_NEVER, Some(Pool::new())));
    let stats = rt.liveness_stats.unwrap();
    assert_eq!((stats.total_rounds, stats.live_rounds), (1, vec![1, 1, 1, 1, 0, 0, 0]));
    assert_eq!((stats.finalized_proposals[2], stats.missed_proposals), (1, vec![0; 7]));
    assert!(state::timeouts_at(&world.state, height + TIMEOUT).unwrap().is_empty());
    let results = state::last_round_results(&world.state, &runtime_id()).unwrap();
    assert_eq!(results.good_compute_entities, [entity(1), entity(2), entity(3), entity(4)]);
    assert!(results.bad_compute_entities.is_empty() && results.messages.is_empty());
    assert_eq!(state::state_root(&world.state, &runtime_id()).unwrap(), Some(Hash::of(&[b"state"])));
    assert_eq!(state::io_root(&world.state, &runtime_id()).unwrap(), Some(Hash::of(&[b"io"])));
    // The round is over.
    let late = ExecutorCommitment { ..sign(&world, 1, 3, ComputeResultsHeader { round: 10, ..results_of(9) }, vec![]) };
    assert_eq!(code(block(&mut world, vec![late]).0), (ccodes::MODULE, 7));
}

fn results_of(round: u64) -> ComputeResultsHeader {
    let hash = Some(Hash::EMPTY);
    ComputeResultsHeader {
        round,
        io_root: hash,
        state_root: hash,
        messages_hash: hash,
        in_messages_hash: hash,
        ..ComputeResultsHeader::default()
    }
}

#[test]
fn a_better_scheduler_takes_over() {
    let mut world = world(|_| {});
    let commits = vec![good(&world, 4, 4)];
    block(&mut world, commits).0.unwrap();
    assert_eq!(rt_state(&world).timeout, 12 + TIMEOUT);
    let commits = vec![good(&world, 3, 3)];
    block(&mut world, commits).0.unwrap();
    let rt = rt_state(&world);
    assert_eq!((rt.timeout, rt.commitment_pool.unwrap().highest_rank), (13 + TIMEOUT, 0));
    assert!(state::timeouts_at(&world.state, 12 + TIMEOUT).unwrap().is_empty());
    // A vote does not move the timeout.
    let commits = vec![good(&world, 1, 3)];
    block(&mut world, commits).0.unwrap();
    assert_eq!(rt_state(&world).timeout, 13 + TIMEOUT);
    // When scheduler 4 of rank 1 brings the round to its end, 3 has missed its turn.
    let mut world = self::world(|_| {});
    let commits = (1..=4).map(|i| good(&world, i, 4)).rev().collect();
    block(&mut world, commits).0.unwrap();
    let stats = rt_state(&world).liveness_stats.unwrap();
    assert_eq!((stats.missed_proposals[2], stats.finalized_proposals), (1, vec![0; 7]));
}

#[test]
fn wrong_results_are_slashed_and_shared() {
    let mut world = world(|_| {});
    let commits = vec![good(&world, 3, 3), good(&world, 1, 3), wrong(&world, 2, 3), good(&world, 4, 3)];
    let (result, events) = block(&mut world, commits);
    result.unwrap();
    assert_eq!(kinds(&events), ["999_roothash/execution_discrepancy"]);
    let rt = rt_state(&world);
    assert!(rt.commitment_pool.as_ref().unwrap().discrepancy);
    assert_eq!(rt.timeout, 12 + 15, "backup workers get half as much time again");
    let commits = vec![good(&world, 1, 3)];
    assert_eq!(code(block(&mut world, commits).0), (ccodes::MODULE, 11), "workers had their chance");

    let commits = vec![good(&world, 5, 3), wrong(&world, 6, 3)];
    let (result, events) = block(&mut world, commits);
    result.unwrap();
    let rt = rt_state(&world);
    assert_eq!(rt.last_block.header.header_type, HeaderType::NORMAL);
    // Node 4 voted as worker; the vote counts for its place as backup worker too, and once in the statistics.
    assert_eq!(rt.liveness_stats.unwrap().live_rounds, [1, 0, 1, 1, 0, 1, 0]);
    let results = state::last_round_results(&world.state, &runtime_id()).unwrap();
    assert_eq!(results.good_compute_entities, [entity(1), entity(3), entity(4), entity(5)]);
    assert_eq!(results.bad_compute_entities, [entity(2), entity(6)]);
    // 2000 slashed: 200 to the runtime, 450 to each of the four.
    assert_eq!((escrow(&world, 2), escrow(&world, 6)), (9000, 9000));
    assert_eq!([1, 3, 4, 5].map(|i| escrow(&world, i)), [10_450; 4]);
    assert_eq!(runtime_balance(&world), 200);
    assert_eq!(kinds(&events).last().unwrap(), "999_roothash/finalized");
}

#[test]
fn timeouts_lead_to_discrepancy_and_then_to_failure() {
    let mut world = world(|_| {});
    let commits = vec![good(&world, 3, 3), good(&world, 1, 3)];
    block(&mut world, commits).0.unwrap();
    let end = |world: &mut World, height: i64| {
        world.last_height = height - 1;
        world.run(Mode::EndBlock, finalize::end_block).1
    };
    assert!(end(&mut world, 12 + TIMEOUT - 1).is_empty());
    let events = end(&mut world, 12 + TIMEOUT);
    assert_eq!(kinds(&events), ["999_roothash/execution_discrepancy"]);
    let next = 12 + TIMEOUT + 15;
    assert_eq!(rt_state(&world).timeout, next);
    let events = end(&mut world, next);
    assert_eq!(kinds(&events), ["999_roothash/finalized"]);
    let rt = rt_state(&world);
    let header = &rt.last_block.header;
    assert_eq!((header.round, header.header_type, header.state_root), (10, HeaderType::ROUND_FAILED, Hash::EMPTY));
    assert_eq!((rt.timeout, rt.last_normal_round), (TIMEOUT_NEVER, 0));
    let stats = rt.liveness_stats.unwrap();
    assert_eq!((stats.total_rounds, stats.missed_proposals), (0, vec![0, 0, 1, 0, 0, 0, 0]));
    assert_eq!(escrow(&world, 2), 10_000, "who does not answer is not slashed");
    assert!(end(&mut world, next).is_empty());
}

#[test]
fn a_timeout_of_no_blocks_ends_the_round_at_once() {
    let mut world = world(|rt| rt.runtime.executor.round_timeout = 0);
    let commits = vec![good(&world, 3, 3), wrong(&world, 1, 3)];
    block(&mut world, commits).0.unwrap();
    assert_eq!(rt_state(&world).last_block.header.header_type, HeaderType::ROUND_FAILED);
}

#[test]
fn nodes_without_stake_do_not_fail_the_round() {
    let mut world = world(|_| {});
    let account = staking::Account::default();
    apps_staking::state::set_account(&mut world.state, &Address::of_key(&entity(2)), &account).unwrap();
    let commits = vec![good(&world, 3, 3), wrong(&world, 2, 3), good(&world, 5, 3), good(&world, 6, 3)];
    block(&mut world, commits).0.unwrap();
    assert_eq!(rt_state(&world).last_block.header.header_type, HeaderType::NORMAL);
    assert_eq!(runtime_balance(&world), 0);
}

fn submit(world: &mut World, fee: u64, tokens: u64) -> Result<()> {
    let msg = SubmitMsg { id: runtime_id(), tag: 42, fee: q(fee), tokens: q(tokens), data: None };
    world.deliver(|ctx| tx::submit_msg(ctx, &msg))
}

#[test]
fn queued_messages_are_paid_and_processed() {
    let mut world = world(|_| {});
    world.signer = id(50);
    let mut account = staking::Account::default();
    account.general.balance = q(100);
    let sender = Address::of_key(&id(50));
    apps_staking::state::set_account(&mut world.state, &sender, &account).unwrap();
    assert_eq!(code(submit(&mut world, 4, 50)), (codes::MODULE, 12));
    assert_eq!(code(submit(&mut world, 5, 96)), ("staking", 3), "more than there is");
    submit(&mut world, 5, 10).unwrap();
    submit(&mut world, 6, 0).unwrap();
    let before = world.dump();
    assert_eq!(code(submit(&mut world, 5, 1)), (codes::MODULE, 11));
    assert_eq!(world.dump(), before, "the transfer is undone when the queue is full");
    assert_eq!(runtime_balance(&world), 21);
    let meta = state::queue_meta(&world.state, &runtime_id()).unwrap();
    assert_eq!((meta.size, meta.next_sequence_number), (2, 2));
    let queued = state::queue(&world.state, &runtime_id(), 0, 0).unwrap();
    assert_eq!((queued.len(), queued[0].tag, queued[1].id), (2, 42, 1));
    assert_eq!(state::queue(&world.state, &runtime_id(), 1, 0).unwrap(), queued[1..]);
    assert_eq!(state::queue(&world.state, &runtime_id(), 0, 1).unwrap(), queued[..1]);

    // Everyone claims to have processed other messages than those that wait: the round fails, its counters stay.
    let lie = ComputeResultsHeader { in_messages_count: 2, ..results(&world) };
    let commits = [3, 1, 2, 4].map(|i| sign(&world, i, 3, lie.clone(), vec![])).to_vec();
    block(&mut world, commits).0.unwrap();
    let rt = rt_state(&world);
    assert_eq!(rt.last_block.header.header_type, HeaderType::ROUND_FAILED);
    let stats = rt.liveness_stats.unwrap();
    assert_eq!((stats.total_rounds, stats.finalized_proposals[2], stats.missed_proposals[2]), (1, 1, 1));
    assert_eq!(state::queue_meta(&world.state, &runtime_id()).unwrap().size, 2);

    // In round 11 worker 2 is first.
    let hash = in_messages_hash(&queued[..1]);
    let one = ComputeResultsHeader { in_messages_count: 1, in_messages_hash: Some(hash), ..results(&world) };
    let commits = [2, 1, 3, 4].map(|i| sign(&world, i, 2, one.clone(), vec![])).to_vec();
    let (result, events) = block(&mut world, commits);
    result.unwrap();
    assert_eq!(kinds(&events), ["999_roothash/in_msg_processed", "999_roothash/finalized"]);
    let meta = state::queue_meta(&world.state, &runtime_id()).unwrap();
    assert_eq!((meta.size, meta.next_sequence_number), (1, 2));
    assert_eq!(query::incoming_message_queue(&world.state, &runtime_id(), 0, 0).unwrap(), queued[1..]);

    let mut closed = self::world(|rt| rt.runtime.txn_scheduler.max_in_messages = 0);
    assert_eq!(code(submit(&mut closed, 0, 0)), (codes::MODULE, 11), "before anything else");
}

#[test]
fn messages_that_fail_stop_nothing() {
    let mut world = world(|_| {});
    let transfer = Message {
        staking: Some(StakingMessage { transfer: Some(Transfer::default()), ..StakingMessage::default() }),
        ..Message::default()
    };
    let vote = Message { governance: Some(GovernanceMessage::default()), ..Message::default() };
    let msgs = [transfer.clone(), vote, Message::default(), transfer];
    let run = |world: &mut World, mode| {
        world
            .run(mode, |ctx| {
                ctx.set_gas(GasMeter::limited(0));
                messages::deliver(ctx, &runtime_id(), &msgs)
            })
            .0
            .unwrap()
    };
    let before = world.dump();
    run(&mut world, Mode::SimulateTx);
    assert_eq!(world.dump(), before);
    let results = run(&mut world, Mode::EndBlock);
    let codes: Vec<_> = results.iter().map(|r| (r.index, r.module.as_str(), r.code)).collect();
    assert_eq!(codes, [(0, "", 0), (1, "unknown", 1), (2, codes::MODULE, 1), (3, "", 0)]);
    assert!(results.iter().all(|r| r.result.0 == [0xf6]));
    assert_eq!(world.get::<u64>(b"\xeeseen"), Some(3), "what a failed message did stays");
}

fn evidence(world: &World, node: u8, round: u64) -> Evidence {
    let a = sign(world, node, 3, results_of(round), vec![]);
    let b = sign(world, node, 3, ComputeResultsHeader { io_root: Some(Hash::default()), ..results_of(round) }, vec![]);
    let pair = EquivocationExecutorEvidence { commit_a: a, commit_b: b };
    Evidence { id: runtime_id(), equivocation_executor: Some(pair), equivocation_proposal: None }
}

#[test]
fn equivocation_is_slashed_once() {
    let mut world = world(|_| {});
    let send = |world: &mut World, e: &Evidence| world.deliver(|ctx| tx::submit_evidence(ctx, e));
    let (good, old, unknown) = (evidence(&world, 2, 4), evidence(&world, 2, 3), evidence(&world, 60, 9));
    assert_eq!(code(send(&mut world, &Evidence::default())), (codes::MODULE, 10));
    assert_eq!(code(send(&mut world, &old)), (codes::MODULE, 10));
    // A node submits: its entity gets the other half of 300.
    world.signer = id(5);
    send(&mut world, &good).unwrap();
    assert_eq!((escrow(&world, 2), escrow(&world, 5), runtime_balance(&world)), (9700, 10_150, 150));
    assert_eq!(code(send(&mut world, &good)), (codes::MODULE, 9));
    // Someone else submits evidence of another round.
    world.signer = id(70);
    let other = evidence(&world, 2, 5);
    send(&mut world, &other).unwrap();
    let account = apps_staking::state::account(&world.state, &Address::of_key(&id(70))).unwrap();
    assert_eq!(account.escrow.active.balance, q(150));
    // Evidence about a stranger fails, and is remembered.
    assert_eq!(code(send(&mut world, &unknown)), (codes::MODULE, 10));
    assert_eq!(code(send(&mut world, &unknown)), (codes::MODULE, 9));

    let mut lenient = self::world(|rt| {
        rt.runtime.staking.slashing.remove(&SlashReason::RUNTIME_EQUIVOCATION);
    });
    assert_eq!(code(send(&mut lenient, &good)), (codes::MODULE, 8));
    let mut free = self::world(|rt| {
        rt.runtime.staking.slashing.insert(SlashReason::RUNTIME_EQUIVOCATION, Slash::default());
    });
    assert_eq!(code(send(&mut free, &good)), (codes::MODULE, 8));
}

#[test]
fn liveness_decides_over_suspension() {
    // Good rounds, finalized and missed proposals of node 1 in 20 rounds; failures before; what comes of it.
    let cases = [
        ("live", 18, 5, 0, 0, None),
        ("just live", 18, 0, 0, 0, None),
        ("not live", 17, 5, 0, 0, Some((1, 7))),
        ("again", 17, 5, 0, 1, Some((2, 9))),
        ("better", 18, 5, 0, 2, Some((1, 7))),
        ("recovered", 18, 5, 0, 1, None),
        ("missed half", 20, 5, 5, 0, None),
        ("missed more", 20, 5, 6, 0, Some((1, 7))),
        ("missed the only one", 20, 0, 1, 0, Some((1, 7))),
    ];
    for (name, live, finalized, missed, failures, expected) in cases {
        let mut world = world(|rt| {
            rt.runtime.executor.min_live_rounds_percent = 90;
            rt.runtime.executor.max_missed_proposals_percent = 50;
            let mut stats = LivenessStatistics::new(7);
            stats.total_rounds = 20;
            stats.live_rounds = vec![live, 20, 20, 20, 0, 0, 0];
            stats.finalized_proposals[0] = finalized;
            stats.missed_proposals[0] = missed;
            rt.liveness_stats = Some(stats);
        });
        let mut status = NodeStatus::default();
        if failures > 0 {
            status.faults.entry(runtime_id()).or_default().failures = failures;
        }
        registry::state::set_node_status(&mut world.state, &id(1), &status).unwrap();
        world.run(Mode::BeginBlock, |ctx| liveness::before_schedule(ctx, 5)).0.unwrap();
        let status = registry::state::node_status(&world.state, &id(1)).unwrap();
        let fault = status.faults.get(&runtime_id()).map(|f| (f.failures, f.suspended_until));
        assert_eq!(fault, expected, "{name}");
        assert!(!status.is_frozen() && escrow(&world, 1) == 10_000, "{name}");
    }
}

#[test]
fn too_many_failures_freeze_and_slash() {
    let run = |epoch, total, eval, before: NodeStatus, interval| {
        let mut world = world(|rt| {
            rt.runtime.executor.min_live_rounds_percent = 90;
            rt.runtime.executor.min_live_rounds_for_evaluation = eval;
            rt.runtime.executor.max_liveness_failures = 3;
            rt.runtime.staking.slashing.get_mut(&SlashReason::RUNTIME_LIVENESS).unwrap().freeze_interval = interval;
            let mut stats = LivenessStatistics::new(7);
            stats.total_rounds = total;
            stats.live_rounds = vec![0, total, total, total, 0, 0, 0];
            rt.liveness_stats = Some(stats);
        });
        registry::state::set_node_status(&mut world.state, &id(1), &before).unwrap();
        world.run(Mode::BeginBlock, |ctx| liveness::before_schedule(ctx, epoch)).0.unwrap();
        let status = registry::state::node_status(&world.state, &id(1)).unwrap();
        let failures = status.faults.get(&runtime_id()).map_or(0, |f| f.failures);
        (failures, status.freeze_end_time, 10_000 - escrow(&world, 1))
    };
    let with = |failures, suspended_until| {
        let mut status = NodeStatus::default();
        let fault = status.faults.entry(runtime_id()).or_default();
        (fault.failures, fault.suspended_until) = (failures, suspended_until);
        status
    };
    assert_eq!(run(5, 20, 20, with(1, 0), 3), (2, 0, 0));
    assert_eq!(run(5, 20, 20, with(2, 0), 3), (3, 8, 7));
    assert_eq!(run(5, 20, 20, with(2, 0), 0), (3, 5, 7), "frozen even without an interval");
    assert_eq!(run(5, 20, 20, with(2, 0), FREEZE_FOREVER), (3, FREEZE_FOREVER, 7));
    assert_eq!(run(5, 20, 21, with(2, 0), 3), (2, 0, 0), "too few rounds to judge");
    assert_eq!(run(5, 0, 0, with(2, 0), 3), (2, 0, 0), "no rounds");
    assert_eq!(run(5, 20, 20, with(2, 6), 3), (2, 0, 0), "suspended nodes are not judged");
    let frozen = NodeStatus { freeze_end_time: 1, ..with(2, 0) };
    assert_eq!(run(5, 20, 20, frozen, 3), (2, 1, 0), "nor frozen ones");
    // Suspensions double up to 64 epochs.
    let spans: Vec<_> = (0..9)
        .map(|n| {
            let mut status = with(n, 0);
            liveness::record_failure(&mut status, &runtime_id(), 100);
            status.faults[&runtime_id()].suspended_until - 100
        })
        .collect();
    assert_eq!(spans, [2, 4, 8, 16, 32, 64, 64, 64, 64]);
}

fn new_epoch(world: &mut World) -> (Result<()>, Vec<Event>) {
    world.run(Mode::BeginBlock, |ctx| {
        apps_core::kv::put(
            &mut ctx.state(),
            &[0x40],
            &wire_consensus::beacon::EpochTimeState { epoch: 6, height: 11 },
        )?;
        epoch::begin_block(ctx)
    })
}

#[test]
fn new_epochs_bring_new_committees_or_suspension() {
    let mut world = world(|rt| {
        rt.liveness_stats = Some(LivenessStatistics::new(7));
        rt.timeout = 20;
    });
    state::schedule_timeout(&mut world.state, &runtime_id(), 20).unwrap();
    for round in [3, 4, 9] {
        state::set_evidence(&mut world.state, &runtime_id(), round, &Hash::EMPTY).unwrap();
    }
    let mut next = committee();
    next.valid_for = 6;
    crate::scheduler::state::set_committee(&mut world.state, &next).unwrap();
    let (result, events) = new_epoch(&mut world);
    result.unwrap();
    assert_eq!(kinds(&events), ["999_roothash/finalized"]);
    let rt = rt_state(&world);
    assert_eq!(rt.last_block.header.header_type, HeaderType::EPOCH_TRANSITION);
    assert_eq!((rt.committee, rt.liveness_stats, rt.timeout), (Some(next), None, TIMEOUT_NEVER));
    assert_eq!(rt.commitment_pool, Some(Pool::new()));
    assert!(state::timeouts_at(&world.state, 20).unwrap().is_empty());
    let left = [3, 4, 9].map(|r| state::has_evidence(&world.state, &runtime_id(), r, &Hash::EMPTY).unwrap());
    assert_eq!(left, [false, true, true], "rounds before 9 - 5 are forgotten");

    // Stake: the owner claims more than it has.
    let owner = Address::of_key(&entity(1));
    let mut account = apps_staking::state::account(&world.state, &owner).unwrap();
    let threshold = staking::StakeThreshold { constant: Some(q(20_000)), ..staking::StakeThreshold::default() };
    account.escrow.stake_accumulator.claims.insert("claim".into(), Some(vec![threshold]));
    apps_staking::state::set_account(&mut world.state, &owner, &account).unwrap();
    world.put(&[0x40], &wire_consensus::beacon::EpochTimeState { epoch: 5, height: 3 });
    let (result, events) = new_epoch(&mut world);
    result.unwrap();
    assert_eq!(kinds(&events), ["200_registry/runtime_suspended", "999_roothash/finalized"]);
    let rt = rt_state(&world);
    assert_eq!(rt.last_block.header.header_type, HeaderType::SUSPENDED);
    assert!(rt.suspended && rt.committee.is_none() && rt.commitment_pool.is_none());
    assert!(registry::state::suspended_runtime(&world.state, &runtime_id()).unwrap().is_some());

    // No committee.
    let mut world = self::world(|_| {});
    new_epoch(&mut world).0.unwrap();
    assert!(rt_state(&world).suspended);
    // No new epoch and no election: nothing.
    let mut world = self::world(|_| {});
    let before = world.dump();
    world.run(Mode::BeginBlock, epoch::begin_block).0.unwrap();
    assert_eq!(world.dump(), before);
}

#[test]
fn new_runtimes_get_a_genesis_block() {
    let mut world = World::new();
    state::set_parameters(&mut world.state, &Parameters::default()).unwrap();
    let mut rt = runtime();
    rt.genesis.round = 5;
    rt.genesis.state_root = Hash::of(&[b"start"]);
    let (result, events) = world.run(Mode::DeliverTx, |ctx| genesis::new_runtime(ctx, &rt, None));
    result.unwrap();
    assert_eq!(kinds(&events), ["999_roothash/finalized"]);
    let made = rt_state(&world);
    let header = &made.last_block.header;
    assert_eq!((header.round, header.header_type, header.state_root), (5, HeaderType::NORMAL, rt.genesis.state_root));
    assert!(made.suspended && made.commitment_pool.is_none() && made.genesis_block == made.last_block);
    // A second time nothing happens, nor for key managers.
    rt.genesis.round = 6;
    assert!(world.run(Mode::DeliverTx, |ctx| genesis::new_runtime(ctx, &rt, None)).1.is_empty());
    let manager = Runtime { id: Namespace::ZERO, kind: RuntimeKind::KEY_MANAGER, ..runtime() };
    assert!(world.run(Mode::DeliverTx, |ctx| genesis::new_runtime(ctx, &manager, None)).1.is_empty());

    let exported = query::genesis(&world.state).unwrap();
    assert_eq!(exported.runtime_states[&runtime_id()].genesis.round, 5);
    let mut doc = exported.clone();
    let continued = doc.runtime_states.get_mut(&runtime_id()).unwrap();
    continued.genesis.round = 77;
    continued.message_results = vec![MessageEvent { code: 1, ..MessageEvent::default() }];
    let mut world = World::new();
    registry::state::set_runtime(&mut world.state, &runtime(), true).unwrap();
    world.run(Mode::InitChain, |ctx| genesis::init_chain(ctx, &doc)).0.unwrap();
    let header = rt_state(&world).last_block.header;
    assert_eq!((header.round, header.header_type), (77, HeaderType::SUSPENDED));
    assert_eq!(query::genesis(&world.state).unwrap(), doc, "what goes in comes out");
}

#[test]
fn only_the_newest_roots_are_kept() {
    let mut world = world(|_| {});
    let mut rt = rt_state(&world);
    for round in 10..15 {
        rt.last_block.header.round = round;
        state::set_runtime_state(&mut world.state, &rt).unwrap();
    }
    let rounds = |world: &World| -> Vec<u64> {
        query::past_round_roots(&world.state, &runtime_id()).unwrap().into_keys().collect()
    };
    assert_eq!(rounds(&world), [12, 13, 14]);
    let changes = ParameterChanges { max_past_roots_stored: Some(1), ..ParameterChanges::default() };
    let raw = base_codec::Raw::of(&changes);
    let mut send = |message| world.run(Mode::EndBlock, |ctx| messages::execute(ctx, &message)).0;
    send(apps_core::Message::ValidateParameterChanges { module: MODULE, changes: &raw }).unwrap();
    send(apps_core::Message::ChangeParameters { module: MODULE, changes: &raw }).unwrap();
    assert_eq!(rounds(&world), [14]);
    assert_eq!(state::parameters(&world.state).unwrap().max_past_roots_stored, 1);
    assert!(query::round_roots(&world.state, &runtime_id(), 14).unwrap().is_some());
}
