//! Filling the history from the consensus layer. What to do next is `rt_history::Indexer`'s.

use std::sync::Arc;
use std::time::{Duration, Instant};

use apps_committees::roothash::query;
use base_metrics::table;
use base_prims::Namespace;
use base_service::log_event;
use node_workers::{Blocks, ChainError};
use rt_history::{Action, History, HistoryError, Indexer, Lookup, MAX_PENDING_BLOCKS, Moment, blocks_between};
use tokio_util::sync::CancellationToken;
use wire_consensus::errors::roothash::INVALID_RUNTIME;
use wire_consensus::roothash::AnnotatedBlock;

use crate::error::{StoreError, chain_of};
use crate::store::{RuntimeStore, blocking};

/// The pause after the consensus layer could not answer.
const RETRY: Duration = Duration::from_secs(1);
/// Heights of a batch if the configuration says 0.
const DEFAULT_BATCH: u16 = 1000;

/// Why blocks could not be read or kept.
#[derive(Debug, thiserror::Error)]
enum IndexError {
    #[error("failed to get runtime state")]
    Chain(#[from] ChainError),
    #[error("failed to commit blocks")]
    History(#[from] HistoryError),
}

/// A runtime's state at a height.
pub(crate) fn lookup(chain: &dyn Blocks, runtime: &Namespace, height: i64) -> Result<Lookup, ChainError> {
    let state = match chain.state(height) {
        Ok(state) => state,
        Err(ChainError::NoBlocks | ChainError::NoState(_)) => return Ok(Lookup::Missing),
        Err(e) => return Err(e),
    };
    match query::runtime_state(&*state, runtime) {
        Ok(state) => Ok(Lookup::State(Box::new(state))),
        Err(e) if e.is(&INVALID_RUNTIME) => Ok(Lookup::Missing),
        Err(e) => Err(e.into()),
    }
}

/// The newest block of the runtime that the consensus layer has.
fn newest(chain: &dyn Blocks, runtime: &Namespace) -> Result<Option<AnnotatedBlock>, ChainError> {
    Ok(match lookup(chain, runtime, chain.latest_height())? {
        Lookup::State(state) => {
            Some(AnnotatedBlock { consensus_height: state.last_block_height, block: Some(state.last_block) })
        }
        Lookup::Missing => None,
    })
}

fn round_of(block: &AnnotatedBlock) -> u64 {
    block.block.as_ref().map_or(0, |b| b.header.round)
}

/// Looks up blocks and keeps them; the height and round of the last one.
fn reindex(chain: &dyn Blocks, history: &History, from: i64, to: i64) -> Result<Option<(i64, u64)>, IndexError> {
    let runtime = history.runtime();
    let blocks = blocks_between(from, to, |height| lookup(chain, &runtime, height))?;
    history.commit(&blocks)?;
    Ok(blocks.last().map(|b| (b.consensus_height, round_of(b))))
}

/// Where following goes on.
#[derive(Default)]
struct Follower {
    /// All heights up to this one were looked at.
    checked: i64,
}

impl Follower {
    /// The next blocks after those in the history, as many as the indexer takes. Never leaves one out: a height counts as
    /// looked at only if its state was there.
    fn next(&mut self, chain: &dyn Blocks, history: &History, batch: i64) -> Result<Vec<AnnotatedBlock>, ChainError> {
        let tip = chain.latest_height();
        loop {
            let from = history.last_consensus_height().max(self.checked).saturating_add(1).max(chain.last_retained());
            if from > tip {
                return Ok(Vec::new());
            }
            let to = from.saturating_add(batch - 1).min(tip);
            let mut at_end = false;
            let mut blocks = blocks_between(from, to, |height| {
                let found = lookup(chain, &history.runtime(), height)?;
                at_end |= height == to && matches!(found, Lookup::State(_));
                Ok::<_, ChainError>(found)
            })?;
            if !at_end {
                return Ok(Vec::new());
            }
            if !blocks.is_empty() {
                blocks.truncate(MAX_PENDING_BLOCKS);
                return Ok(blocks);
            }
            self.checked = to;
        }
    }
}

/// What the loop does besides what the indexer says.
struct Index {
    store: Arc<RuntimeStore>,
    indexer: Indexer,
    follower: Option<Follower>,
    batch: u16,
    /// The newest block's height that the indexer knows.
    fed: i64,
    /// When the last block came.
    last: Option<Instant>,
}

/// Indexes until stopped.
pub(crate) async fn run(store: Arc<RuntimeStore>, stop: CancellationToken) -> Result<(), StoreError> {
    let configured = store.setup.config.runtime.indexer.batch_size;
    let batch = if configured == 0 { DEFAULT_BATCH } else { configured };
    let history = Arc::clone(&store.history);
    let indexer = Indexer::new(batch, history.last_consensus_height(), history.last_round().unwrap_or(0));
    tracing::info!(module = "runtime/history/indexer", runtime_id = %store.setup.runtime,
        log_event = log_event::HISTORY_REINDEXING, "reindexing");
    let mut heights = store.setup.chain.heights();
    let mut index = Index { store, indexer, follower: None, batch, fed: 0, last: None };
    while !stop.is_cancelled() {
        heights.borrow_and_update();
        let mut wake = index.feed().await?;
        let now = index.store.now();
        let worked = index.step(now).await?;
        index.store.set_indexer(index.indexer.status(index.store.now()));
        if worked {
            continue;
        }
        wake = wake.into_iter().chain(index.indexer.next_wakeup(now)).min();
        let sleep = async {
            match wake {
                Some(at) => tokio::time::sleep_until(index.store.at(at)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => break,
            () = sleep => {}
            changed = heights.changed() => if changed.is_err() {
                stop.cancelled().await;
            },
        }
    }
    index.indexer.stop();
    index.store.set_indexer(index.indexer.status(index.store.now()));
    Ok(())
}

impl Index {
    /// Tells the indexer of new blocks; when to try again if that failed.
    async fn feed(&mut self) -> Result<Option<Moment>, StoreError> {
        let (store, runtime) = (Arc::clone(&self.store), self.store.setup.runtime);
        let failed = |e: ChainError| {
            tracing::warn!(module = "runtime/history/indexer", runtime_id = %runtime, err = %e, "failed to watch blocks");
            Some(self.store.now() + RETRY)
        };
        let Some(mut follower) = self.follower.take() else {
            return Ok(match blocking(move || newest(&*store.setup.chain, &runtime)).await? {
                Ok(Some(block)) => {
                    self.fed = block.consensus_height;
                    self.give(vec![block]);
                    None
                }
                Ok(None) => None,
                Err(e) => failed(e),
            });
        };
        if self.store.history.last_consensus_height() < self.fed {
            // What the indexer has is not in the history yet.
            self.follower = Some(follower);
            return Ok(None);
        }
        let batch = i64::from(self.batch);
        let (follower, found) = blocking(move || {
            let found = follower.next(&*store.setup.chain, &store.history, batch);
            (follower, found)
        })
        .await?;
        self.follower = Some(follower);
        match found {
            Ok(blocks) => {
                self.fed = blocks.last().map_or(self.fed, |b| b.consensus_height);
                self.give(blocks);
                Ok(None)
            }
            Err(e) => Ok(failed(e)),
        }
    }

    fn give(&mut self, blocks: Vec<AnnotatedBlock>) {
        for block in blocks {
            // Never more at once than the indexer takes.
            if let Err(e) = self.indexer.new_block(block) {
                tracing::error!(module = "runtime/history/indexer", runtime_id = %self.store.setup.runtime, err = %e,
                    "indexer stopped");
            }
        }
    }

    /// Does what the indexer says; whether it said anything.
    async fn step(&mut self, now: Moment) -> Result<bool, StoreError> {
        let (store, runtime) = (Arc::clone(&self.store), self.store.setup.runtime);
        let warn = |e: &IndexError| {
            tracing::warn!(module = "runtime/history/indexer", runtime_id = %runtime, err = %chain_of(e),
                "failed to index blocks");
        };
        match self.indexer.poll(now, self.store.setup.chain.last_retained()) {
            Action::Wait => return Ok(false),
            Action::Reindex { from, to } => {
                tracing::debug!(module = "runtime/history/indexer", runtime_id = %runtime, from, to, "reindexing blocks");
                let done = blocking(move || reindex(&*store.setup.chain, &store.history, from, to)).await?;
                let done = done.inspect_err(warn).ok().map(|last| (to, last));
                self.indexer.reindexed(self.store.now(), done);
            }
            Action::Commit(blocks) => {
                let (blocks, done) = blocking(move || {
                    let done = store.history.commit(&blocks);
                    (blocks, done)
                })
                .await?;
                let done = done.map_err(IndexError::from).inspect_err(warn);
                self.indexer.committed(self.store.now(), &blocks, done.is_ok());
                if done.is_ok() {
                    self.committed(&blocks);
                }
            }
            Action::Initialized => {
                tracing::info!(module = "runtime/history/indexer", runtime_id = %runtime, "reindex completed");
                self.follower = Some(Follower::default());
                self.store.history.set_initialized();
                if self.store.state.is_none() {
                    self.store.set_initialized();
                }
            }
        }
        Ok(true)
    }

    /// Notes the time between blocks as they came.
    fn committed(&mut self, blocks: &[AnnotatedBlock]) {
        for _ in blocks {
            if let Some(before) = self.last.replace(Instant::now()) {
                table::ROOTHASH_BLOCK_INTERVAL.with(&[&self.store.label]).observe_time(before.elapsed());
            }
        }
        self.store.nudge_availability();
    }
}
