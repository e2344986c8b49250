//! A tree of the database, and committing it.

use std::ops::ControlFlow;

use base_kv::{Batch, Durability, Op, Order};
use base_prims::Hash;
use mkvs_tree::{Committed, KvRead, KvWrite, NodePtr, Root, RootType, Tree, TreeError};

use crate::batches::{SLICE_BYTES, SLICE_OPS, Sliced};
use crate::db::NodeDb;
use crate::error::DbError;
use crate::keys;
use crate::meta::Meta;
use crate::record::{self, RootRecord};
use crate::writelogs;

/// A tree opened at a root of a database; committing makes a root of the same or the next version.
#[derive(Debug)]
pub struct DbTree {
    db: NodeDb,
    tree: Tree,
    root_type: RootType,
    base: Option<Root>,
    poisoned: bool,
}

impl DbTree {
    pub(crate) fn new(db: NodeDb, tree: Tree, root_type: RootType, base: Option<Root>) -> Self {
        Self { db, tree, root_type, base, poisoned: false }
    }

    /// Stores a write log with each commit from now on.
    #[must_use]
    pub fn with_write_log(mut self) -> Self {
        self.tree = self.tree.with_write_log();
        self
    }

    /// The root that the tree was opened at or last committed as.
    pub fn base(&self) -> Option<&Root> {
        self.base.as_ref()
    }

    /// The tree itself.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The tree itself, for changing.
    pub fn tree_mut(&mut self) -> &mut Tree {
        &mut self.tree
    }

    /// The root hash of the tree with all its changes; nothing is stored.
    pub fn root_hash(&mut self) -> Hash {
        self.tree.root_hash(&self.db.0.config.threads)
    }

    /// Drops all changes since the last commit.
    ///
    /// # Errors
    /// If the base is no longer stored.
    pub fn rollback(&mut self) -> Result<(), DbError> {
        let ptr = match &self.base {
            Some(root) => self.db.locate(root)?,
            None => NodePtr::from_hash(Hash::EMPTY),
        };
        self.tree.reset(ptr);
        self.poisoned = false;
        Ok(())
    }

    /// Stores the tree as a root of `version`, which stays to be finalized.
    ///
    /// # Errors
    /// If the version cannot follow the base, or the store fails; after the latter the tree is unusable.
    pub fn commit(&mut self, version: u64) -> Result<Root, DbError> {
        self.commit_with(version, false)
    }

    /// Stores the tree as the only root of `version` of its type and finalizes the version, in one durable step.
    ///
    /// # Errors
    /// As [`DbTree::commit`] and [`NodeDb::finalize`].
    pub fn commit_final(&mut self, version: u64) -> Result<Root, DbError> {
        self.commit_with(version, true)
    }

    /// As [`DbTree::commit`], but only if the result is the expected root.
    ///
    /// # Errors
    /// As [`DbTree::commit`]; a mismatch leaves the tree as it was.
    pub fn commit_known(&mut self, expected: &Root) -> Result<(), DbError> {
        if expected.root_type != self.root_type {
            return Err(DbError::RootNotFound(*expected));
        }
        let computed = self.root_hash();
        if computed != expected.hash {
            return Err(TreeError::RootMismatch { expected: expected.hash, computed }.into());
        }
        self.commit(expected.version).map(drop)
    }

    fn commit_with(&mut self, version: u64, finalize: bool) -> Result<Root, DbError> {
        if self.poisoned {
            return Err(DbError::TreePoisoned);
        }
        let db = self.db.clone();
        let mut meta = db.meta();
        self.check_version(&meta, version)?;
        let batch_number = db.next_batch(version)?;
        let pending = match meta.range {
            Some((_, latest)) => db.next_version(latest)?,
            None => db.first_version()?,
        };
        let alone = finalize && batch_number == 0 && pending.is_none();
        self.root_hash();
        self.poisoned = true;
        let made = self.tree.commit(version, batch_number, &db.0.config.threads);
        let root = db.root(self.root_type, version, made.root.hash);
        if db.record(&root)?.is_some() {
            // Made before in another way: that one stays, and this tree goes on from it.
            self.tree.reset(db.locate(&root)?);
        } else {
            let mut batch = self.write_nodes(&db, &made, version, batch_number)?;
            self.put_records(&db, &mut batch, &made, &root, batch_number)?;
            if alone {
                let mut new = *meta;
                new.range = Some((new.range.map_or(version, |(earliest, _)| earliest), version));
                batch.put(keys::META, &new.encode());
                db.kv().write(&batch, Durability::Synced)?;
                *meta = new;
            } else {
                db.kv().write(&batch, Durability::Buffered)?;
            }
        }
        self.base = Some(root);
        self.poisoned = false;
        drop(meta);
        if finalize && !alone {
            db.finalize(&[root])?;
        }
        Ok(root)
    }

    /// Whether this tree may be committed as `version`.
    fn check_version(&self, meta: &Meta, version: u64) -> Result<(), DbError> {
        if let Some(version) = meta.multipart {
            return Err(DbError::MultipartInProgress(version));
        }
        let latest = meta.range.map(|(_, latest)| latest);
        if let Some(latest) = latest
            && version <= latest
        {
            return Err(DbError::AlreadyFinalized { version, latest });
        }
        let Some(base) = &self.base else { return Ok(()) };
        if base.version == version {
            return if self.db.has_root(base)? { Ok(()) } else { Err(DbError::RootNotFound(*base)) };
        }
        if self.root_type == RootType::IO {
            return Err(DbError::NoChildRoots(self.root_type));
        }
        if base.version.checked_add(1) != Some(version) {
            return Err(DbError::MustFollow { base: base.version, version });
        }
        if latest != Some(base.version) {
            return Err(DbError::NotFinalized(base.version));
        }
        if self.db.has_root(base)? { Ok(()) } else { Err(DbError::RootNotFound(*base)) }
    }

    /// Writes the nodes. Of many, only the last slice is returned; the others are written under a mark that says that
    /// they may be incomplete.
    fn write_nodes(&self, db: &NodeDb, made: &Committed, version: u64, number: u16) -> Result<Batch, DbError> {
        let mut out = Sliced::new(db.kv());
        let mark = keys::batch(keys::OPEN, version, number);
        let marked = made.nodes.bytes() + made.nodes.len() * 15 > SLICE_BYTES / 2 || made.nodes.len() > SLICE_OPS / 2;
        if marked {
            db.kv().write(Batch::new().put(&mark, &[]), Durability::Buffered)?;
        }
        for (id, bytes) in made.nodes.iter() {
            out.op(Op::Put(&keys::node(&id), bytes))?;
        }
        let mut batch = out.into_batch();
        if marked {
            batch.delete(&mark);
        }
        Ok(batch)
    }

    /// Adds the root's records.
    fn put_records(
        &self,
        db: &NodeDb,
        batch: &mut Batch,
        made: &Committed,
        root: &Root,
        number: u16,
    ) -> Result<(), DbError> {
        let same_version = self.base.as_ref().filter(|b| b.version == root.version);
        let mut batches = match same_version {
            Some(base) => db.record(base)?.map(|r| r.batches).unwrap_or_default(),
            None => Vec::new(),
        };
        if !made.nodes.is_empty() || !made.removed.is_empty() {
            batches.push(number);
            batch.put(&keys::batch(keys::BATCH, root.version, number), &record::encode_ids(&made.removed));
        }
        let id = made.root.id.is_stored().then_some(made.root.id);
        let base = self.base.as_ref().map(|b| (b.version, b.hash));
        batch.put(&keys::root_record(root), &RootRecord { id, batches, base }.encode());
        if let Some(log) = &made.log
            && !db.0.config.discard_write_logs
        {
            let key = keys::root(keys::LOG, root.version, root.root_type, &root.hash);
            batch.put(&key, &writelogs::encode(log));
        }
        Ok(())
    }
}

impl NodeDb {
    /// A batch number that nothing of the version uses yet.
    pub(crate) fn next_batch(&self, version: u64) -> Result<u16, DbError> {
        let mut last = None;
        for kind in [keys::BATCH, keys::OPEN, keys::NODE] {
            let from = keys::version(kind, version);
            let to = mkvs_tree::prefix_end(&from);
            self.kv().scan(&from, to.as_deref(), Order::Reverse, &mut |key, _| {
                last = last.max(keys::batch_of(key));
                ControlFlow::Break(())
            })?;
        }
        match last {
            None => Ok(0),
            Some(last) => last.checked_add(1).filter(|n| *n < u16::MAX).ok_or(DbError::TooManyBatches(version)),
        }
    }
}

impl KvRead for DbTree {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TreeError> {
        self.tree.get(key)
    }

    fn iterate(&self, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>) -> Result<(), TreeError> {
        self.tree.iterate(from, visit)
    }
}

impl KvWrite for DbTree {
    fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<(), TreeError> {
        self.tree.insert(key, value)
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), TreeError> {
        self.tree.remove(key)
    }
}
