//! Pruning the earliest version.

use std::collections::BTreeSet;

use base_kv::{Batch, Durability, Op};
use mkvs_tree::{NodePtr, NodeRef, RootType};

use crate::batches::Sliced;
use crate::db::NodeDb;
use crate::error::DbError;
use crate::keys;
use crate::meta::Meta;

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
