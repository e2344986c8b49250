//! JSON of structs: what the derive's output is made of.

use super::{Context, Error, Map, Value};

/// A struct as a list of named fields, those of embedded structs included. Implemented by the derive.
pub trait Fields: Default {
    /// The fields' names in order of declaration.
    const JSON_NAMES: &'static [&'static str];

    /// Adds the fields that are written.
    fn write_fields(&self, out: &mut Map<String, Value>);

    /// Reads field `i`.
    fn read_field(&mut self, i: usize, v: &Value, cx: &mut Context) -> Result<(), Error>;
}

/// Folds a character as Go does to compare names that may differ in case, as far as ASCII names can match.
fn fold(c: char) -> char {
    match c {
        '\u{17f}' => 'S',
        '\u{212a}' => 'K',
        c => c.to_ascii_uppercase(),
    }
}

/// The field that `key` names: exactly, else when case is ignored.
fn find(names: &[&str], key: &str) -> Option<usize> {
    names
        .iter()
        .position(|name| *name == key)
        .or_else(|| names.iter().position(|name| name.chars().map(fold).eq(key.chars().map(fold))))
}

/// Reads an object into the fields called `names`, giving each value that is found to `set`. `null` sets nothing, the
/// last of several values for one field wins, and fields of other names are noted in `cx`.
pub fn decode_object(
    v: &Value,
    cx: &mut Context,
    names: &[&str],
    mut set: impl FnMut(usize, &Value, &mut Context) -> Result<(), Error>,
) -> Result<(), Error> {
    let object = match v {
        Value::Null => return Ok(()),
        Value::Object(object) => object,
        other => return Err(cx.expected("an object", other)),
    };
    for (key, value) in object {
        match find(names, key) {
            Some(i) => cx.in_key(names[i], |cx| set(i, value, cx))?,
            None => cx.note_unknown(key),
        }
    }
    Ok(())
}
