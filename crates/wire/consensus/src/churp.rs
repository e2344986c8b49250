//! CHURP: the key manager's extension that shares secrets among changing committees.

use std::collections::BTreeMap;

use base_codec::{Codec, cbor};
use base_crypto::{blacklist::Blacklist, context};
use base_prims::{EPOCH_INVALID, Epoch, Hash, Namespace, PublicKey, RawSignature};

use crate::{
    Invalid, invalid, keymanager::verify_raw, signed::Signature, tee::EnclaveIdentity, transaction::Costs, typed_event,
};

pub mod rpc;

/// Module name.
pub const MODULE: &str = "keymanager/churp";

/// Creates an instance; the body is [`CreateRequest`].
pub const METHOD_CREATE: &str = "keymanager/churp.Create";
/// Changes an instance; the body is [`UpdateRequest`].
pub const METHOD_UPDATE: &str = "keymanager/churp.Update";
/// Applies for the next committee; the body is [`SignedApplicationRequest`].
pub const METHOD_APPLY: &str = "keymanager/churp.Apply";
/// Confirms a handoff; the body is [`SignedConfirmationRequest`].
pub const METHOD_CONFIRM: &str = "keymanager/churp.Confirm";
/// All methods.
pub const METHODS: &[&str] = &[METHOD_CREATE, METHOD_UPDATE, METHOD_APPLY, METHOD_CONFIRM];

/// Gas operation of [`METHOD_CREATE`].
pub const GAS_OP_CREATE: &str = "create";
/// Gas operation of [`METHOD_UPDATE`].
pub const GAS_OP_UPDATE: &str = "update";
/// Gas operation of [`METHOD_APPLY`].
pub const GAS_OP_APPLY: &str = "apply";
/// Gas operation of [`METHOD_CONFIRM`].
pub const GAS_OP_CONFIRM: &str = "confirm";

/// The epoch of the next handoff where handoffs are disabled.
pub const HANDOFFS_DISABLED: Epoch = EPOCH_INVALID;

/// The only suite: the curve P-384 with SHA3-384.
pub const SUITE_NIST_P384_SHA3_384: u8 = 0;

/// Largest threshold; keeps the polynomials' degrees (t, 2t) within a byte.
pub const MAX_THRESHOLD: u8 = 127;

/// Name of the stake claim of an instance.
pub fn stake_claim(runtime_id: &Namespace, id: u8) -> String {
    format!("keymanager.churp.Scheme.{runtime_id}.{id}")
}

/// Consensus parameters; part of the state under the key `74`. Absent parameters are the default: all is free.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Parameters {
    /// Gas costs.
    #[codec(omitempty)]
    pub gas_costs: Costs,
}

impl Parameters {
    /// The parameters that a genesis document with a section for the extension, or the upgrade `consensus240`, installs.
    pub fn defaults() -> Self {
        let costs = [GAS_OP_CREATE, GAS_OP_UPDATE, GAS_OP_APPLY, GAS_OP_CONFIRM].map(|op| (op.to_owned(), 1000));
        Self { gas_costs: costs.into() }
    }
}

/// The section `churp` of the key manager's genesis section. Source: `go/keymanager/churp`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Genesis {
    /// Parameters; what they say is not used.
    #[codec(rename = "params")]
    pub parameters: Parameters,
    /// Instances.
    #[codec(omitempty)]
    pub statuses: Vec<Status>,
}

/// Names an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Codec)]
pub struct Identity {
    /// Number within the runtime.
    pub id: u8,
    /// The key manager's runtime.
    pub runtime_id: Namespace,
}

/// State of an instance. Source: `go/keymanager/churp/status.go`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Status {
    /// Which instance.
    #[codec(flatten)]
    pub identity: Identity,
    /// Cipher suite.
    pub suite_id: u8,
    /// Degree of the secret-sharing polynomial: one more share than this reconstructs the secret.
    pub threshold: u8,
    /// Shares that may be lost beyond those that the threshold allows for.
    pub extra_shares: u8,
    /// Epochs between handoffs; 0 disables them.
    pub handoff_interval: Epoch,
    /// Access policy.
    pub policy: SignedPolicySgx,
    /// Epoch of the last completed handoff; 0 for none.
    pub handoff: Epoch,
    /// Hash of that handoff's verification matrix.
    #[codec(omitempty)]
    pub checksum: Option<Hash>,
    /// The nodes that hold a share, sorted.
    #[codec(omitempty)]
    pub committee: Vec<PublicKey>,
    /// Epoch of the next handoff, or [`HANDOFFS_DISABLED`].
    pub next_handoff: Epoch,
    /// Hash of the next handoff's verification matrix, once a node has confirmed it.
    #[codec(omitempty)]
    pub next_checksum: Option<Hash>,
    /// The nodes that want to be in the next committee.
    #[codec(omitempty)]
    pub applications: BTreeMap<PublicKey, Application>,
}

/// A node's application for the next committee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Codec)]
pub struct Application {
    /// Hash of the node's own verification matrix.
    pub checksum: Hash,
    /// Whether the node has reconstructed its share.
    pub reconstructed: bool,
}

/// What changes at a handoff.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandoffKind {
    /// The first one: the secret is made.
    DealingPhase,
    /// The same nodes go on.
    CommitteeUnchanged,
    /// Other nodes take over.
    CommitteeChanged,
}

impl Status {
    /// What the applications so far make of the next handoff.
    pub fn handoff_kind(&self) -> HandoffKind {
        if self.committee.is_empty() {
            HandoffKind::DealingPhase
        } else if self.committee.len() == self.applications.len()
            && self.committee.iter().all(|n| self.applications.contains_key(n))
        {
            HandoffKind::CommitteeUnchanged
        } else {
            HandoffKind::CommitteeChanged
        }
    }

    /// Fewest nodes of a committee.
    pub fn min_committee_size(&self) -> usize {
        usize::from(self.threshold) + usize::from(self.extra_shares) + 1
    }

    /// Fewest nodes that must take part in the next handoff.
    pub fn min_applicants(&self) -> usize {
        let t = usize::from(self.threshold);
        let at_least = match self.handoff_kind() {
            HandoffKind::DealingPhase => t + 2,
            HandoffKind::CommitteeUnchanged => 0,
            HandoffKind::CommitteeChanged => 2 * t + 1,
        };
        self.min_committee_size().max(at_least)
    }

    /// Whether there are no handoffs.
    pub fn handoffs_disabled(&self) -> bool {
        self.handoff_interval == 0
    }
}

/// Who may take part in an instance and query it. Source: `go/keymanager/churp/policy.go`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct PolicySgx {
    /// Which instance.
    #[codec(flatten)]
    pub identity: Identity,
    /// Number of the policy: 0, then one more each time.
    pub serial: u32,
    /// Enclaves from which shares can be obtained.
    pub may_share: Option<Vec<EnclaveIdentity>>,
    /// Enclaves that may form the next committee.
    pub may_join: Option<Vec<EnclaveIdentity>>,
    /// By runtime: enclaves that may query key shares.
    #[codec(omitempty)]
    pub may_query: Option<BTreeMap<Namespace, Option<Vec<EnclaveIdentity>>>>,
}

impl PolicySgx {
    /// Checks that the policy may follow `previous`, or be the first one.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn validate(&self, previous: Option<&Self>) -> Result<(), Invalid> {
        const CONTEXT: &str = "SGX policy: sanity check failed:";
        let Some(prev) = previous else {
            if self.serial != 0 {
                invalid!("{CONTEXT} serial number must be 0 and not {}", self.serial);
            }
            return Ok(());
        };
        let (old, new) = (&prev.identity, &self.identity);
        if old.id != new.id {
            invalid!("{CONTEXT} ID changed from {} to {}", old.id, new.id);
        }
        if old.runtime_id != new.runtime_id {
            invalid!("{CONTEXT} runtime ID changed from {} to {}", old.runtime_id, new.runtime_id);
        }
        let next = prev.serial.wrapping_add(1);
        if self.serial != next {
            invalid!("{CONTEXT} serial number must be {next} and not {}", self.serial);
        }
        Ok(())
    }
}

/// A policy with its signatures.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct SignedPolicySgx {
    /// The policy.
    pub policy: PolicySgx,
    /// Signatures over the policy.
    #[codec(omitempty)]
    pub signatures: Vec<Signature>,
}

impl SignedPolicySgx {
    /// Checks the policy against its predecessor and verifies the signatures.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn verify(&self, previous: Option<&PolicySgx>, blacklist: &Blacklist) -> Result<(), Invalid> {
        const CONTEXT: &str = "SGX policy: sanity check failed:";
        self.policy.validate(previous)?;
        let raw = cbor::to_vec(&self.policy);
        for s in &self.signatures {
            let key = &s.public_key;
            if blacklist.contains(key.as_bytes()) {
                invalid!("{CONTEXT} signature's public key {key} is invalid");
            }
            if !verify_raw(key, &context::CHURP_POLICY, &raw, s.signature.as_bytes(), blacklist) {
                invalid!("{CONTEXT} policy signature from {key} is invalid");
            }
        }
        Ok(())
    }
}

/// Checks that a policy is for the instance.
fn validate_policy_identity(policy: &SignedPolicySgx, identity: &Identity) -> Result<(), Invalid> {
    let (got, want) = (&policy.policy.identity, identity);
    if got.id != want.id {
        invalid!("policy ID mismatch: got {}, expected {}", got.id, want.id);
    }
    if got.runtime_id != want.runtime_id {
        invalid!("policy runtime ID mismatch: got {}, expected {}", got.runtime_id, want.runtime_id);
    }
    Ok(())
}

/// Body of [`METHOD_CREATE`].
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct CreateRequest {
    /// Which instance.
    #[codec(flatten)]
    pub identity: Identity,
    /// Cipher suite.
    #[codec(omitempty)]
    pub suite_id: u8,
    /// See [`Status::threshold`].
    #[codec(omitempty)]
    pub threshold: u8,
    /// See [`Status::extra_shares`].
    #[codec(omitempty)]
    pub extra_shares: u8,
    /// See [`Status::handoff_interval`].
    #[codec(omitempty)]
    pub handoff_interval: Epoch,
    /// Access policy.
    #[codec(omitempty)]
    pub policy: SignedPolicySgx,
}

impl CreateRequest {
    /// Checks suite, threshold and the policy's identity.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn validate_basic(&self) -> Result<(), Invalid> {
        if self.suite_id > SUITE_NIST_P384_SHA3_384 {
            invalid!("unsupported suite, ID {}", self.suite_id);
        }
        if self.threshold > MAX_THRESHOLD {
            invalid!("threshold too large: got {}, max {MAX_THRESHOLD}", self.threshold);
        }
        validate_policy_identity(&self.policy, &self.identity)
    }
}

/// Body of [`METHOD_UPDATE`]; what is absent stays.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct UpdateRequest {
    /// Which instance.
    #[codec(flatten)]
    pub identity: Identity,
    /// See [`Status::extra_shares`].
    #[codec(omitempty)]
    pub extra_shares: Option<u8>,
    /// See [`Status::handoff_interval`].
    #[codec(omitempty)]
    pub handoff_interval: Option<Epoch>,
    /// Access policy.
    #[codec(omitempty)]
    pub policy: Option<SignedPolicySgx>,
}

impl UpdateRequest {
    /// Checks that something changes, and the policy's identity.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn validate_basic(&self) -> Result<(), Invalid> {
        if self.extra_shares.is_none() && self.handoff_interval.is_none() && self.policy.is_none() {
            invalid!("update config should not be empty");
        }
        self.policy.as_ref().map_or(Ok(()), |p| validate_policy_identity(p, &self.identity))
    }
}

/// A node's wish to be in the next committee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Codec)]
pub struct ApplicationRequest {
    /// Which instance.
    #[codec(flatten)]
    pub identity: Identity,
    /// Epoch of the handoff.
    pub epoch: Epoch,
    /// Hash of the node's verification matrix.
    pub checksum: Hash,
}

/// Body of [`METHOD_APPLY`]: an application with the enclave's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Codec)]
pub struct SignedApplicationRequest {
    /// The application.
    pub application: ApplicationRequest,
    /// Signature by the enclave's attestation key.
    pub signature: RawSignature,
}

/// A node's word that it has reconstructed its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Codec)]
pub struct ConfirmationRequest {
    /// Which instance.
    #[codec(flatten)]
    pub identity: Identity,
    /// Epoch of the handoff.
    pub epoch: Epoch,
    /// Hash of the handoff's verification matrix.
    pub checksum: Hash,
}

/// Body of [`METHOD_CONFIRM`]: a confirmation with the enclave's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Codec)]
pub struct SignedConfirmationRequest {
    /// The confirmation.
    pub confirmation: ConfirmationRequest,
    /// Signature by the enclave's attestation key.
    pub signature: RawSignature,
}

impl SignedApplicationRequest {
    /// Verifies the signature.
    ///
    /// # Errors
    /// If it is not by that key.
    pub fn verify_rak(&self, rak: &PublicKey, blacklist: &Blacklist) -> Result<(), Invalid> {
        let (context, raw) = (&context::CHURP_APPLICATION_REQUEST, cbor::to_vec(&self.application));
        if !verify_raw(rak, context, &raw, self.signature.as_bytes(), blacklist) {
            invalid!("RAK signature verification failed");
        }
        Ok(())
    }
}

impl SignedConfirmationRequest {
    /// Verifies the signature.
    ///
    /// # Errors
    /// If it is not by that key.
    pub fn verify_rak(&self, rak: &PublicKey, blacklist: &Blacklist) -> Result<(), Invalid> {
        let (context, raw) = (&context::CHURP_CONFIRMATION_REQUEST, cbor::to_vec(&self.confirmation));
        if !verify_raw(rak, context, &raw, self.signature.as_bytes(), blacklist) {
            invalid!("RAK signature verification failed");
        }
        Ok(())
    }
}

/// Query for an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Codec)]
pub struct StatusQuery {
    /// Height; 0 is the newest.
    pub height: i64,
    /// The key manager's runtime.
    pub runtime_id: Namespace,
    /// Number within the runtime.
    pub churp_id: u8,
}

/// An instance was created.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct CreateEvent {
    /// Its status.
    #[codec(rename = "Status")]
    pub status: Option<Status>,
}
typed_event!(CreateEvent, "keymanager/churp.create");

/// An instance changed.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct UpdateEvent {
    /// Its status.
    #[codec(rename = "Status")]
    pub status: Option<Status>,
}
typed_event!(UpdateEvent, "keymanager/churp.update");

#[cfg(test)]
mod tests;
