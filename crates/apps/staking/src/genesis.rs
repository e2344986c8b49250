//! Genesis in and out. Source: `go/consensus/cometbft/apps/staking/genesis.go`.

use apps_core::{Context, Error, Result, kv::KvRead};
use base_prims::Quantity;
use wire_consensus::staking::{Genesis, StakeAccumulator};

use crate::state;

fn refuse<T>(text: String) -> Result<T> {
    Err(Error::Uncoded(format!("staking: {text}")))
}

/// Writes the section `staking` of a genesis document.
pub(crate) fn init_chain(ctx: &mut Context<'_>, doc: &Genesis) -> Result<()> {
    doc.parameters
        .sanity_check(ctx.config().allow_debug)
        .map_err(|e| Error::from(e).context("staking: sanity check failed"))?;
    state::set_parameters(ctx, &doc.parameters)?;
    state::set_governance_deposits(&mut ctx.state(), &doc.governance_deposits)?;

    // Nobody voted for the block before the first one: its fees go to the common pool.
    let pool = doc.common_pool.add(&doc.last_block_fees);
    let mut total = pool.add(&doc.governance_deposits);
    for (address, account) in &doc.ledger {
        if address.is_reserved() {
            return refuse(format!("genesis ledger account {address}: address is invalid"));
        }
        if !account.escrow.stake_accumulator.claims.is_empty() {
            return refuse(format!("non-empty stake accumulator in genesis for account {address}"));
        }
        total.add_assign(&account.general.balance);
        total.add_assign(&account.escrow.active.balance);
        total.add_assign(&account.escrow.debonding.balance);
        state::set_account(&mut ctx.state(), address, account)?;
    }
    if total != doc.total_supply {
        return refuse(format!("total supply mismatch (expected: {} actual: {total})", doc.total_supply));
    }
    state::set_common_pool(&mut ctx.state(), &pool)?;
    state::set_total_supply(&mut ctx.state(), &total)?;
    init_delegations(ctx, doc)?;
    init_debonding_delegations(ctx, doc)
}

fn init_delegations(ctx: &mut Context<'_>, doc: &Genesis) -> Result<()> {
    for (escrow, delegations) in &doc.delegations {
        let mut shares = Quantity::ZERO;
        for (delegator, delegation) in delegations {
            if delegator.is_reserved() {
                return refuse(format!(
                    "genesis delegation from {delegator} to {escrow}: delegator address is invalid"
                ));
            }
            shares.add_assign(&delegation.shares);
            state::set_delegation(&mut ctx.state(), delegator, escrow, delegation)?;
        }
        let expected = state::account(&ctx.state(), escrow)?.escrow.active.total_shares;
        if expected != shares {
            return refuse(format!(
                "total active shares mismatch for account {escrow}: actual: {shares} (expected: {expected})"
            ));
        }
    }
    Ok(())
}

fn init_debonding_delegations(ctx: &mut Context<'_>, doc: &Genesis) -> Result<()> {
    for (escrow, delegators) in &doc.debonding_delegations {
        let mut shares = Quantity::ZERO;
        for (delegator, delegations) in delegators {
            if delegator.is_reserved() {
                return refuse(format!(
                    "genesis debonding delegation from {delegator} to {escrow}: delegator address is invalid"
                ));
            }
            for delegation in delegations.iter().flatten() {
                shares.add_assign(&delegation.shares);
                state::add_debonding_delegation(&mut ctx.state(), delegator, escrow, delegation)?;
            }
        }
        let expected = state::account(&ctx.state(), escrow)?.escrow.debonding.total_shares;
        if expected != shares {
            return refuse(format!(
                "total debonding shares mismatch for account {escrow}: actual: {shares} (expected: {expected})"
            ));
        }
    }
    Ok(())
}

/// The section `staking` that continues from a state.
pub(crate) fn export(kv: &dyn KvRead) -> Result<Genesis> {
    let parameters = state::parameters(kv)?;
    let mut ledger = std::collections::BTreeMap::new();
    for address in state::addresses(kv)? {
        let mut account = state::account(kv, &address)?;
        // Claims are made anew when descriptors are registered from the document.
        account.escrow.stake_accumulator = StakeAccumulator::default();
        ledger.insert(address, account);
    }
    Ok(Genesis {
        parameters,
        token_symbol: String::new(),
        token_value_exponent: 0,
        total_supply: state::total_supply(kv)?,
        common_pool: state::common_pool(kv)?,
        last_block_fees: state::last_block_fees(kv)?,
        governance_deposits: state::governance_deposits(kv)?,
        ledger,
        delegations: state::delegations(kv)?,
        debonding_delegations: state::debonding_delegations(kv)?,
    })
}
