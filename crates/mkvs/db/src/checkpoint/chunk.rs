//! The bytes of a chunk.

use std::io::{Read, Write};

use base_codec::Bytes;
use base_prims::Hash;
use mkvs_tree::proof::{self, Verified};

/// Most bytes of a chunk, uncompressed. The network makes chunks of 8 MiB and a little more.
pub const MAX_CHUNK_BYTES: usize = 256 << 20;

/// The chunk that shows the entries of a version 0 proof, and its digest.
pub fn encode_chunk(entries: &[Option<Bytes>]) -> (Vec<u8>, Hash) {
    let mut raw = Vec::with_capacity(entries.iter().map(|e| 5 + e.as_ref().map_or(0, |e| e.len())).sum());
    for entry in entries {
        match entry {
            None => raw.push(0xf6),
            Some(entry) => {
                head(entry.len(), &mut raw);
                raw.extend_from_slice(entry);
            }
        }
    }
    let mut out = snap::write::FrameEncoder::new(Vec::with_capacity(raw.len() / 2));
    // Writing to a vector does not fail.
    let written = out.write_all(&raw).ok().and_then(|()| out.into_inner().ok());
    let bytes = written.expect("writing to memory does not fail");
    let digest = Hash::of(&[&bytes]);
    (bytes, digest)
}

/// Appends the head of a CBOR byte string.
fn head(len: usize, out: &mut Vec<u8>) {
    match len {
        0..24 => out.push(0x40 | len as u8),
        24..0x100 => out.extend_from_slice(&[0x58, len as u8]),
        0x100..0x1_0000 => {
            out.push(0x59);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        // An entry is a key of at most 8 KiB and a value whose length fits 32 bits.
        _ => {
            out.push(0x5a);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
}

/// Reads the length of a CBOR byte string, or `None` for a null.
fn read_head(rest: &mut &[u8]) -> Option<Option<usize>> {
    let (first, tail) = rest.split_first()?;
    let bytes = match first {
        0xf6 => {
            *rest = tail;
            return Some(None);
        }
        0x40..=0x57 => 0,
        0x58..=0x5b => 1 << (first - 0x58),
        _ => return None,
    };
    let (number, tail) = tail.split_at_checked(bytes)?;
    *rest = tail;
    if bytes == 0 {
        return Some(Some(usize::from(first & 0x1f)));
    }
    let number = number.iter().fold(0u64, |n, b| (n << 8) | u64::from(*b));
    Some(Some(usize::try_from(number).ok()?))
}

/// Splits uncompressed bytes into proof entries.
fn entries(mut rest: &[u8]) -> Option<Vec<Option<&[u8]>>> {
    let mut out = Vec::new();
    while !rest.is_empty() {
        out.push(match read_head(&mut rest)? {
            None => None,
            Some(len) => {
                let (entry, tail) = rest.split_at_checked(len)?;
                rest = tail;
                Some(entry)
            }
        });
    }
    Some(out)
}

/// Verifies a chunk, whose digest was checked before, against the root of its checkpoint.
///
/// # Errors
/// Says what is wrong with it; nothing of it is kept.
pub fn decode_chunk(compressed: &[u8], root: &Hash) -> Result<Verified, String> {
    let mut raw = Vec::new();
    snap::read::FrameDecoder::new(compressed)
        .take(MAX_CHUNK_BYTES as u64 + 1)
        .read_to_end(&mut raw)
        .map_err(|e| format!("failed to decompress: {e}"))?;
    if raw.len() > MAX_CHUNK_BYTES {
        return Err(format!("more than {MAX_CHUNK_BYTES} bytes uncompressed"));
    }
    let entries = entries(&raw).ok_or("failed to decode entries")?;
    proof::verify_entries(root, 0, &entries).map_err(|e| match std::error::Error::source(&e) {
        Some(source) => format!("{e}: {source}"),
        None => e.to_string(),
    })
}
