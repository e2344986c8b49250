//! JSON as Go's `encoding/json` writes and reads it: the traits, and the functions that start from or end in text.
//!
//! Reading is stricter than Go's in three corners that no document of the network has: `-0` is no integer, unpaired
//! surrogate escapes are refused, and nesting is limited to 128. Where one object names a field three times in different
//! case, a repeat of the same spelling counts at the place of its first occurrence.

mod context;
mod fields;
mod impls;
#[cfg(test)]
mod tests;
mod write;

pub use context::{Context, Error, MAX_UNKNOWN_FIELDS};
pub use fields::{Fields, decode_object};
pub use serde_json::{Map, Value};
pub use write::{to_string, to_string_pretty, value_to_string, value_to_string_pretty};

/// A value with a JSON form.
pub trait ToJson {
    /// The JSON form. Numbers are integers of up to 64 bits.
    fn to_json(&self) -> Value;

    /// Left out by `omitempty`. Other than in CBOR, structs never are.
    fn is_empty_json(&self) -> bool {
        false
    }

    /// `Some(self)` is left out by `omitempty` too (lists, maps and byte strings; not pointers to scalars).
    fn is_empty_json_in_option(&self) -> bool {
        false
    }
}

/// A value that can be read from JSON with Go's leniency. `null` reads as the default value.
pub trait FromJson: Default {
    /// Reads the value; `cx` knows where `v` lies in the document.
    fn from_json(v: &Value, cx: &mut Context) -> Result<Self, Error>;
}

/// A value that can be the key of a JSON object.
pub trait JsonKey: Sized {
    /// The key.
    fn to_key(&self) -> String;
    /// Reads the key, or says why it is none.
    fn from_key(s: &str) -> Result<Self, String>;
}

/// Reads a value; unknown fields are ignored.
pub fn from_str<T: FromJson>(s: &str) -> Result<T, Error> {
    from_str_with(s, &mut Context::new())
}

/// Reads a value; the paths of unknown fields, which are ignored, are left in `cx`.
pub fn from_str_with<T: FromJson>(s: &str, cx: &mut Context) -> Result<T, Error> {
    let value: Value = serde_json::from_str(s).map_err(|e| cx.error(format!("not json: {e}")))?;
    T::from_json(&value, cx)
}
