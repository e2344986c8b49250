//! `Beacon`: epochs and randomness. Source: `go/beacon/api`, `go/consensus/cometbft/beacon`.

use std::sync::Arc;

use apps_committees::beacon::{NAME as EVENTS, query};
use base_codec::Bytes;
use base_grpc::{Cbor, Code, Router, RpcError};
use base_prims::Epoch;
use wire_consensus::beacon::EpochEvent;

use crate::backend::{Backend, service_error};
use crate::serve::Methods;

pub(crate) fn add(router: &mut Router, backend: &Arc<Backend>) {
    let mut service = Methods::new(router, "Beacon", backend);
    service
        .get("GetBaseEpoch", |backend| Ok(backend.queries.genesis().beacon.base))
        .at("GetEpoch", |kv| Ok(query::epoch(kv)?.0))
        .call("GetNextEpoch", |backend, height: i64| {
            let state = backend.state(height)?;
            query::next_epoch(&state, state.height).map_err(|error| service_error(&error))
        })
        .at("GetFutureEpoch", query::future_epoch)
        .call("GetEpochBlock", |backend, epoch: Epoch| epoch_block(backend, epoch))
        .at("GetBeacon", |kv| query::beacon(kv).map(Bytes))
        .at("StateToGenesis", query::genesis)
        .at("ConsensusParameters", query::parameters)
        .watch_from(
            "WatchEpochs",
            |kv| Ok(vec![query::epoch(kv)?.0]),
            |_, applied| {
                let events = applied.typed::<EpochEvent>(EVENTS).map_err(|error| service_error(&error))?;
                Ok(events.into_iter().map(|event| event.epoch).collect())
            },
        );
    let (router, name, backend) = service.raw();
    router.unary(name, "WaitEpoch", move |Cbor(epoch): Cbor<Epoch>| wait_epoch(Arc::clone(&backend), epoch));
}

/// The epoch of the state of a height, and the height it began at.
fn epoch_at(backend: &Backend, height: i64) -> Result<(Epoch, i64), RpcError> {
    query::epoch(&backend.state(height)?).map_err(|error| service_error(&error))
}

/// The height at which an epoch began.
fn epoch_block(backend: &Backend, epoch: Epoch) -> Result<i64, RpcError> {
    let genesis = backend.queries.genesis();
    if epoch < genesis.beacon.base {
        let text = format!("epoch predates base (base: {} requested: {epoch})", genesis.beacon.base);
        return Err(RpcError::unknown(text));
    }
    let (now, began) = epoch_at(backend, 0)?;
    if epoch == now {
        return Ok(began);
    }
    if epoch == genesis.beacon.base {
        return Ok(genesis.height);
    }
    // The epoch began within [low, high), if the state is still there.
    let mut low = backend.last_retained().max(backend.queries.earliest_height());
    let mut high = if epoch < now { began } else { low };
    while low < high {
        let middle = low + (high - low) / 2;
        let (found, began) = epoch_at(backend, middle)?;
        match epoch.cmp(&found) {
            std::cmp::Ordering::Equal => return Ok(began),
            std::cmp::Ordering::Less => high = began.min(middle),
            std::cmp::Ordering::Greater => low = middle + 1,
        }
    }
    Err(RpcError::unknown("failed to find historic epoch"))
}

/// Ready once the epoch has come.
pub(crate) async fn wait_epoch(backend: Arc<Backend>, epoch: Epoch) -> Result<(), RpcError> {
    let mut latest = backend.queries.watch();
    loop {
        let height = latest.borrow_and_update().height;
        if height > 0 && backend.read(|backend| epoch_at(backend, 0)).await?.0 >= epoch {
            return Ok(());
        }
        tokio::select! {
            changed = latest.changed() => if changed.is_ok() { continue },
            () = backend.stop.cancelled() => {}
        }
        return Err(RpcError::with(Code::Unavailable, "node is shutting down"));
    }
}
