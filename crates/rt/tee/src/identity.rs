//! Who an enclave is.
//!
//! Reference: `go/common/sgx/{common,quote}.go`.

use std::{fmt, str::FromStr};

use base_codec::{
    Codec,
    json::{self, Context, FromJson, JsonKey, ToJson, Value},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::text;

/// Bit of ATTRIBUTES.FLAGS of an enclave in debug mode.
pub(crate) const SGX_FLAG_DEBUG: u64 = 0b10;

base_codec::fixed_bytes! {
    /// Measurement of an SGX enclave, 32 bytes. CBOR: byte string.
    pub struct MrEnclave([u8; 32]);
}

base_codec::fixed_bytes! {
    /// Hash of an SGX enclave signer's key, 32 bytes: SHA-256 of the RSA modulus, little-endian. CBOR: byte string.
    pub struct MrSigner([u8; 32]);
}

/// Signer of enclaves that were signed with the key that everybody knows (the test key of Fortanix' SDK).
pub const TEST_MR_SIGNER: MrSigner = MrSigner::new([
    0x9a, 0xff, 0xcf, 0xae, 0x47, 0xb8, 0x48, 0xec, 0x2c, 0xaf, 0x1c, 0x49, 0xb4, 0xb2, 0x83, 0x53, 0x1e, 0x1c, 0xc4,
    0x25, 0xf9, 0x35, 0x82, 0xb3, 0x68, 0x06, 0xe5, 0x2a, 0x43, 0xd7, 0x8d, 0x1a,
]);

impl fmt::Display for MrEnclave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Display for MrSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

/// An enclave: what it is and who signed it.
///
/// CBOR (also as a map key): `{mr_enclave: bytes, mr_signer: bytes}`. JSON and JSON keys: base64 of the 64 bytes
/// `mr_enclave ‖ mr_signer`. Text: hexadecimal of the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Codec)]
#[codec(cbor_only)]
pub struct EnclaveIdentity {
    /// What it is.
    pub mr_enclave: MrEnclave,
    /// Who signed it.
    pub mr_signer: MrSigner,
}

/// A text that is no enclave identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 bytes of enclave identity")]
pub struct MalformedIdentity;

impl EnclaveIdentity {
    fn from_parts(bytes: &[u8]) -> Result<Self, MalformedIdentity> {
        let (enclave, signer) = bytes.split_at_checked(32).ok_or(MalformedIdentity)?;
        Ok(Self {
            mr_enclave: MrEnclave::try_from(enclave).map_err(|_| MalformedIdentity)?,
            mr_signer: MrSigner::try_from(signer).map_err(|_| MalformedIdentity)?,
        })
    }

    fn joined(&self) -> Vec<u8> {
        [self.mr_enclave.as_bytes().as_slice(), self.mr_signer.as_bytes()].concat()
    }
}

impl fmt::Display for EnclaveIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.mr_enclave, self.mr_signer)
    }
}

impl FromStr for EnclaveIdentity {
    type Err = MalformedIdentity;

    fn from_str(s: &str) -> Result<Self, MalformedIdentity> {
        Self::from_parts(&hex::decode(s).map_err(|_| MalformedIdentity)?)
    }
}

impl JsonKey for EnclaveIdentity {
    fn to_key(&self) -> String {
        STANDARD.encode(self.joined())
    }

    fn from_key(s: &str) -> Result<Self, String> {
        text::base64(s.as_bytes())
            .ok_or(MalformedIdentity)
            .and_then(|b| Self::from_parts(&b))
            .map_err(|e| e.to_string())
    }
}

impl ToJson for EnclaveIdentity {
    fn to_json(&self) -> Value {
        Value::String(self.to_key())
    }
}

impl FromJson for EnclaveIdentity {
    fn from_json(v: &Value, cx: &mut Context) -> Result<Self, json::Error> {
        match v {
            Value::Null => Ok(Self::default()),
            Value::String(s) => Self::from_key(s).map_err(|e| cx.error(e)),
            other => Err(cx.expected("an enclave identity", other)),
        }
    }
}

/// What a verified quote says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedQuote {
    /// What the enclave put into its report.
    pub report_data: [u8; 64],
    /// Who the enclave is.
    pub identity: EnclaveIdentity,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let id = EnclaveIdentity { mr_enclave: MrEnclave::new([1; 32]), mr_signer: MrSigner::new([2; 32]) };
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(EnclaveIdentity::from_key(&id.to_key()), Ok(id));
        assert_eq!(id.to_key(), STANDARD.encode([[1; 32], [2; 32]].concat()));
        assert_eq!("00".parse::<EnclaveIdentity>(), Err(MalformedIdentity));
        assert!(EnclaveIdentity::from_key("AA==").is_err());
        let cbor = base_codec::cbor::to_vec(&id);
        assert_eq!(cbor[..2], [0xa2, 0x69]);
        assert_eq!(base_codec::cbor::from_slice(&cbor), Ok(id));
    }
}
