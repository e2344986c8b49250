//! New runtime blocks and their timeouts.

use apps_core::{Context, Result};
use base_prims::Namespace;
use wire_consensus::roothash::{
    Block, ComputeResultsHeader, FinalizedEvent, HeaderType, Pool, RuntimeState, TIMEOUT_NEVER,
};

use super::{emit, state};

/// The block's time in seconds since 1970, as runtime headers carry it.
pub(super) fn now(ctx: &Context<'_>) -> u64 {
    ctx.now().seconds().cast_unsigned()
}

/// Appends a block that leaves the runtime's state as it is; clears the timeout and starts a fresh pool (none for a
/// suspension).
pub(super) fn append_empty(ctx: &mut Context<'_>, rt: &mut RuntimeState, header_type: HeaderType) -> Result<()> {
    let block = Block::empty_after(&rt.last_block, now(ctx), header_type);
    append(ctx, rt, block)
}

/// Appends a block with a round's results.
pub(super) fn append_normal(
    ctx: &mut Context<'_>,
    rt: &mut RuntimeState,
    results: &ComputeResultsHeader,
) -> Result<()> {
    let mut block = Block::empty_after(&rt.last_block, now(ctx), HeaderType::NORMAL);
    let header = &mut block.header;
    // Commitments in the pool that do not indicate a failure have all four.
    header.io_root = results.io_root.unwrap_or_default();
    header.state_root = results.state_root.unwrap_or_default();
    header.messages_hash = results.messages_hash.unwrap_or_default();
    header.in_messages_hash = results.in_messages_hash.unwrap_or_default();
    rt.last_normal_round = header.round;
    rt.last_normal_height = ctx.current_height();
    append(ctx, rt, block)
}

fn append(ctx: &mut Context<'_>, rt: &mut RuntimeState, block: Block) -> Result<()> {
    let round = block.header.round;
    let suspended = block.header.header_type == HeaderType::SUSPENDED;
    rt.last_block = block;
    rt.last_block_height = ctx.current_height();
    emit(ctx, &rt.runtime.id, &FinalizedEvent { round });
    rt.commitment_pool = (!suspended).then(Pool::new);
    // Schedulers may take as long as they like to begin the next round.
    set_timeout(ctx, rt, TIMEOUT_NEVER)
}

/// Moves the runtime's timeout to a height.
pub(super) fn set_timeout(ctx: &mut Context<'_>, rt: &mut RuntimeState, next: i64) -> Result<()> {
    let previous = std::mem::replace(&mut rt.timeout, next);
    rearm(ctx, &rt.runtime.id, previous, next)
}

fn rearm(ctx: &mut Context<'_>, id: &Namespace, previous: i64, next: i64) -> Result<()> {
    if previous == next {
        return Ok(());
    }
    if previous != TIMEOUT_NEVER {
        state::clear_timeout(&mut ctx.state(), id, previous)?;
    }
    if next != TIMEOUT_NEVER {
        state::schedule_timeout(&mut ctx.state(), id, next)?;
    }
    Ok(())
}
