//! Penalties. Source: `go/consensus/cometbft/apps/staking/{slashing.go,state/state.go}`.

use apps_core::{Context, Result, epoch};
use base_prims::{Address, Quantity};
use wire_consensus::{
    registry::FREEZE_FOREVER,
    staking::{SharePool, SlashReason, TakeEscrowEvent},
};

use crate::{NAME, nodes, state};

/// Takes a pool's part of a penalty that two pools share by their balances; returns what was taken.
fn slash_pool(pool: &mut SharePool, amount: &Quantity, total: &Quantity) -> Quantity {
    let Ok(part) = pool.balance.mul(amount).quo(total) else { return Quantity::ZERO };
    pool.balance.sub_up_to(&part)
}

/// Takes stake from an account's active and debonding pools into the common pool, and returns how much was taken.
///
/// # Errors
/// [`apps_core::Error::Fatal`] if the state is unavailable.
pub fn slash_escrow(ctx: &mut Context<'_>, from: &Address, amount: &Quantity) -> Result<Quantity> {
    let mut pool = state::common_pool(&ctx.state())?;
    let mut account = state::account(&ctx.state(), from)?;

    let total = account.escrow.active.balance.add(&account.escrow.debonding.balance);
    let active = slash_pool(&mut account.escrow.active, amount, &total);
    let debonding = slash_pool(&mut account.escrow.debonding, amount, &total);
    let slashed = active.add(&debonding);
    if slashed.is_zero() {
        return Ok(slashed);
    }
    pool.add_assign(&slashed);

    state::set_common_pool(&mut ctx.state(), &pool)?;
    state::set_account(&mut ctx.state(), from, &account)?;
    if !ctx.is_check_only() {
        let event = TakeEscrowEvent { owner: *from, amount: slashed.clone(), debonding_amount: debonding };
        ctx.emit(NAME, &event);
    }
    Ok(slashed)
}

/// Freezes a validator that misbehaved and slashes its entity, unless it is unknown or frozen already.
pub(crate) fn on_misbehavior(ctx: &mut Context<'_>, reason: SlashReason, address: &[u8]) -> Result<()> {
    // Expired nodes stay known for the debonding interval, so that they do not escape.
    let Some(node) = nodes::node_by_consensus_address(&ctx.state(), address)? else { return Ok(()) };
    let Some(mut status) = nodes::find_node_status(&ctx.state(), &node.id)? else { return Ok(()) };
    if status.is_frozen() {
        return Ok(());
    }
    let penalty = state::slashing(&ctx.state())?.remove(&reason).unwrap_or_default();
    if penalty.freeze_interval > 0 {
        let now = epoch::last_epoch(ctx)?;
        status.freeze_end_time = now.checked_add(penalty.freeze_interval).unwrap_or(FREEZE_FOREVER);
    }
    slash_escrow(ctx, &Address::of_key(&node.entity_id), &penalty.amount)?;
    nodes::set_node_status(&mut ctx.state(), &node.id, &status)
}
