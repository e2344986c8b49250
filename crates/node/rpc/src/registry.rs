//! `Registry`: entities, nodes, runtimes. Source: `go/registry/api`, `go/consensus/cometbft/registry`.

use std::sync::Arc;

use apps_committees::registry::{NAME as EVENTS, query};
use apps_core::{events, kv::KvRead};
use base_grpc::Router;
use wire_consensus::registry::{
    ConsensusAddressQuery, EntityEvent, GetRuntimeQuery, GetRuntimesQuery, IdQuery, NODE_LIST_EPOCH_ATTRIBUTE,
    NodeEvent, NodeList, RuntimeStartedEvent,
};

use crate::backend::{Applied, Backend, service_error};
use crate::serve::{Methods, nil};

pub(crate) fn add(router: &mut Router, backend: &Arc<Backend>) {
    Methods::new(router, "Registry", backend)
        .query("GetEntity", |kv, q: &IdQuery| query::entity(kv, &q.id))
        .at("GetEntities", |kv| query::entities(kv).map(nil))
        .query("GetNode", |kv, q: &IdQuery| query::node(kv, &q.id))
        .query("GetNodeStatus", |kv, q: &IdQuery| query::node_status(kv, &q.id))
        .at("GetNodes", |kv| query::nodes(kv).map(nil))
        .query("GetNodeByConsensusAddress", |kv, q: &ConsensusAddressQuery| {
            query::node_by_consensus_address(kv, q.address.as_ref().map_or(&[], |address| address.as_slice()))
        })
        .query("GetRuntime", |kv, q: &GetRuntimeQuery| query::runtime(kv, &q.id, q.include_suspended))
        .query("GetRuntimes", |kv, q: &GetRuntimesQuery| query::runtimes(kv, q.include_suspended).map(nil))
        .at("StateToGenesis", query::genesis)
        .at("ConsensusParameters", query::parameters)
        .events(|applied| applied.events(query::events))
        .watch("WatchEntities", |applied| applied.typed::<EntityEvent>(EVENTS))
        .watch("WatchNodes", |applied| applied.typed::<NodeEvent>(EVENTS))
        .watch("WatchEvents", |applied| applied.events(query::events))
        .watch_from(
            "WatchRuntimes",
            |kv| query::runtimes(kv, true),
            |_, applied| {
                let started = applied.typed::<RuntimeStartedEvent>(EVENTS).map_err(|error| service_error(&error))?;
                Ok(started.into_iter().filter_map(|event| event.runtime).collect())
            },
        )
        .watch_from(
            "WatchNodeList",
            |kv| Ok(vec![node_list(kv)?]),
            |backend, applied| {
                let lists = new_lists(applied).map_err(|error| service_error(&error))?;
                if lists == 0 {
                    return Ok(Vec::new());
                }
                let list = node_list(&backend.state(applied.height)?).map_err(|error| service_error(&error))?;
                Ok(vec![list; lists])
            },
        );
}

/// The nodes that are not expired, by id.
fn node_list(kv: &dyn KvRead) -> apps_core::Result<NodeList> {
    let mut nodes = query::nodes(kv)?;
    nodes.sort_by_key(|node| node.id);
    Ok(NodeList { nodes: nil(nodes) })
}

/// How often a block says that the list of nodes is new.
fn new_lists(applied: &Applied) -> apps_core::Result<usize> {
    let marks = applied.events(|_, _, event| {
        let attributes = events::attributes(EVENTS, event).into_iter().flatten();
        Ok(attributes.filter(|attribute| attribute.key == NODE_LIST_EPOCH_ATTRIBUTE.0).map(|_| ()).collect())
    })?;
    Ok(marks.len())
}
