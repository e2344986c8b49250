//! Removing old versions of the state in the background. Source: `go/consensus/cometbft/abci/prune.go`.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use mkvs_db::DbError;

use crate::{
    background::{Background, Signal},
    versions::Versions,
};

/// Least number of versions that pruning keeps: committees look one block back.
pub const MIN_KEPT: u64 = 1;

/// Longest pause between two writes, in which blocks can be committed.
const MAX_PAUSE: Duration = Duration::from_millis(100);

/// What is kept of the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PruneStrategy {
    /// Everything.
    #[default]
    None,
    /// The newest version and this many before it.
    KeepN(u64),
}

/// What is kept of the state, and how often old versions are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PruneConfig {
    /// What is kept.
    pub strategy: PruneStrategy,
    /// Time between two runs.
    pub interval: Duration,
}

impl Default for PruneConfig {
    fn default() -> Self {
        Self { strategy: PruneStrategy::None, interval: Duration::from_secs(120) }
    }
}

/// Somebody who may still need old states and blocks.
pub trait PruneHandler: Send + Sync {
    /// Whether the version, and with it its block, can go.
    ///
    /// # Errors
    /// Says why it has to stay; later ones then stay too.
    fn can_prune(&self, version: i64) -> Result<(), String>;
}

/// Removes what is not to be kept, with `keep` versions before the newest left, and tells up to where blocks can go.
/// Stops early when told to, or at the first version that somebody needs.
///
/// # Errors
/// If the database fails.
pub(crate) fn prune(
    versions: &Versions,
    keep: u64,
    latest: u64,
    go_on: &mut dyn FnMut(Duration) -> bool,
) -> Result<u64, DbError> {
    if latest < keep {
        return Ok(0);
    }
    let preserve_from = latest - keep;
    let mut pruned = 0;
    loop {
        let started = Instant::now();
        let removed = versions.db.prune_some(preserve_from, &mut |version| {
            let handlers = versions.prune_handlers.lock().clone();
            if let Some(reason) = handlers.iter().find_map(|h| h.can_prune(version.cast_signed()).err()) {
                tracing::debug!(version, reason, "a handler keeps a version from being pruned");
                return false;
            }
            let free = versions.claim(version);
            if !free {
                tracing::debug!(version, "version is in use and not pruned yet");
            }
            free
        })?;
        pruned += removed;
        if removed == 0 || !go_on(started.elapsed()) {
            break;
        }
    }
    // Before blocks go: after a power loss the state must not be older than the blocks that are left.
    versions.db.sync()?;
    if let Some(earliest) = versions.db.earliest_version() {
        versions.retained.store(earliest.cast_signed(), Ordering::Relaxed);
    }
    Ok(pruned)
}

/// Starts the thread that prunes; none if everything is kept.
pub(crate) fn start(versions: Arc<Versions>, config: PruneConfig) -> std::io::Result<Option<Background>> {
    let PruneStrategy::KeepN(keep) = config.strategy else { return Ok(None) };
    let keep = keep.max(MIN_KEPT);
    Background::start("state-pruner", move |signal| run(&versions, keep, config.interval, &signal)).map(Some)
}

fn run(versions: &Versions, keep: u64, interval: Duration, signal: &Signal) {
    let mut seen = 0;
    while signal.wait(interval) {
        let latest = versions.latest().height.cast_unsigned();
        if latest == seen {
            continue;
        }
        // As long a pause as the removal took leaves half of the time to others.
        let mut go_on = |took: Duration| {
            std::thread::sleep(took.min(MAX_PAUSE));
            !signal.stopped()
        };
        match prune(versions, keep, latest, &mut go_on) {
            Ok(0) => {}
            Ok(pruned) => {
                tracing::debug!(pruned, latest, earliest = ?versions.db.earliest_version(), "pruned old state");
            }
            Err(error) => tracing::warn!(%error, height = latest, "failed to prune state"),
        }
        seen = latest;
    }
}
