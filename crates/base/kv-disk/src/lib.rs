//! The key-value store on disk.
//!
//! Layer L3, a leaf: the engine (LMDB through `heed`) is used nowhere else, and its types leave this crate nowhere. Why
//! this engine is told in `docs/decisions/0011-disk-engine.md`. Reference counterpart: BadgerDB under
//! `go/storage/mkvs/db` and `go/consensus/cometbft/db`.
//!
//! What it does not do: it knows nothing of what is stored.
//!
//! Main type: [`Disk`], a [`base_kv::KvStore`] in one folder with the files `data.mdb` and `lock.mdb`.
//!
//! Invariants: a batch is one transaction; the file never holds a half-written one, because pages in use are never
//! overwritten and a commit ends with one page that names the new root.
//!
//! Tested with the conformance suite of `base_kv`, with a process that is killed while it writes, and with damaged files.

// JUSTIFICATION: the file is mapped into memory, and the system cannot promise that nobody else changes it meanwhile.
#![allow(unsafe_code)]

use std::ops::{Bound, ControlFlow};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, TryLockError};

use base_kv::{Batch, Durability, KvError, KvStats, KvStore, Op, Order};
use heed::types::Bytes;
use heed::{CompactionOption, Database, Env, EnvFlags, EnvOpenOptions, MdbError, PutFlags, WithoutTls};

/// Longest key, as every store has it.
const MAX_KEY: usize = 500;

/// Name of the file.
const DATA: &str = "data.mdb";

/// Threads that can read at once.
const MAX_READERS: u32 = 1024;

/// How a store is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Most bytes the file may grow to. Only address space is taken for it.
    pub max_bytes: u64,
    /// Whether writing is refused.
    pub read_only: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_bytes: 1 << 40, read_only: false }
    }
}

/// A store in a folder.
pub struct Disk {
    /// Empty only if reopening after a compaction failed.
    open: RwLock<Option<Opened>>,
    path: PathBuf,
    options: Options,
}

struct Opened {
    env: Env<WithoutTls>,
    db: Database<Bytes, Bytes>,
    max_bytes: u64,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk").field("path", &self.path).finish_non_exhaustive()
    }
}

/// An error of the engine and the folder that it is about.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", folder.display())]
struct InFolder {
    folder: PathBuf,
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// Names the folder that an error is about.
fn in_folder(folder: &Path, error: KvError) -> KvError {
    match error {
        KvError::Engine { action, source } => {
            KvError::Engine { action, source: Box::new(InFolder { folder: folder.to_owned(), source }) }
        }
        other => other,
    }
}

/// Makes the file as long as its newest root says. Pages at its end may never have been written; that others are missing
/// shows when they are read, as zeros, which no page is, where a file that ends before them would end the process.
fn fill_up(env: &Env<WithoutTls>, path: &Path) -> Result<(), heed::Error> {
    let pages = (env.info().last_page_number as u64).saturating_add(1);
    let wanted = pages.saturating_mul(u64::from(env.stat().page_size));
    let file = path.join(DATA);
    if std::fs::metadata(&file)?.len() < wanted {
        std::fs::OpenOptions::new().write(true).open(&file)?.set_len(wanted)?;
    }
    Ok(())
}

fn engine(action: &'static str) -> impl FnOnce(heed::Error) -> KvError {
    move |source| KvError::Engine { action, source: Box::new(source) }
}

fn io(action: &'static str) -> impl FnOnce(std::io::Error) -> KvError {
    move |source| KvError::Engine { action, source: Box::new(source) }
}

impl Opened {
    fn new(path: &Path, options: Options) -> Result<Self, KvError> {
        // Address space may be limited: take what there is.
        let mut max_bytes = options.max_bytes.max(1 << 20) & !0xffff;
        loop {
            match Self::try_new(path, options, max_bytes) {
                Err(heed::Error::Io(e)) if e.kind() == std::io::ErrorKind::OutOfMemory && max_bytes > 1 << 30 => {
                    max_bytes /= 2;
                }
                other => return other.map_err(engine("open")),
            }
        }
    }

    fn try_new(path: &Path, options: Options, max_bytes: u64) -> Result<Self, heed::Error> {
        let mut open = EnvOpenOptions::new().read_txn_without_tls();
        open.map_size(usize::try_from(max_bytes).unwrap_or(usize::MAX)).max_readers(MAX_READERS);
        // A commit writes the pages, syncs them, then writes the page that names the new root, without syncing that:
        // a power loss can undo the last commits but not damage earlier ones. A synced write syncs that page too.
        let mut flags = EnvFlags::NO_META_SYNC | EnvFlags::NO_READ_AHEAD;
        if options.read_only {
            flags |= EnvFlags::READ_ONLY;
        }
        // SAFETY: these flags give up durability, not integrity; no flag that allows torn files is set.
        unsafe { open.flags(flags) };
        // SAFETY: the folder belongs to this program; the engine's lock file keeps other instances from writing, and
        // nothing here ever writes to the file but through the engine.
        let env = unsafe { open.open(path)? };
        fill_up(&env, path)?;
        let db = if options.read_only {
            let txn = env.read_txn()?;
            env.open_database(&txn, None)?.ok_or(heed::Error::Mdb(MdbError::NotFound))?
        } else {
            let mut txn = env.write_txn()?;
            let db = env.create_database(&mut txn, None)?;
            txn.commit()?;
            db
        };
        Ok(Self { env, db, max_bytes })
    }
}

impl Disk {
    /// Opens the store in a folder, which is made if it is not there.
    ///
    /// # Errors
    /// If the folder cannot be made, the file is damaged or not of this engine, or another process has it open.
    pub fn open(path: &Path, options: Options) -> Result<Self, KvError> {
        if !options.read_only {
            std::fs::create_dir_all(path).map_err(io("create folder"))?;
        }
        let opened = Opened::new(path, options).map_err(|error| in_folder(path, error))?;
        Ok(Self { open: RwLock::new(Some(opened)), path: path.to_owned(), options })
    }

    fn with<R>(&self, f: impl FnOnce(&Opened) -> Result<R, KvError>) -> Result<R, KvError> {
        let guard: RwLockReadGuard<'_, _> = self.open.read().unwrap_or_else(PoisonError::into_inner);
        f(guard.as_ref().ok_or(KvError::Busy)?).map_err(|error| in_folder(&self.path, error))
    }
}

impl KvStore for Disk {
    fn get_with(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool, KvError> {
        if key.is_empty() || key.len() > MAX_KEY {
            return Ok(false);
        }
        self.with(|o| {
            let txn = o.env.read_txn().map_err(engine("begin reading"))?;
            let value = o.db.get(&txn, key).map_err(engine("read"))?;
            Ok(value.map(visit).is_some())
        })
    }

    fn scan(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        order: Order,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), KvError> {
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        // An empty bound is one before every key, which the engine does not take for a key.
        let from = if from.is_empty() { Bound::Unbounded } else { Bound::Included(from) };
        let range = (from, to.map_or(Bound::Unbounded, Bound::Excluded));
        self.with(|o| {
            let txn = o.env.read_txn().map_err(engine("begin reading"))?;
            match order {
                Order::Forward => {
                    for pair in o.db.range(&txn, &range).map_err(engine("scan"))? {
                        let (key, value) = pair.map_err(engine("scan"))?;
                        if visit(key, value).is_break() {
                            break;
                        }
                    }
                }
                Order::Reverse => {
                    for pair in o.db.rev_range(&txn, &range).map_err(engine("scan"))? {
                        let (key, value) = pair.map_err(engine("scan"))?;
                        if visit(key, value).is_break() {
                            break;
                        }
                    }
                }
            }
            Ok(())
        })
    }

    fn write(&self, batch: &Batch, durability: Durability) -> Result<(), KvError> {
        if self.options.read_only {
            return Err(KvError::ReadOnly);
        }
        for op in batch.iter() {
            let (Op::Put(key, _) | Op::Delete(key)) = op;
            if key.is_empty() || key.len() > MAX_KEY {
                return Err(KvError::Key { len: key.len() });
            }
        }
        self.with(|o| {
            let full = |action| {
                move |e| match e {
                    heed::Error::Mdb(MdbError::MapFull) => KvError::Full { limit: o.max_bytes },
                    e => engine(action)(e),
                }
            };
            let mut txn = o.env.write_txn().map_err(engine("begin writing"))?;
            for op in batch.iter() {
                match op {
                    Op::Put(key, value) => {
                        o.db.put_with_flags(&mut txn, PutFlags::empty(), key, value).map_err(full("write"))?;
                    }
                    Op::Delete(key) => {
                        o.db.delete(&mut txn, key).map_err(full("delete"))?;
                    }
                }
            }
            txn.commit().map_err(full("commit"))?;
            if durability == Durability::Synced {
                o.env.force_sync().map_err(engine("sync"))?;
            }
            Ok(())
        })
    }

    fn sync(&self) -> Result<(), KvError> {
        self.with(|o| o.env.force_sync().map_err(engine("sync")))
    }

    /// Copies what is in use to a new file and puts it in the old one's place. Needs free space for both, and fails as
    /// busy while somebody reads.
    fn compact(&self) -> Result<(), KvError> {
        if self.options.read_only {
            return Err(KvError::ReadOnly);
        }
        let mut guard = match self.open.try_write() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(e)) => e.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(KvError::Busy),
        };
        let part = self.path.join("data.mdb.part");
        if let Some(opened) = guard.as_ref() {
            let copy = opened.env.copy_to_path(&part, CompactionOption::Enabled).map_err(engine("compact"))?;
            copy.sync_all().map_err(io("sync the compacted file"))?;
        }
        if let Some(opened) = guard.take() {
            opened.env.prepare_for_closing().wait();
        }
        let renamed = std::fs::rename(&part, self.path.join(DATA)).map_err(io("replace by the compacted file"));
        *guard = Some(Opened::new(&self.path, self.options)?);
        renamed?;
        std::fs::File::open(&self.path).and_then(|f| f.sync_all()).map_err(io("sync the folder"))
    }

    fn stats(&self) -> Result<KvStats, KvError> {
        self.with(|o| {
            // All pairs lie in the unnamed database. The engine's own sum over databases would read every key and take
            // it for a database's name.
            let txn = o.env.read_txn().map_err(engine("measure"))?;
            let stat = o.db.stat(&txn).map_err(engine("measure"))?;
            let pages = stat.branch_pages + stat.leaf_pages + stat.overflow_pages;
            Ok(KvStats {
                used_bytes: (pages as u64).saturating_mul(u64::from(stat.page_size)),
                disk_bytes: o.env.real_disk_size().map_err(engine("measure"))?,
            })
        })
    }
}

#[cfg(test)]
mod tests;
