//! Times how long a new client takes to restore a ParaTime's state from its peers.
//!
//! `state_sync DIR NODE KEYS BYTES [FILL]`: makes a network in DIR whose ParaTime begins with so many pairs with values of
//! so many bytes, which lie in every compute node's folder; runs it with the program NODE until there is a checkpoint; then
//! starts a client that has nothing. FILL is a program `FILL FOLDER RUNTIME KEYS BYTES` that writes the pairs into a folder
//! as another node program expects them and prints the root; without it they are written as this project's nodes do.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base_prims::{Hash, Namespace};
use cli_devnet::keyvalue::KeyValue;
use cli_devnet::trial::{self, synced, until, usage};
use cli_devnet::{Node, Role, Running};
use mkvs_db::NodeDb;
use mkvs_tree::{KvWrite, RootType};
use wire_consensus::genesis::Document;

const PATIENCE: u64 = 1_200;
/// Rounds after which there is a checkpoint.
const ROUNDS: u64 = 12;
const POLL: Duration = Duration::from_millis(20);

/// Well distributed numbers (SplitMix64).
fn mix(number: u64) -> u64 {
    let x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Pair `number`: a key of 16 bytes and a value of `bytes`, rounded up to eight.
fn pair(number: u64, bytes: usize) -> (Vec<u8>, Vec<u8>) {
    let key = [mix(number).to_be_bytes(), number.to_be_bytes()].concat();
    let mut value = Vec::new();
    let mut at = 0_u64;
    while value.len() < bytes {
        value.extend(mix(number ^ ((at + 1) << 40)).to_be_bytes());
        at += 8;
    }
    value.truncate(bytes);
    (key, value)
}

/// Writes the pairs as this project's nodes do.
fn fill(folder: &Path, runtime: Namespace, keys: u64, bytes: usize) -> Result<Hash> {
    let folder = folder.join("storage");
    std::fs::create_dir_all(&folder)?;
    let disk = base_kv_disk::Disk::open(&folder, base_kv_disk::Options::default())?;
    let db = NodeDb::open(Arc::new(disk), mkvs_db::Config::new(runtime))?;
    let mut tree = db.empty_tree(RootType::STATE);
    for number in 0..keys {
        let (key, value) = pair(number, bytes);
        tree.insert(&key, &value)?;
    }
    let root = tree.commit(0)?;
    db.finalize(&[root, db.root(RootType::IO, 0, Hash::EMPTY)])?;
    Ok(root.hash)
}

fn fill_with(program: &str, folder: &Path, runtime: Namespace, keys: u64, bytes: usize) -> Result<Hash> {
    let out = Command::new(program)
        .arg(folder)
        .arg(runtime.to_string())
        .args([keys.to_string(), bytes.to_string()])
        .output()
        .context("the filling program")?;
    if !out.status.success() {
        bail!("{program} failed: {}", String::from_utf8_lossy(&out.stderr));
    }
    let text = String::from_utf8(out.stdout)?;
    Ok(text.split_whitespace().last().unwrap_or_default().parse()?)
}

/// Copies a folder with everything in it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("-r").args([from, to]).status()?;
    if status.success() { Ok(()) } else { bail!("copying {} failed", from.display()) }
}

fn size(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => size(&entry.path()),
            Ok(data) => data.len(),
            Err(_) => 0,
        })
        .sum()
}

async fn rounds(node: &Node, rounds: u64) -> Result<u64> {
    let paratime = KeyValue::connect(node).await?;
    until("a first round", PATIENCE, async || paratime.newest().await.ok().filter(|b| b.header.round > 1)).await;
    for nonce in 0..PATIENCE {
        let tx = paratime.insertion(b"filler", nonce, &format!("key {nonce}"), "value");
        paratime.submit(tx).await?;
        let round = paratime.newest().await?.header.round;
        if round >= rounds {
            return Ok(round);
        }
    }
    bail!("there are no rounds")
}

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, dir, program, keys, bytes, fill_program @ ..] = args.as_slice() else {
        bail!("state_sync DIR NODE KEYS BYTES [FILL]")
    };
    let (dir, program) = (PathBuf::from(dir), Path::new(program));
    let (keys, bytes) = (keys.parse()?, bytes.parse()?);
    let ours = std::env::current_exe()?;
    let beside = ours.parent().and_then(Path::parent).context("a folder of programs")?.join("oasis-node");
    let network = trial::paratime(&dir, &beside, 1, false)?;
    let nodes = network.nodes();
    let place = |role: Role| nodes.iter().position(|node| node.role == role).context("such a node");

    // The state, in each compute node's folder.
    let runtime = trial::runtime_id();
    let folder = |node: &Node| node.dir.join("runtimes").join(runtime.to_string());
    let first = folder(&nodes[place(Role::Compute)?]);
    std::fs::create_dir_all(&first)?;
    let root = match fill_program {
        [] => fill(&first, runtime, keys, bytes)?,
        [program, ..] => fill_with(program, &first, runtime, keys, bytes)?,
    };
    for node in nodes.iter().filter(|node| node.role == Role::Compute && folder(node) != first) {
        std::fs::create_dir_all(node.dir.join("runtimes"))?;
        copy(&first, &folder(node))?;
    }
    println!("state {root}: {keys} pairs, {} MB of database", size(&first) / 1_000_000);
    let file = network.plan.genesis_file();
    let mut document = Document::from_json(&std::fs::read_to_string(&file)?)?;
    for runtime in &mut document.registry.runtimes {
        runtime.genesis.state_root = root;
    }
    std::fs::write(&file, document.to_canonical_json())?;

    let mut running = Running::new(program, nodes.clone())?;
    let late = place(Role::Client)?;
    for number in (0..nodes.len()).filter(|number| *number != late) {
        running.start(number)?;
    }
    let compute = &nodes[place(Role::Compute)?];
    synced(compute, PATIENCE).await;
    let newest = rounds(compute, ROUNDS).await?;
    // Until the checkpoint is whole.
    let checkpoints = first.join("checkpoints");
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let now = size(&checkpoints);
        if now > 0 && now == before {
            break;
        }
        before = now;
    }
    println!("round {newest}, {} MB of checkpoints", before / 1_000_000);

    let began = Instant::now();
    running.start(late)?;
    let client = &nodes[late];
    let mut in_sync = None;
    loop {
        if let Ok(paratime) = KeyValue::connect(client).await {
            in_sync.get_or_insert_with(|| began.elapsed());
            if paratime.newest().await.is_ok_and(|block| block.header.round >= newest) {
                break;
            }
        }
        tokio::time::sleep(POLL).await;
    }
    let took = began.elapsed();
    let pid = running.pids()[late].context("a process")?;
    println!(
        "first answer after {:.2} s, state after {:.2} s; {}; {} MB of database",
        in_sync.unwrap_or_default().as_secs_f64(),
        took.as_secs_f64(),
        usage(pid),
        size(&folder(client)) / 1_000_000
    );
    running.stop();
    Ok(())
}
