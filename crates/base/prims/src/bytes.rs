//! The 32-byte hash.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::ParseError;

base_codec::fixed_bytes! {
    /// A SHA-512/256 hash, 32 bytes.
    ///
    /// CBOR: byte string. Text and JSON: lower-case hexadecimal; base64 is accepted too.
    /// Source: `go/common/crypto/hash`.
    pub struct Hash([u8; 32]);
}

impl Hash {
    /// Hash of the empty string: what the reference calls the empty hash.
    pub const EMPTY: Self = Self::new([
        0xc6, 0x72, 0xb8, 0xd1, 0xef, 0x56, 0xed, 0x28, 0xab, 0x87, 0xc3, 0x62, 0x2c, 0x51, 0x14, 0x06, 0x9b, 0xdd,
        0x3a, 0xd7, 0xb8, 0xf9, 0x73, 0x74, 0x98, 0xd0, 0xc0, 0x1e, 0xce, 0xf0, 0x96, 0x7a,
    ]);

    /// SHA-512/256 of the parts, one after another.
    pub fn of(parts: &[&[u8]]) -> Self {
        Self::new(base_crypto::hash::sha512_256(parts))
    }

    /// SHA-512/256 of the canonical CBOR of `v`.
    pub fn of_cbor<T: base_codec::cbor::Encode + ?Sized>(v: &T) -> Self {
        Self::of(&[&base_codec::cbor::to_vec(v)])
    }

    /// Whether this is the hash of the empty string.
    pub fn is_empty_hash(&self) -> bool {
        *self == Self::EMPTY
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.as_bytes()))
    }
}

/// Reads 32 bytes in hexadecimal or, failing that, base64.
pub(crate) fn parse_hex_or_base64<const N: usize>(s: &str) -> Option<[u8; N]> {
    if let Ok(v) = hex::decode(s)
        && let Ok(a) = <[u8; N]>::try_from(v.as_slice())
    {
        return Some(a);
    }
    <[u8; N]>::try_from(STANDARD.decode(s).ok()?.as_slice()).ok()
}

impl FromStr for Hash {
    type Err = ParseError;
    fn from_str(s: &str) -> Result<Self, ParseError> {
        parse_hex_or_base64(s).map(Self::new).ok_or_else(|| ParseError::new("a hash of 64 hexadecimal digits", s))
    }
}

crate::json_as_text!(Hash, "a hash of 64 hexadecimal digits");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_hash_is_the_hash_of_nothing() {
        assert_eq!(Hash::of(&[]), Hash::EMPTY);
        assert!(Hash::of(&[b""]).is_empty_hash());
        assert_eq!(Hash::of(&[b"a", b"b"]), Hash::of(&[b"ab"]));
    }

    #[test]
    fn reads_hexadecimal_and_base64() {
        let h = Hash::of(&[b"x"]);
        assert_eq!(h.to_string().parse(), Ok(h));
        assert_eq!(STANDARD.encode(h.as_bytes()).parse(), Ok(h));
        assert!("00ff".parse::<Hash>().is_err());
    }
}
