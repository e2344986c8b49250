//! Which nodes may register for a runtime. Source: `go/registry/api/admission.go`.

use apps_core::{Error, Result, kv::KvRead};
use base_prims::Epoch;
use wire_consensus::{
    errors::registry as codes,
    node::{Node, Roles},
    registry::{EntityWhitelist, Runtime},
};

use super::state;

fn forbidden<T>() -> Result<T> {
    Err(Error::from(&codes::FORBIDDEN))
}

/// Checks a node against the runtime's admission policy.
///
/// # Errors
/// [`codes::FORBIDDEN`].
pub(super) fn verify(kv: &dyn KvRead, node: &Node, runtime: &Runtime, epoch: Epoch) -> Result<()> {
    let policy = &runtime.admission_policy;
    if let Some(list) = &policy.entity_whitelist {
        verify_whitelist(kv, list, node, runtime, epoch)?;
    }
    let Some(per_role) = &policy.per_role else { return Ok(()) };
    for role in held(node) {
        let Some(list) = per_role.get(&role).and_then(|p| p.entity_whitelist.as_ref()) else { continue };
        let Some(config) = list.entities.as_ref().and_then(|m| m.get(&node.entity_id)) else { return forbidden() };
        if config.max_nodes > 0 {
            verify_count(kv, node, runtime, epoch, role, config.max_nodes)?;
        }
    }
    Ok(())
}

fn held(node: &Node) -> impl Iterator<Item = Roles> {
    Roles::NAMES.into_iter().map(|(role, _)| role).filter(|role| node.has_roles(*role))
}

fn verify_whitelist(
    kv: &dyn KvRead,
    list: &EntityWhitelist,
    node: &Node,
    runtime: &Runtime,
    epoch: Epoch,
) -> Result<()> {
    let Some(config) = list.entities.as_ref().and_then(|m| m.get(&node.entity_id)) else { return forbidden() };
    if config.max_nodes.is_empty() {
        return Ok(());
    }
    for role in held(node) {
        // Roles that are not listed are not allowed.
        match config.max_nodes.get(&role) {
            None | Some(0) => return forbidden(),
            Some(most) => verify_count(kv, node, runtime, epoch, role, *most)?,
        }
    }
    Ok(())
}

/// Checks that, with this node, the entity has at most `most` nodes with the role for the runtime.
fn verify_count(kv: &dyn KvRead, node: &Node, runtime: &Runtime, epoch: Epoch, role: Roles, most: u16) -> Result<()> {
    let others = state::entity_nodes(kv, &node.entity_id)?;
    let count = others
        .iter()
        .filter(|n| n.id != node.id && !n.is_expired(epoch) && n.has_runtime(&runtime.id) && n.has_roles(role))
        .count();
    if count >= usize::from(most) { forbidden() } else { Ok(()) }
}
