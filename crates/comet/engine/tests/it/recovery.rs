//! Nodes that crash and come back.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::node::{Net, Options, PATIENCE, SIGNED_FILE, Witness};

/// Names the folder to the process that is going to be killed.
const KILL_DIR: &str = "WADI_TEST_KILL_DIR";
/// Where that process tells its height.
const HEIGHT_FILE: &str = "height";

fn told_height(dir: &Path) -> i64 {
    let text = std::fs::read_to_string(dir.join(HEIGHT_FILE)).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn spawn_victim(dir: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "recovery::a_killed_process_comes_back_and_never_signs_twice", "--nocapture"]);
    command.env(KILL_DIR, dir).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// The process that is killed: a validator alone.
async fn be_victim(dir: &Path) {
    let mut net = Net::alone(dir);
    net.start(0, &Options::default()).await;
    loop {
        let new = dir.join("height.new");
        std::fs::write(&new, net.height(0).to_string()).unwrap();
        std::fs::rename(&new, dir.join(HEIGHT_FILE)).unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_comes_back_and_never_signs_twice() {
    if let Some(dir) = std::env::var_os(KILL_DIR) {
        return be_victim(Path::new(&dir)).await;
    }
    let temp = TempDir::new().unwrap();
    let dir = temp.path();
    for run in 0..8u64 {
        let before = told_height(dir);
        let mut victim = spawn_victim(dir);
        let began = Instant::now();
        while told_height(dir) < before + 2 {
            assert!(began.elapsed() < PATIENCE, "run {run}: still at height {before}");
            assert!(victim.try_wait().unwrap().is_none(), "run {run}: ended by itself");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        tokio::time::sleep(Duration::from_millis(11 * run)).await;
        victim.kill().unwrap();
        victim.wait().unwrap();
    }
    let witness = Witness::read(&dir.join(SIGNED_FILE));
    assert_eq!(witness.violations(), [""; 0]);
    assert!(witness.count() >= 16 * 3, "{}", witness.count());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validator_that_crashes_again_and_again_never_signs_twice() {
    let mut net = Net::new(4, 0);
    net.start_all(&Options::default()).await;
    net.reach(0, 3).await;
    for run in 0..12u64 {
        // At any place within a height.
        tokio::time::sleep(Duration::from_millis(37 * (run % 7) + 5)).await;
        net.crash(3).await;
        let options = Options { block_sync: run % 3 == 2, ..Options::default() };
        net.start(3, &options).await;
        if run % 4 == 3 {
            net.advance(&[0, 3], 2).await;
        }
    }
    net.advance(&[0, 1, 2, 3], 3).await;
    net.check();
    assert!(net.nodes[3].witness.count() > 10);
    net.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_whose_nodes_all_crash_goes_on() {
    let mut net = Net::new(3, 0);
    net.start_all(&Options::default()).await;
    for run in 0..4u64 {
        net.advance(&[0, 1, 2], 3).await;
        tokio::time::sleep(Duration::from_millis(23 * run)).await;
        for at in 0..3 {
            net.crash(at).await;
        }
        net.start_all(&Options::default()).await;
    }
    net.advance(&[0, 1, 2], 3).await;
    net.check();
    net.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validator_alone_goes_on_after_losing_its_log() {
    let mut net = Net::new(1, 0);
    net.start(0, &Options::default()).await;
    net.reach(0, 4).await;
    net.crash(0).await;
    std::fs::remove_dir_all(net.wal_dir(0)).unwrap();
    net.start(0, &Options::default()).await;
    net.advance(&[0], 4).await;
    net.stop(0).await;
    net.start(0, &Options::default()).await;
    net.advance(&[0], 4).await;
    net.check();
    net.stop(0).await;
}
