//! Slashing of compute nodes' entities, and who gets what was taken.

use apps_core::{Context, Error, Result};
use apps_staking::{rewards::transfer_from_common, slashing::slash_escrow};
use base_prims::{Address, Namespace, PublicKey, Quantity};
use wire_consensus::{
    errors::{registry as registry_codes, roothash as codes},
    registry::Runtime,
};

use crate::registry;

/// Slashes the entity of a node that did not take part.
pub(super) fn on_liveness_failure(ctx: &mut Context<'_>, node: &PublicKey, penalty: &Quantity) -> Result<()> {
    if penalty.is_zero() {
        return Ok(());
    }
    let node = registry::state::node(&ctx.state(), node)?
        .ok_or_else(|| Error::from(&registry_codes::NO_SUCH_NODE).context("liveness"))?;
    slash_escrow(ctx, &Address::of_key(&node.entity_id), penalty)?;
    Ok(())
}

/// Slashes the entity of a node that signed two things; runtime and submitter share what was taken.
pub(super) fn on_equivocation(
    ctx: &mut Context<'_>,
    node: &PublicKey,
    runtime: &Runtime,
    penalty: &Quantity,
) -> Result<()> {
    // The node may be gone, or never have been there: anyone can sign two things.
    let node = registry::state::node(&ctx.state(), node)?
        .ok_or_else(|| Error::from(&codes::INVALID_EVIDENCE).context("no such node"))?;
    let slashed = slash_escrow(ctx, &Address::of_key(&node.entity_id), penalty)?;
    // Evidence may be of a time when there was stake.
    if slashed.is_zero() {
        return Ok(());
    }
    // A node does not keep rewards: its entity does.
    let signer = ctx.tx_signer();
    let submitter = match registry::state::node(&ctx.state(), &signer)? {
        Some(node) => Address::of_key(&node.entity_id),
        None => ctx.caller(),
    };
    let percentage = runtime.staking.reward_slash_equivocation_runtime_percent;
    distribute(ctx, &slashed, percentage, &runtime.id, &[submitter])
}

/// Slashes entities for each of their nodes with wrong results; runtime and those with right results share.
pub(super) fn on_incorrect_results(
    ctx: &mut Context<'_>,
    causers: &[PublicKey],
    resolvers: &[PublicKey],
    runtime: &Runtime,
    penalty: &Quantity,
) -> Result<()> {
    let mut total = Quantity::default();
    for entity in causers {
        let slashed = slash_escrow(ctx, &Address::of_key(entity), penalty)?;
        total.add_assign(&slashed);
    }
    // Entities may be out of stake; that must not fail the round.
    if total.is_zero() {
        return Ok(());
    }
    let rewarded: Vec<Address> = resolvers.iter().map(Address::of_key).collect();
    let percentage = runtime.staking.reward_slash_bad_results_runtime_percent;
    distribute(ctx, &total, percentage, &runtime.id, &rewarded)
}

/// Gives the runtime its percentage and the others equal parts of the rest, the latter into escrow.
fn distribute(
    ctx: &mut Context<'_>,
    total: &Quantity,
    percentage: u8,
    runtime: &Namespace,
    others: &[Address],
) -> Result<()> {
    let arithmetic = |e: base_prims::quantity::QuantityError| Error::Uncoded(format!("roothash: {e}"));
    let for_runtime =
        total.mul(&Quantity::from(u64::from(percentage))).quo(&Quantity::from(100u64)).map_err(arithmetic)?;
    transfer_from_common(ctx, &Address::of_runtime(runtime), &for_runtime, false)?;
    if others.is_empty() {
        return Ok(());
    }
    let count = u64::try_from(others.len()).unwrap_or(u64::MAX);
    let each = total.sub(&for_runtime).and_then(|rest| rest.quo(&Quantity::from(count))).map_err(arithmetic)?;
    for address in others {
        transfer_from_common(ctx, address, &each, true)?;
    }
    Ok(())
}
