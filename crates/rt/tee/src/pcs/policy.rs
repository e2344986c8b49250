//! The policy that PCS quotes are verified under.
//!
//! Reference: `go/common/sgx/pcs/policy.go`.

use std::convert::Infallible;

use base_codec::{
    Codec,
    cbor::{self, Decode, Decoder, Encode, Encoder},
    json::{self, Context, FromJson, ToJson, Value},
};

use super::TdReport;

/// Validity of collateral in days when no policy says otherwise.
const DEFAULT_VALIDITY_DAYS: u16 = 30;
/// Least TCB evaluation data number when no policy says otherwise.
const DEFAULT_MIN_EVALUATION_NUMBER: u32 = 12;

/// Policy for PCS quotes.
///
/// CBOR and JSON: map with the field names below; `disabled`, the lists and `tdx` are left out when empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub struct QuotePolicy {
    /// Refuses all PCS quotes.
    #[codec(omitempty)]
    pub disabled: bool,
    /// Days that collateral is valid for after it was issued.
    pub tcb_validity_period: u16,
    /// Least TCB evaluation data number of collateral.
    pub min_tcb_evaluation_data_number: u32,
    /// If not empty, the only platform kinds accepted: FMSPCs in hexadecimal, compared as text.
    #[codec(omitempty)]
    pub fmspc_whitelist: Vec<String>,
    /// Platform kinds refused: FMSPCs in hexadecimal, compared as text.
    #[codec(omitempty)]
    pub fmspc_blacklist: Vec<String>,
    /// Policy for TDX quotes; without it they are refused.
    #[codec(omitempty)]
    pub tdx: Option<TdxQuotePolicy>,
}

impl QuotePolicy {
    /// What applies when neither the runtime nor the network sets a policy.
    pub fn builtin() -> Self {
        Self {
            tcb_validity_period: DEFAULT_VALIDITY_DAYS,
            min_tcb_evaluation_data_number: DEFAULT_MIN_EVALUATION_NUMBER,
            ..Self::default()
        }
    }
}

/// Policy for TDX quotes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub struct TdxQuotePolicy {
    /// TDX modules that are accepted; if empty, all that Intel signed.
    #[codec(omitempty)]
    pub allowed_tdx_modules: Vec<TdxModulePolicy>,
}

impl TdxQuotePolicy {
    /// Whether the report's TDX module is accepted.
    pub fn allows(&self, report: &TdReport) -> bool {
        if self.allowed_tdx_modules.is_empty() {
            // Intel's modules are signed by nobody in particular: MRSIGNERSEAM is zero.
            return report.mr_signer_seam == [0; 48];
        }
        self.allowed_tdx_modules.iter().any(|module| module.matches(report))
    }
}

/// A TDX module that is accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub struct TdxModulePolicy {
    /// Its measurement; any if absent.
    #[codec(omitempty)]
    pub mr_seam: Option<Measurement>,
    /// Its signer, zero for Intel.
    pub mr_signer_seam: Measurement,
}

impl TdxModulePolicy {
    /// Whether the report's TDX module is this one.
    pub fn matches(&self, report: &TdReport) -> bool {
        self.mr_seam.as_ref().is_none_or(|m| m.0 == report.mr_seam) && self.mr_signer_seam.0 == report.mr_signer_seam
    }
}

/// A TDX measurement, 48 bytes. CBOR: byte string (of any length when read: cut or zero-filled). JSON: list of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measurement(pub [u8; 48]);

impl Default for Measurement {
    fn default() -> Self {
        Self([0; 48])
    }
}

impl Encode for Measurement {
    fn encode(&self, e: &mut Encoder) {
        e.bytes(&self.0);
    }
}

impl Decode for Measurement {
    fn decode(d: &mut Decoder<'_>) -> Result<Self, cbor::Error> {
        let fitted = |bytes: &[u8]| {
            let mut out = [0; 48];
            out.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            Ok::<_, Infallible>(Self(out))
        };
        cbor::decode_binary(d, fitted, Self)
    }
}

impl ToJson for Measurement {
    fn to_json(&self) -> Value {
        Value::Array(self.0.iter().map(|b| Value::from(*b)).collect())
    }
}

impl FromJson for Measurement {
    fn from_json(v: &Value, cx: &mut Context) -> Result<Self, json::Error> {
        match v {
            Value::Null => Ok(Self::default()),
            Value::Array(list) => {
                let mut out = [0; 48];
                for (i, (to, from)) in out.iter_mut().zip(list).enumerate() {
                    *to = cx.in_index(i, |cx| u8::from_json(from, cx))?;
                }
                Ok(Self(out))
            }
            other => Err(cx.expected("a list of bytes", other)),
        }
    }
}
