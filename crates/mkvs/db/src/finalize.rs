//! Making a version final.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use base_kv::{Durability, Op, Order};
use mkvs_tree::Root;

use crate::batches::Sliced;
use crate::db::NodeDb;
use crate::error::DbError;
use crate::keys;
use crate::record::{self, RootRecord};
use crate::writelogs;

impl NodeDb {
    /// Makes a version final with these roots, at most one per type, and drops all its other roots.
    ///
    /// After it returns, the version survives a power loss.
    ///
    /// # Errors
    /// If a root is not stored, the version is not later than the latest final one, or the store fails.
    pub fn finalize(&self, roots: &[Root]) -> Result<(), DbError> {
        let Some(version) = roots.first().map(|r| r.version) else { return Err(DbError::MixedRoots) };
        let types: BTreeSet<_> = roots.iter().map(|r| r.root_type).collect();
        if types.len() != roots.len() || roots.iter().any(|r| r.version != version) {
            return Err(DbError::MixedRoots);
        }
        let mut meta = self.meta();
        if let Some(part) = meta.multipart
            && part != version
        {
            return Err(DbError::MultipartInProgress(part));
        }
        let latest = meta.range.map(|(_, latest)| latest);
        if let Some(latest) = latest
            && version <= latest
        {
            return Err(DbError::AlreadyFinalized { version, latest });
        }
        let mut keep = BTreeSet::new();
        let mut out = Sliced::new(self.kv());
        let mut records: Vec<([u8; 42], Vec<u8>)> = Vec::new();
        for root in roots {
            match self.record(root)? {
                Some(mut record) => {
                    keep.extend(record.batches.iter().copied());
                    if let Some(log) = self.skip_intermediate(root, &mut record)? {
                        records.push((keys::root(keys::LOG, version, root.root_type, &root.hash), log));
                    }
                    records.push((keys::root_record(root), record.encode()));
                }
                None if root.hash.is_empty_hash() => {
                    records.push((keys::root_record(root), RootRecord::default().encode()));
                }
                None => return Err(DbError::RootNotFound(*root)),
            }
        }
        // First of all: the roots that are kept no longer need the ones they came from.
        for (key, value) in &records {
            out.op(Op::Put(key, value))?;
        }
        self.drop_others(latest, version, roots, &keep, &mut out)?;
        // What one of a root's batches made and a later one dropped is used by nobody.
        for batch in &keep {
            for id in self.unused_after(version, *batch)? {
                if id.version == version {
                    out.op(Op::Delete(&keys::node(&id)))?;
                }
            }
        }
        let mut new = *meta;
        new.range = Some((meta.range.map_or(version, |(earliest, _)| earliest), version));
        new.multipart = None;
        let mut batch = out.into_batch();
        batch.put(keys::META, &new.encode());
        self.kv().write(&batch, Durability::Synced)?;
        *meta = new;
        Ok(())
    }

    /// Makes the record of a root that was made from another root of its own version say what it was made from in the
    /// version before; returns the write log from there, if it is stored.
    fn skip_intermediate(&self, root: &Root, record: &mut RootRecord) -> Result<Option<Vec<u8>>, DbError> {
        let Some((version, _)) = record.base else { return Ok(None) };
        if version != root.version {
            return Ok(None);
        }
        let mut base = record.base;
        while let Some((v, hash)) = base
            && v == root.version
        {
            let record = self.record(&Root { hash, ..*root })?;
            base = record.ok_or(DbError::Corrupt { what: "chain of roots" })?.base;
        }
        let (v, hash) = base.unwrap_or((root.version, base_prims::Hash::EMPTY));
        let log = match self.write_log(&Root { version: v, hash, ..*root }, root) {
            Ok(log) => Some(writelogs::encode(&log)),
            Err(DbError::WriteLogNotFound { .. }) => None,
            Err(e) => return Err(e),
        };
        record.base = base;
        Ok(log)
    }

    /// Ids of the nodes that a batch no longer uses.
    pub(crate) fn unused_after(&self, version: u64, batch: u16) -> Result<Vec<mkvs_tree::NodeId>, DbError> {
        match self.kv().get(&keys::batch(keys::BATCH, version, batch))? {
            Some(bytes) => record::decode_ids(&bytes),
            None => Ok(Vec::new()),
        }
    }

    /// Drops batches that belong to no root, of versions that are not final: what an interrupted [`NodeDb::finalize`]
    /// had not dropped yet.
    pub(crate) fn drop_orphans(&self, latest: Option<u64>) -> Result<(), DbError> {
        let from = latest.map_or(Some(0), |l| l.checked_add(1)).unwrap_or(u64::MAX);
        let mut batches = Vec::new();
        self.kv().scan(
            &keys::version(keys::BATCH, from),
            Some(&[keys::BATCH + 1]),
            Order::Forward,
            &mut |key, _| {
                batches.extend(keys::version_of(key).zip(keys::batch_of(key)));
                ControlFlow::Continue(())
            },
        )?;
        let mut out = Sliced::new(self.kv());
        let mut used: Option<(u64, BTreeSet<u16>)> = None;
        for (version, batch) in batches {
            if used.as_ref().is_none_or(|(v, _)| *v != version) {
                let mut own = BTreeSet::new();
                for root in self.roots(version)? {
                    own.extend(self.record(&root)?.map(|r| r.batches).unwrap_or_default());
                }
                used = Some((version, own));
            }
            if used.as_ref().is_some_and(|(_, own)| !own.contains(&batch)) {
                out.delete_prefix(&keys::batch(keys::NODE, version, batch))?;
                out.op(Op::Delete(&keys::batch(keys::BATCH, version, batch)))?;
            }
        }
        out.flush()?;
        Ok(())
    }

    /// Drops all roots and batches of versions after `latest` up to `version` that are not kept.
    fn drop_others(
        &self,
        latest: Option<u64>,
        version: u64,
        roots: &[Root],
        keep: &BTreeSet<u16>,
        out: &mut Sliced<'_>,
    ) -> Result<(), DbError> {
        let from = latest.map_or(Some(0), |l| l.checked_add(1)).unwrap_or(u64::MAX);
        let range = |kind: u8| (keys::version(kind, from), mkvs_tree::prefix_end(&keys::version(kind, version)));
        let mut drop = Vec::new();
        for kind in [keys::ROOT, keys::LOG] {
            let (from, to) = range(kind);
            self.kv().scan(&from, to.as_deref(), Order::Forward, &mut |key, _| {
                let kept = keys::version_of(key) == Some(version)
                    && keys::root_of(key).is_some_and(|(t, h)| roots.iter().any(|r| r.root_type == t && r.hash == h));
                if !kept {
                    drop.push(key.to_vec());
                }
                ControlFlow::Continue(())
            })?;
        }
        let (from, to) = range(keys::BATCH);
        let mut batches = Vec::new();
        self.kv().scan(&from, to.as_deref(), Order::Forward, &mut |key, _| {
            if let (Some(v), Some(b)) = (keys::version_of(key), keys::batch_of(key))
                && !(v == version && keep.contains(&b))
            {
                batches.push((v, b));
                drop.push(key.to_vec());
            }
            ControlFlow::Continue(())
        })?;
        // Roots go before their nodes, and a batch's own record after its nodes: a crash between slices leaves no root
        // without nodes, and no batch that nobody knows of.
        let (batch_records, roots): (Vec<_>, Vec<_>) =
            drop.into_iter().partition(|key| key.first() == Some(&keys::BATCH));
        for key in roots {
            out.op(Op::Delete(&key))?;
        }
        for (v, b) in batches {
            out.delete_prefix(&keys::batch(keys::NODE, v, b))?;
        }
        for key in batch_records {
            out.op(Op::Delete(&key))?;
        }
        Ok(())
    }
}
