//! Transactions of the vault service.

use apps_core::{Context, Error, Result};
use apps_staking::state as staking;
use wire_consensus::{
    Invalid,
    errors::{ErrorCode, vault as codes},
    staking::{HookDestination, HookKind},
    vault::{
        ActionCanceledEvent, ActionExecutedEvent, ActionExecutionResult, ActionSubmittedEvent, AuthorizeAction,
        CancelAction, Create, GAS_OP_AUTHORIZE_ACTION, GAS_OP_CANCEL_ACTION, GAS_OP_CREATE, MODULE, PendingAction,
        State, Vault,
    },
};

use super::{NAME, action, state};

fn code(code: &'static ErrorCode) -> Error {
    Error::from(code)
}

fn invalid_argument(e: Invalid) -> Error {
    code(&codes::INVALID_ARGUMENT).context(e)
}

/// Creates a vault of the caller, active from the start, whose number is the caller's nonce.
///
/// # Errors
/// `vault/1` for malformed authorities, then gas, then `vault/1` if there is such a vault.
pub fn create(ctx: &mut Context<'_>, body: &Create) -> Result<()> {
    let params = state::parameters(&ctx.state())?;
    body.validate(&params).map_err(invalid_argument)?;
    if ctx.is_check_only() {
        return Ok(());
    }
    ctx.use_gas(1, GAS_OP_CREATE, &params.gas_costs)?;
    if ctx.is_simulation() {
        return Ok(());
    }
    ctx.transaction(|ctx| {
        let creator = ctx.caller();
        let id = staking::account(&ctx.state(), &creator)?.general.nonce;
        let vault = Vault {
            creator,
            id,
            state: State::ACTIVE,
            nonce: 0,
            admin_authority: body.admin_authority.clone(),
            suspend_authority: body.suspend_authority.clone(),
        };
        let address = vault.address();
        if state::vault(&ctx.state(), &address).is_ok() {
            return Err(code(&codes::INVALID_ARGUMENT));
        }
        state::set_vault(&mut ctx.state(), &vault)?;
        let destination = HookDestination { module: MODULE.to_owned() };
        staking::set_account_hook(&mut ctx.state(), &address, HookKind::WITHDRAW, &destination)
    })
}

/// Submits or approves the vault's next action; with enough approvals it is executed.
///
/// # Errors
/// In this order: `vault/1` for a malformed body, `vault/2` without such a vault, `vault/4` if it is not the next
/// action, `vault/5` if the caller has no say in it, gas, `vault/1` if another action is pending. That the action fails
/// is no error.
pub fn authorize_action(ctx: &mut Context<'_>, body: &AuthorizeAction) -> Result<()> {
    let params = state::parameters(&ctx.state())?;
    body.validate(&params).map_err(invalid_argument)?;
    let mut vault = state::vault(&ctx.state(), &body.vault)?;
    if body.nonce != vault.nonce {
        return Err(code(&codes::INVALID_NONCE));
    }
    if !body.action.is_authorized(&vault, &ctx.caller()) {
        return Err(code(&codes::FORBIDDEN));
    }
    if ctx.is_check_only() {
        return Ok(());
    }
    ctx.use_gas(1, GAS_OP_AUTHORIZE_ACTION, &params.gas_costs)?;

    // The vault's own records are written below the sub-transaction: if the action calls back and changes the same
    // records, what it wrote covers them at the end.
    let outer = ctx.level();
    ctx.transaction(|ctx| {
        let mut pending = match state::pending_action(&ctx.state_at(outer), &body.vault, body.nonce) {
            Err(e) if e.is(&codes::NO_SUCH_ACTION) => {
                PendingAction { nonce: body.nonce, authorized_by: None, action: body.action.clone() }
            }
            other => other?,
        };
        if !pending.action.is_same(&body.action) {
            return Err(code(&codes::INVALID_ARGUMENT));
        }
        let submitter = ctx.caller();
        ctx.emit(NAME, &ActionSubmittedEvent { submitter, vault: body.vault, nonce: body.nonce });
        if !pending.authorized_by().contains(&submitter) {
            pending.authorized_by.get_or_insert_default().push(submitter);
            state::set_pending_action(&mut ctx.state_at(outer), &body.vault, &pending)?;
        }
        if !pending.action.authorities(&vault).iter().any(|a| a.verify(pending.authorized_by())) {
            return Ok(());
        }
        let result = match action::execute(ctx, &mut vault, &pending.action) {
            Ok(()) => ActionExecutionResult::default(),
            Err(e) if e.is_fatal() => return Err(e),
            Err(e) => {
                let (module, code) = e.code();
                ActionExecutionResult { module: module.to_owned(), code }
            }
        };
        ctx.emit(NAME, &ActionExecutedEvent { vault: body.vault, nonce: body.nonce, result });
        close_action(ctx, outer, &mut vault, body.nonce)
    })
}

/// Removes the pending action and makes way for the next one.
fn close_action(ctx: &mut Context<'_>, level: apps_core::Level, vault: &mut Vault, nonce: u64) -> Result<()> {
    state::remove_pending_action(&mut ctx.state_at(level), &vault.address(), nonce)?;
    vault.nonce = vault.nonce.wrapping_add(1);
    state::set_vault(&mut ctx.state_at(level), vault)
}

/// Cancels the vault's pending action.
///
/// # Errors
/// In this order: `vault/1` for a malformed body, `vault/2` without such a vault, `vault/4` if it is not the next
/// action, `vault/5` if the caller is in no authority, gas, `vault/6` without a pending action, `vault/5` if the caller
/// has no say in it.
pub fn cancel_action(ctx: &mut Context<'_>, body: &CancelAction) -> Result<()> {
    body.validate().map_err(invalid_argument)?;
    let mut vault = state::vault(&ctx.state(), &body.vault)?;
    if body.nonce != vault.nonce {
        return Err(code(&codes::INVALID_NONCE));
    }
    if !vault.authorities_contain(&ctx.caller()) {
        return Err(code(&codes::FORBIDDEN));
    }
    if ctx.is_check_only() {
        return Ok(());
    }
    let params = state::parameters(&ctx.state())?;
    ctx.use_gas(1, GAS_OP_CANCEL_ACTION, &params.gas_costs)?;
    if ctx.is_simulation() {
        return Ok(());
    }
    ctx.transaction(|ctx| {
        let pending = state::pending_action(&ctx.state(), &body.vault, body.nonce)?;
        if !pending.action.is_authorized(&vault, &ctx.caller()) {
            return Err(code(&codes::FORBIDDEN));
        }
        ctx.emit(NAME, &ActionCanceledEvent { vault: body.vault, nonce: body.nonce });
        let level = ctx.level();
        close_action(ctx, level, &mut vault, body.nonce)
    })
}
