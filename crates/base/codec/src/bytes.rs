//! Byte strings and embedded items.

use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::cbor;

/// A byte string (Go `[]byte`). A nil one is `None` of an `Option<Bytes>`. In JSON: padded standard base64.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub Vec<u8>);

/// One embedded CBOR item as its bytes (Go `cbor.RawMessage`); empty stands for an absent one, written as `null`.
/// A `null` that was read is kept as the byte `f6`. In JSON: base64 of the bytes, absent is `null`.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Raw(pub Vec<u8>);

/// A list of one-byte named integers (Go `[]T` where `T` is a `uint8` under another name).
///
/// The reference's CBOR library takes such a list for a byte string, so in CBOR this is one; in JSON it is the list of
/// its elements' own forms, and base64 of the bytes is read as well.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteList<T>(pub Vec<T>);

impl<T> Default for ByteList<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Deref for ByteList<T> {
    type Target = Vec<T>;
    fn deref(&self) -> &Vec<T> {
        &self.0
    }
}

impl<T> DerefMut for ByteList<T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.0
    }
}

impl<T> From<Vec<T>> for ByteList<T> {
    fn from(v: Vec<T>) -> Self {
        Self(v)
    }
}

macro_rules! byte_wrapper {
    ($ty:ident) => {
        impl fmt::Debug for $ty {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($ty), hex::encode(&self.0))
            }
        }
        impl Deref for $ty {
            type Target = Vec<u8>;
            fn deref(&self) -> &Vec<u8> {
                &self.0
            }
        }
        impl DerefMut for $ty {
            fn deref_mut(&mut self) -> &mut Vec<u8> {
                &mut self.0
            }
        }
        impl AsRef<[u8]> for $ty {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        impl From<Vec<u8>> for $ty {
            fn from(v: Vec<u8>) -> Self {
                Self(v)
            }
        }
        impl From<&[u8]> for $ty {
            fn from(v: &[u8]) -> Self {
                Self(v.to_vec())
            }
        }
        impl From<$ty> for Vec<u8> {
            fn from(v: $ty) -> Self {
                v.0
            }
        }
    };
}

byte_wrapper!(Bytes);
byte_wrapper!(Raw);

impl<const N: usize> From<[u8; N]> for Bytes {
    fn from(v: [u8; N]) -> Self {
        Self(v.to_vec())
    }
}

impl Raw {
    /// The item that `v` encodes to.
    pub fn of<T: cbor::Encode + ?Sized>(v: &T) -> Self {
        Self(cbor::to_vec(v))
    }

    /// Reads the item; unknown fields are refused. An absent item reads as the default value, as in the reference,
    /// where unmarshalling nil leaves the zero value untouched.
    pub fn decode_as<T: cbor::Decode>(&self) -> Result<T, cbor::Error> {
        if self.0.is_empty() { Ok(T::default()) } else { cbor::from_slice(&self.0) }
    }
}
