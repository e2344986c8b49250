//! Connections: both secure channels, blocking, refusal, shutdown.

use std::time::Duration;

use p2p_net::api::{P2p, P2pError, PeerVerdict};
use p2p_net::config::Security;
use p2p_net::{Keypair, Node, PeerId};
use tokio_util::sync::CancellationToken;

use crate::util::{config, join, pair, start, until};

#[tokio::test]
async fn every_pair_of_offers_with_one_in_common_connects() {
    use Security::{Both, NoiseOnly, TlsOnly};
    for (a, b) in [(TlsOnly, TlsOnly), (NoiseOnly, NoiseOnly), (Both, NoiseOnly), (Both, TlsOnly), (NoiseOnly, Both)] {
        let (mut ca, mut cb) = (config(), config());
        (ca.security, cb.security) = (a, b);
        let (a, b) = pair(ca, cb).await;
        assert_eq!((a.status().num_peers, b.status().num_connections), (1, 1));
        a.stop().await;
        b.stop().await;
    }
}

#[tokio::test]
async fn nothing_in_common_is_no_connection() {
    let (mut ca, mut cb) = (config(), config());
    (ca.security, cb.security) = (Security::TlsOnly, Security::NoiseOnly);
    let (a, b) = (start(ca).await, start(cb).await);
    assert!(matches!(a.connect(&b.addr_info()).await, Err(P2pError::Unreachable { .. })));
}

#[tokio::test]
async fn another_peer_at_the_address_is_refused() {
    for security in [Security::TlsOnly, Security::NoiseOnly] {
        let mut c = config();
        c.security = security;
        let (a, b) = (start(c.clone()).await, start(c).await);
        let mut info = b.addr_info();
        info.id = PeerId::random();
        assert!(a.connect(&info).await.is_err());
        until("closed connection", || b.status().num_peers == 0).await;
        assert!(!a.is_connected(&info.id) && !a.is_connected(&b.peer_id()));
    }
}

#[tokio::test]
async fn keys_behind_a_signer_connect() {
    struct Plugin(Keypair);
    impl libp2p_identity::Signer for Plugin {
        fn public(&self) -> [u8; 32] {
            *self.0.public().as_bytes()
        }
        fn sign(&self, message: &[u8]) -> Result<[u8; 64], libp2p_identity::SigningError> {
            Ok(self.0.sign(message)?.try_into().unwrap())
        }
    }
    let key = Keypair::from_signer(std::sync::Arc::new(Plugin(Keypair::generate_ed25519())));
    let a = Node::start(config(), key, CancellationToken::new()).await.unwrap();
    let b = start(config()).await;
    join(&b, &a).await;
}

#[tokio::test]
async fn a_blocked_peer_is_out_both_ways() {
    let (a, b) = pair(config(), config()).await;
    a.feedback(&b.peer_id(), PeerVerdict::Bad);
    until("disconnection", || !a.is_connected(&b.peer_id()) && !b.is_connected(&a.peer_id())).await;
    assert_eq!(a.connect(&b.addr_info()).await, Err(P2pError::Blocked(b.peer_id())));
    // The handshake succeeds before the connection is refused, so the dialler sees it come and go.
    let _ = b.connect(&a.addr_info()).await;
    until("refusal", || !b.is_connected(&a.peer_id())).await;
    assert!(!a.is_connected(&b.peer_id()));
}

#[tokio::test]
async fn a_blocked_address_is_out_both_ways() {
    let mut c = config();
    c.blocked_ips = vec!["127.0.0.1".parse().unwrap()];
    let (a, b) = (start(c).await, start(config()).await);
    assert!(a.connect(&b.addr_info()).await.is_err());
    let _ = b.connect(&a.addr_info()).await;
    until("refusal", || !b.is_connected(&a.peer_id())).await;
    assert_eq!(a.status().num_peers, 0);
}

#[tokio::test]
async fn connections_from_outside_are_bounded() {
    let mut c = config();
    c.max_inbound = 2;
    let hub = start(c).await;
    let mut others = Vec::new();
    for _ in 0..4 {
        let other = start(config()).await;
        let _ = other.connect(&hub.addr_info()).await;
        others.push(other);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(hub.status().num_connections, 2);
    assert_eq!(others.iter().filter(|o| o.is_connected(&hub.peer_id())).count(), 2);
}

#[tokio::test]
async fn too_many_connections_are_trimmed() {
    let mut c = config();
    (c.max_peers, c.grace_period) = (1, Duration::ZERO);
    let hub = start(c).await;
    let mut others = Vec::new();
    for _ in 0..32 {
        let other = start(config()).await;
        join(&other, &hub).await;
        others.push(other);
    }
    until("trimming", || hub.status().num_connections == 1).await;
}

#[tokio::test]
async fn stopping_ends_everything() {
    let (a, b) = pair(config(), config()).await;
    tokio::time::timeout(Duration::from_secs(5), a.stop()).await.unwrap();
    until("disconnection", || !b.is_connected(&a.peer_id())).await;
    assert_eq!(a.connect(&b.addr_info()).await, Err(P2pError::Closed));
}

#[tokio::test]
async fn an_address_of_another_host_is_an_error() {
    let mut c = config();
    c.listen = vec!["192.0.2.1:1".parse().unwrap()];
    let error = Node::start(c, Keypair::generate_ed25519(), CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, p2p_net::StartError::Listen { .. }), "{error}");
}
