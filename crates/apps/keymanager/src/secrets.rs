//! Master and ephemeral secrets, access policies and committees of key managers.
//!
//! Reference: `go/consensus/cometbft/apps/keymanager/secrets`.

pub mod epoch;
pub mod genesis;
pub mod query;
pub mod state;
pub mod status;
#[cfg(test)]
mod tests;
pub mod tx;

use apps_core::{Error, Result};
use base_codec::{Raw, cbor::Decode};
use wire_consensus::errors::keymanager as codes;

/// Decodes a method's argument.
///
/// # Errors
/// `keymanager/1` if it is malformed.
pub(crate) fn decode<T: Decode>(body: &Raw) -> Result<T> {
    body.decode_as().map_err(|e| Error::from(&codes::INVALID_ARGUMENT).context(e))
}
