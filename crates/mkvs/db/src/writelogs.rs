//! Stored write logs: what changed from one root to another.

use std::collections::BTreeMap;

use base_codec::Bytes;
use mkvs_tree::{LogEntry, Root, WriteLog};

use crate::db::NodeDb;
use crate::error::DbError;
use crate::keys;

/// Most roots of one version that a log may lead through.
const MAX_HOPS: usize = 16;

/// Per entry: `key length u16 | key | 0`, or `key length u16 | key | 1 | value length u32 | value`; big-endian.
pub(crate) fn encode(log: &[LogEntry]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in log {
        // Keys and values that a tree took fit these lengths.
        out.extend_from_slice(&u16::try_from(entry.key.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(&entry.key);
        out.push(u8::from(entry.value.is_some()));
        if let Some(value) = &entry.value {
            out.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
            out.extend_from_slice(value);
        }
    }
    out
}

/// Reads what [`encode`] wrote.
pub(crate) fn decode(bytes: &[u8]) -> Result<WriteLog, DbError> {
    read(bytes).ok_or(DbError::Corrupt { what: "write log" })
}

fn read(mut rest: &[u8]) -> Option<WriteLog> {
    let mut out = Vec::new();
    while !rest.is_empty() {
        let (len, tail) = rest.split_first_chunk()?;
        let (key, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        let (present, tail) = tail.split_first()?;
        rest = tail;
        let value = if *present == 0 {
            None
        } else {
            let (len, tail) = rest.split_first_chunk()?;
            let (value, tail) = tail.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).ok()?)?;
            rest = tail;
            Some(Bytes(value.to_vec()))
        };
        out.push(LogEntry { key: Bytes(key.to_vec()), value });
    }
    Some(out)
}

impl NodeDb {
    /// What changed from `start` to `end`, which must have been made from it, directly or through roots of the same
    /// version. A `start` with the empty hash is the empty tree.
    ///
    /// # Errors
    /// If there is no such path, or a log of it is not stored.
    pub fn write_log(&self, start: &Root, end: &Root) -> Result<WriteLog, DbError> {
        let missing = || DbError::WriteLogNotFound { start: start.hash, end: end.hash };
        if !end.follows(start) {
            return Err(DbError::MustFollow { base: start.version, version: end.version });
        }
        let mut merged: BTreeMap<Bytes, Option<Bytes>> = BTreeMap::new();
        let mut at = *end;
        for _ in 0..MAX_HOPS {
            if at.hash == start.hash && (at.version == start.version || at.hash.is_empty_hash()) {
                return Ok(merged.into_iter().map(|(key, value)| LogEntry { key, value }).collect());
            }
            let record = self.record(&at)?.ok_or_else(missing)?;
            let key = keys::root(keys::LOG, at.version, at.root_type, &at.hash);
            let log = decode(&self.kv().get(&key)?.ok_or_else(missing)?)?;
            for entry in log {
                // Entries of later roots are there already and win.
                merged.entry(entry.key).or_insert(entry.value);
            }
            let (version, hash) = record.base.unwrap_or((start.version, base_prims::Hash::EMPTY));
            at = Root { version, hash, ..at };
        }
        Err(missing())
    }
}
