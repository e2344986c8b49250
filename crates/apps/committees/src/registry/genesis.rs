//! Genesis in and out. Source: `go/consensus/cometbft/apps/registry/genesis.go`.

use apps_core::{Context, Result, epoch, kv::KvRead};
use base_codec::cbor;
use wire_consensus::{
    node::{Node, Roles},
    registry::{Genesis, RuntimeKind},
};

use super::{runtime, state, tx, verify::Rules};

/// Registers everything in the section `registry` of a genesis document.
pub(super) fn init_chain(ctx: &mut Context<'_>, doc: &Genesis) -> Result<()> {
    state::set_parameters(ctx, &doc.parameters)?;
    for signed in &doc.entities {
        tx::register_entity(ctx, signed).map_err(|e| e.context("registry: genesis entity registration failure"))?;
    }
    // Key managers first: compute runtimes refer to them.
    let now = epoch::current_epoch(ctx)?;
    for kind in [RuntimeKind::KEY_MANAGER, RuntimeKind::COMPUTE] {
        for descriptor in &doc.runtimes {
            runtime::verify(&Rules::new(ctx, &doc.parameters, now), descriptor)?;
            if descriptor.kind == kind {
                runtime::register(ctx, descriptor.clone())
                    .map_err(|e| e.context("registry: genesis runtime registration failure"))?;
            }
        }
    }
    for descriptor in &doc.suspended_runtimes {
        runtime::register(ctx, descriptor.clone())
            .map_err(|e| e.context("registry: genesis suspended runtime registration failure"))?;
        state::suspend_runtime(ctx, &descriptor.id)?;
    }
    for signed in &doc.nodes {
        tx::register_node(ctx, signed).map_err(|e| e.context("registry: genesis node registration failure"))?;
    }
    for (id, status) in &doc.node_statuses {
        state::set_node_status(&mut ctx.state(), id, status)?;
    }
    Ok(())
}

/// The section `registry` that continues from a state. Of nodes only validators go along.
pub(super) fn export(kv: &dyn KvRead) -> Result<Genesis> {
    let mut nodes = Vec::new();
    let mut node_statuses = std::collections::BTreeMap::new();
    for signed in state::signed_nodes(kv)? {
        let node: Node = cbor::from_slice(signed.blob())
            .map_err(|e| apps_core::Error::Fatal(format!("corrupted state: malformed node descriptor: {e}")))?;
        if !node.has_roles(Roles::VALIDATOR) {
            continue;
        }
        node_statuses.insert(node.id, state::node_status(kv, &node.id)?);
        nodes.push(signed);
    }
    Ok(Genesis {
        parameters: state::parameters(kv)?,
        entities: state::signed_entities(kv)?,
        runtimes: state::runtimes(kv)?,
        suspended_runtimes: state::suspended_runtimes(kv)?,
        nodes,
        node_statuses,
    })
}
