//! Recorded chains, an application that answers what was recorded, and peers without connections.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base_kv::{KvStore, Memory};
use bytes::Bytes;
use comet_chain::app::{
    AppInfo, Application, BlockParams, BlockResults, CheckKind, CheckResult, Committed, ConsensusParams,
    EvidenceParams, Fatal, InitChain, InitChainResult, PrepareProposal, ProposedBlock, Snapshots, ValidatorParams,
    ValidatorUpdate, Verdict, VersionParams,
};
use comet_chain::exec::results_from_wire;
use comet_chain::light::{BoxFuture, LightBlock};
use comet_chain::state::State;
use comet_chain::validators::ValidatorSet;
use comet_core::PeerId;
use comet_net::DropPeer;
use comet_store::{BlockStore, ChainStore, Executor, Genesis, NoEvidence, NoTxs, SharedApp};
use comet_sync::block_sync::CHANNEL;
use comet_sync::{BlockSource, BlockSync, Port};
use dev_testkit::chains::Chain;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::mpsc;
use wire_cometbft::Message;
use wire_cometbft::Time;
use wire_cometbft::abci::AbciResponses;
use wire_cometbft::block::{Block, Commit};
use wire_cometbft::blocksync::{BlockResponse, BlocksyncMessage, BlocksyncMessageSum, NoBlockResponse, StatusResponse};

/// A recorded chain, followed from genesis.
pub(crate) struct Recorded {
    pub(crate) genesis: Genesis,
    pub(crate) genesis_hash: Vec<u8>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) commits: Vec<Commit>,
    pub(crate) results: Vec<BlockResults>,
    /// State before each block.
    pub(crate) states: Vec<State>,
}

/// All recorded chains of both sets.
pub(crate) fn all_chains() -> Vec<Chain> {
    let mut chains = Chain::all().unwrap();
    let dir = dev_testkit::paths::vectors_dir().join("chains-recorded");
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            chains.push(Chain::open(&path));
        }
    }
    chains
}

impl Recorded {
    pub(crate) fn named(name: &str) -> Self {
        Self::load(&Chain::open(&dev_testkit::paths::vectors_dir().join("chains").join(name)))
    }

    pub(crate) fn load(chain: &Chain) -> Self {
        let recorded = chain.blocks().unwrap();
        let document: Value = serde_json::from_slice(&chain.genesis().unwrap()).unwrap();
        let params = &document["consensus"]["params"];
        let int = |key: &str| params[key].as_i64().unwrap();
        let blocks: Vec<Block> = recorded.iter().map(|block| Block::decode_checked(&block.block).unwrap()).collect();
        let first = &blocks[0].header;
        let set = ValidatorSet::from_wire(&Message::decode(&recorded[0].validators).unwrap()).unwrap();
        let genesis = Genesis {
            chain_id: first.chain_id.clone(),
            initial_height: document["height"].as_i64().unwrap(),
            time: Time::parse_rfc3339(document["genesis_time"].as_str().unwrap()).unwrap(),
            params: ConsensusParams {
                block: BlockParams {
                    max_bytes: int("max_block_size"),
                    max_gas: if int("max_block_gas") == 0 { -1 } else { int("max_block_gas") },
                },
                evidence: EvidenceParams {
                    max_age_num_blocks: 100,
                    max_age_duration: wire_cometbft::Duration::from_secs(200),
                    max_bytes: int("max_evidence_size"),
                },
                validator: ValidatorParams { pub_key_types: vec!["ed25519".into()] },
                version: VersionParams { app: first.version.app },
            },
            validators: set
                .validators()
                .iter()
                .map(|v| ValidatorUpdate { pub_key: v.pub_key, power: v.voting_power })
                .collect(),
            app_state: Vec::new(),
        };
        let commits = recorded.iter().map(|block| Commit::decode(&block.seen_commit).unwrap()).collect();
        let decode = |bytes: &[u8]| results_from_wire(AbciResponses::decode(bytes).unwrap()).unwrap();
        let results: Vec<BlockResults> = recorded.iter().map(|block| decode(&block.abci_responses)).collect();
        let genesis_hash = first.app_hash.clone();
        let mut recorded = Self { genesis, genesis_hash, blocks, commits, results, states: Vec::new() };
        recorded.follow();
        recorded
    }

    fn follow(&mut self) {
        let mut state = self.genesis_state();
        for (at, block) in self.blocks.iter().enumerate() {
            self.states.push(state.clone());
            state = state.after(block.id().unwrap(), &block.header, &self.results[at]).unwrap();
            if let Some(next) = self.blocks.get(at + 1) {
                state.app_hash = next.header.app_hash.clone();
            }
        }
    }

    pub(crate) fn genesis_state(&self) -> State {
        let mut state = self.genesis.state().unwrap();
        let result = InitChainResult { app_hash: self.genesis_hash.clone(), ..InitChainResult::default() };
        state.apply_init_chain(&result).unwrap();
        state
    }

    pub(crate) fn height(&self) -> i64 {
        i64::try_from(self.blocks.len()).unwrap()
    }

    pub(crate) fn block(&self, height: i64) -> Option<&Block> {
        self.blocks.get(usize::try_from(height - 1).ok()?)
    }

    pub(crate) fn light_block(&self, height: i64) -> LightBlock {
        let at = usize::try_from(height - 1).unwrap();
        LightBlock {
            header: self.blocks[at].header.clone(),
            commit: self.commits[at].clone(),
            validators: self.states[at].validators.clone(),
        }
    }

    /// The application hash after a height.
    pub(crate) fn app_hash(&self, height: i64) -> Vec<u8> {
        match self.block(height + 1) {
            Some(next) => next.header.app_hash.clone(),
            // Nobody recorded it.
            None => vec![height as u8; 32],
        }
    }
}

/// Where the application stands; it outlives a crash of the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) height: i64,
    pub(crate) hash: Vec<u8>,
}

/// Answers what was recorded.
pub(crate) struct RecordedApp {
    pub(crate) chain: Arc<Recorded>,
    pub(crate) disk: Arc<Mutex<Disk>>,
    pub(crate) pending: i64,
    /// Every height executed, in order.
    pub(crate) executed: Arc<Mutex<Vec<i64>>>,
    pub(crate) snapshots: Option<Box<dyn Snapshots + Send>>,
    /// Fails at this height.
    pub(crate) crash_at: i64,
}

impl RecordedApp {
    pub(crate) fn new(chain: &Arc<Recorded>, disk: &Arc<Mutex<Disk>>) -> Self {
        Self {
            chain: Arc::clone(chain),
            disk: Arc::clone(disk),
            pending: 0,
            executed: Arc::default(),
            snapshots: None,
            crash_at: 0,
        }
    }

    pub(crate) fn shared(self) -> SharedApp {
        Arc::new(Mutex::new(Box::new(self)))
    }
}

impl Application for RecordedApp {
    fn info(&self) -> AppInfo {
        let disk = self.disk.lock().clone();
        let app_version = self.chain.genesis.params.version.app;
        AppInfo { last_height: disk.height, last_app_hash: disk.hash, app_version }
    }

    fn init_chain(&mut self, _: &InitChain) -> Result<InitChainResult, Fatal> {
        Ok(InitChainResult { app_hash: self.chain.genesis_hash.clone(), ..InitChainResult::default() })
    }

    fn check_tx(&mut self, _: &[u8], _: CheckKind) -> CheckResult {
        CheckResult::default()
    }

    fn prepare_proposal(&mut self, request: &PrepareProposal) -> Result<Vec<Vec<u8>>, Fatal> {
        Ok(request.txs.clone())
    }

    fn process_proposal(&mut self, _: &ProposedBlock) -> Result<Verdict, Fatal> {
        Ok(Verdict::Accept)
    }

    fn execute(&mut self, block: &ProposedBlock) -> Result<BlockResults, Fatal> {
        if block.height == self.crash_at {
            return Err(Fatal::Internal("crash".into()));
        }
        assert_eq!(block.height, self.disk.lock().height + 1, "every block once and in order");
        self.executed.lock().push(block.height);
        self.pending = block.height;
        Ok(self.chain.results[usize::try_from(block.height - 1).unwrap()].clone())
    }

    fn commit(&mut self) -> Result<Committed, Fatal> {
        let app_hash = self.chain.app_hash(self.pending);
        *self.disk.lock() = Disk { height: self.pending, hash: app_hash.clone() };
        Ok(Committed { app_hash, retain_height: 0 })
    }

    fn snapshots(&mut self) -> &mut dyn Snapshots {
        self.snapshots.as_deref_mut().expect("a test of snapshots brings them")
    }
}

/// A node's stores and application.
pub(crate) struct Node {
    pub(crate) blocks: Arc<BlockStore>,
    pub(crate) chain: Arc<ChainStore>,
    pub(crate) executor: Arc<Executor>,
    pub(crate) executed: Arc<Mutex<Vec<i64>>>,
    pub(crate) disk: Arc<Mutex<Disk>>,
}

impl Node {
    pub(crate) fn open(dir: &Path, recorded: &Arc<Recorded>) -> Self {
        Self::with(dir, Arc::new(Memory::new()), RecordedApp::new(recorded, &Arc::default()))
    }

    pub(crate) fn with(dir: &Path, kv: Arc<dyn KvStore>, app: RecordedApp) -> Self {
        let chain_id = app.chain.genesis.chain_id.clone();
        let blocks = Arc::new(BlockStore::open(dir, Arc::clone(&kv), &chain_id).unwrap());
        let chain = Arc::new(ChainStore::open(Arc::clone(&kv), &chain_id).unwrap());
        let (executed, disk) = (Arc::clone(&app.executed), Arc::clone(&app.disk));
        let executor =
            Executor::new(Arc::clone(&blocks), Arc::clone(&chain), app.shared(), Arc::new(NoTxs), Arc::new(NoEvidence));
        Self { blocks, chain, executor: Arc::new(executor), executed, disk }
    }
}

/// Blocks of a recorded chain, up to a height.
pub(crate) struct RecordedSource {
    pub(crate) encoded: Vec<Bytes>,
    pub(crate) base: i64,
}

impl RecordedSource {
    pub(crate) fn new(chain: &Recorded) -> Self {
        Self { encoded: chain.blocks.iter().map(|block| block.encode_to_vec().into()).collect(), base: 1 }
    }
}

impl BlockSource for RecordedSource {
    fn base(&self) -> i64 {
        self.base
    }

    fn height(&self) -> i64 {
        i64::try_from(self.encoded.len()).unwrap()
    }

    fn block_bytes(&self, height: i64) -> Option<Bytes> {
        (height >= self.base).then(|| self.encoded.get(usize::try_from(height - 1).ok()?).cloned()).flatten()
    }
}

pub(crate) fn peer_id(number: u8) -> PeerId {
    PeerId::new(&format!("{number:02x}").repeat(20))
}

/// How a scripted peer answers a request for a block.
pub(crate) enum Reply {
    Block(Box<Block>),
    NoBlock,
    Nothing,
    Later(Duration, Box<Block>),
}

type Script = Arc<dyn Fn(i64) -> Reply + Send + Sync>;

/// A peer that answers by a script.
pub(crate) struct Scripted {
    id: PeerId,
    requests: mpsc::UnboundedSender<(u8, Bytes)>,
    pub(crate) dropped: Arc<Mutex<Option<DropPeer>>>,
    pub(crate) asked: Arc<Mutex<BTreeMap<i64, usize>>>,
    stop: tokio_util::sync::CancellationToken,
}

impl Port for Scripted {
    fn id(&self) -> &PeerId {
        &self.id
    }

    fn try_send(&self, channel: u8, message: Bytes) -> bool {
        self.requests.send((channel, message)).is_ok()
    }

    fn send(&self, channel: u8, message: Bytes) -> BoxFuture<'_, bool> {
        Box::pin(async move { self.try_send(channel, message) })
    }

    fn stop(&self, reason: DropPeer) {
        self.dropped.lock().get_or_insert(reason);
        self.stop.cancel();
    }
}

pub(crate) fn encode(sum: BlocksyncMessageSum) -> Bytes {
    BlocksyncMessage { sum: Some(sum) }.encode_to_vec().into()
}

fn block_message(block: Block) -> Bytes {
    encode(BlocksyncMessageSum::BlockResponse(BlockResponse { block: Some(block) }))
}

/// Connects a scripted peer that claims heights `base` to `height()`.
pub(crate) fn connect_scripted(
    sync: &Arc<BlockSync>,
    number: u8,
    base: i64,
    height: impl Fn() -> i64 + Send + Sync + 'static,
    script: Script,
) -> Arc<Scripted> {
    let (requests, mut queue) = mpsc::unbounded_channel::<(u8, Bytes)>();
    let stop = tokio_util::sync::CancellationToken::new();
    let port = Arc::new(Scripted {
        id: peer_id(number),
        requests,
        dropped: Arc::default(),
        asked: Arc::default(),
        stop: stop.clone(),
    });
    let (sync, peer) = (Arc::clone(sync), Arc::clone(&port));
    sync.connected(Arc::clone(&port) as Arc<dyn Port>);
    tokio::spawn(async move {
        let serve = async {
            while let Some((channel, message)) = queue.recv().await {
                assert_eq!(channel, CHANNEL);
                let request = BlocksyncMessage::decode(&message).unwrap();
                let answer = match request.sum.unwrap() {
                    BlocksyncMessageSum::StatusRequest(_) => {
                        Some(encode(BlocksyncMessageSum::StatusResponse(StatusResponse { height: height(), base })))
                    }
                    BlocksyncMessageSum::BlockRequest(request) => {
                        *peer.asked.lock().entry(request.height).or_default() += 1;
                        match script(request.height) {
                            Reply::Block(block) => Some(block_message(*block)),
                            Reply::NoBlock => Some(encode(BlocksyncMessageSum::NoBlockResponse(NoBlockResponse {
                                height: request.height,
                            }))),
                            Reply::Nothing => None,
                            Reply::Later(wait, block) => {
                                tokio::time::sleep(wait).await;
                                Some(block_message(*block))
                            }
                        }
                    }
                    _ => None,
                };
                if let Some(answer) = answer
                    && let Err(reason) = sync.message(&peer.id, answer).await
                {
                    peer.stop(reason);
                    return;
                }
            }
        };
        tokio::select! {
            () = serve => {}
            () = stop.cancelled() => {}
        }
        sync.disconnected(&peer.id);
    });
    port
}

/// An honest peer's script.
pub(crate) fn honest(chain: &Arc<Recorded>) -> Script {
    let chain = Arc::clone(chain);
    Arc::new(move |height| match chain.block(height) {
        Some(block) => Reply::Block(Box::new(block.clone())),
        None => Reply::NoBlock,
    })
}

/// One end of a connection between two reactors in one process.
struct Wire {
    id: PeerId,
    out: mpsc::UnboundedSender<Bytes>,
}

impl Port for Wire {
    fn id(&self) -> &PeerId {
        &self.id
    }

    fn try_send(&self, _: u8, message: Bytes) -> bool {
        self.out.send(message).is_ok()
    }

    fn send(&self, channel: u8, message: Bytes) -> BoxFuture<'_, bool> {
        Box::pin(async move { self.try_send(channel, message) })
    }

    fn stop(&self, reason: DropPeer) {
        panic!("honest peer dropped: {reason:?}");
    }
}

/// Connects two reactors; each sees the other as the peer of that number.
pub(crate) fn connect(a: (&Arc<BlockSync>, u8), b: (&Arc<BlockSync>, u8)) {
    let (to_a, mut at_a) = mpsc::unbounded_channel();
    let (to_b, mut at_b) = mpsc::unbounded_channel();
    let (a, id_a) = (Arc::clone(a.0), peer_id(a.1));
    let (b, id_b) = (Arc::clone(b.0), peer_id(b.1));
    a.connected(Arc::new(Wire { id: id_b.clone(), out: to_b }));
    b.connected(Arc::new(Wire { id: id_a.clone(), out: to_a }));
    tokio::spawn(async move {
        while let Some(message) = at_a.recv().await {
            a.message(&id_b, message).await.unwrap();
        }
    });
    tokio::spawn(async move {
        while let Some(message) = at_b.recv().await {
            b.message(&id_a, message).await.unwrap();
        }
    });
}
