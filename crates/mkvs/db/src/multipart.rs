//! Building a version from pieces that come in any order, as a checkpoint restore does.
//!
//! A subtree that a piece shows whole goes to its place at once, in the order of its keys. Nodes of which a piece shows
//! only a part of the subtree are kept apart, by hash, until all pieces are there, and so is where the whole subtrees
//! below them are. Then the tree is put together from the root down, which shows whether it is whole. Only then is
//! there a root.

use std::ops::ControlFlow;

use base_kv::{Batch, Durability, Op, Order};
use base_prims::Hash;
use mkvs_tree::proof::Verified;
use mkvs_tree::{Inner, Link, NodeId, NodePtr, NodeRef, Root, Side, stored};

use crate::batches::Sliced;
use crate::db::NodeDb;
use crate::error::DbError;
use crate::keys;
use crate::meta::Meta;
use crate::record::{self, RootRecord};

impl NodeDb {
    fn set_meta(&self, meta: &mut Meta, new: Meta, durability: Durability) -> Result<(), DbError> {
        self.kv().write(Batch::new().put(keys::META, &new.encode()), durability)?;
        *meta = new;
        Ok(())
    }

    /// Begins to build a version from pieces. Until it is finalized or aborted nothing else can be committed.
    ///
    /// # Errors
    /// If a version is being built already, or this one is final.
    pub fn start_multipart(&self, version: u64) -> Result<(), DbError> {
        let mut meta = self.meta();
        if let Some(version) = meta.multipart {
            return Err(DbError::MultipartInProgress(version));
        }
        if let Some((_, latest)) = meta.range
            && version <= latest
        {
            return Err(DbError::AlreadyFinalized { version, latest });
        }
        let new = Meta { multipart: Some(version), ..*meta };
        self.set_meta(&mut meta, new, Durability::Synced)?;
        drop(meta);
        *self.parts() = None;
        Ok(())
    }

    /// The version that is being built from pieces.
    pub fn multipart_version(&self) -> Option<u64> {
        self.meta().multipart
    }

    /// Drops everything of the version that is being built. That there is none is no error.
    ///
    /// # Errors
    /// If the store fails.
    pub fn abort_multipart(&self) -> Result<(), DbError> {
        let mut meta = self.meta();
        let Some(version) = meta.multipart else { return Ok(()) };
        let mut out = Sliced::new(self.kv());
        out.delete_prefix(&[keys::PART])?;
        for kind in [keys::ROOT, keys::LOG, keys::NODE, keys::BATCH, keys::OPEN] {
            out.delete_prefix(&keys::version(kind, version))?;
        }
        out.flush()?;
        let new = Meta { multipart: None, ..*meta };
        self.set_meta(&mut meta, new, Durability::Synced)?;
        drop(meta);
        *self.parts() = None;
        Ok(())
    }

    /// Adds the nodes of a verified part of a tree.
    ///
    /// # Errors
    /// If no version is being built, or the store fails.
    pub fn put_part(&self, part: &Verified) -> Result<(), DbError> {
        let Some(version) = self.meta().multipart else { return Err(DbError::NoMultipart(0)) };
        let mut at = self.parts();
        let place = match *at {
            Some(place) => place,
            None => Place { batch: self.next_batch(version)?, next: 0, apart: 0 },
        };
        let mut writer = Writer::new(self, version, place);
        if let Placed::Whole { ptr, first } = writer.place(&part.root)? {
            writer.keep_whole(&ptr, first)?;
        }
        *at = Some(writer.finish()?);
        Ok(())
    }

    fn part(&self, hash: &Hash) -> Result<Part, DbError> {
        let mut found = None;
        self.kv().get_with(&keys::part(hash), &mut |bytes| found = Some(Part::decode(bytes)))?;
        match found {
            Some(Some(part)) => Ok(part),
            Some(None) => Err(DbError::Corrupt { what: "restored node" }),
            None => Err(DbError::Incomplete(*hash)),
        }
    }

    /// Makes a root of the version being built, out of the pieces that were added; it stays to be finalized.
    ///
    /// # Errors
    /// [`DbError::Incomplete`] if a piece is missing; more can then be added.
    pub fn complete_part(&self, root: &Root) -> Result<(), DbError> {
        if root.namespace != self.namespace() {
            return Err(DbError::OtherNamespace { expected: self.namespace(), found: root.namespace });
        }
        let version = {
            let meta = self.meta();
            meta.multipart.filter(|v| *v == root.version).ok_or(DbError::NoMultipart(root.version))?
        };
        let mut at = self.parts();
        let place = match *at {
            Some(place) => place,
            None => Place { batch: self.next_batch(version)?, next: 0, apart: 0 },
        };
        let mut used = Vec::new();
        let id = match self.put_together(root, place, &mut used) {
            Ok(id) => id,
            Err(e) => {
                // What the pieces brought stays; what was put together goes.
                let mut out = Sliced::new(self.kv());
                self.delete_nodes(version, place.batch, place.next, None, &mut out)?;
                out.flush()?;
                return Err(e);
            }
        };
        let mut out = Sliced::new(self.kv());
        // Whole subtrees that came more than once, or are no part of the tree.
        used.sort_unstable();
        let mut next = 0;
        for (first, last) in used {
            self.delete_nodes(version, place.batch, next, Some(first), &mut out)?;
            next = last.saturating_add(1);
        }
        self.delete_nodes(version, place.batch, next, Some(place.next), &mut out)?;
        out.delete_prefix(&[keys::PART])?;
        let mut batch = out.into_batch();
        batch.put(&keys::batch(keys::BATCH, version, place.batch), &record::encode_ids(&[]));
        let record = RootRecord { id, batches: vec![place.batch], base: None };
        batch.put(&keys::root_record(root), &record.encode());
        self.kv().write(&batch, Durability::Buffered)?;
        *at = None;
        Ok(())
    }

    /// Deletes the nodes of a batch with indexes from `from` on and before `to`.
    fn delete_nodes(
        &self,
        version: u64,
        batch: u16,
        from: u32,
        to: Option<u32>,
        out: &mut Sliced<'_>,
    ) -> Result<(), DbError> {
        let start = keys::node(&NodeId { version, batch, index: from });
        let end = match to {
            Some(to) if to <= from => return Ok(()),
            Some(to) => Some(keys::node(&NodeId { version, batch, index: to }).to_vec()),
            None => mkvs_tree::prefix_end(&keys::batch(keys::NODE, version, batch)),
        };
        let mut found: Vec<Vec<u8>> = Vec::new();
        self.kv().scan(&start, end.as_deref(), Order::Forward, &mut |key, _| {
            found.push(key.to_vec());
            ControlFlow::Continue(())
        })?;
        for key in found {
            out.op(Op::Delete(&key))?;
        }
        Ok(())
    }

    /// Writes the nodes between `root` and the whole subtrees, children before parents, and notes which subtrees those
    /// are by their first and last index.
    fn put_together(&self, root: &Root, place: Place, used: &mut Vec<(u32, u32)>) -> Result<Option<NodeId>, DbError> {
        if root.hash.is_empty_hash() {
            return Ok(None);
        }
        let mut writer = Writer::new(self, root.version, place);
        // A tree whose nodes name one another twice would be walked for ever.
        let mut left = place.apart;
        // Branches on the way down, each with the side to do next.
        let mut stack: Vec<(Inner, usize)> = Vec::new();
        let mut want = Some(root.hash);
        // What was asked for last, once it has its place.
        let mut done: Option<NodePtr> = None;
        loop {
            if let Some(hash) = want.take() {
                let repeats = DbError::Corrupt { what: "restored tree, which repeats nodes," };
                match self.part(&hash)? {
                    Part::Node(_) if left == 0 => return Err(repeats),
                    Part::Whole { first, last } => {
                        used.push((first, last));
                        let id = NodeId { version: root.version, batch: place.batch, index: last };
                        done = Some(NodePtr { hash, id });
                    }
                    Part::Node(NodeRef::Inner(inner)) => {
                        left -= 1;
                        stack.push(((*inner).clone(), 0));
                    }
                    Part::Node(leaf) => done = Some(NodePtr { hash, id: writer.push(&leaf)? }),
                }
            }
            let Some((inner, next)) = stack.last_mut() else {
                writer.finish()?;
                return Ok(done.map(|ptr| ptr.id));
            };
            if let Some(ptr) = done.take()
                && let Some(side) = next.checked_sub(1).and_then(|i| Side::ALL.get(i))
            {
                inner.set_stored(*side, ptr);
            }
            if let Some(side) = Side::ALL.get(*next) {
                *next += 1;
                let child = inner.child(*side);
                want = if child.is_empty() { None } else { child.hash() };
                continue;
            }
            let Some((inner, _)) = stack.pop() else { return Err(DbError::Incomplete(root.hash)) };
            let node = NodeRef::Inner(std::sync::Arc::new(inner));
            let hash = node.hash().ok_or(DbError::Corrupt { what: "restored node" })?;
            done = Some(NodePtr { hash, id: writer.push(&node)? });
        }
    }
}

/// Where the next whole subtree of a restore goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    batch: u16,
    next: u32,
    /// How many nodes were kept apart, at least: no tree that is put together has more of them.
    apart: u64,
}

/// What is kept of a restore by hash.
enum Part {
    /// A node whose subtree no piece so far shows whole. Record: `00 | stored form`.
    Node(NodeRef),
    /// A subtree that is in its place, its root last. Record: `01 | first index | last index`, big-endian.
    Whole { first: u32, last: u32 },
}

impl Part {
    fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first()? {
            (0, node) => Some(Self::Node(stored::decode(node, &NodeId::NONE).ok()?)),
            (1, [a, b, c, d, e, f, g, h]) => Some(Self::Whole {
                first: u32::from_be_bytes([*a, *b, *c, *d]),
                last: u32::from_be_bytes([*e, *f, *g, *h]),
            }),
            _ => None,
        }
    }
}

/// What became of a link of a piece.
enum Placed {
    /// There is nothing.
    Empty,
    /// The piece does not show it, or not all of it.
    Partly,
    /// It is in its place, with everything below.
    Whole { ptr: NodePtr, first: u32 },
}

/// Writes nodes to their places and parts beside them.
struct Writer<'a> {
    db: &'a NodeDb,
    out: Sliced<'a>,
    version: u64,
    place: Place,
    bytes: Vec<u8>,
}

impl<'a> Writer<'a> {
    fn new(db: &'a NodeDb, version: u64, place: Place) -> Self {
        Self { db, out: Sliced::new(db.kv()), version, place, bytes: Vec::new() }
    }

    fn push(&mut self, node: &NodeRef) -> Result<NodeId, DbError> {
        let Place { batch, next, .. } = self.place;
        let id = NodeId { version: self.version, batch, index: next };
        self.place.next = next.checked_add(1).ok_or(DbError::TooManyBatches(self.version))?;
        self.bytes.clear();
        stored::encode(node, &id, &mut self.bytes);
        self.out.op(Op::Put(&keys::node(&id), &self.bytes))?;
        Ok(id)
    }

    fn finish(mut self) -> Result<Place, DbError> {
        self.out.flush()?;
        Ok(self.place)
    }

    fn keep_whole(&mut self, ptr: &NodePtr, first: u32) -> Result<(), DbError> {
        let mut record = [1; 9];
        record[1..5].copy_from_slice(&first.to_be_bytes());
        record[5..].copy_from_slice(&ptr.id.index.to_be_bytes());
        Ok(self.out.op(Op::Put(&keys::part(&ptr.hash), &record))?)
    }

    fn keep_node(&mut self, hash: &Hash, node: &NodeRef) -> Result<(), DbError> {
        // Another piece may have shown all of it.
        let mut whole = false;
        self.db.kv().get_with(&keys::part(hash), &mut |record| whole = record.first() == Some(&1))?;
        if whole {
            return Ok(());
        }
        self.bytes.clear();
        self.bytes.push(0);
        stored::encode(node, &NodeId::NONE, &mut self.bytes);
        self.place.apart += 1;
        Ok(self.out.op(Op::Put(&keys::part(hash), &self.bytes))?)
    }

    /// Writes what is below a link. Proofs are at most [`mkvs_tree::proof::MAX_PROOF_DEPTH`] levels deep, so recursion
    /// is bounded.
    fn place(&mut self, link: &Link) -> Result<Placed, DbError> {
        let Some(hash) = link.hash().filter(|_| !link.is_empty()) else { return Ok(Placed::Empty) };
        let inner = match link.node() {
            None => return Ok(Placed::Partly),
            Some(leaf @ NodeRef::Leaf(_)) => {
                let id = self.push(leaf)?;
                return Ok(Placed::Whole { ptr: NodePtr { hash, id }, first: id.index });
            }
            Some(NodeRef::Inner(inner)) => inner,
        };
        let left = self.place(inner.child(Side::Left))?;
        let right = self.place(inner.child(Side::Right))?;
        let leaf = inner.child(Side::Leaf);
        let whole = !matches!(left, Placed::Partly)
            && !matches!(right, Placed::Partly)
            && (leaf.is_empty() || leaf.node().is_some());
        if !whole {
            // Every piece that shows this node shows its leaf again, so that is kept like the node.
            if let (Some(node), Some(hash)) = (leaf.node(), leaf.hash()) {
                self.keep_node(&hash, node)?;
            }
            for below in [left, right] {
                if let Placed::Whole { ptr, first } = below {
                    self.keep_whole(&ptr, first)?;
                }
            }
            self.keep_node(&hash, &NodeRef::Inner(std::sync::Arc::clone(inner)))?;
            return Ok(Placed::Partly);
        }
        let mut node = (**inner).clone();
        let mut start = None;
        let leaf = self.place(leaf)?;
        for (side, below) in [(Side::Left, left), (Side::Right, right), (Side::Leaf, leaf)] {
            if let Placed::Whole { ptr, first } = below {
                node.set_stored(side, ptr);
                start = start.or(Some(first));
            }
        }
        let id = self.push(&NodeRef::Inner(std::sync::Arc::new(node)))?;
        Ok(Placed::Whole { ptr: NodePtr { hash, id }, first: start.unwrap_or(id.index) })
    }
}
