//! Networks that are tried: waiting for what has to come true, and a small network with the key-value ParaTime.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base_prims::Namespace;

use crate::DevnetError;
use crate::chain::Chain;
use crate::network::Network;
use crate::plan::{Node, ParaTime, Plan};

/// Pause between two questions.
const POLL: Duration = Duration::from_millis(100);
/// First port that is looked at.
const FIRST_PORT: u16 = 28_000;
/// Name of the ParaTime's program.
const PROGRAM: &str = "simple-keyvalue";

/// Asks until there is an answer.
///
/// # Panics
/// If there is none in time: what was waited for did not happen.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, seconds: u64, mut ask: impl FnMut() -> F) -> T {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < end, "{what} did not happen within {seconds} s");
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until a node has caught up with its network.
///
/// # Panics
/// If it does not in time.
pub async fn synced(node: &Node, seconds: u64) {
    until(&format!("{} in sync", node.name), seconds, async || {
        Chain::connect(node).await.ok()?.is_synced().await.ok().filter(|synced| *synced)
    })
    .await;
}

/// The key-value ParaTime's program, which is built beside the node's.
///
/// # Panics
/// If it is not there.
#[must_use]
pub fn program(node: &Path) -> PathBuf {
    let path = node.with_file_name(PROGRAM);
    assert!(path.is_file(), "{} is missing: cargo build -p {PROGRAM}", path.display());
    path
}

/// Identifier of the ParaTime of a network.
#[must_use]
pub fn runtime_id() -> Namespace {
    crate::blueprint::paratime_id()
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

/// What a process uses and used: memory, peak and parts of it, and processor time.
#[must_use]
pub fn usage(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let wanted = |line: &&str| ["VmHWM", "RssAnon", "RssFile"].iter().any(|name| line.starts_with(name));
    let memory: Vec<String> = status.lines().filter(wanted).map(|line| line.replace('\t', " ")).collect();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().filter_map(|place| fields.get(*place)?.parse::<u64>().ok()).sum();
    format!("{}, processor {}.{:02} s", memory.join(", "), ticks / 100, ticks % 100)
}

/// A network of two validators and three compute nodes, of which two make the committee and one is its backup.
///
/// # Errors
/// If it cannot be made.
pub fn paratime(dir: &Path, node: &Path, clients: u16, sandboxed: bool) -> Result<Network, DevnetError> {
    let mut plan = Plan {
        dir: dir.to_owned(),
        validators: 2,
        clients,
        paratime: Some(ParaTime {
            binary: program(node),
            computes: 3,
            sandboxed,
            checkpoint_interval: 10,
            max_batch_size: 1_000,
            ..ParaTime::default()
        }),
        base_port: FIRST_PORT,
        block_time: Duration::from_millis(300),
        epoch_interval: 30,
        chain_id: "devnet test".to_owned(),
        genesis_time: now(),
        ..Plan::default()
    };
    plan.base_port = plan.free_base_port()?;
    Network::create(plan)
}
