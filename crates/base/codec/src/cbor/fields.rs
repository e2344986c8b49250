//! CBOR of structs: what the derive's output is made of.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use super::{Decoder, Encoder, Error, Kind};

/// A struct as a list of named fields, those of embedded structs included. Implemented by the derive.
pub trait Fields: Default {
    /// The fields' names in order of declaration.
    const NAMES: &'static [&'static str];

    /// Whether field `i` is written: it is not marked `omitempty`, or not empty.
    fn field_is_present(&self, i: usize) -> bool;

    /// Writes the value of field `i`.
    fn encode_field(&self, i: usize, e: &mut Encoder);

    /// Reads the value of field `i`.
    fn decode_field(&mut self, i: usize, d: &mut Decoder<'_>) -> Result<(), Error>;
}

/// Joins lists of names at compile time. `N` is the sum of their lengths.
pub const fn concat_names<const N: usize>(parts: &[&[&'static str]]) -> [&'static str; N] {
    let mut out = [""; N];
    let (mut part, mut n) = (0, 0);
    while part < parts.len() {
        let mut i = 0;
        while i < parts[part].len() {
            out[n] = parts[part][i];
            n += 1;
            i += 1;
        }
        part += 1;
    }
    assert!(n == N, "the parts have N names in all");
    out
}

/// Whether `a` sorts before `b` as a map key: shorter first, then bytewise.
const fn precedes(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return a.len() < b.len();
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return a[i] < b[i];
        }
        i += 1;
    }
    false
}

/// The indexes of `names` in canonical key order, at compile time.
pub const fn canonical_order<const N: usize>(names: &[&str]) -> [usize; N] {
    assert!(names.len() == N, "one index for each name");
    let mut order = [0; N];
    let mut n = 0;
    while n < N {
        let mut at = n;
        while at > 0 && precedes(names[n].as_bytes(), names[order[at - 1]].as_bytes()) {
            order[at] = order[at - 1];
            at -= 1;
        }
        order[at] = n;
        n += 1;
    }
    order
}

/// Whether no name occurs twice, at compile time; `order` is their canonical order.
pub const fn names_are_distinct(names: &[&str], order: &[usize]) -> bool {
    let mut i = 1;
    while i < order.len() {
        if !precedes(names[order[i - 1]].as_bytes(), names[order[i]].as_bytes()) {
            return false;
        }
        i += 1;
    }
    true
}

/// Writes the fields of `v` as a map; `order` is their canonical order.
pub fn encode_fields<T: Fields>(v: &T, order: &[usize], e: &mut Encoder) {
    e.map(order.iter().filter(|i| v.field_is_present(**i)).count());
    for i in order.iter().copied().filter(|i| v.field_is_present(*i)) {
        e.text(T::NAMES[i]);
        v.encode_field(i, e);
    }
}

/// Whether a struct is empty for `omitempty`: all of its fields are `omitempty` and empty.
pub fn fields_are_empty<T: Fields>(v: &T) -> bool {
    !(0..T::NAMES.len()).any(|i| v.field_is_present(i))
}

/// A key of a struct's map.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key<'a> {
    Text(&'a str),
    /// The reference wraps unsigned keys into 64 signed bits.
    Integer(i64),
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => text.chars().take(64).try_for_each(|c| f.write_char(c)),
            Self::Integer(n) => write!(f, "{n}"),
        }
    }
}

fn decode_key<'a>(d: &mut Decoder<'a>) -> Result<Key<'a>, Error> {
    let offset = d.offset();
    match d.kind()? {
        Kind::Text => d.text().map(Key::Text),
        Kind::Unsigned | Kind::Negative => {
            let key = d.integer()?;
            match key {
                super::Integer::Unsigned(n) => Ok(Key::Integer(n.cast_signed())),
                super::Integer::Negative(_) => i64::try_from(key.value())
                    .map(Key::Integer)
                    .map_err(|_| Error::IntegerRange { offset, value: key.value(), target: "i64" }),
            }
        }
        _ => Err(d.wrong_kind("a field name")),
    }
}

/// Which fields of a struct were set.
struct Found {
    words: [u64; 4],
}

impl Found {
    const CAPACITY: usize = 256;

    fn has(&self, i: usize) -> bool {
        self.words.get(i / 64).is_some_and(|word| (word >> (i % 64)) & 1 == 1)
    }

    fn set(&mut self, i: usize) {
        if let Some(word) = self.words.get_mut(i / 64) {
            *word |= 1 << (i % 64);
        }
    }

    /// The field that `key` sets: one of that very name, else one of that name in another case, not set before.
    /// `hint` is tried first.
    fn take(&mut self, names: &[&str], key: &str, hint: usize) -> Option<usize> {
        let exact = |i: &usize| names[*i] == key && !self.has(*i);
        let i = if hint < names.len() && exact(&hint) {
            hint
        } else {
            (0..names.len())
                .find(exact)
                .or_else(|| (0..names.len()).find(|i| names[*i].eq_ignore_ascii_case(key) && !self.has(*i)))?
        };
        self.set(i);
        Some(i)
    }
}

/// Reads a map into the fields called `names` (at most 256, ASCII), giving each value that is found to `set`. `null` sets
/// nothing.
///
/// The names' order is that in which they are tried; give the canonical one. A key that matches no unset field is
/// refused, or in relaxed mode passed over; a key that occurs twice is refused in either mode.
pub fn decode_map_struct<'a>(
    d: &mut Decoder<'a>,
    names: &[&str],
    mut set: impl FnMut(usize, &mut Decoder<'a>) -> Result<(), Error>,
) -> Result<(), Error> {
    debug_assert!(names.len() <= Found::CAPACITY, "the derive refuses more fields");
    if d.take_null() {
        return Ok(());
    }
    let mut found = Found { words: [0; 4] };
    let mut hint = 0;
    // In strict mode a duplicate key is an error as a key of no unset field already.
    let mut seen = BTreeSet::new();
    for _ in 0..d.map()? {
        let offset = d.offset();
        let key = decode_key(d)?;
        let field = match &key {
            Key::Text(name) => found.take(names, name, hint),
            Key::Integer(_) => None,
        };
        if field.is_none() && d.is_strict() {
            return Err(Error::UnknownField { offset, name: key.to_string() });
        }
        if !d.is_strict() && !seen.insert(key) {
            return Err(Error::DuplicateKey { offset });
        }
        match field {
            Some(i) => {
                set(i, d)?;
                hint = i + 1;
            }
            None => d.skip()?,
        }
    }
    Ok(())
}

/// Reads a struct that has no visible field: `null`, or a map that is empty (or, in relaxed mode, of anything).
pub fn decode_no_fields(d: &mut Decoder<'_>) -> Result<(), Error> {
    decode_map_struct(d, &[], |_, d| d.skip())
}

/// Reads a list of exactly `len` elements, giving each to `set`. `null` sets nothing.
pub fn decode_array_struct<'a>(
    d: &mut Decoder<'a>,
    len: usize,
    mut set: impl FnMut(usize, &mut Decoder<'a>) -> Result<(), Error>,
) -> Result<(), Error> {
    if d.take_null() {
        return Ok(());
    }
    let offset = d.offset();
    let found = d.array()?;
    if found != len {
        return Err(Error::WrongLength { offset, expected: len, found: found as u64 });
    }
    for i in 0..len {
        set(i, d)?;
    }
    Ok(())
}

/// Reads a type that is `[n]byte` with a binary unmarshaler in the reference: a byte string goes through `from_bytes`;
/// an array of small integers is cut or zero-filled and stored as it is; `null` is the default value.
pub fn decode_binary<'a, T, E, const N: usize>(
    d: &mut Decoder<'a>,
    from_bytes: impl FnOnce(&'a [u8]) -> Result<T, E>,
    from_array: impl FnOnce([u8; N]) -> T,
) -> Result<T, Error>
where
    T: Default,
    E: fmt::Display,
{
    let offset = d.offset();
    match d.kind()? {
        Kind::Null => d.skip().map(|()| T::default()),
        Kind::Bytes => from_bytes(d.bytes()?).map_err(|reason| Error::invalid(offset, reason)),
        Kind::Array => super::decode_byte_elements(d).map(from_array),
        _ => Err(d.wrong_kind("a byte string")),
    }
}
