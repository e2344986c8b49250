//! The one thread that owns the machine: feeds it inputs, performs its effects in order, shows where it stands.
//!
//! Reference: `cometbft:consensus/state.go` (`receiveRoutine`, `OnStart`), `consensus/ticker.go`, `consensus/replay.go`.
//!
//! # Correctness
//! An effect is done before the next one begins. Where the machine stands is shown only once no durable write is left to
//! be done, so that gossip never sends a vote of this node before the log holds it.

mod perform;
mod start;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use comet_chain::app::Fatal;
use comet_core::{Core, Effect, Input, Message, PeerId, RoundState, Timeout};
use comet_store::{BlockStore, EvidencePool, ExecError, Executor, Guard, Wal};
use comet_sync::BlockSyncError;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use wire_cometbft::Time;
use wire_cometbft::consensus::{ConsensusMessageSum, HasVote};

use crate::clock;
use crate::intake::{Intake, Signal, Taken};
use crate::reactor::ConsensusReactor;
use crate::status::Unsigned;

pub(crate) use start::{DriverParts, StartKind};

/// Time between writes of the log's buffer to the disk, when nothing else asks for one.
pub const WAL_FLUSH: Duration = Duration::from_secs(2);
/// While more messages wait, what others see of the machine's place is at most this old.
pub const PUBLISH_INTERVAL: Duration = Duration::from_millis(5);
/// Longest wait for anything.
const IDLE: Duration = Duration::from_secs(1);

/// Why the engine stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StopReason {
    /// It was asked to.
    #[error("stopped on request")]
    Requested,
    /// The application must not execute this block (upgrade or configured halt).
    #[error("halted before height {height}: {reason}")]
    Halted {
        /// Height that is not executed.
        height: i64,
        /// Why.
        reason: String,
    },
    /// Something failed that the node can't go on after.
    #[error("{0}")]
    Failed(String),
}

impl StopReason {
    /// A failure, in its own words.
    pub(crate) fn failed(what: &str, error: &dyn std::error::Error) -> Self {
        Self::Failed(format!("{what}: {}", base_service::chain(error)))
    }
}

impl From<&Fatal> for StopReason {
    fn from(fatal: &Fatal) -> Self {
        match fatal {
            Fatal::Halt { height, reason } => Self::Halted { height: *height, reason: reason.clone() },
            other => Self::failed("application", other),
        }
    }
}

impl From<&ExecError> for StopReason {
    fn from(error: &ExecError) -> Self {
        match error {
            ExecError::App(fatal) => fatal.into(),
            error => Self::failed("execution", error),
        }
    }
}

impl From<&BlockSyncError> for StopReason {
    fn from(error: &BlockSyncError) -> Self {
        match error {
            BlockSyncError::Apply { source, .. } => source.as_ref().into(),
            error => Self::failed("block sync", error),
        }
    }
}

/// The machine with all that it acts on.
pub(crate) struct Driver {
    core: Core,
    chain_id: String,
    initial_height: i64,
    wal: Wal,
    guard: Option<Guard>,
    executor: Arc<Executor>,
    evidence: Arc<dyn EvidencePool>,
    blocks: Arc<BlockStore>,
    reactor: ConsensusReactor,
    intake: Arc<Intake>,
    /// Told the height that the network is at when block sync is wanted.
    sync_wanted: mpsc::Sender<i64>,
    /// The last vote or proposal, if it was not signed.
    unsigned: Arc<Mutex<Option<Unsigned>>>,
    effects: VecDeque<Effect>,
    timer: Option<(Instant, Timeout)>,
    paused: bool,
    /// Whether transactions came while paused.
    held_txs: bool,
    last_time: Time,
    last_flush: Instant,
    unflushed: bool,
    /// When the machine was first shown in another place than the last one shown.
    unpublished: Option<Instant>,
}

impl Driver {
    /// Runs the machine until it is told to stop or cannot go on.
    pub(crate) fn run(mut self, stopped: &watch::Sender<Option<StopReason>>) {
        let reason = match self.start().and_then(|()| self.serve()) {
            Ok(()) => StopReason::Requested,
            Err(reason) => reason,
        };
        if !self.intake.is_aborted()
            && let Err(error) = self.wal.sync()
        {
            tracing::error!(%error, "log could not be made durable on stop");
        }
        match &reason {
            StopReason::Requested => tracing::info!(height = self.core.round_state().height, "consensus stopped"),
            reason => tracing::error!(height = self.core.round_state().height, %reason, "consensus stopped"),
        }
        stopped.send_replace(Some(reason));
    }

    fn serve(&mut self) -> Result<(), StopReason> {
        loop {
            let now = Instant::now();
            if self.unflushed && now.duration_since(self.last_flush) >= WAL_FLUSH {
                self.sync_wal()?;
            }
            if let Some((due, timeout)) = self.timer.filter(|_| !self.paused)
                && due <= now
            {
                if self.intake.is_stopping() {
                    return Ok(());
                }
                self.timer = None;
                self.drive(Input::Timeout(timeout))?;
                continue;
            }
            if self.unpublished.is_some_and(|since| now.duration_since(since) >= PUBLISH_INTERVAL)
                || !self.intake.has_waiting()
            {
                self.publish();
            }
            let mut deadline = now + IDLE;
            if let Some((due, _)) = self.timer.filter(|_| !self.paused) {
                deadline = deadline.min(due);
            }
            match self.intake.take(deadline) {
                Taken::Stop => return Ok(()),
                Taken::Nothing => {}
                Taken::Peer(input) => self.drive_peer(*input)?,
                // Block sync has the application now.
                Taken::Signal(Signal::Input(input)) if self.paused => {
                    self.held_txs |= matches!(*input, Input::TxsAvailable);
                }
                Taken::Signal(Signal::Input(input)) => self.drive(*input)?,
                Taken::Signal(Signal::Pause(answer)) => {
                    self.set_paused(true);
                    self.sync_wal()?;
                    let _ = answer.send(());
                }
                Taken::Signal(Signal::Resume(input)) => {
                    self.set_paused(false);
                    if let Some(input) = input {
                        self.drive(*input)?;
                    }
                    if std::mem::take(&mut self.held_txs) {
                        self.drive(Input::TxsAvailable)?;
                    }
                    self.publish();
                }
            }
        }
    }

    fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
        self.intake.set_paused(paused);
    }

    /// Feeds a peer's input and notes whether it brought something new.
    fn drive_peer(&mut self, input: Input) -> Result<(), StopReason> {
        let Input::Message { peer, message } = &input else { return self.drive(input) };
        let peer = peer.clone();
        match message.as_ref() {
            Message::Vote(vote) => {
                let has =
                    HasVote { height: vote.height, round: vote.round, kind: vote.kind, index: vote.validator_index };
                let effects = self.step(input)?;
                let added = effects.iter().any(|effect| match effect {
                    Effect::Announce(message) => message.sum == Some(ConsensusMessageSum::HasVote(has.clone())),
                    _ => false,
                });
                self.effects.extend(effects);
                self.perform_all()?;
                self.note(&peer, added, true);
            }
            Message::BlockPart(_) => {
                let before = self.parts_held();
                let effects = self.step(input)?;
                let added = self.parts_held() > before;
                self.effects.extend(effects);
                self.perform_all()?;
                self.note(&peer, added, false);
            }
            Message::Proposal(_) => self.drive(input)?,
        }
        Ok(())
    }

    fn note(&self, peer: &PeerId, added: bool, vote: bool) {
        if added {
            self.reactor.brought(peer, vote);
        }
    }

    fn parts_held(&self) -> usize {
        self.core.round_state().proposal_block_parts.as_ref().map_or(0, |parts| parts.count())
    }

    /// Feeds an input and performs what follows.
    fn drive(&mut self, input: Input) -> Result<(), StopReason> {
        let effects = self.step(input)?;
        self.effects.extend(effects);
        self.perform_all()
    }

    fn step(&mut self, input: Input) -> Result<Vec<Effect>, StopReason> {
        if let Some(now) = clock::now() {
            self.last_time = now;
        }
        self.unpublished.get_or_insert_with(Instant::now);
        self.core.step(self.last_time, input).map_err(|misuse| StopReason::failed("round machine", &misuse))
    }

    fn perform_all(&mut self) -> Result<(), StopReason> {
        while let Some(effect) = self.effects.pop_front() {
            if self.intake.is_aborted() {
                return Err(StopReason::Requested);
            }
            let shown = matches!(effect, Effect::Announce(_) | Effect::Request(_));
            if shown && !self.effects.iter().any(|left| matches!(left, Effect::WriteWal { sync: true, .. })) {
                self.publish();
            }
            if let Some(answer) = self.perform(effect)? {
                let effects = self.step(answer)?;
                self.effects.extend(effects);
            }
        }
        Ok(())
    }

    /// Shows where the machine stands, if it has moved.
    fn publish(&mut self) {
        if self.unpublished.take().is_some() {
            self.reactor.publish(Arc::new(self.core.round_state().clone()));
        }
    }

    fn sync_wal(&mut self) -> Result<(), StopReason> {
        self.last_flush = Instant::now();
        self.unflushed = false;
        self.wal.sync().map_err(|error| StopReason::failed("log", &error))
    }

    fn round_state(&self) -> &RoundState {
        self.core.round_state()
    }
}
