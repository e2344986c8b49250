//! `Staking`: accounts and delegations. Source: `go/staking/api`, `go/consensus/cometbft/staking`.

use std::sync::Arc;

use apps_staking::query;
use base_grpc::{Router, RpcError};
use wire_consensus::staking::{AllowanceQuery, Genesis, OwnerQuery, ThresholdQuery};

use crate::backend::{Backend, service_error};
use crate::serve::{Methods, nil};

pub(crate) fn add(router: &mut Router, backend: &Arc<Backend>) {
    Methods::new(router, "Staking", backend)
        .call("TokenSymbol", |backend, height: i64| Ok(token(backend, height)?.0))
        .call("TokenValueExponent", |backend, height: i64| Ok(token(backend, height)?.1))
        .at("TotalSupply", query::total_supply)
        .at("CommonPool", query::common_pool)
        .at("LastBlockFees", query::last_block_fees)
        .at("GovernanceDeposits", query::governance_deposits)
        .query("Threshold", |kv, q: &ThresholdQuery| query::threshold(kv, q.kind))
        .at("Addresses", |kv| query::addresses(kv).map(nil))
        .at("CommissionScheduleAddresses", |kv| query::commission_schedule_addresses(kv).map(nil))
        .query("Account", |kv, q: &OwnerQuery| query::account(kv, &q.owner))
        .query("DelegationsFor", |kv, q: &OwnerQuery| query::delegations_for(kv, &q.owner))
        .query("DelegationInfosFor", |kv, q: &OwnerQuery| query::delegation_infos_for(kv, &q.owner))
        .query("DelegationsTo", |kv, q: &OwnerQuery| query::delegations_to(kv, &q.owner))
        .query("DebondingDelegationsFor", |kv, q: &OwnerQuery| query::debonding_delegations_for(kv, &q.owner))
        .query("DebondingDelegationInfosFor", |kv, q: &OwnerQuery| query::debonding_delegation_infos_for(kv, &q.owner))
        .query("DebondingDelegationsTo", |kv, q: &OwnerQuery| query::debonding_delegations_to(kv, &q.owner))
        .query("Allowance", |kv, q: &AllowanceQuery| query::allowance(kv, &q.owner, &q.beneficiary))
        .call("StateToGenesis", |backend, height: i64| genesis(backend, height))
        .at("ConsensusParameters", query::parameters)
        .events(|applied| applied.events(query::events))
        .watch("WatchEvents", |applied| applied.events(query::events));
}

/// Symbol and exponent of the token: the state's, or where that has none the genesis document's.
fn token(backend: &Backend, height: i64) -> Result<(String, u8), RpcError> {
    let params = query::parameters(&backend.state(height)?).map_err(|error| service_error(&error))?;
    let genesis = &backend.queries.genesis().staking;
    let symbol = if params.token_symbol.is_empty() { genesis.token_symbol.clone() } else { params.token_symbol };
    let exponent =
        if params.token_value_exponent > 0 { params.token_value_exponent } else { genesis.token_value_exponent };
    Ok((symbol, exponent))
}

fn genesis(backend: &Backend, height: i64) -> Result<Genesis, RpcError> {
    let state = backend.state(height)?;
    let section = query::genesis(&state).map_err(|error| service_error(&error))?;
    let (token_symbol, token_value_exponent) = token(backend, state.height)?;
    Ok(Genesis { token_symbol, token_value_exponent, ..section })
}
