//! Remote calls.

use std::time::Duration;

use p2p_net::api::{CallLimits, P2p, P2pError, ProtocolId};
use p2p_net::rpc::{CallError, CallOptions, RpcError};

use crate::util::{client, config, join, pair, protocol, serve, start, until};

#[tokio::test]
async fn round_trips() {
    let (a, b) = pair(config(), config()).await;
    serve(&b);
    until("protocol", || !a.peers(&protocol()).is_empty()).await;
    let c = client(&a);
    let limits = CallLimits::default();
    let (who, feedback) = c.call::<String>(b.peer_id(), "who", &0u8, limits).await.unwrap();
    assert_eq!(who, a.peer_id().to_string());
    feedback.success();
    assert!(a.peers(&protocol())[0].latency.is_some());
    assert_eq!(a.peers(&protocol())[0].agent, "oasis-core/test");
    let large = "x".repeat(3 << 20);
    let (echo, _) = c
        .call::<String>(b.peer_id(), "echo", large.as_str(), CallLimits::within(Duration::from_secs(20)))
        .await
        .unwrap();
    assert_eq!(echo, large);
    let error = c.call::<u8>(b.peer_id(), "nonsense", &0u8, limits).await.unwrap_err();
    assert_eq!(error, CallError::Remote(RpcError::unsupported_method()));
    let error = c.call::<u8>(b.peer_id(), "echo", "text", limits).await.unwrap_err();
    assert!(matches!(error, CallError::Malformed(_)), "{error}");
}

#[tokio::test]
async fn a_call_connects_if_it_must() {
    let (a, b) = pair(config(), config()).await;
    serve(&b);
    let c = start(config()).await;
    assert!(matches!(
        client(&c).call::<u8>(b.peer_id(), "echo", &1u8, CallLimits::default()).await,
        Err(CallError::Network(P2pError::Unreachable { .. }))
    ));
    c.connect(&b.addr_info()).await.unwrap();
    b.stop().await;
    until("disconnection", || !c.is_connected(&b.peer_id())).await;
    assert!(matches!(
        client(&c).call::<u8>(b.peer_id(), "echo", &1u8, CallLimits::default()).await,
        Err(CallError::Network(P2pError::Unreachable { .. }))
    ));
    serve(&a);
    let d = start(config()).await;
    d.connect(&a.addr_info()).await.unwrap();
    assert_eq!(client(&d).call::<u8>(a.peer_id(), "echo", &1u8, CallLimits::default()).await.unwrap().0, 1);
}

#[tokio::test]
async fn a_protocol_that_is_not_served() {
    let (a, b) = pair(config(), config()).await;
    let error = a.call(&b.peer_id(), &protocol(), vec![], CallLimits::default()).await.unwrap_err();
    assert_eq!(error, P2pError::Unsupported(protocol()));
    let invalid = ProtocolId::new("no slash");
    let error = a.call(&b.peer_id(), &invalid, vec![], CallLimits::default()).await.unwrap_err();
    assert_eq!(error, P2pError::Name("no slash".into()));
    serve(&a);
    assert!(matches!(
        a.serve(protocol(), p2p_net::rpc::Service::shared(crate::util::Echo)),
        Err(P2pError::Duplicate(_))
    ));
}

#[tokio::test]
async fn failing_peers_are_passed_over_and_sink() {
    let a = start(config()).await;
    let (good, bad) = (start(config()).await, start(config()).await);
    serve(&good);
    let garbage = std::sync::Arc::new(Garbage);
    bad.serve(protocol(), garbage).unwrap();
    join(&a, &good).await;
    join(&a, &bad).await;
    until("protocol", || a.peers(&protocol()).len() == 2).await;
    let peers = [bad.peer_id(), good.peer_id()];
    let c = client(&a);
    let (value, feedback) =
        c.call_one::<u64>(Some(&peers), "echo", &7u64, CallOptions::default(), |_, _| Ok(())).await.unwrap();
    assert_eq!((value, feedback.peer()), (7, good.peer_id()));
    let answers = c.call_many::<u64>(&peers, "echo", &7u64, CallLimits::default(), |_, _| true).await.unwrap();
    assert_eq!(answers.len(), 1);
    feedback.bad();
    until("block", || a.peers(&protocol()).iter().all(|p| p.id != good.peer_id())).await;
}

/// Answers with what is no response.
struct Garbage;

impl p2p_net::api::Serve for Garbage {
    fn serve<'a>(&'a self, _: p2p_net::PeerId, _: Vec<u8>) -> p2p_net::api::BoxFuture<'a, Option<Vec<u8>>> {
        Box::pin(async { Some(vec![0xff; 100]) })
    }
}
