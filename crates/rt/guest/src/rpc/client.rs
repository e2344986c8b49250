//! The asking side.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread::sleep,
    time::Duration,
};

use base_codec::{
    Raw,
    cbor::{self, Decode, Encode},
};
use base_prims::PublicKey;
use parking_lot::{Mutex, RwLock};
use wire_runtime::enclave_rpc::{Frame, Kind, Message, PeerFeedback, Request, Response, ResponseBody, SessionId};

use super::{Limits, RpcError, Session, SessionConfig, Sessions, Shared};
use crate::{Error, Host, identity::random};

/// Times that a call is tried again after an error on the way.
const MAX_RETRIES: u32 = 3;
/// Wait before the first time, doubled for each further one up to [`MAX_RETRY_DELAY`].
const RETRY_DELAY: Duration = Duration::from_millis(50);
/// Longest wait before a call is tried again.
const MAX_RETRY_DELAY: Duration = Duration::from_millis(250);

/// A call on its way: the name that feedback refers to, the request, how it is encoded, the nodes to choose from.
#[derive(Clone, Debug)]
pub struct NodeCall {
    /// For feedback.
    pub id: u64,
    /// The frame or plain request.
    pub request: Vec<u8>,
    /// How it is encoded.
    pub kind: Kind,
    /// Nodes to choose from; none means any.
    pub nodes: Vec<PublicKey>,
}

/// What carries calls to other enclaves.
pub trait Endpoint: Send + Sync {
    /// Delivers a call; returns the answer and the node that gave it.
    ///
    /// # Errors
    /// If there was no answer.
    fn call(&self, call: &NodeCall) -> Result<(Vec<u8>, PublicKey), Error>;
    /// Says how good the node of a call was. Nothing depends on it.
    fn feedback(&self, id: u64, feedback: PeerFeedback);
}

/// Carries calls through the host.
#[derive(Clone, Debug)]
pub struct HostEndpoint {
    host: Host,
    name: String,
}

impl HostEndpoint {
    /// The host's endpoint of that name.
    pub fn new(host: Host, name: &str) -> Self {
        Self { host, name: name.to_owned() }
    }
}

impl Endpoint for HostEndpoint {
    fn call(&self, call: &NodeCall) -> Result<(Vec<u8>, PublicKey), Error> {
        self.host.rpc_call(&self.name, call.id, call.request.clone(), call.kind, &call.nodes)
    }

    fn feedback(&self, id: u64, feedback: PeerFeedback) {
        if let Err(error) = self.host.peer_feedback(&self.name, id, feedback) {
            tracing::debug!(err = %error, "peer feedback not delivered");
        }
    }
}

/// A result, and whom feedback on it is about.
#[must_use = "the peer waits for feedback"]
pub struct CallResult<'c, T> {
    client: &'c Client,
    id: Option<u64>,
    result: Result<T, RpcError>,
}

impl<T> CallResult<'_, T> {
    /// The result so far.
    pub fn result(&self) -> Result<&T, &RpcError> {
        self.result.as_ref()
    }

    /// Says how good the peer was and returns the result.
    ///
    /// # Errors
    /// The call's own.
    pub fn judged(self, feedback: PeerFeedback) -> Result<T, RpcError> {
        if let Some(id) = self.id {
            self.client.endpoint.feedback(id, feedback);
        }
        self.result
    }

    /// The result; a success speaks for the peer, a failure against it.
    ///
    /// # Errors
    /// The call's own.
    pub fn into_result(self) -> Result<T, RpcError> {
        let feedback = if self.result.is_ok() { PeerFeedback::SUCCESS } else { PeerFeedback::FAILURE };
        self.judged(feedback)
    }
}

/// Calls methods of other enclaves through one endpoint. Several threads may call at once.
pub struct Client {
    endpoint: Box<dyn Endpoint>,
    config: RwLock<Arc<SessionConfig>>,
    sessions: Sessions,
    /// High half of request numbers, so that those of two clients differ.
    number: u32,
    next: AtomicU32,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("sessions", &self.sessions).finish_non_exhaustive()
    }
}

impl Client {
    /// A client without sessions.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn new(endpoint: Box<dyn Endpoint>, config: SessionConfig, limits: Limits) -> Result<Self, Error> {
        let number = u32::from_be_bytes(random()?);
        Ok(Self {
            endpoint,
            config: RwLock::new(Arc::new(config)),
            sessions: Sessions::new(limits),
            number,
            next: AtomicU32::new(1),
        })
    }

    /// What sessions require of the other side.
    pub fn config(&self) -> Arc<SessionConfig> {
        Arc::clone(&self.config.read())
    }

    /// Changes what sessions require of the other side, and ends those that were made before.
    pub fn update(&self, change: impl FnOnce(&mut SessionConfig)) {
        let mut config = SessionConfig::clone(&self.config.read());
        change(&mut config);
        *self.config.write() = Arc::new(config);
        for (_, id, session) in self.sessions.drain() {
            self.close(id, &session);
        }
    }

    /// Calls a method in an encrypted session with one of the nodes.
    pub fn secure_call<R: Decode>(&self, method: &str, args: &impl Encode, nodes: &[PublicKey]) -> CallResult<'_, R> {
        self.call(method, args, Kind::NOISE_SESSION, nodes)
    }

    /// Calls a method in plain, at one of the nodes.
    pub fn insecure_call<R: Decode>(&self, method: &str, args: &impl Encode, nodes: &[PublicKey]) -> CallResult<'_, R> {
        self.call(method, args, Kind::INSECURE_QUERY, nodes)
    }

    fn call<R: Decode>(&self, method: &str, args: &impl Encode, kind: Kind, nodes: &[PublicKey]) -> CallResult<'_, R> {
        let request = Request { method: method.to_owned(), args: Raw::of(args) };
        let mut outcome = self.attempt(&request, kind, nodes);
        let mut delay = RETRY_DELAY;
        for _ in 0..MAX_RETRIES {
            if outcome.is_ok() {
                break;
            }
            sleep(delay);
            delay = (delay * 2).min(MAX_RETRY_DELAY);
            outcome = self.attempt(&request, kind, nodes);
        }
        let (id, result) = match outcome {
            Err(error) => (None, Err(error)),
            Ok((id, Response { body: ResponseBody::Error(text) })) => (Some(id), Err(RpcError::CallFailed(text))),
            Ok((id, Response { body: ResponseBody::Success(value) })) => {
                (Some(id), value.decode_as().map_err(RpcError::Decode))
            }
        };
        CallResult { client: self, id, result }
    }

    fn attempt(&self, request: &Request, kind: Kind, nodes: &[PublicKey]) -> Result<(u64, Response), RpcError> {
        if kind != Kind::NOISE_SESSION {
            let id = self.next_id();
            let call = NodeCall { id, request: cbor::to_vec(request), kind, nodes: nodes.to_vec() };
            let (answer, _) = self.endpoint.call(&call).map_err(|_| self.blame(id, RpcError::Transport))?;
            return Ok((id, cbor::from_slice(&answer).map_err(RpcError::Decode)?));
        }
        let (session_id, session) = self.connect(nodes)?;
        let mut locked = session.lock();
        let result = self.call_in(session_id, &mut locked, request);
        if result.is_err() {
            // Nothing can follow in this session: another peer, or another session, is next.
            if let Some(node) = locked.remote_node() {
                self.sessions.remove(node.as_bytes(), &session_id);
            }
            locked.close();
        }
        result
    }

    fn call_in(&self, id: SessionId, session: &mut Session, request: &Request) -> Result<(u64, Response), RpcError> {
        let mut payload = Vec::new();
        session.write(&Message::Request(request.clone()), &mut payload)?;
        let node = session.remote_node().ok_or(RpcError::InvalidState)?;
        let call = self.session_call(id, payload, &request.method, vec![node]);
        let answer = self.endpoint.call(&call).map_err(|_| RpcError::Transport);
        let message = answer.and_then(|(data, _)| session.process(&data, &mut Vec::new()));
        match message.map_err(|error| self.blame(call.id, error))? {
            Some(Message::Response(response)) => Ok((call.id, response)),
            _ => Err(RpcError::UnexpectedMessage),
        }
    }

    /// A session with one of the nodes: one that is open, or a new one.
    fn connect(&self, nodes: &[PublicKey]) -> Result<(SessionId, Shared), RpcError> {
        let peers: Vec<Vec<u8>> = nodes.iter().map(|node| node.as_bytes().to_vec()).collect();
        if let Some(found) = self.sessions.find(&peers) {
            return Ok(found);
        }
        let id = SessionId::new(random()?);
        let mut session = Session::initiator(self.config())?;
        let (mut first, mut second) = (Vec::new(), Vec::new());
        session.process(&[], &mut first)?;

        let call = self.session_call(id, first, "", nodes.to_vec());
        let answer = self.endpoint.call(&call).map_err(|_| RpcError::Transport).and_then(|(data, node)| {
            session.set_remote_node(node);
            session.process(&data, &mut second).map(|_| node)
        });
        self.judge(call.id, answer.is_ok());
        let node = answer?;

        let call = self.session_call(id, second, "", vec![node]);
        let done = self.endpoint.call(&call).is_ok() && !session.is_refused();
        self.judge(call.id, done);
        let session = Arc::new(Mutex::new(session));
        if !done {
            self.close(id, &session);
            return Err(RpcError::Transport);
        }
        match self.sessions.add(node.as_bytes().to_vec(), id, Arc::clone(&session)) {
            Ok(removed) => {
                if let Some((_, id, removed)) = removed {
                    self.close(id, &removed);
                }
                Ok((id, session))
            }
            Err(error) => {
                self.close(id, &session);
                Err(error)
            }
        }
    }

    /// Tells the other side that the session ends; whether it hears does not matter.
    fn close(&self, id: SessionId, session: &Shared) {
        let mut session = session.lock();
        let mut payload = Vec::new();
        if let Some(node) = session.remote_node()
            && session.write(&Message::Close, &mut payload).is_ok()
        {
            let call = self.session_call(id, payload, "", vec![node]);
            if let Err(error) = self.endpoint.call(&call) {
                tracing::debug!(err = %error, "session closed one-sidedly");
            }
        }
        session.close();
    }

    fn session_call(&self, session: SessionId, payload: Vec<u8>, method: &str, nodes: Vec<PublicKey>) -> NodeCall {
        let frame = Frame { session, untrusted_plaintext: method.to_owned(), payload: payload.into() };
        NodeCall { id: self.next_id(), request: cbor::to_vec(&frame), kind: Kind::NOISE_SESSION, nodes }
    }

    fn next_id(&self) -> u64 {
        (u64::from(self.number) << 32) | u64::from(self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn judge(&self, id: u64, good: bool) {
        self.endpoint.feedback(id, if good { PeerFeedback::SUCCESS } else { PeerFeedback::FAILURE });
    }

    fn blame(&self, id: u64, error: RpcError) -> RpcError {
        self.judge(id, false);
        error
    }
}
