//! Where the application keeps its state between blocks.

use base_prims::Hash;
use mkvs_tree::{Executor, KvRead, KvWrite, Tree, TreeError};

/// A change of one key; `None` removes it.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// A failure of the store; the node must stop.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Reading or changing the tree failed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Writing to disk failed.
    #[error("state database: {0}")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
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

#[cfg(test)]
mod tests {
    use mkvs_tree::Sequential;

    use super::*;

    #[test]
    fn discarding_restores_the_committed_root() {
        let mut store = MemoryStore::new(Box::new(Sequential));
        let change = |k: &str, v: Option<&str>| (k.as_bytes().to_vec(), v.map(|v| v.as_bytes().to_vec()));
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
}
