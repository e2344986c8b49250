//! When elections take place, and what they start from.

use std::collections::BTreeSet;

use apps_core::{Context, Message, Result, epoch};
use apps_staking::accumulator::StakeAccumulator;
use base_prims::{Address, Epoch};
use wire_consensus::{
    beacon::{BACKEND_VRF, PrevVrfState},
    events::TypedEvent,
    node::Node,
    registry::{self as wire_registry, NodeStatus},
    scheduler::{CommitteeKind, ElectedEvent, Parameters},
    staking::TakeEscrowEvent,
};

use super::{NAME, committees, state, validators};
use crate::{beacon, registry};

/// A candidate for committees.
pub(super) struct Candidate {
    pub(super) node: Node,
    pub(super) status: NodeStatus,
}

/// What an election draws on.
pub(super) struct Election {
    pub(super) epoch: Epoch,
    pub(super) params: Parameters,
    pub(super) registry_params: wire_registry::Parameters,
    /// Whether the VRF backend runs; then proofs decide.
    pub(super) use_vrf: bool,
    /// Proofs over the previous alpha.
    pub(super) vrf: PrevVrfState,
    /// The beacon.
    pub(super) entropy: Vec<u8>,
    pub(super) stake: StakeAccumulator,
    /// Entities with a node that is a validator or could be in a committee.
    pub(super) rewardable: BTreeSet<Address>,
    /// Entities with a validator.
    pub(super) validators: BTreeSet<Address>,
    pub(super) allow_debug: bool,
}

/// Holds elections if the epoch changed or stake was slashed in this block's beginning.
pub(super) fn begin_block(ctx: &mut Context<'_>, base_epoch: Epoch) -> Result<()> {
    let changed = epoch::epoch_changed(ctx)?;
    let current = epoch::current_epoch(ctx)?;
    // In the first epoch there is neither entropy nor are there registrations.
    if current == base_epoch {
        return Ok(());
    }
    if let Some(epoch) = changed {
        return elect(ctx, epoch, true);
    }
    // Slashing by transactions does not count: their events belong to the block before.
    if ctx.has_event(apps_staking::NAME, TakeEscrowEvent::KIND) {
        return elect(ctx, current, false);
    }
    Ok(())
}

pub(super) fn elect(ctx: &mut Context<'_>, epoch: Epoch, reward: bool) -> Result<()> {
    ctx.dispatch(&Message::BeforeSchedule { epoch })?;

    let params = state::parameters(&ctx.state())?;
    let beacon_params = beacon::state::parameters(&ctx.state())?;
    let entropy = beacon::state::beacon(&ctx.state())?;
    let use_vrf = beacon_params.backend == BACKEND_VRF;
    let vrf = if use_vrf {
        beacon::state::vrf_state(&ctx.state())?.and_then(|s| s.prev_state).unwrap_or_default()
    } else {
        PrevVrfState::default()
    };
    let registry_params = registry::state::parameters(&ctx.state())?;

    let needs_eligibility = use_vrf && !params.debug_allow_weak_alpha;
    let (mut nodes, mut candidates) = (Vec::new(), Vec::new());
    for node in registry::state::nodes(&ctx.state())? {
        let status = registry::state::node_status(&ctx.state(), &node.id)?;
        if status.is_frozen() || node.is_expired(epoch) {
            continue;
        }
        nodes.push(node.clone());
        if !needs_eligibility || epoch > status.election_eligible_after {
            candidates.push(Candidate { node, status });
        }
    }

    let mut election = Election {
        epoch,
        params,
        registry_params,
        use_vrf,
        vrf,
        entropy,
        stake: StakeAccumulator::new(&ctx.state())?,
        rewardable: BTreeSet::new(),
        validators: BTreeSet::new(),
        allow_debug: ctx.config().allow_debug,
    };
    validators::elect(ctx, &mut election, &nodes)?;
    for runtime in registry::state::runtimes(&ctx.state())? {
        committees::elect(ctx, &mut election, &runtime, &candidates)?;
    }
    ctx.emit(NAME, &ElectedEvent { kinds: vec![CommitteeKind::COMPUTE_EXECUTOR].into() });

    if reward {
        let entities: Vec<Address> = election.rewardable.into_iter().collect();
        let factor = &election.params.reward_factor_epoch_election_any;
        apps_staking::rewards::add_rewards(ctx, epoch, factor, &entities)?;
    }
    Ok(())
}
