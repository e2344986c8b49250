//! The machine: takes one input, gives effects.
//!
//! Reference: `cometbft:consensus/state.go`.
//!
//! # Correctness
//! The reference calls application and stores in the middle of a transition and stands still until they answer. Here a
//! transition is a stack of tasks; where the reference would call out, the machine emits a [`Request`] and keeps the
//! rest of the stack until the [`Reply`] comes. Guards are looked at when a task's turn comes, as in the reference.

mod commit;
mod message;
mod propose;
mod round;
mod start;
mod vote;

use std::collections::VecDeque;
use std::sync::Arc;

use comet_chain::state::State;
use wire_cometbft::Time;
use wire_cometbft::block::BlockId;
use wire_cometbft::consensus::{ConsensusMessage, ConsensusMessageSum, VoteSetBits};
use wire_cometbft::keys::Address;
use wire_cometbft::part_set::PartSet;
use wire_cometbft::vote::{Proposal, SignedMsgType};
use wire_cometbft::wal::{RoundStateEvent, TimedWalMessage, WalMessage, WalMessageSum};

use crate::config::Config;
use crate::effect::{Effect, Failure, HeldBlock, Input, Message, Misuse, PeerId, Refusal, Reply, Request};
use crate::round_state::RoundState;
use crate::timeout::{Step, Ticker, Timeout};

/// Most of this node's own messages that wait for their turn; the parts of the largest block and some votes. More than
/// that only piles up when the host hands in signatures without ever answering a request; those are dropped.
const MAX_OWN_MESSAGES: usize = 4096;

/// The rest of a transition.
#[derive(Debug, Clone)]
enum Task {
    NewRound {
        height: i64,
        round: i32,
    },
    /// Round 0 of whatever height is current by then.
    NewRoundOfNewHeight,
    Propose {
        height: i64,
        round: i32,
    },
    EndPropose {
        height: i64,
        round: i32,
    },
    Prevote {
        height: i64,
        round: i32,
    },
    EndPrevote {
        round: i32,
    },
    PrevoteWait {
        height: i64,
        round: i32,
    },
    Precommit {
        height: i64,
        round: i32,
    },
    EndPrecommit {
        round: i32,
    },
    PrecommitWait {
        height: i64,
        round: i32,
    },
    Commit {
        height: i64,
        round: i32,
    },
    TryFinalize {
        height: i64,
    },
}

/// The request whose reply is awaited, and what it is needed for.
#[derive(Debug, Clone)]
enum Waiting {
    Build { height: i64, round: i32 },
    PrevoteEvidence { block: Arc<HeldBlock> },
    PrevoteProcess { block: Arc<HeldBlock> },
    PrecommitEvidence { round: i32, block_id: BlockId },
    CommitEvidence { block: Arc<HeldBlock>, block_id: BlockId },
    Apply { block: Arc<HeldBlock> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Replaying,
    Running,
    Halted,
}

/// The consensus round machine of one node.
#[derive(Debug, Clone)]
pub struct Core {
    config: Config,
    /// This node's validator address; `None`: it has no key.
    address: Option<Address>,
    chain_id: Arc<str>,
    /// The state after the last height.
    state: State,
    /// Application hash in the last block's header.
    last_header_app_hash: Option<Vec<u8>>,
    rs: RoundState,
    mode: Mode,
    now: Time,
    ticker: Ticker,
    tasks: Vec<Task>,
    waiting: Option<Waiting>,
    own: VecDeque<Message>,
    /// The proposal being signed, with the parts to be sent after it.
    unsigned: Option<(Proposal, Arc<PartSet>)>,
    /// The block that passed validation last, evidence apart.
    validated: Option<Arc<HeldBlock>>,
    out: Vec<Effect>,
}

impl Core {
    /// Takes one input at time `now` and gives what is to be done, in order.
    ///
    /// # Errors
    /// If the input does not fit; nothing has changed then.
    pub fn step(&mut self, now: Time, input: Input) -> Result<Vec<Effect>, Misuse> {
        self.admit(&input)?;
        self.now = now;
        match input {
            Input::Replay(record) => self.replay(record),
            Input::Start => self.start(),
            Input::Message { peer, message } => {
                self.write_message(&message, Some(&peer), false);
                self.handle_message(*message, Some(peer));
            }
            Input::Timeout(timeout) => {
                self.write_wal(WalMessageSum::Timeout(timeout.to_wire()), false);
                self.handle_timeout(timeout);
            }
            Input::Reply(reply) => self.handle_reply(reply)?,
            Input::VoteSigned(vote) => self.enqueue_own(Message::Vote(*vote)),
            Input::ProposalSigned(proposal) => self.proposal_signed(*proposal),
            Input::TxsAvailable => self.handle_txs_available(),
            Input::Claim { peer, height, round, kind, block_id } => {
                self.handle_claim(peer, height, round, kind, block_id);
            }
            Input::CommitSeen { height } => self.handle_commit_seen(height),
            Input::Advanced { state, seen_commit, last_header_app_hash } => {
                self.handle_advanced(*state, &seen_commit, last_header_app_hash);
            }
        }
        self.run();
        Ok(std::mem::take(&mut self.out))
    }

    fn admit(&self, input: &Input) -> Result<(), Misuse> {
        if self.mode == Mode::Halted {
            return Err(Misuse::Halted);
        }
        match input {
            Input::VoteSigned(_) | Input::ProposalSigned(_) => return Ok(()),
            Input::Reply(_) => {
                return if self.waiting.is_some() { Ok(()) } else { Err(Misuse::UnexpectedReply) };
            }
            _ if self.waiting.is_some() => return Err(Misuse::AwaitingReply),
            Input::Replay(_) | Input::Start if self.mode == Mode::Running => return Err(Misuse::AlreadyStarted),
            Input::Replay(_) | Input::Start => return Ok(()),
            _ => {}
        }
        if self.mode == Mode::Replaying { Err(Misuse::NotStarted) } else { Ok(()) }
    }

    /// Where the machine stands.
    pub fn round_state(&self) -> &RoundState {
        &self.rs
    }

    /// The state after the last height.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Whether a reply is awaited, so that no other input is taken.
    pub fn awaits_reply(&self) -> bool {
        self.waiting.is_some()
    }

    /// Whether the machine has stopped for good.
    pub fn is_halted(&self) -> bool {
        self.mode == Mode::Halted
    }

    /// Goes on until nothing is left to do, a reply is awaited, or the machine has halted.
    fn run(&mut self) {
        loop {
            while self.waiting.is_none() && self.mode != Mode::Halted {
                let Some(task) = self.tasks.pop() else { break };
                self.run_task(task);
            }
            if self.waiting.is_some() || self.mode != Mode::Running {
                return;
            }
            let Some(message) = self.own.pop_front() else { return };
            self.write_message(&message, None, true);
            self.handle_message(message, None);
        }
    }

    fn run_task(&mut self, task: Task) {
        match task {
            Task::NewRound { height, round } => self.enter_new_round(height, round),
            Task::NewRoundOfNewHeight => self.enter_new_round(self.rs.height, 0),
            Task::Propose { height, round } => self.enter_propose(height, round),
            Task::EndPropose { height, round } => {
                self.rs.round = round;
                self.rs.step = Step::Propose;
                self.new_step();
                if self.rs.is_proposal_complete() {
                    self.tasks.push(Task::Prevote { height, round });
                }
            }
            Task::Prevote { height, round } => self.enter_prevote(height, round),
            Task::EndPrevote { round } => self.end_step(round, Step::Prevote),
            Task::PrevoteWait { height, round } => self.enter_prevote_wait(height, round),
            Task::Precommit { height, round } => self.enter_precommit(height, round),
            Task::EndPrecommit { round } => self.end_step(round, Step::Precommit),
            Task::PrecommitWait { height, round } => self.enter_precommit_wait(height, round),
            Task::Commit { height, round } => self.enter_commit(height, round),
            Task::TryFinalize { height } => self.try_finalize_commit(height),
        }
    }

    /// Pushes tasks so that they run in the order given.
    fn then<const N: usize>(&mut self, tasks: [Task; N]) {
        self.tasks.extend(tasks.into_iter().rev());
    }

    fn end_step(&mut self, round: i32, step: Step) {
        self.rs.round = round;
        self.rs.step = step;
        self.new_step();
    }

    /// Logs and announces the step.
    fn new_step(&mut self) {
        let rs = &self.rs;
        let event = RoundStateEvent { height: rs.height, round: rs.round, step: rs.step.name().to_owned() };
        let announcement = rs.new_round_step(self.now);
        self.write_wal(WalMessageSum::RoundState(event), false);
        self.announce(ConsensusMessageSum::NewRoundStep(announcement));
    }

    fn write_wal(&mut self, message: WalMessageSum, sync: bool) {
        let record = TimedWalMessage { time: self.now, msg: Some(WalMessage::from(message)) };
        self.out.push(Effect::WriteWal { record: Box::new(record), sync });
    }

    fn announce(&mut self, message: ConsensusMessageSum) {
        if self.mode == Mode::Running {
            self.out.push(Effect::Announce(Box::new(message.into())));
        }
    }

    fn broadcast(&mut self, message: ConsensusMessageSum) {
        if self.mode == Mode::Running {
            self.out.push(Effect::Broadcast(Box::new(message.into())));
        }
    }

    fn request(&mut self, waiting: Waiting, request: Request) {
        self.waiting = Some(waiting);
        self.out.push(Effect::Request(request));
    }

    fn refuse(&mut self, peer: Option<PeerId>, reason: impl Into<Refusal>) {
        self.out.push(Effect::Refused { peer, reason: Box::new(reason.into()) });
    }

    fn fail(&mut self, failure: Failure) {
        self.mode = Mode::Halted;
        self.tasks.clear();
        self.own.clear();
        self.waiting = None;
        self.out.push(Effect::Halt(Box::new(failure)));
    }

    fn enqueue_own(&mut self, message: Message) {
        if self.own.len() < MAX_OWN_MESSAGES {
            self.own.push_back(message);
        }
    }

    fn schedule(&mut self, timeout: Timeout) {
        if self.ticker.accept(&timeout) {
            self.out.push(Effect::ScheduleTimeout(timeout));
        }
    }

    /// Reference: `scheduleRound0`.
    fn schedule_round_0(&mut self) {
        let duration = self.rs.start_time.since(self.now);
        self.schedule(Timeout { duration, height: self.rs.height, round: 0, step: Step::NewHeight });
    }

    /// Reference: `handleTimeout`.
    fn handle_timeout(&mut self, timeout: Timeout) {
        let Timeout { height, round, step, .. } = timeout;
        let behind = (round, step) < (self.rs.round, self.rs.step);
        if height != self.rs.height || behind {
            return;
        }
        match step {
            Step::NewHeight => self.then([Task::NewRound { height, round: 0 }]),
            Step::NewRound => self.then([Task::Propose { height, round }]),
            Step::Propose => self.then([Task::Prevote { height, round }]),
            Step::PrevoteWait => self.then([Task::Precommit { height, round }]),
            Step::PrecommitWait => match round.checked_add(1) {
                Some(next) => {
                    self.then([Task::Precommit { height, round }, Task::NewRound { height, round: next }]);
                }
                None => self.fail(Failure::RoundOverflow(height)),
            },
            Step::Prevote | Step::Precommit | Step::Commit => {
                self.refuse(None, Refusal::TimeoutStep(step.number()));
            }
        }
    }

    /// Reference: `handleTxsAvailable`.
    fn handle_txs_available(&mut self) {
        if self.rs.round != 0 {
            return;
        }
        let height = self.rs.height;
        match self.rs.step {
            Step::NewHeight if !self.needs_proof_block(height) => {
                // One millisecond more, so that it comes after the timer of the new height.
                let wait = self.rs.start_time.since(self.now).nanos().saturating_add(1_000_000);
                let duration = wire_cometbft::Duration::from_nanos(wait);
                self.schedule(Timeout { duration, height, round: 0, step: Step::NewRound });
            }
            Step::NewRound => self.then([Task::Propose { height, round: 0 }]),
            _ => {}
        }
    }

    /// Reference: `Reactor.Receive` for `VoteSetMaj23Message`.
    fn handle_claim(&mut self, peer: PeerId, height: i64, round: i32, kind: SignedMsgType, block_id: BlockId) {
        if height != self.rs.height || !kind.is_vote() {
            return;
        }
        if let Err(reason) = self.rs.votes.claim(round, kind, &peer, &block_id) {
            self.out.push(Effect::StopPeer { peer, reason });
            return;
        }
        let votes = self.rs.votes.get(round, kind).and_then(|set| set.bits_for(&block_id)).unwrap_or_default();
        let answer = ConsensusMessageSum::VoteSetBits(VoteSetBits { height, round, kind, block_id, votes });
        self.out.push(Effect::Send { peer, message: Box::new(ConsensusMessage::from(answer)) });
    }

    fn handle_commit_seen(&mut self, height: i64) {
        let ahead = height.saturating_sub(self.rs.height);
        if self.config.block_sync_lag.is_some_and(|lag| ahead >= i64::from(lag)) {
            self.out.push(Effect::SwitchToBlockSync { height });
        }
    }

    fn handle_reply(&mut self, reply: Reply) -> Result<(), Misuse> {
        let Some(waiting) = self.waiting.take() else { return Err(Misuse::UnexpectedReply) };
        match (waiting, reply) {
            (Waiting::Build { height, round }, Reply::Built(block)) => self.built(height, round, block),
            (Waiting::PrevoteEvidence { block }, Reply::EvidenceChecked(verdict)) => {
                self.prevote_after_evidence(block, verdict);
            }
            (Waiting::PrevoteProcess { block }, Reply::Processed(verdict)) => self.processed(&block, verdict),
            (Waiting::PrecommitEvidence { round, block_id }, Reply::EvidenceChecked(verdict)) => {
                self.precommit_after_evidence(round, block_id, verdict);
            }
            (Waiting::CommitEvidence { block, block_id }, Reply::EvidenceChecked(verdict)) => {
                self.finalize_after_evidence(block, block_id, verdict);
            }
            (Waiting::Apply { block }, Reply::Applied(state)) => self.applied(&block, *state),
            (waiting, _) => {
                self.waiting = Some(waiting);
                return Err(Misuse::UnexpectedReply);
            }
        }
        Ok(())
    }

    /// Checks a block against the state, evidence apart; remembers the last one that passed.
    fn validate(&mut self, block: &Arc<HeldBlock>) -> Result<(), String> {
        if self.validated.as_ref().is_some_and(|last| Arc::ptr_eq(last, block)) {
            return Ok(());
        }
        self.state.validate_block(block.block()).map_err(|error| error.to_string())?;
        self.validated = Some(Arc::clone(block));
        Ok(())
    }
}

/// Whether the pool has to look at a block's evidence.
fn has_evidence(block: &HeldBlock) -> bool {
    !block.block().evidence.evidence.is_empty()
}
