//! Key managers: statuses, access policies, master and ephemeral secrets.
//!
//! Instances of the secret sharing extension are in [`crate::churp`]; calls into enclaves in [`rpc`].

use std::collections::{BTreeMap, BTreeSet};

use base_codec::{Bytes, Codec, cbor};
use base_crypto::{
    blacklist::Blacklist,
    context::{self, Context},
};
use base_prims::{Epoch, Namespace, PublicKey, RawSignature};

use crate::{
    Invalid, churp, invalid, node::X25519PublicKey, signed::Signature, tee::EnclaveIdentity, transaction::Costs,
    typed_event,
};

pub mod rpc;

/// Module name.
pub const MODULE: &str = "keymanager";

/// Length of a checksum in bytes.
pub const CHECKSUM_BYTES: usize = 32;

/// Installs a policy; the body is [`SignedPolicySgx`].
pub const METHOD_UPDATE_POLICY: &str = "keymanager.UpdatePolicy";
/// Proposes a master secret; the body is [`SignedEncryptedMasterSecret`].
pub const METHOD_PUBLISH_MASTER_SECRET: &str = "keymanager.PublishMasterSecret";
/// Publishes an ephemeral secret; the body is [`SignedEncryptedEphemeralSecret`].
pub const METHOD_PUBLISH_EPHEMERAL_SECRET: &str = "keymanager.PublishEphemeralSecret";
/// All methods.
pub const METHODS: &[&str] = &[METHOD_UPDATE_POLICY, METHOD_PUBLISH_MASTER_SECRET, METHOD_PUBLISH_EPHEMERAL_SECRET];

/// Gas operation of [`METHOD_UPDATE_POLICY`].
pub const GAS_OP_UPDATE_POLICY: &str = "update_policy";
/// Gas operation of [`METHOD_PUBLISH_MASTER_SECRET`].
pub const GAS_OP_PUBLISH_MASTER_SECRET: &str = "publish_master_secret";
/// Gas operation of [`METHOD_PUBLISH_EPHEMERAL_SECRET`].
pub const GAS_OP_PUBLISH_EPHEMERAL_SECRET: &str = "publish_ephemeral_secret";

/// Percentage of a committee's enclaves to which a secret must be encrypted.
const MIN_ENCLAVES_PERCENT: usize = 66;

/// Whether the signature covers `message` in a context without chain separation, by a key that is not refused.
///
/// Signatures of any length but 64 bytes never verify.
pub fn verify_raw(key: &PublicKey, context: &Context, message: &[u8], signature: &[u8], blacklist: &Blacklist) -> bool {
    let (Ok(signature), Ok(prepared)) =
        (<[u8; 64]>::try_from(signature), context::prepare(context, None, None, message))
    else {
        return false;
    };
    !blacklist.contains(key.as_bytes()) && key.verify_prepared(&prepared, &RawSignature::new(signature))
}

/// State of a key manager. Source: `go/keymanager/secrets`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Status {
    /// The key manager's runtime.
    pub id: Namespace,
    /// Whether a node has been accepted so far; fixes `is_secure`.
    pub is_initialized: bool,
    /// Whether the key manager runs in secure enclaves.
    pub is_secure: bool,
    /// Generation of the newest master secret.
    #[codec(omitempty)]
    pub generation: u64,
    /// Epoch of the newest master secret.
    #[codec(omitempty)]
    pub rotation_epoch: Epoch,
    /// Checksum over all master secrets; empty without any.
    pub checksum: Option<Bytes>,
    /// The committee.
    pub nodes: Option<Vec<PublicKey>>,
    /// The access policy.
    pub policy: Option<SignedPolicySgx>,
    /// The policy that takes its place at the next epoch.
    #[codec(omitempty)]
    pub next_policy: Option<SignedPolicySgx>,
    /// Runtime signing key.
    #[codec(omitempty)]
    pub rsk: Option<PublicKey>,
}

/// The bytes, whether nil or not.
fn bytes(b: &Option<Bytes>) -> &[u8] {
    b.as_ref().map_or(&[], |b| b.as_slice())
}

impl Status {
    /// The checksum; empty without any.
    pub fn checksum(&self) -> &[u8] {
        bytes(&self.checksum)
    }

    /// The committee.
    pub fn nodes(&self) -> &[PublicKey] {
        self.nodes.as_deref().unwrap_or_default()
    }

    /// Generation of the next master secret.
    pub fn next_generation(&self) -> u64 {
        if self.checksum().is_empty() { 0 } else { self.generation.wrapping_add(1) }
    }

    /// Checks that the master secret may be rotated in the epoch; the first secret always may.
    ///
    /// # Errors
    /// If rotation is disabled or the interval has not passed.
    pub fn verify_rotation_epoch(&self, epoch: Epoch) -> Result<(), Invalid> {
        if self.next_generation() == 0 {
            return Ok(());
        }
        let interval = self.policy.as_ref().map_or(0, |p| p.policy.master_secret_rotation_interval);
        if interval == 0 {
            invalid!("master secret rotation disabled");
        }
        if epoch < self.rotation_epoch.wrapping_add(interval) {
            invalid!("master secret rotation interval has not yet expired");
        }
        Ok(())
    }
}

/// Who may do what with a key manager's secrets.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct PolicySgx {
    /// Number of the policy; rises with each one.
    pub serial: u32,
    /// The key manager's runtime.
    pub id: Namespace,
    /// By enclave of the key manager.
    pub enclaves: Option<BTreeMap<EnclaveIdentity, Option<EnclavePolicySgx>>>,
    /// Fewest epochs between master secrets; 0 disables rotation.
    #[codec(omitempty)]
    pub master_secret_rotation_interval: Epoch,
    /// Epochs for which ephemeral secrets are kept.
    #[codec(omitempty)]
    pub max_ephemeral_secret_age: Epoch,
}

/// Who may talk to an enclave of a key manager.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct EnclavePolicySgx {
    /// By runtime: enclaves that may query keys.
    pub may_query: Option<BTreeMap<Namespace, Option<Vec<EnclaveIdentity>>>>,
    /// Other enclaves that may replicate the master secret.
    pub may_replicate: Option<Vec<EnclaveIdentity>>,
}

/// A policy with its signatures.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct SignedPolicySgx {
    /// The policy.
    pub policy: PolicySgx,
    /// Signatures over the policy.
    pub signatures: Option<Vec<Signature>>,
}

impl SignedPolicySgx {
    /// Verifies the signatures and, where there is a policy in force, that this one may follow it.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn verify(&self, current: Option<&Self>, blacklist: &Blacklist) -> Result<(), Invalid> {
        const CONTEXT: &str = "keymanager: sanity check failed: SGX policy";
        let raw = cbor::to_vec(&self.policy);
        for s in self.signatures.iter().flatten() {
            let key = &s.public_key;
            if blacklist.contains(key.as_bytes()) {
                invalid!("{CONTEXT} signature's public key {key} is invalid");
            }
            if !verify_raw(key, &context::KEYMANAGER_POLICY, &raw, s.signature.as_bytes(), blacklist) {
                invalid!("{CONTEXT} signature from {key} is invalid");
            }
        }
        let Some(Self { policy: current, .. }) = current else {
            return Ok(());
        };
        if self.policy.id != current.id {
            invalid!("{CONTEXT} runtime ID changed from {} to {}", current.id, self.policy.id);
        }
        if current.serial >= self.policy.serial {
            invalid!("{CONTEXT} serial number did not increase");
        }
        Ok(())
    }
}

/// A secret encrypted to enclaves.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct EncryptedSecret {
    /// Checksum of the secret.
    pub checksum: Option<Bytes>,
    /// Key with which the enclaves derive theirs.
    pub pub_key: X25519PublicKey,
    /// The secret encrypted to each enclave's key.
    pub ciphertexts: Option<BTreeMap<X25519PublicKey, Option<Bytes>>>,
}

impl EncryptedSecret {
    /// The checksum; empty if there is none.
    pub fn checksum(&self) -> &[u8] {
        bytes(&self.checksum)
    }

    /// Checks that the secret is encrypted to known keys only, and to enough of them.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn validate(&self, reks: &BTreeSet<X25519PublicKey>) -> Result<(), Invalid> {
        const CONTEXT: &str = "keymanager: sanity check failed: secret";
        if reks.is_empty() {
            invalid!("{CONTEXT} has to be encrypted with at least one key");
        }
        if self.ciphertexts.iter().flatten().any(|(key, _)| !reks.contains(key)) {
            invalid!("{CONTEXT} is encrypted with an unknown key");
        }
        let count = self.ciphertexts.as_ref().map_or(0, BTreeMap::len);
        if count * 100 / reks.len() < MIN_ENCLAVES_PERCENT {
            invalid!("{CONTEXT} is not encrypted with enough keys");
        }
        Ok(())
    }
}

/// A proposed master secret.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct EncryptedMasterSecret {
    /// The key manager's runtime.
    #[codec(rename = "runtime_id")]
    pub id: Namespace,
    /// Generation.
    pub generation: u64,
    /// Epoch at which it is to be accepted.
    pub epoch: Epoch,
    /// The secret.
    pub secret: EncryptedSecret,
}

/// An ephemeral secret.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct EncryptedEphemeralSecret {
    /// The key manager's runtime.
    #[codec(rename = "runtime_id")]
    pub id: Namespace,
    /// Epoch to which it belongs.
    pub epoch: Epoch,
    /// The secret.
    pub secret: EncryptedSecret,
}

/// A proposed master secret with the signature of the enclave that made it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct SignedEncryptedMasterSecret {
    /// The secret.
    pub secret: EncryptedMasterSecret,
    /// Signature by the enclave's attestation key.
    pub signature: RawSignature,
}

impl SignedEncryptedMasterSecret {
    /// Checks generation, epoch and recipients and verifies the signature.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn verify(
        &self,
        generation: u64,
        epoch: Epoch,
        reks: &BTreeSet<X25519PublicKey>,
        rak: &PublicKey,
        blacklist: &Blacklist,
    ) -> Result<(), Invalid> {
        const CONTEXT: &str = "keymanager: sanity check failed: master secret contains an invalid";
        let s = &self.secret;
        if s.generation != generation {
            invalid!("{CONTEXT} generation: (expected: {generation}, got: {})", s.generation);
        }
        if s.epoch != epoch {
            invalid!("{CONTEXT} epoch: (expected: {epoch}, got: {})", s.epoch);
        }
        s.secret.validate(reks)?;
        let (context, raw) = (&context::KEYMANAGER_MASTER_SECRET, cbor::to_vec(s));
        if !verify_raw(rak, context, &raw, self.signature.as_bytes(), blacklist) {
            invalid!("{CONTEXT} signature");
        }
        Ok(())
    }
}

/// An ephemeral secret with the signature of the enclave that made it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct SignedEncryptedEphemeralSecret {
    /// The secret.
    pub secret: EncryptedEphemeralSecret,
    /// Signature by the enclave's attestation key.
    pub signature: RawSignature,
}

impl SignedEncryptedEphemeralSecret {
    /// Checks epoch and recipients and verifies the signature.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn verify(
        &self,
        epoch: Epoch,
        reks: &BTreeSet<X25519PublicKey>,
        rak: &PublicKey,
        blacklist: &Blacklist,
    ) -> Result<(), Invalid> {
        const CONTEXT: &str = "keymanager: sanity check failed: ephemeral secret contains an invalid";
        let s = &self.secret;
        if s.epoch != epoch {
            invalid!("{CONTEXT} epoch: (expected: {epoch}, got: {})", s.epoch);
        }
        s.secret.validate(reks)?;
        let (context, raw) = (&context::KEYMANAGER_EPHEMERAL_SECRET, cbor::to_vec(s));
        if !verify_raw(rak, context, &raw, self.signature.as_bytes(), blacklist) {
            invalid!("{CONTEXT} signature");
        }
        Ok(())
    }
}

/// How a key manager's enclave answers when it is initialized; nodes register with it as extra info.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct InitResponse {
    /// Whether the enclave is secure.
    pub is_secure: bool,
    /// Checksum over the master secrets that it has.
    pub checksum: Option<Bytes>,
    /// Checksum with the proposed master secret, if it has replicated that.
    #[codec(omitempty)]
    pub next_checksum: Option<Bytes>,
    /// Hash of the policy in force.
    pub policy_checksum: Option<Bytes>,
    /// Runtime signing key.
    #[codec(omitempty)]
    pub rsk: Option<PublicKey>,
    /// Runtime signing key with the proposed master secret.
    #[codec(omitempty)]
    pub next_rsk: Option<PublicKey>,
}

impl InitResponse {
    /// Checksum over the master secrets; empty without any.
    pub fn checksum(&self) -> &[u8] {
        bytes(&self.checksum)
    }

    /// Checksum with the proposed master secret; empty without any.
    pub fn next_checksum(&self) -> &[u8] {
        bytes(&self.next_checksum)
    }

    /// Hash of the policy in force.
    pub fn policy_checksum(&self) -> &[u8] {
        bytes(&self.policy_checksum)
    }
}

/// An [`InitResponse`] with the enclave's signature.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct SignedInitResponse {
    /// The response.
    pub init_response: InitResponse,
    /// Signature by the enclave's attestation key.
    pub signature: Option<Bytes>,
}

impl SignedInitResponse {
    /// Verifies the signature.
    ///
    /// # Errors
    /// If it is not by that key.
    pub fn verify(&self, rak: &PublicKey, blacklist: &Blacklist) -> Result<(), Invalid> {
        let (context, raw) = (&context::KEYMANAGER_INIT_RESPONSE, cbor::to_vec(&self.init_response));
        if !verify_raw(rak, context, &raw, bytes(&self.signature), blacklist) {
            invalid!("keymanager: invalid initialization response signature");
        }
        Ok(())
    }
}

/// The section `keymanager` of a genesis document. Source: `go/keymanager/api`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Genesis {
    /// Parameters.
    #[codec(rename = "params")]
    pub parameters: Parameters,
    /// Statuses of key managers; they must have no nodes.
    #[codec(omitempty)]
    pub statuses: Vec<Status>,
    /// The secret sharing extension.
    #[codec(omitempty)]
    pub churp: Option<churp::Genesis>,
}

impl Genesis {
    /// Checks the section.
    ///
    /// # Errors
    /// Names the first status that is out of order.
    pub fn sanity_check(&self, blacklist: &Blacklist) -> Result<(), Invalid> {
        sanity_check_statuses(&self.statuses, blacklist)
    }
}

/// Checks statuses: key manager identifiers, valid node keys, valid policies.
///
/// # Errors
/// Names the first status that is out of order.
pub fn sanity_check_statuses(statuses: &[Status], blacklist: &Blacklist) -> Result<(), Invalid> {
    for status in statuses {
        if !status.id.is_key_manager() {
            invalid!("keymanager: sanity check failed: key manager runtime ID {} is invalid", status.id);
        }
        if let Some(node) = status.nodes().iter().find(|n| blacklist.contains(n.as_bytes())) {
            invalid!("keymanager: sanity check failed: key manager node ID {node} is invalid");
        }
        if let Some(policy) = &status.policy {
            policy.verify(None, blacklist)?;
        }
        if let Some(next) = &status.next_policy {
            next.verify(status.policy.as_ref(), blacklist)?;
        }
    }
    Ok(())
}

/// Consensus parameters; part of the state under the key `71`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Parameters {
    /// Gas costs.
    #[codec(omitempty)]
    pub gas_costs: Costs,
}

/// The parameters that governance could change, were the service to take part in it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct ParameterChanges {
    /// New gas costs.
    #[codec(omitempty)]
    pub gas_costs: Option<Costs>,
}

/// Query for data of a key manager's runtime (the reference's registry namespace query).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Codec)]
pub struct StatusQuery {
    /// Height; 0 is the newest.
    pub height: i64,
    /// The runtime.
    pub id: Namespace,
}

/// Statuses changed.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct StatusUpdateEvent {
    /// The changed ones.
    #[codec(rename = "Statuses")]
    pub statuses: Option<Vec<Status>>,
}
typed_event!(StatusUpdateEvent, "status");

/// A master secret was proposed.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct MasterSecretPublishedEvent {
    /// The secret.
    #[codec(rename = "Secret")]
    pub secret: Option<SignedEncryptedMasterSecret>,
}
typed_event!(MasterSecretPublishedEvent, "master_secret");

/// An ephemeral secret was published.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct EphemeralSecretPublishedEvent {
    /// The secret.
    #[codec(rename = "Secret")]
    pub secret: Option<SignedEncryptedEphemeralSecret>,
}
typed_event!(EphemeralSecretPublishedEvent, "ephemeral_secret");

#[cfg(test)]
mod tests;
