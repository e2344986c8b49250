//! Frames: a 32-bit big-endian length and that many bytes.

use std::sync::Arc;

use futures_util::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::{MAX_FRAME, P2pError};

/// Memory is taken, and accounted for, in pieces of this many bytes as a frame arrives.
const PIECE: usize = 64 << 10;

/// Room for frames being read.
#[derive(Debug, Clone)]
pub struct Memory(Arc<Semaphore>);

impl Memory {
    /// Room for so many bytes, at least one piece of 64 KiB.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes / PIECE).clamp(1, Semaphore::MAX_PERMITS))))
    }
}

/// The room that a frame takes; give it back by dropping it.
#[derive(Debug, Default)]
pub struct Room(Option<OwnedSemaphorePermit>);

fn broken(error: std::io::Error) -> P2pError {
    P2pError::Stream(error.to_string())
}

/// Reads a frame of at most `max` bytes. What arrives decides how much memory is taken, not what is announced.
pub async fn read<R: AsyncRead + Unpin>(stream: &mut R, max: usize) -> Result<Vec<u8>, P2pError> {
    Ok(read_inner(stream, max, None).await?.0)
}

/// Reads a frame into shared room; fails if there is none.
pub async fn read_bounded<R: AsyncRead + Unpin>(
    stream: &mut R,
    max: usize,
    memory: &Memory,
) -> Result<(Vec<u8>, Room), P2pError> {
    read_inner(stream, max, Some(memory)).await
}

async fn read_inner<R: AsyncRead + Unpin>(
    stream: &mut R,
    max: usize,
    memory: Option<&Memory>,
) -> Result<(Vec<u8>, Room), P2pError> {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).await.map_err(broken)?;
    let len = u32::from_be_bytes(prefix) as usize;
    if len > max {
        return Err(P2pError::TooLong { len, max });
    }
    let mut out = Vec::new();
    let mut room = Room::default();
    while out.len() < len {
        let have = out.len();
        let piece = PIECE.min(len - have);
        if let Some(memory) = memory {
            let permit = memory.0.clone().try_acquire_owned().map_err(|_| P2pError::Busy)?;
            match &mut room.0 {
                Some(all) => all.merge(permit),
                None => room.0 = Some(permit),
            }
        }
        out.resize(have + piece, 0);
        stream.read_exact(&mut out[have..]).await.map_err(broken)?;
    }
    Ok((out, room))
}

/// Writes a frame and flushes.
pub async fn write<W: AsyncWrite + Unpin>(stream: &mut W, content: &[u8]) -> Result<(), P2pError> {
    let too_long = || P2pError::TooLong { len: content.len(), max: MAX_FRAME };
    if content.len() > MAX_FRAME {
        return Err(too_long());
    }
    let len = u32::try_from(content.len()).map_err(|_| too_long())?;
    stream.write_all(&len.to_be_bytes()).await.map_err(broken)?;
    stream.write_all(content).await.map_err(broken)?;
    stream.flush().await.map_err(broken)
}

/// Closes the stream's writing side.
pub async fn close<W: AsyncWrite + Unpin>(stream: &mut W) -> Result<(), P2pError> {
    stream.close().await.map_err(broken)
}
