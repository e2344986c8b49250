//! The part of the registry's state that staking and others below the registry need. The registry writes these keys.
//!
//! Source: `go/consensus/cometbft/apps/registry/state`.

use apps_core::{
    Error, Result,
    kv::{self, Key, KvRead, KvWrite},
};
use base_prims::PublicKey;
use wire_consensus::{
    errors::registry as codes,
    node::{MultiSignedNode, Node},
    registry::NodeStatus,
};

/// Prefix of signed node descriptors, by hash of the node's key.
pub const NODE: u8 = 0x11;
/// Prefix of node keys, by CometBFT address.
pub const BY_CONSENSUS_ADDRESS: u8 = 0x14;
/// Prefix of node statuses, by hash of the node's key.
pub const STATUS: u8 = 0x15;

/// Opens a signed descriptor of the state, whose signatures were checked when it was written.
///
/// # Errors
/// [`Error::Fatal`] if it is malformed.
pub fn open(key: &[u8], raw: &[u8]) -> Result<Node> {
    let signed: MultiSignedNode = kv::decode(key, raw)?;
    kv::decode(key, signed.blob())
}

/// A node's descriptor.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn node(state: &dyn KvRead, id: &PublicKey) -> Result<Option<Node>> {
    let key = Key::new(NODE).key_hash(id);
    kv::get_raw(state, &key)?.map(|raw| open(&key, &raw)).transpose()
}

/// The node key that a 32-byte index value holds.
///
/// # Errors
/// [`Error::Fatal`] if it has another length.
pub fn index_value(raw: &[u8]) -> Result<PublicKey> {
    <[u8; 32]>::try_from(raw)
        .map(PublicKey::new)
        .map_err(|_| Error::fatal("corrupted state: node index does not hold a public key"))
}

/// The key of the node that validates under a CometBFT address.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn node_id_by_consensus_address(state: &dyn KvRead, address: &[u8]) -> Result<Option<PublicKey>> {
    let key = Key::new(BY_CONSENSUS_ADDRESS).raw(address);
    kv::get_raw(state, &key)?.map(|raw| index_value(&raw)).transpose()
}

/// The node that validates under a CometBFT address.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn node_by_consensus_address(state: &dyn KvRead, address: &[u8]) -> Result<Option<Node>> {
    match node_id_by_consensus_address(state, address)? {
        Some(id) => node(state, &id),
        None => Ok(None),
    }
}

/// A node's status.
///
/// # Errors
/// [`codes::NO_SUCH_NODE`] if there is none; [`Error::Fatal`] if the state is unavailable.
pub fn node_status(state: &dyn KvRead, id: &PublicKey) -> Result<NodeStatus> {
    find_node_status(state, id)?.ok_or_else(|| Error::from(&codes::NO_SUCH_NODE))
}

/// A node's status, if there is one.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn find_node_status(state: &dyn KvRead, id: &PublicKey) -> Result<Option<NodeStatus>> {
    kv::get(state, &Key::new(STATUS).key_hash(id))
}

/// Sets a node's status.
///
/// # Errors
/// [`Error::Fatal`] if the store fails.
pub fn set_node_status(state: &mut dyn KvWrite, id: &PublicKey, status: &NodeStatus) -> Result<()> {
    kv::put(state, &Key::new(STATUS).key_hash(id), status)
}
