//! Our own on-disk form of a node; nobody else reads it.
//!
//! Leaf: `00 | key length varint | key | value`. Inner: `01 | which children (bits 0 leaf, 1 left, 2 right) |
//! label bits u16 LE | label | per child: hash, id`. An id is three varints: how many versions older than the parent,
//! batch, index. Varints have 7 bits per byte, lowest first.

use std::sync::Arc;

use base_prims::Hash;

use crate::node::{INNER, Inner, LEAF, Label, Leaf, Link, NodeId, NodePtr, NodeRef, Side};

/// Bytes that are no stored node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoredError {
    /// The bytes end too early.
    #[error("record ends too early")]
    Truncated,
    /// The first byte is no node kind.
    #[error("unknown node kind {0}")]
    Kind(u8),
    /// A field has a value that is never written.
    #[error("invalid {0}")]
    Field(&'static str),
}

fn put_varint(mut v: u64, out: &mut Vec<u8>) {
    while v >= 0x80 {
        out.push((v as u8 & 0x7f) | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, n: usize) -> Result<&'a [u8], StoredError> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(StoredError::Truncated)?;
        self.0 = tail;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8, StoredError> {
        self.bytes(1)?.first().copied().ok_or(StoredError::Truncated)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StoredError> {
        self.bytes(N)?.try_into().map_err(|_| StoredError::Truncated)
    }

    fn varint(&mut self) -> Result<u64, StoredError> {
        let mut v = 0u64;
        for shift in (0..64).step_by(7) {
            let b = self.byte()?;
            let part = u64::from(b & 0x7f);
            v |= part.checked_shl(shift).filter(|p| p >> shift == part).ok_or(StoredError::Field("varint"))?;
            if b < 0x80 {
                return Ok(v);
            }
        }
        Err(StoredError::Field("varint"))
    }
}

/// Appends the stored form of a node with this id.
pub fn encode(node: &NodeRef, own: &NodeId, out: &mut Vec<u8>) {
    match node {
        NodeRef::Leaf(leaf) => {
            out.push(LEAF);
            put_varint(leaf.key().len() as u64, out);
            out.extend_from_slice(leaf.key());
            out.extend_from_slice(leaf.value());
        }
        NodeRef::Inner(inner) => {
            let present = |(i, side): (usize, Side)| u8::from(!inner.child(side).is_empty()) << i;
            out.push(INNER);
            out.push(Side::ALL.into_iter().enumerate().map(present).sum());
            out.extend_from_slice(&inner.label.bits().to_le_bytes());
            out.extend_from_slice(inner.label.bytes());
            for side in Side::ALL {
                if let Link::Clean(clean) = inner.child(side) {
                    let NodePtr { hash, id } = clean.ptr;
                    out.extend_from_slice(hash.as_bytes());
                    put_varint(own.version.wrapping_sub(id.version), out);
                    put_varint(u64::from(id.batch), out);
                    put_varint(u64::from(id.index), out);
                }
            }
        }
    }
}

/// Reads the stored form of the node with this id.
///
/// # Errors
/// If the bytes are not what [`NewNodes::push`](crate::NewNodes::push) writes.
pub fn decode(bytes: &[u8], own: &NodeId) -> Result<NodeRef, StoredError> {
    let mut r = Reader(bytes);
    match r.byte()? {
        LEAF => {
            let len = usize::try_from(r.varint()?).map_err(|_| StoredError::Field("key length"))?;
            if len > crate::MAX_KEY_LEN {
                return Err(StoredError::Field("key length"));
            }
            let key = r.bytes(len)?;
            Ok(NodeRef::Leaf(Arc::new(Leaf::new(key, r.0))))
        }
        INNER => {
            let flags = r.byte()?;
            if flags > 7 || flags.count_ones() < 2 {
                return Err(StoredError::Field("children"));
            }
            let bits = u16::from_le_bytes(r.array()?);
            let label = r.bytes(usize::from(bits).div_ceil(8))?;
            let label = Label::from_bytes(label, bits).ok_or(StoredError::Field("label"))?;
            let mut child = |i: u8| -> Result<Link, StoredError> {
                if flags & (1 << i) == 0 {
                    return Ok(Link::Empty);
                }
                let hash = Hash::new(r.array()?);
                if hash.is_empty_hash() {
                    return Err(StoredError::Field("child hash"));
                }
                let version = own.version.wrapping_sub(r.varint()?);
                let batch = u16::try_from(r.varint()?).map_err(|_| StoredError::Field("batch"))?;
                let index = u32::try_from(r.varint()?).map_err(|_| StoredError::Field("index"))?;
                Ok(Link::stub(NodePtr { hash, id: NodeId { version, batch, index } }))
            };
            let leaf = child(0)?;
            let leaf = (!leaf.is_empty()).then(|| Box::new(leaf));
            let (left, right) = (child(1)?, child(2)?);
            if !r.0.is_empty() {
                return Err(StoredError::Field("trailing bytes"));
            }
            Ok(NodeRef::Inner(Arc::new(Inner { label, leaf, left, right })))
        }
        kind => Err(StoredError::Kind(kind)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_without_a_tree_is_refused() {
        // Found by fuzzing: a branch whose second child has the hash of the empty tree would have one child.
        let own = NodeId { version: 7, batch: 1, index: 3 };
        let mut bytes = vec![INNER, 6, 0, 0];
        for hash in [Hash::new([1; 32]), Hash::EMPTY] {
            bytes.extend_from_slice(hash.as_bytes());
            bytes.extend_from_slice(&[0, 0, 0]);
        }
        assert_eq!(decode(&bytes, &own).map(drop), Err(StoredError::Field("child hash")));
    }
}
