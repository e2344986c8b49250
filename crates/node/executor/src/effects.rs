//! What is done for machine and pool, each as a future that ends with something for the task.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base_codec::Bytes;
use base_crypto::ed25519::SecretKey;
use base_prims::{Hash, Namespace};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use mkvs_tree::{Root, RootType, scan_prefix};
use node_workers::{Submission, SubmissionError};
use p2p_net::PeerId;
use p2p_net::api::CallLimits;
use p2p_net::rpc::Client;
use rt_executor::messages::txsync::{self, GET_TXS, GetTxsRequest, GetTxsResponse, MAX_TXS};
use rt_executor::round::{ABORT_TIME, Execution, MAX_FETCH_PAUSE, Store};
use rt_executor::txpool::{CHECK_TIME, Checked, SYNC_WAIT, Tx};
use rt_history::History;
use rt_host::{RuntimeHost, calls};
use rt_storage::{Apply, Storage};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use wire_consensus::roothash::{
    Evidence, ExecutorCommit, ExecutorCommitment, Header, METHOD_EVIDENCE, METHOD_EXECUTOR_COMMIT,
};
use wire_runtime::runtime::{ExecuteTxBatchRequest, ExecuteTxBatchResponse};
use wire_runtime::transaction::{ArtifactKind, Key, PREFIX_TRANSACTION};

use crate::position::Position;
use crate::setup::SYNC_CALL_TIME;

/// First pause between attempts to fetch missing transactions.
const FETCH_PAUSE: Duration = Duration::from_millis(100);
/// Peers asked in an attempt.
const FETCH_PEERS: usize = 8;
/// Peers asked at once: an answer may take as much memory as a frame.
const FETCH_AT_ONCE: usize = 3;
/// How long an answer is waited for before another peer is asked too.
const FETCH_PATIENCE: Duration = Duration::from_millis(250);
/// First pause before a commitment is submitted again, and the longest one.
const COMMIT_PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// How long the submission of a commitment may go on when its round is over: it most likely is in the very block that ended
/// the round, and its outcome tells the next transaction's nonce.
const COMMIT_GRACE: Duration = Duration::from_secs(5);
/// First and longest pause between attempts to let the runtime follow the consensus layer.
const TRUST_PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// Most transactions of a block that are looked for in the pool.
const MAX_USED: usize = 1 << 20;

/// Aborts of the runtime under way; no call begins while there are any.
#[derive(Clone, Default)]
pub(crate) struct Aborts(Arc<watch::Sender<usize>>);

/// An abort that is under way until this is dropped.
pub(crate) struct Aborting(Aborts);

impl Aborts {
    /// One more.
    pub(crate) fn begin(&self) -> Aborting {
        self.0.send_modify(|n| *n = n.saturating_add(1));
        Aborting(self.clone())
    }

    /// Waits until there are none.
    pub(crate) async fn none(&self) {
        let _ = self.0.subscribe().wait_for(|n| *n == 0).await;
    }
}

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.0.send_modify(|n| *n = n.saturating_sub(1));
    }
}

/// Asks the runtime to give up what it does.
pub(crate) async fn abort(host: Arc<dyn RuntimeHost>, _until_done: Aborting) {
    match timeout(ABORT_TIME, host.abort(false)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::error!(module = "worker/executor/committee", err = %error, "failed to abort the runtime");
        }
        Err(_) => tracing::error!(module = "worker/executor/committee", "aborting the runtime takes too long"),
    }
}

/// Lets the runtime execute or schedule a batch; nothing if it fails. `in_runtime` tells whether it has been asked.
pub(crate) async fn execute(
    host: Arc<dyn RuntimeHost>,
    history: Arc<History>,
    aborts: Aborts,
    position: Arc<Position>,
    execution: Execution,
    in_runtime: Arc<AtomicBool>,
) -> (Option<Box<ExecuteTxBatchResponse>>, Duration) {
    aborts.none().await;
    let synced = history.wait_synced(position.chain.block.header.round).await;
    if let Err(error) = synced {
        tracing::error!(module = "worker/executor/committee", err = %error, "state of the round is not available");
        return (None, Duration::ZERO);
    }
    let inputs = execution.inputs.iter().map(|tx| Bytes(tx.data.to_vec())).collect();
    let at = &position.chain;
    let request = ExecuteTxBatchRequest {
        mode: execution.mode,
        consensus_block: at.consensus_block.clone(),
        round_results: Some(position.results.clone()),
        io_root: execution.io_root,
        inputs: Some(inputs),
        in_msgs: position.incoming.clone().into(),
        block: at.block.clone(),
        epoch: at.epoch,
        max_messages: at.max_messages,
    };
    in_runtime.store(true, Ordering::Relaxed);
    let start = Instant::now();
    let result = calls::execute(&*host, request).await;
    let result = result.inspect_err(|error| {
        tracing::error!(module = "worker/executor/committee", runtime_id = %host.id(), round = execution.round, err = %error,
            "error while sending batch processing request to runtime");
    });
    (result.ok(), start.elapsed())
}

/// Lets the runtime check transactions.
pub(crate) async fn check(
    host: Arc<dyn RuntimeHost>,
    history: Arc<History>,
    aborts: Aborts,
    position: Arc<Position>,
    txs: Vec<Tx>,
) -> Checked {
    let round = position.chain.block.header.round;
    match timeout(SYNC_WAIT, history.wait_synced(round)).await {
        Ok(Ok(_)) => {}
        Ok(Err(_)) | Err(_) => return Checked::NotSynced,
    }
    aborts.none().await;
    let inputs = txs.iter().map(|tx| Bytes(tx.data.to_vec())).collect();
    match timeout(CHECK_TIME, calls::check_tx(&*host, position.chain.clone(), inputs)).await {
        Ok(Ok(results)) => Checked::Results(results),
        Ok(Err(error)) => {
            tracing::warn!(module = "runtime/txpool", runtime_id = %host.id(), err = %error, "transaction batch check failed");
            Checked::Failed
        }
        Err(_) => Checked::TimedOut,
    }
}

/// Makes the runtime follow the consensus layer to a height.
pub(crate) async fn sync_runtime(host: Arc<dyn RuntimeHost>, height: u64) {
    let outcome = timeout(SYNC_CALL_TIME, calls::consensus_sync(&*host, height)).await;
    let error = match outcome {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it takes too long".to_owned(),
    };
    tracing::warn!(
        module = "worker/executor/committee",
        height,
        err = error,
        "failed to ask the runtime to sync the latest consensus block"
    );
}

/// Makes the runtime follow the consensus layer for the first time, however often it takes.
pub(crate) async fn trust_sync(host: Arc<dyn RuntimeHost>, height: impl Fn() -> i64) {
    let (mut pause, longest) = TRUST_PAUSE;
    loop {
        let height = u64::try_from(height()).unwrap_or(0);
        let outcome = timeout(SYNC_CALL_TIME, calls::consensus_sync(&*host, height)).await;
        let error = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it takes too long".to_owned(),
        };
        tracing::warn!(module = "worker/executor/committee", runtime_id = %host.id(), height, err = error,
            "runtime failed to sync its light client");
        sleep(pause).await;
        pause = pause.saturating_mul(2).min(longest);
    }
}

/// Asks a peer for transactions; what it sent, if that was asked for.
async fn ask(client: &Client, peer: PeerId, hashes: Vec<Hash>) -> Vec<Tx> {
    let request = GetTxsRequest { hashes: Some(hashes) };
    let failed = |error: &dyn std::fmt::Display| {
        tracing::debug!(module = "worker/executor/committee", peer = %peer, err = %error, "failed to fetch missing transactions");
    };
    // Failed calls count against the peer by themselves.
    let call = client.call::<GetTxsResponse>(peer, GET_TXS, &request, CallLimits::default());
    let (answer, feedback) = match call.await {
        Ok(answered) => answered,
        Err(error) => {
            failed(&error);
            return Vec::new();
        }
    };
    let txs = txsync::verify(&request, answer).unwrap_or_else(|error| {
        failed(&error);
        Vec::new()
    });
    if txs.is_empty() {
        feedback.failure();
    } else {
        feedback.success();
    }
    txs
}

/// Asks peers for transactions until all are there. What comes goes into `found`. The next peer is asked when one has
/// answered, or takes its time.
pub(crate) async fn fetch(client: Client, mut missing: Vec<Hash>, found: mpsc::Sender<Vec<Tx>>) {
    let mut pause = FETCH_PAUSE;
    loop {
        let mut peers = client.peers().into_iter().take(FETCH_PEERS);
        let mut asked = FuturesUnordered::new();
        loop {
            if asked.len() < FETCH_AT_ONCE
                && let Some(peer) = peers.next()
            {
                asked.push(ask(&client, peer.id, missing.iter().take(MAX_TXS).copied().collect()));
            } else if asked.is_empty() {
                break;
            }
            let answer = match timeout(FETCH_PATIENCE, asked.next()).await {
                Ok(Some(txs)) if !txs.is_empty() => txs,
                _ => continue,
            };
            missing.retain(|hash| !answer.iter().any(|tx| tx.hash == *hash));
            if found.send(answer).await.is_err() || missing.is_empty() {
                return;
            }
        }
        sleep(pause).await;
        pause = pause.saturating_mul(2).min(MAX_FETCH_PAUSE);
    }
}

/// Stores the results of a round. Waits for the disk.
pub(crate) fn store(storage: &Storage, runtime: Namespace, store: &Store) -> bool {
    let Some(previous) = store.round.checked_sub(1) else { return false };
    let root = |root_type, version, hash| Root { namespace: runtime, version, root_type, hash };
    let io = Apply {
        start: storage.empty_io(store.round),
        end: root(RootType::IO, store.round, store.io_root),
        log: &store.io_log,
    };
    let state = Apply {
        start: root(RootType::STATE, previous, store.parent_state),
        end: root(RootType::STATE, store.round, store.state_root),
        log: &store.state_log,
    };
    let stored = storage.apply_round(&io, &state);
    if let Err(error) = &stored {
        tracing::error!(module = "worker/executor/committee", runtime_id = %runtime, round = store.round, err = %error,
            "storage failure");
    }
    stored.is_ok()
}

/// Whether the results of a round are stored. Waits for the disk.
pub(crate) fn has_roots(storage: &Storage, round: u64, io_root: Hash, state_root: Hash) -> bool {
    let db = storage.db();
    let has = |root_type, hash| db.has_root(&db.root(root_type, round, hash));
    match (has(RootType::IO, io_root), has(RootType::STATE, state_root)) {
        (Ok(io), Ok(state)) => io && state,
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(module = "worker/executor/committee", round, err = %error, "storage failure");
            false
        }
    }
}

/// Hashes of a block's transactions, once its I/O is there.
pub(crate) async fn used(history: Arc<History>, storage: Arc<Storage>, header: Header) -> Vec<Hash> {
    if history.wait_synced(header.round).await.is_err() {
        return Vec::new();
    }
    let reading = tokio::task::spawn_blocking(move || {
        let [io, _] = rt_storage::roots_of(&header);
        let mut out = Vec::new();
        // What cannot be read (pruned by now, perhaps) stays in the pool until its next check.
        if let Ok(tree) = storage.db().read(&io) {
            let _ = scan_prefix(&tree, &[PREFIX_TRANSACTION], &mut |key, _| {
                if let Some(Key::Transaction { hash, kind: ArtifactKind::Input }) = Key::parse(key) {
                    out.push(hash);
                }
                if out.len() < MAX_USED {
                    std::ops::ControlFlow::Continue(())
                } else {
                    std::ops::ControlFlow::Break(())
                }
            });
        }
        out
    });
    reading.await.unwrap_or_default()
}

/// Whether a transaction was refused for what it says: another attempt would be too.
fn is_refused_for_good(error: &SubmissionError) -> bool {
    use apps_core::submit::SubmitError;
    match error {
        SubmissionError::Submit(SubmitError::Refused { module, .. } | SubmitError::Invalidated { module, .. })
        | SubmissionError::Failed { module, .. } => module.starts_with("roothash"),
        _ => false,
    }
}

/// Submits a commitment until it is in a block, is refused for good, or its round is over.
pub(crate) async fn commit(
    submission: Arc<Submission>,
    key: SecretKey,
    runtime: Namespace,
    commitment: ExecutorCommitment,
    round_over: CancellationToken,
) {
    let round = commitment.header.header.round;
    let body = ExecutorCommit { id: runtime, commits: Some(vec![commitment]) };
    let (mut pause, longest) = COMMIT_PAUSE;
    loop {
        let submitting = submission.submit(&key, METHOD_EXECUTOR_COMMIT, &body);
        let too_late = async {
            round_over.cancelled().await;
            sleep(COMMIT_GRACE).await;
        };
        let outcome = tokio::select! {
            outcome = submitting => outcome,
            () = too_late => return,
        };
        let error = match outcome {
            Ok(_) => {
                tracing::info!(module = "worker/executor/committee", runtime_id = %runtime, round,
                    "executor commit finalized");
                return;
            }
            Err(error) => error,
        };
        if round_over.is_cancelled() {
            tracing::debug!(module = "worker/executor/committee", runtime_id = %runtime, round, err = %error,
                "executor commit came too late");
            return;
        }
        tracing::error!(module = "worker/executor/committee", runtime_id = %runtime, round, err = %error,
            "failed to submit executor commit");
        if is_refused_for_good(&error) {
            return;
        }
        tokio::select! {
            () = sleep(pause) => {}
            () = round_over.cancelled() => return,
        }
        pause = pause.saturating_mul(2).min(longest);
    }
}

/// Submits evidence, once.
pub(crate) async fn give_evidence(submission: Arc<Submission>, key: SecretKey, evidence: Evidence) {
    match submission.submit(&key, METHOD_EVIDENCE, &evidence).await {
        Ok(_) => tracing::info!(module = "worker/executor/committee", "evidence of equivocation submitted"),
        Err(error) => {
            tracing::error!(module = "worker/executor/committee", err = %error, "failed to submit evidence of equivocation");
        }
    }
}

#[cfg(test)]
mod tests {
    use apps_core::submit::SubmitError;

    use super::*;

    #[tokio::test]
    async fn calls_wait_for_all_aborts() {
        let aborts = Aborts::default();
        aborts.none().await;
        let (one, two) = (aborts.begin(), aborts.begin());
        drop(one);
        let waiting = timeout(Duration::from_millis(5), aborts.none()).await;
        assert!(waiting.is_err());
        drop(two);
        aborts.none().await;
    }

    #[test]
    fn only_the_service_itself_refuses_for_good() {
        let failed =
            |module: &str| SubmissionError::Failed { module: module.to_owned(), code: 3, message: String::new() };
        assert!(is_refused_for_good(&failed("roothash")));
        assert!(is_refused_for_good(&failed("roothash/commitment")));
        assert!(!is_refused_for_good(&failed("consensus/transaction")));
        let refused = |module: &str| {
            let module = module.to_owned();
            SubmissionError::Submit(SubmitError::Refused { module, code: 1, message: String::new() })
        };
        assert!(is_refused_for_good(&refused("roothash/commitment")));
        assert!(!is_refused_for_good(&refused("staking")));
    }
}
