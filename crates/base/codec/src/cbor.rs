//! CBOR as the reference writes and reads it: the traits, and the functions that start from or end in bytes.

mod decoder;
mod encoder;
mod error;
mod fields;
mod impls;
#[cfg(test)]
mod tests;

pub use decoder::{Decoder, Integer, Kind, MAX_DEPTH, MAX_ITEMS, well_formed};
pub use encoder::Encoder;
pub use error::Error;
pub use fields::{
    Fields, canonical_order, concat_names, decode_array_struct, decode_binary, decode_map_struct, decode_no_fields,
    encode_fields, fields_are_empty, names_are_distinct,
};
pub(crate) use impls::decode_byte_elements;

/// A value with one canonical CBOR encoding.
pub trait Encode {
    /// Appends the encoding of `self`: exactly one item.
    fn encode(&self, e: &mut Encoder);

    /// Left out by `omitempty`.
    fn is_empty(&self) -> bool {
        false
    }

    /// `Some(self)` is left out by `omitempty` too (lists, maps and byte strings; not pointers to scalars).
    fn is_empty_in_option(&self) -> bool {
        false
    }
}

/// A value that can be read from CBOR with the reference's leniency.
///
/// `null` and `undefined` decode as the default value for every type that stands for a Go non-pointer.
pub trait Decode: Default {
    /// The type stands for a Go boolean, integer or string (under whatever name).
    ///
    /// Where the reference reads a map it reuses one variable of such a type for all values, so a `null` value repeats
    /// the value before it. See [`Decoder`].
    const SCALAR: bool = false;

    /// Reads exactly one item.
    fn decode(d: &mut Decoder<'_>) -> Result<Self, Error>;
}

/// The canonical encoding of `v`.
pub fn to_vec<T: Encode + ?Sized>(v: &T) -> Vec<u8> {
    let mut e = Encoder::new();
    v.encode(&mut e);
    e.into_vec()
}

/// Reads a value from the item at the start of `b`; unknown struct fields are refused (`cbor.Unmarshal`).
///
/// Bytes after the first item are **ignored**, whatever they are: the reference's decoder does not look at them, so
/// e.g. a transaction with trailing bytes is valid. Use [`from_slice_exact`] where that is not wanted. Empty input is
/// an error; where the reference has a nil slice (an absent body), see [`Raw::decode_as`](crate::Raw::decode_as).
pub fn from_slice<T: Decode>(b: &[u8]) -> Result<T, Error> {
    T::decode(&mut Decoder::new(b)?)
}

/// As [`from_slice`], but unknown struct fields are skipped (`cbor.UnmarshalRPC`).
pub fn from_slice_relaxed<T: Decode>(b: &[u8]) -> Result<T, Error> {
    T::decode(&mut Decoder::relaxed(b)?)
}

/// As [`from_slice`], but bytes after the item are an error.
///
/// Stricter than the reference: for data that only this node writes.
pub fn from_slice_exact<T: Decode>(b: &[u8]) -> Result<T, Error> {
    let mut d = Decoder::new(b)?;
    let value = T::decode(&mut d)?;
    d.finish()?;
    Ok(value)
}
