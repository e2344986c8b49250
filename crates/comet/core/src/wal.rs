//! Finding what to take in again from the write-ahead log after a restart.
//!
//! Reference: `cometbft:consensus/replay.go` (`catchupReplay`), `consensus/wal.go` (`SearchForEndHeight`),
//! `consensus/state.go` (`repairWalFile`).

use wire_cometbft::wal::{TimedWalMessage, WAL_HEADER_BYTES, WalError, WalMessageSum, WalReader};

/// Why there is nothing to take in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TailError {
    /// The height has ended already; the node starts without replay.
    #[error("log should not contain the end of height {0}")]
    AlreadyEnded(i64),
    /// The end of the height before is not there; the node starts without replay.
    #[error("log does not contain the end of height {0}")]
    NotFound(i64),
    /// The height lies below the chain's first.
    #[error("height {height} is below initial height {initial}")]
    BelowInitial {
        /// The height.
        height: i64,
        /// The chain's first.
        initial: i64,
    },
    /// A record of this height is bad: keep what comes before it ([`intact_prefix`]) and try once more.
    #[error("segment {segment}: {source}")]
    Corrupt {
        /// Which segment, from the oldest.
        segment: usize,
        /// What is wrong.
        source: WalError,
    },
}

/// Records of a segment that are whole and good; bad ones whose length is known are passed over. It ends where a record is
/// cut off or its length cannot be true.
#[derive(Debug, Clone)]
pub struct Lenient<'a> {
    segment: &'a [u8],
    offset: usize,
}

impl<'a> Lenient<'a> {
    /// Reads a segment from its start.
    pub fn new(segment: &'a [u8]) -> Self {
        Self { segment, offset: 0 }
    }
}

impl Iterator for Lenient<'_> {
    /// Where the record ends, and the record.
    type Item = (usize, TimedWalMessage);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = self.segment.get(self.offset..)?;
            let mut reader = WalReader::new(rest);
            match reader.next()? {
                Ok(message) => {
                    self.offset += reader.offset();
                    return Some((self.offset, message));
                }
                Err(WalError::Truncated { .. } | WalError::TooLong { .. }) => return None,
                Err(_) => {
                    let length: [u8; 4] = rest.get(4..WAL_HEADER_BYTES)?.try_into().ok()?;
                    self.offset += WAL_HEADER_BYTES + u32::from_be_bytes(length) as usize;
                }
            }
        }
    }
}

/// Where the records after the end of a height begin: segment and offset. The last such mark counts.
fn end_of(segments: &[&[u8]], height: i64) -> Option<(usize, usize)> {
    for (at, segment) in segments.iter().enumerate().rev() {
        let records = Lenient::new(segment);
        let ends = records.filter_map(|(offset, message)| match message.msg?.sum? {
            WalMessageSum::EndHeight(end) => Some((offset, end.height)),
            _ => None,
        });
        let (mut found, mut last) = (None, None);
        for (offset, ended) in ends {
            last = Some(ended);
            if ended == height {
                found = Some((at, offset));
            }
        }
        if found.is_some() {
            return found;
        }
        // Older segments end older heights.
        if last.is_some_and(|last| last > 0 && last < height) {
            return None;
        }
    }
    None
}

/// The records to take in at `height`: all after the end of the height before (of height 0 at the initial height).
/// `segments` are the log's files from the oldest to the newest.
///
/// # Errors
/// If there is nothing to take in, or a record among them is bad.
pub fn tail(segments: &[&[u8]], height: i64, initial_height: i64) -> Result<Vec<TimedWalMessage>, TailError> {
    if end_of(segments, height).is_some() {
        return Err(TailError::AlreadyEnded(height));
    }
    if height < initial_height {
        return Err(TailError::BelowInitial { height, initial: initial_height });
    }
    let before = if height == initial_height { 0 } else { height.saturating_sub(1) };
    let (first, offset) = end_of(segments, before).ok_or(TailError::NotFound(before))?;
    let mut records = Vec::new();
    for (segment, bytes) in segments.iter().enumerate().skip(first) {
        let bytes = if segment == first { bytes.get(offset..).unwrap_or_default() } else { bytes };
        for record in WalReader::new(bytes) {
            records.push(record.map_err(|source| TailError::Corrupt { segment, source })?);
        }
    }
    Ok(records)
}

/// How many bytes of a segment, from its start, are whole and good records: what repair keeps.
pub fn intact_prefix(segment: &[u8]) -> usize {
    let mut reader = WalReader::new(segment);
    while let Some(Ok(_)) = reader.next() {}
    reader.offset()
}

#[cfg(test)]
mod tests;
