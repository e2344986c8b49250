//! A runtime's node database, round by round.

use base_prims::Hash;
use mkvs_db::{DbError, NodeDb};
use mkvs_tree::{LogEntry, Root, RootType, TreeError, writelog};
use wire_consensus::roothash::Header;

use crate::error::StorageError;

/// The I/O and state roots of a block.
pub fn roots_of(header: &Header) -> [Root; 2] {
    let root = |root_type, hash| Root { namespace: header.namespace, version: header.round, root_type, hash };
    [root(RootType::IO, header.io_root), root(RootType::STATE, header.state_root)]
}

/// A change from one root to another.
#[derive(Clone, Copy, Debug)]
pub struct Apply<'a> {
    /// Where the log begins: for inputs and outputs the empty root of the same round.
    pub start: Root,
    /// Where it leads.
    pub end: Root,
    /// The log.
    pub log: &'a [LogEntry],
}

/// The last round whose roots are final here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synced {
    /// The round.
    pub round: u64,
    /// Its I/O root.
    pub io_root: Root,
    /// Its state root.
    pub state_root: Root,
}

impl Synced {
    /// As a block says.
    pub fn of(header: &Header) -> Self {
        let [io_root, state_root] = roots_of(header);
        Self { round: header.round, io_root, state_root }
    }
}

/// The storage. Cheap to clone; clones are the same storage.
#[derive(Clone, Debug)]
pub struct Storage {
    db: NodeDb,
}

impl Storage {
    /// Over a database.
    pub fn new(db: NodeDb) -> Self {
        Self { db }
    }

    /// The database.
    pub fn db(&self) -> &NodeDb {
        &self.db
    }

    /// Stores a root, unless it is there already. It survives a crash of the process at once, a power loss after
    /// [`Storage::sync`] or [`Storage::finalize`].
    ///
    /// # Errors
    /// [`StorageError::BadLog`] if the log leads elsewhere; nothing of it is kept then.
    pub fn apply(&self, apply: &Apply<'_>) -> Result<(), StorageError> {
        let Apply { start, end, log } = *apply;
        if let Some(latest) = self.db.latest_version().filter(|latest| *latest >= end.version) {
            let there = self.db.has_root(&end)?;
            return if there { Ok(()) } else { Err(StorageError::OtherRoots { version: latest, root: Box::new(end) }) };
        }
        // The empty root is there in every version without being stored.
        if !end.hash.is_empty_hash() && self.db.has_root(&end)? {
            return Ok(());
        }
        if !end.follows(&start) {
            return Err(DbError::MustFollow { base: start.version, version: end.version }.into());
        }
        let mut tree = if start.hash.is_empty_hash() && start.version == end.version {
            self.db.empty_tree(end.root_type)
        } else {
            self.db.tree(&start)?
        }
        .with_write_log();
        let blame = |source: TreeError| match source {
            TreeError::Load(_) | TreeError::Other(_) => StorageError::Db(source.into()),
            source => StorageError::BadLog { root: Box::new(end), source: Box::new(source) },
        };
        writelog::apply(log, &mut tree).map_err(blame)?;
        tree.commit_known(&end).map_err(|e| match e {
            DbError::Tree(source) => blame(source),
            e => e.into(),
        })
    }

    /// Stores the results of a round that this node computed, durably: I/O from the empty tree, state from the round
    /// before.
    ///
    /// # Errors
    /// As [`Storage::apply`].
    pub fn apply_round(&self, io: &Apply<'_>, state: &Apply<'_>) -> Result<(), StorageError> {
        self.apply(io)?;
        self.apply(state)?;
        self.sync()
    }

    /// Makes everything stored so far survive a power loss.
    ///
    /// # Errors
    /// If the database fails.
    pub fn sync(&self) -> Result<(), StorageError> {
        Ok(self.db.sync()?)
    }

    /// Makes a block's roots final, durably. That they are final already is no error.
    ///
    /// # Errors
    /// If a root is not there, or others are final.
    pub fn finalize(&self, header: &Header) -> Result<(), StorageError> {
        let roots = roots_of(header);
        match self.db.finalize(&roots) {
            Err(DbError::AlreadyFinalized { version, .. }) => {
                for root in roots {
                    if !self.db.has_root(&root)? {
                        return Err(StorageError::OtherRoots { version, root: Box::new(root) });
                    }
                }
                Ok(())
            }
            result => Ok(result?),
        }
    }

    /// What changed between two roots.
    ///
    /// # Errors
    /// If it is not known here.
    pub fn diff(&self, start: &Root, end: &Root) -> Result<Vec<LogEntry>, StorageError> {
        Ok(self.db.write_log(start, end)?)
    }

    /// Where inputs and outputs of a round begin: the empty tree.
    pub fn empty_io(&self, round: u64) -> Root {
        self.db.root(RootType::IO, round, Hash::EMPTY)
    }

    /// Drops versions before `round`, which is that of the earliest block of the history; `may` is asked before each part
    /// and stops with a no. Returns how many versions were dropped.
    ///
    /// # Errors
    /// If the database fails.
    pub fn prune_before(&self, round: u64, may: &mut dyn FnMut() -> bool) -> Result<u64, StorageError> {
        let mut dropped = 0;
        while may() {
            let some = self.db.prune_some(round, &mut |_| true)?;
            if some == 0 {
                break;
            }
            dropped += some;
        }
        Ok(dropped)
    }
}
