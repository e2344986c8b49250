//! The two modes of a node that take no part: one that keeps nothing and verifies what others say, one that has what it has
//! and serves it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base_crypto::context::ChainContext;
use base_grpc::{Address, Cbor, Client, Listener, Router, RpcError, serve};
use base_prims::Quantity;
use bytes::Bytes;
use cli_devnet::chain::Chain;
use cli_devnet::keyvalue::KeyValue;
use cli_devnet::trial::{now, program, until};
use cli_devnet::{Network, Node, ParaTime, Plan, Role, Running};
use node_rpc::status::{FEATURE_ARCHIVE_NODE, FEATURE_SERVICES, Status};
use node_rpc::types;
use tokio_util::sync::CancellationToken;
use wire_consensus::transaction::SignedTransaction;

const NODE: &str = env!("CARGO_BIN_EXE_oasis-node");
const CONSENSUS: &str = "oasis-core.Consensus";

/// Seconds that anything may take: a machine that does other things too is slow.
const PATIENCE: u64 = 240;

fn network(dir: &Path) -> Network {
    let mut plan = Plan {
        dir: dir.to_owned(),
        validators: 2,
        clients: 2,
        // Outside a sandbox: what is tested here is around the ParaTime.
        paratime: Some(ParaTime {
            binary: program(Path::new(NODE)),
            computes: 2,
            sandboxed: false,
            ..ParaTime::default()
        }),
        base_port: 29_000,
        block_time: Duration::from_millis(400),
        epoch_interval: 30,
        chain_id: "devnet test".to_owned(),
        genesis_time: now(),
        ..Plan::default()
    };
    plan.base_port = plan.free_base_port().expect("free ports");
    Network::create(plan).expect("a network")
}

async fn ask<A: base_grpc::Argument, R: base_grpc::Reply>(
    node: &Node,
    service: &str,
    method: &str,
    argument: A,
) -> Result<R, RpcError> {
    let client = Client::connect(&Address::Unix(node.socket())).await;
    let client = client.map_err(|error| RpcError::unknown(error.to_string()))?;
    let call = async { client.call(&format!("oasis-core.{service}"), method, &argument).await };
    tokio::time::timeout(Duration::from_secs(PATIENCE), call).await.expect("an answer")
}

async fn status(node: &Node) -> Status {
    ask::<_, Cbor<Status>>(node, "NodeController", "GetStatus", ()).await.expect("a status").0
}

async fn block(node: &Node, height: i64) -> types::Block {
    ask::<_, Cbor<types::Block>>(node, "Consensus", "GetBlock", Cbor(height)).await.expect("a block").0
}

async fn ready(node: &Node) {
    until(&format!("{} ready", node.name), PATIENCE, async || {
        let ready = ask::<_, Cbor<bool>>(node, "NodeController", "IsReady", ()).await.ok()?;
        ready.0.then_some(())
    })
    .await;
}

/// Gives a node's configuration other lines.
fn reconfigure(node: &Node, from: &str, to: &str) {
    let text = std::fs::read_to_string(node.config()).expect("a configuration");
    assert!(text.contains(from), "{text}");
    std::fs::write(node.config(), text.replace(from, to)).expect("written");
}

/// A node that hands on what another one says, but leaves out a transaction of every block.
async fn liar(path: PathBuf, honest: &Node, stop: &CancellationToken) {
    let client = Client::connect(&Address::Unix(honest.socket())).await.expect("it answers");
    let mut router = Router::new();
    let methods = [
        "GetLatestHeight",
        "GetBlock",
        "GetBlockResults",
        "GetValidators",
        "GetParameters",
        "EstimateGas",
        "StateSyncGet",
        "StateSyncGetPrefixes",
        "StateSyncIterate",
    ];
    for method in methods {
        let client = client.clone();
        router.unary(CONSENSUS, method, move |argument: Bytes| {
            let client = client.clone();
            async move { client.call::<Bytes, Bytes>(CONSENSUS, method, &argument).await }
        });
    }
    let asked = client.clone();
    router.unary(CONSENSUS, "GetTransactions", move |argument: Bytes| {
        let client = asked.clone();
        async move {
            let Cbor(mut txs) =
                client.call::<Bytes, Cbor<Vec<base_codec::Bytes>>>(CONSENSUS, "GetTransactions", &argument).await?;
            txs.pop();
            Ok(Cbor(txs))
        }
    });
    router.streaming(CONSENSUS, "WatchBlocks", move |()| {
        let client = client.clone();
        async move { client.stream::<(), Bytes>(CONSENSUS, "WatchBlocks", &()).await }
    });
    tokio::spawn(serve(Listener::unix(&path).expect("a socket"), Arc::new(router), stop.clone()));
}

/// Turns a client into one that keeps nothing.
async fn without_storage(node: &Node, liar: &Path, honest: &Node) {
    let newest = Chain::connect(honest).await.expect("it answers").height().await.expect("a height");
    let trusted = block(honest, newest - 2).await;
    for folder in ["consensus", "runtimes", "persistent-store.db"] {
        let _ = std::fs::remove_dir_all(node.dir.join(folder));
    }
    let lines = format!(
        "consensus:\n  local_storage: false\n  providers: ['unix:{}', 'unix:{}']\n  light_client:\n    trust:\n      \
         period: 1h\n      height: {}\n      hash: '{}'\n",
        liar.display(),
        honest.socket().display(),
        trusted.height,
        trusted.hash,
    );
    reconfigure(node, "consensus:\n", &lines);
}

async fn check_stateless(network: &Network, node: &Node, honest: &Node) {
    let chain = Chain::connect(node).await.expect("it answers");
    let height = chain.height().await.expect("a height");
    until("further blocks", PATIENCE, async || chain.height().await.ok().filter(|now| *now > height + 3)).await;
    // The block, its transactions and the state are those of the network.
    let mine = block(node, height).await;
    assert_eq!(mine, block(honest, height).await);
    for method in ["GetTransactions", "GetTransactionsWithResults", "GetValidators", "GetParameters"] {
        let [mine, theirs] = [node, honest].map(|node| ask::<_, Bytes>(node, "Consensus", method, Cbor(height)));
        assert_eq!(mine.await, theirs.await, "{method}");
    }
    for method in ["StateToGenesis", "ConsensusParameters"] {
        let [mine, theirs] = [node, honest].map(|node| ask::<_, Bytes>(node, "Staking", method, Cbor(height)));
        let (mine, theirs) = (mine.await.expect("an answer"), theirs.await.expect("an answer"));
        assert_eq!(mine, theirs, "{method}");
    }
    let context = ChainContext::parse(&network.chain_context).expect("a chain context");
    let [alice, bob, ..] = network.accounts.as_slice() else { panic!("there are accounts") };
    let before = chain.account(bob.address).await.expect("an account").general.balance;
    let amount = Quantity::from(7_u64);
    chain.transfer(&context, &alice.key, bob.address, &amount).await.expect("a transfer");
    until("the transfer", PATIENCE, async || {
        let now = chain.account(bob.address).await.ok()?.general.balance;
        (now.sub(&before) == Ok(amount.clone())).then_some(())
    })
    .await;

    let status = status(node).await;
    let consensus = status.consensus.expect("a consensus layer");
    assert_eq!(consensus.features, FEATURE_SERVICES);
    assert!(consensus.latest_height > height && !consensus.is_validator);
    assert!(status.light_client.is_some_and(|light| light.latest_height >= height && light.oldest_height > 0));
    assert!(!node.dir.join("consensus/state").exists(), "it keeps no state");
    let log = std::fs::read_to_string(node.log()).expect("a log");
    assert!(log.contains("provider sent what does not follow from verified headers"), "the liar was caught");
}

async fn check_archive(node: &Node, sent: &[(String, String)]) {
    let chain = Chain::connect(node).await.expect("it answers");
    let height = chain.height().await.expect("a height");
    for at in 1..=height {
        assert_eq!(block(node, at).await.height, at);
        chain.epoch(at).await.expect("the state of every height");
        ask::<_, Bytes>(node, "Staking", "TotalSupply", Cbor(at)).await.expect("the state of every height");
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(chain.height().await.expect("a height"), height, "there are no new blocks");
    for method in ["SubmitTx", "SubmitTxNoWait"] {
        let refused = ask::<_, ()>(node, "Consensus", method, Cbor(SignedTransaction::default())).await;
        assert!(refused.is_err_and(|error| error.is("consensus", 4)), "{method}");
    }
    let status = status(node).await;
    assert_eq!(status.mode, "archive");
    assert!(status.p2p.is_none());
    let consensus = status.consensus.expect("a consensus layer");
    assert_eq!(consensus.features, FEATURE_SERVICES | FEATURE_ARCHIVE_NODE);
    assert!(consensus.p2p.is_none());
    let paratime = KeyValue::connect(node).await.expect("it answers");
    for (key, value) in sent {
        assert_eq!(paratime.get(key).await.expect("an answer").as_ref(), Some(value));
    }
    assert!(paratime.newest().await.expect("a block").header.round > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_storage_verifies_and_an_archive_only_serves() {
    let dir = tempfile::Builder::new().prefix("md").tempdir().expect("a directory");
    let network = network(dir.path());
    let nodes = network.nodes();
    let mut running = Running::new(Path::new(NODE), nodes.clone()).expect("the program is there");
    running.start_all().expect("all start");
    let clients: Vec<_> = (0..nodes.len()).filter(|place| nodes[*place].role == Role::Client).collect();
    let [full, stateless] = clients[..] else { panic!("there are two clients") };
    let honest = &nodes[full];
    ready(honest).await;
    let paratime = KeyValue::connect(honest).await.expect("it answers");
    until("a round after the first", PATIENCE, async || {
        paratime.newest().await.ok().filter(|block| block.header.round > 1)
    })
    .await;
    let mut sent = Vec::new();
    for nonce in 0..3 {
        let (key, value) = (format!("key {nonce}"), format!("value {nonce}"));
        let tx = paratime.insertion(b"tester", nonce, &key, &value);
        assert_eq!(paratime.submit(tx).await.expect("a round").check_tx_error, None);
        sent.push((key, value));
    }

    let (stop, socket) = (CancellationToken::new(), dir.path().join("liar.sock"));
    liar(socket.clone(), honest, &stop).await;
    running.kill(stateless);
    let node = &nodes[stateless];
    without_storage(node, &socket, honest).await;
    running.start(stateless).expect("it starts again");
    ready(node).await;
    check_stateless(&network, node, honest).await;
    let through = KeyValue::connect(node).await.expect("it answers");
    for (key, value) in &sent {
        assert_eq!(through.get(key).await.expect("an answer").as_ref(), Some(value));
    }
    let tx = through.insertion(b"tester", 3, "key 3", "value 3");
    assert_eq!(through.submit(tx).await.expect("a round").check_tx_error, None);
    until("the value at the full client", PATIENCE, async || {
        paratime.get("key 3").await.ok().flatten().filter(|value| value == "value 3")
    })
    .await;
    stop.cancel();
    running.kill(stateless);

    sent.push(("key 3".to_owned(), "value 3".to_owned()));
    running.kill(full);
    reconfigure(honest, "mode: client\n", "mode: archive\n");
    running.start(full).expect("it starts again");
    ready(honest).await;
    check_archive(honest, &sent).await;
    assert_eq!(running.stop(), Vec::<String>::new(), "all nodes end when they are asked to");
}
