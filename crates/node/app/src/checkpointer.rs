//! Making checkpoints of the state in the background. Source: `go/storage/mkvs/checkpoint/checkpointer.go`.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher as _, RandomState},
    io,
    sync::Arc,
    time::Duration,
};

use apps_core::params;
use mkvs_db::{
    Threads,
    checkpoint::{CheckpointError, Files, VERSION},
};
use mkvs_tree::Root;
use parking_lot::Mutex;
use wire_consensus::consensus::Parameters;

use crate::{
    background::{Background, Signal},
    versions::{QueryError, Versions},
};

/// By how much the time between two checks varies, in both directions together, so that nodes do not all work at once.
const SPREAD: f64 = 0.1;

/// How checkpoints are made. How often, how many and of what size is in the network's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointerConfig {
    /// Time between two checks of whether a checkpoint is due.
    pub check_interval: Duration,
    /// Subtrees that are cut side by side; 0: one chunk after another. Part of what makes checkpoints of two nodes equal.
    pub chunker_threads: u16,
}

impl Default for CheckpointerConfig {
    fn default() -> Self {
        Self { check_interval: Duration::from_secs(60), chunker_threads: 0 }
    }
}

/// Making checkpoints failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointerError {
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error("version {0} has no state root or is pruned")]
    NoRoot(u64),
}

/// What the thread was asked for.
#[derive(Default)]
struct Asked {
    forced: BTreeSet<u64>,
    paused: bool,
}

/// Controls the making of checkpoints. Cheap to clone.
#[derive(Clone)]
pub struct CheckpointerHandle {
    asked: Arc<Mutex<Asked>>,
    signal: Signal,
}

impl CheckpointerHandle {
    /// Makes a checkpoint of a version beside the schedule, soon; nothing happens if there is one.
    pub fn force(&self, version: u64) {
        self.asked.lock().forced.insert(version);
        self.signal.nudge();
    }

    /// Stops and resumes the schedule; forced checkpoints are made nevertheless.
    pub fn pause(&self, paused: bool) {
        self.asked.lock().paused = paused;
    }

    /// Checks at once whether a checkpoint is due.
    pub fn flush(&self) {
        self.signal.nudge();
    }
}

pub(crate) struct Checkpointer {
    pub(crate) versions: Arc<Versions>,
    pub(crate) files: Files,
    pub(crate) initial_version: u64,
    pub(crate) config: CheckpointerConfig,
}

/// Starts the thread that makes checkpoints.
pub(crate) fn start(checkpointer: Checkpointer) -> io::Result<(Background, CheckpointerHandle)> {
    let asked = Arc::<Mutex<Asked>>::default();
    let theirs = Arc::clone(&asked);
    let thread = Background::start("state-checkpoints", move |signal| checkpointer.run(&theirs, &signal))?;
    let signal = thread.signal.clone();
    Ok((thread, CheckpointerHandle { asked, signal }))
}

/// The interval, longer or shorter by chance.
fn spread(interval: Duration) -> Duration {
    #[allow(clippy::cast_precision_loss)]
    let chance = (RandomState::new().hash_one(interval) >> 11) as f64 / (1u64 << 53) as f64;
    interval.mul_f64(1.0 + SPREAD * (chance - 0.5) * 2.0)
}

impl Checkpointer {
    fn run(&self, asked: &Mutex<Asked>, signal: &Signal) {
        let mut seen = 0;
        while signal.wait(spread(self.config.check_interval)) {
            let (forced, paused) = {
                let mut asked = asked.lock();
                (std::mem::take(&mut asked.forced), asked.paused)
            };
            for version in forced {
                let made = self.parameters().and_then(|p| self.checkpoint(version, &p, signal));
                if let Err(error) = made {
                    tracing::error!(%error, version, "failed to make a forced checkpoint");
                }
            }
            let latest = self.versions.latest().height.cast_unsigned();
            if paused || latest == seen || latest == 0 {
                continue;
            }
            seen = latest;
            if let Err(error) = self.parameters().and_then(|p| self.check(latest, &p, signal)) {
                tracing::error!(%error, version = latest, "failed to make checkpoints");
            }
        }
    }

    fn parameters(&self) -> Result<Parameters, CheckpointerError> {
        let version = self.versions.latest().height.cast_unsigned();
        let _pin = self.versions.pin(version).ok_or(CheckpointerError::NoRoot(version))?;
        let root = self.root(version)?;
        let tree = self.versions.db.read(&root).map_err(CheckpointError::from)?;
        Ok(params::parameters(&tree).map_err(QueryError::from)?)
    }

    fn root(&self, version: u64) -> Result<Root, CheckpointerError> {
        let root = self.versions.state_root(version).map_err(CheckpointError::from)?;
        root.ok_or(CheckpointerError::NoRoot(version))
    }

    fn checkpoint(&self, version: u64, params: &Parameters, signal: &Signal) -> Result<(), CheckpointerError> {
        let _pin = self.versions.pin(version).ok_or(CheckpointerError::NoRoot(version))?;
        let root = self.root(version)?;
        tracing::info!(%root, chunk_size = params.state_checkpoint_chunk_size, "making a checkpoint");
        let (size, threads) = (params.state_checkpoint_chunk_size, self.config.chunker_threads);
        let exec = Threads::default();
        self.files.create_while(&self.versions.db, &root, size, threads, &exec, &|| !signal.stopped())?;
        Ok(())
    }

    /// Makes the checkpoints that are due and removes those that need not be kept any more.
    pub(crate) fn check(&self, latest: u64, params: &Parameters, signal: &Signal) -> Result<(), CheckpointerError> {
        let (interval, kept) = (params.state_checkpoint_interval, params.state_checkpoint_num_kept);
        if interval == 0 || latest < self.initial_version {
            return Ok(());
        }
        let mut existing: BTreeMap<u64, Vec<Root>> = BTreeMap::new();
        for metadata in self.files.list(None)? {
            existing.entry(metadata.root.version).or_default().push(metadata.root);
        }
        let newest = existing.last_key_value().map_or(0, |(version, _)| *version);
        let earliest = self.versions.db.earliest_version().unwrap_or(0);
        let first = newest.saturating_add(1).max(earliest).max(self.initial_version);
        let due = (latest - self.initial_version) / interval * interval + self.initial_version;

        // The newest first, and no more than will be kept.
        let mut version = Some(due);
        for _ in 0..kept.max(1) {
            let Some(at) = version.filter(|v| *v >= first && !signal.stopped()) else { break };
            if let Err(error) = self.checkpoint(at, params, signal) {
                tracing::error!(%error, version = at, "failed to make a checkpoint");
                break;
            }
            version = at.checked_sub(interval);
        }

        // Like the reference, that of genesis stays, and what was made just now is counted the next time only.
        let genesis_first = existing.first_key_value().is_some_and(|(v, _)| *v == self.initial_version);
        let old: Vec<u64> = existing.keys().copied().skip(usize::from(genesis_first)).collect();
        let surplus = old.len().saturating_sub(usize::try_from(kept).unwrap_or(usize::MAX));
        for version in old.into_iter().take(surplus) {
            for root in existing.get(&version).into_iter().flatten() {
                if let Err(error) = self.files.delete(VERSION, root) {
                    tracing::warn!(%error, %root, "failed to remove an old checkpoint");
                }
            }
        }
        Ok(())
    }
}
