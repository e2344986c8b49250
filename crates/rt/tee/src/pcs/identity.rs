//! Identity of the quoting enclave.
//!
//! Reference: `go/common/sgx/pcs/tcb.go`.

use base_codec::Codec;

use super::{CollateralError, QuotePolicy, SgxReport, TeeType, collateral, level::EnclaveTcbLevel};
use crate::time::UnixTime;

/// The version of the identity that is understood.
const REQUIRED_VERSION: i64 = 2;

/// Body of a quoting enclave identity, as Intel's JSON has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub struct QeIdentity {
    /// `QE` or `TD_QE`.
    pub id: String,
    /// Version of the structure.
    pub version: i64,
    /// When it was issued.
    #[codec(rename = "issueDate")]
    pub issue_date: String,
    /// When the next one is due; must be a date but is not compared with anything.
    #[codec(rename = "nextUpdate")]
    pub next_update: String,
    /// Number that grows with each recovery event.
    #[codec(rename = "tcbEvaluationDataNumber")]
    pub tcb_evaluation_data_number: u32,
    /// MISCSELECT, 4 bytes in hexadecimal.
    pub miscselect: String,
    /// Which bits of it count.
    #[codec(rename = "miscselectMask")]
    pub miscselect_mask: String,
    /// ATTRIBUTES, 16 bytes in hexadecimal.
    pub attributes: String,
    /// Which bits of them count.
    #[codec(rename = "attributesMask")]
    pub attributes_mask: String,
    /// MRSIGNER, hexadecimal.
    pub mrsigner: String,
    /// ISVPRODID.
    pub isvprodid: u16,
    /// Levels, newest first.
    #[codec(rename = "tcbLevels")]
    pub tcb_levels: Vec<EnclaveTcbLevel>,
    /// Advisories.
    #[codec(rename = "advisoryIDs", omitempty)]
    pub advisory_ids: Vec<i64>,
}

fn from_hex<const N: usize>(text: &str, field: &'static str) -> Result<[u8; N], CollateralError> {
    let mut out = [0; N];
    hex::decode_to_slice(text, &mut out).map_err(|_| CollateralError::Malformed { field })?;
    Ok(out)
}

impl QeIdentity {
    /// Checks kind, version and age against the policy.
    pub(super) fn validate(
        &self,
        tee_type: TeeType,
        now: UnixTime,
        policy: &QuotePolicy,
    ) -> Result<(), CollateralError> {
        let expected = match tee_type {
            TeeType::Sgx => "QE",
            TeeType::Tdx => "TD_QE",
        };
        collateral::check_kind(&self.id, expected, self.version, REQUIRED_VERSION)?;
        collateral::check_age(&self.issue_date, &self.next_update, now, policy)?;
        collateral::check_number(self.tcb_evaluation_data_number, policy)
    }

    /// Checks that the report is that of this enclave, and that it is up to date.
    pub(super) fn check_report(&self, report: &SgxReport) -> Result<(), CollateralError> {
        let mismatch = |field| CollateralError::QeMismatch { field };
        if from_hex::<32>(&self.mrsigner, "mrsigner")? != *report.mr_signer.as_bytes() {
            return Err(mismatch("MRSIGNER"));
        }
        if self.isvprodid != report.isv_prod_id {
            return Err(mismatch("ISVPRODID"));
        }
        let misc = u32::from_le_bytes(from_hex(&self.miscselect, "miscselect")?);
        let mask = u32::from_le_bytes(from_hex(&self.miscselect_mask, "miscselectMask")?);
        if report.misc_select & mask != misc {
            return Err(mismatch("MISCSELECT"));
        }
        let attributes = u128::from_le_bytes(from_hex(&self.attributes, "attributes")?);
        let mask = u128::from_le_bytes(from_hex(&self.attributes_mask, "attributesMask")?);
        let reported = u128::from(report.flags) | (u128::from(report.xfrm) << 64);
        if reported & mask != attributes {
            return Err(mismatch("ATTRIBUTES"));
        }
        EnclaveTcbLevel::require_up_to_date(&self.tcb_levels, report.isv_svn, "QE TCB level")
    }
}
