//! How the node database grows: the same work over 10^4 to 10^7 keys, on disk, with memory and disk use.
//!
//! `MKVS_BENCH_KEYS` gives the sizes (default `10000,100000`), `MKVS_BENCH_DIR` the folder for the stores. Each line is
//! `name keys amount seconds per-second`, processor seconds, memory with and without mapped files.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use base_kv_disk::{Disk, Options};
use base_prims::Namespace;
use mkvs_db::checkpoint::{Restorer, create};
use mkvs_db::{Config, NodeDb, Threads};
use mkvs_tree::proof::{Builder, Verifier, Verifiers, verify};
use mkvs_tree::{KvRead, KvWrite, Root, RootType};

/// Versions with changes after the first one.
const VERSIONS: u64 = 100;
/// Changed keys per version.
const CHANGES: u64 = 1000;
/// Keys read and proved.
const READS: u64 = 20_000;

fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// 24 bytes that look random.
fn key(n: u64) -> [u8; 24] {
    let mut out = [0; 24];
    for (i, part) in out.chunks_exact_mut(8).enumerate() {
        part.copy_from_slice(&mix(n * 3 + i as u64).to_be_bytes());
    }
    out
}

/// 64 bytes, half of which look random.
fn value(n: u64, round: u64) -> [u8; 64] {
    let mut out = [0; 64];
    for (i, part) in out.chunks_exact_mut(8).take(4).enumerate() {
        part.copy_from_slice(&mix(n ^ (round << 40) ^ ((i as u64) << 56)).to_be_bytes());
    }
    out
}

/// Processor seconds used by the process so far, all threads.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(") ").map(|(_, rest)| rest).unwrap_or_default();
    let ticks: u64 = after_name.split(' ').skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}

/// When a piece of work began, by the clock and by the processor.
struct Timer(Instant, f64);

impl Timer {
    fn now() -> Self {
        Self(Instant::now(), cpu())
    }
}

fn memory(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with(what)).and_then(|l| l.split_whitespace().nth(1));
    line.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn report(name: &str, keys: u64, amount: u64, start: Timer) {
    let seconds = start.0.elapsed().as_secs_f64();
    println!(
        "{name:<18} {keys:>9} {amount:>9} {seconds:>9.3} {:>10.0}  cpu {:>6.2}  rss {} MB, without files {} MB",
        amount as f64 / seconds,
        cpu() - start.1,
        memory("VmRSS"),
        memory("RssAnon"),
    );
}

fn open(path: &std::path::Path) -> NodeDb {
    let disk = Disk::open(path, Options::default()).expect("store opens");
    NodeDb::open(Arc::new(disk), Config::new(Namespace::ZERO)).expect("database opens")
}

fn run(keys: u64, dir: &std::path::Path) {
    let db = open(&dir.join("db"));
    let mut tree = db.empty_tree(RootType::STATE);
    let start = Timer::now();
    for n in 0..keys {
        tree.insert(&key(n), &value(n, 0)).expect("insert");
    }
    let mut root = tree.commit_final(1).expect("commit");
    report("insert+commit", keys, keys, start);

    let start = Timer::now();
    for round in 1..=VERSIONS {
        for i in 0..CHANGES {
            let n = mix(round * CHANGES + i) % (keys + keys / 10);
            tree.insert(&key(n), &value(n, round)).expect("insert");
        }
        root = tree.commit_final(1 + round).expect("commit");
    }
    report("versions", keys, VERSIONS * CHANGES, start);
    reads(&db, &root, keys);

    let usage = db.usage().expect("usage");
    let start = Timer::now();
    let pruned = db.prune_to(1, &mut |_| ControlFlow::Continue(())).expect("prune");
    let after = db.usage().expect("usage");
    report("prune nodes", keys, usage.nodes - after.nodes, start);
    println!(
        "  {pruned} versions pruned; nodes {} -> {}, node MB {} -> {}, used MB {} -> {}, disk MB {}",
        usage.nodes,
        after.nodes,
        usage.node_bytes >> 20,
        after.node_bytes >> 20,
        usage.store.used_bytes >> 20,
        after.store.used_bytes >> 20,
        after.store.disk_bytes >> 20,
    );
    drop(tree);

    let start = Timer::now();
    let mut chunks: Vec<Vec<u8>> = Vec::new();
    let metadata = create(&db, &root, 8 << 20, 0, &Threads::default(), &mut chunks).expect("checkpoint");
    report("checkpoint create", keys, keys, start);
    let start = Timer::now();
    let other = open(&dir.join("restored"));
    other.start_multipart(root.version).expect("multipart");
    let mut restorer = Restorer::new(other.clone());
    restorer.start(metadata).expect("restore");
    for (index, chunk) in chunks.iter().enumerate() {
        restorer.restore_chunk(index as u64, chunk).expect("chunk");
    }
    other.finalize(&[root]).expect("finalize");
    report("checkpoint restore", keys, keys, start);
}

fn reads(db: &NodeDb, root: &Root, keys: u64) {
    let pick = |i: u64| key(mix(i ^ 0x5555) % keys);
    let cold = db.read(root).expect("root");
    for (name, amount) in [("get cold", READS), ("get warm", READS)] {
        let start = Timer::now();
        for i in 0..amount {
            assert!(cold.get(&pick(i)).expect("get").is_some());
        }
        report(name, keys, amount, start);
    }
    let start = Timer::now();
    let mut count = 0;
    let fresh = db.read(root).expect("root");
    fresh
        .iterate(b"", &mut |_, _| {
            count += 1;
            ControlFlow::Continue(())
        })
        .expect("iterate");
    report("iterate", keys, count, start);
    let start = Timer::now();
    let builder = || Builder::new(0).expect("version");
    let proofs: Vec<_> = (0..READS).map(|i| cold.prove_get(&pick(i), false, builder()).expect("proof")).collect();
    report("proof build", keys, READS, start);
    let start = Timer::now();
    for proof in &proofs {
        verify(&root.hash, proof).expect("proof verifies");
    }
    report("proof verify", keys, READS, start);
    let start = Timer::now();
    let mut verifier = Verifier::default();
    for proof in &proofs {
        verifier.verify(&root.hash, proof).expect("proof verifies");
    }
    report("  by one verifier", keys, READS, start);
    let start = Timer::now();
    let mut verifier = Verifier::default();
    for proof in &proofs {
        assert_eq!(verifier.pairs(&root.hash, proof).expect("proof verifies").len(), 1);
    }
    report("  pairs only", keys, READS, start);
    let start = Timer::now();
    let work: Vec<_> = proofs.iter().map(|proof| (root.hash, proof)).collect();
    let pairs = Verifiers::new(&Threads::default(), 15).pairs(&Threads::default(), &work);
    assert!(pairs.iter().all(|p| p.as_ref().is_ok_and(|p| p.len() == 1)));
    report("  on all processors", keys, READS, start);
}

fn main() {
    let sizes = std::env::var("MKVS_BENCH_KEYS").unwrap_or_else(|_| "10000,100000".into());
    for keys in sizes.split(',').filter_map(|s| s.trim().parse().ok()) {
        let dir = match std::env::var_os("MKVS_BENCH_DIR") {
            Some(dir) => tempfile::tempdir_in(dir),
            None => tempfile::tempdir(),
        };
        run(keys, dir.expect("folder for the stores").path());
        println!("  peak memory {} MB", memory("VmHWM"));
    }
}
