//! The state sync reactor (channels 0x60, 0x61): serves the application's snapshots always, restores one of the peers'
//! when told to.
//!
//! Reference: `cometbft:statesync/{reactor,syncer,snapshots,chunks}.go`.

mod chunks;
mod pool;
mod provider;
mod restore;
mod serve;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use comet_chain::app::{Fatal, Snapshot};
use comet_chain::light::BoxFuture;
use comet_chain::state::State;
use comet_core::PeerId;
use comet_net::{ChannelDescriptor, DropPeer, Peer, Reactor};
use comet_store::{BlockStore, ChainStore, SharedApp, StoreError};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wire_cometbft::Message;
use wire_cometbft::block::Commit;
use wire_cometbft::limits::{MAX_CHUNK_MESSAGE_BYTES, MAX_SNAPSHOT_MESSAGE_BYTES};
use wire_cometbft::statesync::{SnapshotsRequest, StatesyncMessage, StatesyncMessageSum};

pub use chunks::{MAX_AHEAD, MAX_ASKED};
pub use pool::{MAX_BYTES, MAX_PER_PEER, MAX_REJECTED};
pub use provider::{LightStateProvider, ParamsSource, StateProvider, StateProviderError};
use restore::Restore;
pub use serve::{LIST_FOR, MAX_TOLD};
use serve::{Listing, Wish};

use crate::port::Port;
use crate::rate::ServeLimits;
use crate::server::{Place, Server};

/// The channel of snapshots.
pub const SNAPSHOTS: u8 = 0x60;
/// The channel of chunks.
pub const CHUNKS: u8 = 0x61;
/// Most chunks of a snapshot that is considered at all; whoever offers one with more is dropped.
pub const MAX_CHUNKS: u32 = 100_000;

/// Settings.
#[derive(Debug, Clone)]
pub struct StateSyncConfig {
    /// Folder in which a folder for chunks is made.
    pub temp_dir: PathBuf,
    /// How long snapshots are collected before the best one is tried.
    pub discovery: Duration,
    /// Chunks asked for at the same time.
    pub fetchers: usize,
    /// A chunk is asked of another peer after this long.
    pub chunk_retry: Duration,
    /// A snapshot is given up if its next chunk does not come for this long.
    pub chunk_timeout: Duration,
    /// How long header, commit and state of a snapshot may take to be verified.
    pub verify_timeout: Duration,
    /// How often the application may start a snapshot over, or a chunk.
    pub retries: usize,
    /// Bounds on serving a peer.
    pub serve: ServeLimits,
}

impl StateSyncConfig {
    /// The reference's times.
    pub fn new(temp_dir: PathBuf) -> Self {
        Self {
            temp_dir,
            discovery: Duration::from_secs(15),
            fetchers: 4,
            chunk_retry: Duration::from_secs(10),
            chunk_timeout: Duration::from_secs(120),
            verify_timeout: Duration::from_secs(30),
            retries: 5,
            serve: ServeLimits { queue: 16, bytes_per_second: 8 << 20, burst: 16 << 20, least: 64 << 10 },
        }
    }
}

/// Why no snapshot was restored.
#[derive(Debug, thiserror::Error)]
pub enum StateSyncError {
    /// The application said to stop.
    #[error("application aborted state sync")]
    Aborted,
    /// The application failed.
    #[error(transparent)]
    App(#[from] Fatal),
    /// Nothing can be verified at all.
    #[error(transparent)]
    Provider(#[from] StateProviderError),
    /// The application restored something else than what the chain has.
    #[error("application restored height {got_height} with app hash {got}, expected {height} with {expected}")]
    AppState {
        /// Height of the snapshot.
        height: u64,
        /// App hash of the chain, upper hexadecimal.
        expected: String,
        /// The application's height.
        got_height: i64,
        /// The application's app hash, upper hexadecimal.
        got: String,
    },
    /// The application has another version than the chain at the snapshot's height.
    #[error("application version is {got}, the chain's {expected}")]
    AppVersion {
        /// Version in the header.
        expected: u64,
        /// The application's.
        got: u64,
    },
    /// Chunks cannot be kept on disk.
    #[error("chunks: {0}")]
    Disk(#[from] std::io::Error),
    /// It runs already.
    #[error("state sync runs already")]
    Running,
    /// A worker ended without a result.
    #[error("state sync worker ended without a result")]
    Worker,
    /// Told to stop.
    #[error("stopped")]
    Stopped,
}

/// A snapshot was restored into the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The engine's state after the snapshot's height.
    pub state: State,
    /// The commit for the block of that height.
    pub commit: Commit,
}

impl Restored {
    /// Has empty stores begin after the snapshot; then block sync goes on from [`Self::state`].
    ///
    /// # Errors
    /// If a store fails.
    pub fn bootstrap(&self, blocks: &BlockStore, chain: &ChainStore) -> Result<(), StoreError> {
        // The state last: with it, the start counts as done.
        blocks.save_seen_commit(self.state.last_block_height, &self.commit)?;
        chain.bootstrap(&self.state)
    }
}

struct RemotePeer {
    port: Arc<dyn Port>,
    server: Server<Wish>,
}

/// The reactor.
pub struct StateSync {
    config: StateSyncConfig,
    app: SharedApp,
    listing: Arc<Listing>,
    runtime: Handle,
    stop: CancellationToken,
    tasks: TaskTracker,
    peers: Mutex<HashMap<PeerId, RemotePeer>>,
    restore: Mutex<Option<Arc<Restore>>>,
}

/// Forgets the run when it is over or its future dropped.
struct Running<'a>(&'a StateSync);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.restore.lock().take();
    }
}

fn snapshots_request() -> Bytes {
    let sum = Some(StatesyncMessageSum::SnapshotsRequest(SnapshotsRequest {}));
    StatesyncMessage { sum }.encode_to_vec().into()
}

impl StateSync {
    /// A reactor that serves the snapshots of `app`. Its tasks run on `runtime` and end with `stop`.
    pub fn new(config: StateSyncConfig, app: SharedApp, runtime: Handle, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            config,
            listing: Arc::new(Listing::new(Arc::clone(&app))),
            app,
            runtime,
            stop,
            tasks: TaskTracker::new(),
            peers: Mutex::default(),
            restore: Mutex::new(None),
        })
    }

    /// Restores a snapshot of the peers into the application, trying one after the other until one succeeds.
    ///
    /// # Errors
    /// If it cannot succeed at all, or `stop` is cancelled; that a snapshot or a peer is bad is no error.
    pub async fn run(
        &self,
        trust: Arc<dyn StateProvider>,
        stop: CancellationToken,
    ) -> Result<Restored, StateSyncError> {
        let restore = Arc::new(Restore::new(self.config.clone(), Arc::clone(&self.app), trust));
        {
            let mut slot = self.restore.lock();
            if slot.is_some() {
                return Err(StateSyncError::Running);
            }
            *slot = Some(Arc::clone(&restore));
        }
        let _running = Running(self);
        tokio::select! {
            () = stop.cancelled() => Err(StateSyncError::Stopped),
            result = restore.run(|| self.ask_all(), |peer, message| self.send(peer, message)) => result,
        }
    }

    /// Ready once all tasks have ended, after the reactor's token was cancelled.
    pub async fn stopped(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn ask_all(&self) {
        let ports: Vec<Arc<dyn Port>> = self.peers.lock().values().map(|peer| Arc::clone(&peer.port)).collect();
        let request = snapshots_request();
        for port in ports {
            let _sent = port.try_send(SNAPSHOTS, request.clone());
        }
    }

    fn send(&self, peer: &PeerId, message: Bytes) -> bool {
        let port = self.peers.lock().get(peer).map(|peer| Arc::clone(&peer.port));
        port.is_some_and(|port| port.try_send(CHUNKS, message))
    }

    fn restore(&self) -> Option<Arc<Restore>> {
        self.restore.lock().clone()
    }

    /// A peer's connection runs.
    pub fn connected(&self, port: Arc<dyn Port>) {
        let place = Place { tasks: &self.tasks, runtime: &self.runtime, stop: &self.stop };
        let listing = Arc::clone(&self.listing);
        let answers = move |wish| serve::answers(&listing, wish);
        let server = Server::start(&place, Arc::clone(&port), self.config.serve, answers);
        self.peers.lock().insert(port.id().clone(), RemotePeer { port: Arc::clone(&port), server });
        if self.restore().is_some() {
            let _sent = port.try_send(SNAPSHOTS, snapshots_request());
        }
    }

    /// A peer's connection has ended.
    pub fn disconnected(&self, peer: &PeerId) {
        self.peers.lock().remove(peer);
        if let Some(restore) = self.restore() {
            restore.gone(peer);
        }
    }

    /// A peer sent a message.
    ///
    /// # Errors
    /// If the peer is to be dropped.
    pub async fn message(&self, channel: u8, peer: &PeerId, message: Bytes) -> Result<(), DropPeer> {
        let decoded = StatesyncMessage::decode(&message).map_err(|error| DropPeer::new(error.to_string()))?;
        drop(message);
        decoded.validate_basic().map_err(|error| DropPeer::new(error.to_string()))?;
        let wish = |wish| {
            if let Some(peer) = self.peers.lock().get(peer) {
                peer.server.ask(wish);
            }
        };
        match (channel, decoded.sum) {
            (SNAPSHOTS, Some(StatesyncMessageSum::SnapshotsRequest(_))) => wish(Wish::Snapshots),
            (SNAPSHOTS, Some(StatesyncMessageSum::SnapshotsResponse(offer))) => {
                let restore = self.restore();
                if offer.chunks > MAX_CHUNKS {
                    if let Some(restore) = restore {
                        restore.reject_peer(peer);
                    }
                    return Err(DropPeer::new(format!("snapshot of {} chunks", offer.chunks)));
                }
                if let Some(restore) = restore {
                    let (height, format, chunks) = (offer.height, offer.format, offer.chunks);
                    let snapshot = Snapshot { height, format, chunks, hash: offer.hash, metadata: offer.metadata };
                    restore.offered(peer, snapshot);
                }
            }
            (CHUNKS, Some(StatesyncMessageSum::ChunkRequest(request))) => wish(Wish::Chunk(request)),
            (CHUNKS, Some(StatesyncMessageSum::ChunkResponse(response))) => {
                if let Some(restore) = self.restore() {
                    let peer = peer.clone();
                    // Writes a file.
                    let stored = self.runtime.spawn_blocking(move || restore.chunk(&peer, response)).await;
                    stored.map_err(|_| DropPeer::new("stopping"))?;
                }
            }
            _ => tracing::debug!(channel, "state sync message on the wrong channel"),
        }
        Ok(())
    }
}

impl Reactor for StateSync {
    fn channels(&self) -> Vec<ChannelDescriptor> {
        vec![
            ChannelDescriptor { id: SNAPSHOTS, priority: 5, send_queue: 10, max_message: MAX_SNAPSHOT_MESSAGE_BYTES },
            ChannelDescriptor { id: CHUNKS, priority: 3, send_queue: 10, max_message: MAX_CHUNK_MESSAGE_BYTES },
        ]
    }

    fn add_peer(&self, peer: &Peer) {
        self.connected(Arc::new(peer.clone()));
    }

    fn remove_peer(&self, peer: &Peer, _reason: &str) {
        self.disconnected(peer.id());
    }

    fn receive<'a>(&'a self, channel: u8, peer: &'a Peer, message: Bytes) -> BoxFuture<'a, Result<(), DropPeer>> {
        Box::pin(self.message(channel, peer.id(), message))
    }
}
