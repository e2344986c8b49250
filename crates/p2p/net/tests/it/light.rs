//! The light protocol from a source to providers.

use std::sync::Arc;

use base_codec::Bytes;
use comet_chain::light::{LightBlockProvider, ProviderError};
use p2p_net::api::{BoxFuture, P2p};
use p2p_net::light::{Evidence, LightBlock, LightSource, Parameters, ProviderPool, SourceError, Validators, serve};
use p2p_net::{Node, ids};
use parking_lot::Mutex;
use wire_cometbft::Message;

use crate::util::{config, join, start, until};

const CHAIN: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A chain of one height, which may lie about it.
#[derive(Default)]
struct Toy {
    lie: i64,
    meta: Vec<u8>,
    evidence: Mutex<Vec<Evidence>>,
}

impl LightSource for Toy {
    fn light_block(&self, height: i64) -> BoxFuture<'_, Result<LightBlock, SourceError>> {
        Box::pin(async move {
            match height {
                5 => Ok(LightBlock { height: 5 + self.lie, meta: Some(Bytes(self.meta.clone())) }),
                0 => Err(SourceError::NoBlocks),
                _ => Err(SourceError::NotFound),
            }
        })
    }
    fn validators(&self, height: i64) -> BoxFuture<'_, Result<Validators, SourceError>> {
        Box::pin(async move { Ok(Validators { height, meta: Some(Bytes(self.meta.clone())) }) })
    }
    fn parameters(&self, height: i64) -> BoxFuture<'_, Result<Parameters, SourceError>> {
        Box::pin(async move {
            let parameters = wire_consensus::consensus::Parameters { max_tx_size: 77, ..Default::default() };
            Ok(Parameters { height, parameters, meta: Some(Bytes(vec![])) })
        })
    }
    fn submit_evidence(&self, evidence: Evidence) -> BoxFuture<'_, Result<(), SourceError>> {
        Box::pin(async move {
            self.evidence.lock().push(evidence);
            Ok(())
        })
    }
}

async fn server(toy: Toy) -> (Node, Arc<Toy>) {
    let (node, toy) = (start(config()).await, Arc::new(toy));
    serve(&node, CHAIN, toy.clone()).unwrap();
    (node, toy)
}

async fn client(servers: &[&Node]) -> (Node, ProviderPool) {
    let node = start(config()).await;
    for server in servers {
        join(&node, server).await;
    }
    let pool = ProviderPool::new(Arc::new(node.clone()), CHAIN, "chain");
    until("protocol", || node.peers(&ids::LIGHT.of_chain(CHAIN)).len() == servers.len()).await;
    (node, pool)
}

#[tokio::test]
async fn answers_travel() {
    let (server, toy) = server(Toy::default()).await;
    let (_node, pool) = client(&[&server]).await;
    let provider = pool.provider();
    assert_eq!(provider.light_block(6).await, Err(ProviderError::NotFound(6)));
    assert_eq!(provider.peer(), Some(server.peer_id()));
    assert_eq!(provider.light_block(0).await, Err(ProviderError::NoResponse));
    let (parameters, feedback) = provider.parameters(9).await.unwrap();
    assert_eq!((parameters.height, parameters.parameters.max_tx_size), (9, 77));
    feedback.success();
    assert_eq!(provider.validators(9).await.unwrap().0.height, 9);
    let evidence = wire_cometbft::evidence::Evidence::default();
    provider.report(evidence.clone()).await.unwrap();
    assert_eq!(*toy.evidence.lock(), [Evidence { meta: Some(Bytes(evidence.encode_to_vec())) }]);
}

#[tokio::test]
async fn providers_take_different_peers() {
    let ((a, _), (b, _)) = (server(Toy::default()).await, server(Toy::default()).await);
    let (_node, pool) = client(&[&a, &b]).await;
    let (first, second, third) = (pool.provider(), pool.provider(), pool.provider());
    first.parameters(1).await.unwrap();
    second.parameters(1).await.unwrap();
    assert_ne!(first.peer(), second.peer());
    assert_eq!(third.light_block(1).await, Err(ProviderError::NotFound(1)), "nobody is left");
    assert_eq!(third.peer(), None);
    drop(first);
    third.parameters(1).await.unwrap();
    assert!(third.peer().is_some());
    // A peer that goes is exchanged.
    drop(second);
    let gone = third.peer().unwrap();
    let (going, staying) = if gone == a.peer_id() { (&a, &b) } else { (&b, &a) };
    going.stop().await;
    until("disconnection", || !_node.is_connected(&gone)).await;
    third.parameters(1).await.unwrap();
    assert_eq!(third.peer(), Some(staying.peer_id()));
}

#[tokio::test]
async fn liars_are_blocked() {
    for toy in [Toy { lie: 1, ..Toy::default() }, Toy { meta: vec![0xff; 9], ..Toy::default() }] {
        let (server, _) = server(toy).await;
        let (node, pool) = client(&[&server]).await;
        let provider = pool.provider();
        assert!(matches!(provider.light_block(5).await, Err(ProviderError::BadLightBlock(_))));
        assert_eq!(provider.peer(), None);
        until("block", || !node.is_connected(&server.peer_id())).await;
        assert!(node.connect(&server.addr_info()).await.is_err());
    }
}

#[tokio::test]
async fn an_inconsistent_block_costs_the_peer_but_does_not_block_it() {
    let (server, _) = server(Toy::default()).await;
    let (node, pool) = client(&[&server]).await;
    assert!(matches!(pool.provider().light_block(5).await, Err(ProviderError::BadLightBlock(_))));
    assert!(node.is_connected(&server.peer_id()));
}
