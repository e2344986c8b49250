//! Waits for transactions to appear in the rounds of a runtime. Source: `go/worker/client/committee/node.go`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use base_prims::Hash;
use node_executor::Executor;
use parking_lot::Mutex;
use rt_history::{History, artifacts};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use wire_consensus::roothash::Block;
use wire_runtime::client::SubmitTxMetaResponse;

use crate::trees::Trees;

/// Most transactions that are waited for in one runtime at once; further submissions are refused.
pub const MAX_WAITING: usize = 100_000;
/// Rounds whose trees could not be read that are tried again; older ones are given up.
const MAX_FAILED: usize = 256;
/// First pause before they are tried again; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Too many transactions are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_WAITING} transactions are waited for already")]
pub(crate) struct TooManyWaiting;

type Waiters = HashMap<u64, oneshot::Sender<SubmitTxMetaResponse>>;

#[derive(Default)]
struct State {
    waiting: HashMap<Hash, Waiters>,
    count: usize,
    next: u64,
}

/// Transactions that somebody waits for.
#[derive(Default)]
pub(crate) struct Results {
    state: Mutex<State>,
}

/// A transaction that is waited for until this is dropped.
pub(crate) struct Waiting {
    results: Arc<Results>,
    hash: Hash,
    number: u64,
    result: oneshot::Receiver<SubmitTxMetaResponse>,
}

impl Waiting {
    /// Waits for the transaction's round; `None` if the node is stopping.
    pub(crate) async fn result(mut self) -> Option<SubmitTxMetaResponse> {
        (&mut self.result).await.ok()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.results.state.lock();
        let Some(waiters) = state.waiting.get_mut(&self.hash) else { return };
        let was_there = waiters.remove(&self.number).is_some();
        if waiters.is_empty() {
            state.waiting.remove(&self.hash);
        }
        state.count -= usize::from(was_there);
    }
}

impl Results {
    /// Waits for a transaction from now on.
    ///
    /// # Errors
    /// If too many are waited for.
    pub(crate) fn wait(self: &Arc<Self>, hash: Hash) -> Result<Waiting, TooManyWaiting> {
        let mut state = self.state.lock();
        if state.count >= MAX_WAITING {
            return Err(TooManyWaiting);
        }
        let (sender, result) = oneshot::channel();
        let number = state.next;
        state.next += 1;
        state.count += 1;
        state.waiting.entry(hash).or_default().insert(number, sender);
        Ok(Waiting { results: Arc::clone(self), hash, number, result })
    }

    /// Hashes that are waited for.
    fn hashes(&self) -> Vec<Hash> {
        self.state.lock().waiting.keys().copied().collect()
    }

    fn found(&self, hash: &Hash, result: &SubmitTxMetaResponse) {
        let mut state = self.state.lock();
        let waiters = state.waiting.remove(hash).unwrap_or_default();
        state.count -= waiters.len();
        drop(state);
        for waiter in waiters.into_values() {
            // Who does not wait any more misses nothing.
            let _ = waiter.send(result.clone());
        }
    }

    /// Looks through the blocks whose state is there, as they come, until stopped.
    pub(crate) async fn run(
        self: Arc<Self>,
        history: Arc<History>,
        trees: Trees,
        executor: Arc<Executor>,
        stop: CancellationToken,
    ) {
        let mut blocks = history.watch_synced();
        let mut failed: VecDeque<Block> = VecDeque::new();
        let mut pause = FIRST_PAUSE;
        loop {
            let next = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                next = blocks.next() => next,
                () = tokio::time::sleep(pause), if !failed.is_empty() => {
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    let again = std::mem::take(&mut failed);
                    for block in again {
                        self.check(&trees, &executor, block, &mut failed).await;
                    }
                    continue;
                }
            };
            match next {
                Ok(Some(block)) => {
                    if let Some(block) = block.block {
                        self.check(&trees, &executor, block, &mut failed).await;
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(module = "worker/client/committee", err = %error, "history of the runtime cannot be read");
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(FIRST_PAUSE) => {}
                    }
                }
            }
            if failed.is_empty() {
                pause = FIRST_PAUSE;
            }
        }
    }

    async fn check(&self, trees: &Trees, executor: &Executor, block: Block, failed: &mut VecDeque<Block>) {
        let wanted = self.hashes();
        if wanted.is_empty() || block.header.io_root.is_empty_hash() {
            return;
        }
        let [io_root, _] = rt_storage::roots_of(&block.header);
        let round = block.header.round;
        match trees.read(io_root, move |tree| artifacts::some_transactions(tree, &wanted)).await {
            Ok(found) => {
                let hashes: Vec<Hash> = found.keys().copied().collect();
                executor.used(&hashes);
                for (hash, tx) in found {
                    let output = tx.output.map(base_codec::Bytes);
                    let batch_order = tx.batch_order;
                    self.found(&hash, &SubmitTxMetaResponse { output, round, batch_order, check_tx_error: None });
                }
            }
            Err(error) => {
                tracing::error!(module = "worker/client/committee", err = %error, round, "error checking block");
                if failed.len() >= MAX_FAILED {
                    failed.pop_front();
                }
                failed.push_back(block);
            }
        }
    }
}
