//! The first state of the beacon service.

use apps_core::{Context, Result};
use wire_consensus::beacon::Genesis;

use super::{Backend, backend, emit_epoch, insecure, state, vrf};

/// Writes parameters and, unless epochs are mocked, the first epoch and the transition to the second.
pub(super) fn init_chain(ctx: &mut Context<'_>, doc: &Genesis) -> Result<()> {
    let params = &doc.parameters;
    state::set_parameters(&mut ctx.state(), params)?;
    let backend = backend(params)?;
    let height = ctx.initial_height();
    match backend {
        // This mock begins without any epoch: the base epoch is not used.
        Backend::Insecure if params.debug_mock_backend => return Ok(()),
        Backend::Insecure | Backend::Vrf => state::set_epoch(&mut ctx.state(), doc.base, height)?,
    }
    if params.debug_mock_backend {
        return Ok(());
    }
    emit_epoch(ctx, doc.base);
    let next = doc.base.wrapping_add(1);
    match backend {
        Backend::Insecure => insecure::schedule(ctx, insecure::parameters(params)?, next),
        Backend::Vrf => vrf::schedule(ctx, vrf::parameters(params)?, next),
    }
}
