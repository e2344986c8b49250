//! Evidence in the key-value store.
//!
//! | Key | Value |
//! |---|---|
//! | `00`, height (8 bytes, big endian), hash (32 bytes) | committed: time of the evidence, seconds since 1970 (8 bytes, big endian, signed), nanoseconds (4 bytes, big endian) |
//! | `01`, height, hash | pending: the evidence as protobuf `tendermint.types.Evidence` |

use std::ops::ControlFlow;
use std::sync::Arc;

use base_kv::{Batch, Durability, KvError, KvStore, Order};
use wire_cometbft::evidence::Evidence;
use wire_cometbft::limits::MAX_CONSENSUS_MESSAGE_BYTES;
use wire_cometbft::merkle::Hash;
use wire_cometbft::{Message, Time};

const COMMITTED: u8 = 0;
const PENDING: u8 = 1;
const KEY_BYTES: usize = 1 + 8 + 32;
/// Records of committed evidence looked at in one round of pruning.
const PRUNE_AT_ONCE: usize = 1_000;

/// Height and hash: what tells evidence apart. The order is by height.
pub(crate) type EvidenceKey = (i64, Hash);

/// Key of evidence.
pub(crate) fn key_of(evidence: &Evidence) -> EvidenceKey {
    (evidence.height(), evidence.hash())
}

fn encode_key(kind: u8, (height, hash): &EvidenceKey) -> [u8; KEY_BYTES] {
    let mut key = [kind; KEY_BYTES];
    key[1..9].copy_from_slice(&height.to_be_bytes());
    key[9..].copy_from_slice(hash);
    key
}

fn decode_key(key: &[u8]) -> Option<EvidenceKey> {
    let (height, hash) = key.get(1..)?.split_first_chunk::<8>()?;
    Some((i64::from_be_bytes(*height), hash.try_into().ok()?))
}

fn encode_time(time: Time) -> [u8; 12] {
    let mut value = [0; 12];
    value[..8].copy_from_slice(&time.seconds().to_be_bytes());
    value[8..].copy_from_slice(&time.nanos().to_be_bytes());
    value
}

fn decode_time(value: &[u8]) -> Option<Time> {
    let (seconds, nanos) = value.split_first_chunk::<8>()?;
    Time::new(i64::from_be_bytes(*seconds), u32::from_be_bytes(nanos.try_into().ok()?)).ok()
}

/// Evidence on disk.
pub(crate) struct Records(pub(crate) Arc<dyn KvStore>);

impl Records {
    /// Whether evidence was in a block.
    pub(crate) fn is_committed(&self, key: &EvidenceKey) -> Result<bool, KvError> {
        self.0.get_with(&encode_key(COMMITTED, key), &mut |_| {})
    }

    /// Keeps evidence for the next start. After a power loss it may be gone; peers have it too.
    pub(crate) fn put_pending(&self, key: &EvidenceKey, evidence: &Evidence) -> Result<(), KvError> {
        let mut batch = Batch::new();
        batch.put(&encode_key(PENDING, key), &evidence.encode_to_vec());
        self.0.write(&batch, Durability::Buffered)
    }

    /// Forgets pending evidence.
    pub(crate) fn remove_pending(&self, keys: &[EvidenceKey]) -> Result<(), KvError> {
        let mut batch = Batch::new();
        for key in keys {
            batch.delete(&encode_key(PENDING, key));
        }
        self.0.write(&batch, Durability::Buffered)
    }

    /// Notes evidence as committed, durably: it must not be taken a second time.
    pub(crate) fn commit(&self, committed: &[(EvidenceKey, Time)]) -> Result<(), KvError> {
        let mut batch = Batch::new();
        for (key, time) in committed {
            batch.delete(&encode_key(PENDING, key));
            batch.put(&encode_key(COMMITTED, key), &encode_time(*time));
        }
        self.0.write(&batch, Durability::Synced)
    }

    /// All pending evidence by height; what does not decode is removed.
    pub(crate) fn pending(&self) -> Result<Vec<(EvidenceKey, Evidence)>, KvError> {
        let (mut out, mut broken) = (Vec::new(), Batch::new());
        self.0.scan(&[PENDING], Some(&[PENDING + 1]), Order::Forward, &mut |key, value| {
            match (decode_key(key), Evidence::decode_limited(value, MAX_CONSENSUS_MESSAGE_BYTES)) {
                (Some(key), Ok(evidence)) if key_of(&evidence) == key => out.push((key, evidence)),
                _ => {
                    broken.delete(key);
                }
            }
            ControlFlow::Continue(())
        })?;
        if !broken.is_empty() {
            tracing::warn!(records = broken.len(), "pending evidence that does not decode is removed");
            self.0.write(&broken, Durability::Buffered)?;
        }
        Ok(out)
    }

    /// Forgets the oldest committed evidence for as long as it is expired: it would be refused for its age.
    pub(crate) fn prune_committed(&self, expired: impl Fn(i64, Time) -> bool) -> Result<usize, KvError> {
        let mut batch = Batch::new();
        self.0.scan(&[COMMITTED], Some(&[COMMITTED + 1]), Order::Forward, &mut |key, value| {
            let keep = match (decode_key(key), decode_time(value)) {
                (Some((height, _)), Some(time)) => !expired(height, time),
                _ => true,
            };
            if keep || batch.len() >= PRUNE_AT_ONCE {
                return ControlFlow::Break(());
            }
            batch.delete(key);
            ControlFlow::Continue(())
        })?;
        if !batch.is_empty() {
            self.0.write(&batch, Durability::Buffered)?;
        }
        Ok(batch.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node must be able to read what an earlier version of this program wrote.
    #[test]
    fn the_form_on_disk_is_pinned() {
        let key = (0x0102_0304, [9; 32]);
        let pending = encode_key(PENDING, &key);
        assert_eq!(pending[..9], [1, 0, 0, 0, 0, 1, 2, 3, 4]);
        assert_eq!((&pending[9..], encode_key(COMMITTED, &key)[0]), (&[9; 32][..], 0));
        assert_eq!(decode_key(&pending), Some(key));
        let time = Time::new(-2, 0x0a0b_0c0d).unwrap();
        assert_eq!(encode_time(time), [255, 255, 255, 255, 255, 255, 255, 254, 10, 11, 12, 13]);
        assert_eq!(decode_time(&encode_time(time)), Some(time));
    }
}
