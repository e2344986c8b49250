//! From a TCP connection to one with a proven node at its other end.
//!
//! Reference: `cometbft:p2p/transport.go` (`upgrade`, `handshake`).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use comet_core::PeerId;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use wire_cometbft::codec::Message;
use wire_cometbft::limits::MAX_NODE_INFO_BYTES;
use wire_cometbft::p2p::NodeInfo;

use super::{AddressSlot, Shared};
use crate::address::node_id;
use crate::node_info::{NodeInfoError, check_peer};
use crate::secret::handshake::{HandshakeError, Secured, secure};

/// Why a connection does not become a peer.
#[derive(Debug, thiserror::Error)]
pub enum Rejected {
    /// The address has a connection already.
    #[error("{0} is connected already")]
    DuplicateIp(IpAddr),
    /// The node is a peer already.
    #[error("node {} is connected already", .0.0)]
    DuplicateId(PeerId),
    /// No place for more inbound peers.
    #[error("there are {0} inbound peers already")]
    TooManyInbound(usize),
    /// A filter does not let it pass.
    #[error("filtered: {0}")]
    Filtered(String),
    /// The encrypted connection did not come about.
    #[error("handshake: {0}")]
    Handshake(#[from] HandshakeError),
    /// Another node than the one dialed.
    #[error("dialed {}, but node {} answered", dialed.0, answered.0)]
    WrongNode {
        /// Id dialed.
        dialed: PeerId,
        /// Id of the key proven.
        answered: PeerId,
    },
    /// The node info does not hold or does not fit ours.
    #[error("node info: {0}")]
    NodeInfo(#[from] NodeInfoError),
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The switch is stopping.
    #[error("stopped")]
    Stopped,
}

/// A connection whose handshake is done.
pub(crate) struct Connection {
    pub(crate) secured: Secured<OwnedReadHalf, OwnedWriteHalf>,
    pub(crate) info: NodeInfo,
    pub(crate) remote: SocketAddr,
    pub(crate) slot: AddressSlot,
    /// Place among the inbound sockets.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

impl Shared {
    /// Does the handshakes, each within its time.
    pub(crate) async fn upgrade(
        self: &Arc<Self>,
        stream: TcpStream,
        remote: SocketAddr,
        dialed: Option<&PeerId>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<Connection, Rejected> {
        let slot = self.claim_address(remote.ip().to_canonical())?;
        if let Some(filter) = &self.config.filter {
            filter.address(remote).map_err(Rejected::Filtered)?;
        }
        stream.set_nodelay(true)?;
        let (read, write) = stream.into_split();
        let limit = self.config.intervals.handshake_timeout;
        let securing = Box::pin(secure(read, write, &self.key));
        let mut secured = timeout(limit, securing).await.map_err(|_| HandshakeError::Timeout)??;
        let proven = node_id(&secured.remote_key);
        if let Some(dialed) = dialed.filter(|dialed| **dialed != proven) {
            return Err(Rejected::WrongNode { dialed: dialed.clone(), answered: proven });
        }
        let exchange = self.exchange_info(&mut secured);
        let info = timeout(limit, exchange).await.map_err(|_| HandshakeError::Timeout)??;
        match check_peer(&self.info, &info, &proven) {
            Err(NodeInfoError::Ourselves) => {
                if dialed.is_some() {
                    self.book.add_our_address(remote);
                }
                Err(NodeInfoError::Ourselves.into())
            }
            Err(error) => Err(error.into()),
            Ok(()) => Ok(Connection { secured, info, remote, slot, permit }),
        }
    }

    async fn exchange_info(
        &self,
        secured: &mut Secured<OwnedReadHalf, OwnedWriteHalf>,
    ) -> Result<NodeInfo, HandshakeError> {
        secured.writer.write(&self.info.encode_delimited()).await?;
        let theirs = secured.reader.read_delimited(MAX_NODE_INFO_BYTES).await?;
        Ok(NodeInfo::decode(&theirs)?)
    }
}
