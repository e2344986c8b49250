//! Write logs: what changed between two roots.
//!
//! CBOR: an array of `[key, value]`, value `null` for a removed key. One entry per key; ours are in key order, the
//! reference's are in no order. Source: `go/storage/mkvs/writelog`.

use std::collections::BTreeMap;

use base_codec::{Bytes, Codec};

use crate::error::TreeError;
use crate::kv::KvWrite;

/// One change.
#[derive(Clone, PartialEq, Eq, Debug, Default, Codec)]
#[codec(array, cbor_only)]
pub struct LogEntry {
    /// The key.
    pub key: Bytes,
    /// Its new value, `None` if it was removed.
    pub value: Option<Bytes>,
}

/// The changes between two roots, one per key.
pub type WriteLog = Vec<LogEntry>;

/// Applies a write log.
///
/// # Errors
/// If the store fails.
pub fn apply(log: &[LogEntry], store: &mut (impl KvWrite + ?Sized)) -> Result<(), TreeError> {
    for entry in log {
        match &entry.value {
            Some(value) => store.insert(&entry.key, value)?,
            None => store.remove(&entry.key)?,
        }
    }
    Ok(())
}

/// A change that is not committed yet.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    value: Option<Vec<u8>>,
    /// Whether the key was there at the last commit.
    existed: bool,
}

impl Pending {
    pub(crate) fn record(log: &mut BTreeMap<Vec<u8>, Self>, key: &[u8], value: Option<&[u8]>, existed: bool) {
        let value = value.map(<[u8]>::to_vec);
        match log.get_mut(key) {
            Some(pending) => pending.value = value,
            None => {
                log.insert(key.to_vec(), Self { value, existed });
            }
        }
    }

    /// Keys that were not there before and are not there now are left out.
    pub(crate) fn list(log: &BTreeMap<Vec<u8>, Self>) -> WriteLog {
        log.iter()
            .filter(|(_, p)| p.existed || p.value.is_some())
            .map(|(key, p)| LogEntry { key: Bytes(key.clone()), value: p.value.clone().map(Bytes) })
            .collect()
    }

    pub(crate) fn drain(log: &mut BTreeMap<Vec<u8>, Self>) -> WriteLog {
        std::mem::take(log)
            .into_iter()
            .filter(|(_, p)| p.existed || p.value.is_some())
            .map(|(key, p)| LogEntry { key: Bytes(key), value: p.value.map(Bytes) })
            .collect()
    }
}
