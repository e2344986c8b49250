//! The first state of the vault service.

use apps_core::{Context, Result};
use wire_consensus::vault::Genesis;

use super::state;

/// Writes parameters, vaults, withdrawal states and pending actions.
pub fn init_chain(ctx: &mut Context<'_>, doc: &Genesis) -> Result<()> {
    let kv = &mut ctx.state();
    state::set_parameters(kv, &doc.parameters)?;
    for v in &doc.vaults {
        state::set_vault(kv, v)?;
    }
    for (vault, states) in &doc.states {
        for (address, s) in states.iter().flatten() {
            state::set_address_state(kv, vault, address, s)?;
        }
    }
    for (vault, actions) in &doc.pending_actions {
        for a in actions.iter().flatten() {
            state::set_pending_action(kv, vault, a)?;
        }
    }
    Ok(())
}
