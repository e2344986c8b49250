//! Rewards from the common pool. Source: `go/consensus/cometbft/apps/staking/{*_rewards.go,state/state.go}`.

use apps_core::{Context, Error, Result, epoch, kv::KvRead};
use base_prims::{Address, EPOCH_INVALID, Epoch, PublicKey, Quantity};
use wire_consensus::staking::{
    Account, AddEscrowEvent, COMMISSION_RATE_DENOMINATOR, REWARD_AMOUNT_DENOMINATOR, RewardStep, TransferEvent,
};

use crate::{
    NAME,
    state::{self, pool_error},
};

/// The step of the reward schedule that is in force; absent behind its end.
fn active_step(schedule: Vec<RewardStep>, now: Epoch) -> Option<RewardStep> {
    schedule.into_iter().find(|step| now < step.until)
}

/// Commission and rest of an amount.
fn split_commission(kv: &dyn KvRead, account: &Account, now: Epoch, total: &Quantity) -> Result<(Quantity, Quantity)> {
    let rate = match account.escrow.commission_schedule.current_rate(now) {
        Some(rate) => rate.clone(),
        None => state::parameters(kv)?.commission_schedule_rules.min_commission_rate,
    };
    let commission = total.mul(&rate).quo(&COMMISSION_RATE_DENOMINATOR.into())?;
    let rest = total.sub(&commission)?;
    Ok((commission, rest))
}

fn emit_escrow(ctx: &mut Context<'_>, owner: Address, escrow: Address, amount: &Quantity, new_shares: Quantity) {
    ctx.emit(NAME, &AddEscrowEvent { owner, escrow, amount: amount.clone(), new_shares });
}

/// Deposits tokens of `source` as the account's own delegation; returns the shares.
fn deposit_own(
    ctx: &mut Context<'_>,
    address: &Address,
    account: &mut Account,
    source: &mut Quantity,
    amount: &Quantity,
) -> Result<Quantity> {
    let mut delegation = state::delegation(&ctx.state(), address, address)?;
    let shares = account.escrow.active.deposit(&mut delegation.shares, source, amount).map_err(pool_error)?;
    state::set_delegation(&mut ctx.state(), address, address, &delegation)?;
    Ok(shares)
}

/// Pays a reward into an account's escrow: the commission as shares of its own, the rest to all delegators.
fn pay(
    ctx: &mut Context<'_>,
    now: Epoch,
    address: &Address,
    account: &mut Account,
    pool: &mut Quantity,
    reward: &Quantity,
) -> Result<()> {
    let (commission, rest) = split_commission(&ctx.state(), account, now, reward)?;
    if !rest.is_zero() {
        Quantity::transfer(&mut account.escrow.active.balance, pool, &rest)?;
        emit_escrow(ctx, Address::common_pool(), *address, &rest, Quantity::ZERO);
    }
    if !commission.is_zero() {
        let shares = deposit_own(ctx, address, account, pool, &commission)?;
        ctx.emit(NAME, &TransferEvent { from: Address::common_pool(), to: *address, amount: commission.clone() });
        emit_escrow(ctx, *address, *address, &commission, shares);
    }
    Ok(())
}

/// Pays rewards in proportion to each account's active stake. What the common pool cannot pay is skipped.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable; others if the state is inconsistent.
pub fn add_rewards(ctx: &mut Context<'_>, now: Epoch, factor: &Quantity, addresses: &[Address]) -> Result<()> {
    let Some(step) = active_step(state::parameters(&ctx.state())?.reward_schedule, now) else { return Ok(()) };
    let mut pool = state::common_pool(&ctx.state())?;
    for address in addresses {
        let mut account = state::account(&ctx.state(), address)?;
        let reward =
            account.escrow.active.balance.mul(factor).mul(&step.scale).quo(&REWARD_AMOUNT_DENOMINATOR.into())?;
        if reward.is_zero() || reward > pool {
            continue;
        }
        pay(ctx, now, address, &mut account, &mut pool, &reward)?;
        state::set_account(&mut ctx.state(), address, &account)?;
    }
    state::set_common_pool(&mut ctx.state(), &pool)
}

/// Pays one reward, scaled by a fraction. Nothing is paid if the common pool cannot.
///
/// # Errors
/// If the fraction's denominator is zero while there is a reward schedule; otherwise as [`add_rewards`].
pub fn add_reward_single_attenuated(
    ctx: &mut Context<'_>,
    now: Epoch,
    factor: &Quantity,
    numerator: usize,
    denominator: usize,
    address: &Address,
) -> Result<()> {
    let Some(step) = active_step(state::parameters(&ctx.state())?.reward_schedule, now) else { return Ok(()) };
    let mut pool = state::common_pool(&ctx.state())?;
    let mut account = state::account(&ctx.state(), address)?;
    let reward = account
        .escrow
        .active
        .balance
        .mul(factor)
        .mul(&step.scale)
        .mul(&count(numerator))
        .quo(&REWARD_AMOUNT_DENOMINATOR.into())?
        .quo(&count(denominator))?;
    if reward.is_zero() || reward > pool {
        return Ok(());
    }
    pay(ctx, now, address, &mut account, &mut pool, &reward)?;
    state::set_account(&mut ctx.state(), address, &account)?;
    state::set_common_pool(&mut ctx.state(), &pool)
}

/// A number of things as a quantity.
pub(crate) fn count(n: usize) -> Quantity {
    u64::try_from(n).unwrap_or(u64::MAX).into()
}

/// Moves up to `amount` from the common pool to an account, or into its escrow. Returns whether anything was moved.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable; others if the pool of the account was slashed to nothing.
pub fn transfer_from_common(ctx: &mut Context<'_>, to: &Address, amount: &Quantity, escrow: bool) -> Result<bool> {
    let mut pool = state::common_pool(&ctx.state())?;
    let mut account = state::account(&ctx.state(), to)?;
    let transferred = Quantity::transfer_up_to(&mut account.general.balance, &mut pool, amount);
    if transferred.is_zero() {
        return Ok(false);
    }
    if escrow {
        escrow_transferred(ctx, to, &mut account, &transferred)?;
    } else {
        state::emit_transfer(ctx, Address::common_pool(), *to, &transferred);
    }
    state::set_common_pool(&mut ctx.state(), &pool)?;
    state::set_account(&mut ctx.state(), to, &account)?;
    Ok(true)
}

fn escrow_transferred(ctx: &mut Context<'_>, to: &Address, account: &mut Account, total: &Quantity) -> Result<()> {
    // Where nobody has shares there is nobody to share with: all is commission.
    let commission = if account.escrow.active.total_shares.is_zero() {
        total.clone()
    } else {
        let now = epoch::current_epoch(ctx)?;
        let (commission, rest) = split_commission(&ctx.state(), account, now, total)?;
        Quantity::transfer(&mut account.escrow.active.balance, &mut account.general.balance, &rest)?;
        if !ctx.is_check_only() {
            emit_escrow(ctx, Address::common_pool(), *to, &rest, Quantity::ZERO);
        }
        commission
    };
    if commission.is_zero() {
        return Ok(());
    }
    let mut source = std::mem::take(&mut account.general.balance);
    let shares = deposit_own(ctx, to, account, &mut source, &commission)?;
    account.general.balance = source;
    if !ctx.is_check_only() {
        state::emit_transfer(ctx, Address::common_pool(), *to, &commission);
        emit_escrow(ctx, *to, *to, &commission, shares);
    }
    Ok(())
}

/// Rewards the proposer of the block, in proportion to the votes that it included.
pub(crate) fn reward_proposer(
    ctx: &mut Context<'_>,
    proposer: Option<&PublicKey>,
    validators: usize,
    signers: usize,
) -> Result<()> {
    let Some(proposer) = proposer else { return Ok(()) };
    let factor = state::parameters(&ctx.state())?.reward_factor_block_proposed;
    let now = epoch::current_epoch(ctx)?;
    if now == EPOCH_INVALID {
        return Ok(());
    }
    add_reward_single_attenuated(ctx, now, &factor, signers, validators, &Address::of_key(proposer))
}

/// Counts who signed the block before.
pub(crate) fn count_signers(ctx: &mut Context<'_>, signers: &[PublicKey]) -> Result<()> {
    let mut signing = state::epoch_signing(&ctx.state())?;
    signing.update(signers)?;
    state::set_epoch_signing(&mut ctx.state(), &signing)
}

/// At a new epoch: rewards entities that signed enough of the last one's blocks.
pub(crate) fn reward_signers(ctx: &mut Context<'_>, now: Epoch) -> Result<()> {
    let params = state::parameters(&ctx.state())?;
    let signing = state::epoch_signing(&ctx.state())?;
    state::clear_epoch_signing(&mut ctx.state())?;
    if params.signing_reward_threshold_denominator == 0 || signing.total == 0 {
        return Ok(());
    }
    let eligible = signing
        .eligible_entities(params.signing_reward_threshold_numerator, params.signing_reward_threshold_denominator)?;
    let addresses: Vec<Address> = eligible.iter().map(Address::of_key).collect();
    add_rewards(ctx, now, &params.reward_factor_epoch_signed, &addresses)
        .map_err(|e: Error| e.context("staking: failed to add signing rewards"))
}
