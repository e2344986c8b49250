//! Messages of other services. Source: `go/consensus/cometbft/apps/staking/{staking.go,messages.go}`.

use apps_core::{Context, Error, Message, Reply, Result, epoch};
use base_codec::{Raw, cbor::Encode};
use base_prims::Quantity;
use wire_consensus::{
    errors::staking as codes,
    roothash::message::StakingMessage,
    staking::{MODULE, ParameterChanges, Parameters},
};

use crate::{
    state,
    tx::{self, Origin},
};

pub(crate) fn handle(ctx: &mut Context<'_>, message: &Message<'_>) -> Result<Option<Reply>> {
    match message {
        Message::RuntimeStaking(m) => runtime_message(ctx, m).map(Some),
        Message::ValidateParameterChanges { module, changes } if *module == MODULE => {
            change_parameters(ctx, changes, false).map(Some)
        }
        Message::ChangeParameters { module, changes } if *module == MODULE => {
            change_parameters(ctx, changes, true).map(Some)
        }
        Message::ValidateParameterChanges { .. } | Message::ChangeParameters { .. } => Ok(None),
        _ => Err((&codes::INVALID_ARGUMENT).into()),
    }
}

/// The result as CBOR; null if nothing was executed.
fn result<T: Encode>(value: &Option<T>) -> Reply {
    Reply::Result(Raw::of(value))
}

fn runtime_message(ctx: &mut Context<'_>, m: &StakingMessage) -> Result<Reply> {
    if let Some(transfer) = &m.transfer {
        tx::transfer(ctx, transfer).map(|r| result(&r))
    } else if let Some(withdraw) = &m.withdraw {
        tx::withdraw(ctx, withdraw).map(|r| result(&r))
    } else if let Some(escrow) = &m.add_escrow {
        tx::add_escrow(ctx, escrow, Origin::Runtime).map(|r| result(&r))
    } else if let Some(reclaim) = &m.reclaim_escrow {
        tx::reclaim_escrow(ctx, reclaim, Origin::Runtime).map(|r| result(&r))
    } else {
        Err((&codes::INVALID_ARGUMENT).into())
    }
}

fn change_parameters(ctx: &mut Context<'_>, changes: &Raw, apply: bool) -> Result<Reply> {
    let changes: ParameterChanges = changes
        .decode_as()
        .map_err(|e| Error::Uncoded(format!("staking: failed to unmarshal consensus parameter changes: {e}")))?;
    let mut params = state::parameters(&ctx.state())?;
    changes
        .sanity_check()
        .map_err(|e| Error::from(e).context("staking: failed to validate consensus parameter changes"))?;
    changes.apply(&mut params);
    params
        .sanity_check(ctx.config().allow_debug)
        .map_err(|e| Error::from(e).context("staking: failed to validate consensus parameters"))?;
    if !apply {
        return Ok(Reply::Done);
    }
    if let Some(rate) = &changes.min_commission_rate {
        raise_commissions(ctx, &params, rate)?;
    }
    state::set_parameters(ctx, &params)?;
    Ok(Reply::Done)
}

/// Lifts all rates and bounds in the state to a new lowest rate.
fn raise_commissions(ctx: &mut Context<'_>, params: &Parameters, lowest: &Quantity) -> Result<()> {
    let now = epoch::current_epoch(ctx)?;
    for address in state::commission_schedule_addresses(&ctx.state())? {
        let mut account = state::account(&ctx.state(), &address)?;
        let schedule = &mut account.escrow.commission_schedule;
        let bounds = schedule.bounds.iter_mut().flat_map(|b| [&mut b.rate_min, &mut b.rate_max]);
        let rates = schedule.rates.iter_mut().map(|r| &mut r.rate);
        let mut changed = false;
        for rate in bounds.chain(rates).filter(|rate| **rate < *lowest) {
            rate.clone_from(lowest);
            changed = true;
        }
        if changed {
            schedule.prune_and_validate(&params.commission_schedule_rules, now).map_err(|e| {
                Error::from(e)
                    .context(format!("staking: commission schedule for account '{address}' invalid after update"))
            })?;
            state::set_account(&mut ctx.state(), &address, &account)?;
        }
    }
    Ok(())
}
