//! The body of an attestation verification report.
//!
//! Reference: `go/common/sgx/ias/{avr,mock}.go`.

use base_codec::{Bytes, Codec, json};

use super::{
    Error, NONCE_MAX_LEN,
    quote::{IasQuote, QUOTE_LEN},
};
use crate::{
    options::VerifyOptions,
    time::{self, UnixTime},
};

const PSE_MANIFEST_HASH_LEN: usize = 32;
const EPID_PSEUDONYM_LEN: usize = 128;

base_codec::int_type! {
    /// Kind of attestation that a report is about.
    text pub struct AttestationType: i64 {
        /// The report does not say.
        FIELD_MISSING = 0 => "",
        /// EPID.
        EPID = 1 => "EPID",
    }
}

base_codec::int_type! {
    /// What the service says of a quote; zero if it says nothing. CBOR: integer. JSON: the name.
    text pub struct IsvQuoteStatus: i64 {
        /// Nothing to do.
        OK = 1 => "OK",
        /// The signature is wrong.
        SIGNATURE_INVALID = 2 => "SIGNATURE_INVALID",
        /// The platform's group was revoked.
        GROUP_REVOKED = 3 => "GROUP_REVOKED",
        /// The signature was revoked.
        SIGNATURE_REVOKED = 4 => "SIGNATURE_REVOKED",
        /// The key was revoked.
        KEY_REVOKED = 5 => "KEY_REVOKED",
        /// The signature revocation list is not the newest.
        SIGRL_VERSION_MISMATCH = 6 => "SIGRL_VERSION_MISMATCH",
        /// The platform needs an update.
        GROUP_OUT_OF_DATE = 7 => "GROUP_OUT_OF_DATE",
        /// The platform should be configured otherwise.
        CONFIGURATION_NEEDED = 8 => "CONFIGURATION_NEEDED",
        /// Enclaves have to mitigate something themselves.
        SW_HARDENING_NEEDED = 9 => "SW_HARDENING_NEEDED",
        /// Both.
        CONFIGURATION_AND_SW_HARDENING_NEEDED = 10 => "CONFIGURATION_AND_SW_HARDENING_NEEDED",
    }
}

base_codec::int_type! {
    /// What the service says of the platform services' descriptor.
    text pub struct PseManifestStatus: i64 {
        /// Nothing to do.
        OK = 0 => "OK",
        /// Not known.
        UNKNOWN = 1 => "UNKNOWN",
        /// Wrong.
        INVALID = 2 => "INVALID",
        /// Needs an update.
        OUT_OF_DATE = 3 => "OUT_OF_DATE",
        /// Revoked.
        REVOKED = 4 => "REVOKED",
        /// The revocation list is not the newest.
        RL_VERSION_MISMATCH = 5 => "RL_VERSION_MISMATCH",
    }
}

/// An attestation verification report, version 4 or 5.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub struct Report {
    /// The service's identifier of the report.
    pub id: String,
    /// When it was made, without time zone (UTC).
    pub timestamp: String,
    /// 4 or 5.
    pub version: i64,
    /// Kind of attestation (version 5, and optional there).
    #[codec(rename = "attestationType", omitempty)]
    pub attestation_type: AttestationType,
    /// What the service says of the quote.
    #[codec(rename = "isvEnclaveQuoteStatus")]
    pub isv_enclave_quote_status: IsvQuoteStatus,
    /// The quote without its signature.
    #[codec(rename = "isvEnclaveQuoteBody")]
    pub isv_enclave_quote_body: Bytes,
    /// Why the group was revoked.
    #[codec(rename = "revocationReason")]
    pub revocation_reason: Option<i64>,
    /// What the service says of the platform services' descriptor.
    #[codec(rename = "pseManifestStatus")]
    pub pse_manifest_status: Option<PseManifestStatus>,
    /// SHA-256 of that descriptor, hexadecimal.
    #[codec(rename = "pseManifestHash")]
    pub pse_manifest_hash: String,
    /// Opaque data for the platform, hexadecimal.
    #[codec(rename = "platformInfoBlob")]
    pub platform_info_blob: String,
    /// The nonce of the request.
    pub nonce: String,
    /// What linkable signatures are linked by.
    #[codec(rename = "epidPseudonym")]
    pub epid_pseudonym: Bytes,
    /// Where the advisories are.
    #[codec(rename = "advisoryURL")]
    pub advisory_url: String,
    /// Intel's advisories.
    #[codec(rename = "advisoryIDs")]
    pub advisory_ids: Vec<String>,
    /// Documents.
    #[codec(rename = "docIDs")]
    pub doc_ids: Vec<String>,
    /// Number that grows with each recovery event; 0 if missing.
    #[codec(rename = "tcbEvaluationDataNumber", omitempty)]
    pub tcb_evaluation_data_number: u32,
}

impl Report {
    /// Reads a report and checks its fields, but not its signature.
    ///
    /// # Errors
    ///
    /// If it is not JSON of that shape, or a field breaks a rule.
    pub fn parse_unverified(body: &[u8], options: &VerifyOptions) -> Result<Self, Error> {
        let report: Self =
            json::from_str(&String::from_utf8_lossy(body)).map_err(|e| Error::Json { problem: e.to_string() })?;
        report.validate(options)?;
        Ok(report)
    }

    /// The enclave quote.
    ///
    /// # Errors
    ///
    /// If there is none or it is malformed.
    pub fn quote(&self) -> Result<IasQuote, Error> {
        IasQuote::parse(&self.isv_enclave_quote_body)
    }

    fn validate(&self, options: &VerifyOptions) -> Result<(), Error> {
        let require = |ok: bool, field| {
            if ok { Ok(()) } else { Err(Error::Invalid { field }) }
        };
        require(time::parse_timestamp(&self.timestamp, "").is_some(), "timestamp")?;
        match self.version {
            4 => require(self.attestation_type == AttestationType::FIELD_MISSING, "attestationType")?,
            5 => {}
            _ => return Err(Error::Invalid { field: "version" }),
        }
        let status = self.isv_enclave_quote_status;
        require(status != IsvQuoteStatus::default(), "isvEnclaveQuoteStatus")?;
        match self.isv_enclave_quote_body.len() {
            0 => {}
            QUOTE_LEN => self.quote()?.check(options)?,
            _ => {
                return Err(Error::Invalid { field: "isvEnclaveQuoteBody" });
            }
        }
        let revoked = status == IsvQuoteStatus::GROUP_REVOKED;
        require(self.revocation_reason.is_some() == revoked, "revocationReason")?;
        let updatable = matches!(
            status,
            IsvQuoteStatus::GROUP_OUT_OF_DATE
                | IsvQuoteStatus::CONFIGURATION_NEEDED
                | IsvQuoteStatus::SW_HARDENING_NEEDED
                | IsvQuoteStatus::CONFIGURATION_AND_SW_HARDENING_NEEDED
        );
        let manifest_allowed = updatable || status == IsvQuoteStatus::OK;
        require(self.pse_manifest_status.is_none() || manifest_allowed, "pseManifestStatus")?;
        let hash = hex::decode(&self.pse_manifest_hash);
        require(hash.is_ok_and(|h| matches!(h.len(), 0 | PSE_MANIFEST_HASH_LEN)), "pseManifestHash")?;
        let blob = hex::decode(&self.platform_info_blob);
        let manifest_updatable = matches!(
            self.pse_manifest_status,
            Some(PseManifestStatus::OUT_OF_DATE | PseManifestStatus::REVOKED | PseManifestStatus::RL_VERSION_MISMATCH)
        );
        let blob_allowed = revoked || updatable || manifest_updatable;
        require(blob.is_ok_and(|b| b.is_empty() || blob_allowed), "platformInfoBlob")?;
        require(self.nonce.len() <= NONCE_MAX_LEN, "nonce")?;
        require(matches!(self.epid_pseudonym.len(), 0 | EPID_PSEUDONYM_LEN), "epidPseudonym")
    }
}

/// The fields of a mock report, in the order they are written.
#[derive(Debug, Default, Codec)]
struct MockReport {
    version: i64,
    timestamp: String,
    #[codec(rename = "isvEnclaveQuoteStatus")]
    isv_enclave_quote_status: IsvQuoteStatus,
    #[codec(rename = "isvEnclaveQuoteBody")]
    isv_enclave_quote_body: Bytes,
    #[codec(omitempty)]
    nonce: String,
}

/// A version 4 report with status `OK` about the quote (of which the first 432 bytes count), which nobody signed.
///
/// It passes only where [`skip_avr_verify`](VerifyOptions::skip_avr_verify) is set.
///
/// # Errors
///
/// If the quote is malformed or its enclave is not acceptable under the options.
pub fn mock_avr(quote: &[u8], nonce: &str, now: UnixTime, options: &VerifyOptions) -> Result<Vec<u8>, Error> {
    let (body, _) = quote.split_at_checked(QUOTE_LEN).ok_or(Error::MalformedQuote { part: "length" })?;
    IasQuote::parse(body)?.check(options)?;
    let report = MockReport {
        version: 4,
        timestamp: time::format_timestamp(now),
        isv_enclave_quote_status: IsvQuoteStatus::OK,
        isv_enclave_quote_body: Bytes::from(body),
        nonce: nonce.to_owned(),
    };
    Ok(json::to_string(&report).into_bytes())
}
