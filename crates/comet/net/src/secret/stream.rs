//! Reading and writing the encrypted stream.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

use super::{FRAME_PAYLOAD, Opener, SEALED_SIZE, Sealer, SecretError};

/// Bytes read ahead from the socket.
pub const READ_AHEAD: usize = 32 << 10;

/// Why the stream ended.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The socket failed or was closed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A frame does not hold.
    #[error("{0}")]
    Frame(#[from] SecretError),
    /// A length in front of a message is no number of at most ten bytes.
    #[error("invalid message length")]
    Length,
    /// A message is longer than allowed.
    #[error("message of {len} bytes, at most {max} allowed")]
    TooLong {
        /// Length claimed.
        len: u64,
        /// Largest length allowed.
        max: usize,
    },
}

/// Reading half of an encrypted stream.
pub struct SecretReader<R> {
    io: BufReader<R>,
    opener: Opener,
    sealed: Box<[u8; SEALED_SIZE]>,
    /// Payload read but not consumed: `plain[at..]`.
    plain: Vec<u8>,
    at: usize,
}

impl<R: AsyncRead + Unpin> SecretReader<R> {
    /// Reader of a stream whose frames begin now.
    pub fn new(io: BufReader<R>, opener: Opener) -> Self {
        let plain = Vec::with_capacity(2 * FRAME_PAYLOAD);
        Self { io, opener, sealed: Box::new([0; SEALED_SIZE]), plain, at: 0 }
    }

    /// Payload at hand.
    pub fn buffered(&self) -> &[u8] {
        &self.plain[self.at..]
    }

    /// Takes bytes off the payload at hand.
    pub fn consume(&mut self, count: usize) {
        self.at = self.at.saturating_add(count).min(self.plain.len());
    }

    /// Reads one more frame and adds its payload to what is at hand; gives the payload's length.
    pub async fn fill(&mut self) -> Result<usize, StreamError> {
        self.plain.drain(..self.at);
        self.at = 0;
        self.io.read_exact(&mut *self.sealed).await?;
        let payload = self.opener.open(&mut self.sealed)?;
        self.plain.extend_from_slice(payload);
        Ok(payload.len())
    }

    /// Reads a message of at most `max` bytes preceded by its length.
    pub async fn read_delimited(&mut self, max: usize) -> Result<Vec<u8>, StreamError> {
        loop {
            match split_delimited(self.buffered(), max)? {
                Some((body, consumed)) => {
                    let body = body.to_vec();
                    self.consume(consumed);
                    return Ok(body);
                }
                None => {
                    self.fill().await?;
                }
            }
        }
    }
}

/// Finds a message of at most `max` bytes preceded by its length; the bytes it takes up with its length. `None` if more
/// input is needed.
pub fn split_delimited(input: &[u8], max: usize) -> Result<Option<(&[u8], usize)>, StreamError> {
    let Some((len, head)) = read_length(input)? else { return Ok(None) };
    let too_long = StreamError::TooLong { len, max };
    let Ok(len) = usize::try_from(len) else { return Err(too_long) };
    if len > max {
        return Err(too_long);
    }
    let end = head.saturating_add(len);
    Ok(input.get(head..end).map(|body| (body, end)))
}

/// Reads a length; the number of bytes it takes up. `None` if more input is needed.
pub fn read_length(input: &[u8]) -> Result<Option<(u64, usize)>, StreamError> {
    let mut value = 0_u64;
    for (at, byte) in input.iter().copied().enumerate() {
        if at == 9 && byte > 1 {
            return Err(StreamError::Length);
        }
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Ok(Some((value, at + 1)));
        }
    }
    Ok(None)
}

/// Writing half of an encrypted stream.
pub struct SecretWriter<W> {
    io: W,
    sealer: Sealer,
    sealed: Vec<u8>,
}

impl<W: AsyncWrite + Unpin> SecretWriter<W> {
    /// Writer of a stream whose frames begin now.
    pub fn new(io: W, sealer: Sealer) -> Self {
        Self { io, sealer, sealed: Vec::new() }
    }

    /// Seals the payload and writes it out.
    pub async fn write(&mut self, payload: &[u8]) -> Result<(), StreamError> {
        self.sealed.clear();
        self.sealer.seal(payload, &mut self.sealed)?;
        self.io.write_all(&self.sealed).await?;
        self.io.flush().await?;
        Ok(())
    }

    /// Closes the stream in this direction.
    pub async fn shutdown(&mut self) {
        // A connection that is gone already needs no closing.
        let _ = self.io.shutdown().await;
    }
}

#[cfg(test)]
mod tests;
