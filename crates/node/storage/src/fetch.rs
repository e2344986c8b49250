//! Asking peers for differences, lists of checkpoints, and chunks. Source: the clients of `go/worker/storage/p2p`.
//!
//! Each question goes to peers of its own protocol first, then to those that only speak the old one.

use std::collections::BTreeSet;
use std::sync::Arc;

use base_codec::cbor::{self, Decode, Encode};
use base_codec::{Bytes, Raw};
use base_prims::Namespace;
use mkvs_db::checkpoint::{ChunkMetadata, Metadata, VERSION};
use mkvs_tree::WriteLog;
use p2p_net::api::{CallLimits, MAX_FRAME, P2p, PeerId};
use p2p_net::ids;
use p2p_net::rpc::{Client, Feedback};
use rt_storage::messages::{
    GET_CHECKPOINT_CHUNK, GET_CHECKPOINTS, GET_DIFF, GetCheckpointsRequest, GetCheckpointsResponse, GetChunkResponse,
    GetDiffRequest, GetDiffResponse,
};
use rt_storage::{CHUNK_TIME, DIFF_TIME, FetchDiff, LIST_TIME};

/// Most peers of a protocol that are asked the same before it is given up for a while.
pub const MAX_PEERS_ASKED: usize = 5;
/// Most bytes of a peer's list of checkpoints.
pub const MAX_LIST: usize = 16 << 20;
/// Most peers whose lists of checkpoints are asked for.
const MAX_LISTS: usize = 10;

/// Peers of a runtime's protocols.
#[derive(Clone)]
pub(crate) struct Peers {
    diff: Client,
    checkpoint: Client,
    legacy: Client,
}

/// A peer's checkpoints.
pub(crate) type Listed = Vec<(PeerId, Vec<Metadata>)>;

impl Peers {
    pub(crate) fn new(p2p: &Arc<dyn P2p>, chain_context: &str, runtime: &Namespace) -> Self {
        let client = |spec: ids::Spec| Client::new(Arc::clone(p2p), spec.of_runtime(chain_context, runtime));
        Self {
            diff: client(ids::DIFF_SYNC),
            checkpoint: client(ids::CHECKPOINT_SYNC),
            legacy: client(ids::STORAGE_SYNC),
        }
    }

    /// A difference, from the first peer that has it.
    pub(crate) async fn diff(&self, wanted: FetchDiff) -> Option<(WriteLog, Feedback)> {
        let request = GetDiffRequest { start_root: wanted.start, end_root: wanted.end };
        let mut asked = BTreeSet::new();
        for client in [&self.diff, &self.legacy] {
            let peers = client.peers().into_iter().map(|p| p.id).filter(|id| !asked.contains(id));
            let peers: Vec<PeerId> = peers.take(MAX_PEERS_ASKED).collect();
            for peer in peers {
                asked.insert(peer);
                let limits = CallLimits::within(DIFF_TIME);
                if let Some((answer, feedback)) = ask::<GetDiffResponse>(client, peer, GET_DIFF, &request, limits).await
                {
                    return Some((answer.write_log, feedback));
                }
            }
        }
        None
    }

    /// The checkpoints that peers offer.
    pub(crate) async fn checkpoints(&self) -> Listed {
        for client in [&self.checkpoint, &self.legacy] {
            let listed = Self::lists(client).await;
            if listed.iter().any(|(_, all)| !all.is_empty()) {
                return listed;
            }
        }
        Vec::new()
    }

    async fn lists(client: &Client) -> Listed {
        let limits = CallLimits { response_time: LIST_TIME, max_response: MAX_LIST };
        let peers = client.peers().into_iter().map(|p| p.id).take(MAX_LISTS);
        let request = GetCheckpointsRequest { version: VERSION };
        let asked = peers.map(|peer| {
            let request = request.clone();
            async move {
                let (answer, feedback): (GetCheckpointsResponse, _) =
                    ask(client, peer, GET_CHECKPOINTS, &request, limits).await?;
                feedback.success();
                Some((peer, answer.checkpoints))
            }
        });
        futures_util::future::join_all(asked).await.into_iter().flatten().collect()
    }

    /// A chunk, from the first of these peers that has it.
    pub(crate) async fn chunk(&self, wanted: &ChunkMetadata, peers: &[PeerId]) -> Option<(PeerId, Bytes, Feedback)> {
        for client in [&self.checkpoint, &self.legacy] {
            let speaks: BTreeSet<PeerId> = client.peers().into_iter().map(|p| p.id).collect();
            for peer in peers.iter().filter(|peer| speaks.contains(peer)) {
                let limits = CallLimits { response_time: CHUNK_TIME, max_response: MAX_FRAME };
                let answer = ask::<GetChunkResponse>(client, *peer, GET_CHECKPOINT_CHUNK, wanted, limits).await;
                if let Some((answer, feedback)) = answer {
                    return Some((*peer, answer.chunk, feedback));
                }
            }
        }
        None
    }

    /// Blocks a peer.
    pub(crate) fn bad(&self, peer: &PeerId) {
        self.legacy.bad_peer(peer);
    }
}

/// Asks one peer; what it answered is decoded on a thread that may take its time.
async fn ask<T: Decode + Send + 'static>(
    client: &Client,
    peer: PeerId,
    method: &str,
    request: &(impl Encode + Sync),
    limits: CallLimits,
) -> Option<(T, Feedback)> {
    let (raw, feedback) = match client.call::<Raw>(peer, method, request, limits).await {
        Ok(answer) => answer,
        Err(e) => {
            tracing::debug!(module = "worker/storage/p2p", %peer, method, err = %e, "peer has no answer");
            return None;
        }
    };
    match tokio::task::spawn_blocking(move || cbor::from_slice::<T>(&raw)).await {
        Ok(Ok(answer)) => Some((answer, feedback)),
        Ok(Err(e)) => {
            tracing::debug!(module = "worker/storage/p2p", %peer, method, err = %e, "peer's answer is malformed");
            feedback.failure();
            None
        }
        Err(_) => None,
    }
}
