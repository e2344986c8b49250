//! CBOR and JSON as the network's reference implementation writes and reads them, from one derive.
//!
//! Layer: L0, pure. Reference counterpart: `go/common/cbor` (over `fxamacker/cbor` v2.4.0) and Go's `encoding/json`.
//!
//! What it does not do: it knows no type of the network (keys, quantities, addresses live in `base-prims`), no
//! floating-point numbers, no tags, no indefinite lengths, and no data model of its own: values are written to and read
//! from bytes directly.
//!
//! Main types: [`cbor::Encode`], [`cbor::Decode`], [`cbor::Encoder`], [`cbor::Decoder`], [`json::ToJson`],
//! [`json::FromJson`], [`json::JsonKey`], [`Bytes`], [`Raw`], [`ByteList`], the derive [`Codec`] and the macros [`fixed_bytes!`] and
//! [`int_type!`].
//!
//! Invariants:
//! * Encoding is canonical: shortest heads, definite lengths, map keys sorted shorter first and then bytewise.
//! * Decoding accepts exactly what the reference's decoder accepts for the same Go type, because a transaction that one
//!   node reads and another refuses splits the chain. The rules are listed at [`cbor::Decoder`].
//! * No input makes a decoder panic, recurse deeper than [`cbor::MAX_DEPTH`] items, or reserve memory that the input's
//!   own items do not fill.
//!
//! Tested by verdict tables recorded from the reference, the examples of RFC 8949, and properties (round trips,
//! arbitrary bytes).

// Lets the derive's output, which names `::base_codec`, be used inside this crate and its tests.
extern crate self as base_codec;

mod bytes;
pub mod cbor;
pub mod json;
mod macros;

pub use base_codec_derive::Codec;
pub use bytes::{ByteList, Bytes, Raw};
pub use macros::FixedBytesError;

/// What the macros' output refers to; not part of the interface.
#[doc(hidden)]
pub mod __private {
    pub use hex;
    pub use serde_json::{Map, Value};
}
