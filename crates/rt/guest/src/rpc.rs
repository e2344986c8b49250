//! Calls between enclaves: methods that are offered, sessions, and the client.
//!
//! A session is a Noise XX channel whose static keys are bound to the enclaves' attestation keys. Frames travel through
//! both hosts, which see the method's name and nothing else. Source: `runtime/src/enclave_rpc`.

mod client;
mod server;
mod session;
mod sessions;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use base_codec::{
    Raw,
    cbor::{self, Decode, Encode},
};
use wire_runtime::{
    enclave_rpc::{Kind, Request, Response, ResponseBody},
    error::{self as codes, Code},
};

use crate::{Error, identity::IdentityError};

pub use client::{CallResult, Client, Endpoint, HostEndpoint, NodeCall};
pub use server::Server;
pub use session::{Session, SessionConfig, SessionInfo};
pub use sessions::{Limits, Removed, Sessions, Shared};

/// Most sessions of all peers.
pub const MAX_SESSIONS: usize = 1024;
/// Most sessions of one peer.
pub const MAX_SESSIONS_PER_PEER: usize = 8;
/// Seconds without a frame after which a session makes room for others.
pub const STALE_SESSION_SECS: u64 = 10;

/// Why a call or a session failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RpcError {
    /// A frame that does not decode.
    #[error("malformed payload: {0}")]
    MalformedPayload(cbor::Error),
    /// The plain copy of the method is not the method.
    #[error("malformed request method")]
    MalformedMethod,
    /// No room for another session.
    #[error("sessions error: max concurrent sessions reached")]
    MaxSessions,
    /// The Noise protocol.
    #[error("noise: {0}")]
    Noise(String),
    /// Data where none may be, or none where some must be.
    #[error("invalid input")]
    InvalidInput,
    /// The handshake is not done, or failed.
    #[error("invalid state")]
    InvalidState,
    /// The session has ended.
    #[error("session closed")]
    SessionClosed,
    /// The other side is not one of the enclaves that are allowed.
    #[error("mismatched enclave identity")]
    MismatchedEnclave,
    /// Nothing says which quotes count.
    #[error("missing quote policy")]
    MissingPolicy,
    /// The other side's key is not bound to its enclave.
    #[error("RAK binding: {0}")]
    Binding(String),
    /// The node is not registered.
    #[error("remote node not registered")]
    NodeNotRegistered,
    /// The node is registered with another enclave.
    #[error("RAK not published in the consensus layer")]
    RakNotFound,
    /// The host or the peer did not answer as it must.
    #[error("transport error")]
    Transport,
    /// The method failed.
    #[error("call failed: {0}")]
    CallFailed(String),
    /// The answer is of another kind.
    #[error("unexpected message")]
    UnexpectedMessage,
    /// The answer does not decode.
    #[error("decode error: {0}")]
    Decode(cbor::Error),
    /// A method that does not exist.
    #[error("method not found: {0:?}")]
    MethodNotFound(String),
    /// A method that is not offered in that way.
    #[error("invalid RPC kind: {method:?} ({kind})")]
    InvalidKind {
        /// The method.
        method: String,
        /// How it was called.
        kind: Kind,
    },
}

impl RpcError {
    /// The code that the host is told.
    pub fn code(&self) -> Code {
        match self {
            Self::MalformedPayload(_) => codes::DEMUX_MALFORMED_PAYLOAD,
            Self::MalformedMethod => codes::DEMUX_MALFORMED_METHOD,
            Self::MaxSessions => codes::DEMUX_SESSIONS,
            _ => codes::DEMUX_OTHER,
        }
    }
}

impl From<snow::Error> for RpcError {
    fn from(error: snow::Error) -> Self {
        Self::Noise(error.to_string())
    }
}

impl From<IdentityError> for RpcError {
    fn from(error: IdentityError) -> Self {
        Self::Binding(error.to_string())
    }
}

/// Who calls.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// The session's other side, if it proved to be an enclave.
    pub session: Option<Arc<SessionInfo>>,
}

type Handler = Box<dyn Fn(&Caller, &Raw) -> Result<Raw, Error> + Send + Sync>;

/// The methods that a runtime offers to other enclaves and to its host.
#[derive(Default)]
pub struct Methods(BTreeMap<String, (Kind, Handler)>);

impl std::fmt::Debug for Methods {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(name, (kind, _))| (name, kind))).finish()
    }
}

impl Methods {
    /// Offers a method to calls of one kind: encrypted, plain, or of the host alone.
    pub fn add<A, R, F>(&mut self, name: &str, kind: Kind, method: F)
    where
        A: Decode,
        R: Encode,
        F: Fn(&Caller, A) -> Result<R, Error> + Send + Sync + 'static,
    {
        let handler: Handler = Box::new(move |caller, args| {
            let args = args.decode_as().map_err(RpcError::Decode)?;
            Ok(Raw::of(&method(caller, args)?))
        });
        self.0.insert(name.to_owned(), (kind, handler));
    }

    /// Calls a method. Whatever goes wrong is an answer too.
    pub fn dispatch(&self, caller: &Caller, request: &Request, kind: Kind) -> Response {
        let result = match self.0.get(&request.method) {
            None => Err(RpcError::MethodNotFound(request.method.clone()).into()),
            Some((of, _)) if *of != kind => Err(RpcError::InvalidKind { method: request.method.clone(), kind }.into()),
            Some((_, handler)) => handler(caller, &request.args),
        };
        let body = match result {
            Ok(value) => ResponseBody::Success(value),
            Err(error) => ResponseBody::Error(error.to_string()),
        };
        Response { body }
    }
}
