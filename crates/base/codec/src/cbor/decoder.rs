//! Reading CBOR: the well-formedness check, and the primitives that values are read with.

use std::fmt;

use super::Error;

/// Deepest nesting of arrays and maps that is accepted.
pub const MAX_DEPTH: usize = 32;

/// Most items of one array, or pairs of one map, that are accepted.
pub const MAX_ITEMS: u64 = 10_000_000;

const MAJOR_UNSIGNED: u8 = 0;
const MAJOR_NEGATIVE: u8 = 1;
const MAJOR_BYTES: u8 = 2;
const MAJOR_TEXT: u8 = 3;
const MAJOR_ARRAY: u8 = 4;
const MAJOR_MAP: u8 = 5;
const MAJOR_TAG: u8 = 6;

/// What kind of item begins at a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An unsigned integer.
    Unsigned,
    /// A negative integer.
    Negative,
    /// A byte string.
    Bytes,
    /// A text string.
    Text,
    /// An array.
    Array,
    /// A map.
    Map,
    /// A tag (never in checked input).
    Tag,
    /// A simple value without a meaning of its own; read as an integer.
    Simple,
    /// `false` or `true`.
    Bool,
    /// `null` or `undefined`.
    Null,
    /// A floating-point number.
    Float,
}

impl Kind {
    fn of(head: u8) -> Self {
        match head >> 5 {
            MAJOR_UNSIGNED => Self::Unsigned,
            MAJOR_NEGATIVE => Self::Negative,
            MAJOR_BYTES => Self::Bytes,
            MAJOR_TEXT => Self::Text,
            MAJOR_ARRAY => Self::Array,
            MAJOR_MAP => Self::Map,
            MAJOR_TAG => Self::Tag,
            _ => match head & 0x1f {
                0..=19 | 24 => Self::Simple,
                20 | 21 => Self::Bool,
                22 | 23 => Self::Null,
                _ => Self::Float,
            },
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsigned => "an unsigned integer",
            Self::Negative => "a negative integer",
            Self::Bytes => "a byte string",
            Self::Text => "text",
            Self::Array => "an array",
            Self::Map => "a map",
            Self::Tag => "a tag",
            Self::Simple => "a simple value",
            Self::Bool => "a boolean",
            Self::Null => "null",
            Self::Float => "a floating-point number",
        })
    }
}

/// An integer item of any range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integer {
    /// The value itself.
    Unsigned(u64),
    /// `-1 - n`.
    Negative(u64),
}

impl Integer {
    /// The value.
    pub fn value(self) -> i128 {
        match self {
            Self::Unsigned(n) => i128::from(n),
            Self::Negative(n) => -1 - i128::from(n),
        }
    }
}

/// The first bytes of an item.
#[derive(Clone, Copy)]
struct Head {
    /// The type bits of the first byte (0 to 7).
    major: u8,
    /// The low five bits of the first byte.
    info: u8,
    /// Value, length or count.
    value: u64,
}

/// Reads the head at `pos`; returns it with the position after it.
fn read_head(data: &[u8], pos: usize) -> Result<(Head, usize), Error> {
    let first = *data.get(pos).ok_or(Error::UnexpectedEnd { offset: pos })?;
    let (major, info) = (first >> 5, first & 0x1f);
    let size = match info {
        0..=23 => {
            return Ok((Head { major, info, value: u64::from(info) }, pos + 1));
        }
        24 => 1,
        25 => 2,
        26 => 4,
        27 => 8,
        31 if (MAJOR_BYTES..=MAJOR_MAP).contains(&major) => {
            return Err(Error::IndefiniteLength { offset: pos });
        }
        _ => {
            return Err(Error::MalformedHead { offset: pos, head: first });
        }
    };
    let rest = data.get(pos + 1..).unwrap_or_default();
    let argument = rest.get(..size).ok_or(Error::UnexpectedEnd { offset: data.len() })?;
    let value = argument.iter().fold(0u64, |value, byte| (value << 8) | u64::from(*byte));
    Ok((Head { major, info, value }, pos + 1 + size))
}

/// The position after `len` bytes of string content that begins at `pos`.
fn after_string(data: &[u8], pos: usize, len: u64) -> Result<usize, Error> {
    usize::try_from(len)
        .ok()
        .and_then(|len| pos.checked_add(len))
        .filter(|end| *end <= data.len())
        .ok_or(Error::UnexpectedEnd { offset: data.len() })
}

/// Checks that a well-formed item begins at `pos` (within the limits of this module, with no tag and no indefinite
/// length) and returns where it ends. Text is not checked for being UTF-8: the reference does that only where text is
/// read, so bad text passes in a [`Raw`](crate::Raw) item or in a field that is skipped.
pub fn well_formed(data: &[u8], pos: usize) -> Result<usize, Error> {
    let mut pos = pos;
    // How many items are still to come at each level; the outermost level holds one.
    let mut open = [0u64; MAX_DEPTH + 1];
    open[0] = 1;
    let mut depth = 0;
    loop {
        while open[depth] == 0 {
            if depth == 0 {
                return Ok(pos);
            }
            depth -= 1;
        }
        open[depth] -= 1;
        let offset = pos;
        let (head, next) = read_head(data, pos)?;
        pos = next;
        match head.major {
            MAJOR_BYTES | MAJOR_TEXT => pos = after_string(data, pos, head.value)?,
            MAJOR_ARRAY | MAJOR_MAP => {
                if depth == MAX_DEPTH {
                    return Err(Error::TooDeep { offset, max: MAX_DEPTH });
                }
                if head.value > MAX_ITEMS {
                    return Err(Error::TooManyItems { offset, count: head.value, max: MAX_ITEMS });
                }
                depth += 1;
                open[depth] = if head.major == MAJOR_MAP { head.value * 2 } else { head.value };
            }
            MAJOR_TAG => return Err(Error::Tag { offset }),
            MAJOR_UNSIGNED | MAJOR_NEGATIVE => {}
            _ if head.info == 24 && head.value < 32 => {
                return Err(Error::MalformedHead { offset, head: data[offset] });
            }
            _ => {}
        }
    }
}

/// Reads items from bytes that were checked to begin with a well-formed one.
///
/// What the reference's decoder accepts beyond the canonical form, and this one therefore too:
/// * integers and lengths that are not the shortest, map keys in any order;
/// * struct keys that match a field's name only when case is ignored; struct keys that are missing;
/// * `null` and `undefined` for anything (the default value; `None` for an `Option`). As the value of a map whose values
///   are booleans, integers or strings, they repeat the value before;
/// * simple values 0 to 19 and 32 to 255 for integers;
/// * an array of small integers for a byte string or a fixed byte array, the latter cut or zero-filled to its length
///   and past its own check;
/// * a byte string of any length for a plain fixed byte array, cut or zero-filled;
/// * anything after the first item.
///
/// Refused everywhere: tags, indefinite lengths, reserved heads, nesting deeper than [`MAX_DEPTH`], more than
/// [`MAX_ITEMS`] items, duplicate keys, text that is not UTF-8 (where it is read), floating-point numbers, values of
/// another kind or out of range. Unknown struct keys are refused unless the decoder is relaxed.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    data: &'a [u8],
    pos: usize,
    strict: bool,
}

impl<'a> Decoder<'a> {
    /// Checks that `data` begins with a well-formed item and starts there; unknown struct fields will be refused.
    pub fn new(data: &'a [u8]) -> Result<Self, Error> {
        well_formed(data, 0)?;
        Ok(Self { data, pos: 0, strict: true })
    }

    /// As [`new`](Self::new), but unknown struct fields will be skipped.
    pub fn relaxed(data: &'a [u8]) -> Result<Self, Error> {
        well_formed(data, 0)?;
        Ok(Self { data, pos: 0, strict: false })
    }

    /// Whether unknown struct fields are refused.
    pub fn is_strict(&self) -> bool {
        self.strict
    }

    /// The offset of the next byte.
    pub fn offset(&self) -> usize {
        self.pos
    }

    /// Refuses bytes after what was read.
    pub fn finish(&self) -> Result<(), Error> {
        match self.data.len() - self.pos {
            0 => Ok(()),
            count => Err(Error::TrailingBytes { offset: self.pos, count }),
        }
    }

    /// The kind of the next item.
    pub fn kind(&self) -> Result<Kind, Error> {
        self.data.get(self.pos).map(|head| Kind::of(*head)).ok_or(Error::UnexpectedEnd { offset: self.pos })
    }

    /// That the next item is not what was expected.
    pub fn wrong_kind(&self, expected: &'static str) -> Error {
        match self.kind() {
            Ok(found) => Error::WrongKind { offset: self.pos, expected, found },
            Err(end) => end,
        }
    }

    /// Whether the next item is `null` or `undefined`.
    pub fn is_null(&self) -> bool {
        matches!(self.data.get(self.pos), Some(0xf6 | 0xf7))
    }

    /// Takes the next item if it is `null` or `undefined`.
    pub fn take_null(&mut self) -> bool {
        let null = self.is_null();
        self.pos += usize::from(null);
        null
    }

    fn head(&mut self) -> Result<Head, Error> {
        let (head, next) = read_head(self.data, self.pos)?;
        self.pos = next;
        Ok(head)
    }

    /// An integer, or a simple value read as one.
    pub fn integer(&mut self) -> Result<Integer, Error> {
        match self.kind()? {
            Kind::Unsigned | Kind::Simple => Ok(Integer::Unsigned(self.head()?.value)),
            Kind::Negative => Ok(Integer::Negative(self.head()?.value)),
            _ => Err(self.wrong_kind("an integer")),
        }
    }

    /// A boolean.
    pub fn bool(&mut self) -> Result<bool, Error> {
        match self.kind()? {
            Kind::Bool => Ok(self.head()?.info == 21),
            _ => Err(self.wrong_kind("a boolean")),
        }
    }

    fn string(&mut self) -> Result<&'a [u8], Error> {
        let head = self.head()?;
        let start = self.pos;
        self.pos = after_string(self.data, start, head.value)?;
        Ok(&self.data[start..self.pos])
    }

    /// A byte string.
    pub fn bytes(&mut self) -> Result<&'a [u8], Error> {
        match self.kind()? {
            Kind::Bytes => self.string(),
            _ => Err(self.wrong_kind("a byte string")),
        }
    }

    /// A text string.
    pub fn text(&mut self) -> Result<&'a str, Error> {
        match self.kind()? {
            Kind::Text => {
                let offset = self.pos;
                std::str::from_utf8(self.string()?).map_err(|_| Error::InvalidUtf8 { offset })
            }
            _ => Err(self.wrong_kind("text")),
        }
    }

    /// The head of an array; the caller reads as many items.
    pub fn array(&mut self) -> Result<usize, Error> {
        match self.kind()? {
            Kind::Array => self.count(1),
            _ => Err(self.wrong_kind("an array")),
        }
    }

    /// The head of a map; the caller reads as many pairs.
    pub fn map(&mut self) -> Result<usize, Error> {
        match self.kind()? {
            Kind::Map => self.count(2),
            _ => Err(self.wrong_kind("a map")),
        }
    }

    /// Reads a count of parts that take at least `size` bytes each, which the rest of the input must have room for.
    fn count(&mut self, size: usize) -> Result<usize, Error> {
        let head = self.head()?;
        usize::try_from(head.value)
            .ok()
            .filter(|count| *count <= (self.data.len() - self.pos) / size)
            .ok_or(Error::UnexpectedEnd { offset: self.data.len() })
    }

    /// Passes over the next item.
    pub fn skip(&mut self) -> Result<(), Error> {
        // Depth needs no limit here: items of checked input only have to be counted.
        let mut left = 1u64;
        while left > 0 {
            left -= 1;
            let head = self.head()?;
            match head.major {
                MAJOR_BYTES | MAJOR_TEXT => self.pos = after_string(self.data, self.pos, head.value)?,
                MAJOR_ARRAY => left = left.saturating_add(head.value),
                MAJOR_MAP => left = left.saturating_add(head.value.saturating_mul(2)),
                MAJOR_TAG => left = left.saturating_add(1),
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes the next item as it is encoded.
    pub fn raw_item(&mut self) -> Result<&'a [u8], Error> {
        let start = self.pos;
        self.skip()?;
        Ok(&self.data[start..self.pos])
    }

    /// A decoder of the same input and mode at an earlier item.
    pub(crate) fn at(&self, offset: usize) -> Self {
        Self { data: self.data, pos: offset, strict: self.strict }
    }
}
