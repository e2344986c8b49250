//! `RootHash`: blocks of runtimes. Source: `go/roothash/api`, `go/consensus/cometbft/roothash`.

use std::sync::Arc;

use apps_committees::roothash::query;
use base_grpc::{Router, RpcError};
use base_prims::Namespace;
use wire_consensus::errors::roothash as codes;
use wire_consensus::roothash::{
    AnnotatedBlock, Event, InMessageQueueRequest, RoundRootsRequest, RuntimeRequest, RuntimeState,
};

use crate::backend::{Applied, Backend, service_error};
use crate::serve::{Methods, nil};

pub(crate) fn add(router: &mut Router, backend: &Arc<Backend>) {
    Methods::new(router, "RootHash", backend)
        .query("GetGenesisBlock", |kv, q: &RuntimeRequest| query::genesis_block(kv, &q.runtime_id))
        .query("GetLatestBlock", |kv, q: &RuntimeRequest| query::latest_block(kv, &q.runtime_id))
        .query("GetRuntimeState", |kv, q: &RuntimeRequest| query::runtime_state(kv, &q.runtime_id))
        .query("GetLastRoundResults", |kv, q: &RuntimeRequest| query::last_round_results(kv, &q.runtime_id))
        .query("GetRoundRoots", |kv, q: &RoundRootsRequest| query::round_roots(kv, &q.runtime_id, q.round))
        .query("GetPastRoundRoots", |kv, q: &RuntimeRequest| query::past_round_roots(kv, &q.runtime_id))
        .query("GetIncomingMessageQueueMeta", |kv, q: &RuntimeRequest| {
            query::incoming_message_queue_meta(kv, &q.runtime_id)
        })
        .query("GetIncomingMessageQueue", |kv, q: &InMessageQueueRequest| {
            query::incoming_message_queue(kv, &q.runtime_id, q.offset, q.limit).map(nil)
        })
        .at("StateToGenesis", query::genesis)
        .at("ConsensusParameters", query::parameters)
        .events(|applied| applied.events(query::events))
        .watch_for("WatchBlocks", newest_block, finalized_block)
        .watch_for(
            "WatchEvents",
            |_, _: &Namespace| Ok((None, Vec::new())),
            |_, id, applied| Ok(events_of(applied, id)?.into_iter().filter(|e| e.finalized.is_none()).collect()),
        );
}

fn events_of(applied: &Applied, id: &Namespace) -> Result<Vec<Event>, RpcError> {
    let mut events = applied.events(query::events).map_err(|error| service_error(&error))?;
    events.retain(|event| event.runtime_id == *id);
    Ok(events)
}

/// The newest block of a runtime, if the runtime exists.
fn newest_block(backend: &Arc<Backend>, id: &Namespace) -> Result<(Option<i64>, Vec<AnnotatedBlock>), RpcError> {
    crate::serve::from_newest(backend, |kv| match query::runtime_state(kv, id) {
        Ok(RuntimeState { last_block, last_block_height, .. }) => {
            Ok(vec![AnnotatedBlock { consensus_height: last_block_height, block: Some(last_block) }])
        }
        Err(error) if error.is(&codes::INVALID_RUNTIME) => Ok(Vec::new()),
        Err(error) => Err(error),
    })
}

/// The block of a runtime that a consensus block finalized.
fn finalized_block(backend: &Arc<Backend>, id: &Namespace, applied: &Applied) -> Result<Vec<AnnotatedBlock>, RpcError> {
    if events_of(applied, id)?.iter().all(|event| event.finalized.is_none()) {
        return Ok(Vec::new());
    }
    let block = query::latest_block(&backend.state(applied.height)?, id).map_err(|error| service_error(&error))?;
    Ok(vec![AnnotatedBlock { consensus_height: applied.height, block: Some(block) }])
}
