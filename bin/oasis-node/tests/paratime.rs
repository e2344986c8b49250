//! A network of real processes with a ParaTime in a sandbox: transactions are executed once, whatever node is killed.

use std::collections::BTreeMap;
use std::path::Path;

use base_service::log_event::CHECKPOINT_SYNC_SUCCESS;
use cli_devnet::chain::Chain;
use cli_devnet::keyvalue::KeyValue;
use cli_devnet::trial::{self, synced, until};
use cli_devnet::{Node, Role, Running};

const NODE: &str = env!("CARGO_BIN_EXE_oasis-node");
/// Seconds that anything may take: a machine that does other things too is slow.
const PATIENCE: u64 = 240;

/// Whether bubblewrap can sandbox here.
async fn sandboxed() -> bool {
    let probed = rt_host::sandbox::probe(Path::new("/usr/bin/bwrap")).await;
    if let Err(problem) = &probed {
        println!("skipped: 1 the sandbox, the ParaTime runs without: {problem}");
    }
    probed.is_ok()
}

/// Sets a key and checks where the transaction went.
async fn insert(client: &KeyValue, nonce: u64, sent: &mut BTreeMap<String, String>) -> u64 {
    let (key, value) = (format!("key {nonce}"), format!("value {nonce}"));
    let tx = client.insertion(b"tester", nonce, &key, &value);
    let meta = client.submit(tx).await.expect("a round with the transaction");
    assert_eq!(meta.check_tx_error, None);
    sent.insert(key, value);
    meta.round
}

/// Every transaction that was sent is in exactly one round.
async fn check_once(client: &KeyValue, first: u64, sent: &BTreeMap<String, String>) {
    let newest = client.newest().await.expect("a block").header.round;
    let mut found = 0;
    for round in first..=newest {
        found += client.transactions(round).await.expect("its transactions").len();
    }
    assert_eq!(found, sent.len(), "transactions in rounds {first} to {newest}");
    for (key, value) in sent {
        assert_eq!(client.get(key).await.expect("an answer").as_ref(), Some(value));
    }
}

/// A compute node that lost the ParaTime's data gets it back from a checkpoint of another.
async fn restore_by_checkpoint(nodes: &[Node], running: &mut Running) {
    let victim = nodes.iter().position(|node| node.role == Role::Compute).expect("there is one");
    let node = &nodes[victim];
    running.kill(victim);
    let told = || std::fs::read_to_string(node.log()).unwrap_or_default().matches(CHECKPOINT_SYNC_SUCCESS).count();
    let before = told();
    std::fs::remove_dir_all(node.dir.join("runtimes")).expect("its data is there");
    running.start(victim).expect("it starts again");
    until("the state from a checkpoint", PATIENCE, async || (told() > before).then_some(())).await;
    let reference = nodes.iter().find(|node| node.role == Role::Client).expect("a client");
    let newest = KeyValue::connect(reference).await.expect("it answers").newest().await.expect("a block").header.round;
    let restored = KeyValue::connect(node).await.expect("it answers");
    until("the newest rounds", PATIENCE, async || {
        restored.newest().await.ok().filter(|block| block.header.round >= newest)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paratime_executes_each_transaction_once_whatever_node_is_killed() {
    let mut dir = tempfile::Builder::new().prefix("pt").tempdir().expect("a directory");
    // To look at afterwards.
    dir.disable_cleanup(std::env::var_os("KEEP_NETWORK").is_some());
    let network = trial::paratime(dir.path(), Path::new(NODE), 1, sandboxed().await).expect("a network");
    let nodes = network.nodes();
    let mut running = Running::new(Path::new(NODE), nodes.clone()).expect("the program is there");
    running.start_all().expect("all start");
    let client = nodes.iter().find(|node| node.role == Role::Client).expect("a client");
    synced(client, PATIENCE).await;
    let paratime = KeyValue::connect(client).await.expect("it answers");
    // The committee is elected once its nodes are registered.
    until("a round after the first", PATIENCE, async || {
        paratime.newest().await.ok().filter(|block| block.header.round > 1)
    })
    .await;

    let mut sent = BTreeMap::new();
    let mut first = insert(&paratime, 0, &mut sent).await;
    for nonce in 1..5 {
        first = first.min(insert(&paratime, nonce, &mut sent).await);
    }
    check_once(&paratime, first, &sent).await;

    // Each compute node in turn: the others go on.
    let mut nonce = 5;
    for victim in (0..nodes.len()).filter(|place| nodes[*place].role == Role::Compute) {
        running.kill(victim);
        for _ in 0..3 {
            insert(&paratime, nonce, &mut sent).await;
            nonce += 1;
        }
        running.start(victim).expect("it starts again");
        synced(&nodes[victim], PATIENCE).await;
    }
    check_once(&paratime, first, &sent).await;

    // Without one of the two validators there are no blocks; nor is there anybody to ask without the client.
    for victim in (0..nodes.len()).filter(|place| matches!(nodes[*place].role, Role::Validator | Role::Client)) {
        running.kill(victim);
        running.start(victim).expect("it starts again");
        synced(&nodes[victim], PATIENCE).await;
        let paratime = KeyValue::connect(client).await.expect("it answers");
        until("the state at the client", PATIENCE, async || paratime.newest().await.ok()).await;
        insert(&paratime, nonce, &mut sent).await;
        nonce += 1;
    }
    let paratime = KeyValue::connect(client).await.expect("it answers");
    check_once(&paratime, first, &sent).await;

    restore_by_checkpoint(&nodes, &mut running).await;
    insert(&paratime, nonce, &mut sent).await;
    nonce += 1;
    let chain = Chain::connect(client).await.expect("it answers");
    let epoch = chain.epoch(0).await.expect("an epoch");
    until("another epoch", PATIENCE, async || chain.epoch(0).await.ok().filter(|now| *now > epoch)).await;
    insert(&paratime, nonce, &mut sent).await;
    check_once(&paratime, first, &sent).await;

    assert!(running.ended().is_none(), "all nodes still run");
    assert_eq!(running.stop(), Vec::<String>::new(), "all nodes end when they are asked to");
}
