//! Blocks on disk: encoded blocks in files, one after another, and an index in the key-value store.
//!
//! Reference: `cometbft:store/store.go`. The files' format is this program's own.
//!
//! # Correctness
//! A save writes the block's file first and syncs it, then the index, which is the authority: opening the store cuts off
//! whatever the index does not name. Where a file has lost blocks that the index names, the store ends before them.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use base_kv::{Batch, Durability as KvDurability, KvStore};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use wire_cometbft::block::{Block, BlockId, BlockMeta, Commit};
use wire_cometbft::codec::Message;
use wire_cometbft::limits::{BLOCK_PART_BYTES, MAX_BLOCK_BYTES};
use wire_cometbft::merkle::Hash;
use wire_cometbft::part_set::{Part, PartSet};
use wire_cometbft::state::BlockStoreState;

use crate::error::{StoreError, corrupt, io};
use crate::format;

mod cache;
mod index;
pub(crate) mod segment;
#[cfg(test)]
mod tests;

use cache::PartCache;
pub use cache::{CACHED_BLOCKS, CACHED_BYTES};
use index::{Entry, RANGE, entry_key, hash_key, seen_key};
pub use segment::SEGMENT_BYTES;
use segment::{RECORD_HEADER, Segments};

/// Commits seen are kept for so many of the newest heights; the commit for an older height is in the block after it.
pub const SEEN_COMMITS_KEPT: i64 = 1000;
/// Most blocks that wait to be made durable; one more makes all of them so.
pub const MAX_DEFERRED_BLOCKS: usize = 256;
/// Most bytes of blocks and commits that wait to be made durable.
pub const MAX_DEFERRED_BYTES: usize = 32 << 20;
/// Most heights that one call prunes, so that it never takes long.
pub const MAX_PRUNED_PER_CALL: i64 = 10_000;
/// Heights that one batch removes.
const PRUNE_BATCH: i64 = 1000;
/// Lost blocks that are told of one by one.
const TOLD: i64 = 3;
/// Without an index, at most so many block files are what a crash before the first index entry leaves.
const ORPHANS: usize = 4;

/// When a block survives a power loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// On return.
    Synced,
    /// After [`BlockStore::sync`], or a later synced save; until then a crash of the process loses it too.
    Deferred,
}

#[derive(Debug, Clone, Copy, Default)]
struct Range {
    base: i64,
    height: i64,
}

/// A block whose entry is not in the index yet.
#[derive(Debug)]
struct Deferred {
    entry: Entry,
    seen: Vec<u8>,
}

#[derive(Debug)]
struct Writer {
    /// The newest file with its first height.
    file: Option<(i64, Arc<File>)>,
    /// Where the next record goes.
    offset: u64,
    deferred_bytes: usize,
    /// Newest height in the index.
    indexed: i64,
    /// A write or sync of a file failed: what is in it is not known any more.
    broken: bool,
}

/// Blocks from `base` to `height`. Reads see what was saved, durable or not; all methods may be called at once.
pub struct BlockStore {
    kv: Arc<dyn KvStore>,
    segment_bytes: u64,
    segments: Segments,
    range: RwLock<Range>,
    deferred: RwLock<BTreeMap<i64, Deferred>>,
    writer: Mutex<Writer>,
    cache: PartCache,
    _lock: File,
}

impl std::fmt::Debug for BlockStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockStore").field("range", &self.range()).finish_non_exhaustive()
    }
}

impl BlockStore {
    /// Opens the store: block files in `dir`, which is made if it is not there, index in `kv`.
    ///
    /// # Errors
    /// If it is of another chain or a newer format, in use, or cannot be read.
    pub fn open(dir: &Path, kv: Arc<dyn KvStore>, chain_id: &str) -> Result<Self, StoreError> {
        Self::open_with(dir, kv, chain_id, SEGMENT_BYTES)
    }

    /// As [`Self::open`], with another limit for the length of block files, in bytes.
    ///
    /// # Errors
    /// If it is of another chain or a newer format, in use, or cannot be read.
    pub fn open_with(dir: &Path, kv: Arc<dyn KvStore>, chain_id: &str, segment_bytes: u64) -> Result<Self, StoreError> {
        format::check(&*kv, chain_id)?;
        let segments = Segments::open(dir)?;
        let lock = dir.join("lock");
        let lock_file = File::create(&lock).map_err(io("create", &lock))?;
        lock_file.try_lock().map_err(|error| io("lock", &lock)(error.into()))?;
        let stored = match kv.get(RANGE)? {
            Some(bytes) => BlockStoreState::decode(&bytes).map_err(|e| corrupt("block range", e))?,
            None => BlockStoreState::default(),
        };
        let writer = Writer { file: None, offset: 0, deferred_bytes: 0, indexed: stored.height, broken: false };
        let store = Self {
            kv,
            segment_bytes,
            segments,
            range: RwLock::new(Range { base: stored.base, height: stored.height }),
            deferred: RwLock::default(),
            writer: Mutex::new(writer),
            cache: PartCache::default(),
            _lock: lock_file,
        };
        store.recover()?;
        Ok(store)
    }

    /// Cuts files and index to what both have.
    fn recover(&self) -> Result<(), StoreError> {
        let Range { base, height: indexed } = self.range();
        let files = self.segments.firsts().len();
        if indexed == 0 {
            if files > ORPHANS {
                return Err(corrupt("block index", format!("it is empty, but there are {files} block files")));
            }
            return self.segments.remove(|_| true);
        }
        let mut height = indexed;
        let mut batch = Batch::new();
        let last = loop {
            if height < base {
                break None;
            }
            let Some(entry) = self.indexed(height)? else {
                height -= 1;
                continue;
            };
            match self.segments.read(entry.segment, entry.offset, entry.len, entry.crc) {
                Ok(_) => break Some(entry),
                Err(error) if indexed - height < TOLD => tracing::warn!(height, %error, "stored block is lost"),
                Err(_) => {}
            }
            batch.delete(&entry_key(height)).delete(&hash_key(&entry.meta.block_id.hash));
            height -= 1;
        };
        if height < indexed {
            let range = if last.is_some() { Range { base, height } } else { Range::default() };
            tracing::warn!(height = range.height, lost = indexed - height, "block store ends early after damage");
            put_range(&mut batch, range);
            self.kv.write(&batch, KvDurability::Synced)?;
            *self.range.write() = range;
        }
        let Some(last) = last else {
            self.writer.lock().indexed = 0;
            return self.segments.remove(|_| true);
        };
        self.segments.remove(|first| first > last.segment)?;
        self.segments.truncate(last.segment, last.end())?;
        self.segments.remove_below(base)?;
        let mut writer = self.writer.lock();
        writer.file = Some((last.segment, self.segments.file(last.segment)?));
        writer.offset = last.end();
        writer.indexed = height;
        Ok(())
    }

    fn range(&self) -> Range {
        *self.range.read()
    }

    /// Lowest height stored; 0: the store is empty.
    pub fn base(&self) -> i64 {
        self.range().base
    }

    /// Newest height stored; 0: the store is empty.
    pub fn height(&self) -> i64 {
        self.range().height
    }

    /// Newest height that survives a power loss.
    pub fn durable_height(&self) -> i64 {
        self.writer.lock().indexed
    }

    fn indexed(&self, height: i64) -> Result<Option<Entry>, StoreError> {
        self.kv.get(&entry_key(height))?.map(|bytes| Entry::decode(&bytes)).transpose()
    }

    fn entry(&self, height: i64) -> Result<Option<Entry>, StoreError> {
        let Range { base, height: newest } = self.range();
        if height <= 0 || height < base || height > newest {
            return Ok(None);
        }
        if let Some(deferred) = self.deferred.read().get(&height) {
            return Ok(Some(deferred.entry.clone()));
        }
        self.indexed(height)
    }

    /// Reads a range of a block's file; `None` if the block was pruned meanwhile.
    fn read(&self, height: i64, entry: &Entry, offset: u64, len: u32, crc: u32) -> Result<Option<Vec<u8>>, StoreError> {
        match self.segments.read(entry.segment, offset, len, crc) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(_) if height < self.base() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A block's bytes, as served to peers and as its parts cut them.
    ///
    /// # Errors
    /// If the store fails or is damaged.
    pub fn block_bytes(&self, height: i64) -> Result<Option<Bytes>, StoreError> {
        let Some(entry) = self.entry(height)? else { return Ok(None) };
        Ok(self.read(height, &entry, entry.offset, entry.len, entry.crc)?.map(Bytes::from))
    }

    /// A block.
    ///
    /// # Errors
    /// If the store fails or is damaged.
    pub fn block(&self, height: i64) -> Result<Option<Block>, StoreError> {
        let Some(bytes) = self.block_bytes(height)? else { return Ok(None) };
        let mut block = Block::decode_limited(&bytes, MAX_BLOCK_BYTES).map_err(|e| corrupt("block", e))?;
        block.normalize();
        Ok(Some(block))
    }

    /// Id, header, size and number of transactions of a block.
    ///
    /// # Errors
    /// If the store fails or is damaged.
    pub fn meta(&self, height: i64) -> Result<Option<BlockMeta>, StoreError> {
        Ok(self.entry(height)?.map(|entry| entry.meta))
    }

    /// A part of a block with its proof. The last few blocks asked for are held in memory.
    ///
    /// # Errors
    /// If the store fails or is damaged.
    pub fn part(&self, height: i64, index: u32) -> Result<Option<Part>, StoreError> {
        let parts = match self.cache.get(height) {
            Some(parts) => parts,
            None => {
                let Some(bytes) = self.block_bytes(height)? else { return Ok(None) };
                let parts = Arc::new(PartSet::from_bytes(&bytes, BLOCK_PART_BYTES));
                self.cache.put(height, Arc::clone(&parts));
                parts
            }
        };
        Ok(parts.part(index as usize).cloned())
    }

    /// The commit for a height as the block after it carries it; there even if the block itself is not (any more).
    ///
    /// # Errors
    /// If the store fails or is damaged.
    pub fn commit(&self, height: i64) -> Result<Option<Commit>, StoreError> {
        let Some(next) = height.checked_add(1) else { return Ok(None) };
        let Some(entry) = self.entry(next)? else { return Ok(None) };
        if entry.commit_len == 0 {
            let commit = self.block(next)?.and_then(|block| block.last_commit);
            return Ok(commit.filter(|commit| commit.height == height));
        }
        let offset = entry.end().saturating_sub(u64::from(entry.commit_len));
        let Some(bytes) = self.read(next, &entry, offset, entry.commit_len, entry.commit_crc)? else { return Ok(None) };
        let commit = Commit::decode(&bytes).map_err(|e| corrupt("commit", e))?;
        // The first block of a chain carries an empty one.
        Ok((commit.height == height).then_some(commit))
    }

    /// The commit that this node saw for a height; of the newest [`SEEN_COMMITS_KEPT`] heights only.
    ///
    /// # Errors
    /// If the store fails or is damaged.
    pub fn seen_commit(&self, height: i64) -> Result<Option<Commit>, StoreError> {
        if let Some(deferred) = self.deferred.read().get(&height) {
            return Ok(Some(Commit::decode(&deferred.seen).map_err(|e| corrupt("seen commit", e))?));
        }
        let stored = self.kv.get(&seen_key(height))?;
        stored.map(|bytes| Commit::decode(&bytes).map_err(|e| corrupt("seen commit", e))).transpose()
    }

    /// Height of the block with this hash.
    ///
    /// # Errors
    /// If the store fails or is damaged.
    pub fn height_of(&self, hash: &Hash) -> Result<Option<i64>, StoreError> {
        let deferred = self.deferred.read();
        if let Some((height, _)) = deferred.iter().find(|(_, block)| block.entry.meta.block_id.hash == hash) {
            return Ok(Some(*height));
        }
        drop(deferred);
        let Some(bytes) = self.kv.get(&hash_key(hash))? else { return Ok(None) };
        let height = bytes.as_slice().try_into().map_err(|_| corrupt("block hash index", "value is not a height"))?;
        Ok(Some(i64::from_be_bytes(height)))
    }

    /// Stores the next block with its parts and the commit seen for it. A block that is stored already is left as it is.
    ///
    /// # Errors
    /// If the block does not follow the newest, another one is stored at its height, its parts are not complete or
    /// not its own, or the disk fails. After the disk has failed nothing more is saved until the store is reopened.
    pub fn save(
        &self,
        block: &Block,
        parts: &PartSet,
        seen: &Commit,
        durability: Durability,
    ) -> Result<(), StoreError> {
        let height = block.header.height;
        let bad = |reason| StoreError::BadBlock { height, reason };
        let hash = block.hash().ok_or(bad("it has no hash"))?;
        let block_id = BlockId { hash: hash.to_vec(), part_set_header: parts.header().clone() };
        let mut writer = self.writer.lock();
        let range = self.range();
        if height <= range.height {
            let stored = self.meta(height)?.ok_or(StoreError::NotContiguous { height: range.height, got: height })?;
            if stored.block_id != block_id {
                return Err(StoreError::OtherBlock(height));
            }
        } else {
            if height <= 0 || range.height != 0 && range.height.checked_add(1) != Some(height) {
                return Err(StoreError::NotContiguous { height: range.height, got: height });
            }
            if seen.height != height || seen.block_id != block_id {
                return Err(bad("the commit is not its own"));
            }
            let bytes = parts.assemble().ok_or(bad("it is not complete"))?;
            if bytes.is_empty() || bytes.len() > MAX_BLOCK_BYTES {
                return Err(bad("its size is not that of a block"));
            }
            let deferred = self.append(&mut writer, block, block_id, &bytes, seen)?;
            let base = if range.height == 0 { height } else { range.base };
            self.deferred.write().insert(height, deferred);
            *self.range.write() = Range { base, height };
            if durability == Durability::Synced {
                self.cache.put(height, Arc::new(parts.clone()));
            }
        }
        let full = writer.deferred_bytes > MAX_DEFERRED_BYTES || self.deferred.read().len() > MAX_DEFERRED_BLOCKS;
        if durability == Durability::Synced || full {
            self.flush(&mut writer)?;
        }
        Ok(())
    }

    /// Writes a record to the newest file, or to a new one.
    fn append(
        &self,
        writer: &mut Writer,
        block: &Block,
        block_id: BlockId,
        bytes: &[u8],
        seen: &Commit,
    ) -> Result<Deferred, StoreError> {
        let height = block.header.height;
        let bad = |reason| StoreError::BadBlock { height, reason };
        if writer.broken {
            return Err(corrupt("block file", "a write failed before; reopen the store"));
        }
        let len = u32::try_from(bytes.len()).map_err(|_| bad("it is too long"))?;
        let crc = crc32fast::hash(bytes);
        let mut record = Vec::with_capacity(RECORD_HEADER + bytes.len());
        record.extend_from_slice(&height.to_be_bytes());
        record.extend_from_slice(&len.to_be_bytes());
        record.extend_from_slice(&crc.to_be_bytes());
        record.extend_from_slice(bytes);

        writer.broken = true;
        let fits = writer.offset == 0 || writer.offset.saturating_add(record.len() as u64) <= self.segment_bytes;
        let (segment, file) = match writer.file.take() {
            Some(file) if fits => file,
            full => {
                if let Some((first, file)) = full {
                    // Blocks that wait in the old file become durable with it.
                    self.segments.sync(first, &file)?;
                }
                writer.offset = 0;
                (height, self.segments.create(height)?)
            }
        };
        self.segments.write(segment, &file, &record, writer.offset)?;
        writer.file = Some((segment, file));
        writer.broken = false;

        let last_commit = block.last_commit.as_ref().map(Message::encode_to_vec).unwrap_or_default();
        let at_end = bytes.ends_with(&last_commit);
        let commit_len = if at_end { u32::try_from(last_commit.len()).unwrap_or_default() } else { 0 };
        let entry = Entry {
            segment,
            offset: writer.offset + RECORD_HEADER as u64,
            len,
            crc,
            commit_len,
            commit_crc: crc32fast::hash(&last_commit),
            meta: BlockMeta {
                block_id,
                block_size: i64::from(len),
                header: block.header.clone(),
                num_txs: i64::try_from(block.data.txs.len()).unwrap_or(i64::MAX),
            },
        };
        writer.offset = entry.end();
        let seen = seen.encode_to_vec();
        writer.deferred_bytes = writer.deferred_bytes.saturating_add(bytes.len()).saturating_add(seen.len());
        Ok(Deferred { entry, seen })
    }

    /// Makes every block saved so far survive a power loss.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.flush(&mut self.writer.lock())
    }

    /// Syncs the newest file, then writes the index.
    fn flush(&self, writer: &mut Writer) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        let range = self.range();
        {
            let deferred = self.deferred.read();
            if deferred.is_empty() {
                return Ok(());
            }
            if writer.broken {
                return Err(corrupt("block file", "a write failed before; reopen the store"));
            }
            let oldest_seen = range.height.saturating_sub(SEEN_COMMITS_KEPT);
            for (height, block) in deferred.iter() {
                batch.put(&entry_key(*height), &block.entry.encode());
                batch.put(&hash_key(&block.entry.meta.block_id.hash), &height.to_be_bytes());
                if *height > oldest_seen {
                    batch.put(&seen_key(*height), &block.seen);
                }
                // One leaves as one comes.
                batch.delete(&seen_key(height.saturating_sub(SEEN_COMMITS_KEPT)));
            }
            put_range(&mut batch, range);
        }
        if let Some((first, file)) = &writer.file {
            let synced = self.segments.sync(*first, file);
            writer.broken |= synced.is_err();
            synced?;
        }
        self.kv.write(&batch, KvDurability::Synced)?;
        self.deferred.write().clear();
        writer.deferred_bytes = 0;
        writer.indexed = range.height;
        Ok(())
    }

    /// Stores a commit seen without its block, as state sync needs it.
    ///
    /// # Errors
    /// If the store fails.
    pub fn save_seen_commit(&self, height: i64, commit: &Commit) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.put(&seen_key(height), &commit.encode_to_vec());
        Ok(self.kv.write(&batch, KvDurability::Synced)?)
    }

    /// Removes blocks below `retain`, at most [`MAX_PRUNED_PER_CALL`]; gives their number. Space is freed file by file.
    ///
    /// # Errors
    /// If `retain` is above the newest block, or the disk fails.
    pub fn prune(&self, retain: i64) -> Result<u64, StoreError> {
        let mut writer = self.writer.lock();
        let Range { base, height } = self.range();
        if retain > height {
            return Err(StoreError::PruneAbove { retain, height });
        }
        if retain <= base {
            return Ok(0);
        }
        self.flush(&mut writer)?;
        let target = retain.min(base.saturating_add(MAX_PRUNED_PER_CALL));
        let mut from = base;
        while from < target {
            let to = target.min(from.saturating_add(PRUNE_BATCH));
            let mut batch = Batch::new();
            for height in from..to {
                if let Some(entry) = self.indexed(height)? {
                    batch.delete(&hash_key(&entry.meta.block_id.hash));
                }
                batch.delete(&entry_key(height)).delete(&seen_key(height));
            }
            let range = Range { base: to, height };
            put_range(&mut batch, range);
            // Files go only after the index has forgotten them for good.
            let durability = if to == target { KvDurability::Synced } else { KvDurability::Buffered };
            self.kv.write(&batch, durability)?;
            *self.range.write() = range;
            from = to;
        }
        self.cache.drop_below(target);
        self.segments.remove_below(target)?;
        Ok(u64::try_from(target - base).unwrap_or_default())
    }

    /// Bytes of block files, without the index.
    pub fn disk_bytes(&self) -> u64 {
        self.segments.bytes()
    }
}

fn put_range(batch: &mut Batch, range: Range) {
    batch.put(RANGE, &BlockStoreState { base: range.base, height: range.height }.encode_to_vec());
}
