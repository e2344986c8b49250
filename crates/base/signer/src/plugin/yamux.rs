//! Streams over one connection, as `hashicorp/yamux` has them: the part that plugins use.
//!
//! A frame is version 0, type, flags (16 bits), stream (32 bits), length (32 bits), big-endian; data follows its frame.
//! Streams of the side that connected have odd numbers. Each side may send 256 KiB that the other has not read.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::task::JoinSet;

const DATA: u8 = 0;
const WINDOW: u8 = 1;
const PING: u8 = 2;
const GO_AWAY: u8 = 3;
const SYN: u16 = 1;
const ACK: u16 = 2;
const FIN: u16 = 4;
const RST: u16 = 8;
/// What may be sent before it is read.
const INITIAL_WINDOW: u32 = 256 << 10;
/// Largest part that is sent at once.
const CHUNK: usize = 32 << 10;
/// Streams at once.
const MAX_STREAMS: usize = 64;
/// Frames that wait to be written.
const QUEUE: usize = 64;

fn head(kind: u8, flags: u16, stream: u32, length: u32) -> Vec<u8> {
    let mut frame = vec![0, kind];
    frame.extend(flags.to_be_bytes());
    frame.extend(stream.to_be_bytes());
    frame.extend(length.to_be_bytes());
    frame
}

/// What the reading side knows of a stream.
struct Entry {
    data: mpsc::UnboundedSender<Bytes>,
    /// What the other side may still send.
    window: u32,
    credit: Arc<Semaphore>,
}

type Streams = Arc<parking::Mutex<HashMap<u32, Entry>>>;

/// A lock that is never held over an await.
mod parking {
    /// `std`'s, without poisoning: what it guards is a table of channels.
    pub(super) struct Mutex<T>(std::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(super) fn new(value: T) -> Self {
            Self(std::sync::Mutex::new(value))
        }

        pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }
}

/// A connection; ends with this.
pub(crate) struct Session {
    streams: Streams,
    frames: mpsc::Sender<Vec<u8>>,
    incoming: Mutex<mpsc::Receiver<Stream>>,
    next: std::sync::atomic::AtomicU32,
    tasks: Mutex<JoinSet<()>>,
}

/// A stream of bytes both ways.
pub(crate) struct Stream {
    id: u32,
    frames: mpsc::Sender<Vec<u8>>,
    data: mpsc::UnboundedReceiver<Bytes>,
    held: BytesMut,
    credit: Arc<Semaphore>,
    streams: Streams,
}

fn broken() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

impl Session {
    pub(crate) fn new<C: AsyncRead + AsyncWrite + Send + 'static>(connection: C, is_client: bool) -> Self {
        let (mut read, mut write) = tokio::io::split(connection);
        let (frames, mut queue) = mpsc::channel::<Vec<u8>>(QUEUE);
        let (accepted, incoming) = mpsc::channel(MAX_STREAMS);
        let streams: Streams = Arc::new(parking::Mutex::new(HashMap::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Some(frame) = queue.recv().await {
                if write.write_all(&frame).await.is_err() || write.flush().await.is_err() {
                    break;
                }
            }
        });
        let (mine, answers) = (streams.clone(), frames.clone());
        tasks.spawn(async move {
            let ended = receive(&mut read, &mine, &answers, &accepted, !is_client).await;
            if let Err(error) = ended {
                tracing::debug!(module = "signer/plugin", err = %error, "connection ended");
            }
            // Readers of streams see their end; writers no longer wait.
            for (_, entry) in mine.lock().drain() {
                entry.credit.close();
            }
        });
        let next = std::sync::atomic::AtomicU32::new(if is_client { 1 } else { 2 });
        Self { streams, frames, incoming: Mutex::new(incoming), next, tasks: Mutex::new(tasks) }
    }

    /// A stream that the other side learns of at once.
    pub(crate) async fn open(&self) -> io::Result<Stream> {
        let id = self.next.fetch_add(2, std::sync::atomic::Ordering::Relaxed);
        let stream = register(&self.streams, &self.frames, id).ok_or_else(broken)?;
        self.frames.send(head(WINDOW, SYN, id, 0)).await.map_err(|_| broken())?;
        Ok(stream)
    }

    /// The next stream of the other side; `None` if the connection has ended.
    pub(crate) async fn accept(&self) -> Option<Stream> {
        self.incoming.lock().await.recv().await
    }

    /// Waits until the connection has ended.
    pub(crate) async fn ended(&self) {
        // Whichever of the two ends first.
        self.tasks.lock().await.join_next().await;
    }
}

fn register(streams: &Streams, frames: &mpsc::Sender<Vec<u8>>, id: u32) -> Option<Stream> {
    let (data, receiver) = mpsc::unbounded_channel();
    let credit = Arc::new(Semaphore::new(INITIAL_WINDOW as usize));
    let entry = Entry { data, window: INITIAL_WINDOW, credit: credit.clone() };
    let mut table = streams.lock();
    if table.len() >= MAX_STREAMS || table.contains_key(&id) {
        return None;
    }
    table.insert(id, entry);
    let frames = frames.clone();
    Some(Stream { id, frames, data: receiver, held: BytesMut::new(), credit, streams: streams.clone() })
}

/// Takes frames until the connection ends or breaks the rules.
async fn receive(
    read: &mut (impl AsyncRead + Unpin),
    streams: &Streams,
    answers: &mpsc::Sender<Vec<u8>>,
    accepted: &mpsc::Sender<Stream>,
    theirs_are_odd: bool,
) -> io::Result<()> {
    let wrong = |text: &'static str| io::Error::new(io::ErrorKind::InvalidData, text);
    loop {
        let mut frame = [0; 12];
        read.read_exact(&mut frame).await?;
        let [version, kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3] = frame;
        let flags = u16::from_be_bytes([f0, f1]);
        let (id, length) = (u32::from_be_bytes([s0, s1, s2, s3]), u32::from_be_bytes([l0, l1, l2, l3]));
        if version != 0 {
            return Err(wrong("version"));
        }
        match kind {
            PING if flags & SYN != 0 => answers.send(head(PING, ACK, 0, length)).await.map_err(|_| broken())?,
            PING => {}
            GO_AWAY => return Ok(()),
            DATA | WINDOW => {
                if flags & SYN != 0 {
                    if (id % 2 == 1) != theirs_are_odd {
                        return Err(wrong("stream number"));
                    }
                    let stream = register(streams, answers, id).ok_or_else(|| wrong("too many streams"))?;
                    answers.send(head(WINDOW, ACK, id, 0)).await.map_err(|_| broken())?;
                    accepted.try_send(stream).map_err(|_| wrong("too many streams"))?;
                }
                if kind == WINDOW {
                    if let Some(entry) = streams.lock().get(&id) {
                        let room = Semaphore::MAX_PERMITS - entry.credit.available_permits();
                        entry.credit.add_permits((length as usize).min(room));
                    }
                } else if length > 0 {
                    if length > INITIAL_WINDOW {
                        return Err(wrong("more data than allowed"));
                    }
                    let mut data = vec![0; length as usize];
                    read.read_exact(&mut data).await?;
                    if let Some(entry) = streams.lock().get_mut(&id) {
                        entry.window =
                            entry.window.checked_sub(length).ok_or_else(|| wrong("more data than allowed"))?;
                        // Dropped if nobody reads the stream any more.
                        let _ = entry.data.send(data.into());
                    }
                }
                if flags & (FIN | RST) != 0
                    && let Some(entry) = streams.lock().remove(&id)
                {
                    entry.credit.close();
                }
            }
            _ => return Err(wrong("type of frame")),
        }
    }
}

impl Stream {
    /// Bytes that came; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        if !self.held.is_empty() {
            return Some(self.held.split().freeze());
        }
        let bytes = self.data.recv().await?;
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if let Some(entry) = self.streams.lock().get_mut(&self.id) {
            entry.window = entry.window.saturating_add(length);
        }
        // If the connection is gone, the next read says so.
        let _ = self.frames.send(head(WINDOW, 0, self.id, length)).await;
        Some(bytes)
    }

    pub(crate) async fn read_exact(&mut self, out: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < out.len() {
            if self.held.is_empty() {
                let more = self.next().await.ok_or(io::ErrorKind::UnexpectedEof)?;
                self.held.extend_from_slice(&more);
            }
            let take = self.held.len().min(out.len() - filled);
            self.held.copy_to_slice(&mut out[filled..filled + take]);
            filled += take;
        }
        Ok(())
    }

    pub(crate) async fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        for chunk in bytes.chunks(CHUNK) {
            let length = u32::try_from(chunk.len()).unwrap_or(0);
            let credit = self.credit.acquire_many(length).await.map_err(|_| broken())?;
            credit.forget();
            let mut frame = head(DATA, 0, self.id, length);
            frame.extend(chunk);
            self.frames.send(frame).await.map_err(|_| broken())?;
        }
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.streams.lock().remove(&self.id);
        // A full queue means that the connection is stuck: the other side learns of it by other means.
        let _ = self.frames.try_send(head(WINDOW, FIN, self.id, 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn streams_carry_more_than_the_window_both_ways() {
        let (a, b) = tokio::io::duplex(1000);
        let (client, server) = (Session::new(a, true), Session::new(b, false));
        let first = client.open().await.unwrap();
        let mut second = client.open().await.unwrap();
        let mut one = server.accept().await.unwrap();
        let two = server.accept().await.unwrap();
        assert_eq!((first.id, second.id, one.id, two.id), (1, 3, 1, 3));
        let sent: Vec<u8> = (0..600_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let expected = sent.clone();
        let writer = tokio::spawn(async move {
            first.write_all(&sent).await.unwrap();
            two.write_all(&sent).await.unwrap();
            (first, two)
        });
        let mut got = vec![0; 600_000];
        one.read_exact(&mut got).await.unwrap();
        assert_eq!(got, expected);
        second.read_exact(&mut got).await.unwrap();
        assert_eq!(got, expected);
        drop(writer.await.unwrap());
        assert!(one.next().await.is_none());
        drop(client);
        assert!(server.accept().await.is_none());
    }

    #[tokio::test]
    async fn rules_are_kept() {
        for frames in [
            vec![head(DATA, SYN, 1, INITIAL_WINDOW + 1)],
            vec![head(9, 0, 0, 0)],
            vec![head(WINDOW, SYN, 2, 0)],
            vec![head(WINDOW, SYN, 1, 0), head(WINDOW, SYN, 1, 0)],
            (0..100).map(|n| head(WINDOW, SYN, 2 * n + 1, 0)).collect(),
        ] {
            let (mut a, b) = tokio::io::duplex(1 << 16);
            let server = Session::new(b, false);
            a.write_all(&frames.concat()).await.unwrap();
            server.ended().await;
        }
    }

    #[tokio::test]
    async fn pings_are_answered() {
        let (mut a, b) = tokio::io::duplex(100);
        let _server = Session::new(b, false);
        a.write_all(&head(PING, SYN, 0, 77)).await.unwrap();
        let mut answer = [0; 12];
        a.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer.to_vec(), head(PING, ACK, 0, 77));
    }
}
