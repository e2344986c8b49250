//! Where the trees of a runtime are read: in the own storage, or with proofs from peers.

use std::sync::Arc;

use mkvs_tree::{KvRead, Root};
use rt_history::artifacts::ArtifactsError;
use rt_storage::Storage;

/// Reading failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TreesError {
    /// The database.
    #[error(transparent)]
    Db(#[from] mkvs_db::DbError),
    /// What lies in the tree.
    #[error(transparent)]
    Artifacts(#[from] ArtifactsError),
    /// The node has no state of the runtime.
    #[error("this node keeps no state of the runtime")]
    NoState,
    /// The reading task ended.
    #[error("reading ended unexpectedly")]
    Ended,
}

/// The trees of a runtime.
#[derive(Clone)]
pub(crate) struct Trees {
    storage: Option<Arc<Storage>>,
}

impl Trees {
    /// Those in a storage; without one every reading fails.
    pub(crate) fn new(storage: Option<Arc<Storage>>) -> Self {
        Self { storage }
    }

    /// The storage.
    pub(crate) fn storage(&self) -> Option<&Arc<Storage>> {
        self.storage.as_ref()
    }

    /// Reads a tree away from the tasks that serve.
    ///
    /// # Errors
    /// If the tree is not there or cannot be read.
    pub(crate) async fn read<T, F>(&self, root: Root, read: F) -> Result<T, TreesError>
    where
        T: Send + 'static,
        F: FnOnce(&dyn KvRead) -> Result<T, ArtifactsError> + Send + 'static,
    {
        let storage = self.storage.clone().ok_or(TreesError::NoState)?;
        let reading = tokio::task::spawn_blocking(move || -> Result<T, TreesError> {
            let tree = storage.db().read(&root)?;
            Ok(read(&tree)?)
        });
        reading.await.map_err(|_| TreesError::Ended)?
    }
}
