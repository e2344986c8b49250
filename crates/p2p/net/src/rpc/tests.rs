//! Tests of calls without a network.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base_codec::{Raw, cbor};
use futures_util::io::Cursor;
use libp2p_identity::PeerId;
use parking_lot::Mutex;
use proptest::prelude::*;

use super::frame::{self, Memory};
use super::*;
use crate::api::{BoxFuture, CallLimits, P2p, P2pError, PeerInfo, PeerVerdict, ProtocolId, Serve, Topic, Validate};

fn block_on<T>(f: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(f)
}

#[test]
fn wire_forms() {
    let hex = |v: Vec<u8>| hex::encode(v);
    assert_eq!(
        hex(Request::encode("GetLightBlock", Raw::of(&7i64))),
        "a264626f647907666d6574686f646d4765744c69676874426c6f636b"
    );
    let ok = Response { ok: Raw::of(&7i64), error: None };
    assert_eq!(hex(cbor::to_vec(&ok)), "a1626f6b07");
    let error = Response { ok: Raw::default(), error: Some(RpcError::bad_request()) };
    assert_eq!(
        hex(cbor::to_vec(&error)),
        "a1656572726f72a364636f646502666d6f64756c65677032702f727063676d657373616765707270633a20626164207265 71756573 74"
            .replace(' ', "")
    );
    assert_eq!(hex(cbor::to_vec(&RpcError::default())), "a0");
}

#[test]
fn frames() {
    block_on(async {
        let mut out = Cursor::new(Vec::new());
        frame::write(&mut out, b"abc").await.unwrap();
        assert_eq!(out.get_ref(), b"\0\0\0\x03abc");
        let read = |bytes: &[u8], max| {
            let bytes = bytes.to_vec();
            async move { frame::read(&mut Cursor::new(bytes), max).await }
        };
        assert_eq!(read(b"\0\0\0\x03abc", 3).await.unwrap(), b"abc");
        assert_eq!(read(b"\0\0\0\0", 3).await.unwrap(), b"");
        assert_eq!(read(b"\0\0\0\x04abcd", 3).await, Err(P2pError::TooLong { len: 4, max: 3 }));
        assert!(matches!(read(b"\0\0\0\x03ab", 3).await, Err(P2pError::Stream(_))));
        assert!(matches!(read(b"\0\0", 3).await, Err(P2pError::Stream(_))));
        // An announced length takes no memory by itself, and memory in use is bounded over all readers.
        let memory = Memory::new(128 << 10);
        let announced = [&(60u32 << 20).to_be_bytes()[..], &[0; 1000]].concat();
        assert!(frame::read_bounded(&mut Cursor::new(announced), 64 << 20, &memory).await.is_err());
        let large = [&(128u32 << 10).to_be_bytes()[..], &vec![1; 128 << 10]].concat();
        let (content, room) = frame::read_bounded(&mut Cursor::new(large.clone()), 1 << 20, &memory).await.unwrap();
        assert_eq!(content.len(), 128 << 10);
        let second = frame::read_bounded(&mut Cursor::new(large.clone()), 1 << 20, &memory).await;
        assert_eq!(second.unwrap_err(), P2pError::Busy);
        drop(room);
        assert!(frame::read_bounded(&mut Cursor::new(large), 1 << 20, &memory).await.is_ok());
    });
}

struct Echo;

impl Handler for Echo {
    fn handle<'a>(&'a self, _: PeerId, method: &'a str, body: &'a Raw) -> BoxFuture<'a, Result<Raw, RpcError>> {
        Box::pin(async move {
            match method {
                "echo" => Ok(body.clone()),
                "hang" => std::future::pending().await,
                _ => Err(RpcError::unsupported_method()),
            }
        })
    }
}

/// A network of peers that answer as they are told.
#[derive(Default)]
struct Fake {
    peers: Mutex<HashMap<PeerId, Result<Vec<u8>, P2pError>>>,
    order: Vec<PeerId>,
    verdicts: Mutex<Vec<(PeerId, &'static str)>>,
    calls: Mutex<Vec<PeerId>>,
}

impl P2p for Fake {
    fn publish(&self, _: &Topic, _: Vec<u8>) -> Result<(), P2pError> {
        Err(P2pError::Closed)
    }
    fn subscribe(&self, _: &Topic, _: Arc<dyn Validate>) -> Result<(), P2pError> {
        Err(P2pError::Closed)
    }
    fn call(
        &self,
        peer: &PeerId,
        _: &ProtocolId,
        request: Vec<u8>,
        _: CallLimits,
    ) -> BoxFuture<'_, Result<Vec<u8>, P2pError>> {
        let peer = *peer;
        Box::pin(async move {
            self.calls.lock().push(peer);
            let answer = self.peers.lock().get(&peer).cloned();
            match answer {
                Some(fixed) => fixed,
                None => Service(Echo).serve(peer, request).await.ok_or(P2pError::Stream("closed".into())),
            }
        })
    }
    fn serve(&self, _: ProtocolId, _: Arc<dyn Serve>) -> Result<(), P2pError> {
        Err(P2pError::Closed)
    }
    fn track(&self, _: &ProtocolId, _: usize, _: usize) {}
    fn peers(&self, _: &ProtocolId) -> Vec<PeerInfo> {
        self.order.iter().map(|id| PeerInfo { id: *id, agent: String::new(), latency: None }).collect()
    }
    fn feedback(&self, peer: &PeerId, verdict: PeerVerdict) {
        let verdict = match verdict {
            PeerVerdict::Success { .. } => "success",
            PeerVerdict::Failure { .. } => "failure",
            PeerVerdict::Bad => "bad",
        };
        self.verdicts.lock().push((peer.to_owned(), verdict));
    }
}

fn fake(answers: Vec<Option<Result<Vec<u8>, P2pError>>>) -> (Arc<Fake>, Client, Vec<PeerId>) {
    let mut fake = Fake::default();
    for answer in answers {
        let peer = PeerId::random();
        fake.order.push(peer);
        if let Some(answer) = answer {
            fake.peers.lock().insert(peer, answer);
        }
    }
    let fake = Arc::new(fake);
    let client = Client::new(fake.clone(), ProtocolId::new("/p"));
    let peers = fake.order.clone();
    (fake, client, peers)
}

fn timeout() -> P2pError {
    P2pError::Timeout { what: "response", limit: Duration::ZERO }
}

#[test]
fn a_call_tries_peers_in_turn() {
    block_on(async {
        let malformed = Ok(vec![0xff]);
        let (fake, client, peers) = fake(vec![Some(Err(timeout())), Some(malformed), None, None]);
        let mut refused = 0;
        let accept = |value: &u64, feedback: &Feedback| {
            assert_eq!(*value, 7);
            refused += 1;
            if refused == 1 {
                return Err("first is never good enough".into());
            }
            feedback.success();
            Ok(())
        };
        let options = CallOptions::default();
        let (value, feedback) = client.call_one::<u64>(None, "echo", &7u64, options, accept).await.unwrap();
        assert_eq!((value, feedback.peer()), (7, peers[3]));
        assert_eq!(*fake.calls.lock(), peers);
        let want = [(peers[0], "failure"), (peers[1], "failure"), (peers[3], "success")];
        assert_eq!(*fake.verdicts.lock(), want);
    });
}

#[test]
fn a_call_is_retried_as_often_as_asked() {
    block_on(async {
        let (fake, client, _) = fake(vec![Some(Err(timeout())), Some(Err(timeout()))]);
        let options = CallOptions { retries: 2, retry_interval: Duration::from_millis(10), ..CallOptions::default() };
        let result = client.call_one::<u64>(None, "echo", &7u64, options, |_, _| Ok(())).await;
        assert_eq!(result.unwrap_err(), CallError::AllFailed(Box::new(CallError::Network(timeout()))));
        assert_eq!(fake.calls.lock().len(), 6);
        let none = client.call_one::<u64>(Some(&[]), "echo", &7u64, CallOptions::default(), |_, _| Ok(())).await;
        assert_eq!(none.unwrap_err(), CallError::NoPeers);
    });
}

#[test]
fn remote_errors_keep_module_and_code() {
    block_on(async {
        let (fake, client, peers) = fake(vec![None]);
        let error = client.call::<u64>(peers[0], "nonsense", &7u64, CallLimits::default()).await.unwrap_err();
        assert_eq!(error, CallError::Remote(RpcError::unsupported_method()));
        assert_eq!(*fake.verdicts.lock(), [(peers[0], "failure")]);
        let error = client.call::<u64>(peers[0], "echo", "text", CallLimits::default()).await.unwrap_err();
        assert!(matches!(error, CallError::Malformed(_)));
    });
}

#[test]
fn a_hanging_handler_is_an_error() {
    block_on(async {
        let request = Request::encode("hang", Raw::of(&7u64));
        let answer = Service(Echo).answer(PeerId::random(), &request, Duration::from_millis(10)).await.unwrap();
        let response: Response = cbor::from_slice(&answer).unwrap();
        assert_eq!(response.error, Some(RpcError::unknown("context deadline exceeded")));
    });
}

#[test]
fn many_calls_stop_when_told() {
    block_on(async {
        let (_, client, peers) = fake(vec![None; 20]);
        let all = client.call_many::<u64>(&peers, "echo", &7u64, CallLimits::default(), |_, _| true).await.unwrap();
        assert_eq!(all.len(), 20);
        let one = client.call_many::<u64>(&peers, "echo", &7u64, CallLimits::default(), |_, _| false).await.unwrap();
        assert_eq!(one.len(), 1);
    });
}

#[test]
fn an_unreadable_request_gets_no_answer() {
    block_on(async {
        let peer = PeerId::random();
        for bytes in [&b""[..], b"\xff", b"\x00", b"\xa1\x61x", b"\xa2\x64body\x00\x66method\x00"] {
            assert_eq!(Service(Echo).serve(peer, bytes.to_vec()).await, None, "{bytes:?}");
        }
        // Unknown fields of the envelope are passed over.
        let request = b"\xa3\x61x\x00\x64body\x07\x66method\x64echo";
        assert_eq!(Service(Echo).serve(peer, request.to_vec()).await.unwrap(), b"\xa1\x62ok\x07");
    });
}

proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..100), max in 0usize..200) {
        let _ = cbor::from_slice_relaxed::<Request>(&bytes);
        let _ = cbor::from_slice_relaxed::<Response>(&bytes);
        block_on(async {
            let _ = frame::read(&mut Cursor::new(bytes.clone()), max).await;
            let _ = Service(Echo).serve(PeerId::random(), bytes).await;
        });
    }
}
