//! Reports of the Intel Attestation Service (EPID): signature chain, body, policy.
//!
//! Reference: `go/common/sgx/ias`.

mod quote;
mod report;
#[cfg(test)]
mod tests;

pub use quote::{IasQuote, IasQuoteBody};
pub use report::{AttestationType, IsvQuoteStatus, PseManifestStatus, Report, mock_avr};

use base_codec::{Bytes, Codec};

use crate::{
    identity::VerifiedQuote,
    options::VerifyOptions,
    text,
    time::UnixTime,
    x509::{self, CertificateError, INTEL_IAS_ROOT},
};

/// Most characters of a report's nonce.
pub const NONCE_MAX_LEN: usize = 32;

/// Why an attestation verification report was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The policy switches IAS reports off.
    #[error("IAS quotes are disabled by policy")]
    Disabled,
    /// The certificates are not URL-encoded text.
    #[error("failed to decode certificate chain")]
    CertificateEncoding,
    /// The report's certificate chain.
    #[error("failed to verify certificate chain: {0}")]
    Chain(#[source] CertificateError),
    /// The signature is not base64.
    #[error("failed to decode signature")]
    SignatureEncoding,
    /// The signature does not cover the body.
    #[error("failed to verify AVR signature")]
    Signature,
    /// The body is not JSON of the expected shape.
    #[error("failed to parse report: {problem}")]
    Json {
        /// What is wrong, and where.
        problem: String,
    },
    /// A field of the body has a value that it must not have.
    #[error("invalid report: {field}")]
    Invalid {
        /// The field.
        field: &'static str,
    },
    /// The enclave quote within the body is not one.
    #[error("malformed quote: {part}")]
    MalformedQuote {
        /// What could not be read.
        part: &'static str,
    },
    /// The enclave was signed with the publicly known test key.
    #[error("blacklisted MRSIGNER")]
    BlacklistedSigner,
    /// A debug enclave in production or the reverse.
    #[error("disallowed debug/production enclave/mode combination (debug enclave: {debug})")]
    DebugMismatch {
        /// Whether the enclave is a debug one.
        debug: bool,
    },
    /// A status that the policy does not allow.
    #[error("quote status {status} not allowed by policy")]
    StatusNotAllowed {
        /// The status.
        status: IsvQuoteStatus,
    },
    /// An evaluation data number below the policy's minimum.
    #[error("TCB evaluation data number {found} not allowed by policy, at least {least} required")]
    EvaluationDataNumber {
        /// The report's number, 0 if it has none.
        found: u32,
        /// The policy's minimum.
        least: u32,
    },
    /// The platform's group is on the policy's blacklist.
    #[error("blacklisted quote group {gid}")]
    BlacklistedGroup {
        /// The EPID group.
        gid: u32,
    },
}

/// Policy for IAS reports. CBOR and JSON: map with the field names below, each left out when empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub struct QuotePolicy {
    /// Refuses all IAS reports.
    #[codec(omitempty)]
    pub disabled: bool,
    /// Statuses that are accepted besides `OK` and `SW_HARDENING_NEEDED`.
    #[codec(omitempty)]
    pub allowed_quote_statuses: Vec<IsvQuoteStatus>,
    /// EPID groups that are refused.
    #[codec(omitempty)]
    pub gid_blacklist: Vec<u32>,
    /// Least TCB evaluation data number; reports without one count as 0.
    #[codec(omitempty)]
    pub min_tcb_evaluation_data_number: u32,
}

/// An attestation verification report with what it takes to verify it offline.
///
/// CBOR: `{body: bytes, certificate_chain: bytes, signature: bytes}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub struct AvrBundle {
    /// The report, JSON.
    pub body: Option<Bytes>,
    /// PEM of the signing certificate and of Intel's root, URL-encoded.
    pub certificate_chain: Option<Bytes>,
    /// RSA signature over SHA-256 of the body, base64.
    pub signature: Option<Bytes>,
}

impl AvrBundle {
    /// Verifies the report and checks it against a policy. Without one only the two good statuses are accepted.
    ///
    /// # Errors
    ///
    /// The first check that fails, in the reference's order.
    pub fn open(&self, policy: Option<&QuotePolicy>, now: UnixTime, options: &VerifyOptions) -> Result<Report, Error> {
        if policy.is_some_and(|p| p.disabled) {
            return Err(Error::Disabled);
        }
        fn part(field: &Option<Bytes>) -> &[u8] {
            field.as_ref().map_or(&[], |b| b.as_slice())
        }
        let body = part(&self.body);
        let report = decode_avr(body, part(&self.signature), part(&self.certificate_chain), now, options)?;
        let status = report.isv_enclave_quote_status;
        let good = matches!(status, IsvQuoteStatus::OK | IsvQuoteStatus::SW_HARDENING_NEEDED);
        if !good && !policy.is_some_and(|p| p.allowed_quote_statuses.contains(&status)) {
            return Err(Error::StatusNotAllowed { status });
        }
        if let Some(policy) = policy {
            let (found, least) = (report.tcb_evaluation_data_number, policy.min_tcb_evaluation_data_number);
            if found < least {
                return Err(Error::EvaluationDataNumber { found, least });
            }
            let gid = report.quote()?.body.gid;
            if policy.gid_blacklist.contains(&gid) {
                return Err(Error::BlacklistedGroup { gid });
            }
        }
        Ok(report)
    }

    /// As [`open`](Self::open), reduced to what every kind of quote says.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and if the report holds no quote.
    pub fn verify(
        &self,
        policy: Option<&QuotePolicy>,
        now: UnixTime,
        options: &VerifyOptions,
    ) -> Result<VerifiedQuote, Error> {
        let quote = self.open(policy, now, options)?.quote()?;
        Ok(VerifiedQuote { report_data: quote.report.report_data, identity: quote.report.identity() })
    }
}

/// Verifies and reads a report: its body, signature (base64) and certificate chain (URL-encoded PEM).
///
/// # Errors
///
/// If the signature does not verify (unless skipped) or the body breaks a rule.
pub fn decode_avr(
    body: &[u8],
    signature: &[u8],
    certificates: &[u8],
    now: UnixTime,
    options: &VerifyOptions,
) -> Result<Report, Error> {
    if !options.skip_avr_verify {
        verify_avr_signature(body, signature, certificates, now)?;
    }
    Report::parse_unverified(body, options)
}

/// Verifies the signature over a report's body.
///
/// # Errors
///
/// If the certificates do not lead to Intel's root at that time or the signature does not cover the body.
pub fn verify_avr_signature(body: &[u8], signature: &[u8], certificates: &[u8], now: UnixTime) -> Result<(), Error> {
    let pem = text::query_unescape(certificates).ok_or(Error::CertificateEncoding)?;
    let chain = x509::certificates_from_pem(&pem).map_err(Error::Chain)?;
    let [signer, root] = chain.as_slice() else {
        return Err(Error::Chain(CertificateError::ChainLength { found: chain.len(), expected: 2 }));
    };
    x509::verify_chain(signer, None, root, &INTEL_IAS_ROOT, now).map_err(Error::Chain)?;
    let signature = text::base64(signature).ok_or(Error::SignatureEncoding)?;
    if signer.verify_rsa(body, &signature) { Ok(()) } else { Err(Error::Signature) }
}
