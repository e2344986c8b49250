//! The reference's byte form of nodes, as proofs and chunks carry them.
//!
//! Leaf: `00 | key length u16 LE | key | value length u32 LE | value`.
//! Inner, compact: `01 | label bits u16 LE | label | leaf or 02`. Version 0 proofs put the leaf's bytes there,
//! version 1 proofs always `02`. Inner, full: compact version 0 followed by the hashes of left and right.
//! Source: `go/storage/mkvs/node/node.go`.
//!
//! DEVIATION: the reference ignores bytes after a node and set bits beyond a label's end; here both are refused. No
//! honest node produces either, and no root hash of an honest tree covers them.

use std::sync::Arc;

use base_prims::Hash;

use crate::MAX_KEY_LEN;
use crate::node::{INNER, Inner, LEAF, Label, Leaf, NIL};

/// Bytes that are no node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end too early.
    #[error("node ends too early")]
    Truncated,
    /// The first byte is no node kind.
    #[error("unknown node kind {0}")]
    Kind(u8),
    /// The label has set bits beyond its length.
    #[error("label has bits beyond its length")]
    Label,
    /// The key is longer than any key can be.
    #[error("key of {0} bytes is too long")]
    KeyTooLong(usize),
    /// Bytes follow the node.
    #[error("{0} bytes follow the node")]
    Trailing(usize),
}

/// A node as it came over the wire: children only as far as the form carries them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WireNode {
    /// A leaf.
    Leaf(Arc<Leaf>),
    /// An inner node.
    Inner {
        /// The label on the edge into the node.
        label: Label,
        /// The leaf, if the form carries it and there is one.
        leaf: Option<Arc<Leaf>>,
        /// Hashes of left and right, if the form carries them.
        children: Option<(Hash, Hash)>,
    },
}

fn take<'a>(data: &mut &'a [u8], n: usize) -> Result<&'a [u8], WireError> {
    let (head, tail) = data.split_at_checked(n).ok_or(WireError::Truncated)?;
    *data = tail;
    Ok(head)
}

fn take_array<const N: usize>(data: &mut &[u8]) -> Result<[u8; N], WireError> {
    take(data, N)?.try_into().map_err(|_| WireError::Truncated)
}

/// Key and value of a leaf, in the bytes that it was read from.
pub(crate) type Pair<'a> = (&'a [u8], &'a [u8]);

/// As [`WireNode`], in the bytes that it was read from.
pub(crate) enum RawNode<'a> {
    Leaf(Pair<'a>),
    Inner { bits: u16, label: &'a [u8], leaf: Option<Pair<'a>>, children: Option<(Hash, Hash)> },
}

/// A leaf whose kind byte was already read.
fn leaf_body<'a>(data: &mut &'a [u8]) -> Result<Pair<'a>, WireError> {
    let key_len = usize::from(u16::from_le_bytes(take_array(data)?));
    if key_len > MAX_KEY_LEN {
        return Err(WireError::KeyTooLong(key_len));
    }
    let key = take(data, key_len)?;
    let value_len = u32::from_le_bytes(take_array(data)?);
    Ok((key, take(data, usize::try_from(value_len).map_err(|_| WireError::Truncated)?)?))
}

/// Reads one node that fills all of `data`.
pub(crate) fn parse<'a>(mut data: &'a [u8]) -> Result<RawNode<'a>, WireError> {
    let data = &mut data;
    let [kind] = take_array(data)?;
    let node = match kind {
        LEAF => RawNode::Leaf(leaf_body(data)?),
        INNER => {
            let bits = u16::from_le_bytes(take_array(data)?);
            let label = take(data, usize::from(bits).div_ceil(8))?;
            if !Label::fits(label, bits) {
                return Err(WireError::Label);
            }
            let leaf = match take_array(data)? {
                [NIL] => None,
                [LEAF] => Some(leaf_body(data)?),
                [other] => return Err(WireError::Kind(other)),
            };
            let children = if data.len() == 64 {
                Some((Hash::new(take_array(data)?), Hash::new(take_array(data)?)))
            } else {
                None
            };
            RawNode::Inner { bits, label, leaf, children }
        }
        other => return Err(WireError::Kind(other)),
    };
    if data.is_empty() { Ok(node) } else { Err(WireError::Trailing(data.len())) }
}

/// Reads one node that fills all of `data`.
///
/// # Errors
/// If the bytes are not exactly one node.
pub fn decode(data: &[u8]) -> Result<WireNode, WireError> {
    let leaf = |(key, value): Pair<'_>| Arc::new(Leaf::new(key, value));
    Ok(match parse(data)? {
        RawNode::Leaf(pair) => WireNode::Leaf(leaf(pair)),
        RawNode::Inner { bits, label, leaf: own, children } => {
            let label = Label::from_bytes(label, bits).ok_or(WireError::Label)?;
            WireNode::Inner { label, leaf: own.map(leaf), children }
        }
    })
}

/// Appends a leaf.
///
/// # Errors
/// If a length does not fit the form.
pub fn encode_leaf(leaf: &Leaf, out: &mut Vec<u8>) -> Result<(), WireError> {
    let (key, value) = (leaf.key(), leaf.value());
    let key_len = u16::try_from(key.len()).map_err(|_| WireError::KeyTooLong(key.len()))?;
    let value_len = u32::try_from(value.len()).map_err(|_| WireError::KeyTooLong(value.len()))?;
    out.reserve(7 + key.len() + value.len());
    out.push(LEAF);
    out.extend_from_slice(&key_len.to_le_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(&value_len.to_le_bytes());
    out.extend_from_slice(value);
    Ok(())
}

/// Appends an inner node without its children's hashes, with the leaf given or none.
///
/// # Errors
/// If the leaf does not fit the form.
pub fn encode_compact(inner: &Inner, leaf: Option<&Leaf>, out: &mut Vec<u8>) -> Result<(), WireError> {
    encode_head(inner.label(), leaf, out)
}

fn encode_head(label: &Label, leaf: Option<&Leaf>, out: &mut Vec<u8>) -> Result<(), WireError> {
    out.push(INNER);
    out.extend_from_slice(&label.bits().to_le_bytes());
    out.extend_from_slice(label.bytes());
    match leaf {
        None => out.push(NIL),
        Some(leaf) => encode_leaf(leaf, out)?,
    }
    Ok(())
}

impl WireNode {
    /// Appends the node in the form it was read from.
    ///
    /// # Errors
    /// If a length does not fit the form.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        match self {
            Self::Leaf(leaf) => encode_leaf(leaf, out),
            Self::Inner { label, leaf, children } => {
                encode_head(label, leaf.as_deref(), out)?;
                if let Some((left, right)) = children {
                    out.extend_from_slice(left.as_bytes());
                    out.extend_from_slice(right.as_bytes());
                }
                Ok(())
            }
        }
    }
}
