//! TEE features, quote policies and enclave identities as they stand in descriptors and parameters.
//!
//! What a quote is and how it is verified is in `rt-tee`.

use std::{fmt, str::FromStr};

use base_codec::{Codec, cbor, fixed_bytes, int_type, json};
use base_prims::ParseError;
use base64::{Engine as _, engine::general_purpose::STANDARD};

fixed_bytes! {
    /// Measurement of an enclave's signer, 32 bytes. Text: hexadecimal.
    pub struct MrSigner([u8; 32]);
}
fixed_bytes! {
    /// Measurement of an enclave, 32 bytes. Text: hexadecimal.
    pub struct MrEnclave([u8; 32]);
}

macro_rules! hex_text {
    ($t:ident) => {
        impl fmt::Display for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.as_bytes()))
            }
        }
        impl FromStr for $t {
            type Err = ParseError;
            fn from_str(s: &str) -> Result<Self, ParseError> {
                let mut out = [0; 32];
                hex::decode_to_slice(s, &mut out)
                    .map_err(|_| ParseError::new("a measurement of 64 hexadecimal digits", s))?;
                Ok(Self::new(out))
            }
        }
        base_prims::json_as_text!($t, "a measurement of 64 hexadecimal digits");
    };
}
hex_text!(MrSigner);
hex_text!(MrEnclave);

/// An enclave: measurement and signer. CBOR: map; text: base64 of both, 64 bytes. Source: `go/common/sgx`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EnclaveIdentity {
    /// Measurement of the enclave.
    pub mr_enclave: MrEnclave,
    /// Measurement of the signer.
    pub mr_signer: MrSigner,
}

#[derive(Default, Codec)]
#[codec(cbor_only)]
struct EnclaveIdentityMap {
    mr_enclave: MrEnclave,
    mr_signer: MrSigner,
}

impl cbor::Encode for EnclaveIdentity {
    fn encode(&self, e: &mut cbor::Encoder) {
        EnclaveIdentityMap { mr_enclave: self.mr_enclave, mr_signer: self.mr_signer }.encode(e);
    }
}

impl cbor::Decode for EnclaveIdentity {
    fn decode(d: &mut cbor::Decoder<'_>) -> Result<Self, cbor::Error> {
        let m = EnclaveIdentityMap::decode(d)?;
        Ok(Self { mr_enclave: m.mr_enclave, mr_signer: m.mr_signer })
    }
}

impl fmt::Display for EnclaveIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode([*self.mr_enclave.as_bytes(), *self.mr_signer.as_bytes()].concat()))
    }
}

impl FromStr for EnclaveIdentity {
    type Err = ParseError;
    fn from_str(s: &str) -> Result<Self, ParseError> {
        let err = || ParseError::new("an enclave identity of 64 bytes in base64", s);
        let bytes = STANDARD.decode(s).map_err(|_| err())?;
        let (enclave, signer) = bytes.split_at_checked(32).ok_or_else(err)?;
        Ok(Self {
            mr_enclave: MrEnclave::try_from(enclave).map_err(|_| err())?,
            mr_signer: MrSigner::try_from(signer).map_err(|_| err())?,
        })
    }
}
base_prims::json_as_text!(EnclaveIdentity, "an enclave identity of 64 bytes in base64");

int_type! { int
    /// TEE hardware; an integer in JSON too. Source: `go/common/node`.
    pub struct TeeHardware: u8 {
        INVALID = 0 => "invalid",
        INTEL_SGX = 1 => "intel-sgx",
    }
}

int_type! { text
    /// Status of a quote in an attestation verification report. Source: `go/common/sgx/ias`.
    pub struct IsvEnclaveQuoteStatus: i64 {
        FIELD_MISSING = 0 => "",
        OK = 1 => "OK",
        SIGNATURE_INVALID = 2 => "SIGNATURE_INVALID",
        GROUP_REVOKED = 3 => "GROUP_REVOKED",
        SIGNATURE_REVOKED = 4 => "SIGNATURE_REVOKED",
        KEY_REVOKED = 5 => "KEY_REVOKED",
        SIGRL_VERSION_MISMATCH = 6 => "SIGRL_VERSION_MISMATCH",
        GROUP_OUT_OF_DATE = 7 => "GROUP_OUT_OF_DATE",
        CONFIGURATION_NEEDED = 8 => "CONFIGURATION_NEEDED",
        SW_HARDENING_NEEDED = 9 => "SW_HARDENING_NEEDED",
        CONFIGURATION_AND_SW_HARDENING_NEEDED = 10 => "CONFIGURATION_AND_SW_HARDENING_NEEDED",
    }
}

/// Policy for quotes of the EPID service.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct IasQuotePolicy {
    /// Refuse all such quotes.
    #[codec(omitempty)]
    pub disabled: bool,
    /// Statuses allowed beside OK and SW_HARDENING_NEEDED.
    #[codec(omitempty)]
    pub allowed_quote_statuses: Vec<IsvEnclaveQuoteStatus>,
    /// Blocked EPID groups.
    #[codec(omitempty)]
    pub gid_blacklist: Vec<u32>,
    /// Lowest TCB evaluation data number.
    #[codec(omitempty)]
    pub min_tcb_evaluation_data_number: u32,
}

/// Policy for quotes of the provisioning certification service.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct PcsQuotePolicy {
    /// Refuse all such quotes.
    #[codec(omitempty)]
    pub disabled: bool,
    /// Days for which TCB collateral is valid.
    pub tcb_validity_period: u16,
    /// Lowest TCB evaluation data number.
    pub min_tcb_evaluation_data_number: u32,
    /// Platforms allowed, in hexadecimal; empty allows all.
    #[codec(omitempty)]
    pub fmspc_whitelist: Vec<String>,
    /// Platforms blocked, in hexadecimal.
    #[codec(omitempty)]
    pub fmspc_blacklist: Vec<String>,
    /// TDX policy; absent refuses TDX quotes.
    #[codec(omitempty)]
    pub tdx: Option<TdxQuotePolicy>,
}

/// Policy for TDX quotes.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct TdxQuotePolicy {
    /// Modules allowed; empty allows any that Intel signed.
    #[codec(omitempty)]
    pub allowed_tdx_modules: Vec<TdxModulePolicy>,
}

fixed_bytes! {
    /// A measurement of 48 bytes. JSON: list of numbers, as Go writes plain byte arrays.
    pub struct Measurement([u8; 48]);
}

impl json::ToJson for Measurement {
    fn to_json(&self) -> json::Value {
        json::Value::Array(self.as_bytes().iter().map(|b| json::Value::from(*b)).collect())
    }
}

impl json::FromJson for Measurement {
    fn from_json(v: &json::Value, cx: &mut json::Context) -> Result<Self, json::Error> {
        if v.is_null() {
            return Ok(Self::default());
        }
        let numbers = v.as_array().ok_or_else(|| cx.expected("a list of 48 numbers below 256", v))?;
        let mut out = [0; 48];
        // As in Go, further numbers are dropped and missing ones are zero.
        for (o, n) in out.iter_mut().zip(numbers) {
            let byte = n.as_u64().and_then(|n| u8::try_from(n).ok());
            *o = byte.ok_or_else(|| cx.expected("a number below 256", n))?;
        }
        Ok(Self::new(out))
    }
}

/// A TDX module that is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct TdxModulePolicy {
    /// Measurement of the module, 48 bytes; absent allows any.
    #[codec(omitempty)]
    pub mr_seam: Option<Measurement>,
    /// Measurement of its signer, 48 bytes.
    pub mr_signer_seam: Measurement,
}

/// Policy for quotes.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct QuotePolicy {
    /// For the EPID service.
    #[codec(omitempty)]
    pub ias: Option<IasQuotePolicy>,
    /// For the provisioning certification service.
    #[codec(omitempty)]
    pub pcs: Option<PcsQuotePolicy>,
}

/// TEE features that the consensus layer supports. Source: `go/common/node/tee.go`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct TeeFeatures {
    /// For Intel SGX.
    pub sgx: TeeFeaturesSgx,
    /// Whether `registry.ProveFreshness` exists.
    pub freshness_proofs: bool,
}

/// Features for Intel SGX and TDX.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct TeeFeaturesSgx {
    /// Whether quotes of the provisioning certification service are supported.
    pub pcs: bool,
    /// Whether attestations must be signed.
    #[codec(omitempty)]
    pub signed_attestations: bool,
    /// Policy where a runtime gives none.
    #[codec(omitempty)]
    pub default_policy: Option<QuotePolicy>,
    /// Age of attestations in blocks where a runtime gives none.
    #[codec(rename = "max_attestation_age", omitempty)]
    pub default_max_attestation_age: u64,
    /// Whether TDX is supported.
    #[codec(omitempty)]
    pub tdx: bool,
}
