//! Client and server over a wire in memory.

use std::sync::Arc;

use base_codec::cbor;
use base_prims::PublicKey;
use parking_lot::Mutex;
use wire_runtime::enclave_rpc::{Frame, Kind, Message, PeerFeedback, Request, SessionId};

use super::*;
use crate::{identity::Identity, tee::Tee};

fn methods() -> Methods {
    let mut methods = Methods::default();
    methods.add("double", Kind::NOISE_SESSION, |_, n: u64| n.checked_mul(2).ok_or_else(|| Error::other("too large")));
    methods.add("open", Kind::INSECURE_QUERY, |_, _: Raw| Ok("for all".to_owned()));
    methods.add("mine", Kind::LOCAL_QUERY, |_, text: String| Ok(text.len() as u64));
    methods
}

fn server(limits: Limits) -> Arc<Server> {
    Arc::new(Server::new(SessionConfig::default(), methods(), limits))
}

/// Delivers to a server as one peer, and notes feedback.
struct Wire {
    server: Arc<Server>,
    node: PublicKey,
    broken: Mutex<usize>,
    feedback: Arc<Mutex<Vec<PeerFeedback>>>,
}

impl Endpoint for Wire {
    fn call(&self, call: &NodeCall) -> Result<(Vec<u8>, PublicKey), Error> {
        let mut broken = self.broken.lock();
        if *broken > 0 {
            *broken -= 1;
            return Err(Error::other("broken"));
        }
        let answer = match call.kind {
            Kind::NOISE_SESSION => self.server.frame(b"peer", &call.request)?,
            _ => self.server.insecure(&call.request)?,
        };
        Ok((answer, self.node))
    }

    fn feedback(&self, _: u64, feedback: PeerFeedback) {
        self.feedback.lock().push(feedback);
    }
}

type Noted = Arc<Mutex<Vec<PeerFeedback>>>;

fn client(server: &Arc<Server>, config: SessionConfig, broken: usize) -> (Client, Noted) {
    let feedback = Noted::default();
    let wire = Wire {
        server: Arc::clone(server),
        node: PublicKey::new([3; 32]),
        broken: Mutex::new(broken),
        feedback: Arc::clone(&feedback),
    };
    (Client::new(Box::new(wire), config, Limits::default()).unwrap(), feedback)
}

#[test]
fn calls_of_each_kind() {
    let server = server(Limits::default());
    let (client, feedback) = client(&server, SessionConfig::default(), 0);
    assert_eq!(client.secure_call::<u64>("double", &21u64, &[]).into_result().unwrap(), 42);
    assert_eq!(client.secure_call::<u64>("double", &4u64, &[PublicKey::new([3; 32])]).into_result().unwrap(), 8);
    assert_eq!(client.insecure_call::<String>("open", &Raw::default(), &[]).into_result().unwrap(), "for all");
    // Two for the handshake, one for each call: one session served both.
    assert_eq!(*feedback.lock(), [PeerFeedback::SUCCESS; 5]);
    let failed = client.secure_call::<u64>("double", &u64::MAX, &[]).into_result();
    assert!(matches!(failed, Err(RpcError::CallFailed(text)) if text == "too large"));
    let wrong_kind = client.insecure_call::<u64>("double", &1u64, &[]).into_result();
    assert!(matches!(wrong_kind, Err(RpcError::CallFailed(text)) if text.contains("invalid RPC kind")));
    let missing = client.secure_call::<u64>("halve", &1u64, &[]).into_result();
    assert!(matches!(missing, Err(RpcError::CallFailed(text)) if text.contains("method not found")));
    client.update(|_| ());
    assert!(server.sessions.is_empty(), "a closed session is gone at the other side too");

    let request = cbor::to_vec(&Request { method: "mine".into(), args: base_codec::Raw::of("four") });
    let answer: Message = cbor::from_slice(&server.local(&request).unwrap()).unwrap();
    assert!(matches!(answer, Message::Response(r) if r.body == ResponseBody::Success(base_codec::Raw::of(&4u64))));
    assert!(server.local(b"\xff").is_err());
}

#[test]
fn errors_on_the_way_are_tried_again() {
    let server = server(Limits::default());
    let (client1, feedback) = client(&server, SessionConfig::default(), 3);
    assert_eq!(client1.secure_call::<u64>("double", &1u64, &[]).into_result().unwrap(), 2);
    assert_eq!(feedback.lock().iter().filter(|f| **f == PeerFeedback::FAILURE).count(), 3);
    let (client2, _) = client(&server, SessionConfig::default(), 4);
    assert!(matches!(client2.secure_call::<u64>("double", &1u64, &[]).into_result(), Err(RpcError::Transport)));
}

#[test]
fn peers_that_show_no_enclave_are_refused_where_one_is_required() {
    let server = server(Limits::default());
    let config = SessionConfig { remote_enclaves: Some(Default::default()), ..SessionConfig::default() };
    let (client, _) = client(&server, config, 0);
    assert!(matches!(client.secure_call::<u64>("double", &1u64, &[]).into_result(), Err(RpcError::Transport)));
    assert!(server.sessions.is_empty(), "the server was told");
}

#[test]
fn limits_of_sessions_hold() {
    let limits = Limits { sessions: 3, per_peer: 2, stale_secs: 1000 };
    let server = server(limits);
    let begin = |peer: &[u8], id: u8| {
        let mut session = Session::initiator(Arc::default()).unwrap();
        let mut payload = Vec::new();
        session.process(&[], &mut payload).unwrap();
        let frame = Frame { session: SessionId::new([id; 32]), payload: payload.into(), ..Frame::default() };
        server.frame(peer, &cbor::to_vec(&frame))
    };
    for id in 0..5 {
        begin(b"one", id).unwrap();
        assert!(server.sessions.len() <= 2, "the peer's own oldest makes room");
    }
    begin(b"two", 10).unwrap();
    assert!(matches!(begin(b"three", 11), Err(RpcError::MaxSessions)));
    assert_eq!(server.sessions.len(), 3);
}

#[test]
fn frames_that_do_not_belong_end_their_session() {
    let server = server(Limits::default());
    let frame = |id: u8, method: &str, payload: Vec<u8>| {
        cbor::to_vec(&Frame {
            session: SessionId::new([id; 32]),
            untrusted_plaintext: method.to_owned(),
            payload: payload.into(),
        })
    };
    assert!(server.frame(b"p", &frame(1, "", vec![0; 5])).is_err());
    assert!(server.sessions.is_empty());
    assert!(server.frame(b"p", b"\xa1").is_err());
    // A request under another name.
    let mut session = Session::initiator(Arc::default()).unwrap();
    let mut out = Vec::new();
    session.process(&[], &mut out).unwrap();
    let answer = server.frame(b"p", &frame(2, "", std::mem::take(&mut out))).unwrap();
    session.process(&answer, &mut out).unwrap();
    assert!(server.frame(b"p", &frame(2, "", std::mem::take(&mut out))).unwrap().is_empty());
    let request = Request { method: "double".into(), args: base_codec::Raw::of(&1u64) };
    session.write(&Message::Request(request), &mut out).unwrap();
    assert!(matches!(server.frame(b"p", &frame(2, "open", out)), Err(RpcError::MalformedMethod)));
}

#[test]
fn test_keys_outside_of_enclaves_are_the_known_ones() {
    let identity = Identity::new(Tee::None).unwrap();
    assert_eq!(identity.rak(), Identity::new(Tee::None).unwrap().rak());
    assert!(identity.is_ready() && identity.quote().is_none());
    let mock = Tee::MockSgx(Default::default());
    let (a, b) = (Identity::new(mock.clone()).unwrap(), Identity::new(mock).unwrap());
    assert_ne!(a.rak(), b.rak());
    assert!(!a.is_ready());
}
