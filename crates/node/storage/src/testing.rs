//! A chain in memory, a network of function calls, and a runtime's rounds, for the tests of this crate.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use apps_core::submit::{BoxFuture as SubmitFuture, Included, SubmitError};
use base_codec::Bytes;
use base_crypto::context::ChainContext;
use base_kv::{KvStore, Memory};
use base_prims::{Hash, Namespace, PublicKey};
use mkvs_tree::{KvRead, KvWrite, LogEntry, Root, Sequential, Tree, TreeError, Visit, WriteLog};
use node_config::Config;
use node_workers::runtime::RuntimeView;
use node_workers::{Blocks, Chain, ChainError};
use p2p_net::api::{
    BoxFuture, CallLimits, P2p, P2pError, PeerId, PeerInfo, PeerVerdict, ProtocolId, Serve, Topic, Validate,
};
use parking_lot::Mutex;
use rt_storage::{Apply, Storage, roots_of};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wire_consensus::registry::{Runtime, StorageParameters};
use wire_consensus::roothash::{Block, Event, ExecutorCommit, Header, HeaderType, RuntimeState};
use wire_consensus::transaction::Transaction;

use crate::{RuntimeStore, Setup, StoreError, Stores};

/// Height of the chain's first state.
pub(crate) const GENESIS_HEIGHT: i64 = 10;
/// The runtime's first round.
pub(crate) const FIRST: u64 = 3;
/// Hexadecimal digits of the chain context.
pub(crate) const CONTEXT: &str = "0707070707070707070707070707070707070707070707070707070707070707";

pub(crate) fn id() -> Namespace {
    "8000000000000000000000000000000000000000000000000000000000000001".parse().unwrap()
}

/// A round: its block and what changed.
#[derive(Clone)]
pub(crate) struct Round {
    pub(crate) header: Header,
    block: Block,
    io: WriteLog,
    state: WriteLog,
}

fn put(key: Vec<u8>, value: Vec<u8>) -> LogEntry {
    LogEntry { key: Bytes(key), value: Some(Bytes(value)) }
}

/// So many rounds after the first, which is empty. Every fifth has the state of the one before and no inputs, as after an
/// epoch.
pub(crate) fn rounds(count: u64) -> Vec<Round> {
    let mut state = Tree::in_memory();
    let mut block = Block::genesis(id(), 1);
    block.header.round = FIRST;
    let mut out = vec![Round { header: block.header.clone(), block: block.clone(), io: vec![], state: vec![] }];
    for n in 1..=count {
        let kind = if n % 5 == 0 { HeaderType::EPOCH_TRANSITION } else { HeaderType::NORMAL };
        block = Block::empty_after(&block, n, kind);
        let (mut io_log, mut state_log) = (vec![], vec![]);
        if n % 5 != 0 {
            let mut io = Tree::in_memory();
            let tag = wire_runtime::transaction::tag_key(format!("tag {n}").as_bytes(), &Hash::of(&[b"tx"]));
            io_log = (0..n % 4 + 1).map(|i| put(format!("T{n} {i}").into_bytes(), vec![n as u8; 20])).collect();
            io_log.insert(0, put(tag, b"value".to_vec()));
            mkvs_tree::writelog::apply(&io_log, &mut io).unwrap();
            block.header.io_root = io.root_hash(&Sequential);
            state_log = (0..20)
                .map(|i| put(format!("key {}", (n * 7 + i * 13) % 97).into_bytes(), vec![n as u8; 30]))
                .collect();
            mkvs_tree::writelog::apply(&state_log, &mut state).unwrap();
            block.header.state_root = state.root_hash(&Sequential);
        }
        state.commit(n, 0, &Sequential);
        out.push(Round { header: block.header.clone(), block: block.clone(), io: io_log, state: state_log });
    }
    out
}

/// Makes rounds final, as if they had been synced before.
pub(crate) fn fill(storage: &Storage, rounds: &[Round]) {
    let mut before: Option<&Header> = None;
    for round in rounds {
        store(storage, before, round);
        storage.finalize(&round.header).unwrap();
        before = Some(&round.header);
    }
}

/// Stores a round's results, as an executor does.
pub(crate) fn store(storage: &Storage, before: Option<&Header>, round: &Round) {
    let [io, state] = roots_of(&round.header);
    let start = before.map_or(Root { hash: Hash::EMPTY, ..state }, |before| roots_of(before)[1]);
    storage.apply(&Apply { start: storage.empty_io(io.version), end: io, log: &round.io }).unwrap();
    storage.apply(&Apply { start, end: state, log: &round.state }).unwrap();
}

/// Whether both roots of a block can be read to the last pair.
pub(crate) fn is_whole(storage: &Storage, header: &Header) -> bool {
    roots_of(header).iter().all(|root| {
        let Ok(tree) = storage.db().read(root) else { return false };
        mkvs_tree::scan_prefix(&tree, &[], &mut |_, _| std::ops::ControlFlow::Continue(())).is_ok()
    })
}

/// State as a plain map.
#[derive(Clone, Default)]
struct MapState(BTreeMap<Vec<u8>, Vec<u8>>);

impl KvRead for MapState {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TreeError> {
        Ok(self.0.get(key).cloned())
    }

    fn iterate(&self, from: &[u8], visit: Visit<'_>) -> Result<(), TreeError> {
        for (key, value) in self.0.range(from.to_vec()..) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl KvWrite for MapState {
    fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<(), TreeError> {
        self.0.insert(key.to_vec(), value.to_vec());
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), TreeError> {
        self.0.remove(key);
        Ok(())
    }
}

struct ChainState {
    states: BTreeMap<i64, MapState>,
    rounds: Vec<Round>,
    /// How many of the rounds were made.
    made: usize,
    retained: i64,
    failing: bool,
}

/// The consensus layer: a height without a round, then one with, and so on.
pub(crate) struct MemoryChain {
    context: ChainContext,
    inner: Mutex<ChainState>,
    heights: watch::Sender<i64>,
    synced: watch::Sender<bool>,
}

fn descriptor() -> Runtime {
    let storage = StorageParameters { checkpoint_interval: 10, checkpoint_num_kept: 2, checkpoint_chunk_size: 300 };
    Runtime { id: id(), storage, ..Runtime::default() }
}

impl MemoryChain {
    /// A chain that has not seen the runtime yet and will make these rounds.
    pub(crate) fn new(rounds: Vec<Round>) -> Arc<Self> {
        let mut genesis = MapState::default();
        let parameters = wire_consensus::consensus::Parameters {
            state_checkpoint_interval: 20,
            state_checkpoint_num_kept: 2,
            ..Default::default()
        };
        apps_core::params::set_parameters(&mut genesis, &parameters).unwrap();
        apps_committees::roothash::state::set_parameters(&mut genesis, &Default::default()).unwrap();
        let states = BTreeMap::from([(GENESIS_HEIGHT, genesis)]);
        let inner = ChainState { states, rounds, made: 0, retained: GENESIS_HEIGHT, failing: false };
        Arc::new(Self {
            context: ChainContext::from_hash(&[7; 32]),
            inner: Mutex::new(inner),
            heights: watch::Sender::new(GENESIS_HEIGHT),
            synced: watch::Sender::new(true),
        })
    }

    /// Makes the next rounds.
    pub(crate) fn advance(&self, count: usize) {
        for _ in 0..count {
            let mut inner = self.inner.lock();
            let inner = &mut *inner;
            let (mut height, mut state) = inner.states.last_key_value().map(|(h, s)| (*h, s.clone())).unwrap();
            height += 1;
            inner.states.insert(height, state.clone());
            height += 1;
            let round = &inner.rounds[inner.made];
            let runtime = RuntimeState {
                runtime: descriptor(),
                genesis_block: inner.rounds[0].block.clone(),
                last_block: round.block.clone(),
                last_block_height: height,
                ..RuntimeState::default()
            };
            inner.made += 1;
            apps_committees::roothash::state::set_runtime_state(&mut state, &runtime).unwrap();
            inner.states.insert(height, state);
            self.heights.send_replace(height);
        }
    }

    /// Forgets the states before a height.
    pub(crate) fn prune(&self, height: i64) {
        let mut inner = self.inner.lock();
        inner.states = inner.states.split_off(&height);
        inner.retained = height;
    }

    pub(crate) fn set_failing(&self, failing: bool) {
        self.inner.lock().failing = failing;
        self.heights.send_modify(|_| ());
    }

    /// Height at which a round was made.
    pub(crate) fn height_of(round: u64) -> i64 {
        GENESIS_HEIGHT + 2 * (round - FIRST + 1) as i64
    }
}

impl Chain for MemoryChain {
    fn latest_height(&self) -> i64 {
        self.inner.lock().states.last_key_value().map_or(0, |(h, _)| *h)
    }

    fn state(&self, height: i64) -> Result<Box<dyn KvRead + Send>, ChainError> {
        let inner = self.inner.lock();
        if inner.failing {
            return Err(ChainError::Service("broken".to_owned()));
        }
        let state = inner.states.get(&height).cloned().ok_or(ChainError::NoState(height))?;
        Ok(Box::new(state))
    }

    fn estimate_gas(&self, _: PublicKey, _: &Transaction) -> Result<u64, ChainError> {
        Err(ChainError::NoBlocks)
    }

    fn submit(&self, _: Vec<u8>) -> SubmitFuture<'_, Result<Included, SubmitError>> {
        Box::pin(async { Err(SubmitError::Unavailable("nothing is submitted by a storage".to_owned())) })
    }

    fn heights(&self) -> watch::Receiver<i64> {
        self.heights.subscribe()
    }

    fn synced(&self) -> watch::Receiver<bool> {
        self.synced.subscribe()
    }

    fn context(&self) -> &ChainContext {
        &self.context
    }
}

impl Blocks for MemoryChain {
    fn genesis_height(&self) -> i64 {
        GENESIS_HEIGHT
    }

    fn last_retained(&self) -> i64 {
        self.inner.lock().retained
    }

    fn roothash_events(&self, _: i64) -> Result<Vec<Event>, ChainError> {
        Ok(Vec::new())
    }

    fn commitments(&self) -> broadcast::Receiver<Arc<ExecutorCommit>> {
        broadcast::channel(1).1
    }
}

/// Changes the answers of a peer: protocol, request, answer.
pub(crate) type Lie = Arc<dyn Fn(&ProtocolId, &[u8], Vec<u8>) -> Vec<u8> + Send + Sync>;

#[derive(Default)]
struct Member {
    served: BTreeMap<ProtocolId, Arc<dyn Serve>>,
    lie: Option<Lie>,
    down: bool,
    calls: usize,
}

/// All peers.
#[derive(Default)]
pub(crate) struct Network(Mutex<BTreeMap<PeerId, Member>>);

/// One of them.
pub(crate) struct Peer {
    network: Arc<Network>,
    pub(crate) id: PeerId,
    pub(crate) verdicts: Mutex<Vec<(PeerId, &'static str)>>,
    pub(crate) tracked: Mutex<BTreeSet<ProtocolId>>,
}

impl Network {
    pub(crate) fn join(self: &Arc<Self>) -> Arc<Peer> {
        let id = PeerId::random();
        self.0.lock().insert(id, Member::default());
        Arc::new(Peer { network: Arc::clone(self), id, verdicts: Mutex::default(), tracked: Mutex::default() })
    }
}

impl Peer {
    pub(crate) fn set_lie(&self, lie: Lie) {
        self.network.0.lock().get_mut(&self.id).unwrap().lie = Some(lie);
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.network.0.lock().get_mut(&self.id).unwrap().down = down;
    }

    /// How often it was asked.
    pub(crate) fn calls(&self) -> usize {
        self.network.0.lock()[&self.id].calls
    }

    /// Names of the protocols that it serves.
    pub(crate) fn served(&self) -> Vec<String> {
        let name = |p: &ProtocolId| p.as_str().split('/').nth(3).unwrap().to_owned();
        self.network.0.lock()[&self.id].served.keys().map(name).collect()
    }

    /// Answers nothing any more, as a process that ended.
    pub(crate) fn forget_served(&self) {
        self.network.0.lock().get_mut(&self.id).unwrap().served.clear();
    }

    pub(crate) fn judged(&self, peer: PeerId, verdict: &str) -> usize {
        self.verdicts.lock().iter().filter(|v| v.0 == peer && v.1 == verdict).count()
    }
}

impl P2p for Peer {
    fn publish(&self, _: &Topic, _: Vec<u8>) -> Result<(), P2pError> {
        Err(P2pError::Closed)
    }

    fn subscribe(&self, _: &Topic, _: Arc<dyn Validate>) -> Result<(), P2pError> {
        Err(P2pError::Closed)
    }

    fn call(
        &self,
        peer: &PeerId,
        protocol: &ProtocolId,
        request: Vec<u8>,
        limits: CallLimits,
    ) -> BoxFuture<'_, Result<Vec<u8>, P2pError>> {
        let (peer, protocol) = (*peer, protocol.clone());
        Box::pin(async move {
            let (serve, lie) = {
                let mut members = self.network.0.lock();
                let member = members.get_mut(&peer).unwrap();
                member.calls += 1;
                if member.down {
                    return Err(P2pError::Unreachable { peer, reason: "down".to_owned() });
                }
                (member.served.get(&protocol).cloned(), member.lie.clone())
            };
            let serve = serve.ok_or(P2pError::Unsupported(protocol.clone()))?;
            let answer = serve.serve(self.id, request.clone()).await.ok_or(P2pError::Stream("closed".to_owned()))?;
            let answer = lie.map_or_else(|| answer.clone(), |lie| lie(&protocol, &request, answer.clone()));
            if answer.len() > limits.max_response {
                return Err(P2pError::TooLong { len: answer.len(), max: limits.max_response });
            }
            Ok(answer)
        })
    }

    fn serve(&self, protocol: ProtocolId, handler: Arc<dyn Serve>) -> Result<(), P2pError> {
        // A node that starts again replaces what it served before.
        self.network.0.lock().get_mut(&self.id).unwrap().served.insert(protocol, handler);
        Ok(())
    }

    fn track(&self, protocol: &ProtocolId, _: usize, _: usize) {
        self.tracked.lock().insert(protocol.clone());
    }

    fn peers(&self, protocol: &ProtocolId) -> Vec<PeerInfo> {
        let verdicts = self.verdicts.lock();
        let bad = |id: &PeerId| verdicts.iter().any(|v| v.0 == *id && v.1 == "bad");
        let members = self.network.0.lock();
        let speak = members.iter().filter(|(id, m)| **id != self.id && m.served.contains_key(protocol) && !bad(id));
        speak.map(|(id, _)| PeerInfo { id: *id, agent: String::new(), latency: None }).collect()
    }

    fn feedback(&self, peer: &PeerId, verdict: PeerVerdict) {
        let verdict = match verdict {
            PeerVerdict::Success { .. } => "success",
            PeerVerdict::Failure { .. } => "failure",
            PeerVerdict::Bad => "bad",
        };
        self.verdicts.lock().push((*peer, verdict));
    }
}

/// Where a node has its data, over restarts.
pub(crate) struct Home {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) history: Arc<dyn KvStore>,
    pub(crate) storage: Option<Arc<dyn KvStore>>,
    pub(crate) peer: Arc<Peer>,
    pub(crate) config: Config,
}

impl Home {
    pub(crate) fn new(network: &Arc<Network>) -> Self {
        let config = Config::default();
        let storage: Arc<dyn KvStore> = Arc::new(Memory::new());
        let folder = tempfile::tempdir().unwrap();
        Self { folder, history: Arc::new(Memory::new()), storage: Some(storage), peer: network.join(), config }
    }

    pub(crate) fn setup(&self, chain: &Arc<MemoryChain>) -> Setup {
        let view = RuntimeView { height: 1, epoch: 1, descriptor: Some(Arc::new(descriptor())) };
        Setup {
            runtime: id(),
            config: Arc::new(self.config.clone()),
            folder: PathBuf::from(self.folder.path()),
            chain: chain.clone(),
            chain_context: CONTEXT.to_owned(),
            p2p: Some(self.peer.clone()),
            with_state: self.storage.is_some(),
            view: watch::channel(view).1,
        }
    }

    pub(crate) fn open(&self, chain: &Arc<MemoryChain>) -> Arc<RuntimeStore> {
        let stores = Stores { history: self.history.clone(), storage: self.storage.clone() };
        RuntimeStore::open_in(self.setup(chain), stores).unwrap()
    }

    pub(crate) fn start(&self, chain: &Arc<MemoryChain>) -> Running {
        Running::new(self.open(chain))
    }
}

/// A store that runs.
pub(crate) struct Running {
    pub(crate) store: Arc<RuntimeStore>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), StoreError>>,
}

impl Running {
    pub(crate) fn new(store: Arc<RuntimeStore>) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(Arc::clone(&store).run(stop.clone()));
        Self { store, stop, task }
    }

    /// Waits until a round is synced.
    pub(crate) async fn synced(&self, round: u64) {
        let wait = self.store.wait_round(round, None);
        let reached = tokio::time::timeout(Duration::from_secs(600), wait).await;
        reached.unwrap_or_else(|_| panic!("round {round} not reached: {:?}", self.store.status())).unwrap();
    }

    /// Waits until the history has a round.
    pub(crate) async fn indexed(&self, round: u64) {
        let mut committed = self.store.history().committed();
        let wait = committed.wait_for(|at| at.is_some_and(|at| at >= round));
        let reached = tokio::time::timeout(Duration::from_secs(600), wait).await;
        reached.unwrap_or_else(|_| panic!("round {round} not indexed: {:?}", self.store.status())).unwrap();
    }

    pub(crate) async fn stop(self) -> Result<(), StoreError> {
        self.stop.cancel();
        self.task.await.unwrap()
    }

    /// Waits for its end without stopping it.
    pub(crate) async fn ended(self) -> Result<(), StoreError> {
        tokio::time::timeout(Duration::from_secs(600), self.task).await.expect("ends by itself").unwrap()
    }
}
