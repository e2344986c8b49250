//! Values as Go's `encoding/gob` writes them: the part that calls of plugins consist of.
//!
//! A stream is messages, each with its length in front: either the description of a type or a value with the number of its
//! type. What is read is described by the stream itself, so any struct of numbers, text, bytes and lists can be; what is
//! written are the few types named here.

use std::collections::HashMap;

/// Longest message that is read.
pub(crate) const MAX_MESSAGE: usize = 16 << 20;
/// Types within types that are followed.
const MAX_DEPTH: usize = 16;
/// Types that one stream may describe.
const MAX_TYPES: usize = 256;
/// Number of the first type that is not built in; below it nothing may be described.
const FIRST_TYPE: i64 = 64;

const BOOL: i64 = 1;
const INT: i64 = 2;
const UINT: i64 = 3;
const FLOAT: i64 = 4;
const BYTES: i64 = 5;
const STRING: i64 = 6;
const INTERFACE: i64 = 8;

/// Why bytes are no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GobError {
    #[error("gob: message ends early")]
    Short,
    #[error("gob: {0}")]
    Malformed(&'static str),
    #[error("gob: type {0} is not known")]
    Unknown(i64),
}

/// What was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Nothing,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    Struct(Vec<(String, Value)>),
}

impl Value {
    /// A field of a struct; fields that are zero are not there.
    pub(crate) fn field(&self, name: &str) -> &Value {
        match self {
            Self::Struct(fields) => fields.iter().find(|(known, _)| known == name).map_or(&Self::Nothing, |(_, v)| v),
            _ => &Self::Nothing,
        }
    }

    pub(crate) fn text(&self) -> &str {
        if let Self::Text(text) = self { text } else { "" }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        if let Self::Bytes(bytes) = self { bytes } else { &[] }
    }

    pub(crate) fn int(&self) -> i64 {
        if let Self::Int(value) = self { *value } else { 0 }
    }

    pub(crate) fn uint(&self) -> u64 {
        if let Self::Uint(value) = self { *value } else { 0 }
    }

    pub(crate) fn is_true(&self) -> bool {
        matches!(self, Self::Bool(true))
    }

    pub(crate) fn list(&self) -> &[Value] {
        if let Self::List(items) = self { items } else { &[] }
    }
}

/// What a described type is.
#[derive(Debug, Clone)]
enum Shape {
    List(i64),
    Array(i64),
    Struct(Vec<(String, i64)>),
    Map(i64, i64),
    /// A type that encodes itself to bytes.
    Opaque,
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn byte(&mut self) -> Result<u8, GobError> {
        let (first, rest) = self.0.split_first().ok_or(GobError::Short)?;
        self.0 = rest;
        Ok(*first)
    }

    fn uint(&mut self) -> Result<u64, GobError> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(first.into());
        }
        let count = usize::from(first.wrapping_neg());
        if count > 8 {
            return Err(GobError::Malformed("number of more than eight bytes"));
        }
        (0..count).try_fold(0, |value, _| Ok(value << 8 | u64::from(self.byte()?)))
    }

    fn int(&mut self) -> Result<i64, GobError> {
        let value = self.uint()?;
        let half = (value >> 1).cast_signed();
        Ok(if value & 1 == 0 { half } else { !half })
    }

    fn take(&mut self) -> Result<&'a [u8], GobError> {
        let length = usize::try_from(self.uint()?).unwrap_or(usize::MAX);
        let (taken, rest) = self.0.split_at_checked(length).ok_or(GobError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn text(&mut self) -> Result<String, GobError> {
        String::from_utf8(self.take()?.to_vec()).map_err(|_| GobError::Malformed("text is not UTF-8"))
    }

    /// The fields of a struct by their places, until it ends.
    fn fields(&mut self, mut each: impl FnMut(&mut Self, u64) -> Result<(), GobError>) -> Result<(), GobError> {
        let mut at = 0_u64;
        loop {
            let delta = self.uint()?;
            if delta == 0 {
                return Ok(());
            }
            at = at.checked_add(delta).ok_or(GobError::Malformed("field is out of range"))?;
            each(self, at)?;
        }
    }
}

/// The types of the stream of one direction.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    types: HashMap<i64, Shape>,
}

impl Decoder {
    /// Reads a message without its length; `None` if it described a type.
    pub(crate) fn message(&mut self, message: &[u8]) -> Result<Option<Value>, GobError> {
        let mut at = Cursor(message);
        let kind = at.int()?;
        if kind < 0 {
            let kind = kind.checked_neg().filter(|kind| *kind >= FIRST_TYPE);
            let kind = kind.ok_or(GobError::Malformed("description of a built-in type"))?;
            let shape = shape(&mut at)?;
            if self.types.len() >= MAX_TYPES || self.types.insert(kind, shape).is_some() {
                return Err(GobError::Malformed("type is described twice, or there are too many"));
            }
            return Ok(None);
        }
        if !matches!(self.types.get(&kind), Some(Shape::Struct(_))) && at.byte()? != 0 {
            return Err(GobError::Malformed("no zero before a value that is no struct"));
        }
        let value = self.value(&mut at, kind, 0)?;
        if at.0.is_empty() { Ok(Some(value)) } else { Err(GobError::Malformed("bytes follow the value")) }
    }

    fn value(&self, at: &mut Cursor<'_>, kind: i64, depth: usize) -> Result<Value, GobError> {
        if depth > MAX_DEPTH {
            return Err(GobError::Malformed("types are nested too deeply"));
        }
        Ok(match kind {
            BOOL => Value::Bool(at.uint()? != 0),
            INT => Value::Int(at.int()?),
            UINT | FLOAT => Value::Uint(at.uint()?),
            BYTES => Value::Bytes(at.take()?.to_vec()),
            STRING => Value::Text(at.text()?),
            // A name, which is empty for nothing at all; what else there may be is not asked for here.
            INTERFACE if at.take()?.is_empty() => Value::Nothing,
            INTERFACE => return Err(GobError::Malformed("value of an interface")),
            _ => match self.types.get(&kind).ok_or(GobError::Unknown(kind))? {
                Shape::Opaque => Value::Bytes(at.take()?.to_vec()),
                Shape::List(item) | Shape::Array(item) => {
                    let count = at.uint()?;
                    // Each item has a byte at least, so memory is bounded by the message.
                    if count > at.0.len() as u64 {
                        return Err(GobError::Short);
                    }
                    let items = (0..count).map(|_| self.value(at, *item, depth + 1));
                    Value::List(items.collect::<Result<_, _>>()?)
                }
                Shape::Map(key, item) => {
                    let count = at.uint()?;
                    if count > at.0.len() as u64 {
                        return Err(GobError::Short);
                    }
                    for _ in 0..count {
                        self.value(at, *key, depth + 1)?;
                        self.value(at, *item, depth + 1)?;
                    }
                    Value::Nothing
                }
                Shape::Struct(fields) => {
                    let mut values = Vec::new();
                    at.fields(|at, place| {
                        let place = usize::try_from(place - 1).unwrap_or(usize::MAX);
                        let (name, kind) = fields.get(place).ok_or(GobError::Malformed("field is out of range"))?;
                        values.push((name.clone(), self.value(at, *kind, depth + 1)?));
                        Ok(())
                    })?;
                    Value::Struct(values)
                }
            },
        })
    }
}

/// Name and number of a type, which are not needed.
fn common(at: &mut Cursor<'_>) -> Result<(), GobError> {
    at.fields(|at, place| match place {
        1 => at.take().map(drop),
        2 => at.int().map(drop),
        _ => Err(GobError::Malformed("field of a type")),
    })
}

/// The numbers behind the common part of a description, by their places.
fn numbers(at: &mut Cursor<'_>) -> Result<[i64; 4], GobError> {
    let mut found = [0; 4];
    at.fields(|at, place| match place {
        1 => common(at),
        2 | 3 => at.int().map(|value| found[usize::from(place == 3) + 2] = value),
        _ => Err(GobError::Malformed("field of a type")),
    })?;
    Ok(found)
}

fn shape(at: &mut Cursor<'_>) -> Result<Shape, GobError> {
    let mut shape = None;
    at.fields(|at, place| {
        shape = Some(match place {
            1 => Shape::Array(numbers(at)?[2]),
            2 => Shape::List(numbers(at)?[2]),
            3 => {
                let mut fields = Vec::new();
                at.fields(|at, place| match place {
                    1 => common(at),
                    2 => {
                        let count = at.uint()?;
                        for _ in 0..count {
                            let (mut name, mut kind) = (String::new(), 0);
                            at.fields(|at, place| match place {
                                1 => at.text().map(|text| name = text),
                                2 => at.int().map(|number| kind = number),
                                _ => Err(GobError::Malformed("field of a field")),
                            })?;
                            fields.push((name, kind));
                        }
                        Ok(())
                    }
                    _ => Err(GobError::Malformed("field of a type")),
                })?;
                Shape::Struct(fields)
            }
            4 => {
                let [_, _, key, item] = numbers(at)?;
                Shape::Map(key, item)
            }
            5..=7 => {
                at.fields(|at, _| common(at))?;
                Shape::Opaque
            }
            _ => return Err(GobError::Malformed("kind of type")),
        });
        Ok(())
    })?;
    shape.ok_or(GobError::Malformed("type without a kind"))
}

pub(crate) fn put_uint(out: &mut Vec<u8>, value: u64) {
    if value < 0x80 {
        out.push(value.to_le_bytes()[0]);
        return;
    }
    let bytes = value.to_be_bytes();
    let skip = (value.leading_zeros() / 8) as usize;
    let count = u8::try_from(8 - skip).unwrap_or(8);
    out.push(count.wrapping_neg());
    out.extend(&bytes[skip..]);
}

pub(crate) fn put_int(out: &mut Vec<u8>, value: i64) {
    let doubled = value.cast_unsigned() << 1;
    put_uint(out, if value < 0 { !doubled } else { doubled });
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_uint(out, bytes.len() as u64);
    out.extend(bytes);
}

/// A type that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Int,
    Uint,
    Bytes,
    Text,
    Interface,
    /// A list of integers.
    Ints,
    /// A type of its own that is bytes.
    Opaque(&'static str),
    Struct(&'static str, &'static [(&'static str, Kind)]),
}

/// What is written.
#[derive(Debug, Clone)]
pub(crate) enum Item<'a> {
    /// No value of an interface.
    Nil,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Bytes(&'a [u8]),
    Text(&'a str),
    Ints(&'a [i64]),
    /// Fields in order.
    Struct(Vec<Item<'a>>),
}

impl Item<'_> {
    fn is_zero(&self) -> bool {
        match self {
            Self::Nil => true,
            Self::Bool(value) => !value,
            Self::Int(value) => *value == 0,
            Self::Uint(value) => *value == 0,
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Text(text) => text.is_empty(),
            Self::Ints(items) => items.is_empty(),
            Self::Struct(_) => false,
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Nil => put_uint(out, 0),
            Self::Bool(value) => put_uint(out, u64::from(*value)),
            Self::Int(value) => put_int(out, *value),
            Self::Uint(value) => put_uint(out, *value),
            Self::Bytes(bytes) => put_bytes(out, bytes),
            Self::Text(text) => put_bytes(out, text.as_bytes()),
            Self::Ints(items) => {
                put_uint(out, items.len() as u64);
                items.iter().for_each(|item| put_int(out, *item));
            }
            Self::Struct(fields) => {
                let mut delta = 1;
                for field in fields {
                    if field.is_zero() {
                        delta += 1;
                        continue;
                    }
                    put_uint(out, delta);
                    field.put(out);
                    delta = 1;
                }
                put_uint(out, 0);
            }
        }
    }
}

/// The types that were described in the stream of one direction.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    known: Vec<Kind>,
}

impl Encoder {
    /// Messages for a value: descriptions of types that are new, then the value; each with its length.
    pub(crate) fn encode(&mut self, kind: Kind, item: &Item<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        let number = self.number(kind, &mut out);
        let mut message = Vec::new();
        put_int(&mut message, number);
        if !matches!(kind, Kind::Struct(..)) {
            message.push(0);
        }
        item.put(&mut message);
        put_bytes(&mut out, &message);
        out
    }

    fn number(&mut self, kind: Kind, out: &mut Vec<u8>) -> i64 {
        match kind {
            Kind::Bool => return BOOL,
            Kind::Int => return INT,
            Kind::Uint => return UINT,
            Kind::Bytes => return BYTES,
            Kind::Text => return STRING,
            Kind::Interface => return INTERFACE,
            _ => {}
        }
        let number = |at: usize| FIRST_TYPE + 1 + i64::try_from(at).unwrap_or(0);
        if let Some(at) = self.known.iter().position(|known| *known == kind) {
            return number(at);
        }
        let mine = number(self.known.len());
        self.known.push(kind);
        let mut body = Vec::new();
        put_int(&mut body, -mine);
        let head = |body: &mut Vec<u8>, name: &str| {
            // The common part: name and number.
            put_uint(body, 1);
            if name.is_empty() {
                put_uint(body, 2);
            } else {
                put_uint(body, 1);
                put_bytes(body, name.as_bytes());
                put_uint(body, 1);
            }
            put_int(body, mine);
            put_uint(body, 0);
        };
        match kind {
            Kind::Ints => {
                put_uint(&mut body, 2);
                head(&mut body, "");
                put_uint(&mut body, 1);
                put_int(&mut body, INT);
            }
            Kind::Opaque(name) => {
                put_uint(&mut body, 6);
                head(&mut body, name);
            }
            Kind::Struct(name, fields) => {
                put_uint(&mut body, 3);
                head(&mut body, name);
                let kinds: Vec<_> = fields.iter().map(|(name, kind)| (*name, self.number(*kind, out))).collect();
                if !kinds.is_empty() {
                    put_uint(&mut body, 1);
                    put_uint(&mut body, kinds.len() as u64);
                }
                for (name, kind) in kinds {
                    put_uint(&mut body, 1);
                    put_bytes(&mut body, name.as_bytes());
                    put_uint(&mut body, 1);
                    put_int(&mut body, kind);
                    put_uint(&mut body, 0);
                }
            }
            _ => {}
        }
        put_uint(&mut body, 0);
        put_uint(&mut body, 0);
        put_bytes(out, &body);
        mine
    }
}

#[cfg(test)]
mod tests;
