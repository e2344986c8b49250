//! State of the registry: keys `10`–`19`. Source: `go/consensus/cometbft/apps/registry/state`.

use std::ops::ControlFlow;

use apps_core::{
    Context, Error, Mode, Result,
    kv::{self, Key, KeyReader, KvRead, KvWrite},
};
use apps_staking::nodes::{BY_CONSENSUS_ADDRESS, NODE, STATUS, index_value, open};
pub use apps_staking::nodes::{
    find_node_status, node, node_by_consensus_address, node_id_by_consensus_address, node_status, set_node_status,
};
use base_prims::{Namespace, PublicKey};
use wire_consensus::{
    entity::{Entity, SignedEntity},
    errors::registry as codes,
    node::{MultiSignedNode, Node},
    registry::{Parameters, Runtime, RuntimeSuspendedEvent},
};

use super::NAME;

/// Signed entity descriptors by hash of the entity's key.
const ENTITY: u8 = 0x10;
/// Nodes by hash of the entity's key, hash of the node's key; values are empty.
const NODE_BY_ENTITY: u8 = 0x12;
/// Runtimes by hash of their id.
const RUNTIME: u8 = 0x13;
/// Parameters.
const PARAMETERS: u8 = 0x16;
/// Node keys by hash of any of the node's other keys.
const KEY_MAP: u8 = 0x17;
/// Suspended runtimes by hash of their id.
const SUSPENDED_RUNTIME: u8 = 0x18;
/// Runtimes by hash of the entity's key, hash of the runtime's id; values are empty.
const RUNTIME_BY_ENTITY: u8 = 0x19;

fn open_entity(key: &[u8], raw: &[u8]) -> Result<Entity> {
    let signed: SignedEntity = kv::decode(key, raw)?;
    kv::decode(key, signed.blob())
}

/// An entity.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn entity(state: &dyn KvRead, id: &PublicKey) -> Result<Option<Entity>> {
    let key = Key::new(ENTITY).key_hash(id);
    kv::get_raw(state, &key)?.map(|raw| open_entity(&key, &raw)).transpose()
}

/// All entities, in order of their keys' hashes.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn entities(state: &dyn KvRead) -> Result<Vec<Entity>> {
    kv::collect(state, &[ENTITY])?.iter().map(|(key, raw)| open_entity(key, raw)).collect()
}

/// All signed entity descriptors, in order of the keys' hashes.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn signed_entities(state: &dyn KvRead) -> Result<Vec<SignedEntity>> {
    kv::collect_values(state, &[ENTITY])
}

/// Sets an entity.
///
/// # Errors
/// [`Error::Fatal`] if the store fails.
pub fn set_entity(state: &mut dyn KvWrite, id: &PublicKey, signed: &SignedEntity) -> Result<()> {
    kv::put(state, &Key::new(ENTITY).key_hash(id), signed)
}

/// Removes an entity and returns it.
///
/// # Errors
/// [`codes::NO_SUCH_ENTITY`] if there is none.
pub fn remove_entity(state: &mut dyn KvWrite, id: &PublicKey) -> Result<Entity> {
    let removed = entity(&*state, id)?.ok_or_else(|| Error::from(&codes::NO_SUCH_ENTITY))?;
    kv::remove(state, &Key::new(ENTITY).key_hash(id))?;
    Ok(removed)
}

/// All nodes, in order of their keys.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn nodes(state: &dyn KvRead) -> Result<Vec<Node>> {
    let mut nodes: Vec<Node> =
        kv::collect(state, &[NODE])?.iter().map(|(key, raw)| open(key, raw)).collect::<Result<_>>()?;
    nodes.sort_by_key(|n| n.id);
    Ok(nodes)
}

/// All signed node descriptors, in order of the keys' hashes.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn signed_nodes(state: &dyn KvRead) -> Result<Vec<MultiSignedNode>> {
    kv::collect_values(state, &[NODE])
}

/// The node that uses a key as its consensus, P2P, TLS or VRF key.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn node_by_subkey(state: &dyn KvRead, subkey: &PublicKey) -> Result<Option<Node>> {
    match kv::get_raw(state, &Key::new(KEY_MAP).key_hash(subkey))? {
        Some(raw) => node(state, &index_value(&raw)?),
        None => Ok(None),
    }
}

/// Nodes of an entity, in order of their keys.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn entity_nodes(state: &dyn KvRead, id: &PublicKey) -> Result<Vec<Node>> {
    let mut hashes = Vec::new();
    kv::iterate(state, &Key::new(NODE_BY_ENTITY).key_hash(id), &mut |key, _| {
        let mut reader = KeyReader::new(key)?;
        reader.hash()?;
        hashes.push(reader.hash()?);
        Ok(ControlFlow::Continue(()))
    })?;
    let mut nodes = Vec::with_capacity(hashes.len());
    for hash in hashes {
        let key = Key::new(NODE).hash(&hash);
        let raw = kv::get_raw(state, &key)?
            .ok_or_else(|| Error::fatal("corrupted state: node of an entity is not registered"))?;
        nodes.push(open(&key, &raw)?);
    }
    nodes.sort_by_key(|n| n.id);
    Ok(nodes)
}

fn any_under(state: &dyn KvRead, prefix: &[u8]) -> Result<bool> {
    let mut found = false;
    kv::iterate(state, prefix, &mut |_, _| {
        found = true;
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}

/// Whether an entity has nodes, expired ones too.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn has_entity_nodes(state: &dyn KvRead, id: &PublicKey) -> Result<bool> {
    any_under(state, &Key::new(NODE_BY_ENTITY).key_hash(id))
}

/// Whether an entity owns runtimes.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn has_entity_runtimes(state: &dyn KvRead, id: &PublicKey) -> Result<bool> {
    any_under(state, &Key::new(RUNTIME_BY_ENTITY).key_hash(id))
}

fn consensus_address_key(node: &Node) -> Key {
    Key::new(BY_CONSENSUS_ADDRESS).raw(&node.consensus.id.comet_address())
}

/// Points `new` to a node. The old key is forgotten if it differs.
fn map_key(state: &mut dyn KvWrite, id: &PublicKey, old: Option<&PublicKey>, new: &PublicKey) -> Result<()> {
    if let Some(old) = old.filter(|old| *old != new) {
        kv::remove(state, &Key::new(KEY_MAP).key_hash(old))?;
    }
    kv::put_raw(state, &Key::new(KEY_MAP).key_hash(new), id.as_bytes())
}

/// Sets a node and all indices of its keys.
///
/// # Errors
/// [`Error::Fatal`] if the store fails.
pub fn set_node(state: &mut dyn KvWrite, existing: Option<&Node>, node: &Node, signed: &MultiSignedNode) -> Result<()> {
    let id = &node.id;
    kv::put(state, &Key::new(NODE).key_hash(id), signed)?;
    kv::put_raw(state, &Key::new(NODE_BY_ENTITY).key_hash(&node.entity_id).key_hash(id), &[])?;

    // The order matters where a key changed its purpose.
    if let Some(old) = existing.filter(|old| old.consensus.id != node.consensus.id) {
        kv::remove(state, &consensus_address_key(old))?;
        kv::remove(state, &Key::new(KEY_MAP).key_hash(&old.consensus.id))?;
    }
    kv::put_raw(state, &consensus_address_key(node), id.as_bytes())?;
    map_key(state, id, None, &node.consensus.id)?;
    map_key(state, id, existing.map(|old| &old.p2p.id), &node.p2p.id)?;
    map_key(state, id, existing.map(|old| &old.vrf.id), &node.vrf.id)?;
    map_key(state, id, existing.map(|old| &old.tls.pub_key), &node.tls.pub_key)
}

/// Removes a node, its status and all indices of its keys.
///
/// # Errors
/// [`Error::Fatal`] if the store fails.
pub fn remove_node(state: &mut dyn KvWrite, node: &Node) -> Result<()> {
    kv::remove(state, &Key::new(NODE).key_hash(&node.id))?;
    kv::remove(state, &Key::new(NODE_BY_ENTITY).key_hash(&node.entity_id).key_hash(&node.id))?;
    kv::remove(state, &Key::new(STATUS).key_hash(&node.id))?;
    kv::remove(state, &consensus_address_key(node))?;
    for key in [&node.consensus.id, &node.p2p.id, &node.tls.pub_key, &node.vrf.id] {
        kv::remove(state, &Key::new(KEY_MAP).key_hash(key))?;
    }
    Ok(())
}

fn runtime_key(id: &Namespace, suspended: bool) -> Key {
    Key::new(if suspended { SUSPENDED_RUNTIME } else { RUNTIME }).namespace_hash(id)
}

/// A runtime that is not suspended.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn runtime(state: &dyn KvRead, id: &Namespace) -> Result<Option<Runtime>> {
    kv::get(state, &runtime_key(id, false))
}

/// A suspended runtime.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn suspended_runtime(state: &dyn KvRead, id: &Namespace) -> Result<Option<Runtime>> {
    kv::get(state, &runtime_key(id, true))
}

/// A runtime, suspended or not.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn any_runtime(state: &dyn KvRead, id: &Namespace) -> Result<Option<Runtime>> {
    match runtime(state, id)? {
        Some(found) => Ok(Some(found)),
        None => suspended_runtime(state, id),
    }
}

/// Runtimes that are not suspended, in order of their ids' hashes.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn runtimes(state: &dyn KvRead) -> Result<Vec<Runtime>> {
    kv::collect_values(state, &[RUNTIME])
}

/// Suspended runtimes, in order of their ids' hashes.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn suspended_runtimes(state: &dyn KvRead) -> Result<Vec<Runtime>> {
    kv::collect_values(state, &[SUSPENDED_RUNTIME])
}

/// All runtimes, those that are not suspended first.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn all_runtimes(state: &dyn KvRead) -> Result<Vec<Runtime>> {
    let mut all = runtimes(state)?;
    all.extend(suspended_runtimes(state)?);
    Ok(all)
}

/// Sets a runtime.
///
/// # Errors
/// [`Error::Fatal`] if the store fails.
pub fn set_runtime(state: &mut dyn KvWrite, runtime: &Runtime, suspended: bool) -> Result<()> {
    kv::put(state, &runtime_key(&runtime.id, suspended), runtime)
}

/// Notes that an entity owns a runtime.
///
/// # Errors
/// [`Error::Fatal`] if the store fails.
pub fn set_runtime_owner(state: &mut dyn KvWrite, id: &Namespace, entity: &PublicKey) -> Result<()> {
    kv::put_raw(state, &Key::new(RUNTIME_BY_ENTITY).key_hash(entity).namespace_hash(id), &[])
}

/// Forgets that an entity owns a runtime.
///
/// # Errors
/// [`Error::Fatal`] if the store fails.
pub fn remove_runtime_owner(state: &mut dyn KvWrite, id: &Namespace, entity: &PublicKey) -> Result<()> {
    kv::remove(state, &Key::new(RUNTIME_BY_ENTITY).key_hash(entity).namespace_hash(id))
}

fn move_runtime(state: &mut dyn KvWrite, id: &Namespace, suspend: bool) -> Result<()> {
    let (from, to) = (runtime_key(id, !suspend), runtime_key(id, suspend));
    let raw = kv::get_raw(&*state, &from)?.ok_or_else(|| Error::from(&codes::NO_SUCH_RUNTIME))?;
    kv::remove(state, &from)?;
    kv::put_raw(state, &to, &raw)
}

/// Suspends a runtime.
///
/// # Errors
/// [`codes::NO_SUCH_RUNTIME`] if it does not exist or is suspended already.
pub fn suspend_runtime(ctx: &mut Context<'_>, id: &Namespace) -> Result<()> {
    move_runtime(&mut ctx.state(), id, true)?;
    if !ctx.is_check_only() {
        ctx.emit(NAME, &RuntimeSuspendedEvent { runtime_id: *id });
    }
    Ok(())
}

/// Resumes a runtime.
///
/// # Errors
/// [`codes::NO_SUCH_RUNTIME`] if it is not suspended.
pub fn resume_runtime(state: &mut dyn KvWrite, id: &Namespace) -> Result<()> {
    move_runtime(state, id, false)
}

/// Parameters.
///
/// # Errors
/// [`Error::Fatal`] if they are missing or unreadable.
pub fn parameters(state: &dyn KvRead) -> Result<Parameters> {
    kv::get(state, &[PARAMETERS])?.ok_or_else(|| Error::fatal("corrupted state: no registry parameters"))
}

/// Sets the parameters; only at genesis and at the end of a block.
///
/// # Errors
/// If it is neither, or [`Error::Fatal`] if the store fails.
pub fn set_parameters(ctx: &mut Context<'_>, params: &Parameters) -> Result<()> {
    if !matches!(ctx.mode(), Mode::InitChain | Mode::EndBlock) {
        return Err(Error::uncoded("registry: parameters cannot be changed here"));
    }
    kv::put(&mut ctx.state(), &[PARAMETERS], params)
}
