//! Telling peers of snapshots and giving them chunks.
//!
//! Reference: `cometbft:statesync/reactor.go`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use comet_chain::app::Snapshot;
use comet_store::SharedApp;
use parking_lot::Mutex;
use tokio::time::Instant;
use wire_cometbft::Message;
use wire_cometbft::statesync::{ChunkRequest, ChunkResponse, SnapshotsResponse, StatesyncMessage, StatesyncMessageSum};

use super::{CHUNKS, SNAPSHOTS};
use crate::server::Answer;

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

fn encode(sum: StatesyncMessageSum) -> Bytes {
    StatesyncMessage { sum: Some(sum) }.encode_to_vec().into()
}

/// The answers to what a peer asks for. May block.
pub(super) fn answers(listing: &Listing, wish: Wish) -> Vec<Answer> {
    match wish {
        Wish::Snapshots => {
            let told = |snapshot: &Snapshot| {
                let response = SnapshotsResponse {
                    height: snapshot.height,
                    format: snapshot.format,
                    chunks: snapshot.chunks,
                    hash: snapshot.hash.clone(),
                    metadata: snapshot.metadata.clone(),
                };
                (SNAPSHOTS, encode(StatesyncMessageSum::SnapshotsResponse(response)))
            };
            listing.newest().iter().map(told).collect()
        }
        Wish::Chunk(request) => {
            let chunk = listing.chunk(&request).filter(|chunk| !chunk.is_empty());
            let missing = chunk.is_none();
            let ChunkRequest { height, format, index } = request;
            let chunk = chunk.unwrap_or_default();
            let response = ChunkResponse { height, format, index, chunk, missing };
            vec![(CHUNKS, encode(StatesyncMessageSum::ChunkResponse(response)))]
        }
    }
}
