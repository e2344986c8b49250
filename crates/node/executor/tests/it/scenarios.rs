//! What committees go through.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base_codec::cbor;
use base_crypto::ed25519::SecretKey;
use base_prims::Hash;
use node_executor::{CommitteeState, SubmitError, WorkerState};
use node_workers::Chain;
use p2p_net::api::Validation;
use p2p_net::ids;
use rt_executor::messages::{CommitteeMessage, TxMessage};
use rt_executor::txpool;
use rt_host::RuntimeHost;
use rt_host::services::Scheduling;
use wire_consensus::roothash::{Proposal, ProposalHeader};

use crate::world::{FAILING, HANGING, NORMAL, Shape, World, runtime_id};

fn tx(n: usize) -> Vec<u8> {
    format!("transaction {n}").into_bytes()
}

/// Submits transactions through nodes in turn.
async fn submit(world: &World, through: &[usize], range: std::ops::Range<usize>) {
    for n in range {
        let node = &world.nodes[through[n % through.len()]];
        let result = node.executor().submit(tx(n)).await.expect("checked");
        assert!(result.error.is_success(), "{:?}", result.error);
    }
}

/// Waits until transactions are in blocks, and a little longer: each must be there once.
async fn all_once(world: &World, range: std::ops::Range<usize>, seconds: u64) {
    let wanted: BTreeMap<Vec<u8>, u64> = range.map(|n| (tx(n), 1)).collect();
    let there = |world: &World| {
        let included = world.included();
        wanted.keys().all(|tx| included.contains_key(tx))
    };
    world.until("all transactions are in blocks", seconds, there).await;
    let round = world.round();
    world.until("two more rounds", 20, |world| world.round() > round + 1 || world.nodes.len() < 3).await;
    assert_eq!(world.included(), wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_committee_and_a_client_execute_everything_once() {
    let world = World::start(Shape { workers: 3, clients: 1, stragglers: 0, epoch_blocks: 0, ledger: false }).await;
    submit(&world, &[0, 1, 2, 3], 0..40).await;
    all_once(&world, 0..40, 40).await;
    // The client's own checks.
    let client = world.nodes[3].executor();
    let refused = client.submit(b"bad one".to_vec()).await.expect("checked");
    assert_eq!((refused.error.module.as_str(), refused.error.code), ("test", 1));
    assert!(client.check(b"just asking".to_vec()).await.expect("checked").error.is_success());
    assert_eq!(client.submit(tx(0)).await, Err(SubmitError::Refused(txpool::SubmitError::Duplicate)));
    world.until("pools are empty", 10, |w| w.nodes.iter().all(|n| n.executor().unconfirmed().is_empty())).await;

    let status = world.nodes[0].executor().status();
    assert_eq!(status.committee.status, CommitteeState::READY);
    assert_eq!(status.executor.map(|e| e.status), Some(WorkerState::READY));
    assert_eq!((status.committee.executor_roles.0.len(), status.committee.scheduler_rank < 3), (2, true));
    assert_eq!(status.committee.peers.map(|p| p.len()), Some(3));
    assert!(status.committee.latest_round > 0 && status.committee.liveness.is_some_and(|l| l.live_rounds > 0));
    let status = client.status();
    assert_eq!((status.executor, status.committee.status), (None, CommitteeState::READY));
    assert!(*client.ready().borrow() && *world.nodes[0].executor().ready().borrow());
    let normal = world.chain.runtime_state(0).last_normal_round;
    assert!(client.may_prune(normal).is_err() && client.may_prune(0).is_ok());
    assert!(client.more_transactions(None, 10).is_ok_and(|batch| batch.is_empty()));
    assert_eq!(world.chain.discrepancies(), 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn epochs_change_while_transactions_wait() {
    let world = World::start(Shape { workers: 3, clients: 0, stragglers: 0, epoch_blocks: 15, ledger: false }).await;
    for part in 0..4 {
        submit(&world, &[0, 1, 2], part * 10..(part + 1) * 10).await;
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    all_once(&world, 0..40, 40).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_that_fails_or_hangs_stops_nobody_else_and_recovers() {
    let world = World::start(Shape { workers: 3, clients: 0, stragglers: 1, epoch_blocks: 0, ledger: false }).await;
    let broken = &world.nodes[1];
    broken.host.behaviour.store(FAILING, Ordering::Relaxed);
    submit(&world, &[0, 2], 0..10).await;
    all_once(&world, 0..10, 60).await;
    let while_failing = world.chain.commits(&broken.id);

    broken.host.behaviour.store(HANGING, Ordering::Relaxed);
    submit(&world, &[0, 2], 10..20).await;
    all_once(&world, 0..20, 60).await;
    world.until("the runtime that hangs is aborted", 20, |_| broken.host.aborts.load(Ordering::Relaxed) > 0).await;
    assert_eq!(world.chain.commits(&broken.id), while_failing, "nothing is committed to without a result");

    broken.host.behaviour.store(NORMAL, Ordering::Relaxed);
    submit(&world, &[0, 1, 2], 20..30).await;
    all_once(&world, 0..30, 60).await;
    let mut more = 30;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(40);
    while world.chain.commits(&broken.id) == while_failing {
        assert!(tokio::time::Instant::now() < deadline, "it never takes part again");
        submit(&world, &[0], more..more + 1).await;
        more += 1;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_workers_resolve_what_a_missing_worker_leaves() {
    let world = World::start(Shape { workers: 3, clients: 0, stragglers: 0, epoch_blocks: 0, ledger: false }).await;
    submit(&world, &[0, 1, 2], 0..6).await;
    all_once(&world, 0..6, 40).await;
    assert_eq!(world.chain.discrepancies(), 0);
    world.nodes[1].host.behaviour.store(FAILING, Ordering::Relaxed);
    submit(&world, &[0, 2], 6..16).await;
    all_once(&world, 0..16, 60).await;
    assert!(world.chain.discrepancies() > 0, "unanimity was out of reach");
    let runtime = runtime_id().to_string();
    assert!(base_metrics::table::WORKER_EXECUTION_DISCREPANCY_DETECTED_COUNT.with(&[&runtime]).get() > 0.0);
    assert!(base_metrics::table::TXPOOL_ACCEPTED_TRANSACTIONS.with(&[&runtime]).get() > 0.0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_restart_in_the_middle_of_rounds_without_contradicting_themselves() {
    let world = World::start(Shape { workers: 3, clients: 0, stragglers: 0, epoch_blocks: 0, ledger: true }).await;
    let mut next = 0;
    for turn in 0..9usize {
        submit(&world, &[(turn + 2) % 3], next..next + 3).await;
        next += 3;
        tokio::time::sleep(Duration::from_millis(37 * (turn as u64 % 4))).await;
        world.stop_node(turn % 3).await;
        if turn % 2 == 0 {
            tokio::time::sleep(Duration::from_millis(90)).await;
        }
        world.start_node(turn % 3);
        let executor = world.nodes[turn % 3].executor();
        let mut ready = executor.ready();
        tokio::time::timeout(Duration::from_secs(20), ready.wait_for(|ready| *ready)).await.expect("in time").unwrap();
    }
    // A pool is memory: what a node had when it stopped others have by gossip. None may be there twice.
    let included = world.included();
    assert!(included.values().all(|times| *times == 1), "{included:?}");
    let there = |world: &World| {
        let included = world.included();
        let waits = |tx: &Vec<u8>| world.nodes.iter().any(|n| n.executor().unconfirmed().contains(tx));
        let lost = (0..next).map(tx).filter(|tx| !included.contains_key(tx)).collect::<Vec<_>>();
        !lost.iter().any(waits) && lost.len() * 2 < next
    };
    world.until("what pools have is in blocks", 60, there).await;
    assert!(world.included().values().all(|times| *times == 1));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_transactions_are_fetched_though_a_peer_is_mute() {
    let world = World::start(Shape { workers: 3, clients: 1, stragglers: 0, epoch_blocks: 0, ledger: false }).await;
    world.nodes[2].peer().deaf.store(true, Ordering::Relaxed);
    world.nodes[3].peer().mute.store(true, Ordering::Relaxed);
    submit(&world, &[0, 1], 0..20).await;
    all_once(&world, 0..20, 60).await;
    assert!(world.nodes[2].peer().answers.load(Ordering::Relaxed) > 0, "it asked its peers");
    assert!(!world.chain.commits(&world.nodes[2].id).is_empty());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gossip_of_outsiders_and_nonsense_is_rejected() {
    let world = World::start(Shape { workers: 3, clients: 1, stragglers: 0, epoch_blocks: 0, ledger: false }).await;
    let node = &world.nodes[0];
    let mut ready = node.executor().ready();
    tokio::time::timeout(Duration::from_secs(20), ready.wait_for(|ready| *ready)).await.expect("in time").unwrap();
    let chain = world.chain.context().as_str();
    let (committee, txs) = (ids::committee_topic(chain, &runtime_id()), ids::tx_topic(chain, &runtime_id()));
    let outsider = world.nodes[3].peer_id;
    let member = world.nodes[1].peer_id;

    let hear = async |author, message: &[u8]| node.peer().hear(author, false, &committee, message).await.unwrap();
    let round = world.round() + 5;
    let rank_of = |n: usize| world.committee.scheduler_rank(round, &world.nodes[n].id);
    assert!(rank_of(1).is_some());
    let propose = |key: &SecretKey, epoch, round| {
        let header = ProposalHeader { round, previous_hash: Hash::default(), batch_hash: Hash::default() };
        let proposal = Proposal::signed(key, world.chain.context(), &runtime_id(), header, Vec::new()).unwrap();
        cbor::to_vec(&CommitteeMessage { epoch, proposal: Some(proposal) })
    };
    let epoch = world.committee.valid_for;
    let key = &world.nodes[1].key;
    assert_eq!(hear(outsider, &propose(key, epoch, round)).await, Validation::Reject, "not of the committee");
    assert_eq!(hear(member, b"nonsense").await, Validation::Reject);
    assert_eq!(hear(member, &cbor::to_vec(&CommitteeMessage { epoch, proposal: None })).await, Validation::Reject);
    assert_eq!(hear(member, &propose(key, epoch + 1, round)).await, Validation::Retry, "the next epoch may come");
    assert_eq!(hear(member, &propose(key, epoch + 2, round)).await, Validation::Reject);
    assert_eq!(hear(member, &propose(&world.nodes[3].key, epoch, round)).await, Validation::Reject, "no worker");
    assert_eq!(hear(member, &propose(key, epoch, 0)).await, Validation::Reject, "a round of the past");
    assert_eq!(hear(member, &propose(key, epoch, round)).await, Validation::Accept);

    let hear = async |message: &[u8]| node.peer().hear(outsider, false, &txs, message).await.unwrap();
    assert_eq!(hear(b"\xff\xff").await, Validation::Reject);
    assert_eq!(hear(&TxMessage(b"bad".to_vec()).to_bytes()).await, Validation::Reject);
    assert_eq!(hear(&TxMessage(tx(0)).to_bytes()).await, Validation::Accept);
    assert_eq!(hear(&TxMessage(tx(0)).to_bytes()).await, Validation::Reject, "seen before");
    // Nonsense in mass delays nobody's own transactions.
    let flood = (0..2000).map(|n| TxMessage(format!("bad {n}").into_bytes()).to_bytes());
    let peer = node.peer();
    let flooding = futures_util::future::join_all(flood.map(|message| {
        let (peer, txs) = (peer.clone(), txs.clone());
        async move { peer.hear(outsider, false, &txs, &message).await }
    }));
    let executor = node.executor();
    let (verdicts, result) = tokio::join!(flooding, executor.submit(tx(1)));
    assert!(result.unwrap().error.is_success());
    assert!(verdicts.iter().all(|v| matches!(v, Some(Validation::Reject | Validation::Retry))));
    all_once(&world, 0..2, 40).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_ready_while_its_runtime_runs() {
    let world = World::start(Shape { workers: 1, clients: 1, stragglers: 0, epoch_blocks: 0, ledger: false }).await;
    for node in &world.nodes {
        let executor = node.executor();
        let mut ready = executor.ready();
        let soon = Duration::from_secs(20);
        tokio::time::timeout(soon, ready.wait_for(|ready| *ready)).await.expect("in time").unwrap();
        node.host.stop(tokio::time::Instant::now()).await.unwrap();
        tokio::time::timeout(soon, ready.wait_for(|ready| !*ready)).await.expect("in time").unwrap();
        let status = executor.status();
        assert_eq!(status.committee.status, CommitteeState::WAITING_HOSTED_RUNTIME);
        assert!(status.executor.is_none_or(|e| e.status == WorkerState::WAITING_RUNTIME));
        // What is submitted meanwhile waits for its check.
        let submitting = tokio::spawn(async move { executor.submit(b"patience".to_vec()).await });
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!submitting.is_finished());
        node.host.start().await.unwrap();
        tokio::time::timeout(soon, ready.wait_for(|ready| *ready)).await.expect("in time").unwrap();
        let result = tokio::time::timeout(soon, submitting).await.expect("in time").unwrap();
        match result {
            Ok(result) => assert!(result.error.is_success()),
            Err(error) => assert_eq!(error, SubmitError::Refused(txpool::SubmitError::Duplicate), "gossip was faster"),
        }
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_executor_runs_once_and_answers_nobody_afterwards() {
    let world = World::start(Shape { workers: 1, clients: 0, stragglers: 0, epoch_blocks: 0, ledger: false }).await;
    let executor = world.nodes[0].executor();
    submit(&world, &[0], 0..1).await;
    let again = executor.clone().run(tokio_util::sync::CancellationToken::new()).await;
    assert!(matches!(again, Err(node_executor::ExecutorError::RanBefore)));
    world.stop_node(0).await;
    assert_eq!(executor.submit(tx(9)).await, Err(SubmitError::Stopped));
    assert!(!*executor.ready().borrow());
    world.end().await;
}
