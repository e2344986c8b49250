//! Runtimes, nodes and keys as both extensions look at them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use apps_committees::registry;
use apps_core::{Context, Error, Result};
use base_crypto::{blacklist::test_key, hash::sha512_256, mrae::BoxSecretKey};
use base_prims::{Namespace, PublicKey};
use wire_consensus::{
    errors,
    genesis::Document,
    node::{Node, Runtime as NodeRuntime, X25519PublicKey},
    registry::{Runtime, RuntimeKind},
    tee::TeeHardware,
};

/// Attestation key of all key managers that run without trusted hardware; its secret is publicly known.
pub static INSECURE_RAK: LazyLock<PublicKey> =
    LazyLock::new(|| PublicKey::new(test_key("ekiden test key manager RAK seed").public()));

/// Encryption key of all key managers that run without trusted hardware; its secret is publicly known.
pub static INSECURE_REK: LazyLock<X25519PublicKey> = LazyLock::new(|| {
    let secret = sha512_256(&[b"ekiden test key manager REK seed"]);
    X25519PublicKey::new(BoxSecretKey::from_bytes(&secret).public())
});

/// The active runtime of the identifier, which must be a key manager.
///
/// # Errors
/// `registry/11` if there is no such runtime; uncoded if it is another kind of runtime.
pub fn key_manager_runtime(ctx: &mut Context<'_>, id: &Namespace) -> Result<Runtime> {
    let runtime =
        registry::state::runtime(&ctx.state(), id)?.ok_or_else(|| Error::from(&errors::registry::NO_SUCH_RUNTIME))?;
    if runtime.kind != RuntimeKind::KEY_MANAGER {
        return Err(Error::Uncoded(format!("keymanager: runtime is not a key manager: {id}")));
    }
    Ok(runtime)
}

/// A registered node.
///
/// # Errors
/// `registry/10` if there is no such node.
pub fn node(ctx: &mut Context<'_>, id: &PublicKey) -> Result<Node> {
    registry::state::node(&ctx.state(), id)?.ok_or_else(|| Error::from(&errors::registry::NO_SUCH_NODE))
}

/// The first entry of a node for the runtime: key managers run one version.
///
/// # Errors
/// If there is none.
pub fn node_runtime<'n>(node: &'n Node, id: &Namespace) -> Result<&'n NodeRuntime> {
    let found = node.runtimes().iter().find(|r| r.id == *id);
    found.ok_or_else(|| Error::uncoded("keymanager: node is not a key manager"))
}

/// The key with which a node's enclave signs.
///
/// # Errors
/// If the node lacks the hardware that the key manager needs.
pub fn attestation_key(node: &NodeRuntime, runtime: &Runtime) -> Result<PublicKey> {
    match (runtime.tee_hardware, &node.capabilities.tee) {
        (TeeHardware::INVALID, _) => Ok(*INSECURE_RAK),
        (TeeHardware::INTEL_SGX, Some(tee)) => Ok(tee.rak),
        (TeeHardware::INTEL_SGX, None) => Err(Error::uncoded("keymanager: node doesn't have TEE capability")),
        _ => Err(Error::uncoded("keymanager: TEE hardware mismatch")),
    }
}

/// The keys to which secrets for the nodes' enclaves are encrypted. Nodes that have none are passed over.
pub fn encryption_keys<'n>(nodes: impl IntoIterator<Item = &'n Node>, runtime: &Runtime) -> BTreeSet<X25519PublicKey> {
    nodes
        .into_iter()
        .filter_map(|n| node_runtime(n, &runtime.id).ok())
        .filter_map(|n| match runtime.tee_hardware {
            TeeHardware::INVALID => Some(*INSECURE_REK),
            TeeHardware::INTEL_SGX => n.capabilities.tee.as_ref().and_then(|t| t.rek),
            _ => None,
        })
        .collect()
}

/// The key managers among the active runtimes of a genesis document.
///
/// The registry has its turn first, and starts no network with a runtime that is not valid.
pub fn genesis_runtimes(doc: &Document) -> BTreeMap<Namespace, &Runtime> {
    doc.registry.runtimes.iter().filter(|r| r.kind == RuntimeKind::KEY_MANAGER).map(|r| (r.id, r)).collect()
}
