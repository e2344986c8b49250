//! What a node offers to its runtimes, and the handler that sorts their requests.
//!
//! Each part is a trait; the node gives the parts that it has. Every request is served under a time limit. Source:
//! `go/runtime/registry/handler.go`, `handler_rofl.go`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base_codec::{Bytes, cbor};
use base_kv::{Batch, Durability, KvStore};
use base_prims::PublicKey;
use mkvs_tree::sync::{GetPrefixesRequest, GetRequest, IterateRequest, ProofResponse};
use tokio::time::timeout;
use wire_consensus::transaction::{SignedTransaction, Transaction};
use wire_runtime::{
    Body, Empty, Error,
    bundle::ComponentId,
    enclave_rpc::{Kind, PeerFeedback, Request},
    error, host,
    rofl::{self, Notifications},
    runtime::{LightBlock, RpcCallRequest, Validators},
};

use crate::api::{BoxFuture, HostHandler, RuntimeHost};

/// How long a request is served.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// How long an off-chain component's call to the on-chain component may take.
pub const RONL_CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the submission of an off-chain component's transaction may take.
pub const SUBMIT_TIMEOUT: Duration = Duration::from_secs(60);
/// Most bytes of a value in local storage.
pub const MAX_LOCAL_VALUE_BYTES: usize = 16 << 20;
/// Most bytes of a key in local storage, with the prefix of an off-chain component.
pub const MAX_LOCAL_KEY_BYTES: usize = 500;
/// Bytes that a runtime's local storage may take. The reference has no limit.
pub const MAX_LOCAL_STORAGE_BYTES: u64 = 1 << 30;
/// Name of the method of the transaction at the end of each block.
const METHOD_META: &str = "consensus.Meta";

/// What serving a request came to.
pub type Served<T> = Result<T, Error>;

fn plain(text: impl Into<String>) -> Error {
    Error::new(error::UNKNOWN, text)
}

fn not_supported<T>() -> Served<T> {
    Err(Error::method_not_supported())
}

fn no_endpoint<T>() -> Served<T> {
    Err(plain("endpoint not supported"))
}

/// A question about a state tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncRequest {
    /// A key.
    Get(GetRequest),
    /// Prefixes.
    GetPrefixes(GetPrefixesRequest),
    /// Pairs in order.
    Iterate(IterateRequest),
}

/// A transaction of a block, with the proof that it is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProvenBytes {
    /// The signed transaction.
    pub transaction: Vec<u8>,
    /// CBOR of the Merkle proof.
    pub proof: Vec<u8>,
}

/// The consensus layer. Height 0 is the newest.
pub trait Consensus: Send + Sync {
    /// A light block: the node's own, or one from its light clients' providers.
    fn light_block(&self, height: u64) -> BoxFuture<'_, Served<LightBlock>>;
    /// A validator set, likewise.
    fn validators(&self, height: u64) -> BoxFuture<'_, Served<Validators>>;
    /// Events of a height.
    fn events(&self, height: u64, kind: host::EventKind) -> BoxFuture<'_, Served<Vec<host::ConsensusEvent>>>;
    /// Height of the genesis block.
    fn genesis_height(&self) -> BoxFuture<'_, Served<u64>>;
    /// Transactions of a block in order.
    fn transactions(&self, height: u64) -> BoxFuture<'_, Served<Vec<ProvenBytes>>>;
    /// Signs and submits a `registry.ProveFreshness` with the node's key.
    fn prove_freshness(&self, blob: [u8; 32]) -> BoxFuture<'_, Served<host::ProvenTransaction>>;
    /// Asks about the state.
    fn state(&self, request: SyncRequest) -> BoxFuture<'_, Served<ProofResponse>>;
}

/// The runtime's own state.
pub trait RuntimeState: Send + Sync {
    /// Asks about the state.
    fn state(&self, request: SyncRequest) -> BoxFuture<'_, Served<ProofResponse>>;
}

/// The transaction pool, for a round being scheduled.
pub trait Scheduling: Send + Sync {
    /// The next transactions of the schedule.
    fn more_transactions(&self, offset: Option<base_prims::Hash>, limit: u32) -> Served<Vec<Bytes>>;
}

/// Key manager enclaves elsewhere.
pub trait KeyManagerClient: Send + Sync {
    /// Calls one of them.
    fn call(&self, request: host::RpcCallRequest) -> BoxFuture<'_, Served<host::RpcCallResponse>>;
    /// Judges the peer of an earlier call; unknown calls are ignored.
    fn feedback(&self, request_id: u64, feedback: PeerFeedback);
}

/// Submits transactions of off-chain components.
pub trait Submission: Send + Sync {
    /// Submits one, and waits for its round if that is asked.
    fn submit(&self, request: host::SubmitTxRequest) -> BoxFuture<'_, Served<host::SubmitTxResponse>>;
}

/// Management that off-chain components may be permitted: bundles, volumes, logs, attestation of labels.
pub trait Management: Send + Sync {
    /// Serves a method of an endpoint for a component; the answer is CBOR. Checks the component's permissions.
    fn call(&self, component: ComponentId, endpoint: String, request: Request) -> BoxFuture<'_, Served<Vec<u8>>>;
}

/// Is told what an off-chain component wants to be notified of.
pub trait Registrations: Send + Sync {
    /// Replaces what it wanted.
    fn register(&self, component: &ComponentId, wants: Notifications);
}

/// A runtime's values in the node's own storage.
#[derive(Clone)]
pub struct LocalStorage {
    store: Arc<dyn KvStore>,
}

impl LocalStorage {
    /// In a store that is the runtime's alone.
    pub fn new(store: Arc<dyn KvStore>) -> Self {
        Self { store }
    }

    fn check_key(key: &[u8]) -> Served<()> {
        if key.is_empty() || key.len() > MAX_LOCAL_KEY_BYTES {
            return Err(plain(format!(
                "local storage: key of {} bytes, must be 1 to {MAX_LOCAL_KEY_BYTES}",
                key.len()
            )));
        }
        Ok(())
    }

    /// A value, if there is one.
    async fn get(&self, key: Vec<u8>) -> Served<Option<Vec<u8>>> {
        Self::check_key(&key)?;
        let store = Arc::clone(&self.store);
        blocking(move || store.get(&key).map_err(|e| plain(format!("local storage: {e}")))).await
    }

    /// Sets a value; it survives a power loss on return.
    async fn set(&self, key: Vec<u8>, value: Vec<u8>) -> Served<()> {
        Self::check_key(&key)?;
        if value.len() > MAX_LOCAL_VALUE_BYTES {
            return Err(plain(format!(
                "local storage: value of {} bytes, at most {MAX_LOCAL_VALUE_BYTES}",
                value.len()
            )));
        }
        let store = Arc::clone(&self.store);
        blocking(move || {
            let failed = |e: base_kv::KvError| plain(format!("local storage: {e}"));
            let used = store.stats().map_err(failed)?.used_bytes;
            if used.saturating_add(value.len() as u64) > MAX_LOCAL_STORAGE_BYTES {
                return Err(plain(format!("local storage: full at {MAX_LOCAL_STORAGE_BYTES} bytes")));
            }
            let mut batch = Batch::default();
            batch.put(&key, &value);
            store.write(&batch, Durability::Synced).map_err(failed)
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Served<T> + Send + 'static) -> Served<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| plain(e.to_string()))?
}

/// The parts that a node has for a runtime. What is not there is answered with "method not supported".
#[derive(Clone, Default)]
pub struct Services {
    /// The consensus layer.
    pub consensus: Option<Arc<dyn Consensus>>,
    /// The runtime's state.
    pub state: Option<Arc<dyn RuntimeState>>,
    /// The transaction pool.
    pub scheduling: Option<Arc<dyn Scheduling>>,
    /// Key managers.
    pub key_manager: Option<Arc<dyn KeyManagerClient>>,
    /// The node's key.
    pub node_id: Option<PublicKey>,
    /// The node's own storage.
    pub local_storage: Option<LocalStorage>,
}

fn require<T: ?Sized>(part: &Option<Arc<T>>) -> Served<&Arc<T>> {
    part.as_ref().ok_or_else(Error::method_not_supported)
}

impl Services {
    async fn serve(&self, request: Body) -> Served<Body> {
        match request {
            Body::HostRPCCallRequest(request) => self.rpc_call(*request).await,
            Body::HostSubmitPeerFeedbackRequest(request) => {
                if request.endpoint != host::ENDPOINT_KEY_MANAGER {
                    return no_endpoint();
                }
                require(&self.key_manager)?.feedback(request.request_id, request.peer_feedback);
                Ok(Body::HostSubmitPeerFeedbackResponse(Empty {}))
            }
            Body::HostStorageSyncRequest(request) => self.storage_sync(*request).await,
            Body::HostLocalStorageGetRequest(request) => {
                let storage = self.local_storage.as_ref().ok_or_else(Error::method_not_supported)?;
                let value = storage.get(request.key.unwrap_or_default().to_vec()).await?;
                Ok(Body::HostLocalStorageGetResponse(host::LocalStorageGetResponse { value: value.map(Into::into) }))
            }
            Body::HostLocalStorageSetRequest(request) => {
                let storage = self.local_storage.as_ref().ok_or_else(Error::method_not_supported)?;
                let (key, value) = (request.key.unwrap_or_default(), request.value.unwrap_or_default());
                storage.set(key.to_vec(), value.to_vec()).await?;
                Ok(Body::HostLocalStorageSetResponse(Empty {}))
            }
            Body::HostFetchTxBatchRequest(request) => {
                let batch = require(&self.scheduling)?.more_transactions(request.offset, request.limit)?;
                Ok(Body::HostFetchTxBatchResponse(host::FetchTxBatchResponse {
                    batch: (!batch.is_empty()).then_some(batch),
                }))
            }
            Body::HostIdentityRequest(_) => {
                let node_id = self.node_id.ok_or_else(Error::method_not_supported)?;
                Ok(Body::HostIdentityResponse(host::IdentityResponse { node_id }))
            }
            request => self.ask_consensus(request).await,
        }
    }

    async fn ask_consensus(&self, request: Body) -> Served<Body> {
        let consensus = require(&self.consensus)?;
        match request {
            Body::HostFetchConsensusBlockRequest(request) => {
                let block = consensus.light_block(request.height).await?;
                Ok(Body::HostFetchConsensusBlockResponse(host::FetchConsensusBlockResponse { block }))
            }
            Body::HostFetchConsensusValidatorsRequest(request) => {
                let validators = consensus.validators(request.height).await?;
                Ok(Body::HostFetchConsensusValidatorsResponse(host::FetchConsensusValidatorsResponse { validators }))
            }
            Body::HostFetchConsensusEventsRequest(request) => {
                let events = consensus.events(request.height, request.kind).await?;
                Ok(Body::HostFetchConsensusEventsResponse(host::FetchConsensusEventsResponse { events }))
            }
            Body::HostFetchGenesisHeightRequest(_) => {
                let height = consensus.genesis_height().await?;
                Ok(Body::HostFetchGenesisHeightResponse(host::HeightRequest { height }))
            }
            Body::HostFetchBlockMetadataTxRequest(request) => {
                let transactions = consensus.transactions(request.height).await?;
                find_metadata(request.height, transactions)
                    .map(|found| Body::HostFetchBlockMetadataTxResponse(Box::new(found)))
            }
            Body::HostProveFreshnessRequest(request) => {
                let proven = consensus.prove_freshness(request.blob).await?;
                Ok(Body::HostProveFreshnessResponse(Box::new(proven)))
            }
            _ => not_supported(),
        }
    }

    async fn rpc_call(&self, request: host::RpcCallRequest) -> Served<Body> {
        if request.endpoint != host::ENDPOINT_KEY_MANAGER {
            return no_endpoint();
        }
        Ok(Body::HostRPCCallResponse(require(&self.key_manager)?.call(request).await?))
    }

    async fn storage_sync(&self, request: host::StorageSyncRequest) -> Served<Body> {
        let question = match (request.get, request.get_prefixes, request.iterate) {
            (Some(get), _, _) => SyncRequest::Get(get),
            (None, Some(prefixes), _) => SyncRequest::GetPrefixes(prefixes),
            (None, None, Some(iterate)) => SyncRequest::Iterate(iterate),
            (None, None, None) => return not_supported(),
        };
        let proof = match request.endpoint.unwrap_or_default() {
            host::StorageEndpoint::RUNTIME => match &self.state {
                Some(state) => state.state(question).await?,
                None => return no_endpoint(),
            },
            host::StorageEndpoint::CONSENSUS => require(&self.consensus)?.state(question).await?,
            _ => return no_endpoint(),
        };
        Ok(Body::HostStorageSyncResponse(host::StorageSyncResponse { proof_response: Some(proof) }))
    }
}

/// The metadata transaction of a block, which is looked for from its end.
fn find_metadata(height: u64, transactions: Vec<ProvenBytes>) -> Served<host::ProvenTransaction> {
    for candidate in transactions.into_iter().rev() {
        let Ok(signed) = cbor::from_slice::<SignedTransaction>(&candidate.transaction) else {
            continue;
        };
        let blob = signed.0.blob().to_vec();
        let Ok(transaction) = cbor::from_slice::<Transaction>(&blob) else {
            continue;
        };
        if transaction.method == METHOD_META {
            return Ok(host::ProvenTransaction {
                signed_tx: Some(signed),
                proof: Some(host::TransactionProof {
                    height: i64::try_from(height).unwrap_or(i64::MAX),
                    raw_proof: Some(candidate.proof.into()),
                }),
            });
        }
    }
    Err(plain("block metadata transaction not found"))
}

/// Serves under the time limit.
async fn limited(serving: impl Future<Output = Served<Body>>) -> Served<Body> {
    timeout(REQUEST_TIMEOUT, serving).await.unwrap_or_else(|_| Err(plain("request took too long")))
}

impl HostHandler for Services {
    fn handle(&self, request: Body) -> BoxFuture<'_, Served<Body>> {
        Box::pin(limited(self.serve(request)))
    }
}

/// Serves one off-chain component: what all may ask, and what only these may.
pub struct RoflServices {
    /// What all components of the runtime may ask.
    pub parent: Arc<Services>,
    /// The component.
    pub component: ComponentId,
    /// The on-chain component.
    pub ronl: Option<std::sync::Weak<dyn RuntimeHost>>,
    /// Submits its transactions.
    pub submission: Option<Arc<dyn Submission>>,
    /// Is told what it wants to be notified of.
    pub registrations: Option<Arc<dyn Registrations>>,
    /// What it may be permitted.
    pub management: Option<Arc<dyn Management>>,
}

impl RoflServices {
    /// Its keys in local storage begin with its id.
    fn local_key(&self, key: Option<Bytes>) -> Option<Bytes> {
        let mut out = format!("{}:", self.component).into_bytes();
        out.extend_from_slice(&key.unwrap_or_default());
        Some(out.into())
    }

    async fn serve(&self, request: Body) -> Served<Body> {
        match request {
            Body::HostLocalStorageGetRequest(mut request) => {
                request.key = self.local_key(request.key);
                self.parent.serve(Body::HostLocalStorageGetRequest(request)).await
            }
            Body::HostLocalStorageSetRequest(mut request) => {
                request.key = self.local_key(request.key);
                self.parent.serve(Body::HostLocalStorageSetRequest(request)).await
            }
            Body::HostRPCCallRequest(request) => self.rpc_call(*request).await,
            Body::HostSubmitTxRequest(request) => {
                let submission = require(&self.submission)?;
                let answer = timeout(SUBMIT_TIMEOUT, submission.submit(request))
                    .await
                    .unwrap_or_else(|_| Err(plain("transaction was not included in time")))?;
                Ok(Body::HostSubmitTxResponse(Box::new(answer)))
            }
            Body::HostRegisterNotifyRequest(request) => {
                let wants = Notifications {
                    blocks: request.runtime_block,
                    events: request.runtime_event.and_then(|event| event.tags),
                };
                require(&self.registrations)?.register(&self.component, wants);
                Ok(Body::HostRegisterNotifyResponse(Empty {}))
            }
            other => self.parent.serve(other).await,
        }
    }

    async fn rpc_call(&self, request: host::RpcCallRequest) -> Served<Body> {
        let kind = request.kind.unwrap_or_default();
        match request.endpoint.as_str() {
            rofl::ENDPOINT_RONL => {
                let Some(ronl) = self.ronl.as_ref().and_then(std::sync::Weak::upgrade) else {
                    return no_endpoint();
                };
                if kind != Kind::NOISE_SESSION {
                    return Err(plain("only secure noise sessions are allowed"));
                }
                let call = RpcCallRequest { request: request.request, kind, peer_id: Bytes::default() };
                match timeout(RONL_CALL_TIMEOUT, ronl.call(Body::RuntimeRPCCallRequest(call))).await {
                    Ok(Ok(Body::RuntimeRPCCallResponse(answer))) => {
                        Ok(Body::HostRPCCallResponse(host::RpcCallResponse {
                            response: answer.response,
                            node: PublicKey::default(),
                        }))
                    }
                    Ok(Ok(_)) => Err(plain("malformed response from RONL")),
                    Ok(Err(crate::api::HostError::Runtime(error))) => Err(error),
                    Ok(Err(e)) => Err(plain(e.to_string())),
                    Err(_) => Err(plain("RONL did not answer in time")),
                }
            }
            rofl::ENDPOINT_ATTESTATION
            | rofl::ENDPOINT_BUNDLE_MANAGER
            | rofl::ENDPOINT_LOG_MANAGER
            | rofl::ENDPOINT_VOLUME_MANAGER => {
                if kind != Kind::LOCAL_QUERY {
                    return no_endpoint();
                }
                let management = require(&self.management)?;
                let call = cbor::from_slice(&request.request.unwrap_or_default())
                    .map_err(|e| plain(format!("malformed request: {e}")))?;
                let answer = management.call(self.component.clone(), request.endpoint, call).await?;
                Ok(Body::HostRPCCallResponse(host::RpcCallResponse {
                    response: Some(answer.into()),
                    node: PublicKey::default(),
                }))
            }
            _ => self.parent.rpc_call(request).await,
        }
    }
}

impl HostHandler for RoflServices {
    fn handle(&self, request: Body) -> BoxFuture<'_, Served<Body>> {
        Box::pin(limited(self.serve(request)))
    }
}

/// Handlers by component: the on-chain component gets [`Services`], each off-chain one its [`RoflServices`].
pub type Handlers = BTreeMap<ComponentId, Arc<dyn HostHandler>>;

#[cfg(test)]
mod tests;
