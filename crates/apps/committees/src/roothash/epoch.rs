//! New committees: at epoch transitions and after extraordinary elections.

use apps_core::{Context, Error, Result, epoch};
use apps_staking::accumulator::StakeAccumulator;
use wire_consensus::{
    errors::staking as staking_codes,
    events::TypedEvent,
    registry::Runtime,
    roothash::{HeaderType, Parameters},
    scheduler::{Committee, CommitteeKind, ElectedEvent},
};

use super::{blocks, state};
use crate::{registry, scheduler};

/// Gives runtimes their new committees if there was an election.
pub(super) fn begin_block(ctx: &mut Context<'_>) -> Result<()> {
    if epoch::epoch_changed(ctx)?.is_none() && !ctx.has_event(scheduler::NAME, ElectedEvent::KIND) {
        return Ok(());
    }
    let params = state::parameters(&ctx.state())?;
    let mut stake = StakeAccumulator::new(&ctx.state())?;
    for runtime in registry::state::runtimes(&ctx.state())? {
        if runtime.is_compute() {
            change_committee(ctx, runtime, &params, &mut stake)?;
        }
    }
    Ok(())
}

fn change_committee(
    ctx: &mut Context<'_>,
    runtime: Runtime,
    params: &Parameters,
    stake: &mut StakeAccumulator,
) -> Result<()> {
    let id = runtime.id;
    let mut rt = state::runtime_state(&ctx.state(), &id)?
        .ok_or_else(|| Error::Uncoded(format!("roothash: no state of runtime {id}")))?;
    let round = rt.last_block.header.round;
    if round > params.max_evidence_age {
        state::remove_expired_evidence(&mut ctx.state(), &id, round - params.max_evidence_age)?;
    }
    let committee = scheduler::state::committee(&ctx.state(), CommitteeKind::COMPUTE_EXECUTOR, &id)?;
    match committee {
        Some(committee) if pays(ctx, &runtime, params, stake)? => {
            // Clients see by this block which state is final when committees change.
            blocks::append_empty(ctx, &mut rt, HeaderType::EPOCH_TRANSITION)?;
            rt.suspended = false;
            rt.committee = Some(committee);
        }
        // Nobody pays for the runtime's maintenance.
        Some(Committee { .. }) | None => {
            registry::state::suspend_runtime(ctx, &id)?;
            blocks::append_empty(ctx, &mut rt, HeaderType::SUSPENDED)?;
            rt.suspended = true;
            rt.committee = None;
        }
    }
    rt.liveness_stats = None;
    rt.runtime = runtime;
    state::set_runtime_state(&mut ctx.state(), &rt)
}

/// Whether the runtime's owner has the stake that it claims.
fn pays(ctx: &mut Context<'_>, runtime: &Runtime, params: &Parameters, stake: &mut StakeAccumulator) -> Result<bool> {
    if params.debug_do_not_suspend_runtimes || params.debug_bypass_stake {
        return Ok(true);
    }
    let owner = runtime.staking_address().ok_or_else(|| {
        let model = runtime.governance_model;
        Error::Uncoded(format!("roothash: unknown runtime governance model on runtime {}: {model}", runtime.id))
    })?;
    match stake.require_claims(&ctx.state(), &owner) {
        Ok(()) => Ok(true),
        Err(e) if e.is(&staking_codes::INSUFFICIENT_STAKE) => Ok(false),
        Err(e) => Err(e),
    }
}
