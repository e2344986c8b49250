//! `Scheduler`: validators and committees. Source: `go/scheduler/api`, `go/consensus/cometbft/scheduler`.

use std::sync::Arc;

use apps_committees::scheduler::{NAME as EVENTS, query};
use base_grpc::Router;
use wire_consensus::scheduler::{ElectedEvent, GetCommitteesRequest};

use crate::backend::{Backend, service_error};
use crate::serve::{Methods, nil};

pub(crate) fn add(router: &mut Router, backend: &Arc<Backend>) {
    Methods::new(router, "Scheduler", backend)
        .at("GetValidators", query::validators)
        .query("GetCommittees", |kv, request: &GetCommitteesRequest| {
            let mut committees = query::committees(kv, None)?;
            committees.retain(|committee| committee.runtime_id == request.runtime_id);
            Ok(nil(committees))
        })
        .at("StateToGenesis", query::genesis)
        .at("ConsensusParameters", query::parameters)
        .watch_from(
            "WatchCommittees",
            |kv| query::committees(kv, None),
            |backend, applied| {
                let events = applied.typed::<ElectedEvent>(EVENTS).map_err(|error| service_error(&error))?;
                let mut elected = Vec::new();
                for event in events {
                    let state = backend.state(applied.height)?;
                    let mut committees = query::committees(&state, None).map_err(|error| service_error(&error))?;
                    committees.retain(|committee| event.kinds.contains(&committee.kind));
                    elected.extend(committees);
                }
                Ok(elected)
            },
        );
}
