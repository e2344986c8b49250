//! The consensus layer of this node, as workers and services see it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use apps_committees::roothash::query;
use apps_core::events;
use apps_core::submit::{BoxFuture, Included, SubmitError};
use base_crypto::context::ChainContext;
use base_prims::PublicKey;
use comet_engine::{EngineHandle, Phase};
use mkvs_tree::KvRead;
use node_app::{Queries, QueryError};
use node_rpc::Engine;
use node_workers::{Blocks, Chain, ChainError};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use wire_cometbft::Time;
use wire_consensus::roothash::{Event, ExecutorCommit};
use wire_consensus::transaction::Transaction;

/// A node whose newest block is older than this still syncs, in seconds. Source: `go/consensus/cometbft/full`.
const MAX_AGE_SECONDS: i64 = 60;

/// State and engine of this node.
pub struct LocalChain {
    queries: Queries,
    engine: Arc<dyn Engine>,
    context: ChainContext,
    heights: watch::Receiver<i64>,
    synced: watch::Receiver<bool>,
}

/// Whether the engine has caught up: it takes part in rounds, and its newest block is recent.
pub(crate) fn caught_up(queries: &Queries, engine: &EngineHandle, stop: CancellationToken) -> watch::Receiver<bool> {
    let (synced, synced_watch) = watch::channel(false);
    let (mut latest, mut phase) = (queries.watch(), engine.watch_phase());
    tokio::spawn(async move {
        loop {
            let in_rounds = *phase.borrow_and_update() == Phase::Consensus;
            let newest = *latest.borrow_and_update();
            // A node that falls behind later stays synced, as in the reference.
            if in_rounds && newest.height > 0 && is_recent(newest.time) {
                synced.send_replace(true);
            }
            tokio::select! {
                changed = latest.changed() => if changed.is_err() { return },
                changed = phase.changed() => if changed.is_err() { return },
                () = stop.cancelled() => return,
            }
        }
    });
    synced_watch
}

impl LocalChain {
    /// Follows the state until stopped.
    pub fn new(
        queries: Queries,
        engine: Arc<dyn Engine>,
        synced: watch::Receiver<bool>,
        stop: CancellationToken,
    ) -> Self {
        let context = queries.genesis().chain_context();
        let (heights, height_watch) = watch::channel(queries.latest().height);
        let mut latest = queries.watch();
        tokio::spawn(async move {
            loop {
                let newest = latest.borrow_and_update().height;
                heights.send_replace(newest);
                tokio::select! {
                    changed = latest.changed() => if changed.is_err() { stop.cancelled().await },
                    () = stop.cancelled() => return,
                }
            }
        });
        Self { queries, engine, context, heights: height_watch, synced }
    }

    /// State at any height.
    pub fn queries(&self) -> &Queries {
        &self.queries
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }
}

/// Whether the time of a block is about now.
fn is_recent(time: Time) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    now.cast_signed().saturating_sub(time.seconds()) < MAX_AGE_SECONDS
}

fn error_of(error: QueryError) -> ChainError {
    match error {
        QueryError::NoBlocks => ChainError::NoBlocks,
        QueryError::Height { height, .. } => ChainError::NoState(height),
        error => ChainError::Service(error.to_string()),
    }
}

impl Chain for LocalChain {
    fn latest_height(&self) -> i64 {
        self.queries.latest().height
    }

    fn state(&self, height: i64) -> Result<Box<dyn KvRead + Send>, ChainError> {
        Ok(Box::new(self.queries.state(height).map_err(error_of)?))
    }

    fn estimate_gas(&self, signer: PublicKey, tx: &Transaction) -> Result<u64, ChainError> {
        self.queries.estimate_gas(signer, tx).map_err(error_of)
    }

    fn submit(&self, tx: Vec<u8>) -> BoxFuture<'_, Result<Included, SubmitError>> {
        self.engine.submitter().submit(tx)
    }

    fn heights(&self) -> watch::Receiver<i64> {
        self.heights.clone()
    }

    fn synced(&self) -> watch::Receiver<bool> {
        self.synced.clone()
    }

    fn context(&self) -> &ChainContext {
        &self.context
    }
}

impl Blocks for LocalChain {
    fn genesis_height(&self) -> i64 {
        self.queries.genesis().height
    }

    fn last_retained(&self) -> i64 {
        self.engine.blocks().base().max(self.genesis_height())
    }

    fn roothash_events(&self, height: i64) -> Result<Vec<Event>, ChainError> {
        let failed = |error: &dyn std::error::Error| ChainError::Service(error.to_string());
        let block = self.engine.blocks().block(height).map_err(|e| failed(&e))?;
        let results = self.engine.blocks().results(height).map_err(|e| failed(&e))?;
        let (Some(block), Some(results)) = (block, results) else { return Err(ChainError::NoState(height)) };
        Ok(events::of_block(&block.data.txs, &results, |tx, event| query::events(height, tx, event))?)
    }

    fn commitments(&self) -> broadcast::Receiver<Arc<ExecutorCommit>> {
        self.queries.watch_commitments()
    }
}
