//! The answering side: frames of many sessions, and plain and local requests.

use std::sync::Arc;

use base_codec::cbor;
use parking_lot::{Mutex, RwLock};
use wire_runtime::enclave_rpc::{Frame, Kind, Message, Request};

use super::{Caller, Limits, Methods, RpcError, Session, SessionConfig, Sessions};

/// Answers calls of other enclaves and of the host.
#[derive(Debug)]
pub struct Server {
    config: RwLock<Arc<SessionConfig>>,
    pub(super) sessions: Sessions,
    methods: Methods,
}

impl Server {
    /// A server of these methods.
    pub fn new(config: SessionConfig, methods: Methods, limits: Limits) -> Self {
        Self { config: RwLock::new(Arc::new(config)), sessions: Sessions::new(limits), methods }
    }

    /// How sessions that begin from now on are made.
    pub fn set_config(&self, config: SessionConfig) {
        *self.config.write() = Arc::new(config);
    }

    /// Ends all sessions.
    pub fn reset(&self) {
        for (_, _, session) in self.sessions.drain() {
            session.lock().close();
        }
    }

    /// Processes a frame of a session and returns what goes back to the peer.
    ///
    /// # Errors
    /// If the frame is malformed or does not belong; the session then ends.
    pub fn frame(&self, peer: &[u8], raw: &[u8]) -> Result<Vec<u8>, RpcError> {
        let frame: Frame = cbor::from_slice(raw).map_err(RpcError::MalformedPayload)?;
        let id = frame.session;
        let session = match self.sessions.get(peer, &id) {
            Some(session) => session,
            None => {
                let session = Arc::new(Mutex::new(Session::responder(Arc::clone(&self.config.read()))?));
                // The one that made room need not be told: its next frame starts a new handshake and fails.
                self.sessions.add(peer.to_vec(), id, Arc::clone(&session))?;
                session
            }
        };
        let mut out = Vec::new();
        let mut locked = session.lock();
        let message = match locked.process(&frame.payload, &mut out) {
            Ok(message) => message,
            Err(error) => {
                if locked.is_closed() {
                    self.sessions.remove(peer, &id);
                }
                return Err(error);
            }
        };
        match message {
            None => Ok(out),
            Some(Message::Request(request)) => {
                if frame.untrusted_plaintext != request.method {
                    return Err(RpcError::MalformedMethod);
                }
                let caller = Caller { session: locked.info() };
                let response = self.methods.dispatch(&caller, &request, Kind::NOISE_SESSION);
                locked.write(&Message::Response(response), &mut out)?;
                Ok(out)
            }
            Some(Message::Close) => {
                self.sessions.remove(peer, &id);
                locked.write(&Message::Close, &mut out)?;
                locked.close();
                Ok(out)
            }
            Some(Message::Response(_)) => Err(RpcError::UnexpectedMessage),
        }
    }

    /// Answers a plain request.
    ///
    /// # Errors
    /// If it does not decode.
    pub fn insecure(&self, raw: &[u8]) -> Result<Vec<u8>, RpcError> {
        let request: Request = cbor::from_slice(raw).map_err(RpcError::MalformedPayload)?;
        Ok(cbor::to_vec(&self.methods.dispatch(&Caller::default(), &request, Kind::INSECURE_QUERY)))
    }

    /// Answers the host's own request.
    ///
    /// # Errors
    /// If it does not decode.
    pub fn local(&self, raw: &[u8]) -> Result<Vec<u8>, RpcError> {
        let request: Request = cbor::from_slice(raw).map_err(RpcError::MalformedPayload)?;
        let response = self.methods.dispatch(&Caller::default(), &request, Kind::LOCAL_QUERY);
        Ok(cbor::to_vec(&Message::Response(response)))
    }
}
