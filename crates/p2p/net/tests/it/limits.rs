//! What a hostile or slow peer can't do.

use std::time::{Duration, Instant};

use p2p_net::api::{CallLimits, P2p, P2pError};
use p2p_net::rpc::CallError;

use crate::util::{client, config, pair, protocol, serve};

#[tokio::test]
async fn oversized_requests_are_cut_off() {
    let (mut ca, mut cb) = (config(), config());
    ca.serve.read_time = Duration::from_secs(2);
    cb.serve.max_request = 1000;
    let (a, b) = pair(ca, cb).await;
    serve(&b);
    let limits = CallLimits::default();
    assert!(a.call(&b.peer_id(), &protocol(), vec![0; 100_000], limits).await.is_err());
    assert_eq!(client(&a).call::<u8>(b.peer_id(), "echo", &1u8, limits).await.unwrap().0, 1);
}

#[tokio::test]
async fn oversized_answers_are_refused() {
    let (a, b) = pair(config(), config()).await;
    serve(&b);
    let limits = CallLimits { max_response: 1000, ..CallLimits::default() };
    let large = "x".repeat(2000);
    let error = client(&a).call::<String>(b.peer_id(), "echo", large.as_str(), limits).await.unwrap_err();
    assert!(matches!(error, CallError::Network(P2pError::TooLong { max: 1000, .. })), "{error}");
}

#[tokio::test]
async fn garbage_gets_no_answer() {
    let (a, b) = pair(config(), config()).await;
    serve(&b);
    for request in [vec![], vec![0xff; 10], b"\xa0\xa0".to_vec(), vec![0x9f; 1000], vec![0x81; 100_000]] {
        let error = a.call(&b.peer_id(), &protocol(), request, CallLimits::default()).await.unwrap_err();
        assert!(matches!(error, P2pError::Stream(_)), "{error}");
    }
    // An empty map is a request of no method.
    let answer = a.call(&b.peer_id(), &protocol(), vec![0xa0], CallLimits::default()).await.unwrap();
    assert!(answer.starts_with(b"\xa1\x65error"));
}

#[tokio::test]
async fn a_slow_answer_is_not_waited_for() {
    let (a, b) = pair(config(), config()).await;
    serve(&b);
    let start = Instant::now();
    let limits = CallLimits::within(Duration::from_millis(300));
    let error = client(&a).call::<u8>(b.peer_id(), "hang", &1u8, limits).await.unwrap_err();
    assert!(matches!(error, CallError::Network(P2pError::Timeout { .. })), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_handler_that_hangs_is_given_up() {
    let mut cb = config();
    cb.serve.handle_time = Duration::from_millis(100);
    let (a, b) = pair(config(), cb).await;
    serve(&b);
    let error = client(&a).call::<u8>(b.peer_id(), "hang", &1u8, CallLimits::default()).await.unwrap_err();
    assert!(matches!(error, CallError::Network(P2pError::Stream(_))), "{error}");
}

#[tokio::test]
async fn requests_at_once_are_bounded() {
    let mut cb = config();
    cb.serve.streams_per_peer = 3;
    let (a, b) = pair(config(), cb).await;
    serve(&b);
    let limits = CallLimits::within(Duration::from_secs(2));
    let calls = (0..10).map(|_| {
        let c = client(&a);
        let peer = b.peer_id();
        async move { c.call::<u8>(peer, "hang", &1u8, limits).await.unwrap_err() }
    });
    let errors = futures_util::future::join_all(calls).await;
    let waited = errors.iter().filter(|e| matches!(e, CallError::Network(P2pError::Timeout { .. }))).count();
    assert_eq!(waited, 3, "{errors:?}");
    // The caller's giving up frees nothing, the handlers still run; other peers are not affected.
    let c = crate::util::start(config()).await;
    c.connect(&b.addr_info()).await.unwrap();
    assert_eq!(client(&c).call::<u8>(b.peer_id(), "echo", &1u8, limits).await.unwrap().0, 1);
}

#[tokio::test]
async fn the_rate_of_requests_is_bounded() {
    let mut cb = config();
    cb.serve.requests_per_second = 5;
    let (a, b) = pair(config(), cb).await;
    serve(&b);
    let c = client(&a);
    let start = Instant::now();
    let mut good = 0;
    for _ in 0..40 {
        good += usize::from(c.call::<u8>(b.peer_id(), "echo", &1u8, CallLimits::default()).await.is_ok());
    }
    let earned = start.elapsed().as_secs_f64() * 5.0;
    assert!(good >= 10 && (good as f64) <= 11.0 + earned, "{good} in {:?}", start.elapsed());
}
