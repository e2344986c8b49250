//! Transactions of secret sharing. Gas is charged first, also in checks for the pool.

use apps_core::{Context, Error, Result, epoch};
use apps_staking::{accumulator::add_stake_claim, state as staking};
use base_prims::{Address, Epoch, PublicKey};
use wire_consensus::{
    churp::{
        Application, CreateEvent, CreateRequest, GAS_OP_APPLY, GAS_OP_CONFIRM, GAS_OP_CREATE, GAS_OP_UPDATE,
        HANDOFFS_DISABLED, Identity, SignedApplicationRequest, SignedConfirmationRequest, SignedPolicySgx, Status,
        UpdateEvent, UpdateRequest, stake_claim,
    },
    errors,
    node::Roles,
    registry::Runtime,
    staking::{StakeThreshold, ThresholdKind},
};

use super::{
    handoff::{self, Moment},
    state,
};
use crate::{NAME, common};

fn uncoded(text: &str) -> Error {
    Error::Uncoded(format!("keymanager: churp: {text}"))
}

fn invalid_config(e: impl std::fmt::Display) -> Error {
    uncoded(&format!("invalid config: {e}"))
}

/// Charges for a method. Whether to go on: not in simulations.
fn charge(ctx: &mut Context<'_>, op: &str) -> Result<bool> {
    let params = state::parameters(&ctx.state())?;
    ctx.use_gas(1, op, &params.gas_costs)?;
    Ok(!ctx.is_simulation())
}

/// Before release 26.1 policies say nothing of queries.
fn check_policy(ctx: &Context<'_>, policy: Option<&SignedPolicySgx>) -> Result<()> {
    if !ctx.is_feature_26_1() && policy.is_some_and(|p| p.policy.may_query.is_some()) {
        return Err(Error::from(&errors::registry::INVALID_ARGUMENT));
    }
    Ok(())
}

/// The key manager of an instance, whose entity must have signed the transaction.
fn owned_runtime(ctx: &mut Context<'_>, identity: &Identity) -> Result<Runtime> {
    let runtime = common::key_manager_runtime(ctx, &identity.runtime_id)?;
    if runtime.entity_id != ctx.tx_signer() {
        return Err(uncoded("invalid signer"));
    }
    Ok(runtime)
}

fn existing_status(ctx: &mut Context<'_>, identity: &Identity) -> Result<Status> {
    state::status(&ctx.state(), identity)?.ok_or_else(|| uncoded(&format!("non-existing ID: {}", identity.id)))
}

/// The first epoch for which nodes can still apply.
fn compute_next_handoff(ctx: &mut Context<'_>) -> Result<Epoch> {
    Ok(epoch::current_epoch(ctx)?.wrapping_add(1))
}

fn store(ctx: &mut Context<'_>, status: Status) -> Result<()> {
    state::set_status(&mut ctx.state(), &status)?;
    ctx.emit(NAME, &UpdateEvent { status: Some(status) });
    Ok(())
}

/// Creates an instance.
///
/// # Errors
/// In this order: `registry/1` for a policy of a later release, gas, unknown runtime, signer is not its entity, instance
/// exists, malformed configuration, bad policy, `staking/4` for lack of stake.
pub fn create(ctx: &mut Context<'_>, req: &CreateRequest) -> Result<()> {
    check_policy(ctx, Some(&req.policy))?;
    if !charge(ctx, GAS_OP_CREATE)? {
        return Ok(());
    }
    let runtime = owned_runtime(ctx, &req.identity)?;
    if state::status(&ctx.state(), &req.identity)?.is_some() {
        return Err(invalid_config("ID must be unique"));
    }
    req.validate_basic().map_err(invalid_config)?;
    req.policy.verify(None, ctx.blacklist()).map_err(invalid_config)?;
    let next_handoff = match req.handoff_interval {
        0 => HANDOFFS_DISABLED,
        _ => compute_next_handoff(ctx)?,
    };
    if ctx.is_check_only() {
        return Ok(());
    }
    ctx.transaction(|ctx| {
        claim_stake(ctx, &runtime, &req.identity)?;
        let status = Status {
            identity: req.identity,
            suite_id: req.suite_id,
            threshold: req.threshold,
            extra_shares: req.extra_shares,
            handoff_interval: req.handoff_interval,
            policy: req.policy.clone(),
            next_handoff,
            ..Status::default()
        };
        state::set_status(&mut ctx.state(), &status)?;
        ctx.emit(NAME, &CreateEvent { status: Some(status) });
        Ok(())
    })
}

/// Makes the key manager's entity answer for an instance with its stake.
fn claim_stake(ctx: &mut Context<'_>, runtime: &Runtime, identity: &Identity) -> Result<()> {
    if staking::parameters(&ctx.state())?.debug_bypass_stake {
        return Ok(());
    }
    let claim = stake_claim(&identity.runtime_id, identity.id);
    let thresholds = [StakeThreshold { global: Some(ThresholdKind::KEY_MANAGER_CHURP), constant: None }];
    add_stake_claim(ctx, &Address::of_key(&runtime.entity_id), &claim, &thresholds)
        .map_err(|e| e.context("keymanager: churp: insufficient stake"))
}

/// Changes an instance.
///
/// # Errors
/// In this order: `registry/1` for a policy of a later release, gas, unknown runtime, signer is not its entity, no such
/// instance, malformed configuration, bad policy.
pub fn update(ctx: &mut Context<'_>, req: &UpdateRequest) -> Result<()> {
    check_policy(ctx, req.policy.as_ref())?;
    if !charge(ctx, GAS_OP_UPDATE)? {
        return Ok(());
    }
    owned_runtime(ctx, &req.identity)?;
    let mut status = existing_status(ctx, &req.identity)?;
    req.validate_basic().map_err(invalid_config)?;
    if let Some(extra_shares) = req.extra_shares {
        status.extra_shares = extra_shares;
    }
    if let Some(interval) = req.handoff_interval {
        if interval == 0 {
            handoff::reset(&mut status, HANDOFFS_DISABLED);
        } else if status.handoffs_disabled() {
            status.next_handoff = compute_next_handoff(ctx)?;
        }
        status.handoff_interval = interval;
    }
    if let Some(policy) = &req.policy {
        policy.verify(Some(&status.policy.policy), ctx.blacklist()).map_err(invalid_config)?;
        status.policy = policy.clone();
    }
    if ctx.is_check_only() {
        return Ok(());
    }
    store(ctx, status)
}

/// The instance of a request for a handoff, if it has handoffs.
fn status_for_handoff(ctx: &mut Context<'_>, identity: &Identity) -> Result<(Runtime, Status)> {
    let runtime = common::key_manager_runtime(ctx, &identity.runtime_id)?;
    let status = existing_status(ctx, identity)?;
    if status.handoffs_disabled() {
        return Err(uncoded("handoffs disabled"));
    }
    Ok((runtime, status))
}

fn check_handoff(status: &Status, epoch: Epoch) -> Result<()> {
    if status.next_handoff != epoch {
        return Err(uncoded(&format!("invalid handoff: got {epoch}, expected {}", status.next_handoff)));
    }
    Ok(())
}

/// Applies for the committee of the next handoff.
///
/// # Errors
/// In this order: gas, unknown runtime or instance, handoffs disabled, not the epoch before the handoff, other handoff,
/// second application, node not able to take part, bad signature.
pub fn apply(ctx: &mut Context<'_>, req: &SignedApplicationRequest) -> Result<()> {
    if !charge(ctx, GAS_OP_APPLY)? {
        return Ok(());
    }
    let (runtime, mut status) = status_for_handoff(ctx, &req.application.identity)?;
    let now = epoch::current_epoch(ctx)?;
    if status.next_handoff != now.wrapping_add(1) {
        return Err(uncoded("submissions closed"));
    }
    check_handoff(&status, req.application.epoch)?;
    let node = ctx.tx_signer();
    if status.applications.contains_key(&node) {
        return Err(uncoded("application already submitted"));
    }
    let rak = attestation_key(ctx, &node, now, &runtime)?;
    req.verify_rak(&rak, ctx.blacklist()).map_err(|e| uncoded(&format!("invalid signature: {e}")))?;
    if ctx.is_check_only() {
        return Ok(());
    }
    status.applications.insert(node, Application { checksum: req.application.checksum, reconstructed: false });
    store(ctx, status)
}

/// Confirms that the signer's enclave has reconstructed its share. The last confirmation completes the handoff.
///
/// # Errors
/// In this order: gas, unknown runtime or instance, handoffs disabled, not the epoch of the handoff, other handoff, no
/// application, second confirmation, other checksum than the first one's, node not able to take part, bad signature.
pub fn confirm(ctx: &mut Context<'_>, req: &SignedConfirmationRequest) -> Result<()> {
    if !charge(ctx, GAS_OP_CONFIRM)? {
        return Ok(());
    }
    let request = &req.confirmation;
    let (runtime, mut status) = status_for_handoff(ctx, &request.identity)?;
    let now = epoch::current_epoch(ctx)?;
    if status.next_handoff != now {
        return Err(uncoded("confirmations closed"));
    }
    check_handoff(&status, request.epoch)?;
    let node = ctx.tx_signer();
    let application = status.applications.get_mut(&node).ok_or_else(|| uncoded("application not found"))?;
    if application.reconstructed {
        return Err(uncoded("confirmation already submitted"));
    }
    application.reconstructed = true;
    let expected = *status.next_checksum.get_or_insert(request.checksum);
    if expected != request.checksum {
        return Err(uncoded(&format!("checksum mismatch: got {}, expected {expected}", request.checksum)));
    }
    let rak = attestation_key(ctx, &node, now, &runtime)?;
    req.verify_rak(&rak, ctx.blacklist()).map_err(|e| uncoded(&format!("invalid signature: {e}")))?;
    if ctx.is_check_only() {
        return Ok(());
    }
    handoff::try_finalize(&mut status, Moment::InEpoch);
    store(ctx, status)
}

/// The signing key of a node's enclave.
///
/// # Errors
/// `registry/10` if there is no such node; uncoded if it is expired or no key manager, or lacks the hardware.
fn attestation_key(ctx: &mut Context<'_>, id: &PublicKey, now: Epoch, runtime: &Runtime) -> Result<PublicKey> {
    let node = common::node(ctx, id)?;
    if node.is_expired(now) {
        return Err(uncoded("node registration expired"));
    }
    if !node.has_roles(Roles::KEY_MANAGER) {
        return Err(uncoded("node not key manager"));
    }
    let entry = common::node_runtime(&node, &runtime.id)?;
    common::attestation_key(entry, runtime).map_err(|e| e.context("keymanager: churp: failed to fetch node's rak"))
}
