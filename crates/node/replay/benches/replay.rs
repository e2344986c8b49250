//! Replays a recorded chain over a store on disk, again and again: `cargo bench -p node-replay`.
//!
//! `REPLAY_CHAIN` names the folder (by default `vectors/chains/runtime-txsource-multi-short`), `REPLAY_RUNS` the number of
//! runs (10), `REPLAY_STORE=memory` keeps the state in memory. Nothing is compared. One line of JSON per run.

use std::{path::PathBuf, sync::Arc};

use apps_core::LocalConfig;
use base_kv_disk::Disk;
use base_prims::Namespace;
use mkvs_db::{Config, NodeDb, Threads};
use node_app::{DbStore, MemoryStore, NodeOptions, StateStore, WriteBehind};
use node_replay::{Options, replay};
use rt_tee::VerifyOptions;

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../vectors/chains/runtime-txsource-multi-short");
    let dir = std::env::var_os("REPLAY_CHAIN").map_or_else(|| PathBuf::from(default), PathBuf::from);
    let runs = std::env::var("REPLAY_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(10);
    let in_memory = std::env::var("REPLAY_STORE").is_ok_and(|s| s == "memory");
    for _ in 0..runs {
        let folder = tempfile::tempdir().expect("a folder for the state");
        let store: Box<dyn StateStore> = if in_memory {
            Box::new(MemoryStore::new(Box::new(Threads::default())))
        } else {
            let disk = Disk::open(folder.path(), base_kv_disk::Options::default()).expect("a store");
            let behind = WriteBehind::new(Arc::new(disk)).expect("a thread");
            let config = Config { discard_write_logs: true, ..Config::new(Namespace::ZERO) };
            let db = NodeDb::open(Arc::new(behind), config).expect("a database");
            Box::new(DbStore::open(&db).expect("a state"))
        };
        let local = LocalConfig {
            allow_debug: true,
            allow_test_keys: true,
            tee: VerifyOptions::mock(),
            ..LocalConfig::default()
        };
        let node = NodeOptions { local, upgrades: Some(Default::default()) };
        let options = Options { dir: dir.clone(), to: None, compare: false, node, store, observer: None };
        println!("{}", replay(options).expect("the chain replays").to_json());
    }
}
