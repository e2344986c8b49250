//! Quotes of Intel's Provisioning Certification Service (DCAP): SGX and TDX quotes with their TCB collateral.
//!
//! Reference: `go/common/sgx/pcs`.

mod collateral;
mod identity;
mod level;
mod mock;
mod pck;
mod policy;
mod quote;
mod report;
#[cfg(test)]
mod tests;

pub use collateral::{PcsJson, SignedQeIdentity, SignedTcbInfo, TcbBundle};
pub use identity::QeIdentity;
pub use level::{TcbInfo, TcbKind, TcbLevel, TcbStatus};
pub use mock::mock_quote;
pub use pck::PckInfo;
pub use policy::{Measurement, QuotePolicy, TdxModulePolicy, TdxQuotePolicy};
pub use quote::{CertificationData, EcdsaSignature, Quote, QuoteBundle, QuoteHeader, TeeType};
pub use report::{ReportBody, SgxReport, TdAttributes, TdReport, td_enclave_identity};

use crate::x509::CertificateError;

/// Most bytes of a quote that are looked at.
///
/// Quotes have about 5 KiB. The reference has no limit of its own; a transaction that carries a quote is limited to
/// far less than this by consensus parameters.
pub const MAX_QUOTE_SIZE: usize = 16 << 20;

/// Why a PCS quote or its collateral was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The quote's bytes are not those of a quote.
    #[error("malformed quote: {part}")]
    MalformedQuote {
        /// What could not be read.
        part: &'static str,
    },
    /// Bytes follow the quote.
    #[error("unexpected data after the quote")]
    TrailingData,
    /// A quote of another version than 3 and 4.
    #[error("unsupported quote version {version}")]
    UnsupportedVersion {
        /// Its version.
        version: u16,
    },
    /// Another quoting enclave vendor than Intel.
    #[error("unsupported quoting enclave vendor {vendor}")]
    UnsupportedVendor {
        /// Hexadecimal vendor identifier.
        vendor: String,
    },
    /// Neither SGX nor TDX.
    #[error("unsupported TEE type {tee_type:#x}")]
    UnsupportedTeeType {
        /// Its number.
        tee_type: u32,
    },
    /// Another attestation key type than ECDSA P-256.
    #[error("unsupported attestation key type {key_type}")]
    UnsupportedKeyType {
        /// Its number.
        key_type: u16,
    },
    /// Certification data of a kind that is not supported at its place.
    #[error("unsupported certification data type {data_type}")]
    UnsupportedCertificationData {
        /// Its number.
        data_type: u16,
    },
    /// The policy switches PCS quotes off.
    #[error("PCS quotes are disabled by policy")]
    Disabled,
    /// The enclave was signed with the publicly known test key.
    #[error("blacklisted MRSIGNER")]
    BlacklistedSigner,
    /// A debug enclave in production or the reverse.
    #[error("disallowed debug/production enclave/mode combination (debug enclave: {debug})")]
    DebugMismatch {
        /// Whether the enclave is a debug one.
        debug: bool,
    },
    /// A TDX quote without a TDX policy.
    #[error("TEE type not allowed")]
    TeeTypeNotAllowed,
    /// The TDX module matches none that the policy allows.
    #[error("TDX module not allowed")]
    TdxModuleNotAllowed,
    /// The quote carries no PCK certificate chain.
    #[error("no PCK certificate chain in quote")]
    NoPckChain,
    /// The platform's certificate chain.
    #[error("failed to verify PCK certificate chain: {0}")]
    PckChain(#[source] CertificateError),
    /// The platform's certificate lacks or garbles a field.
    #[error("malformed PCK certificate: {field}")]
    MalformedPck {
        /// The field.
        field: &'static str,
    },
    /// The quoting enclave's report is not signed by the platform.
    #[error("failed to verify QE report signature using PCK public key")]
    QeReportSignature,
    /// The quoting enclave's report binds another attestation key.
    #[error("QE report data does not match expected value")]
    QeReportData,
    /// No collateral came with the quote.
    #[error("missing TCB bundle")]
    MissingTcb,
    /// The attestation key is not a point of the curve.
    #[error("invalid attestation public key")]
    AttestationKey,
    /// The quote is not signed by the attestation key.
    #[error("failed to verify quote signature")]
    QuoteSignature,
    /// The certificate chain of the collateral.
    #[error("failed to verify TCB info certificate chain: {0}")]
    TcbChain(#[source] CertificateError),
    /// The collateral's certificate has a key of another kind.
    #[error("TCB certificate with non-ECDSA signature scheme")]
    TcbKey,
    /// The quoting enclave's identity.
    #[error("failed to verify QE identity: {0}")]
    QeIdentity(#[source] CollateralError),
    /// The TCB info.
    #[error("failed to verify TCB info: {0}")]
    TcbInfo(#[source] CollateralError),
}

/// Why TCB info or a quoting enclave identity was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CollateralError {
    /// The signature is not 64 bytes in hexadecimal.
    #[error("malformed signature")]
    MalformedSignature,
    /// The signature does not cover the body.
    #[error("TCB signature verification failed")]
    Signature,
    /// The body is not JSON of the expected shape.
    #[error("malformed body: {field}")]
    Malformed {
        /// The field at fault, or `body`.
        field: &'static str,
    },
    /// For another kind of TEE.
    #[error("unexpected identifier {found:?}")]
    Identifier {
        /// What it says.
        found: String,
    },
    /// Another version.
    #[error("unexpected version {found}")]
    Version {
        /// What it says.
        found: i64,
    },
    /// Issued after now.
    #[error("issue date in the future")]
    IssuedInFuture,
    /// Issued longer ago than the policy allows.
    #[error("expired: issued more than {validity_days} days ago")]
    Expired {
        /// The policy's validity period in days.
        validity_days: u16,
    },
    /// An evaluation data number below the policy's minimum.
    #[error("invalid TCB evaluation data number {found}, at least {least} required")]
    EvaluationDataNumber {
        /// What it says.
        found: u32,
        /// The policy's minimum.
        least: u32,
    },
    /// The platform kind is not on the policy's whitelist.
    #[error("FMSPC {fmspc} is not whitelisted")]
    NotWhitelisted {
        /// Hexadecimal FMSPC.
        fmspc: String,
    },
    /// The platform kind is on the policy's blacklist.
    #[error("FMSPC {fmspc} is blacklisted")]
    Blacklisted {
        /// Hexadecimal FMSPC.
        fmspc: String,
    },
    /// The collateral is for another platform kind than the quote.
    #[error("FMSPC mismatch: collateral is for {expected}, platform is {found}")]
    FmspcMismatch {
        /// Hexadecimal FMSPC of the collateral.
        expected: String,
        /// Hexadecimal FMSPC of the platform.
        found: String,
    },
    /// A field of the quoting enclave's report is not what the identity says.
    #[error("invalid QE {field}")]
    QeMismatch {
        /// The field.
        field: &'static str,
    },
    /// No level of the collateral matches.
    #[error("{what} not supported")]
    LevelNotSupported {
        /// Whose level.
        what: &'static str,
    },
    /// The level that matched is not acceptable.
    #[error("{kind} TCB is not up to date (likely needs upgrade): {status}")]
    OutOfDate {
        /// Whose level.
        kind: TcbKind,
        /// Its status.
        status: TcbStatus,
        /// Intel's advisories for it.
        advisory_ids: Vec<String>,
    },
}

impl Error {
    /// The TCB status that made verification fail, if that was the reason.
    pub fn tcb_status(&self) -> Option<TcbStatus> {
        match self {
            Self::QeIdentity(CollateralError::OutOfDate { status, .. })
            | Self::TcbInfo(CollateralError::OutOfDate { status, .. }) => Some(*status),
            _ => None,
        }
    }
}
