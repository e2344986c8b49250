//! The backend that counts blocks and hashes them.

use apps_core::{Context, Error, Result};
use base_codec::Raw;
use base_prims::Epoch;
use wire_consensus::beacon::{InsecureParameters, Parameters};

use super::{emit_epoch, is_due, new_beacon, state};

/// Schedules an epoch at the height that its number gives.
pub(super) fn schedule(ctx: &mut Context<'_>, params: &InsecureParameters, epoch: Epoch) -> Result<()> {
    let height = epoch.cast_signed().wrapping_mul(params.interval);
    state::set_future_epoch(&mut ctx.state(), epoch, height)
}

/// The parameters of this backend.
pub(super) fn parameters(params: &Parameters) -> Result<&InsecureParameters> {
    let missing = || Error::Fatal("beacon: the insecure backend has no parameters".to_owned());
    params.insecure_parameters.as_ref().ok_or_else(missing)
}

/// Makes the scheduled transition if it is due.
pub(super) fn begin_block(ctx: &mut Context<'_>, params: &Parameters) -> Result<()> {
    let Some(future) = state::future_epoch(&ctx.state())? else { return Ok(()) };
    let height = ctx.current_height();
    if !is_due(future.height, height)? {
        return Ok(());
    }
    state::set_epoch(&mut ctx.state(), future.epoch, height)?;
    state::clear_future_epoch(&mut ctx.state())?;
    if !params.debug_mock_backend {
        schedule(ctx, parameters(params)?, future.epoch.wrapping_add(1))?;
    }
    emit_epoch(ctx, future.epoch);
    new_beacon(ctx, future.epoch)
}

/// `beacon.SetEpoch` of the mock: schedules the epoch for the next block.
pub(super) fn set_epoch(ctx: &mut Context<'_>, body: &Raw) -> Result<()> {
    let (now, _) = state::epoch(&ctx.state())?;
    let epoch: Epoch = body.decode_as().map_err(|e| Error::Uncoded(e.to_string()))?;
    if epoch <= now {
        return Err(Error::Uncoded("beacon: explicit epoch does not advance time".to_owned()));
    }
    let next = ctx.current_height() + 1;
    state::set_future_epoch(&mut ctx.state(), epoch, next)
}
