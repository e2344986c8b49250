//! Queries. Source: `go/consensus/cometbft/apps/staking/query.go`.

use std::collections::BTreeMap;

use apps_core::{Error, Result, events, kv::KvRead, typed_into};
use base_prims::{Address, Epoch, Hash, Quantity};
use wire_consensus::{
    errors::staking as codes,
    staking::{
        Account, AddEscrowEvent, AllowanceChangeEvent, BurnEvent, DebondingDelegationInfo, DebondingStartEscrowEvent,
        DelegationInfo, EscrowEvent, Event, GeneralAccount, Genesis, ReclaimEscrowEvent, TakeEscrowEvent,
        ThresholdKind, TransferEvent,
    },
};

pub use crate::state::{
    addresses, commission_schedule_addresses, common_pool, debonding_delegations_for, debonding_delegations_to,
    delegations_for, delegations_to, governance_deposits, last_block_fees, parameters, total_supply,
};
use crate::{NAME, genesis, state};

/// The required stake of a kind.
///
/// # Errors
/// [`codes::INVALID_THRESHOLD`] if the network defines none.
pub fn threshold(kv: &dyn KvRead, kind: ThresholdKind) -> Result<Quantity> {
    state::thresholds(kv)?.remove(&kind).ok_or_else(|| Error::from(&codes::INVALID_THRESHOLD))
}

/// Epochs until undelegated tokens are free.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn debonding_interval(kv: &dyn KvRead) -> Result<Epoch> {
    Ok(parameters(kv)?.debonding_interval)
}

/// An account; for the reserved ones what they stand for.
///
/// # Errors
/// If it is the burn address, or [`Error::Fatal`] if the state is unavailable.
pub fn account(kv: &dyn KvRead, address: &Address) -> Result<Account> {
    let balance = if *address == Address::common_pool() {
        state::common_pool(kv)?
    } else if *address == Address::fee_accumulator() {
        state::last_block_fees(kv)?
    } else if *address == Address::governance_deposits() {
        state::governance_deposits(kv)?
    } else {
        return state::account(kv, address);
    };
    Ok(Account { general: GeneralAccount { balance, ..GeneralAccount::default() }, ..Account::default() })
}

/// What an owner lets somebody withdraw.
///
/// # Errors
/// As [`account`].
pub fn allowance(kv: &dyn KvRead, owner: &Address, beneficiary: &Address) -> Result<Quantity> {
    Ok(account(kv, owner)?.general.allowances.remove(beneficiary).unwrap_or_default())
}

/// Delegations of a delegator with their pools.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn delegation_infos_for(kv: &dyn KvRead, delegator: &Address) -> Result<BTreeMap<Address, DelegationInfo>> {
    state::delegations_for(kv, delegator)?
        .into_iter()
        .map(|(to, d)| {
            let pool = state::account(kv, &to)?.escrow.active;
            Ok((to, DelegationInfo { shares: d.shares, pool }))
        })
        .collect()
}

/// Debonding delegations of a delegator with their pools.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn debonding_delegation_infos_for(
    kv: &dyn KvRead,
    delegator: &Address,
) -> Result<BTreeMap<Address, Vec<DebondingDelegationInfo>>> {
    state::debonding_delegations_for(kv, delegator)?
        .into_iter()
        .map(|(to, list)| {
            let pool = state::account(kv, &to)?.escrow.debonding;
            let list = list.into_iter().map(|d| DebondingDelegationInfo {
                shares: d.shares,
                debond_end_time: d.debond_end_time,
                pool: pool.clone(),
            });
            Ok((to, list.collect()))
        })
        .collect()
}

/// The section `staking` of a genesis document that continues from a state.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn genesis(kv: &dyn KvRead) -> Result<Genesis> {
    genesis::export(kv)
}

/// The nonce of the next transaction of an account.
///
/// # Errors
/// As [`account`].
pub fn nonce(kv: &dyn KvRead, address: &Address) -> Result<u64> {
    Ok(account(kv, address)?.general.nonce)
}

/// The events of the service in a block's event, as clients see them. Source: `go/consensus/cometbft/staking/events.go`.
///
/// # Errors
/// If an attribute is malformed or unknown.
pub fn events(height: i64, tx_hash: Hash, event: &comet_chain::app::Event) -> Result<Vec<Event>> {
    let mut found = Vec::new();
    for attribute in events::attributes(NAME, event).into_iter().flatten() {
        let mut event = Event { height, tx_hash, ..Event::default() };
        let mut escrow = EscrowEvent::default();
        let plain = typed_into!(attribute, event, {
            transfer: TransferEvent,
            burn: BurnEvent,
            allowance_change: AllowanceChangeEvent,
        });
        let of_escrow = typed_into!(attribute, escrow, {
            add: AddEscrowEvent,
            take: TakeEscrowEvent,
            debonding_start: DebondingStartEscrowEvent,
            reclaim: ReclaimEscrowEvent,
        });
        if of_escrow {
            event.escrow = Some(escrow);
        } else if !plain {
            return Err(attribute.unknown().context("staking"));
        }
        found.push(event);
    }
    Ok(found)
}
