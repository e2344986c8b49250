//! Transactions about entities and nodes. Source: `go/consensus/cometbft/apps/registry/transactions.go`.

use apps_core::{Context, Error, Level, Message, Result, epoch};
use apps_staking::accumulator::{StakeAccumulator, add_stake_claim, remove_stake_claim};
use base_codec::cbor;
use base_prims::{Address, EPOCH_INVALID, Epoch};
use wire_consensus::{
    beacon::BACKEND_VRF,
    entity::SignedEntity,
    errors::registry as codes,
    node::{MultiSignedNode, Node},
    registry::{
        EntityEvent, GAS_OP_DEREGISTER_ENTITY, GAS_OP_PROVE_FRESHNESS, GAS_OP_REGISTER_ENTITY, GAS_OP_REGISTER_NODE,
        GAS_OP_RUNTIME_EPOCH_MAINTENANCE, GAS_OP_UNFREEZE_NODE, NodeEvent, NodeStatus, NodeUnfrozenEvent, Runtime,
        RuntimeGovernanceModel, RuntimeStartedEvent, STAKE_CLAIM_REGISTER_ENTITY, UnfreezeNode, stake_claim_for_node,
        validate::stake_thresholds_for_node,
    },
    staking::{StakeThreshold, ThresholdKind},
};

use super::{
    NAME, admission, state,
    verify::{self, Rules, StateLookup},
};

fn bypass_stake(ctx: &mut Context<'_>) -> Result<bool> {
    Ok(apps_staking::state::parameters(&ctx.state())?.debug_bypass_stake)
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// `registry.RegisterEntity`.
pub(super) fn register_entity(ctx: &mut Context<'_>, signed: &SignedEntity) -> Result<()> {
    let entity = verify::entity(signed, &verify::Trust::new(ctx), !ctx.is_init_chain())?;
    if ctx.is_check_only() {
        return Ok(());
    }
    let params = state::parameters(&ctx.state())?;
    ctx.use_gas(1, GAS_OP_REGISTER_ENTITY, &params.gas_costs)?;
    ctx.use_gas(count(entity.nodes.len()), GAS_OP_REGISTER_NODE, &params.gas_costs)?;
    if ctx.is_simulation() {
        return Ok(());
    }
    if !ctx.is_init_chain() && signed.signature.public_key != ctx.tx_signer() {
        return Err((&codes::INCORRECT_TX_SIGNER).into());
    }
    if !bypass_stake(ctx)? {
        let thresholds = [StakeThreshold::global(ThresholdKind::ENTITY)];
        add_stake_claim(ctx, &Address::of_key(&entity.id), STAKE_CLAIM_REGISTER_ENTITY, &thresholds)?;
    }
    state::set_entity(&mut ctx.state(), &entity.id, signed)?;
    ctx.emit(NAME, &EntityEvent { entity: Some(entity), is_registration: true });
    Ok(())
}

/// `registry.DeregisterEntity`.
pub(super) fn deregister_entity(ctx: &mut Context<'_>) -> Result<()> {
    if ctx.is_check_only() {
        return Ok(());
    }
    let params = state::parameters(&ctx.state())?;
    ctx.use_gas(1, GAS_OP_DEREGISTER_ENTITY, &params.gas_costs)?;
    if ctx.is_simulation() {
        return Ok(());
    }
    let id = ctx.tx_signer();
    if state::has_entity_nodes(&ctx.state(), &id)? {
        return Err((&codes::ENTITY_HAS_NODES).into());
    }
    if state::has_entity_runtimes(&ctx.state(), &id)? {
        return Err((&codes::ENTITY_HAS_RUNTIMES).into());
    }
    let removed = state::remove_entity(&mut ctx.state(), &id)?;
    if !bypass_stake(ctx)? {
        remove_stake_claim(ctx, &Address::of_key(&id), STAKE_CLAIM_REGISTER_ENTITY)
            .map_err(|e| Error::Fatal(format!("registered entity {id} without stake claim: {e}")))?;
    }
    ctx.emit(NAME, &EntityEvent { entity: Some(removed), is_registration: false });
    Ok(())
}

/// `registry.RegisterNode`.
pub(super) fn register_node(ctx: &mut Context<'_>, signed: &MultiSignedNode) -> Result<()> {
    if ctx.is_check_only() {
        return Ok(());
    }
    // Who owns the node is looked up before the signatures are verified.
    let untrusted: Node =
        cbor::from_slice(signed.blob()).map_err(|e| Error::from(&codes::INVALID_ARGUMENT).context(e))?;
    let entity =
        state::entity(&ctx.state(), &untrusted.entity_id)?.ok_or_else(|| Error::from(&codes::NO_SUCH_ENTITY))?;
    let params = state::parameters(&ctx.state())?;
    let now = epoch::of_state(&ctx.state())?.epoch;
    let rules = Rules::new(ctx, &params, now);
    let (node, runtimes) = verify::node(&rules, &StateLookup(&ctx.state()), signed, &entity)?;

    if !ctx.is_init_chain() && ctx.tx_signer() != node.id {
        return Err((&codes::INCORRECT_TX_SIGNER).into());
    }
    for runtime in &runtimes {
        admission::verify(&ctx.state(), &node, runtime, now)?;
    }
    if !ctx.is_init_chain() && node.expiration <= now {
        return Err((&codes::NODE_EXPIRED).into());
    }

    let existing = state::node(&ctx.state(), &node.id)?;
    let epochs = paid_epochs(&node, existing.as_ref(), now);
    let fees = count(runtimes.len()).wrapping_mul(epochs);
    ctx.use_gas(fees, GAS_OP_RUNTIME_EPOCH_MAINTENANCE, &params.gas_costs)?;

    // The registry reads and writes below the sub-transaction, which undoes stake claims and what other services did.
    let level = ctx.level();
    let registration = Registration { signed, node, existing, runtimes, now, level };
    ctx.transaction(|ctx| registration.execute(ctx))
}

/// For how many epochs the node pays: those that it has not paid for yet.
fn paid_epochs(node: &Node, existing: Option<&Node>, now: Epoch) -> u64 {
    let additional = node.expiration.saturating_sub(now);
    match existing {
        Some(existing) if !existing.is_expired(now) => additional.saturating_sub(existing.expiration.wrapping_sub(now)),
        _ => additional,
    }
}

/// A node registration whose descriptor is fine and paid for.
struct Registration<'a> {
    signed: &'a MultiSignedNode,
    node: Node,
    existing: Option<Node>,
    runtimes: Vec<Runtime>,
    now: Epoch,
    level: Level,
}

impl Registration<'_> {
    fn execute(self, ctx: &mut Context<'_>) -> Result<()> {
        let mut stake = self.claim_stake(ctx)?;
        if let Some(existing) = &self.existing {
            verify::node_update(&StateLookup(&ctx.state_at(self.level)), existing, &self.node, self.now)?;
        }
        state::set_node(&mut ctx.state_at(self.level), self.existing.as_ref(), &self.node, self.signed)?;
        self.update_status(ctx)?;
        for runtime in &self.runtimes {
            self.resume(ctx, stake.as_mut(), runtime)?;
        }
        ctx.emit(NAME, &NodeEvent { node: Some(self.node), is_registration: true });
        Ok(())
    }

    fn claim_stake(&self, ctx: &mut Context<'_>) -> Result<Option<StakeAccumulator>> {
        if bypass_stake(ctx)? {
            return Ok(None);
        }
        let mut stake = StakeAccumulator::new(&ctx.state())?;
        let owner = Address::of_key(&self.node.entity_id);
        let thresholds = stake_thresholds_for_node(&self.node, &self.runtimes);
        stake.add_claim(&ctx.state(), &owner, &stake_claim_for_node(&self.node.id), &thresholds)?;
        stake.commit(&mut ctx.state())?;
        Ok(Some(stake))
    }

    /// New and expired nodes are not eligible for committees at once, nor are those with a new VRF key.
    fn update_status(&self, ctx: &mut Context<'_>) -> Result<()> {
        let id = &self.node.id;
        let status = match &self.existing {
            None => Some(NodeStatus { election_eligible_after: EPOCH_INVALID, ..NodeStatus::default() }),
            Some(existing) => {
                let mut status = state::find_node_status(&ctx.state_at(self.level), id)?
                    .ok_or_else(|| Error::from(&codes::INVALID_ARGUMENT))?;
                let dirty = if existing.is_expired(self.now) {
                    status.expiration_processed = false;
                    true
                } else {
                    ctx.is_feature_26_1()
                        && crate::beacon::state::parameters(&ctx.state())?.backend == BACKEND_VRF
                        && existing.vrf.id != self.node.vrf.id
                };
                status.election_eligible_after = EPOCH_INVALID;
                dirty.then_some(status)
            }
        };
        match status {
            Some(status) => state::set_node_status(&mut ctx.state_at(self.level), id, &status),
            None => Ok(()),
        }
    }

    /// Resumes a suspended runtime that the node has paid for, if its owner has the stake for it.
    fn resume(&self, ctx: &mut Context<'_>, stake: Option<&mut StakeAccumulator>, runtime: &Runtime) -> Result<()> {
        if let Some(stake) = stake
            && runtime.governance_model != RuntimeGovernanceModel::CONSENSUS
        {
            let owner = runtime.staking_address().ok_or_else(|| {
                let model = runtime.governance_model;
                Error::Uncoded(format!("unknown runtime governance model on runtime {}: {model}", runtime.id))
            })?;
            if !stake.check_claims(&ctx.state(), &owner)? {
                return Ok(());
            }
        }
        match state::resume_runtime(&mut ctx.state_at(self.level), &runtime.id) {
            Err(e) if e.is(&codes::NO_SUCH_RUNTIME) => return Ok(()),
            other => other?,
        }
        ctx.dispatch(&Message::RuntimeResumed(runtime))?;
        ctx.emit(NAME, &RuntimeStartedEvent { runtime: Some(runtime.clone()) });
        Ok(())
    }
}

/// `registry.UnfreezeNode`.
pub(super) fn unfreeze_node(ctx: &mut Context<'_>, body: &UnfreezeNode) -> Result<()> {
    if ctx.is_check_only() {
        return Ok(());
    }
    let params = state::parameters(&ctx.state())?;
    ctx.use_gas(1, GAS_OP_UNFREEZE_NODE, &params.gas_costs)?;
    if ctx.is_simulation() {
        return Ok(());
    }
    let node = state::node(&ctx.state(), &body.node_id)?.ok_or_else(|| Error::from(&codes::NO_SUCH_NODE))?;
    if ctx.tx_signer() != node.entity_id {
        return Err((&codes::BAD_ENTITY_FOR_NODE).into());
    }
    let mut status = state::node_status(&ctx.state(), &node.id)?;
    if status.freeze_end_time > epoch::of_state(&ctx.state())?.epoch {
        return Err((&codes::NODE_CANNOT_BE_UNFROZEN).into());
    }
    status.freeze_end_time = 0;
    state::set_node_status(&mut ctx.state(), &node.id, &status)?;
    ctx.emit(NAME, &NodeUnfrozenEvent { node_id: node.id });
    Ok(())
}

/// `registry.ProveFreshness`: does nothing but cost gas, also while checking for the pool.
pub(super) fn prove_freshness(ctx: &mut Context<'_>) -> Result<()> {
    let params = state::parameters(&ctx.state())?;
    if !params.tee_features.as_ref().is_some_and(|f| f.freshness_proofs) {
        return Err((&codes::INVALID_ARGUMENT).into());
    }
    ctx.use_gas(1, GAS_OP_PROVE_FRESHNESS, &params.gas_costs)
}
