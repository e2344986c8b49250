//! A node's stores on a real disk, in a process that is killed again and again while it applies a recorded chain.
//!
//! In a test program of its own: a process that is being started holds the open files, and with them the locks on
//! folders, of whoever starts it.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use apps_core::LocalConfig;
use comet_chain::app::{Application as _, ValidatorUpdate};
use comet_store::{Durability, Executor, Genesis, NoEvidence, NoTxs, SharedApp, handshake};
use dev_testkit::{chains::Chain, paths::vectors_dir};
use node_app::{EngineApp, EngineConfig, NodeOptions, PruneConfig, PruneStrategy};
use rt_tee::VerifyOptions;
use wire_cometbft::{
    Message as _,
    block::{Block, Commit},
    limits::BLOCK_PART_BYTES,
    part_set::PartSet,
};
use wire_consensus::genesis::{Document, comet};

/// Folder of the process that is to be killed.
const VICTIM: &str = "WADI_TEST_VICTIM";
const NAME: &str = "a_killed_process_goes_on_where_its_disk_is";
const BEHIND: &str = "victim is behind its blocks";
const DONE: &str = "victim is done";

#[test]
fn a_killed_process_goes_on_where_its_disk_is() {
    if let Some(dir) = std::env::var_os(VICTIM) {
        return victim(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut kills, mut repeated) = (0u64, 0);
    loop {
        assert!(kills < 400, "the chain does not end");
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", NAME])
            .env(VICTIM, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Lives of all lengths, and longer ones as time goes, so that it ends on slow machines too.
        std::thread::sleep(Duration::from_millis(60 + kills * 37 % 100 + 5 * kills));
        // SIGKILL.
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        repeated += u64::from(text.contains(BEHIND));
        if output.status.success() {
            assert!(text.contains(DONE), "{text}");
            break;
        }
        // Killed, not failed.
        assert_eq!(output.status.code(), None, "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        kills += 1;
    }
    println!("{kills} kills, {repeated} starts executed stored blocks again");
    assert!(kills > 0);
}

/// Applies the chain over real stores until it is done or killed.
fn victim(dir: &Path) {
    let chain = Chain::open(&vectors_dir().join("chains/runtime-runtime"));
    let text = String::from_utf8(chain.genesis().unwrap()).unwrap();
    let doc = Document::from_json(&text).unwrap();
    let local =
        LocalConfig { allow_debug: true, allow_test_keys: true, tee: VerifyOptions::mock(), ..LocalConfig::default() };
    let config = EngineConfig {
        doc: Arc::new(doc.clone()),
        node: NodeOptions { local, upgrades: Some(Default::default()) },
        consensus_key: None,
        prune: PruneConfig { strategy: PruneStrategy::KeepN(5), interval: Duration::from_millis(5) },
        checkpointer: None,
        save_upgrades: None,
    };
    let app = EngineApp::open_dir(&dir.join("state"), config).unwrap();
    let (blocks, stored) = comet_store::open(&dir.join("store"), &doc.comet_chain_id()).unwrap();
    if app.info().last_height < blocks.height() {
        println!("{BEHIND}");
    }
    let app: SharedApp = Arc::new(parking_lot::Mutex::new(Box::new(app)));
    let executor = Executor::new(Arc::clone(&blocks), stored, app, Arc::new(NoTxs), Arc::new(NoEvidence));
    let genesis = Genesis {
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
    // Fails if a version that is needed is gone, or if a state differs from what the chain says.
    let mut state = handshake(&executor, &genesis).unwrap();
    let mut last = 0;
    for recorded in chain.blocks().unwrap() {
        let block = Block::decode_checked(&recorded.block).unwrap();
        last = block.header.height;
        if last <= state.last_block_height {
            continue;
        }
        let parts = PartSet::from_bytes(&recorded.block, BLOCK_PART_BYTES);
        blocks.save(&block, &parts, &Commit::decode(&recorded.seen_commit).unwrap(), Durability::Synced).unwrap();
        state = executor.apply(&state, &block, &block.id().unwrap()).unwrap();
    }
    assert_eq!(state.last_block_height, last);
    println!("{DONE}");
}
