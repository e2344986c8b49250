//! JSON of the basic types.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use super::{Context, Error, FromJson, JsonKey, Map, ToJson, Value};
use crate::{ByteList, Bytes, Raw};

/// Padded standard base64; on input the unused bits of the last character may be set, as in Go.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

macro_rules! integers {
    ($($ty:ident $get:ident $what:literal),*) => {$(
        impl ToJson for $ty {
            fn to_json(&self) -> Value {
                Value::from(*self)
            }
            fn is_empty_json(&self) -> bool {
                *self == 0
            }
        }
        impl FromJson for $ty {
            fn from_json(v: &Value, cx: &mut Context) -> Result<Self, Error> {
                match v {
                    Value::Null => Ok(0),
                    Value::Number(n) => n.$get().and_then(|n| Self::try_from(n).ok()).ok_or_else(|| {
                        cx.error(format!(concat!("expected ", $what, " of type ", stringify!($ty), ", found {}"), n))
                    }),
                    other => Err(cx.expected($what, other)),
                }
            }
        }
        impl JsonKey for $ty {
            fn to_key(&self) -> String {
                self.to_string()
            }
            fn from_key(s: &str) -> Result<Self, String> {
                s.parse().map_err(|_| format!(concat!("expected ", $what, " of type ", stringify!($ty), ", found {:?}"), s))
            }
        }
    )*};
}

integers!(
    u8 as_u64 "an unsigned integer",
    u16 as_u64 "an unsigned integer",
    u32 as_u64 "an unsigned integer",
    u64 as_u64 "an unsigned integer",
    i8 as_i64 "an integer",
    i16 as_i64 "an integer",
    i32 as_i64 "an integer",
    i64 as_i64 "an integer"
);

impl ToJson for bool {
    fn to_json(&self) -> Value {
        Value::Bool(*self)
    }
    fn is_empty_json(&self) -> bool {
        !*self
    }
}

impl FromJson for bool {
    fn from_json(v: &Value, cx: &mut Context) -> Result<Self, Error> {
        match v {
            Value::Null => Ok(false),
            Value::Bool(b) => Ok(*b),
            other => Err(cx.expected("a boolean", other)),
        }
    }
}

impl ToJson for str {
    fn to_json(&self) -> Value {
        Value::from(self)
    }
    fn is_empty_json(&self) -> bool {
        self.is_empty()
    }
}

impl ToJson for String {
    fn to_json(&self) -> Value {
        self.as_str().to_json()
    }
    fn is_empty_json(&self) -> bool {
        self.is_empty()
    }
}

impl FromJson for String {
    fn from_json(v: &Value, cx: &mut Context) -> Result<Self, Error> {
        match v {
            Value::Null => Ok(Self::new()),
            Value::String(s) => Ok(s.clone()),
            other => Err(cx.expected("a string", other)),
        }
    }
}

impl JsonKey for String {
    fn to_key(&self) -> String {
        self.clone()
    }
    fn from_key(s: &str) -> Result<Self, String> {
        Ok(s.to_owned())
    }
}

impl ToJson for Bytes {
    fn to_json(&self) -> Value {
        Value::String(BASE64.encode(&self.0))
    }
    fn is_empty_json(&self) -> bool {
        self.0.is_empty()
    }
    fn is_empty_json_in_option(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromJson for Bytes {
    fn from_json(v: &Value, cx: &mut Context) -> Result<Self, Error> {
        match v {
            Value::Null => Ok(Self::default()),
            Value::String(s) => {
                let text: Vec<u8> = s.bytes().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
                BASE64.decode(text).map(Self).map_err(|e| cx.error(format!("not base64: {e}")))
            }
            Value::Array(_) => Vec::from_json(v, cx).map(Self),
            other => Err(cx.expected("a base64 string", other)),
        }
    }
}

impl<T: ToJson> ToJson for ByteList<T> {
    fn to_json(&self) -> Value {
        self.0.to_json()
    }
    fn is_empty_json(&self) -> bool {
        self.0.is_empty()
    }
    fn is_empty_json_in_option(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: FromJson + From<u8>> FromJson for ByteList<T> {
    fn from_json(v: &Value, cx: &mut Context) -> Result<Self, Error> {
        if v.is_string() {
            Bytes::from_json(v, cx).map(|bytes| Self(bytes.0.into_iter().map(T::from).collect()))
        } else {
            Vec::from_json(v, cx).map(Self)
        }
    }
}

impl ToJson for Raw {
    fn to_json(&self) -> Value {
        if self.0.is_empty() { Value::Null } else { Value::String(BASE64.encode(&self.0)) }
    }
    fn is_empty_json(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromJson for Raw {
    fn from_json(v: &Value, cx: &mut Context) -> Result<Self, Error> {
        Bytes::from_json(v, cx).map(|bytes| Self(bytes.0))
    }
}

/// A plain Go `[n]byte`: in JSON a list of numbers.
impl<const N: usize> ToJson for [u8; N] {
    fn to_json(&self) -> Value {
        self.as_slice().to_json()
    }
    fn is_empty_json(&self) -> bool {
        N == 0
    }
}

impl<const N: usize> FromJson for [u8; N]
where
    [u8; N]: Default,
{
    fn from_json(v: &Value, cx: &mut Context) -> Result<Self, Error> {
        let mut out = [0; N];
        match v {
            Value::Null => {}
            Value::Array(items) => {
                for (i, (item, byte)) in items.iter().zip(&mut out).enumerate() {
                    *byte = cx.in_index(i, |cx| u8::from_json(item, cx))?;
                }
            }
            other => return Err(cx.expected("an array", other)),
        }
        Ok(out)
    }
}

impl<T: ToJson> ToJson for [T] {
    fn to_json(&self) -> Value {
        Value::Array(self.iter().map(T::to_json).collect())
    }
    fn is_empty_json(&self) -> bool {
        self.is_empty()
    }
    fn is_empty_json_in_option(&self) -> bool {
        self.is_empty()
    }
}

impl<T: ToJson> ToJson for Vec<T> {
    fn to_json(&self) -> Value {
        self.as_slice().to_json()
    }
    fn is_empty_json(&self) -> bool {
        self.is_empty()
    }
    fn is_empty_json_in_option(&self) -> bool {
        self.is_empty()
    }
}

impl<T: FromJson> FromJson for Vec<T> {
    fn from_json(v: &Value, cx: &mut Context) -> Result<Self, Error> {
        match v {
            Value::Null => Ok(Self::new()),
            Value::Array(items) => {
                items.iter().enumerate().map(|(i, item)| cx.in_index(i, |cx| T::from_json(item, cx))).collect()
            }
            other => Err(cx.expected("an array", other)),
        }
    }
}

impl<K: JsonKey, V: ToJson> ToJson for BTreeMap<K, V> {
    fn to_json(&self) -> Value {
        let mut entries: Vec<_> = self.iter().map(|(key, value)| (key.to_key(), value.to_json())).collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        Value::Object(entries.into_iter().collect())
    }
    fn is_empty_json(&self) -> bool {
        self.is_empty()
    }
    fn is_empty_json_in_option(&self) -> bool {
        self.is_empty()
    }
}

impl<K: JsonKey + Ord, V: FromJson> FromJson for BTreeMap<K, V> {
    fn from_json(v: &Value, cx: &mut Context) -> Result<Self, Error> {
        let object: &Map<String, Value> = match v {
            Value::Null => return Ok(Self::new()),
            Value::Object(object) => object,
            other => return Err(cx.expected("an object", other)),
        };
        let mut out = Self::new();
        for (key, value) in object {
            let parsed = K::from_key(key).map_err(|problem| cx.error(format!("key {key:?}: {problem}")))?;
            out.insert(parsed, cx.in_key(key, |cx| V::from_json(value, cx))?);
        }
        Ok(out)
    }
}

impl<T: ToJson> ToJson for Option<T> {
    fn to_json(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::to_json)
    }
    fn is_empty_json(&self) -> bool {
        self.as_ref().is_none_or(T::is_empty_json_in_option)
    }
}

impl<T: FromJson> FromJson for Option<T> {
    fn from_json(v: &Value, cx: &mut Context) -> Result<Self, Error> {
        if v.is_null() { Ok(None) } else { T::from_json(v, cx).map(Some) }
    }
}

impl<T: ToJson + ?Sized> ToJson for Box<T> {
    fn to_json(&self) -> Value {
        (**self).to_json()
    }
    fn is_empty_json(&self) -> bool {
        (**self).is_empty_json()
    }
    fn is_empty_json_in_option(&self) -> bool {
        (**self).is_empty_json_in_option()
    }
}

impl<T: FromJson> FromJson for Box<T> {
    fn from_json(v: &Value, cx: &mut Context) -> Result<Self, Error> {
        T::from_json(v, cx).map(Self::new)
    }
}

impl<T: ToJson + ?Sized> ToJson for &T {
    fn to_json(&self) -> Value {
        (**self).to_json()
    }
    fn is_empty_json(&self) -> bool {
        (**self).is_empty_json()
    }
    fn is_empty_json_in_option(&self) -> bool {
        (**self).is_empty_json_in_option()
    }
}

/// Any JSON, passed through as it is.
impl ToJson for Value {
    fn to_json(&self) -> Value {
        self.clone()
    }
    fn is_empty_json(&self) -> bool {
        self.is_null()
    }
}

impl FromJson for Value {
    fn from_json(v: &Value, _cx: &mut Context) -> Result<Self, Error> {
        Ok(v.clone())
    }
}
