//! Keys of the node database.
//!
//! | First byte | Rest | Value |
//! |---|---|---|
//! | `m` | | [`Meta`](crate::meta::Meta) |
//! | `n` | version, batch, index | node |
//! | `r` | version, type, hash | [`RootRecord`](crate::record::RootRecord) |
//! | `b` | version, batch | ids of the nodes that the batch no longer uses |
//! | `w` | version, type, hash | write log from the root's base to the root |
//! | `x` | version, batch | empty: the batch is being written |
//! | `t` | hash | node of a restore in progress, or where its whole subtree is |
//!
//! Numbers are big-endian: 8 bytes version, 2 batch, 4 index, 1 type.

use base_prims::Hash;
use mkvs_tree::{NodeId, Root, RootType};

pub(crate) const META: &[u8] = b"m";
pub(crate) const NODE: u8 = b'n';
pub(crate) const ROOT: u8 = b'r';
pub(crate) const BATCH: u8 = b'b';
pub(crate) const LOG: u8 = b'w';
pub(crate) const OPEN: u8 = b'x';
pub(crate) const PART: u8 = b't';

/// Key of a node.
pub(crate) fn node(id: &NodeId) -> [u8; 15] {
    let mut key = [NODE; 15];
    key[1..9].copy_from_slice(&id.version.to_be_bytes());
    key[9..11].copy_from_slice(&id.batch.to_be_bytes());
    key[11..].copy_from_slice(&id.index.to_be_bytes());
    key
}

/// The id in the key of a node.
pub(crate) fn node_of(key: &[u8]) -> Option<NodeId> {
    let index = u32::from_be_bytes(key.get(11..)?.try_into().ok()?);
    Some(NodeId { version: version_of(key)?, batch: batch_of(key)?, index })
}

/// Start of all keys of a kind and version.
pub(crate) fn version(kind: u8, version: u64) -> [u8; 9] {
    let mut key = [kind; 9];
    key[1..].copy_from_slice(&version.to_be_bytes());
    key
}

/// Start of all keys of a kind, version and batch.
pub(crate) fn batch(kind: u8, of: u64, batch: u16) -> [u8; 11] {
    let mut key = [kind; 11];
    key[..9].copy_from_slice(&version(kind, of));
    key[9..].copy_from_slice(&batch.to_be_bytes());
    key
}

/// Key of a root or its write log.
pub(crate) fn root(kind: u8, of: u64, root_type: RootType, hash: &Hash) -> [u8; 42] {
    let mut key = [root_type.0; 42];
    key[..9].copy_from_slice(&version(kind, of));
    key[10..].copy_from_slice(hash.as_bytes());
    key
}

/// Key of a root record.
pub(crate) fn root_record(r: &Root) -> [u8; 42] {
    root(ROOT, r.version, r.root_type, &r.hash)
}

/// Key of a node of a restore in progress.
pub(crate) fn part(hash: &Hash) -> [u8; 33] {
    let mut key = [PART; 33];
    key[1..].copy_from_slice(hash.as_bytes());
    key
}

/// The version in a key that starts with kind and version.
pub(crate) fn version_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(1..9)?.try_into().ok()?))
}

/// The batch in a key that starts with kind, version and batch.
pub(crate) fn batch_of(key: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(key.get(9..11)?.try_into().ok()?))
}

/// Type and hash in the key of a root.
pub(crate) fn root_of(key: &[u8]) -> Option<(RootType, Hash)> {
    Some((RootType(*key.get(9)?), Hash::new(key.get(10..)?.try_into().ok()?)))
}
