//! What the index holds of a block.
//!
//! Keys, in the key-value store: `br` the range; `bi` and a height (eight bytes big endian) an [`Entry`]; `bh` and a hash
//! the height of that block; `bc` and a height the commit seen.

use wire_cometbft::block::BlockMeta;
use wire_cometbft::codec::Message;

use crate::error::{StoreError, corrupt};

/// Key of the range (`BlockStoreState`).
pub(super) const RANGE: &[u8] = b"br";

/// Bytes of an entry before the block's meta.
const FIXED: usize = 32;

/// Where a block is, and what is known of it without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// First height of the segment.
    pub(super) segment: i64,
    /// Where the encoded block starts in the segment.
    pub(super) offset: u64,
    /// Bytes of the encoded block.
    pub(super) len: u32,
    /// CRC-32 of the encoded block.
    pub(super) crc: u32,
    /// Bytes of the last commit at the end of the encoded block; 0: it is elsewhere.
    pub(super) commit_len: u32,
    /// CRC-32 of those.
    pub(super) commit_crc: u32,
    /// Id, size, header, number of transactions.
    pub(super) meta: BlockMeta,
}

impl Entry {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED + 512);
        out.extend_from_slice(&self.segment.to_be_bytes());
        out.extend_from_slice(&self.offset.to_be_bytes());
        for field in [self.len, self.crc, self.commit_len, self.commit_crc] {
            out.extend_from_slice(&field.to_be_bytes());
        }
        self.meta.encode_fields(&mut out);
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let (fixed, meta) =
            bytes.split_first_chunk::<FIXED>().ok_or_else(|| corrupt("block index entry", "too short"))?;
        let word = |at: usize| u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
        let long = |at: usize| u64::from(word(at)) << 32 | u64::from(word(at + 4));
        Ok(Self {
            segment: long(0).cast_signed(),
            offset: long(8),
            len: word(16),
            crc: word(20),
            commit_len: word(24),
            commit_crc: word(28),
            meta: BlockMeta::decode(meta).map_err(|e| corrupt("block meta", e))?,
        })
    }

    /// Where the record ends in the segment.
    pub(super) fn end(&self) -> u64 {
        self.offset.saturating_add(u64::from(self.len))
    }
}

fn with_height(prefix: &[u8; 2], height: i64) -> [u8; 10] {
    let mut key = [0; 10];
    key[..2].copy_from_slice(prefix);
    key[2..].copy_from_slice(&height.to_be_bytes());
    key
}

/// Key of a block's entry.
pub(super) fn entry_key(height: i64) -> [u8; 10] {
    with_height(b"bi", height)
}

/// Key of a commit seen.
pub(super) fn seen_key(height: i64) -> [u8; 10] {
    with_height(b"bc", height)
}

/// Key of a block's height.
pub(super) fn hash_key(hash: &[u8]) -> Vec<u8> {
    [b"bh", hash].concat()
}
