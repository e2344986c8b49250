//! Verification of DCAP evidence: who signed the quote, and that it binds the channel's key.
//!
//! Verified: the certificates of the processor and of both statements up to the pinned root, their validity at a time;
//! the signatures of the quoting enclave's report, of its attestation key, of both statements; the report data; debug
//! mode and measurement. Not verified: revocation lists, levels of the platform statement and its advisories.

use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use wire_mobilecoin::attest::DcapEvidence;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::time::ASN1Time;

use crate::report_data;

/// Most certificates of a chain.
const MAX_CHAIN: usize = 6;
/// Bytes of a quote's header and of a report.
const HEADER: usize = 48;
const REPORT: usize = 384;
/// Kind of the certification data that holds certificates in PEM.
const PEM_CHAIN: u16 = 5;

/// Why evidence is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Something is missing or malformed.
    #[error("malformed evidence: {0}")]
    Malformed(&'static str),
    /// A signature does not hold.
    #[error("signature of {0} does not hold")]
    Signature(&'static str),
    /// A chain does not end in the pinned root.
    #[error("certificates of {0} do not lead to the trusted root")]
    Untrusted(&'static str),
    /// Something is not valid at the time.
    #[error("{0} is not valid at that time")]
    Expired(&'static str),
    /// The report data is not the hash of the key.
    #[error("report data does not bind the channel's key")]
    ReportData,
    /// The enclave can be debugged.
    #[error("enclave is in debug mode")]
    Debug,
    /// Another measurement.
    #[error("enclave has another measurement")]
    Measurement,
}

/// What is accepted.
#[derive(Clone, Debug)]
pub struct Policy {
    root_pem: String,
    /// The only measurement that is accepted; any if none.
    pub mrenclave: Option<[u8; 32]>,
    /// Whether enclaves may be in debug mode, as simulated ones are.
    pub allow_debug: bool,
}

impl Policy {
    /// Evidence of a simulation whose root is given: any measurement, debug mode.
    pub fn simulation(root_pem: &str) -> Self {
        Self { root_pem: root_pem.to_owned(), mrenclave: None, allow_debug: true }
    }

    /// Evidence of one measurement under a root.
    pub fn pinned(root_pem: &str, mrenclave: [u8; 32]) -> Self {
        Self { root_pem: root_pem.to_owned(), mrenclave: Some(mrenclave), allow_debug: false }
    }
}

/// What the evidence says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Measurement of the enclave.
    pub mrenclave: [u8; 32],
    /// Measurement of its signer.
    pub mrsigner: [u8; 32],
    /// Product number.
    pub product: u16,
    /// Security version.
    pub svn: u16,
    /// The block signing key, if the report binds one.
    pub custom_identity: Option<[u8; 32]>,
}

/// DER certificates of a text in PEM.
fn pem_chain(text: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    let malformed = |_| Error::Malformed("certificates in PEM");
    let end = text.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    let blocks = x509_parser::pem::Pem::iter_from_buffer(&text[..end]).take(MAX_CHAIN + 1);
    blocks.map(|block| block.map(|pem| pem.contents).map_err(malformed)).collect()
}

fn key_of(certificate: &X509Certificate<'_>, what: &'static str) -> Result<VerifyingKey, Error> {
    let point = &certificate.public_key().subject_public_key.data;
    VerifyingKey::from_sec1_bytes(point).map_err(|_| Error::Malformed(what))
}

/// Verifies a chain, leaf first, and gives the leaf's key.
fn verify_chain(chain: &[Vec<u8>], root: &[u8], at: i64, what: &'static str) -> Result<VerifyingKey, Error> {
    if chain.is_empty() || chain.len() > MAX_CHAIN {
        return Err(Error::Malformed(what));
    }
    let parse = |der: &'_ [u8]| -> Result<(), Error> {
        let (rest, _) = X509Certificate::from_der(der).map_err(|_| Error::Malformed(what))?;
        if rest.is_empty() { Ok(()) } else { Err(Error::Malformed(what)) }
    };
    chain.iter().try_for_each(|der| parse(der))?;
    let certificates: Vec<X509Certificate<'_>> =
        chain.iter().filter_map(|der| X509Certificate::from_der(der).ok()).map(|(_, c)| c).collect();
    let time = ASN1Time::from_timestamp(at).map_err(|_| Error::Expired(what))?;
    if !certificates.iter().all(|c| c.validity().is_valid_at(time)) {
        return Err(Error::Expired(what));
    }
    if chain.last().map(Vec::as_slice) != Some(root) {
        return Err(Error::Untrusted(what));
    }
    for (index, certificate) in certificates.iter().enumerate() {
        let issuer = certificates.get(index + 1).unwrap_or(certificate);
        let is_authority = issuer.basic_constraints().ok().flatten().is_some_and(|c| c.value.ca);
        if !is_authority || certificate.issuer() != issuer.subject() {
            return Err(Error::Untrusted(what));
        }
        let signature = Signature::from_der(&certificate.signature_value.data).map_err(|_| Error::Malformed(what))?;
        key_of(issuer, what)?
            .verify(certificate.tbs_certificate.as_ref(), &signature)
            .map_err(|_| Error::Signature(what))?;
    }
    key_of(certificates.first().ok_or(Error::Malformed(what))?, what)
}

/// Reads a quote from front to back.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let (head, tail) = self.0.split_at_checked(len).ok_or(Error::Malformed("quote"))?;
        self.0 = tail;
        Ok(head)
    }

    fn u16(&mut self) -> Result<u16, Error> {
        let bytes = self.take(2)?;
        Ok(u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    fn u32(&mut self) -> Result<usize, Error> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
    }
}

fn verify_raw(key: &VerifyingKey, message: &[u8], signature: &[u8], what: &'static str) -> Result<(), Error> {
    let signature = Signature::from_slice(signature).map_err(|_| Error::Malformed(what))?;
    key.verify(message, &signature).map_err(|_| Error::Signature(what))
}

fn array_at(bytes: &[u8], at: usize) -> [u8; 32] {
    std::array::from_fn(|i| bytes.get(at + i).copied().unwrap_or_default())
}

/// Verifies a quote and gives the enclave's report.
fn verify_quote<'a>(quote: &'a [u8], root: &[u8], at: i64) -> Result<&'a [u8], Error> {
    let mut reader = Reader(quote);
    let signed = reader.take(HEADER + REPORT)?;
    if signed[..2] != [3, 0] || signed[2..4] != [2, 0] {
        return Err(Error::Malformed("quote version or key type"));
    }
    let signature_data = reader.u32()?;
    if reader.0.len() < signature_data {
        return Err(Error::Malformed("quote"));
    }
    let signature = reader.take(64)?;
    let attestation_key = reader.take(64)?;
    let qe_report = reader.take(REPORT)?;
    let qe_signature = reader.take(64)?;
    let auth_len = usize::from(reader.u16()?);
    let auth = reader.take(auth_len)?;
    if reader.u16()? != PEM_CHAIN {
        return Err(Error::Malformed("certification data"));
    }
    let pem_len = reader.u32()?;
    let chain = pem_chain(reader.take(pem_len)?)?;
    let pck = verify_chain(&chain, root, at, "the processor")?;
    verify_raw(&pck, qe_report, qe_signature, "the quoting enclave")?;
    let bound: [u8; 32] = Sha256::new().chain_update(attestation_key).chain_update(auth).finalize().into();
    if array_at(qe_report, 320) != bound {
        return Err(Error::Signature("the attestation key"));
    }
    let mut sec1 = vec![4u8];
    sec1.extend_from_slice(attestation_key);
    let key = VerifyingKey::from_sec1_bytes(&sec1).map_err(|_| Error::Malformed("attestation key"))?;
    verify_raw(&key, signed, signature, "the quote")?;
    Ok(&signed[HEADER..])
}

/// Verifies a signed statement: a JSON object of the statement and its signature. The signature is of the statement's
/// bytes as they stand.
fn verify_statement(
    text: &str,
    name: &'static str,
    chain: &[Vec<u8>],
    root: &[u8],
    at: i64,
) -> Result<serde_json::Value, Error> {
    let key = verify_chain(chain, root, at, name)?;
    let parsed: serde_json::Value = serde_json::from_str(text).map_err(|_| Error::Malformed(name))?;
    let signature = parsed["signature"].as_str().ok_or(Error::Malformed(name))?;
    let signature = from_hex(signature).ok_or(Error::Malformed(name))?;
    let prefix = format!("{{\"{name}\":");
    let body = text.strip_prefix(prefix.as_str()).ok_or(Error::Malformed(name))?;
    let end = body.rfind(",\"signature\":").ok_or(Error::Malformed(name))?;
    verify_raw(&key, &body.as_bytes()[..end], &signature, name)?;
    let statement = parsed[name].clone();
    let time = |field: &str| {
        let text = statement[field].as_str().ok_or(Error::Malformed(name))?;
        OffsetDateTime::parse(text, &Rfc3339).map(OffsetDateTime::unix_timestamp).map_err(|_| Error::Malformed(name))
    };
    if at < time("issueDate")? || at > time("nextUpdate")? {
        return Err(Error::Expired(name));
    }
    Ok(statement)
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

/// Verifies evidence for the owner of a channel key at a time (seconds since 1970).
///
/// # Errors
/// The first thing that does not hold.
pub fn verify(evidence: &DcapEvidence, policy: &Policy, key: &[u8; 32], at: u64) -> Result<Verified, Error> {
    let at = i64::try_from(at).map_err(|_| Error::Expired("the time"))?;
    let root = pem_chain(policy.root_pem.as_bytes())?.pop().ok_or(Error::Malformed("trusted root"))?;
    let quote = evidence.quote.as_ref().ok_or(Error::Malformed("no quote"))?;
    let collateral = evidence.collateral.as_ref().ok_or(Error::Malformed("no collateral"))?;
    let contents = evidence.report_data.as_ref().ok_or(Error::Malformed("no report data"))?;
    let report = verify_quote(&quote.data, &root, at)?;
    verify_statement(&collateral.tcb_info, "tcbInfo", &collateral.tcb_info_issuer_chain, &root, at)?;
    verify_statement(&collateral.qe_identity, "enclaveIdentity", &collateral.qe_identity_issuer_chain, &root, at)?;
    let nonce: &[u8; 16] = contents.nonce.as_slice().try_into().map_err(|_| Error::Malformed("nonce"))?;
    let custom_identity: Option<[u8; 32]> = match contents.custom_identity.as_slice() {
        [] => None,
        bytes => Some(bytes.try_into().map_err(|_| Error::Malformed("custom identity"))?),
    };
    let bound = report_data::hash(nonce, key, custom_identity.as_ref());
    if contents.key != key || array_at(report, 320) != bound {
        return Err(Error::ReportData);
    }
    let debug = report.get(48).is_some_and(|flags| flags & 2 != 0);
    if debug && !policy.allow_debug {
        return Err(Error::Debug);
    }
    let mrenclave = array_at(report, 64);
    if policy.mrenclave.is_some_and(|pinned| pinned != mrenclave) {
        return Err(Error::Measurement);
    }
    let number = |at: usize| {
        u16::from_le_bytes([report.get(at).copied().unwrap_or(0), report.get(at + 1).copied().unwrap_or(0)])
    };
    Ok(Verified { mrenclave, mrsigner: array_at(report, 128), product: number(256), svn: number(258), custom_identity })
}
