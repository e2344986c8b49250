//! Queries of the root hash service.

use apps_core::{Error, Result, events, kv::KvRead, typed_into};
use base_prims::{Hash, Namespace};
use wire_consensus::{
    errors::roothash as codes,
    registry::RuntimeGenesis,
    roothash::{
        Block, Event, ExecutionDiscrepancyDetectedEvent, ExecutorCommittedEvent, FinalizedEvent, Genesis,
        GenesisRuntimeState, InMsgProcessedEvent, RUNTIME_ID_ATTRIBUTE, RuntimeState, runtime_id_from_value,
    },
};

pub use super::state::{
    last_round_results, parameters, past_round_roots, queue as incoming_message_queue,
    queue_meta as incoming_message_queue_meta, round_roots,
};
use super::{NAME, state};

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

/// The event of the service in a block's event, as clients see it. Source: `go/consensus/cometbft/roothash/events.go`.
///
/// # Errors
/// If an attribute is malformed or unknown, or there is not one runtime named.
pub fn events(height: i64, tx_hash: Hash, event: &comet_chain::app::Event) -> Result<Vec<Event>> {
    let wrong = |text: &str| Error::Uncoded(format!("roothash: {text}"));
    let Some(attributes) = events::attributes(NAME, event) else { return Ok(Vec::new()) };
    let mut event = Event { height, tx_hash, ..Event::default() };
    let (mut runtime, mut any) = (None, false);
    for attribute in attributes {
        let known = typed_into!(attribute, event, {
            finalized: FinalizedEvent,
            execution_discrepancy: ExecutionDiscrepancyDetectedEvent,
            executor_committed: ExecutorCommittedEvent,
            in_msg_processed: InMsgProcessedEvent,
        });
        any |= known;
        if attribute.key == RUNTIME_ID_ATTRIBUTE {
            let id = runtime_id_from_value(attribute.value).ok_or_else(|| wrong("corrupt runtime ID"))?;
            if runtime.replace(id).is_some() {
                return Err(wrong("duplicate runtime ID attribute"));
            }
        } else if !known {
            return Err(attribute.unknown().context("roothash"));
        }
    }
    event.runtime_id = runtime.ok_or_else(|| wrong("missing runtime ID attribute"))?;
    Ok(if any { vec![event] } else { Vec::new() })
}
