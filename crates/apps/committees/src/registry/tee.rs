//! Whether nodes run the enclaves that runtimes ask for. Source: `go/registry/api`, `go/common/node`.

use apps_core::{Context, Error, Result};
use base_codec::cbor;
use base_prims::PublicKey;
use rt_tee::{Binding, NodeTeeCapability, SgxConstraints, UnixTime, VerifyOptions, verify_node_tee_capability};
use wire_consensus::{
    Time,
    errors::registry as codes,
    node::{self, CapabilityTee},
    registry::{Parameters, Runtime, VersionInfo},
    tee::{TeeFeatures, TeeHardware},
};

/// What attestations are judged by.
#[derive(Clone, Copy, Debug)]
pub struct TeeRules<'a> {
    /// TEE features of the network.
    pub features: Option<&'a TeeFeatures>,
    /// Time of the block.
    pub now: Time,
    /// Height of the last committed state.
    pub height: u64,
    /// Whether the rules of feature version 26.1 hold.
    pub feature_26_1: bool,
    /// How evidence is verified.
    pub options: &'a VerifyOptions,
}

/// Features in the form that the verifier takes; nothing is supported where they are not set.
pub(crate) fn features(features: Option<&TeeFeatures>) -> Result<rt_tee::TeeFeatures> {
    let Some(features) = features else { return Ok(rt_tee::TeeFeatures::default()) };
    cbor::from_slice(&cbor::to_vec(features)).map_err(|e| Error::Uncoded(format!("registry: bad TEE features: {e}")))
}

impl TeeRules<'_> {
    /// Verifies a node's capability against a deployment of the runtime.
    ///
    /// # Errors
    /// Without a code, whatever is wrong.
    pub fn verify(&self, tee: &CapabilityTee, deployment: &VersionInfo, node: &PublicKey) -> Result<()> {
        let capability = NodeTeeCapability {
            hardware: tee.hardware.0,
            attestation: tee.attestation.as_ref().map_or(&[], |b| b.as_slice()),
            constraints: deployment.tee.as_ref().map_or(&[], |b| b.as_slice()),
        };
        let binding = Binding {
            rak: &tee.rak,
            rek: tee.rek.as_ref().map(|k| k.as_bytes()),
            node_id: node,
            now: UnixTime::new(self.now.seconds(), self.now.nanos()),
            height: self.height,
        };
        let features = features(self.features)?;
        verify_node_tee_capability(&capability, &binding, &features, self.feature_26_1, self.options)
            .map(drop)
            .map_err(|e| Error::Uncoded(format!("node: {e}")))
    }

    /// Verifies that a node runs the runtime in the right kind of enclave, in a version that is deployed.
    ///
    /// # Errors
    /// [`codes::TEE_HARDWARE_MISMATCH`], [`codes::INVALID_ARGUMENT`] for an unknown version, or as [`TeeRules::verify`].
    pub fn verify_runtime(&self, node: &PublicKey, registered: &node::Runtime, runtime: &Runtime) -> Result<()> {
        let tee = registered.capabilities.tee.as_ref();
        if tee.map_or(TeeHardware::INVALID, |t| t.hardware) != runtime.tee_hardware {
            return Err((&codes::TEE_HARDWARE_MISMATCH).into());
        }
        let Some(tee) = tee else { return Ok(()) };
        match runtime.deployment_for_version(registered.version) {
            Some(deployment) => self.verify(tee, deployment, node),
            None => Err(Error::from(&codes::INVALID_ARGUMENT).context("node running unknown runtime enclave version")),
        }
    }
}

/// What attestations are judged by in a context.
pub fn rules<'a>(ctx: &Context<'a>, params: &'a Parameters) -> TeeRules<'a> {
    TeeRules {
        features: params.tee_features.as_ref(),
        now: ctx.now(),
        height: ctx.last_height().cast_unsigned(),
        feature_26_1: ctx.is_feature_26_1(),
        options: &ctx.config().tee,
    }
}

/// Verifies a node's capability against a deployment of the runtime, by the rules of the context.
///
/// # Errors
/// As [`TeeRules::verify`].
pub fn verify(
    ctx: &Context<'_>,
    params: &Parameters,
    tee: &CapabilityTee,
    deployment: &VersionInfo,
    node: &PublicKey,
) -> Result<()> {
    TeeRules {
        features: params.tee_features.as_ref(),
        now: ctx.now(),
        height: ctx.last_height().cast_unsigned(),
        feature_26_1: ctx.is_feature_26_1(),
        options: &ctx.config().tee,
    }
    .verify(tee, deployment, node)
}

/// Checks a deployment's constraints on enclaves, for a runtime that needs SGX.
pub(crate) fn check_constraints(deployment: &VersionInfo, params: &Parameters, feature_26_1: bool) -> Result<()> {
    let invalid = || Error::from(&codes::INVALID_ARGUMENT).context("invalid SGX TEE constraints");
    let raw = deployment.tee.as_ref().map_or(&[][..], |b| b.as_slice());
    let constraints: SgxConstraints = cbor::from_slice(raw).map_err(|_| invalid())?;
    let features = features(params.tee_features.as_ref())?;
    constraints.validate_basic(&features, feature_26_1).map_err(|_| invalid())?;
    if constraints.enclaves.is_empty() {
        return Err(Error::from(&codes::NO_ENCLAVE_FOR_RUNTIME).context("invalid SGX TEE constraints"));
    }
    Ok(())
}
