//! Submitting a transaction and waiting until it is in a block.
//!
//! Reference: `oasis-core:go/consensus/cometbft/full/full.go` (`submitTx`, `broadcastTxRaw`).

use std::sync::Arc;
use std::time::Duration;

use apps_core::submit::{BoxFuture, Included, SubmitError, TransactionSubmitter};
use bytes::Bytes;
use comet_chain::app::CheckResult;
use comet_pools::{CheckOutcome, DropReason, DroppedTx, PoolError, TxPool};
use comet_store::{BlockStore, ChainStore, Executor, NewBlock};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use wire_cometbft::merkle::{Hash, sha256};

/// Longest wait for a transaction that is in the pool to be in a block, by default.
pub const DEFAULT_SUBMIT_TIMEOUT: Duration = Duration::from_secs(600);
/// Codespace of the consensus module's errors.
pub const CONSENSUS_MODULE: &str = "consensus";
/// Code of the consensus module for a transaction seen before.
pub const DUPLICATE_TX_CODE: u32 = 5;

/// Submits transactions through this node's pool. Cheap to clone.
#[derive(Clone)]
pub struct Submitter {
    pool: Arc<TxPool>,
    executor: Arc<Executor>,
    timeout: Duration,
    stop: CancellationToken,
}

impl Submitter {
    pub(crate) fn new(pool: Arc<TxPool>, executor: Arc<Executor>, timeout: Duration, stop: CancellationToken) -> Self {
        Self { pool, executor, timeout, stop }
    }

    async fn wait(&self, tx: Vec<u8>) -> Result<Included, SubmitError> {
        let hash = sha256(&tx);
        // Both before the check, so that nothing is missed.
        let blocks = self.executor.subscribe();
        let dropped = self.pool.subscribe_dropped();
        let from = self.executor.blocks().height();
        taken(self.pool.submit(Bytes::from(tx.clone()), None).await)?;
        let included = self.included(&tx, blocks, from);
        let outcome = async {
            tokio::select! {
                biased;
                included = included => included,
                // The block that holds it may be on its way still.
                invalidated = invalidated(&hash, dropped) => Err(invalidated),
                () = self.stop.cancelled() => Err(SubmitError::Unavailable("node is shutting down".into())),
            }
        };
        tokio::time::timeout(self.timeout, outcome).await.unwrap_or_else(|_| {
            let seconds = self.timeout.as_secs();
            Err(SubmitError::Unavailable(format!("not in a block after {seconds} seconds; it may be still")))
        })
    }

    /// The block, after the one of height `seen`, that holds the transaction.
    async fn included(
        &self,
        tx: &[u8],
        mut blocks: Receiver<Arc<NewBlock>>,
        mut seen: i64,
    ) -> Result<Included, SubmitError> {
        loop {
            match blocks.recv().await {
                Ok(new) => {
                    seen = new.block.header.height;
                    if let Some(included) = find(tx, &new.block.data.txs, &new.results.tx_results, seen) {
                        return Ok(included);
                    }
                }
                Err(RecvError::Lagged(_)) => {
                    let (store, chain) = (Arc::clone(self.executor.blocks()), Arc::clone(self.executor.chain()));
                    let (tx, from) = (tx.to_vec(), seen.saturating_add(1));
                    let search = tokio::task::spawn_blocking(move || search(&tx, &store, &chain, from)).await;
                    if let Ok(Some(included)) = search {
                        return Ok(included);
                    }
                }
                Err(RecvError::Closed) => return Err(SubmitError::Unavailable("node is shutting down".into())),
            }
        }
    }
}

/// Turns the pool's verdict into an error unless the transaction is in the pool now.
fn taken(outcome: CheckOutcome) -> Result<(), SubmitError> {
    let (module, code, message) = match outcome {
        CheckOutcome::Added(_) => return Ok(()),
        CheckOutcome::Rejected(CheckResult { codespace, code, log, .. }) => (codespace, code, log),
        CheckOutcome::Refused { error: PoolError::InCache, .. } => {
            (CONSENSUS_MODULE.to_owned(), DUPLICATE_TX_CODE, "consensus: duplicate transaction".to_owned())
        }
        CheckOutcome::Refused { error, .. } => {
            return Err(SubmitError::Unavailable(format!("cometbft: failed to submit to local mempool: {error}")));
        }
    };
    Err(SubmitError::Refused { module, code, message })
}

/// Ends with the notice that the transaction left the pool without being in a block.
async fn invalidated(hash: &Hash, mut dropped: Receiver<DroppedTx>) -> SubmitError {
    loop {
        let reason = match dropped.recv().await {
            Ok(notice) if notice.hash == *hash => notice.reason,
            // Who lags misses notices; the timeout is left.
            Ok(_) | Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return SubmitError::Unavailable("node is shutting down".into()),
        };
        return match reason {
            DropReason::Invalid(CheckResult { codespace: module, code, log: message, .. }) => {
                SubmitError::Invalidated { module, code, message }
            }
            DropReason::Unfit(error) => SubmitError::Unavailable(error.to_string()),
            DropReason::Evicted => SubmitError::Unavailable("made room for others in the pool".into()),
            DropReason::Expired => SubmitError::Unavailable("waited too long in the pool".into()),
        };
    }
}

fn find(tx: &[u8], txs: &[Vec<u8>], results: &[comet_chain::app::TxResult], height: i64) -> Option<Included> {
    let at = txs.iter().position(|other| other == tx)?;
    Some(Included { height, index: u32::try_from(at).ok()?, result: results.get(at)?.clone() })
}

fn search(tx: &[u8], blocks: &BlockStore, chain: &ChainStore, from: i64) -> Option<Included> {
    (from.max(blocks.base())..=blocks.height()).find_map(|height| {
        let block = blocks.block(height).ok().flatten()?;
        if !block.data.txs.iter().any(|other| other == tx) {
            return None;
        }
        find(tx, &block.data.txs, &chain.results(height).ok().flatten()?.tx_results, height)
    })
}

impl TransactionSubmitter for Submitter {
    fn submit(&self, tx: Vec<u8>) -> BoxFuture<'_, Result<Included, SubmitError>> {
        Box::pin(self.wait(tx))
    }

    fn submit_no_wait(&self, tx: Vec<u8>) -> BoxFuture<'_, Result<(), SubmitError>> {
        Box::pin(async move { taken(self.pool.submit(Bytes::from(tx), None).await) })
    }
}
