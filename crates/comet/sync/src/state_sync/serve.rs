//! Telling peers of snapshots and giving them chunks: one task per peer, at a bounded rate.
//!
//! Reference: `cometbft:statesync/reactor.go`, which answers on the peer's read routine at any rate.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use comet_chain::app::Snapshot;
use comet_store::SharedApp;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wire_cometbft::Message;
use wire_cometbft::statesync::{ChunkRequest, ChunkResponse, SnapshotsResponse, StatesyncMessage, StatesyncMessageSum};

use super::{CHUNKS, SNAPSHOTS};
use crate::port::Port;
use crate::rate::{Budget, ServeLimits};

/// Snapshots told to peers.
pub const MAX_TOLD: usize = 10;
/// How long the application's list of snapshots is used before it is asked again.
pub const LIST_FOR: Duration = Duration::from_secs(5);

/// The application's snapshots, asked for seldom.
pub(super) struct Listing {
    app: SharedApp,
    last: Mutex<Option<(Instant, Arc<Vec<Snapshot>>)>>,
}

impl Listing {
    pub(super) fn new(app: SharedApp) -> Self {
        Self { app, last: Mutex::new(None) }
    }

    /// The newest snapshots, newest first. May block.
    fn newest(&self) -> Arc<Vec<Snapshot>> {
        let mut last = self.last.lock();
        if let Some((at, list)) = last.as_ref()
            && at.elapsed() < LIST_FOR
        {
            return Arc::clone(list);
        }
        let mut list = self.app.lock().snapshots().list().unwrap_or_else(|error| {
            tracing::error!(%error, "snapshots cannot be listed");
            Vec::new()
        });
        list.sort_by_key(|snapshot| std::cmp::Reverse((snapshot.height, snapshot.format)));
        list.truncate(MAX_TOLD);
        let list = Arc::new(list);
        *last = Some((Instant::now(), Arc::clone(&list)));
        list
    }

    /// A chunk. May block.
    fn chunk(&self, request: &ChunkRequest) -> Option<Vec<u8>> {
        let loaded = self.app.lock().snapshots().load_chunk(request.height, request.format, request.index);
        loaded.unwrap_or_else(|error| {
            tracing::error!(height = request.height, index = request.index, %error, "chunk cannot be read");
            None
        })
    }
}

/// What a peer asks for.
pub(super) enum Wish {
    Snapshots,
    Chunk(ChunkRequest),
}

/// One peer's requests; its task ends when this is dropped.
pub(super) struct Server {
    wishes: mpsc::Sender<Wish>,
}

impl Server {
    pub(super) fn start(
        tasks: &TaskTracker,
        runtime: &Handle,
        stop: &CancellationToken,
        port: Arc<dyn Port>,
        listing: Arc<Listing>,
        limits: ServeLimits,
    ) -> Self {
        let (wishes, queue) = mpsc::channel(limits.queue.max(1));
        let stop = stop.clone();
        tasks.spawn_on(
            async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = serve(queue, port, listing, limits) => {}
                }
            },
            runtime,
        );
        Self { wishes }
    }

    pub(super) fn ask(&self, wish: Wish) {
        if self.wishes.try_send(wish).is_err() {
            tracing::debug!("too many snapshot requests wait");
        }
    }
}

fn encode(sum: StatesyncMessageSum) -> Bytes {
    StatesyncMessage { sum: Some(sum) }.encode_to_vec().into()
}

async fn serve(mut queue: mpsc::Receiver<Wish>, port: Arc<dyn Port>, listing: Arc<Listing>, limits: ServeLimits) {
    let mut budget = Budget::new(limits, Instant::now());
    while let Some(wish) = queue.recv().await {
        let wait = budget.wait(Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        let listing = Arc::clone(&listing);
        let read = tokio::task::spawn_blocking(move || match wish {
            Wish::Snapshots => {
                let told = |snapshot: &Snapshot| {
                    encode(StatesyncMessageSum::SnapshotsResponse(SnapshotsResponse {
                        height: snapshot.height,
                        format: snapshot.format,
                        chunks: snapshot.chunks,
                        hash: snapshot.hash.clone(),
                        metadata: snapshot.metadata.clone(),
                    }))
                };
                (SNAPSHOTS, listing.newest().iter().map(told).collect::<Vec<_>>())
            }
            Wish::Chunk(request) => {
                let chunk = listing.chunk(&request).filter(|chunk| !chunk.is_empty());
                let missing = chunk.is_none();
                let ChunkRequest { height, format, index } = request;
                let chunk = chunk.unwrap_or_default();
                let response = ChunkResponse { height, format, index, chunk, missing };
                (CHUNKS, vec![encode(StatesyncMessageSum::ChunkResponse(response))])
            }
        });
        let Ok((channel, answers)) = read.await else {
            return;
        };
        for answer in answers {
            budget.spend(answer.len() as u64, Instant::now());
            let _sent = port.send(channel, answer).await;
        }
    }
}
