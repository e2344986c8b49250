//! Opening the database and reading from it.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base_kv::{Batch, Durability, KvStore, Order};
use base_prims::{Hash, Namespace};
use mkvs_tree::{Hint, LoadError, NodePtr, NodeRef, NodeSource, Retention, Root, RootType, Tree, stored};

use crate::batches::Sliced;
use crate::error::DbError;
use crate::exec::Threads;
use crate::keys;
use crate::meta::Meta;
use crate::multipart::Place;
use crate::record::RootRecord;
use crate::tree::DbTree;

/// How a database is opened.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Whose trees it holds.
    pub namespace: Namespace,
    /// Unchanged nodes that each open tree keeps in memory.
    pub retention: Retention,
    /// Whether write logs are dropped instead of stored.
    pub discard_write_logs: bool,
    /// Threads for hashing.
    pub threads: Threads,
}

impl Config {
    /// Defaults for a namespace.
    pub fn new(namespace: Namespace) -> Self {
        Self { namespace, retention: Retention::default(), discard_write_logs: false, threads: Threads::default() }
    }
}

/// A versioned store of trees. Cheap to clone; clones are the same database.
#[derive(Clone)]
pub struct NodeDb(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) kv: Arc<dyn KvStore>,
    pub(crate) config: Config,
    /// Held during every change, so that changes are one after another.
    meta: Mutex<Meta>,
    /// Where a restore in progress goes on. Never taken before `meta` is let go.
    parts: Mutex<Option<Place>>,
}

impl std::fmt::Debug for NodeDb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeDb").field("meta", &*self.meta()).finish_non_exhaustive()
    }
}

/// A pair that was read and may be absent.
pub(crate) type Pair = (Vec<u8>, Vec<u8>);

impl NodeDb {
    /// Opens the database in a store, or makes one in an empty store, and clears what a crash left unfinished.
    ///
    /// # Errors
    /// If the store holds something else, a newer format or another namespace; it is then unchanged.
    pub fn open(kv: Arc<dyn KvStore>, config: Config) -> Result<Self, DbError> {
        let meta = match kv.get(keys::META)? {
            Some(bytes) => Meta::decode(&bytes, config.namespace)?,
            None => {
                let mut any = false;
                kv.scan(&[], None, Order::Forward, &mut |_, _| {
                    any = true;
                    ControlFlow::Break(())
                })?;
                if any {
                    return Err(DbError::NotADatabase("it has records but not the first one"));
                }
                let meta = Meta::new(config.namespace);
                kv.write(Batch::new().put(keys::META, &meta.encode()), Durability::Synced)?;
                meta
            }
        };
        let db = Self(Arc::new(Inner { kv, config, meta: Mutex::new(meta), parts: Mutex::new(None) }));
        db.recover()?;
        Ok(db)
    }

    /// Finishes or undoes what was in progress when the process ended.
    fn recover(&self) -> Result<(), DbError> {
        let open = self.list(&[keys::OPEN])?;
        let mut out = Sliced::new(self.kv());
        for (key, _) in &open {
            if let (Some(version), Some(batch)) = (keys::version_of(key), keys::batch_of(key)) {
                out.delete_prefix(&keys::batch(keys::NODE, version, batch))?;
            }
            // After the nodes it stands for, in the same or a later slice.
            out.op(base_kv::Op::Delete(key))?;
        }
        out.flush()?;
        let (multipart, pruning) = {
            let meta = self.meta();
            self.drop_orphans(meta.range.map(|(_, latest)| latest))?;
            (meta.multipart, meta.pruning)
        };
        if multipart.is_some() {
            self.abort_multipart()?;
        }
        if let Some(version) = pruning {
            self.finish_pruning(version)?;
        }
        Ok(())
    }

    pub(crate) fn kv(&self) -> &dyn KvStore {
        &*self.0.kv
    }

    pub(crate) fn meta(&self) -> MutexGuard<'_, Meta> {
        self.0.meta.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn parts(&self) -> MutexGuard<'_, Option<Place>> {
        self.0.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All pairs whose key starts with `prefix`.
    pub(crate) fn list(&self, prefix: &[u8]) -> Result<Vec<Pair>, DbError> {
        let mut out = Vec::new();
        let end = mkvs_tree::prefix_end(prefix);
        self.kv().scan(prefix, end.as_deref(), Order::Forward, &mut |key, value| {
            out.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })?;
        Ok(out)
    }

    /// Whose trees the database holds.
    pub fn namespace(&self) -> Namespace {
        self.0.config.namespace
    }

    /// The latest finalized version.
    pub fn latest_version(&self) -> Option<u64> {
        self.meta().range.map(|(_, latest)| latest)
    }

    /// The earliest version that is not pruned.
    pub fn earliest_version(&self) -> Option<u64> {
        self.meta().range.map(|(earliest, _)| earliest)
    }

    /// Names a root of this database.
    pub fn root(&self, root_type: RootType, version: u64, hash: Hash) -> Root {
        Root { namespace: self.namespace(), version, root_type, hash }
    }

    pub(crate) fn record(&self, root: &Root) -> Result<Option<RootRecord>, DbError> {
        if root.namespace != self.namespace() {
            return Err(DbError::OtherNamespace { expected: self.namespace(), found: root.namespace });
        }
        let mut out = None;
        self.kv().get_with(&keys::root_record(root), &mut |bytes| out = Some(RootRecord::decode(bytes)))?;
        out.transpose()
    }

    /// Whether the root is stored. The empty tree is a root of every version.
    ///
    /// # Errors
    /// If the store fails or the root is of another namespace.
    pub fn has_root(&self, root: &Root) -> Result<bool, DbError> {
        Ok(root.hash.is_empty_hash() || self.record(root)?.is_some())
    }

    /// All roots of a version, finalized or not.
    ///
    /// # Errors
    /// If the store fails.
    pub fn roots(&self, version: u64) -> Result<Vec<Root>, DbError> {
        let list = self.list(&keys::version(keys::ROOT, version))?;
        let roots = list.iter().filter_map(|(key, _)| keys::root_of(key));
        Ok(roots.map(|(root_type, hash)| self.root(root_type, version, hash)).collect())
    }

    /// The name of a stored root's node.
    pub(crate) fn locate(&self, root: &Root) -> Result<NodePtr, DbError> {
        if root.hash.is_empty_hash() {
            return Ok(NodePtr::from_hash(root.hash));
        }
        match self.record(root)? {
            Some(RootRecord { id: Some(id), .. }) => Ok(NodePtr { hash: root.hash, id }),
            _ => Err(DbError::RootNotFound(*root)),
        }
    }

    /// Opens the tree at a root, for reading and for making the root of the next version.
    ///
    /// # Errors
    /// If the root is not stored.
    pub fn tree(&self, root: &Root) -> Result<DbTree, DbError> {
        let tree = self.read(root)?;
        let base = (!root.hash.is_empty_hash() || self.record(root)?.is_some()).then_some(*root);
        Ok(DbTree::new(self.clone(), tree, root.root_type, base))
    }

    /// Starts an empty tree.
    pub fn empty_tree(&self, root_type: RootType) -> DbTree {
        let tree = Tree::open(NodePtr::from_hash(Hash::EMPTY), self.source(), self.0.config.retention);
        DbTree::new(self.clone(), tree, root_type, None)
    }

    /// Opens the tree at a root for reading.
    ///
    /// # Errors
    /// If the root is not stored.
    pub fn read(&self, root: &Root) -> Result<Tree, DbError> {
        Ok(Tree::open(self.locate(root)?, self.source(), self.0.config.retention))
    }

    pub(crate) fn source(&self) -> Arc<dyn NodeSource> {
        Arc::new(self.clone())
    }

    /// One node; `None` if it is not there.
    pub(crate) fn node(&self, ptr: &NodePtr) -> Result<Option<NodeRef>, LoadError> {
        if !ptr.id.is_stored() {
            return Ok(None);
        }
        let mut out = None;
        self.kv()
            .get_with(&keys::node(&ptr.id), &mut |bytes| out = Some(stored::decode(bytes, &ptr.id)))
            .map_err(|e| LoadError::Storage(Box::new(e)))?;
        out.transpose().map_err(|source| LoadError::Corrupt { ptr: *ptr, source })
    }

    /// The least version after `version` that has roots.
    pub(crate) fn next_version(&self, version: u64) -> Result<Option<u64>, DbError> {
        match version.checked_add(1) {
            Some(after) => self.version_from(after),
            None => Ok(None),
        }
    }

    /// The least version that has roots.
    pub(crate) fn first_version(&self) -> Result<Option<u64>, DbError> {
        self.version_from(0)
    }

    fn version_from(&self, version: u64) -> Result<Option<u64>, DbError> {
        let mut found = None;
        self.kv().scan(
            &keys::version(keys::ROOT, version),
            Some(&[keys::ROOT + 1]),
            Order::Forward,
            &mut |key, _| {
                found = keys::version_of(key);
                ControlFlow::Break(())
            },
        )?;
        Ok(found)
    }
}

impl NodeSource for NodeDb {
    fn load(&self, ptr: &NodePtr, _: Hint<'_>) -> Result<NodeRef, LoadError> {
        self.node(ptr)?.ok_or(LoadError::Missing(*ptr))
    }
}
