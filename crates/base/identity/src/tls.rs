//! The self-signed certificate of a node and the check of a peer's.
//!
//! There are no certificate authorities: a peer's key is known beforehand and its certificate must follow one template.
//! Reference: `go/common/crypto/tls`.

use crate::files::{self, FileError, SECRET_MODE};
use crate::pem;
use base_crypto::ed25519::{self, SecretKey};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, KeyUsagePurpose, PKCS_ED25519,
    PublicKeyData, SerialNumber, SignatureAlgorithm, SigningKey,
};
use std::path::Path;
use time::{Duration, Month, OffsetDateTime};
use x509_parser::{
    certificate::X509Certificate,
    extensions::{ParsedExtension, X509Extension},
    oid_registry::OID_SIG_ED25519,
    prelude::FromDer,
    x509::AlgorithmIdentifier,
};
use zeroize::Zeroizing;

/// The common name in every certificate.
pub const COMMON_NAME: &str = "oasis-node";

/// PEM type of PKCS#8 keys.
const KEY_PEM: &str = "PRIVATE KEY";
/// PEM type of certificates.
const CERT_PEM: &str = "CERTIFICATE";
/// Mode of certificate files, which anyone may read.
const CERT_MODE: u32 = 0o644;
/// Digital signature, key encipherment and certificate signing, as bits counted from the least significant.
const KEY_USAGE: u16 = 1 | 1 << 2 | 1 << 5;
/// What stands before the signature in a certificate: the algorithm again and the header of a string of 512 bits.
const SIGNATURE_HEAD: [u8; 10] = [0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x41, 0x00];
/// What stands before the seed in PKCS#8 (RFC 8410) behind the outer header: version, algorithm, nested octet strings.
/// The version's own byte, 0 here, may also be 1.
const PKCS8_HEAD: [u8; 14] = [0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// A TLS key with its certificate.
pub struct TlsIdentity {
    key: SecretKey,
    certificate: Vec<u8>,
}

impl std::fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsIdentity").field("key", &self.key).finish_non_exhaustive()
    }
}

impl TlsIdentity {
    /// Issues a certificate for a key, valid from an hour before `now_unix` (seconds) to a year after it.
    pub fn issue(key: SecretKey, now_unix: i64) -> Result<Self, TlsError> {
        Self::issue_named(key, COMMON_NAME, now_unix)
    }

    /// The same with another common name, as the two sides of a remote signer have.
    pub fn issue_named(key: SecretKey, name: &str, now_unix: i64) -> Result<Self, TlsError> {
        let certificate = issue(&key, name, now_unix)?;
        Ok(Self { key, certificate })
    }

    /// Reads certificate and key, or makes and writes both if there is none of the two.
    ///
    /// # Errors
    /// If a file cannot be read or written, or only one of them is there.
    pub fn load_or_generate(
        certificate_path: &Path,
        key_path: &Path,
        name: &str,
        now_unix: i64,
    ) -> Result<Self, FileError> {
        match Self::load_pair(certificate_path, key_path) {
            Err(error) if error.is_not_found() && !key_path.exists() => {
                let key = SecretKey::from_seed(&*files::random(key_path)?);
                let made = Self::issue_named(key, name, now_unix).map_err(|error| FileError::Certificate {
                    path: certificate_path.to_owned(),
                    reason: error.to_string(),
                })?;
                made.save(key_path, certificate_path)?;
                Ok(made)
            }
            other => other,
        }
    }

    /// Reads a certificate and its key as they are.
    ///
    /// # Errors
    /// If a file cannot be read, or they do not belong together.
    pub fn load_pair(certificate_path: &Path, key_path: &Path) -> Result<Self, FileError> {
        let key = load_key(key_path)?;
        let certificate = load_certificate(certificate_path)?;
        match certificate_key(&certificate) {
            Some(found) if found == key.public() => Ok(Self { key, certificate }),
            _ => Err(FileError::Certificate {
                path: certificate_path.to_owned(),
                reason: format!("it is not of the key in {}", key_path.display()),
            }),
        }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &SecretKey {
        &self.key
    }

    /// The public key, by which peers know this node.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.key.public()
    }

    /// The certificate, DER.
    #[must_use]
    pub fn certificate_der(&self) -> &[u8] {
        &self.certificate
    }

    /// The key in PKCS#8 form, DER, as TLS libraries take it.
    #[must_use]
    pub fn key_pkcs8_der(&self) -> Zeroizing<Vec<u8>> {
        let mut der = Zeroizing::new(Vec::with_capacity(48));
        der.extend_from_slice(&[0x30, 0x2e]);
        der.extend_from_slice(&PKCS8_HEAD);
        der.extend_from_slice(self.key.seed().as_slice());
        der
    }

    /// Reads a key file and issues a fresh certificate for it.
    pub(crate) fn load(path: &Path, now_unix: i64) -> Result<Self, FileError> {
        Self::issue_for(load_key(path)?, path, now_unix)
    }

    /// Makes a new key, not yet written to the file.
    pub(crate) fn generate(path: &Path, now_unix: i64) -> Result<Self, FileError> {
        Self::issue_for(SecretKey::from_seed(&*files::random(path)?), path, now_unix)
    }

    fn issue_for(key: SecretKey, path: &Path, now_unix: i64) -> Result<Self, FileError> {
        Self::issue(key, now_unix).map_err(|e| FileError::Certificate { path: path.to_owned(), reason: e.to_string() })
    }

    /// Writes key and certificate.
    pub(crate) fn save(&self, key_path: &Path, certificate_path: &Path) -> Result<(), FileError> {
        files::write(key_path, pem::encode(KEY_PEM, &self.key_pkcs8_der()).as_bytes(), SECRET_MODE, true)?;
        files::write(certificate_path, pem::encode(CERT_PEM, &self.certificate).as_bytes(), CERT_MODE, true)
    }
}

fn load_key(path: &Path) -> Result<SecretKey, FileError> {
    let text = files::read(path, false)?;
    let der = pem::decode(KEY_PEM, &text).map_err(|source| FileError::Pem { path: path.to_owned(), source })?;
    parse_pkcs8(&der).ok_or_else(|| FileError::NotEd25519 { path: path.to_owned() })
}

/// Reads a certificate file (PEM) and gives the certificate (DER), which is not checked.
///
/// # Errors
/// If the file cannot be read or is none.
pub fn load_certificate(path: &Path) -> Result<Vec<u8>, FileError> {
    let text = files::read(path, false)?;
    let der = pem::decode(CERT_PEM, &text).map_err(|source| FileError::Pem { path: path.to_owned(), source })?;
    Ok(der.to_vec())
}

/// The Ed25519 key of a certificate (DER), which is not checked otherwise.
#[must_use]
pub fn certificate_key(certificate_der: &[u8]) -> Option<[u8; 32]> {
    let (_, certificate) = X509Certificate::from_der(certificate_der).ok()?;
    let info = &certificate.subject_pki;
    if info.algorithm.algorithm != OID_SIG_ED25519 {
        return None;
    }
    info.subject_public_key.data.as_ref().try_into().ok()
}

/// Takes the seed out of PKCS#8 version 1 or 2.
fn parse_pkcs8(der: &[u8]) -> Option<SecretKey> {
    let (outer, rest) = der.split_first_chunk::<2>()?;
    if outer[0] != 0x30 || outer[1] >= 0x80 || usize::from(outer[1]) != rest.len() {
        return None;
    }
    let (head, rest) = rest.split_first_chunk::<14>()?;
    let mut version1 = *head;
    version1[2] = PKCS8_HEAD[2];
    if head[2] > 1 || version1 != PKCS8_HEAD {
        return None;
    }
    rest.first_chunk::<32>().map(SecretKey::from_seed)
}

/// Lets the certificate library sign with our key.
struct Signer<'a> {
    key: &'a SecretKey,
    public: [u8; 32],
}

impl PublicKeyData for Signer<'_> {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

impl SigningKey for Signer<'_> {
    fn sign(&self, msg: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.key.sign(msg).to_vec())
    }
}

/// The same date a year later; 29 February becomes 1 March.
fn year_later(t: OffsetDateTime) -> Option<OffsetDateTime> {
    let year = t.year() + 1;
    t.replace_year(year).or_else(|_| t.replace_day(1)?.replace_month(Month::March)?.replace_year(year)).ok()
}

fn issue(key: &SecretKey, name: &str, now_unix: i64) -> Result<Vec<u8>, TlsError> {
    let now = OffsetDateTime::from_unix_timestamp(now_unix).map_err(|_| TlsError::Clock { now_unix })?;
    let text = name.try_into().map_err(|e: rcgen::Error| TlsError::Issue(e.to_string()))?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, DnValue::PrintableString(text));
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.serial_number = Some(SerialNumber::from_slice(&[1]));
    params.not_before = now.checked_sub(Duration::hours(1)).ok_or(TlsError::Clock { now_unix })?;
    params.not_after = year_later(now).ok_or(TlsError::Clock { now_unix })?;
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyCertSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let signer = Signer { key, public: key.public() };
    let cert = params.self_signed(&signer).map_err(|e| TlsError::Issue(e.to_string()))?;
    Ok(cert.der().to_vec())
}

/// Why a certificate was refused or could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The system clock is outside what certificates can express.
    #[error("clock reads {now_unix} seconds since 1970, which a certificate cannot express")]
    Clock {
        /// Unix time in seconds.
        now_unix: i64,
    },
    /// The certificate library refused.
    #[error("certificate cannot be written: {0}")]
    Issue(String),
    /// Not one well-formed certificate.
    #[error("certificate is malformed: {0}")]
    Malformed(&'static str),
    /// The key or signature is not Ed25519.
    #[error("certificate's key and signature must be Ed25519")]
    Algorithm,
    /// The key is not the pinned one.
    #[error("certificate has key {}, expected {}", hex(found), hex(expected))]
    Key {
        /// Key in the certificate.
        found: [u8; 32],
        /// Pinned key.
        expected: [u8; 32],
    },
    /// The common name is wrong.
    #[error("certificate's common name is `{found}`, expected `{expected}`")]
    CommonName {
        /// What it is, shortened.
        found: String,
        /// What it must be.
        expected: &'static str,
    },
    /// The serial number is not 1.
    #[error("certificate's serial number is not 1")]
    Serial,
    /// The key usage differs from the template.
    #[error("certificate's key usage is {found:#x}, expected {KEY_USAGE:#x}")]
    KeyUsage {
        /// Usage bits, 0 if absent.
        found: u16,
    },
    /// The extended key usage differs from the template.
    #[error("certificate's extended key usage must be server and client authentication, in this order")]
    ExtendedKeyUsage,
    /// There are extensions that the template does not have.
    #[error("certificate has {found} extensions, expected key usage and extended key usage only")]
    Extensions {
        /// How many there are.
        found: usize,
    },
    /// The clock is outside the validity.
    #[error("certificate is valid from {from} to {to}, but the clock reads {now_unix} (seconds since 1970)")]
    Validity {
        /// First valid second.
        from: i64,
        /// Last valid second.
        to: i64,
        /// This node's clock.
        now_unix: i64,
    },
    /// The signature does not verify.
    #[error("certificate's signature does not verify")]
    Signature,
}

fn hex(key: &[u8; 32]) -> String {
    key.iter().map(|b| format!("{b:02x}")).collect()
}

/// Checks a peer's only certificate at a time (seconds since 1970) and returns its key.
///
/// With `expected` the key must be that one; without, the caller decides whether the returned key may do what it asks.
pub fn verify_tls_peer(
    certificate_der: &[u8],
    expected: Option<&[u8; 32]>,
    now_unix: i64,
) -> Result<[u8; 32], TlsError> {
    verify_tls_peer_named(certificate_der, expected, COMMON_NAME, now_unix)
}

/// The same for certificates with another common name.
pub fn verify_tls_peer_named(
    certificate_der: &[u8],
    expected: Option<&[u8; 32]>,
    common_name: &'static str,
    now_unix: i64,
) -> Result<[u8; 32], TlsError> {
    let (rest, cert) = X509Certificate::from_der(certificate_der).map_err(|_| TlsError::Malformed("not X.509"))?;
    if !rest.is_empty() {
        return Err(TlsError::Malformed("bytes follow it"));
    }
    let is_ed25519 = |a: &AlgorithmIdentifier<'_>| a.algorithm == OID_SIG_ED25519 && a.parameters.is_none();
    let spki = &cert.subject_pki;
    if ![&spki.algorithm, &cert.signature, &cert.signature_algorithm].into_iter().all(is_ed25519) {
        return Err(TlsError::Algorithm);
    }
    let key: [u8; 32] =
        spki.subject_public_key.data.as_ref().try_into().map_err(|_| TlsError::Malformed("key is not 32 bytes"))?;
    if let Some(expected) = expected.filter(|e| **e != key) {
        return Err(TlsError::Key { found: key, expected: *expected });
    }
    let name = cert.subject.iter_common_name().last().and_then(|n| n.as_str().ok()).unwrap_or_default();
    if name != common_name {
        return Err(TlsError::CommonName { found: name.chars().take(64).collect(), expected: common_name });
    }
    if cert.raw_serial() != [1] {
        return Err(TlsError::Serial);
    }
    check_extensions(cert.extensions())?;
    let (from, to) = (cert.validity.not_before.timestamp(), cert.validity.not_after.timestamp());
    if now_unix < from || now_unix > to {
        return Err(TlsError::Validity { from, to, now_unix });
    }
    // The parser is lax about what stands between the signed part and the signature, which nothing else covers.
    let signature = certificate_der
        .split_last_chunk::<64>()
        .and_then(|(head, signature)| head.ends_with(&SIGNATURE_HEAD).then_some(signature))
        .ok_or(TlsError::Malformed("it does not end in a 64-byte signature"))?;
    if !ed25519::verify(&key, cert.tbs_certificate.as_ref(), signature) {
        return Err(TlsError::Signature);
    }
    Ok(key)
}

/// Exactly the template's two extensions.
fn check_extensions(extensions: &[X509Extension<'_>]) -> Result<(), TlsError> {
    let (mut usage, mut extended) = (0, false);
    for extension in extensions {
        match extension.parsed_extension() {
            ParsedExtension::KeyUsage(u) => usage = u.flags,
            ParsedExtension::ExtendedKeyUsage(_) => extended = extension.value == EXTENDED_KEY_USAGE,
            _ => {
                return Err(TlsError::Extensions { found: extensions.len() });
            }
        }
    }
    if usage != KEY_USAGE {
        return Err(TlsError::KeyUsage { found: usage });
    }
    if !extended {
        return Err(TlsError::ExtendedKeyUsage);
    }
    if extensions.len() != 2 {
        return Err(TlsError::Extensions { found: extensions.len() });
    }
    Ok(())
}

/// DER of the list of the two purposes, server then client authentication.
const EXTENDED_KEY_USAGE: &[u8] = &[
    0x30, 0x14, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05,
    0x07, 0x03, 0x02,
];

#[cfg(test)]
pub(crate) mod tests;
