//! A ParaTime under load while peers misbehave: nothing is refused, and no node grows.
//!
//! `WADI_LOAD_SECONDS` sets how long; `make test-long` runs it for half an hour.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base_codec::{Bytes, Raw};
use base_identity::{KeyRole, load_key};
use cli_devnet::keyvalue::KeyValue;
use cli_devnet::load::{self, Outcome};
use cli_devnet::trial::{self, synced, until};
use cli_devnet::{Network, Node, Role, Running};
use mkvs_tree::LogEntry;
use p2p_net::address::AddrInfo;
use p2p_net::api::{BoxFuture, P2p, Validate, Validation};
use p2p_net::config::Config;
use p2p_net::ids;
use p2p_net::rpc::{Handler, RpcError, Service};
use p2p_net::{Keypair, Node as Peer, PeerId};
use rt_storage::messages::GetDiffResponse;
use rustix::process::{Pid, Signal, kill_process};
use tokio_util::sync::CancellationToken;

const NODE: &str = env!("CARGO_BIN_EXE_oasis-node");
/// Seconds that anything may take: a machine that does other things too is slow.
const PATIENCE: u64 = 240;
/// Seconds of load, if nothing else is said.
const SECONDS: u64 = 45;
/// Senders at once.
const SENDERS: usize = 16;
/// Bytes of a value.
const VALUE: usize = 100;
/// Messages that a flooding peer sends on each topic before it rests.
const BURST: u64 = 50;
/// Pause between two bursts.
const REST: Duration = Duration::from_millis(100);
/// How long a hostile peer keeps its name: by then it is known for what it is.
const LIFE: Duration = Duration::from_secs(6);
/// How long the slow peer sleeps, and is awake.
const SLEEPS: Duration = Duration::from_secs(5);
/// Between two looks at the nodes.
const SAMPLING: Duration = Duration::from_secs(1);
/// Anonymous memory by which a node may grow in the second half of the load: part of what it had, and kilobytes, which is
/// what caches take until they are full.
const GROWTH: (u64, u64) = (10, 24 * 1024);
/// Descriptors by which it may: connections come and go.
const DESCRIPTORS: u64 = 24;

/// What a node holds.
#[derive(Clone, Copy, Debug, Default)]
struct Holding {
    anonymous_kb: u64,
    descriptors: u64,
}

fn holding(pid: u32) -> Option<Holding> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let anonymous_kb = anonymous.trim().trim_end_matches(" kB").parse().ok()?;
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
    Some(Holding { anonymous_kb, descriptors: u64::try_from(descriptors).ok()? })
}

/// The middle of what was seen.
fn median(seen: &[Holding], of: impl Fn(&Holding) -> u64) -> u64 {
    let mut values: Vec<u64> = seen.iter().map(of).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Takes whatever comes.
struct Indifferent;

impl Validate for Indifferent {
    fn validate<'a>(&'a self, _: PeerId, _: bool, _: &'a [u8]) -> BoxFuture<'a, Validation> {
        Box::pin(async { Validation::Accept })
    }
}

/// Answers requests for differences with what never was, and lets all others wait.
struct Liar(Arc<AtomicU64>);

impl Handler for Liar {
    fn handle<'a>(&'a self, _: PeerId, method: &'a str, _: &'a Raw) -> BoxFuture<'a, Result<Raw, RpcError>> {
        Box::pin(async move {
            if method != "GetDiff" {
                std::future::pending::<()>().await;
            }
            self.0.fetch_add(1, Ordering::Relaxed);
            let entry = |number: u8| LogEntry { key: Bytes(vec![number; 20]), value: Some(Bytes(vec![number; 5_000])) };
            Ok(Raw::of(&GetDiffResponse { write_log: (0..200).map(entry).collect() }))
        })
    }
}

/// What hostile peers did.
#[derive(Default)]
struct Deeds {
    names: AtomicU64,
    messages: AtomicU64,
    lies: Arc<AtomicU64>,
}

fn address(node: &Node) -> AddrInfo {
    let key = load_key(&node.dir, KeyRole::P2p).expect("the node's key");
    let listens = format!("/ip4/127.0.0.1/tcp/{}", node.p2p_port);
    AddrInfo { id: Keypair::from(key).public().to_peer_id(), addrs: vec![listens.parse().expect("an address")] }
}

/// Floods the ParaTime's topics with what cannot be decoded, and serves lies, under ever new names.
async fn hostile(chain: String, targets: Vec<AddrInfo>, deeds: Arc<Deeds>, stop: CancellationToken) {
    let runtime = trial::runtime_id();
    let topics = [ids::tx_topic(&chain, &runtime), ids::committee_topic(&chain, &runtime)];
    while !stop.is_cancelled() {
        let mut config = Config::new(0, "oasis-core/test");
        config.listen = vec![([127, 0, 0, 1], 0).into()];
        config.allow_unroutable = true;
        let life = stop.child_token();
        let peer = Peer::start(config, Keypair::generate_ed25519(), life.clone()).await.expect("a peer");
        deeds.names.fetch_add(1, Ordering::Relaxed);
        for topic in &topics {
            peer.subscribe(topic, Arc::new(Indifferent)).expect("a topic");
        }
        for spec in [&ids::STORAGE_SYNC, &ids::DIFF_SYNC, &ids::CHECKPOINT_SYNC, &ids::TX_SYNC] {
            let liar = Service::shared(Liar(Arc::clone(&deeds.lies)));
            peer.serve(spec.of_runtime(&chain, &runtime), liar).expect("a protocol");
        }
        for target in &targets {
            // Its address may be out of patience with us.
            let _ = peer.connect(target).await;
        }
        let end = Instant::now() + LIFE;
        while Instant::now() < end && !stop.is_cancelled() {
            for _ in 0..BURST {
                let number = deeds.messages.fetch_add(1, Ordering::Relaxed);
                let mut message = vec![0xff; 200];
                message.extend(number.to_be_bytes());
                for topic in &topics {
                    // With a full queue it is not sent.
                    let _ = peer.publish(topic, message.clone());
                }
            }
            tokio::time::sleep(REST).await;
        }
        life.cancel();
        peer.stop().await;
    }
}

/// Puts a node to sleep and wakes it, again and again: what is sent to it piles up.
async fn slow(pid: Pid, stop: CancellationToken) {
    while !stop.is_cancelled() {
        kill_process(pid, Signal::STOP).expect("it runs");
        tokio::time::sleep(SLEEPS).await;
        kill_process(pid, Signal::CONT).expect("it runs");
        tokio::time::sleep(SLEEPS).await;
    }
}

/// Looks at the nodes until told to stop.
async fn watch(watched: Vec<(String, u32)>, stop: CancellationToken) -> BTreeMap<String, Vec<Holding>> {
    let mut seen: BTreeMap<String, Vec<Holding>> = BTreeMap::new();
    while !stop.is_cancelled() {
        for (name, pid) in &watched {
            seen.entry(name.clone()).or_default().extend(holding(*pid));
        }
        tokio::time::sleep(SAMPLING).await;
    }
    seen
}

/// Load through a node while peers misbehave.
async fn under_attack(
    network: &Network,
    running: &Running,
    seconds: u64,
) -> (Outcome, BTreeMap<String, Vec<Holding>>, Arc<Deeds>) {
    let nodes = network.nodes();
    let clients: Vec<&Node> = nodes.iter().filter(|node| node.role == Role::Client).collect();
    let [client, sleeper] = clients.as_slice() else { panic!("there are two clients") };
    let stop = CancellationToken::new();
    let deeds = Arc::new(Deeds::default());
    let targets =
        nodes.iter().filter(|node| matches!(node.role, Role::Compute | Role::Client) && node.name != sleeper.name);
    let targets = targets.map(address).collect();
    let attack = tokio::spawn(hostile(network.chain_context.clone(), targets, Arc::clone(&deeds), stop.clone()));
    let pids: Vec<(&Node, u32)> =
        nodes.iter().zip(running.pids()).map(|(node, pid)| (node, pid.expect("it was started"))).collect();
    let pid = pids.iter().find(|(node, _)| node.name == sleeper.name).expect("it is there").1;
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process");
    let sleeping = tokio::spawn(slow(pid, stop.clone()));
    let watched = pids.iter().filter(|(node, _)| node.name != sleeper.name);
    let watching = tokio::spawn(watch(watched.map(|(node, pid)| (node.name.clone(), *pid)).collect(), stop.clone()));
    let outcome = load::run(client, SENDERS, seconds, VALUE).await.expect("the client answers");
    stop.cancel();
    attack.await.expect("it ends");
    sleeping.await.expect("it ends");
    (outcome, watching.await.expect("it ends"), deeds)
}

/// No node holds more in the last quarter than in the second one.
fn check_flat(seen: &BTreeMap<String, Vec<Holding>>) {
    for (name, samples) in seen {
        let quarter = samples.len() / 4;
        let (early, late) = (&samples[quarter..2 * quarter], &samples[3 * quarter..]);
        let memory = [early, late].map(|part| median(part, |sample| sample.anonymous_kb));
        let descriptors = [early, late].map(|part| median(part, |sample| sample.descriptors));
        println!(
            "{name}: anonymous memory {} to {} kB, descriptors {} to {}, {} samples",
            memory[0],
            memory[1],
            descriptors[0],
            descriptors[1],
            samples.len()
        );
        let most = memory[0] + memory[0] / GROWTH.0 + GROWTH.1;
        assert!(memory[1] <= most, "{name} grew from {} to {} kB of anonymous memory", memory[0], memory[1]);
        assert!(descriptors[1] <= descriptors[0] + DESCRIPTORS, "{name} has more and more descriptors");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn load_and_hostile_peers_leave_no_trace() {
    let seconds = std::env::var("WADI_LOAD_SECONDS").ok().map_or(SECONDS, |text| text.parse().expect("seconds"));
    let mut dir = tempfile::Builder::new().prefix("ld").tempdir().expect("a directory");
    dir.disable_cleanup(std::env::var_os("KEEP_NETWORK").is_some());
    // Outside the sandbox: the memory of sandboxes is not the nodes'.
    let network = trial::paratime(dir.path(), Path::new(NODE), 2, false).expect("a network");
    let nodes = network.nodes();
    let mut running = Running::new(Path::new(NODE), nodes.clone()).expect("the program is there");
    running.start_all().expect("all start");
    for client in nodes.iter().filter(|node| node.role == Role::Client) {
        synced(client, PATIENCE).await;
    }
    let client = nodes.iter().find(|node| node.role == Role::Client).expect("a client");
    let paratime = KeyValue::connect(client).await.expect("it answers");
    until("a round after the first", PATIENCE, async || {
        paratime.newest().await.ok().filter(|block| block.header.round > 1)
    })
    .await;

    let (outcome, seen, deeds) = under_attack(&network, &running, seconds).await;
    let count = |deed: &AtomicU64| deed.load(Ordering::Relaxed);
    println!(
        "{} transactions in {:.0} s, {} failed; {} hostile names, {} messages on each topic, {} lies",
        outcome.executed,
        outcome.took.as_secs_f64(),
        outcome.failed,
        count(&deeds.names),
        count(&deeds.messages),
        count(&deeds.lies)
    );
    assert_eq!((outcome.failed, &outcome.first_failure), (0, &None), "every transaction is executed");
    assert!(outcome.executed > SENDERS, "more than the first of each sender");
    assert!(count(&deeds.messages) > BURST, "there was a flood");
    check_flat(&seen);

    // The slow one catches up.
    let newest = paratime.newest().await.expect("a block").header.round;
    let sleeper = nodes.iter().rfind(|node| node.role == Role::Client).expect("the last client");
    let slow = KeyValue::connect(sleeper).await.expect("it answers");
    until("the newest rounds at the slow client", PATIENCE, async || {
        slow.newest().await.ok().filter(|block| block.header.round >= newest)
    })
    .await;
    assert!(running.ended().is_none(), "all nodes still run");
    assert_eq!(running.stop(), Vec::<String>::new(), "all nodes end when they are asked to");
}
