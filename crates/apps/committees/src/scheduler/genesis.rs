//! The first state of the scheduler.

use std::collections::BTreeMap;

use apps_core::{Context, Error, Result};
use base_prims::{Address, PublicKey};
use wire_consensus::{
    genesis::Document,
    node::{Node, REGISTER_CONTEXT, Roles},
    scheduler::{MAX_TOTAL_VOTING_POWER, Parameters, Validator, voting_power_from_stake},
};

use super::state::{self, Validators};
use crate::registry;

/// Writes parameters and the genesis validators, which must be those that the registry and the stake say.
pub(super) fn init_chain(ctx: &mut Context<'_>, doc: &Document) -> Result<()> {
    let fail = |text: String| Error::Uncoded(format!("scheduler: {text}"));
    let params = &doc.scheduler.parameters;
    state::set_parameters(&mut ctx.state(), params)?;
    let positive = [
        ("minimum number of validators", params.min_validators),
        ("maximum number of validators", params.max_validators),
        ("maximum number of validators per entity", params.max_validators_per_entity),
    ];
    if let Some((name, _)) = positive.iter().find(|(_, value)| *value <= 0) {
        return Err(fail(format!("{name} not configured")));
    }

    let nodes = registry::state::nodes(&ctx.state())?;
    let mut current = Validators::new();
    for (key, power) in genesis_validators(doc)? {
        // Of nodes with the same consensus key the last counts.
        let node = nodes
            .iter()
            .rev()
            .find(|n| n.roles.has(Roles::VALIDATOR) && n.consensus.id == key)
            .ok_or_else(|| fail(format!("genesis validator {key} is not in the registry")))?;
        let expected = expected_power(ctx, params, &Address::of_key(&node.entity_id))?;
        if power != expected {
            return Err(fail(format!("genesis validator node {} has power {power}, expected {expected}", node.id)));
        }
        current.insert(key, Validator { id: node.id, entity_id: node.entity_id, voting_power: power });
    }
    state::set_current_validators(&mut ctx.state(), &current)?;

    if !params.debug_bypass_stake {
        let supply = &doc.staking.total_supply;
        let power = voting_power_from_stake(supply, params.voting_power_distribution)
            .map_err(|e| fail(format!("total supply would break voting power computation: {e}")))?;
        if power > MAX_TOTAL_VOTING_POWER {
            return Err(fail(format!("total supply power {power} exceeds the limit {MAX_TOTAL_VOTING_POWER}")));
        }
    }
    Ok(())
}

fn expected_power(ctx: &mut Context<'_>, params: &Parameters, entity: &Address) -> Result<i64> {
    if params.debug_bypass_stake {
        return Ok(1);
    }
    let account = apps_staking::state::account(&ctx.state(), entity)?;
    voting_power_from_stake(&account.escrow.active.balance, params.voting_power_distribution)
        .map_err(|e| Error::Uncoded(format!("scheduler: {e}")))
}

/// Validators that the consensus engine begins with: registered ones that have not expired, most powerful first.
fn genesis_validators(doc: &Document) -> Result<Vec<(PublicKey, i64)>> {
    let fail = |text: String| Error::Uncoded(format!("scheduler: {text}"));
    let params = &doc.scheduler.parameters;
    let limit = |n: i64| usize::try_from(n).unwrap_or(0);
    let mut per_entity: BTreeMap<PublicKey, usize> = BTreeMap::new();
    let mut validators = Vec::new();
    for signed in &doc.registry.nodes {
        let node: Node = signed.open(REGISTER_CONTEXT, None).map_err(|e| fail(format!("genesis node: {e}")))?;
        if !node.roles.has(Roles::VALIDATOR) || node.is_expired(doc.beacon.base) {
            continue;
        }
        let account = doc.staking.ledger.get(&Address::of_key(&node.entity_id));
        let stake = account.map(|a| a.escrow.active.balance.clone()).unwrap_or_default();
        let power = if params.debug_bypass_stake {
            1
        } else {
            voting_power_from_stake(&stake, params.voting_power_distribution).map_err(|e| fail(e.to_string()))?
        };
        let count = per_entity.entry(node.entity_id).or_default();
        // The first node of an entity counts whatever the limit is.
        if *count > 0 && *count >= limit(params.max_validators_per_entity) {
            continue;
        }
        *count += 1;
        validators.push((node.consensus.id, power));
    }
    validators.sort_by_key(|(_, power)| std::cmp::Reverse(*power));
    validators.truncate(limit(params.max_validators));
    Ok(validators)
}
