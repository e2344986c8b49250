//! Messages to the vault service: withdrawals to authorize, parameters to change.

use apps_core::{Context, Error, Message, Reply, Result};
use base_codec::cbor;
use base_prims::{Address, Quantity};
use wire_consensus::{
    errors::vault as codes,
    vault::{MODULE, ParameterChanges},
};

use super::state;

/// Handles a message; `None` if it is not for this service.
pub fn handle(ctx: &mut Context<'_>, msg: &Message<'_>) -> Result<Option<Reply>> {
    match msg {
        Message::AccountHookWithdraw { module, from, to, amount } if *module == MODULE => {
            authorize_withdrawal(ctx, from, to, amount).map(|()| Some(Reply::Done))
        }
        Message::AccountHookWithdraw { .. } => Ok(None),
        Message::ValidateParameterChanges { module, changes } => change_parameters(ctx, module, changes, false),
        Message::ChangeParameters { module, changes } => change_parameters(ctx, module, changes, true),
        _ => Err(Error::from(&codes::INVALID_ARGUMENT)),
    }
}

/// Accounts for a withdrawal from a vault.
///
/// # Errors
/// `vault/2` without such a vault, `vault/3` if nothing is set for the address, `vault/5` if the vault is suspended or
/// the limit does not allow for the amount.
fn authorize_withdrawal(ctx: &mut Context<'_>, from: &Address, to: &Address, amount: &Quantity) -> Result<()> {
    let height = ctx.current_height();
    let kv = &mut ctx.state();
    if !state::vault(kv, from)?.is_active() {
        return Err(Error::from(&codes::FORBIDDEN));
    }
    let mut s = state::address_state(kv, from, to)?;
    if !s.authorize_withdrawal(height, amount) {
        return Err(Error::from(&codes::FORBIDDEN));
    }
    state::set_address_state(kv, from, to, &s)
}

fn change_parameters(ctx: &mut Context<'_>, module: &str, changes: &[u8], apply: bool) -> Result<Option<Reply>> {
    if module != MODULE {
        return Ok(None);
    }
    let changes: ParameterChanges = cbor::from_slice(changes)
        .map_err(|e| Error::Uncoded(format!("vault: failed to unmarshal consensus parameter changes: {e}")))?;
    let mut params = state::parameters(&ctx.state())?;
    changes.sanity_check()?;
    changes.apply(&mut params);
    params.sanity_check()?;
    if apply {
        state::set_parameters(&mut ctx.state(), &params)?;
    }
    Ok(Some(Reply::Done))
}
