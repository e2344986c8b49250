//! State of secret sharing: keys `74` and `75`.

use apps_core::{
    Result,
    kv::{self, Key, KvRead, KvWrite},
};
use base_prims::Namespace;
use wire_consensus::churp::{Identity, Parameters, Status};

/// [`Parameters`].
const PARAMETERS: u8 = 0x74;
/// By hash of the runtime identifier and number of the instance: [`Status`].
const STATUSES: u8 = 0x75;

fn runtime_key(runtime: &Namespace) -> Key {
    Key::new(STATUSES).namespace_hash(runtime)
}

fn status_key(i: &Identity) -> Key {
    runtime_key(&i.runtime_id).u8(i.id)
}

/// The parameters; without any everything is free.
pub fn parameters(kv: &dyn KvRead) -> Result<Parameters> {
    Ok(kv::get(kv, &[PARAMETERS])?.unwrap_or_default())
}

/// Sets the parameters.
pub fn set_parameters(kv: &mut dyn KvWrite, p: &Parameters) -> Result<()> {
    kv::put(kv, &[PARAMETERS], p)
}

/// The status of an instance.
pub fn status(kv: &dyn KvRead, identity: &Identity) -> Result<Option<Status>> {
    kv::get(kv, &status_key(identity))
}

/// The statuses of a runtime's instances by number.
pub fn statuses(kv: &dyn KvRead, runtime: &Namespace) -> Result<Vec<Status>> {
    kv::collect_values(kv, &runtime_key(runtime))
}

/// All statuses in key order.
pub fn all_statuses(kv: &dyn KvRead) -> Result<Vec<Status>> {
    kv::collect_values(kv, &[STATUSES])
}

/// Stores a status.
pub fn set_status(kv: &mut dyn KvWrite, s: &Status) -> Result<()> {
    kv::put(kv, &status_key(&s.identity), s)
}
