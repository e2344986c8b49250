//! Namespaces: the identifiers of runtimes.

use std::{fmt, str::FromStr};

use base_codec::cbor;
use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{Hash, ParseError};

/// A runtime's identifier: 8 bytes of flags (big-endian) and 24 bytes of id.
///
/// CBOR: byte string of 32. Text and JSON: lower-case hexadecimal; base64 is accepted too. Decoding refuses unknown
/// flag bits. Source: `go/common/namespace.go`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Namespace([u8; 32]);

impl Namespace {
    /// The namespace of all zeros, under which the consensus layer's own state lives.
    pub const ZERO: Self = Self([0; 32]);
    /// Flag of a test runtime.
    pub const FLAG_TEST: u64 = 1 << 63;
    /// Flag of a key manager runtime.
    pub const FLAG_KEY_MANAGER: u64 = 1 << 62;

    /// Takes the bytes as they are.
    pub const fn from_bytes_unchecked(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The flag bits.
    pub fn flags(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// Whether only known flag bits are set.
    pub fn has_known_flags(&self) -> bool {
        self.flags() & !(Self::FLAG_TEST | Self::FLAG_KEY_MANAGER) == 0
    }

    /// Whether this names a test runtime.
    pub fn is_test(&self) -> bool {
        self.flags() & Self::FLAG_TEST != 0
    }

    /// Whether this names a key manager runtime.
    pub fn is_key_manager(&self) -> bool {
        self.flags() & Self::FLAG_KEY_MANAGER != 0
    }

    /// SHA-512/256 of the 32 bytes.
    pub fn hash(&self) -> Hash {
        Hash::of(&[&self.0])
    }
}

impl TryFrom<&[u8]> for Namespace {
    type Error = ParseError;
    fn try_from(b: &[u8]) -> Result<Self, ParseError> {
        let expected = "a namespace of 32 bytes with only known flags";
        let ns = <[u8; 32]>::try_from(b).map(Self).map_err(|_| ParseError::new(expected, &hex::encode(b)))?;
        if ns.has_known_flags() { Ok(ns) } else { Err(ParseError::new(expected, &ns.to_string())) }
    }
}

impl cbor::Encode for Namespace {
    fn encode(&self, e: &mut cbor::Encoder) {
        e.bytes(&self.0);
    }
}

impl cbor::Decode for Namespace {
    fn decode(d: &mut cbor::Decoder<'_>) -> Result<Self, cbor::Error> {
        cbor::decode_binary(d, Self::try_from, Self)
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Namespace({self})")
    }
}

impl FromStr for Namespace {
    type Err = ParseError;
    fn from_str(s: &str) -> Result<Self, ParseError> {
        if let Ok(v) = hex::decode(s)
            && let Ok(ns) = Self::try_from(v.as_slice())
        {
            return Ok(ns);
        }
        let v = STANDARD.decode(s).map_err(|_| ParseError::new("a namespace of 64 hexadecimal digits", s))?;
        Self::try_from(v.as_slice())
    }
}

crate::json_as_text!(Namespace, "a namespace of 64 hexadecimal digits");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags() {
        let ns: Namespace = "8000000000000000000000000000000000000000000000000000000000000001".parse().unwrap();
        assert!(ns.is_test() && !ns.is_key_manager());
        let ns: Namespace = "c000000000000000000000000000000000000000000000000000000000000001".parse().unwrap();
        assert!(ns.is_test() && ns.is_key_manager());
        assert!("2000000000000000000000000000000000000000000000000000000000000001".parse::<Namespace>().is_err());
    }
}
