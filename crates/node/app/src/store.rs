//! Where the application keeps its state between blocks.

use base_prims::Hash;
use mkvs_db::{DbError, DbTree, NodeDb};
use mkvs_tree::{Executor, KvRead, KvWrite, RootType, Tree, TreeError};

/// A change of one key; `None` removes it.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// A failure of the store; the node must stop.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Reading or changing the tree failed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Reading or writing the database failed.
    #[error("state database: {0}")]
    Database(#[from] DbError),
    /// The state could not be read while a block was executed.
    #[error("state database: {0}")]
    Unreadable(String),
    /// The newest version of the database holds no state.
    #[error("state database: version {version} has no state root")]
    NoStateRoot {
        /// The newest version.
        version: u64,
    },
    /// A genesis state was given to a store that has blocks already.
    #[error("state database already holds version {version}")]
    NotEmpty {
        /// The newest version.
        version: u64,
    },
}

/// Versioned state: one version per height.
pub trait StateStore: Send + Sync {
    /// The state, with the changes applied since the last commit.
    fn state(&self) -> &dyn KvRead;
    /// Applies changes and returns the root that results; nothing is durable yet.
    ///
    /// # Errors
    /// If the store fails; the state is then unusable.
    fn apply(&mut self, changes: &[Change]) -> Result<Hash, StoreError>;
    /// Applies the genesis state over an empty state. Like any uncommitted change it is not durable, but
    /// [`StateStore::discard`] keeps it, until the first commit.
    ///
    /// # Errors
    /// If the store fails or is not empty.
    fn apply_genesis(&mut self, changes: &[Change]) -> Result<Hash, StoreError>;
    /// Undoes what was applied since the last commit.
    ///
    /// # Errors
    /// If the store fails; the state is then unusable.
    fn discard(&mut self) -> Result<(), StoreError>;
    /// Makes what was applied durable as a version.
    ///
    /// # Errors
    /// If the store fails; the last committed version is then still intact on disk.
    fn commit(&mut self, version: u64) -> Result<Hash, StoreError>;
    /// The committed version and root, if there is one.
    fn committed(&self) -> Option<(u64, Hash)>;
}

/// A store in memory.
pub struct MemoryStore {
    tree: Tree,
    executor: Box<dyn Executor + Send>,
    // What to write to undo the changes since the last commit, newest last.
    undo: Vec<Change>,
    committed: Option<(u64, Hash)>,
}

impl MemoryStore {
    /// An empty store that hashes with `executor`.
    pub fn new(executor: Box<dyn Executor + Send>) -> Self {
        Self { tree: Tree::in_memory(), executor, undo: Vec::new(), committed: None }
    }

    fn set(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), TreeError> {
        match value {
            Some(value) => self.tree.insert(key, value),
            None => KvWrite::remove(&mut self.tree, key),
        }
    }
}

impl StateStore for MemoryStore {
    fn state(&self) -> &dyn KvRead {
        &self.tree
    }

    fn apply(&mut self, changes: &[Change]) -> Result<Hash, StoreError> {
        for (key, value) in changes {
            let before = KvRead::get(&self.tree, key)?;
            self.undo.push((key.clone(), before));
            self.set(key, value.as_deref())?;
        }
        Ok(self.tree.root_hash(self.executor.as_ref()))
    }

    fn apply_genesis(&mut self, changes: &[Change]) -> Result<Hash, StoreError> {
        let root = self.apply(changes)?;
        self.undo.clear();
        Ok(root)
    }

    fn discard(&mut self) -> Result<(), StoreError> {
        while let Some((key, value)) = self.undo.pop() {
            self.set(&key, value.as_deref())?;
        }
        Ok(())
    }

    fn commit(&mut self, version: u64) -> Result<Hash, StoreError> {
        let root = self.tree.root_hash(self.executor.as_ref());
        self.undo.clear();
        self.committed = Some((version, root));
        Ok(root)
    }

    fn committed(&self) -> Option<(u64, Hash)> {
        self.committed
    }
}

/// A store over a node database, on disk or wherever its key-value store is.
pub struct DbStore {
    tree: DbTree,
    // The genesis state, until the first commit: what discarding falls back to.
    genesis: Vec<Change>,
}

impl DbStore {
    /// Opens the newest version of a database; an empty database gives an empty state.
    ///
    /// # Errors
    /// If the database cannot be read, or its newest version does not hold exactly one state root.
    pub fn open(db: &NodeDb) -> Result<Self, StoreError> {
        let tree = match db.latest_version() {
            None => db.empty_tree(RootType::STATE),
            Some(version) => {
                let roots = db.roots(version)?;
                let root = roots.iter().find(|r| r.root_type == RootType::STATE);
                db.tree(root.ok_or_else(|| StoreError::NoStateRoot { version })?)?
            }
        };
        Ok(Self { tree, genesis: Vec::new() })
    }

    fn set(&mut self, changes: &[Change]) -> Result<(), TreeError> {
        let tree = self.tree.tree_mut();
        changes.iter().try_for_each(|(key, value)| match value {
            Some(value) => tree.insert(key, value),
            None => KvWrite::remove(tree, key),
        })
    }
}

impl StateStore for DbStore {
    fn state(&self) -> &dyn KvRead {
        self.tree.tree()
    }

    fn apply(&mut self, changes: &[Change]) -> Result<Hash, StoreError> {
        self.set(changes)?;
        Ok(self.tree.root_hash())
    }

    fn apply_genesis(&mut self, changes: &[Change]) -> Result<Hash, StoreError> {
        if let Some((version, _)) = self.committed() {
            return Err(StoreError::NotEmpty { version });
        }
        self.genesis = changes.to_vec();
        self.apply(changes)
    }

    fn discard(&mut self) -> Result<(), StoreError> {
        self.tree.rollback()?;
        let genesis = std::mem::take(&mut self.genesis);
        let result = self.set(&genesis);
        self.genesis = genesis;
        Ok(result?)
    }

    fn commit(&mut self, version: u64) -> Result<Hash, StoreError> {
        let root = self.tree.commit_final(version)?;
        self.genesis = Vec::new();
        Ok(root.hash)
    }

    fn committed(&self) -> Option<(u64, Hash)> {
        self.tree.base().map(|root| (root.version, root.hash))
    }
}

#[cfg(test)]
mod tests {
    use mkvs_tree::Sequential;

    use super::*;

    fn change(k: &str, v: Option<&str>) -> Change {
        (k.as_bytes().to_vec(), v.map(|v| v.as_bytes().to_vec()))
    }

    fn discarding_restores_the_committed_root(store: &mut dyn StateStore) {
        let genesis = store.apply_genesis(&[change("g", Some("0"))]).unwrap();
        store.apply(&[change("g", None), change("x", Some("1"))]).unwrap();
        store.discard().unwrap();
        assert_eq!(store.apply(&[]).unwrap(), genesis);
        store.apply(&[change("a", Some("1")), change("b", Some("2"))]).unwrap();
        let root = store.commit(1).unwrap();
        let other = store
            .apply(&[change("a", None), change("b", Some("3")), change("c", Some("4")), change("a", Some("5"))])
            .unwrap();
        assert_ne!(root, other);
        store.discard().unwrap();
        assert_eq!(store.apply(&[]).unwrap(), root);
        assert_eq!(store.committed(), Some((1, root)));
    }

    #[test]
    fn memory() {
        discarding_restores_the_committed_root(&mut MemoryStore::new(Box::new(Sequential)));
    }

    #[test]
    fn database() {
        let kv = std::sync::Arc::new(base_kv::Memory::new());
        let db = NodeDb::open(kv, mkvs_db::Config::new(base_prims::Namespace::ZERO)).unwrap();
        discarding_restores_the_committed_root(&mut DbStore::open(&db).unwrap());
        let mut again = DbStore::open(&db).unwrap();
        assert_eq!(again.committed().map(|(v, _)| v), Some(1));
        assert!(matches!(again.apply_genesis(&[]), Err(StoreError::NotEmpty { version: 1 })));
    }
}
