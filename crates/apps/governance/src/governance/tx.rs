//! Transactions of the governance service.

use apps_core::{Context, Error, Message, Result, epoch};
use apps_staking::state as staking;
use base_prims::{Address, Epoch, PublicKey};
use wire_consensus::{
    errors::{governance as codes, staking as staking_codes},
    governance::{
        GAS_OP_CAST_VOTE, GAS_OP_SUBMIT_PROPOSAL, Parameters, Proposal, ProposalContent, ProposalState,
        ProposalSubmittedEvent, ProposalVote, VoteEvent,
    },
    upgrade::Descriptor,
};

use super::{NAME, deposits, state};

/// Where a vote comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A transaction, whose signer may be an entity.
    Transaction,
    /// A runtime's message.
    Runtime,
}

/// Submits a proposal on behalf of the caller; `None` where nothing is to be executed (checks and simulations).
///
/// # Errors
/// In this order: malformed content, changes of parameters disabled, gas, reserved caller, balance below the deposit,
/// then what `check_content` refuses.
pub fn submit_proposal(ctx: &mut Context<'_>, content: &ProposalContent) -> Result<Option<Proposal>> {
    let params = state::parameters(&ctx.state())?;
    content.validate_basic(&params).map_err(|e| Error::from(&codes::INVALID_ARGUMENT).context(e))?;
    if ctx.is_check_only() {
        return Ok(None);
    }
    if content.change_parameters.is_some() && !params.enable_change_parameters_proposal {
        return Err(Error::from(&codes::INVALID_ARGUMENT));
    }
    ctx.use_gas(1, GAS_OP_SUBMIT_PROPOSAL, &params.gas_costs)?;
    if ctx.is_simulation() {
        return Ok(None);
    }
    let submitter = ctx.caller();
    if !submitter.is_valid() {
        return Err(Error::from(&staking_codes::FORBIDDEN));
    }
    let account = staking::account(&ctx.state(), &submitter)?;
    if account.general.balance < params.min_proposal_deposit {
        return Err(Error::from(&staking_codes::INSUFFICIENT_BALANCE));
    }
    let now = epoch::of_state(&ctx.state())?.epoch;
    check_content(ctx, &params, content, now)?;

    deposits::take(ctx, &submitter, &params.min_proposal_deposit)?;
    let id = state::next_proposal_id(&ctx.state())?;
    state::set_next_proposal_id(&mut ctx.state(), id.wrapping_add(1))?;
    let proposal = Proposal {
        id,
        submitter,
        state: ProposalState::ACTIVE,
        deposit: params.min_proposal_deposit,
        content: content.clone(),
        created_at: now,
        closes_at: now.wrapping_add(params.voting_period),
        results: None,
        invalid_votes: 0,
    };
    state::set_active_proposal(&mut ctx.state(), &proposal)?;
    ctx.emit(NAME, &ProposalSubmittedEvent { id, submitter });
    Ok(Some(proposal))
}

/// Checks well-formed content against the state.
///
/// # Errors
/// `governance/2` for upgrades that are too near, `governance/3` for upgrades too near to pending ones, `governance/4`
/// and `/5` for cancellations of what is not pending, and what the module refuses whose parameters are to change.
fn check_content(ctx: &mut Context<'_>, params: &Parameters, content: &ProposalContent, now: Epoch) -> Result<()> {
    if let Some(upgrade) = &content.upgrade {
        if upgrade.epoch < params.upgrade_min_epoch_diff.wrapping_add(now) {
            return Err(Error::from(&codes::UPGRADE_TOO_SOON));
        }
        check_distance(ctx, params, upgrade)
    } else if let Some(cancel) = &content.cancel_upgrade {
        let upgrade = state::pending_upgrade(&ctx.state(), cancel.proposal_id)?;
        if upgrade.epoch < params.upgrade_cancel_min_epoch_diff.wrapping_add(now) {
            return Err(Error::from(&codes::UPGRADE_TOO_SOON));
        }
        Ok(())
    } else if let Some(change) = &content.change_parameters {
        let msg = Message::ValidateParameterChanges { module: &change.module, changes: &change.changes };
        // Whoever finds the changes valid says so; silence means that no such module can be changed.
        match ctx.dispatch(&msg)? {
            Some(_) => Ok(()),
            None => Err(Error::from(&codes::INVALID_ARGUMENT)),
        }
    } else {
        Err(Error::from(&codes::INVALID_ARGUMENT))
    }
}

/// Checks that no pending upgrade is too near to this one.
pub(super) fn check_distance(ctx: &mut Context<'_>, params: &Parameters, upgrade: &Descriptor) -> Result<()> {
    let pending = state::pending_upgrades(&ctx.state())?;
    match pending.iter().find(|p| p.epoch.abs_diff(upgrade.epoch) < params.upgrade_min_epoch_diff) {
        Some(p) => Err(Error::from(&codes::UPGRADE_ALREADY_PENDING)
            .context(format_args!("upgrade already scheduled at epoch: {}", p.epoch))),
        None => Ok(()),
    }
}

/// Casts a vote on behalf of the caller.
///
/// # Errors
/// In this order: gas, reserved caller, `governance/6` for who may not vote, `governance/5` for unknown proposals,
/// `governance/7` for closed ones.
pub fn cast_vote(ctx: &mut Context<'_>, vote: &ProposalVote, origin: Origin) -> Result<()> {
    if ctx.is_check_only() {
        return Ok(());
    }
    let params = state::parameters(&ctx.state())?;
    ctx.use_gas(1, GAS_OP_CAST_VOTE, &params.gas_costs)?;
    if ctx.is_simulation() {
        return Ok(());
    }
    let submitter = ctx.caller();
    if !submitter.is_valid() {
        return Err(Error::from(&staking_codes::FORBIDDEN));
    }
    let nodes = submitter_nodes(ctx, &params, origin)?;
    if !is_eligible(ctx, &submitter, &nodes)? {
        return Err(Error::from(&codes::NOT_ELIGIBLE));
    }
    let proposal = state::proposal(&ctx.state(), vote.id)?;
    if proposal.state != ProposalState::ACTIVE {
        return Err(Error::from(&codes::VOTING_IS_CLOSED));
    }
    state::set_vote(&mut ctx.state(), vote.id, &submitter, vote.vote)?;
    ctx.emit(NAME, &VoteEvent { id: vote.id, submitter, vote: vote.vote });
    Ok(())
}

/// The nodes of the entity that signed the transaction.
///
/// # Errors
/// `governance/6` if there is no such entity and votes need one.
fn submitter_nodes(ctx: &mut Context<'_>, params: &Parameters, origin: Origin) -> Result<Vec<PublicKey>> {
    let entity = match origin {
        Origin::Runtime => None,
        Origin::Transaction => {
            let signer = ctx.tx_signer();
            apps_committees::registry::state::entity(&ctx.state(), &signer)?
        }
    };
    match entity {
        Some(entity) => Ok(entity.nodes),
        None if params.allow_vote_without_entity => Ok(Vec::new()),
        None => Err(Error::from(&codes::NOT_ELIGIBLE)),
    }
}

/// Whether one of the nodes is a validator, or the submitter delegates to a validator's entity.
fn is_eligible(ctx: &mut Context<'_>, submitter: &Address, nodes: &[PublicKey]) -> Result<bool> {
    let validators = apps_committees::scheduler::state::current_validators(&ctx.state())?;
    if validators.values().any(|v| nodes.contains(&v.id)) {
        return Ok(true);
    }
    let entities: Vec<_> = validators.values().map(|v| Address::of_key(&v.entity_id)).collect();
    let delegations = staking::delegations_for(&ctx.state(), submitter)?;
    Ok(entities.iter().any(|e| delegations.contains_key(e)))
}
