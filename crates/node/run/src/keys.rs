//! The node's keys, from its files or from signers.

use std::path::Path;

use base_identity::{Identity, KeyRole};
use base_signer::SignerConfig;

use crate::error::RunError;

/// Keys that every node has.
const ROLES: [KeyRole; 4] = [KeyRole::Node, KeyRole::P2p, KeyRole::Consensus, KeyRole::Vrf];

/// Loads the keys, and makes those that are missing where the signer lets it.
pub(crate) fn load(signer: &SignerConfig, data_dir: &Path, now_unix: i64) -> Result<Identity, RunError> {
    let source = base_signer::open(signer, data_dir, &ROLES)?;
    Ok(Identity::load_or_generate_from(data_dir, &*source, now_unix)?)
}
