//! Bringing the state to the newest block: where to begin, checkpoints, differences. Source:
//! `go/worker/storage/committee/worker.go`, `checkpoint_sync.go`.
//!
//! The state machines are moved to a thread that may block for each step, and back; what peers are asked runs meanwhile.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use apps_committees::roothash::query;
use base_metrics::table;
use base_service::log_event;
use mkvs_tree::WriteLog;
use node_workers::ChainError;
use p2p_net::api::PeerId;
use p2p_net::rpc::Feedback;
use rt_history::{History, HistoryError, Moment};
use rt_storage::{
    CheckpointSync, ChunkOutcome, ChunkRequest, DiffSync, Effect, Event, FetchDiff, FetchId, LIST_TIME,
    MAX_IN_FLIGHT_ROUNDS, Progress, RETRY_DELAY, Start, Status, Storage, Synced, Verdict, start,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wire_consensus::roothash::{Header, ROUND_LATEST};

use crate::error::{StoreError, chain_of};
use crate::fetch::Peers;
use crate::store::{RuntimeStore, blocking, metric};

const MODULE: &str = "worker/storage/committee";
/// Most differences or chunks fetched at once, whatever the configuration says.
const MAX_FETCHERS: usize = 64;

/// A block's header, if the history has it.
fn header(history: &History, round: u64) -> Option<Header> {
    if round == ROUND_LATEST {
        return None;
    }
    match history.committed_block(round) {
        Ok(block) => block.block.map(|b| b.header),
        Err(HistoryError::NotFound) => None,
        Err(e) => {
            tracing::error!(module = MODULE, runtime_id = %history.runtime(), round, err = %e, "failed to read block");
            None
        }
    }
}

/// The runtime's first block.
pub(crate) fn genesis(store: &RuntimeStore) -> Result<Header, StoreError> {
    let failed = |source| StoreError::Chain { what: "genesis block", source };
    let chain = &store.setup.chain;
    let state = chain.state(chain.latest_height()).map_err(failed)?;
    let block = query::genesis_block(&*state, &store.setup.runtime).map_err(|e| failed(ChainError::from(e)))?;
    Ok(block.header)
}

/// Whatever is worked on in steps.
#[derive(Clone)]
struct Context {
    store: Arc<RuntimeStore>,
    storage: Storage,
    peers: Option<Peers>,
    stop: CancellationToken,
}

/// Follows the chain until stopped.
pub(crate) async fn run(store: Arc<RuntimeStore>, stop: CancellationToken) -> Result<(), StoreError> {
    let mut indexed = store.history.initialized();
    tokio::select! {
        () = stop.cancelled() => return Ok(()),
        _ = indexed.wait_for(|done| *done) => {}
    }
    let storage = (*store.stateful()?.storage).clone();
    let setup = &store.setup;
    let peers = setup.p2p.as_ref().map(|p2p| Peers::new(p2p, &setup.chain_context, &setup.runtime));
    let context = Context { store, storage, peers, stop };
    context.follow().await
}

impl Context {
    async fn follow(&self) -> Result<(), StoreError> {
        let store = &self.store;
        tracing::info!(module = MODULE, runtime_id = %store.setup.runtime, "starting");
        store.set_status(Status::Starting);
        let theirs = Arc::clone(store);
        let genesis = blocking(move || genesis(&theirs)).await??;

        store.set_status(Status::InitializingGenesis);
        let (start, gap) = self.begin(&genesis).await?;
        store.set_status(Status::SyncStartCheck);
        let mut synced = start.synced;
        if let Some(synced) = synced {
            self.announce(synced).await?;
        }
        tracing::info!(module = MODULE, runtime_id = %store.setup.runtime, genesis_round = genesis.round,
            last_synced = synced.map(|s| s.round), "worker initialized");

        let disabled = store.setup.config.storage.checkpoint_sync_disabled;
        if start.wants_checkpoint(disabled) || gap {
            store.set_status(Status::SyncingCheckpoints);
            let required = start.checkpoint_required || gap;
            if let Some(reached) = self.checkpoints(genesis.round, disabled && !gap, required).await? {
                self.announce(reached).await?;
                synced = Some(reached);
            }
            if self.stop.is_cancelled() {
                return Ok(());
            }
        }
        store.set_initialized();
        tracing::info!(module = MODULE, runtime_id = %store.setup.runtime, "initialized");
        store.force_checkpoint(genesis.round);

        store.set_status(Status::SyncingRounds);
        self.rounds(genesis.round, synced.map(|s| s.round)).await
    }

    /// Where to go on; and whether blocks are missing after that, which only a checkpoint can skip.
    async fn begin(&self, genesis: &Header) -> Result<(Start, bool), StoreError> {
        let (storage, genesis, history) = (self.storage.clone(), genesis.clone(), Arc::clone(&self.store.history));
        blocking(move || {
            // A restore that was not finished is of no use.
            storage.db().abort_multipart()?;
            let earliest = match history.earliest_block() {
                Ok(block) => block.block.map(|b| b.header),
                Err(HistoryError::NotFound) => None,
                Err(e) => return Err(e.into()),
            };
            let mut block = |round| header(&history, round);
            let start = start(&storage, &genesis, &mut block, earliest.as_ref())?;
            let gap = start.synced.is_some_and(|synced| {
                let next = synced.round.saturating_add(1);
                history.last_round().is_some_and(|last| last >= next) && block(next).is_none()
            });
            Ok((start, gap))
        })
        .await?
    }

    /// Tells the history that a round is final, then everybody else.
    async fn announce(&self, synced: Synced) -> Result<(), StoreError> {
        let store = Arc::clone(&self.store);
        blocking(move || store.reached(synced)).await??;
        self.store.set_synced(synced);
        Ok(())
    }

    /// Restores a checkpoint; the round reached, if one was of use.
    async fn checkpoints(
        &self,
        genesis: u64,
        only_genesis: bool,
        required: bool,
    ) -> Result<Option<Synced>, StoreError> {
        let runtime = self.store.setup.runtime;
        let mut attempt = 0;
        loop {
            let reached = match &self.peers {
                Some(peers) => self.restore(peers, genesis, only_genesis).await?,
                None => None,
            };
            attempt += 1;
            if let Some(reached) = reached {
                // What was here before does not lead to it: without gaps there is only what comes now.
                let (storage, stop) = (self.storage.clone(), self.stop.clone());
                blocking(move || storage.prune_before(reached.round, &mut || !stop.is_cancelled())).await??;
                tracing::info!(module = MODULE, runtime_id = %runtime, round = reached.round,
                    log_event = log_event::CHECKPOINT_SYNC_SUCCESS, "checkpoint sync succeeded");
                return Ok(Some(reached));
            }
            if self.stop.is_cancelled() {
                return Ok(None);
            }
            if required {
                tracing::info!(module = MODULE, runtime_id = %runtime, attempt, "checkpoint sync required, retrying");
            } else if attempt > 1 {
                tracing::info!(module = MODULE, runtime_id = %runtime, "checkpoint sync failed");
                return Ok(None);
            } else {
                tracing::info!(module = MODULE, runtime_id = %runtime, "first checkpoint sync failed, trying once more");
            }
            tokio::select! {
                () = self.stop.cancelled() => return Ok(None),
                () = tokio::time::sleep(RETRY_DELAY) => {}
            }
        }
    }

    /// One attempt to restore a checkpoint of those that peers offer now.
    async fn restore(&self, peers: &Peers, genesis: u64, only_genesis: bool) -> Result<Option<Synced>, StoreError> {
        let listed = tokio::select! {
            () = self.stop.cancelled() => return Ok(None),
            listed = tokio::time::timeout(LIST_TIME, peers.checkpoints()) => listed.unwrap_or_default(),
        };
        tracing::info!(module = MODULE, runtime_id = %self.store.setup.runtime, peers = listed.len(),
            checkpoints = listed.iter().map(|(_, all)| all.len()).sum::<usize>(), "checkpoints of peers");
        let (storage, history) = (self.storage.clone(), Arc::clone(&self.store.history));
        let fetchers = self.fetchers();
        let (mut sync, mut events) = blocking(move || {
            let mut events = Vec::new();
            let mut header = |round| header(&history, round);
            let sync = CheckpointSync::new(storage, fetchers, genesis, only_genesis, listed, &mut header, &mut events);
            (sync, events)
        })
        .await?;
        let mut fetches = JoinSet::new();
        let mut feedbacks: HashMap<PeerId, Feedback> = HashMap::new();
        let mut failures: HashMap<PeerId, u32> = HashMap::new();
        let mut outcome = None;
        loop {
            let (back, made, progress) = blocking(move || {
                let mut events = Vec::new();
                let progress = outcome
                    .map_or(Ok(()), |outcome| sync.chunk(outcome, &mut events))
                    .and_then(|()| sync.poll(&mut events));
                (sync, events, progress)
            })
            .await?;
            sync = back;
            events.extend(made);
            for event in events.drain(..) {
                match event {
                    Event::Fetch(wanted) => {
                        let (peers, order) = (peers.clone(), order(&wanted, &failures));
                        fetches.spawn(async move { (wanted.id, peers.chunk(&wanted.chunk, &order).await) });
                    }
                    Event::Judge(peer, verdict) => {
                        judge(feedbacks.get(&peer), verdict);
                        if verdict == Verdict::Failure {
                            *failures.entry(peer).or_default() += 1;
                        }
                        if verdict == Verdict::Bad {
                            tracing::warn!(module = MODULE, runtime_id = %self.store.setup.runtime, %peer,
                                "peer's checkpoint is wrong");
                            peers.bad(&peer);
                        }
                    }
                }
            }
            match progress {
                Ok(Progress::Running) => {}
                Ok(Progress::Done(synced)) => return Ok(Some(synced)),
                Ok(Progress::Exhausted) => return Ok(None),
                Err(e) => {
                    tracing::error!(module = MODULE, runtime_id = %self.store.setup.runtime, err = %chain_of(&e),
                        "error trying to restore from checkpoint");
                    blocking(move || sync.abort()).await??;
                    return Ok(None);
                }
            }
            outcome = tokio::select! {
                () = self.stop.cancelled() => {
                    blocking(move || sync.abort()).await??;
                    return Ok(None);
                }
                done = fetches.join_next() => match done {
                    Some(Ok((id, answer))) => Some(ChunkOutcome { id, answer: answer.map(|(peer, chunk, feedback)| {
                        feedbacks.insert(peer, feedback);
                        (peer, chunk.0)
                    }) }),
                    Some(Err(e)) => return Err(StoreError::Task(e.to_string())),
                    None => return Err(StoreError::Task("nothing left to fetch of a checkpoint".to_owned())),
                },
            };
        }
    }

    fn fetchers(&self) -> usize {
        usize::try_from(self.store.setup.config.storage.fetcher_count).unwrap_or(usize::MAX).clamp(1, MAX_FETCHERS)
    }

    /// Applies round after round.
    async fn rounds(&self, genesis: u64, synced: Option<u64>) -> Result<(), StoreError> {
        let mut newest = self.store.history.committed();
        let mut rounds = Rounds {
            context: self.clone(),
            feedbacks: HashMap::new(),
            fetches: JoinSet::new(),
            begun: BTreeMap::new(),
            noted: synced,
        };
        let mut sync = DiffSync::new(self.fetchers(), genesis, synced);
        while !self.stop.is_cancelled() {
            if let Some(round) = *newest.borrow_and_update() {
                sync.new_block(round);
            }
            self.store.nudge_availability();
            let (back, mut more) = rounds.step(sync).await?;
            sync = back;
            while let Some(done) = rounds.fetches.try_join_next() {
                rounds.fetched(&mut sync, done)?;
                more = true;
            }
            if more {
                continue;
            }
            let wake = sync.next_wakeup(self.store.now());
            let sleep = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(self.store.at(at)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = sleep => {}
                changed = newest.changed() => if changed.is_err() { break },
                Some(done) = rounds.fetches.join_next() => rounds.fetched(&mut sync, done)?,
            }
        }
        Ok(())
    }
}

/// The peers to ask for a chunk: those that sent damaged ones last, and otherwise another one first each time.
fn order(wanted: &ChunkRequest<PeerId>, failures: &HashMap<PeerId, u32>) -> Vec<PeerId> {
    let mut peers = wanted.peers.clone();
    if !peers.is_empty() {
        let first = wanted.id % peers.len() as u64;
        peers.rotate_left(usize::try_from(first).unwrap_or(0));
    }
    peers.sort_by_key(|peer| failures.get(peer).copied().unwrap_or(0));
    peers
}

type Fetched = (FetchId, Option<(WriteLog, Feedback)>);

/// What goes on while rounds are fetched.
struct Rounds {
    context: Context,
    /// Of answers that were not applied yet.
    feedbacks: HashMap<FetchId, Feedback>,
    fetches: JoinSet<Fetched>,
    /// When rounds in progress were begun.
    begun: BTreeMap<u64, Instant>,
    /// The last round that was begun.
    noted: Option<u64>,
}

fn judge(feedback: Option<&Feedback>, verdict: Verdict) {
    let Some(feedback) = feedback else { return };
    match verdict {
        Verdict::Good => feedback.success(),
        Verdict::Failure => feedback.failure(),
        Verdict::Bad => feedback.bad(),
    }
}

impl Rounds {
    /// Applies one round, if it is there, and begins what is to be fetched; whether there may be more to apply.
    async fn step(&mut self, mut sync: DiffSync) -> Result<(DiffSync, bool), StoreError> {
        let context = self.context.clone();
        let (sync, effects, more) = blocking(move || {
            let (mut effects, history) = (Vec::new(), &context.store.history);
            let mut header = |round| header(history, round);
            let more = sync.step(context.store.now(), &context.storage, &mut header, &mut effects)?;
            for effect in &effects {
                if let Effect::Synced(synced) = effect {
                    context.store.reached(*synced)?;
                }
            }
            Ok::<_, StoreError>((sync, effects, more))
        })
        .await??;
        self.note(&sync);
        for effect in effects {
            match effect {
                Effect::Fetch(wanted) => self.fetch(wanted),
                Effect::Judge(id, verdict) => {
                    let feedback = self.feedbacks.remove(&id);
                    if verdict == Verdict::Bad {
                        let peer = feedback.as_ref().map(|f| f.peer().to_string());
                        tracing::warn!(module = MODULE, runtime_id = %self.context.store.setup.runtime, round = id.round,
                            peer, "peer's write log is wrong");
                    }
                    judge(feedback.as_ref(), verdict);
                }
                Effect::Synced(synced) => self.synced(synced),
            }
        }
        Ok((sync, more))
    }

    /// Notes which rounds were begun.
    fn note(&mut self, sync: &DiffSync) {
        let Some(pending) = sync.pending() else { return };
        let first = self.noted.map_or(pending, |noted| noted.saturating_add(1));
        let first = first.max(pending.saturating_sub(MAX_IN_FLIGHT_ROUNDS));
        if first <= pending {
            let now = Instant::now();
            self.begun.extend((first..=pending).map(|round| (round, now)));
            self.noted = Some(pending);
            let label = &self.context.store.label;
            table::WORKER_STORAGE_PENDING_ROUND.with(&[label]).set(metric(pending));
        }
    }

    fn synced(&mut self, synced: Synced) {
        let store = &self.context.store;
        tracing::debug!(module = MODULE, runtime_id = %store.setup.runtime, round = synced.round, "finished syncing round");
        if let Some(begun) = self.begun.get(&synced.round) {
            table::WORKER_STORAGE_ROUND_SYNC_LATENCY.with(&[&store.label]).observe_time(begun.elapsed());
        }
        self.begun = self.begun.split_off(&synced.round.saturating_add(1));
        self.feedbacks.retain(|id, _| id.round > synced.round);
        store.set_synced(synced);
    }

    fn fetch(&mut self, wanted: FetchDiff) {
        let peers = self.context.peers.clone();
        self.fetches.spawn(async move {
            let answer = match peers {
                Some(peers) => peers.diff(wanted).await,
                None => None,
            };
            (wanted.id, answer)
        });
    }

    fn fetched(
        &mut self,
        sync: &mut DiffSync,
        done: Result<Fetched, tokio::task::JoinError>,
    ) -> Result<(), StoreError> {
        let (id, answer) = done.map_err(|e| StoreError::Task(e.to_string()))?;
        let now: Moment = self.context.store.now();
        let log = match answer {
            Some((log, feedback)) => {
                if sync.synced().is_none_or(|synced| id.round > synced) {
                    self.feedbacks.insert(id, feedback);
                }
                Some(log)
            }
            None => {
                tracing::debug!(module = MODULE, runtime_id = %self.context.store.setup.runtime, round = id.round,
                    "no peer has the write log");
                None
            }
        };
        sync.fetched(now, id, log);
        Ok(())
    }
}
