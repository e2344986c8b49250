//! Discovery by way of a seed, and the peers that are kept connected.

use std::sync::Arc;
use std::time::Duration;

use p2p_net::address::AddrInfo;
use p2p_net::api::P2p;
use p2p_net::backup::{self, FileBackup, PeerBackup, Peers};
use p2p_net::config::Config;
use p2p_net::registry::Registered;
use p2p_net::seed::SeedNode;
use p2p_net::{Keypair, PeerId};
use tokio_util::sync::CancellationToken;

use crate::util::{config, protocol, serve, start, until};

async fn seed(mut config: Config, allow: bool) -> SeedNode {
    config.allow_private_ips = allow;
    SeedNode::start(config, Keypair::generate_ed25519(), CancellationToken::new()).await.unwrap()
}

fn with_seed(seed: &SeedNode) -> Config {
    let mut c = config();
    c.seeds = vec![seed.node().addr_info()];
    c
}

#[tokio::test]
async fn nodes_find_each_other_through_a_seed() {
    let seed = seed(config(), true).await;
    let a = start(with_seed(&seed)).await;
    serve(&a);
    until("registration", || !seed.peers().is_empty()).await;
    assert_eq!(seed.peers(), a.addr_info().texts());
    let b = start(with_seed(&seed)).await;
    b.track(&protocol(), 1, 5);
    until("discovery", || b.peers(&protocol()).iter().any(|p| p.id == a.peer_id())).await;
    assert_eq!(b.status().protocols[protocol().as_str()], 1);
    // Connections with a seed are not kept.
    until("closed connections", || seed.node().status().num_peers == 0).await;
    assert_eq!(seed.addresses(), [format!("{{{}: [{}]}}", seed.node().peer_id(), seed.node().listen_addresses()[0])]);
}

#[tokio::test]
async fn a_seed_does_not_hand_out_private_addresses() {
    let seed = seed(config(), false).await;
    let a = start(with_seed(&seed)).await;
    serve(&a);
    until("visit", || {
        seed.node().status().num_peers == 0 && a.is_identified(&seed.node().peer_id()) || seed.peers().is_empty()
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(seed.peers().is_empty());
}

#[tokio::test]
async fn registered_nodes_are_connected_to() {
    let (a, b) = (start(config()).await, start(config()).await);
    serve(&a);
    b.track(&protocol(), 1, 1);
    let gone = AddrInfo { id: PeerId::random(), addrs: vec!["/ip4/127.0.0.1/tcp/1".parse().unwrap()] };
    let names = vec![protocol().to_string()];
    b.set_registry(vec![Registered { info: gone, names: names.clone() }]);
    b.update_registry(Registered { info: a.addr_info(), names });
    until("connection", || !b.peers(&protocol()).is_empty()).await;
}

#[tokio::test]
async fn known_peers_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let file: Arc<dyn PeerBackup> = Arc::new(FileBackup::new(dir.path().join("peers")));
    let a = start(config()).await;
    let peers = Peers::from([(String::new(), vec![a.addr_info()])]);
    file.store(&backup::encode(&peers).unwrap()).unwrap();
    let mut c = config();
    c.backup = Some(file.clone());
    let b = start(c).await;
    until("connection", || b.is_connected(&a.peer_id())).await;
    // A seed's registrations too.
    let peers = Peers::from([("x".to_owned(), vec![a.addr_info()])]);
    file.store(&backup::encode(&peers).unwrap()).unwrap();
    let mut c = config();
    c.backup = Some(file);
    let seed = seed(c, true).await;
    assert_eq!(seed.peers(), a.addr_info().texts());
}

#[tokio::test]
async fn persistent_peers_are_connected_to_again() {
    let a = start(config()).await;
    let mut c = config();
    c.persistent_peers = vec![a.addr_info()];
    let b = start(c).await;
    until("connection", || b.is_connected(&a.peer_id())).await;
}
