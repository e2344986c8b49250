//! What clients call the server on a socket file.
//!
//! HTTP/2 requests name the server in `:authority`. Some gRPC libraries put the path of the socket there, as it is or
//! with percent signs, which is no authority: the HTTP library refuses the request. Nothing here looks at the name, so on
//! socket files it is overwritten while it is read, by letters of the same length: frames and indices stay what they were.
//! Sources: RFC 9113 §4.1, §6.2, §6.10; RFC 7541 §5, §6.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

/// Bytes that every connection begins with.
const PREFACE: usize = 24;
/// Bytes before the payload of a frame.
const FRAME_HEADER: usize = 9;
/// Type of frames that begin header fields.
const HEADERS: u8 = 1;
/// Type of frames that go on with them.
const CONTINUATION: u8 = 9;
/// Flag of frames with a length of padding in front and the padding behind.
const PADDED: u8 = 0x8;
/// Flag of frames with five bytes of priority in front.
const PRIORITY: u8 = 0x20;
/// Place of `:authority` in the static table of fields.
const AUTHORITY_INDEX: u64 = 1;
const AUTHORITY: &[u8] = b":authority";
/// The same in the fields' Huffman code.
const AUTHORITY_HUFFMAN: &[u8] = &[0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f];
/// What names are overwritten with.
const FILLER: u8 = b'u';
/// No field is longer: the HTTP library gives up long before.
const MAX_LENGTH: u64 = 1 << 32;

/// Where in the frames the stream is.
#[derive(Debug)]
enum Place {
    Preface(usize),
    Header([u8; FRAME_HEADER], usize),
    /// Payload that is none of ours: bytes left.
    Skip(u32),
    /// The length of the padding comes next: bytes of payload left, whether priority follows.
    PadLength(u32, bool),
    /// Bytes before the fields; bytes of fields; bytes of padding.
    Before(u32, u32, u32),
    /// Bytes of fields; bytes of padding.
    Fields(u32, u32),
}

/// Where in the fields the stream is; they go on from frame to frame.
#[derive(Debug)]
enum Field {
    Start,
    /// The rest of a number: value so far, bits so far, what it is.
    Number(u64, u32, Number),
    NameLength,
    /// Bytes left, bytes so far, whether all were those of one of the two spellings.
    Name(u64, usize, bool, bool),
    ValueLength(bool),
    Value(u64, bool),
}

#[derive(Debug, Clone, Copy)]
enum Number {
    /// An index or a size: nothing follows.
    Alone,
    /// Index of a name, whose value follows.
    Named,
    /// Length of a name, and whether it is in Huffman's code.
    Name(bool),
    /// Length of a value, and whether it is of an authority.
    Value(bool),
}

/// Overwrites the values of `:authority` in a client's bytes, wherever they are cut.
#[derive(Debug)]
pub(crate) struct Rewriter {
    place: Place,
    field: Field,
}

impl Rewriter {
    pub(crate) fn new() -> Self {
        Self { place: Place::Preface(0), field: Field::Start }
    }

    pub(crate) fn pass(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let used = self.step(bytes);
            bytes = &mut bytes[used..];
        }
    }

    /// Takes at least one byte.
    fn step(&mut self, bytes: &mut [u8]) -> usize {
        let most = |left: u32| usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        match &mut self.place {
            Place::Preface(read) => {
                let used = (PREFACE - *read).min(bytes.len());
                *read += used;
                if *read == PREFACE {
                    self.place = Place::Header([0; FRAME_HEADER], 0);
                }
                used
            }
            Place::Header(header, read) => {
                header[*read] = bytes[0];
                *read += 1;
                if *read == FRAME_HEADER {
                    let header = *header;
                    self.frame(header);
                }
                1
            }
            Place::Skip(left) => {
                let (used, left) = (most(*left), *left);
                self.skip(less_of(left, used));
                used
            }
            Place::PadLength(left, priority) => {
                let padding = u32::from(bytes[0]);
                let (left, before) = (left.saturating_sub(1), if *priority { 5 } else { 0 });
                self.before(before, left.saturating_sub(before).saturating_sub(padding), padding);
                1
            }
            Place::Before(before, fields, padding) => {
                let (used, before, fields, padding) = (most(*before), *before, *fields, *padding);
                let before = less_of(before, used);
                self.before(before, fields, padding);
                used
            }
            Place::Fields(left, padding) => {
                let (used, left, padding) = (most(*left), *left, *padding);
                for byte in &mut bytes[..used] {
                    self.field = take(&self.field, byte);
                }
                self.before(0, less_of(left, used), padding);
                used
            }
        }
    }

    fn frame(&mut self, header: [u8; FRAME_HEADER]) {
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        let (kind, flags) = (header[3], header[4]);
        match kind {
            HEADERS if flags & PADDED != 0 && length > 0 => {
                self.place = Place::PadLength(length, flags & PRIORITY != 0);
            }
            HEADERS => {
                let before = if flags & PRIORITY == 0 { 0 } else { 5 }.min(length);
                self.before(before, length - before, 0);
            }
            CONTINUATION => self.before(0, length, 0),
            _ => self.skip(length),
        }
    }

    fn before(&mut self, before: u32, fields: u32, padding: u32) {
        match (before, fields) {
            (0, 0) => self.skip(padding),
            (0, fields) => self.place = Place::Fields(fields, padding),
            (before, fields) => self.place = Place::Before(before, fields, padding),
        }
    }

    fn skip(&mut self, left: u32) {
        self.place = if left == 0 { Place::Header([0; FRAME_HEADER], 0) } else { Place::Skip(left) };
    }
}

fn less_of(left: u32, used: usize) -> u32 {
    left - u32::try_from(used).unwrap_or(left).min(left)
}

/// What is next after a byte of the fields.
fn take(field: &Field, byte: &mut u8) -> Field {
    let begin = |bits: u32, what: Number, byte: u8| {
        let most = (1_u64 << bits) - 1;
        let value = u64::from(byte) & most;
        if value == most { Field::Number(value, 0, what) } else { after(value, what) }
    };
    match *field {
        Field::Start if *byte & 0x80 != 0 => begin(7, Number::Alone, *byte),
        Field::Start if *byte & 0xc0 == 0x40 => begin(6, Number::Named, *byte),
        Field::Start if *byte & 0xe0 == 0x20 => begin(5, Number::Alone, *byte),
        Field::Start => begin(4, Number::Named, *byte),
        Field::Number(value, bits, what) => {
            let more = u64::from(*byte & 0x7f).checked_shl(bits).unwrap_or(0);
            let value = value.saturating_add(more).min(MAX_LENGTH);
            let bits = bits.saturating_add(7).min(63);
            if *byte & 0x80 != 0 { Field::Number(value, bits, what) } else { after(value, what) }
        }
        Field::NameLength => begin(7, Number::Name(*byte & 0x80 != 0), *byte),
        Field::Name(left, at, plain, huffman) => {
            let plain = plain && AUTHORITY.get(at) == Some(byte);
            let huffman = huffman && AUTHORITY_HUFFMAN.get(at) == Some(byte);
            if left > 1 {
                Field::Name(left - 1, at + 1, plain, huffman)
            } else {
                let whole = (plain && at + 1 == AUTHORITY.len()) || (huffman && at + 1 == AUTHORITY_HUFFMAN.len());
                Field::ValueLength(whole)
            }
        }
        Field::ValueLength(authority) => {
            if authority {
                // What is written is not in Huffman's code.
                *byte &= 0x7f;
            }
            begin(7, Number::Value(authority), *byte)
        }
        Field::Value(left, authority) => {
            if authority {
                *byte = FILLER;
            }
            if left > 1 { Field::Value(left - 1, authority) } else { Field::Start }
        }
    }
}

/// What follows a number.
fn after(value: u64, what: Number) -> Field {
    match what {
        Number::Alone => Field::Start,
        Number::Named if value == 0 => Field::NameLength,
        Number::Named => Field::ValueLength(value == AUTHORITY_INDEX),
        Number::Name(_) if value == 0 => Field::ValueLength(false),
        Number::Name(huffman) => Field::Name(value, 0, !huffman, huffman),
        Number::Value(_) if value == 0 => Field::Start,
        Number::Value(authority) => Field::Value(value, authority),
    }
}

/// A client on a socket file.
pub(crate) struct UnixClient {
    inner: UnixStream,
    rewriter: Rewriter,
}

impl UnixClient {
    pub(crate) fn new(inner: UnixStream) -> Self {
        Self { inner, rewriter: Rewriter::new() }
    }
}

impl AsyncRead for UnixClient {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        let this = &mut *self;
        let read = Pin::new(&mut this.inner).poll_read(cx, out);
        if matches!(read, Poll::Ready(Ok(()))) {
            this.rewriter.pass(&mut out.filled_mut()[before..]);
        }
        read
    }
}

impl AsyncWrite for UnixClient {
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    fn string(text: &[u8]) -> Vec<u8> {
        assert!(text.len() < 127);
        [&[u8::try_from(text.len()).unwrap()], text].concat()
    }

    /// The fields of a call as gRPC's C library writes them, with the socket's path as authority.
    fn fields(path: &[u8]) -> Vec<u8> {
        [
            vec![0x83, 0x86],
            vec![0x44],
            string(b"/test.Echo/Echo"),
            vec![0x40],
            string(AUTHORITY),
            string(path),
            vec![0x5f],
            string(b"application/grpc"),
            vec![0x40],
            string(b"te"),
            string(b"trailers"),
        ]
        .concat()
    }

    #[test]
    fn authorities_are_overwritten_wherever_bytes_are_cut() {
        let stream = |path: &[u8], huffman: u8| {
            let mut block = fields(path);
            // And one by the index of its name, in Huffman's code.
            block.extend([0x01, huffman | 3, path[0], path[1], path[2]]);
            let padded = [&[2, 0, 0, 0, 0, 7], &block[..20], &[0, 0]].concat();
            let mut bytes = vec![b'P'; PREFACE];
            bytes.extend(frame(4, 0, 0, &[0; 6]));
            bytes.extend(frame(HEADERS, PADDED | PRIORITY, 1, &padded));
            bytes.extend(frame(CONTINUATION, 4, 1, &block[20..]));
            bytes.extend(frame(0, 1, 1, b":authority /tmp/a/b.sock"));
            bytes.extend(frame(HEADERS, 4, 3, &fields(path)));
            bytes
        };
        let expected = stream(b"uuuuuuuuuuuuu", 0);
        for cut in [1, 2, 7, 50, usize::MAX] {
            let mut bytes = stream(b"/tmp/a/b.sock", 0x80);
            let mut rewriter = Rewriter::new();
            let cut = cut.min(bytes.len());
            bytes.chunks_mut(cut).for_each(|chunk| rewriter.pass(chunk));
            assert_eq!(bytes, expected, "{cut}");
        }
    }

    #[test]
    fn any_bytes_are_taken() {
        let mut seed = 1_u64;
        for _ in 0..200 {
            let mut rewriter = Rewriter::new();
            let mut bytes = vec![b'P'; PREFACE];
            for _ in 0..2000 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                bytes.push((seed >> 56).to_le_bytes()[0] & [0xff, 0x0f][(seed >> 20 & 1) as usize]);
            }
            rewriter.pass(&mut bytes);
        }
    }

    #[tokio::test]
    async fn a_call_with_a_path_as_authority_is_answered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("internal.sock");
        let mut router = crate::Router::new();
        router.unary("test.Echo", "Echo", |argument: bytes::Bytes| async move { Ok(argument) });
        let stop = tokio_util::sync::CancellationToken::new();
        let listener = crate::Listener::unix(&path).unwrap();
        let server = tokio::spawn(crate::serve(listener, std::sync::Arc::new(router), stop.clone()));
        let mut client = UnixStream::connect(&path).await.unwrap();
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(4, 0, 0, &[]));
        bytes.extend(frame(HEADERS, 4, 1, &fields(b"%2Ftmp%2Fa/b.sock")));
        bytes.extend(frame(0, 1, 1, &[0, 0, 0, 0, 3, 1, 2, 3]));
        client.write_all(&bytes).await.unwrap();
        // Until the frame with data: anything else (a reset, the end) fails the test.
        loop {
            let mut header = [0; FRAME_HEADER];
            client.read_exact(&mut header).await.unwrap();
            let mut payload = vec![0; usize::from(u16::from_be_bytes([header[1], header[2]]))];
            client.read_exact(&mut payload).await.unwrap();
            match header[3] {
                0 => {
                    assert_eq!(payload, [0, 0, 0, 0, 3, 1, 2, 3]);
                    break;
                }
                3 | 7 => panic!("refused: {header:?} {payload:?}"),
                _ => {}
            }
        }
        drop(client);
        stop.cancel();
        server.await.unwrap();
    }
}
