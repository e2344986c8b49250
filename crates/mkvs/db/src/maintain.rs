//! Looking after a database: sizes, checking, compaction, another namespace.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::ControlFlow;

use base_kv::{Batch, Durability, KvStats, KvStore, Order};
use base_prims::{Hash, Namespace};
use mkvs_tree::{NodeId, NodePtr, NodeRef};

use crate::db::NodeDb;
use crate::error::DbError;
use crate::keys;
use crate::meta::Meta;

/// What a database holds and takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Earliest version that is not pruned.
    pub earliest: Option<u64>,
    /// Latest finalized version.
    pub latest: Option<u64>,
    /// Number of nodes.
    pub nodes: u64,
    /// Bytes of nodes, keys included.
    pub node_bytes: u64,
    /// Bytes of write logs, keys included.
    pub log_bytes: u64,
    /// Size of the store.
    pub store: KvStats,
}

/// What a check found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CheckReport {
    /// Versions whose roots were checked.
    pub versions: u64,
    /// Nodes that were read; shared ones count once.
    pub nodes: u64,
    /// Nodes that are missing, cannot be read, or have another hash.
    pub bad: Vec<NodeId>,
    /// Nodes of final versions that no root leads to. Versions that are not final may hold what their finalization drops.
    pub leaked: u64,
}

impl CheckReport {
    /// Whether nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.bad.is_empty() && self.leaked == 0
    }
}

impl NodeDb {
    /// Counts what the database holds; reads all of it.
    ///
    /// # Errors
    /// If the store fails.
    pub fn usage(&self) -> Result<Usage, DbError> {
        let range = self.meta().range;
        let mut out = Usage { earliest: range.map(|r| r.0), latest: range.map(|r| r.1), ..Usage::default() };
        for kind in [keys::NODE, keys::LOG] {
            let (mut count, mut bytes) = (0, 0);
            self.kv().scan(&[kind], Some(&[kind + 1]), Order::Forward, &mut |key, value| {
                count += 1;
                bytes += (key.len() + value.len()) as u64;
                ControlFlow::Continue(())
            })?;
            if kind == keys::NODE {
                (out.nodes, out.node_bytes) = (count, bytes);
            } else {
                out.log_bytes = bytes;
            }
        }
        out.store = self.kv().stats()?;
        Ok(out)
    }

    /// Reads every tree of every version and compares each node's contents with its hash, then looks for nodes that no
    /// root leads to. `progress` is told each version and can stop the check.
    ///
    /// # Errors
    /// If the store fails; what is wrong with the contents is in the report.
    pub fn check(&self, progress: &mut dyn FnMut(u64) -> ControlFlow<()>) -> Result<CheckReport, DbError> {
        let mut out = CheckReport::default();
        let mut seen = BTreeMap::new();
        let mut at = self.first_version()?;
        while let Some(version) = at {
            if progress(version).is_break() {
                return Ok(out);
            }
            for root in self.roots(version)? {
                match self.locate(&root) {
                    Ok(ptr) => self.check_tree(ptr, &mut seen, &mut out)?,
                    Err(DbError::RootNotFound(_)) => out.bad.push(NodeId::NONE),
                    Err(e) => return Err(e),
                }
            }
            out.versions += 1;
            at = self.next_version(version)?;
        }
        let latest = self.latest_version();
        self.kv().scan(&[keys::NODE], Some(&[keys::NODE + 1]), Order::Forward, &mut |key, _| {
            let known = keys::node_of(key).is_some_and(|id| seen.contains_key(&id));
            let is_final = keys::version_of(key).is_some_and(|v| latest.is_some_and(|latest| v <= latest));
            out.leaked += u64::from(is_final && !known);
            ControlFlow::Continue(())
        })?;
        Ok(out)
    }

    fn check_tree(
        &self,
        root: NodePtr,
        seen: &mut BTreeMap<NodeId, Hash>,
        out: &mut CheckReport,
    ) -> Result<(), DbError> {
        let mut todo = vec![root];
        while let Some(ptr) = todo.pop() {
            if ptr.hash.is_empty_hash() {
                continue;
            }
            match seen.entry(ptr.id) {
                Entry::Vacant(entry) => {
                    entry.insert(ptr.hash);
                }
                Entry::Occupied(entry) => {
                    if *entry.get() != ptr.hash {
                        out.bad.push(ptr.id);
                    }
                    continue;
                }
            }
            out.nodes += 1;
            match self.node(&ptr) {
                Ok(Some(node)) if node.hash() == Some(ptr.hash) => {
                    if let NodeRef::Inner(inner) = node {
                        todo.extend(inner.children());
                    }
                }
                Ok(_) | Err(mkvs_tree::LoadError::Corrupt { .. }) => out.bad.push(ptr.id),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// Size of the store; cheap.
    ///
    /// # Errors
    /// If the store fails.
    pub fn store_stats(&self) -> Result<KvStats, DbError> {
        Ok(self.kv().stats()?)
    }

    /// Makes everything written so far survive a power loss.
    ///
    /// # Errors
    /// If the store fails.
    pub fn sync(&self) -> Result<(), DbError> {
        Ok(self.kv().sync()?)
    }

    /// Gives unused space back to the file system; may take long.
    ///
    /// # Errors
    /// If the store fails.
    pub fn compact(&self) -> Result<(), DbError> {
        Ok(self.kv().compact()?)
    }

    /// Prunes from the earliest version on until `keep` versions are left; returns how many were pruned.
    ///
    /// # Errors
    /// If pruning fails.
    pub fn prune_to(&self, keep: u64, progress: &mut dyn FnMut(u64) -> ControlFlow<()>) -> Result<u64, DbError> {
        let Some((_, latest)) = self.meta_range() else { return Ok(0) };
        let before = (latest + 1).saturating_sub(keep.max(1));
        let (mut pruned, mut stopped) = (0, false);
        loop {
            let removed = self.prune_some(before, &mut |version| {
                stopped = stopped || progress(version).is_break();
                !stopped
            })?;
            pruned += removed;
            if removed == 0 || stopped {
                return Ok(pruned);
            }
        }
    }

    fn meta_range(&self) -> Option<(u64, u64)> {
        self.meta().range
    }

    /// Says which versions a store holds without opening or changing it.
    ///
    /// # Errors
    /// If the store holds something else, a newer format or another namespace.
    pub fn peek(kv: &dyn KvStore, namespace: Namespace) -> Result<Option<(u64, u64)>, DbError> {
        match kv.get(keys::META)? {
            Some(bytes) => Ok(Meta::decode(&bytes, namespace)?.range),
            None => Err(DbError::NotADatabase("it has no first record")),
        }
    }

    /// Gives a store that is not open to another namespace. Hashes do not depend on it.
    ///
    /// # Errors
    /// If the store does not belong to `from`.
    pub fn rename_namespace(kv: &dyn KvStore, from: Namespace, to: Namespace) -> Result<(), DbError> {
        let Some(bytes) = kv.get(keys::META)? else { return Err(DbError::NotADatabase("it has no first record")) };
        let meta = Meta { namespace: to, ..Meta::decode(&bytes, from)? };
        Ok(kv.write(Batch::new().put(keys::META, &meta.encode()), Durability::Synced)?)
    }

    /// Roots of the latest version, for a summary.
    ///
    /// # Errors
    /// If the store fails.
    pub fn latest_roots(&self) -> Result<Vec<(mkvs_tree::RootType, Hash)>, DbError> {
        match self.latest_version() {
            Some(version) => Ok(self.roots(version)?.into_iter().map(|r| (r.root_type, r.hash)).collect()),
            None => Ok(Vec::new()),
        }
    }
}
