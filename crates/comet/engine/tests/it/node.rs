//! A network of engines, each in a folder of its own.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base_crypto::ed25519::SecretKey;
use comet_chain::app::{
    Application, BlockParams, ConsensusParams, EvidenceParams, ValidatorParams, ValidatorUpdate, VersionParams,
};
use comet_core::{Config, PeerId};
use comet_engine::{Engine, EngineError, EngineHandle, Setup, StateSyncSetup, StopReason};
use comet_net::{ConnectionFilter, DropPeer, Intervals, NetConfig, PeerAddress, node_id};
use comet_store::{ConsensusSigner, FileSigner, Genesis, SharedApp, SignError};
use comet_sync::{StateProvider, StateSyncConfig};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use wire_cometbft::Message;
use wire_cometbft::Time;
use wire_cometbft::p2p::NodeInfo;
use wire_cometbft::vote::{CanonicalProposal, CanonicalVote, SignedMsgType};

use crate::app::Toy;

pub(crate) const CHAIN: &str = "lab-chain";
/// Longest wait for what is to happen, on a machine with other work.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Where a lone validator writes down what it signs.
pub(crate) const SIGNED_FILE: &str = "signed";

/// Everything that a key signed, over all restarts: nothing twice but for the time.
#[derive(Default)]
pub(crate) struct Witness {
    signed: Mutex<BTreeMap<(i64, i64, i32), Vec<u8>>>,
    violations: Mutex<Vec<String>>,
    /// Where it is written down too, so that it outlives the process.
    file: Option<PathBuf>,
}

impl Witness {
    /// What was written down by others.
    pub(crate) fn read(file: &Path) -> Self {
        let witness = Self::default();
        let bytes = std::fs::read(file).unwrap();
        let mut rest = bytes.as_slice();
        // The last one may have been cut off.
        while let Some((length, tail)) = rest.split_first_chunk::<4>()
            && let Some(message) = tail.get(..u32::from_le_bytes(*length) as usize)
        {
            witness.note(message);
            rest = &tail[message.len()..];
        }
        witness
    }

    fn note(&self, message: &[u8]) {
        if let Some(file) = &self.file {
            let mut bytes = (message.len() as u32).to_le_bytes().to_vec();
            bytes.extend(message);
            let mut file = std::fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
            file.write_all(&bytes).unwrap();
        }
        let vote = CanonicalVote::decode_delimited(message, message.len()).map(|(vote, _)| vote);
        let (place, bytes) = match vote {
            Ok(mut vote) if vote.kind.is_vote() => {
                vote.timestamp = Time::ZERO;
                ((vote.height.0, vote.round.0, vote.kind.0), vote.encode_to_vec())
            }
            _ => {
                let (mut proposal, _) = CanonicalProposal::decode_delimited(message, message.len()).unwrap();
                proposal.timestamp = Time::ZERO;
                ((proposal.height.0, proposal.round.0, SignedMsgType::PROPOSAL.0), proposal.encode_to_vec())
            }
        };
        let mut signed = self.signed.lock();
        let first = signed.entry(place).or_insert_with(|| bytes.clone());
        if *first != bytes {
            self.violations.lock().push(format!("two different messages for {place:?}"));
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.signed.lock().len()
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.violations.lock().clone()
    }
}

/// A key that tells the witness what it signs.
struct Watched {
    key: FileSigner,
    witness: Arc<Witness>,
}

impl ConsensusSigner for Watched {
    fn public(&self) -> [u8; 32] {
        self.key.public()
    }

    fn sign(&self, context: &str, message: &[u8]) -> Result<[u8; 64], SignError> {
        self.witness.note(message);
        self.key.sign(context, message)
    }
}

/// Which nodes can talk to which: those of one group.
#[derive(Default)]
pub(crate) struct Groups(Mutex<BTreeMap<String, u8>>);

impl Groups {
    fn of(&self, id: &str) -> u8 {
        self.0.lock().get(id).copied().unwrap_or(0)
    }
}

struct GroupFilter {
    groups: Arc<Groups>,
    own: PeerId,
}

impl ConnectionFilter for GroupFilter {
    fn node(&self, info: &NodeInfo, _: SocketAddr) -> Result<(), String> {
        let apart = self.groups.of(&info.default_node_id) != self.groups.of(&self.own.0);
        if apart { Err("on the other side".into()) } else { Ok(()) }
    }
}

/// How a node is run.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) validator: bool,
    pub(crate) block_sync: bool,
    pub(crate) block_sync_lag: Option<u32>,
    pub(crate) halt_at: Option<i64>,
    pub(crate) state_sync: Option<Arc<dyn StateProvider>>,
}

impl Default for Options {
    fn default() -> Self {
        Self { validator: true, block_sync: false, block_sync_lag: None, halt_at: None, state_sync: None }
    }
}

/// A node's place: what outlives its runs.
pub(crate) struct Node {
    pub(crate) dir: PathBuf,
    /// Removes the folder in the end.
    _temp: Option<TempDir>,
    pub(crate) port: u16,
    p2p_key: SecretKey,
    key: SecretKey,
    pub(crate) witness: Arc<Witness>,
    running: Option<(EngineHandle, CancellationToken)>,
}

pub(crate) struct Net {
    pub(crate) nodes: Vec<Node>,
    genesis: Genesis,
    groups: Arc<Groups>,
}

fn free_ports(count: usize) -> Vec<u16> {
    let held: Vec<_> = (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
    held.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

pub(crate) fn quick() -> Config {
    let millis = wire_cometbft::Duration::from_millis;
    Config {
        timeout_propose: millis(400),
        timeout_propose_delta: millis(100),
        timeout_prevote: millis(100),
        timeout_prevote_delta: millis(50),
        timeout_precommit: millis(100),
        timeout_precommit_delta: millis(50),
        timeout_commit: millis(20),
        ..Config::default()
    }
}

pub(crate) fn quick_intervals() -> Intervals {
    Intervals { reconnect: Duration::from_millis(200), dial_jitter: Duration::from_millis(50), ..Intervals::default() }
}

pub(crate) fn params() -> ConsensusParams {
    ConsensusParams {
        block: BlockParams { max_bytes: 300_000, max_gas: -1 },
        evidence: EvidenceParams {
            max_age_num_blocks: 1000,
            max_age_duration: wire_cometbft::Duration::from_secs(1000),
            max_bytes: 50_000,
        },
        validator: ValidatorParams { pub_key_types: vec!["ed25519".into()] },
        version: VersionParams { app: 1 },
    }
}

static SEED: AtomicU64 = AtomicU64::new(1);

fn fresh_key() -> SecretKey {
    let mut seed = [0x5a; 32];
    seed[..8].copy_from_slice(&SEED.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    SecretKey::from_seed(&seed)
}

impl Net {
    /// Places for so many validators and other nodes; nothing runs yet.
    pub(crate) fn new(validators: usize, others: usize) -> Self {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let ports = free_ports(validators + others);
        let nodes: Vec<Node> = ports
            .into_iter()
            .map(|port| (port, TempDir::new().unwrap()))
            .map(|(port, temp)| Node {
                dir: temp.path().to_owned(),
                _temp: Some(temp),
                port,
                p2p_key: fresh_key(),
                key: fresh_key(),
                witness: Arc::default(),
                running: None,
            })
            .collect();
        let member = |node: &Node| ValidatorUpdate { pub_key: node.key.public(), power: 10 };
        let genesis = Genesis {
            chain_id: CHAIN.into(),
            initial_height: 1,
            time: Time::new(1_700_000_000, 0).unwrap(),
            params: params(),
            validators: nodes.iter().take(validators).map(member).collect(),
            app_state: Vec::new(),
        };
        Self { nodes, genesis, groups: Arc::default() }
    }

    /// One validator in a folder that stays, with keys that are the same in each process that makes this first.
    pub(crate) fn alone(dir: &Path) -> Self {
        let mut net = Self::new(1, 0);
        let node = &mut net.nodes[0];
        node.dir = dir.to_owned();
        node.witness = Arc::new(Witness { file: Some(dir.join(SIGNED_FILE)), ..Witness::default() });
        net
    }

    pub(crate) fn id(&self, at: usize) -> PeerId {
        node_id(&self.nodes[at].p2p_key.public())
    }

    /// The key by which a node votes.
    pub(crate) fn key(&self, at: usize) -> &SecretKey {
        &self.nodes[at].key
    }

    pub(crate) fn address(&self, at: usize) -> PeerAddress {
        PeerAddress::parse(&format!("{}@127.0.0.1:{}", self.id(at).0, self.nodes[at].port)).unwrap()
    }

    fn setup(&self, at: usize, options: &Options) -> Setup {
        let node = &self.nodes[at];
        let mut toy = Toy::open(&node.dir.join("app"));
        toy.halt_at = options.halt_at;
        let app: SharedApp = Arc::new(Mutex::new(Box::new(toy) as Box<dyn Application>));
        let mut setup = Setup::new(self.genesis.clone(), app, node.dir.join("consensus"), node.p2p_key.clone());
        setup.consensus = Config { block_sync_lag: options.block_sync_lag, ..quick() };
        setup.lag_patience = Duration::ZERO;
        setup.block_sync = options.block_sync;
        setup.block_sync_config.switch_interval = Duration::from_millis(200);
        setup.block_sync_config.status_interval = Duration::from_millis(500);
        setup.moniker = format!("node-{at}");
        setup.submit_timeout = PATIENCE;
        setup.net = NetConfig {
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, node.port))),
            persistent_peers: (0..self.nodes.len())
                .filter(|&other| other != at)
                .map(|other| self.address(other))
                .collect(),
            pex: false,
            addr_book_strict: false,
            allow_duplicate_ip: true,
            filter: Some(Arc::new(GroupFilter { groups: Arc::clone(&self.groups), own: self.id(at) })),
            intervals: quick_intervals(),
            ..NetConfig::default()
        };
        setup.state_sync = options.state_sync.clone().map(|provider| {
            let mut config = StateSyncConfig::new(node.dir.clone());
            config.discovery = Duration::from_millis(300);
            StateSyncSetup { provider, config }
        });
        if options.validator {
            let (key, witness) = (FileSigner::new(node.key.clone()), Arc::clone(&node.witness));
            setup.signer = Some(Arc::new(Watched { key, witness }));
        }
        setup
    }

    pub(crate) async fn start(&mut self, at: usize, options: &Options) {
        let stop = CancellationToken::new();
        let began = Instant::now();
        let handle = loop {
            match Engine::start(self.setup(at, options), stop.clone()).await {
                Ok(handle) => break handle,
                // The run before has just ended: its last task lets go of the files now.
                Err(EngineError::Store(_)) if began.elapsed() < Duration::from_secs(5) => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => panic!("node {at}: {error}"),
            }
        };
        self.nodes[at].running = Some((handle, stop));
    }

    pub(crate) async fn start_all(&mut self, options: &Options) {
        for at in 0..self.nodes.len() {
            self.start(at, options).await;
        }
    }

    pub(crate) fn handle(&self, at: usize) -> &EngineHandle {
        &self.nodes[at].running.as_ref().unwrap().0
    }

    /// Stops a node as it should be.
    pub(crate) async fn stop(&mut self, at: usize) {
        let (handle, stop) = self.nodes[at].running.take().unwrap();
        stop.cancel();
        let reason = tokio::time::timeout(PATIENCE, handle.stopped()).await.unwrap();
        assert_eq!(reason, StopReason::Requested);
    }

    /// Stops a node between any two effects of its machine.
    pub(crate) async fn crash(&mut self, at: usize) {
        let (handle, stop) = self.nodes[at].running.take().unwrap();
        handle.abort();
        stop.cancel();
        tokio::time::timeout(PATIENCE, handle.stopped()).await.unwrap();
    }

    pub(crate) async fn stop_all(&mut self) {
        for at in 0..self.nodes.len() {
            if self.nodes[at].running.is_some() {
                self.stop(at).await;
            }
        }
    }

    pub(crate) fn height(&self, at: usize) -> i64 {
        self.handle(at).blocks().height()
    }

    /// Waits until a node has this height.
    pub(crate) async fn reach(&self, at: usize, height: i64) {
        let began = Instant::now();
        while self.height(at) < height {
            let status = || self.handle(at).status();
            assert!(began.elapsed() < PATIENCE, "node {at} is at {}, not {height}: {:#?}", self.height(at), status());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until these nodes are `more` heights above the highest of them now.
    pub(crate) async fn advance(&self, nodes: &[usize], more: i64) {
        let target = nodes.iter().map(|&at| self.height(at)).max().unwrap() + more;
        for &at in nodes {
            self.reach(at, target).await;
        }
    }

    /// Cuts the links between groups; nodes not named are in group 0.
    pub(crate) fn partition(&self, groups: &[(usize, u8)]) {
        *self.groups.0.lock() = groups.iter().map(|&(at, group)| (self.id(at).0.to_string(), group)).collect();
        for node in &self.nodes {
            let Some((handle, _)) = &node.running else { continue };
            let own = self.groups.of(&handle.switch().id().0);
            for peer in handle.switch().peers() {
                if self.groups.of(&peer.id().0) != own {
                    peer.stop(DropPeer::new("link cut"));
                }
            }
        }
    }

    /// All running nodes have the same blocks; nobody signed two things; no evidence came up.
    pub(crate) fn check(&self) {
        let running: Vec<&EngineHandle> =
            self.nodes.iter().filter_map(|node| node.running.as_ref()).map(|(handle, _)| handle).collect();
        let common = running.iter().map(|handle| handle.blocks().height()).min().unwrap();
        for height in 1..=common {
            let id = |handle: &EngineHandle| handle.blocks().meta(height).unwrap().map(|meta| meta.block_id);
            let first = id(running[0]).unwrap();
            for handle in running[1..].iter().filter(|handle| handle.blocks().base() <= height) {
                assert_eq!(id(handle), Some(first.clone()), "height {height}");
            }
            let block = running[0].blocks().block(height).unwrap().unwrap();
            assert!(block.evidence.evidence.is_empty(), "evidence at height {height}");
        }
        for handle in running {
            assert_eq!(handle.evidence().size(), 0);
        }
        for (at, node) in self.nodes.iter().enumerate() {
            assert_eq!(node.witness.violations(), [""; 0], "node {at}");
        }
    }

    /// How often a transaction is in a node's blocks.
    pub(crate) fn occurrences(&self, at: usize, tx: &[u8]) -> usize {
        let blocks = self.handle(at).blocks();
        let blocks = (1..=blocks.height()).filter_map(|height| blocks.block(height).unwrap());
        blocks.flat_map(|block| block.data.txs).filter(|other| other == tx).count()
    }

    pub(crate) fn wal_dir(&self, at: usize) -> PathBuf {
        self.nodes[at].dir.join("consensus").join(comet_engine::setup::WAL_DIR)
    }
}
