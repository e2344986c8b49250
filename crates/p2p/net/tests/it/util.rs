//! Nodes for tests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base_codec::Raw;
use p2p_net::api::{BoxFuture, P2p, ProtocolId};
use p2p_net::config::Config;
use p2p_net::rpc::{Client, Handler, RpcError, Service};
use p2p_net::{Keypair, Node, PeerId};
use tokio_util::sync::CancellationToken;

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(60);

/// Settings of a node on loopback.
pub(crate) fn config() -> Config {
    let mut config = Config::new(0, "oasis-core/test");
    config.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    config.allow_unroutable = true;
    config
}

/// A node with a new key.
pub(crate) async fn start(config: Config) -> Node {
    Node::start(config, Keypair::generate_ed25519(), CancellationToken::new()).await.unwrap()
}

/// Two nodes, the first connected to the second and both knowing what the other speaks.
pub(crate) async fn pair(a: Config, b: Config) -> (Node, Node) {
    let (a, b) = (start(a).await, start(b).await);
    join(&a, &b).await;
    (a, b)
}

/// Connects the first to the second.
pub(crate) async fn join(a: &Node, b: &Node) {
    a.connect(&b.addr_info()).await.unwrap();
    until("identification", || a.is_identified(&b.peer_id()) && b.is_identified(&a.peer_id())).await;
}

/// Waits until the condition holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "no {what} in time");
}

/// The test protocol.
pub(crate) fn protocol() -> ProtocolId {
    ProtocolId::new("/oasis/test/echo/1.0.0")
}

/// Echoes its argument, fails, hangs or says who asked.
pub(crate) struct Echo;

impl Handler for Echo {
    fn handle<'a>(&'a self, from: PeerId, method: &'a str, body: &'a Raw) -> BoxFuture<'a, Result<Raw, RpcError>> {
        Box::pin(async move {
            match method {
                "echo" => Ok(body.clone()),
                "who" => Ok(Raw::of(from.to_string().as_str())),
                "hang" => std::future::pending().await,
                _ => Err(RpcError::unsupported_method()),
            }
        })
    }
}

/// Serves the test protocol.
pub(crate) fn serve(node: &Node) {
    node.serve(protocol(), Service::shared(Echo)).unwrap();
}

/// A client of the test protocol.
pub(crate) fn client(node: &Node) -> Client {
    Client::new(Arc::new(node.clone()), protocol())
}
