//! Making checkpoints of the state: that of the first round always, others if configured. Which ones is
//! `rt_storage::Checkpointer`'s. Source: `go/storage/mkvs/checkpoint/checkpointer.go`, and `consensusCheckpointSyncer` of
//! `go/worker/storage/committee/worker.go`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use apps_committees::registry::query;
use mkvs_db::Threads;
use mkvs_db::checkpoint::Files;
use rt_history::Lookup;
use rt_storage::{CHUNKER_THREADS, Checkpointer, CheckpointerParams, Storage};
use tokio_util::sync::CancellationToken;
use wire_consensus::registry::StorageParameters;

use crate::error::{StoreError, chain_of};
use crate::index::lookup;
use crate::store::{RuntimeStore, blocking};
use crate::sync;

const MODULE: &str = "storage/mkvs/checkpoint/runtime";
/// Most checkpoints of the consensus layer whose runtime rounds wait.
const MAX_CONSENSUS: usize = 16;
/// By how many permille the time between two checks varies, in both directions together.
const SPREAD_PERMILLE: u32 = 100;
/// Least time between two checks.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// The interval, longer or shorter by chance, so that nodes do not all work at once.
fn spread(interval: Duration) -> Duration {
    let mut random = [0; 4];
    // Without chance nodes may work at the same time, that is all.
    let chance = getrandom::fill(&mut random).map_or(0, |()| u32::from_le_bytes(random) % (2 * SPREAD_PERMILLE));
    (interval / 1000).saturating_mul(1000 - SPREAD_PERMILLE + chance).max(MIN_INTERVAL)
}

/// What is needed to make checkpoints.
#[derive(Clone)]
struct Maker {
    store: Arc<RuntimeStore>,
    storage: Storage,
    files: Files,
    stop: CancellationToken,
}

/// Makes checkpoints until stopped.
pub(crate) async fn run(store: Arc<RuntimeStore>, stop: CancellationToken) -> Result<(), StoreError> {
    let state = store.stateful()?;
    let (storage, files) = ((*state.storage).clone(), state.files.clone());
    let unfinished = files.clone();
    blocking(move || unfinished.remove_unfinished()).await??;

    let config = &store.setup.config;
    let (enabled, interval) = (config.storage.checkpointer.enabled, config.storage.checkpointer.check_interval.0);
    let follow_consensus = enabled && !config.consensus.checkpointer.disabled;
    let maker = Maker { store: Arc::clone(&store), storage, files, stop: stop.clone() };
    let mut seen = None;
    let mut consensus = Consensus::default();
    let mut heights = store.setup.chain.heights();
    let mut next = tokio::time::Instant::now() + spread(interval);
    loop {
        let due = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = store.forced_some.notified() => false,
            () = tokio::time::sleep_until(next), if enabled => true,
            changed = heights.changed(), if follow_consensus => {
                if changed.is_err() {
                    stop.cancelled().await;
                }
                let theirs = Arc::clone(&store);
                consensus = blocking(move || { consensus.look(&theirs); consensus }).await?;
                continue;
            }
        };
        for round in store.take_forced() {
            let maker = maker.clone();
            let made = blocking(move || maker.forced(round)).await?;
            report(&store, round, made);
        }
        if !due {
            continue;
        }
        next = tokio::time::Instant::now() + spread(interval);
        let newest = store.synced.borrow().map(|s| s.round);
        if let Some(round) = newest.filter(|_| newest != seen && !store.paused.load(Ordering::Relaxed)) {
            seen = newest;
            let maker = maker.clone();
            let made = blocking(move || maker.scheduled(round)).await?;
            report(&store, round, made);
        }
    }
}

fn report(store: &RuntimeStore, version: u64, made: Result<(), StoreError>) {
    if let Err(e) = made {
        tracing::error!(module = MODULE, namespace = %store.setup.runtime, version, err = %chain_of(&e),
            "failed to checkpoint");
    }
}

impl Maker {
    fn parameters(&self) -> Option<StorageParameters> {
        if let Some(descriptor) = &self.store.setup.view.borrow().descriptor {
            return Some(descriptor.storage.clone());
        }
        // The view may be a moment behind.
        let (chain, runtime) = (&self.store.setup.chain, &self.store.setup.runtime);
        let state = chain.state(chain.latest_height()).ok();
        let found = state.and_then(|state| query::runtime(&*state, runtime, true).ok());
        if found.is_none() {
            tracing::error!(module = MODULE, namespace = %runtime, "no checkpoint parameters");
        }
        found.map(|runtime| runtime.storage)
    }

    fn forced(&self, round: u64) -> Result<(), StoreError> {
        match self.parameters() {
            Some(parameters) => self.make(round, &parameters),
            None => Ok(()),
        }
    }

    fn make(&self, round: u64, parameters: &StorageParameters) -> Result<(), StoreError> {
        let block = self.store.history.committed_block(round)?;
        let Some(header) = block.block.map(|b| b.header) else { return Ok(()) };
        let chunk_size = parameters.checkpoint_chunk_size;
        tracing::info!(module = MODULE, namespace = %self.store.setup.runtime, version = round, chunk_size,
            "creating new checkpoint");
        let parallel = self.store.setup.config.storage.checkpointer.parallel_chunker;
        let threads = if parallel { CHUNKER_THREADS } else { 0 };
        let go_on = || !self.stop.is_cancelled();
        let exec = Threads::default();
        let made = Checkpointer::make(&self.storage, &self.files, &header, chunk_size, threads, &exec, &go_on);
        match made {
            Err(_) if self.stop.is_cancelled() => Ok(()),
            made => Ok(made?),
        }
    }

    fn scheduled(&self, round: u64) -> Result<(), StoreError> {
        let Some(parameters) = self.parameters() else { return Ok(()) };
        if parameters.checkpoint_interval == 0 {
            return Ok(());
        }
        let initial = sync::genesis(&self.store)?.round;
        let (interval, num_kept) = (parameters.checkpoint_interval, parameters.checkpoint_num_kept);
        let params = CheckpointerParams { interval, num_kept, initial };
        let earliest = self.storage.db().earliest_version().unwrap_or(0);
        let plan = Checkpointer::plan(&self.files.list(None)?, round, earliest, params);
        let mut made = Ok(());
        for round in plan.create {
            made = self.make(round, &parameters);
            if made.is_err() || self.stop.is_cancelled() {
                break;
            }
        }
        Checkpointer::delete(&self.files, &plan.delete)?;
        made
    }
}

/// Follows the checkpoints that the consensus layer makes: a node that begins with one of them finds the runtime's state of
/// that height too.
#[derive(Default)]
struct Consensus {
    /// The last height of which a checkpoint was due.
    last: Option<i64>,
    /// Heights whose runtime rounds are to get checkpoints.
    wanted: VecDeque<i64>,
}

impl Consensus {
    /// The newest height not after `latest` of which the consensus layer makes a checkpoint.
    fn due(latest: i64, initial: i64, interval: u64) -> Option<i64> {
        let interval = i64::try_from(interval).ok().filter(|i| *i > 0)?;
        let since = latest.checked_sub(initial).filter(|since| *since >= 0)?;
        Some(since / interval * interval + initial)
    }

    /// Looks whether the consensus layer made a checkpoint. Reads the state.
    fn look(&mut self, store: &RuntimeStore) {
        let chain = &store.setup.chain;
        let latest = chain.latest_height();
        let Ok(parameters) =
            chain.state(latest).map_err(|_| ()).and_then(|s| apps_core::params::parameters(&*s).map_err(|_| ()))
        else {
            return;
        };
        let due = Self::due(latest, chain.genesis_height(), parameters.state_checkpoint_interval);
        if let Some(due) = due.filter(|due| self.last != Some(*due)) {
            // What a node restores is the state after the next block.
            let height = due.saturating_add(1);
            // What was due before this program began got its checkpoint then.
            if self.last.is_some() || height >= latest {
                self.wanted.push_back(height);
            }
            self.last = Some(due);
            let kept = usize::try_from(parameters.state_checkpoint_num_kept).unwrap_or(MAX_CONSENSUS);
            while self.wanted.len() > kept.clamp(1, MAX_CONSENSUS) {
                self.wanted.pop_front();
            }
        }
        while let Some(height) = self.wanted.front().copied().filter(|height| *height <= latest) {
            let round = match lookup(&**chain, &store.setup.runtime, height) {
                Ok(Lookup::State(state)) => state.last_block.header.round,
                Ok(Lookup::Missing) | Err(_) => {
                    self.wanted.pop_front();
                    continue;
                }
            };
            if store.synced.borrow().is_none_or(|synced| synced.round < round) {
                return;
            }
            self.wanted.pop_front();
            tracing::info!(module = "worker/storage/committee", runtime_id = %store.setup.runtime, height, round,
                "consensus checkpoint, force runtime checkpoint");
            store.force_checkpoint(round);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_the_consensus_layer_makes_checkpoints() {
        assert_eq!(Consensus::due(99, 100, 10), None);
        assert_eq!(Consensus::due(100, 100, 10), Some(100));
        assert_eq!(Consensus::due(119, 100, 10), Some(110));
        assert_eq!(Consensus::due(119, 100, 0), None);
        assert_eq!(Consensus::due(i64::MAX, i64::MIN, 1), None);
    }

    #[test]
    fn intervals_differ_a_little() {
        let all: Vec<_> = (0..100).map(|_| spread(Duration::from_secs(60))).collect();
        assert!(all.iter().all(|d| *d >= Duration::from_secs(54) && *d <= Duration::from_secs(66)));
        assert!(all.windows(2).any(|pair| pair[0] != pair[1]));
        assert_eq!(spread(Duration::ZERO), MIN_INTERVAL);
    }
}
