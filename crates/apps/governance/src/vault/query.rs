//! Queries of the vault service. Those for single items are the functions of [`super::state`].

use apps_core::{Result, kv::KvRead};
use wire_consensus::vault::Genesis;

use super::state;
pub use super::state::{address_state, parameters, pending_actions, vault, vaults};

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
