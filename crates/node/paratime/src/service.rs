//! The gRPC services `RuntimeClient` and `StorageWorker`. Source: `go/runtime/client/api/grpc.go`, `go/worker/storage/api`.

use std::sync::Arc;

use base_codec::Bytes;
use base_grpc::{BoxStream, Cbor, Router, RpcError};
use base_prims::Namespace;
use futures_util::stream;
use mkvs_db::checkpoint::{ChunkMetadata, Metadata};
use mkvs_tree::sync::{GetPrefixesRequest, GetRequest, IterateRequest, ProofResponse};
use node_rpc::nil;
use rt_host::services::SyncRequest;
use rt_storage::Synced;
use wire_consensus::errors::{runtime_client, worker_storage};
use wire_consensus::roothash::{AnnotatedBlock, Block};
use wire_runtime::client::{
    GetCheckpointsRequest, GetDiffRequest, LastSynced, LastSyncedRequest, PauseRequest, QueryRequest, QueryResponse,
    RoundRequest, SubmitTxMetaResponse, SyncChunk, TransactionWithResults, TxRequest,
};
use wire_runtime::transaction::Tag;

use crate::ParaTimes;
use crate::client::{Client, coded, history_error};
use crate::worker::ParaTime;

const CLIENT: &str = "oasis-core.RuntimeClient";
const WORKER: &str = "oasis-core.StorageWorker";
const STORAGE: &str = "oasis-core.Storage";
/// Entries of a message of a write log. Source: `WriteLogIteratorChunkSize` of `go/storage/api`.
const ENTRIES_PER_CHUNK: usize = 10;
/// Bytes of a message of a checkpoint's chunk.
const CHUNK_PART_BYTES: usize = 256 << 10;

/// As the registry of runtimes says it.
fn not_found(id: &Namespace) -> RpcError {
    RpcError::unknown(format!("runtime/registry: runtime {id} not found"))
}

impl ParaTimes {
    fn runtime(&self, id: &Namespace) -> Result<Arc<ParaTime>, RpcError> {
        self.get(id).ok_or_else(|| not_found(id))
    }

    /// For reading.
    fn reader(&self, id: &Namespace) -> Result<Arc<Client>, RpcError> {
        self.runtime(id)?.client().cloned().ok_or_else(|| not_found(id))
    }

    /// For what needs the hosted runtime.
    fn hosted(&self, id: &Namespace) -> Result<Arc<Client>, RpcError> {
        let client = self.get(id).and_then(|runtime| runtime.client().cloned());
        client.ok_or_else(|| coded(&runtime_client::NO_HOSTED_RUNTIME))
    }
}

/// Adds the services.
pub(crate) fn router(node: &Arc<ParaTimes>) -> Router {
    let mut router = Router::new();
    submitting(&mut router, node);
    reading(&mut router, node);
    proofs(&mut router, CLIENT, "StateSync", node);
    storage_worker(&mut router, node);
    storage(&mut router, node);
    router
}

/// One method: `method!(router, service, node, "Name", |node, argument: Type| -> Answer { … })`; without `-> Answer` it
/// answers with nothing.
macro_rules! method {
    ($router:expr, $service:expr, $node:expr, $name:expr, |$n:ident, $a:ident : $arg:ty| -> $out:ty $body:block) => {
        method!(@add $router, $service, $node, $name, $n, $a: $arg, $out, $body, Cbor)
    };
    ($router:expr, $service:expr, $node:expr, $name:expr, |$n:ident, $a:ident : $arg:ty| $body:block) => {
        method!(@add $router, $service, $node, $name, $n, $a: $arg, (), $body, std::convert::identity)
    };
    (@add $router:expr, $service:expr, $node:expr, $name:expr, $n:ident, $a:ident : $arg:ty, $out:ty, $body:block, $as:path) => {{
        let node = Arc::clone($node);
        $router.unary($service, $name, move |Cbor($a): Cbor<$arg>| {
            let $n = Arc::clone(&node);
            async move {
                let answer: Result<$out, RpcError> = async move { $body }.await;
                answer.map($as)
            }
        });
    }};
}

fn submitting(router: &mut Router, node: &Arc<ParaTimes>) {
    method!(router, CLIENT, node, "SubmitTx", |node, q: TxRequest| -> Option<Bytes> {
        node.hosted(&q.runtime_id)?.submit_output(q.data.0).await
    });
    method!(router, CLIENT, node, "SubmitTxMeta", |node, q: TxRequest| -> SubmitTxMetaResponse {
        node.hosted(&q.runtime_id)?.submit_meta(q.data.0).await
    });
    method!(router, CLIENT, node, "SubmitTxNoWait", |node, q: TxRequest| {
        node.hosted(&q.runtime_id)?.submit_no_wait(q.data.0).await
    });
    method!(router, CLIENT, node, "CheckTx", |node, q: TxRequest| {
        node.hosted(&q.runtime_id)?.check(q.data.0).await
    });
    method!(router, CLIENT, node, "Query", |node, q: QueryRequest| -> QueryResponse {
        let component = match &q.component {
            None => None,
            Some(name) => {
                let unknown = || RpcError::unknown(format!("component '{}' not found", name.kind));
                Some(name.id().ok_or_else(unknown)?)
            }
        };
        let client = node.hosted(&q.runtime_id)?;
        let data = client.query(q.round, &q.method, q.args.0, component).await?;
        Ok(QueryResponse { data: Bytes(data) })
    });
}

fn reading(router: &mut Router, node: &Arc<ParaTimes>) {
    method!(router, CLIENT, node, "GetGenesisBlock", |node, id: Namespace| -> Block {
        node.reader(&id)?.genesis_block()
    });
    method!(router, CLIENT, node, "GetBlock", |node, q: RoundRequest| -> Block {
        let found = node.reader(&q.runtime_id)?.block(q.round)?;
        found.block.ok_or_else(|| coded(&wire_consensus::errors::roothash::NOT_FOUND))
    });
    method!(router, CLIENT, node, "GetLastRetainedBlock", |node, id: Namespace| -> Block {
        node.reader(&id)?.last_retained_block()
    });
    method!(router, CLIENT, node, "GetTransactions", |node, q: RoundRequest| -> Vec<Bytes> {
        node.reader(&q.runtime_id)?.transactions(q.round).await
    });
    method!(router, CLIENT, node, "GetTransactionsWithResults", |node,
                                                                 q: RoundRequest|
     -> Option<Vec<TransactionWithResults>> {
        node.reader(&q.runtime_id)?.transactions_with_results(q.round).await.map(nil)
    });
    method!(router, CLIENT, node, "GetUnconfirmedTransactions", |node, id: Namespace| -> Option<Vec<Bytes>> {
        let client = node.get(&id).and_then(|runtime| runtime.client().cloned());
        let client = client.ok_or_else(|| coded(&runtime_client::NOT_FOUND))?;
        Ok(nil(client.unconfirmed()))
    });
    method!(router, CLIENT, node, "GetEvents", |node, q: RoundRequest| -> Vec<Tag> {
        node.reader(&q.runtime_id)?.events(q.round).await
    });
    let watched = Arc::clone(node);
    router.streaming(CLIENT, "WatchBlocks", move |Cbor(id): Cbor<Namespace>| {
        let node = Arc::clone(&watched);
        async move { watch_blocks(&node, &id) }
    });
}

/// Blocks whose state is there, from the newest on.
fn watch_blocks(node: &ParaTimes, id: &Namespace) -> Result<BoxStream<Cbor<AnnotatedBlock>>, RpcError> {
    let history = Arc::clone(&node.reader(id)?.history);
    let following = (Some(history.watch_synced()), node.stop().clone());
    let blocks = stream::unfold(following, |(watcher, stop)| async move {
        let mut watcher = watcher?;
        let next = tokio::select! {
            next = watcher.next() => next,
            () = stop.cancelled() => return None,
        };
        match next {
            Ok(Some(block)) => Some((Ok(Cbor(block)), (Some(watcher), stop))),
            Ok(None) => None,
            // The last item.
            Err(error) => Some((Err(history_error(error)), (None, stop))),
        }
    });
    Ok(Box::pin(blocks))
}

/// Proofs about the state of runtimes, which two services give under names of their own.
fn proofs(router: &mut Router, service: &str, prefix: &str, node: &Arc<ParaTimes>) {
    method!(router, service, node, &format!("{prefix}Get"), |node, q: GetRequest| -> ProofResponse {
        node.reader(&q.tree.root.namespace)?.prove(SyncRequest::Get(q)).await
    });
    method!(router, service, node, &format!("{prefix}GetPrefixes"), |node, q: GetPrefixesRequest| -> ProofResponse {
        node.reader(&q.tree.root.namespace)?.prove(SyncRequest::GetPrefixes(q)).await
    });
    method!(router, service, node, &format!("{prefix}Iterate"), |node, q: IterateRequest| -> ProofResponse {
        node.reader(&q.tree.root.namespace)?.prove(SyncRequest::Iterate(q)).await
    });
}

/// The state of runtimes, as `Storage` serves it.
fn storage(router: &mut Router, node: &Arc<ParaTimes>) {
    proofs(router, STORAGE, "Sync", node);
    method!(router, STORAGE, node, "GetCheckpoints", |node, q: GetCheckpointsRequest| -> Option<Vec<Metadata>> {
        let mut found = node.runtime(&q.namespace)?.store().checkpoints().await.map_err(unknown)?;
        found.retain(|metadata| {
            metadata.version == q.version && q.root_version.is_none_or(|version| metadata.root.version == version)
        });
        Ok(nil(found))
    });
    let all = Arc::clone(node);
    router.streaming(STORAGE, "GetDiff", move |Cbor(q): Cbor<GetDiffRequest>| {
        let node = Arc::clone(&all);
        async move { diff(&node, q).await }
    });
    let all = Arc::clone(node);
    router.streaming(STORAGE, "GetCheckpointChunk", move |Cbor(q): Cbor<ChunkMetadata>| {
        let node = Arc::clone(&all);
        async move {
            let chunk = node.runtime(&q.root.namespace)?.store().checkpoint_chunk(q).await.map_err(unknown)?;
            let parts: Vec<_> = chunk.chunks(CHUNK_PART_BYTES).map(|part| Ok(Cbor(Bytes(part.to_vec())))).collect();
            Ok(Box::pin(stream::iter(parts)) as BoxStream<Cbor<Bytes>>)
        }
    });
}

fn unknown(error: impl std::fmt::Display) -> RpcError {
    RpcError::unknown(error.to_string())
}

/// What leads from one root to another, a few entries at a time.
async fn diff(node: &ParaTimes, q: GetDiffRequest) -> Result<BoxStream<Cbor<SyncChunk>>, RpcError> {
    let storage = node.runtime(&q.start_root.namespace)?.store().storage().cloned();
    let storage = storage.ok_or_else(|| coded(&worker_storage::RUNTIME_NOT_FOUND))?;
    let reading = tokio::task::spawn_blocking(move || storage.diff(&q.start_root, &q.end_root));
    let mut log = reading.await.map_err(unknown)?.map_err(unknown)?;
    if !q.options.offset_key.is_empty() {
        let offset = log.iter().position(|entry| entry.key[..] == q.options.offset_key[..]);
        log.drain(..offset.map_or(log.len(), |offset| offset + 1));
    }
    if let Some(limit) = usize::try_from(q.options.limit).ok().filter(|limit| *limit > 0) {
        log.truncate(limit);
    }
    let count = log.len().div_ceil(ENTRIES_PER_CHUNK).max(1);
    let mut entries = log.into_iter();
    let mut chunks = Vec::with_capacity(count);
    for number in 1..=count {
        let write_log: Vec<_> = entries.by_ref().take(ENTRIES_PER_CHUNK).collect();
        chunks.push(Ok(Cbor(SyncChunk { last: number == count, write_log: nil(write_log) })));
    }
    Ok(Box::pin(stream::iter(chunks)))
}

fn storage_worker(router: &mut Router, node: &Arc<ParaTimes>) {
    method!(router, WORKER, node, "GetLastSyncedRound", |node, q: LastSyncedRequest| -> LastSynced {
        let runtime = node.get(&q.runtime_id).filter(|runtime| runtime.store().storage().is_some());
        let runtime = runtime.ok_or_else(|| coded(&worker_storage::RUNTIME_NOT_FOUND))?;
        let synced = runtime.store().last_synced();
        let answer = |Synced { round, io_root, state_root }| LastSynced { round, io_root, state_root };
        Ok(synced.map(answer).unwrap_or_default())
    });
    method!(router, WORKER, node, "PauseCheckpointer", |node, q: PauseRequest| {
        if !node.is_debug() {
            return Err(coded(&worker_storage::CANT_PAUSE_CHECKPOINTER));
        }
        let runtime = node.get(&q.runtime_id).ok_or_else(|| coded(&worker_storage::RUNTIME_NOT_FOUND))?;
        runtime.store().pause_checkpointer(q.pause).map_err(|error| RpcError::unknown(error.to_string()))
    });
}
