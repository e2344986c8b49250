//! Policies and statuses as the consensus layer has them, against those that the host claims.
//!
//! Source: `runtime/src/policy.rs`.

use base_codec::cbor;
use base_prims::{Namespace, Version};
use rt_tee::{Policy, SgxConstraints};
use wire_consensus::{
    keymanager::Status,
    tee::{QuotePolicy, TeeHardware},
};

use crate::{Error, consensus::ConsensusState, verifier::Verifier};

/// Why there is no policy, or it is another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The runtime is not registered.
    #[error("missing runtime descriptor")]
    MissingRuntime,
    /// The version is not deployed.
    #[error("no corresponding runtime deployment")]
    NoDeployment,
    /// The deployment's TEE field is malformed.
    #[error("bad TEE constraints")]
    BadConstraints,
    /// The runtime does not run in enclaves.
    #[error("configured runtime hardware mismatch")]
    HardwareMismatch,
    /// The runtime has no key manager.
    #[error("runtime doesn't use key manager")]
    NoKeyManager,
    /// The host claims another policy.
    #[error("policy mismatch")]
    PolicyMismatch,
    /// The host claims another status.
    #[error("status mismatch")]
    StatusMismatch,
    /// The key manager has no status.
    #[error("status hasn't been published")]
    StatusNotPublished,
}

/// The policy for quotes of a runtime's enclaves: of a version, or of the one that is active.
///
/// # Errors
/// If the state cannot be read or has none.
pub fn quote_policy(state: &ConsensusState, runtime: &Namespace, version: Option<Version>) -> Result<Policy, Error> {
    let runtime = state.runtime(runtime)?.ok_or(PolicyError::MissingRuntime)?;
    let deployment = match version {
        Some(version) => runtime.deployment_for_version(version),
        None => runtime.active_deployment(state.epoch()?),
    };
    let deployment = deployment.ok_or(PolicyError::NoDeployment)?;
    if runtime.tee_hardware != TeeHardware::INTEL_SGX {
        return Err(PolicyError::HardwareMismatch.into());
    }
    let raw = deployment.tee.as_ref().map_or(&[][..], |tee| tee.as_slice());
    let constraints: SgxConstraints = cbor::from_slice(raw).map_err(|_| PolicyError::BadConstraints)?;
    Ok(constraints.policy.unwrap_or_default())
}

/// The key manager of a runtime.
///
/// # Errors
/// If the state cannot be read or has none.
pub fn key_manager(state: &ConsensusState, runtime: &Namespace) -> Result<Namespace, Error> {
    let runtime = state.runtime(runtime)?.ok_or(PolicyError::MissingRuntime)?;
    Ok(runtime.key_manager.ok_or(PolicyError::NoKeyManager)?)
}

/// The published status of a key manager.
///
/// # Errors
/// If the state cannot be read or has none.
pub fn key_manager_status(state: &ConsensusState, key_manager: &Namespace) -> Result<Status, Error> {
    Ok(state.key_manager_status(key_manager)?.ok_or(PolicyError::StatusNotPublished)?)
}

/// The status that the host claims for the runtime's key manager, if it is the published one.
///
/// # Errors
/// If it is not, or the state cannot be read.
pub fn verify_key_manager_status(verifier: &Verifier, runtime: &Namespace, claimed: &Status) -> Result<Status, Error> {
    let key_manager = key_manager(&verifier.latest_state()?, runtime)?;
    let published = key_manager_status(&verifier.latest_state()?, &key_manager)?;
    if !same_status(claimed, &published) {
        tracing::debug!(untrusted = ?claimed, published = ?published, "key manager status mismatch");
        return Err(PolicyError::StatusMismatch.into());
    }
    Ok(published)
}

/// Whether two statuses say the same, in whatever form.
pub fn same_status(a: &Status, b: &Status) -> bool {
    cbor::to_vec(&normal(a)) == cbor::to_vec(&normal(b))
}

/// A status whose absent lists are empty ones: senders differ in which they write.
fn normal(status: &Status) -> Status {
    let mut status = status.clone();
    status.nodes.get_or_insert_default();
    status.checksum.get_or_insert_default();
    status
}

/// The quote policy that the host claims for the runtime's key manager, if it is the published one.
///
/// # Errors
/// If it is not, or the state cannot be read.
pub fn verify_key_manager_quote_policy(
    verifier: &Verifier,
    runtime: &Namespace,
    claimed: &QuotePolicy,
) -> Result<Policy, Error> {
    let key_manager = key_manager(&verifier.latest_state()?, runtime)?;
    let published = quote_policy(&verifier.latest_state()?, &key_manager, None)?;
    // Two types of one shape.
    if cbor::to_vec(claimed) != cbor::to_vec(&published) {
        tracing::debug!(untrusted = ?claimed, published = ?published, "quote policy mismatch");
        return Err(PolicyError::PolicyMismatch.into());
    }
    Ok(published)
}
