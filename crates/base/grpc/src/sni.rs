//! TLS clients that name the server in a way that the TLS library refuses.
//!
//! The reference's clients send the port along with the name (`127.0.0.1:9001`), which is no host name: the TLS library
//! ends the handshake. Nothing here looks at the name, so such a name is overwritten by letters in what the library
//! reads. Since both sides hash what was sent, the library's hash gets the name back. Source: RFC 8446 §4.1.2, §4.4.1,
//! RFC 6066 §3.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::task::{Context, Poll};

use rustls::crypto::hash::{self, Hash, HashAlgorithm, Output};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;
use rustls::{CipherSuiteCommon, SupportedCipherSuite, Tls13CipherSuite};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Type of records with handshake messages.
const HANDSHAKE: u8 = 22;
/// Type of the first message of a client.
const CLIENT_HELLO: u8 = 1;
/// Largest record.
const MAX_RECORD: usize = 16 << 10;
/// Number of the extension with the name.
const SERVER_NAME: u16 = 0;
/// Bytes before a record's content.
const RECORD_HEAD: usize = 5;
/// Bytes before a message's content.
const MESSAGE_HEAD: usize = 4;
/// Longest part of a name between dots that is written.
const LABEL: usize = 50;

type Random = [u8; 32];

/// Names that were overwritten, by the random number of their client's message, while its handshake lasts.
static NAMES: LazyLock<Mutex<HashMap<Random, Vec<u8>>>> = LazyLock::new(Mutex::default);

fn names() -> std::sync::MutexGuard<'static, HashMap<Random, Vec<u8>>> {
    NAMES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A name that was overwritten; forgotten with this.
pub(crate) struct Overwritten(Random);

impl Drop for Overwritten {
    fn drop(&mut self) {
        names().remove(&self.0);
    }
}

/// Takes a part off the front of some bytes, by a length of `N` bytes, and says where it lies.
struct Parts<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Parts<'_> {
    fn number<const N: usize>(&mut self) -> Option<usize> {
        let bytes = self.bytes.get(self.at..self.at + N)?;
        self.at += N;
        Some(bytes.iter().fold(0, |value, byte| value << 8 | usize::from(*byte)))
    }

    fn part<const N: usize>(&mut self) -> Option<std::ops::Range<usize>> {
        let length = self.number::<N>()?;
        let range = self.at..self.at.checked_add(length)?;
        self.bytes.get(range.clone())?;
        self.at = range.end;
        Some(range)
    }
}

/// Where the name lies in a client's first message, and the message's random number.
fn find(message: &[u8]) -> Option<(Random, std::ops::Range<usize>)> {
    if message.first() != Some(&CLIENT_HELLO) {
        return None;
    }
    // Behind type, length and version.
    let random = message.get(6..38)?.try_into().ok()?;
    let mut parts = Parts { bytes: message, at: 38 };
    parts.part::<1>()?;
    parts.part::<2>()?;
    parts.part::<1>()?;
    let extensions = parts.part::<2>()?;
    parts.at = extensions.start;
    while parts.at < extensions.end {
        let kind = parts.number::<2>()?;
        let body = parts.part::<2>()?;
        if kind == usize::from(SERVER_NAME) {
            // Length of the list, type of the name (0), name.
            parts.at = body.start + 3;
            let name = parts.part::<2>()?;
            return (name.end <= body.end).then_some((random, name));
        }
    }
    None
}

/// Overwrites the name in a record, if it is one that the library refuses.
fn overwrite(record: &mut [u8]) -> Option<Overwritten> {
    let (random, name) = find(record.get(RECORD_HEAD..)?)?;
    let name = &mut record[RECORD_HEAD..][name];
    if name.is_empty() || name.len() > 255 || ServerName::try_from(&*name).is_ok() {
        return None;
    }
    if names().insert(random, name.to_vec()).is_some() {
        // Somebody sends another's random number: neither handshake will succeed.
        return None;
    }
    let last = name.len() - 1;
    for (at, byte) in name.iter_mut().enumerate() {
        *byte = if at % LABEL == LABEL - 1 && at < last { b'.' } else { b'u' };
    }
    Some(Overwritten(random))
}

/// A connection whose first record was read already.
pub(crate) struct Begun {
    inner: TcpStream,
    first: Vec<u8>,
    read: usize,
}

/// Reads a client's first record; its name may have been overwritten.
pub(crate) async fn begin(mut stream: TcpStream) -> io::Result<(Begun, Option<Overwritten>)> {
    let mut record = vec![0; RECORD_HEAD];
    stream.read_exact(&mut record).await?;
    let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
    if record[0] != HANDSHAKE || !(MESSAGE_HEAD..=MAX_RECORD).contains(&length) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no TLS"));
    }
    record.resize(RECORD_HEAD + length, 0);
    stream.read_exact(&mut record[RECORD_HEAD..]).await?;
    let overwritten = overwrite(&mut record);
    Ok((Begun { inner: stream, first: record, read: 0 }, overwritten))
}

impl AsyncRead for Begun {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let rest = this.first.get(this.read..).unwrap_or_default();
        if rest.is_empty() {
            return Pin::new(&mut this.inner).poll_read(cx, out);
        }
        let take = rest.len().min(out.remaining());
        out.put_slice(&rest[..take]);
        this.read += take;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Begun {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// A hash that sees names as they were sent.
struct AsSent(&'static dyn Hash);

struct AsSentContext(Box<dyn hash::Context>);

fn as_sent(data: &[u8]) -> Option<Vec<u8>> {
    let (random, range) = find(data)?;
    let table = names();
    let name = table.get(&random).filter(|name| name.len() == range.len())?;
    let mut data = data.to_vec();
    data[range].copy_from_slice(name);
    Some(data)
}

impl Hash for AsSent {
    fn start(&self) -> Box<dyn hash::Context> {
        Box::new(AsSentContext(self.0.start()))
    }

    fn hash(&self, data: &[u8]) -> Output {
        as_sent(data).map_or_else(|| self.0.hash(data), |data| self.0.hash(&data))
    }

    fn output_len(&self) -> usize {
        self.0.output_len()
    }

    fn algorithm(&self) -> HashAlgorithm {
        self.0.algorithm()
    }
}

impl hash::Context for AsSentContext {
    fn fork_finish(&self) -> Output {
        self.0.fork_finish()
    }

    fn fork(&self) -> Box<dyn hash::Context> {
        Box::new(Self(self.0.fork()))
    }

    fn finish(self: Box<Self>) -> Output {
        self.0.finish()
    }

    fn update(&mut self, data: &[u8]) {
        match as_sent(data) {
            Some(data) => self.0.update(&data),
            None => self.0.update(data),
        }
    }
}

/// The suites of TLS 1.3 with such hashes, made once.
static SUITES: LazyLock<Vec<SupportedCipherSuite>> = LazyLock::new(|| {
    let tls13 = |suite: &SupportedCipherSuite| match suite {
        SupportedCipherSuite::Tls13(suite) => Some(*suite),
        SupportedCipherSuite::Tls12(_) => None,
    };
    aws_lc_rs::ALL_CIPHER_SUITES
        .iter()
        .filter_map(tls13)
        .map(|suite| {
            let hash_provider: &'static AsSent = Box::leak(Box::new(AsSent(suite.common.hash_provider)));
            let common = CipherSuiteCommon {
                suite: suite.common.suite,
                hash_provider,
                confidentiality_limit: suite.common.confidentiality_limit,
            };
            let suite =
                Tls13CipherSuite { common, hkdf_provider: suite.hkdf_provider, aead_alg: suite.aead_alg, quic: None };
            SupportedCipherSuite::Tls13(Box::leak(Box::new(suite)))
        })
        .collect()
});

/// What servers encrypt with: TLS 1.3 alone, with hashes that see names as they were sent.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { cipher_suites: SUITES.clone(), ..aws_lc_rs::default_provider() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client's first record with a name.
    fn record(random: u8, name: &[u8]) -> Vec<u8> {
        let two = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
        let list = two(&[&[0], &two(name)[..]].concat());
        let extensions = [&[0, 43][..], &two(&[2, 3, 4]), &[0, 0], &two(&list), &[0, 16], &two(&[])].concat();
        let mut body = vec![3, 3];
        body.extend([random; 32]);
        body.extend([2, 9, 9]);
        body.extend(two(&[0x13, 1]));
        body.extend([1, 0]);
        body.extend(two(&extensions));
        let message = [&[CLIENT_HELLO, 0][..], &two(&body)].concat();
        [&[HANDSHAKE, 3, 1][..], &two(&message)].concat()
    }

    #[test]
    fn names_are_overwritten_and_hashed_as_sent() {
        let long = [b"x:".repeat(60), b"y".to_vec()].concat();
        for (at, name) in [&b"127.0.0.1:9001"[..], b"[::1]:9001", &long].into_iter().enumerate() {
            let random = u8::try_from(at).unwrap() + 100;
            let sent = record(random, name);
            let mut read = sent.clone();
            let overwritten = overwrite(&mut read).expect("it is no host name");
            assert_eq!(read.len(), sent.len());
            let (_, range) = find(&read[RECORD_HEAD..]).unwrap();
            assert!(ServerName::try_from(&read[RECORD_HEAD..][range]).is_ok());
            assert_eq!(as_sent(&read[RECORD_HEAD..]).unwrap(), sent[RECORD_HEAD..]);
            drop(overwritten);
            assert!(as_sent(&read[RECORD_HEAD..]).is_none());
        }
        for name in [&b"localhost"[..], b"node.example", b"127.0.0.1", b"::1", b""] {
            let sent = record(99, name);
            let mut read = sent.clone();
            assert!(overwrite(&mut read).is_none());
            assert_eq!(read, sent);
        }
    }

    #[test]
    fn damage_is_left_to_the_library() {
        let whole = record(98, b"127.0.0.1:9001");
        for length in 0..whole.len() {
            let mut cut = whole[..length].to_vec();
            let _ = overwrite(&mut cut);
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = whole.clone();
                damaged[length] = value;
                let _ = overwrite(&mut damaged);
            }
        }
        assert!(!names().contains_key(&[98; 32]));
    }
}
