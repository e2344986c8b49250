//! The first state of secret sharing.

use apps_core::{Context, Error, Result, epoch};
use wire_consensus::{
    churp::{HANDOFFS_DISABLED, Parameters, UpdateEvent},
    genesis::Document,
};

use super::state;
use crate::{NAME, common};

/// Writes default parameters and the instances, if the document has a section for them; else nothing.
///
/// The next handoff of instances with handoffs is the epoch after the current one, which is invalid (the largest
/// number) at this point: so it is epoch 0, which never comes.
///
/// # Errors
/// If an instance belongs to no registered key manager.
pub fn init_chain(ctx: &mut Context<'_>, doc: &Document) -> Result<()> {
    let Some(section) = &doc.keymanager.churp else { return Ok(()) };
    state::set_parameters(&mut ctx.state(), &Parameters::defaults())?;
    let epoch = epoch::current_epoch(ctx)?;
    let runtimes = common::genesis_runtimes(doc);
    for status in &section.statuses {
        let runtime = &status.identity.runtime_id;
        if !runtimes.contains_key(runtime) {
            return Err(Error::Uncoded(format!("keymanager: churp: unknown key manager runtime: {runtime}")));
        }
        let mut status = status.clone();
        status.next_handoff = if status.handoffs_disabled() { HANDOFFS_DISABLED } else { epoch.wrapping_add(1) };
        status.next_checksum = None;
        status.applications.clear();
        state::set_status(&mut ctx.state(), &status)?;
        ctx.emit(NAME, &UpdateEvent { status: Some(status) });
    }
    Ok(())
}
