//! Queries of the beacon service.

use apps_core::{Result, kv::KvRead};
use base_prims::Epoch;
use wire_consensus::beacon::Genesis;

pub use super::state::{beacon, epoch, future_epoch, parameters, vrf_state};

/// The genesis section that continues from this state.
pub fn genesis(kv: &dyn KvRead) -> Result<Genesis> {
    let (base, _) = epoch(kv)?;
    Ok(Genesis { base, parameters: parameters(kv)? })
}

/// The epoch of the block after this state, which is that of `height`.
///
/// # Errors
/// [`apps_core::Error::Fatal`] if the state is unavailable.
pub fn next_epoch(kv: &dyn KvRead, height: i64) -> Result<Epoch> {
    match future_epoch(kv)? {
        Some(future) if height.checked_add(1) == Some(future.height) => Ok(future.epoch),
        _ => Ok(epoch(kv)?.0),
    }
}
