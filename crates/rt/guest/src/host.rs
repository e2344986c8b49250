//! The host as the runtime sees it: calls that wait for their answer, and typed forms of each.

use std::{
    collections::HashMap,
    io::Write,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    },
    time::Duration,
};

use base_codec::Bytes;
use base_prims::{Hash, Namespace, PublicKey};
use parking_lot::Mutex;
use wire_runtime::{
    Body, Empty, Error as WireError, Message,
    enclave_rpc::{Kind, PeerFeedback},
    error as codes,
    frame::{self, FrameError, MAX_RUNTIME_FRAME_BYTES},
    host,
    runtime::{InfoRequest, LightBlock, Validators},
};

use crate::Error;

/// How long a call to the host may take. The slowest, a transaction that is waited for, takes a minute at most.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(300);

/// Most calls that may wait for their answers at once; the threads that handle requests are fewer.
pub const MAX_PENDING_CALLS: usize = 4096;

/// The host. Cheap to clone; calls may be made from any thread but the one that reads the connection.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

struct Inner {
    writer: Mutex<Box<dyn Write + Send>>,
    next_id: AtomicU64,
    /// Who waits for the answer of which call; `None` after the connection has ended.
    pending: Mutex<Option<HashMap<u64, SyncSender<Body>>>>,
    info: OnceLock<InfoRequest>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("info", &self.0.info.get()).finish_non_exhaustive()
    }
}

impl Host {
    /// A host that is written to; what it sends comes in by [`Host::complete`].
    pub(crate) fn new(writer: Box<dyn Write + Send>) -> Self {
        Self(Arc::new(Inner {
            writer: Mutex::new(writer),
            next_id: AtomicU64::new(0),
            pending: Mutex::new(Some(HashMap::new())),
            info: OnceLock::new(),
        }))
    }

    /// Sets what the handshake said; false if it was set before.
    pub(crate) fn set_info(&self, info: InfoRequest) -> bool {
        self.0.info.set(info).is_ok()
    }

    /// What the handshake said, if there was one.
    pub fn info(&self) -> Option<&InfoRequest> {
        self.0.info.get()
    }

    /// The runtime that this is; zero before the handshake.
    pub fn runtime_id(&self) -> Namespace {
        self.info().map(|info| info.runtime_id).unwrap_or_default()
    }

    /// Hands an answer to whoever waits for it; false if nobody does.
    pub(crate) fn complete(&self, id: u64, body: Body) -> bool {
        let waiting = self.0.pending.lock().as_mut().and_then(|pending| pending.remove(&id));
        waiting.is_some_and(|waiting| waiting.try_send(body).is_ok())
    }

    /// Ends all calls, present and future.
    pub(crate) fn close(&self) {
        *self.0.pending.lock() = None;
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.0.pending.lock().is_none()
    }

    fn write(&self, message: &Message) -> Result<(), Error> {
        let bytes = frame::encode(message, MAX_RUNTIME_FRAME_BYTES)?;
        let mut writer = self.0.writer.lock();
        let written = writer.write_all(&bytes).and_then(|()| writer.flush());
        drop(writer);
        written.map_err(|error| {
            tracing::warn!(err = %error, "failed to write to the host");
            self.close();
            Error::Closed
        })
    }

    /// Answers a request. An answer that does not fit a frame becomes an error.
    pub(crate) fn respond(&self, id: u64, body: Body) -> Result<(), Error> {
        match self.write(&Message::response(id, body)) {
            Err(Error::Frame(error @ FrameError::TooLarge { .. })) => {
                let error = WireError::new(codes::WRITE, format!("failed to write response: {error}"));
                self.write(&Message::response(id, Body::Error(error)))
            }
            other => other,
        }
    }

    /// Calls the host and waits for its answer.
    ///
    /// # Errors
    /// [`Error::Wire`] for an error that the host answered; [`Error::Closed`], [`Error::Timeout`] and [`Error::Frame`]
    /// if there was no answer.
    pub fn call(&self, body: Body) -> Result<Body, Error> {
        let name = body.name().to_owned();
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = sync_channel(1);
        match self.0.pending.lock().as_mut() {
            None => return Err(Error::Closed),
            Some(pending) if pending.len() >= MAX_PENDING_CALLS => {
                return Err(Error::Other(format!("{MAX_PENDING_CALLS} calls wait for the host already")));
            }
            Some(pending) => pending.insert(id, sender),
        };
        let answer = self.write(&Message::request(id, body)).and_then(|()| {
            receiver.recv_timeout(CALL_TIMEOUT).map_err(|error| match error {
                RecvTimeoutError::Timeout => Error::Timeout { name },
                RecvTimeoutError::Disconnected => Error::Closed,
            })
        });
        if answer.is_err()
            && let Some(pending) = self.0.pending.lock().as_mut()
        {
            pending.remove(&id);
        }
        Ok(answer?.into_result()?)
    }

    /// Who the node is.
    ///
    /// # Errors
    /// As [`Host::call`].
    pub fn identity(&self) -> Result<PublicKey, Error> {
        match self.call(Body::HostIdentityRequest(Empty {}))? {
            Body::HostIdentityResponse(answer) => Ok(answer.node_id),
            other => Err(unexpected(&other)),
        }
    }

    /// A value of the node's own storage, which is not to be trusted. A missing key has an empty value.
    ///
    /// # Errors
    /// As [`Host::call`].
    pub fn local_get(&self, key: &[u8]) -> Result<Vec<u8>, Error> {
        let request = host::LocalStorageGetRequest { key: Some(Bytes(key.to_vec())) };
        match self.call(Body::HostLocalStorageGetRequest(request))? {
            Body::HostLocalStorageGetResponse(answer) => Ok(answer.value.unwrap_or_default().0),
            other => Err(unexpected(&other)),
        }
    }

    /// Sets a value of the node's own storage.
    ///
    /// # Errors
    /// As [`Host::call`].
    pub fn local_set(&self, key: &[u8], value: Vec<u8>) -> Result<(), Error> {
        let request = host::LocalStorageSetRequest { key: Some(Bytes(key.to_vec())), value: Some(Bytes(value)) };
        match self.call(Body::HostLocalStorageSetRequest(request))? {
            Body::HostLocalStorageSetResponse(_) => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// A part of a state tree, with its proof, not verified.
    ///
    /// # Errors
    /// As [`Host::call`].
    pub fn storage_sync(&self, request: host::StorageSyncRequest) -> Result<host::StorageSyncResponse, Error> {
        match self.call(Body::HostStorageSyncRequest(Box::new(request)))? {
            Body::HostStorageSyncResponse(answer) => Ok(answer),
            other => Err(unexpected(&other)),
        }
    }

    /// A light block, not verified; height 0 is the newest.
    ///
    /// # Errors
    /// As [`Host::call`].
    pub fn consensus_block(&self, height: u64) -> Result<LightBlock, Error> {
        match self.call(Body::HostFetchConsensusBlockRequest(host::HeightRequest { height }))? {
            Body::HostFetchConsensusBlockResponse(answer) => Ok(answer.block),
            other => Err(unexpected(&other)),
        }
    }

    /// A validator set, not verified.
    ///
    /// # Errors
    /// As [`Host::call`].
    pub fn consensus_validators(&self, height: u64) -> Result<Validators, Error> {
        match self.call(Body::HostFetchConsensusValidatorsRequest(host::HeightRequest { height }))? {
            Body::HostFetchConsensusValidatorsResponse(answer) => Ok(answer.validators),
            other => Err(unexpected(&other)),
        }
    }

    /// Events of a consensus height. Nothing proves them.
    ///
    /// # Errors
    /// As [`Host::call`].
    pub fn consensus_events(&self, height: u64, kind: host::EventKind) -> Result<Vec<host::ConsensusEvent>, Error> {
        let request = host::FetchConsensusEventsRequest { height, kind };
        match self.call(Body::HostFetchConsensusEventsRequest(request))? {
            Body::HostFetchConsensusEventsResponse(answer) => Ok(answer.events),
            other => Err(unexpected(&other)),
        }
    }

    /// Height of the first block.
    ///
    /// # Errors
    /// As [`Host::call`].
    pub fn genesis_height(&self) -> Result<u64, Error> {
        match self.call(Body::HostFetchGenesisHeightRequest(Empty {}))? {
            Body::HostFetchGenesisHeightResponse(answer) => Ok(answer.height),
            other => Err(unexpected(&other)),
        }
    }

    /// A block's metadata transaction with its proof, not verified.
    ///
    /// # Errors
    /// As [`Host::call`].
    pub fn block_metadata_tx(&self, height: u64) -> Result<host::ProvenTransaction, Error> {
        match self.call(Body::HostFetchBlockMetadataTxRequest(host::HeightRequest { height }))? {
            Body::HostFetchBlockMetadataTxResponse(answer) => Ok(*answer),
            other => Err(unexpected(&other)),
        }
    }

    /// Has a blob put into a consensus transaction; what comes back is not verified.
    ///
    /// # Errors
    /// As [`Host::call`].
    pub fn prove_freshness(&self, blob: [u8; 32]) -> Result<host::ProvenTransaction, Error> {
        match self.call(Body::HostProveFreshnessRequest(host::ProveFreshnessRequest { blob }))? {
            Body::HostProveFreshnessResponse(answer) => Ok(*answer),
            other => Err(unexpected(&other)),
        }
    }

    /// More transactions of the pool for the batch that is being scheduled.
    ///
    /// # Errors
    /// As [`Host::call`].
    pub fn tx_batch(&self, offset: Option<Hash>, limit: u32) -> Result<Vec<Bytes>, Error> {
        match self.call(Body::HostFetchTxBatchRequest(host::FetchTxBatchRequest { offset, limit }))? {
            Body::HostFetchTxBatchResponse(answer) => Ok(answer.batch.unwrap_or_default()),
            other => Err(unexpected(&other)),
        }
    }

    /// Has a transaction submitted to a runtime.
    ///
    /// # Errors
    /// As [`Host::call`].
    pub fn submit_tx(&self, request: host::SubmitTxRequest) -> Result<host::SubmitTxResponse, Error> {
        match self.call(Body::HostSubmitTxRequest(request))? {
            Body::HostSubmitTxResponse(answer) => Ok(*answer),
            other => Err(unexpected(&other)),
        }
    }

    /// Calls an enclave elsewhere; returns its answer and the node that gave it.
    ///
    /// # Errors
    /// As [`Host::call`].
    pub fn rpc_call(
        &self,
        endpoint: &str,
        request_id: u64,
        request: Vec<u8>,
        kind: Kind,
        nodes: &[PublicKey],
    ) -> Result<(Vec<u8>, PublicKey), Error> {
        let request = host::RpcCallRequest {
            endpoint: endpoint.to_owned(),
            request_id,
            request: Some(Bytes(request)),
            kind: Some(kind),
            nodes: Some(nodes.to_vec()),
            pf: None,
        };
        match self.call(Body::HostRPCCallRequest(Box::new(request)))? {
            Body::HostRPCCallResponse(answer) => Ok((answer.response.unwrap_or_default().0, answer.node)),
            other => Err(unexpected(&other)),
        }
    }

    /// Says how good the peer of a call was.
    ///
    /// # Errors
    /// As [`Host::call`].
    pub fn peer_feedback(&self, endpoint: &str, request_id: u64, peer_feedback: PeerFeedback) -> Result<(), Error> {
        let request = host::SubmitPeerFeedbackRequest { endpoint: endpoint.to_owned(), request_id, peer_feedback };
        match self.call(Body::HostSubmitPeerFeedbackRequest(request))? {
            Body::HostSubmitPeerFeedbackResponse(_) => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}

fn unexpected(body: &Body) -> Error {
    Error::InvalidResponse { name: body.name().to_owned() }
}
