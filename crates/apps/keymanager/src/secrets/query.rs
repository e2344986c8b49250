//! Queries of secrets. Those for single items answer with an error where the state has nothing.

use apps_core::{Error, Result, kv::KvRead};
use base_prims::Namespace;
use wire_consensus::{
    errors::keymanager as codes,
    keymanager::{Genesis, SignedEncryptedEphemeralSecret, SignedEncryptedMasterSecret, Status},
};

use super::state;
pub use super::state::{parameters, statuses};

/// The status of a key manager.
///
/// # Errors
/// `keymanager/2` if there is none.
pub fn status(kv: &dyn KvRead, id: &Namespace) -> Result<Status> {
    state::status(kv, id)?.ok_or_else(|| Error::from(&codes::NO_SUCH_STATUS))
}

/// The last proposed master secret of a key manager.
///
/// # Errors
/// `keymanager/3` if there is none.
pub fn master_secret(kv: &dyn KvRead, id: &Namespace) -> Result<SignedEncryptedMasterSecret> {
    state::master_secret(kv, id)?.ok_or_else(|| Error::from(&codes::NO_SUCH_MASTER_SECRET))
}

/// The last ephemeral secret of a key manager.
///
/// # Errors
/// `keymanager/4` if there is none.
pub fn ephemeral_secret(kv: &dyn KvRead, id: &Namespace) -> Result<SignedEncryptedEphemeralSecret> {
    state::ephemeral_secret(kv, id)?.ok_or_else(|| Error::from(&codes::NO_SUCH_EPHEMERAL_SECRET))
}

/// The state as a section of a genesis document, without that of secret sharing; committees are left out.
pub fn genesis(kv: &dyn KvRead) -> Result<Genesis> {
    let mut statuses = state::statuses(kv)?;
    statuses.iter_mut().for_each(|s| s.nodes = None);
    Ok(Genesis { parameters: state::parameters(kv)?, statuses, churp: None })
}
