//! Queries of the vault service. Those for single items are the functions of [`super::state`].

use apps_core::{Result, events, kv::KvRead, typed_into};
use base_prims::Hash;
use wire_consensus::vault::{
    ActionCanceledEvent, ActionExecutedEvent, ActionSubmittedEvent, AuthorityUpdatedEvent, Event, Genesis,
    PolicyUpdatedEvent, StateChangedEvent,
};

pub use super::state::{address_state, parameters, pending_actions, vault, vaults};
use super::{NAME, state};

/// The state as a section of a genesis document.
pub fn genesis(kv: &dyn KvRead) -> Result<Genesis> {
    let mut doc = Genesis { parameters: state::parameters(kv)?, vaults: state::vaults(kv)?, ..Genesis::default() };
    for v in &doc.vaults {
        let address = v.address();
        let actions = state::pending_actions(kv, &address)?;
        if !actions.is_empty() {
            doc.pending_actions.insert(address, Some(actions));
        }
        let states = state::address_states(kv, &address)?;
        if !states.is_empty() {
            doc.states.insert(address, Some(states));
        }
    }
    Ok(doc)
}

/// The events of the service in a block's event, as clients see them. Source: `go/consensus/cometbft/vault/events.go`.
///
/// # Errors
/// If an attribute is malformed or unknown.
pub fn events(height: i64, tx_hash: Hash, event: &comet_chain::app::Event) -> Result<Vec<Event>> {
    let mut found = Vec::new();
    for attribute in events::attributes(NAME, event).into_iter().flatten() {
        let mut event = Event { height, tx_hash, ..Event::default() };
        let known = typed_into!(attribute, event, {
            action_submitted: ActionSubmittedEvent,
            action_canceled: ActionCanceledEvent,
            action_executed: ActionExecutedEvent,
            state_changed: StateChangedEvent,
            policy_updated: PolicyUpdatedEvent,
            authority_updated: AuthorityUpdatedEvent,
        });
        if !known {
            return Err(attribute.unknown().context("vault"));
        }
        found.push(event);
    }
    Ok(found)
}
