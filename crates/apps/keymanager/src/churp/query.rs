//! Queries of secret sharing.

use apps_core::{Error, Result, kv::KvRead};
use wire_consensus::{
    churp::{Genesis, HANDOFFS_DISABLED, Identity, Status},
    errors::churp as codes,
};

use super::state;
pub use super::state::{all_statuses, parameters, statuses};

/// The status of an instance.
///
/// # Errors
/// `keymanager/churp/1` if there is none.
pub fn status(kv: &dyn KvRead, identity: &Identity) -> Result<Status> {
    state::status(kv, identity)?.ok_or_else(|| Error::from(&codes::NO_SUCH_STATUS))
}

/// The state as a section of a genesis document: handoffs are disabled, applications left out.
pub fn genesis(kv: &dyn KvRead) -> Result<Genesis> {
    let mut statuses = state::all_statuses(kv)?;
    for s in &mut statuses {
        s.next_handoff = HANDOFFS_DISABLED;
        s.next_checksum = None;
        s.applications.clear();
    }
    Ok(Genesis { parameters: state::parameters(kv)?, statuses })
}
