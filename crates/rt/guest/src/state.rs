//! The runtime's state, read from the host piece by piece with proofs, and kept for the next batch.

use std::{collections::VecDeque, sync::Arc};

use mkvs_tree::{
    Hint, KvRead, LoadError, NodePtr, NodeRef, NodeSource, Proof, Retention, Root, Tree, TreeError, Visit,
    sync::{GetPrefixesRequest, GetRequest, IterateRequest, ReadSyncer, Remote},
};
use parking_lot::{Mutex, RwLock};
use wire_runtime::host::{StorageEndpoint, StorageSyncRequest};

use crate::{Error, Host};

/// How many states are kept: the newest, and those that queries ask for.
pub const KEPT_STATES: usize = 12;

/// How many roots a state and what was computed from it are looked for under.
const KEPT_ROOTS: usize = 3;

/// Reads parts of a tree from the host.
#[derive(Clone, Debug)]
pub struct HostSyncer {
    host: Host,
    endpoint: StorageEndpoint,
}

impl HostSyncer {
    /// A reader of trees of the endpoint.
    pub fn new(host: Host, endpoint: StorageEndpoint) -> Self {
        Self { host, endpoint }
    }

    fn ask(&self, mut request: StorageSyncRequest) -> Result<Proof, String> {
        request.endpoint = Some(self.endpoint);
        let answer = self.host.storage_sync(request).map_err(|e| e.to_string())?;
        answer.proof_response.map(|r| r.proof).ok_or_else(|| "the host's answer holds no proof".to_owned())
    }
}

impl ReadSyncer for HostSyncer {
    fn get(&self, request: &GetRequest) -> Result<Proof, String> {
        self.ask(StorageSyncRequest { get: Some(request.clone()), ..Default::default() })
    }

    fn get_prefixes(&self, request: &GetPrefixesRequest) -> Result<Proof, String> {
        self.ask(StorageSyncRequest { get_prefixes: Some(request.clone()), ..Default::default() })
    }

    fn iterate(&self, request: &IterateRequest) -> Result<Proof, String> {
        self.ask(StorageSyncRequest { iterate: Some(request.clone()), ..Default::default() })
    }
}

/// Nodes of a state and of those computed from it, asked for under the newest of their roots that has them.
struct Source {
    remotes: RwLock<VecDeque<Remote<HostSyncer>>>,
}

impl NodeSource for Source {
    fn wants_hints(&self) -> bool {
        true
    }

    fn load(&self, ptr: &NodePtr, hint: Hint<'_>) -> Result<NodeRef, LoadError> {
        let mut outcome = Err(LoadError::Missing(*ptr));
        for remote in self.remotes.read().iter() {
            outcome = remote.load(ptr, hint);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }
}

/// A state of the runtime. Reading it asks the host for what was not read before; writing goes to an overlay.
#[derive(Clone)]
pub struct StateTree {
    root: Root,
    tree: Arc<Tree>,
    source: Arc<Source>,
}

impl std::fmt::Debug for StateTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateTree").field("root", &self.root).finish_non_exhaustive()
    }
}

impl StateTree {
    /// The state that the root names. The host need not be trusted.
    pub fn open(syncer: HostSyncer, root: Root, cache_bytes: usize) -> Self {
        let source =
            Arc::new(Source { remotes: RwLock::new(VecDeque::from([Remote::new(syncer, root, cache_bytes)])) });
        let tree = Tree::open(
            NodePtr::from_hash(root.hash),
            Arc::clone(&source) as Arc<dyn NodeSource>,
            Retention::Bytes(cache_bytes),
        );
        Self { root, tree: Arc::new(tree), source }
    }

    /// The root.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// A copy of the tree to change; it shares all nodes.
    pub(crate) fn fork(&self) -> Tree {
        Tree::clone(&self.tree)
    }
}

impl KvRead for StateTree {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TreeError> {
        self.tree.get(key)
    }

    fn iterate(&self, from: &[u8], visit: Visit<'_>) -> Result<(), TreeError> {
        self.tree.iterate(from, visit)
    }
}

/// The states read last. One for all kinds of requests: reading never changes a state.
#[derive(Debug)]
pub(crate) struct StateCache {
    host: Host,
    cache_bytes: usize,
    states: Mutex<VecDeque<StateTree>>,
}

impl StateCache {
    /// A cache without states; each may hold `cache_bytes`.
    pub(crate) fn new(host: Host, cache_bytes: usize) -> Self {
        Self { host, cache_bytes, states: Mutex::new(VecDeque::new()) }
    }

    /// The state of that root.
    pub(crate) fn state(&self, root: &Root) -> StateTree {
        let mut states = self.states.lock();
        if let Some(at) = states.iter().position(|s| s.root == *root)
            && let Some(state) = states.remove(at)
        {
            states.push_front(state.clone());
            return state;
        }
        let syncer = HostSyncer::new(self.host.clone(), StorageEndpoint::RUNTIME);
        let state = StateTree::open(syncer, *root, self.cache_bytes);
        states.push_front(state.clone());
        states.truncate(KEPT_STATES);
        state
    }

    /// Keeps a state that was computed from another; the host will have it when it asks for the next round.
    pub(crate) fn keep(&self, base: &StateTree, root: Root, tree: Tree) {
        let syncer = HostSyncer::new(self.host.clone(), StorageEndpoint::RUNTIME);
        {
            let mut remotes = base.source.remotes.write();
            remotes.push_front(Remote::new(syncer, root, self.cache_bytes));
            remotes.truncate(KEPT_ROOTS);
        }
        let state = StateTree { root, tree: Arc::new(tree), source: Arc::clone(&base.source) };
        let mut states = self.states.lock();
        states.retain(|s| s.root != root);
        states.push_front(state);
        states.truncate(KEPT_STATES);
    }
}

/// Decodes a value of a state.
pub(crate) fn decode<T: base_codec::cbor::Decode>(what: &'static str, raw: &[u8]) -> Result<T, Error> {
    base_codec::cbor::from_slice(raw).map_err(|source| Error::MalformedState { what, source })
}
