//! The queue in front of the machine: a row of messages for each peer, taken from in turns.
//!
//! # Security
//! Each peer may have [`PEER_MESSAGES`] and [`PEER_BYTES`] waiting; beyond that its own reading stands still. As rows
//! are taken from in turns, a peer that floods delays each other peer's message by one message at most.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use comet_core::{Input, Message, PeerId};
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

/// Most messages of one peer that wait.
pub const PEER_MESSAGES: usize = 256;
/// Most bytes of one peer's messages that wait; one message more than this is taken still.
pub const PEER_BYTES: usize = 512 * 1024;

/// What the driver is told apart from peers' messages.
#[derive(Debug)]
pub(crate) enum Signal {
    /// An input for the machine.
    Input(Box<Input>),
    /// Stand still until [`Signal::Resume`]; answered once it does.
    Pause(tokio::sync::oneshot::Sender<()>),
    /// Go on, with the input first if there is one.
    Resume(Option<Box<Input>>),
}

/// What was taken from the queue.
#[derive(Debug)]
pub(crate) enum Taken {
    /// The node stops.
    Stop,
    /// A signal.
    Signal(Signal),
    /// A peer's message or claim.
    Peer(Box<Input>),
    /// Nothing came in time.
    Nothing,
}

#[derive(Debug, Default)]
struct Row {
    waiting: VecDeque<(Box<Input>, usize)>,
    bytes: usize,
    room: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Queue {
    stop: bool,
    abort: bool,
    paused: bool,
    signals: VecDeque<Signal>,
    rows: BTreeMap<PeerId, Row>,
    /// Peers with something waiting, in the order of their turns; each at most once.
    turns: VecDeque<PeerId>,
}

/// The queue in front of the machine.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    queue: Mutex<Queue>,
    arrived: Condvar,
}

/// About how many bytes a message keeps.
fn weight(input: &Input) -> usize {
    const FIXED: usize = 512;
    match input {
        Input::Message { message, .. } => match message.as_ref() {
            Message::BlockPart(part) => FIXED + part.part.bytes.len() + 32 * part.part.proof.aunts.len(),
            Message::Proposal(_) | Message::Vote(_) => FIXED,
        },
        _ => FIXED,
    }
}

impl Intake {
    /// A row for a peer that has connected.
    pub(crate) fn add_peer(&self, peer: &PeerId) {
        self.remove_peer(peer);
        self.queue.lock().rows.insert(peer.clone(), Row::default());
    }

    /// Drops what a peer that has gone left waiting.
    pub(crate) fn remove_peer(&self, peer: &PeerId) {
        let mut queue = self.queue.lock();
        if let Some(row) = queue.rows.remove(peer) {
            row.room.notify_waiters();
        }
        queue.turns.retain(|other| other != peer);
    }

    /// Drops what all peers left waiting; used when the machine jumps ahead.
    pub(crate) fn clear(&self) {
        let mut queue = self.queue.lock();
        queue.turns.clear();
        for row in queue.rows.values_mut() {
            row.waiting.clear();
            row.bytes = 0;
            row.room.notify_waiters();
        }
    }

    /// Puts a peer's message into its row, waiting for room there. What comes from a peer without a row is dropped.
    pub(crate) async fn put(&self, peer: &PeerId, input: Input) {
        let weight = weight(&input);
        let mut input = Some(Box::new(input));
        loop {
            let room = {
                let mut queue = self.queue.lock();
                let Queue { stop, rows, turns, .. } = &mut *queue;
                let Some(row) = rows.get_mut(peer).filter(|_| !*stop) else { return };
                if row.waiting.len() < PEER_MESSAGES && row.bytes < PEER_BYTES {
                    let Some(input) = input.take() else { return };
                    if row.waiting.is_empty() {
                        turns.push_back(peer.clone());
                    }
                    row.waiting.push_back((input, weight));
                    row.bytes = row.bytes.saturating_add(weight);
                    self.arrived.notify_one();
                    return;
                }
                // Registered under the lock: the driver cannot make room unheard in between.
                let mut room = Box::pin(Arc::clone(&row.room).notified_owned());
                room.as_mut().enable();
                room
            };
            room.await;
        }
    }

    /// Tells the driver something; signals come before peers' messages. The engine itself sends a few per height.
    pub(crate) fn signal(&self, signal: Signal) {
        self.queue.lock().signals.push_back(signal);
        self.arrived.notify_one();
    }

    /// Asks the driver to stop.
    pub(crate) fn stop(&self) {
        let mut queue = self.queue.lock();
        queue.stop = true;
        for row in queue.rows.values() {
            row.room.notify_waiters();
        }
        self.arrived.notify_one();
    }

    /// Asks the driver to stop before its next effect.
    pub(crate) fn abort(&self) {
        self.queue.lock().abort = true;
        self.stop();
    }

    /// Whether the driver must not even finish what it has begun.
    pub(crate) fn is_aborted(&self) -> bool {
        self.queue.lock().abort
    }

    /// Whether the node stops.
    pub(crate) fn is_stopping(&self) -> bool {
        self.queue.lock().stop
    }

    /// While paused nothing is taken but signals.
    pub(crate) fn set_paused(&self, paused: bool) {
        self.queue.lock().paused = paused;
    }

    /// The next thing to do, waiting for it until `deadline`.
    pub(crate) fn take(&self, deadline: Instant) -> Taken {
        let mut queue = self.queue.lock();
        loop {
            if queue.stop {
                return Taken::Stop;
            }
            if let Some(signal) = queue.signals.pop_front() {
                return Taken::Signal(signal);
            }
            if !queue.paused
                && let Some(input) = queue.next_of_peers()
            {
                return Taken::Peer(input);
            }
            if self.arrived.wait_until(&mut queue, deadline).timed_out() {
                return Taken::Nothing;
            }
        }
    }

    /// Whether peers' messages wait.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.queue.lock().turns.is_empty()
    }
}

impl Queue {
    fn next_of_peers(&mut self) -> Option<Box<Input>> {
        while let Some(peer) = self.turns.pop_front() {
            let Some(row) = self.rows.get_mut(&peer) else { continue };
            let Some((input, weight)) = row.waiting.pop_front() else { continue };
            row.bytes = row.bytes.saturating_sub(weight);
            row.room.notify_waiters();
            if !row.waiting.is_empty() {
                self.turns.push_back(peer);
            }
            return Some(input);
        }
        None
    }
}

#[cfg(test)]
mod tests;
