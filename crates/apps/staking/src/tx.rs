//! Transactions of the staking service. Source: `go/consensus/cometbft/apps/staking/transactions.go`.
//!
//! Each method charges its gas, then looks at nothing more while checking for the pool or simulating.

use apps_core::{Context, Error, Message, Result, epoch};
use base_prims::{Address, Quantity};
use wire_consensus::{
    errors::staking as codes,
    staking::{
        Account, AddEscrowEvent, AddEscrowResult, Allow, AllowanceChangeEvent, AmendCommissionSchedule, Burn,
        BurnEvent, DebondingDelegation, DebondingStartEscrowEvent, Delegation, Escrow, GAS_OP_ADD_ESCROW, GAS_OP_ALLOW,
        GAS_OP_AMEND_COMMISSION_SCHEDULE, GAS_OP_BURN, GAS_OP_RECLAIM_ESCROW, GAS_OP_TRANSFER, GAS_OP_WITHDRAW,
        HookKind, Parameters, ReclaimEscrow, ReclaimEscrowResult, ThresholdKind, Transfer, TransferEvent,
        TransferResult, Withdraw, WithdrawResult,
    },
};

use crate::{
    NAME,
    state::{self, check_min_balance, pool_error},
};

/// Who asks for an escrow operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A transaction.
    Transaction,
    /// A message of a runtime.
    Runtime,
}

fn coded(code: &'static wire_consensus::errors::ErrorCode) -> Error {
    Error::from(code)
}

/// Charges the method's gas. Absent if the method ends here because nothing is to be executed.
fn charge(ctx: &mut Context<'_>, op: &str, origin: Origin) -> Result<Option<Parameters>> {
    if ctx.is_check_only() {
        return Ok(None);
    }
    let params = state::parameters(&ctx.state())?;
    ctx.use_gas(1, op, &params.gas_costs)?;
    if origin == Origin::Runtime && !params.allow_escrow_messages {
        return Err(coded(&codes::FORBIDDEN));
    }
    Ok((!ctx.is_simulation()).then_some(params))
}

fn may_transfer(params: &Parameters, from: &Address) -> bool {
    !params.disable_transfers || params.undisable_transfers_from.get(from).copied().unwrap_or_default()
}

/// `staking.Transfer`.
pub(crate) fn transfer(ctx: &mut Context<'_>, body: &Transfer) -> Result<Option<TransferResult>> {
    let Some(params) = charge(ctx, GAS_OP_TRANSFER, Origin::Transaction)? else { return Ok(None) };
    let from = ctx.caller();
    if from.is_reserved() || !may_transfer(&params, &from) {
        return Err(coded(&codes::FORBIDDEN));
    }
    let Transfer { to, amount } = body.clone();
    if to == Address::burn() {
        execute_burn(ctx, &params, &from, &amount)?;
    } else {
        execute_transfer(ctx, &params, &from, body)?;
    }
    ctx.emit(NAME, &TransferEvent { from, to, amount: amount.clone() });
    Ok(Some(TransferResult { from, to, amount }))
}

fn execute_transfer(ctx: &mut Context<'_>, params: &Parameters, from: &Address, body: &Transfer) -> Result<()> {
    let Transfer { to, amount } = body;
    if *amount < params.min_transfer_amount {
        return Err(coded(&codes::UNDER_MIN_TRANSFER));
    }
    let mut source = state::account(&ctx.state(), from)?;
    if from == to {
        if source.general.balance < *amount {
            return Err(coded(&codes::INSUFFICIENT_BALANCE));
        }
    } else {
        let mut target = state::account(&ctx.state(), to)?;
        // Unlike the other refusals this one has no code.
        Quantity::transfer(&mut target.general.balance, &mut source.general.balance, amount)?;
        check_min_balance(&source.general.balance, params, "source account")?;
        check_min_balance(&target.general.balance, params, "dest account")?;
        state::set_account(&mut ctx.state(), to, &target)?;
    }
    state::set_account(&mut ctx.state(), from, &source)
}

/// `staking.Burn`.
pub(crate) fn burn(ctx: &mut Context<'_>, body: &Burn) -> Result<()> {
    let Some(params) = charge(ctx, GAS_OP_BURN, Origin::Transaction)? else { return Ok(()) };
    let from = ctx.caller();
    if from.is_reserved() {
        return Err(coded(&codes::FORBIDDEN));
    }
    execute_burn(ctx, &params, &from, &body.amount)
}

fn execute_burn(ctx: &mut Context<'_>, params: &Parameters, from: &Address, amount: &Quantity) -> Result<()> {
    if *amount < params.min_transfer_amount {
        return Err(coded(&codes::UNDER_MIN_TRANSFER));
    }
    let mut source = state::account(&ctx.state(), from)?;
    source.general.balance.sub_assign(amount)?;
    if source.general.balance < params.min_transact_balance {
        return Err(coded(&codes::BALANCE_TOO_LOW));
    }
    let total = state::total_supply(&ctx.state())?;
    let total = total.sub(amount).unwrap_or(total);
    state::set_account(&mut ctx.state(), from, &source)?;
    state::set_total_supply(&mut ctx.state(), &total)?;
    ctx.emit(NAME, &BurnEvent { owner: *from, amount: amount.clone() });
    Ok(())
}

/// The two accounts of an escrow operation, which may be one and the same.
struct Pair {
    owner: Account,
    // Absent if it is the owner's own.
    escrow: Option<Account>,
}

impl Pair {
    fn load(ctx: &mut Context<'_>, params: &Parameters, owner: &Address, escrow: &Address) -> Result<Self> {
        let account = state::account(&ctx.state(), owner)?;
        if owner == escrow {
            return Ok(Self { owner: account, escrow: None });
        }
        if params.disable_delegation {
            return Err(coded(&codes::FORBIDDEN));
        }
        let escrow = state::account(&ctx.state(), escrow)?;
        Ok(Self { owner: account, escrow: Some(escrow) })
    }

    fn escrow(&mut self) -> &mut Account {
        self.escrow.as_mut().unwrap_or(&mut self.owner)
    }

    fn store(&self, ctx: &mut Context<'_>, owner: &Address, escrow: &Address) -> Result<()> {
        state::set_account(&mut ctx.state(), owner, &self.owner)?;
        match &self.escrow {
            Some(account) => state::set_account(&mut ctx.state(), escrow, account),
            None => Ok(()),
        }
    }
}

/// `staking.AddEscrow`.
pub(crate) fn add_escrow(ctx: &mut Context<'_>, body: &Escrow, origin: Origin) -> Result<Option<AddEscrowResult>> {
    let Some(params) = charge(ctx, GAS_OP_ADD_ESCROW, origin)? else { return Ok(None) };
    let Escrow { account: escrow, amount } = body.clone();
    if amount < params.min_delegation_amount {
        return Err(coded(&codes::UNDER_MIN_DELEGATION));
    }
    let owner = ctx.caller();
    if owner.is_reserved() {
        return Err(coded(&codes::FORBIDDEN));
    }
    let mut pair = Pair::load(ctx, &params, &owner, &escrow)?;
    let mut delegation = state::delegation(&ctx.state(), &owner, &escrow)?;

    let mut source = std::mem::take(&mut pair.owner.general.balance);
    let deposited = pair.escrow().escrow.active.deposit(&mut delegation.shares, &mut source, &amount);
    let new_shares = deposited.map_err(pool_error)?;
    pair.owner.general.balance = source;
    if pair.owner.general.balance < params.min_transact_balance {
        return Err(coded(&codes::BALANCE_TOO_LOW));
    }

    pair.store(ctx, &owner, &escrow)?;
    state::set_delegation(&mut ctx.state(), &owner, &escrow, &delegation)?;
    let event = AddEscrowEvent { owner, escrow, amount, new_shares };
    ctx.emit(NAME, &event);
    let AddEscrowEvent { amount, new_shares, .. } = event;
    Ok(Some(AddEscrowResult { owner, escrow, amount, new_shares }))
}

/// `staking.ReclaimEscrow`.
pub(crate) fn reclaim_escrow(
    ctx: &mut Context<'_>,
    body: &ReclaimEscrow,
    origin: Origin,
) -> Result<Option<ReclaimEscrowResult>> {
    let ReclaimEscrow { account: escrow, shares } = body;
    if shares.is_zero() {
        return Err(coded(&codes::INVALID_ARGUMENT));
    }
    let Some(params) = charge(ctx, GAS_OP_RECLAIM_ESCROW, origin)? else { return Ok(None) };
    let owner = ctx.caller();
    if owner.is_reserved() {
        return Err(coded(&codes::FORBIDDEN));
    }
    let mut pair = Pair::load(ctx, &params, &owner, escrow)?;
    let Delegation { shares: mut remaining } = state::delegation(&ctx.state(), &owner, escrow)?;
    let now = epoch::of_state(&ctx.state())?.epoch;
    let debond_end_time = now.wrapping_add(params.debonding_interval);

    let pools = &mut pair.escrow().escrow;
    let mut tokens = Quantity::ZERO;
    pools.active.withdraw(&mut tokens, &mut remaining, shares).map_err(pool_error)?;
    let amount = tokens.clone();
    let mut debonding_shares = Quantity::ZERO;
    pools.debonding.deposit(&mut debonding_shares, &mut tokens, &amount).map_err(pool_error)?;

    let debonding = DebondingDelegation { shares: debonding_shares.clone(), debond_end_time };
    state::add_debonding_delegation(&mut ctx.state(), &owner, escrow, &debonding)?;
    state::set_delegation(&mut ctx.state(), &owner, escrow, &Delegation { shares: remaining.clone() })?;
    pair.store(ctx, &owner, escrow)?;

    let result = ReclaimEscrowResult {
        owner,
        escrow: *escrow,
        amount,
        debonding_shares,
        remaining_shares: remaining,
        debond_end_time,
    };
    let event = DebondingStartEscrowEvent {
        owner,
        escrow: *escrow,
        amount: result.amount.clone(),
        active_shares: shares.clone(),
        debonding_shares: result.debonding_shares.clone(),
        debond_end_time,
    };
    ctx.emit(NAME, &event);
    Ok(Some(result))
}

/// `staking.AmendCommissionSchedule`.
pub(crate) fn amend_commission_schedule(ctx: &mut Context<'_>, body: AmendCommissionSchedule) -> Result<()> {
    let Some(params) = charge(ctx, GAS_OP_AMEND_COMMISSION_SCHEDULE, Origin::Transaction)? else { return Ok(()) };
    let now = epoch::of_state(&ctx.state())?.epoch;
    let from = ctx.caller();
    if from.is_reserved() {
        return Err(coded(&codes::FORBIDDEN));
    }
    let mut account = state::account(&ctx.state(), &from)?;
    // Only who could register a validator may fill the state with schedules.
    let threshold = |kind| params.thresholds.get(&kind).cloned().unwrap_or_default();
    let required = threshold(ThresholdKind::ENTITY).add(&threshold(ThresholdKind::NODE_VALIDATOR));
    if account.escrow.active.balance < required {
        return Err(coded(&codes::INSUFFICIENT_STAKE));
    }
    account.escrow.commission_schedule.amend(&body.amendment, &params.commission_schedule_rules, now)?;
    state::set_account(&mut ctx.state(), &from, &account)
}

/// `staking.Allow`.
pub(crate) fn allow(ctx: &mut Context<'_>, body: &Allow) -> Result<()> {
    let Some(params) = charge(ctx, GAS_OP_ALLOW, Origin::Transaction)? else { return Ok(()) };
    if params.disable_transfers || params.max_allowances == 0 {
        return Err(coded(&codes::FORBIDDEN));
    }
    let owner = ctx.caller();
    let beneficiary = body.beneficiary;
    if owner.is_reserved() || beneficiary.is_reserved() {
        return Err(coded(&codes::FORBIDDEN));
    }
    if owner == beneficiary {
        return Err(coded(&codes::INVALID_ARGUMENT));
    }
    let mut account = state::account(&ctx.state(), &owner)?;
    let allowances = &mut account.general.allowances;
    let mut allowance = allowances.get(&beneficiary).cloned().unwrap_or_default();
    let amount_change = if body.negative {
        allowance.sub_up_to(&body.amount_change)
    } else {
        allowance.add_assign(&body.amount_change);
        body.amount_change.clone()
    };
    if allowance > state::total_supply(&ctx.state())? {
        return Err(coded(&codes::ALLOWANCE_GREATER_THAN_SUPPLY));
    }
    if allowance.is_zero() {
        allowances.remove(&beneficiary);
    } else {
        allowances.insert(beneficiary, allowance.clone());
    }
    if u32::try_from(allowances.len()).unwrap_or(u32::MAX) > params.max_allowances {
        return Err(coded(&codes::TOO_MANY_ALLOWANCES));
    }
    state::set_account(&mut ctx.state(), &owner, &account)?;
    ctx.emit(NAME, &AllowanceChangeEvent { owner, beneficiary, allowance, negative: body.negative, amount_change });
    Ok(())
}

/// `staking.Withdraw`.
pub(crate) fn withdraw(ctx: &mut Context<'_>, body: &Withdraw) -> Result<Option<WithdrawResult>> {
    let Some(params) = charge(ctx, GAS_OP_WITHDRAW, Origin::Transaction)? else { return Ok(None) };
    let Withdraw { from, amount } = body;
    if *amount < params.min_transfer_amount {
        return Err(coded(&codes::UNDER_MIN_TRANSFER));
    }
    if params.disable_transfers || params.max_allowances == 0 {
        return Err(coded(&codes::FORBIDDEN));
    }
    let to = ctx.caller();
    if to.is_reserved() || from.is_reserved() {
        return Err(coded(&codes::FORBIDDEN));
    }
    if to == *from {
        return Err(coded(&codes::INVALID_ARGUMENT));
    }
    // Accounts are read and written below the sub-transaction: it undoes what a hook did, nothing else.
    let level = ctx.level();
    ctx.transaction(|ctx| {
        let mut source = state::account(&ctx.state_at(level), from)?;
        let allowance = authorize_withdrawal(ctx, &mut source, from, &to, amount)?;

        let mut target = state::account(&ctx.state_at(level), &to)?;
        Quantity::transfer(&mut target.general.balance, &mut source.general.balance, amount)
            .map_err(|_| coded(&codes::INSUFFICIENT_BALANCE))?;
        check_min_balance(&source.general.balance, &params, "source account")?;
        check_min_balance(&target.general.balance, &params, "dest account")?;
        state::set_account(&mut ctx.state_at(level), &to, &target)?;
        state::set_account(&mut ctx.state_at(level), from, &source)?;

        ctx.emit(NAME, &TransferEvent { from: *from, to, amount: amount.clone() });
        let event = AllowanceChangeEvent {
            owner: *from,
            beneficiary: to,
            allowance: allowance.clone(),
            negative: true,
            amount_change: amount.clone(),
        };
        ctx.emit(NAME, &event);
        Ok(Some(WithdrawResult { owner: *from, beneficiary: to, allowance, amount_change: amount.clone() }))
    })
}

/// Asks the account's hook, or takes the amount from the allowance. Returns the allowance that is left.
fn authorize_withdrawal(
    ctx: &mut Context<'_>,
    source: &mut Account,
    from: &Address,
    to: &Address,
    amount: &Quantity,
) -> Result<Quantity> {
    if let Some(hook) = source.general.hooks.get(&HookKind::WITHDRAW) {
        let message = Message::AccountHookWithdraw { module: &hook.module, from, to, amount };
        return match ctx.dispatch(&message) {
            Ok(_) => Ok(Quantity::ZERO),
            Err(e) if e.is_fatal() => Err(e),
            Err(e) => Err(Error::Coded(
                &codes::FORBIDDEN,
                format!("{}: hook invocation failed: {e}", codes::FORBIDDEN.message),
            )),
        };
    }
    let allowances = &mut source.general.allowances;
    let left =
        allowances.get(to).and_then(|allowance| allowance.sub(amount).ok()).ok_or_else(|| coded(&codes::FORBIDDEN))?;
    if left.is_zero() {
        allowances.remove(to);
    } else {
        allowances.insert(*to, left.clone());
    }
    Ok(left)
}
