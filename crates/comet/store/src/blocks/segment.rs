//! The files that hold encoded blocks one after another.
//!
//! A file is named after the height of its first block, in twenty decimal digits. A record is the height (eight bytes),
//! the length and the CRC-32 of the encoded block (four bytes each, all big endian), then the encoded block. The index
//! is the authority: what no entry names is not there.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::{StoreError, corrupt, io};

/// Bytes before the block in a record.
pub(super) const RECORD_HEADER: usize = 16;
/// A file gets no further block once that would make it longer than this, so that pruning frees space in such steps.
pub const SEGMENT_BYTES: u64 = 32 << 20;
/// Files that are kept open for reading.
const OPEN_FILES: usize = 16;
const SUFFIX: &str = ".blocks";

/// The files of a folder.
#[derive(Debug)]
pub(super) struct Segments {
    dir: PathBuf,
    /// First heights, ascending.
    firsts: Mutex<Vec<i64>>,
    open: Mutex<VecDeque<(i64, Arc<File>)>>,
}

/// Makes names in a folder survive a power loss.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("sync folder", dir))
}

impl Segments {
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(dir).map_err(io("create folder", dir))?;
        let mut firsts = Vec::new();
        for entry in fs::read_dir(dir).map_err(io("list", dir))? {
            let name = entry.map_err(io("list", dir))?.file_name();
            let first = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)).map(str::parse::<i64>);
            firsts.extend(first.and_then(Result::ok));
        }
        firsts.sort_unstable();
        Ok(Self { dir: dir.to_owned(), firsts: Mutex::new(firsts), open: Mutex::default() })
    }

    fn path(&self, first: i64) -> PathBuf {
        self.dir.join(format!("{first:020}{SUFFIX}"))
    }

    pub(super) fn firsts(&self) -> Vec<i64> {
        self.firsts.lock().clone()
    }

    /// Makes a new, empty file, or empties one that no entry names.
    pub(super) fn create(&self, first: i64) -> Result<Arc<File>, StoreError> {
        let path = self.path(first);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let file = Arc::new(options.open(&path).map_err(io("create", &path))?);
        sync_dir(&self.dir)?;
        let mut firsts = self.firsts.lock();
        if let Err(at) = firsts.binary_search(&first) {
            firsts.insert(at, first);
        }
        drop(firsts);
        self.remember(first, &file);
        Ok(file)
    }

    /// A file to read from and, for the newest, to write to.
    pub(super) fn file(&self, first: i64) -> Result<Arc<File>, StoreError> {
        if let Some((_, file)) = self.open.lock().iter().find(|(open, _)| *open == first) {
            return Ok(Arc::clone(file));
        }
        let path = self.path(first);
        let file = Arc::new(OpenOptions::new().read(true).write(true).open(&path).map_err(io("open", &path))?);
        self.remember(first, &file);
        Ok(file)
    }

    fn remember(&self, first: i64, file: &Arc<File>) {
        let mut open = self.open.lock();
        open.retain(|(other, _)| *other != first);
        open.push_back((first, Arc::clone(file)));
        if open.len() > OPEN_FILES {
            open.pop_front();
        }
    }

    /// Reads a range of a file and checks its CRC-32.
    pub(super) fn read(&self, first: i64, offset: u64, len: u32, crc: u32) -> Result<Vec<u8>, StoreError> {
        let file = self.file(first)?;
        let path = self.path(first);
        let size = file.metadata().map_err(io("read", &path))?.len();
        if size < offset.saturating_add(u64::from(len)) {
            return Err(corrupt("block", format!("file of {size} bytes ends before byte {offset} + {len}")));
        }
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, offset).map_err(io("read", &path))?;
        if crc32fast::hash(&bytes) != crc {
            return Err(corrupt("block", format!("wrong checksum at byte {offset} of {}", path.display())));
        }
        Ok(bytes)
    }

    pub(super) fn write(&self, first: i64, file: &File, record: &[u8], offset: u64) -> Result<(), StoreError> {
        file.write_all_at(record, offset).map_err(io("write", &self.path(first)))
    }

    pub(super) fn sync(&self, first: i64, file: &File) -> Result<(), StoreError> {
        file.sync_data().map_err(io("sync", &self.path(first)))
    }

    pub(super) fn truncate(&self, first: i64, len: u64) -> Result<(), StoreError> {
        let file = self.file(first)?;
        let path = self.path(first);
        if file.metadata().map_err(io("read", &path))?.len() > len {
            file.set_len(len).and_then(|()| file.sync_all()).map_err(io("truncate", &path))?;
        }
        Ok(())
    }

    pub(super) fn remove(&self, remove: impl Fn(i64) -> bool) -> Result<(), StoreError> {
        let gone: Vec<i64> = self.firsts().into_iter().filter(|first| remove(*first)).collect();
        if gone.is_empty() {
            return Ok(());
        }
        self.open.lock().retain(|(first, _)| !gone.contains(first));
        for first in &gone {
            let path = self.path(*first);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io("remove", &path)(error)),
                _ => self.firsts.lock().retain(|other| other != first),
            }
        }
        sync_dir(&self.dir)
    }

    /// Removes files that hold nothing from `base` on.
    pub(super) fn remove_below(&self, base: i64) -> Result<(), StoreError> {
        let firsts = self.firsts();
        let ends_below = |first: i64| firsts.iter().find(|next| **next > first).is_some_and(|next| *next <= base);
        self.remove(ends_below)
    }

    pub(super) fn bytes(&self) -> u64 {
        let size = |first: i64| fs::metadata(self.path(first)).map_or(0, |meta| meta.len());
        self.firsts().into_iter().map(size).sum()
    }
}
