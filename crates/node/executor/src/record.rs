//! The record of what the node signed, on disk.

use std::path::Path;
use std::sync::Arc;

use base_codec::cbor;
use base_kv::{Batch, Durability, KvError, KvStore};
use base_kv_disk::{Disk, Options};
use rt_executor::round::Record;

use crate::setup::ExecutorError;

/// Name of the folder within the runtime's.
const FOLDER: &str = "executor";
/// The key of the record.
const KEY: &[u8] = b"executor/record";
/// Most bytes of the store; a record has the messages of a round at most.
const MAX_BYTES: u64 = 1 << 30;

/// Where the record is kept.
#[derive(Clone)]
pub(crate) struct Records(Arc<dyn KvStore>);

impl Records {
    /// Opens the store in a runtime's folder and reads the record, if there is one.
    pub(crate) fn open(folder: &Path) -> Result<(Self, Option<Record>), ExecutorError> {
        let path = folder.join(FOLDER);
        let failed = |source| ExecutorError::Store { path: path.clone(), source };
        let store = Disk::open(&path, Options { max_bytes: MAX_BYTES, read_only: false }).map_err(failed)?;
        let record = match store.get(KEY).map_err(failed)? {
            None => None,
            Some(bytes) => Some(
                cbor::from_slice(&bytes)
                    .map_err(|e| ExecutorError::Record { path: path.clone(), reason: e.to_string() })?,
            ),
        };
        Ok((Self(Arc::new(store)), record))
    }

    /// Replaces the record; it survives a power loss on return.
    pub(crate) fn write(&self, record: &Record) -> Result<(), KvError> {
        let mut batch = Batch::new();
        batch.put(KEY, &cbor::to_vec(record));
        self.0.write(&batch, Durability::Synced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_and_a_broken_one_is_no_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let (records, none) = Records::open(folder.path()).unwrap();
        assert_eq!(none, None);
        let record = Record { v: 1, round: 7, ..Record::default() };
        records.write(&record).unwrap();
        drop(records);
        let (records, found) = Records::open(folder.path()).unwrap();
        assert_eq!(found, Some(record));
        let mut batch = Batch::new();
        batch.put(KEY, b"\xff");
        records.0.write(&batch, Durability::Synced).unwrap();
        drop(records);
        assert!(matches!(Records::open(folder.path()), Err(ExecutorError::Record { .. })));
    }
}
