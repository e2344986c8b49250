//! What happens to key managers when the epoch changes: new committees, accepted policies and master secrets.

use apps_committees::registry::state as registry;
use apps_core::{Context, Result};
use base_codec::cbor;
use base_prims::Epoch;
use wire_consensus::{
    keymanager::{Status, StatusUpdateEvent},
    registry::RuntimeKind,
};

use super::{state, status};
use crate::NAME;

/// Generates the status of each active key manager anew; those that changed are stored and reported in one event.
pub fn on_epoch_change(ctx: &mut Context<'_>, epoch: Epoch) -> Result<()> {
    let inputs = status::Inputs::load(ctx, epoch)?;
    let mut changed = Vec::new();
    for runtime in registry::runtimes(&ctx.state())? {
        if runtime.kind != RuntimeKind::KEY_MANAGER {
            continue;
        }
        let known = state::status(&ctx.state(), &runtime.id)?;
        let is_new = known.is_none();
        let old = known.unwrap_or_else(|| Status { id: runtime.id, ..Status::default() });
        let secret = state::master_secret(&ctx.state(), &runtime.id)?;
        let new = inputs.generate(ctx, &runtime, &old, secret.as_ref())?;
        if is_new || cbor::to_vec(&old) != cbor::to_vec(&new) {
            state::set_status(&mut ctx.state(), &new)?;
            changed.push(new);
        }
    }
    if !changed.is_empty() {
        ctx.emit(NAME, &StatusUpdateEvent { statuses: Some(changed) });
    }
    Ok(())
}
