//! Election of runtime committees.

use std::collections::BTreeMap;

use apps_core::{Context, Result};
use base_prims::{Address, PublicKey};
use wire_consensus::{
    node::{Node, Roles},
    registry::{Runtime, SchedulingConstraints},
    scheduler::{Committee, CommitteeKind, CommitteeNode, Role},
    tee::TeeHardware,
};

use super::{
    epoch::{Candidate, Election},
    force,
    sortition::{self, BetaHasher, VRF_COMMITTEE, VRF_DEDUP},
    state,
};
use crate::registry;

const KIND: CommitteeKind = CommitteeKind::COMPUTE_EXECUTOR;
/// Workers come first: others rely on it.
const ROLES: [Role; 2] = [Role::WORKER, Role::BACKUP_WORKER];

impl Election {
    /// Whether an entity's stake covers its claims.
    pub(super) fn has_stake(&mut self, ctx: &mut Context<'_>, entity: &Address) -> Result<bool> {
        Ok(self.params.debug_bypass_stake || self.stake.check_claims(&ctx.state(), entity)?)
    }
}

/// Elects a runtime's committee, or drops the old one if there can be none.
pub(super) fn elect(
    ctx: &mut Context<'_>,
    election: &mut Election,
    runtime: &Runtime,
    candidates: &[Candidate],
) -> Result<()> {
    // Before the feature version, key manager runtimes are not skipped (they have no group sizes, usually).
    if ctx.is_feature_26_1() && !runtime.is_compute() {
        return Ok(());
    }
    match elect_members(ctx, election, runtime, candidates)? {
        Some(members) if !members.is_empty() => {
            let committee =
                Committee { kind: KIND, members: Some(members), runtime_id: runtime.id, valid_for: election.epoch };
            state::set_committee(&mut ctx.state(), &committee)
        }
        _ => state::drop_committee(&mut ctx.state(), KIND, &runtime.id),
    }
}

fn group_size(runtime: &Runtime, role: Role) -> usize {
    let size = if role == Role::WORKER { runtime.executor.group_size } else { runtime.executor.group_backup_size };
    usize::from(size)
}

/// The constraints of a role; those of a role without any are empty.
fn constraints(runtime: &Runtime, role: Role) -> SchedulingConstraints {
    runtime.constraints.get(&KIND).and_then(|roles| roles.get(&role)).cloned().unwrap_or_default()
}

fn elect_members(
    ctx: &mut Context<'_>,
    election: &mut Election,
    runtime: &Runtime,
    candidates: &[Candidate],
) -> Result<Option<Vec<CommitteeNode>>> {
    if election.use_vrf && !election.vrf.can_elect_committees && !election.params.debug_allow_weak_alpha {
        return Ok(None);
    }
    if group_size(runtime, Role::WORKER) == 0 {
        return Ok(None);
    }
    let pools = collect_pools(ctx, election, runtime, candidates)?;
    let mut members = Vec::new();
    for role in ROLES {
        let wanted = group_size(runtime, role);
        if wanted == 0 {
            continue;
        }
        let pool = pools.get(&role).map(Vec::as_slice).unwrap_or_default();
        match elect_role(ctx, election, runtime, role, pool, wanted)? {
            Some(elected) => members.extend(elected),
            None => return Ok(None),
        }
    }
    Ok(Some(members))
}

/// The nodes that may take each role; their entities become rewardable.
fn collect_pools<'a>(
    ctx: &mut Context<'_>,
    election: &mut Election,
    runtime: &Runtime,
    candidates: &'a [Candidate],
) -> Result<BTreeMap<Role, Vec<&'a Node>>> {
    let mut pools: BTreeMap<Role, Vec<&Node>> = BTreeMap::new();
    for candidate in candidates {
        let id = &candidate.node.id;
        let entity = Address::of_key(&candidate.node.entity_id);
        if !election.has_stake(ctx, &entity)? || !is_suitable(ctx, election, runtime, candidate)? {
            continue;
        }
        let proven = !election.use_vrf || sortition::has_proof(&election.vrf, id);
        if !proven && !force::is_forced(election, &runtime.id, KIND, id) {
            continue;
        }
        let mut eligible = false;
        for role in ROLES.into_iter().filter(|r| group_size(runtime, *r) > 0) {
            let validators_only = constraints(runtime, role).validator_set.is_some();
            if !validators_only || election.validators.contains(&entity) {
                pools.entry(role).or_default().push(&candidate.node);
                eligible = true;
            }
        }
        if eligible {
            election.rewardable.insert(entity);
        }
    }
    Ok(pools)
}

/// Whether the node runs the runtime's active version, in the right kind of enclave if any, and is not suspended.
fn is_suitable(ctx: &Context<'_>, election: &Election, runtime: &Runtime, candidate: &Candidate) -> Result<bool> {
    let node = &candidate.node;
    if !node.roles.has(Roles::COMPUTE) {
        return Ok(false);
    }
    let Some(active) = runtime.active_deployment(election.epoch) else { return Ok(false) };
    let Some(registered) = node.runtime(&runtime.id, active.version) else { return Ok(false) };
    if candidate.status.is_frozen() || candidate.status.is_suspended(&runtime.id, election.epoch) {
        return Ok(false);
    }
    match &registered.capabilities.tee {
        None => Ok(runtime.tee_hardware == TeeHardware::INVALID),
        Some(_) if runtime.tee_hardware == TeeHardware::INVALID => Ok(false),
        Some(tee) if tee.hardware != runtime.tee_hardware => Ok(false),
        Some(tee) => Ok(registry::tee::verify(ctx, &election.registry_params, tee, active, &node.id).is_ok()),
    }
}

fn elect_role(
    ctx: &Context<'_>,
    election: &Election,
    runtime: &Runtime,
    role: Role,
    pool: &[&Node],
    wanted: usize,
) -> Result<Option<Vec<CommitteeNode>>> {
    let rules = constraints(runtime, role);
    let max_nodes = rules.max_nodes.as_ref().map(|m| m.limit);
    let hasher = |domain| BetaHasher::for_committee(ctx, domain, election.epoch, &runtime.id, KIND, role);

    let mut nodes = pool.to_vec();
    if let Some(limit) = max_nodes.filter(|limit| *limit > 0) {
        if force::is_on(election) {
            return Ok(None);
        }
        if election.use_vrf {
            nodes = sortition::sort_by_beta(&election.vrf, &hasher(VRF_DEDUP), &nodes)?;
        }
        nodes = sortition::limit_per_entity(&nodes, limit);
    }
    let min_pool = rules.min_pool_size.as_ref().map_or(0, |m| usize::from(m.limit));
    if nodes.len() < min_pool || nodes.len() < wanted {
        return Ok(None);
    }
    let order: Vec<&Node> = if election.use_vrf {
        sortition::sort_by_beta(&election.vrf, &hasher(VRF_COMMITTEE), &nodes)?
    } else {
        let context = sortition::role_context(role);
        let perm = sortition::rng(&election.entropy, runtime.id.as_bytes(), &context)?.perm(nodes.len());
        perm.into_iter().filter_map(|i| nodes.get(i).copied()).collect()
    };
    let Some(forced) = force::elect(election, &runtime.id, KIND, role, &nodes, wanted) else { return Ok(None) };

    let seat = |id: PublicKey| CommitteeNode { role, public_key: id };
    let mut elected: Vec<CommitteeNode> = forced.keys().copied().map(seat).collect();
    let mut per_entity: BTreeMap<PublicKey, u16> = BTreeMap::new();
    for node in order {
        if elected.len() >= wanted {
            break;
        }
        if forced.contains_key(&node.id) {
            continue;
        }
        // Never reached for a limit above zero, which was enforced before; a limit of zero lets nobody in.
        if let Some(limit) = max_nodes {
            let count = per_entity.entry(node.entity_id).or_default();
            if *count >= limit {
                return Ok(None);
            }
            *count += 1;
        }
        elected.push(seat(node.id));
    }
    if elected.len() != wanted {
        return Ok(None);
    }
    if role == Role::WORKER { Ok(force::arrange(&forced, elected)) } else { Ok(Some(elected)) }
}
