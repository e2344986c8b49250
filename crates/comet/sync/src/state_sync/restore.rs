//! One run of restoring: from the peers' offers to the application's state.
//!
//! Reference: `cometbft:statesync/syncer.go`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use comet_chain::app::{ApplyChunkOutcome, ApplyChunkResult, OfferSnapshotResult, Snapshot};
use comet_chain::state::State;
use comet_core::PeerId;
use comet_store::SharedApp;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;
use wire_cometbft::Message;
use wire_cometbft::block::Commit;
use wire_cometbft::statesync::{ChunkRequest, ChunkResponse, StatesyncMessage, StatesyncMessageSum};

use super::chunks::{Chunk, ChunkQueue};
use super::pool::SnapshotPool;
use super::provider::{StateProvider, StateProviderError};
use super::{Restored, StateSyncConfig, StateSyncError};
use crate::light::LightClientError;

/// How often the fetcher looks for late chunks.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Name of the folder of chunks within the one of the configuration.
const CHUNK_DIR: &str = "state-sync-chunks";

/// Why a snapshot was not restored, if another one may be.
#[derive(Debug)]
enum Verdict {
    Reject,
    RejectFormat,
    RejectSenders,
    Over,
}

enum Attempt {
    Done(Box<Restored>),
    Again(Verdict),
}

struct Inner {
    pool: SnapshotPool,
    /// The snapshot being restored and its chunks.
    active: Option<(Snapshot, ChunkQueue)>,
}

/// A run.
pub(super) struct Restore {
    config: StateSyncConfig,
    app: SharedApp,
    trust: Arc<dyn StateProvider>,
    inner: Mutex<Inner>,
    /// A chunk came in, or one is wanted again.
    changed: Notify,
}

fn upper_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn chunk_request(snapshot: &Snapshot, index: u32) -> Bytes {
    let request = ChunkRequest { height: snapshot.height, format: snapshot.format, index };
    StatesyncMessage { sum: Some(StatesyncMessageSum::ChunkRequest(request)) }.encode_to_vec().into()
}

/// Whether trying other snapshots is of no use.
fn is_final(error: &StateProviderError) -> bool {
    matches!(error, StateProviderError::Light(LightClientError::NoWitnesses | LightClientError::Store(_)))
}

impl Restore {
    pub(super) fn new(config: StateSyncConfig, app: SharedApp, trust: Arc<dyn StateProvider>) -> Self {
        let inner = Mutex::new(Inner { pool: SnapshotPool::default(), active: None });
        Self { config, app, trust, inner, changed: Notify::new() }
    }

    pub(super) fn gone(&self, peer: &PeerId) {
        let mut inner = self.inner.lock();
        inner.pool.remove_peer(peer);
        if let Some((_, queue)) = &mut inner.active {
            queue.forget_requests(peer);
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    pub(super) fn reject_peer(&self, peer: &PeerId) {
        self.inner.lock().pool.reject_peer(peer);
    }

    pub(super) fn offered(&self, peer: &PeerId, snapshot: Snapshot) {
        let (height, format) = (snapshot.height, snapshot.format);
        if self.inner.lock().pool.add(peer, snapshot) {
            tracing::info!(height, format, peer = %peer.0, "snapshot discovered");
        }
    }

    /// Takes a chunk from a peer. Blocks for as long as writing a file takes.
    pub(super) fn chunk(&self, peer: &PeerId, response: ChunkResponse) {
        let mut inner = self.inner.lock();
        if inner.pool.is_rejected(peer) {
            return;
        }
        let Some((snapshot, queue)) = &mut inner.active else {
            return;
        };
        if (response.height, response.format) != (snapshot.height, snapshot.format) {
            return;
        }
        if response.missing {
            if queue.missing(response.index, peer) {
                let snapshot = snapshot.clone();
                inner.pool.lacks(peer, &snapshot);
            }
        } else if let Err(error) = queue.store(response.index, &response.chunk, peer) {
            // The application waits for it until it times out.
            tracing::error!(index = response.index, %error, "chunk cannot be stored");
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// Tries snapshots, best first, until one is restored. `discover` asks all peers for snapshots, `send` sends a message
    /// to one.
    pub(super) async fn run(
        &self,
        discover: impl Fn(),
        send: impl Fn(&PeerId, Bytes) -> bool,
    ) -> Result<Restored, StateSyncError> {
        discover();
        tokio::time::sleep(self.config.discovery).await;
        loop {
            let best = self.inner.lock().pool.best().cloned();
            let Some(snapshot) = best else {
                tracing::info!("no snapshots known; asking again");
                discover();
                tokio::time::sleep(self.config.discovery).await;
                continue;
            };
            let (height, format) = (snapshot.height, snapshot.format);
            tracing::info!(height, format, chunks = snapshot.chunks, "trying snapshot");
            let result = self.attempt(&snapshot, &send).await;
            self.inner.lock().active = None;
            match result? {
                Attempt::Done(restored) => {
                    tracing::info!(height, "snapshot restored");
                    return Ok(*restored);
                }
                Attempt::Again(verdict) => {
                    tracing::warn!(height, format, ?verdict, "snapshot not restored");
                    self.judge(&snapshot, verdict);
                }
            }
        }
    }

    fn judge(&self, snapshot: &Snapshot, verdict: Verdict) {
        let pool = &mut self.inner.lock().pool;
        match verdict {
            Verdict::Reject | Verdict::Over => pool.reject(snapshot),
            Verdict::RejectFormat => pool.reject_format(snapshot.format),
            Verdict::RejectSenders => {
                for peer in pool.peers(snapshot) {
                    pool.reject_peer(&peer);
                }
                // In case it was in nobody's hands any more.
                pool.reject(snapshot);
            }
        }
    }

    async fn attempt(
        &self,
        snapshot: &Snapshot,
        send: &impl Fn(&PeerId, Bytes) -> bool,
    ) -> Result<Attempt, StateSyncError> {
        let reject = |reason: String| {
            tracing::info!(height = snapshot.height, reason, "snapshot rejected");
            Ok(Attempt::Again(Verdict::Reject))
        };
        let app_hash = match timeout(self.config.verify_timeout, self.trust.app_hash(snapshot.height)).await {
            Ok(Ok(app_hash)) => app_hash,
            Ok(Err(error)) if is_final(&error) => return Err(error.into()),
            Ok(Err(error)) => return reject(error.to_string()),
            Err(_) => return reject("header could not be verified in time".into()),
        };
        if let Some(verdict) = self.offer(snapshot, &app_hash).await? {
            return Ok(Attempt::Again(verdict));
        }
        let queue = ChunkQueue::new(&self.chunk_dir(snapshot), snapshot.chunks)?;
        self.inner.lock().active = Some((snapshot.clone(), queue));

        let work = async {
            let (state, commit) = match timeout(self.config.verify_timeout, self.verified(snapshot.height)).await {
                Ok(Ok(verified)) => verified,
                Ok(Err(error)) if is_final(&error) => return Err(error.into()),
                Ok(Err(error)) => return reject(error.to_string()),
                Err(_) => return reject("state could not be verified in time".into()),
            };
            if let Some(verdict) = self.apply().await? {
                return Ok(Attempt::Again(verdict));
            }
            self.check_app(snapshot, &app_hash, state.version.app)?;
            Ok(Attempt::Done(Box::new(Restored { state, commit })))
        };
        tokio::select! {
            result = work => result,
            () = self.fetch(snapshot, send) => Err(StateSyncError::Worker),
        }
    }

    fn chunk_dir(&self, snapshot: &Snapshot) -> PathBuf {
        self.config.temp_dir.join(format!("{CHUNK_DIR}-{}-{}", snapshot.height, snapshot.format))
    }

    async fn verified(&self, height: u64) -> Result<(State, Commit), StateProviderError> {
        Ok((self.trust.state(height).await?, self.trust.commit(height).await?))
    }

    async fn offer(&self, snapshot: &Snapshot, app_hash: &[u8]) -> Result<Option<Verdict>, StateSyncError> {
        let (app, offered, app_hash) = (Arc::clone(&self.app), snapshot.clone(), app_hash.to_vec());
        let work = tokio::task::spawn_blocking(move || app.lock().snapshots().offer(&offered, &app_hash));
        match work.await.map_err(|_| StateSyncError::Worker)?? {
            OfferSnapshotResult::Accept => Ok(None),
            OfferSnapshotResult::Abort => Err(StateSyncError::Aborted),
            OfferSnapshotResult::Reject => Ok(Some(Verdict::Reject)),
            OfferSnapshotResult::RejectFormat => Ok(Some(Verdict::RejectFormat)),
            OfferSnapshotResult::RejectSender => Ok(Some(Verdict::RejectSenders)),
        }
    }

    /// Keeps chunks coming; never ends.
    async fn fetch(&self, snapshot: &Snapshot, send: &impl Fn(&PeerId, Bytes) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            for (index, peer) in self.requests(snapshot) {
                let _sent = send(&peer, chunk_request(snapshot, index));
            }
            // Late ones are looked for even if nothing comes in.
            let _woken = timeout(LOOK_EVERY, changed).await;
        }
    }

    /// What is to be asked of whom now.
    fn requests(&self, snapshot: &Snapshot) -> Vec<(u32, PeerId)> {
        let now = Instant::now();
        let inner = &mut *self.inner.lock();
        let Some((_, queue)) = &mut inner.active else {
            return Vec::new();
        };
        let mut requests = Vec::new();
        let overdue = now.checked_sub(self.config.chunk_retry).map(|deadline| queue.overdue(deadline));
        for (index, asked) in overdue.unwrap_or_default() {
            if let Some(peer) = inner.pool.pick(snapshot, &asked) {
                queue.asked(index, peer.clone(), now);
                requests.push((index, peer));
            }
        }
        while queue.open_requests() < self.config.fetchers.max(1) {
            let Some(index) = queue.wanted() else { break };
            let Some(peer) = inner.pool.pick(snapshot, &[]) else { break };
            queue.asked(index, peer.clone(), now);
            requests.push((index, peer));
        }
        requests
    }

    /// The next chunk once it is there; `None` if it does not come in time or all are applied.
    async fn next_chunk(&self) -> Result<Option<Chunk>, StateSyncError> {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                {
                    let inner = self.inner.lock();
                    match &inner.active {
                        Some((_, queue)) if !queue.is_done() => {
                            if let Some(chunk) = queue.load_next()? {
                                return Ok(Some(chunk));
                            }
                        }
                        _ => return Ok(None),
                    }
                }
                changed.await;
            }
        };
        timeout(self.config.chunk_timeout, wait).await.unwrap_or(Ok(None))
    }

    /// Has the application take every chunk.
    async fn apply(&self) -> Result<Option<Verdict>, StateSyncError> {
        let (mut restarts, mut again) = (0, 0);
        loop {
            let Some(chunk) = self.next_chunk().await? else {
                let done = self.inner.lock().active.as_ref().is_some_and(|(_, queue)| queue.is_done());
                return Ok((!done).then_some(Verdict::Over));
            };
            let (app, index) = (Arc::clone(&self.app), chunk.index);
            let work = tokio::task::spawn_blocking(move || {
                app.lock().snapshots().apply_chunk(chunk.index, &chunk.bytes, &chunk.sender.0)
            });
            let ApplyChunkResult { outcome, refetch_chunks, reject_senders } =
                work.await.map_err(|_| StateSyncError::Worker)??;
            tracing::debug!(index, ?outcome, "chunk applied");
            {
                let inner = &mut *self.inner.lock();
                let Some((_, queue)) = &mut inner.active else {
                    return Ok(Some(Verdict::Over));
                };
                match outcome {
                    ApplyChunkOutcome::Accept => queue.applied(index),
                    ApplyChunkOutcome::Abort => return Err(StateSyncError::Aborted),
                    ApplyChunkOutcome::Retry => again += 1,
                    ApplyChunkOutcome::RetrySnapshot => restarts += 1,
                    ApplyChunkOutcome::RejectSnapshot => {
                        return Ok(Some(Verdict::Reject));
                    }
                }
                if outcome == ApplyChunkOutcome::RetrySnapshot {
                    queue.restart();
                }
                refetch_chunks.into_iter().for_each(|index| queue.refetch(index));
                for sender in reject_senders.iter().filter(|sender| !sender.is_empty()) {
                    let sender = PeerId::new(sender);
                    tracing::warn!(peer = %sender.0, "application rejects the sender of a chunk");
                    inner.pool.reject_peer(&sender);
                    queue.discard_sender(&sender);
                }
            }
            self.changed.notify_waiters();
            if outcome == ApplyChunkOutcome::Accept {
                again = 0;
            }
            if restarts > self.config.retries || again > self.config.retries {
                tracing::warn!("application wants too many retries");
                return Ok(Some(Verdict::Reject));
            }
            if outcome == ApplyChunkOutcome::RetrySnapshot
                && let Some(verdict) = self.offer_again().await?
            {
                return Ok(Some(verdict));
            }
        }
    }

    /// A snapshot that starts over is offered again, as in the reference.
    async fn offer_again(&self) -> Result<Option<Verdict>, StateSyncError> {
        let snapshot = self.inner.lock().active.as_ref().map(|(snapshot, _)| snapshot.clone());
        let Some(snapshot) = snapshot else {
            return Ok(Some(Verdict::Over));
        };
        let app_hash = self.trust.app_hash(snapshot.height).await?;
        self.offer(&snapshot, &app_hash).await
    }

    /// The application must now be where the chain says.
    fn check_app(&self, snapshot: &Snapshot, app_hash: &[u8], version: u64) -> Result<(), StateSyncError> {
        let info = self.app.lock().info();
        if info.app_version != version {
            return Err(StateSyncError::AppVersion { expected: version, got: info.app_version });
        }
        if info.last_app_hash != app_hash || u64::try_from(info.last_height) != Ok(snapshot.height) {
            return Err(StateSyncError::AppState {
                height: snapshot.height,
                expected: upper_hex(app_hash),
                got_height: info.last_height,
                got: upper_hex(&info.last_app_hash),
            });
        }
        Ok(())
    }
}
