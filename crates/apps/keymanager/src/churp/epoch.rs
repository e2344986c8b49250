//! What happens to handoffs when the epoch changes.

use apps_committees::registry::state as registry;
use apps_core::{Context, Result};
use base_prims::Epoch;
use wire_consensus::churp::UpdateEvent;

use super::{
    handoff::{self, Moment},
    state,
};
use crate::NAME;

/// Ends handoffs whose epoch is over, and puts off those that lack applicants. Instances of active runtimes only; one
/// whose epochs were jumped over stays as it is.
pub fn on_epoch_change(ctx: &mut Context<'_>, epoch: Epoch) -> Result<()> {
    for runtime in registry::runtimes(&ctx.state())? {
        for mut status in state::statuses(&ctx.state(), &runtime.id)? {
            if status.handoffs_disabled() {
                continue;
            }
            let completed = if epoch == status.next_handoff {
                if status.applications.len() >= status.min_applicants() {
                    continue;
                }
                false
            } else if epoch == status.next_handoff.wrapping_add(1) {
                handoff::try_finalize(&mut status, Moment::EpochOver)
            } else {
                continue;
            };
            if !completed {
                handoff::reset(&mut status, epoch.wrapping_add(1));
            }
            state::set_status(&mut ctx.state(), &status)?;
            ctx.emit(NAME, &UpdateEvent { status: Some(status) });
        }
    }
    Ok(())
}
