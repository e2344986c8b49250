//! What governance does when the epoch changes: stop for upgrades, close proposals.

use std::collections::BTreeMap;

use apps_core::{Context, Error, Message, Result, epoch};
use apps_staking::state as staking;
use base_prims::{Address, Quantity};
use wire_consensus::{
    errors::{governance as codes, upgrade as upgrade_codes},
    governance::{
        ChangeParametersProposal, Parameters, Proposal, ProposalExecutedEvent, ProposalFinalizedEvent, ProposalState,
        Vote, VoteEntry,
    },
    staking::SharePool,
    upgrade::STAGE_STARTUP,
};

use super::{NAME, deposits, state, tx};
use crate::upgrade::Upgrades;

/// At a new epoch: if an upgrade is due, makes sure that it is under way on this node, and forgets it.
///
/// # Errors
/// `upgrade/1` if the node has to stop because it cannot follow the upgrade.
pub fn begin_block(ctx: &mut Context<'_>, upgrades: Option<&Upgrades>) -> Result<()> {
    let Some(epoch) = epoch::epoch_changed(ctx)? else { return Ok(()) };
    let pending = state::pending_upgrades(&ctx.state())?;
    let Some(due) = pending.iter().find(|u| u.epoch == epoch) else { return Ok(()) };
    if let Some(upgrades) = upgrades
        && !upgrades.get(due).is_some_and(|p| p.has_stage(STAGE_STARTUP))
    {
        return Err(Error::from(&upgrade_codes::STOP_FOR_UPGRADE));
    }
    state::remove_pending_upgrades_at(&mut ctx.state(), epoch)
}

/// At a new epoch: closes the proposals whose voting ends with it.
///
/// # Errors
/// Any error is fatal for the block: votes that exceed the stake, deposits that are missing.
pub fn end_block(ctx: &mut Context<'_>, upgrades: Option<&Upgrades>) -> Result<()> {
    let Some(epoch) = epoch::epoch_changed(ctx)? else { return Ok(()) };
    let mut closing = state::active_proposals(&ctx.state())?;
    closing.retain(|p| p.closes_at == epoch);
    if closing.is_empty() {
        return Ok(());
    }
    let (total, pools) = validator_pools(ctx)?;
    if total.is_zero() {
        return Err(Error::uncoded("governance: total voting stake is zero"));
    }
    for mut proposal in closing {
        let params = state::parameters(&ctx.state())?;
        let votes = state::votes(&ctx.state(), proposal.id)?;
        let delegations = delegations_of(ctx, &votes)?;
        let tally = tally(&pools, &votes, &delegations)?;
        proposal.results = Some(tally.results);
        proposal.invalid_votes = proposal.invalid_votes.wrapping_add(tally.invalid_votes);
        proposal.close(&total, params.stake_threshold)?;
        if proposal.state == ProposalState::PASSED
            && let Err(e) = execute(ctx, upgrades, &proposal)
        {
            if e.is_fatal() {
                return Err(e);
            }
            proposal.state = ProposalState::FAILED;
        }
        finalize(ctx, &proposal)?;
    }
    Ok(())
}

/// Stores a decided proposal and settles its deposit.
fn finalize(ctx: &mut Context<'_>, proposal: &Proposal) -> Result<()> {
    state::set_proposal(&mut ctx.state(), proposal)?;
    state::remove_active_proposal(&mut ctx.state(), proposal)?;
    ctx.emit(NAME, &ProposalFinalizedEvent { id: proposal.id, state: proposal.state });
    if proposal.state == ProposalState::REJECTED {
        deposits::discard(ctx, &proposal.deposit)
    } else {
        deposits::give_back(ctx, &proposal.submitter, &proposal.deposit)
    }
}

/// Total active stake of the validators' entities, and the pool of each.
fn validator_pools(ctx: &mut Context<'_>) -> Result<(Quantity, BTreeMap<Address, SharePool>)> {
    let validators = apps_committees::scheduler::state::current_validators(&ctx.state())?;
    let mut total = Quantity::ZERO;
    let mut pools = BTreeMap::new();
    for v in validators.values() {
        let entity = Address::of_key(&v.entity_id);
        if pools.contains_key(&entity) {
            continue;
        }
        let pool = staking::account(&ctx.state(), &entity)?.escrow.active;
        total.add_assign(&pool.balance);
        pools.insert(entity, pool);
    }
    Ok((total, pools))
}

/// By voter and escrow account: shares.
type Delegations = BTreeMap<Address, BTreeMap<Address, Quantity>>;

fn delegations_of(ctx: &mut Context<'_>, votes: &[VoteEntry]) -> Result<Delegations> {
    votes
        .iter()
        .map(|v| {
            let outgoing = staking::delegations_for(&ctx.state(), &v.voter)?;
            Ok((v.voter, outgoing.into_iter().map(|(to, d)| (to, d.shares)).collect()))
        })
        .collect()
}

/// Counted votes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tally {
    /// Stake for each vote that was cast, be it zero.
    pub(super) results: BTreeMap<Vote, Quantity>,
    /// Votes of those who delegate to no validator.
    pub(super) invalid_votes: u64,
}

/// Counts votes: a validator votes with all shares of its pool, except those of delegators who vote themselves.
///
/// # Errors
/// If delegators have more shares than the pool that they are in.
pub(super) fn tally(
    pools: &BTreeMap<Address, SharePool>,
    votes: &[VoteEntry],
    delegations: &Delegations,
) -> Result<Tally> {
    let mut validator_votes = BTreeMap::new();
    let mut shares: BTreeMap<Address, BTreeMap<Vote, Quantity>> = BTreeMap::new();
    for v in votes {
        if let Some(pool) = pools.get(&v.voter) {
            validator_votes.insert(v.voter, v.vote);
            shares.entry(v.voter).or_default().entry(v.vote).or_default().add_assign(&pool.total_shares);
        }
    }
    let mut invalid_votes = 0u64;
    for v in votes {
        let mut delegates = false;
        for (to, amount) in delegations.get(&v.voter).into_iter().flatten().filter(|(to, _)| pools.contains_key(to)) {
            delegates = true;
            let by_vote = shares.entry(*to).or_default();
            match validator_votes.get(to) {
                Some(vote) if *vote == v.vote => continue,
                Some(vote) => by_vote.entry(*vote).or_default().sub_assign(amount)?,
                None => {}
            }
            by_vote.entry(v.vote).or_default().add_assign(amount);
        }
        if !delegates {
            invalid_votes = invalid_votes.wrapping_add(1);
        }
    }
    let mut results: BTreeMap<Vote, Quantity> = BTreeMap::new();
    for (validator, by_vote) in &shares {
        let Some(pool) = pools.get(validator) else { continue };
        for (vote, amount) in by_vote {
            results.entry(*vote).or_default().add_assign(&pool.stake_for_shares(amount));
        }
    }
    Ok(Tally { results, invalid_votes })
}

/// Executes an accepted proposal. What a failing execution has written stays.
fn execute(ctx: &mut Context<'_>, upgrades: Option<&Upgrades>, proposal: &Proposal) -> Result<()> {
    let params = state::parameters(&ctx.state())?;
    let content = &proposal.content;
    if let Some(upgrade) = &content.upgrade {
        tx::check_distance(ctx, &params, upgrade)?;
        state::set_pending_upgrade(&mut ctx.state(), proposal.id, upgrade.epoch)?;
        // That the node knows the upgrade already does not matter to the network.
        if let Some(upgrades) = upgrades {
            upgrades.submit(upgrade).or_else(|e| if e.is_fatal() { Err(e) } else { Ok(()) })?;
        }
    } else if let Some(cancel) = &content.cancel_upgrade {
        let canceled = state::proposal(&ctx.state(), cancel.proposal_id)?;
        if canceled.content.upgrade.is_none() {
            return Err(Error::from(&codes::NO_SUCH_UPGRADE));
        }
        let upgrade = state::pending_upgrade(&ctx.state(), canceled.id)?;
        state::remove_pending_upgrade(&mut ctx.state(), canceled.id, upgrade.epoch)?;
        if let Some(upgrades) = upgrades {
            upgrades.cancel(&upgrade).or_else(|e| if e.is_fatal() { Err(e) } else { Ok(()) })?;
        }
    } else if let Some(change) = &content.change_parameters {
        change_parameters(ctx, &params, change)?;
    } else {
        return Err(Error::from(&codes::INVALID_ARGUMENT));
    }
    ctx.emit(NAME, &ProposalExecutedEvent { id: proposal.id });
    Ok(())
}

fn change_parameters(ctx: &mut Context<'_>, params: &Parameters, change: &ChangeParametersProposal) -> Result<()> {
    if !params.enable_change_parameters_proposal {
        return Err(Error::from(&codes::INVALID_ARGUMENT));
    }
    match ctx.dispatch(&Message::ChangeParameters { module: &change.module, changes: &change.changes })? {
        Some(_) => Ok(()),
        None => Err(Error::from(&codes::INVALID_ARGUMENT)),
    }
}
