//! A compute node that breaks rules, in a network of real processes: it registers, is elected and takes part by itself.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base_grpc::{Address, Cbor, Client};
use base_prims::PublicKey;
use cli_devnet::keyvalue::KeyValue;
use cli_devnet::trial::{now, program, until};
use cli_devnet::{Network, Node, ParaTime, Plan, Role, Running};
use wire_consensus::genesis::Document;
use wire_consensus::node::Node as Descriptor;
use wire_consensus::roothash::HeaderType;
use wire_consensus::scheduler::{CommitteeKind, ForceElectCommitteeRole, Role as Seat};

const NODE: &str = env!("CARGO_BIN_EXE_oasis-node");
/// The ParaTime of local networks.
const RUNTIME: &str = "0000000000000000000000000000000000000000000000000000000000000001";
/// Nodes that register: two validators, two honest compute nodes.
const HONEST: usize = 4;

/// Seconds that anything may take: a machine that does other things too is slow.
const PATIENCE: u64 = 240;

fn network(dir: &Path) -> Network {
    let mut plan = Plan {
        dir: dir.to_owned(),
        validators: 2,
        clients: 1,
        paratime: Some(ParaTime {
            binary: program(Path::new(NODE)),
            computes: 3,
            sandboxed: false,
            ..ParaTime::default()
        }),
        base_port: 29_000,
        block_time: Duration::from_millis(300),
        epoch_interval: 30,
        chain_id: "devnet test".to_owned(),
        genesis_time: now(),
        ..Plan::default()
    };
    plan.base_port = plan.free_base_port().expect("free ports");
    Network::create(plan).expect("a network")
}

/// Lets epochs begin when the test says so, and puts the node first in line to schedule round 3.
fn prepare(network: &Network, node: PublicKey) {
    let path = network.plan.genesis_file();
    let text = std::fs::read_to_string(&path).expect("the genesis document");
    let mut document = Document::from_json(&text).expect("the genesis document");
    document.beacon.parameters.debug_mock_backend = true;
    let scheduler = &mut document.scheduler.parameters;
    scheduler.debug_allow_weak_alpha = true;
    let seat =
        ForceElectCommitteeRole { kind: CommitteeKind::COMPUTE_EXECUTOR, roles: vec![Seat::WORKER].into(), index: 1 };
    let runtime = RUNTIME.parse().expect("an identifier");
    scheduler.debug_force_elect = [(runtime, [(node, seat)].into())].into();
    std::fs::write(&path, document.to_canonical_json()).expect("the genesis document is written");
}

fn node_key(node: &Node) -> PublicKey {
    let key = base_identity::load_key(&node.dir, base_identity::KeyRole::Node).expect("its key");
    key.public().into()
}

fn start(node: &Node, genesis: &Path, mode: &str) -> Child {
    let log = std::fs::File::create(node.console()).expect("a file");
    Command::new(NODE)
        .args([
            "debug",
            "byzantine",
            "executor",
            "--debug.dont_blame_oasis",
            "--debug.allow_test_keys",
            "--activation_epoch",
            "1",
        ])
        .args(["--executor.primary_scheduler_expected", "--executor.mode", mode, "--runtime_id", RUNTIME])
        .arg("--genesis.file")
        .arg(genesis)
        .arg("--config")
        .arg(node.config())
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file"))
        .stderr(log)
        .spawn()
        .expect("it starts")
}

async fn nodes_registered(client: &Client, count: usize) {
    until(&format!("registration of {count} nodes"), PATIENCE, async || {
        let found: Result<Cbor<Option<Vec<Descriptor>>>, _> =
            client.call("oasis-core.Registry", "GetNodes", &Cbor(0i64)).await;
        (found.ok()?.0?.len() >= count).then_some(())
    })
    .await;
}

async fn set_epoch(client: &Client, epoch: u64) {
    let done: Result<(), _> = client.call("oasis-core.DebugController", "SetEpoch", &Cbor(epoch)).await;
    done.unwrap_or_else(|error| panic!("epoch {epoch}: {error}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_one_schedules_a_round_that_the_others_agree_with() {
    let dir = tempfile::Builder::new().prefix("bz").tempdir().expect("a directory");
    let network = network(dir.path());
    let nodes = network.nodes();
    let actor: &Node = nodes.iter().find(|node| node.role == Role::Compute).expect("a compute node");
    prepare(&network, node_key(actor));
    let others: Vec<Node> = nodes.iter().filter(|node| node.name != actor.name).cloned().collect();
    // The key that moves epochs is a well-known one.
    let running = Running::new(Path::new(NODE), others.clone()).expect("the program is there");
    let mut running = running.with_arguments(&["--debug.allow_test_keys"]);
    running.start_all().expect("all start");
    let genesis: PathBuf = network.plan.genesis_file();
    let child = start(actor, &genesis, "executor_honest");

    let client_node = others.iter().find(|node| node.role == Role::Client).expect("a client");
    let client =
        until("a client", PATIENCE, async || Client::connect(&Address::Unix(client_node.socket())).await.ok()).await;
    nodes_registered(&client, HONEST).await;
    set_epoch(&client, 1).await;
    nodes_registered(&client, HONEST + 1).await;
    set_epoch(&client, 2).await;
    let child = std::cell::RefCell::new(child);
    let status =
        until("the end of its part", PATIENCE, async || child.borrow_mut().try_wait().expect("it is known")).await;
    let log = || std::fs::read_to_string(actor.log()).unwrap_or_default();
    assert!(status.success(), "{status}: {}", log());

    let paratime = KeyValue::connect(client_node).await.expect("it answers");
    let block = until("round 3", PATIENCE, async || paratime.block(3).await.ok()).await;
    assert_eq!(block.header.header_type, HeaderType::NORMAL, "the round did not fail");
    assert!(running.ended().is_none(), "all others still run");
    running.stop();
}
