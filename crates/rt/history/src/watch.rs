//! Following a history's blocks.

use tokio::sync::watch;
use wire_consensus::roothash::AnnotatedBlock;

use crate::error::HistoryError;
use crate::store::History;

/// Gives the blocks of a history one after another. A slow reader misses none, but those that were pruned meanwhile; it
/// costs no memory, for blocks are read from the store.
#[derive(Debug)]
pub struct Watcher {
    history: History,
    newest: watch::Receiver<Option<u64>>,
    initialized: watch::Receiver<bool>,
    /// The next round to give; none before the first.
    next: Option<u64>,
}

impl Watcher {
    pub(crate) fn new(
        history: History,
        newest: watch::Receiver<Option<u64>>,
        initialized: watch::Receiver<bool>,
    ) -> Self {
        Self { history, newest, initialized, next: None }
    }

    /// Begins with the given round, or the first one after it that is there, instead of the newest.
    #[must_use]
    pub fn starting_at(mut self, round: u64) -> Self {
        self.next = Some(round);
        self
    }

    /// The next block; waits until there is one. Nothing if the history is gone. Can be cancelled.
    ///
    /// # Errors
    /// If the block cannot be read.
    pub async fn next(&mut self) -> Result<Option<AnnotatedBlock>, HistoryError> {
        if self.initialized.wait_for(|done| *done).await.is_err() {
            return Ok(None);
        }
        loop {
            let want = self.next.unwrap_or(0);
            let Ok(newest) = self.newest.wait_for(|newest| newest.is_some_and(|n| n >= want)).await.map(|n| *n) else {
                return Ok(None);
            };
            let Some(newest) = newest else { continue };
            let from = self.next.unwrap_or(newest);
            // A gap: pruned, or never there.
            let round = self.history.next_round(from)?.filter(|round| *round <= newest);
            let Some(round) = round else {
                self.next = Some(newest.saturating_add(1));
                continue;
            };
            match self.history.committed_block(round) {
                Ok(block) => {
                    self.next = Some(round.saturating_add(1));
                    return Ok(Some(block));
                }
                // Pruned in this moment.
                Err(HistoryError::NotFound) => {}
                Err(e) => return Err(e),
            }
        }
    }
}
