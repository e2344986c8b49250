//! A network of real processes: comes up, moves tokens, loses a validator and gets it back, and leaves nothing running.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base_crypto::context::ChainContext;
use base_prims::Quantity;
use cli_devnet::chain::Chain;
use cli_devnet::trial::{now, until};
use cli_devnet::{Network, Node, Plan, Role, Running};

/// Seconds that anything may take: a machine that does other things too is slow.
const PATIENCE: u64 = 240;

/// Waits until a node has caught up and reached a height; gives the one that it has.
async fn reached(node: &Node, height: i64) -> i64 {
    until(&format!("{} at height {height}", node.name), PATIENCE, async || {
        let chain = Chain::connect(node).await.ok()?;
        let at = chain.height().await.ok()?;
        (at >= height && chain.is_synced().await.ok()?).then_some(at)
    })
    .await
}

/// The wallet command, with a configuration of its own, against the network.
async fn wallet_pays(network: &Network, node: &Node, chain: &Chain) {
    let dir = network.plan.dir.join("wallet");
    let config = dir.join("cli.toml");
    let run = |args: &[&str]| {
        let words: Vec<std::ffi::OsString> =
            ["oasis", "--config"].into_iter().map(Into::into).chain([config.clone().into()]).collect();
        let words: Vec<_> = words.into_iter().chain(args.iter().map(Into::into)).collect();
        let code = std::thread::spawn(move || cli_wallet::run(words)).join().expect("it ends");
        assert_eq!(format!("{code:?}"), format!("{:?}", std::process::ExitCode::SUCCESS), "{args:?}");
    };
    let socket = format!("unix:{}", node.socket().display());
    run(&["network", "add-local", "local", &socket, "-y", "--symbol", "TEST", "--num-decimals", "9"]);
    run(&["network", "set-default", "local"]);
    let key = network.plan.dir.join("accounts/alice/entity.pem");
    run(&["wallet", "import-file", "alice", key.to_str().expect("text"), "-y"]);
    let [alice, _, charlie] = network.accounts.as_slice() else { panic!("there are three accounts") };
    let before = chain.account(charlie.address).await.expect("an account").general.balance;
    run(&["account", "transfer", "2.5", &charlie.address.to_string(), "-y"]);
    run(&["account", "show", "alice", "--show-delegations"]);
    run(&["network", "status"]);
    run(&["network", "show", "native-token"]);
    let after = chain.account(charlie.address).await.expect("an account").general.balance;
    assert_eq!(after.sub(&before), Ok(Quantity::from(2_500_000_000_u64)));
    assert_eq!(chain.account(alice.address).await.expect("an account").general.nonce, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn transacts_survives_a_killed_validator_and_stops_cleanly() {
    let dir = tempfile::Builder::new().prefix("dn").tempdir().expect("a directory");
    let mut plan = Plan {
        dir: dir.path().to_owned(),
        validators: 4,
        clients: 1,
        base_port: 27_000,
        block_time: Duration::from_millis(300),
        epoch_interval: 10,
        chain_id: "devnet test".to_owned(),
        genesis_time: now(),
        ..Plan::default()
    };
    plan.base_port = plan.free_base_port().expect("free ports");
    let network = Network::create(plan).expect("a network");
    let nodes = network.nodes();
    let mut running =
        Running::new(Path::new(env!("CARGO_BIN_EXE_oasis-node")), nodes.clone()).expect("the program is there");
    running.start_all().expect("all start");

    let of = |role: Role| nodes.iter().position(|node| node.role == role).expect("there is one");
    let (client, victim) = (of(Role::Client), of(Role::Validator));
    reached(&nodes[client], 3).await;
    let chain = Chain::connect(&nodes[client]).await.expect("the client answers");
    let context = ChainContext::parse(&network.chain_context).expect("a chain context");
    let [alice, bob, ..] = network.accounts.as_slice() else { panic!("there are accounts") };
    let before = chain.account(bob.address).await.expect("an account").general.balance;
    let amount = Quantity::from(1_000_u64);
    chain.transfer(&context, &alice.key, bob.address, &amount).await.expect("a transfer");

    // Three of four go on without the fourth, which then catches up.
    running.kill(victim);
    let height = chain.height().await.expect("an answer");
    reached(&nodes[client], height + 8).await;
    chain.transfer(&context, &alice.key, bob.address, &amount).await.expect("a transfer with a validator missing");
    running.start(victim).expect("it starts again");
    let height = chain.height().await.expect("an answer");
    reached(&nodes[victim], height).await;

    let seen = Chain::connect(&nodes[victim]).await.expect("it answers");
    let after = until("both transfers at the restarted validator", PATIENCE, async || {
        let balance = seen.account(bob.address).await.ok()?.general.balance;
        (balance != before).then_some(balance)
    })
    .await;
    assert_eq!(after.sub(&before), Ok(Quantity::from(2_000_u64)));
    wallet_pays(&network, &nodes[client], &chain).await;

    // Epochs come from blocks and proofs of randomness alone.
    until("a second epoch", PATIENCE, async || chain.epoch(0).await.ok().filter(|epoch| *epoch >= 2)).await;

    assert!(running.ended().is_none(), "all nodes still run");
    let pids = running.pids();
    let forced = running.stop();
    assert_eq!(forced, Vec::<String>::new(), "all nodes end when they are asked to");
    for pid in pids.into_iter().flatten() {
        assert!(!PathBuf::from(format!("/proc/{pid}")).exists(), "process {pid} is left");
    }
}
