//! Quotes and policies of either attestation scheme.
//!
//! Reference: `go/common/sgx/quote/quote.go`.

use base_codec::Codec;

use crate::{ias, identity::VerifiedQuote, options::VerifyOptions, pcs, time::UnixTime};

/// Why a quote was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither kind of quote or both.
    #[error("exactly one quote kind must be set")]
    NotOneKind,
    /// The report of the attestation service.
    #[error("ias: {0}")]
    Ias(#[from] ias::Error),
    /// The quote with collateral.
    #[error("pcs: {0}")]
    Pcs(#[from] pcs::Error),
}

/// An unverified quote. CBOR: `{ias?: AvrBundle, pcs?: QuoteBundle}`, of which exactly one must be there to verify.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct Quote {
    /// A report of the attestation service (EPID).
    #[codec(omitempty)]
    pub ias: Option<ias::AvrBundle>,
    /// A quote with collateral (DCAP).
    #[codec(omitempty)]
    pub pcs: Option<pcs::QuoteBundle>,
}

impl Quote {
    /// Verifies whichever quote is there under its part of the policy.
    ///
    /// # Errors
    ///
    /// If not exactly one is there, or it does not verify.
    pub fn verify(
        &self,
        policy: Option<&Policy>,
        now: UnixTime,
        options: &VerifyOptions,
    ) -> Result<VerifiedQuote, Error> {
        match (&self.ias, &self.pcs) {
            (Some(bundle), None) => Ok(bundle.verify(policy.and_then(|p| p.ias.as_ref()), now, options)?),
            (None, Some(bundle)) => Ok(bundle.verify(policy.and_then(|p| p.pcs.as_ref()), now, options)?),
            _ => Err(Error::NotOneKind),
        }
    }
}

/// Policy for quotes. CBOR and JSON: `{ias?: …, pcs?: …}`; a part that is missing means that scheme's own default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub struct Policy {
    /// For reports of the attestation service.
    #[codec(omitempty)]
    pub ias: Option<ias::QuotePolicy>,
    /// For quotes with collateral.
    #[codec(omitempty)]
    pub pcs: Option<pcs::QuotePolicy>,
}

impl Policy {
    /// Whether the policy uses only what the network supports: the FMSPC whitelist exists from feature version 26.1.
    pub fn is_supported(&self, feature_version_26_1: bool) -> bool {
        feature_version_26_1 || self.pcs.as_ref().is_none_or(|p| p.fmspc_whitelist.is_empty())
    }
}
