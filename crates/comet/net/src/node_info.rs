//! What nodes tell each other after the handshake: how it is made and what must hold.
//!
//! Reference: `cometbft:p2p/node_info.go`, `p2p/transport.go` (`upgrade`).

use std::collections::HashSet;

use comet_core::PeerId;
use wire_cometbft::p2p::{NodeInfo, NodeInfoOther, ProtocolVersion};

use crate::address::{AddressError, Host, NetAddress, parse_host_port, parse_id};

/// Version of the peer-to-peer protocol.
pub const P2P_PROTOCOL: u64 = 8;
/// Version of the block protocol; must be the same for peers.
pub const BLOCK_PROTOCOL: u64 = 11;
/// Software version told to others.
pub const SOFTWARE_VERSION: &str = "0.37.16";
/// Channels of a full node in the order in which the reference lists them; 0x00 only with peer exchange.
pub const FULL_NODE_CHANNELS: [u8; 10] = [0x40, 0x20, 0x21, 0x22, 0x23, 0x30, 0x38, 0x60, 0x61, 0x00];
/// Most channels a node may list.
pub const MAX_CHANNELS: usize = 16;

/// Why a node cannot be a peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeInfoError {
    /// Its id or the address it listens at is malformed.
    #[error("listen address: {0}")]
    Address(#[from] AddressError),
    /// A field has characters other than printable ASCII, or nothing but spaces.
    #[error("{0} is not printable ascii text")]
    Text(&'static str),
    /// More channels than allowed.
    #[error("{0} channels listed")]
    TooManyChannels(usize),
    /// A channel is listed twice.
    #[error("channel {0:#04x} listed twice")]
    DuplicateChannel(u8),
    /// The index switch is neither empty, `on` nor `off`.
    #[error("tx_index is neither on nor off")]
    TxIndex,
    /// The id is not that of the key proven in the handshake.
    #[error("claims id {claimed}, but has the key of {proven}")]
    WrongId {
        /// Id in the node info.
        claimed: String,
        /// Id of the key.
        proven: String,
    },
    /// It has our own id.
    #[error("connected to ourselves")]
    Ourselves,
    /// Another block protocol.
    #[error("block protocol {theirs}, ours is {ours}")]
    BlockProtocol {
        /// The peer's.
        theirs: u64,
        /// Ours.
        ours: u64,
    },
    /// Another chain.
    #[error("network {theirs:?}, ours is {ours:?}")]
    Network {
        /// The peer's.
        theirs: String,
        /// Ours.
        ours: String,
    },
    /// No channel in common.
    #[error("no channel in common")]
    NoCommonChannel,
}

/// Node info of this kind of node. Id, address and channels are filled in when the switch starts.
pub fn node_info(network: &str, moniker: &str, app_version: u64) -> NodeInfo {
    NodeInfo {
        protocol_version: ProtocolVersion { p2p: P2P_PROTOCOL, block: BLOCK_PROTOCOL, app: app_version },
        network: network.to_owned(),
        version: SOFTWARE_VERSION.to_owned(),
        moniker: moniker.to_owned(),
        other: NodeInfoOther { tx_index: "off".to_owned(), rpc_address: String::new() },
        ..NodeInfo::default()
    }
}

/// Checks a node info by itself.
///
/// DEVIATION: the reference looks up a host name in the listen address and refuses the peer if that fails; here nobody
/// makes us look up names, the text just has to be one.
pub fn validate(info: &NodeInfo) -> Result<(), NodeInfoError> {
    parse_id(&info.default_node_id)?;
    parse_host_port(&info.listen_addr)?;
    if !info.version.is_empty() {
        check_text("version", &info.version)?;
    }
    if info.channels.len() > MAX_CHANNELS {
        return Err(NodeInfoError::TooManyChannels(info.channels.len()));
    }
    let mut seen = HashSet::new();
    if let Some(channel) = info.channels.iter().find(|channel| !seen.insert(**channel)) {
        return Err(NodeInfoError::DuplicateChannel(*channel));
    }
    check_text("moniker", &info.moniker)?;
    if !matches!(info.other.tx_index.as_str(), "" | "on" | "off") {
        return Err(NodeInfoError::TxIndex);
    }
    if !info.other.rpc_address.is_empty() {
        check_text("rpc_address", &info.other.rpc_address)?;
    }
    Ok(())
}

fn check_text(field: &'static str, text: &str) -> Result<(), NodeInfoError> {
    let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if printable && text.bytes().any(|byte| byte != b' ') { Ok(()) } else { Err(NodeInfoError::Text(field)) }
}

/// Checks that a valid node info is that of the key proven, and of a node that we can talk to.
pub fn check_peer(ours: &NodeInfo, theirs: &NodeInfo, proven: &PeerId) -> Result<(), NodeInfoError> {
    validate(theirs)?;
    if theirs.default_node_id != *proven.0 {
        let claimed = theirs.default_node_id.clone();
        return Err(NodeInfoError::WrongId { claimed, proven: proven.0.to_string() });
    }
    if theirs.default_node_id == ours.default_node_id {
        return Err(NodeInfoError::Ourselves);
    }
    let (block, our_block) = (theirs.protocol_version.block, ours.protocol_version.block);
    if block != our_block {
        return Err(NodeInfoError::BlockProtocol { theirs: block, ours: our_block });
    }
    if theirs.network != ours.network {
        return Err(NodeInfoError::Network { theirs: theirs.network.clone(), ours: ours.network.clone() });
    }
    if !ours.channels.is_empty() && !ours.channels.iter().any(|channel| theirs.channels.contains(channel)) {
        return Err(NodeInfoError::NoCommonChannel);
    }
    Ok(())
}

/// The address at which the node says it can be dialed; `None` if it is malformed or a name.
pub fn reported_address(info: &NodeInfo) -> Option<NetAddress> {
    match parse_host_port(&info.listen_addr) {
        Ok((Host::Ip(ip), port)) => Some(NetAddress { id: PeerId::new(&info.default_node_id), ip, port }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "00112233445566778899aabbccddeeff00112233";
    const OTHER: &str = "ff112233445566778899aabbccddeeff00112233";

    fn info(id: &str) -> NodeInfo {
        NodeInfo {
            default_node_id: id.to_owned(),
            listen_addr: "tcp://1.2.3.4:26656".to_owned(),
            channels: FULL_NODE_CHANNELS.to_vec(),
            ..node_info("net", "a node", 7 << 32)
        }
    }

    fn check(change: impl FnOnce(&mut NodeInfo)) -> Result<(), NodeInfoError> {
        let mut theirs = info(OTHER);
        change(&mut theirs);
        check_peer(&info(ID), &theirs, &PeerId::new(OTHER))
    }

    #[test]
    fn usual_peers_are_taken() {
        assert_eq!(check(|_| {}), Ok(()));
        assert_eq!(check(|i| i.protocol_version.app = 3), Ok(()));
        assert_eq!(check(|i| i.protocol_version.p2p = 3), Ok(()));
        assert_eq!(check(|i| i.other = NodeInfoOther::default()), Ok(()));
        assert_eq!(check(|i| i.version.clear()), Ok(()));
        assert_eq!(check(|i| i.listen_addr = "tcp://some.host:1".to_owned()), Ok(()));
        assert_eq!(check(|i| i.channels = vec![0]), Ok(()));
    }

    #[test]
    fn others_are_refused() {
        use NodeInfoError as E;
        assert!(matches!(check(|i| i.protocol_version.block = 10), Err(E::BlockProtocol { theirs: 10, ours: 11 })));
        assert!(matches!(check(|i| i.network.push('x')), Err(E::Network { .. })));
        assert_eq!(check(|i| i.channels = vec![0x99]), Err(E::NoCommonChannel));
        assert_eq!(check(|i| i.channels.clear()), Err(E::NoCommonChannel));
        assert_eq!(check(|i| i.channels = vec![0x40, 0x40]), Err(E::DuplicateChannel(0x40)));
        assert_eq!(check(|i| i.channels = (0..17).collect()), Err(E::TooManyChannels(17)));
        assert!(matches!(check(|i| i.default_node_id = ID.replace('0', "1")), Err(E::WrongId { .. })));
        assert!(matches!(check(|i| i.default_node_id = "F0".to_owned()), Err(E::Address(_))));
        assert!(matches!(check(|i| i.listen_addr = "tcp://:26656".to_owned()), Err(E::Address(_))));
        assert!(matches!(check(|i| i.listen_addr.clear()), Err(E::Address(_))));
        assert_eq!(check(|i| i.moniker = "  ".to_owned()), Err(E::Text("moniker")));
        assert_eq!(check(|i| i.moniker.clear()), Err(E::Text("moniker")));
        assert_eq!(check(|i| i.moniker = "a\tb".to_owned()), Err(E::Text("moniker")));
        assert_eq!(check(|i| i.version = " ".to_owned()), Err(E::Text("version")));
        assert_eq!(check(|i| i.other.tx_index = "yes".to_owned()), Err(E::TxIndex));
        assert_eq!(check(|i| i.other.rpc_address = "\u{e9}".to_owned()), Err(E::Text("rpc_address")));
        let same = info(ID);
        assert_eq!(check_peer(&same, &same, &PeerId::new(ID)), Err(E::Ourselves));
    }

    #[test]
    fn reported_addresses() {
        let mut node = info(ID);
        assert_eq!(reported_address(&node).map(|a| a.to_string()), Some(format!("{ID}@1.2.3.4:26656")));
        node.listen_addr = "tcp://[::1]:5".to_owned();
        assert_eq!(reported_address(&node).map(|a| a.to_string()), Some(format!("{ID}@[::1]:5")));
        node.listen_addr = "some.host:5".to_owned();
        assert_eq!(reported_address(&node), None);
    }
}
