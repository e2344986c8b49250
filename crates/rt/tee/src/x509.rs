//! X.509 certificates of Intel's two attestation hierarchies: parsing, chains to a pinned root, signatures.
//!
//! # Correctness
//!
//! Whether a chain verifies decides over registrations, so acceptance follows the reference's certificate library. All
//! that an outsider can change in a certificate without Intel's keys is what is outside its signed part: those bytes
//! are read with exactly the reference's strictness. Within the signed part only what Intel issues occurs, so names
//! are compared as bytes and extensions Intel does not use are not interpreted (a critical one is refused).

use std::sync::LazyLock;

use p256::ecdsa::{VerifyingKey, signature::hazmat::PrehashVerifier};
use rsa::{BigUint, Pkcs1v15Sign, RsaPublicKey};
use sha2::{Digest, Sha256};

use crate::{
    der::{Der, tag},
    text,
    time::{self, UnixTime},
};

const OID_ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const OID_RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
const OID_EC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const OID_P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const OID_RSA_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const OID_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const OID_BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const OID_EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const OID_EKU_ANY: &[u8] = &[0x55, 0x1d, 0x25, 0x00];
const OID_EKU_SERVER: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];

/// Why certificates were not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A PEM block of another kind.
    #[error("unexpected PEM block {label:?}")]
    Label {
        /// The words after `BEGIN`.
        label: String,
    },
    /// Bytes that are not a certificate, or use something unsupported.
    #[error("malformed certificate: {part}")]
    Malformed {
        /// The part that could not be read.
        part: &'static str,
    },
    /// The chain has another number of certificates.
    #[error("unexpected certificate chain length {found}, expected {expected}")]
    ChainLength {
        /// Certificates present.
        found: usize,
        /// Certificates required.
        expected: usize,
    },
    /// No path to the pinned root.
    #[error("certificate signed by unknown authority")]
    UnknownAuthority,
    /// Before the start or after the end of validity.
    #[error("certificate has expired or is not yet valid: valid from {not_before} to {not_after}, time is {now}")]
    Expired {
        /// Unix seconds.
        not_before: i64,
        /// Unix seconds.
        not_after: i64,
        /// Unix seconds.
        now: i64,
    },
    /// A certificate of the path may not be used so.
    #[error("certificate not acceptable: {reason}")]
    NotAcceptable {
        /// What is wrong.
        reason: &'static str,
    },
    /// The last certificate of the chain is not the pinned root.
    #[error("unexpected root in certificate chain")]
    UnexpectedRoot,
}

fn malformed(part: &'static str) -> CertificateError {
    CertificateError::Malformed { part }
}

/// The key of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CertificateKey {
    P256(VerifyingKey),
    Rsa(Box<RsaPublicKey>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SignatureAlgorithm {
    EcdsaSha256,
    RsaSha256,
    Other,
}

/// One extension of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Extension {
    /// Content octets of the object identifier.
    pub(crate) oid: Vec<u8>,
    pub(crate) critical: bool,
    pub(crate) value: Vec<u8>,
}

/// An X.509 certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    raw: Vec<u8>,
    signed: Vec<u8>,
    version: i64,
    algorithm: SignatureAlgorithm,
    issuer: Vec<u8>,
    subject: Vec<u8>,
    not_before: UnixTime,
    not_after: UnixTime,
    key: Option<CertificateKey>,
    extensions: Vec<Extension>,
    /// Is a CA, and how many intermediates may follow.
    basic: Option<(bool, Option<i64>)>,
    key_usage: Option<(u8, Vec<u8>)>,
    extended_usage: Option<Vec<Vec<u8>>>,
    signature: Vec<u8>,
}

impl Certificate {
    /// Reads one certificate; nothing may follow it.
    ///
    /// # Errors
    ///
    /// Anything the reference's parser refuses too, and keys of Intel's two kinds that are malformed.
    pub fn from_der(bytes: &[u8]) -> Result<Self, CertificateError> {
        let mut outer = Der::new(bytes);
        let whole = outer.element(tag::SEQUENCE).ok_or(malformed("certificate"))?;
        if !outer.is_empty() {
            return Err(malformed("trailing data"));
        }
        // What follows the signature within the sequence is not looked at, as in the reference.
        let mut parts = Der::new(whole.content);
        let signed = parts.element(tag::SEQUENCE).ok_or(malformed("signed part"))?;
        let algorithm = parts.read(tag::SEQUENCE).ok_or(malformed("signature algorithm"))?;
        let signature = parts.bit_string().ok_or(malformed("signature"))?;
        let mut certificate = Self::from_signed_part(signed.content, algorithm)?;
        certificate.raw = whole.full.to_vec();
        certificate.signed = signed.full.to_vec();
        certificate.signature = right_aligned(signature);
        Ok(certificate)
    }

    fn from_signed_part(bytes: &[u8], outer_algorithm: Der<'_>) -> Result<Self, CertificateError> {
        let mut tbs = Der::new(bytes);
        let version = match tbs.optional(tag::explicit(0)).ok_or(malformed("version"))? {
            Some(mut v) => v.integer().filter(|n| (0..=2).contains(n) && v.is_empty()).ok_or(malformed("version"))? + 1,
            None => 1,
        };
        let serial = tbs.integer_bytes().ok_or(malformed("serial number"))?;
        if serial[0] & 0x80 != 0 {
            return Err(malformed("negative serial number"));
        }
        let algorithm = tbs.read(tag::SEQUENCE).ok_or(malformed("signature algorithm"))?;
        if algorithm.rest() != outer_algorithm.rest() {
            return Err(malformed("inner and outer signature algorithms differ"));
        }
        let algorithm = signature_algorithm(algorithm).ok_or(malformed("signature algorithm"))?;
        let issuer = tbs.element(tag::SEQUENCE).ok_or(malformed("issuer"))?.full.to_vec();
        let mut validity = tbs.read(tag::SEQUENCE).ok_or(malformed("validity"))?;
        let not_before = time(&mut validity).ok_or(malformed("start of validity"))?;
        let not_after = time(&mut validity).ok_or(malformed("end of validity"))?;
        let subject = tbs.element(tag::SEQUENCE).ok_or(malformed("subject"))?.full.to_vec();
        let key = public_key(tbs.read(tag::SEQUENCE).ok_or(malformed("public key"))?)?;
        let mut certificate = Self {
            raw: Vec::new(),
            signed: Vec::new(),
            version,
            algorithm,
            issuer,
            subject,
            not_before,
            not_after,
            key,
            extensions: Vec::new(),
            basic: None,
            key_usage: None,
            extended_usage: None,
            signature: Vec::new(),
        };
        if version > 1 {
            for n in [1, 2] {
                tbs.optional(tag::implicit(n)).ok_or(malformed("unique identifier"))?;
            }
        }
        if version == 3
            && let Some(mut list) = tbs.optional(tag::explicit(3)).ok_or(malformed("extensions"))?
        {
            certificate.read_extensions(list.read(tag::SEQUENCE).ok_or(malformed("extensions"))?)?;
        }
        Ok(certificate)
    }

    fn read_extensions(&mut self, mut list: Der<'_>) -> Result<(), CertificateError> {
        let bad = || malformed("extension");
        while !list.is_empty() {
            let mut item = list.read(tag::SEQUENCE).ok_or(bad())?;
            let oid = item.element(tag::OID).ok_or(bad())?.content.to_vec();
            let critical = match item.peek_tag() {
                Some(tag::BOOLEAN) => item.boolean().ok_or(bad())?,
                _ => false,
            };
            let value = item.element(tag::OCTET_STRING).ok_or(bad())?.content.to_vec();
            // Certificates have about ten extensions; a crafted one may have thousands, but is bounded by its size.
            if self.extensions.len() >= 256 || self.extensions.iter().any(|e| e.oid == oid) {
                return Err(malformed("duplicate or too many extensions"));
            }
            match oid.as_slice() {
                OID_BASIC_CONSTRAINTS => self.basic = Some(basic_constraints(&value).ok_or(bad())?),
                OID_KEY_USAGE => {
                    let (padding, bits) = Der::new(&value).bit_string().ok_or(bad())?;
                    self.key_usage = Some((padding, bits.to_vec()));
                }
                OID_EXTENDED_KEY_USAGE => self.extended_usage = Some(extended_usage(&value).ok_or(bad())?),
                _ => {}
            }
            self.extensions.push(Extension { oid, critical, value });
        }
        Ok(())
    }

    /// The DER bytes.
    pub fn der(&self) -> &[u8] {
        &self.raw
    }

    pub(crate) fn key(&self) -> Option<&CertificateKey> {
        self.key.as_ref()
    }

    pub(crate) fn extension(&self, oid: &[u8]) -> Option<&[u8]> {
        self.extensions.iter().find(|e| e.oid == oid).map(|e| e.value.as_slice())
    }

    fn has_unknown_critical(&self) -> bool {
        self.extensions.iter().any(|e| {
            e.critical && ![OID_BASIC_CONSTRAINTS, OID_KEY_USAGE, OID_EXTENDED_KEY_USAGE].contains(&e.oid.as_slice())
        })
    }

    /// Whether the extended usages, if any, allow what the reference's default asks for: server authentication.
    fn usable(&self) -> bool {
        self.extended_usage.as_ref().is_none_or(|list| {
            list.is_empty() || list.iter().any(|u| u.as_slice() == OID_EKU_ANY || u.as_slice() == OID_EKU_SERVER)
        })
    }

    /// Whether the key usage, if given, has the bit for signing certificates.
    fn may_sign_certificates(&self) -> bool {
        match &self.key_usage {
            Some((_, bits)) if bits.iter().any(|b| *b != 0) => bits[0] & 0x04 != 0,
            _ => true,
        }
    }

    /// Verifies a signature of this certificate's RSA key over SHA-256 of the message (PKCS #1 v1.5).
    pub(crate) fn verify_rsa(&self, message: &[u8], signature: &[u8]) -> bool {
        let Some(CertificateKey::Rsa(key)) = &self.key else {
            return false;
        };
        key.verify(Pkcs1v15Sign::new::<rsa::sha2::Sha256>(), &Sha256::digest(message), signature).is_ok()
    }

    fn is_signed_by(&self, parent: &Certificate) -> bool {
        match (self.algorithm, &parent.key) {
            (SignatureAlgorithm::EcdsaSha256, Some(CertificateKey::P256(key))) => ecdsa_from_der(&self.signature)
                .is_some_and(|s| key.verify_prehash(&Sha256::digest(&self.signed), &s).is_ok()),
            (SignatureAlgorithm::RsaSha256, Some(CertificateKey::Rsa(_))) => {
                parent.verify_rsa(&self.signed, &self.signature)
            }
            _ => false,
        }
    }

    /// Checks the certificate for itself at its place, with `below` certificates before it in the path.
    fn check(&self, now: UnixTime, below: usize) -> Result<(), CertificateError> {
        if self.has_unknown_critical() {
            return Err(CertificateError::NotAcceptable { reason: "unknown critical extension" });
        }
        if now < self.not_before || now > self.not_after {
            return Err(CertificateError::Expired {
                not_before: self.not_before.seconds(),
                not_after: self.not_after.seconds(),
                now: now.seconds(),
            });
        }
        if let Some((_, Some(most))) = self.basic
            && i64::try_from(below).unwrap_or(i64::MAX) - 1 > most
        {
            return Err(CertificateError::NotAcceptable { reason: "too many intermediates" });
        }
        if !self.usable() {
            return Err(CertificateError::NotAcceptable { reason: "extended key usage" });
        }
        Ok(())
    }

    /// Checks that this certificate issued `child`, which has `below` certificates before it in the path.
    fn check_parent(
        &self,
        child: &Certificate,
        below: usize,
        root: bool,
        now: UnixTime,
    ) -> Result<(), CertificateError> {
        if child.issuer != self.subject {
            return Err(CertificateError::UnknownAuthority);
        }
        let authority = matches!(self.basic, Some((true, _)));
        let allowed = if self.version == 3 || self.basic.is_some() { authority } else { root };
        if !allowed || !self.may_sign_certificates() {
            return Err(CertificateError::NotAcceptable { reason: "not authorised to sign certificates" });
        }
        if !child.is_signed_by(self) {
            return Err(CertificateError::UnknownAuthority);
        }
        self.check(now, below + 1)
    }
}

/// Verifies that `leaf` chains, over `intermediate` if there is one, to `trusted`, and that `root`, the last
/// certificate sent along, is the same.
pub(crate) fn verify_chain(
    leaf: &Certificate,
    intermediate: Option<&Certificate>,
    root: &Certificate,
    trusted: &Certificate,
    now: UnixTime,
) -> Result<(), CertificateError> {
    leaf.check(now, 0)?;
    if leaf.raw != trusted.raw {
        let direct = trusted.check_parent(leaf, 0, true, now);
        match (direct, intermediate) {
            (Ok(()), _) => {}
            (Err(error), None) => return Err(error),
            (Err(_), Some(middle)) => {
                middle.check_parent(leaf, 0, false, now)?;
                trusted.check_parent(middle, 1, true, now)?;
            }
        }
    }
    if root.raw == trusted.raw { Ok(()) } else { Err(CertificateError::UnexpectedRoot) }
}

/// Reads PEM certificates until no further block follows; blocks of another kind are an error.
pub(crate) fn certificates_from_pem(bytes: &[u8]) -> Result<Vec<Certificate>, CertificateError> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some((block, after)) = text::pem_block(rest) {
        if block.label != b"CERTIFICATE" {
            let label = String::from_utf8_lossy(&block.label).chars().take(80).collect();
            return Err(CertificateError::Label { label });
        }
        out.push(Certificate::from_der(&block.bytes)?);
        rest = after;
    }
    Ok(out)
}

/// Root of the hierarchy of platform certificates and their collateral.
pub(crate) static INTEL_SGX_ROOT: LazyLock<Certificate> =
    LazyLock::new(|| pinned(include_bytes!("../data/intel-sgx-root-ca.pem")));

/// Root of the hierarchy that signs attestation verification reports.
pub(crate) static INTEL_IAS_ROOT: LazyLock<Certificate> =
    LazyLock::new(|| pinned(include_bytes!("../data/intel-ias-report-signing-ca.pem")));

fn pinned(pem: &[u8]) -> Certificate {
    let list = certificates_from_pem(pem).expect("the pinned certificate is well-formed, as a test checks");
    list.into_iter().next().expect("the pinned file holds a certificate, as a test checks")
}

/// Reads an ECDSA signature `SEQUENCE { r INTEGER, s INTEGER }`, strictly.
fn ecdsa_from_der(bytes: &[u8]) -> Option<p256::ecdsa::Signature> {
    let mut outer = Der::new(bytes);
    let mut inner = outer.read(tag::SEQUENCE)?;
    let (r, s) = (scalar(inner.unsigned()?)?, scalar(inner.unsigned()?)?);
    if !outer.is_empty() || !inner.is_empty() {
        return None;
    }
    p256::ecdsa::Signature::from_scalars(r, s).ok()
}

fn scalar(bytes: &[u8]) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    let start = out.len().checked_sub(bytes.len())?;
    out[start..].copy_from_slice(bytes);
    Some(out)
}

/// The bytes of a bit string moved so that the last bit is the last bit of the last byte.
fn right_aligned((padding, bytes): (u8, &[u8])) -> Vec<u8> {
    if padding == 0 {
        return bytes.to_vec();
    }
    let mut carry = 0;
    bytes
        .iter()
        .map(|&b| {
            let out = carry | (b >> padding);
            carry = b << (8 - padding);
            out
        })
        .collect()
}

fn signature_algorithm(mut sequence: Der<'_>) -> Option<SignatureAlgorithm> {
    let oid = sequence.element(tag::OID)?.content;
    Some(match oid {
        OID_ECDSA_SHA256 => SignatureAlgorithm::EcdsaSha256,
        OID_RSA_SHA256 => SignatureAlgorithm::RsaSha256,
        _ => SignatureAlgorithm::Other,
    })
}

fn time(validity: &mut Der<'_>) -> Option<UnixTime> {
    let element = validity.any()?;
    let mut text = element.content;
    let text = &mut text;
    let year = match element.tag {
        // Two digits stand for 1950 to 2049.
        tag::UTC_TIME => time::digits(text, 2, 2).map(|y| if y >= 50 { 1900 + y } else { 2000 + y })?,
        tag::GENERALIZED_TIME => time::digits(text, 4, 4)?,
        _ => return None,
    };
    let mut two = || time::digits(text, 2, 2);
    let (month, day) = (two()?, two()?);
    let clock = (two()?, two()?, two()?);
    (*text == b"Z").then_some(())?;
    time::from_civil(i64::from(year), month, day, clock)
}

fn public_key(mut info: Der<'_>) -> Result<Option<CertificateKey>, CertificateError> {
    let bad = || malformed("public key");
    let mut algorithm = info.read(tag::SEQUENCE).ok_or(bad())?;
    let oid = algorithm.element(tag::OID).ok_or(bad())?.content;
    let (padding, bits) = info.bit_string().ok_or(bad())?;
    if padding != 0 {
        return Err(bad());
    }
    match oid {
        OID_EC_KEY => {
            let curve = algorithm.element(tag::OID).ok_or(bad())?.content;
            if curve != OID_P256 || bits.first() != Some(&4) {
                return Err(malformed("unsupported elliptic curve key"));
            }
            VerifyingKey::from_sec1_bytes(bits).map(|k| Some(CertificateKey::P256(k))).map_err(|_| bad())
        }
        OID_RSA_KEY => {
            let mut key = Der::new(bits).read(tag::SEQUENCE).ok_or(bad())?;
            let modulus = BigUint::from_bytes_be(key.unsigned().ok_or(bad())?);
            let exponent = BigUint::from_bytes_be(key.unsigned().ok_or(bad())?);
            RsaPublicKey::new(modulus, exponent).map(|k| Some(CertificateKey::Rsa(Box::new(k)))).map_err(|_| bad())
        }
        _ => Ok(None),
    }
}

fn basic_constraints(value: &[u8]) -> Option<(bool, Option<i64>)> {
    let mut sequence = Der::new(value).read(tag::SEQUENCE)?;
    let authority = match sequence.peek_tag() {
        Some(tag::BOOLEAN) => sequence.boolean()?,
        _ => false,
    };
    let most = match sequence.peek_tag() {
        Some(tag::INTEGER) => Some(sequence.integer()?).filter(|n| *n >= 0),
        _ => None,
    };
    Some((authority, most))
}

fn extended_usage(value: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut sequence = Der::new(value).read(tag::SEQUENCE)?;
    let mut out = Vec::new();
    while !sequence.is_empty() {
        out.push(sequence.element(tag::OID)?.content.to_vec());
    }
    Some(out)
}

#[cfg(test)]
mod tests;
