//! A served chain, and calls to it.

mod answers;
mod node;
mod streams;

use std::collections::BTreeMap;
use std::sync::Arc;

use apps_core::LocalConfig;
use apps_core::submit::{BoxFuture as SubmitFuture, Included, SubmitError, TransactionSubmitter};
use base_codec::cbor;
use base_grpc::{Address, Cbor, Client, Listener, RpcError, serve};
use base_prims::{Namespace, PublicKey};
use comet_chain::app::{TxResult, ValidatorUpdate};
use comet_chain::state::State;
use comet_store::{Durability, Executor, Genesis, NoEvidence, NoTxs, SharedApp, StoredChain, handshake};
use dev_testkit::chains::{Chain, RecordedBlock};
use dev_testkit::paths::vectors_dir;
use mkvs_tree::{KvWrite as _, Tree};
use node_app::{EngineApp, EngineConfig, NodeOptions, PruneConfig, Queries};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wire_cometbft::block::{Block, Commit};
use wire_cometbft::codec::Message as _;
use wire_cometbft::evidence::Evidence;
use wire_consensus::genesis::{Document, comet};
use wire_consensus::upgrade::Descriptor;

use crate::status::{IdentityStatus, RegistrationStatus, Status};
use crate::{Backend, Blocks, BoxFuture, Control, Engine, Feed, Kind, NodeKeys, router};

/// Stores of a chain that blocks can be applied to.
pub(super) struct Stores {
    executor: Arc<Executor>,
    stored: StoredChain,
    state: Mutex<State>,
    submitted: Mutex<Vec<Vec<u8>>>,
    evidence: Mutex<Vec<Evidence>>,
    verdict: Mutex<Result<(i64, u32), SubmitError>>,
    kind: Mutex<Kind>,
}

impl Engine for Stores {
    fn kind(&self) -> Kind {
        *self.kind.lock()
    }
    fn blocks(&self) -> &dyn Blocks {
        &self.stored
    }
    fn subscribe(&self) -> Box<dyn Feed> {
        Box::new(self.executor.subscribe())
    }
    fn submitter(&self) -> &dyn TransactionSubmitter {
        self
    }
    fn submit_evidence(&self, evidence: Evidence) -> Result<(), RpcError> {
        self.evidence.lock().push(evidence);
        Ok(())
    }
    fn unconfirmed(&self) -> Result<Vec<bytes::Bytes>, RpcError> {
        Ok(self.submitted.lock().iter().cloned().map(Into::into).collect())
    }
    fn node_id(&self) -> String {
        "ab".repeat(20)
    }
    fn peers(&self) -> Vec<String> {
        vec![format!("{}@127.0.0.1:26656", "cd".repeat(20))]
    }
}

impl TransactionSubmitter for Stores {
    fn submit(&self, tx: Vec<u8>) -> SubmitFuture<'_, Result<Included, SubmitError>> {
        self.submitted.lock().push(tx);
        let verdict = self.verdict.lock().clone();
        Box::pin(async move {
            let (height, index) = verdict?;
            let result = self.stored.chain.results(height).unwrap().unwrap().tx_results[index as usize].clone();
            Ok(Included { height, index, result: TxResult { events: Vec::new(), ..result } })
        })
    }
    fn submit_no_wait(&self, tx: Vec<u8>) -> SubmitFuture<'_, Result<(), SubmitError>> {
        self.submitted.lock().push(tx);
        let verdict = self.verdict.lock().clone();
        Box::pin(async move { verdict.map(|_| ()) })
    }
}

/// A node that notes what it is asked.
pub(super) struct NotedControl {
    pub(super) asked: Mutex<Vec<String>>,
    pub(super) synced: watch::Sender<bool>,
    pub(super) ready: watch::Sender<bool>,
}

impl Control for NotedControl {
    fn is_debug(&self) -> bool {
        true
    }

    fn set_epoch(&self, epoch: base_prims::Epoch) -> BoxFuture<'_, Result<(), RpcError>> {
        self.asked.lock().push(format!("epoch {epoch}"));
        Box::pin(async { Ok(()) })
    }

    fn status(&self) -> Status {
        Status {
            software_version: "1.2.3".to_owned(),
            mode: "client".to_owned(),
            identity: IdentityStatus { node: PublicKey::new([1; 32]), ..IdentityStatus::default() },
            registration: Some(RegistrationStatus::default()),
            ..Status::default()
        }
    }
    fn request_shutdown(&self, wait: bool) -> BoxFuture<'_, Result<(), RpcError>> {
        self.asked.lock().push(format!("shutdown {wait}"));
        Box::pin(async { Ok(()) })
    }
    fn synced(&self) -> Option<watch::Receiver<bool>> {
        Some(self.synced.subscribe())
    }
    fn ready(&self) -> Option<watch::Receiver<bool>> {
        Some(self.ready.subscribe())
    }
    fn upgrade_binary(&self, descriptor: Descriptor) -> Result<(), RpcError> {
        self.asked.lock().push(format!("upgrade {}", descriptor.handler));
        Ok(())
    }
    fn cancel_upgrade(&self, _: Descriptor) -> Result<(), RpcError> {
        Err(RpcError::service("upgrade", 7, "upgrade: not found"))
    }
}

/// A recorded chain, served on a socket.
pub(super) struct Served {
    pub(super) client: Client,
    pub(super) stores: Arc<Stores>,
    pub(super) queries: Queries,
    pub(super) control: Arc<NotedControl>,
    pub(super) doc: Arc<Document>,
    pub(super) recorded: Vec<(RecordedBlock, Block)>,
    pub(super) methods: Vec<String>,
    pub(super) stop: CancellationToken,
    chain: Chain,
    running: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

/// Serves a chain whose first `blocks` blocks are applied.
pub(super) async fn served(name: &str, blocks: usize) -> Served {
    let chain = Chain::open(&vectors_dir().join("chains").join(name));
    let text = String::from_utf8(chain.genesis().unwrap()).unwrap();
    let doc = Arc::new(Document::from_json(&text).unwrap());
    let recorded = chain.blocks().unwrap();
    let recorded: Vec<_> = recorded.into_iter().map(|r| (Block::decode(&r.block).unwrap(), r)).collect();
    let dir = tempfile::tempdir().unwrap();

    let local = LocalConfig {
        allow_debug: true,
        allow_test_keys: true,
        tee: rt_tee::VerifyOptions::mock(),
        ..LocalConfig::default()
    };
    let kv = Arc::new(base_kv::Memory::new());
    let db = mkvs_db::NodeDb::open(kv, mkvs_db::Config::new(Namespace::ZERO)).unwrap();
    let config = EngineConfig {
        doc: Arc::clone(&doc),
        node: NodeOptions { local, upgrades: Some(Default::default()) },
        consensus_key: None,
        prune: PruneConfig::default(),
        checkpointer: None,
        save_upgrades: None,
    };
    let app = EngineApp::open(&db, &dir.path().join("checkpoints"), config).unwrap();
    let queries = app.queries();
    let app: SharedApp = Arc::new(Mutex::new(Box::new(app)));
    let (block_store, chain_store) = comet_store::open(&dir.path().join("stores"), &doc.comet_chain_id()).unwrap();
    let executor = Executor::new(block_store, chain_store, app, Arc::new(NoTxs), Arc::new(NoEvidence));
    let validators = comet::validators(&doc).unwrap().into_iter();
    let genesis = Genesis {
        chain_id: doc.comet_chain_id(),
        initial_height: doc.height,
        time: doc.time.0,
        params: comet::consensus_params(&doc, true).unwrap(),
        validators: validators.map(|v| ValidatorUpdate { pub_key: *v.pub_key.as_bytes(), power: v.power }).collect(),
        app_state: text.into_bytes(),
    };
    let state = handshake(&executor, &genesis).unwrap();
    let stores = Arc::new(Stores {
        stored: StoredChain { blocks: Arc::clone(executor.blocks()), chain: Arc::clone(executor.chain()) },
        executor: Arc::new(executor),
        state: Mutex::new(state),
        submitted: Mutex::default(),
        evidence: Mutex::default(),
        verdict: Mutex::new(Err(SubmitError::Unavailable("nothing is taken".to_owned()))),
        kind: Mutex::new(Kind::Full),
    });

    let control = Arc::new(NotedControl {
        asked: Mutex::default(),
        synced: watch::Sender::new(false),
        ready: watch::Sender::new(false),
    });
    let stop = CancellationToken::new();
    let keys = NodeKeys { consensus: PublicKey::new(first_key(&doc)), ..NodeKeys::default() };
    let engine = Arc::clone(&stores) as Arc<dyn Engine>;
    let shared = Arc::clone(&control) as Arc<dyn Control>;
    let router = router(Arc::new(Backend::new(queries.clone(), engine, shared, keys, stop.clone())));
    let methods = router.methods();
    let path = dir.path().join("internal.sock");
    let running = tokio::spawn(serve(Listener::unix(&path).unwrap(), Arc::new(router), stop.clone()));
    let client = Client::connect(&Address::Unix(path)).await.unwrap();
    let recorded = recorded.into_iter().map(|(block, recorded)| (recorded, block)).collect();
    let served = Served { client, stores, queries, control, doc, recorded, methods, stop, chain, running, _dir: dir };
    served.apply(0..blocks);
    served
}

fn first_key(doc: &Document) -> [u8; 32] {
    *comet::validators(doc).unwrap()[0].pub_key.as_bytes()
}

impl Served {
    /// Applies recorded blocks by their place.
    pub(super) fn apply(&self, places: std::ops::Range<usize>) {
        let mut state = self.stores.state.lock();
        for (recorded, block) in &self.recorded[places] {
            let seen = Commit::decode(&recorded.seen_commit).unwrap();
            self.stores.stored.blocks.save(block, &block.part_set(), &seen, Durability::Deferred).unwrap();
            *state = self.stores.executor.apply(&state, block, &block.id().unwrap()).unwrap();
        }
    }

    pub(super) async fn call<A, R>(&self, method: &str, argument: A) -> Result<R, RpcError>
    where
        A: cbor::Encode + cbor::Decode,
        R: cbor::Encode + cbor::Decode,
    {
        let (service, method) = method.rsplit_once('/').unwrap();
        let service = crate::serve::service(service);
        self.client.call(&service, method, &Cbor(argument)).await.map(|Cbor(answer)| answer)
    }

    pub(super) async fn get<R: cbor::Encode + cbor::Decode>(&self, method: &str) -> Result<R, RpcError> {
        let (service, method) = method.rsplit_once('/').unwrap();
        let service = crate::serve::service(service);
        self.client.call(&service, method, &()).await.map(|Cbor(answer)| answer)
    }

    /// The answer as its bytes.
    pub(super) async fn bytes<A: cbor::Encode + cbor::Decode>(
        &self,
        method: &str,
        argument: A,
    ) -> Result<bytes::Bytes, RpcError> {
        let (service, method) = method.rsplit_once('/').unwrap();
        self.client.call(&crate::serve::service(service), method, &Cbor(argument)).await
    }

    /// The recorded state after each of some heights.
    pub(super) fn recorded_states(&self, heights: &[i64]) -> BTreeMap<i64, Tree> {
        let (mut pairs, mut trees) = (BTreeMap::new(), BTreeMap::new());
        for diff in self.chain.state_diffs().unwrap() {
            for (key, value) in diff.diff {
                match value {
                    Some(value) => pairs.insert(key, value),
                    None => pairs.remove(&key),
                };
            }
            let height = i64::try_from(diff.version).unwrap();
            if heights.contains(&height) {
                let mut tree = Tree::in_memory();
                pairs.iter().for_each(|(key, value)| tree.insert(key, value).unwrap());
                trees.insert(height, tree);
            }
        }
        assert_eq!(trees.len(), heights.len());
        trees
    }

    pub(super) async fn end(self) {
        self.stop.cancel();
        self.running.await.unwrap();
    }
}
