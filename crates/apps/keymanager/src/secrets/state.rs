//! State of secrets: keys `70`–`73`.

use apps_core::{
    Error, Result,
    kv::{self, Key, KvRead, KvWrite},
};
use base_prims::Namespace;
use wire_consensus::keymanager::{Parameters, SignedEncryptedEphemeralSecret, SignedEncryptedMasterSecret, Status};

/// By hash of the runtime identifier: [`Status`].
const STATUSES: u8 = 0x70;
/// [`Parameters`].
const PARAMETERS: u8 = 0x71;
/// By hash of the runtime identifier: [`SignedEncryptedMasterSecret`].
const MASTER_SECRETS: u8 = 0x72;
/// By hash of the runtime identifier: [`SignedEncryptedEphemeralSecret`].
const EPHEMERAL_SECRETS: u8 = 0x73;

/// The parameters.
pub fn parameters(kv: &dyn KvRead) -> Result<Parameters> {
    kv::get(kv, &[PARAMETERS])?
        .ok_or_else(|| Error::uncoded("keymanager: expected consensus parameters to be present in app state"))
}

/// Sets the parameters.
pub fn set_parameters(kv: &mut dyn KvWrite, p: &Parameters) -> Result<()> {
    kv::put(kv, &[PARAMETERS], p)
}

/// The status of a key manager.
pub fn status(kv: &dyn KvRead, id: &Namespace) -> Result<Option<Status>> {
    kv::get(kv, &Key::new(STATUSES).namespace_hash(id))
}

/// All statuses in key order.
pub fn statuses(kv: &dyn KvRead) -> Result<Vec<Status>> {
    kv::collect_values(kv, &[STATUSES])
}

/// Stores a status.
pub fn set_status(kv: &mut dyn KvWrite, s: &Status) -> Result<()> {
    kv::put(kv, &Key::new(STATUSES).namespace_hash(&s.id), s)
}

/// The last proposed master secret of a key manager.
pub fn master_secret(kv: &dyn KvRead, id: &Namespace) -> Result<Option<SignedEncryptedMasterSecret>> {
    kv::get(kv, &Key::new(MASTER_SECRETS).namespace_hash(id))
}

/// Stores a proposed master secret in place of the last one.
pub fn set_master_secret(kv: &mut dyn KvWrite, s: &SignedEncryptedMasterSecret) -> Result<()> {
    kv::put(kv, &Key::new(MASTER_SECRETS).namespace_hash(&s.secret.id), s)
}

/// The last ephemeral secret of a key manager.
pub fn ephemeral_secret(kv: &dyn KvRead, id: &Namespace) -> Result<Option<SignedEncryptedEphemeralSecret>> {
    kv::get(kv, &Key::new(EPHEMERAL_SECRETS).namespace_hash(id))
}

/// Stores an ephemeral secret in place of the last one.
pub fn set_ephemeral_secret(kv: &mut dyn KvWrite, s: &SignedEncryptedEphemeralSecret) -> Result<()> {
    kv::put(kv, &Key::new(EPHEMERAL_SECRETS).namespace_hash(&s.secret.id), s)
}
