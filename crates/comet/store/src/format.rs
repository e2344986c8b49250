//! The record that says which chain a store is of and in which format.

use base_kv::{Batch, Durability, KvStore};

use crate::error::{StoreError, corrupt};

/// The format that this program writes.
pub(crate) const FORMAT: u32 = 1;
/// Where the record is. Its value: the format as four bytes big endian, then the chain id.
const KEY: &[u8] = b"format";

/// Checks the record, or writes it into an empty store.
pub(crate) fn check(kv: &dyn KvStore, chain_id: &str) -> Result<(), StoreError> {
    let Some(record) = kv.get(KEY)? else {
        let mut batch = Batch::new();
        batch.put(KEY, &[&FORMAT.to_be_bytes()[..], chain_id.as_bytes()].concat());
        return Ok(kv.write(&batch, Durability::Synced)?);
    };
    let (format, stored) = record.split_first_chunk::<4>().ok_or_else(|| corrupt("format record", "too short"))?;
    let format = u32::from_be_bytes(*format);
    if format != FORMAT {
        return Err(StoreError::FutureFormat { stored: format, known: FORMAT });
    }
    if stored != chain_id.as_bytes() {
        let stored = String::from_utf8_lossy(stored).into_owned();
        return Err(StoreError::OtherChain { stored, wanted: chain_id.to_owned() });
    }
    Ok(())
}
