//! Attested channels and enclave evidence (reference: package `attest`, `external`).

use merlin::Transcript;
use prost::Message;

use crate::digest::{Digestible, Label, aggregate};

/// A step of the channel's handshake.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AuthMessage {
    /// The handshake message.
    #[prost(bytes = "vec", tag = "1")]
    pub data: Vec<u8>,
}

/// An encrypted message of a channel.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct EncryptedMessage {
    /// Authenticated, not encrypted.
    #[prost(bytes = "vec", tag = "1")]
    pub aad: Vec<u8>,
    /// The handshake hash of the channel.
    #[prost(bytes = "vec", tag = "2")]
    pub channel_id: Vec<u8>,
    /// Encrypted.
    #[prost(bytes = "vec", tag = "3")]
    pub data: Vec<u8>,
}

/// A signature of a report, of any length.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct VerificationSignature {
    /// The bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub contents: Vec<u8>,
}

impl Digestible for VerificationSignature {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "VerificationSignature", transcript, |fields| {
            fields.field("0", &self.contents);
        });
    }
}

/// A report signed by Intel's former attestation service.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct VerificationReport {
    /// Of the body.
    #[prost(message, required, tag = "1")]
    pub sig: VerificationSignature,
    /// DER certificates, the signer's first.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub chain: Vec<Vec<u8>>,
    /// JSON as it was received.
    #[prost(string, tag = "3")]
    pub http_body: String,
}

impl Digestible for VerificationReport {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "VerificationReport", transcript, |fields| {
            fields.field("sig", &self.sig).field("chain", &self.chain).field("http_body", &self.http_body);
        });
    }
}

/// A quote, in Intel's format of version 3.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct Quote3 {
    /// The bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub data: Vec<u8>,
}

impl Digestible for Quote3 {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "Quote3", transcript, |fields| {
            fields.field("data", &self.data);
        });
    }
}

/// What verifying a quote takes besides the quote. Certificates and lists are DER.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct Collateral {
    /// Issuers of the revocation list of the processor's certificate.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub pck_crl_issuer_chain: Vec<Vec<u8>>,
    /// Revocation list of the root.
    #[prost(bytes = "vec", tag = "2")]
    pub root_ca_crl: Vec<u8>,
    /// Revocation list of the processor's issuer.
    #[prost(bytes = "vec", tag = "3")]
    pub pck_crl: Vec<u8>,
    /// Issuers of the platform statement.
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub tcb_info_issuer_chain: Vec<Vec<u8>>,
    /// Platform statement, JSON.
    #[prost(string, tag = "5")]
    pub tcb_info: String,
    /// Issuers of the quoting enclave's statement.
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub qe_identity_issuer_chain: Vec<Vec<u8>>,
    /// Quoting enclave's statement, JSON.
    #[prost(string, tag = "7")]
    pub qe_identity: String,
}

impl Digestible for Collateral {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "Collateral", transcript, |fields| {
            fields
                .field("pck_crl_issuer_chain", &self.pck_crl_issuer_chain)
                .field("root_ca_crl", &self.root_ca_crl)
                .field("pck_crl", &self.pck_crl)
                .field("tcb_info_issuer_chain", &self.tcb_info_issuer_chain)
                .field("tcb_info", &self.tcb_info)
                .field("qe_identity_issuer_chain", &self.qe_identity_issuer_chain)
                .field("qe_identity", &self.qe_identity);
        });
    }
}

/// What an enclave binds into its report by hash.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct ReportDataContents {
    /// Nonce of the quote, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub nonce: Vec<u8>,
    /// X25519 key of the channel, 32 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub key: Vec<u8>,
    /// Block signing key, 32 bytes, or empty.
    #[prost(bytes = "vec", tag = "3")]
    pub custom_identity: Vec<u8>,
}

impl Digestible for ReportDataContents {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "EnclaveReportDataContents", transcript, |fields| {
            fields.field("nonce", &self.nonce).field("key", &self.key).field("custom_identity", &self.custom_identity);
        });
    }
}

/// A quote with all that verifying it takes. No recorded data covers its structured hash.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct DcapEvidence {
    /// The quote.
    #[prost(message, optional, tag = "1")]
    pub quote: Option<Quote3>,
    /// Its collateral.
    #[prost(message, optional, tag = "2")]
    pub collateral: Option<Collateral>,
    /// What the report data is the hash of.
    #[prost(message, optional, tag = "3")]
    pub report_data: Option<ReportDataContents>,
}

impl Digestible for DcapEvidence {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "DcapEvidence", transcript, |fields| {
            fields
                .field("quote", &self.quote)
                .field("collateral", &self.collateral)
                .field("report_data", &self.report_data);
        });
    }
}

/// Evidence as the answer of a handshake carries it: tag 4 of a message whose tags 1 to 3 are a report of the old kind.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct EvidenceMessage {
    /// Signature of a report of the old kind.
    #[prost(message, optional, tag = "1")]
    pub sig: Option<VerificationSignature>,
    /// Its certificates.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub chain: Vec<Vec<u8>>,
    /// Its body.
    #[prost(string, tag = "3")]
    pub http_body: String,
    /// A quote.
    #[prost(message, optional, tag = "4")]
    pub dcap_evidence: Option<DcapEvidence>,
}
