//! Writing CBOR: canonical heads into one growing buffer.

use super::Encode;

const UNSIGNED: u8 = 0x00;
const NEGATIVE: u8 = 0x20;
const BYTES: u8 = 0x40;
const TEXT: u8 = 0x60;
const ARRAY: u8 = 0x80;
const MAP: u8 = 0xa0;
const FALSE: u8 = 0xf4;
const TRUE: u8 = 0xf5;
const NULL: u8 = 0xf6;

/// Collects one or more canonical CBOR items. Whoever calls [`array`](Self::array) or [`map`](Self::map) then writes
/// that many items, or pairs in canonical key order.
#[derive(Clone, Debug, Default)]
pub struct Encoder {
    buf: Vec<u8>,
}

impl Encoder {
    /// An empty encoder.
    pub fn new() -> Self {
        Self { buf: Vec::new() }
    }

    /// An empty encoder with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { buf: Vec::with_capacity(capacity) }
    }

    /// The bytes written.
    pub fn into_vec(self) -> Vec<u8> {
        self.buf
    }

    /// The bytes written so far.
    pub fn as_slice(&self) -> &[u8] {
        &self.buf
    }

    fn head(&mut self, major: u8, n: u64) {
        let be = n.to_be_bytes();
        if n <= 23 {
            self.buf.push(major | be[7]);
        } else if n <= 0xff {
            self.buf.extend_from_slice(&[major | 24, be[7]]);
        } else if n <= 0xffff {
            self.buf.extend_from_slice(&[major | 25, be[6], be[7]]);
        } else if n <= 0xffff_ffff {
            self.buf.extend_from_slice(&[major | 26, be[4], be[5], be[6], be[7]]);
        } else {
            self.buf.push(major | 27);
            self.buf.extend_from_slice(&be);
        }
    }

    /// An unsigned integer.
    pub fn uint(&mut self, v: u64) {
        self.head(UNSIGNED, v);
    }

    /// An integer.
    pub fn int(&mut self, v: i64) {
        match u64::try_from(v) {
            Ok(v) => self.head(UNSIGNED, v),
            Err(_) => self.head(NEGATIVE, (!v).cast_unsigned()),
        }
    }

    /// A byte string.
    pub fn bytes(&mut self, v: &[u8]) {
        self.head(BYTES, v.len() as u64);
        self.buf.extend_from_slice(v);
    }

    /// A text string.
    pub fn text(&mut self, v: &str) {
        self.head(TEXT, v.len() as u64);
        self.buf.extend_from_slice(v.as_bytes());
    }

    /// A boolean.
    pub fn bool(&mut self, v: bool) {
        self.buf.push(if v { TRUE } else { FALSE });
    }

    /// `null`: a nil pointer, list, map, byte string or embedded item.
    pub fn null(&mut self) {
        self.buf.push(NULL);
    }

    /// The head of an array of `len` items.
    pub fn array(&mut self, len: usize) {
        self.head(ARRAY, len as u64);
    }

    /// The head of a map of `len` pairs.
    pub fn map(&mut self, len: usize) {
        self.head(MAP, len as u64);
    }

    /// Bytes that are already encoded.
    pub fn raw(&mut self, v: &[u8]) {
        self.buf.extend_from_slice(v);
    }

    /// A whole map of distinct keys, sorted by encoded key: shorter first, then bytewise.
    pub fn map_sorted<'a, K, V, I>(&mut self, entries: I)
    where
        K: Encode + ?Sized + 'a,
        V: Encode + ?Sized + 'a,
        I: ExactSizeIterator<Item = (&'a K, &'a V)>,
    {
        self.map(entries.len());
        let body = self.buf.len();
        let mut spans: Vec<Span> = Vec::with_capacity(entries.len());
        let mut in_order = true;
        for (key, value) in entries {
            let start = self.buf.len();
            key.encode(self);
            let value_start = self.buf.len();
            if let Some(last) = spans.last() {
                in_order &= last.key(&self.buf) < canonical_key(&self.buf[start..value_start]);
            }
            value.encode(self);
            spans.push(Span { start, value_start, end: self.buf.len() });
        }
        if !in_order {
            spans.sort_by(|a, b| a.key(&self.buf).cmp(&b.key(&self.buf)));
            let mut sorted = Vec::with_capacity(self.buf.len() - body);
            for span in &spans {
                sorted.extend_from_slice(&self.buf[span.start..span.end]);
            }
            self.buf.truncate(body);
            self.buf.append(&mut sorted);
        }
    }
}

/// Where one pair of a map lies in the buffer.
struct Span {
    start: usize,
    value_start: usize,
    end: usize,
}

impl Span {
    fn key<'a>(&self, buf: &'a [u8]) -> (usize, &'a [u8]) {
        canonical_key(&buf[self.start..self.value_start])
    }
}

/// Orders encoded keys as the canonical form does.
fn canonical_key(key: &[u8]) -> (usize, &[u8]) {
    (key.len(), key)
}
