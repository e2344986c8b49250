//! Quotes: parsing and the order of checks.
//!
//! Reference: `go/common/sgx/pcs/{quote.go,pcs.go}`.

use base_codec::{Bytes, Codec};
use p256::ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier};
use sha2::{Digest, Sha256};

use super::{
    Error, MAX_QUOTE_SIZE, PckInfo, QuotePolicy, ReportBody, SgxReport, TcbBundle, TdReport,
    collateral::Platform,
    pck,
    report::{SGX_REPORT_LEN, TD_REPORT_LEN},
};
use crate::{
    bytes::{Reader, array, le_u16, le_u32},
    identity::{TEST_MR_SIGNER, VerifiedQuote},
    options::VerifyOptions,
    time::UnixTime,
    x509::{self, Certificate},
};

const HEADER_LEN: usize = 48;
const SIGNATURE_SIZE_LEN: usize = 4;
/// Least bytes of an ECDSA P-256 signature section.
pub(super) const SIGNATURE_MIN_LEN: usize = 584;
const PPID_DATA_LEN: usize = 404;

pub(super) const KEY_TYPE_ECDSA_P256: u16 = 2;
pub(super) const DATA_PCK_CHAIN: u16 = 5;
const DATA_QE_REPORT: u16 = 6;

/// Intel's vendor identifier of quoting enclaves.
pub(super) const INTEL_VENDOR_ID: [u8; 16] =
    [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];

fn malformed(part: &'static str) -> Error {
    Error::MalformedQuote { part }
}

/// Kind of trusted execution environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TeeType {
    /// SGX, 0.
    Sgx,
    /// TDX, 0x81.
    Tdx,
}

/// Header of a quote, 48 bytes: `version u16 ‖ key type u16 ‖ TEE type u32 (v3: 0) ‖ qe_svn u16 ‖ pce_svn u16 (v4: both
/// 0) ‖ vendor 16 ‖ user data 20`, little-endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuoteHeader {
    /// 3 or 4.
    pub version: u16,
    /// What is attested.
    pub tee_type: TeeType,
    /// Kind of the attestation key, 2 for ECDSA P-256.
    pub attestation_key_type: u16,
    /// Security version of the quoting enclave (version 3 only).
    pub qe_svn: u16,
    /// Security version of the provisioning enclave (version 3 only).
    pub pce_svn: u16,
    /// Free data.
    pub user_data: [u8; 20],
    raw: [u8; HEADER_LEN],
}

impl QuoteHeader {
    fn parse(data: &[u8]) -> Result<Self, Error> {
        let raw: [u8; HEADER_LEN] = array(data, 0).ok_or(malformed("header"))?;
        let half = |at| le_u16(&raw, at).ok_or(malformed("header"));
        let version = half(0)?;
        if !matches!(version, 3 | 4) {
            return Err(Error::UnsupportedVersion { version });
        }
        let tee = le_u32(&raw, 4).ok_or(malformed("header"))?;
        let (qe_svn, pce_svn) = (half(8)?, half(10)?);
        let tee_type = match (version, tee) {
            (_, 0) => TeeType::Sgx,
            (3, _) => return Err(malformed("data in reserved field")),
            (_, 0x81) => TeeType::Tdx,
            (_, tee_type) => return Err(Error::UnsupportedTeeType { tee_type }),
        };
        if version == 4 && (qe_svn, pce_svn) != (0, 0) {
            return Err(malformed("data in reserved field"));
        }
        let vendor: [u8; 16] = array(&raw, 12).ok_or(malformed("header"))?;
        if vendor != INTEL_VENDOR_ID {
            return Err(Error::UnsupportedVendor { vendor: hex::encode(vendor) });
        }
        let user_data = array(&raw, 28).ok_or(malformed("header"))?;
        Ok(Self { version, tee_type, attestation_key_type: half(2)?, qe_svn, pce_svn, user_data, raw })
    }
}

/// What a verifier needs to check the quoting enclave's report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificationData {
    /// Platform identifier (types 1 to 3), with which the certificate chain can be asked for.
    Ppid {
        /// 1 clear text, 2 RSA-2048, 3 RSA-3072.
        data_type: u16,
        /// The identifier, encrypted or not.
        ppid: Box<[u8; 384]>,
        /// Security versions of the processor.
        cpu_svn: [u8; 16],
        /// Security version of the provisioning enclave.
        pce_svn: u16,
        /// Number of the provisioning enclave.
        pce_id: u16,
    },
    /// Certificate chain, leaf first (type 5).
    PckChain(Vec<Certificate>),
}

impl CertificationData {
    fn parse(data_type: u16, data: &[u8]) -> Result<Self, Error> {
        match data_type {
            1..=3 => {
                if data.len() != PPID_DATA_LEN {
                    return Err(malformed("PPID certification data"));
                }
                let read = || {
                    Some(Self::Ppid {
                        data_type,
                        ppid: Box::new(array(data, 0)?),
                        cpu_svn: array(data, 384)?,
                        pce_svn: le_u16(data, 400)?,
                        pce_id: le_u16(data, 402)?,
                    })
                };
                read().ok_or(malformed("PPID certification data"))
            }
            DATA_PCK_CHAIN => x509::certificates_from_pem(data).map(Self::PckChain).map_err(Error::PckChain),
            _ => Err(Error::UnsupportedCertificationData { data_type }),
        }
    }

    /// Number of this kind of data.
    pub fn data_type(&self) -> u16 {
        match self {
            Self::Ppid { data_type, .. } => *data_type,
            Self::PckChain(_) => DATA_PCK_CHAIN,
        }
    }
}

/// The signature section of a quote with ECDSA P-256: `signature 64 ‖ key 64 ‖ [v4: type u16 = 6 ‖ size u32] ‖ QE report
/// 384 ‖ QE report signature 64 ‖ size u16 ‖ authentication data ‖ type u16 ‖ size u32 ‖ certification data`. What
/// follows is not looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcdsaSignature {
    signature: [u8; 64],
    attestation_key: [u8; 64],
    /// Report of the quoting enclave.
    pub qe_report: Box<SgxReport>,
    qe_report_signature: [u8; 64],
    authentication_data: Vec<u8>,
    /// What certifies the platform.
    pub certification_data: CertificationData,
}

impl EcdsaSignature {
    fn parse(version: u16, data: &[u8]) -> Result<Self, Error> {
        if data.len() < SIGNATURE_MIN_LEN {
            return Err(malformed("signature length"));
        }
        let mut r = Reader(data);
        let signature = r.array().ok_or(malformed("signature"))?;
        let attestation_key = r.array().ok_or(malformed("attestation key"))?;
        if version == 4 {
            let data_type = r.u16().ok_or(malformed("certification data type"))?;
            if r.length() != Some(r.0.len()) {
                return Err(malformed("certification data size"));
            }
            if data_type != DATA_QE_REPORT {
                return Err(Error::UnsupportedCertificationData { data_type });
            }
        }
        let qe_report = r.take(SGX_REPORT_LEN).ok_or(malformed("QE report"))?;
        let qe_report = Box::new(SgxReport::parse(qe_report)?);
        let qe_report_signature = r.array().ok_or(malformed("QE report signature"))?;
        let size = r.u16().ok_or(malformed("authentication data size"))?;
        let authentication_data = r.take(usize::from(size)).ok_or(malformed("authentication data"))?.to_vec();
        let data_type = r.u16().ok_or(malformed("certification data type"))?;
        let size = r.length().ok_or(malformed("certification data size"))?;
        let data = r.take(size).ok_or(malformed("certification data"))?;
        Ok(Self {
            signature,
            attestation_key,
            qe_report,
            qe_report_signature,
            authentication_data,
            certification_data: CertificationData::parse(data_type, data)?,
        })
    }

    /// Verifies the platform's certificate chain and takes from its certificate what selects the collateral.
    ///
    /// # Errors
    ///
    /// If there is no chain, it does not lead to Intel's root at that time, or the certificate lacks a field.
    pub fn verify_pck(&self, now: UnixTime) -> Result<PckInfo, Error> {
        match &self.certification_data {
            CertificationData::PckChain(chain) => pck::verify(chain, now),
            CertificationData::Ppid { .. } => Err(Error::NoPckChain),
        }
    }

    fn verify(
        &self,
        quote: &Quote,
        now: UnixTime,
        tcb: Option<&TcbBundle>,
        policy: &QuotePolicy,
        options: &VerifyOptions,
    ) -> Result<(), Error> {
        let pck = self.verify_pck(now)?;
        if !verify_raw(&pck.public_key, &Sha256::digest(self.qe_report.raw()), &self.qe_report_signature) {
            return Err(Error::QeReportSignature);
        }
        let bound = Sha256::new().chain_update(self.attestation_key).chain_update(&self.authentication_data).finalize();
        let (binding, zeros) = self.qe_report.report_data.split_at(32);
        if binding != bound.as_slice() || zeros.iter().any(|b| *b != 0) {
            return Err(Error::QeReportData);
        }
        let platform = Platform {
            tee_type: quote.header.tee_type,
            fmspc: &pck.fmspc,
            sgx_svn: &pck.tcb_comp_svn,
            tdx_svn: match &quote.body {
                ReportBody::Sgx(_) => None,
                ReportBody::Tdx(report) => Some(&report.tee_tcb_svn),
            },
            pce_svn: pck.pce_svn,
            qe_report: &self.qe_report,
        };
        tcb.ok_or(Error::MissingTcb)?.verify(&platform, now, policy, options)?;

        let mut point = [4; 65];
        point[1..].copy_from_slice(&self.attestation_key);
        let key = VerifyingKey::from_sec1_bytes(&point).map_err(|_| Error::AttestationKey)?;
        let digest = Sha256::new().chain_update(quote.header.raw).chain_update(quote.body.raw()).finalize();
        if !verify_raw(&key, &digest, &self.signature) {
            return Err(Error::QuoteSignature);
        }
        Ok(())
    }
}

/// Verifies a signature `r ‖ s` over a SHA-256 digest.
pub(super) fn verify_raw(key: &VerifyingKey, digest: &[u8], signature: &[u8; 64]) -> bool {
    Signature::from_slice(signature).is_ok_and(|s| key.verify_prehash(digest, &s).is_ok())
}

/// An attestation quote: header, report body, `size u32`, signature section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    /// The header.
    pub header: QuoteHeader,
    /// The report.
    pub body: ReportBody,
    /// The signature section.
    pub signature: EcdsaSignature,
}

impl Quote {
    /// Reads a quote; nothing may follow it.
    ///
    /// # Errors
    ///
    /// If the bytes are not exactly one quote of a supported kind.
    pub fn parse(data: &[u8]) -> Result<Self, Error> {
        let (quote, len) = Self::parse_prefix(data)?;
        if len == data.len() { Ok(quote) } else { Err(Error::TrailingData) }
    }

    /// Reads the quote at the start of `data`; also returns its length.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse), but for what follows.
    pub fn parse_prefix(data: &[u8]) -> Result<(Self, usize), Error> {
        if data.len() < HEADER_LEN + SGX_REPORT_LEN + SIGNATURE_SIZE_LEN || data.len() > MAX_QUOTE_SIZE {
            return Err(malformed("length"));
        }
        let mut r = Reader(data);
        let header = QuoteHeader::parse(r.take(HEADER_LEN).ok_or(malformed("header"))?)?;
        let body = match header.tee_type {
            TeeType::Sgx => {
                let raw = r.take(SGX_REPORT_LEN).ok_or(malformed("report"))?;
                ReportBody::Sgx(Box::new(SgxReport::parse(raw)?))
            }
            TeeType::Tdx => {
                let raw = r.take(TD_REPORT_LEN).ok_or(malformed("TD report"))?;
                ReportBody::Tdx(Box::new(TdReport::parse(raw)?))
            }
        };
        let size = r.length().ok_or(malformed("signature size"))?;
        let signature = r.take(size).ok_or(malformed("signature"))?;
        if header.attestation_key_type != KEY_TYPE_ECDSA_P256 {
            return Err(Error::UnsupportedKeyType { key_type: header.attestation_key_type });
        }
        let signature = EcdsaSignature::parse(header.version, signature)?;
        Ok((Self { header, body, signature }, data.len() - r.0.len()))
    }

    /// Verifies the quote under a policy (without one, [`QuotePolicy::builtin`]) with its collateral.
    ///
    /// # Errors
    ///
    /// The first check that fails, in the reference's order.
    pub fn verify(
        &self,
        policy: Option<&QuotePolicy>,
        now: UnixTime,
        tcb: Option<&TcbBundle>,
        options: &VerifyOptions,
    ) -> Result<VerifiedQuote, Error> {
        let builtin;
        let policy = match policy {
            Some(policy) => policy,
            None => {
                builtin = QuotePolicy::builtin();
                &builtin
            }
        };
        if policy.disabled {
            return Err(Error::Disabled);
        }
        let debug = match &self.body {
            ReportBody::Sgx(report) => {
                if report.mr_signer == TEST_MR_SIGNER && !options.allow_test_signer {
                    return Err(Error::BlacklistedSigner);
                }
                report.is_debug()
            }
            ReportBody::Tdx(report) => report.is_debug(),
        };
        if debug != options.allow_debug_enclaves {
            return Err(Error::DebugMismatch { debug });
        }
        if let ReportBody::Tdx(report) = &self.body {
            let allowed = policy.tdx.as_ref().ok_or(Error::TeeTypeNotAllowed)?;
            if !allowed.allows(report) {
                return Err(Error::TdxModuleNotAllowed);
            }
        }
        if !options.skip_pcs_verify {
            self.signature.verify(self, now, tcb, policy, options)?;
        }
        Ok(VerifiedQuote { report_data: *self.body.report_data(), identity: self.body.identity() })
    }
}

/// A quote with the collateral that its verification needs.
///
/// CBOR: `{quote: bytes, tcb: TcbBundle}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct QuoteBundle {
    /// The quote's bytes.
    pub quote: Option<Bytes>,
    /// The collateral.
    pub tcb: TcbBundle,
}

impl QuoteBundle {
    /// Reads and verifies the quote.
    ///
    /// # Errors
    ///
    /// As [`Quote::parse`] and [`Quote::verify`].
    pub fn verify(
        &self,
        policy: Option<&QuotePolicy>,
        now: UnixTime,
        options: &VerifyOptions,
    ) -> Result<VerifiedQuote, Error> {
        Quote::parse(self.quote.as_ref().map_or(&[], |b| b.as_slice()))?.verify(policy, now, Some(&self.tcb), options)
    }
}
