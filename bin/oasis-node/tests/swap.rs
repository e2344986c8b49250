//! Data directories that somebody else used before: another program, another node, or nobody any more.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cli_devnet::chain::Chain;
use cli_devnet::trial::{now, until};
use cli_devnet::{Network, Node, Plan, Role, Running};

const PROGRAM: &str = env!("CARGO_BIN_EXE_oasis-node");
const GUARD: &str = "consensus/oasis_priv_validator.json";
/// Seconds that anything may take: a machine that does other things too is slow.
const PATIENCE: u64 = 240;

async fn height(node: &Node) -> i64 {
    let Ok(chain) = Chain::connect(node).await else { return 0 };
    chain.height().await.unwrap_or(0)
}

async fn reached(node: &Node, wanted: i64) {
    until(&format!("{} at height {wanted}", node.name), PATIENCE, async || {
        (height(node).await >= wanted).then_some(())
    })
    .await;
}

/// Height, round and step of the last signature on record.
fn signed(node: &Node) -> (i64, i64, i64) {
    let text = fs::read_to_string(node.dir.join(GUARD)).expect("a guard file");
    let number = |name: &str| {
        let rest = text.split_once(&format!("\"{name}\":")).expect("it is there").1.trim_start();
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse().expect("a number")
    };
    (number("height"), number("round"), number("step"))
}

/// Starts a node that has to refuse, and gives what it says.
fn refusal(node: &Node) -> String {
    let mut child = Command::new(PROGRAM)
        .arg("--config")
        .arg(node.config())
        .arg("--debug.dont_blame_oasis")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let end = Instant::now() + Duration::from_secs(PATIENCE);
    while child.try_wait().expect("a status").is_none() {
        if Instant::now() > end {
            child.kill().expect("it runs");
            panic!("{} runs although it must not", node.name);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = child.wait_with_output().expect("its output");
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Every file below a folder with its bytes.
fn contents(dir: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            contents(&path, found);
        } else {
            found.insert(path.clone(), fs::read(&path).expect("a file"));
        }
    }
}

fn copy(from: &Path, to: &Path, leave_out: &[&str]) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        if leave_out.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target, leave_out);
        } else {
            fs::copy(entry.path(), &target).expect("a copy");
        }
    }
}

/// What the reference leaves in its consensus folder, by name; the contents are not what it writes.
const THEIRS: [&str; 5] = [
    "data/blockstore.badger.db/MANIFEST",
    "data/state.badger.db/MANIFEST",
    "data/evidence.badger.db/MANIFEST",
    "data/cs.wal/wal",
    "state/mkvs_storage.pathbadger.db/MANIFEST",
];

/// A line of a node's console or log that has all these words.
fn said(node: &Node, words: &[&str]) -> bool {
    let text = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    let all = text(node.console()) + &text(node.log());
    all.lines().any(|line| words.iter().all(|word| line.contains(word)))
}

fn network(base_port: u16) -> (tempfile::TempDir, Network) {
    let dir = tempfile::Builder::new().prefix("sw").tempdir().expect("a directory");
    let mut plan = Plan {
        dir: dir.path().to_owned(),
        validators: 4,
        clients: 1,
        base_port,
        block_time: Duration::from_millis(300),
        epoch_interval: 30,
        chain_id: "swap test".to_owned(),
        genesis_time: now(),
        ..Plan::default()
    };
    plan.base_port = plan.free_base_port().expect("free ports");
    let network = Network::create(plan).expect("a network");
    (dir, network)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validators_folder_changes_hands() {
    const LAST: i64 = 25;
    let (_dir, network) = network(27_600);
    let nodes = network.nodes();
    let mut running = Running::new(Path::new(PROGRAM), nodes.clone()).expect("the program is there");
    let validators: Vec<_> = (0..nodes.len()).filter(|at| nodes[*at].role == Role::Validator).collect();
    let (swapped, lost) = (validators[3], validators[2]);
    let client = nodes.iter().position(|node| node.role == Role::Client).expect("there is one");
    let node = &nodes[swapped];

    // Another program validated with these keys, up to a height that the network has not reached yet.
    let consensus = node.dir.join("consensus");
    for name in THEIRS {
        let path = consensus.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, name).expect("a file");
    }
    // Without its record nothing is signed.
    let error = refusal(node);
    assert!(error.contains("guard file") && error.contains("missing although there is a chain"), "{error}");
    assert!(!node.dir.join(GUARD).exists());
    let key = fs::read_to_string(node.dir.join("consensus_pub.pem")).expect("a key");
    let key = key.lines().nth(1).expect("base64");
    let record = format!("{{\"height\":{LAST},\"round\":0,\"step\":3,\"public_key\":\"{key}\"}}");
    fs::write(node.dir.join(GUARD), &record).expect("a file");

    for at in (0..nodes.len()).filter(|at| *at != client) {
        running.start(at).expect("it starts");
    }
    // It follows, and signs nothing that the other may have signed.
    while height(node).await < LAST - 3 {
        assert_eq!(fs::read_to_string(node.dir.join(GUARD)).expect("a file"), record);
        assert!(running.ended().is_none(), "all run");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    reached(node, LAST + 5).await;
    let first = signed(node);
    assert!(first.0 > LAST, "{first:?}");
    assert!(said(node, &["are left alone", "data/blockstore.badger.db"]), "it says what it found");
    assert!(said(node, &["was fetched again beside", "seconds="]), "it says how long it took");
    for name in THEIRS {
        assert_eq!(fs::read(consensus.join(name)).expect("still there"), name.as_bytes());
    }

    // A node that lost its chain but not its keys and record fetches the chain again and goes on.
    running.kill(lost);
    let before = signed(&nodes[lost]);
    for folder in ["data", "state"] {
        fs::remove_dir_all(nodes[lost].dir.join("consensus").join(folder)).expect("it was there");
    }
    running.start(lost).expect("it starts");
    let now = height(node).await;
    reached(&nodes[lost], now + 5).await;
    assert!(signed(&nodes[lost]) > before);
    // One that lost its record does not.
    running.kill(lost);
    let kept = fs::read(nodes[lost].dir.join(GUARD)).expect("a file");
    fs::remove_file(nodes[lost].dir.join(GUARD)).expect("it was there");
    let error = refusal(&nodes[lost]);
    assert!(error.contains("guard file"), "{error}");

    // Its state without its keys, in another node's folder: that one goes on from there as itself.
    let own: Vec<_> = ["identity.pem", "p2p.pem", "consensus.pem"].map(|name| nodes[client].dir.join(name)).into();
    let keys = |paths: &[PathBuf]| paths.iter().map(|path| fs::read(path).expect("a key")).collect::<Vec<_>>();
    let before = keys(&own);
    let (from, to) = (nodes[lost].dir.join("consensus"), nodes[client].dir.join("consensus"));
    copy(&from, &to, &["oasis_priv_validator.json", "addrbook.json"]);
    running.start(client).expect("it starts");
    let now = height(node).await;
    reached(&nodes[client], now + 3).await;
    assert_eq!(keys(&own), before);
    assert!(said(&nodes[client], &["handshake with application"]), "it opened the chain");
    assert!(!said(&nodes[client], &["handshake with application", "app=0 "]), "it did not begin anew");

    // With its record back, the validator goes on too.
    fs::write(nodes[lost].dir.join(GUARD), kept).expect("a file");
    running.start(lost).expect("it starts");
    let now = height(node).await;
    reached(&nodes[lost], now + 3).await;

    // Theirs is as it was.
    let mut found = BTreeMap::new();
    contents(&consensus.join("data/cs.wal"), &mut found);
    assert_eq!(found.into_values().collect::<Vec<_>>(), [b"data/cs.wal/wal".to_vec()]);
    assert_eq!(running.stop(), Vec::<String>::new(), "all nodes end when they are asked to");
}
