//! The write-ahead log on disk: a head that is appended to, and older segments.
//!
//! Reference: `cometbft:consensus/{wal,replay,state}.go`, `libs/autofile/group.go`. Folder and files are the reference's:
//! `wal` is the head, `wal.000`, `wal.001`, … are older; a log of either program can be continued by the other.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use comet_core::wal::{Lenient, TailError, intact_prefix, tail};
use wire_cometbft::Time;
use wire_cometbft::wal::{EndHeight, MAX_WAL_DATA_BYTES, TimedWalMessage, WalMessage, WalMessageSum, encode_record};

use crate::blocks::segment::sync_dir;
use crate::error::{StoreError, corrupt, io};

#[cfg(test)]
mod tests;

/// Name of the head.
const HEAD: &str = "wal";
/// A head of this size or more becomes an older segment.
pub const HEAD_BYTES: u64 = 10 << 20;
/// With this size or more, the oldest segments are removed.
pub const TOTAL_BYTES: u64 = 1 << 30;
/// Records that wait in memory, in bytes, before they are written (not synced).
pub const BUFFER_BYTES: usize = 40 << 10;

/// The log. Only one may be open for a folder.
#[derive(Debug)]
pub struct Wal {
    dir: PathBuf,
    head: File,
    head_len: u64,
    /// Number of the head once it becomes an older segment.
    next: u32,
    buffer: Vec<u8>,
    head_limit: u64,
    total_limit: u64,
    /// A write failed: what the head ends with is not known any more.
    broken: bool,
}

/// The last end of a height in a segment, and whether `height` ended in it.
fn ends(segment: &[u8], height: i64) -> (Option<i64>, bool) {
    let (mut last, mut found) = (None, false);
    for (_, record) in Lenient::new(segment) {
        if let Some(WalMessageSum::EndHeight(end)) = record.msg.and_then(|msg| msg.sum) {
            last = Some(end.height);
            found |= end.height == height;
        }
    }
    (last, found)
}

fn open_head(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    options.open(path).map_err(io("open", path))
}

fn now() -> Time {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    i128::try_from(nanos).ok().and_then(|nanos| Time::from_unix_nanos(nanos).ok()).unwrap_or(Time::UNIX_EPOCH)
}

impl Wal {
    /// Opens the log in a folder (`cs.wal`), which is made if it is not there. A torn end of the head is cut off, with a
    /// copy of the head kept as `wal.CORRUPTED`; an empty head gets the end of height 0, durable.
    ///
    /// # Errors
    /// If files cannot be read or written.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::open_with(dir, HEAD_BYTES, TOTAL_BYTES)
    }

    /// As [`Self::open`], with other limits for the head and for everything, in bytes.
    ///
    /// # Errors
    /// If files cannot be read or written.
    pub fn open_with(dir: &Path, head_limit: u64, total_limit: u64) -> Result<Self, StoreError> {
        fs::create_dir_all(dir).map_err(io("create folder", dir))?;
        let path = dir.join(HEAD);
        let head = open_head(&path)?;
        let next = segments(dir)?.last().map_or(0, |last| last.saturating_add(1));
        let mut wal = Self {
            dir: dir.to_owned(),
            head,
            head_len: 0,
            next,
            buffer: Vec::new(),
            head_limit,
            total_limit,
            broken: false,
        };
        let bytes = wal.read(None)?;
        wal.head_len = bytes.len() as u64;
        let good = Lenient::new(&bytes).last().map_or(0, |(end, _)| end);
        if good < bytes.len() {
            tracing::warn!(path = %path.display(), kept = good, lost = bytes.len() - good, "log has a damaged end");
            wal.cut(None, good)?;
        }
        if wal.head_len == 0 {
            wal.end_height(0)?;
        }
        sync_dir(dir)?;
        Ok(wal)
    }

    fn path(&self, segment: Option<u32>) -> PathBuf {
        match segment {
            None => self.dir.join(HEAD),
            Some(number) => self.dir.join(format!("{HEAD}.{number:03}")),
        }
    }

    fn read(&self, segment: Option<u32>) -> Result<Vec<u8>, StoreError> {
        let path = self.path(segment);
        fs::read(&path).map_err(io("read", &path))
    }

    /// Keeps a copy of a file, then cuts it.
    fn cut(&mut self, segment: Option<u32>, keep: usize) -> Result<(), StoreError> {
        let path = self.path(segment);
        let copy = PathBuf::from(format!("{}.CORRUPTED", path.display()));
        fs::copy(&path, &copy).map_err(io("copy", &path))?;
        let file = OpenOptions::new().write(true).open(&path).map_err(io("open", &path))?;
        file.set_len(keep as u64).and_then(|()| file.sync_all()).map_err(io("cut", &path))?;
        if segment.is_none() {
            self.head_len = keep as u64;
        }
        Ok(())
    }

    /// Appends a record; it may be lost until [`Self::sync`].
    ///
    /// # Errors
    /// If the record is too long, or the disk fails (now or before): the node must stop.
    pub fn append(&mut self, record: &TimedWalMessage) -> Result<(), StoreError> {
        debug_assert!(record.msg.is_some(), "an empty record can't be read again");
        let record = encode_record(record).ok_or(StoreError::RecordTooLong)?;
        if self.head_len.saturating_add(self.buffer.len() as u64) >= self.head_limit {
            self.rotate()?;
        }
        self.buffer.extend_from_slice(&record);
        if self.buffer.len() >= BUFFER_BYTES { self.write() } else { Ok(()) }
    }

    /// Writes what waits in memory.
    fn write(&mut self) -> Result<(), StoreError> {
        if self.broken {
            return Err(corrupt("log", "a write failed before; reopen the log"));
        }
        let path = self.path(None);
        self.broken = true;
        self.head.write_all(&self.buffer).map_err(io("write", &path))?;
        self.broken = false;
        self.head_len = self.head_len.saturating_add(self.buffer.len() as u64);
        self.buffer.clear();
        Ok(())
    }

    /// Makes everything appended survive a power loss.
    ///
    /// # Errors
    /// If the disk fails: the node must stop.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        self.write()?;
        let path = self.path(None);
        self.broken = true;
        self.head.sync_data().map_err(io("sync", &path))?;
        self.broken = false;
        Ok(())
    }

    /// Makes the head an older segment, and removes the oldest ones if there are too many.
    fn rotate(&mut self) -> Result<(), StoreError> {
        self.sync()?;
        let (head, older) = (self.path(None), self.path(Some(self.next)));
        self.broken = true;
        fs::rename(&head, &older).map_err(io("rename", &head))?;
        self.head = open_head(&head)?;
        sync_dir(&self.dir)?;
        self.broken = false;
        self.head_len = 0;
        self.next = self.next.saturating_add(1);
        self.remove_oldest()
    }

    fn remove_oldest(&self) -> Result<(), StoreError> {
        let mut older = Vec::new();
        for number in segments(&self.dir)? {
            let path = self.path(Some(number));
            let len = fs::metadata(&path).map_err(io("read", &path))?.len();
            older.push((path, len));
        }
        let mut total = older.iter().fold(self.head_len, |sum, (_, len)| sum.saturating_add(*len));
        for (path, len) in older {
            if total < self.total_limit {
                break;
            }
            fs::remove_file(&path).map_err(io("remove", &path))?;
            total = total.saturating_sub(len);
        }
        Ok(())
    }

    /// Appends the end of a height, durable on return.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn end_height(&mut self, height: i64) -> Result<(), StoreError> {
        let end = WalMessage::from(WalMessageSum::EndHeight(EndHeight { height }));
        self.append(&TimedWalMessage { time: now(), msg: Some(end) })?;
        self.sync()
    }

    /// The files that [`tail`] must see, from the oldest to the newest (`None`: the head), with their numbers: from the
    /// one in which the height before ended. Others are read one at a time, never all at once.
    fn relevant(&mut self, height: i64, before: i64) -> Result<Vec<(Option<u32>, Vec<u8>)>, StoreError> {
        self.write()?;
        let mut files: Vec<Option<u32>> = segments(&self.dir)?.into_iter().map(Some).collect();
        files.push(None);
        let mut start = None;
        for (at, file) in files.iter().enumerate().rev() {
            let bytes = self.read(*file)?;
            let (last, found) = ends(&bytes, before);
            if found || ends(&bytes, height).1 {
                start = Some(at);
                break;
            }
            // Older segments end older heights.
            if last.is_some_and(|last| last > 0 && last < before) {
                break;
            }
        }
        let Some(start) = start else { return Ok(Vec::new()) };
        files.split_off(start).into_iter().map(|file| Ok((file, self.read(file)?))).collect()
    }

    /// The records to take in at `height`: all after the end of the height before.
    ///
    /// # Errors
    /// Outer: if files cannot be read. Inner: if there is nothing to take in, or a record among them is bad.
    pub fn tail(
        &mut self,
        height: i64,
        initial_height: i64,
    ) -> Result<Result<Vec<TimedWalMessage>, TailError>, StoreError> {
        let files = self.relevant(height, before(height, initial_height))?;
        let bytes: Vec<&[u8]> = files.iter().map(|(_, bytes)| bytes.as_slice()).collect();
        Ok(tail(&bytes, height, initial_height))
    }

    /// As [`Self::tail`], with everything done about what is wrong. A damaged segment is cut before the damage, with a copy
    /// kept beside it, and later ones are put aside; a missing end of the height before is written, so that from here
    /// on the height can be replayed; a height that has ended already gives no records.
    ///
    /// # Errors
    /// If files cannot be read or written, or the log is damaged still.
    pub fn recover(&mut self, height: i64, initial_height: i64) -> Result<Vec<TimedWalMessage>, StoreError> {
        let mut repaired = false;
        loop {
            let files = self.relevant(height, before(height, initial_height))?;
            let bytes: Vec<&[u8]> = files.iter().map(|(_, bytes)| bytes.as_slice()).collect();
            match tail(&bytes, height, initial_height) {
                Ok(records) => return Ok(records),
                Err(TailError::NotFound(before)) => {
                    tracing::warn!(height, "log does not reach back to the last height; starting without replay");
                    self.end_height(before)?;
                    return Ok(Vec::new());
                }
                Err(TailError::Corrupt { segment, source }) if !repaired => {
                    tracing::warn!(height, %source, "log is damaged; keeping what comes before");
                    repaired = true;
                    let (file, bytes) = files.get(segment).ok_or_else(|| corrupt("log", &source))?;
                    self.cut(*file, intact_prefix(bytes))?;
                    for (later, _) in files.iter().skip(segment + 1) {
                        self.cut(*later, 0)?;
                    }
                }
                Err(error @ TailError::Corrupt { .. }) => return Err(corrupt("log", error)),
                Err(error @ (TailError::AlreadyEnded(_) | TailError::BelowInitial { .. })) => {
                    tracing::warn!(height, %error, "starting without replay");
                    return Ok(Vec::new());
                }
            }
        }
    }
}

fn before(height: i64, initial_height: i64) -> i64 {
    if height == initial_height { 0 } else { height.saturating_sub(1) }
}

/// Numbers of the older segments, ascending.
fn segments(dir: &Path) -> Result<Vec<u32>, StoreError> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(io("list", dir))? {
        let name = entry.map_err(io("list", dir))?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix("wal."));
        let digits = digits.filter(|digits| digits.len() >= 3 && digits.bytes().all(|b| b.is_ascii_digit()));
        numbers.extend(digits.map(str::parse::<u32>).and_then(Result::ok));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

impl Drop for Wal {
    fn drop(&mut self) {
        if !self.broken
            && let Err(error) = self.sync()
        {
            tracing::error!(%error, "log could not be synced at the end");
        }
    }
}

const _: () = assert!(BUFFER_BYTES < MAX_WAL_DATA_BYTES);
