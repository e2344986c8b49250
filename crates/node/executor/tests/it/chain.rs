//! A consensus layer in memory that runs the root hash service.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use apps_committees::{registry, roothash, scheduler};
use apps_core::submit::{BoxFuture, Included, SubmitError};
use apps_core::{BlockContext, Context, Env, LocalConfig, Mode, Service, kv};
use base_codec::cbor;
use base_crypto::{blacklist::Blacklist, context::ChainContext};
use base_prims::{Address, Hash, Namespace, PublicKey, Quantity};
use comet_chain::app::TxResult;
use mkvs_tree::{KvRead, KvWrite, TreeError, Visit};
use node_workers::{Blocks, Chain, ChainError};
use parking_lot::Mutex;
use rt_host::services::{Consensus, ProvenBytes, Served, SyncRequest};
use tokio::sync::{broadcast, oneshot, watch};
use wire_consensus::Time;
use wire_consensus::node::{MultiSignedNode, Node};
use wire_consensus::registry::{NodeStatus, Runtime};
use wire_consensus::roothash::{
    AnnotatedBlock, Block, Event, ExecutorCommit, METHOD_EXECUTOR_COMMIT, Parameters, RuntimeState,
};
use wire_consensus::scheduler::Committee;
use wire_consensus::staking;
use wire_consensus::transaction::{SignedTransaction, Transaction};
use wire_runtime::host::{ConsensusEvent, EventKind, ProvenTransaction};
use wire_runtime::runtime::{LightBlock, Validators};

/// Height of the state that everything begins with.
pub(crate) const FIRST: i64 = 10;

#[derive(Clone, Default)]
pub(crate) struct MapState(BTreeMap<Vec<u8>, Vec<u8>>);

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

struct Waiting {
    signer: PublicKey,
    tx: Transaction,
    told: oneshot::Sender<Result<Included, SubmitError>>,
}

#[derive(Default)]
struct Inner {
    states: BTreeMap<i64, MapState>,
    events: BTreeMap<i64, Vec<Event>>,
    mempool: Vec<Waiting>,
    /// First commitment of each node per round and scheduler.
    signed: BTreeMap<(PublicKey, u64, PublicKey), Hash>,
    /// Commitments that were tried, by node.
    commits: BTreeMap<PublicKey, BTreeSet<u64>>,
    contradictions: Vec<(PublicKey, u64)>,
    discrepancies: u64,
}

/// The consensus layer.
pub(crate) struct TestChain {
    context: ChainContext,
    runtime: Namespace,
    config: LocalConfig,
    params: wire_consensus::consensus::Parameters,
    blacklist: Blacklist,
    inner: Mutex<Inner>,
    heights: watch::Sender<i64>,
    synced: watch::Sender<bool>,
    commitments: broadcast::Sender<Arc<ExecutorCommit>>,
}

impl TestChain {
    pub(crate) fn new(runtime: &Runtime, nodes: &[Node], committee: &Committee) -> Arc<Self> {
        let mut state = MapState::default();
        let params = Parameters {
            max_runtime_messages: 8,
            max_in_runtime_messages: 8,
            max_evidence_age: 5,
            debug_do_not_suspend_runtimes: true,
            ..Parameters::default()
        };
        roothash::state::set_parameters(&mut state, &params).unwrap();
        kv::put(&mut state, &[0x56], &staking::Parameters::default()).unwrap();
        for node in nodes {
            let signed = MultiSignedNode { untrusted_raw_value: Some(cbor::to_vec(node).into()), signatures: None };
            kv::put(&mut state, kv::Key::new(0x11).key_hash(&node.id).as_slice(), &signed).unwrap();
            registry::state::set_node_status(&mut state, &node.id, &NodeStatus::default()).unwrap();
            let mut account = staking::Account::default();
            account.escrow.active.balance = Quantity::from(1_000_000u64);
            account.escrow.active.total_shares = Quantity::from(1_000_000u64);
            apps_staking::state::set_account(&mut state, &Address::of_key(&node.entity_id), &account).unwrap();
        }
        let block = Block::genesis(runtime.id, 1);
        let rt = RuntimeState {
            runtime: runtime.clone(),
            genesis_block: block.clone(),
            last_block: block,
            last_block_height: FIRST,
            last_normal_height: FIRST,
            committee: Some(committee.clone()),
            commitment_pool: Some(wire_consensus::roothash::Pool::new()),
            ..RuntimeState::default()
        };
        registry::state::set_runtime(&mut state, runtime, false).unwrap();
        roothash::state::set_runtime_state(&mut state, &rt).unwrap();
        set_epoch(&mut state, committee.valid_for, 1, committee);
        let inner = Inner { states: [(FIRST, state)].into(), ..Inner::default() };
        Arc::new(Self {
            context: ChainContext::from_hash(Hash::of(&[b"test"]).as_bytes()),
            runtime: runtime.id,
            config: LocalConfig { allow_debug: true, ..LocalConfig::default() },
            params: wire_consensus::consensus::Parameters {
                feature_version: Some(wire_consensus::consensus::FEATURE_26_1),
                ..Default::default()
            },
            blacklist: Blacklist::production(),
            inner: Mutex::new(inner),
            heights: watch::Sender::new(FIRST),
            synced: watch::Sender::new(true),
            commitments: broadcast::Sender::new(64),
        })
    }

    /// Makes a block of what waits. With a committee the block begins its epoch.
    pub(crate) fn block(&self, committee: Option<Committee>) {
        let mut inner = self.inner.lock();
        let (height, state) = inner.states.last_key_value().map(|(h, s)| (*h, s.clone())).unwrap();
        let mut state = state;
        let waiting = std::mem::take(&mut inner.mempool);
        let known = wire_consensus::known::KnownSignatures::default();
        let env = Env {
            known: &known,
            services: &[],
            chain: &self.context,
            blacklist: &self.blacklist,
            config: &self.config,
            params: &self.params,
            last_state_root: None,
            initial_height: 1,
        };
        let mut block = BlockContext::default();
        block.time = Time::new(1_700_000_000 + height, 0).unwrap();
        let before = state.clone();
        let mut ctx = Context::new(&env, &before, Mode::BeginBlock, block, height);
        if let Some(committee) = committee {
            set_epoch(&mut ctx.state(), committee.valid_for, height + 1, &committee);
        }
        let service = roothash::RootHash;
        service.begin_block(&mut ctx).unwrap();
        let mut raw = Vec::new();
        for (index, Waiting { signer, tx, told }) in waiting.into_iter().enumerate() {
            raw.extend(ctx.begin_phase(Mode::DeliverTx));
            ctx.set_tx_signer(signer);
            let mut result = TxResult::default();
            if let Err(error) = service.execute_tx(&mut ctx, &tx.method, &tx.body) {
                (result.codespace, result.code, result.log) = ("roothash".to_owned(), 1, error.to_string());
            }
            let _ = told.send(Ok(Included { height: height + 1, index: index as u32, result }));
        }
        raw.extend(ctx.begin_phase(Mode::EndBlock));
        service.end_block(&mut ctx).unwrap();
        raw.extend(ctx.begin_phase(Mode::EndBlock));
        let events: Vec<Event> =
            raw.iter().flat_map(|event| roothash::query::events(height + 1, Hash::default(), event).unwrap()).collect();
        let (layers, _) = ctx.finish();
        for (key, value) in layers.into_changes().collect::<Vec<_>>() {
            match value {
                Some(value) => state.insert(&key, &value).unwrap(),
                None => state.remove(&key).unwrap(),
            }
        }
        inner.discrepancies += events.iter().filter(|e| e.execution_discrepancy.is_some()).count() as u64;
        inner.events.insert(height + 1, events);
        inner.states.insert(height + 1, state);
        drop(inner);
        self.heights.send_replace(height + 1);
    }

    pub(crate) fn runtime_state(&self, height: i64) -> RuntimeState {
        let state = self.state(height).unwrap();
        roothash::query::runtime_state(&*state, &self.runtime).unwrap()
    }

    /// The runtime's block that a height brought, if it did.
    pub(crate) fn block_at(&self, height: i64) -> Option<AnnotatedBlock> {
        let rt = self.runtime_state(height);
        (rt.last_block_height == height)
            .then_some(AnnotatedBlock { consensus_height: height, block: Some(rt.last_block) })
    }

    /// Who signed two different commitments to one scheduler's proposal.
    pub(crate) fn contradictions(&self) -> Vec<(PublicKey, u64)> {
        self.inner.lock().contradictions.clone()
    }

    pub(crate) fn discrepancies(&self) -> u64 {
        self.inner.lock().discrepancies
    }

    /// Rounds to which a node committed.
    pub(crate) fn commits(&self, node: &PublicKey) -> BTreeSet<u64> {
        self.inner.lock().commits.get(node).cloned().unwrap_or_default()
    }

    fn take(&self, raw: &[u8], told: oneshot::Sender<Result<Included, SubmitError>>) {
        let signed: SignedTransaction = cbor::from_slice(raw).expect("a transaction");
        let tx = signed.open(&self.context).expect("signed for this chain");
        let signer = signed.0.signature.public_key;
        let mut inner = self.inner.lock();
        if tx.method == METHOD_EXECUTOR_COMMIT {
            let body: ExecutorCommit = tx.body.decode_as().expect("commitments");
            for commit in body.commits.iter().flatten() {
                let key = (commit.node_id, commit.header.header.round, commit.header.scheduler_id);
                let hash = Hash::of_cbor(&commit.header);
                if *inner.signed.entry(key).or_insert(hash) != hash {
                    inner.contradictions.push((commit.node_id, commit.header.header.round));
                }
                inner.commits.entry(commit.node_id).or_default().insert(commit.header.header.round);
            }
            let _ = self.commitments.send(Arc::new(body));
        }
        inner.mempool.push(Waiting { signer, tx, told });
    }
}

fn set_epoch(state: &mut dyn KvWrite, epoch: u64, height: i64, committee: &Committee) {
    kv::put(state, &apps_core::epoch::KEY_CURRENT, &wire_consensus::beacon::EpochTimeState { epoch, height }).unwrap();
    scheduler::state::set_committee(state, committee).unwrap();
}

impl Chain for TestChain {
    fn latest_height(&self) -> i64 {
        *self.heights.borrow()
    }

    fn state(&self, height: i64) -> Result<Box<dyn KvRead + Send>, ChainError> {
        let inner = self.inner.lock();
        let height = if height == 0 { *self.heights.borrow() } else { height };
        let state = inner.states.get(&height).ok_or(ChainError::NoState(height))?;
        Ok(Box::new(state.clone()))
    }

    fn estimate_gas(&self, _signer: PublicKey, _tx: &Transaction) -> Result<u64, ChainError> {
        Ok(1000)
    }

    fn submit(&self, tx: Vec<u8>) -> BoxFuture<'_, Result<Included, SubmitError>> {
        let (told, outcome) = oneshot::channel();
        self.take(&tx, told);
        Box::pin(async move { outcome.await.unwrap_or(Err(SubmitError::Unavailable("dropped".to_owned()))) })
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

impl Blocks for TestChain {
    fn genesis_height(&self) -> i64 {
        1
    }

    fn last_retained(&self) -> i64 {
        FIRST
    }

    fn roothash_events(&self, height: i64) -> Result<Vec<Event>, ChainError> {
        Ok(self.inner.lock().events.get(&height).cloned().unwrap_or_default())
    }

    fn commitments(&self) -> broadcast::Receiver<Arc<ExecutorCommit>> {
        self.commitments.subscribe()
    }
}

/// Light blocks that say their height.
pub(crate) struct Light;

fn no<T: Send + 'static>() -> rt_host::BoxFuture<'static, Served<T>> {
    Box::pin(async { Err(wire_runtime::Error::method_not_supported()) })
}

impl Consensus for Light {
    fn light_block(&self, height: u64) -> rt_host::BoxFuture<'_, Served<LightBlock>> {
        Box::pin(async move { Ok(LightBlock { height: i64::try_from(height).unwrap_or(0), meta: None }) })
    }
    fn validators(&self, _: u64) -> rt_host::BoxFuture<'_, Served<Validators>> {
        no()
    }
    fn events(&self, _: u64, _: EventKind) -> rt_host::BoxFuture<'_, Served<Vec<ConsensusEvent>>> {
        no()
    }
    fn genesis_height(&self) -> rt_host::BoxFuture<'_, Served<u64>> {
        no()
    }
    fn transactions(&self, _: u64) -> rt_host::BoxFuture<'_, Served<Vec<ProvenBytes>>> {
        no()
    }
    fn prove_freshness(&self, _: [u8; 32]) -> rt_host::BoxFuture<'_, Served<ProvenTransaction>> {
        no()
    }
    fn state(&self, _: SyncRequest) -> rt_host::BoxFuture<'_, Served<mkvs_tree::sync::ProofResponse>> {
        no()
    }
}
