//! The node's own small records: the deregistration flag and pending upgrades.
//!
//! Reference: `go/common/persistent`, `go/worker/registration`, `go/upgrade`.

use std::path::Path;
use std::sync::Arc;

use base_codec::cbor;
use base_kv::{Batch, Durability, KvStore};
use base_kv_disk::{Disk, Options};
use node_workers::registration::DeregisterFlag;
use wire_consensus::upgrade::PendingUpgrade;

use crate::error::RunError;

/// Folder below the data directory.
pub(crate) const FOLDER: &str = "persistent-store.db";
/// Largest size of the store.
const MAX_BYTES: u64 = 1 << 30;
const DEREGISTER: &[u8] = b"worker/registration/deregistration requested";
const UPGRADES: &[u8] = b"upgrade/descriptors";

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct CommonStore(Arc<dyn KvStore>);

impl CommonStore {
    /// Opens it below a data directory that this process holds.
    ///
    /// # Errors
    /// If the store can't be opened.
    pub fn open(data_dir: &Path) -> Result<Self, RunError> {
        let options = Options { max_bytes: MAX_BYTES, ..Options::default() };
        Ok(Self(Arc::new(Disk::open(&data_dir.join(FOLDER), options)?)))
    }

    /// The upgrades that wait.
    ///
    /// # Errors
    /// If the store fails or the record is damaged.
    pub fn pending_upgrades(&self) -> Result<Vec<PendingUpgrade>, RunError> {
        match self.0.get(UPGRADES)? {
            None => Ok(Vec::new()),
            Some(raw) => cbor::from_slice(&raw)
                .map_err(|error| RunError::Record { key: "upgrade/descriptors", reason: error.to_string() }),
        }
    }

    /// Replaces the upgrades that wait, durably.
    ///
    /// # Errors
    /// If the store fails.
    pub fn save_upgrades(&self, pending: &[PendingUpgrade]) -> Result<(), base_kv::KvError> {
        let mut batch = Batch::new();
        batch.put(UPGRADES, &cbor::to_vec(&pending.to_vec()));
        self.0.write(&batch, Durability::Synced)
    }
}

impl DeregisterFlag for CommonStore {
    fn get(&self) -> bool {
        self.0.get(DEREGISTER).is_ok_and(|value| value.as_deref() == Some(&[0xf5]))
    }

    fn set(&self, value: bool) -> Result<(), String> {
        let mut batch = Batch::new();
        batch.put(DEREGISTER, &[if value { 0xf5 } else { 0xf4 }]);
        self.0.write(&batch, Durability::Synced).map_err(|error| error.to_string())
    }
}
