//! Deposits of proposals: tokens that the staking ledger holds apart while votes are cast.

use apps_core::{Context, Result};
use apps_staking::{NAME, state as staking};
use base_prims::{Address, Quantity};
use wire_consensus::staking::TransferEvent;

fn report(ctx: &mut Context<'_>, from: Address, to: Address, amount: &Quantity) {
    if !ctx.is_check_only() {
        ctx.emit(NAME, &TransferEvent { from, to, amount: amount.clone() });
    }
}

/// Takes a deposit from an account.
///
/// # Errors
/// If the account holds less.
pub(super) fn take(ctx: &mut Context<'_>, from: &Address, amount: &Quantity) -> Result<()> {
    let kv = &mut ctx.state();
    let mut account = staking::account(kv, from)?;
    let mut deposits = staking::governance_deposits(kv)?;
    Quantity::transfer(&mut deposits, &mut account.general.balance, amount)?;
    staking::set_account(kv, from, &account)?;
    staking::set_governance_deposits(kv, &deposits)?;
    report(ctx, *from, Address::governance_deposits(), amount);
    Ok(())
}

/// Gives a deposit back to an account.
///
/// # Errors
/// If less is held.
pub(super) fn give_back(ctx: &mut Context<'_>, to: &Address, amount: &Quantity) -> Result<()> {
    let kv = &mut ctx.state();
    let mut account = staking::account(kv, to)?;
    let mut deposits = staking::governance_deposits(kv)?;
    Quantity::transfer(&mut account.general.balance, &mut deposits, amount)?;
    staking::set_account(kv, to, &account)?;
    staking::set_governance_deposits(kv, &deposits)?;
    report(ctx, Address::governance_deposits(), *to, amount);
    Ok(())
}

/// Moves a deposit into the common pool.
///
/// # Errors
/// If less is held.
pub(super) fn discard(ctx: &mut Context<'_>, amount: &Quantity) -> Result<()> {
    let kv = &mut ctx.state();
    let mut pool = staking::common_pool(kv)?;
    let mut deposits = staking::governance_deposits(kv)?;
    Quantity::transfer(&mut pool, &mut deposits, amount)?;
    staking::set_governance_deposits(kv, &deposits)?;
    staking::set_common_pool(kv, &pool)?;
    report(ctx, Address::governance_deposits(), Address::common_pool(), amount);
    Ok(())
}
