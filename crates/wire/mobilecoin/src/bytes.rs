//! Byte strings of fixed length that the wire carries as messages of one bytes field: keys, hashes, signatures, hints.

use std::fmt;

use merlin::Transcript;
use prost::DecodeError;
use prost::bytes::{Buf, BufMut};
use prost::encoding::{DecodeContext, WireType, check_wire_type, decode_varint, encode_key, encode_varint, skip_field};
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeTuple as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::{Digestible, Label, aggregate, primitive};

/// Reads the bytes field of a message into an array of its length.
fn merge_array<const N: usize>(out: &mut [u8; N], wire_type: WireType, buf: &mut impl Buf) -> Result<(), DecodeError> {
    check_wire_type(WireType::LengthDelimited, wire_type)?;
    let len = decode_varint(buf)?;
    if len != N as u64 || buf.remaining() < N {
        return Err(wrong_length(N));
    }
    buf.copy_to_slice(out);
    Ok(())
}

#[expect(deprecated, reason = "there is no other way for a message of one's own to refuse a value")]
fn wrong_length(expected: usize) -> DecodeError {
    DecodeError::new(format!("a byte string is not {expected} bytes long"))
}

/// Accepts a byte string or a list of small integers, of the array's length.
struct Bytes<const N: usize>;

impl<'de, const N: usize> Visitor<'de> for Bytes<N> {
    type Value = [u8; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{N} bytes")
    }
    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<[u8; N], E> {
        bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<[u8; N], A::Error> {
        let mut out = [0u8; N];
        for (index, byte) in out.iter_mut().enumerate() {
            *byte = seq.next_element()?.ok_or_else(|| A::Error::invalid_length(index, &self))?;
        }
        match seq.next_element::<u8>()? {
            None => Ok(out),
            Some(_) => Err(A::Error::invalid_length(N + 1, &self)),
        }
    }
}

/// How peer messages write it.
macro_rules! serialize_as {
    (bytes, $bytes:expr, $serializer:expr) => {
        $serializer.serialize_bytes($bytes)
    };
    (list, $bytes:expr, $serializer:expr) => {{
        let mut list = $serializer.serialize_tuple($bytes.len())?;
        for byte in $bytes {
            list.serialize_element(byte)?;
        }
        list.end()
    }};
}

macro_rules! deserialize_as {
    (bytes, $deserializer:expr, $len:expr) => {
        $deserializer.deserialize_bytes(Bytes::<$len>)
    };
    (list, $deserializer:expr, $len:expr) => {
        $deserializer.deserialize_tuple($len, Bytes::<$len>)
    };
}

/// How structured hashing sees it: the primitive itself, or an aggregate of one field `0`.
macro_rules! digest_as {
    (plain $kind:literal, $self:expr, $context:expr, $transcript:expr) => {
        primitive($context, $kind, &$self.0, $transcript)
    };
    (wrapped $name:literal $kind:literal, $self:expr, $context:expr, $transcript:expr) => {
        aggregate($context, $name, $transcript, |fields| {
            fields.field("0", &Primitive($kind, &$self.0));
        })
    };
}

/// A primitive of any kind as a field.
struct Primitive<'a>(Label, &'a [u8]);

impl Digestible for Primitive<'_> {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        primitive(context, self.0, self.1, transcript);
    }
}

macro_rules! fixed_bytes {
    ($(#[$doc:meta])* $name:ident, $len:expr, $cbor:ident, $($digest:tt)+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl Default for $name {
            fn default() -> Self {
                Self([0; $len])
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl From<[u8; $len]> for $name {
            fn from(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = std::array::TryFromSliceError;
            fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
                bytes.try_into().map(Self)
            }
        }

        impl prost::Message for $name {
            fn encode_raw(&self, buf: &mut impl BufMut) {
                encode_key(1, WireType::LengthDelimited, buf);
                encode_varint($len, buf);
                buf.put_slice(&self.0);
            }
            fn merge_field(
                &mut self,
                tag: u32,
                wire_type: WireType,
                buf: &mut impl Buf,
                context: DecodeContext,
            ) -> Result<(), DecodeError> {
                match tag {
                    1 => merge_array(&mut self.0, wire_type, buf),
                    _ => skip_field(wire_type, tag, buf, context),
                }
            }
            fn encoded_len(&self) -> usize {
                2 + $len
            }
            fn clear(&mut self) {
                *self = Self::default();
            }
        }

        impl Digestible for $name {
            fn digest_under(&self, context: Label, transcript: &mut Transcript) {
                digest_as!($($digest)+, self, context, transcript);
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serialize_as!($cbor, &self.0, serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserialize_as!($cbor, deserializer, $len).map(Self)
            }
        }
    };
}

fixed_bytes! {
    /// A compressed Ristretto point, 32 bytes, not known to be on the curve: public keys, commitments, key images.
    Point, 32, bytes, plain b"ristretto"
}
fixed_bytes! {
    /// A Ristretto scalar, 32 bytes little-endian, not known to be reduced.
    Scalar32, 32, bytes, plain b"scalar"
}
fixed_bytes! {
    /// A hash, 32 bytes: block ids, contents hashes, membership hashes.
    Hash, 32, list, plain b"bytes"
}
fixed_bytes! {
    /// The hash of a transaction, 32 bytes.
    TxHash, 32, list, wrapped "TxHash" b"bytes"
}
fixed_bytes! {
    /// An Ed25519 public key, 32 bytes.
    Ed25519Key, 32, bytes, wrapped "Ed25519Public" b"ed25519"
}
fixed_bytes! {
    /// An Ed25519 signature, 64 bytes.
    Ed25519Sig, 64, list, plain b"ed25519-sig"
}
fixed_bytes! {
    /// What tells a fog server whose output it is, 84 bytes, opaque here.
    FogHint, 84, list, plain b"bytes"
}
fixed_bytes! {
    /// An encrypted memo: 2 bytes of type and 64 of data.
    Memo, 66, list, wrapped "EncryptedMemo" b"bytes"
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn only_the_right_length_decodes() {
        let point = Point([7; 32]);
        let bytes = point.encode_to_vec();
        assert_eq!(Point::decode(bytes.as_slice()).unwrap(), point);
        for length in [0, 31, 33, 64] {
            let mut wrong = vec![0x0a, length as u8];
            wrong.extend(std::iter::repeat_n(1, length));
            assert!(Point::decode(wrong.as_slice()).is_err(), "{length}");
        }
        assert!(Point::decode(&bytes[..20]).is_err());
        assert!(Point::decode(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01][..]).is_err());
    }
}
