//! Where this node can be reached, for its descriptor.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use apps_core::submit::BoxFuture;
use base_prims::PublicKey;
use node_workers::registration::Addresses;
use p2p_net::Node as P2pNode;
use wire_consensus::node::{ConsensusAddress, NetAddress};

/// The addresses of a node without sentries.
#[derive(Clone)]
pub(crate) struct OwnAddresses {
    pub(crate) key: PublicKey,
    /// `consensus.external_address`, or else `consensus.listen_address`.
    pub(crate) address: String,
    pub(crate) p2p: P2pNode,
}

/// The address that connections to the outside leave from; nothing is sent.
fn outward() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(8, 8, 8, 8), 53)).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

impl OwnAddresses {
    /// The address of the consensus transport.
    pub(crate) fn find(&self) -> Result<ConsensusAddress, String> {
        let text = self.address.strip_prefix("tcp://").unwrap_or(&self.address);
        let mut address: SocketAddr =
            text.parse().map_err(|_| format!("external address {text:?} is not tcp://IP:PORT"))?;
        if address.ip().is_unspecified() {
            let guess = outward().ok_or("failed to guess external address; set consensus.external_address")?;
            address.set_ip(guess);
        }
        let address: NetAddress =
            address.to_string().parse().map_err(|error| format!("external address {address}: {error}"))?;
        Ok(ConsensusAddress { id: self.key, address })
    }
}

impl Addresses for OwnAddresses {
    fn consensus(&self) -> BoxFuture<'_, Result<Vec<ConsensusAddress>, String>> {
        let found = self.find().map(|address| vec![address]);
        Box::pin(async move { found })
    }

    fn p2p(&self) -> Vec<NetAddress> {
        self.p2p.addresses()
    }
}
