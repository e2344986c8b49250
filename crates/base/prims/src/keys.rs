//! Public keys and raw signatures.

use std::{fmt, str::FromStr, sync::LazyLock};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{Hash, ParseError};

base_codec::fixed_bytes! {
    /// An Ed25519 public key, 32 bytes.
    ///
    /// CBOR: byte string. Text and JSON: base64. Source: `go/common/crypto/signature`.
    pub struct PublicKey([u8; 32]);
}

base_codec::fixed_bytes! {
    /// An Ed25519 signature, 64 bytes.
    ///
    /// CBOR: byte string. Text and JSON: base64. Source: `go/common/crypto/signature`.
    pub struct RawSignature([u8; 64]);
}

/// The public keys behind the reserved addresses, in the order common pool, fee accumulator, governance deposits, burn.
///
/// Nobody holds their private keys; signatures by them never verify.
pub static RESERVED_KEYS: LazyLock<[PublicKey; 4]> = LazyLock::new(|| {
    let filled = |prefix: &str| {
        let text = format!("{prefix:f<64}");
        let mut out = [0; 32];
        hex::decode_to_slice(text, &mut out).expect("the prefixes are hexadecimal");
        PublicKey::new(out)
    };
    [
        filled("1abe11edc001"),
        filled("1abe11edfeeacc"),
        filled("1abe11eddeacc"),
        filled("8a4a49afa334bd61da65766d9b2cc8e7c263ba9a446f36e5227f3ec5c0988825"),
    ]
});

impl PublicKey {
    /// Whether the key belongs to a reserved address and so never verifies.
    pub fn is_reserved(&self) -> bool {
        RESERVED_KEYS.contains(self)
    }

    /// SHA-512/256 of the 32 bytes.
    pub fn hash(&self) -> Hash {
        Hash::of(&[self.as_bytes()])
    }

    /// CometBFT address: the first 20 bytes of SHA-256 of the key.
    pub fn comet_address(&self) -> [u8; 20] {
        let mut out = [0; 20];
        out.copy_from_slice(&base_crypto::hash::sha256(&[self.as_bytes()])[..20]);
        out
    }

    /// Verifies a signature over an already prepared message (see `base_crypto::context::prepare`).
    pub fn verify_prepared(&self, prepared: &[u8; 32], signature: &RawSignature) -> bool {
        !self.is_reserved() && base_crypto::ed25519::verify(self.as_bytes(), prepared, signature.as_bytes())
    }
}

macro_rules! base64_text {
    ($t:ident, $n:expr, $expected:expr) => {
        impl fmt::Display for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&STANDARD.encode(self.as_bytes()))
            }
        }
        impl FromStr for $t {
            type Err = ParseError;
            fn from_str(s: &str) -> Result<Self, ParseError> {
                let bytes = STANDARD.decode(s).map_err(|_| ParseError::new($expected, s))?;
                <[u8; $n]>::try_from(bytes.as_slice()).map(Self::new).map_err(|_| ParseError::new($expected, s))
            }
        }
        crate::json_as_text!($t, $expected);
    };
}

base64_text!(PublicKey, 32, "a public key of 32 bytes in base64");
base64_text!(RawSignature, 64, "a signature of 64 bytes in base64");
