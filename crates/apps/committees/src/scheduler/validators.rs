//! Election of validators.

use std::collections::{BTreeMap, BTreeSet};

use apps_core::{Context, Error, Result};
use base_prims::{Address, Quantity};
use comet_chain::app::ValidatorUpdate;
use wire_consensus::{
    node::{Node, Roles},
    scheduler::{Validator, voting_power_from_stake},
};

use super::{
    epoch::Election,
    sortition::{self, BetaHasher, RNG_ENTITIES, RNG_VALIDATORS, VRF_VALIDATOR},
    state::{self, Validators},
};

/// Elects validators among `nodes` (by identifier) and stores them as pending.
///
/// # Errors
/// If there are none or too few: a chain without validators cannot go on.
pub(super) fn elect(ctx: &mut Context<'_>, election: &mut Election, nodes: &[Node]) -> Result<()> {
    let mut eligible = Vec::new();
    let mut entities = BTreeSet::new();
    for node in nodes.iter().filter(|n| n.roles.has(Roles::VALIDATOR)) {
        let entity = Address::of_key(&node.entity_id);
        if election.has_stake(ctx, &entity)? {
            eligible.push(node);
            entities.insert(entity);
        }
    }
    let entities = order_entities(ctx, election, entities)?;
    let mut by_entity: BTreeMap<Address, Vec<&Node>> = BTreeMap::new();
    for node in order_nodes(ctx, election, &eligible)? {
        by_entity.entry(Address::of_key(&node.entity_id)).or_default().push(node);
    }

    let max = usize::try_from(election.params.max_validators).unwrap_or(0);
    let per_entity = usize::try_from(election.params.max_validators_per_entity).unwrap_or(0);
    let mut elected = Validators::new();
    'elect: for (entity, stake) in entities {
        for node in by_entity.get(&entity).into_iter().flatten().take(per_entity) {
            election.rewardable.insert(entity);
            let voting_power = if election.params.debug_bypass_stake {
                1
            } else {
                voting_power_from_stake(&stake, election.params.voting_power_distribution)
                    .map_err(|e| Error::Uncoded(format!("scheduler: voting power of {entity}: {e}")))?
            };
            election.validators.insert(entity);
            let validator = Validator { id: node.id, entity_id: node.entity_id, voting_power };
            elected.insert(node.consensus.id, validator);
            if elected.len() >= max {
                break 'elect;
            }
        }
    }
    if elected.is_empty() {
        return Err(Error::Uncoded("scheduler: failed to elect any validators".to_owned()));
    }
    if i64::try_from(elected.len()).unwrap_or(i64::MAX) < election.params.min_validators {
        return Err(Error::Uncoded(format!(
            "scheduler: insufficient validators: {} of at least {}",
            elected.len(),
            election.params.min_validators
        )));
    }
    state::set_pending_validators(&mut ctx.state(), Some(&elected))
}

/// Entities by falling stake, those with equal stake in random order; with each its stake.
fn order_entities(
    ctx: &mut Context<'_>,
    election: &mut Election,
    entities: BTreeSet<Address>,
) -> Result<Vec<(Address, Quantity)>> {
    let mut addresses: Vec<Address> = entities.into_iter().collect();
    sortition::rng(&election.entropy, &[], RNG_ENTITIES)?.shuffle(&mut addresses);
    if election.params.debug_bypass_stake {
        return Ok(addresses.into_iter().map(|a| (a, Quantity::default())).collect());
    }
    let mut with_stake = Vec::with_capacity(addresses.len());
    for address in addresses {
        let stake = election.stake.escrow_balance(&ctx.state(), &address)?;
        with_stake.push((address, stake));
    }
    with_stake.sort_by(|(_, a), (_, b)| b.cmp(a));
    Ok(with_stake)
}

/// Nodes in the order in which an entity's nodes are taken.
fn order_nodes<'a>(ctx: &Context<'_>, election: &Election, nodes: &[&'a Node]) -> Result<Vec<&'a Node>> {
    if election.use_vrf {
        let with_proof = nodes.iter().filter(|n| sortition::has_proof(&election.vrf, &n.id)).count();
        // With too few proofs, fall back to the beacon: it only decides among nodes of one entity.
        if i64::try_from(with_proof).unwrap_or(i64::MAX) >= election.params.min_validators {
            let hasher = BetaHasher::new(ctx, VRF_VALIDATOR, election.epoch);
            return sortition::sort_by_beta(&election.vrf, &hasher, nodes);
        }
    }
    let order = sortition::rng(&election.entropy, &[], RNG_VALIDATORS)?.perm(nodes.len());
    Ok(order.into_iter().filter_map(|i| nodes.get(i).copied()).collect())
}

/// Puts pending validators in force and says what changed, by consensus key.
pub(super) fn update(ctx: &mut Context<'_>) -> Result<Vec<ValidatorUpdate>> {
    let Some(pending) = state::pending_validators(&ctx.state())? else { return Ok(Vec::new()) };
    let current = state::current_validators(&ctx.state())?;
    state::set_pending_validators(&mut ctx.state(), None)?;
    let updates = diff(&current, &pending);
    state::set_current_validators(&mut ctx.state(), &pending)?;
    Ok(updates)
}

/// Removed validators get power 0; unchanged ones are left out.
pub(super) fn diff(current: &Validators, pending: &Validators) -> Vec<ValidatorUpdate> {
    let removed = current.keys().filter(|k| !pending.contains_key(k)).map(|k| (*k, 0));
    let changed = pending
        .iter()
        .filter(|(k, v)| current.get(k).is_none_or(|c| c.voting_power != v.voting_power))
        .map(|(k, v)| (*k, v.voting_power));
    removed.chain(changed).map(|(key, power)| ValidatorUpdate { pub_key: *key.as_bytes(), power }).collect()
}
