//! Executing the actions of a vault.

use apps_core::{Context, Error, Message, Result};
use wire_consensus::{
    errors::vault as codes,
    vault::{Action, AuthorityUpdatedEvent, PolicyUpdatedEvent, State, StateChangedEvent, Vault},
};

use super::{NAME, state};

/// Executes an action that has enough authorizations. Changes of the vault itself are made to `vault` only.
///
/// # Errors
/// What the action leads to; the vault reports it in an event.
pub(super) fn execute(ctx: &mut Context<'_>, vault: &mut Vault, action: &Action) -> Result<()> {
    if action.suspend.is_some() {
        set_state(ctx, vault, State::SUSPENDED);
    } else if action.resume.is_some() {
        set_state(ctx, vault, State::ACTIVE);
    } else if let Some(update) = &action.update_withdraw_policy {
        let (vault, address) = (vault.address(), update.address);
        let mut s = match state::address_state(&ctx.state(), &vault, &address) {
            Err(e) if e.is(&codes::NO_SUCH_STATE) => Default::default(),
            other => other?,
        };
        s.update_withdraw_policy(&update.policy);
        state::set_address_state(&mut ctx.state(), &vault, &address, &s)?;
        ctx.emit(NAME, &PolicyUpdatedEvent { vault, address });
    } else if let Some(update) = &action.update_authority {
        // The parameters may have changed since the action was submitted.
        update.validate(&state::parameters(&ctx.state())?)?;
        update.apply(vault);
        ctx.emit(NAME, &AuthorityUpdatedEvent { vault: vault.address() });
    } else if let Some(message) = &action.execute_message {
        let caller = vault.address();
        ctx.dispatch(&Message::ExecuteSubcall { caller: &caller, method: &message.method, body: &message.body })?;
    } else {
        return Err(Error::from(&codes::UNSUPPORTED_ACTION));
    }
    Ok(())
}

fn set_state(ctx: &mut Context<'_>, vault: &mut Vault, new_state: State) {
    let old_state = std::mem::replace(&mut vault.state, new_state);
    if old_state != new_state {
        ctx.emit(NAME, &StateChangedEvent { vault: vault.address(), old_state, new_state });
    }
}
