//! What goes wrong around a validator: its disk is full, its stores are damaged. It ends with one clear line, its folder
//! serves again, and nothing is signed twice.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use cli_devnet::chain::Chain;
use cli_devnet::trial::{now, until};
use cli_devnet::{Network, Node, Plan, Role, Running};

const PROGRAM: &str = env!("CARGO_BIN_EXE_oasis-node");
const GUARD: &str = "consensus/oasis_priv_validator.json";
/// Seconds that anything may take: a machine that does other things too is slow.
const PATIENCE: u64 = 240;
/// Size of the small disk.
const DISK_MB: u64 = 48;
/// Exit code of a node that could not go on.
const FAILED: i32 = 1;

fn network(dir: &Path, base_port: u16) -> Network {
    let mut plan = Plan {
        dir: dir.to_owned(),
        validators: 4,
        clients: 0,
        base_port,
        block_time: Duration::from_millis(300),
        epoch_interval: 30,
        chain_id: "faults test".to_owned(),
        genesis_time: now(),
        ..Plan::default()
    };
    plan.base_port = plan.free_base_port().expect("free ports");
    Network::create(plan).expect("a network")
}

/// A validator that others do without, and one of those.
fn pick(nodes: &[Node]) -> (usize, usize) {
    let validators: Vec<_> = (0..nodes.len()).filter(|at| nodes[*at].role == Role::Validator).collect();
    (validators[3], validators[0])
}

async fn height(node: &Node) -> Option<i64> {
    Chain::connect(node).await.ok()?.height().await.ok()
}

async fn reached(node: &Node, wanted: i64) -> i64 {
    until(&format!("{} at height {wanted}", node.name), PATIENCE, async || {
        height(node).await.filter(|at| *at >= wanted)
    })
    .await
}

/// Starts a node whose last words are kept.
fn start(node: &Node) -> Child {
    let console = fs::File::options().create(true).append(true).open(node.console()).expect("a file");
    Command::new(PROGRAM)
        .arg("--config")
        .arg(node.config())
        .arg("--debug.dont_blame_oasis")
        .current_dir(&node.dir)
        .stdin(Stdio::null())
        .stdout(console)
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts")
}

/// Waits for the end of a node.
fn end(mut child: Child) -> Output {
    let end = Instant::now() + Duration::from_secs(PATIENCE);
    while child.try_wait().expect("a status").is_none() {
        if Instant::now() > end {
            child.kill().expect("it runs");
            panic!("it runs although it can not go on");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child.wait_with_output().expect("its output")
}

/// The one line that a node says on standard error when it can not go on.
fn last_words(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(FAILED), "{}: {text}", output.status);
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

/// Height, round and step of the last signature on record, as text that grows with them.
fn signed(node: &Node) -> String {
    let text = fs::read_to_string(node.dir.join(GUARD)).expect("a guard file");
    let number = |name: &str| -> i64 {
        let rest = text.split_once(&format!("\"{name}\":")).expect("it is there").1.trim_start();
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse().expect("a number")
    };
    format!("{:012} {:06} {}", number("height"), number("round"), number("step"))
}

/// Nobody saw two votes of one validator for the same place.
fn nothing_signed_twice(nodes: &[Node]) {
    for node in nodes {
        let log = fs::read_to_string(node.log()).expect("a log");
        assert!(!log.contains("conflicting votes"), "{}: {log}", node.name);
    }
}

/// A file system in memory at a folder; taken away with this.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Puts a folder onto a disk of its own; `None` where this process may not mount.
    fn under(folder: &Path) -> Option<Self> {
        let aside = folder.with_extension("aside");
        fs::rename(folder, &aside).expect("it is there");
        fs::create_dir(folder).expect("a folder");
        let size = format!("size={DISK_MB}m,mode=700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(folder).output();
        if !mounted.is_ok_and(|out| out.status.success()) {
            return None;
        }
        let disk = Self(folder.to_owned());
        // Nothing but files: the node has not run yet.
        for entry in fs::read_dir(&aside).expect("a folder") {
            let entry = entry.expect("an entry");
            fs::copy(entry.path(), folder.join(entry.file_name())).expect("a copy");
        }
        Some(disk)
    }

    /// Writes until nothing more fits; gives the file.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = fs::File::create(&path).expect("a file");
        let mut block = vec![0xaa_u8; 1 << 16];
        while !block.is_empty() {
            while file.write_all(&block).is_ok() {}
            block.truncate(block.len() / 2);
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: whoever still uses it keeps it until then.
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validator_whose_disk_is_full_ends_clearly_and_goes_on_when_there_is_room() {
    let dir = tempfile::Builder::new().prefix("fd").tempdir().expect("a directory");
    let network = network(dir.path(), 27_100);
    let nodes = network.nodes();
    let (victim, other) = pick(&nodes);
    let node = &nodes[victim];
    let Some(disk) = SmallDisk::under(&node.dir) else {
        println!("skipped: 1 test of a full disk: only root may mount");
        return;
    };
    let mut running = Running::new(Path::new(PROGRAM), nodes.clone()).expect("the program is there");
    for at in (0..nodes.len()).filter(|at| *at != victim) {
        running.start(at).expect("it starts");
    }
    let child = start(node);
    reached(node, 5).await;

    // It ends by itself, and the others go on without it.
    let filler = disk.fill();
    let words = last_words(&tokio::task::spawn_blocking(|| end(child)).await.expect("its end"));
    assert!(words.contains("No space left on device"), "{words}");
    let before = signed(node);
    let now = height(&nodes[other]).await.expect("an answer");
    reached(&nodes[other], now + 5).await;

    // While there is no room it does not start, and says why.
    let child = start(node);
    let words = last_words(&tokio::task::spawn_blocking(|| end(child)).await.expect("its end"));
    assert!(words.contains("No space left on device"), "{words}");
    assert_eq!(signed(node), before, "nothing was signed meanwhile");

    fs::remove_file(filler).expect("there is room again");
    running.start(victim).expect("it starts");
    let now = height(&nodes[other]).await.expect("an answer");
    reached(node, now + 5).await;
    until("a signature", PATIENCE, async || (signed(node) > before).then_some(())).await;
    nothing_signed_twice(&nodes);
    assert!(running.ended().is_none(), "all run");
    assert_eq!(running.stop(), Vec::<String>::new(), "all nodes end when they are asked to");
}

/// Every file below a folder with that name's ending.
fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found
}

/// How a file is damaged.
#[derive(Debug, Clone, Copy)]
enum Damage {
    /// Its first bytes are gone.
    Head,
    /// Its second half is gone.
    Cut,
    /// All of it is something else.
    Noise,
}

fn damage(path: &Path, how: Damage) {
    let mut bytes = fs::read(path).expect("a file");
    match how {
        Damage::Head => bytes.iter_mut().take(1 << 14).for_each(|byte| *byte = 0),
        Damage::Cut => bytes.truncate(bytes.len() / 2),
        Damage::Noise => bytes
            .iter_mut()
            .enumerate()
            .for_each(|(at, byte)| *byte = u8::try_from((at * 7 + at / 251) % 256).expect("a byte")),
    }
    fs::write(path, bytes).expect("written");
}

/// Damages a file of a stopped node in one way: it does not start, and names the file's folder in one line.
fn refuses(node: &Node, path: &Path, how: Damage) {
    let whole = fs::read(path).expect("a file");
    damage(path, how);
    let words = last_words(&end(start(node)));
    let folder = path.parent().expect("a folder").display().to_string();
    assert!(words.contains(&folder) && words.contains("away and start again"), "{how:?}: {words}");
    fs::write(path, whole).expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_store_is_named_and_the_chain_is_fetched_again() {
    let dir = tempfile::Builder::new().prefix("fc").tempdir().expect("a directory");
    let network = network(dir.path(), 27_200);
    let nodes = network.nodes();
    let (victim, other) = pick(&nodes);
    let node = &nodes[victim];
    let mut running = Running::new(Path::new(PROGRAM), nodes.clone()).expect("the program is there");
    running.start_all().expect("all start");
    reached(node, 12).await;
    running.kill(victim);
    let before = signed(node);

    // Databases.
    let consensus = node.dir.join("consensus");
    for database in files(&node.dir, "data.mdb") {
        for how in [Damage::Head, Damage::Noise] {
            tokio::task::block_in_place(|| refuses(node, &database, how));
        }
    }
    let state = consensus.join("state/mkvs_storage.db/data.mdb");
    tokio::task::block_in_place(|| refuses(node, &state, Damage::Cut));
    assert_eq!(signed(node), before, "nothing was signed meanwhile");

    // A log of rounds that can not be read is begun anew: the guard knows what was signed.
    damage(&consensus.join("data/wal/wal"), Damage::Noise);
    running.start(victim).expect("it starts");
    let now = height(&nodes[other]).await.expect("an answer");
    reached(node, now + 3).await;

    // A block that can not be read: the node goes on, and its status says so.
    running.kill(victim);
    let blocks = files(&consensus.join("data/store/blocks"), ".blocks");
    let mut bytes = fs::read(&blocks[0]).expect("blocks");
    bytes.iter_mut().skip(32).take(64).for_each(|byte| *byte ^= 0x5a);
    fs::write(&blocks[0], bytes).expect("written");
    running.start(victim).expect("it starts");
    let now = height(&nodes[other]).await.expect("an answer");
    reached(node, now + 3).await;
    let status = status(node).await;
    assert!(status["consensus"]["problems"][0].as_str().is_some_and(|text| text.contains("damaged")), "{status}");

    // What the message says helps.
    running.kill(victim);
    let before = signed(node);
    damage(&state, Damage::Noise);
    tokio::task::block_in_place(|| last_words(&end(start(node))));
    for folder in ["data", "state"] {
        fs::rename(consensus.join(folder), dir.path().join(folder)).expect("it is moved away");
    }
    running.start(victim).expect("it starts");
    let now = height(&nodes[other]).await.expect("an answer");
    reached(node, now + 5).await;
    until("a signature", PATIENCE, async || (signed(node) > before).then_some(())).await;
    nothing_signed_twice(&nodes);
    assert!(running.ended().is_none(), "all run");
    assert_eq!(running.stop(), Vec::<String>::new(), "all nodes end when they are asked to");
}

/// What `control status` says.
async fn status(node: &Node) -> serde_json::Value {
    let socket = format!("unix:{}", node.socket().display());
    let asked = Command::new(PROGRAM).args(["control", "status", "-a", &socket]).output().expect("it runs");
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stdout));
    serde_json::from_slice(&asked.stdout).expect("JSON")
}
