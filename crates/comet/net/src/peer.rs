//! A connected peer: who it is, its send queues, and its end.
//!
//! Reference: `cometbft:p2p/peer.go`, `p2p/conn/connection.go` (channels and queues).

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use comet_core::PeerId;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wire_cometbft::p2p::NodeInfo;

use crate::reactor::{ChannelDescriptor, DropPeer};

/// How long [`Peer::send`] waits for room.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes waiting to be sent to one peer, all channels together; a message of any size may wait on an otherwise
/// empty channel.
pub const MAX_QUEUED_BYTES: usize = 32 << 20;
/// How long [`Peer::stop_after_flush`] may take.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// What a peer is to the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) outbound: bool,
    pub(crate) persistent: bool,
    pub(crate) unconditional: bool,
}

/// Messages waiting to be sent.
#[derive(Debug, Default)]
struct Queues {
    /// One for each channel of the switch, in its order.
    by_channel: Vec<VecDeque<Bytes>>,
    bytes: usize,
    closed: bool,
}

/// Bytes and messages moved, updated by the connection's tasks.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) messages_sent: AtomicU64,
    pub(crate) messages_received: AtomicU64,
}

struct Inner {
    id: PeerId,
    info: NodeInfo,
    remote: SocketAddr,
    standing: Standing,
    channels: Arc<[ChannelDescriptor]>,
    queues: Mutex<Queues>,
    /// Wakes the write task.
    work: Notify,
    /// Wakes those waiting for room.
    room: Notify,
    stop: CancellationToken,
    flush: CancellationToken,
    reason: Mutex<Option<DropPeer>>,
    counters: Counters,
    since: SystemTime,
    connected: Instant,
}

/// A connected peer. Cheap to clone.
#[derive(Clone)]
pub struct Peer(Arc<Inner>);

/// What of a channel is waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelStatus {
    /// Channel.
    pub id: u8,
    /// Messages waiting to be sent.
    pub queued: usize,
    /// Most messages that may wait.
    pub capacity: usize,
}

/// State of a peer's connection, for status output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Node id.
    pub id: PeerId,
    /// Name the node gave itself.
    pub moniker: String,
    /// Remote end of the connection.
    pub remote_addr: SocketAddr,
    /// Whether we dialed.
    pub outbound: bool,
    /// Whether it is to be kept.
    pub persistent: bool,
    /// Since when it is connected.
    pub since: SystemTime,
    /// Bytes of packets sent, before encryption.
    pub bytes_sent: u64,
    /// Bytes of packets received, after decryption.
    pub bytes_received: u64,
    /// Messages sent.
    pub messages_sent: u64,
    /// Messages received.
    pub messages_received: u64,
    /// Bytes waiting to be sent.
    pub queued_bytes: usize,
    /// Queues of the channels that the peer listed.
    pub channels: Vec<ChannelStatus>,
}

impl Peer {
    pub(crate) fn new(
        id: PeerId,
        info: NodeInfo,
        remote: SocketAddr,
        standing: Standing,
        channels: Arc<[ChannelDescriptor]>,
        stop: CancellationToken,
    ) -> Self {
        let by_channel = channels.iter().map(|_| VecDeque::new()).collect();
        Self(Arc::new(Inner {
            id,
            info,
            remote,
            standing,
            channels,
            queues: Mutex::new(Queues { by_channel, bytes: 0, closed: false }),
            work: Notify::new(),
            room: Notify::new(),
            stop,
            flush: CancellationToken::new(),
            reason: Mutex::new(None),
            counters: Counters::default(),
            since: SystemTime::now(),
            connected: Instant::now(),
        }))
    }

    /// Node id.
    pub fn id(&self) -> &PeerId {
        &self.0.id
    }

    /// What the node told about itself.
    pub fn node_info(&self) -> &NodeInfo {
        &self.0.info
    }

    /// Whether we dialed.
    pub fn is_outbound(&self) -> bool {
        self.0.standing.outbound
    }

    /// Whether it is to be kept connected.
    pub fn is_persistent(&self) -> bool {
        self.0.standing.persistent
    }

    /// Whether no limit applies to it.
    pub fn is_unconditional(&self) -> bool {
        self.0.standing.unconditional
    }

    /// Remote end of the connection.
    pub fn remote_addr(&self) -> SocketAddr {
        self.0.remote
    }

    /// How long it has been connected.
    pub fn connected_for(&self) -> Duration {
        self.0.connected.elapsed()
    }

    /// Whether it listed the channel in its node info.
    pub fn has_channel(&self, channel: u8) -> bool {
        self.0.info.channels.contains(&channel)
    }

    /// Queues a message; `false` if the queue is full, the channel not listed, or the peer stopped.
    pub fn try_send(&self, channel: u8, message: Bytes) -> bool {
        self.push(channel, message).is_ok()
    }

    /// Queues a message, waiting up to [`SEND_TIMEOUT`] for room.
    pub async fn send(&self, channel: u8, message: Bytes) -> bool {
        let mut message = match self.push(channel, message) {
            Ok(()) => return true,
            Err(None) => return false,
            Err(Some(message)) => message,
        };
        let wait = async {
            loop {
                let room = self.0.room.notified();
                tokio::pin!(room);
                room.as_mut().enable();
                message = match self.push(channel, message) {
                    Ok(()) => return true,
                    Err(None) => return false,
                    Err(Some(message)) => message,
                };
                tokio::select! {
                    () = self.0.stop.cancelled() => return false,
                    () = room => {}
                }
            }
        };
        tokio::time::timeout(SEND_TIMEOUT, wait).await.unwrap_or(false)
    }

    /// Queues a message; gives it back if there is no room now.
    fn push(&self, channel: u8, message: Bytes) -> Result<(), Option<Bytes>> {
        if !self.is_running() || !self.has_channel(channel) {
            return Err(None);
        }
        let at = self.0.channels.iter().position(|c| c.id == channel).ok_or(None)?;
        {
            let mut queues = self.0.queues.lock();
            if queues.closed {
                return Err(None);
            }
            let total = queues.bytes.saturating_add(message.len());
            let queue = &mut queues.by_channel[at];
            let fits = queue.is_empty() || total <= MAX_QUEUED_BYTES;
            if queue.len() >= self.0.channels[at].send_queue.max(1) || !fits {
                return Err(Some(message));
            }
            queue.push_back(message);
            queues.bytes = total;
        }
        self.0.work.notify_one();
        Ok(())
    }

    /// Closes the connection; the first reason given counts.
    pub fn stop(&self, reason: DropPeer) {
        {
            let mut held = self.0.reason.lock();
            if held.is_none() {
                *held = Some(reason);
            }
        }
        self.0.queues.lock().closed = true;
        self.0.stop.cancel();
    }

    /// Closes the connection once what is queued has been sent, at the latest after [`FLUSH_TIMEOUT`].
    pub fn stop_after_flush(&self, reason: DropPeer) {
        {
            let mut held = self.0.reason.lock();
            if held.is_none() {
                *held = Some(reason);
            }
        }
        self.0.queues.lock().closed = true;
        self.0.flush.cancel();
    }

    /// Whether it has not been stopped.
    pub fn is_running(&self) -> bool {
        !self.0.stop.is_cancelled()
    }

    /// Ready once it is stopped; for tasks that live as long as the peer.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        self.0.stop.clone().cancelled_owned()
    }

    /// State of the connection.
    pub fn status(&self) -> PeerStatus {
        let (queued_bytes, lengths) = {
            let queues = self.0.queues.lock();
            (queues.bytes, queues.by_channel.iter().map(VecDeque::len).collect::<Vec<_>>())
        };
        let channels = self.0.channels.iter().zip(lengths);
        let channels = channels
            .filter(|(channel, _)| self.has_channel(channel.id))
            .map(|(channel, queued)| ChannelStatus { id: channel.id, queued, capacity: channel.send_queue })
            .collect();
        let counters = &self.0.counters;
        PeerStatus {
            id: self.0.id.clone(),
            moniker: self.0.info.moniker.clone(),
            remote_addr: self.0.remote,
            outbound: self.0.standing.outbound,
            persistent: self.0.standing.persistent,
            since: self.0.since,
            bytes_sent: counters.sent.load(Ordering::Relaxed),
            bytes_received: counters.received.load(Ordering::Relaxed),
            messages_sent: counters.messages_sent.load(Ordering::Relaxed),
            messages_received: counters.messages_received.load(Ordering::Relaxed),
            queued_bytes,
            channels,
        }
    }

    pub(crate) fn channels(&self) -> &Arc<[ChannelDescriptor]> {
        &self.0.channels
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.0.counters
    }

    pub(crate) fn take_reason(&self) -> DropPeer {
        self.0.reason.lock().clone().unwrap_or_else(|| DropPeer::new("stopped"))
    }

    /// The next message of a channel.
    pub(crate) fn pop(&self, at: usize) -> Option<Bytes> {
        let message = {
            let mut queues = self.0.queues.lock();
            let message = queues.by_channel.get_mut(at)?.pop_front()?;
            queues.bytes = queues.bytes.saturating_sub(message.len());
            message
        };
        self.0.room.notify_waiters();
        Some(message)
    }

    pub(crate) async fn work(&self) {
        self.0.work.notified().await;
    }

    pub(crate) fn wake(&self) {
        self.0.work.notify_one();
    }

    pub(crate) fn stop_token(&self) -> &CancellationToken {
        &self.0.stop
    }

    pub(crate) fn flush_token(&self) -> &CancellationToken {
        &self.0.flush
    }

    /// Drops what is still queued.
    pub(crate) fn clear(&self) {
        let mut queues = self.0.queues.lock();
        queues.closed = true;
        queues.bytes = 0;
        queues.by_channel.iter_mut().for_each(VecDeque::clear);
    }
}

impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Peer {}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = if self.0.standing.outbound { "to" } else { "from" };
        write!(f, "Peer({} {direction} {})", self.0.id.0, self.0.remote)
    }
}
