//! Ordered iteration.
//!
//! Source: `go/storage/mkvs/iterator.go`.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::bits;
use crate::error::TreeError;
use crate::node::{Inner, Leaf, Link, NodeRef, Side};
use crate::proof::{Builder, Mark};
use crate::tree::{Got, Hint, Tree};

/// A branch on the way to the current leaf, and which of its children comes next.
pub(crate) struct Frame {
    pub(crate) node: Arc<Inner>,
    pub(crate) next: usize,
    pub(crate) mark: Mark,
}

/// Walks over a tree's pairs in key order.
pub struct Cursor<'t> {
    pub(crate) tree: &'t Tree,
    pub(crate) stack: Vec<Frame>,
    pub(crate) current: Option<Arc<Leaf>>,
    pub(crate) builder: Option<Builder>,
    prefetch: u16,
}

/// How all keys below a node relate to the key sought.
enum Position {
    /// All are at or after it.
    All,
    /// All are before it.
    None,
    /// The key goes through the node and continues with this bit.
    Through(Side),
}

impl<'t> Cursor<'t> {
    pub(crate) fn new(tree: &'t Tree) -> Self {
        Self { tree, stack: Vec::new(), current: None, builder: None, prefetch: 0 }
    }

    /// Tells a remote source how many keys are likely to be read.
    #[must_use]
    pub fn with_prefetch(mut self, keys: u16) -> Self {
        self.prefetch = keys;
        self
    }

    /// Collects every node that is visited into a proof.
    #[must_use]
    pub fn with_proof(mut self, builder: Builder) -> Self {
        self.builder = Some(builder);
        self
    }

    /// The proof of everything visited so far, if the cursor collects one.
    pub fn proof_builder(&self) -> Option<&Builder> {
        self.builder.as_ref()
    }

    /// Hands out the collected proof.
    pub fn into_proof_builder(self) -> Option<Builder> {
        self.builder
    }

    /// The current pair.
    pub fn leaf(&self) -> Option<&Leaf> {
        self.current.as_deref()
    }

    /// The current key.
    pub fn key(&self) -> Option<&[u8]> {
        self.leaf().map(Leaf::key)
    }

    /// The current value.
    pub fn value(&self) -> Option<&[u8]> {
        self.leaf().map(Leaf::value)
    }

    /// Loads a child, notes it for the proof and returns it.
    pub(crate) fn visit(
        &mut self,
        link: &Link,
        parent: Mark,
        side: Side,
        key: &[u8],
    ) -> Result<Option<(NodeRef, Mark)>, TreeError> {
        let hint = Hint::Iterate { key, prefetch: self.prefetch };
        let Some(node) = self.tree.node(link, hint, false)?.map(Got::into_owned) else { return Ok(None) };
        let mark = match &mut self.builder {
            None => Mark::ROOT,
            Some(builder) => {
                let hash = link.hash().ok_or(TreeError::Dirty)?;
                builder.include(self.tree, parent, side, hash, &node)?
            }
        };
        Ok(Some((node, mark)))
    }

    /// Moves to the first pair whose key is `key` or greater.
    ///
    /// # Errors
    /// If a node cannot be loaded, or the proof grows past its limit.
    pub fn seek(&mut self, key: &[u8]) -> Result<(), TreeError> {
        self.stack.clear();
        self.current = None;
        if self.builder.is_some() {
            return self.seek_for_proof(key);
        }
        let tree = self.tree;
        let mut depth = 0;
        let mut next = self.visit(&tree.root, Mark::ROOT, Side::Leaf, key)?;
        while let Some((node, mark)) = next.take() {
            let node = match node {
                NodeRef::Leaf(leaf) => {
                    if leaf.key() >= key {
                        self.current = Some(leaf);
                        return Ok(());
                    }
                    break;
                }
                NodeRef::Inner(inner) => inner,
            };
            match position(&node, depth, key) {
                Position::None => break,
                Position::All => {
                    self.stack.push(Frame { node, next: 0, mark });
                    break;
                }
                Position::Through(side) => {
                    depth += node.label.len();
                    let index = Side::ALL.iter().position(|s| *s == side).unwrap_or(0);
                    let parent = Arc::clone(&node);
                    self.stack.push(Frame { node, next: index + 1, mark });
                    next = self.visit(parent.child(side), mark, side, key)?;
                }
            }
        }
        self.advance_below()
    }

    /// Moves to the next pair.
    ///
    /// # Errors
    /// If a node cannot be loaded, or the proof grows past its limit.
    pub fn advance(&mut self) -> Result<(), TreeError> {
        if self.current.take().is_none() {
            return Ok(());
        }
        self.advance_below()
    }

    /// The smallest key that can be on one side of the branch on top of the stack.
    fn first_key(&self, side: Side) -> Vec<u8> {
        let (mut path, mut depth) = (Vec::new(), 0);
        for frame in &self.stack {
            path = bits::concat(&path, depth, frame.node.label.bytes(), frame.node.label.len());
            depth += frame.node.label.len();
        }
        match side {
            Side::Leaf => path,
            Side::Left => bits::concat(&path, depth, &[0], 1),
            Side::Right => bits::concat(&path, depth, &[0x80], 1),
        }
    }

    /// Moves to the first pair that the branches on the stack still have.
    fn advance_below(&mut self) -> Result<(), TreeError> {
        let hints = self.tree.source.wants_hints();
        while let Some(top) = self.stack.last_mut() {
            let Some(side) = Side::ALL.get(top.next).copied() else {
                self.stack.pop();
                continue;
            };
            top.next += 1;
            let (parent, mark) = (Arc::clone(&top.node), top.mark);
            let link = parent.child(side);
            let key = if hints && link.node().is_none() { self.first_key(side) } else { Vec::new() };
            match self.visit(link, mark, side, &key)? {
                None => {}
                Some((NodeRef::Leaf(leaf), _)) => {
                    self.current = Some(leaf);
                    return Ok(());
                }
                Some((NodeRef::Inner(node), mark)) => self.stack.push(Frame { node, next: 0, mark }),
            }
        }
        Ok(())
    }
}

/// Where `key` lies relative to the keys below a branch that starts at bit `depth`.
fn position(node: &Inner, depth: usize, key: &[u8]) -> Position {
    let (bits, len) = (key.len() * 8, node.label.len());
    let common = bits::common_prefix(key, depth, bits, node.label.bytes(), len);
    let at = depth + common;
    if at >= bits {
        // The key ends within or right after the label.
        return Position::All;
    }
    if common == len {
        return Position::Through(Side::of_bit(bits::bit(key, at)));
    }
    match bits::bit(key, at).cmp(&node.label.bit(common)) {
        Ordering::Less => Position::All,
        _ => Position::None,
    }
}
