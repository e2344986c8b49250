//! `KeyManager.Secrets` (also under the name `KeyManager`) and `KeyManager.Churp`. Source: `go/keymanager/{secrets,churp}`,
//! `go/consensus/cometbft/keymanager`.

use std::sync::Arc;

use apps_core::events;
use apps_keymanager::{NAME as EVENTS, churp, secrets};
use base_grpc::Router;
use wire_consensus::churp::{CreateEvent, Identity, Status, StatusQuery, UpdateEvent};
use wire_consensus::keymanager::{EphemeralSecretPublishedEvent, MasterSecretPublishedEvent, StatusUpdateEvent};
use wire_consensus::registry::NamespaceQuery;

use crate::backend::{Applied, Backend, service_error};
use crate::serve::{Methods, nil};

pub(crate) fn add(router: &mut Router, backend: &Arc<Backend>) {
    for name in ["KeyManager", "KeyManager.Secrets"] {
        add_secrets(&mut Methods::new(router, name, backend));
    }
    add_churp(&mut Methods::new(router, "KeyManager.Churp", backend));
}

fn add_secrets(service: &mut Methods<'_>) {
    use secrets::query;
    service
        .query("GetStatus", |kv, q: &NamespaceQuery| query::status(kv, &q.id))
        .at("GetStatuses", |kv| query::statuses(kv).map(nil))
        .query("GetMasterSecret", |kv, q: &NamespaceQuery| query::master_secret(kv, &q.id))
        .query("GetEphemeralSecret", |kv, q: &NamespaceQuery| query::ephemeral_secret(kv, &q.id))
        .at("StateToGenesis", query::genesis)
        .watch_from("WatchStatuses", query::statuses, |_, applied| {
            let updates = applied.typed::<StatusUpdateEvent>(EVENTS).map_err(|error| service_error(&error))?;
            Ok(updates.into_iter().flat_map(|event| event.statuses.unwrap_or_default()).collect())
        })
        .watch("WatchMasterSecrets", |applied| {
            let published = applied.typed::<MasterSecretPublishedEvent>(EVENTS)?;
            Ok(published.into_iter().filter_map(|event| event.secret).collect())
        })
        .watch("WatchEphemeralSecrets", |applied| {
            let published = applied.typed::<EphemeralSecretPublishedEvent>(EVENTS)?;
            Ok(published.into_iter().filter_map(|event| event.secret).collect())
        });
}

fn add_churp(service: &mut Methods<'_>) {
    use churp::query;
    service
        .query("Status", |kv, q: &StatusQuery| {
            query::status(kv, &Identity { id: q.churp_id, runtime_id: q.runtime_id })
        })
        .query("Statuses", |kv, q: &NamespaceQuery| query::statuses(kv, &q.id).map(nil))
        .at("AllStatuses", |kv| query::all_statuses(kv).map(nil))
        .at("StateToGenesis", query::genesis)
        .at("ConsensusParameters", query::parameters)
        .watch_from("WatchStatuses", query::all_statuses, |_, applied| {
            changed(applied).map_err(|error| service_error(&error))
        });
}

/// The instances that a block created or changed, in order.
fn changed(applied: &Applied) -> apps_core::Result<Vec<Status>> {
    applied.events(|_, _, event| {
        let mut statuses = Vec::new();
        for attribute in events::attributes(EVENTS, event).into_iter().flatten() {
            let created = attribute.typed::<CreateEvent>()?.and_then(|event| event.status);
            let updated = attribute.typed::<UpdateEvent>()?.and_then(|event| event.status);
            statuses.extend(created.into_iter().chain(updated));
        }
        Ok(statuses)
    })
}
