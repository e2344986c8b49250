//! Expiration of nodes. Source: `go/consensus/cometbft/apps/registry/registry.go`.

use apps_core::{Context, Result, epoch};
use apps_staking::accumulator::StakeAccumulator;
use base_prims::Address;
use wire_consensus::registry::{NODE_LIST_EPOCH_ATTRIBUTE, NodeEvent, stake_claim_for_node};

use super::{NAME, state};

/// At a new epoch: tells of nodes that expired, and removes those that expired a debonding interval ago.
pub(super) fn begin_block(ctx: &mut Context<'_>) -> Result<()> {
    let Some(now) = epoch::epoch_changed(ctx)? else { return Ok(()) };
    let staking = apps_staking::state::parameters(&ctx.state())?;
    let mut stake = StakeAccumulator::new(&ctx.state())?;
    let mut expired = Vec::new();
    for node in state::nodes(&ctx.state())? {
        if !node.is_expired(now) {
            continue;
        }
        let mut status = state::node_status(&ctx.state(), &node.id)?;
        let processed = status.expiration_processed;
        if !processed {
            status.expiration_processed = true;
            state::set_node_status(&mut ctx.state(), &node.id, &status)?;
        }
        // Until then it can still be slashed. A sum that overflows is never reached.
        if node.expiration.checked_add(staking.debonding_interval).is_some_and(|end| end < now) {
            state::remove_node(&mut ctx.state(), &node)?;
            if !staking.debug_bypass_stake {
                let owner = Address::of_key(&node.entity_id);
                stake.remove_claim(&ctx.state(), &owner, &stake_claim_for_node(&node.id))?;
            }
        }
        if !processed {
            expired.push(node);
        }
    }
    stake.commit(&mut ctx.state())?;
    for node in expired {
        ctx.emit(NAME, &NodeEvent { node: Some(node), is_registration: false });
    }
    ctx.emit_raw(NAME, &[NODE_LIST_EPOCH_ATTRIBUTE]);
    Ok(())
}
