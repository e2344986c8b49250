//! What is known of the versions of the state beside the application: the newest one, which are being read, and reading
//! them without the application's lock.

use std::{
    collections::{BTreeMap, HashMap},
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use apps_core::LocalConfig;
use base_codec::cbor;
use base_prims::{Hash, PublicKey};
use comet_chain::app::CheckResult;
use mkvs_db::{DbError, NodeDb};
use mkvs_tree::sync::{GetPrefixesRequest, GetRequest, IterateRequest, ReadSyncer, Server};
use mkvs_tree::{KvRead, Proof, Root, RootType, Tree, TreeError};
use parking_lot::Mutex;
use tokio::sync::{broadcast, oneshot, watch};
use wire_consensus::{
    Time,
    genesis::Document,
    roothash::{ExecutorCommit, METHOD_EXECUTOR_COMMIT},
    transaction::{Gas, SignedTransaction, Transaction},
};

use crate::{NodeOptions, build_mux, pruner::PruneHandler};

/// Most transactions that can be watched for becoming invalid at once.
pub const MAX_WATCHED: usize = 10_000;

/// Commitments of runtimes' committees that a reader of `Queries::watch_commitments` may lag behind.
const COMMITMENT_BACKLOG: usize = 256;

/// The newest committed state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latest {
    /// Height of the last committed block; 0: none yet.
    pub height: i64,
    /// State root after it.
    pub app_hash: Hash,
    /// Time of that block; the zero time if this program has not executed it.
    pub time: Time,
}

/// A query of the state failed.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// No block was committed yet.
    #[error("no committed blocks")]
    NoBlocks,
    /// The state of the height is not there: not yet, or no longer.
    #[error("state of height {height} is not available (available: {earliest} to {latest})")]
    Height {
        /// The height asked for.
        height: i64,
        /// The earliest one that is available.
        earliest: i64,
        /// The latest one.
        latest: i64,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The state could not be read as what it should be.
    #[error(transparent)]
    State(#[from] apps_core::Error),
    /// State that is kept elsewhere could not be had, or not be verified.
    #[error("{0}")]
    Remote(String),
}

/// Which versions must stay.
#[derive(Default)]
struct Pins {
    // How often each version is held.
    held: BTreeMap<u64, usize>,
    // Versions below this one are gone or going.
    floor: u64,
}

/// Shared by the application, its background threads and everybody who asks.
pub(crate) struct Versions {
    pub(crate) db: NodeDb,
    latest: watch::Sender<Latest>,
    pins: Mutex<Pins>,
    /// Blocks below this height may go; 0: none.
    pub(crate) retained: AtomicI64,
    pub(crate) prune_handlers: Mutex<Vec<Arc<dyn PruneHandler>>>,
    watched: Mutex<HashMap<Hash, oneshot::Sender<CheckResult>>>,
    commitments: broadcast::Sender<Arc<ExecutorCommit>>,
}

impl Versions {
    pub(crate) fn new(db: NodeDb) -> Arc<Self> {
        Arc::new(Self {
            db,
            latest: watch::Sender::default(),
            pins: Mutex::default(),
            retained: AtomicI64::new(0),
            prune_handlers: Mutex::default(),
            watched: Mutex::default(),
            commitments: broadcast::Sender::new(COMMITMENT_BACKLOG),
        })
    }

    pub(crate) fn latest(&self) -> Latest {
        *self.latest.borrow()
    }

    pub(crate) fn set_latest(&self, latest: Latest) {
        self.latest.send_replace(latest);
    }

    /// Keeps a version from being pruned until the pin is dropped; `None` if it is not there.
    pub(crate) fn pin(self: &Arc<Self>, version: u64) -> Option<Pin> {
        let mut pins = self.pins.lock();
        if version < pins.floor {
            return None;
        }
        *pins.held.entry(version).or_default() += 1;
        Some(Pin { versions: Arc::clone(self), version })
    }

    /// Takes a version away from everybody; says no if it, or one before it, is being read.
    pub(crate) fn claim(&self, version: u64) -> bool {
        let mut pins = self.pins.lock();
        if pins.held.first_key_value().is_some_and(|(first, _)| *first <= version) {
            return false;
        }
        pins.floor = pins.floor.max(version.saturating_add(1));
        true
    }

    /// The state root of a version.
    pub(crate) fn state_root(&self, version: u64) -> Result<Option<Root>, DbError> {
        Ok(self.db.roots(version)?.into_iter().find(|r| r.root_type == RootType::STATE))
    }

    /// Tells of commitments in a transaction that the pool takes.
    pub(crate) fn accepted(&self, tx: &[u8]) {
        if self.commitments.receiver_count() == 0 {
            return;
        }
        let Ok(signed) = cbor::from_slice::<SignedTransaction>(tx) else { return };
        let Ok(tx) = cbor::from_slice::<Transaction>(signed.0.blob()) else { return };
        if tx.method == METHOD_EXECUTOR_COMMIT
            && let Ok(commit) = tx.body.decode_as::<ExecutorCommit>()
        {
            // Nobody listening any more is no error.
            let _ = self.commitments.send(Arc::new(commit));
        }
    }

    /// Tells whoever watches a transaction that it does not pass any more.
    pub(crate) fn invalidated(&self, tx: &[u8], result: &CheckResult) {
        let mut watched = self.watched.lock();
        if watched.is_empty() {
            return;
        }
        if let Some(watcher) = watched.remove(&Hash::of(&[tx])) {
            // Who does not listen any more misses nothing.
            let _ = watcher.send(result.clone());
        }
    }
}

/// Keeps a version from being pruned.
pub(crate) struct Pin {
    versions: Arc<Versions>,
    version: u64,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pins = self.versions.pins.lock();
        if let Some(count) = pins.held.get_mut(&self.version) {
            *count -= 1;
            if *count == 0 {
                pins.held.remove(&self.version);
            }
        }
    }
}

/// State that is kept elsewhere and read through proofs. Its calls may wait for the network.
pub trait RemoteState: Send + Sync {
    /// The newest state that is verified, told whenever there is another.
    fn watch(&self) -> watch::Receiver<Latest>;
    /// The earliest height that can be verified; 0: none.
    fn earliest_height(&self) -> i64;
    /// The verified root of the state after the block of a height that is not above the newest, the tree that it names, and
    /// whoever makes proofs from that tree.
    ///
    /// # Errors
    /// [`QueryError::Height`] or [`QueryError::Remote`].
    fn state(&self, height: i64) -> Result<(Root, Tree, Arc<dyn ReadSyncer>), QueryError>;
    /// Gas that a transaction of the caller would use, as somebody says who is not verified.
    ///
    /// # Errors
    /// [`QueryError::Remote`].
    fn estimate_gas(&self, caller: PublicKey, tx: &Transaction) -> Result<Gas, QueryError>;
}

/// Where the versions are.
#[derive(Clone)]
enum Source {
    Local {
        versions: Arc<Versions>,
        local: LocalConfig,
    },
    Remote {
        state: Arc<dyn RemoteState>,
        latest: watch::Receiver<Latest>,
        commitments: broadcast::Sender<Arc<ExecutorCommit>>,
    },
}

/// Reads any version of the state that is kept, beside the application and without waiting for it. Cheap to clone.
#[derive(Clone)]
pub struct Queries {
    source: Source,
    doc: Arc<Document>,
}

impl Queries {
    pub(crate) fn new(versions: Arc<Versions>, doc: Arc<Document>, local: LocalConfig) -> Self {
        Self { source: Source::Local { versions, local }, doc }
    }

    /// Queries of a node that keeps no state.
    pub fn remote(state: Arc<dyn RemoteState>, doc: Arc<Document>) -> Self {
        let (latest, commitments) = (state.watch(), broadcast::Sender::new(1));
        Self { source: Source::Remote { state, latest, commitments }, doc }
    }

    fn versions(&self) -> Option<&Arc<Versions>> {
        match &self.source {
            Source::Local { versions, .. } => Some(versions),
            Source::Remote { .. } => None,
        }
    }

    /// The genesis document.
    pub fn genesis(&self) -> &Arc<Document> {
        &self.doc
    }

    /// The newest committed state.
    pub fn latest(&self) -> Latest {
        match &self.source {
            Source::Local { versions, .. } => versions.latest(),
            Source::Remote { latest, .. } => *latest.borrow(),
        }
    }

    /// Shows the newest committed state and wakes its holder at every commit; heights may be skipped by slow readers.
    pub fn watch(&self) -> watch::Receiver<Latest> {
        match &self.source {
            Source::Local { versions, .. } => versions.latest.subscribe(),
            Source::Remote { state, .. } => state.watch(),
        }
    }

    /// The earliest height whose state is kept, or can be had and verified; 0: none.
    pub fn earliest_height(&self) -> i64 {
        match &self.source {
            Source::Local { versions, .. } => versions.db.earliest_version().map_or(0, u64::cast_signed),
            Source::Remote { state, .. } => state.earliest_height(),
        }
    }

    /// Blocks below this height are needed by nobody any more, as last told to the engine; 0: all are needed.
    pub fn last_retained_height(&self) -> i64 {
        self.versions().map_or(0, |versions| versions.retained.load(Ordering::Relaxed))
    }

    /// The state after the block of a height; 0 stands for the newest. While the result lives, this version and later
    /// ones are not pruned, so it should not be kept for long.
    ///
    /// # Errors
    /// [`QueryError::NoBlocks`], or [`QueryError::Height`] if the height is not there.
    pub fn state(&self, height: i64) -> Result<StateAt, QueryError> {
        let latest = self.latest();
        if latest.height == 0 {
            return Err(QueryError::NoBlocks);
        }
        let wanted = if height == 0 { latest.height } else { height };
        let missing = || QueryError::Height { height, earliest: self.earliest_height(), latest: latest.height };
        let version = u64::try_from(wanted).ok().filter(|_| wanted <= latest.height).ok_or_else(missing)?;
        let versions = match &self.source {
            Source::Local { versions, .. } => versions,
            Source::Remote { state, .. } => {
                let (root, tree, prover) = state.state(wanted)?;
                return Ok(StateAt { height: wanted, root, tree, held: Held::Remote(prover) });
            }
        };
        let pin = versions.pin(version).ok_or_else(missing)?;
        let root = versions.state_root(version)?.ok_or_else(missing)?;
        let tree = versions.db.read(&root)?;
        Ok(StateAt { height: wanted, root, tree, held: Held::Local { _pin: pin } })
    }

    /// Gas that a transaction of the caller would use on the newest state.
    ///
    /// # Errors
    /// If there is no block yet, the state is unreadable or the transaction is too large.
    pub fn estimate_gas(&self, caller: PublicKey, tx: &Transaction) -> Result<Gas, QueryError> {
        let local = match &self.source {
            Source::Local { local, .. } => local.clone(),
            Source::Remote { state, .. } => return state.estimate_gas(caller, tx),
        };
        let time = self.latest().time;
        let state = self.state(0)?;
        let mut mux = build_mux(&self.doc, NodeOptions { local, upgrades: None });
        mux.resume(&state, state.height, state.root.hash, time)?;
        Ok(mux.estimate_gas(&state, caller, tx)?)
    }

    /// Tells once when a transaction (its whole bytes hash to `tx`) that was in the pool fails to pass a later check.
    /// `None` if somebody watches it already or too many are watched.
    pub fn watch_invalidated(&self, tx: Hash) -> Option<oneshot::Receiver<CheckResult>> {
        let mut watched = self.versions()?.watched.lock();
        if watched.len() >= MAX_WATCHED {
            watched.retain(|_, w| !w.is_closed());
        }
        let taken = watched.get(&tx).is_some_and(|w| !w.is_closed());
        if taken || watched.len() >= MAX_WATCHED {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        watched.insert(tx, sender);
        Some(receiver)
    }

    /// Commitments in transactions that the pool took since the subscription; who lags behind misses some.
    pub fn watch_commitments(&self) -> broadcast::Receiver<Arc<ExecutorCommit>> {
        match &self.source {
            Source::Local { versions, .. } => versions.commitments.subscribe(),
            Source::Remote { commitments, .. } => commitments.subscribe(),
        }
    }

    /// Lets somebody keep versions of the state, and with them blocks, from being pruned.
    pub fn register_prune_handler(&self, handler: Arc<dyn PruneHandler>) {
        if let Some(versions) = self.versions() {
            versions.prune_handlers.lock().push(handler);
        }
    }

    /// Bytes that the state takes, free space in its files not counted.
    ///
    /// # Errors
    /// If the database fails.
    pub fn used_bytes(&self) -> Result<u64, QueryError> {
        self.versions().map_or(Ok(0), |versions| Ok(versions.db.store_stats()?.used_bytes))
    }
}

/// The state after a block, for reading.
pub struct StateAt {
    /// Height of the block.
    pub height: i64,
    /// The state root.
    pub root: Root,
    tree: Tree,
    held: Held,
}

/// What a state needs to stay readable.
enum Held {
    Local { _pin: Pin },
    Remote(Arc<dyn ReadSyncer>),
}

impl StateAt {
    /// Makes proofs of at most `limit` bytes; those of a state that is kept elsewhere are made there, and not verified here.
    pub fn prover(&self, limit: usize) -> Box<dyn ReadSyncer + '_> {
        match &self.held {
            Held::Local { .. } => Box::new(Server::new(&self.tree, self.root, limit)),
            Held::Remote(prover) => Box::new(Borrowed(prover.as_ref())),
        }
    }

    /// The tree, to make proofs from.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }
}

/// Whoever makes proofs elsewhere.
struct Borrowed<'a>(&'a dyn ReadSyncer);

impl ReadSyncer for Borrowed<'_> {
    fn get(&self, request: &GetRequest) -> Result<Proof, String> {
        self.0.get(request)
    }

    fn get_prefixes(&self, request: &GetPrefixesRequest) -> Result<Proof, String> {
        self.0.get_prefixes(request)
    }

    fn iterate(&self, request: &IterateRequest) -> Result<Proof, String> {
        self.0.iterate(request)
    }
}

impl KvRead for StateAt {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TreeError> {
        self.tree.get(key)
    }

    fn iterate(&self, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>) -> Result<(), TreeError> {
        self.tree.iterate(from, visit)
    }
}
