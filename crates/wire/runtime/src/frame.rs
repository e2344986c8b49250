//! Frames: a length of four bytes, big-endian, and one message in CBOR.
//!
//! The reference's host takes frames of up to 64 MiB, runtimes of up to 32 MiB, so nobody may send more than 32 MiB.
//! Reading is relaxed, as the host's is: unknown fields are skipped. Source: `go/common/cbor/codec.go`.

use base_codec::cbor;

use crate::Message;

/// Most bytes of a frame, without its length, that a host accepts.
pub const MAX_FRAME_BYTES: usize = 64 << 20;

/// Most bytes of a frame, without its length, that a runtime accepts.
pub const MAX_RUNTIME_FRAME_BYTES: usize = 32 << 20;

/// Most CBOR items of a frame; not a limit of the reference.
///
/// An item of one byte may become a list element of some hundred bytes (a node's runtime in a registry event is the
/// largest), so this bounds what a frame takes beside the bytes that it holds to a few hundred MiB. A round that writes
/// 300,000 keys is still below it.
pub const MAX_FRAME_ITEMS: usize = 1_000_000;

/// Bytes of the length before a frame.
pub const LENGTH_BYTES: usize = 4;

/// Why a frame cannot be read or written. The connection cannot be used further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than accepted.
    #[error("frame of {length} bytes, at most {limit} are accepted")]
    TooLarge {
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// More items than accepted.
    #[error("frame of more than {limit} items")]
    TooManyItems {
        /// The limit.
        limit: usize,
    },
    /// Not one message.
    #[error("malformed frame: {0}")]
    Malformed(#[from] cbor::Error),
}

/// The length that the four bytes before a frame announce.
///
/// # Errors
/// If it is over the limit.
pub fn frame_length(header: [u8; LENGTH_BYTES], limit: usize) -> Result<usize, FrameError> {
    let length = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
    if length > limit {
        return Err(FrameError::TooLarge { length, limit });
    }
    Ok(length)
}

/// Reads the message of a frame, given without its length.
///
/// # Errors
/// If the bytes are not exactly one message, or hold too many items. A message of an unknown kind is
/// [`Body::Unknown`](crate::Body::Unknown), not an error.
pub fn decode(frame: &[u8]) -> Result<Message, FrameError> {
    let end = cbor::well_formed(frame, 0)?;
    if end != frame.len() {
        return Err(cbor::Error::TrailingBytes { offset: end, count: frame.len() - end }.into());
    }
    if count_items(frame, MAX_FRAME_ITEMS) > MAX_FRAME_ITEMS {
        return Err(FrameError::TooManyItems { limit: MAX_FRAME_ITEMS });
    }
    Ok(cbor::from_slice_relaxed(frame)?)
}

/// Writes a message with its length.
///
/// # Errors
/// If it is over the limit: [`MAX_RUNTIME_FRAME_BYTES`] to a runtime.
pub fn encode(message: &Message, limit: usize) -> Result<Vec<u8>, FrameError> {
    let mut e = cbor::Encoder::with_capacity(256);
    e.raw(&[0; LENGTH_BYTES]);
    cbor::Encode::encode(message, &mut e);
    let mut out = e.into_vec();
    let length = out.len() - LENGTH_BYTES;
    let too_large = FrameError::TooLarge { length, limit };
    let announced = u32::try_from(length).map_err(|_| too_large.clone())?;
    if length > limit {
        return Err(too_large);
    }
    out[..LENGTH_BYTES].copy_from_slice(&announced.to_be_bytes());
    Ok(out)
}

/// Counts the items of well-formed CBOR, up to just over `limit`.
fn count_items(data: &[u8], limit: usize) -> usize {
    let (mut pos, mut count) = (0usize, 0usize);
    while let Some(first) = data.get(pos) {
        count += 1;
        if count > limit {
            break;
        }
        let (major, info) = (first >> 5, first & 0x1f);
        let size = match info {
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            _ => 0,
        };
        let start = pos.saturating_add(1);
        let argument = data.get(start..start + size).unwrap_or_default();
        pos = start + size;
        // Byte and text strings are one item with their content.
        if matches!(major, 2 | 3) {
            let length =
                if size == 0 { u64::from(info) } else { argument.iter().fold(0u64, |n, b| (n << 8) | u64::from(*b)) };
            pos = usize::try_from(length).ok().and_then(|length| pos.checked_add(length)).unwrap_or(usize::MAX);
        }
    }
    count
}

/// Cuts a stream of bytes into frames.
///
/// It holds at most one frame and what was pushed last.
#[derive(Clone, Debug)]
pub struct FrameReader {
    limit: usize,
    buffer: Vec<u8>,
    /// Where the first byte not handed out lies.
    start: usize,
}

impl FrameReader {
    /// A reader of frames of up to `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, buffer: Vec::new(), start: 0 }
    }

    /// Takes bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame without its length, or `None` until more bytes are pushed. Call it until then after each push.
    ///
    /// # Errors
    /// If a frame is over the limit; every later call says the same.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let rest = &self.buffer[self.start..];
        let Some((header, rest)) = rest.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = frame_length(*header, self.limit)?;
        if rest.len() < length {
            return Ok(None);
        }
        let from = self.start + LENGTH_BYTES;
        self.start = from + length;
        Ok(Some(&self.buffer[from..from + length]))
    }

    /// Bytes that belong to a frame which is not complete.
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.start
    }
}
