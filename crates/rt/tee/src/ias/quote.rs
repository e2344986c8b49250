//! The enclave quote within a report of the attestation service.
//!
//! Reference: `go/common/sgx/ias/quote.go`.

use super::Error;
use crate::{
    bytes::{array, le_u16, le_u32},
    identity::TEST_MR_SIGNER,
    options::VerifyOptions,
    pcs::SgxReport,
};

/// Bytes of a quote without its signature, as reports hold it.
pub(super) const QUOTE_LEN: usize = 432;
const BODY_LEN: usize = 48;

fn malformed(part: &'static str) -> Error {
    Error::MalformedQuote { part }
}

/// Head of an EPID quote, 48 bytes: `version u16 ‖ signature type u16 ‖ gid u32 ‖ qe_svn u16 ‖ pce_svn u16 ‖ 4 reserved ‖
/// basename 32`, little-endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IasQuoteBody {
    /// 1 or 2.
    pub version: u16,
    /// Whether the signature is linkable.
    pub linkable: bool,
    /// EPID group of the platform.
    pub gid: u32,
    /// Security version of the quoting enclave.
    pub isv_svn_qe: u16,
    /// Security version of the provisioning certification enclave; 0 in version 1.
    pub isv_svn_pce: u16,
    /// Name that linkable signatures are linked by.
    pub basename: [u8; 32],
}

/// An EPID quote without its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IasQuote {
    /// The head.
    pub body: IasQuoteBody,
    /// The enclave's report.
    pub report: SgxReport,
}

impl IasQuote {
    /// Reads the quote at the start of `data`, 432 bytes.
    ///
    /// # Errors
    ///
    /// If it is shorter, or of an unknown version or signature type.
    pub fn parse(data: &[u8]) -> Result<Self, Error> {
        let (data, _) = data.split_at_checked(QUOTE_LEN).ok_or(malformed("length"))?;
        let (head, report) = data.split_at_checked(BODY_LEN).ok_or(malformed("length"))?;
        let half = |at| le_u16(head, at).ok_or(malformed("body"));
        let version = half(0)?;
        if !matches!(version, 1 | 2) {
            return Err(malformed("unsupported version"));
        }
        let linkable = match half(2)? {
            0 => false,
            1 => true,
            _ => return Err(malformed("signature type")),
        };
        let isv_svn_pce = half(10)?;
        if version < 2 && isv_svn_pce != 0 {
            return Err(malformed("PCE security version in version 1"));
        }
        let body = IasQuoteBody {
            version,
            linkable,
            gid: le_u32(head, 4).ok_or(malformed("body"))?,
            isv_svn_qe: half(8)?,
            isv_svn_pce,
            basename: array(head, 16).ok_or(malformed("body"))?,
        };
        Ok(Self { body, report: SgxReport::parse(report).map_err(|_| malformed("report"))? })
    }

    /// Checks signer and debug mode.
    ///
    /// # Errors
    ///
    /// If the signer is the publicly known one, or the mode is not the one that the options ask for.
    pub fn check(&self, options: &VerifyOptions) -> Result<(), Error> {
        if self.report.mr_signer == TEST_MR_SIGNER && !options.allow_test_signer {
            return Err(Error::BlacklistedSigner);
        }
        let debug = self.report.is_debug();
        if debug == options.allow_debug_enclaves { Ok(()) } else { Err(Error::DebugMismatch { debug }) }
    }
}
