//! Proofs for the three questions a remote reader asks: a key, prefixes, an iteration.
//!
//! Which nodes a proof shows is part of the protocol: a reference client walks the tree in its own way and asks again,
//! in vain, for a node it misses. Source: `go/storage/mkvs/{lookup,prefetch,iterator}.go`.

use base_prims::Hash;

use super::{Builder, MAX_PROOF_DEPTH, Mark, Proof};
use crate::bits;
use crate::cursor::{Cursor, Frame};
use crate::error::TreeError;
use crate::node::{NodeRef, Side};
use crate::tree::Tree;

impl Tree {
    fn clean_root(&self) -> Result<Hash, TreeError> {
        if self.changes > 0 {
            return Err(TreeError::Dirty);
        }
        self.root.hash().ok_or(TreeError::Dirty)
    }

    /// Proves the value or absence of a key, with the siblings of the path's nodes if wanted.
    ///
    /// # Errors
    /// If the tree has changes, a node cannot be loaded, or the proof grows past its limit.
    pub fn prove_get(&self, key: &[u8], siblings: bool, builder: Builder) -> Result<Proof, TreeError> {
        let root = self.clean_root()?;
        let leaf_apart = builder.version_has_leaf_entries();
        let mut walk = self.cursor().with_proof(builder);
        let (mut depth, bits) = (0, key.len() * 8);
        let mut at = walk.visit(&self.root, Mark::ROOT, Side::Leaf, key)?;
        while let Some((NodeRef::Inner(inner), mark)) = at.take() {
            depth += inner.label().len();
            if bits < depth {
                break;
            }
            let side = if bits == depth { Side::Leaf } else { Side::of_bit(bits::bit(key, depth)) };
            // In version 0 the leaf is shown with its node in any case.
            let wanted = |s: Side| (s == side || siblings) && (s != Side::Leaf || leaf_apart);
            for s in Side::ALL.into_iter().filter(|s| wanted(*s)) {
                let child = walk.visit(inner.child(s), mark, s, key)?;
                if s == side {
                    at = child;
                }
            }
        }
        finish(walk, root)
    }

    /// Proves all pairs under the prefixes, in the order given, until `limit` pairs were shown.
    ///
    /// # Errors
    /// If the tree has changes, a node cannot be loaded, or the proof grows past its limit.
    pub fn prove_prefixes<P: AsRef<[u8]>>(
        &self,
        prefixes: &[P],
        limit: u16,
        builder: Builder,
    ) -> Result<Proof, TreeError> {
        let root = self.clean_root()?;
        let mut walk = self.cursor().with_proof(builder);
        let mut shown = 0;
        'prefixes: for prefix in prefixes {
            let prefix = prefix.as_ref();
            walk.seek(prefix)?;
            while walk.leaf().is_some() {
                if shown >= limit {
                    break 'prefixes;
                }
                if !walk.key().is_some_and(|k| k.starts_with(prefix)) {
                    break;
                }
                walk.advance()?;
                shown += 1;
            }
        }
        finish(walk, root)
    }

    /// Proves the pairs from `key` on: the first one and `prefetch` more.
    ///
    /// # Errors
    /// If the tree has changes, a node cannot be loaded, or the proof grows past its limit.
    pub fn prove_iterate(&self, key: &[u8], prefetch: u16, builder: Builder) -> Result<Proof, TreeError> {
        let root = self.clean_root()?;
        let mut walk = self.cursor().with_proof(builder);
        walk.seek(key)?;
        for _ in 0..prefetch {
            if walk.leaf().is_none() {
                break;
            }
            walk.advance()?;
        }
        finish(walk, root)
    }
}

fn finish(walk: Cursor<'_>, root: Hash) -> Result<Proof, TreeError> {
    match walk.into_proof_builder() {
        Some(builder) => builder.build(root),
        None => Ok(Proof::default()),
    }
}

/// A key sought, cut or lengthened as the reference's iterator does on its way.
#[derive(Clone)]
struct Sought(Vec<u8>);

impl Sought {
    fn bits(&self) -> usize {
        self.0.len() * 8
    }

    /// The first `at` bits followed by one more.
    fn with_bit(&self, at: usize, bit: bool, cut: bool) -> Self {
        let mut key = self.0.clone();
        if cut {
            bits::slice(&self.0, 0, at.min(self.bits()), &mut key);
        }
        key.resize((at + 1).div_ceil(8), 0);
        if let Some(byte) = key.get_mut(at / 8) {
            let mask = 0x80 >> (at % 8);
            *byte = if bit { *byte | mask } else { *byte & !mask };
        }
        Self(key)
    }
}

impl Cursor<'_> {
    /// Seeks as the reference does, which shows more nodes than needed where the key leaves the tree's paths.
    pub(crate) fn seek_for_proof(&mut self, key: &[u8]) -> Result<(), TreeError> {
        let tree = self.tree;
        if let Some((node, mark)) = self.visit(&tree.root, Mark::ROOT, Side::Leaf, key)? {
            self.seek_below(node, (mark, 0), 0, &[], Sought(key.to_vec()))?;
            self.stack.reverse();
        }
        Ok(())
    }

    /// Looks for the first key not less than `key` below a node; on success the frames are pushed lowest first.
    ///
    /// `path` holds the `depth` bits from the root to the node, which is the `level`-th on its path.
    fn seek_below(
        &mut self,
        node: NodeRef,
        (mark, level): (Mark, usize),
        depth: usize,
        path: &[u8],
        mut key: Sought,
    ) -> Result<bool, TreeError> {
        if level > MAX_PROOF_DEPTH {
            return Err(TreeError::TooDeep);
        }
        let inner = match node {
            NodeRef::Leaf(leaf) => {
                if leaf.key() >= key.0.as_slice() {
                    self.current = Some(leaf);
                    return Ok(true);
                }
                return Ok(false);
            }
            NodeRef::Inner(inner) => inner,
        };
        let end = depth + inner.label().len();
        let here = bits::concat(path, depth, inner.label().bytes(), inner.label().len());
        // A key that is longer than this path but less than it: everything below comes after the key.
        let take_first = end > 0 && key.bits() >= end && key.0 < here;
        let ends_here = key.bits() <= end;
        for side in Side::ALL {
            match side {
                Side::Leaf if !(ends_here || take_first) => continue,
                Side::Left => {
                    if ends_here {
                        key = key.with_bit(end, false, false);
                    }
                    if bits::bit(&key.0, end) && !take_first {
                        continue;
                    }
                }
                _ => {}
            }
            if let Some((child, child_mark)) = self.visit(inner.child(side), mark, side, &key.0)?
                && self.seek_below(child, (child_mark, level + 1), end, &here, key.clone())?
            {
                self.stack.push(Frame { node: inner, next: side as usize + 1, mark });
                return Ok(true);
            }
            if side == Side::Left {
                key = key.with_bit(end, true, true);
            }
        }
        Ok(false)
    }
}
