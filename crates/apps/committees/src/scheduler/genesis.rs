//! The first state of the scheduler.

use apps_core::{Context, Error, Result};
use base_prims::Address;
use wire_consensus::{
    genesis::{Document, comet},
    node::Roles,
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
    for validator in comet::validators(doc)? {
        let (key, power) = (validator.pub_key, validator.power);
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
