//! Nodes with history, storage, a runtime and an executor each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use base_codec::cbor;
use base_crypto::blacklist::Blacklist;
use base_crypto::ed25519::SecretKey;
use base_kv::Memory;
use base_prims::{Hash, Namespace, PublicKey, Quantity};
use mkvs_db::NodeDb;
use mkvs_tree::{KvWrite, Sequential, Tree};
use node_config::{Config, Mode};
use node_executor::{Executor, ExecutorError, Setup};
use node_workers::{Chain, Submission};
use p2p_net::PeerId;
use parking_lot::Mutex;
use rt_history::{History, Sync};
use rt_host::mock::MockHost;
use rt_host::{BoxFuture, ComponentStatus, HostError, HostEvent, RuntimeHost};
use rt_storage::{Apply, Storage, roots_of};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wire_consensus::node::{CapabilityTee, Node as NodeDescriptor};
use wire_consensus::registry::{Runtime, RuntimeGovernanceModel, RuntimeKind};
use wire_consensus::roothash::{ComputeResultsHeader, Header, HeaderType};
use wire_consensus::scheduler::{Committee, CommitteeKind, CommitteeNode, Role};
use wire_consensus::staking::{Slash, SlashReason};
use wire_runtime::runtime::{
    CheckTxBatchResponse, CheckTxMetadata, CheckTxResult, ComputedBatch, ExecuteTxBatchRequest, ExecuteTxBatchResponse,
    ExecutionMode, InfoResponse,
};
use wire_runtime::transaction::{ArtifactKind, OutputArtifacts, input_pairs, transaction_key};
use wire_runtime::{Body, Field};

use crate::chain::{FIRST, Light, TestChain};
use crate::network::{Hub, Peer};

/// Time between consensus blocks.
pub(crate) const BLOCK: Duration = Duration::from_millis(60);

/// How a runtime behaves.
pub(crate) const NORMAL: u8 = 0;
pub(crate) const FAILING: u8 = 1;
pub(crate) const HANGING: u8 = 2;

/// The mock, with its own checks and results: each transaction is its own sender's, and those that begin with `bad` fail.
pub(crate) struct TestHost {
    mock: MockHost,
    pub(crate) behaviour: AtomicU8,
    pub(crate) aborts: AtomicU64,
    pub(crate) executions: AtomicU64,
    /// What is in blocks as far as this runtime knows, if it cares.
    ledger: Option<Mutex<BTreeSet<Hash>>>,
}

impl TestHost {
    fn has(&self, tx: &[u8]) -> bool {
        self.ledger.as_ref().is_some_and(|ledger| ledger.lock().contains(&Hash::of(&[tx])))
    }

    async fn serve(&self, body: Body) -> Result<Body, HostError> {
        match &body {
            Body::RuntimeCheckTxBatchRequest(request) => {
                let check = |input: &base_codec::Bytes| {
                    let mut result = CheckTxResult::default();
                    if input.starts_with(b"bad") || self.has(input) {
                        (result.error.module, result.error.code) = ("test".to_owned(), 1);
                    } else {
                        let sender = Hash::of(&[input]).as_bytes().to_vec().into();
                        result.meta = Field::Is(CheckTxMetadata { sender, ..CheckTxMetadata::default() });
                    }
                    result
                };
                let results: Vec<_> = request.inputs.iter().flatten().map(check).collect();
                Ok(Body::RuntimeCheckTxBatchResponse(CheckTxBatchResponse { results: results.into() }))
            }
            Body::RuntimeExecuteTxBatchRequest(request) => {
                self.executions.fetch_add(1, Ordering::Relaxed);
                match self.behaviour.load(Ordering::Relaxed) {
                    FAILING => return Err(HostError::MalformedAnswer("broken".to_owned())),
                    HANGING => std::future::pending::<()>().await,
                    _ => {}
                }
                Ok(Body::RuntimeExecuteTxBatchResponse(Box::new(self.execute(request))))
            }
            _ => self.mock.call(body).await,
        }
    }

    /// Outputs are inputs; what is in a block already is thrown out when scheduling.
    fn execute(&self, request: &ExecuteTxBatchRequest) -> ExecuteTxBatchResponse {
        let mut inputs = request.inputs.clone().unwrap_or_default();
        let mut rejected = Vec::new();
        if request.mode == ExecutionMode::SCHEDULE {
            rejected.extend(inputs.iter().filter(|tx| self.has(tx)).map(|tx| Hash::of(&[tx])));
            inputs.retain(|tx| !self.has(tx));
        }
        ExecuteTxBatchResponse { tx_reject_hashes: Field::Is(rejected), ..execute(request, inputs) }
    }
}

/// Outputs are inputs; the state stays empty.
fn execute(request: &ExecuteTxBatchRequest, inputs: Vec<base_codec::Bytes>) -> ExecuteTxBatchResponse {
    let empty = Hash::of(&[b""]);
    let round = request.block.header.round + 1;
    let hashes: Vec<Hash> = inputs.iter().map(|input| Hash::of(&[input])).collect();
    let mut tree = Tree::in_memory().with_write_log();
    for (key, value) in input_pairs(&inputs).unwrap() {
        tree.insert(&key, &value).unwrap();
    }
    let commit = |tree: &mut Tree| (tree.root_hash(&Sequential), tree.commit(round, 0, &Sequential).log.unwrap());
    let (tx_input_root, input_log) = commit(&mut tree);
    for (input, hash) in inputs.iter().zip(&hashes) {
        let artifacts = OutputArtifacts { output: Some(input.clone()) };
        tree.insert(&transaction_key(hash, ArtifactKind::Output), &cbor::to_vec(&artifacts)).unwrap();
    }
    let (io_root, io_log) = commit(&mut tree);
    ExecuteTxBatchResponse {
        batch: ComputedBatch {
            header: ComputeResultsHeader {
                round,
                previous_hash: request.block.header.hash(),
                io_root: Some(io_root),
                state_root: Some(empty),
                messages_hash: Some(empty),
                in_messages_hash: Some(empty),
                in_messages_count: 0,
            },
            io_write_log: Some(io_log),
            ..ComputedBatch::default()
        },
        tx_hashes: Field::Is(hashes),
        tx_input_root,
        tx_input_write_log: Field::Is(input_log),
        ..ExecuteTxBatchResponse::default()
    }
}

impl RuntimeHost for TestHost {
    fn id(&self) -> Namespace {
        self.mock.id()
    }
    fn start(&self) -> BoxFuture<'_, Result<(), HostError>> {
        self.mock.start()
    }
    fn stop(&self, deadline: Instant) -> BoxFuture<'_, Result<(), HostError>> {
        self.mock.stop(deadline)
    }
    fn abort(&self, force: bool) -> BoxFuture<'_, Result<(), HostError>> {
        self.aborts.fetch_add(1, Ordering::Relaxed);
        self.mock.abort(force)
    }
    fn call(&self, body: Body) -> BoxFuture<'_, Result<Body, HostError>> {
        Box::pin(self.serve(body))
    }
    fn info(&self) -> Option<InfoResponse> {
        self.mock.info()
    }
    fn capability_tee(&self) -> Option<Arc<CapabilityTee>> {
        None
    }
    fn update_capability_tee(&self) {}
    fn status(&self) -> ComponentStatus {
        self.mock.status()
    }
    fn events(&self) -> broadcast::Receiver<HostEvent> {
        self.mock.events()
    }
}

/// What a node keeps when its executor stops.
pub(crate) struct TestNode {
    pub(crate) key: SecretKey,
    pub(crate) id: PublicKey,
    pub(crate) peer_id: PeerId,
    mode: Mode,
    folder: PathBuf,
    pub(crate) host: Arc<TestHost>,
    history: Arc<History>,
    storage: Arc<Storage>,
    running: Mutex<Option<Running>>,
}

struct Running {
    executor: Arc<Executor>,
    peer: Arc<Peer>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), ExecutorError>>,
    view: JoinHandle<()>,
}

impl TestNode {
    pub(crate) fn executor(&self) -> Arc<Executor> {
        Arc::clone(&self.running.lock().as_ref().expect("runs").executor)
    }

    pub(crate) fn peer(&self) -> Arc<Peer> {
        Arc::clone(&self.running.lock().as_ref().expect("runs").peer)
    }
}

pub(crate) struct World {
    pub(crate) chain: Arc<TestChain>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) nodes: Vec<Arc<TestNode>>,
    pub(crate) committee: Committee,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

pub(crate) fn runtime_id() -> Namespace {
    "8000000000000000000000000000000000000000000000000000000000000001".parse().unwrap()
}

fn descriptor(stragglers: u16) -> Runtime {
    let mut rt = Runtime {
        v: 3,
        id: runtime_id(),
        kind: RuntimeKind::COMPUTE,
        governance_model: RuntimeGovernanceModel::ENTITY,
        ..Runtime::default()
    };
    rt.executor.round_timeout = 8;
    rt.executor.allowed_stragglers = stragglers;
    rt.txn_scheduler.proposer_timeout = 400_000_000;
    rt.txn_scheduler.batch_flush_timeout = 150_000_000;
    rt.txn_scheduler.max_batch_size = 100;
    rt.txn_scheduler.max_batch_size_bytes = 10_000;
    let slash = Slash { amount: Quantity::from(10u64), freeze_interval: 0 };
    rt.staking.slashing =
        [(SlashReason::RUNTIME_INCORRECT_RESULTS, slash.clone()), (SlashReason::RUNTIME_EQUIVOCATION, slash)].into();
    rt
}

/// What the test wants.
pub(crate) struct Shape {
    /// Compute nodes; all are workers and backup workers.
    pub(crate) workers: u8,
    /// Nodes that only have a pool.
    pub(crate) clients: u8,
    pub(crate) stragglers: u16,
    /// Consensus blocks per epoch; 0 for no change.
    pub(crate) epoch_blocks: i64,
    /// Whether runtimes refuse what is in a block already, as real ones do.
    pub(crate) ledger: bool,
}

impl World {
    pub(crate) async fn start(shape: Shape) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let count = shape.workers + shape.clients;
        let key = |n: u8| SecretKey::from_seed(&[n + 1; 32]);
        let descriptors: Vec<NodeDescriptor> = (0..count)
            .map(|n| {
                let id = PublicKey::new(key(n).public());
                let entity_id = PublicKey::new([100 + n; 32]);
                let mut node = NodeDescriptor { v: 3, id, entity_id, expiration: u64::MAX, ..Default::default() };
                node.p2p.id = PublicKey::new(key(200 + n).public());
                node
            })
            .collect();
        let member = |role| move |node: &NodeDescriptor| CommitteeNode { role, public_key: node.id };
        let computing = &descriptors[..usize::from(shape.workers)];
        let mut members: Vec<CommitteeNode> = computing.iter().map(member(Role::WORKER)).collect();
        members.extend(computing.iter().map(member(Role::BACKUP_WORKER)));
        let committee = Committee {
            kind: CommitteeKind::COMPUTE_EXECUTOR,
            members: Some(members),
            runtime_id: runtime_id(),
            valid_for: 5,
        };
        let chain = TestChain::new(&descriptor(shape.stragglers), &descriptors, &committee);
        let nodes: Vec<_> = (0..count)
            .map(|n| {
                let kv = Arc::new(Memory::new());
                let db = NodeDb::open(kv, mkvs_db::Config::new(runtime_id())).unwrap();
                let history = History::open(Arc::new(Memory::new()), runtime_id(), Sync::Honor).unwrap();
                let host = TestHost {
                    mock: MockHost::new(runtime_id()),
                    behaviour: AtomicU8::new(NORMAL),
                    aborts: AtomicU64::new(0),
                    executions: AtomicU64::new(0),
                    ledger: shape.ledger.then(Mutex::default),
                };
                Arc::new(TestNode {
                    id: descriptors[usize::from(n)].id,
                    peer_id: p2p_net::PublicKey::from_bytes(key(200 + n).public()).to_peer_id(),
                    key: key(n),
                    mode: if n < shape.workers { Mode::Compute } else { Mode::Client },
                    folder: folder.path().join(n.to_string()),
                    host: Arc::new(host),
                    history: Arc::new(history),
                    storage: Arc::new(Storage::new(db)),
                    running: Mutex::new(None),
                })
            })
            .collect();
        let world =
            Self { chain, hub: Arc::default(), nodes, committee, stop: CancellationToken::new(), _folder: folder };
        for n in 0..world.nodes.len() {
            world.nodes[n].host.start().await.unwrap();
            world.start_node(n);
            world.follow(n);
        }
        world.make_blocks(shape.epoch_blocks);
        world
    }

    /// Starts a node's executor, for the first time or again.
    pub(crate) fn start_node(&self, n: usize) {
        let node = &self.nodes[n];
        let peer = self.hub.join(node.peer_id);
        let stop = self.stop.child_token();
        let chain: Arc<dyn Chain> = self.chain.clone();
        let (view, following) = node_workers::runtime::follow(chain.clone(), runtime_id(), stop.clone());
        let setup = Setup {
            runtime: runtime_id(),
            mode: node.mode,
            config: Arc::new(Config::default()),
            folder: node.folder.clone(),
            chain: self.chain.clone(),
            chain_context: self.chain.context().as_str().to_owned(),
            blacklist: Arc::new(Blacklist::production()),
            submission: Arc::new(Submission::new(chain, 0, 0)),
            light_blocks: Arc::new(Light),
            p2p: peer.clone(),
            node_key: node.key.clone(),
            history: Arc::clone(&node.history),
            storage: Some(Arc::clone(&node.storage)),
            host: Some(node.host.clone()),
            view,
            key_manager: None,
        };
        let executor = Executor::new(setup).unwrap();
        let task = tokio::spawn(Arc::clone(&executor).run(stop.clone()));
        let view = tokio::spawn(following);
        *node.running.lock() = Some(Running { executor, peer, stop, task, view });
    }

    /// Stops a node's executor.
    pub(crate) async fn stop_node(&self, n: usize) {
        let running = self.nodes[n].running.lock().take().expect("runs");
        self.hub.leave(&self.nodes[n].peer_id);
        running.stop.cancel();
        running.task.await.unwrap().unwrap();
        running.view.await.unwrap();
    }

    fn make_blocks(&self, epoch_blocks: i64) {
        let (chain, stop, mut committee) = (self.chain.clone(), self.stop.clone(), self.committee.clone());
        tokio::spawn(async move {
            let mut made = 0;
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(BLOCK) => {}
                }
                made += 1;
                let new_epoch = epoch_blocks > 0 && made % epoch_blocks == 0;
                if new_epoch {
                    committee.valid_for += 1;
                    let workers = committee.members().len() / 2;
                    if let Some(members) = &mut committee.members {
                        members[..workers].rotate_left(1);
                    }
                }
                chain.block(new_epoch.then(|| committee.clone()));
            }
        });
    }

    /// What indexer and storage sync do for a node: its history, and roots that it did not compute from others.
    fn follow(&self, n: usize) {
        let (chain, stop) = (self.chain.clone(), self.stop.clone());
        let (node, all) = (self.nodes[n].clone(), self.nodes.clone());
        tokio::spawn(async move {
            let mut heights = chain.heights();
            let mut next = FIRST;
            loop {
                while next <= *heights.borrow_and_update() {
                    if let Some(block) = chain.block_at(next) {
                        node.history.commit(std::slice::from_ref(&block)).unwrap();
                        let header = block.block.unwrap().header;
                        sync(&node, &all, &header).await;
                        node.history.storage_synced(header.round).unwrap();
                        node.history.set_initialized();
                    }
                    next += 1;
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = heights.changed() => {}
                }
            }
        });
    }

    /// How often each transaction is in a block so far.
    pub(crate) fn included(&self) -> BTreeMap<Vec<u8>, u64> {
        let mut out = BTreeMap::new();
        let storage = &self.nodes[0].storage;
        let last = self.nodes[0].history.last_synced().unwrap_or(0);
        for round in 0..=last {
            let header = self.nodes[0].history.committed_block(round).unwrap().block.unwrap().header;
            if header.header_type != HeaderType::NORMAL {
                continue;
            }
            let tree = storage.db().read(&roots_of(&header)[0]).unwrap();
            for tx in rt_history::artifacts::transactions(&tree).unwrap() {
                *out.entry(tx.input).or_default() += 1;
            }
        }
        out
    }

    /// Newest round of the chain.
    pub(crate) fn round(&self) -> u64 {
        self.chain.runtime_state(0).last_block.header.round
    }

    /// Waits until something holds.
    pub(crate) async fn until(&self, what: &str, seconds: u64, mut holds: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        while !holds(self) {
            assert!(Instant::now() < deadline, "{what}: not within {seconds} s; round {}", self.round());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends everything; nobody contradicted itself.
    pub(crate) async fn end(self) {
        assert_eq!(self.chain.contradictions(), [], "two commitments to one proposal");
        for n in 0..self.nodes.len() {
            if self.nodes[n].running.lock().is_some() {
                self.stop_node(n).await;
            }
        }
        self.stop.cancel();
    }
}

/// Gets a round's roots from whoever has them and makes them final.
async fn sync(node: &TestNode, all: &[Arc<TestNode>], header: &Header) {
    let [io, state] = roots_of(header);
    assert!(state.hash.is_empty_hash(), "the mock keeps no state");
    while !node.storage.db().has_root(&io).unwrap() {
        let empty = node.storage.empty_io(header.round);
        let found = all.iter().find_map(|other| other.storage.diff(&empty, &io).ok());
        match found {
            Some(log) => node.storage.apply(&Apply { start: empty, end: io, log: &log }).unwrap(),
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
    node.storage.finalize(header).unwrap();
    if let Some(ledger) = &node.host.ledger {
        let txs = rt_history::artifacts::transactions(&node.storage.db().read(&io).unwrap()).unwrap();
        ledger.lock().extend(txs.iter().map(|tx| Hash::of(&[&tx.input])));
    }
}
