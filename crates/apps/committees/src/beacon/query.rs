//! Queries of the beacon service.

use apps_core::{Result, kv::KvRead};
use wire_consensus::beacon::Genesis;

pub use super::state::{beacon, epoch, future_epoch, parameters, vrf_state};

/// The genesis section that continues from this state.
pub fn genesis(kv: &dyn KvRead) -> Result<Genesis> {
    let (base, _) = epoch(kv)?;
    Ok(Genesis { base, parameters: parameters(kv)? })
}
