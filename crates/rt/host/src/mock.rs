//! A runtime without a process, for tests of what is around it: outputs are inputs. Source: `go/runtime/host/mock`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use base_codec::{Bytes, cbor};
use base_prims::{Hash, Namespace, Version};
use mkvs_tree::{KvWrite as _, LogEntry, Sequential, Tree, TreeError};
use parking_lot::Mutex;
use tokio::{sync::broadcast, time::Instant};
use wire_consensus::{node::CapabilityTee, roothash::ComputeResultsHeader};
use wire_runtime::{
    Body, Empty, Error, Field, PROTOCOL_VERSION,
    runtime::{
        CheckTxBatchResponse, CheckTxMetadata, CheckTxResult, ComputedBatch, ExecuteTxBatchRequest,
        ExecuteTxBatchResponse, Features, InfoResponse, QueryResponse, ScheduleControl,
    },
    transaction::{ArtifactKind, InputArtifacts, Key, OutputArtifacts, transaction_key},
};

use crate::api::{
    BoxFuture, ComponentConfig, ComponentState, ComponentStatus, EVENT_BACKLOG, HostError, HostEvent, Provisioner,
    RuntimeHost,
};

/// A transaction that fails its check.
pub const CHECK_TX_FAIL_INPUT: &[u8] = b"mock-fail";
const TAG_KEY: &[u8] = b"txn_foo";
const TAG_VALUE: &[u8] = b"txn_bar";

/// Hosts components without a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mock;

impl Provisioner for Mock {
    fn name(&self) -> String {
        "mock".into()
    }

    fn provision(&self, config: ComponentConfig) -> Result<Arc<dyn RuntimeHost>, HostError> {
        Ok(Arc::new(MockHost::new(config.runtime_id)))
    }
}

/// A runtime without a process.
pub struct MockHost {
    id: Namespace,
    sender_seq: AtomicU64,
    events: broadcast::Sender<HostEvent>,
    status: Mutex<ComponentStatus>,
}

impl MockHost {
    /// A mock of that runtime.
    pub fn new(id: Namespace) -> Self {
        Self {
            id,
            sender_seq: AtomicU64::new(0),
            events: broadcast::Sender::new(EVENT_BACKLOG),
            status: Mutex::new(ComponentStatus::new("mock", SystemTime::now())),
        }
    }

    fn set(&self, state: ComponentState, event: HostEvent) {
        {
            let mut status = self.status.lock();
            status.state = state;
            status.since = SystemTime::now();
            status.version = (state == ComponentState::Running).then(Version::default);
        }
        let _ = self.events.send(event);
    }

    fn answer(&self, body: Body) -> Result<Body, HostError> {
        match body {
            Body::RuntimeInfoRequest(_) => Ok(Body::RuntimeInfoResponse(info())),
            Body::RuntimePingRequest(_) => Ok(Body::Empty(Empty {})),
            Body::RuntimeConsensusSyncRequest(_) => Ok(Body::RuntimeConsensusSyncResponse(Empty {})),
            Body::RuntimeQueryRequest(query) => {
                let text = format!("{} world at:{}", query.method, query.consensus_block.height);
                Ok(Body::RuntimeQueryResponse(QueryResponse { data: cbor::to_vec(&text).into() }))
            }
            Body::RuntimeCheckTxBatchRequest(request) => {
                let state_seq = self.sender_seq.load(Ordering::SeqCst);
                let results: Vec<_> =
                    request.inputs.unwrap_or_default().iter().map(|input| self.check(input, state_seq)).collect();
                Ok(Body::RuntimeCheckTxBatchResponse(CheckTxBatchResponse { results: results.into() }))
            }
            Body::RuntimeExecuteTxBatchRequest(request) => execute(&request)
                .map(|answer| Body::RuntimeExecuteTxBatchResponse(Box::new(answer)))
                .map_err(|e| HostError::MalformedAnswer(format!("(mock) failed to create I/O tree: {e}"))),
            _ => Err(HostError::Runtime(Error::new(wire_runtime::error::UNKNOWN, "(mock) method not supported"))),
        }
    }

    fn check(&self, input: &[u8], sender_state_seq: u64) -> CheckTxResult {
        if input == CHECK_TX_FAIL_INPUT {
            let error = Error { module: "mock".into(), code: 1, message: String::new() };
            return CheckTxResult { error, meta: Field::Absent };
        }
        let sender_seq = self.sender_seq.fetch_add(1, Ordering::SeqCst);
        let meta = CheckTxMetadata { sender_seq, sender_state_seq, ..CheckTxMetadata::default() };
        CheckTxResult { error: Error::default(), meta: Field::Is(meta) }
    }
}

fn info() -> InfoResponse {
    InfoResponse {
        protocol_version: PROTOCOL_VERSION,
        runtime_version: Version::default(),
        features: Some(Features {
            schedule_control: Some(ScheduleControl { initial_batch_size: 100 }),
            ..Features::default()
        }),
    }
}

/// Outputs are the inputs; the state stays empty.
fn execute(request: &ExecuteTxBatchRequest) -> Result<ExecuteTxBatchResponse, TreeError> {
    let empty = Hash::of(&[b""]);
    let header = &request.block.header;
    let round = header.round.saturating_add(1);
    let inputs = request.inputs.as_deref().unwrap_or_default();
    let hashes: Vec<Hash> = inputs.iter().map(|input| Hash::of(&[input])).collect();
    let mut tree = Tree::in_memory().with_write_log();
    for (order, (input, hash)) in inputs.iter().zip(&hashes).enumerate() {
        let artifacts =
            InputArtifacts { input: Some(input.clone()), batch_order: u32::try_from(order).unwrap_or(u32::MAX) };
        tree.insert(&transaction_key(hash, ArtifactKind::Input), &cbor::to_vec(&artifacts))?;
        tree.insert(&Key::Tag { tag: TAG_KEY, hash: *hash }.to_bytes(), TAG_VALUE)?;
    }
    let (tx_input_root, input_log) = commit(&mut tree, round);
    for (input, hash) in inputs.iter().zip(&hashes) {
        let artifacts = OutputArtifacts { output: Some(input.clone()) };
        tree.insert(&transaction_key(hash, ArtifactKind::Output), &cbor::to_vec(&artifacts))?;
    }
    let (io_root, io_log) = commit(&mut tree, round);
    Ok(ExecuteTxBatchResponse {
        batch: ComputedBatch {
            header: ComputeResultsHeader {
                round,
                previous_hash: header.hash(),
                io_root: Some(io_root),
                state_root: Some(empty),
                messages_hash: Some(empty),
                in_messages_hash: Some(empty),
                in_messages_count: 0,
            },
            io_write_log: Some(io_log),
            ..ComputedBatch::default()
        },
        tx_hashes: Field::Is(hashes),
        tx_input_root,
        tx_input_write_log: Field::Is(input_log),
        ..ExecuteTxBatchResponse::default()
    })
}

fn commit(tree: &mut Tree, round: u64) -> (Hash, Vec<LogEntry>) {
    let root = tree.root_hash(&Sequential);
    let committed = tree.commit(round, 0, &Sequential);
    (root, committed.log.unwrap_or_default())
}

impl RuntimeHost for MockHost {
    fn id(&self) -> Namespace {
        self.id
    }

    fn start(&self) -> BoxFuture<'_, Result<(), HostError>> {
        let event = HostEvent::Started { version: Version::default(), capability_tee: None };
        self.set(ComponentState::Running, event);
        Box::pin(async { Ok(()) })
    }

    fn stop(&self, _deadline: Instant) -> BoxFuture<'_, Result<(), HostError>> {
        self.set(ComponentState::Stopped, HostEvent::Stopped);
        Box::pin(async { Ok(()) })
    }

    fn abort(&self, _force: bool) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(async { Ok(()) })
    }

    fn call(&self, body: Body) -> BoxFuture<'_, Result<Body, HostError>> {
        Box::pin(async move { self.answer(body) })
    }

    fn info(&self) -> Option<InfoResponse> {
        Some(info())
    }

    fn capability_tee(&self) -> Option<Arc<CapabilityTee>> {
        None
    }

    fn update_capability_tee(&self) {}

    fn status(&self) -> ComponentStatus {
        self.status.lock().clone()
    }

    fn events(&self) -> broadcast::Receiver<HostEvent> {
        self.events.subscribe()
    }
}

/// A batch of transactions as the mock takes it.
pub fn batch(inputs: &[&[u8]]) -> Vec<Bytes> {
    inputs.iter().map(|input| Bytes::from(input.to_vec())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls;

    #[tokio::test]
    async fn outputs_are_inputs_under_proven_roots() {
        let host = MockHost::new(Namespace::default());
        let request = ExecuteTxBatchRequest { inputs: Some(batch(&[b"one", b"two"])), ..Default::default() };
        let answer = calls::execute(&host, request).await.expect("executes");
        // The logs lead to the roots.
        let mut tree = Tree::in_memory();
        let input_log = answer.tx_input_write_log.as_option().expect("a log");
        mkvs_tree::writelog::apply(input_log, &mut tree).expect("applies");
        assert_eq!(tree.root_hash(&Sequential), answer.tx_input_root);
        mkvs_tree::writelog::apply(answer.batch.io_write_log.as_deref().expect("a log"), &mut tree).expect("applies");
        assert_eq!(Some(tree.root_hash(&Sequential)), answer.batch.header.io_root);
        assert_ne!(Some(answer.tx_input_root), answer.batch.header.io_root);
        assert_eq!(answer.tx_hashes.as_option().map(Vec::len), Some(2));
        assert_eq!(answer.batch.header.round, 1);
    }

    #[tokio::test]
    async fn checks_and_queries_are_answered() {
        let host = MockHost::new(Namespace::default());
        let at = calls::ChainPosition::default();
        let results =
            calls::check_tx(&host, at.clone(), batch(&[b"a", CHECK_TX_FAIL_INPUT, b"b"])).await.expect("checks");
        let ok: Vec<bool> = results.iter().map(|result| result.error.is_success()).collect();
        assert_eq!(ok, [true, false, true]);
        let data = calls::query(&host, at, Default::default(), "hello", Vec::new()).await.expect("answers");
        assert_eq!(cbor::from_slice::<String>(&data).as_deref(), Ok("hello world at:0"));
        calls::consensus_sync(&host, 5).await.expect("syncs");
        assert!(matches!(calls::local_rpc(&host, "m", Default::default()).await, Err(HostError::Runtime(_))));
    }
}
