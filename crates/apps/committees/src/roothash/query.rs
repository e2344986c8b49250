//! Queries of the root hash service.

use apps_core::{Error, Result, kv::KvRead};
use base_prims::Namespace;
use wire_consensus::{
    errors::roothash as codes,
    registry::RuntimeGenesis,
    roothash::{Block, Genesis, GenesisRuntimeState, RuntimeState},
};

use super::state;
pub use super::state::{
    last_round_results, parameters, past_round_roots, queue as incoming_message_queue,
    queue_meta as incoming_message_queue_meta, round_roots,
};

/// A runtime's state.
///
/// # Errors
/// `roothash/3` if there is no such runtime.
pub fn runtime_state(kv: &dyn KvRead, id: &Namespace) -> Result<RuntimeState> {
    state::runtime_state(kv, id)?.ok_or_else(|| Error::from(&codes::INVALID_RUNTIME))
}

/// A runtime's first block.
///
/// # Errors
/// `roothash/3` if there is no such runtime.
pub fn genesis_block(kv: &dyn KvRead, id: &Namespace) -> Result<Block> {
    Ok(runtime_state(kv, id)?.genesis_block)
}

/// A runtime's newest block.
///
/// # Errors
/// `roothash/3` if there is no such runtime.
pub fn latest_block(kv: &dyn KvRead, id: &Namespace) -> Result<Block> {
    Ok(runtime_state(kv, id)?.last_block)
}

/// The genesis section that continues from this state.
pub fn genesis(kv: &dyn KvRead) -> Result<Genesis> {
    let mut out = Genesis { parameters: parameters(kv)?, ..Genesis::default() };
    for rt in state::runtime_states(kv)? {
        let id = rt.runtime.id;
        let header = &rt.last_block.header;
        let continued = GenesisRuntimeState {
            genesis: RuntimeGenesis { state_root: header.state_root, round: header.round },
            message_results: last_round_results(kv, &id)?.messages,
        };
        out.runtime_states.insert(id, continued);
    }
    Ok(out)
}
