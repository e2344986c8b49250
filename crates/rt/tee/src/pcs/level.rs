//! TCB info: which security versions of a platform kind have which status.
//!
//! Reference: `go/common/sgx/pcs/tcb.go`.

use base_codec::Codec;

use super::{CollateralError, QuotePolicy, TeeType, collateral};
use crate::time::UnixTime;

/// The version of TCB info that is understood.
const REQUIRED_VERSION: i64 = 3;

base_codec::int_type! {
    /// Status that Intel gives to security versions; zero if none was given.
    text pub struct TcbStatus: u8 {
        /// Nothing to do.
        UP_TO_DATE = 1 => "UpToDate",
        /// Enclaves have to mitigate something themselves.
        SW_HARDENING_NEEDED = 2 => "SWHardeningNeeded",
        /// The platform should be configured otherwise.
        CONFIGURATION_NEEDED = 3 => "ConfigurationNeeded",
        /// Both.
        CONFIGURATION_AND_SW_HARDENING_NEEDED = 4 => "ConfigurationAndSWHardeningNeeded",
        /// The platform needs an update.
        OUT_OF_DATE = 5 => "OutOfDate",
        /// The platform needs an update and another configuration.
        OUT_OF_DATE_CONFIGURATION_NEEDED = 6 => "OutOfDateConfigurationNeeded",
        /// Not to be trusted.
        REVOKED = 7 => "Revoked",
    }
}

/// Whose security version was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcbKind {
    /// The platform: processor, microcode, configuration.
    Platform,
    /// An enclave or module of Intel's.
    Enclave,
}

impl std::fmt::Display for TcbKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Platform => "platform",
            Self::Enclave => "QE",
        })
    }
}

/// Body of TCB info, as Intel's JSON has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub struct TcbInfo {
    /// `SGX` or `TDX`.
    pub id: String,
    /// Version of the structure.
    pub version: i64,
    /// When it was issued.
    #[codec(rename = "issueDate")]
    pub issue_date: String,
    /// When the next one is due; must be a date but is not compared with anything.
    #[codec(rename = "nextUpdate")]
    pub next_update: String,
    /// Platform kind, hexadecimal.
    pub fmspc: String,
    /// Number of the provisioning enclave, hexadecimal.
    #[codec(rename = "pceId")]
    pub pce_id: String,
    /// Kind of comparison.
    #[codec(rename = "tcbType")]
    pub tcb_type: i64,
    /// Number that grows with each recovery event.
    #[codec(rename = "tcbEvaluationDataNumber")]
    pub tcb_evaluation_data_number: u32,
    /// The platform's TDX module.
    #[codec(rename = "tdxModule")]
    pub tdx_module: TdxModule,
    /// The platform's TDX modules by version.
    #[codec(rename = "tdxModuleIdentities", omitempty)]
    pub tdx_module_identities: Vec<TdxModuleIdentity>,
    /// Levels, newest first.
    #[codec(rename = "tcbLevels")]
    pub tcb_levels: Vec<TcbLevel>,
}

/// Properties of a TDX module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub struct TdxModule {
    /// Its signer, hexadecimal.
    pub mrsigner: String,
    /// Its attributes, hexadecimal.
    pub attributes: String,
    /// Which attributes count, hexadecimal.
    #[codec(rename = "attributesMask")]
    pub attributes_mask: String,
}

/// A TDX module of one version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub struct TdxModuleIdentity {
    /// `TDX_` and the version in two decimal digits.
    pub id: String,
    /// Levels, newest first.
    #[codec(rename = "tcbLevels")]
    pub tcb_levels: Vec<EnclaveTcbLevel>,
    /// Its properties.
    #[codec(flatten)]
    pub module: TdxModule,
}

/// Security version of one component.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub struct TcbComponent {
    /// The version.
    pub svn: i32,
    /// What the component belongs to.
    #[codec(omitempty)]
    pub category: String,
    /// What the component is.
    #[codec(rename = "type", omitempty)]
    pub kind: String,
}

/// Least security versions of a platform level. Components past the sixteenth do not count, missing ones are zero.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub struct TcbVersions {
    /// Of the provisioning enclave.
    pub pcesvn: u16,
    /// Of SGX.
    pub sgxtcbcomponents: Vec<TcbComponent>,
    /// Of TDX.
    pub tdxtcbcomponents: Vec<TcbComponent>,
}

/// A level of a platform.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub struct TcbLevel {
    /// What a platform must have at least.
    pub tcb: TcbVersions,
    /// Date of the level.
    #[codec(rename = "tcbDate")]
    pub date: String,
    /// Its status.
    #[codec(rename = "tcbStatus")]
    pub status: TcbStatus,
    /// Intel's advisories for it.
    #[codec(rename = "advisoryIDs", omitempty)]
    pub advisory_ids: Vec<String>,
}

/// Least security version of an enclave level.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub struct EnclaveTcbVersions {
    /// The version.
    pub isvsvn: u16,
}

/// A level of an enclave or module of Intel's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub struct EnclaveTcbLevel {
    /// What the enclave must have at least.
    pub tcb: EnclaveTcbVersions,
    /// Date of the level.
    #[codec(rename = "tcbDate")]
    pub date: String,
    /// Its status.
    #[codec(rename = "tcbStatus")]
    pub status: TcbStatus,
    /// Intel's advisories for it.
    #[codec(rename = "advisoryIDs")]
    pub advisory_ids: Vec<String>,
}

impl EnclaveTcbLevel {
    /// The first of `levels` that `isv_svn` reaches, which must be up to date.
    pub(super) fn require_up_to_date(
        levels: &[EnclaveTcbLevel],
        isv_svn: u16,
        what: &'static str,
    ) -> Result<(), CollateralError> {
        let level = levels
            .iter()
            .find(|level| level.tcb.isvsvn <= isv_svn)
            .ok_or(CollateralError::LevelNotSupported { what })?;
        if level.status == TcbStatus::UP_TO_DATE {
            return Ok(());
        }
        Err(CollateralError::OutOfDate {
            kind: TcbKind::Enclave,
            status: level.status,
            advisory_ids: level.advisory_ids.clone(),
        })
    }
}

impl TcbLevel {
    /// Whether a platform with these security versions is at this level or above. Of the TDX versions the first two,
    /// which are the module's, count only if the second is zero.
    pub fn matches(&self, sgx_svn: &[i32; 16], tdx_svn: Option<&[u8; 16]>, pce_svn: u16) -> bool {
        let least = |list: &[TcbComponent], i: usize| list.get(i).map_or(0, |c| c.svn);
        let sgx = sgx_svn.iter().enumerate().all(|(i, svn)| *svn >= least(&self.tcb.sgxtcbcomponents, i));
        let tdx = tdx_svn.is_none_or(|versions| {
            let from = if versions[1] == 0 { 0 } else { 2 };
            let list = versions.iter().enumerate().skip(from);
            list.into_iter().all(|(i, svn)| i32::from(*svn) >= least(&self.tcb.tdxtcbcomponents, i))
        });
        sgx && pce_svn >= self.tcb.pcesvn && tdx
    }
}

impl TcbInfo {
    /// Checks kind, version, age and platform kind against the policy.
    pub(super) fn validate(
        &self,
        tee_type: TeeType,
        now: UnixTime,
        policy: &QuotePolicy,
    ) -> Result<(), CollateralError> {
        let expected = match tee_type {
            TeeType::Sgx => "SGX",
            TeeType::Tdx => "TDX",
        };
        collateral::check_kind(&self.id, expected, self.version, REQUIRED_VERSION)?;
        collateral::check_age(&self.issue_date, &self.next_update, now, policy)?;
        collateral::check_number(self.tcb_evaluation_data_number, policy)?;
        if !policy.fmspc_whitelist.is_empty() && !policy.fmspc_whitelist.contains(&self.fmspc) {
            return Err(CollateralError::NotWhitelisted { fmspc: self.fmspc.clone() });
        }
        if policy.fmspc_blacklist.contains(&self.fmspc) {
            return Err(CollateralError::Blacklisted { fmspc: self.fmspc.clone() });
        }
        Ok(())
    }

    /// Checks that the info is for that platform kind.
    pub(super) fn check_fmspc(&self, fmspc: &[u8; 6]) -> Result<(), CollateralError> {
        let expected = hex::decode(&self.fmspc).map_err(|_| CollateralError::Malformed { field: "fmspc" })?;
        if expected == fmspc {
            return Ok(());
        }
        Err(CollateralError::FmspcMismatch { expected: self.fmspc.clone(), found: hex::encode(fmspc) })
    }

    /// Checks that a platform with these security versions is acceptable.
    pub(super) fn check_level(
        &self,
        sgx_svn: &[i32; 16],
        tdx_svn: Option<&[u8; 16]>,
        pce_svn: u16,
        lax: bool,
    ) -> Result<(), CollateralError> {
        let level = self
            .tcb_levels
            .iter()
            .find(|level| level.matches(sgx_svn, tdx_svn, pce_svn))
            .ok_or(CollateralError::LevelNotSupported { what: "TCB level" })?;
        if level.status == TcbStatus::default() {
            return Err(CollateralError::Malformed { field: "tcbStatus" });
        }
        if self.id == "TDX" {
            self.check_tdx_module(tdx_svn)?;
        }
        match level.status {
            TcbStatus::UP_TO_DATE | TcbStatus::SW_HARDENING_NEEDED => Ok(()),
            TcbStatus::OUT_OF_DATE | TcbStatus::CONFIGURATION_NEEDED | TcbStatus::OUT_OF_DATE_CONFIGURATION_NEEDED
                if lax =>
            {
                Ok(())
            }
            status => Err(CollateralError::OutOfDate {
                kind: TcbKind::Platform,
                status,
                advisory_ids: level.advisory_ids.clone(),
            }),
        }
    }

    /// Checks the TDX module, whose version is at index 1 and whose security version is at index 0. Version 0 is judged
    /// with the platform.
    fn check_tdx_module(&self, tdx_svn: Option<&[u8; 16]>) -> Result<(), CollateralError> {
        let versions = tdx_svn.ok_or(CollateralError::LevelNotSupported { what: "TDX without TDX SVN components" })?;
        let [svn, version, ..] = *versions;
        if version == 0 {
            return Ok(());
        }
        let id = format!("TDX_{version:02}");
        let module = self
            .tdx_module_identities
            .iter()
            .find(|module| module.id == id)
            .ok_or(CollateralError::LevelNotSupported { what: "TDX module" })?;
        EnclaveTcbLevel::require_up_to_date(&module.tcb_levels, u16::from(svn), "TDX module TCB level")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SGX: [i32; 16] = [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30];
    const TDX: [u8; 16] = [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31];

    fn components(svns: impl Iterator<Item = i32>) -> Vec<TcbComponent> {
        svns.map(|svn| TcbComponent { svn, ..Default::default() }).collect()
    }

    fn level(status: TcbStatus) -> TcbLevel {
        TcbLevel {
            tcb: TcbVersions {
                pcesvn: 10,
                sgxtcbcomponents: components(SGX.into_iter()),
                tdxtcbcomponents: components(TDX.into_iter().map(i32::from)),
            },
            status,
            ..Default::default()
        }
    }

    #[test]
    fn matching() {
        let level = level(TcbStatus::UP_TO_DATE);
        let sgx = |d: i32| {
            let mut s = SGX;
            s[5] += d;
            s
        };
        let tdx = |d: i8| {
            let mut s = TDX;
            s[5] = s[5].wrapping_add_signed(d);
            s
        };
        assert!(level.matches(&SGX, Some(&TDX), 10));
        assert!(level.matches(&SGX, Some(&TDX), 11));
        assert!(!level.matches(&SGX, Some(&TDX), 9));
        assert!(level.matches(&sgx(1), Some(&TDX), 10));
        assert!(!level.matches(&sgx(-1), Some(&TDX), 10));
        assert!(level.matches(&SGX, Some(&tdx(1)), 10));
        assert!(!level.matches(&SGX, Some(&tdx(-1)), 10));
        assert!(level.matches(&SGX, None, 10));
    }

    #[test]
    fn tdx_module_versions_count_only_for_version_zero() {
        let level = level(TcbStatus::UP_TO_DATE);
        let mut low = TDX;
        low[0] = 0;
        assert!(level.matches(&SGX, Some(&low), 10), "index 0 is the module's");
        low[1] = 0;
        assert!(!level.matches(&SGX, Some(&low), 10), "index 1 is zero, so both count");
    }

    #[test]
    fn statuses() {
        for &status in TcbStatus::KNOWN {
            let info = TcbInfo { id: "SGX".into(), tcb_levels: vec![level(status)], ..Default::default() };
            let strict = matches!(status, TcbStatus::UP_TO_DATE | TcbStatus::SW_HARDENING_NEEDED);
            let never = matches!(status, TcbStatus::REVOKED | TcbStatus::CONFIGURATION_AND_SW_HARDENING_NEEDED);
            assert_eq!(info.check_level(&SGX, None, 10, false).is_ok(), strict, "{status}");
            assert_eq!(info.check_level(&SGX, None, 10, true).is_ok(), !never, "{status} lax");
        }
        let missing = TcbInfo { tcb_levels: vec![level(TcbStatus::default())], ..Default::default() };
        assert_eq!(missing.check_level(&SGX, None, 10, true), Err(CollateralError::Malformed { field: "tcbStatus" }));
    }

    #[test]
    fn tdx_modules() {
        let module = |id: &str, isvsvn, status| TdxModuleIdentity {
            id: id.into(),
            tcb_levels: vec![EnclaveTcbLevel { tcb: EnclaveTcbVersions { isvsvn }, status, ..Default::default() }],
            ..Default::default()
        };
        let info = |module| TcbInfo {
            id: "TDX".into(),
            tcb_levels: vec![level(TcbStatus::UP_TO_DATE)],
            tdx_module_identities: vec![module],
            ..Default::default()
        };
        let check = |m| info(m).check_level(&SGX, Some(&TDX), 10, false);
        assert_eq!(check(module("TDX_03", 1, TcbStatus::UP_TO_DATE)), Ok(()));
        assert!(matches!(
            check(module("TDX_3", 1, TcbStatus::UP_TO_DATE)),
            Err(CollateralError::LevelNotSupported { what: "TDX module" })
        ));
        assert!(matches!(
            check(module("TDX_03", 2, TcbStatus::UP_TO_DATE)),
            Err(CollateralError::LevelNotSupported { what: "TDX module TCB level" })
        ));
        assert!(matches!(
            check(module("TDX_03", 1, TcbStatus::OUT_OF_DATE)),
            Err(CollateralError::OutOfDate { kind: TcbKind::Enclave, .. })
        ));
        let info = info(module("TDX_03", 1, TcbStatus::UP_TO_DATE));
        assert!(info.check_level(&SGX, None, 10, false).is_err(), "no TDX versions");
    }
}
