//! The block sync reactor (channel 0x40): serves blocks always, fetches them while it is told to.
//!
//! Reference: `cometbft:blocksync/{reactor,pool,msgs}.go`.

pub mod scheduler;
mod serve;
mod session;
mod sink;
pub mod verify;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use comet_chain::light::BoxFuture;
use comet_chain::state::State;
use comet_core::PeerId;
use comet_net::{ChannelDescriptor, DropPeer, Peer, Reactor};
use comet_store::{ExecError, StoreError};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wire_cometbft::Message;
use wire_cometbft::block::{Block, Commit};
use wire_cometbft::blocksync::{BlockRequest, BlocksyncMessage, BlocksyncMessageSum, StatusRequest, StatusResponse};
use wire_cometbft::keys::Address;
use wire_cometbft::limits::MAX_BLOCKSYNC_MESSAGE_BYTES;

use crate::port::Port;
pub use crate::rate::ServeLimits;
use crate::server::{Place, Server};
use scheduler::{Fault, Input, Limits};
pub use serve::BlockSource;
pub use session::{MAX_GROUP, MAX_GROUP_BYTES, MAX_PROVEN, MAX_RUN, StageTimes};
use session::{Own, PeerAction, Session, Stopper};
pub use sink::{BlockSink, StoreSink};
use verify::Candidate;

/// The block sync channel.
pub const CHANNEL: u8 = 0x40;
/// Messages that may wait to be sent to a peer; more than requests are ever open with one.
pub const SEND_QUEUE: usize = 1000;
/// Most bytes of blocks being decoded at a time; a larger one is decoded alone.
pub const MAX_DECODING_BYTES: usize = 32 << 20;
/// Blocks larger than this are decoded on a thread that may block.
const DECODE_INLINE_BYTES: usize = 256 << 10;

/// Settings.
#[derive(Debug, Clone)]
pub struct BlockSyncConfig {
    /// Bounds on fetching.
    pub limits: Limits,
    /// Bounds on serving.
    pub serve: ServeLimits,
    /// How often peers are asked for their range.
    pub status_interval: Duration,
    /// How often it is checked whether this node has caught up.
    pub switch_interval: Duration,
    /// How often timeouts are looked at.
    pub tick: Duration,
    /// Address of this node's consensus key: if it has a third of the power, it does not wait for peers.
    pub own_address: Option<Address>,
}

impl Default for BlockSyncConfig {
    /// The reference's intervals.
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            serve: ServeLimits::default(),
            status_interval: Duration::from_secs(10),
            switch_interval: Duration::from_secs(1),
            tick: Duration::from_millis(100),
            own_address: None,
        }
    }
}

/// Why block sync cannot go on; the node must stop.
#[derive(Debug, thiserror::Error)]
pub enum BlockSyncError {
    /// A block that two thirds of the validators signed does not fit this node's state: this node (or they) computed
    /// something else.
    #[error("block {height} was committed by the network, but does not fit this node's state: {source}")]
    Diverged {
        /// Height of the block.
        height: i64,
        /// What does not fit.
        source: Box<ExecError>,
    },
    /// A block could not be executed or stored.
    #[error("block {height}: {source}")]
    Apply {
        /// Height of the block.
        height: i64,
        /// Why.
        source: Box<ExecError>,
    },
    /// A block could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A worker thread could not be started, or ended without a result.
    #[error("block sync worker: {0}")]
    Worker(String),
    /// It runs already.
    #[error("block sync runs already")]
    Running,
}

/// When a run is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Level with the peers, judged as the reference does.
    CaughtUp,
    /// At this height, or level with the peers: for a node that runs rounds and fell behind.
    Height(i64),
}

/// What a run ended with.
#[derive(Debug)]
pub struct SyncEnd {
    /// State after the last block applied.
    pub state: State,
    /// The commit for that block, every signature checked; `None` if none was applied.
    pub seen_commit: Option<Commit>,
    /// Number of blocks applied.
    pub applied: u64,
    /// Whether the goal was reached; `false`: told to stop.
    pub caught_up: bool,
    /// Where the time went.
    pub times: StageTimes,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SyncStatus {
    /// The lowest height that is not applied.
    pub next: i64,
    /// The greatest height that peers claim.
    pub peers_at: i64,
    /// Peers that take part.
    pub peers: usize,
    /// Requests under way.
    pub pending: usize,
    /// Bytes of blocks held.
    pub held_bytes: u64,
}

struct RemotePeer {
    port: Arc<dyn Port>,
    server: Server<i64>,
    /// Range that it told last: base, height.
    range: Option<(i64, i64)>,
}

type Peers = Arc<Mutex<HashMap<PeerId, RemotePeer>>>;

/// The reactor.
pub struct BlockSync {
    config: BlockSyncConfig,
    source: Arc<dyn BlockSource>,
    runtime: Handle,
    stop: CancellationToken,
    tasks: TaskTracker,
    peers: Peers,
    session: Mutex<Option<Arc<Session>>>,
    decoding: Semaphore,
}

/// Forgets the session when the run is over or its future dropped.
struct Running<'a>(&'a BlockSync);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.session.lock().take();
    }
}

fn status_request() -> Bytes {
    let sum = Some(BlocksyncMessageSum::StatusRequest(StatusRequest {}));
    BlocksyncMessage { sum }.encode_to_vec().into()
}

fn block_request(height: i64) -> Bytes {
    let sum = Some(BlocksyncMessageSum::BlockRequest(BlockRequest { height }));
    BlocksyncMessage { sum }.encode_to_vec().into()
}

/// Whether a message is a block, without decoding it: field 3, length-delimited, comes first.
fn is_block(message: &[u8]) -> bool {
    message.first() == Some(&0x1a)
}

fn perform(peers: &Peers, actions: Vec<PeerAction>, ban: Duration) {
    if actions.is_empty() {
        return;
    }
    let ports: HashMap<PeerId, Arc<dyn Port>> = {
        let peers = peers.lock();
        let named = actions.iter().map(|action| match action {
            PeerAction::Request { peer, .. } | PeerAction::Drop { peer, .. } => peer,
        });
        named.filter_map(|id| peers.get(id).map(|peer| (id.clone(), Arc::clone(&peer.port)))).collect()
    };
    for action in actions {
        match action {
            PeerAction::Request { peer, height } => {
                // What is not sent times out.
                let _sent = ports.get(&peer).is_some_and(|port| port.try_send(CHANNEL, block_request(height)));
            }
            PeerAction::Drop { peer, fault } => {
                tracing::info!(peer = %peer.0, %fault, "block sync drops peer");
                let reason = match fault {
                    Fault::BadBlock(_) => DropPeer::banned(fault.to_string(), ban),
                    _ => DropPeer::new(fault.to_string()),
                };
                if let Some(port) = ports.get(&peer) {
                    port.stop(reason);
                }
            }
        }
    }
}

impl BlockSync {
    /// A reactor that serves blocks of `source`. Its tasks run on `runtime` and end with `stop`.
    pub fn new(
        config: BlockSyncConfig,
        source: Arc<dyn BlockSource>,
        runtime: Handle,
        stop: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            config,
            source,
            runtime,
            stop,
            tasks: TaskTracker::new(),
            peers: Arc::default(),
            session: Mutex::new(None),
            decoding: Semaphore::new(MAX_DECODING_BYTES >> 10),
        })
    }

    /// Fetches, proves, stores and applies blocks until the goal is reached or `stop` is cancelled. Meanwhile nobody else
    /// may apply blocks. One run at a time; it may be run again.
    ///
    /// # Errors
    /// If this node cannot go on at all; see [`BlockSyncError`]. Bad blocks are no errors: who sends them is dropped.
    pub async fn run(
        &self,
        state: State,
        sink: Arc<dyn BlockSink>,
        goal: Goal,
        stop: CancellationToken,
    ) -> Result<SyncEnd, BlockSyncError> {
        let peers = Arc::clone(&self.peers);
        let ban = self.config.limits.ban;
        let act = Box::new(move |actions| perform(&peers, actions, ban));
        let session = Session::new(&state, self.config.limits, Own(self.config.own_address), act);
        {
            let mut slot = self.session.lock();
            if slot.is_some() {
                return Err(BlockSyncError::Running);
            }
            *slot = Some(Arc::clone(&session));
        }
        let _running = Running(self);
        let _stopper = Stopper(Arc::clone(&session));
        let started = session.start(state, sink);
        let mut ended = started.map_err(|error| BlockSyncError::Worker(error.to_string()))?;
        self.announce(&session);

        let mut tick = tokio::time::interval(self.config.tick);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut asked, mut judged) = (Instant::now(), Instant::now());
        let mut stopped = false;
        let finished = loop {
            tokio::select! {
                result = &mut ended => break result,
                () = stop.cancelled(), if !stopped => {
                    stopped = true;
                    session.stop();
                }
                _ = tick.tick() => {
                    session.input(Input::Tick);
                    if asked.elapsed() >= self.config.status_interval {
                        asked = Instant::now();
                        self.ask_all();
                    }
                    let reached = matches!(goal, Goal::Height(goal) if session.progress().0 > goal);
                    if reached {
                        session.finish();
                    } else if judged.elapsed() >= self.config.switch_interval {
                        judged = Instant::now();
                        session.finish_if_caught_up();
                    }
                }
            }
        };
        let finished = finished.map_err(|_| BlockSyncError::Worker("ended without a result".into()))??;
        let session::Finished { state, seen_commit, applied, times, caught_up } = finished;
        tracing::info!(height = state.last_block_height, applied, caught_up, "block sync ended");
        Ok(SyncEnd { state, seen_commit, applied, caught_up, times })
    }

    /// Where the run stands; `None` if there is none.
    pub fn status(&self) -> Option<SyncStatus> {
        let session = self.session.lock().clone()?;
        let (next, peers_at, peers, pending, held_bytes) = session.progress();
        Some(SyncStatus { next, peers_at, peers, pending, held_bytes })
    }

    /// Ready once all tasks have ended, after the reactor's token was cancelled.
    pub async fn stopped(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Tells a new session what peers said before, and asks them anew.
    fn announce(&self, session: &Session) {
        let ranges: Vec<(PeerId, (i64, i64))> = {
            let peers = self.peers.lock();
            peers.iter().filter_map(|(id, peer)| peer.range.map(|range| (id.clone(), range))).collect()
        };
        for (peer, (base, height)) in ranges {
            session.input(Input::Status { peer, base, height });
        }
        self.ask_all();
    }

    fn ask_all(&self) {
        let ports: Vec<Arc<dyn Port>> = self.peers.lock().values().map(|peer| Arc::clone(&peer.port)).collect();
        let request = status_request();
        for port in ports {
            let _sent = port.try_send(CHANNEL, request.clone());
        }
    }

    fn status_response(&self) -> Bytes {
        let response = StatusResponse { height: self.source.height(), base: self.source.base() };
        BlocksyncMessage { sum: Some(BlocksyncMessageSum::StatusResponse(response)) }.encode_to_vec().into()
    }

    /// A peer's connection runs.
    pub fn connected(&self, port: Arc<dyn Port>) {
        let id = port.id().clone();
        let place = Place { tasks: &self.tasks, runtime: &self.runtime, stop: &self.stop };
        let source = Arc::clone(&self.source);
        let answers = move |height| serve::answer(source.as_ref(), height);
        let server = Server::start(&place, Arc::clone(&port), self.config.serve, answers);
        self.peers.lock().insert(id, RemotePeer { port: Arc::clone(&port), server, range: None });
        // It asks if this one is lost.
        let _sent = port.try_send(CHANNEL, self.status_response());
        if self.session.lock().is_some() {
            let _sent = port.try_send(CHANNEL, status_request());
        }
    }

    /// A peer's connection has ended.
    pub fn disconnected(&self, peer: &PeerId) {
        self.peers.lock().remove(peer);
        let session = self.session.lock().clone();
        if let Some(session) = session {
            session.input(Input::Gone(peer.clone()));
        }
    }

    /// A peer sent a message.
    ///
    /// # Errors
    /// If the peer is to be dropped.
    pub async fn message(&self, peer: &PeerId, message: Bytes) -> Result<(), DropPeer> {
        if is_block(&message) {
            return self.block(peer, message).await;
        }
        let decoded = BlocksyncMessage::decode(&message).map_err(|error| DropPeer::new(error.to_string()))?;
        decoded.validate_basic().map_err(|error| DropPeer::new(error.to_string()))?;
        let session = || self.session.lock().clone();
        match decoded.sum {
            Some(BlocksyncMessageSum::BlockRequest(request)) => {
                if let Some(peer) = self.peers.lock().get(peer) {
                    peer.server.ask(request.height);
                }
            }
            Some(BlocksyncMessageSum::NoBlockResponse(response)) => {
                if let Some(session) = session() {
                    session.input(Input::NoBlock { peer: peer.clone(), height: response.height });
                }
            }
            Some(BlocksyncMessageSum::StatusRequest(_)) => {
                let port = self.peers.lock().get(peer).map(|peer| Arc::clone(&peer.port));
                let _sent = port.is_some_and(|port| port.try_send(CHANNEL, self.status_response()));
            }
            Some(BlocksyncMessageSum::StatusResponse(StatusResponse { height, base })) => {
                if let Some(peer) = self.peers.lock().get_mut(peer) {
                    peer.range = Some((base, height));
                }
                if let Some(session) = session() {
                    session.input(Input::Status { peer: peer.clone(), base, height });
                }
            }
            // A block that does not begin with its own field.
            Some(BlocksyncMessageSum::BlockResponse(response)) => {
                if let (Some(session), Some(block)) = (session(), response.block) {
                    take_block(&session, peer.clone(), block)?;
                }
            }
            None => {}
        }
        Ok(())
    }

    async fn block(&self, peer: &PeerId, message: Bytes) -> Result<(), DropPeer> {
        let Some(session) = self.session.lock().clone() else {
            return Ok(());
        };
        if !session.expects_from(peer) {
            return if session.knows(peer) { Err(DropPeer::new("block was not asked for")) } else { Ok(()) };
        }
        let kib = message.len().min(MAX_DECODING_BYTES) >> 10;
        let permits = u32::try_from(kib.max(1)).unwrap_or(u32::MAX);
        let _permit = self.decoding.acquire_many(permits).await.map_err(|_| DropPeer::new("stopping"))?;
        let peer = peer.clone();
        let large = message.len() > DECODE_INLINE_BYTES;
        let work = move || {
            let decoded = BlocksyncMessage::decode_limited(&message, MAX_BLOCKSYNC_MESSAGE_BYTES);
            match decoded.map_err(|error| DropPeer::new(error.to_string()))?.sum {
                Some(BlocksyncMessageSum::BlockResponse(response)) => {
                    let block = response.block.ok_or_else(|| DropPeer::new("response without block"))?;
                    take_block(&session, peer, block)
                }
                _ => Err(DropPeer::new("more than one message in one")),
            }
        };
        if large {
            self.runtime.spawn_blocking(work).await.unwrap_or_else(|_| Err(DropPeer::new("decoding ended")))
        } else {
            work()
        }
    }
}

fn take_block(session: &Session, peer: PeerId, mut block: Block) -> Result<(), DropPeer> {
    block.normalize();
    let candidate = Candidate::new(block, peer).map_err(|error| DropPeer::new(format!("malformed block: {error}")))?;
    session.block(candidate);
    Ok(())
}

impl Reactor for BlockSync {
    fn channels(&self) -> Vec<ChannelDescriptor> {
        let max_message = MAX_BLOCKSYNC_MESSAGE_BYTES;
        vec![ChannelDescriptor { id: CHANNEL, priority: 5, send_queue: SEND_QUEUE, max_message }]
    }

    fn add_peer(&self, peer: &Peer) {
        self.connected(Arc::new(peer.clone()));
    }

    fn remove_peer(&self, peer: &Peer, _reason: &str) {
        self.disconnected(peer.id());
    }

    fn receive<'a>(&'a self, _channel: u8, peer: &'a Peer, message: Bytes) -> BoxFuture<'a, Result<(), DropPeer>> {
        Box::pin(self.message(peer.id(), message))
    }
}
