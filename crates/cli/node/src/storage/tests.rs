//! The commands on the state that a replay left on disk, and on runtime databases.

use std::{os::unix::net::UnixListener, process::ExitCode};

use base_kv::{Batch, Durability, Order};
use mkvs_tree::{KvWrite as _, RootType};
use tempfile::TempDir;
use wire_consensus::roothash::AnnotatedBlock;

use super::*;

const CHAIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../vectors/chains/gas-fees-staking");
/// Heights of that chain.
const LAST: u64 = 21;
const RUNTIME: &str = "8000000000000000000000000000000000000000000000000000000000000001";
const OTHER: &str = "8000000000000000000000000000000000000000000000000000000000000002";

fn state_dir(dir: &TempDir) -> PathBuf {
    dir.path().join("consensus/state").join(STATE_DB)
}

/// A data folder with the state of a replayed chain and one runtime of four versions.
fn node(more: &str) -> (TempDir, Node) {
    let dir = tempfile::tempdir().unwrap();
    let store = state_dir(&dir);
    let args = ["oasis-node", "debug", "replay", "--dir", CHAIN, "--store"].map(Into::into);
    let code = crate::run(args.into_iter().chain([store.into_os_string()]));
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
    let runtime = dir.path().join("runtimes").join(RUNTIME);
    let disk = Disk::open(&runtime.join(STORAGE), Options::default()).unwrap();
    let db = NodeDb::open(Arc::new(disk), mkvs_db::Config::new(RUNTIME.parse().unwrap())).unwrap();
    let mut tree = db.empty_tree(RootType::STATE);
    for version in 0..4u8 {
        tree.insert(&[version], b"value").unwrap();
        tree.commit_final(version.into()).unwrap();
    }
    drop((tree, db));
    std::fs::create_dir(runtime.join(HISTORY)).unwrap();
    std::fs::create_dir(runtime.join(CHECKPOINTS)).unwrap();
    let text = format!("common:\n  data_dir: {}\n{more}", dir.path().display());
    let config = Config::from_text("test", &text, &|_| None).unwrap();
    (dir, Node::of(config).unwrap())
}

fn with_runtime() -> String {
    format!("runtime:\n  prune:\n    strategy: keep_last\n    num_kept: 2\n  runtimes:\n    - id: {RUNTIME}\n")
}

#[test]
fn inspect_shows_versions() {
    let (_dir, node) = node(&with_runtime());
    let status = node.status();
    assert_eq!(status.pointer("/consensus/state_db").unwrap(), &super::status(true, LAST, 1));
    assert_eq!(status.pointer("/consensus/block_history").unwrap(), &super::status(false, 0, 0));
    assert_eq!(status.pointer(&format!("/runtimes/{RUNTIME}/state_db")).unwrap(), &super::status(true, 3, 0));
    let text = text_of(&status);
    assert!(
        text.starts_with(
            "Consensus:\n  State DB:\n    Ok:  true\n    Latest height:  21\n    Last retained height:  1\n"
        )
    );
    assert!(
        text.contains(&format!("Runtimes:\n  {RUNTIME}\n    State DB:\n      Ok:  true\n      Latest round:  3\n"))
    );
    assert!(node.inspect("yaml").unwrap_err().contains("supported: text, json"));
    for output in ["text", "json"] {
        node.inspect(output).unwrap();
    }
}

#[test]
fn inspecting_nothing_creates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("common:\n  data_dir: {}\n{}", dir.path().display(), with_runtime());
    let node = Node::of(Config::from_text("test", &text, &|_| None).unwrap()).unwrap();
    assert_eq!(node.status().pointer("/consensus/state_db").unwrap(), &super::status(false, 0, 0));
    assert!(node.check("consensus").is_err() && node.compact().is_err());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    assert!(Node::of(Config::default()).is_err());
}

#[test]
fn damage_is_found() {
    let (dir, node) = node("");
    node.check("consensus").unwrap();
    node.check(RUNTIME).unwrap();
    let disk = Disk::open(&state_dir(&dir), Options::default()).unwrap();
    let mut damaged = None;
    disk.scan(b"n", Some(b"o"), Order::Reverse, &mut |key, value| {
        damaged = Some((key.to_vec(), value.to_vec()));
        ControlFlow::Break(())
    })
    .unwrap();
    let (key, mut value) = damaged.unwrap();
    *value.last_mut().unwrap() ^= 1;
    disk.write(Batch::new().put(&key, &value), Durability::Synced).unwrap();
    drop(disk);
    let error = node.check("consensus").unwrap_err();
    assert!(error.starts_with("error checking node database for consensus") && error.contains("bad nodes"), "{error}");
    assert!(node.check("zz").unwrap_err().contains("malformed runtime identifier"));
    assert!(node.check(OTHER).unwrap_err().contains("no database"));
}

#[test]
fn pruning_follows_the_configuration_and_compacting_frees_space() {
    let (dir, kept) = node("");
    kept.prune().unwrap();
    assert_eq!(kept.consensus_state().unwrap().earliest_version(), Some(1), "disabled by default");
    let prune = |num_kept: u64, more: &str| {
        let text = format!(
            "common:\n  data_dir: {}\nconsensus:\n  prune:\n    strategy: keep_n\n    num_kept: {num_kept}\n{more}",
            dir.path().display()
        );
        let node = Node::of(Config::from_text("test", &text, &|_| None).unwrap()).unwrap();
        node.prune().unwrap();
        let earliest = node.consensus_state().unwrap().earliest_version();
        let runtime = node.runtime_state(&RUNTIME.parse().unwrap()).unwrap().earliest_version();
        (earliest, runtime)
    };
    assert_eq!(prune(100, ""), (Some(1), Some(0)), "more than there is");
    assert_eq!(prune(15, ""), (Some(6), Some(0)));
    assert_eq!(prune(2, &with_runtime()), (Some(6), Some(1)), "runtimes hold consensus back");
    // It has its blocks up to that height.
    let id: Namespace = RUNTIME.parse().unwrap();
    let history = kept.runtime_history(&id).unwrap();
    for round in 0..6u64 {
        let header = wire_consensus::roothash::Header { namespace: id, round, ..Default::default() };
        let block = AnnotatedBlock {
            consensus_height: 10 + i64::try_from(round).unwrap(),
            block: Some(wire_consensus::roothash::Block { header }),
        };
        history.commit(&[block]).unwrap();
    }
    drop(history);
    assert_eq!(prune(2, &with_runtime()), (Some(15), Some(1)), "as far as the runtime has it");
    let status = Node { runtimes: vec![id], config: kept.config.clone(), data_dir: kept.data_dir.clone() }.status();
    let light = status.pointer(&format!("/runtimes/{RUNTIME}/light_history")).unwrap();
    assert_eq!(light, &super::status(true, 5, 3));
    assert_eq!(prune(2, ""), (Some(LAST - 2), Some(1)));
    kept.check("consensus").unwrap();
    kept.check(RUNTIME).unwrap();

    let size = || std::fs::metadata(state_dir(&dir).join("data.mdb")).unwrap().len();
    let before = size();
    kept.compact().unwrap();
    assert!(size() < before, "{} {before}", size());
    kept.check("consensus").unwrap();
    assert_eq!(kept.consensus_state().unwrap().latest_version(), Some(LAST));
}

#[test]
fn a_runtime_gets_another_namespace() {
    let (dir, node) = node("");
    node.migrate(RUNTIME).unwrap();
    assert!(node.rename_ns(RUNTIME, RUNTIME).unwrap_err().contains("already exists"));
    assert!(node.rename_ns(OTHER, RUNTIME).is_err());
    node.rename_ns(RUNTIME, OTHER).unwrap();
    assert!(node.check(RUNTIME).is_err());
    node.check(OTHER).unwrap();
    assert_eq!(node.runtime_state(&OTHER.parse().unwrap()).unwrap().latest_version(), Some(3));
    let folder = dir.path().join("runtimes").join(OTHER);
    assert!(!folder.join(HISTORY).exists(), "the history is that of the old name");
    assert!(!folder.join(CHECKPOINTS).exists());
}

#[test]
fn nothing_is_done_while_the_node_runs() {
    let (dir, node) = node("");
    let config = dir.path().join("config.yml");
    std::fs::write(&config, format!("common:\n  data_dir: {}\n", dir.path().display())).unwrap();
    let run = |command: &str| {
        let args = ["oasis-node", "storage", command, "--config"].map(Into::into);
        format!("{:?}", crate::run(args.into_iter().chain([config.clone().into_os_string()])))
    };
    assert_eq!(run("inspect"), format!("{:?}", ExitCode::SUCCESS));
    let socket = UnixListener::bind(dir.path().join("internal.sock")).unwrap();
    assert_eq!(run("inspect"), format!("{:?}", ExitCode::FAILURE));
    for (command, error) in [
        (StorageCommand::Compact, "compaction can only be done when the node is not running"),
        (StorageCommand::Prune, "pruning can only be done when the node is not running"),
        (StorageCommand::Inspect { output: "text".to_owned() }, "node is running"),
    ] {
        assert_eq!(node.run(&command).unwrap_err(), error);
    }
    // A socket that a killed node left behind is no node.
    drop(socket);
    assert_eq!(run("inspect"), format!("{:?}", ExitCode::SUCCESS));
}

/// A node's whole consensus folder, made by applying a recorded chain, and the height that it ends at.
fn whole_node(dir: &Path, more: &str) -> (Node, i64) {
    let chain = dev_testkit::chains::Chain::open(&dev_testkit::paths::vectors_dir().join("chains/runtime-runtime"));
    let genesis = chain.dir().join("genesis.json");
    let text = format!("common:\n  data_dir: {}\ngenesis:\n  file: {}\n{more}", dir.display(), genesis.display());
    let node = Node::of(Config::from_text("test", &text, &|_| None).unwrap()).unwrap();
    let last = apply(&node, &chain);
    (node, last)
}

/// Starts engine and application over the node's folders and applies what they do not have of the chain.
fn apply(node: &Node, chain: &dev_testkit::chains::Chain) -> i64 {
    use comet_chain::app::ValidatorUpdate;
    use wire_cometbft::{Message as _, block, limits::BLOCK_PART_BYTES, part_set::PartSet};
    use wire_consensus::genesis::comet;

    let text = String::from_utf8(chain.genesis().unwrap()).unwrap();
    let doc = Document::from_json(&text).unwrap();
    let local = apps_core::LocalConfig {
        allow_debug: true,
        allow_test_keys: true,
        tee: rt_tee::VerifyOptions::mock(),
        ..apps_core::LocalConfig::default()
    };
    let app = node_app::EngineApp::open_dir(
        &node.consensus_dir().join(STATE),
        node_app::EngineConfig {
            doc: Arc::new(doc.clone()),
            node: node_app::NodeOptions { local, upgrades: None },
            consensus_key: None,
            prune: node_app::PruneConfig::default(),
            checkpointer: None,
            save_upgrades: None,
        },
    );
    let app: comet_store::SharedApp = Arc::new(parking_lot::Mutex::new(Box::new(app.unwrap())));
    let (blocks, stored) = comet_store::open(&node.consensus_dir().join(STORES), &doc.comet_chain_id()).unwrap();
    let (txs, evidence) = (Arc::new(comet_store::NoTxs), Arc::new(comet_store::NoEvidence));
    let executor = comet_store::Executor::new(Arc::clone(&blocks), stored, app, txs, evidence);
    let genesis = comet_store::Genesis {
        chain_id: doc.comet_chain_id(),
        initial_height: doc.height,
        time: doc.time.0,
        params: comet::consensus_params(&doc, true).unwrap(),
        validators: comet::validators(&doc)
            .unwrap()
            .into_iter()
            .map(|v| ValidatorUpdate { pub_key: *v.pub_key.as_bytes(), power: v.power })
            .collect(),
        app_state: text.into_bytes(),
    };
    let mut state = comet_store::handshake(&executor, &genesis).unwrap();
    for recorded in chain.blocks().unwrap() {
        let block = block::Block::decode_checked(&recorded.block).unwrap();
        if block.header.height <= state.last_block_height {
            continue;
        }
        let parts = PartSet::from_bytes(&recorded.block, BLOCK_PART_BYTES);
        let seen = block::Commit::decode(&recorded.seen_commit).unwrap();
        blocks.save(&block, &parts, &seen, comet_store::Durability::Deferred).unwrap();
        state = executor.apply(&state, &block, &block.id().unwrap()).unwrap();
    }
    state.last_block_height
}

/// Bytes of all files below a folder.
fn bytes_below(dir: &Path) -> u64 {
    let sizes = std::fs::read_dir(dir).unwrap().map(|entry| {
        let entry = entry.unwrap();
        if entry.path().is_dir() { bytes_below(&entry.path()) } else { entry.metadata().unwrap().len() }
    });
    sizes.sum()
}

#[test]
fn a_whole_node_is_pruned_and_compacted_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let prune = "consensus:\n  prune:\n    strategy: keep_n\n    num_kept: 5\n";
    let (node, last) = whole_node(dir.path(), prune);
    let at = |node: &Node, pointer: &str| node.status().pointer(pointer).unwrap().clone();
    let (state, history) = ("/consensus/state_db", "/consensus/block_history");
    let height = last.unsigned_abs();
    assert_eq!(at(&node, state), super::status(true, height, 1));
    assert_eq!(at(&node, history), super::status(true, height, 1));
    node.check("consensus").unwrap();
    let used = || node.consensus_state().unwrap().store_stats().unwrap().used_bytes;
    let (used_before, disk_before) = (used(), bytes_below(&node.consensus_dir()));

    node.prune().unwrap();
    let used_pruned = used();
    assert_eq!(at(&node, state), super::status(true, height, height - 5));
    assert_eq!(at(&node, history), super::status(true, height, height - 5));
    node.check("consensus").unwrap();
    node.compact().unwrap();
    let (used_after, disk_after) = (used(), bytes_below(&node.consensus_dir()));
    println!(
        "state in use: {used_before} bytes, pruned {used_pruned}, compacted {used_after}; \
         consensus folder: {disk_before} bytes, then {disk_after}"
    );
    assert!(used_pruned < used_before / 2 && disk_after < disk_before);
    node.check("consensus").unwrap();

    // Nothing more to do the second time, and the node starts from what is left.
    node.prune().unwrap();
    assert_eq!(at(&node, history), super::status(true, height, height - 5));
    let chain = dev_testkit::chains::Chain::open(&dev_testkit::paths::vectors_dir().join("chains/runtime-runtime"));
    assert_eq!(apply(&node, &chain), last);
}
