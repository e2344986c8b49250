//! Dropping old blocks. Source: `go/runtime/history/prune.go`, `go/runtime/config`.

use std::time::Duration;

use crate::Moment;
use crate::error::HistoryError;
use crate::store::History;

/// Most rounds dropped at once. Source: `maxBatchSize`.
pub const MAX_PRUNE: usize = 64;
/// Least pause between two times.
pub const MIN_PRUNE_INTERVAL: Duration = Duration::from_secs(1);

/// What is dropped (`runtime.prune.strategy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PruneStrategy {
    /// Nothing (`none`).
    #[default]
    None,
    /// All but the newest rounds (`keep_last`).
    KeepLast,
}

/// Settings (`runtime.prune`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PruneConfig {
    /// What is dropped.
    pub strategy: PruneStrategy,
    /// How many rounds are kept (`num_kept`).
    pub num_kept: u64,
    /// The pause between two times (`interval`).
    pub interval: Duration,
}

impl Default for PruneConfig {
    fn default() -> Self {
        Self { strategy: PruneStrategy::None, num_kept: 250_000, interval: Duration::from_secs(120) }
    }
}

/// Drops old blocks now and then.
#[derive(Clone, Copy, Debug)]
pub struct Pruner {
    config: PruneConfig,
    next: Moment,
}

impl Pruner {
    /// A pruner that begins one interval from now.
    pub fn new(config: PruneConfig, now: Moment) -> Self {
        let interval = config.interval.max(MIN_PRUNE_INTERVAL);
        Self { config: PruneConfig { interval, ..config }, next: now + interval }
    }

    /// When to call [`Pruner::run`] next; never, if nothing is ever dropped.
    pub fn next_wakeup(&self) -> Option<Moment> {
        (self.config.strategy == PruneStrategy::KeepLast).then_some(self.next)
    }

    /// Drops old blocks if it is time, at most [`MAX_PRUNE`], unless somebody says with `veto` why the rounds are still
    /// needed. Returns the rounds dropped.
    ///
    /// # Errors
    /// If somebody objects, or the store fails; the next time is one interval later.
    pub fn run(
        &mut self,
        now: Moment,
        history: &History,
        veto: &mut dyn FnMut(&[u64]) -> Result<(), String>,
    ) -> Result<Vec<u64>, HistoryError> {
        if self.config.strategy == PruneStrategy::None || now < self.next {
            return Ok(Vec::new());
        }
        self.next = now + self.config.interval;
        let end = history.last_round().and_then(|last| last.checked_sub(self.config.num_kept));
        let last = history.last_round().unwrap_or_default();
        // The newest block stays, whatever the settings.
        let Some(end) = end.map(|end| end.saturating_add(1).min(last)) else { return Ok(Vec::new()) };
        let rounds = history.rounds(MAX_PRUNE, end)?;
        if rounds.is_empty() {
            return Ok(rounds);
        }
        veto(&rounds).map_err(HistoryError::Veto)?;
        history.remove(&rounds)?;
        if rounds.len() == MAX_PRUNE {
            // There may be more.
            self.next = now + MIN_PRUNE_INTERVAL;
        }
        Ok(rounds)
    }
}
