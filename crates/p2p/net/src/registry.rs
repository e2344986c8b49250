//! What the on-chain registry says of peers: where nodes are and what their roles make them speak.
//!
//! Source: `go/p2p/peermgmt/registry.go` and the node handlers of each protocol.

use std::collections::HashMap;

use libp2p_identity::{PeerId, PublicKey};
use wire_consensus::node::{Node as Descriptor, Roles};

use crate::address::{AddrInfo, MAX_ADDRESSES, from_net_address};
use crate::ids;
use crate::random;

/// A registered node, as far as the network is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Who and where.
    pub info: AddrInfo,
    /// The protocols and topics that its roles make it speak, by name.
    pub names: Vec<String>,
}

impl Registered {
    /// What a descriptor means on a chain.
    #[must_use]
    pub fn from_descriptor(node: &Descriptor, chain: &str) -> Self {
        let addrs = node.p2p.addresses.iter().flatten().filter_map(from_net_address).take(MAX_ADDRESSES).collect();
        let info = AddrInfo { id: PublicKey::from_bytes(node.p2p.id.into()).to_peer_id(), addrs };
        let mut names = vec![ids::LIGHT.of_chain(chain).to_string()];
        let sync = Roles(Roles::COMPUTE.0 | Roles::OBSERVER.0 | Roles::STORAGE_RPC.0);
        for runtime in node.runtimes.iter().flatten() {
            let id = &runtime.id;
            let mut add = |spec: ids::Spec| names.push(spec.of_runtime(chain, id).to_string());
            if node.has_roles(Roles::COMPUTE) {
                add(ids::TX_SYNC);
            }
            if node.has_roles(sync) {
                [ids::STORAGE_SYNC, ids::DIFF_SYNC, ids::CHECKPOINT_SYNC].into_iter().for_each(&mut add);
            }
            if node.has_roles(Roles::STORAGE_RPC) {
                add(ids::STORAGE_PUB);
            }
            if node.has_roles(Roles::KEY_MANAGER) {
                add(ids::KEY_MANAGER);
            }
            if node.has_roles(Roles::COMPUTE) {
                names.push(ids::committee_topic(chain, id).to_string());
                names.push(ids::tx_topic(chain, id).to_string());
            }
        }
        names.sort_unstable();
        names.dedup();
        Self { info, names }
    }
}

/// All registered nodes.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    peers: HashMap<PeerId, Registered>,
}

impl Registry {
    pub(crate) fn reset(&mut self, peers: Vec<Registered>) {
        self.peers = peers.into_iter().map(|p| (p.info.id, p)).collect();
    }

    pub(crate) fn update(&mut self, peer: Registered) {
        self.peers.insert(peer.info.id, peer);
    }

    /// Nodes that speak a protocol or are on a topic, in random order.
    pub(crate) fn find(&self, name: &str) -> Vec<AddrInfo> {
        let speaks = |p: &&Registered| p.names.iter().any(|n| n == name);
        let mut out: Vec<AddrInfo> = self.peers.values().filter(speaks).map(|p| p.info.clone()).collect();
        random::shuffle(&mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire_consensus::node::Runtime;

    #[test]
    fn roles_decide() {
        let chain = "c".repeat(64);
        let descriptor = |roles: u32| Descriptor {
            roles: Roles(roles),
            runtimes: Some(vec![Runtime::default(), Runtime::default()]),
            ..Descriptor::default()
        };
        let kinds = |roles: Roles| -> Vec<String> {
            let names = Registered::from_descriptor(&descriptor(roles.0), &chain).names;
            names.iter().map(|n| n.trim_start_matches('/').split('/').nth(2).unwrap().to_owned()).collect()
        };
        assert_eq!(kinds(Roles(0)), ["light"]);
        assert_eq!(
            kinds(Roles::COMPUTE),
            ["checkpointsync", "diffsync", "light", "storagesync", "txsync", "committee", "tx"]
        );
        assert_eq!(kinds(Roles::OBSERVER), ["checkpointsync", "diffsync", "light", "storagesync"]);
        assert_eq!(kinds(Roles::KEY_MANAGER), ["keymanager", "light"]);
        assert_eq!(kinds(Roles::STORAGE_RPC), ["checkpointsync", "diffsync", "light", "storagepub", "storagesync"]);
    }

    #[test]
    fn updates_replace() {
        let mut registry = Registry::default();
        let id = PeerId::random();
        let peer = |names: &[&str]| Registered {
            info: AddrInfo { id, addrs: vec![] },
            names: names.iter().map(|n| (*n).to_owned()).collect(),
        };
        registry.update(peer(&["/a", "/b"]));
        registry.update(peer(&["/b"]));
        assert_eq!((registry.find("/a").len(), registry.find("/b").len()), (0, 1));
        registry.reset(vec![]);
        assert!(registry.find("/b").is_empty());
    }
}
