//! The light protocol: light blocks, validators and parameters by height, and evidence.
//!
//! Source: `go/consensus/p2p/light` (server) and `go/consensus/cometbft/light/provider.go` (client). Every registered node
//! serves it.

use std::collections::HashSet;
use std::sync::Arc;

use base_codec::{Bytes, Codec, Raw, cbor};
use comet_chain::light::{Height, LightBlockProvider, ProviderError, UntrustedLightBlock};
use libp2p_identity::PeerId;
use parking_lot::Mutex;
use tracing::debug;
use wire_cometbft::block::LightBlock as WireLightBlock;
use wire_cometbft::evidence::Evidence as CometEvidence;
use wire_cometbft::{DecodeError, Message};
use wire_consensus::consensus::Parameters as ConsensusParameters;

use crate::api::{BoxFuture, CallLimits, P2p, P2pError};
use crate::ids;
use crate::rpc::{CallError, Client, Feedback, Handler, RpcError, Service};

/// Method: height to [`LightBlock`].
pub const GET_LIGHT_BLOCK: &str = "GetLightBlock";
/// Method: height to [`Validators`].
pub const GET_VALIDATORS: &str = "GetValidators";
/// Method: height to [`Parameters`].
pub const GET_PARAMETERS: &str = "GetParameters";
/// Method: [`Evidence`] to `null`.
pub const SUBMIT_EVIDENCE: &str = "SubmitEvidence";

/// Largest answer taken, in bytes; far above any light block, whose commit and validators are at most some 10,000.
const MAX_ANSWER: usize = 16 << 20;

/// Module of the errors of the consensus interface.
const CONSENSUS_MODULE: &str = "consensus";
/// Code for a height that is not there.
const VERSION_NOT_FOUND: u32 = 3;

/// A light block. CBOR: `{height, meta}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct LightBlock {
    /// Height.
    pub height: i64,
    /// CometBFT's `LightBlock` in protobuf, the sum of voting power included.
    pub meta: Option<Bytes>,
}

/// Validators of a height. CBOR: `{height, meta}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct Validators {
    /// Height.
    pub height: i64,
    /// CometBFT's `ValidatorSet` in protobuf.
    pub meta: Option<Bytes>,
}

/// Parameters at a height. CBOR: `{height, parameters, meta}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct Parameters {
    /// Height.
    pub height: i64,
    /// Those of the consensus layer.
    pub parameters: ConsensusParameters,
    /// CometBFT's `ConsensusParams` in protobuf.
    pub meta: Option<Bytes>,
}

/// Evidence of misbehaviour. CBOR: `{meta}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct Evidence {
    /// CometBFT's `Evidence` in protobuf.
    pub meta: Option<Bytes>,
}

/// Why a source has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The height is not there, not yet or not any more.
    #[error("consensus: version not found")]
    NotFound,
    /// There are no blocks yet.
    #[error("consensus: no committed blocks")]
    NoBlocks,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl From<SourceError> for RpcError {
    fn from(error: SourceError) -> Self {
        let code = match &error {
            SourceError::NoBlocks => 1,
            SourceError::NotFound => VERSION_NOT_FOUND,
            SourceError::Other(text) => return Self::unknown(text),
        };
        Self::new(CONSENSUS_MODULE, code, &error.to_string())
    }
}

/// What the node's chain offers to others. Height 0 means the newest.
pub trait LightSource: Send + Sync {
    /// A light block.
    fn light_block(&self, height: Height) -> BoxFuture<'_, Result<LightBlock, SourceError>>;
    /// The validators of a height.
    fn validators(&self, height: Height) -> BoxFuture<'_, Result<Validators, SourceError>>;
    /// The parameters of a height.
    fn parameters(&self, height: Height) -> BoxFuture<'_, Result<Parameters, SourceError>>;
    /// Checks evidence and adds it to the pool.
    fn submit_evidence(&self, evidence: Evidence) -> BoxFuture<'_, Result<(), SourceError>>;
}

struct Server(Arc<dyn LightSource>);

impl Server {
    async fn answer(&self, method: &str, body: &Raw) -> Result<Raw, RpcError> {
        let height = || cbor::from_slice::<i64>(body).map_err(|_| RpcError::bad_request());
        match method {
            GET_LIGHT_BLOCK => Ok(Raw::of(&self.0.light_block(height()?).await?)),
            GET_VALIDATORS => Ok(Raw::of(&self.0.validators(height()?).await?)),
            GET_PARAMETERS => Ok(Raw::of(&self.0.parameters(height()?).await?)),
            SUBMIT_EVIDENCE => {
                let evidence = cbor::from_slice(body).map_err(|_| RpcError::bad_request())?;
                self.0.submit_evidence(evidence).await?;
                Ok(Raw(vec![0xf6]))
            }
            _ => Err(RpcError::unsupported_method()),
        }
    }
}

impl Handler for Server {
    fn handle<'a>(&'a self, _from: PeerId, method: &'a str, body: &'a Raw) -> BoxFuture<'a, Result<Raw, RpcError>> {
        Box::pin(self.answer(method, body))
    }
}

/// Serves the protocol from the node's chain and keeps peers for it.
pub fn serve(p2p: &dyn P2p, chain: &str, source: Arc<dyn LightSource>) -> Result<(), P2pError> {
    let protocol = ids::LIGHT.of_chain(chain);
    p2p.track(&protocol, ids::LIGHT.min_peers, ids::LIGHT.total_peers);
    p2p.serve(protocol, Service::shared(Server(source)))
}

/// Hands out providers, each bound to a peer that no other is bound to.
#[derive(Clone)]
pub struct ProviderPool {
    client: Client,
    chain_id: Arc<str>,
    taken: Arc<Mutex<HashSet<PeerId>>>,
}

impl ProviderPool {
    /// Providers of a chain; `chain` is its context, `chain_id` CometBFT's name of it. Keeps peers for them.
    #[must_use]
    pub fn new(p2p: Arc<dyn P2p>, chain: &str, chain_id: &str) -> Self {
        let protocol = ids::LIGHT.of_chain(chain);
        p2p.track(&protocol, ids::LIGHT.min_peers, ids::LIGHT.total_peers);
        Self { client: Client::new(p2p, protocol), chain_id: chain_id.into(), taken: Arc::default() }
    }

    /// A new provider. It takes a peer when it first needs one.
    #[must_use]
    pub fn provider(&self) -> Provider {
        Provider { pool: self.clone(), peer: Mutex::new(None) }
    }
}

/// Light blocks from one peer at a time.
///
/// A peer that disconnects, does not answer or answers nonsense is exchanged for another at the next request; one that
/// lies about what it was asked for is blocked.
pub struct Provider {
    pool: ProviderPool,
    peer: Mutex<Option<PeerId>>,
}

impl Provider {
    /// The peer that it is bound to.
    #[must_use]
    pub fn peer(&self) -> Option<PeerId> {
        *self.peer.lock()
    }

    /// Takes another peer next time.
    pub fn refresh(&self) {
        if let Some(peer) = self.peer.lock().take() {
            self.pool.taken.lock().remove(&peer);
        }
    }

    /// Says that what the peer sent turned out to be malicious: it is blocked.
    pub fn malevolent(&self, peer: &PeerId) {
        self.pool.client.bad_peer(peer);
        if *self.peer.lock() == Some(*peer) {
            self.refresh();
        }
    }

    /// The bound peer if it is still there, else a new one.
    fn bind(&self) -> Option<PeerId> {
        let available: Vec<PeerId> = self.pool.client.peers().into_iter().map(|p| p.id).collect();
        let mut current = self.peer.lock();
        if let Some(peer) = *current
            && available.contains(&peer)
        {
            return Some(peer);
        }
        let mut taken = self.pool.taken.lock();
        if let Some(gone) = current.take() {
            taken.remove(&gone);
        }
        let free = available.into_iter().find(|p| !taken.contains(p))?;
        taken.insert(free);
        *current = Some(free);
        drop(taken);
        debug!(peer = %free, "light block provider took a peer");
        Some(free)
    }

    async fn call<T: cbor::Decode>(
        &self,
        method: &str,
        body: &(impl cbor::Encode + Sync + ?Sized),
    ) -> Result<(T, Feedback), CallError> {
        let peer = self.bind().ok_or(CallError::NoPeers)?;
        let limits = CallLimits { max_response: MAX_ANSWER, ..CallLimits::default() };
        let result = self.pool.client.call(peer, method, body, limits).await;
        if !matches!(result, Ok(_) | Err(CallError::Remote(_))) {
            self.refresh();
        }
        result
    }

    /// Blocks a peer that answered for another height than it was asked for.
    fn check_height(&self, asked: Height, got: Height, feedback: &Feedback) -> Result<(), ProviderError> {
        if got == asked || (asked == 0 && got > 0) {
            return Ok(());
        }
        feedback.bad();
        self.refresh();
        Err(ProviderError::BadLightBlock(format!("height {got} instead of {asked}")))
    }

    fn malformed(&self, error: &DecodeError, feedback: &Feedback) -> ProviderError {
        feedback.bad();
        self.refresh();
        ProviderError::BadLightBlock(error.to_string())
    }

    /// A light block and whom it came from.
    pub async fn light_block_from(&self, height: Height) -> Result<(UntrustedLightBlock, Feedback), ProviderError> {
        let result = self.call::<LightBlock>(GET_LIGHT_BLOCK, &height).await;
        let (answer, feedback) = result.map_err(|e| provider_error(&e, height))?;
        self.check_height(height, answer.height, &feedback)?;
        let meta = answer.meta.unwrap_or_default();
        let block = WireLightBlock::decode(&meta).map_err(|e| self.malformed(&e, &feedback))?;
        let block = UntrustedLightBlock(block);
        if let Err(error) = block.check(&self.pool.chain_id, answer.height) {
            feedback.failure();
            self.refresh();
            return Err(ProviderError::BadLightBlock(error.to_string()));
        }
        Ok((block, feedback))
    }

    /// The validators of a height, not verified.
    pub async fn validators(&self, height: Height) -> Result<(Validators, Feedback), ProviderError> {
        let result = self.call::<Validators>(GET_VALIDATORS, &height).await;
        let (answer, feedback) = result.map_err(|e| provider_error(&e, height))?;
        self.check_height(height, answer.height, &feedback)?;
        let meta = answer.meta.as_ref().map(|m| m.as_slice()).unwrap_or_default();
        wire_cometbft::validators::ValidatorSet::decode(meta).map_err(|e| self.malformed(&e, &feedback))?;
        Ok((answer, feedback))
    }

    /// The parameters of a height, not verified.
    pub async fn parameters(&self, height: Height) -> Result<(Parameters, Feedback), ProviderError> {
        let result = self.call::<Parameters>(GET_PARAMETERS, &height).await;
        let (answer, feedback) = result.map_err(|e| provider_error(&e, height))?;
        self.check_height(height, answer.height, &feedback)?;
        Ok((answer, feedback))
    }

    /// Hands over evidence.
    pub async fn submit_evidence(&self, evidence: &CometEvidence) -> Result<Feedback, ProviderError> {
        let evidence = Evidence { meta: Some(Bytes(evidence.encode_to_vec())) };
        let result = self.call::<Raw>(SUBMIT_EVIDENCE, &evidence).await;
        result.map(|(_, feedback)| feedback).map_err(|_| ProviderError::NoResponse)
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.refresh();
    }
}

fn provider_error(error: &CallError, height: Height) -> ProviderError {
    debug!(%error, height, "light block provider failed");
    match error {
        CallError::Remote(e) if e.is(CONSENSUS_MODULE, VERSION_NOT_FOUND) => ProviderError::NotFound(height),
        CallError::NoPeers => ProviderError::NotFound(height),
        _ => ProviderError::NoResponse,
    }
}

impl LightBlockProvider for Provider {
    fn light_block(&self, height: Height) -> BoxFuture<'_, Result<UntrustedLightBlock, ProviderError>> {
        Box::pin(async move { Ok(self.light_block_from(height).await?.0) })
    }

    fn report(&self, evidence: CometEvidence) -> BoxFuture<'_, Result<(), ProviderError>> {
        Box::pin(async move { self.submit_evidence(&evidence).await.map(drop) })
    }
}
