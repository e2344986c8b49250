//! Registration of runtimes. Source: `go/consensus/cometbft/apps/registry/transactions.go`, `go/registry/api`.

use std::collections::{BTreeMap, BTreeSet};

use apps_core::{Context, Error, Level, Message, Result, epoch};
use apps_staking::accumulator::{add_stake_claim, remove_stake_claim};
use base_prims::Epoch;
use wire_consensus::{
    errors::registry as codes,
    registry::{
        GAS_OP_REGISTER_RUNTIME, MIN_MAX_RUNTIME_DEPLOYMENTS, Parameters, Runtime, RuntimeGovernanceModel, RuntimeKind,
        RuntimeStartedEvent, VersionInfo, stake_claim_for_runtime,
    },
    tee::TeeHardware,
};

use super::{
    NAME, state,
    tee::check_constraints,
    verify::{Lookup, Rules, StateLookup, refused_with},
};

fn refused(text: &str) -> Error {
    refused_with(&codes::INVALID_ARGUMENT, text)
}

/// Checks a runtime descriptor by itself.
///
/// # Errors
/// Whatever the reference reports first.
pub(super) fn verify(rules: &Rules<'_>, runtime: &Runtime) -> Result<()> {
    let params = rules.params;
    let strict = !rules.genesis && !rules.sanity;
    runtime.validate_basic(strict, rules.allow_debug, rules.trust.blacklist).map_err(|e| refused(&e.0))?;
    if runtime.id.is_test() && !params.debug_allow_test_runtimes {
        return Err(refused("test runtime not allowed"));
    }
    if params.enable_runtime_governance_models.is_empty() {
        return Err(refused_with(&codes::FORBIDDEN, "no runtime governance models are enabled"));
    }
    let model = runtime.governance_model;
    if params.enable_runtime_governance_models.get(&model) != Some(&true) {
        return Err(refused_with(&codes::FORBIDDEN, &format!("runtime governance model is not enabled: {model}")));
    }
    if runtime.tee_hardware > TeeHardware::INTEL_SGX {
        return Err(refused("invalid TEE hardware"));
    }
    verify_deployments(runtime, params, rules.epoch, rules.tee.feature_26_1)?;
    if model == RuntimeGovernanceModel::RUNTIME && runtime.kind != RuntimeKind::COMPUTE {
        return Err(refused("runtime governance can only be used with compute runtimes"));
    }
    Ok(())
}

/// Checks a runtime's deployments: versions rise over time, and at most one is yet to come.
fn verify_deployments(runtime: &Runtime, params: &Parameters, now: Epoch, feature_26_1: bool) -> Result<()> {
    if runtime.deployments.is_empty() {
        return Err(refused("no deployments"));
    }
    if runtime.deployments.len() > usize::from(params.max_runtime_deployments.max(MIN_MAX_RUNTIME_DEPLOYMENTS)) {
        return Err(refused("too many deployments"));
    }
    let mut deployments: Vec<&VersionInfo> = runtime.deployments().collect();
    if deployments.len() != runtime.deployments.len() {
        return Err(refused("nil deployment"));
    }
    deployments.sort_by_key(|d| d.version.to_u64());

    let mut versions = BTreeSet::new();
    let mut previous: Option<&VersionInfo> = None;
    let mut future = 0;
    for deployment in deployments {
        if !versions.insert(deployment.version) {
            return Err(refused("duplicate version"));
        }
        if previous.is_some_and(|p| p.valid_from >= deployment.valid_from) {
            return Err(refused("versions must increase over time"));
        }
        previous = Some(deployment);
        if deployment.valid_from > now {
            future += 1;
        }
        match runtime.tee_hardware {
            TeeHardware::INVALID if deployment.tee.is_some() => {
                return Err(refused("TEE constraints when no TEE specified"));
            }
            TeeHardware::INVALID => {}
            TeeHardware::INTEL_SGX => check_constraints(deployment, params, feature_26_1)?,
            _ => return Err(refused("invalid TEE hardware")),
        }
        if !matches!(deployment.bundle_checksum.len(), 0 | 32) {
            return Err(refused("invalid bundle checksum"));
        }
    }
    if future > 1 {
        return Err(refused("more than one future deployment"));
    }
    Ok(())
}

/// Checks a compute runtime's key manager, if it has one.
///
/// # Errors
/// [`codes::NO_SUCH_RUNTIME`] or [`codes::INVALID_ARGUMENT`].
pub(super) fn verify_key_manager(lookup: &dyn Lookup, runtime: &Runtime) -> Result<()> {
    let Some(id) = &runtime.key_manager else { return Ok(()) };
    let manager = lookup.any_runtime(id)?.ok_or_else(|| Error::from(&codes::NO_SUCH_RUNTIME))?;
    if manager.kind != RuntimeKind::KEY_MANAGER {
        return Err((&codes::INVALID_ARGUMENT).into());
    }
    if !runtime.id.is_test() && runtime.tee_hardware != TeeHardware::INTEL_SGX {
        return Err(refused("compute runtime without SGX using key manager"));
    }
    Ok(())
}

/// Checks that a registered runtime may be changed to a new descriptor.
///
/// # Errors
/// [`codes::RUNTIME_UPDATE_NOT_ALLOWED`].
fn verify_update(rules: &Rules<'_>, current: &Runtime, new: &Runtime) -> Result<()> {
    let (entity, by_runtime) = (RuntimeGovernanceModel::ENTITY, RuntimeGovernanceModel::RUNTIME);
    let model_stays = current.governance_model == new.governance_model
        || (current.governance_model == entity && new.governance_model == by_runtime);
    let allowed = current.id == new.id
        && current.kind == new.kind
        && current.genesis == new.genesis
        && (current.key_manager.is_none() || current.key_manager == new.key_manager)
        && model_stays
        && (new.governance_model != by_runtime || new.kind == RuntimeKind::COMPUTE)
        && update_is_valid(rules, current)
        && update_is_valid(rules, new)
        && deployments_may_change(current, new, rules.epoch);
    if allowed { Ok(()) } else { Err((&codes::RUNTIME_UPDATE_NOT_ALLOWED).into()) }
}

fn update_is_valid(rules: &Rules<'_>, runtime: &Runtime) -> bool {
    verify_deployments(runtime, rules.params, rules.epoch, rules.tee.feature_26_1).is_ok()
}

/// Whether deployments may change so: what has begun stays, and nothing new begins at once.
fn deployments_may_change(current: &Runtime, new: &Runtime, now: Epoch) -> bool {
    let existing: BTreeMap<_, _> = current.deployments().map(|d| (d.version, d)).collect();
    let future_or_same = new.deployments().all(|deployment| {
        existing.get(&deployment.version).is_some_and(|old| old.same(deployment)) || deployment.valid_from > now
    });
    let active_stays = match (current.active_deployment(now), new.active_deployment(now)) {
        (Some(old), Some(new)) => old.same(new),
        (None, None) => true,
        _ => false,
    };
    future_or_same && active_stays
}

/// Checks who asks: the owner by the existing descriptor, or by the new one where none exists.
fn verify_caller(ctx: &Context<'_>, owner: &Runtime) -> Result<()> {
    let address = owner.staking_address().ok_or_else(|| Error::from(&codes::FORBIDDEN))?;
    if ctx.caller() == address {
        return Ok(());
    }
    Err(match owner.governance_model {
        RuntimeGovernanceModel::ENTITY => Error::from(&codes::INCORRECT_TX_SIGNER),
        RuntimeGovernanceModel::RUNTIME => Error::from(&codes::FORBIDDEN),
        _ => Error::from(&codes::INVALID_ARGUMENT),
    })
}

/// `registry.RegisterRuntime`, and the runtime message that updates a runtime. Returns the descriptor if it was set.
pub(super) fn register(ctx: &mut Context<'_>, runtime: Runtime) -> Result<Option<Runtime>> {
    let params = state::parameters(&ctx.state())?;
    if params.disable_runtime_registration {
        return Err((&codes::FORBIDDEN).into());
    }
    let now = epoch::of_state(&ctx.state())?.epoch;
    let rules = Rules::new(ctx, &params, now);
    verify(&rules, &runtime)?;
    if runtime.kind == RuntimeKind::KEY_MANAGER && params.disable_key_manager_runtime_registration {
        return Err((&codes::FORBIDDEN).into());
    }
    if runtime.is_compute() {
        verify_key_manager(&StateLookup(&ctx.state()), &runtime)?;
    }
    if ctx.is_check_only() {
        return Ok(None);
    }
    ctx.use_gas(1, GAS_OP_REGISTER_RUNTIME, &params.gas_costs)?;
    if ctx.is_simulation() {
        return Ok(None);
    }

    let active = state::runtime(&ctx.state(), &runtime.id)?;
    let (existing, suspended) = match active {
        Some(found) => (Some(found), false),
        None => match state::suspended_runtime(&ctx.state(), &runtime.id)? {
            Some(found) => (Some(found), true),
            None => (None, false),
        },
    };
    match &existing {
        Some(existing) => verify_update(&rules, existing, &runtime)?,
        None => {
            let immediate = rules.genesis || params.debug_deploy_immediately;
            if !immediate && runtime.active_deployment(now).is_some() {
                return Err((&codes::RUNTIME_UPDATE_NOT_ALLOWED).into());
            }
        }
    }
    if !ctx.is_init_chain() {
        verify_caller(ctx, existing.as_ref().unwrap_or(&runtime))?;
    }

    // The registry writes below the sub-transaction, which undoes stake claims and what other services did.
    let level = ctx.level();
    ctx.transaction(|ctx| {
        claim_stake(ctx, existing.as_ref(), &runtime)?;
        if existing.is_none() {
            ctx.dispatch(&Message::NewRuntimeRegistered(&runtime))?;
        }
        ctx.dispatch(&Message::RuntimeUpdated(&runtime))?;
        store(ctx, level, existing.as_ref(), &runtime, suspended)?;
        if !suspended {
            ctx.emit(NAME, &RuntimeStartedEvent { runtime: Some(runtime.clone()) });
        }
        Ok(())
    })?;
    Ok(Some(runtime))
}

fn claim_stake(ctx: &mut Context<'_>, existing: Option<&Runtime>, runtime: &Runtime) -> Result<()> {
    if apps_staking::state::parameters(&ctx.state())?.debug_bypass_stake {
        return Ok(());
    }
    let Some(owner) = runtime.staking_address() else { return Ok(()) };
    let claim = stake_claim_for_runtime(&runtime.id);
    add_stake_claim(ctx, &owner, &claim, &runtime.stake_thresholds())?;
    match existing.and_then(Runtime::staking_address) {
        Some(previous) if previous != owner => remove_stake_claim(ctx, &previous, &claim),
        _ => Ok(()),
    }
}

fn store(
    ctx: &mut Context<'_>,
    level: Level,
    existing: Option<&Runtime>,
    runtime: &Runtime,
    suspended: bool,
) -> Result<()> {
    let new_rules = ctx.is_feature_26_1();
    let mut kv = ctx.state_at(level);
    state::set_runtime(&mut kv, runtime, suspended)?;
    let previous = existing.map(|r| r.entity_id);
    // Before feature version 26.1 a former owner stayed in the index.
    if new_rules && let Some(previous) = previous.filter(|p| *p != runtime.entity_id) {
        state::remove_runtime_owner(&mut kv, &runtime.id, &previous)?;
    }
    if !new_rules || previous != Some(runtime.entity_id) {
        state::set_runtime_owner(&mut kv, &runtime.id, &runtime.entity_id)?;
    }
    Ok(())
}
