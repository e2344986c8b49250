//! Building a version from pieces that come in any order, as a checkpoint restore does.
//!
//! Pieces are kept apart, by hash, until all are there; then the tree is copied to its place from the root down, which
//! shows whether it is whole. Only then is there a root.

use base_kv::{Batch, Durability, Op};
use base_prims::Hash;
use mkvs_tree::{Link, NewNodes, NodeId, NodePtr, NodeRef, Root, Side, stored};

use crate::batches::{SLICE_BYTES, SLICE_OPS, Sliced};
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
        self.set_meta(&mut meta, new, Durability::Synced)
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
        self.set_meta(&mut meta, new, Durability::Synced)
    }

    /// Adds the nodes of a verified part of a tree.
    ///
    /// # Errors
    /// If no version is being built, or the store fails.
    pub fn put_part(&self, part: &Link) -> Result<(), DbError> {
        if self.meta().multipart.is_none() {
            return Err(DbError::NoMultipart(0));
        }
        let mut out = Sliced::new(self.kv());
        let mut bytes = Vec::new();
        let mut todo = vec![part];
        while let Some(link) = todo.pop() {
            let (Some(node), Some(hash)) = (link.node(), link.hash()) else { continue };
            bytes.clear();
            stored::encode(node, &NodeId::NONE, &mut bytes);
            out.op(Op::Put(&keys::part(&hash), &bytes))?;
            if let NodeRef::Inner(inner) = node {
                todo.extend(Side::ALL.map(|side| inner.child(side)));
            }
        }
        out.flush()?;
        Ok(())
    }

    fn part(&self, hash: &Hash) -> Result<NodeRef, DbError> {
        let mut found = None;
        self.kv().get_with(&keys::part(hash), &mut |bytes| found = Some(stored::decode(bytes, &NodeId::NONE)))?;
        match found {
            Some(Ok(node)) => Ok(node),
            Some(Err(_)) => Err(DbError::Corrupt { what: "restored node" }),
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
        let number = self.next_batch(version)?;
        self.kv().write(Batch::new().put(&keys::batch(keys::OPEN, version, number), &[]), Durability::Buffered)?;
        let built = self.copy_parts(root, number);
        let mut out = Sliced::new(self.kv());
        let id = match built {
            Ok(id) => id,
            Err(e) => {
                out.delete_prefix(&keys::batch(keys::NODE, version, number))?;
                out.op(Op::Delete(&keys::batch(keys::OPEN, version, number)))?;
                out.flush()?;
                return Err(e);
            }
        };
        out.delete_prefix(&[keys::PART])?;
        let mut batch = out.into_batch();
        batch.delete(&keys::batch(keys::OPEN, version, number));
        batch.put(&keys::batch(keys::BATCH, version, number), &record::encode_ids(&[]));
        let record = RootRecord { id, batches: vec![number], base: None };
        batch.put(&keys::root_record(root), &record.encode());
        self.kv().write(&batch, Durability::Buffered)?;
        Ok(())
    }

    /// Writes the tree under `root` to its place, children before parents.
    fn copy_parts(&self, root: &Root, number: u16) -> Result<Option<NodeId>, DbError> {
        if root.hash.is_empty_hash() {
            return Ok(None);
        }
        let mut out = Sliced::new(self.kv());
        let mut nodes = NewNodes::new(root.version, number);
        // Branches on the way down, each with the side to do next.
        let mut stack: Vec<(Hash, NodeRef, usize)> = vec![(root.hash, self.part(&root.hash)?, 0)];
        loop {
            let Some((_, node, next)) = stack.last_mut() else { return Err(DbError::Incomplete(root.hash)) };
            if let NodeRef::Inner(inner) = node
                && let Some(side) = Side::ALL.get(*next)
            {
                *next += 1;
                if let Some(hash) = inner.child(*side).hash()
                    && !inner.child(*side).is_empty()
                {
                    let child = self.part(&hash)?;
                    stack.push((hash, child, 0));
                }
                continue;
            }
            let Some((hash, node, _)) = stack.pop() else { return Err(DbError::Incomplete(root.hash)) };
            let id = nodes.push(&node);
            if nodes.bytes() >= SLICE_BYTES || nodes.len() >= SLICE_OPS {
                nodes.drain(|id, bytes| out.op(Op::Put(&keys::node(&id), bytes)))?;
                out.flush()?;
            }
            let Some((_, parent, next)) = stack.last_mut() else {
                nodes.drain(|id, bytes| out.op(Op::Put(&keys::node(&id), bytes)))?;
                out.flush()?;
                return Ok(Some(id));
            };
            if let (NodeRef::Inner(inner), Some(side)) = (parent, next.checked_sub(1).and_then(|i| Side::ALL.get(i))) {
                std::sync::Arc::make_mut(inner).set_stored(*side, NodePtr { hash, id });
            }
        }
    }
}
