//! Which epoch it is. The beacon writes these keys; every service reads them.

use base_prims::{EPOCH_INVALID, Epoch};
use wire_consensus::beacon::EpochTimeState;

use crate::{
    Context, Result,
    kv::{self, KvRead},
};

/// Key of the current epoch.
pub const KEY_CURRENT: [u8; 1] = [0x40];
/// Key of the scheduled epoch.
pub const KEY_FUTURE: [u8; 1] = [0x41];

/// The current epoch of a state; epoch 0 at height 0 where none was written.
///
/// # Errors
/// [`crate::Error::Fatal`] if the state is unavailable.
pub fn of_state(state: &dyn KvRead) -> Result<EpochTimeState> {
    Ok(kv::get(state, &KEY_CURRENT)?.unwrap_or_default())
}

/// The scheduled epoch of a state, if any.
///
/// # Errors
/// [`crate::Error::Fatal`] if the state is unavailable.
pub fn future_of_state(state: &dyn KvRead) -> Result<Option<EpochTimeState>> {
    kv::get(state, &KEY_FUTURE)
}

/// The epoch of the block being built: a scheduled epoch counts from the beginning of its first block.
/// [`EPOCH_INVALID`] at genesis and in the first block.
///
/// # Errors
/// [`crate::Error::Fatal`] if the state is unavailable.
pub fn current_epoch(ctx: &mut Context<'_>) -> Result<Epoch> {
    if ctx.last_block_height() == 0 {
        return Ok(EPOCH_INVALID);
    }
    let next = ctx.current_height();
    let state = ctx.state();
    match future_of_state(&state)? {
        Some(future) if future.height == next => Ok(future.epoch),
        _ => Ok(of_state(&state)?.epoch),
    }
}

/// The new epoch, if this block began one. The first two blocks never do.
///
/// # Errors
/// [`crate::Error::Fatal`] if the state is unavailable.
pub fn epoch_changed(ctx: &mut Context<'_>) -> Result<Option<Epoch>> {
    let last = ctx.last_block_height();
    if last == 0 || last == ctx.initial_height() {
        return Ok(None);
    }
    let now = of_state(&ctx.state())?.epoch;
    let before = of_state(ctx.committed_state())?.epoch;
    Ok((now != before).then_some(now))
}

/// The epoch of the last committed block.
///
/// # Errors
/// [`crate::Error::Fatal`] if the state is unavailable.
pub fn last_epoch(ctx: &Context<'_>) -> Result<Epoch> {
    Ok(of_state(ctx.committed_state())?.epoch)
}
