//! Penalties for committee members that did not take part.

use apps_core::{Context, Result};
use base_prims::{Epoch, Namespace};
use wire_consensus::{
    registry::{FREEZE_FOREVER, Fault, NodeStatus},
    roothash::RuntimeState,
    scheduler::Role,
    staking::SlashReason,
};

use super::{slashing, state};
use crate::registry;

/// Failures until a node is frozen where the runtime sets none.
const DEFAULT_MAX_FAILURES: u8 = 255;
/// Suspensions stop growing after this many failures.
const MAX_SUSPENSION_EXPONENT: u8 = 6;

/// Evaluates the past epoch of all active compute runtimes before the next committees are elected.
pub(super) fn before_schedule(ctx: &mut Context<'_>, epoch: Epoch) -> Result<()> {
    for runtime in registry::state::runtimes(&ctx.state())? {
        if runtime.is_compute() {
            let rt = state::runtime_state(&ctx.state(), &runtime.id)?.ok_or_else(|| {
                apps_core::Error::from(&wire_consensus::errors::roothash::INVALID_RUNTIME).context("liveness")
            })?;
            evaluate(ctx, epoch, &rt)?;
        }
    }
    Ok(())
}

fn percent(value: u64, percentage: u8) -> u64 {
    value.wrapping_mul(u64::from(percentage)) / 100
}

fn evaluate(ctx: &mut Context<'_>, epoch: Epoch, rt: &RuntimeState) -> Result<()> {
    let (Some(committee), Some(_), Some(stats), false) =
        (&rt.committee, &rt.commitment_pool, &rt.liveness_stats, rt.suspended)
    else {
        return Ok(());
    };
    let executor = &rt.runtime.executor;
    if stats.total_rounds == 0 || stats.total_rounds < executor.min_live_rounds_for_evaluation {
        return Ok(());
    }
    let min_live = percent(stats.total_rounds, executor.min_live_rounds_percent);
    let max_failures = match executor.max_liveness_failures {
        0 => DEFAULT_MAX_FAILURES,
        n => n,
    };
    let slash = rt.runtime.staking.slashing.get(&SlashReason::RUNTIME_LIVENESS).cloned().unwrap_or_default();
    let id = &rt.runtime.id;

    for (i, member) in committee.members().iter().enumerate().take_while(|(_, m)| m.role == Role::WORKER) {
        let node = &member.public_key;
        let mut status = registry::state::node_status(&ctx.state(), node)?;
        if status.is_frozen() || status.is_suspended(id, epoch) {
            continue;
        }
        let counter = |list: &[u64]| list.get(i).copied().unwrap_or_default();
        let live = counter(&stats.live_rounds);
        let missed = counter(&stats.missed_proposals);
        let proposals = missed.wrapping_add(counter(&stats.finalized_proposals));
        let max_missed = match executor.max_missed_proposals_percent {
            0 => u64::MAX,
            p => percent(proposals, p),
        };
        if live >= min_live && missed <= max_missed {
            record_success(&mut status, id, epoch);
        } else if record_failure(&mut status, id, epoch) >= max_failures {
            // The end of a long freeze must not wrap around.
            status.freeze_end_time = epoch.checked_add(slash.freeze_interval).unwrap_or(FREEZE_FOREVER);
            slashing::on_liveness_failure(ctx, node, &slash.amount)?;
        }
        registry::state::set_node_status(&mut ctx.state(), node, &status)?;
    }
    Ok(())
}

/// Counts a failure in the epoch before `epoch`; returns how many there are now.
pub(super) fn record_failure(status: &mut NodeStatus, runtime: &Namespace, epoch: Epoch) -> u8 {
    let fault = status.faults.entry(*runtime).or_default();
    fault.failures = fault.failures.wrapping_add(1);
    suspend(fault, epoch);
    fault.failures
}

/// Takes a failure back after a good epoch.
pub(super) fn record_success(status: &mut NodeStatus, runtime: &Namespace, epoch: Epoch) {
    if let Some(fault) = status.faults.get_mut(runtime) {
        fault.failures = fault.failures.saturating_sub(1);
        suspend(fault, epoch);
        if fault.failures == 0 {
            status.faults.remove(runtime);
        }
    }
}

/// Suspends for a time that doubles with each failure, at most 64 epochs.
fn suspend(fault: &mut Fault, epoch: Epoch) {
    fault.suspended_until = match fault.failures {
        0 => 0,
        n => epoch.wrapping_add(1 << n.min(MAX_SUSPENSION_EXPONENT)),
    };
}
