//! Messages of the transport: packets, handshake, node info, peer exchange (0x00).
//!
//! Reference: `cometbft:proto/tendermint/p2p/{conn,pex,types}.proto`.

use crate::codec::{messages, oneofs};
use crate::keys::PublicKey;

messages! {
    /// Keep-alive.
    pub struct PacketPing {
    }

    /// Reply to a keep-alive.
    pub struct PacketPong {
    }

    /// A piece of a message.
    pub struct PacketMsg {
        /// Channel.
        1 => channel_id: i32,
        /// Whether this is the message's last piece.
        2 => eof: bool,
        /// The bytes, at most 1024.
        3 => data: Vec<u8>,
    }

    /// A handshake's proof of identity.
    pub struct AuthSigMessage {
        /// The sender's key.
        1 => pub_key: PublicKey,
        /// Signature of the handshake's challenge.
        2 => sig: Vec<u8>,
    }

    /// A handshake's first message (`google.protobuf.BytesValue`).
    pub struct EphemeralKey {
        /// X25519 key, 32 bytes.
        1 => key: Vec<u8>,
    }

    /// Protocol versions of a node.
    pub struct ProtocolVersion {
        /// Peer-to-peer protocol.
        1 => p2p: u64,
        /// Block protocol.
        2 => block: u64,
        /// Application protocol.
        3 => app: u64,
    }

    /// More about a node.
    pub struct NodeInfoOther {
        /// Whether transactions are indexed: `on`, `off` or empty.
        1 => tx_index: String,
        /// Address of the RPC server.
        2 => rpc_address: String,
    }

    /// What nodes tell each other after the handshake (`DefaultNodeInfo`).
    pub struct NodeInfo {
        /// Protocol versions.
        1 => protocol_version: ProtocolVersion,
        /// Node id: hex of the key's address.
        2 => default_node_id: String,
        /// Address at which others may dial.
        3 => listen_addr: String,
        /// Chain id.
        4 => network: String,
        /// Software version.
        5 => version: String,
        /// One byte per channel.
        6 => channels: Vec<u8>,
        /// Name of the node.
        7 => moniker: String,
        /// More.
        8 => other: NodeInfoOther,
    }

    /// Asks for addresses.
    pub struct PexRequest {
    }

    /// Addresses of peers.
    pub struct PexAddrs {
        /// The addresses.
        1 => addrs: Vec<NetAddress>,
    }

    /// Address of a peer.
    pub struct NetAddress [at most 64_000] {
        /// Node id.
        1 => id: String,
        /// IP address as text.
        2 => ip: String,
        /// Port.
        3 => port: u32,
    }
}

oneofs! {
    /// A packet of a multiplexed connection.
    pub struct Packet = enum PacketSum {
        /// Keep-alive.
        1 => Ping(PacketPing),
        /// Reply to a keep-alive.
        2 => Pong(PacketPong),
        /// A piece of a message.
        3 => Msg(PacketMsg),
    }

    /// A message of the peer exchange channel.
    pub struct PexMessage = enum PexMessageSum {
        /// Asks for addresses.
        1 => Request(PexRequest),
        /// Addresses.
        2 => Addrs(PexAddrs),
    }
}
