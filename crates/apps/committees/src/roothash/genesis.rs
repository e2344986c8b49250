//! The first state of the service, and of each runtime.

use apps_core::{Context, Result};
use wire_consensus::{
    registry::Runtime,
    roothash::{Block, FinalizedEvent, Genesis, HeaderType, RoundResults, RuntimeState, TIMEOUT_NEVER},
};

use super::{blocks, emit, state};
use crate::registry;

/// Writes parameters and the state of all compute runtimes in the registry.
pub(super) fn init_chain(ctx: &mut Context<'_>, doc: &Genesis) -> Result<()> {
    state::set_parameters(&mut ctx.state(), &doc.parameters)?;
    for runtime in registry::state::runtimes(&ctx.state())? {
        new_runtime(ctx, &runtime, Some((doc, false)))?;
    }
    for runtime in registry::state::suspended_runtimes(&ctx.state())? {
        new_runtime(ctx, &runtime, Some((doc, true)))?;
    }
    Ok(())
}

/// Writes the first state of a compute runtime, unless it has one. `genesis` is the genesis document and whether the
/// runtime is suspended there.
pub(super) fn new_runtime(ctx: &mut Context<'_>, runtime: &Runtime, genesis: Option<(&Genesis, bool)>) -> Result<()> {
    if !runtime.is_compute() || state::runtime_state(&ctx.state(), &runtime.id)?.is_some() {
        return Ok(());
    }
    let mut block = Block::genesis(runtime.id, blocks::now(ctx));
    block.header.round = runtime.genesis.round;
    block.header.state_root = runtime.genesis.state_root;
    if let Some((doc, suspended)) = genesis
        && let Some(continued) = doc.runtime_states.get(&runtime.id)
    {
        block.header.round = continued.genesis.round;
        block.header.state_root = continued.genesis.state_root;
        if suspended {
            block.header.header_type = HeaderType::SUSPENDED;
        }
        let results = RoundResults { messages: continued.message_results.clone(), ..RoundResults::default() };
        state::set_last_round_results(&mut ctx.state(), &runtime.id, &results)?;
    }
    let (round, height) = (block.header.round, ctx.current_height());
    let rt = RuntimeState {
        runtime: runtime.clone(),
        suspended: true,
        genesis_block: block.clone(),
        last_block: block,
        last_block_height: height,
        last_normal_round: round,
        last_normal_height: height,
        timeout: TIMEOUT_NEVER,
        ..RuntimeState::default()
    };
    state::set_runtime_state(&mut ctx.state(), &rt)?;
    emit(ctx, &runtime.id, &FinalizedEvent { round });
    Ok(())
}
