//! Where the fees of a block go. Source: `go/consensus/cometbft/apps/staking/{fees.go,state/gas.go}`.

use apps_core::{Context, Result};
use base_prims::{Address, PublicKey, Quantity};

use crate::{rewards::count, state};

/// Fees collected in the block.
#[derive(Default)]
pub(crate) struct BlockFees(pub(crate) Quantity);

/// Entity of the block's proposer.
#[derive(Default)]
pub(crate) struct BlockProposer(pub(crate) Option<PublicKey>);

/// Fees that the block's transactions have paid so far.
pub fn block_fees(ctx: &mut Context<'_>) -> Quantity {
    ctx.block_data::<BlockFees>().0.clone()
}

/// Pays `amount` out of the collected fees to an entity.
fn pay(ctx: &mut Context<'_>, to: &PublicKey, fees: &mut Quantity, amount: &Quantity) -> Result<()> {
    let address = Address::of_key(to);
    let mut account = state::account(&ctx.state(), &address)?;
    Quantity::transfer(&mut account.general.balance, fees, amount)?;
    state::set_account(&mut ctx.state(), &address, &account)?;
    emit(ctx, address, amount);
    Ok(())
}

fn pay_common_pool(ctx: &mut Context<'_>, rest: &Quantity) -> Result<()> {
    let mut pool = state::common_pool(&ctx.state())?;
    pool.add_assign(rest);
    state::set_common_pool(&mut ctx.state(), &pool)?;
    emit(ctx, Address::common_pool(), rest);
    Ok(())
}

fn emit(ctx: &mut Context<'_>, to: Address, amount: &Quantity) {
    let event = wire_consensus::staking::TransferEvent { from: Address::fee_accumulator(), to, amount: amount.clone() };
    ctx.emit(crate::NAME, &event);
}

/// At the end of a block: pays the proposer, and keeps the parts of the voters and the next proposer.
pub(crate) fn disburse_to_proposer(ctx: &mut Context<'_>) -> Result<()> {
    let mut fees = block_fees(ctx);
    if fees.is_zero() {
        return state::set_last_block_fees(&mut ctx.state(), &fees);
    }
    let params = state::parameters(&ctx.state())?;
    let kept_weight = params.fee_split_weight_vote.add(&params.fee_split_weight_next_propose);
    let total_weight = kept_weight.add(&params.fee_split_weight_propose);
    let kept = fees.mul(&kept_weight).quo(&total_weight)?;
    fees.sub_assign(&kept)?;
    state::set_last_block_fees(&mut ctx.state(), &kept)?;

    if fees.is_zero() {
        return Ok(());
    }
    match ctx.block_data::<BlockProposer>().0 {
        Some(proposer) => {
            let all = fees.clone();
            pay(ctx, &proposer, &mut fees, &all)
        }
        None => pay_common_pool(ctx, &fees),
    }
}

/// At the beginning of a block: pays what was kept of the last block's fees to its voters and this block's proposer.
pub(crate) fn disburse_kept(
    ctx: &mut Context<'_>,
    proposer: Option<&PublicKey>,
    validators: usize,
    voters: &[PublicKey],
) -> Result<()> {
    let mut fees = state::last_block_fees(&ctx.state())?;
    if fees.is_zero() {
        return Ok(());
    }
    let params = state::parameters(&ctx.state())?;
    let per_validator = fees.quo(&count(validators))?;
    let weight = params.fee_split_weight_vote.add(&params.fee_split_weight_next_propose);
    let share_proposer = per_validator.mul(&params.fee_split_weight_next_propose).quo(&weight)?;
    let share_vote = per_validator.sub(&share_proposer)?;

    let for_proposer = share_proposer.mul(&count(voters.len()));
    if let Some(proposer) = proposer
        && !for_proposer.is_zero()
    {
        pay(ctx, proposer, &mut fees, &for_proposer)?;
    }
    if !share_vote.is_zero() {
        for voter in voters {
            pay(ctx, voter, &mut fees, &share_vote)?;
        }
    }
    if fees.is_zero() { Ok(()) } else { pay_common_pool(ctx, &fees) }
}
