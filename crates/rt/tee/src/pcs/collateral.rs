//! Signed collateral: TCB info and quoting enclave identity with the certificates that sign them.
//!
//! Reference: `go/common/sgx/pcs/tcb.go`.

use base_codec::{Bytes, Codec, json};
use p256::ecdsa::VerifyingKey;
use sha2::{Digest, Sha256};

use super::{CollateralError, Error, QeIdentity, QuotePolicy, SgxReport, TcbInfo, TeeType, quote::verify_raw};
use crate::{
    options::VerifyOptions,
    raw_json,
    time::{self, UnixTime},
    x509::{self, CertificateError, CertificateKey, INTEL_SGX_ROOT},
};

const NANOS_PER_DAY: i128 = 86_400_000_000_000;

/// TCB info as Intel signed it. The body's bytes are kept exactly.
///
/// CBOR: `{tcb_info: bytes, signature: text}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct SignedTcbInfo {
    /// The JSON body.
    pub tcb_info: Option<Bytes>,
    /// Signature `r ‖ s` over SHA-256 of the body, hexadecimal.
    pub signature: String,
}

/// A quoting enclave identity as Intel signed it. The body's bytes are kept exactly.
///
/// CBOR: `{enclave_identity: bytes, signature: text}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct SignedQeIdentity {
    /// The JSON body.
    pub enclave_identity: Option<Bytes>,
    /// Signature `r ‖ s` over SHA-256 of the body, hexadecimal.
    pub signature: String,
}

/// An answer of Intel's service that is not of the expected form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed answer: no {field}")]
pub struct PcsJson {
    /// The field that is missing or malformed.
    pub field: &'static str,
}

fn signed_fields(answer: &[u8], body: &'static str) -> Result<(Option<Bytes>, String), PcsJson> {
    let raw = raw_json::field(answer, body).ok_or(PcsJson { field: body })?;
    let field = "signature";
    let signature = raw_json::field(answer, field).ok_or(PcsJson { field })?;
    let signature = std::str::from_utf8(signature).map_err(|_| PcsJson { field })?;
    let signature = json::from_str(signature).map_err(|_| PcsJson { field })?;
    Ok((Some(Bytes::from(raw)), signature))
}

impl SignedTcbInfo {
    /// Takes apart the service's answer `{"tcbInfo": {…}, "signature": "…"}`, keeping the body's bytes.
    ///
    /// # Errors
    ///
    /// If the answer is no JSON object with these fields.
    pub fn from_answer(answer: &[u8]) -> Result<Self, PcsJson> {
        let (tcb_info, signature) = signed_fields(answer, "tcbInfo")?;
        Ok(Self { tcb_info, signature })
    }

    /// Reads the body without verifying anything.
    ///
    /// # Errors
    ///
    /// If the body is not JSON of the expected shape.
    pub fn parse_unverified(&self) -> Result<TcbInfo, CollateralError> {
        parse_body(bytes(&self.tcb_info))
    }
}

impl SignedQeIdentity {
    /// Takes apart the service's answer `{"enclaveIdentity": {…}, "signature": "…"}`, keeping the body's bytes.
    ///
    /// # Errors
    ///
    /// If the answer is no JSON object with these fields.
    pub fn from_answer(answer: &[u8]) -> Result<Self, PcsJson> {
        let (enclave_identity, signature) = signed_fields(answer, "enclaveIdentity")?;
        Ok(Self { enclave_identity, signature })
    }

    /// Reads the body without verifying anything.
    ///
    /// # Errors
    ///
    /// If the body is not JSON of the expected shape.
    pub fn parse_unverified(&self) -> Result<QeIdentity, CollateralError> {
        parse_body(bytes(&self.enclave_identity))
    }
}

fn bytes(field: &Option<Bytes>) -> &[u8] {
    field.as_ref().map_or(&[], |b| b.as_slice())
}

fn parse_body<T: json::FromJson>(body: &[u8]) -> Result<T, CollateralError> {
    json::from_str(&String::from_utf8_lossy(body)).map_err(|_| CollateralError::Malformed { field: "body" })
}

fn check_signature(body: &[u8], signature: &str, key: &VerifyingKey) -> Result<(), CollateralError> {
    let mut raw = [0; 64];
    hex::decode_to_slice(signature, &mut raw).map_err(|_| CollateralError::MalformedSignature)?;
    if verify_raw(key, &Sha256::digest(body), &raw) { Ok(()) } else { Err(CollateralError::Signature) }
}

/// Checks what an item of collateral is for and its version.
pub(super) fn check_kind(id: &str, expected: &str, version: i64, required: i64) -> Result<(), CollateralError> {
    if id != expected {
        return Err(CollateralError::Identifier { found: id.chars().take(80).collect() });
    }
    if version != required {
        return Err(CollateralError::Version { found: version });
    }
    Ok(())
}

/// Checks that an item of collateral was issued neither in the future nor too long ago. The date of the next update
/// must be one, but does not limit validity.
pub(super) fn check_age(
    issue_date: &str,
    next_update: &str,
    now: UnixTime,
    policy: &QuotePolicy,
) -> Result<(), CollateralError> {
    let date = |text, field| time::parse_timestamp(text, "Z").ok_or(CollateralError::Malformed { field });
    let issued = date(issue_date, "issueDate")?;
    date(next_update, "nextUpdate")?;
    if issued > now {
        return Err(CollateralError::IssuedInFuture);
    }
    if now.nanos_since(issued) > i128::from(policy.tcb_validity_period) * NANOS_PER_DAY {
        return Err(CollateralError::Expired { validity_days: policy.tcb_validity_period });
    }
    Ok(())
}

/// Checks an evaluation data number against the policy's minimum.
pub(super) fn check_number(found: u32, policy: &QuotePolicy) -> Result<(), CollateralError> {
    let least = policy.min_tcb_evaluation_data_number;
    if found < least { Err(CollateralError::EvaluationDataNumber { found, least }) } else { Ok(()) }
}

/// What collateral is compared with.
pub(super) struct Platform<'a> {
    pub(super) tee_type: TeeType,
    pub(super) fmspc: &'a [u8; 6],
    pub(super) sgx_svn: &'a [i32; 16],
    pub(super) tdx_svn: Option<&'a [u8; 16]>,
    pub(super) pce_svn: u16,
    pub(super) qe_report: &'a SgxReport,
}

/// The collateral of a quote.
///
/// CBOR: `{tcb_info: SignedTcbInfo, qe_id: SignedQeIdentity, certs: bytes}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct TcbBundle {
    /// Security versions and their status.
    pub tcb_info: SignedTcbInfo,
    /// What the quoting enclave is.
    #[codec(rename = "qe_id")]
    pub qe_identity: SignedQeIdentity,
    /// PEM of the signing certificate and of Intel's root.
    #[codec(rename = "certs")]
    pub certificates: Option<Bytes>,
}

impl TcbBundle {
    /// Verifies the certificates and returns the key that signs the collateral.
    fn signing_key(&self, now: UnixTime) -> Result<VerifyingKey, Error> {
        let chain = x509::certificates_from_pem(bytes(&self.certificates)).map_err(Error::TcbChain)?;
        let [signer, root] = chain.as_slice() else {
            return Err(Error::TcbChain(CertificateError::ChainLength { found: chain.len(), expected: 2 }));
        };
        x509::verify_chain(signer, None, root, &INTEL_SGX_ROOT, now).map_err(Error::TcbChain)?;
        match signer.key() {
            Some(CertificateKey::P256(key)) => Ok(*key),
            _ => Err(Error::TcbKey),
        }
    }

    /// Verifies the collateral and that the platform is acceptable by it.
    pub(super) fn verify(
        &self,
        platform: &Platform<'_>,
        now: UnixTime,
        policy: &QuotePolicy,
        options: &VerifyOptions,
    ) -> Result<(), Error> {
        let key = self.signing_key(now)?;
        self.verify_qe_identity(platform, now, policy, &key).map_err(Error::QeIdentity)?;
        self.verify_tcb_info(platform, now, policy, &key, options.lax_tcb).map_err(Error::TcbInfo)
    }

    fn verify_qe_identity(
        &self,
        platform: &Platform<'_>,
        now: UnixTime,
        policy: &QuotePolicy,
        key: &VerifyingKey,
    ) -> Result<(), CollateralError> {
        check_signature(bytes(&self.qe_identity.enclave_identity), &self.qe_identity.signature, key)?;
        let identity = self.qe_identity.parse_unverified()?;
        identity.validate(platform.tee_type, now, policy)?;
        identity.check_report(platform.qe_report)
    }

    fn verify_tcb_info(
        &self,
        platform: &Platform<'_>,
        now: UnixTime,
        policy: &QuotePolicy,
        key: &VerifyingKey,
        lax: bool,
    ) -> Result<(), CollateralError> {
        check_signature(bytes(&self.tcb_info.tcb_info), &self.tcb_info.signature, key)?;
        let info = self.tcb_info.parse_unverified()?;
        info.validate(platform.tee_type, now, policy)?;
        info.check_fmspc(platform.fmspc)?;
        info.check_level(platform.sgx_svn, platform.tdx_svn, platform.pce_svn, lax)
    }
}
