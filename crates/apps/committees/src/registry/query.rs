//! Queries. Source: `go/consensus/cometbft/apps/registry/query.go`.

use apps_core::{Error, Result, epoch, events, kv::KvRead, typed_into};
use base_prims::{Hash, Namespace, PublicKey};
use wire_consensus::{
    entity::Entity,
    errors::registry as codes,
    node::Node,
    registry::{
        EntityEvent, Event, Genesis, NodeEvent, NodeUnfrozenEvent, Runtime, RuntimeStartedEvent, RuntimeSuspendedEvent,
    },
};

pub use super::state::{entities, node_status, parameters};
use super::{NAME, genesis, state};

/// An entity.
///
/// # Errors
/// [`codes::NO_SUCH_ENTITY`].
pub fn entity(kv: &dyn KvRead, id: &PublicKey) -> Result<Entity> {
    state::entity(kv, id)?.ok_or_else(|| Error::from(&codes::NO_SUCH_ENTITY))
}

/// A node that is not expired.
///
/// # Errors
/// [`codes::NO_SUCH_NODE`].
pub fn node(kv: &dyn KvRead, id: &PublicKey) -> Result<Node> {
    let now = epoch::of_state(kv)?.epoch;
    state::node(kv, id)?.filter(|n| !n.is_expired(now)).ok_or_else(|| Error::from(&codes::NO_SUCH_NODE))
}

/// The node that validates under a CometBFT address, expired or not.
///
/// # Errors
/// [`codes::NO_SUCH_NODE`].
pub fn node_by_consensus_address(kv: &dyn KvRead, address: &[u8]) -> Result<Node> {
    state::node_by_consensus_address(kv, address)?.ok_or_else(|| Error::from(&codes::NO_SUCH_NODE))
}

/// Nodes that are not expired, in order of their keys.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn nodes(kv: &dyn KvRead) -> Result<Vec<Node>> {
    let now = epoch::of_state(kv)?.epoch;
    let mut nodes = state::nodes(kv)?;
    nodes.retain(|n| !n.is_expired(now));
    Ok(nodes)
}

/// A runtime.
///
/// # Errors
/// [`codes::NO_SUCH_RUNTIME`].
pub fn runtime(kv: &dyn KvRead, id: &Namespace, include_suspended: bool) -> Result<Runtime> {
    let found = if include_suspended { state::any_runtime(kv, id)? } else { state::runtime(kv, id)? };
    found.ok_or_else(|| Error::from(&codes::NO_SUCH_RUNTIME))
}

/// All runtimes.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn runtimes(kv: &dyn KvRead, include_suspended: bool) -> Result<Vec<Runtime>> {
    if include_suspended { state::all_runtimes(kv) } else { state::runtimes(kv) }
}

/// The section `registry` of a genesis document that continues from a state.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn genesis(kv: &dyn KvRead) -> Result<Genesis> {
    genesis::export(kv)
}

/// The events of the service in a block's event, as clients see them. Source: `go/consensus/cometbft/registry/events.go`.
///
/// That the list of nodes changed is not an event for clients, and left out.
///
/// # Errors
/// If an attribute is malformed.
pub fn events(height: i64, tx_hash: Hash, event: &comet_chain::app::Event) -> Result<Vec<Event>> {
    let mut found = Vec::new();
    for attribute in events::attributes(NAME, event).into_iter().flatten() {
        let mut event = Event { height, tx_hash, ..Event::default() };
        let known = typed_into!(attribute, event, {
            runtime_started: RuntimeStartedEvent,
            runtime_suspended: RuntimeSuspendedEvent,
            entity: EntityEvent,
            node: NodeEvent,
            node_unfrozen: NodeUnfrozenEvent,
        });
        if known {
            found.push(event);
        }
    }
    Ok(found)
}
