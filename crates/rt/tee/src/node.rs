//! A node's TEE capability: constraints of the runtime's deployment, the attestation, and what binds it to the node.
//!
//! Reference: `go/common/node/{node,sgx,tee}.go`.

#[cfg(test)]
mod tests;

use base_codec::{
    Codec,
    cbor::{self, Decode, Decoder, Encode, Encoder},
};
use base_crypto::{context, hash::sha512_256, tuplehash::TupleHash256};
use base_prims::{PublicKey, RawSignature};

use crate::{
    ias,
    identity::{EnclaveIdentity, VerifiedQuote},
    options::VerifyOptions,
    quote::{self, Policy, Quote},
    time::UnixTime,
};

/// Newest version of constraints and attestations.
const LATEST_VERSION: u16 = 1;
/// Stands for "no version" where versions are read.
const NO_VERSION: u16 = u16::MAX;
/// Precedes the attestation key in the hash that enclaves put into their report.
const RAK_BINDING: &[u8] = b"oasis-core/node: TEE RAK binding";
/// TEE hardware number of Intel SGX (which stands for TDX too).
pub const HARDWARE_INTEL_SGX: u8 = 1;

/// Why a TEE capability was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not Intel SGX.
    #[error("invalid TEE implementation {hardware}")]
    InvalidHardware {
        /// The hardware number.
        hardware: u8,
    },
    /// The attestation is not CBOR of that shape.
    #[error("malformed SGX attestation: {0}")]
    MalformedAttestation(#[source] cbor::Error),
    /// The constraints are not CBOR of that shape.
    #[error("malformed SGX constraints: {0}")]
    MalformedConstraints(#[source] cbor::Error),
    /// A version that the network does not support.
    #[error("unsupported SGX {what} version {version}")]
    UnsupportedVersion {
        /// Attestation or constraints.
        what: &'static str,
        /// The version.
        version: u16,
    },
    /// A TDX policy where the network does not support TDX.
    #[error("TDX policy not supported")]
    TdxNotSupported,
    /// An FMSPC whitelist where the network does not support it.
    #[error("fmspc whitelist should be empty")]
    WhitelistNotSupported,
    /// The quote.
    #[error("quote verification failed: {0}")]
    Quote(#[from] quote::Error),
    /// The enclave is not one of the runtime's.
    #[error("bad TEE enclave identity {identity}")]
    BadEnclaveIdentity {
        /// Who it is.
        identity: Box<EnclaveIdentity>,
    },
    /// The quote is about another attestation key.
    #[error("RAK hash mismatch")]
    RakHashMismatch,
    /// The attestation is not signed by the attestation key.
    #[error("invalid TEE attestation signature")]
    InvalidSignature,
    /// Made after the current height.
    #[error("TEE attestation from the future (height {attested}, now {height})")]
    FromFuture {
        /// Height of the attestation.
        attested: u64,
        /// Current height.
        height: u64,
    },
    /// Made too long ago.
    #[error("TEE attestation not fresh enough (age {age}, at most {most} blocks)")]
    NotFresh {
        /// Age in blocks.
        age: u64,
        /// Greatest age in blocks.
        most: u64,
    },
}

/// TEE features of a network (registry parameter `tee_features`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub struct TeeFeatures {
    /// Of Intel SGX.
    pub sgx: TeeFeaturesSgx,
    /// Whether freshness proofs are processed.
    pub freshness_proofs: bool,
}

/// Features for Intel SGX.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub struct TeeFeaturesSgx {
    /// Quotes with collateral, and version 1 of constraints and attestations, are supported.
    pub pcs: bool,
    /// Attestations must be signed by the attestation key.
    #[codec(omitempty)]
    pub signed_attestations: bool,
    /// Policy for runtimes that have none.
    #[codec(omitempty)]
    pub default_policy: Option<Policy>,
    /// Greatest age of attestations, in blocks, for runtimes that set none.
    #[codec(rename = "max_attestation_age", omitempty)]
    pub default_max_attestation_age: u64,
    /// TDX is supported.
    #[codec(omitempty)]
    pub tdx: bool,
}

impl TeeFeaturesSgx {
    /// Fills in the network's defaults where the constraints say nothing.
    pub fn apply_default_constraints(&self, constraints: &mut SgxConstraints) {
        if let Some(default) = &self.default_policy {
            let policy = constraints.policy.get_or_insert_default();
            if policy.ias.is_none() {
                policy.ias.clone_from(&default.ias);
            }
            if policy.pcs.is_none() && self.pcs {
                policy.pcs.clone_from(&default.pcs);
            }
        }
        if constraints.max_attestation_age == 0 {
            constraints.max_attestation_age = self.default_max_attestation_age;
        }
    }
}

/// The `v` of a map, if it has one that says something; other fields are passed over.
fn version_of(item: &[u8]) -> u16 {
    let mut version = NO_VERSION;
    let read = Decoder::relaxed(item).and_then(|mut d| {
        cbor::decode_map_struct(&mut d, &["v"], |_, d| {
            if !d.take_null() {
                version = u16::decode(d)?;
            }
            Ok(())
        })
    });
    // Whatever can't be read is taken for the old shape, which had no version.
    if read.is_err() || version == NO_VERSION { 0 } else { version }
}

/// Which enclaves may run a deployment of a runtime, and how they are verified.
///
/// CBOR, version 1: `{v: 1, enclaves?: [EnclaveIdentity], policy?: Policy, max_attestation_age?: u64}`; version 0, which
/// has no `v`: `{enclaves?: [EnclaveIdentity], allowed_quote_statuses?: [integer]}`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SgxConstraints {
    /// Version of the encoding.
    pub v: u16,
    /// The enclaves.
    pub enclaves: Vec<EnclaveIdentity>,
    /// Policy for their quotes.
    pub policy: Option<Policy>,
    /// Greatest age of attestations in blocks; 0 is the network's default.
    pub max_attestation_age: u64,
}

#[derive(Default, Codec)]
#[codec(cbor_only)]
struct ConstraintsV0 {
    #[codec(omitempty)]
    enclaves: Vec<EnclaveIdentity>,
    #[codec(omitempty)]
    allowed_quote_statuses: Vec<ias::IsvQuoteStatus>,
}

#[derive(Default, Codec)]
#[codec(cbor_only)]
struct ConstraintsV1 {
    v: u16,
    #[codec(omitempty)]
    enclaves: Vec<EnclaveIdentity>,
    #[codec(omitempty)]
    policy: Option<Policy>,
    #[codec(omitempty)]
    max_attestation_age: u64,
}

impl Decode for SgxConstraints {
    fn decode(d: &mut Decoder<'_>) -> Result<Self, cbor::Error> {
        let offset = d.offset();
        let item = d.raw_item()?;
        match version_of(item) {
            0 => {
                let old: ConstraintsV0 = cbor::from_slice(item)?;
                let ias = ias::QuotePolicy { allowed_quote_statuses: old.allowed_quote_statuses, ..Default::default() };
                let policy = Some(Policy { ias: Some(ias), pcs: None });
                Ok(Self { v: 0, enclaves: old.enclaves, policy, max_attestation_age: 0 })
            }
            1 => {
                let new: ConstraintsV1 = cbor::from_slice(item)?;
                let ConstraintsV1 { v, enclaves, policy, max_attestation_age } = new;
                Ok(Self { v, enclaves, policy, max_attestation_age })
            }
            version => Err(cbor::Error::invalid(offset, format!("invalid SGX constraints version {version}"))),
        }
    }
}

impl Encode for SgxConstraints {
    fn encode(&self, e: &mut Encoder) {
        if self.v == 0 {
            let statuses = self.policy.as_ref().and_then(|p| p.ias.as_ref()).map(|p| &p.allowed_quote_statuses);
            ConstraintsV0 {
                enclaves: self.enclaves.clone(),
                allowed_quote_statuses: statuses.cloned().unwrap_or_default(),
            }
            .encode(e);
        } else {
            ConstraintsV1 {
                v: self.v,
                enclaves: self.enclaves.clone(),
                policy: self.policy.clone(),
                max_attestation_age: self.max_attestation_age,
            }
            .encode(e);
        }
    }
}

impl SgxConstraints {
    /// Checks that the constraints use only what the network supports.
    ///
    /// # Errors
    ///
    /// If they are of an unsupported version or their policy has unsupported parts.
    pub fn validate_basic(&self, features: &TeeFeatures, feature_version_26_1: bool) -> Result<(), Error> {
        check_version("constraints", self.v, features)?;
        let Some(policy) = &self.policy else {
            return Ok(());
        };
        if !features.sgx.tdx && policy.pcs.as_ref().is_some_and(|p| p.tdx.is_some()) {
            return Err(Error::TdxNotSupported);
        }
        if policy.is_supported(feature_version_26_1) { Ok(()) } else { Err(Error::WhitelistNotSupported) }
    }
}

fn check_version(what: &'static str, version: u16, features: &TeeFeatures) -> Result<(), Error> {
    if (!features.sgx.pcs && version != 0) || version > LATEST_VERSION {
        return Err(Error::UnsupportedVersion { what, version });
    }
    Ok(())
}

/// A node's attestation of its enclave.
///
/// CBOR, version 1: `{v: 1, quote: Quote, height: u64, signature: bytes}`; version 0 is a bare
/// [`AvrBundle`](ias::AvrBundle).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SgxAttestation {
    /// Version of the encoding.
    pub v: u16,
    /// The quote.
    pub quote: Quote,
    /// Consensus height as the enclave saw it.
    pub height: u64,
    /// Signature by the attestation key, see [`hash_attestation`].
    pub signature: RawSignature,
}

#[derive(Default, Codec)]
#[codec(cbor_only)]
struct AttestationV1 {
    v: u16,
    quote: Quote,
    height: u64,
    signature: RawSignature,
}

impl Decode for SgxAttestation {
    fn decode(d: &mut Decoder<'_>) -> Result<Self, cbor::Error> {
        let offset = d.offset();
        let item = d.raw_item()?;
        match version_of(item) {
            0 => {
                let ias: ias::AvrBundle = cbor::from_slice(item)?;
                Ok(Self { quote: Quote { ias: Some(ias), pcs: None }, ..Self::default() })
            }
            1 => {
                let AttestationV1 { v, quote, height, signature } = cbor::from_slice(item)?;
                Ok(Self { v, quote, height, signature })
            }
            version => Err(cbor::Error::invalid(offset, format!("invalid SGX attestation version {version}"))),
        }
    }
}

impl Encode for SgxAttestation {
    fn encode(&self, e: &mut Encoder) {
        if self.v == 0 {
            self.quote.ias.encode(e);
        } else {
            AttestationV1 { v: self.v, quote: self.quote.clone(), height: self.height, signature: self.signature }
                .encode(e);
        }
    }
}

/// What an attestation has to be bound to, and when.
#[derive(Debug, Clone, Copy)]
pub struct Binding<'a> {
    /// Attestation key of the enclave.
    pub rak: &'a PublicKey,
    /// Encryption key of the enclave, if it has one.
    pub rek: Option<&'a [u8; 32]>,
    /// The node.
    pub node_id: &'a PublicKey,
    /// Time of the block that the registration is judged in, to the nanosecond.
    pub now: UnixTime,
    /// Height that attestations are compared with: that of the last finished block.
    pub height: u64,
}

impl SgxAttestation {
    /// Checks that the network supports the version.
    ///
    /// # Errors
    ///
    /// If it does not.
    pub fn validate_basic(&self, features: &TeeFeatures) -> Result<(), Error> {
        check_version("attestation", self.v, features)
    }

    /// Verifies the attestation under the constraints, completed by the network's defaults.
    ///
    /// # Errors
    ///
    /// The first check that fails, in the reference's order.
    pub fn verify(
        &self,
        constraints: &SgxConstraints,
        features: &TeeFeatures,
        binding: &Binding<'_>,
        options: &VerifyOptions,
    ) -> Result<VerifiedQuote, Error> {
        let mut constraints = constraints.clone();
        features.sgx.apply_default_constraints(&mut constraints);
        let verified = self.quote.verify(constraints.policy.as_ref(), binding.now, options)?;
        if !constraints.enclaves.contains(&verified.identity) {
            return Err(Error::BadEnclaveIdentity { identity: Box::new(verified.identity) });
        }
        // The other half of the report data is the enclave's own.
        if verified.report_data[..32] != hash_rak(binding.rak) {
            return Err(Error::RakHashMismatch);
        }
        if features.sgx.signed_attestations {
            self.verify_signature(&verified, constraints.max_attestation_age, binding, options)?;
        }
        Ok(verified)
    }

    fn verify_signature(
        &self,
        verified: &VerifiedQuote,
        most: u64,
        binding: &Binding<'_>,
        options: &VerifyOptions,
    ) -> Result<(), Error> {
        let digest = hash_attestation(&verified.report_data, binding.node_id, self.height, binding.rek);
        let rak = binding.rak.as_bytes();
        let signature = self.signature.as_bytes();
        let signed = context::verify_with_context(rak, &context::TEE_ATTESTATION, None, None, &digest, signature);
        if options.key_blacklist.contains(rak) || signed != Ok(true) {
            return Err(Error::InvalidSignature);
        }
        let age = binding
            .height
            .checked_sub(self.height)
            .ok_or(Error::FromFuture { attested: self.height, height: binding.height })?;
        if age > most { Err(Error::NotFresh { age, most }) } else { Ok(()) }
    }
}

/// The hash of an attestation key that enclaves put into the first half of their report data.
pub fn hash_rak(rak: &PublicKey) -> [u8; 32] {
    sha512_256(&[RAK_BINDING, rak.as_bytes()])
}

/// The hash that the attestation key signs: TupleHash of report data, node, height (64 bits, little-endian) and, if there
/// is one, the encryption key.
pub fn hash_attestation(report_data: &[u8], node_id: &PublicKey, height: u64, rek: Option<&[u8; 32]>) -> [u8; 32] {
    let mut hash = TupleHash256::new(context::TEE_ATTESTATION.name().as_bytes());
    hash.update(report_data).update(node_id.as_bytes()).update(&height.to_le_bytes());
    if let Some(rek) = rek {
        hash.update(rek);
    }
    hash.finalize()
}

/// A node's claim to run an enclave of a runtime, as its descriptor and the runtime's deployment have it.
#[derive(Debug, Clone, Copy)]
pub struct NodeTeeCapability<'a> {
    /// TEE hardware number.
    pub hardware: u8,
    /// The attestation, CBOR of [`SgxAttestation`].
    pub attestation: &'a [u8],
    /// The deployment's TEE field, CBOR of [`SgxConstraints`].
    pub constraints: &'a [u8],
}

/// Verifies a node's claim to run an enclave of a runtime's deployment, and returns what its quote says.
///
/// # Errors
///
/// Any reason to refuse the registration. In the reference none of them has an error code of its own.
///
/// # Consensus
///
/// The verdict decides over registrations: `features` are the registry's parameter (default if unset), `options` the
/// same on all nodes.
pub fn verify_node_tee_capability(
    capability: &NodeTeeCapability<'_>,
    binding: &Binding<'_>,
    features: &TeeFeatures,
    feature_version_26_1: bool,
    options: &VerifyOptions,
) -> Result<VerifiedQuote, Error> {
    if capability.hardware != HARDWARE_INTEL_SGX {
        return Err(Error::InvalidHardware { hardware: capability.hardware });
    }
    let attestation: SgxAttestation = cbor::from_slice(capability.attestation).map_err(Error::MalformedAttestation)?;
    attestation.validate_basic(features)?;
    let constraints: SgxConstraints = cbor::from_slice(capability.constraints).map_err(Error::MalformedConstraints)?;
    constraints.validate_basic(features, feature_version_26_1)?;
    attestation.verify(&constraints, features, binding, options)
}
