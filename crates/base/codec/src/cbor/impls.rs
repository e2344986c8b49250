//! CBOR of the basic types.

use std::collections::BTreeMap;

use super::{Decode, Decoder, Encode, Encoder, Error, Integer, Kind};
use crate::{ByteList, Bytes, Raw};

/// Memory reserved for a list before its elements are seen, in bytes; more is taken as they come.
const INITIAL_RESERVE: usize = 4096;

/// How many elements of `T` to make room for when `count` are announced.
pub(super) fn initial_capacity<T>(count: usize) -> usize {
    count.min(INITIAL_RESERVE / size_of::<T>().max(1))
}

macro_rules! integers {
    ($($ty:ident $widen:ident $write:ident),*) => {$(
        impl Encode for $ty {
            fn encode(&self, e: &mut Encoder) {
                e.$write($widen::from(*self));
            }
            fn is_empty(&self) -> bool {
                *self == 0
            }
        }
        impl Decode for $ty {
            const SCALAR: bool = true;
            fn decode(d: &mut Decoder<'_>) -> Result<Self, Error> {
                if d.take_null() {
                    return Ok(0);
                }
                let offset = d.offset();
                let value = d.integer()?;
                let fits = match value {
                    Integer::Unsigned(n) => Self::try_from(n).ok(),
                    Integer::Negative(_) => Self::try_from(value.value()).ok(),
                };
                fits.ok_or(Error::IntegerRange { offset, value: value.value(), target: stringify!($ty) })
            }
        }
    )*};
}

integers!(u8 u64 uint, u16 u64 uint, u32 u64 uint, u64 u64 uint, i8 i64 int, i16 i64 int, i32 i64 int, i64 i64 int);

impl Encode for bool {
    fn encode(&self, e: &mut Encoder) {
        e.bool(*self);
    }
    fn is_empty(&self) -> bool {
        !*self
    }
}

impl Decode for bool {
    const SCALAR: bool = true;
    fn decode(d: &mut Decoder<'_>) -> Result<Self, Error> {
        if d.take_null() { Ok(false) } else { d.bool() }
    }
}

impl Encode for str {
    fn encode(&self, e: &mut Encoder) {
        e.text(self);
    }
    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

impl Encode for String {
    fn encode(&self, e: &mut Encoder) {
        e.text(self);
    }
    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

impl Decode for String {
    const SCALAR: bool = true;
    fn decode(d: &mut Decoder<'_>) -> Result<Self, Error> {
        if d.take_null() { Ok(Self::new()) } else { d.text().map(str::to_owned) }
    }
}

impl Encode for Bytes {
    fn encode(&self, e: &mut Encoder) {
        e.bytes(&self.0);
    }
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    fn is_empty_in_option(&self) -> bool {
        self.0.is_empty()
    }
}

impl Decode for Bytes {
    fn decode(d: &mut Decoder<'_>) -> Result<Self, Error> {
        match d.kind()? {
            Kind::Null => d.skip().map(|()| Self::default()),
            Kind::Bytes => Ok(Self(d.bytes()?.to_vec())),
            Kind::Array => Ok(Self(Vec::decode(d)?)),
            _ => Err(d.wrong_kind("a byte string")),
        }
    }
}

impl<T: Copy + Into<u8>> Encode for ByteList<T> {
    fn encode(&self, e: &mut Encoder) {
        let bytes: Vec<u8> = self.0.iter().map(|item| (*item).into()).collect();
        e.bytes(&bytes);
    }
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    fn is_empty_in_option(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: From<u8>> Decode for ByteList<T> {
    fn decode(d: &mut Decoder<'_>) -> Result<Self, Error> {
        Bytes::decode(d).map(|bytes| Self(bytes.0.into_iter().map(T::from).collect()))
    }
}

impl Encode for Raw {
    fn encode(&self, e: &mut Encoder) {
        if self.0.is_empty() { e.null() } else { e.raw(&self.0) }
    }
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Decode for Raw {
    fn decode(d: &mut Decoder<'_>) -> Result<Self, Error> {
        Ok(Self(d.raw_item()?.to_vec()))
    }
}

/// Reads an array of small integers into `N` bytes: elements past the end are passed over whatever they are, missing
/// ones are zero.
pub(crate) fn decode_byte_elements<const N: usize>(d: &mut Decoder<'_>) -> Result<[u8; N], Error> {
    let mut out = [0; N];
    for i in 0..d.array()? {
        match out.get_mut(i) {
            Some(byte) => *byte = u8::decode(d)?,
            None => d.skip()?,
        }
    }
    Ok(out)
}

/// A plain Go `[n]byte`: a byte string; any length is accepted when reading.
impl<const N: usize> Encode for [u8; N] {
    fn encode(&self, e: &mut Encoder) {
        e.bytes(self);
    }
    fn is_empty(&self) -> bool {
        N == 0
    }
}

impl<const N: usize> Decode for [u8; N]
where
    [u8; N]: Default,
{
    fn decode(d: &mut Decoder<'_>) -> Result<Self, Error> {
        match d.kind()? {
            Kind::Null => d.skip().map(|()| [0; N]),
            Kind::Bytes => {
                let bytes = d.bytes()?;
                let mut out = [0; N];
                let len = bytes.len().min(N);
                out[..len].copy_from_slice(&bytes[..len]);
                Ok(out)
            }
            Kind::Array => decode_byte_elements(d),
            _ => Err(d.wrong_kind("a byte string")),
        }
    }
}

impl<T: Encode> Encode for [T] {
    fn encode(&self, e: &mut Encoder) {
        e.array(self.len());
        for item in self {
            item.encode(e);
        }
    }
    fn is_empty(&self) -> bool {
        self.is_empty()
    }
    fn is_empty_in_option(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn encode(&self, e: &mut Encoder) {
        self.as_slice().encode(e);
    }
    fn is_empty(&self) -> bool {
        self.is_empty()
    }
    fn is_empty_in_option(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(d: &mut Decoder<'_>) -> Result<Self, Error> {
        if d.take_null() {
            return Ok(Self::new());
        }
        let count = d.array()?;
        let mut out = Self::with_capacity(initial_capacity::<T>(count));
        for _ in 0..count {
            out.push(T::decode(d)?);
        }
        Ok(out)
    }
}

impl<K: Encode, V: Encode> Encode for BTreeMap<K, V> {
    fn encode(&self, e: &mut Encoder) {
        e.map_sorted(self.iter());
    }
    fn is_empty(&self) -> bool {
        self.is_empty()
    }
    fn is_empty_in_option(&self) -> bool {
        self.is_empty()
    }
}

impl<K: Decode + Ord, V: Decode> Decode for BTreeMap<K, V> {
    fn decode(d: &mut Decoder<'_>) -> Result<Self, Error> {
        if d.take_null() {
            return Ok(Self::new());
        }
        let mut out = Self::new();
        // Where the last value that was not null begins.
        let mut last_value = None;
        for i in 0..d.map()? {
            let offset = d.offset();
            if K::SCALAR && i > 0 && d.is_null() {
                // A null key repeats the key before it.
                return Err(Error::DuplicateKey { offset });
            }
            let key = K::decode(d)?;
            let value = match last_value {
                Some(last) if V::SCALAR && d.is_null() => {
                    d.skip()?;
                    V::decode(&mut d.at(last))?
                }
                _ => {
                    if !d.is_null() {
                        last_value = Some(d.offset());
                    }
                    V::decode(d)?
                }
            };
            if out.insert(key, value).is_some() {
                return Err(Error::DuplicateKey { offset });
            }
        }
        Ok(out)
    }
}

/// A Go pointer; also a Go slice or map that tells nil from empty.
impl<T: Encode> Encode for Option<T> {
    fn encode(&self, e: &mut Encoder) {
        match self {
            Some(value) => value.encode(e),
            None => e.null(),
        }
    }
    fn is_empty(&self) -> bool {
        self.as_ref().is_none_or(T::is_empty_in_option)
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(d: &mut Decoder<'_>) -> Result<Self, Error> {
        if d.take_null() { Ok(None) } else { T::decode(d).map(Some) }
    }
}

impl<T: Encode + ?Sized> Encode for Box<T> {
    fn encode(&self, e: &mut Encoder) {
        (**self).encode(e);
    }
    fn is_empty(&self) -> bool {
        (**self).is_empty()
    }
    fn is_empty_in_option(&self) -> bool {
        (**self).is_empty_in_option()
    }
}

impl<T: Decode> Decode for Box<T> {
    const SCALAR: bool = T::SCALAR;
    fn decode(d: &mut Decoder<'_>) -> Result<Self, Error> {
        T::decode(d).map(Self::new)
    }
}

impl<T: Encode + ?Sized> Encode for &T {
    fn encode(&self, e: &mut Encoder) {
        (**self).encode(e);
    }
    fn is_empty(&self) -> bool {
        (**self).is_empty()
    }
    fn is_empty_in_option(&self) -> bool {
        (**self).is_empty_in_option()
    }
}
