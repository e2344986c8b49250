//! State of the consensus backend itself: chain context and parameters. Source: `go/consensus/cometbft/consensus/state`.

use base_crypto::context::ChainContext;
use wire_consensus::consensus::Parameters;

use crate::{
    Error, Result,
    kv::{self, KvRead, KvWrite},
};

/// Key of the chain context: 64 ASCII characters.
pub const KEY_CHAIN_CONTEXT: [u8; 1] = [0xf0];
/// Key of the consensus parameters.
pub const KEY_PARAMETERS: [u8; 1] = [0xf1];

/// The chain context that the state was started with.
///
/// # Errors
/// [`Error::Fatal`] if it is missing or malformed.
pub fn chain_context(state: &dyn KvRead) -> Result<ChainContext> {
    let raw = kv::get_raw(state, &KEY_CHAIN_CONTEXT)?;
    raw.and_then(|raw| ChainContext::parse(std::str::from_utf8(&raw).ok()?).ok())
        .ok_or_else(|| Error::fatal("corrupted state: missing or malformed chain context"))
}

/// Sets the chain context.
///
/// # Errors
/// [`Error::Fatal`] if the store fails.
pub fn set_chain_context(state: &mut dyn KvWrite, chain: &ChainContext) -> Result<()> {
    kv::put_raw(state, &KEY_CHAIN_CONTEXT, chain.as_str().as_bytes())
}

/// The consensus parameters.
///
/// # Errors
/// [`Error::Fatal`] if they are missing or malformed.
pub fn parameters(state: &dyn KvRead) -> Result<Parameters> {
    kv::get(state, &KEY_PARAMETERS)?.ok_or_else(|| Error::fatal("corrupted state: no consensus parameters"))
}

/// Sets the consensus parameters.
///
/// # Errors
/// [`Error::Fatal`] if the store fails.
pub fn set_parameters(state: &mut dyn KvWrite, params: &Parameters) -> Result<()> {
    kv::put(state, &KEY_PARAMETERS, params)
}
