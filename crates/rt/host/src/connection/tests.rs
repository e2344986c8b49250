//! Calls in both directions, and peers that break every rule.

use std::{sync::atomic::AtomicUsize, time::Instant};

use tokio::{
    io::AsyncWriteExt as _,
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use wire_runtime::{
    Empty,
    host::{IdentityResponse, LocalStorageGetRequest, LocalStorageGetResponse},
    runtime::{ConsensusSyncRequest, QueryRequest, QueryResponse},
};

use super::*;
use crate::api::BoxFuture;

/// Echoes local storage keys; `slow` never answers.
#[derive(Default)]
struct Echo {
    slow: bool,
    running: AtomicUsize,
}

impl HostHandler for Echo {
    fn handle(&self, request: Body) -> BoxFuture<'_, Result<Body, wire_runtime::Error>> {
        Box::pin(async move {
            self.running.fetch_add(1, Ordering::SeqCst);
            if self.slow {
                std::future::pending::<()>().await;
            }
            match request {
                Body::HostLocalStorageGetRequest(r) => {
                    Ok(Body::HostLocalStorageGetResponse(LocalStorageGetResponse { value: r.key }))
                }
                Body::HostIdentityRequest(_) => Ok(Body::HostIdentityResponse(IdentityResponse::default())),
                _ => Err(wire_runtime::Error::method_not_supported()),
            }
        })
    }
}

/// The other end, driven by hand.
struct Peer {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    frames: FrameReader,
}

impl Peer {
    async fn receive(&mut self) -> Option<Message> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            if let Some(frame) = self.frames.next_frame().expect("the host keeps to the limit") {
                return Some(frame::decode(frame).expect("the host sends messages"));
            }
            match self.reader.read(&mut buffer).await {
                Ok(count) if count > 0 => self.frames.push(&buffer[..count]),
                _ => return None,
            }
        }
    }

    async fn send(&mut self, message: &Message) {
        let frame = frame::encode(message, MAX_FRAME_BYTES).expect("fits");
        self.writer.write_all(&frame).await.expect("the host reads");
    }

    async fn send_raw(&mut self, bytes: &[u8]) {
        let _ = self.writer.write_all(bytes).await;
    }
}

fn pair(handler: Arc<dyn HostHandler>) -> (Arc<Connection>, Peer) {
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let (reader, writer) = ours.into_split();
    let connection = Connection::new(reader, writer, Namespace::default(), handler);
    let (reader, writer) = theirs.into_split();
    (Arc::new(connection), Peer { reader, writer, frames: FrameReader::new(MAX_FRAME_BYTES) })
}

fn info(major: u16) -> Body {
    Body::RuntimeInfoResponse(InfoResponse {
        protocol_version: Version::new(major, 1, 0),
        runtime_version: Version::new(1, 2, 3),
        features: None,
    })
}

async fn ready(handler: Arc<dyn HostHandler>) -> (Arc<Connection>, Peer) {
    let (connection, mut peer) = pair(handler);
    let host = HostInfo::default();
    let (got, ()) = tokio::join!(connection.init(&host, std::collections::BTreeMap::new()), async {
        let request = peer.receive().await.expect("a request");
        assert!(matches!(request.body, Body::RuntimeInfoRequest(_)));
        assert_eq!(request.id, 0);
        peer.send(&Message::response(request.id, info(5))).await;
    });
    assert_eq!(got.expect("handshake").runtime_version, Version::new(1, 2, 3));
    (connection, peer)
}

fn get(key: &[u8]) -> Body {
    Body::HostLocalStorageGetRequest(LocalStorageGetRequest { key: Some(key.to_vec().into()) })
}

const PING: Body = Body::RuntimePingRequest(Empty {});
const EMPTY: Body = Body::Empty(Empty {});
const WAIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn handshake_checks_the_major_version() {
    for (major, fits) in [(4, false), (5, true), (6, false)] {
        let (connection, mut peer) = pair(Arc::new(Echo::default()));
        let host = HostInfo::default();
        let (got, ()) = tokio::join!(connection.init(&host, std::collections::BTreeMap::new()), async {
            let request = peer.receive().await.expect("a request");
            peer.send(&Message::response(request.id, info(major))).await;
        });
        assert_eq!(got.is_ok(), fits, "{major}: {got:?}");
        assert_eq!(connection.info().is_some(), fits);
        if !fits {
            assert_eq!(connection.call(PING).await, Err(HostError::NotReady));
        }
        assert!(connection.init(&host, std::collections::BTreeMap::new()).await.is_err(), "a second handshake");
    }
}

#[tokio::test]
async fn answers_in_any_order_reach_their_calls() {
    let (connection, mut peer) = ready(Arc::new(Echo::default())).await;
    let calls: Vec<_> = (0..100u64)
        .map(|n| {
            let connection = Arc::clone(&connection);
            tokio::spawn(async move {
                let method = n.to_string();
                let query = Body::RuntimeQueryRequest(Box::new(QueryRequest { method, ..QueryRequest::default() }));
                (n, connection.call(query).await)
            })
        })
        .collect();
    let mut requests = Vec::new();
    while requests.len() < 100 {
        requests.push(peer.receive().await.expect("a request"));
    }
    for request in requests.into_iter().rev() {
        let Body::RuntimeQueryRequest(query) = request.body else { panic!("not a query") };
        let data = query.method.into_bytes().into();
        peer.send(&Message::response(request.id, Body::RuntimeQueryResponse(QueryResponse { data }))).await;
    }
    for call in calls {
        let (n, answer) = call.await.expect("no panic");
        let Ok(Body::RuntimeQueryResponse(answer)) = answer else { panic!("{answer:?}") };
        assert_eq!(answer.data.to_vec(), n.to_string().into_bytes());
    }
}

#[tokio::test]
async fn errors_and_wrong_answers_are_told_apart() {
    let (connection, mut peer) = ready(Arc::new(Echo::default())).await;
    let refused = wire_runtime::Error::new(error::DISPATCHER, "no");
    let answers = [
        (Body::Error(refused.clone()), Err(HostError::Runtime(refused))),
        (EMPTY, Ok(EMPTY)),
        (
            Body::RuntimeAbortResponse(Empty {}),
            Err(HostError::UnexpectedAnswer {
                request: "RuntimePingRequest".into(),
                answer: "RuntimeAbortResponse".into(),
            }),
        ),
    ];
    for (answer, expected) in answers {
        let (got, ()) = tokio::join!(connection.call(PING), async {
            let request = peer.receive().await.expect("a request");
            peer.send(&Message::response(request.id, answer)).await;
        });
        assert_eq!(got, expected);
    }
}

#[tokio::test]
async fn serves_requests_while_calls_wait() {
    let (connection, mut peer) = ready(Arc::new(Echo::default())).await;
    let call = tokio::spawn({
        let connection = Arc::clone(&connection);
        async move { connection.call(PING).await }
    });
    let ping = peer.receive().await.expect("the ping");
    // Same number as the host's call: ids are per direction.
    peer.send(&Message::request(ping.id, get(b"key"))).await;
    let answer = peer.receive().await.expect("an answer");
    assert_eq!(answer.id, ping.id);
    assert_eq!(answer.message_type, MessageType::RESPONSE);
    assert_eq!(
        answer.body,
        Body::HostLocalStorageGetResponse(LocalStorageGetResponse { value: Some(b"key".to_vec().into()) })
    );
    // What is not for a host, or not known, is refused.
    for body in [PING, Body::Unknown("HostFortyTwoRequest".into()), EMPTY, info(5)] {
        peer.send(&Message::request(7, body)).await;
        let answer = peer.receive().await.expect("an answer");
        assert_eq!(answer.body, Body::Error(wire_runtime::Error::method_not_supported()));
    }
    peer.send(&Message::response(ping.id, EMPTY)).await;
    assert_eq!(call.await.expect("no panic"), Ok(EMPTY));
}

#[tokio::test]
async fn requests_before_the_handshake_wait_and_are_refused() {
    let (_connection, mut peer) = pair(Arc::new(Echo::default()));
    peer.send(&Message::request(3, Body::HostIdentityRequest(Empty {}))).await;
    let begin = tokio::time::Instant::now();
    let answer = peer.receive().await.expect("an answer");
    assert!(begin.elapsed() >= READY_TIMEOUT);
    let Body::Error(error) = answer.body else { panic!("{answer:?}") };
    assert!(error.is(error::NOT_READY));
}

#[tokio::test]
async fn malformed_frames_end_the_connection() {
    let oversize = u32::try_from(MAX_FRAME_BYTES + 1).expect("small").to_be_bytes().to_vec();
    let mut many_items = vec![0x81; 0];
    many_items.extend([0x9a, 0x00, 0x10, 0x00, 0x00]);
    many_items.resize(many_items.len() + (1 << 20), 0xf6);
    let framed = |content: &[u8]| {
        let mut out = u32::try_from(content.len()).expect("small").to_be_bytes().to_vec();
        out.extend_from_slice(content);
        out
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("at most", oversize),
        ("malformed frame", framed(&[0xff])),
        ("malformed frame", framed(&[])),
        ("malformed frame", framed(&[0xa1, 0x62, b'i'])),
        ("malformed frame", framed(b"\xa0\xa0")),
        ("items", framed(&many_items)),
    ];
    for (expected, bytes) in cases {
        let (connection, mut peer) = ready(Arc::new(Echo::default())).await;
        let call = tokio::spawn({
            let connection = Arc::clone(&connection);
            async move { connection.call(PING).await }
        });
        peer.receive().await.expect("the ping");
        peer.send_raw(&bytes).await;
        let reason = timeout(WAIT, connection.closed()).await.expect("closes");
        assert!(reason.contains(expected), "{reason}");
        assert_eq!(call.await.expect("no panic"), Err(HostError::Closed(reason)));
        timeout(WAIT, connection.shut_down()).await.expect("all tasks end");
    }
}

#[tokio::test]
async fn an_announced_frame_takes_no_memory_until_it_comes() {
    let (connection, mut peer) = ready(Arc::new(Echo::default())).await;
    peer.send_raw(&u32::try_from(MAX_FRAME_BYTES).expect("small").to_be_bytes()).await;
    peer.send_raw(&[0xa0; 100]).await;
    drop(peer);
    let reason = timeout(WAIT, connection.closed()).await.expect("closes");
    assert!(reason.contains("within a frame"), "{reason}");
}

#[tokio::test]
async fn unknown_and_repeated_answers_are_ignored() {
    let (connection, mut peer) = ready(Arc::new(Echo::default())).await;
    for id in [0, 1, u64::MAX] {
        peer.send(&Message::response(id, EMPTY)).await;
    }
    for _ in 0..3 {
        let (got, ()) = tokio::join!(connection.call(PING), async {
            let request = peer.receive().await.expect("a request");
            peer.send(&Message::response(request.id + 1, PING)).await;
            peer.send(&Message { id: request.id, message_type: MessageType(9), body: EMPTY }).await;
            peer.send(&Message::response(request.id, EMPTY)).await;
            peer.send(&Message::response(request.id, PING)).await;
        });
        assert_eq!(got, Ok(EMPTY));
    }
}

#[tokio::test]
async fn a_call_given_up_leaves_nothing_behind() {
    let (connection, mut peer) = ready(Arc::new(Echo::default())).await;
    for _ in 0..50 {
        assert!(timeout(Duration::from_millis(2), connection.call(PING)).await.is_err());
    }
    assert_eq!(connection.shared.calls.lock().len(), 0);
    assert_eq!(connection.shared.call_slots.available_permits(), MAX_CALLS);
    // Frames already written do not confuse those that follow.
    let (got, ()) = tokio::join!(connection.call(PING), async {
        let mut last = peer.receive().await.expect("a request");
        while last.id < 51 {
            last = peer.receive().await.expect("a request");
        }
        peer.send(&Message::response(last.id, EMPTY)).await;
    });
    assert_eq!(got, Ok(EMPTY));
}

#[tokio::test]
async fn calls_beyond_the_limit_are_refused() {
    let (connection, mut peer) = ready(Arc::new(Echo::default())).await;
    let drain = tokio::spawn(async move { while peer.receive().await.is_some() {} });
    let calls: Vec<_> = (0..MAX_CALLS)
        .map(|_| {
            let connection = Arc::clone(&connection);
            tokio::spawn(async move { connection.call(PING).await })
        })
        .collect();
    let begin = Instant::now();
    while connection.shared.call_slots.available_permits() > 0 && begin.elapsed() < WAIT {
        tokio::task::yield_now().await;
    }
    assert_eq!(connection.call(PING).await, Err(HostError::Busy { limit: MAX_CALLS }));
    connection.close();
    for call in calls {
        assert!(matches!(call.await.expect("no panic"), Err(HostError::Closed(_))));
    }
    drain.await.expect("no panic");
}

#[tokio::test]
async fn a_flood_of_requests_is_bounded() {
    let handler = Arc::new(Echo { slow: true, ..Echo::default() });
    let (connection, mut peer) = ready(Arc::clone(&handler) as Arc<dyn HostHandler>).await;
    let extra = 500;
    for id in 0..(MAX_REQUESTS + extra) as u64 {
        peer.send(&Message::request(id, get(b"k"))).await;
    }
    // The excess is answered with errors at once.
    for _ in 0..extra {
        let answer = timeout(WAIT, peer.receive()).await.expect("in time").expect("an answer");
        assert!(matches!(answer.body, Body::Error(_)), "{answer:?}");
    }
    assert_eq!(handler.running.load(Ordering::SeqCst), MAX_REQUESTS);
    assert_eq!(connection.refused(), extra as u64);
    // The runtime still gets calls.
    let (got, ()) = tokio::join!(connection.call(PING), async {
        let request = peer.receive().await.expect("a request");
        peer.send(&Message::response(request.id, EMPTY)).await;
    });
    assert_eq!(got, Ok(EMPTY));
    timeout(WAIT, connection.shut_down()).await.expect("requests being served are dropped");
    assert_eq!(connection.shared.requests.load(Ordering::SeqCst), 0);
    assert_eq!(connection.shared.request_bytes.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn large_requests_share_one_budget() {
    let handler = Arc::new(Echo { slow: true, ..Echo::default() });
    let (connection, mut peer) = ready(Arc::clone(&handler) as Arc<dyn HostHandler>).await;
    let key = vec![7; 12 << 20];
    for id in 0..6 {
        peer.send(&Message::request(id, get(&key))).await;
    }
    let answer = timeout(WAIT, peer.receive()).await.expect("in time").expect("an answer");
    assert!(matches!(answer.body, Body::Error(_)), "{answer:?}");
    assert!(connection.shared.request_bytes.load(Ordering::SeqCst) <= MAX_REQUEST_BYTES);
}

#[tokio::test]
async fn a_peer_that_asks_without_reading_is_cut_off() {
    let (connection, peer) = ready(Arc::new(Echo::default())).await;
    let Peer { reader: _unread, mut writer, .. } = peer;
    let frame = frame::encode(&Message::request(1, get(&vec![1; 64 << 10])), MAX_FRAME_BYTES).expect("fits");
    let flood = tokio::spawn(async move { while writer.write_all(&frame).await.is_ok() {} });
    let reason = timeout(2 * WRITE_TIMEOUT + WAIT, connection.closed()).await.expect("closes");
    assert!(reason.contains("read"), "{reason}");
    timeout(WAIT, connection.shut_down()).await.expect("all tasks end");
    timeout(WAIT, flood).await.expect("the socket is closed").expect("no panic");
}

#[tokio::test]
async fn a_peer_that_reads_nothing_blocks_nobody() {
    let (connection, _peer) = ready(Arc::new(Echo::default())).await;
    let large = || {
        let args = vec![0; 8 << 20].into();
        Body::RuntimeQueryRequest(Box::new(QueryRequest { args, ..QueryRequest::default() }))
    };
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let connection = Arc::clone(&connection);
            tokio::spawn(async move { connection.call(large()).await })
        })
        .collect();
    let begin = Instant::now();
    for call in calls {
        let answer = timeout(2 * WRITE_TIMEOUT + WAIT, call).await.expect("in time").expect("no panic");
        assert!(matches!(answer, Err(HostError::Closed(_))), "{answer:?}");
    }
    assert!(begin.elapsed() < 2 * WRITE_TIMEOUT + WAIT);
}

#[tokio::test]
async fn oversize_calls_are_not_sent() {
    let (connection, mut peer) = ready(Arc::new(Echo::default())).await;
    let args = vec![0; MAX_SENT_FRAME_BYTES].into();
    let query = Body::RuntimeQueryRequest(Box::new(QueryRequest { args, ..QueryRequest::default() }));
    assert!(matches!(connection.call(query).await, Err(HostError::TooLarge(_))));
    // Answers that would end the runtime's reader become errors.
    let key = vec![1; MAX_SENT_FRAME_BYTES];
    peer.send(&Message::request(1, get(&key))).await;
    let answer = peer.receive().await.expect("an answer");
    assert!(matches!(answer.body, Body::Error(_)), "{}", answer.body.name());
}

#[tokio::test]
async fn frames_of_the_largest_size_pass() {
    let (connection, mut peer) = ready(Arc::new(Echo::default())).await;
    let sync = Body::RuntimeConsensusSyncRequest(ConsensusSyncRequest { height: 1 });
    let (got, ()) = tokio::join!(connection.call(sync), async {
        let request = peer.receive().await.expect("a request");
        let message = "x".repeat(MAX_FRAME_BYTES - 200);
        let error = wire_runtime::Error { module: "m".into(), code: 1, message };
        peer.send(&Message::response(request.id, Body::Error(error))).await;
    });
    assert!(matches!(got, Err(HostError::Runtime(_))));
}

/// Numbers that only look random.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[tokio::test]
async fn damaged_traffic_never_panics_or_hangs() {
    let dir = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../vectors/rhp"));
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let (mut sent, mut ended) = (0, 0);
    for name in ["keymanager", "keyvalue-client", "keyvalue-compute"] {
        let records = dev_testkit::rhp::load(&dir.join(format!("{name}.bin"))).expect("a trace");
        let ours = records.iter().filter(|r| r.direction == dev_testkit::rhp::Direction::Runtime);
        for record in ours.step_by(3) {
            let (connection, mut peer) = ready(Arc::new(Echo::default())).await;
            let mut frame = u32::try_from(record.body.len()).expect("small").to_be_bytes().to_vec();
            frame.extend_from_slice(&record.body);
            for _ in 0..numbers.next() % 4 {
                let at = usize::try_from(numbers.next()).unwrap_or(0) % frame.len();
                frame[at] = numbers.next().to_le_bytes()[0];
            }
            let length = frame.len();
            frame.truncate(length - usize::try_from(numbers.next() % 3).unwrap_or(0).min(length));
            peer.send_raw(&frame).await;
            drop(peer);
            timeout(WAIT, connection.closed()).await.expect("the end of the stream is noticed");
            timeout(WAIT, connection.shut_down()).await.expect("all tasks end");
            assert_eq!(connection.shared.requests.load(Ordering::SeqCst), 0);
            sent += 1;
            ended += usize::from(connection.why_closed().is_some_and(|why| why.contains("malformed")));
        }
    }
    println!("{sent} damaged frames, {ended} of them malformed");
    assert!(ended > 20);
}
