//! Queries of the scheduler.

use apps_core::{Result, kv::KvRead};
use base_prims::Namespace;
use wire_consensus::scheduler::{Committee, CommitteeKind, Genesis, Validator};

use super::state;
pub use super::state::{committee, committees, parameters};

/// The validators in force, by consensus key.
pub fn validators(kv: &dyn KvRead) -> Result<Vec<Validator>> {
    Ok(state::current_validators(kv)?.into_values().collect())
}

/// The executor committees of a runtime.
pub fn runtime_committees(kv: &dyn KvRead, runtime: &Namespace) -> Result<Vec<Committee>> {
    let mut all = committees(kv, Some(CommitteeKind::COMPUTE_EXECUTOR))?;
    all.retain(|c| c.runtime_id == *runtime);
    Ok(all)
}

/// The genesis section that continues from this state.
pub fn genesis(kv: &dyn KvRead) -> Result<Genesis> {
    Ok(Genesis { parameters: parameters(kv)? })
}
