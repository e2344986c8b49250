//! Report bodies: SGX enclave reports and TDX TD reports.
//!
//! Reference: `go/common/sgx/pcs/report.go`.

use base_crypto::tuplehash::tuple_hash256;

use super::Error;
use crate::{
    bytes::{array, le_u16, le_u32, le_u64},
    identity::{EnclaveIdentity, MrEnclave, MrSigner, SGX_FLAG_DEBUG},
};

/// Bytes of an SGX enclave report.
pub(crate) const SGX_REPORT_LEN: usize = 384;
/// Bytes of a TDX TD report.
pub(crate) const TD_REPORT_LEN: usize = 584;

/// Customization string of the identity of a TD.
const TD_IDENTITY_CONTEXT: &[u8] = b"oasis-core/tdx: TD enclave identity";

/// An SGX enclave report, 384 bytes:
/// `cpu_svn 16 ‖ miscselect u32 ‖ 28 reserved ‖ flags u64 ‖ xfrm u64 ‖ mr_enclave 32 ‖ 32 reserved ‖ mr_signer 32 ‖
/// 96 reserved ‖ isv_prod_id u16 ‖ isv_svn u16 ‖ 60 reserved ‖ report_data 64`, little-endian. Reserved bytes are not
/// looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SgxReport {
    /// Security versions of the processor.
    pub cpu_svn: [u8; 16],
    /// MISCSELECT.
    pub misc_select: u32,
    /// ATTRIBUTES.FLAGS.
    pub flags: u64,
    /// ATTRIBUTES.XFRM.
    pub xfrm: u64,
    /// Measurement of the enclave.
    pub mr_enclave: MrEnclave,
    /// Hash of the enclave signer's key.
    pub mr_signer: MrSigner,
    /// Product number.
    pub isv_prod_id: u16,
    /// Security version of the enclave.
    pub isv_svn: u16,
    /// What the enclave put into the report.
    pub report_data: [u8; 64],
    raw: [u8; SGX_REPORT_LEN],
}

impl SgxReport {
    /// Reads the report at the start of `data`.
    ///
    /// # Errors
    ///
    /// If there are fewer than 384 bytes.
    pub fn parse(data: &[u8]) -> Result<Self, Error> {
        let raw: [u8; SGX_REPORT_LEN] = array(data, 0).ok_or(Error::MalformedQuote { part: "report" })?;
        let read = || {
            Some(Self {
                cpu_svn: array(&raw, 0)?,
                misc_select: le_u32(&raw, 16)?,
                flags: le_u64(&raw, 48)?,
                xfrm: le_u64(&raw, 56)?,
                mr_enclave: MrEnclave::new(array(&raw, 64)?),
                mr_signer: MrSigner::new(array(&raw, 128)?),
                isv_prod_id: le_u16(&raw, 256)?,
                isv_svn: le_u16(&raw, 258)?,
                report_data: array(&raw, 320)?,
                raw,
            })
        };
        read().ok_or(Error::MalformedQuote { part: "report" })
    }

    /// Whether the enclave runs in debug mode.
    pub fn is_debug(&self) -> bool {
        self.flags & SGX_FLAG_DEBUG != 0
    }

    /// The 384 bytes.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// MRENCLAVE and MRSIGNER.
    pub fn identity(&self) -> EnclaveIdentity {
        EnclaveIdentity { mr_enclave: self.mr_enclave, mr_signer: self.mr_signer }
    }
}

/// Attributes of a TD; undefined bits are never set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TdAttributes(u64);

impl TdAttributes {
    /// The TD may be debugged.
    pub const DEBUG: Self = Self(1);
    /// Virtualization exceptions on secure page table violations are off.
    pub const SEPT_VE_DISABLE: Self = Self(1 << 28);
    /// The TD may use supervisor protection keys.
    pub const PKS: Self = Self(1 << 30);
    /// The TD may use key locker.
    pub const KL: Self = Self(1 << 31);
    /// The TD may use performance monitoring.
    pub const PERFMON: Self = Self(1 << 63);
    const DEFINED: u64 = Self::DEBUG.0 | Self::SEPT_VE_DISABLE.0 | Self::PKS.0 | Self::KL.0 | Self::PERFMON.0;

    /// The attributes of these bits, unless an undefined one is set.
    pub fn from_bits(bits: u64) -> Option<Self> {
        (bits & !Self::DEFINED == 0).then_some(Self(bits))
    }

    /// The bits.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Both sets joined.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A TDX TD report, 584 bytes:
/// `tee_tcb_svn 16 ‖ mr_seam 48 ‖ mr_signer_seam 48 ‖ seam_attributes 8 ‖ td_attributes u64 ‖ xfam 8 ‖ mr_td 48 ‖
/// mr_config_id 48 ‖ mr_owner 48 ‖ mr_owner_config 48 ‖ rtmr 4×48 ‖ report_data 64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TdReport {
    /// Security versions of the TDX module and platform.
    pub tee_tcb_svn: [u8; 16],
    /// Measurement of the TDX module.
    pub mr_seam: [u8; 48],
    /// Signer of the TDX module, zero for Intel.
    pub mr_signer_seam: [u8; 48],
    /// Attributes of the TDX module.
    pub seam_attributes: [u8; 8],
    /// Attributes of the TD.
    pub td_attributes: TdAttributes,
    /// Extended features.
    pub xfam: [u8; 8],
    /// Measurement of the virtual firmware.
    pub mr_td: [u8; 48],
    /// Configuration identifier.
    pub mr_config_id: [u8; 48],
    /// Owner identifier.
    pub mr_owner: [u8; 48],
    /// Owner's configuration.
    pub mr_owner_config: [u8; 48],
    /// Run-time measurements: firmware configuration, loader, kernel, reserved.
    pub rtmr: [[u8; 48]; 4],
    /// What the TD put into the report.
    pub report_data: [u8; 64],
    raw: [u8; TD_REPORT_LEN],
}

impl TdReport {
    /// Reads the report at the start of `data`.
    ///
    /// # Errors
    ///
    /// If there are fewer than 584 bytes or undefined attributes are set.
    pub fn parse(data: &[u8]) -> Result<Self, Error> {
        let malformed = |part| Error::MalformedQuote { part };
        let raw: [u8; TD_REPORT_LEN] = array(data, 0).ok_or(malformed("TD report"))?;
        let attributes = le_u64(&raw, 120).and_then(TdAttributes::from_bits).ok_or(malformed("TD attributes"))?;
        let read = || {
            Some(Self {
                tee_tcb_svn: array(&raw, 0)?,
                mr_seam: array(&raw, 16)?,
                mr_signer_seam: array(&raw, 64)?,
                seam_attributes: array(&raw, 112)?,
                td_attributes: attributes,
                xfam: array(&raw, 128)?,
                mr_td: array(&raw, 136)?,
                mr_config_id: array(&raw, 184)?,
                mr_owner: array(&raw, 232)?,
                mr_owner_config: array(&raw, 280)?,
                rtmr: [array(&raw, 328)?, array(&raw, 376)?, array(&raw, 424)?, array(&raw, 472)?],
                report_data: array(&raw, 520)?,
                raw,
            })
        };
        read().ok_or(malformed("TD report"))
    }

    /// Whether the TD may be debugged.
    pub fn is_debug(&self) -> bool {
        self.td_attributes.contains(TdAttributes::DEBUG)
    }

    /// The 584 bytes.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The identity that stands for the TD: MRENCLAVE is the TupleHash of MRTD and the four run-time measurements,
    /// MRSIGNER is zero, which no SGX enclave can have.
    pub fn identity(&self) -> EnclaveIdentity {
        td_enclave_identity(&self.mr_td, &self.rtmr)
    }
}

/// The enclave identity of a TD with these measurements.
pub fn td_enclave_identity(mr_td: &[u8; 48], rtmr: &[[u8; 48]; 4]) -> EnclaveIdentity {
    let digest = tuple_hash256(TD_IDENTITY_CONTEXT, &[mr_td, &rtmr[0], &rtmr[1], &rtmr[2], &rtmr[3]]);
    EnclaveIdentity { mr_enclave: MrEnclave::new(digest), mr_signer: MrSigner::default() }
}

/// The report that a quote is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportBody {
    /// Of an SGX enclave.
    Sgx(Box<SgxReport>),
    /// Of a TD.
    Tdx(Box<TdReport>),
}

impl ReportBody {
    /// What the enclave put into the report.
    pub fn report_data(&self) -> &[u8; 64] {
        match self {
            Self::Sgx(report) => &report.report_data,
            Self::Tdx(report) => &report.report_data,
        }
    }

    /// Who the enclave is.
    pub fn identity(&self) -> EnclaveIdentity {
        match self {
            Self::Sgx(report) => report.identity(),
            Self::Tdx(report) => report.identity(),
        }
    }

    /// The bytes that are signed.
    pub fn raw(&self) -> &[u8] {
        match self {
            Self::Sgx(report) => report.raw(),
            Self::Tdx(report) => report.raw(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn td_attributes() {
        let a = TdAttributes::DEBUG.union(TdAttributes::SEPT_VE_DISABLE).union(TdAttributes::PKS);
        assert!(a.contains(TdAttributes::DEBUG));
        assert!(a.contains(TdAttributes::SEPT_VE_DISABLE));
        assert!(a.contains(TdAttributes::PKS));
        assert!(a.contains(TdAttributes::DEBUG.union(TdAttributes::SEPT_VE_DISABLE)));
        assert!(!a.contains(TdAttributes::KL));
        assert!(!a.contains(TdAttributes::DEBUG.union(TdAttributes::KL)));
        assert_eq!(TdAttributes::from_bits(u64::MAX), None);
        assert_eq!(TdAttributes::from_bits(1 << 56), None);
        assert_eq!(TdAttributes::from_bits(a.bits()), Some(a));
    }

    #[test]
    fn undefined_attributes_are_refused() {
        let mut raw = [0; TD_REPORT_LEN];
        assert!(TdReport::parse(&raw).is_ok());
        raw[127] = 1;
        assert_eq!(TdReport::parse(&raw), Err(Error::MalformedQuote { part: "TD attributes" }));
    }
}
