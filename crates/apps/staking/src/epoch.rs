//! Rules of blocks and epochs. Source: `go/consensus/cometbft/apps/staking/staking.go`.

use apps_core::{Context, Error, Result, epoch};
use base_prims::{Epoch, PublicKey, Quantity};
use comet_chain::app::MisbehaviorKind;
use wire_consensus::staking::{ReclaimEscrowEvent, SlashReason};

use crate::{
    NAME,
    fees::{self, BlockProposer},
    nodes, rewards, slashing,
    state::{self, DebondingQueueEntry, pool_error},
};

/// Fees of the last block, rewards, and penalties for proven misbehaviour.
pub(crate) fn begin_block(ctx: &mut Context<'_>) -> Result<()> {
    let address = ctx.block().proposer_address.clone();
    let proposer = nodes::node_by_consensus_address(&ctx.state(), &address)?.map(|n| n.entity_id);
    let votes = ctx.block().last_commit.votes.clone();
    let mut voters: Vec<PublicKey> = Vec::with_capacity(votes.len());
    for vote in votes.iter().filter(|v| v.signed_last_block) {
        if let Some(node) = nodes::node_by_consensus_address(&ctx.state(), &vote.address.0)? {
            voters.push(node.entity_id);
        }
    }

    fees::disburse_kept(ctx, proposer.as_ref(), votes.len(), &voters)
        .map_err(|e| e.context("disburse fees voters and next proposer"))?;
    ctx.block_data::<BlockProposer>().0 = proposer;
    rewards::reward_proposer(ctx, proposer.as_ref(), votes.len(), voters.len())
        .map_err(|e| e.context("staking: block proposing reward"))?;
    rewards::count_signers(ctx, &voters)?;

    for item in ctx.block().misbehavior.clone() {
        let reason = match item.kind {
            MisbehaviorKind::DuplicateVote => SlashReason::CONSENSUS_EQUIVOCATION,
            MisbehaviorKind::LightClientAttack => SlashReason::CONSENSUS_LIGHT_CLIENT_ATTACK,
        };
        slashing::on_misbehavior(ctx, reason, &item.address.0)?;
    }
    Ok(())
}

/// Fees of this block; at a new epoch debonded stake and rewards.
pub(crate) fn end_block(ctx: &mut Context<'_>) -> Result<()> {
    fees::disburse_to_proposer(ctx).map_err(|e| e.context("disburse fees proposer"))?;
    let Some(now) = epoch::epoch_changed(ctx)? else { return Ok(()) };
    release_debonded(ctx, now)?;
    rewards::reward_signers(ctx, now)
}

fn release_debonded(ctx: &mut Context<'_>, now: Epoch) -> Result<()> {
    for entry in state::expired_debonding_queue(&ctx.state(), now)? {
        release(ctx, &entry).map_err(|e: Error| e.context("staking: failed to redeem debonding shares"))?;
    }
    Ok(())
}

fn release(ctx: &mut Context<'_>, entry: &DebondingQueueEntry) -> Result<()> {
    let DebondingQueueEntry { epoch, delegator, escrow, delegation } = entry;
    let shares = delegation.shares.clone();
    let mut pool_owner = state::account(&ctx.state(), escrow)?;
    let (mut amount, mut left) = (Quantity::ZERO, shares.clone());
    pool_owner.escrow.debonding.withdraw(&mut amount, &mut left, &shares).map_err(pool_error)?;

    state::remove_from_debonding_queue(&mut ctx.state(), *epoch, delegator, escrow)?;
    state::remove_debonding_delegation(&mut ctx.state(), delegator, escrow, delegation.debond_end_time)?;
    if delegator == escrow {
        pool_owner.general.balance.add_assign(&amount);
    } else {
        let mut owner = state::account(&ctx.state(), delegator)?;
        owner.general.balance.add_assign(&amount);
        state::set_account(&mut ctx.state(), delegator, &owner)?;
    }
    state::set_account(&mut ctx.state(), escrow, &pool_owner)?;
    ctx.emit(NAME, &ReclaimEscrowEvent { owner: *delegator, escrow: *escrow, amount, shares });
    Ok(())
}
