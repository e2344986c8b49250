//! The keys of this run of the runtime, and the evidence that binds them to its enclave.
//!
//! The attestation key (RAK, Ed25519) signs results and sessions, the encryption key (REK, X25519) opens secrets that
//! are published for the enclave. Both live as long as the process. Source: `runtime/src/{identity,attestation}.rs`.

use std::{
    collections::VecDeque,
    time::{SystemTime, UNIX_EPOCH},
};

use base_crypto::{
    context::{self, Context},
    ed25519::SecretKey,
    hash::sha512_256,
    mrae::{self, BoxSecretKey, MraeError},
    tuplehash::tuple_hash256,
};
use base_prims::{Namespace, PublicKey, RawSignature, Version};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use parking_lot::RwLock;
use rt_tee::{
    Binding, Policy, Quote, SgxAttestation, SgxConstraints, TeeFeatures, UnixTime, VerifiedQuote, hash_attestation,
    hash_rak,
};
use wire_consensus::node::{EndorsedCapabilityTee, Node, X25519PublicKey};
use zeroize::Zeroizing;

use crate::tee::{REPORT_DATA_BYTES, Tee, TeeError};

/// Attestation key of runtimes outside of enclaves.
const INSECURE_RAK_SEED: &[u8] = b"ekiden test key manager RAK seed";
/// Encryption key of runtimes outside of enclaves.
const INSECURE_REK_SEED: &[u8] = b"ekiden test key manager REK seed";
/// Domain of the nonces in reports.
const QUOTE_NONCE_CONTEXT: &[u8] = b"oasis-core/node: TEE quote nonce";
/// Seconds after which a quote no longer counts.
pub const MAX_QUOTE_AGE_SECS: u64 = 24 * 60 * 60;
/// Quotes that nodes may still be registered with: registration follows attestation with some delay.
const KNOWN_QUOTES: usize = 2;
/// Bytes of a target info that a quoting enclave sends.
const TARGET_INFO_BYTES: usize = 512;

/// Why evidence was refused or is missing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// No randomness.
    #[error("no randomness: {0}")]
    Random(getrandom::Error),
    /// The TEE.
    #[error(transparent)]
    Tee(#[from] TeeError),
    /// The host sent something else.
    #[error("malformed target_info")]
    MalformedTargetInfo,
    /// Not in the process of attesting, or the quote is of another attempt.
    #[error("quote nonce mismatch")]
    NonceMismatch,
    /// No policy yet.
    #[error("quote policy not set")]
    PolicyNotSet,
    /// Of another enclave.
    #[error("{what} mismatch")]
    EnclaveMismatch {
        /// Measurement or signer.
        what: &'static str,
    },
    /// Of another key.
    #[error("RAK binding mismatch")]
    BindingMismatch,
    /// The quote itself.
    #[error("{0}")]
    Quote(#[from] rt_tee::QuoteError),
    /// The node's key is not known yet.
    #[error("node identity not set")]
    NodeNotSet,
    /// The node changed its key.
    #[error("host node identity may never change")]
    NodeChanged,
    /// The endorsement is not of this enclave or by this node.
    #[error("endorsed quote mismatch")]
    EndorsedQuoteMismatch,
    /// The endorsement's attestation.
    #[error("{0}")]
    Attestation(#[from] rt_tee::Error),
    /// A structure that does not decode.
    #[error("malformed {what}: {source}")]
    Malformed {
        /// What.
        what: &'static str,
        /// What is wrong.
        source: base_codec::cbor::Error,
    },
    /// A signature context.
    #[error("{0}")]
    Context(#[from] context::ContextError),
}

/// Seconds since 1970 by the clock of the host, which an enclave cannot trust.
pub fn insecure_unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

fn unix_time(seconds: u64) -> UnixTime {
    UnixTime::new(i64::try_from(seconds).unwrap_or(i64::MAX), 0)
}

/// An endorsed enclave of another node, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedEndorsement {
    /// What its quote says.
    pub quote: VerifiedQuote,
    /// The node that endorsed it, if any.
    pub node: Option<PublicKey>,
}

#[derive(Default)]
struct Evidence {
    target_info: Option<Vec<u8>>,
    /// The nonce of the report that was made last and not quoted yet.
    nonce: Option<[u8; 32]>,
    policy: Option<Policy>,
    quote: Option<(Quote, u64)>,
    known_quotes: VecDeque<Quote>,
    node: Option<PublicKey>,
    endorsed: Option<EndorsedCapabilityTee>,
}

/// The runtime's identity.
pub struct Identity {
    tee: Tee,
    rak: SecretKey,
    rek: BoxSecretKey,
    evidence: RwLock<Evidence>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("tee", &self.tee).field("rak", &self.rak()).finish_non_exhaustive()
    }
}

/// Random bytes from the system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], IdentityError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(IdentityError::Random)?;
    Ok(bytes)
}

impl Identity {
    /// Fresh keys in a TEE, the test keys that everybody knows outside of one.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn new(tee: Tee) -> Result<Self, IdentityError> {
        let (rak, rek) = match tee {
            Tee::None => (sha512_256(&[INSECURE_RAK_SEED]), sha512_256(&[INSECURE_REK_SEED])),
            Tee::MockSgx(_) | Tee::Tdx(_) => (random()?, random()?),
        };
        let (rak, rek) = (Zeroizing::new(rak), Zeroizing::new(rek));
        Ok(Self {
            tee,
            rak: SecretKey::from_seed(&rak),
            rek: BoxSecretKey::from_bytes(&rek),
            evidence: RwLock::default(),
        })
    }

    /// What the runtime runs in.
    pub fn tee(&self) -> &Tee {
        &self.tee
    }

    /// The attestation key.
    pub fn rak(&self) -> PublicKey {
        PublicKey::new(self.rak.public())
    }

    /// The encryption key.
    pub fn rek(&self) -> X25519PublicKey {
        X25519PublicKey::new(self.rek.public())
    }

    /// Signs with the attestation key.
    ///
    /// # Errors
    /// If the context wants a chain or a suffix.
    pub fn sign(&self, context: &Context, message: &[u8]) -> Result<RawSignature, IdentityError> {
        Ok(RawSignature::new(context::sign_with_context(&self.rak, context, None, None, message)?))
    }

    /// Signs with the attestation key in a context that only enclaves know, which is put before the message as it is.
    pub(crate) fn sign_raw(&self, context: &[u8], message: &[u8]) -> RawSignature {
        RawSignature::new(self.rak.sign(&sha512_256(&[context, message])))
    }

    /// Opens what was sealed for the encryption key.
    ///
    /// # Errors
    /// If it was not.
    pub fn open(
        &self,
        nonce: &[u8; mrae::NONCE_LEN],
        sealed: &[u8],
        aad: &[u8],
        peer: &[u8; 32],
    ) -> Result<Vec<u8>, MraeError> {
        self.rek.derive(peer).open(nonce, sealed, aad)
    }

    /// First step of attestation: for whom reports are made.
    pub(crate) fn init_target_info(&self, info: &[u8]) -> Result<(), IdentityError> {
        match self.tee {
            Tee::MockSgx(_) if info.len() < TARGET_INFO_BYTES => Err(IdentityError::MalformedTargetInfo),
            Tee::Tdx(_) if !info.is_empty() => Err(IdentityError::MalformedTargetInfo),
            _ => {
                self.evidence.write().target_info = Some(info.to_vec());
                Ok(())
            }
        }
    }

    /// Second step: a report of the attestation key with a new nonce, and the nonce as the older service wants it.
    pub(crate) fn init_report(&self) -> Result<(Vec<u8>, String), IdentityError> {
        let nonce = tuple_hash256(QUOTE_NONCE_CONTEXT, &[&random::<32>()?]);
        let mut data = [0; REPORT_DATA_BYTES];
        data[..32].copy_from_slice(&hash_rak(&self.rak()));
        data[32..].copy_from_slice(&nonce);
        let mut evidence = self.evidence.write();
        if matches!(self.tee, Tee::MockSgx(_)) && evidence.target_info.is_none() {
            return Err(IdentityError::MalformedTargetInfo);
        }
        let report = self.tee.report(&data)?;
        evidence.nonce = Some(nonce);
        let text = if matches!(self.tee, Tee::Tdx(_)) { String::new() } else { STANDARD.encode(&nonce[..24]) };
        Ok((report, text))
    }

    /// Under which policy quotes count.
    pub(crate) fn set_quote_policy(&self, policy: Policy) {
        self.evidence.write().policy = Some(policy);
    }

    /// The policy, once it is known.
    pub fn quote_policy(&self) -> Option<Policy> {
        self.evidence.read().policy.clone()
    }

    /// Last step: the quote of the last report. Returns the signature over the attestation at a consensus height.
    pub(crate) fn set_quote(&self, node: PublicKey, quote: Quote, height: u64) -> Result<RawSignature, IdentityError> {
        let mut evidence = self.evidence.write();
        // Whatever comes of this quote, the nonce is used up.
        let nonce = evidence.nonce.take().ok_or(IdentityError::NonceMismatch)?;
        let policy = evidence.policy.as_ref().ok_or(IdentityError::PolicyNotSet)?;
        let now = insecure_unix_time();
        let verified = verify_quote(&quote, policy, &self.tee, now)?;
        if verified.report_data[32..] != nonce {
            return Err(IdentityError::NonceMismatch);
        }
        if let Some(own) = self.tee.enclave() {
            if verified.identity.mr_enclave != own.mr_enclave {
                return Err(IdentityError::EnclaveMismatch { what: "MRENCLAVE" });
            }
            if verified.identity.mr_signer != own.mr_signer {
                return Err(IdentityError::EnclaveMismatch { what: "MRSIGNER" });
            }
        }
        check_binding(&verified, &self.rak())?;
        match evidence.node {
            Some(known) if known != node => return Err(IdentityError::NodeChanged),
            _ => evidence.node = Some(node),
        }
        evidence.quote = Some((quote.clone(), now));
        evidence.known_quotes.push_back(quote);
        while evidence.known_quotes.len() > KNOWN_QUOTES {
            evidence.known_quotes.pop_front();
        }
        drop(evidence);
        let digest = hash_attestation(&verified.report_data, &node, height, Some(self.rek().as_bytes()));
        self.sign(&context::TEE_ATTESTATION, &digest)
    }

    /// The quote, unless it is too old.
    pub fn quote(&self) -> Option<Quote> {
        let evidence = self.evidence.read();
        let (quote, since) = evidence.quote.as_ref()?;
        (insecure_unix_time().abs_diff(*since) <= MAX_QUOTE_AGE_SECS).then(|| quote.clone())
    }

    /// Whether requests may be served: outside of a TEE always, in one while there is a quote.
    pub fn is_ready(&self) -> bool {
        matches!(self.tee, Tee::None) || self.quote().is_some()
    }

    /// The node that this runtime runs on, once it is attested.
    pub fn node(&self) -> Option<PublicKey> {
        self.evidence.read().node
    }

    /// The capability that the node endorsed, if it did.
    pub fn endorsed(&self) -> Option<EndorsedCapabilityTee> {
        self.evidence.read().endorsed.clone()
    }

    /// Takes the node's endorsement, if it is of this enclave.
    pub(crate) fn set_endorsed(&self, ect: EndorsedCapabilityTee) -> Result<(), IdentityError> {
        let (policy, node) = {
            let evidence = self.evidence.read();
            let policy = evidence.policy.clone().ok_or(IdentityError::PolicyNotSet)?;
            (policy, evidence.node.ok_or(IdentityError::NodeNotSet)?)
        };
        let capability = &ect.capability_tee;
        let attestation = attestation_of(capability.attestation.as_ref().map_or(&[][..], |a| a.as_slice()))?;
        if !self.matches(&capability.rak, &attestation.quote) || ect.node_endorsement.public_key != node {
            return Err(IdentityError::EndorsedQuoteMismatch);
        }
        verify_endorsed(&ect, &policy, &self.tee)?;
        self.evidence.write().endorsed = Some(ect);
        Ok(())
    }

    fn matches(&self, rak: &PublicKey, quote: &Quote) -> bool {
        self.rak() == *rak && self.evidence.read().known_quotes.contains(quote)
    }

    /// Whether a node is registered with this very enclave.
    pub fn is_registered(&self, node: &Node, runtime: &Namespace, version: Version) -> bool {
        let Some(tee) = node.runtime(runtime, version).and_then(|rt| rt.capabilities.tee.as_ref()) else {
            return false;
        };
        let attestation = attestation_of(tee.attestation.as_ref().map_or(&[][..], |a| a.as_slice()));
        attestation.is_ok_and(|attestation| self.matches(&tee.rak, &attestation.quote))
    }
}

fn attestation_of(raw: &[u8]) -> Result<SgxAttestation, IdentityError> {
    base_codec::cbor::from_slice(raw).map_err(|source| IdentityError::Malformed { what: "attestation", source })
}

/// Verifies a quote under a policy at the host's time.
pub(crate) fn verify_quote(
    quote: &Quote,
    policy: &Policy,
    tee: &Tee,
    now: u64,
) -> Result<VerifiedQuote, IdentityError> {
    Ok(quote.verify(Some(policy), unix_time(now), &tee.verify_options())?)
}

/// Whether a quote is about an attestation key.
pub(crate) fn check_binding(quote: &VerifiedQuote, rak: &PublicKey) -> Result<(), IdentityError> {
    if quote.report_data[..32] == hash_rak(rak) { Ok(()) } else { Err(IdentityError::BindingMismatch) }
}

/// Verifies another enclave's endorsed capability: the node's signature, the quote, and the enclave's own signature.
pub(crate) fn verify_endorsed(
    ect: &EndorsedCapabilityTee,
    policy: &Policy,
    tee: &Tee,
) -> Result<VerifiedEndorsement, IdentityError> {
    let blob = base_codec::cbor::to_vec(&ect.capability_tee);
    let node = ect.node_endorsement.public_key;
    let endorsed = context::verify_with_context(
        node.as_bytes(),
        &context::ENDORSE_CAPABILITY_TEE,
        None,
        None,
        &blob,
        ect.node_endorsement.signature.as_bytes(),
    )?;
    if !endorsed {
        return Err(IdentityError::EndorsedQuoteMismatch);
    }
    let capability = &ect.capability_tee;
    let attestation = attestation_of(capability.attestation.as_ref().map_or(&[][..], |a| a.as_slice()))?;
    let verified = verify_quote(&attestation.quote, policy, tee, insecure_unix_time())?;
    check_binding(&verified, &capability.rak)?;
    // The enclave that is named is the one to be checked by the caller, so it is the only one allowed here.
    let constraints = SgxConstraints {
        v: 1,
        enclaves: vec![verified.identity],
        policy: Some(policy.clone()),
        max_attestation_age: u64::MAX,
    };
    let mut features = TeeFeatures::default();
    features.sgx.pcs = true;
    features.sgx.signed_attestations = attestation.v > 0;
    features.sgx.tdx = true;
    let binding = Binding {
        rak: &capability.rak,
        rek: capability.rek.as_ref().map(X25519PublicKey::as_bytes),
        node_id: &node,
        now: unix_time(insecure_unix_time()),
        height: attestation.height,
    };
    let quote = attestation.verify(&constraints, &features, &binding, &tee.verify_options())?;
    Ok(VerifiedEndorsement { quote, node: Some(node) })
}
