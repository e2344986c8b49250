//! Steps of a round, and the one timer that a node has.
//!
//! Reference: `cometbft:consensus/ticker.go`, `consensus/types/round_state.go` (`RoundStepType`).

use wire_cometbft::Duration;
use wire_cometbft::wal::TimeoutInfo;

/// Where in a round the machine stands, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Step {
    /// Waiting for more precommits of the height before.
    NewHeight = 1,
    /// The round is set up; never announced.
    NewRound = 2,
    /// Waiting for a proposal.
    Propose = 3,
    /// Prevoted.
    Prevote = 4,
    /// Two thirds prevoted for anything; waiting for more.
    PrevoteWait = 5,
    /// Precommitted.
    Precommit = 6,
    /// Two thirds precommitted for anything; only the name of a timer, never a step the machine stands in.
    PrecommitWait = 7,
    /// Two thirds precommitted for a block.
    Commit = 8,
}

impl Step {
    /// The step of a number on the wire.
    pub fn from_number(number: u32) -> Option<Self> {
        [
            Self::NewHeight,
            Self::NewRound,
            Self::Propose,
            Self::Prevote,
            Self::PrevoteWait,
            Self::Precommit,
            Self::PrecommitWait,
            Self::Commit,
        ]
        .into_iter()
        .find(|step| step.number() == number)
    }

    /// The number on the wire.
    pub fn number(self) -> u32 {
        u32::from(self as u8)
    }

    /// The name in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::NewHeight => "RoundStepNewHeight",
            Self::NewRound => "RoundStepNewRound",
            Self::Propose => "RoundStepPropose",
            Self::Prevote => "RoundStepPrevote",
            Self::PrevoteWait => "RoundStepPrevoteWait",
            Self::Precommit => "RoundStepPrecommit",
            Self::PrecommitWait => "RoundStepPrecommitWait",
            Self::Commit => "RoundStepCommit",
        }
    }
}

/// A timer: for how long, and what it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeout {
    /// How long it runs; zero or less: expires at once.
    pub duration: Duration,
    /// Height.
    pub height: i64,
    /// Round.
    pub round: i32,
    /// Step.
    pub step: Step,
}

impl Timeout {
    /// The log's form.
    pub fn to_wire(self) -> TimeoutInfo {
        TimeoutInfo { duration: self.duration, height: self.height, round: self.round, step: self.step.number() }
    }

    /// From the log's form; `None` if the step is unknown.
    pub fn from_wire(info: &TimeoutInfo) -> Option<Self> {
        Some(Self {
            duration: info.duration,
            height: info.height,
            round: info.round,
            step: Step::from_number(info.step)?,
        })
    }
}

/// Decides which timers replace the running one.
///
/// # Consensus
/// A timer replaces the last one only if its height, round and step are greater; the last one counts even if it has
/// expired already.
#[derive(Debug, Clone, Default)]
pub struct Ticker {
    last: Option<(i64, i32, Step)>,
}

impl Ticker {
    /// Whether this timer is to be armed in place of the one running.
    pub fn accept(&mut self, timeout: &Timeout) -> bool {
        let place = (timeout.height, timeout.round, timeout.step);
        if self.last.is_some_and(|last| place <= last) {
            return false;
        }
        self.last = Some(place);
        true
    }
}
