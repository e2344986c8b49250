//! Messages to the governance service: from runtimes, from itself, and after a state sync.

use apps_core::{Context, Error, Message, Reply, Result};
use base_codec::{Raw, cbor};
use wire_consensus::{
    errors::{governance as codes, upgrade as upgrade_codes},
    governance::{MODULE, ParameterChanges},
};

use super::{state, tx};
use crate::upgrade::Upgrades;

/// Handles a message; `None` if it is not for this service or has no answer.
pub fn handle(ctx: &mut Context<'_>, upgrades: Option<&Upgrades>, msg: &Message<'_>) -> Result<Option<Reply>> {
    match msg {
        Message::RuntimeGovernance(m) => match (&m.cast_vote, &m.submit_proposal) {
            (Some(vote), _) => tx::cast_vote(ctx, vote, tx::Origin::Runtime).map(|()| None),
            (None, Some(content)) => {
                let proposal = tx::submit_proposal(ctx, content)?;
                Ok(proposal.map(|p| Reply::Result(Raw::of(&p))))
            }
            (None, None) => Err(Error::from(&codes::INVALID_ARGUMENT)),
        },
        Message::StateSyncCompleted => complete_state_sync(ctx, upgrades).map(|()| None),
        Message::ValidateParameterChanges { module, changes } => change_parameters(ctx, module, changes, false),
        Message::ChangeParameters { module, changes } => change_parameters(ctx, module, changes, true),
        _ => Err(Error::from(&codes::INVALID_ARGUMENT)),
    }
}

/// Tells the node of upgrades that were scheduled in blocks it has not executed.
fn complete_state_sync(ctx: &mut Context<'_>, upgrades: Option<&Upgrades>) -> Result<()> {
    let pending = state::pending_upgrades(&ctx.state())?;
    for descriptor in &pending {
        if let Some(upgrades) = upgrades
            && let Err(e) = upgrades.submit(descriptor)
            && !e.is(&upgrade_codes::ALREADY_PENDING)
        {
            return Err(e);
        }
    }
    Ok(())
}

fn change_parameters(ctx: &mut Context<'_>, module: &str, changes: &[u8], apply: bool) -> Result<Option<Reply>> {
    if module != MODULE {
        return Ok(None);
    }
    let changes: ParameterChanges = cbor::from_slice(changes)
        .map_err(|e| Error::Uncoded(format!("governance: failed to unmarshal consensus parameter changes: {e}")))?;
    let mut params = state::parameters(&ctx.state())?;
    changes.sanity_check()?;
    changes.apply(&mut params);
    params.sanity_check()?;
    if apply {
        state::set_parameters(&mut ctx.state(), &params)?;
    }
    Ok(Some(Reply::Done))
}
