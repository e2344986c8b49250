//! Quotes that nobody signed, for networks that skip verification.
//!
//! Reference: `go/common/sgx/pcs/mock.go`.

use super::{
    Error,
    quote::{DATA_PCK_CHAIN, INTEL_VENDOR_ID, KEY_TYPE_ECDSA_P256, SIGNATURE_MIN_LEN},
    report::SGX_REPORT_LEN,
};

/// Bytes of a report together with its key identifier and authentication code.
const REPORT_WITH_MAC_LEN: usize = 432;

/// A genuine chain of Intel's, so that its platform kind can be looked up; its leaf did not sign the mock quote.
const PCK_CHAIN: &[u8] = include_bytes!("../../data/mock-pck-chain.pem");

/// A version 3 quote about the report (384 bytes, or 432 with its authentication code, which is dropped), with all
/// signatures zero.
///
/// It passes only where [`skip_pcs_verify`](crate::VerifyOptions::skip_pcs_verify) is set.
///
/// # Errors
///
/// If the report has another length.
pub fn mock_quote(report: &[u8]) -> Result<Vec<u8>, Error> {
    if !matches!(report.len(), SGX_REPORT_LEN | REPORT_WITH_MAC_LEN) {
        return Err(Error::MalformedQuote { part: "report" });
    }
    let mut out = Vec::with_capacity(48 + SGX_REPORT_LEN + 4 + SIGNATURE_MIN_LEN + PCK_CHAIN.len());
    // Version, key type, reserved, security versions of the quoting and provisioning enclaves.
    for half in [3, KEY_TYPE_ECDSA_P256, 0, 0, 9, 13] {
        out.extend_from_slice(&half.to_le_bytes());
    }
    out.extend_from_slice(&INTEL_VENDOR_ID);
    out.extend_from_slice(&[0; 20]);
    out.extend(report.iter().take(SGX_REPORT_LEN));
    let length = |n: usize| u32::try_from(n).map_err(|_| Error::MalformedQuote { part: "length" });
    out.extend_from_slice(&length(SIGNATURE_MIN_LEN + PCK_CHAIN.len())?.to_le_bytes());
    // Signature, key, QE report, QE report signature and the size of no authentication data.
    out.extend_from_slice(&[0; SIGNATURE_MIN_LEN - 6]);
    out.extend_from_slice(&DATA_PCK_CHAIN.to_le_bytes());
    out.extend_from_slice(&length(PCK_CHAIN.len())?.to_le_bytes());
    out.extend_from_slice(PCK_CHAIN);
    Ok(out)
}
