//! Random transactions and queries, as tests of networks send them, against a network of real processes.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base_crypto::blacklist::test_key;
use base_prims::{Address, PublicKey, Quantity};
use cli_devnet::chain::Chain;
use cli_devnet::{Network, Node, ParaTime, Plan, Role, Running, trial};
use wire_consensus::genesis::Document;
use wire_consensus::staking::ThresholdKind;

const NODE: &str = env!("CARGO_BIN_EXE_oasis-node");
const RUNTIME: &str = "0000000000000000000000000000000000000000000000000000000000000001";
const WORKLOADS: [&str; 9] = [
    "commission",
    "delegation",
    "governance",
    "oversized",
    "parallel",
    "queries",
    "registration",
    "runtime",
    "transfer",
];
/// How long each workload runs once it has begun.
const TIME_LIMIT: &str = "20s";
/// What the test entity has, in base units.
const FUNDS: u64 = 1_000_000_000_000;

/// Seconds that anything may take: a machine that does other things too is slow.
const PATIENCE: u64 = 300;

fn plan(dir: &Path) -> Plan {
    let mut plan = Plan {
        dir: dir.to_owned(),
        validators: 2,
        clients: 1,
        paratime: Some(ParaTime {
            binary: trial::program(Path::new(NODE)),
            computes: 1,
            sandboxed: false,
            ..ParaTime::default()
        }),
        base_port: 30_000,
        block_time: Duration::from_millis(300),
        epoch_interval: 20,
        chain_id: "devnet test".to_owned(),
        genesis_time: trial::now(),
        ..Plan::default()
    };
    plan.base_port = plan.free_base_port().expect("free ports");
    plan
}

/// Funds the test entity and lets small amounts and long registrations be.
fn prepare(network: &Network) {
    let path = network.plan.genesis_file();
    let text = std::fs::read_to_string(&path).expect("the genesis document");
    let mut document = Document::from_json(&text).expect("the genesis document");
    // The workload's proposals have no title.
    document.governance.parameters.allow_proposal_metadata = false;
    let entity = PublicKey::from(test_key("ekiden test entity key seed").public());
    let staking = &mut document.staking;
    staking.ledger.entry(Address::of_key(&entity)).or_default().general.balance = FUNDS.into();
    staking.total_supply.add_assign(&FUNDS.into());
    staking.parameters.min_delegation_amount = Quantity::default();
    for (kind, least) in &mut staking.parameters.thresholds {
        let of_runtime = [ThresholdKind::RUNTIME_COMPUTE, ThresholdKind::RUNTIME_KEY_MANAGER].contains(kind);
        *least = if of_runtime { 100_u64.into() } else { Quantity::default() };
    }
    document.registry.parameters.max_node_expiration = 10;
    document.governance.parameters.min_proposal_deposit = 300_u64.into();
    std::fs::write(&path, document.to_canonical_json()).expect("the genesis document is written");
}

/// The node's program with test keys allowed.
fn program(dir: &Path) -> PathBuf {
    let path = dir.join("node.sh");
    std::fs::write(&path, format!("#!/bin/sh\nexec {NODE} \"$@\" --debug.allow_test_keys\n")).expect("a script");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("it may be run");
    path
}

fn start(network: &Network, node: &Node, workload: &str) -> Child {
    let log = std::fs::File::create(log_of(network, workload)).expect("a file");
    let entity = network.plan.dir.join("entity/entity.pem");
    Command::new(NODE)
        .args(["debug", "txsource", "--debug.dont_blame_oasis", "--debug.allow_test_keys", "--debug.test_entity"])
        .args(["--grpc.log.debug", "--runtime.runtime_id", RUNTIME, "--workload", workload, "--seed", "a seed"])
        .args(["--time_limit", TIME_LIMIT, "--gas_price", "1", "--queries.consensus.num_kept_versions", "50"])
        .arg("--address")
        .arg(format!("unix:{}", node.socket().display()))
        .arg("--genesis.file")
        .arg(network.plan.genesis_file())
        .arg("--validator_entity")
        .arg(entity)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file"))
        .stderr(log)
        .spawn()
        .expect("it starts")
}

fn log_of(network: &Network, workload: &str) -> PathBuf {
    network.plan.dir.join(format!("{workload}.log"))
}

#[tokio::test(flavor = "multi_thread")]
async fn all_workloads_end_well_when_their_time_is_up() {
    let dir = tempfile::Builder::new().prefix("tx").tempdir().expect("a directory");
    let network = Network::create(plan(dir.path())).expect("a network");
    prepare(&network);
    let nodes = network.nodes();
    let mut running = Running::new(&program(dir.path()), nodes.clone()).expect("the program is there");
    running.start_all().expect("all start");
    let client = nodes.iter().find(|node| node.role == Role::Client).expect("a client");
    trial::until("a third epoch", PATIENCE, async || {
        let chain = Chain::connect(client).await.ok()?;
        chain.epoch(0).await.ok().filter(|epoch| *epoch >= 3)
    })
    .await;
    let mut workloads: Vec<_> = WORKLOADS.iter().map(|name| (*name, start(&network, client, name))).collect();
    let end = Instant::now() + Duration::from_secs(PATIENCE);
    for (name, child) in &mut workloads {
        let status = loop {
            if let Some(status) = child.try_wait().expect("it is known") {
                break status;
            }
            if Instant::now() > end {
                child.kill().expect("it ends");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let log = std::fs::read_to_string(log_of(&network, name)).unwrap_or_default();
        assert!(status.success(), "{name}: {status}: {log}");
    }
    assert!(running.ended().is_none(), "all nodes still run");
    running.stop();
}
