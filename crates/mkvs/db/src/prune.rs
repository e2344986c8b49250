//! Pruning the earliest versions.
//!
//! What several versions leave behind is removed in one write where it fits: it is scattered over the store, and each
//! write pays for every page that it touches.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use base_kv::{Batch, Durability, Op, Order};
use mkvs_tree::{NodeId, NodePtr, NodeRef, RootType};

use crate::batches::{SLICE_OPS, Sliced};
use crate::db::NodeDb;
use crate::error::DbError;
use crate::keys;
use crate::meta::Meta;

/// No further version is added to a write that removes this many nodes.
const MERGE_NODES: usize = SLICE_OPS / 2;

/// What a write will remove.
#[derive(Default)]
struct Gone {
    nodes: Vec<NodeId>,
    /// Keys of other records.
    records: Vec<Vec<u8>>,
}

impl NodeDb {
    /// Removes the earliest version: its roots, and every node that only it uses.
    ///
    /// The cost is that of what is removed.
    ///
    /// # Errors
    /// If the version is not the earliest, or is the latest, or the store fails; the removal then goes on when the
    /// database is next opened.
    pub fn prune(&self, version: u64) -> Result<(), DbError> {
        let mut meta = self.meta();
        {
            if let Some(part) = meta.multipart {
                return Err(DbError::MultipartInProgress(part));
            }
            let Some((earliest, latest)) = meta.range else { return Err(DbError::VersionNotFound(version)) };
            if version != earliest {
                return Err(DbError::NotEarliest { version, earliest });
            }
            if version == latest {
                return Err(DbError::CannotPruneLatest(version));
            }
            let next = self.next_version(version)?.filter(|n| *n <= latest).unwrap_or(latest);
            let mut new = *meta;
            new.range = Some((next, latest));
            new.pruning = Some(version);
            *meta = new;
        }
        self.remove_version(&mut meta, version)
    }

    /// Removes the earliest versions before `before`, at least one and as many as fit one write; `may` is asked for each
    /// and stops the removal with a no. Returns how many were removed; 0 if nothing is left to do.
    ///
    /// # Errors
    /// As [`NodeDb::prune`].
    pub fn prune_some(&self, before: u64, may: &mut dyn FnMut(u64) -> bool) -> Result<u64, DbError> {
        let mut meta = self.meta();
        if let Some(part) = meta.multipart {
            return Err(DbError::MultipartInProgress(part));
        }
        let mut new = *meta;
        let mut gone = Gone::default();
        let mut removed = 0;
        while let Some((earliest, latest)) = new.range
            && earliest < before.min(latest)
            && gone.nodes.len() < MERGE_NODES
            && may(earliest)
        {
            let next = self.next_version(earliest)?.filter(|n| *n <= latest).unwrap_or(latest);
            if !self.collect(earliest, next, &mut gone)? {
                // Too much for one write with others, or for one write at all.
                self.remove_at_once(&mut meta, new, &gone)?;
                new.range = Some((next, latest));
                *meta = Meta { pruning: Some(earliest), ..new };
                self.remove_version(&mut meta, earliest)?;
                return Ok(removed + 1);
            }
            new.range = Some((next, latest));
            removed += 1;
        }
        self.remove_at_once(&mut meta, new, &gone)?;
        Ok(removed)
    }

    /// Removes whole versions in one write.
    fn remove_at_once(&self, meta: &mut Meta, new: Meta, gone: &Gone) -> Result<(), DbError> {
        if new == *meta {
            return Ok(());
        }
        // In key order, which the engine likes.
        let mut nodes = gone.nodes.clone();
        nodes.sort_unstable();
        let mut batch = Batch::new();
        for id in &nodes {
            batch.delete(&keys::node(id));
        }
        for key in &gone.records {
            batch.delete(key);
        }
        batch.put(keys::META, &new.encode());
        self.kv().write(&batch, Durability::Buffered)?;
        *meta = new;
        Ok(())
    }

    /// Adds what only `version` uses, given the version after it; says no, and adds nothing, if that is too much.
    fn collect(&self, version: u64, next: u64, gone: &mut Gone) -> Result<bool, DbError> {
        let (nodes, records) = (gone.nodes.len(), gone.records.len());
        let fits = self.collect_version(version, next, gone)?;
        if !fits {
            gone.nodes.truncate(nodes);
            gone.records.truncate(records);
        }
        Ok(fits)
    }

    fn collect_version(&self, version: u64, next: u64, gone: &mut Gone) -> Result<bool, DbError> {
        let next_roots = self.roots(next)?;
        for root in self.roots(version)? {
            let Some(record) = self.record(&root)? else { continue };
            if root.root_type == RootType::IO {
                for batch in &record.batches {
                    if !self.collect_batch(version, *batch, gone)? {
                        return Ok(false);
                    }
                }
                continue;
            }
            let mut followed = record.id.is_none();
            for after in next_roots.iter().filter(|r| r.root_type == root.root_type) {
                let Some(record) = self.record(after)? else { continue };
                if record.base != Some((version, root.hash)) {
                    continue;
                }
                followed = true;
                for batch in record.batches {
                    let unused = self.unused_after(after.version, batch)?;
                    gone.nodes.extend(unused.into_iter().filter(|id| id.version <= version));
                    gone.records.push(keys::batch(keys::BATCH, after.version, batch).to_vec());
                }
            }
            if !followed || gone.nodes.len() > SLICE_OPS {
                return Ok(false);
            }
        }
        for kind in [keys::ROOT, keys::LOG, keys::BATCH] {
            let start = keys::version(kind, version);
            let end = mkvs_tree::prefix_end(&start);
            self.kv().scan(&start, end.as_deref(), Order::Forward, &mut |key, _| {
                gone.records.push(key.to_vec());
                ControlFlow::Continue(())
            })?;
        }
        Ok(gone.nodes.len() <= SLICE_OPS)
    }

    /// Adds all nodes of a batch; says no if there are too many.
    fn collect_batch(&self, version: u64, batch: u16, gone: &mut Gone) -> Result<bool, DbError> {
        let start = keys::batch(keys::NODE, version, batch);
        let end = mkvs_tree::prefix_end(&start);
        self.kv().scan(&start, end.as_deref(), Order::Forward, &mut |key, _| {
            gone.nodes.extend(keys::node_of(key));
            if gone.nodes.len() > SLICE_OPS { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(gone.nodes.len() <= SLICE_OPS)
    }

    /// Goes on with a removal that was cut short.
    pub(crate) fn finish_pruning(&self, version: u64) -> Result<(), DbError> {
        self.remove_version(&mut self.meta(), version)
    }

    /// Removes what only the version uses. Can be run again after it was cut short at any point.
    ///
    /// `meta` says already that the version is gone and that its removal has begun; that is written first if the removal
    /// takes more than one write.
    fn remove_version(&self, meta: &mut Meta, version: u64) -> Result<(), DbError> {
        let mut begun = Batch::new();
        begun.put(keys::META, &meta.encode());
        let mut out = Sliced::with_preamble(self.kv(), begun);
        let next = meta.range.map(|(earliest, _)| earliest);
        let next_roots = match next {
            Some(next) => self.roots(next)?,
            None => Vec::new(),
        };
        let mut used_up = BTreeSet::new();
        for root in self.roots(version)? {
            let Some(record) = self.record(&root)? else { continue };
            if root.root_type == RootType::IO {
                for batch in &record.batches {
                    out.delete_prefix(&keys::batch(keys::NODE, version, *batch))?;
                }
                continue;
            }
            let mut followed = false;
            for after in next_roots.iter().filter(|r| r.root_type == root.root_type) {
                let Some(record) = self.record(after)? else { continue };
                if record.base != Some((version, root.hash)) {
                    continue;
                }
                followed = true;
                for batch in record.batches {
                    // In key order, which the engine likes.
                    let mut unused = self.unused_after(after.version, batch)?;
                    unused.retain(|id| id.version <= version);
                    unused.sort_unstable();
                    for id in unused {
                        out.op(Op::Delete(&keys::node(&id)))?;
                    }
                    used_up.insert((after.version, batch));
                }
            }
            if !followed && let Some(id) = record.id {
                self.delete_tree(NodePtr { hash: root.hash, id }, &mut out)?;
            }
        }
        for kind in [keys::ROOT, keys::LOG, keys::BATCH] {
            out.delete_prefix(&keys::version(kind, version))?;
        }
        for (v, batch) in used_up {
            out.op(Op::Delete(&keys::batch(keys::BATCH, v, batch)))?;
        }
        let mut new = *meta;
        new.pruning = None;
        let mut batch = out.into_batch();
        batch.put(keys::META, &new.encode());
        self.kv().write(&batch, Durability::Buffered)?;
        *meta = new;
        Ok(())
    }

    /// Deletes all nodes of a tree that nothing else uses, children first, so that it can be cut short and run again.
    fn delete_tree(&self, root: NodePtr, out: &mut Sliced<'_>) -> Result<(), DbError> {
        let mut todo = vec![(root, false)];
        while let Some((ptr, below_done)) = todo.pop() {
            if below_done {
                out.op(Op::Delete(&keys::node(&ptr.id)))?;
                continue;
            }
            match self.node(&ptr)? {
                // Deleted before the interruption, and with it everything below.
                None => {}
                Some(NodeRef::Leaf(_)) => out.op(Op::Delete(&keys::node(&ptr.id)))?,
                Some(NodeRef::Inner(inner)) => {
                    todo.push((ptr, true));
                    todo.extend(inner.children().map(|child| (child, false)));
                }
            }
        }
        Ok(())
    }
}
