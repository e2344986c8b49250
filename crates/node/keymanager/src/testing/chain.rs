//! The chain: a map as the state, in which the real key manager service runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use apps_committees::{beacon, registry};
use apps_core::submit::{Included, SubmitError};
use apps_core::{BlockContext, Context, Env, GasMeter, LocalConfig, Mode, Service, kv};
use apps_keymanager::KeyManager;
use base_codec::{Raw, cbor};
use base_crypto::blacklist::Blacklist;
use base_crypto::context::ChainContext;
use base_prims::{Epoch, Hash, PublicKey};
use comet_chain::app::TxResult;
use mkvs_tree::sync::{ProofResponse, ReadSyncer as _, Server};
use mkvs_tree::{KvRead, KvWrite, Root, RootType, Sequential, Tree, TreeError, Visit};
use node_workers::{Blocks, Chain, ChainError};
use parking_lot::Mutex;
use rt_host::api::BoxFuture;
use rt_host::services::{Consensus, ProvenBytes, Served, SyncRequest};
use tokio::sync::{broadcast, watch};
use wire_consensus::beacon::{BACKEND_INSECURE, EpochTimeState, InsecureParameters, Parameters as BeaconParameters};
use wire_consensus::consensus::{FEATURE_26_1, Parameters};
use wire_consensus::entity::{self, Entity};
use wire_consensus::meta::{BlockMetadata, METHOD_META};
use wire_consensus::node::{Node, REGISTER_CONTEXT};
use wire_consensus::registry::{METHOD_REGISTER_NODE, Runtime, RuntimeGovernanceModel, RuntimeKind, VersionInfo};
use wire_consensus::roothash::{Event, ExecutorCommit};
use wire_consensus::signed::{MultiSigned, Signed};
use wire_consensus::transaction::{SignedTransaction, Transaction};
use wire_runtime::runtime::{LightBlock, Validators};
use wire_runtime::{Error, error, host};

use super::{VERSION, compute, key, km, public};

/// Key of the entity that owns everything.
pub(super) const OWNER: u8 = 1;
const FIRST_EPOCH: Epoch = 5;

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

struct Block {
    map: MapState,
    tree: Tree,
    root: Hash,
}

/// A transaction that was executed: its method, its signer, and why it failed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Executed {
    pub(crate) method: String,
    pub(crate) signer: PublicKey,
    pub(crate) error: Option<String>,
}

#[derive(Default)]
struct Inner {
    height: i64,
    pending: MapState,
    blocks: BTreeMap<i64, Block>,
    executed: Vec<Executed>,
}

/// The chain.
pub(crate) struct TestChain {
    context: ChainContext,
    inner: Mutex<Inner>,
    heights: watch::Sender<i64>,
    synced: watch::Sender<bool>,
    commitments: broadcast::Sender<Arc<ExecutorCommit>>,
}

fn runtime(id: base_prims::Namespace, kind: RuntimeKind) -> Runtime {
    Runtime {
        v: 3,
        id,
        entity_id: public(OWNER),
        kind,
        key_manager: (kind == RuntimeKind::COMPUTE).then(km),
        governance_model: RuntimeGovernanceModel::ENTITY,
        deployments: vec![Some(VersionInfo { version: VERSION, ..VersionInfo::default() })],
        ..Runtime::default()
    }
}

impl TestChain {
    /// Epoch 5, moved by hand; a key manager and a runtime that uses it; nothing costs anything.
    pub(crate) fn new() -> Self {
        let mut map = MapState::default();
        let parameters = BeaconParameters {
            backend: BACKEND_INSECURE.to_owned(),
            debug_mock_backend: true,
            insecure_parameters: Some(InsecureParameters { interval: 100 }),
            ..BeaconParameters::default()
        };
        beacon::state::set_parameters(&mut map, &parameters).expect("a map takes everything");
        beacon::state::set_epoch(&mut map, FIRST_EPOCH, 1).expect("a map takes everything");
        let mut put = |key: &[u8], value: Vec<u8>| map.0.insert(key.to_vec(), value);
        put(&[0x16], cbor::to_vec(&wire_consensus::registry::Parameters::default()));
        let staking = wire_consensus::staking::Parameters { debug_bypass_stake: true, ..Default::default() };
        put(&[0x56], cbor::to_vec(&staking));
        put(&[0x71], cbor::to_vec(&wire_consensus::keymanager::Parameters::default()));
        let nodes = (10..20).map(public).collect();
        let entity = Entity { v: 2, id: public(OWNER), nodes };
        let signed = Signed::sign(&key(OWNER), entity::REGISTER_CONTEXT, None, &entity).expect("signs");
        registry::state::set_entity(&mut map, &public(OWNER), &signed).expect("a map takes everything");
        for (id, kind) in [(km(), RuntimeKind::KEY_MANAGER), (compute(), RuntimeKind::COMPUTE)] {
            registry::state::set_runtime(&mut map, &runtime(id, kind), false).expect("a map takes everything");
        }
        let chain = Self {
            context: ChainContext::from_hash(&[7; 32]),
            inner: Mutex::new(Inner { pending: map, ..Inner::default() }),
            heights: watch::Sender::new(0),
            synced: watch::Sender::new(true),
            commitments: broadcast::Sender::new(1),
        };
        (0..3).for_each(|_| {
            chain.advance(None);
        });
        chain
    }

    /// Makes a block of what was executed since the last one, and begins an epoch with it.
    pub(crate) fn advance(&self, epoch: Option<Epoch>) -> i64 {
        let mut inner = self.inner.lock();
        inner.height += 1;
        let height = inner.height;
        if let Some(epoch) = epoch {
            run(&mut inner, &self.context, Mode::BeginBlock, None, |ctx| {
                kv::put(&mut ctx.state(), &[0x40], &EpochTimeState { epoch, height })?;
                KeyManager.begin_block(ctx)
            })
            .expect("an epoch begins");
        }
        let mut tree = Tree::in_memory();
        for (key, value) in &inner.pending.0 {
            tree.insert(key, value).expect("a tree in memory");
        }
        let root = tree.root_hash(&Sequential);
        tree.commit(height.unsigned_abs(), 0, &Sequential);
        let map = inner.pending.clone();
        inner.blocks.insert(height, Block { map, tree, root });
        inner.blocks.retain(|known, _| known + 300 > height);
        drop(inner);
        self.heights.send_replace(height);
        height
    }

    pub(crate) fn epoch(&self) -> Epoch {
        beacon::state::epoch(&self.inner.lock().pending).expect("an epoch").0
    }

    /// Everything executed so far.
    pub(crate) fn log(&self) -> Vec<Executed> {
        self.inner.lock().executed.clone()
    }

    /// How many transactions of a method succeeded.
    pub(crate) fn count(&self, method: &str) -> usize {
        self.log().iter().filter(|tx| tx.method == method && tx.error.is_none()).count()
    }

    /// Executes a transaction of anybody.
    pub(crate) fn execute<B: cbor::Encode>(&self, signer: PublicKey, method: &str, body: &B) -> Result<(), String> {
        self.call(signer, method, &Raw::of(body))
    }

    /// Changes the state behind everybody's back.
    pub(crate) fn change(&self, change: impl FnOnce(&mut dyn KvWrite)) {
        change(&mut self.inner.lock().pending);
    }

    fn call(&self, signer: PublicKey, method: &str, body: &Raw) -> Result<(), String> {
        let mut inner = self.inner.lock();
        let result = if method == METHOD_REGISTER_NODE {
            register(&mut inner.pending, body);
            Ok(())
        } else {
            run(&mut inner, &self.context, Mode::DeliverTx, Some(signer), |ctx| {
                KeyManager.execute_tx(ctx, method, body)
            })
        };
        let error = result.err().map(|error| error.to_string());
        inner.executed.push(Executed { method: method.to_owned(), signer, error: error.clone() });
        error.map_or(Ok(()), Err)
    }

    /// The newest state.
    pub(crate) fn newest(&self) -> MapState {
        let inner = self.inner.lock();
        inner.blocks[&inner.height].map.clone()
    }
}

fn register(map: &mut MapState, body: &Raw) {
    let descriptor: MultiSigned = body.decode_as().expect("signed by several keys");
    let node: Node = descriptor.open(REGISTER_CONTEXT, None).expect("valid signatures");
    let existing = apps_staking::nodes::node(map, &node.id).expect("readable");
    registry::state::set_node(map, existing.as_ref(), &node, &descriptor).expect("a map takes everything");
}

fn run<T>(
    inner: &mut Inner,
    chain: &ChainContext,
    mode: Mode,
    signer: Option<PublicKey>,
    f: impl FnOnce(&mut Context<'_>) -> apps_core::Result<T>,
) -> apps_core::Result<T> {
    let services: Vec<Box<dyn Service>> = vec![Box::new(KeyManager)];
    let env = Env {
        known: &wire_consensus::known::KnownSignatures::default(),
        services: &services,
        chain,
        config: &LocalConfig::default(),
        blacklist: &Blacklist::allowing_test_keys(),
        params: &Parameters { feature_version: Some(FEATURE_26_1), ..Parameters::default() },
        last_state_root: None,
        initial_height: 1,
    };
    let mut ctx = Context::new(&env, &inner.pending, mode, BlockContext::default(), inner.height - 1);
    if let Some(signer) = signer {
        ctx.set_tx_signer(signer);
    }
    ctx.set_gas(GasMeter::limited(1_000_000));
    let result = f(&mut ctx);
    let changes: Vec<_> = ctx.finish().0.into_changes().collect();
    if result.is_ok() {
        for (key, value) in changes {
            match value {
                Some(value) => inner.pending.0.insert(key, value),
                None => inner.pending.0.remove(&key),
            };
        }
    }
    result
}

impl Chain for TestChain {
    fn latest_height(&self) -> i64 {
        self.inner.lock().height
    }

    fn state(&self, height: i64) -> Result<Box<dyn KvRead + Send>, ChainError> {
        let inner = self.inner.lock();
        let height = if height == 0 { inner.height } else { height };
        let block = inner.blocks.get(&height).ok_or(ChainError::NoState(height))?;
        Ok(Box::new(block.map.clone()))
    }

    fn estimate_gas(&self, _: PublicKey, _: &Transaction) -> Result<u64, ChainError> {
        Ok(1000)
    }

    fn submit(&self, tx: Vec<u8>) -> BoxFuture<'_, Result<Included, SubmitError>> {
        let signed: SignedTransaction = cbor::from_slice(&tx).expect("a transaction");
        let tx: Transaction = signed.open(&self.context).expect("signed for this chain");
        let height = self.latest_height() + 1;
        let mut result = TxResult::default();
        if let Err(error) = self.call(signed.signer(), &tx.method, &tx.body) {
            (result.code, result.log) = (1, error);
        }
        Box::pin(async move { Ok(Included { height, index: 0, result }) })
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
        1
    }

    fn roothash_events(&self, _: i64) -> Result<Vec<Event>, ChainError> {
        Ok(Vec::new())
    }

    fn commitments(&self) -> broadcast::Receiver<Arc<ExecutorCommit>> {
        self.commitments.subscribe()
    }
}

fn none<T>(text: &str) -> Served<T> {
    Err(Error::new(error::UNKNOWN, text))
}

impl Consensus for TestChain {
    fn light_block(&self, height: u64) -> BoxFuture<'_, Served<LightBlock>> {
        let height = if height == 0 { self.latest_height() } else { height.cast_signed() };
        Box::pin(async move { Ok(LightBlock { height, meta: None }) })
    }

    fn validators(&self, _: u64) -> BoxFuture<'_, Served<Validators>> {
        Box::pin(async { none("no validators") })
    }

    fn events(&self, _: u64, _: host::EventKind) -> BoxFuture<'_, Served<Vec<host::ConsensusEvent>>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn genesis_height(&self) -> BoxFuture<'_, Served<u64>> {
        Box::pin(async { Ok(1) })
    }

    fn transactions(&self, height: u64) -> BoxFuture<'_, Served<Vec<ProvenBytes>>> {
        let root = self.inner.lock().blocks.get(&height.cast_signed()).map(|block| block.root);
        let Some(state_root) = root else { return Box::pin(async { none("no such block") }) };
        let meta = BlockMetadata { state_root, events_root: None };
        let tx = Transaction::new(0, None, METHOD_META, &meta).sign(&key(OWNER), &self.context).expect("signs");
        Box::pin(async move { Ok(vec![ProvenBytes { transaction: cbor::to_vec(&tx), proof: Vec::new() }]) })
    }

    fn prove_freshness(&self, _: [u8; 32]) -> BoxFuture<'_, Served<host::ProvenTransaction>> {
        Box::pin(async { none("no freshness") })
    }

    fn state(&self, request: SyncRequest) -> BoxFuture<'_, Served<ProofResponse>> {
        let wanted = match &request {
            SyncRequest::Get(request) => request.tree.root,
            SyncRequest::GetPrefixes(request) => request.tree.root,
            SyncRequest::Iterate(request) => request.tree.root,
        };
        let inner = self.inner.lock();
        let Some(block) = inner.blocks.get(&wanted.version.cast_signed()) else {
            return Box::pin(async { none("no such state") });
        };
        let root = Root { version: wanted.version, root_type: RootType::STATE, hash: block.root, ..Root::default() };
        let server = Server::new(&block.tree, root, 1 << 20);
        let proof = match &request {
            SyncRequest::Get(request) => server.get(request),
            SyncRequest::GetPrefixes(request) => server.get_prefixes(request),
            SyncRequest::Iterate(request) => server.iterate(request),
        };
        Box::pin(async move { proof.map(|proof| ProofResponse { proof }).or_else(|text| none(&text)) })
    }
}
