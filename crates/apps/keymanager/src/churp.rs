//! CHURP: instances of secret sharing, whose committees hand their secrets over from time to time.
//!
//! Reference: `go/consensus/cometbft/apps/keymanager/churp`.

pub mod epoch;
pub mod genesis;
mod handoff;
pub mod query;
pub mod state;
#[cfg(test)]
mod tests;
pub mod tx;

use apps_core::{Error, Result};
use base_codec::{Raw, cbor::Decode};
use wire_consensus::errors;

/// Decodes a method's argument.
///
/// # Errors
/// `consensus/6` if it is malformed.
pub(crate) fn decode<T: Decode>(body: &Raw) -> Result<T> {
    body.decode_as().map_err(|e| Error::from(&errors::consensus::INVALID_ARGUMENT).context(e))
}
