//! Calling a protocol's methods.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base_codec::cbor::{Decode, Encode};
use base_codec::{Raw, cbor};
use futures_util::StreamExt;
use libp2p_identity::PeerId;

use crate::api::{CallLimits, P2p, P2pError, PeerInfo, PeerVerdict, ProtocolId};
use crate::rpc::message::read;
use crate::rpc::{Request, Response, RpcError};

/// The pause between rounds of attempts.
pub const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How many peers are asked at once by calls to many.
pub const PARALLEL_CALLS: usize = 5;

/// Why a call brought no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The network.
    #[error(transparent)]
    Network(#[from] P2pError),
    /// The peer answered with an error.
    #[error("peer answered: {0}")]
    Remote(RpcError),
    /// The peer's answer is malformed.
    #[error("malformed answer: {0}")]
    Malformed(String),
    /// There is nobody to ask.
    #[error("no peers to ask")]
    NoPeers,
    /// Everybody failed.
    #[error("call failed on all peers; the last said: {0}")]
    AllFailed(Box<CallError>),
    /// The answer was refused by the caller.
    #[error("answer refused: {0}")]
    Refused(String),
}

/// How to call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallOptions {
    /// Bounds of each attempt.
    pub limits: CallLimits,
    /// How often all peers are tried again.
    pub retries: u32,
    /// The pause before trying again.
    pub retry_interval: Duration,
}

impl Default for CallOptions {
    fn default() -> Self {
        Self { limits: CallLimits::default(), retries: 0, retry_interval: RETRY_INTERVAL }
    }
}

impl CallOptions {
    /// The default with another response time.
    #[must_use]
    pub fn within(response_time: Duration) -> Self {
        Self { limits: CallLimits::within(response_time), ..Self::default() }
    }
}

/// Where to say what an answer was worth, once that is known.
#[derive(Clone)]
pub struct Feedback {
    p2p: Arc<dyn P2p>,
    protocol: ProtocolId,
    peer: PeerId,
    latency: Duration,
}

impl Feedback {
    /// Who answered.
    #[must_use]
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// The answer was good.
    pub fn success(&self) {
        let (protocol, latency) = (self.protocol.clone(), self.latency);
        self.p2p.feedback(&self.peer, PeerVerdict::Success { protocol, latency });
    }

    /// The answer was useless.
    pub fn failure(&self) {
        let (protocol, latency) = (self.protocol.clone(), self.latency);
        self.p2p.feedback(&self.peer, PeerVerdict::Failure { protocol, latency });
    }

    /// The answer was malicious: the peer is blocked.
    pub fn bad(&self) {
        self.p2p.feedback(&self.peer, PeerVerdict::Bad);
    }
}

impl std::fmt::Debug for Feedback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Feedback({}, {:?})", self.peer, self.latency)
    }
}

/// Calls one protocol. Failed calls count against the peer by themselves; what an answer was worth is for the caller to
/// say with the [`Feedback`].
#[derive(Clone)]
pub struct Client {
    p2p: Arc<dyn P2p>,
    protocol: ProtocolId,
}

impl Client {
    /// A client of a protocol.
    #[must_use]
    pub fn new(p2p: Arc<dyn P2p>, protocol: ProtocolId) -> Self {
        Self { p2p, protocol }
    }

    /// The protocol.
    #[must_use]
    pub fn protocol(&self) -> &ProtocolId {
        &self.protocol
    }

    /// Connected peers that speak it, the most promising first.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.p2p.peers(&self.protocol)
    }

    /// Blocks a peer.
    pub fn bad_peer(&self, peer: &PeerId) {
        self.p2p.feedback(peer, PeerVerdict::Bad);
    }

    /// Calls one peer once.
    pub async fn call<T: Decode>(
        &self,
        peer: PeerId,
        method: &str,
        body: &(impl Encode + Sync + ?Sized),
        limits: CallLimits,
    ) -> Result<(T, Feedback), CallError> {
        self.attempt(peer, Request::encode(method, Raw(cbor::to_vec(body))), limits).await
    }

    /// Calls peers one after another until one gives an answer that `accept` takes, all of them again as often as the
    /// options say. Without peers given, those of [`Client::peers`].
    pub async fn call_one<T: Decode>(
        &self,
        peers: Option<&[PeerId]>,
        method: &str,
        body: &(impl Encode + Sync + ?Sized),
        options: CallOptions,
        mut accept: impl FnMut(&T, &Feedback) -> Result<(), String>,
    ) -> Result<(T, Feedback), CallError> {
        let request = Request::encode(method, Raw(cbor::to_vec(body)));
        let mut last = CallError::NoPeers;
        for round in 0..=options.retries {
            if round > 0 {
                tokio::time::sleep(options.retry_interval).await;
            }
            for peer in self.choose(peers) {
                match self.attempt::<T>(peer, request.clone(), options.limits).await {
                    Err(error) => last = error,
                    Ok((answer, feedback)) => match accept(&answer, &feedback) {
                        Ok(()) => return Ok((answer, feedback)),
                        Err(reason) => last = CallError::Refused(reason),
                    },
                }
            }
        }
        Err(match last {
            CallError::NoPeers => CallError::NoPeers,
            other => CallError::AllFailed(Box::new(other)),
        })
    }

    /// Calls several peers, a few at a time, and gives all good answers. `more` sees each answer and says whether to go
    /// on asking.
    pub async fn call_many<T: Decode + Send>(
        &self,
        peers: &[PeerId],
        method: &str,
        body: &(impl Encode + Sync + ?Sized),
        limits: CallLimits,
        mut more: impl FnMut(&T, &Feedback) -> bool,
    ) -> Result<Vec<(T, Feedback)>, CallError> {
        if peers.is_empty() {
            return Err(CallError::NoPeers);
        }
        let request = Request::encode(method, Raw(cbor::to_vec(body)));
        let mut calls = futures_util::stream::iter(peers.iter().copied())
            .map(|peer| self.attempt::<T>(peer, request.clone(), limits))
            .buffer_unordered(PARALLEL_CALLS);
        let mut out = Vec::new();
        while let Some(result) = calls.next().await {
            let Ok(answer) = result else { continue };
            let go_on = more(&answer.0, &answer.1);
            out.push(answer);
            if !go_on {
                break;
            }
        }
        Ok(out)
    }

    fn choose(&self, peers: Option<&[PeerId]>) -> Vec<PeerId> {
        match peers {
            Some(peers) => peers.to_vec(),
            None => self.peers().into_iter().map(|p| p.id).collect(),
        }
    }

    async fn attempt<T: Decode>(
        &self,
        peer: PeerId,
        request: Vec<u8>,
        limits: CallLimits,
    ) -> Result<(T, Feedback), CallError> {
        let start = Instant::now();
        let result = self.p2p.call(&peer, &self.protocol, request, limits).await;
        let latency = start.elapsed();
        let feedback = Feedback { p2p: self.p2p.clone(), protocol: self.protocol.clone(), peer, latency };
        match result.map_err(CallError::from).and_then(|bytes| read_answer(&bytes)) {
            Ok(answer) => Ok((answer, feedback)),
            Err(error) => {
                // That the node stops or is busy is not the peer's fault.
                if !matches!(error, CallError::Network(P2pError::Closed | P2pError::Busy)) {
                    feedback.failure();
                }
                Err(error)
            }
        }
    }
}

/// The result in a response's frame.
fn read_answer<T: Decode>(bytes: &[u8]) -> Result<T, CallError> {
    let malformed = |e: cbor::Error| CallError::Malformed(e.to_string());
    let response: Response = read(bytes).map_err(malformed)?;
    match response.error {
        Some(error) => Err(CallError::Remote(error)),
        None => cbor::from_slice(&response.ok).map_err(malformed),
    }
}
