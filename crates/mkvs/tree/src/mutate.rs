//! Insertion and removal.
//!
//! Source: `go/storage/mkvs/{insert,remove}.go`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::TreeError;
use crate::kv::KvWrite;
use crate::node::{Inner, Label, Leaf, Link, NodeId, NodeRef, Side};
use crate::tree::{Hint, NodeSource, Tree};
use crate::writelog::Pending;
use crate::{MAX_KEY_LEN, bits};

/// What a change needs besides the link it changes.
struct Changer<'a> {
    source: &'a dyn NodeSource,
    removed: &'a mut Vec<NodeId>,
    /// Bytes of nodes that were unchanged until now.
    freed: usize,
}

impl Changer<'_> {
    /// Loads the node behind a link so that it can be looked at.
    fn load<'l>(&self, link: &'l mut Link, hint: Hint<'_>) -> Result<Option<&'l NodeRef>, TreeError> {
        if let Link::Clean(clean) = link
            && clean.node.get().is_none()
        {
            let node = self.source.load(&clean.ptr, hint)?;
            let _ = clean.node.set(node);
        }
        Ok(link.node())
    }

    /// Notes that the stored node behind a link is no longer part of the tree.
    fn forget(&mut self, link: &Link) {
        if let Link::Clean(clean) = link {
            if clean.ptr.id.is_stored() {
                self.removed.push(clean.ptr.id);
            }
            self.freed += clean.node.get().map_or(0, NodeRef::weight);
        }
    }

    /// Marks an inner node as changed and gives it out for changing; `None` if the link leads to no inner node.
    fn change<'l>(&mut self, link: &'l mut Link, hint: Hint<'_>) -> Result<Option<&'l mut Inner>, TreeError> {
        let is_inner = matches!(self.load(link, hint)?, Some(NodeRef::Inner(_)));
        if is_inner && matches!(link, Link::Clean(_)) {
            self.forget(link);
            if let Link::Clean(clean) = std::mem::take(link)
                && let Some(node) = clean.node.into_inner()
            {
                *link = Link::Dirty(node, None);
            }
        }
        match link {
            Link::Dirty(NodeRef::Inner(inner), hash) => {
                *hash = None;
                Ok(Some(Arc::make_mut(inner)))
            }
            _ => Ok(None),
        }
    }

    /// Puts a leaf in its place under `root`.
    fn insert(&mut self, root: &mut Link, key: &[u8], value: &[u8]) -> Result<(), TreeError> {
        let hint = Hint::Get { key, siblings: false };
        let key_bits = key.len() * 8;
        let (mut link, mut depth) = (root, 0);
        loop {
            match self.load(link, hint)? {
                None => {
                    *link = Link::new_leaf(key, value);
                    return Ok(());
                }
                Some(NodeRef::Leaf(leaf)) if leaf.key() == key => {
                    self.forget(link);
                    *link = Link::new_leaf(key, value);
                    return Ok(());
                }
                Some(NodeRef::Leaf(leaf)) => {
                    let other = Arc::clone(leaf);
                    split_leaf(link, &other, depth, key, value);
                    return Ok(());
                }
                Some(NodeRef::Inner(inner)) => {
                    let len = inner.label.len();
                    let common = bits::common_prefix(key, depth, key_bits, inner.label.bytes(), len);
                    if common < len {
                        self.split_inner(link, depth, common, key, value)?;
                        return Ok(());
                    }
                    depth += len;
                }
            }
            let Some(inner) = self.change(link, hint)? else { return Ok(()) };
            let side = if key_bits == depth { Side::Leaf } else { Side::of_bit(bits::bit(key, depth)) };
            link = inner.child_mut(side);
        }
    }

    /// Cuts an inner node's label after `common` bits and hangs the new leaf in at the cut.
    fn split_inner(
        &mut self,
        link: &mut Link,
        depth: usize,
        common: usize,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), TreeError> {
        let Some(lower) = self.change(link, Hint::Node)? else { return Ok(()) };
        let label = lower.label.prefix(common);
        let lower_side = Side::of_bit(lower.label.bit(common));
        lower.label = lower.label.suffix(common);
        let lower = std::mem::take(link);
        let mut upper = Inner { label, leaf: None, left: Link::Empty, right: Link::Empty };
        *upper.child_mut(lower_side) = lower;
        let cut = depth + common;
        let side = if key.len() * 8 == cut { Side::Leaf } else { Side::of_bit(bits::bit(key, cut)) };
        *upper.child_mut(side) = Link::new_leaf(key, value);
        *link = Link::new_inner(upper);
        Ok(())
    }

    /// Takes the leaf with this key out; it must be there.
    fn remove(&mut self, root: &mut Link, key: &[u8]) -> Result<(), TreeError> {
        let hint = Hint::Get { key, siblings: true };
        if let Some(NodeRef::Leaf(_)) = self.load(root, hint)? {
            self.forget(root);
            *root = Link::Empty;
            return Ok(());
        }
        let (mut link, mut depth) = (root, 0);
        let side = loop {
            let Some(inner) = self.change(link, hint)? else { return Ok(()) };
            depth += inner.label.len();
            let side = if key.len() * 8 == depth { Side::Leaf } else { Side::of_bit(bits::bit(key, depth)) };
            if !matches!(self.load(inner.child_mut(side), hint)?, Some(NodeRef::Inner(_))) {
                break side;
            }
            let Some(inner) = dirty_inner(link) else { return Ok(()) };
            link = inner.child_mut(side);
        };
        if let Some(inner) = dirty_inner(link)
            && let Some(child) = self.take_leaf(inner, side, hint)?
        {
            *link = child;
        }
        Ok(())
    }

    /// Takes the leaf on one side out of a branch; gives back the child that must replace the branch, if only one stays.
    fn take_leaf(&mut self, inner: &mut Inner, side: Side, hint: Hint<'_>) -> Result<Option<Link>, TreeError> {
        let mut others = Side::ALL.into_iter().filter(|s| *s != side && !inner.child(*s).is_empty());
        let only = match (others.next(), others.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        };
        if let Some(only) = only {
            // Loaded before anything changes: a failure leaves the tree as it was.
            self.load(inner.child_mut(only), hint)?;
        }
        let leaf = std::mem::take(inner.child_mut(side));
        self.forget(&leaf);
        inner.leaf.take_if(|l| l.is_empty());
        let Some(only) = only else { return Ok(None) };
        let mut child = std::mem::take(inner.child_mut(only));
        if let Some(lower) = self.change(&mut child, hint)? {
            lower.label = inner.label.join(&lower.label);
        }
        Ok(Some(child))
    }
}

/// The inner node behind a link that was marked as changed.
fn dirty_inner(link: &mut Link) -> Option<&mut Inner> {
    match link {
        Link::Dirty(NodeRef::Inner(inner), _) => Some(Arc::make_mut(inner)),
        _ => None,
    }
}

/// Puts an inner node where a leaf was, with that leaf and a new one below it.
fn split_leaf(link: &mut Link, other: &Leaf, depth: usize, key: &[u8], value: &[u8]) {
    let (key_bits, other_bits) = (key.len() * 8, other.key().len() * 8);
    let mut rest = Vec::new();
    bits::slice(other.key(), depth, other_bits, &mut rest);
    let cut = depth + bits::common_prefix(key, depth, key_bits, &rest, other_bits - depth);
    let side_of = |k: &[u8]| if k.len() * 8 == cut { Side::Leaf } else { Side::of_bit(bits::bit(k, cut)) };
    let label = Label::of_key(key, depth, cut);
    let mut inner = Inner { label, leaf: None, left: Link::Empty, right: Link::Empty };
    *inner.child_mut(side_of(other.key())) = std::mem::take(link);
    *inner.child_mut(side_of(key)) = Link::new_leaf(key, value);
    *link = Link::new_inner(inner);
}

impl Tree {
    fn changer(&mut self) -> (Changer<'_>, &mut Link) {
        (Changer { source: &*self.source, removed: &mut self.removed, freed: 0 }, &mut self.root)
    }

    fn finish_change(&mut self, freed: usize) {
        self.changes += 1;
        let held = self.held.load(Ordering::Relaxed).saturating_sub(freed);
        self.held.store(held, Ordering::Relaxed);
        self.shrink(5);
    }

    /// Sets a key and gives back the value it had.
    ///
    /// # Errors
    /// If the key or value does not fit, or a node cannot be loaded; the tree is then unchanged.
    pub fn replace(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Vec<u8>>, TreeError> {
        if key.len() > MAX_KEY_LEN {
            return Err(TreeError::KeyTooLong { len: key.len() });
        }
        if u32::try_from(value.len()).is_err() {
            return Err(TreeError::ValueTooLong { len: value.len() });
        }
        let old = self.find(key, Hint::Get { key, siblings: false }, true)?;
        if old.as_ref().is_none_or(|leaf| leaf.value() != value) {
            let (mut changer, root) = self.changer();
            changer.insert(root, key, value)?;
            let freed = changer.freed;
            self.finish_change(freed);
        }
        if let Some(log) = &mut self.log {
            Pending::record(log, key, Some(value), old.is_some());
        }
        Ok(old.map(|leaf| leaf.value().to_vec()))
    }

    /// Removes a key and gives back the value it had.
    ///
    /// # Errors
    /// If a node cannot be loaded; the tree is then unchanged.
    pub fn take(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, TreeError> {
        if key.len() > MAX_KEY_LEN {
            return Ok(None);
        }
        let hint = Hint::Get { key, siblings: true };
        let old = self.find(key, hint, true)?;
        if old.is_some() {
            let (mut changer, root) = self.changer();
            changer.remove(root, key)?;
            let freed = changer.freed;
            self.finish_change(freed);
        }
        if let Some(log) = &mut self.log {
            Pending::record(log, key, None, old.is_some());
        }
        Ok(old.map(|leaf| leaf.value().to_vec()))
    }
}

impl KvWrite for Tree {
    fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<(), TreeError> {
        self.replace(key, value).map(drop)
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), TreeError> {
        self.take(key).map(drop)
    }
}
