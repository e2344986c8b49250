//! Commands against nodes that run, and against what they leave when they have stopped.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cli_devnet::chain::Chain;
use cli_devnet::{Network, Node, Plan, Role, Running};

const PROGRAM: &str = env!("CARGO_BIN_EXE_oasis-node");

/// Runs a command in a folder; its output, if it ended as it should.
fn run(dir: &Path, works: bool, args: &[&str]) -> String {
    let output = Command::new(PROGRAM).args(args).arg("--debug.dont_blame_oasis").current_dir(dir).output();
    let output = output.expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.success(), works, "{args:?}: {text}{errors}");
    text
}

fn has(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

async fn reached(node: &Node, height: i64) {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        if let Ok(chain) = Chain::connect(node).await
            && chain.height().await.is_ok_and(|at| at >= height)
        {
            return;
        }
        assert!(Instant::now() < end, "{} did not reach height {height}", node.name);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Queries and transactions of the older commands.
fn accounts(dir: &Path, socket: &str, network: &Network) {
    let [alice, bob, ..] = network.accounts.as_slice() else { panic!("there are accounts") };
    let (alice, bob) = (alice.address.to_string(), bob.address.to_string());
    let genesis = network.plan.genesis_file().display().to_string();
    let info = run(dir, true, &["stake", "info", "-a", socket]);
    has(&info, &["Token's ticker symbol: ", "Total supply: ", "Staking threshold (entity): ", "Common pool: "]);
    has(&run(dir, true, &["stake", "list", "-a", socket]), &[&alice, &bob]);
    has(&run(dir, true, &["stake", "list", "-v", "-a", socket]), &[&alice, "\"general\"", "\"escrow\""]);
    let address = ["--stake.account.address", alice.as_str(), "-a", socket];
    let query = |name: &str| run(dir, true, &[&["stake", "account", name], &address[..]].concat());
    has(&query("info"), &["Account State for Height: ", "Balance:", "  Total: ", "Nonce: 0"]);
    assert_eq!(query("nonce").trim(), "0");

    let signer = network.plan.dir.join("accounts/alice").display().to_string();
    let transfer = |nonce: &str, works| {
        let line = [
            "stake account gen_transfer --transaction.file tx.json --transaction.fee.gas 10000 --transaction.nonce",
            nonce,
            "--stake.amount 1500 -y --stake.transfer.destination",
            &bob,
            "-g",
            &genesis,
            "--signer.dir",
            &signer,
        ]
        .join(" ");
        run(dir, works, &line.split(' ').collect::<Vec<_>>())
    };
    has(&transfer("0", true), &["You are about to sign", "staking.Transfer", "Amount: ", "Nonce:  0"]);
    let file = ["--transaction.file", "tx.json"];
    has(&run(dir, true, &[&["consensus", "show_tx", "-g", &genesis], &file[..]].concat()), &["staking.Transfer", &bob]);
    run(dir, true, &[&["consensus", "submit_tx", "-a", socket], &file[..]].concat());
    assert_eq!(query("nonce").trim(), "1");
    // The same again is refused.
    has(&run(dir, false, &[&["consensus", "submit_tx", "-a", socket], &file[..]].concat()), &["duplicate transaction"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_speak_to_nodes_and_read_what_they_leave() {
    let temp = tempfile::Builder::new().prefix("cm").tempdir().expect("a directory");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let mut plan = Plan {
        dir: temp.path().join("net"),
        validators: 1,
        clients: 0,
        paratime: None,
        base_port: 27_800,
        block_time: Duration::from_millis(300),
        epoch_interval: 30,
        chain_id: "commands test".to_owned(),
        genesis_time: i64::try_from(now).expect("in range"),
    };
    plan.base_port = plan.free_base_port().expect("free ports");
    let network = Network::create(plan).expect("a network");
    let nodes = network.nodes();
    let node = nodes.iter().find(|node| node.role == Role::Validator).expect("there is one").clone();
    let mut running = Running::new(Path::new(PROGRAM), nodes).expect("the program is there");
    running.start_all().expect("all start");
    reached(&node, 3).await;

    let dir = temp.path();
    let socket = format!("unix:{}", node.socket().display());
    let config = node.config().display().to_string();
    let genesis = network.plan.genesis_file().display().to_string();
    accounts(dir, &socket, &network);
    has(&run(dir, true, &["registry", "entity", "list", "-v", "-a", &socket]), &["\"id\"", "\"nodes\""]);
    has(&run(dir, true, &["registry", "node", "list", "-v", "-a", &socket]), &["\"expiration\"", "\"consensus\""]);
    assert_eq!(run(dir, true, &["registry", "runtime", "list", "-a", &socket]).trim(), "");
    has(
        &run(dir, true, &["registry", "node", "is-registered", "--config", &config, "-a", &socket]),
        &["is registered"],
    );
    run(dir, true, &["governance", "list_proposals", "-a", &socket]);
    has(&run(dir, false, &["governance", "proposal_info", "--proposal.id", "7", "-a", &socket]), &["proposal"]);
    has(&run(dir, true, &["consensus", "next_block_state", "-a", &socket]), &["\"height\"", "\"prevotes\""]);
    has(&run(dir, true, &["control", "status", "-a", &socket]), &["\"latest_height\"", "\"registration\""]);
    has(&run(dir, true, &["identity", "show-address", "-a", &socket]), &["oasis1"]);

    // State of a network as a genesis document, and as that of a new network.
    run(dir, true, &["genesis", "dump", "--height", "3", "--genesis.file", "dumped.json", "-a", &socket]);
    run(dir, true, &["genesis", "check", "-g", "dumped.json"]);
    let migrate = ["genesis", "migrate", "-g", "dumped.json", "--genesis.new_file", "new.json"];
    run(dir, true, &[&migrate[..], &["--genesis.new_chain_id", "another"]].concat());
    run(dir, true, &["genesis", "check", "-g", "new.json"]);
    has(&std::fs::read_to_string(dir.join("new.json")).expect("written"), &["\"another\""]);
    // Addresses that need TLS are tried with it: there is nobody.
    run(dir, false, &["control", "is-synced", "-a", "localhost:1"]);

    // What needs a stopped node says so while it runs.
    let dump = ["debug", "dumpdb", "--config", &config, "-g", &genesis, "--dump.output", "stopped.json"];
    run(dir, false, &dump);
    has(&run(dir, false, &["storage", "inspect", "--config", &config]), &[]);
    assert_eq!(running.stop(), Vec::<String>::new());
    run(dir, true, &dump);
    run(dir, true, &["genesis", "check", "-g", "stopped.json"]);
    has(&run(dir, true, &["storage", "inspect", "--config", &config, "--output", "json"]), &["\"latest_version\""]);
    let export =
        ["debug", "storage", "export", "--config", &config, "-g", &genesis, "--storage.export.dir", "exported"];
    run(dir, true, &export);
    run(dir, true, &["debug", "storage", "benchmark", "--dir", "measured"]);
    assert!(!dir.join("measured").exists(), "it cleans up");
}
