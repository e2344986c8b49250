//! Decision of rounds, at the end of blocks.

use std::collections::BTreeSet;

use apps_core::{Context, Error, Result};
use base_prims::{Namespace, PublicKey};
use wire_consensus::{
    roothash::{
        ExecutionDiscrepancyDetectedEvent, ExecutorCommitment, HeaderType, InMsgProcessedEvent, IncomingMessage,
        LivenessStatistics, RoundResults, RuntimeState, SchedulerCommitment, message::in_messages_hash, pool::Outcome,
    },
    scheduler::{Committee, Role},
    staking::SlashReason,
};

use super::{active_state, blocks, emit, messages, slashing, state, tx::PendingFinalization};
use crate::registry;

/// Backup workers get 15/10 of the round's timeout.
const BACKUP_TIMEOUT_NUMERATOR: i64 = 15;
/// See [`BACKUP_TIMEOUT_NUMERATOR`].
const BACKUP_TIMEOUT_DENOMINATOR: i64 = 10;

/// Tries to decide the rounds that got commitments in this block, then those whose time is up.
pub(super) fn end_block(ctx: &mut Context<'_>) -> Result<()> {
    let pending = std::mem::take(&mut ctx.block_data::<PendingFinalization>().0);
    for id in &pending {
        try_finalize(ctx, id, false)?;
    }
    let height = ctx.current_height();
    for id in state::timeouts_at(&ctx.state(), height)? {
        try_finalize(ctx, &id, true)?;
    }
    Ok(())
}

/// Tries to decide a runtime's round.
pub(super) fn try_finalize(ctx: &mut Context<'_>, id: &Namespace, timeout: bool) -> Result<()> {
    ctx.transaction(|ctx| {
        let mut rt = active_state(ctx, id)?;
        process(ctx, &mut rt, timeout)?;
        state::set_runtime_state(&mut ctx.state(), &rt)
    })
}

/// What `active_state` made sure of.
fn parts(rt: &mut RuntimeState) -> Result<(&mut wire_consensus::roothash::Pool, &Committee, &mut LivenessStatistics)> {
    let RuntimeState { commitment_pool: Some(pool), committee: Some(committee), liveness_stats, .. } = rt else {
        return Err(Error::Fatal("roothash: runtime without committee or pool".to_owned()));
    };
    let members = committee.members().len();
    Ok((pool, committee, liveness_stats.get_or_insert_with(|| LivenessStatistics::new(members))))
}

fn process(ctx: &mut Context<'_>, rt: &mut RuntimeState, mut timeout: bool) -> Result<()> {
    let round = rt.last_block.header.round.wrapping_add(1);
    let id = rt.runtime.id;
    let executor = rt.runtime.executor.clone();

    let (pool, committee, _) = parts(rt)?;
    let mut outcome = pool.process(committee, executor.allowed_stragglers, timeout);
    if outcome == Outcome::DiscrepancyDetected {
        let rank = pool.highest_rank;
        emit(ctx, &id, &ExecutionDiscrepancyDetectedEvent { round, rank, timeout });
        let grace = executor.round_timeout.wrapping_mul(BACKUP_TIMEOUT_NUMERATOR) / BACKUP_TIMEOUT_DENOMINATOR;
        let next = ctx.current_height().wrapping_add(grace);
        blocks::set_timeout(ctx, rt, next)?;
        // A timeout of no blocks is over at once.
        timeout = next == ctx.current_height();
        // Backup workers may have committed already.
        let (pool, committee, _) = parts(rt)?;
        outcome = pool.process(committee, executor.allowed_stragglers, timeout);
    }
    match outcome {
        Outcome::Finalized(sc) => finalize(ctx, rt, round, &sc),
        Outcome::StillWaiting => Ok(()),
        Outcome::Failed(_) => fail(ctx, rt, round),
        Outcome::DiscrepancyDetected => Err(Error::from(&wire_consensus::errors::commitment::DISCREPANCY_DETECTED)),
    }
}

/// Index among the members of the scheduler that was first in line.
fn first_scheduler(committee: &Committee, round: u64) -> Result<usize> {
    let first = committee.scheduler(round, 0);
    first
        .and_then(|f| committee.members().iter().position(|m| m.role == Role::WORKER && m.public_key == f.public_key))
        .ok_or_else(|| Error::Uncoded("roothash: no workers in the committee".to_owned()))
}

fn increment(counters: &mut [u64], index: usize) -> Result<()> {
    let out_of_range = || Error::Fatal("roothash: liveness statistics do not fit the committee".to_owned());
    let counter = counters.get_mut(index).ok_or_else(out_of_range)?;
    *counter = counter.wrapping_add(1);
    Ok(())
}

/// Ends the round without results.
fn fail(ctx: &mut Context<'_>, rt: &mut RuntimeState, round: u64) -> Result<()> {
    let (_, committee, stats) = parts(rt)?;
    increment(&mut stats.missed_proposals, first_scheduler(committee, round)?)?;
    blocks::append_empty(ctx, rt, HeaderType::ROUND_FAILED)
}

/// Ends the round with the results that enough nodes computed.
fn finalize(ctx: &mut Context<'_>, rt: &mut RuntimeState, round: u64, sc: &SchedulerCommitment) -> Result<()> {
    let commitment = sc
        .commitment
        .as_ref()
        .ok_or_else(|| Error::Fatal("roothash: votes without the scheduler's commitment".to_owned()))?;
    let id = rt.runtime.id;
    let results = &commitment.header.header;

    let (pool, committee, stats) = parts(rt)?;
    let discrepancy = pool.discrepancy;
    stats.total_rounds = stats.total_rounds.wrapping_add(1);
    let first = first_scheduler(committee, round)?;
    if committee.members().get(first).is_some_and(|m| m.public_key == commitment.header.scheduler_id) {
        increment(&mut stats.finalized_proposals, first)?;
    } else {
        increment(&mut stats.missed_proposals, first)?;
    }

    let count = results.in_messages_count;
    let processed = if count == 0 { Vec::new() } else { state::queue(&ctx.state(), &id, 0, count)? };
    if Some(in_messages_hash(&processed)) != results.in_messages_hash {
        // All nodes agree on messages that are not those in the queue.
        return fail(ctx, rt, round);
    }
    remove_processed(ctx, &id, round, &processed)?;
    let message_results = messages::deliver(ctx, &id, &commitment.messages)?;

    let (good, bad) = judge(ctx, rt, sc, commitment)?;
    if discrepancy
        && let Some(penalty) = rt.runtime.staking.slashing.get(&SlashReason::RUNTIME_INCORRECT_RESULTS)
        && !penalty.amount.is_zero()
    {
        slashing::on_incorrect_results(ctx, &bad, &good, &rt.runtime, &penalty.amount)?;
    }
    let round_results =
        RoundResults { messages: message_results, good_compute_entities: good, bad_compute_entities: bad };
    state::set_last_round_results(&mut ctx.state(), &id, &round_results)?;
    blocks::append_normal(ctx, rt, results)
}

fn remove_processed(ctx: &mut Context<'_>, id: &Namespace, round: u64, processed: &[IncomingMessage]) -> Result<()> {
    if processed.is_empty() {
        return Ok(());
    }
    let mut meta = state::queue_meta(&ctx.state(), id)?;
    for message in processed {
        state::remove_queued(&mut ctx.state(), id, message.id)?;
        meta.size = meta.size.checked_sub(1).ok_or_else(|| {
            Error::Fatal("roothash: incoming message queue has more messages than its size".to_owned())
        })?;
        let (caller, tag) = (message.caller, message.tag);
        emit(ctx, id, &InMsgProcessedEvent { id: message.id, round, caller, tag });
    }
    state::set_queue_meta(&mut ctx.state(), id, &meta)
}

/// Entities whose nodes computed the final results and those whose nodes computed others, in committee order.
fn judge(
    ctx: &mut Context<'_>,
    rt: &mut RuntimeState,
    sc: &SchedulerCommitment,
    commitment: &ExecutorCommitment,
) -> Result<(Vec<PublicKey>, Vec<PublicKey>)> {
    let (_, committee, stats) = parts(rt)?;
    let expected = commitment.to_vote();
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for (i, member) in committee.members().iter().enumerate() {
        let Some(Some(vote)) = sc.votes.get(&member.public_key) else { continue };
        // A node with several roles counts once.
        if !seen.insert(member.public_key) {
            continue;
        }
        // Nodes do not disappear within an epoch.
        let Some(node) = registry::state::node(&ctx.state(), &member.public_key)? else { continue };
        if *vote == expected {
            good.push(node.entity_id);
            increment(&mut stats.live_rounds, i)?;
        } else {
            bad.push(node.entity_id);
        }
    }
    Ok((good, bad))
}
