//! Records of roots and of the nodes a batch leaves behind.

use base_prims::Hash;
use mkvs_tree::NodeId;

use crate::error::DbError;

/// What is known of a stored root.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct RootRecord {
    /// The root node; not stored for the empty tree.
    pub(crate) id: Option<NodeId>,
    /// Batches of the root's own version that the tree may use, oldest first.
    pub(crate) batches: Vec<u16>,
    /// Version and hash of the root it was made from; none for a tree started empty.
    pub(crate) base: Option<(u64, Hash)>,
}

fn put_id(id: &NodeId, out: &mut Vec<u8>) {
    out.extend_from_slice(&id.version.to_be_bytes());
    out.extend_from_slice(&id.batch.to_be_bytes());
    out.extend_from_slice(&id.index.to_be_bytes());
}

fn id_from(bytes: &[u8; 14]) -> NodeId {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n] = *bytes;
    NodeId {
        version: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        batch: u16::from_be_bytes([i, j]),
        index: u32::from_be_bytes([k, l, m, n]),
    }
}

impl RootRecord {
    /// `flags (1 id, 2 base) | id? | base version? | base hash? | batches`.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![u8::from(self.id.is_some()) | (u8::from(self.base.is_some()) << 1)];
        if let Some(id) = &self.id {
            put_id(id, &mut out);
        }
        if let Some((version, hash)) = &self.base {
            out.extend_from_slice(&version.to_be_bytes());
            out.extend_from_slice(hash.as_bytes());
        }
        out.extend(self.batches.iter().flat_map(|b| b.to_be_bytes()));
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DbError> {
        Self::read(bytes).ok_or(DbError::Corrupt { what: "root record" })
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (flags, mut rest) = bytes.split_first()?;
        let mut out = Self::default();
        if flags & 1 != 0 {
            let (id, tail) = rest.split_first_chunk()?;
            out.id = Some(id_from(id));
            rest = tail;
        }
        if flags & 2 != 0 {
            let (version, tail) = rest.split_first_chunk()?;
            let (hash, tail) = tail.split_first_chunk()?;
            out.base = Some((u64::from_be_bytes(*version), Hash::new(*hash)));
            rest = tail;
        }
        let (batches, []) = rest.as_chunks::<2>() else { return None };
        out.batches = batches.iter().map(|b| u16::from_be_bytes(*b)).collect();
        Some(out)
    }
}

/// Encodes the ids of nodes that are no longer used.
pub(crate) fn encode_ids(ids: &[NodeId]) -> Vec<u8> {
    let mut out = Vec::with_capacity(ids.len() * 14);
    for id in ids {
        put_id(id, &mut out);
    }
    out
}

/// Reads what [`encode_ids`] wrote.
pub(crate) fn decode_ids(bytes: &[u8]) -> Result<Vec<NodeId>, DbError> {
    match bytes.as_chunks::<14>() {
        (ids, []) => Ok(ids.iter().map(id_from).collect()),
        _ => Err(DbError::Corrupt { what: "list of unused nodes" }),
    }
}
