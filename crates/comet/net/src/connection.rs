//! The two tasks of a peer's connection: one reads, one writes.
//!
//! Reference: `cometbft:p2p/conn/connection.go` (`sendRoutine`, `recvRoutine`).
//!
//! DEVIATION: what is written waits for more no longer than the flush delay (some milliseconds; the reference: 100 ms),
//! and a write that makes no progress for as long as a keep-alive and its reply may take ends the connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::budget::Budget;
use crate::flow::Limiter;
use crate::packet::{Assembler, Incoming, MAX_PACKET, PacketError, put_ping, put_pong};
use crate::peer::{FLUSH_TIMEOUT, Peer};
use crate::reactor::{ChannelDescriptor, DropPeer, Reactor};
use crate::schedule::Scheduler;
use crate::secret::stream::{SecretReader, SecretWriter, StreamError, split_delimited};

/// Bytes gathered before they are written whatever the flush delay.
pub const WRITE_BUFFER: usize = 64 << 10;
/// Time between steps of the scheduler's forgetting.
pub const DECAY_INTERVAL: Duration = Duration::from_secs(2);
/// What a frame counts for at least against the receive rate, so that empty frames cost too.
pub const MIN_FRAME_CHARGE: usize = 64;
/// Steps in which held bytes are reported to the budget.
const BUDGET_STEP: usize = 256 << 10;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The stream failed, or a packet's length is out of bounds.
    #[error("{0}")]
    Stream(#[from] StreamError),
    /// A packet does not hold.
    #[error("{0}")]
    Packet(#[from] PacketError),
    /// A keep-alive was not answered.
    #[error("no reply to a keep-alive")]
    PongTimeout,
    /// The peer does not read.
    #[error("write timed out")]
    WriteTimeout,
}

/// Settings of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) send_rate: u64,
    pub(crate) recv_rate: u64,
    pub(crate) flush_delay: Duration,
    pub(crate) ping: Duration,
    pub(crate) pong_timeout: Duration,
}

/// Which reactor serves which channel.
pub(crate) struct Routes {
    pub(crate) reactors: Vec<Arc<dyn Reactor>>,
    pub(crate) channels: Arc<[ChannelDescriptor]>,
    /// Place of the reactor by channel number.
    by_channel: Vec<Option<usize>>,
}

impl Routes {
    /// Routes to the reactors; the channel that two of them serve as error.
    pub(crate) fn new(reactors: Vec<Arc<dyn Reactor>>) -> Result<Self, u8> {
        let mut by_channel = vec![None; 256];
        let mut channels = Vec::new();
        for (at, reactor) in reactors.iter().enumerate() {
            for channel in reactor.channels() {
                let route = &mut by_channel[usize::from(channel.id)];
                if route.is_some() {
                    return Err(channel.id);
                }
                *route = Some(at);
                channels.push(channel);
            }
        }
        Ok(Self { reactors, channels: channels.into(), by_channel })
    }

    fn reactor(&self, channel: u8) -> Option<&Arc<dyn Reactor>> {
        self.by_channel.get(usize::from(channel)).copied().flatten().and_then(|at| self.reactors.get(at))
    }
}

/// What the read task tells the write task.
#[derive(Default)]
pub(crate) struct Signals {
    pong_due: AtomicBool,
    pong_seen: AtomicBool,
}

/// Reads packets and hands messages to reactors until the connection fails; never returns otherwise.
pub(crate) async fn read_loop<R: AsyncRead + Unpin>(
    peer: &Peer,
    mut reader: SecretReader<R>,
    settings: Settings,
    routes: &Routes,
    signals: &Signals,
    budget: &Budget,
) -> DropPeer {
    let mut assembler = Assembler::new(&routes.channels);
    let mut limiter = Limiter::new(settings.recv_rate, Instant::now());
    let mut reported = 0;
    loop {
        let packet = match split_delimited(reader.buffered(), MAX_PACKET) {
            Err(error) => return drop_for(error.into()),
            Ok(found) => found.map(|(packet, used)| (assembler.take(packet), used)),
        };
        let Some((incoming, used)) = packet else {
            let read = match reader.fill().await {
                Err(error) => return drop_for(error.into()),
                Ok(read) => read,
            };
            peer.counters().received.fetch_add(read as u64, Ordering::Relaxed);
            let wait = limiter.charge(read.max(MIN_FRAME_CHARGE), Instant::now());
            if !wait.is_zero() {
                sleep(wait).await;
            }
            continue;
        };
        reader.consume(used);
        let (channel, message) = match incoming {
            Err(error) => return drop_for(error.into()),
            Ok(Incoming::Ping) => {
                signals.pong_due.store(true, Ordering::Release);
                peer.wake();
                continue;
            }
            Ok(Incoming::Pong) => {
                signals.pong_seen.store(true, Ordering::Release);
                peer.wake();
                continue;
            }
            Ok(Incoming::Piece) => {
                let held = assembler.held() / BUDGET_STEP * BUDGET_STEP;
                if held != reported {
                    reported = held;
                    budget.set(peer, held);
                }
                continue;
            }
            Ok(Incoming::Message(channel, message)) => (channel, message),
        };
        peer.counters().messages_received.fetch_add(1, Ordering::Relaxed);
        if let Err(drop) = deliver(peer, routes, channel, message).await {
            return drop;
        }
        let held = assembler.held() / BUDGET_STEP * BUDGET_STEP;
        if held != reported {
            reported = held;
            budget.set(peer, held);
        }
    }
}

async fn deliver(peer: &Peer, routes: &Routes, channel: u8, message: Bytes) -> Result<(), DropPeer> {
    match routes.reactor(channel) {
        Some(reactor) => reactor.receive(channel, peer, message).await,
        None => Err(drop_for(PacketError::UnknownChannel(i32::from(channel)).into())),
    }
}

fn drop_for(error: ConnectionError) -> DropPeer {
    DropPeer::new(error.to_string())
}

/// Writes packets and keep-alives until the connection fails, or until all is written once the peer is to be flushed.
pub(crate) async fn write_loop<W: AsyncWrite + Unpin>(
    peer: &Peer,
    writer: SecretWriter<W>,
    settings: Settings,
    signals: &Signals,
) -> DropPeer {
    let channels = peer.channels().iter().map(|channel| (channel.id, channel.priority));
    let now = Instant::now();
    let writing = Writing {
        scheduler: Scheduler::new(channels),
        limiter: Limiter::new(settings.send_rate, now),
        plain: Vec::with_capacity(WRITE_BUFFER + 2 * MAX_PACKET),
        ping_at: now + settings.ping,
        pong_by: None,
        decay_at: now + DECAY_INTERVAL,
        flush_at: now,
        flush_by: None,
        peer,
        writer,
        settings,
        signals,
    };
    match writing.run().await {
        Ok(()) => DropPeer::new("closed after flush"),
        Err(error) => drop_for(error),
    }
}

/// State of the write task.
struct Writing<'a, W> {
    peer: &'a Peer,
    writer: SecretWriter<W>,
    settings: Settings,
    signals: &'a Signals,
    scheduler: Scheduler,
    limiter: Limiter,
    /// Packets not yet written.
    plain: Vec<u8>,
    ping_at: Instant,
    pong_by: Option<Instant>,
    decay_at: Instant,
    /// When what is in `plain` is written at the latest.
    flush_at: Instant,
    /// When a closing connection gives up.
    flush_by: Option<Instant>,
}

impl<W: AsyncWrite + Unpin> Writing<'_, W> {
    async fn run(mut self) -> Result<(), ConnectionError> {
        let batch = self.limiter.batch(WRITE_BUFFER);
        loop {
            let now = Instant::now();
            let was_empty = self.plain.is_empty();
            let urgent = self.keep_alive(now)?;
            let full = self.gather(batch);
            if was_empty {
                self.flush_at = now + self.settings.flush_delay;
            }
            let closing = self.peer.flush_token().is_cancelled();
            if closing {
                let by = *self.flush_by.get_or_insert(now + FLUSH_TIMEOUT);
                if self.plain.is_empty() || now >= by {
                    self.writer.shutdown().await;
                    return Ok(());
                }
            }
            if !self.plain.is_empty() && (urgent || full || closing || now >= self.flush_at) {
                self.flush().await?;
                continue;
            }
            let mut wake_at = self.ping_at.min(self.decay_at);
            wake_at = self.pong_by.map_or(wake_at, |by| wake_at.min(by));
            if !self.plain.is_empty() {
                wake_at = wake_at.min(self.flush_at);
            }
            tokio::select! {
                () = self.peer.work() => {}
                () = self.peer.flush_token().cancelled(), if !closing => {}
                () = sleep_until(wake_at) => {}
            }
        }
    }

    /// Sends and expects keep-alives; whether some were appended.
    fn keep_alive(&mut self, now: Instant) -> Result<bool, ConnectionError> {
        let mut urgent = false;
        if self.signals.pong_seen.swap(false, Ordering::AcqRel) {
            self.pong_by = None;
        }
        if self.pong_by.is_some_and(|by| now >= by) {
            return Err(ConnectionError::PongTimeout);
        }
        if self.signals.pong_due.swap(false, Ordering::AcqRel) {
            put_pong(&mut self.plain);
            urgent = true;
        }
        if now >= self.ping_at {
            put_ping(&mut self.plain);
            self.ping_at = now + self.settings.ping;
            self.pong_by.get_or_insert(now + self.settings.pong_timeout);
            urgent = true;
        }
        if now >= self.decay_at {
            self.scheduler.decay();
            self.decay_at = now + DECAY_INTERVAL;
        }
        Ok(urgent)
    }

    /// Appends packets until none wait or so many bytes are gathered; whether the latter.
    fn gather(&mut self, batch: usize) -> bool {
        while self.plain.len() < batch {
            self.scheduler.refill(|at| self.peer.pop(at));
            match self.scheduler.put_packet(&mut self.plain) {
                None => return false,
                Some(true) => {
                    self.peer.counters().messages_sent.fetch_add(1, Ordering::Relaxed);
                }
                Some(false) => {}
            }
        }
        true
    }

    async fn flush(&mut self) -> Result<(), ConnectionError> {
        let limit = self.settings.ping + self.settings.pong_timeout;
        timeout(limit, self.writer.write(&self.plain)).await.map_err(|_| ConnectionError::WriteTimeout)??;
        let written = self.plain.len();
        self.plain.clear();
        self.peer.counters().sent.fetch_add(written as u64, Ordering::Relaxed);
        let wait = self.limiter.charge(written, Instant::now());
        if !wait.is_zero() {
            sleep(wait).await;
        }
        Ok(())
    }
}
