//! Networks that run, stop, split and come together.

use std::sync::Arc;
use std::time::Duration;

use apps_core::submit::{SubmitError, TransactionSubmitter};
use comet_chain::app::ConsensusParams;
use comet_chain::light::{BoxFuture, ProviderError};
use comet_engine::{Phase, StopReason};
use comet_sync::light::Provider;
use comet_sync::{
    LightClient, LightConfig, LightStateProvider, LocalProvider, ParamsSource, StateProvider, SystemClock, TrustOptions,
};

use crate::app::{MALFORMED, TAKEN};
use crate::node::{CHAIN, Net, Options, PATIENCE, params};

/// The parameters never change here.
struct GenesisParams;

impl ParamsSource for GenesisParams {
    fn params(&self, _: i64) -> BoxFuture<'_, Result<ConsensusParams, ProviderError>> {
        Box::pin(async { Ok(params()) })
    }
}

/// A light client over the chains of two nodes, trusting the first one's block 2.
async fn light_provider(net: &Net, nodes: [usize; 2]) -> Arc<dyn StateProvider> {
    let provider = |at: usize| -> Provider {
        let handle = net.handle(at);
        Arc::new(LocalProvider::new(Arc::clone(handle.blocks()), Arc::clone(handle.chain()), None))
    };
    let hash = net.handle(nodes[0]).blocks().meta(2).unwrap().unwrap().block_id.hash;
    let trust = TrustOptions { height: 2, hash: hash.try_into().unwrap() };
    let config = LightConfig::new(wire_cometbft::Duration::from_secs(3600));
    let kv = Arc::new(base_kv::Memory::new());
    let witnesses = vec![provider(nodes[1])];
    let client =
        LightClient::new(CHAIN, config, Some(trust), provider(nodes[0]), witnesses, kv, Arc::new(SystemClock)).await;
    let client = Arc::new(client.unwrap());
    Arc::new(LightStateProvider { client, params: Arc::new(GenesisParams), initial_height: 1 })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_node_begins_with_a_snapshot_and_then_fetches_blocks_and_votes() {
    let mut net = Net::new(4, 0);
    for at in 0..3 {
        net.start(at, &Options::default()).await;
    }
    net.reach(0, 12).await;
    net.reach(1, 12).await;
    let state_sync = Some(light_provider(&net, [0, 1]).await);
    let options = Options { block_sync: true, state_sync, ..Options::default() };
    net.start(3, &options).await;
    assert!(net.handle(3).status().is_syncing());
    net.advance(&[0, 3], 4).await;
    assert!(net.handle(3).blocks().base() > 2, "it began at block {}", net.handle(3).blocks().base());
    // Without its votes there are no two thirds now.
    net.stop(2).await;
    net.advance(&[0, 1, 3], 3).await;
    // What it has now is what it starts from, whatever the setup says.
    net.stop(3).await;
    net.start(3, &options).await;
    net.advance(&[0, 1, 3], 2).await;
    net.check();
    net.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_nodes_decide_fifty_heights_and_include_each_transaction_once() {
    let mut net = Net::new(4, 0);
    net.start_all(&Options::default()).await;
    net.reach(0, 2).await;

    let txs: Vec<String> = (0..40).map(|n| format!("key-{n}=value")).collect();
    let mut waits = Vec::new();
    for (n, tx) in txs.iter().enumerate() {
        let submitter = net.handle(n % 4).submitter().clone();
        let tx = tx.clone().into_bytes();
        waits.push(tokio::spawn(async move { submitter.submit(tx).await }));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for (tx, wait) in txs.iter().zip(waits) {
        let included = wait.await.unwrap().unwrap();
        assert_eq!(included.result.code, 0);
        let block = net.handle(0).blocks().block(included.height).unwrap();
        if let Some(block) = block {
            assert_eq!(block.data.txs[included.index as usize], tx.as_bytes());
        }
    }
    net.reach(0, 55).await;
    for at in 1..4 {
        net.reach(at, 50).await;
    }
    for tx in &txs {
        assert_eq!(net.occurrences(0, tx.as_bytes()), 1, "{tx}");
    }
    net.check();
    let status = net.handle(0).status();
    assert_eq!((status.phase.clone(), status.is_validator, status.is_syncing()), (Phase::Consensus, true, false));
    assert_eq!((status.earliest_height, status.peers.len()), (1, 3));
    assert!(status.latest_height >= 54 && status.latest_hash.is_some() && status.latest_time.is_some());
    assert!(status.waits_for.contains("height"), "{}", status.waits_for);
    net.stop_all().await;
    for node in &net.nodes {
        assert!(node.witness.count() >= 50);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn submissions_that_fail_say_why() {
    let mut net = Net::new(1, 0);
    net.start(0, &Options::default()).await;
    net.reach(0, 1).await;
    let submitter = net.handle(0).submitter().clone();
    let refused = submitter.submit(b"no pair".to_vec()).await.unwrap_err();
    let expected = |code| SubmitError::Refused { module: "toy".into(), code, message: format!("code {code}") };
    assert_eq!(refused, expected(MALFORMED));

    let included = submitter.submit(b"a=1".to_vec()).await.unwrap();
    assert!(included.height > 1 && included.index == 0);
    let duplicate = submitter.submit(b"a=1".to_vec()).await.unwrap_err();
    let SubmitError::Refused { module, code: 5, .. } = duplicate else { panic!("{duplicate:?}") };
    assert_eq!(module, "consensus");
    assert_eq!(submitter.submit(b"a=2".to_vec()).await.unwrap_err(), expected(TAKEN));

    // Of two for one key, taken into the pool together, at most one has effect; the other is told so.
    let (first, second) = tokio::join!(submitter.submit(b"b=1".to_vec()), submitter.submit(b"b=2".to_vec()));
    let codes: Vec<u32> = [first, second]
        .into_iter()
        .map(|outcome| match outcome {
            Ok(included) => included.result.code,
            Err(SubmitError::Refused { code, .. } | SubmitError::Invalidated { code, .. }) => code,
            Err(other) => panic!("{other}"),
        })
        .collect();
    assert_eq!(codes.iter().filter(|&&code| code == 0).count(), 1, "{codes:?}");
    assert!(codes.contains(&TAKEN), "{codes:?}");
    submitter.submit_no_wait(b"c=1".to_vec()).await.unwrap();
    net.stop(0).await;
    let after = submitter.submit(b"d=1".to_vec()).await.unwrap_err();
    assert!(matches!(after, SubmitError::Unavailable(_)), "{after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_key_follows_by_block_sync_and_then_by_rounds() {
    let mut net = Net::new(3, 1);
    for at in 0..3 {
        net.start(at, &Options::default()).await;
    }
    net.reach(0, 20).await;
    net.start(3, &Options { validator: false, block_sync: true, ..Options::default() }).await;
    let mut phase = net.handle(3).watch_phase();
    let consensus = phase.wait_for(|phase| *phase == Phase::Consensus);
    tokio::time::timeout(PATIENCE, consensus).await.unwrap().unwrap();
    assert!(net.height(3) >= 15, "{}", net.height(3));
    net.advance(&[0, 3], 10).await;
    // What it is given reaches the validators.
    let included = net.handle(3).submitter().submit(b"from=outside".to_vec()).await.unwrap();
    assert_eq!(included.result.code, 0);
    net.check();
    assert_eq!(net.nodes[3].witness.count(), 0);
    assert!(!net.handle(3).status().is_validator);
    net.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_node_catches_up_by_gossip_alone() {
    let mut net = Net::new(4, 0);
    for at in 0..3 {
        net.start(at, &Options::default()).await;
    }
    net.reach(0, 25).await;
    net.start(3, &Options::default()).await;
    net.advance(&[0, 3], 5).await;
    net.check();
    net.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_fell_behind_fetches_blocks_and_comes_back_to_rounds() {
    let mut net = Net::new(4, 0);
    let options = Options { block_sync_lag: Some(3), ..Options::default() };
    net.start_all(&options).await;
    net.reach(3, 3).await;
    net.partition(&[(3, 1)]);
    net.advance(&[0, 1, 2], 40).await;
    let mut phase = net.handle(3).watch_phase();
    net.partition(&[]);
    for expected in [Phase::BlockSync, Phase::Consensus] {
        let reached = phase.wait_for(|phase| *phase == expected);
        tokio::time::timeout(PATIENCE, reached).await.unwrap().unwrap();
    }
    net.advance(&[0, 3], 5).await;
    // Its votes count again.
    net.stop(2).await;
    net.advance(&[0, 1, 3], 3).await;
    net.check();
    net.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn halves_stand_still_and_go_on_together() {
    let mut net = Net::new(4, 0);
    net.start_all(&Options::default()).await;
    net.reach(0, 5).await;
    net.partition(&[(2, 1), (3, 1)]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before: Vec<i64> = (0..4).map(|at| net.height(at)).collect();
    tokio::time::sleep(Duration::from_secs(2)).await;
    for (at, &before) in before.iter().enumerate() {
        assert!(net.height(at) <= before + 1, "node {at} went on without two thirds");
    }
    assert!(
        net.handle(0).status().waits_for.contains("needed") || net.handle(0).status().waits_for.contains("proposal")
    );
    net.partition(&[]);
    net.advance(&[0, 1, 2, 3], 5).await;
    net.check();
    net.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_halt_stops_the_engine_with_its_reason() {
    let mut net = Net::new(1, 0);
    net.start(0, &Options { halt_at: Some(5), ..Options::default() }).await;
    let reason = tokio::time::timeout(PATIENCE, net.handle(0).stopped()).await.unwrap();
    assert_eq!(reason, StopReason::Halted { height: 5, reason: "upgrade".into() });
    let status = net.handle(0).status();
    assert_eq!((status.latest_height, status.waits_for), (4, reason.to_string()));
}
