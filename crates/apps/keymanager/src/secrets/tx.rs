//! Transactions of secrets.

use std::collections::BTreeSet;

use apps_core::{Context, Error, Result, epoch};
use base_prims::PublicKey;
use wire_consensus::{
    errors::keymanager as codes,
    keymanager::{
        EphemeralSecretPublishedEvent, GAS_OP_PUBLISH_EPHEMERAL_SECRET, GAS_OP_PUBLISH_MASTER_SECRET,
        GAS_OP_UPDATE_POLICY, MasterSecretPublishedEvent, SignedEncryptedEphemeralSecret, SignedEncryptedMasterSecret,
        SignedPolicySgx, Status, StatusUpdateEvent,
    },
    node::X25519PublicKey,
    registry::Runtime,
};

use super::{state, status};
use crate::{NAME, common};

/// Charges for a method after all checks. Whether there is anything left to do: not in checks and simulations.
fn charge(ctx: &mut Context<'_>, op: &str) -> Result<bool> {
    if ctx.is_check_only() {
        return Ok(false);
    }
    let params = state::parameters(&ctx.state())?;
    ctx.use_gas(1, op, &params.gas_costs)?;
    Ok(!ctx.is_simulation())
}

/// Installs a policy: at the next epoch, or before release 26.1 at once.
///
/// # Errors
/// In this order: unknown runtime, signer is not its entity, bad policy, gas.
pub fn update_policy(ctx: &mut Context<'_>, policy: SignedPolicySgx) -> Result<()> {
    let runtime = common::key_manager_runtime(ctx, &policy.policy.id)?;
    if runtime.entity_id != ctx.tx_signer() {
        return Err(Error::Uncoded(format!("keymanager: invalid update signer: {}", runtime.id)));
    }
    let mut status =
        state::status(&ctx.state(), &runtime.id)?.unwrap_or_else(|| Status { id: runtime.id, ..Status::default() });
    policy.verify(status.policy.as_ref(), ctx.blacklist())?;
    if !charge(ctx, GAS_OP_UPDATE_POLICY)? {
        return Ok(());
    }
    status.next_policy = Some(policy);
    if !ctx.is_feature_26_1() {
        let epoch = epoch::current_epoch(ctx)?;
        status = status::Inputs::load(ctx, epoch)?.generate(ctx, &runtime, &status, None)?;
    }
    state::set_status(&mut ctx.state(), &status)?;
    ctx.emit(NAME, &StatusUpdateEvent { statuses: Some(vec![status]) });
    Ok(())
}

/// The status of a key manager in whose committee the signer is.
fn committee_status(ctx: &mut Context<'_>, runtime: &Runtime, what: &str) -> Result<Status> {
    let status = state::status(&ctx.state(), &runtime.id)?.ok_or_else(|| Error::from(&codes::NO_SUCH_STATUS))?;
    if !status.nodes().contains(&ctx.tx_signer()) {
        return Err(Error::Uncoded(format!("keymanager: {what} can be published only by the key manager committee")));
    }
    Ok(status)
}

/// The signing key of the signer's enclave, and the encryption keys of the committee's enclaves.
fn enclave_keys(
    ctx: &mut Context<'_>,
    runtime: &Runtime,
    status: &Status,
) -> Result<(PublicKey, BTreeSet<X25519PublicKey>)> {
    let signer = ctx.tx_signer();
    let node = common::node(ctx, &signer)?;
    let rak = common::attestation_key(common::node_runtime(&node, &runtime.id)?, runtime)?;
    let nodes = status.nodes().iter().map(|id| common::node(ctx, id)).collect::<Result<Vec<_>>>()?;
    Ok((rak, common::encryption_keys(&nodes, runtime)))
}

/// Proposes a master secret for the next epoch, in place of an earlier proposal.
///
/// # Errors
/// In this order: unknown runtime, no status, signer not in the committee, second proposal in an epoch, rotation not
/// due, unknown nodes, wrong generation, epoch, recipients or signature, gas.
pub fn publish_master_secret(ctx: &mut Context<'_>, secret: SignedEncryptedMasterSecret) -> Result<()> {
    let proposed = &secret.secret;
    let runtime = common::key_manager_runtime(ctx, &proposed.id)?;
    let status = committee_status(ctx, &runtime, "master secret")?;
    let last = state::master_secret(&ctx.state(), &proposed.id)?;
    if last.is_some_and(|l| l.secret.epoch == proposed.epoch) {
        return Err(Error::uncoded("keymanager: master secret can be proposed once per epoch"));
    }
    status
        .verify_rotation_epoch(proposed.epoch)
        .map_err(|e| Error::from(e).context("keymanager: master secret rotation not allowed"))?;
    let next_epoch = epoch::current_epoch(ctx)?.wrapping_add(1);
    let (rak, reks) = enclave_keys(ctx, &runtime, &status)?;
    secret.verify(status.next_generation(), next_epoch, &reks, &rak, ctx.blacklist())?;
    if !charge(ctx, GAS_OP_PUBLISH_MASTER_SECRET)? {
        return Ok(());
    }
    state::set_master_secret(&mut ctx.state(), &secret)?;
    ctx.emit(NAME, &MasterSecretPublishedEvent { secret: Some(secret) });
    Ok(())
}

/// Publishes the ephemeral secret of the next epoch.
///
/// # Errors
/// In this order: unknown runtime, no status, signer not in the committee, second secret in an epoch, unknown nodes,
/// wrong epoch, recipients or signature, gas.
pub fn publish_ephemeral_secret(ctx: &mut Context<'_>, secret: SignedEncryptedEphemeralSecret) -> Result<()> {
    let published = &secret.secret;
    let runtime = common::key_manager_runtime(ctx, &published.id)?;
    let status = committee_status(ctx, &runtime, "ephemeral secret")?;
    let last = state::ephemeral_secret(&ctx.state(), &published.id)?;
    if last.is_some_and(|l| l.secret.epoch == published.epoch) {
        return Err(Error::uncoded("keymanager: ephemeral secret can be proposed once per epoch"));
    }
    let next_epoch = epoch::current_epoch(ctx)?.wrapping_add(1);
    let (rak, reks) = enclave_keys(ctx, &runtime, &status)?;
    secret.verify(next_epoch, &reks, &rak, ctx.blacklist())?;
    if !charge(ctx, GAS_OP_PUBLISH_EPHEMERAL_SECRET)? {
        return Ok(());
    }
    state::set_ephemeral_secret(&mut ctx.state(), &secret)?;
    ctx.emit(NAME, &EphemeralSecretPublishedEvent { secret: Some(secret) });
    Ok(())
}
