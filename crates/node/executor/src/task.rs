//! The task that owns machine and pool.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base_codec::{ByteList, cbor};
use base_prims::{Hash, PublicKey};
use p2p_net::api::{ProtocolId, Topic, Validation};
use p2p_net::ids;
use p2p_net::rpc::Client;
use rt_executor::Moment;
use rt_executor::messages::{CommitteeMessage, TxMessage};
use rt_executor::round::{self, Acceptance, Effect, Execution, Input, Machine, ProposalDraft, Record, RuntimeInfo, StateName};
use rt_executor::txpool::{self, Checked, Origin, Ticket, Tx};
use rt_host::{ComponentState, HostEvent};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wire_consensus::roothash::{AnnotatedBlock, ExecutorCommit, Header, HeaderType};
use wire_runtime::runtime::{CheckTxResult, ExecuteTxBatchResponse};

use crate::client::{ClientTx, Shared, Start};
use crate::effects::{self, Aborts};
use crate::gossip::{CommitteeGossip, GossipTx, Inboxes};
use crate::metrics::Metrics;
use crate::position::{self, Height, Position};
use crate::record::Records;
use crate::setup::{ExecutorError, Setup, SubmitError};
use crate::status::{CommitteeState, WorkerState, WorkerStatus};

/// Consensus blocks whose events are read one after another when many came at once; older ones are passed over.
const MAX_HEIGHTS_BEHIND: i64 = 32;
/// Events and commitments of rounds whose block is still being prepared.
const MAX_EARLY: usize = 256;
/// Blocks whose transactions are being looked up, to take them out of the pool.
const MAX_LOOKUPS: usize = 8;
/// Transactions from peers that wait for the task, in answers.
const FETCHED_BACKLOG: usize = 4;
/// Shortest sleep, so that a timer that is due cannot keep the task busy.
const MIN_SLEEP: Duration = Duration::from_millis(1);

/// How an effect ended.
enum Done {
    Prepared(Result<Box<Position>, position::PositionError>, u64),
    Height(i64, Result<Height, node_workers::ChainError>),
    Executed(u64, Option<Box<ExecuteTxBatchResponse>>, Duration),
    Stored(u64, bool, Option<Duration>),
    Recorded(u64, bool),
    Checked(u64, Checked),
    Used(Vec<Hash>),
    FetchEnded(u64),
    TrustSynced(u64),
    Nothing,
}

/// Who waits for a check.
enum Waiter {
    Client(oneshot::Sender<Result<CheckTxResult, SubmitError>>),
    Network(oneshot::Sender<Validation>),
}

/// A call to the runtime that has not ended.
struct Executing {
    id: u64,
    handle: AbortHandle,
    in_runtime: Arc<AtomicBool>,
}

/// What is known of the hosted runtime.
#[derive(Default)]
struct Runtime {
    ready: bool,
    trust_synced: bool,
    /// Number of the newest attempt to let it follow the consensus layer.
    attempt: u64,
    trust_sync: Option<AbortHandle>,
}

/// Where the task's inputs come from.
struct Sources {
    blocks: rt_history::Watcher,
    heights: watch::Receiver<i64>,
    synced: watch::Receiver<bool>,
    initialized: watch::Receiver<bool>,
    key_manager: Option<watch::Receiver<bool>>,
    view: Option<watch::Receiver<node_workers::runtime::RuntimeView>>,
    commitments: Option<broadcast::Receiver<Arc<ExecutorCommit>>>,
    host: Option<broadcast::Receiver<HostEvent>>,
    clients: mpsc::Receiver<ClientTx>,
    inboxes: Inboxes,
    fetched: mpsc::Receiver<Vec<Tx>>,
}

/// The task's state.
pub(crate) struct Task {
    setup: Setup,
    shared: Arc<Shared>,
    node: PublicKey,
    signing: round::Setup,
    machine: Option<Machine>,
    records: Option<Records>,
    topics: (Topic, Topic),
    tx_sync: ProtocolId,
    metrics: Metrics,
    start: Instant,
    work: JoinSet<Done>,
    inputs: VecDeque<Input>,
    sources: Option<Sources>,
    fetched: mpsc::Sender<Vec<Tx>>,
    /// The newest block, while the one before is being prepared.
    next_block: Option<AnnotatedBlock>,
    preparing: bool,
    position: Option<Arc<Position>>,
    next_height: i64,
    reading: bool,
    early: VecDeque<(u64, Input)>,
    lookups: usize,
    runtime: Runtime,
    aborts: Aborts,
    executing: Option<Executing>,
    executed_at: Option<Instant>,
    /// What this node committed to, and when it began to execute it.
    committed: Option<(Hash, Instant)>,
    to_record: VecDeque<(u64, Box<Record>)>,
    recording: bool,
    fetches: HashMap<u64, AbortHandle>,
    waiters: HashMap<Ticket, Waiter>,
    next_ticket: u64,
    round_over: CancellationToken,
}

/// Waits for a change; for ever if there is nothing to wait for.
async fn changed<T>(source: &mut Option<watch::Receiver<T>>) {
    if let Some(receiver) = source {
        if receiver.changed().await.is_ok() {
            return;
        }
        *source = None;
    }
    std::future::pending::<()>().await;
}

/// The next message, or that some were missed; waits for ever if there will be none.
async fn next<T: Clone>(source: &mut Option<broadcast::Receiver<T>>) -> Option<T> {
    if let Some(receiver) = source {
        match receiver.recv().await {
            Ok(message) => return Some(message),
            Err(broadcast::error::RecvError::Lagged(_)) => return None,
            Err(broadcast::error::RecvError::Closed) => *source = None,
        }
    }
    std::future::pending().await
}

impl Task {
    pub(crate) fn new(setup: Setup, shared: Arc<Shared>, start: Start, inboxes: Inboxes) -> Self {
        let node = PublicKey::new(setup.node_key.public());
        let signing = round::Setup {
            runtime: setup.runtime,
            node,
            chain: setup.chain.context().clone(),
            blacklist: Arc::clone(&setup.blacklist),
        };
        let (records, record) = start.records.map_or((None, None), |(records, record)| (Some(records), record));
        let machine = setup.is_compute().then(|| Machine::new(signing.clone(), record));
        let (fetched, found) = mpsc::channel(FETCHED_BACKLOG);
        let sources = Sources {
            blocks: setup.history.watch_committed(),
            heights: setup.chain.heights(),
            synced: setup.chain.synced(),
            initialized: setup.history.initialized(),
            key_manager: setup.key_manager.clone(),
            view: Some(setup.view.clone()),
            commitments: machine.is_some().then(|| setup.chain.commitments()),
            host: setup.host.as_ref().map(|host| host.events()),
            clients: start.clients,
            inboxes,
            fetched: found,
        };
        let (chain, runtime) = (&setup.chain_context, &setup.runtime);
        Self {
            topics: (ids::tx_topic(chain, runtime), ids::committee_topic(chain, runtime)),
            tx_sync: ids::TX_SYNC.of_runtime(chain, runtime),
            metrics: Metrics::new(runtime),
            node,
            signing,
            machine,
            records,
            start: Instant::now(),
            work: JoinSet::new(),
            inputs: VecDeque::new(),
            sources: Some(sources),
            fetched,
            next_block: None,
            preparing: false,
            position: None,
            next_height: setup.chain.latest_height().max(1),
            reading: false,
            early: VecDeque::new(),
            lookups: 0,
            runtime: Runtime::default(),
            aborts: Aborts::default(),
            executing: None,
            executed_at: None,
            committed: None,
            to_record: VecDeque::new(),
            recording: false,
            fetches: HashMap::new(),
            waiters: HashMap::new(),
            next_ticket: 0,
            round_over: CancellationToken::new(),
            setup,
            shared,
        }
    }

    fn now(&self) -> Moment {
        self.start.elapsed()
    }

    /// When the machine or the pool want to be called.
    fn wakeup(&self) -> Option<Instant> {
        let now = self.now();
        let machine = self.machine.as_ref().and_then(|machine| machine.next_wakeup(now));
        let pool = self.shared.pool.lock().next_wakeup();
        let at = machine.into_iter().chain(pool).min()?;
        // A moment far away is none.
        self.start.checked_add(at.max(now + MIN_SLEEP))
    }

    /// Works until stopped or the history is gone.
    pub(crate) async fn run(mut self, stop: &CancellationToken) -> Result<(), ExecutorError> {
        let Some(mut sources) = self.sources.take() else { return Ok(()) };
        if self.setup.host.as_ref().is_some_and(|host| host.status().state == ComponentState::Running) {
            self.runtime_started(true);
        }
        self.read_heights();
        self.tell();
        let outcome = loop {
            self.pump();
            let wakeup = self.wakeup();
            let sleep = async {
                match wakeup {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let synced = *sources.synced.borrow();
            tokio::select! {
                biased;
                () = stop.cancelled() => break Ok(()),
                Some(done) = self.work.join_next() => match done {
                    Ok(done) => self.done(done),
                    Err(error) if error.is_panic() => tracing::error!(module = "worker/executor/committee",
                        runtime_id = %self.setup.runtime, err = %error, "an effect failed"),
                    Err(_) => {}
                },
                () = sleep => self.inputs.push_back(Input::Tick),
                block = sources.blocks.next(), if synced => match block {
                    Ok(Some(block)) => self.new_block(block),
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error.into()),
                },
                Ok(()) = sources.heights.changed() => self.read_heights(),
                Some(txs) = sources.fetched.recv() => self.fetched(txs),
                event = next(&mut sources.host) => self.host_event(event),
                Some(message) = sources.inboxes.committee.recv() => self.committee_gossip(message),
                commit = next(&mut sources.commitments) => self.observed(commit.as_deref()),
                Some(tx) = sources.clients.recv() => self.client_tx(tx),
                Ok(()) = sources.synced.changed() => self.tell(),
                Ok(()) = sources.initialized.changed() => self.tell(),
                () = changed(&mut sources.key_manager) => self.tell(),
                () = changed(&mut sources.view) => self.tell(),
                Some(tx) = sources.inboxes.txs.recv() => self.gossip_tx(tx, synced),
            }
        };
        self.work.shutdown().await;
        outcome
    }

    /// Gives the machine what there is for it and does what machine and pool want, until they want nothing.
    fn pump(&mut self) {
        loop {
            if let Some(input) = self.inputs.pop_front() {
                self.step(input);
                continue;
            }
            let (effects, sizes) = {
                let mut pool = self.shared.pool.lock();
                (pool.poll(self.now()), pool.sizes())
            };
            if effects.is_empty() {
                self.metrics.pool(&sizes);
                return;
            }
            for effect in effects {
                self.pool_effect(effect);
            }
        }
    }

    fn step(&mut self, input: Input) {
        let now = self.now();
        let Some(machine) = &mut self.machine else { return };
        let before = machine.state();
        let mut effects = Vec::new();
        machine.step(now, input, &mut *self.shared.pool.lock(), &mut effects);
        let after = machine.state();
        if before != after {
            tracing::debug!(module = "worker/executor/committee", runtime_id = %self.setup.runtime,
                current_state = before.as_str(), new_state = after.as_str(), "state transition");
            self.shared.status.lock().round_state = after.as_str();
        }
        for effect in effects {
            self.perform(effect);
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Prepared(position, round) => self.prepared(position, round),
            Done::Height(height, read) => self.height_read(height, read),
            Done::Executed(id, result, time) => {
                self.executing.take_if(|executing| executing.id == id);
                self.metrics.executed(time);
                self.inputs.push_back(Input::Executed { id, result });
            }
            Done::Stored(id, ok, time) => {
                if let Some(time) = time {
                    self.metrics.stored(time);
                }
                self.inputs.push_back(Input::Stored { id, ok });
            }
            Done::Recorded(id, ok) => {
                self.recording = false;
                self.write_next_record();
                self.inputs.push_back(Input::Recorded { id, ok });
            }
            Done::Checked(batch, outcome) => {
                let now = self.now();
                self.shared.pool.lock().checked(now, batch, outcome);
            }
            Done::Used(hashes) => {
                self.lookups = self.lookups.saturating_sub(1);
                self.shared.pool.lock().used(&hashes);
            }
            Done::FetchEnded(id) => drop(self.fetches.remove(&id)),
            Done::TrustSynced(attempt) => {
                if attempt == self.runtime.attempt {
                    tracing::info!(module = "worker/executor/committee", runtime_id = %self.setup.runtime,
                        "runtime light client sync succeeded");
                    self.runtime.trust_synced = true;
                    self.tell();
                }
            }
            Done::Nothing => {}
        }
    }

    // Blocks of the runtime.

    fn new_block(&mut self, block: AnnotatedBlock) {
        // Of several that wait only the newest begins a round.
        let passed_over = self.next_block.replace(block);
        if let Some(header) = passed_over.and_then(|b| b.block).map(|b| b.header) {
            self.look_up(header);
        }
        self.prepare_next();
    }

    fn prepare_next(&mut self) {
        if self.preparing {
            return;
        }
        let Some(block) = self.next_block.take() else { return };
        let round = block.block.as_ref().map_or(0, |block| block.header.round);
        self.preparing = true;
        let (chain, light) = (Arc::clone(&self.setup.chain), Arc::clone(&self.setup.light_blocks));
        let preparing = position::prepare(chain, light, self.setup.runtime, self.node, block);
        self.work.spawn(async move { Done::Prepared(preparing.await, round) });
    }

    /// Takes a block's transactions out of the pool, if it has any and they can be found out.
    fn look_up(&mut self, header: Header) {
        let Some(storage) = self.setup.storage.clone() else { return };
        let empty = header.header_type != HeaderType::NORMAL || header.io_root.is_empty_hash();
        let sizes = self.shared.pool.lock().sizes();
        if empty || self.lookups >= MAX_LOOKUPS || sizes.main + sizes.checking == 0 {
            return;
        }
        self.lookups += 1;
        let history = Arc::clone(&self.setup.history);
        self.work.spawn(async move { Done::Used(effects::used(history, storage, header).await) });
    }

    fn prepared(&mut self, position: Result<Box<Position>, position::PositionError>, round: u64) {
        self.preparing = false;
        match position {
            Ok(position) => self.begin_round(Arc::new(*position)),
            Err(error) => tracing::error!(module = "worker/common/committee", runtime_id = %self.setup.runtime, round,
                err = %error, "skipping round, failed to fetch state and round results"),
        }
        self.prepare_next();
    }

    fn begin_round(&mut self, position: Arc<Position>) {
        let header = &position.chain.block.header;
        let epoch = |p: &Position| p.round.committee.as_ref().map(|members| members.committee.valid_for);
        let new_epoch = epoch(&position);
        let changed = self.position.as_deref().and_then(epoch) != new_epoch;
        self.metrics.block(&position);
        if header.header_type == HeaderType::ROUND_FAILED {
            tracing::warn!(module = "worker/common/committee", runtime_id = %self.setup.runtime, round = header.round,
                "round has failed");
        }
        if changed {
            tracing::info!(module = "worker/common/committee", runtime_id = %self.setup.runtime, epoch = ?new_epoch,
                "committee transition");
            if let Some(epoch) = new_epoch {
                self.metrics.committee(epoch);
            }
        }
        {
            let now = self.now();
            let mut pool = self.shared.pool.lock();
            pool.new_block(now, header.round);
            pool.load_incoming(&position.incoming);
            if changed {
                pool.recheck();
            }
        }
        self.finish_round(header);
        let number = position.round.number();
        self.position = Some(Arc::clone(&position));
        if self.machine.is_some() {
            self.step(Input::Round(Box::new(position.round.clone())));
            if let Some((height, rank)) = position.discrepancy {
                self.inputs.push_back(Input::Discrepancy { height, round: number, rank });
            }
            for (round, input) in std::mem::take(&mut self.early) {
                match round.cmp(&number) {
                    std::cmp::Ordering::Less => {}
                    std::cmp::Ordering::Equal => self.inputs.push_back(input),
                    std::cmp::Ordering::Greater => self.early.push_back((round, input)),
                }
            }
        }
        self.tell();
    }

    fn finish_round(&mut self, header: &Header) {
        std::mem::replace(&mut self.round_over, CancellationToken::new()).cancel();
        tracing::info!(module = "worker/executor/committee", runtime_id = %self.setup.runtime, round = header.round,
            header_type = header.header_type.0, "considering the round finalized");
        if self.machine.as_ref().is_some_and(|machine| machine.state() == StateName::ProcessingBatch) {
            tracing::warn!(module = "worker/executor/committee", runtime_id = %self.setup.runtime, round = header.round,
                "aborting processing batch");
            self.metrics.aborted();
        }
        match self.committed.take() {
            Some((io_root, start)) if header.header_type == HeaderType::NORMAL && io_root == header.io_root => {
                self.metrics.finalized(start.elapsed());
            }
            _ => self.look_up(header.clone()),
        }
    }

    // Blocks of the consensus layer.

    fn read_heights(&mut self) {
        if self.reading || self.machine.is_none() {
            return;
        }
        let newest = self.setup.chain.latest_height();
        if self.next_height > newest {
            return;
        }
        let height = self.next_height.max(newest.saturating_sub(MAX_HEIGHTS_BEHIND));
        self.next_height = height.saturating_add(1);
        self.reading = true;
        let (chain, runtime) = (Arc::clone(&self.setup.chain), self.setup.runtime);
        self.work.spawn_blocking(move || Done::Height(height, position::read_height(&*chain, &runtime, height)));
    }

    fn height_read(&mut self, height: i64, read: Result<Height, node_workers::ChainError>) {
        self.reading = false;
        match read {
            Ok(read) => {
                self.inputs.push_back(Input::Consensus { epoch_change_next: read.epoch_change_next });
                self.metrics.events(read.events.len());
                for event in read.events {
                    if let Some(committed) = event.executor_committed {
                        let round = committed.commit.header.header.round;
                        self.of_round(round, Input::Committed(Box::new(committed.commit)));
                    }
                    if let Some(found) = event.execution_discrepancy {
                        tracing::warn!(module = "worker/executor/committee", runtime_id = %self.setup.runtime, height,
                            round = found.round, rank = found.rank, timeout = found.timeout, authoritative = true,
                            "execution discrepancy detected");
                        let (round, rank) = (found.round, found.rank);
                        let height = u64::try_from(height).unwrap_or(0);
                        self.of_round(round, Input::Discrepancy { height, round, rank });
                    }
                }
            }
            Err(error) => tracing::debug!(module = "worker/executor/committee", runtime_id = %self.setup.runtime, height,
                err = %error, "events cannot be read"),
        }
        self.read_heights();
    }

    /// Something about a round, which may not have begun here yet.
    fn of_round(&mut self, round: u64, input: Input) {
        match &self.position {
            Some(position) if round <= position.round.number() => self.inputs.push_back(input),
            _ => {
                if self.early.len() >= MAX_EARLY {
                    self.early.pop_front();
                }
                self.early.push_back((round, input));
            }
        }
    }

    fn observed(&mut self, commit: Option<&ExecutorCommit>) {
        let Some(commit) = commit.filter(|commit| commit.id == self.setup.runtime) else { return };
        for one in commit.commits.iter().flatten() {
            self.of_round(one.header.header.round, Input::Observed(Box::new(one.clone())));
        }
    }

    // The hosted runtime.

    fn host_event(&mut self, event: Option<HostEvent>) {
        match event {
            Some(HostEvent::Started { .. }) => self.runtime_started(true),
            Some(HostEvent::Updated { .. }) => self.runtime_started(false),
            Some(HostEvent::FailedToStart { .. } | HostEvent::Stopped) => self.runtime_stopped(),
            Some(HostEvent::ConfigUpdated) => {}
            // Some were missed.
            None => match self.setup.host.as_ref().map(|host| host.status().state) {
                Some(ComponentState::Running) => self.runtime_started(true),
                _ => self.runtime_stopped(),
            },
        }
        self.tell();
    }

    /// The runtime runs; `anew` if it did not before.
    fn runtime_started(&mut self, anew: bool) {
        let Some(host) = self.setup.host.clone() else { return };
        if anew {
            self.runtime_stopped();
        }
        let control = host.info().and_then(|info| info.features).and_then(|features| features.schedule_control);
        if self.machine.is_none() {
            self.runtime.ready = true;
            return;
        }
        let Some(control) = control else {
            tracing::error!(module = "worker/executor/committee", runtime_id = %self.setup.runtime,
                "runtime does not support schedule control");
            return;
        };
        self.runtime.ready = true;
        let initial_batch_size = control.initial_batch_size;
        self.inputs.push_back(Input::Runtime(Some(RuntimeInfo { initial_batch_size })));
        if anew {
            tracing::info!(module = "worker/executor/committee", runtime_id = %self.setup.runtime,
                "asking the runtime to perform light client sync");
            let (attempt, chain) = (self.runtime.attempt, Arc::clone(&self.setup.chain));
            let syncing = async move {
                effects::trust_sync(host, || chain.latest_height()).await;
                Done::TrustSynced(attempt)
            };
            self.runtime.trust_sync = Some(self.work.spawn(syncing));
        }
    }

    fn runtime_stopped(&mut self) {
        self.runtime.ready = false;
        self.runtime.trust_synced = false;
        self.runtime.attempt += 1;
        if let Some(handle) = self.runtime.trust_sync.take() {
            handle.abort();
        }
        self.inputs.push_back(Input::Runtime(None));
    }

    fn abort_runtime(&mut self) {
        let Some(host) = self.setup.host.clone() else { return };
        let aborting = self.aborts.begin();
        self.work.spawn(async move {
            effects::abort(host, aborting).await;
            Done::Nothing
        });
    }

    // Transactions.

    fn ticket(&mut self, waiter: Waiter) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.waiters.insert(ticket, waiter);
        ticket
    }

    fn client_tx(&mut self, tx: ClientTx) {
        if tx.reply.is_closed() {
            return;
        }
        let ticket = self.ticket(Waiter::Client(tx.reply));
        let taken = self.shared.pool.lock().submit(tx.data, tx.origin, Some(ticket));
        let Err(error) = taken else { return };
        if let Some(Waiter::Client(reply)) = self.waiters.remove(&ticket) {
            let _ = reply.send(Err(error.into()));
        }
    }

    fn gossip_tx(&mut self, tx: GossipTx, synced: bool) {
        // Nothing is checked before: the network is to try again.
        if !synced || self.setup.host.is_none() {
            let _ = tx.reply.send(if synced { Validation::Accept } else { Validation::Retry });
            return;
        }
        let ticket = self.ticket(Waiter::Network(tx.reply));
        let taken = self.shared.pool.lock().submit(tx.data, Origin::default(), Some(ticket));
        let verdict = match taken {
            Ok(_) => return,
            Err(txpool::SubmitError::Full) => Validation::Retry,
            Err(txpool::SubmitError::Duplicate | txpool::SubmitError::TooLarge) => Validation::Reject,
        };
        if let Some(Waiter::Network(reply)) = self.waiters.remove(&ticket) {
            let _ = reply.send(verdict);
        }
    }

    fn fetched(&mut self, txs: Vec<Tx>) {
        let batch = txs.into_iter().map(|tx| tx.data.to_vec()).collect();
        let kept = self.shared.pool.lock().submit_proposed(batch);
        self.inputs.push_back(Input::Transactions(kept));
    }

    fn pool_effect(&mut self, effect: txpool::Effect) {
        match effect {
            txpool::Effect::Check { batch, txs } => self.check(batch, txs),
            txpool::Effect::AbortRuntime => {
                tracing::warn!(module = "runtime/txpool", runtime_id = %self.setup.runtime,
                    "transaction batch check takes too long");
                self.abort_runtime();
            }
            txpool::Effect::Answer { ticket, result } => match self.waiters.remove(&ticket) {
                Some(Waiter::Client(reply)) => drop(reply.send(Ok(result))),
                Some(Waiter::Network(reply)) => {
                    let good = result.error.is_success();
                    let _ = reply.send(if good { Validation::Accept } else { Validation::Reject });
                }
                None => {}
            },
            txpool::Effect::Publish(tx) => {
                let message = TxMessage(tx.data.to_vec()).to_bytes();
                if let Err(error) = self.setup.p2p.publish(&self.topics.0, message) {
                    tracing::warn!(module = "runtime/txpool", runtime_id = %self.setup.runtime, tx_hash = %tx.hash,
                        err = %error, "failed to publish a transaction");
                    let now = self.now();
                    self.shared.pool.lock().publish_failed(now, &tx.hash);
                }
            }
            txpool::Effect::Available(txs) => self.inputs.push_back(Input::Transactions(txs)),
        }
    }

    fn check(&mut self, batch: u64, txs: Vec<Tx>) {
        let host = self.setup.host.clone().filter(|_| self.runtime.ready);
        let (Some(host), Some(position)) = (host, self.position.clone()) else {
            let now = self.now();
            self.shared.pool.lock().checked(now, batch, Checked::Failed);
            return;
        };
        let (history, aborts) = (Arc::clone(&self.setup.history), self.aborts.clone());
        let checking = effects::check(host, history, aborts, position, txs);
        self.work.spawn(async move { Done::Checked(batch, checking.await) });
    }

    // The committee.

    fn committee_gossip(&mut self, gossip: CommitteeGossip) {
        let mut effects = Vec::new();
        let verdict = match &mut self.machine {
            Some(machine) => machine.accept(&gossip.author, gossip.own, &gossip.message, &mut effects),
            None => Acceptance::Retry,
        };
        for effect in effects {
            self.perform(effect);
        }
        if verdict == Acceptance::Accept {
            self.inputs.push_back(Input::Tick);
        }
        let _ = gossip.reply.send(match verdict {
            Acceptance::Accept => Validation::Accept,
            Acceptance::Retry => Validation::Retry,
            Acceptance::Reject => Validation::Reject,
        });
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Execute(execution) => self.execute(execution),
            Effect::AbortRuntime => {
                tracing::error!(module = "worker/executor/committee", runtime_id = %self.setup.runtime,
                    "execution of the batch takes too long, aborting the runtime");
                self.metrics.aborted();
                if let Some(executing) = self.executing.take() {
                    executing.handle.abort();
                    if executing.in_runtime.load(Ordering::Relaxed) {
                        self.abort_runtime();
                    }
                }
            }
            Effect::SyncRuntime { height } => {
                self.metrics.discrepancy();
                if let Some(host) = self.setup.host.clone() {
                    self.work.spawn(async move {
                        effects::sync_runtime(host, height).await;
                        Done::Nothing
                    });
                }
            }
            Effect::Fetch { id, hashes } => {
                tracing::debug!(module = "worker/executor/committee", runtime_id = %self.setup.runtime,
                    num_missing = hashes.len(), "some transactions are missing");
                let client = Client::new(Arc::clone(&self.setup.p2p), self.tx_sync.clone());
                let fetching = effects::fetch(client, hashes, self.fetched.clone());
                let handle = self.work.spawn(async move {
                    fetching.await;
                    Done::FetchEnded(id)
                });
                self.fetches.insert(id, handle);
            }
            Effect::StopFetch { id } => {
                if let Some(handle) = self.fetches.remove(&id) {
                    handle.abort();
                }
            }
            Effect::Store(store) => {
                let (storage, runtime) = (self.setup.storage.clone(), self.setup.runtime);
                self.work.spawn_blocking(move || {
                    let start = std::time::Instant::now();
                    let ok = storage.is_some_and(|storage| effects::store(&storage, runtime, &store));
                    Done::Stored(store.id, ok, Some(start.elapsed()))
                });
            }
            Effect::FindRoots { id, round, io_root, state_root } => {
                let storage = self.setup.storage.clone();
                self.work.spawn_blocking(move || {
                    let ok = storage.is_some_and(|s| effects::has_roots(&s, round, io_root, state_root));
                    Done::Stored(id, ok, None)
                });
            }
            Effect::Record { id, record } => {
                self.to_record.push_back((id, record));
                self.write_next_record();
            }
            Effect::Propose(draft) => self.propose(draft),
            Effect::Commit(draft) => self.commit(*draft),
            Effect::SubmitEvidence(evidence) => {
                let (submission, key) = (Arc::clone(&self.setup.submission), self.setup.node_key.clone());
                self.work.spawn(async move {
                    effects::give_evidence(submission, key, *evidence).await;
                    Done::Nothing
                });
            }
        }
    }

    fn execute(&mut self, execution: Execution) {
        let id = execution.id;
        let host = self.setup.host.clone().filter(|_| self.runtime.ready);
        let position = self.position.clone().filter(|p| p.round.number() == execution.round);
        let (Some(host), Some(position)) = (host, position) else {
            self.inputs.push_back(Input::Executed { id, result: None });
            return;
        };
        self.metrics.batch(execution.inputs.len());
        self.executed_at = Some(Instant::now());
        let in_runtime = Arc::new(AtomicBool::new(false));
        let (history, aborts) = (Arc::clone(&self.setup.history), self.aborts.clone());
        let executing = effects::execute(host, history, aborts, position, execution, Arc::clone(&in_runtime));
        let handle = self.work.spawn(async move {
            let (result, time) = executing.await;
            Done::Executed(id, result, time)
        });
        self.executing = Some(Executing { id, handle, in_runtime });
    }

    /// Records are written one after another: the last one asked for is the one that stays.
    fn write_next_record(&mut self) {
        if self.recording {
            return;
        }
        let Some((id, record)) = self.to_record.pop_front() else { return };
        let Some(records) = self.records.clone() else { return };
        self.recording = true;
        let runtime = self.setup.runtime;
        self.work.spawn_blocking(move || {
            let written = records.write(&record);
            if let Err(error) = &written {
                tracing::error!(module = "worker/executor/committee", runtime_id = %runtime, err = %error,
                    "record of what is to be signed cannot be written");
            }
            Done::Recorded(id, written.is_ok())
        });
    }

    fn propose(&mut self, draft: ProposalDraft) {
        let (epoch, round) = (draft.epoch, draft.header.round);
        let failed = match draft.sign(&self.setup.node_key, &self.signing) {
            Ok(proposal) => {
                let message = CommitteeMessage { epoch, proposal: Some(proposal) };
                match self.setup.p2p.publish(&self.topics.1, cbor::to_vec(&message)) {
                    Ok(()) => return,
                    Err(error) => error.to_string(),
                }
            }
            Err(error) => error.to_string(),
        };
        tracing::error!(module = "worker/executor/committee", runtime_id = %self.setup.runtime, round, err = failed,
            "failed to sign and publish proposal");
    }

    fn commit(&mut self, draft: round::CommitmentDraft) {
        let round = draft.header.header.round;
        let io_root = draft.header.header.io_root;
        match draft.sign(&self.setup.node_key, &self.signing) {
            Ok(commitment) => {
                if let (Some(io_root), Some(start)) = (io_root, self.executed_at.or(Some(Instant::now()))) {
                    self.committed = Some((io_root, start));
                }
                let (submission, key) = (Arc::clone(&self.setup.submission), self.setup.node_key.clone());
                let (runtime, over) = (self.setup.runtime, self.round_over.clone());
                self.work.spawn(async move {
                    effects::commit(submission, key, runtime, commitment, over).await;
                    Done::Nothing
                });
            }
            Err(error) => tracing::error!(module = "worker/executor/committee", runtime_id = %self.setup.runtime, round,
                err = %error, "failed to sign the commitment"),
        }
    }

    // What everybody else sees.

    fn state(&self) -> (CommitteeState, bool) {
        let key_manager = self.setup.key_manager.as_ref().is_none_or(|ready| *ready.borrow());
        let state = if !*self.setup.chain.synced().borrow() {
            CommitteeState::WAITING_CONSENSUS_SYNC
        } else if self.setup.view.borrow().descriptor.is_none() {
            CommitteeState::WAITING_RUNTIME_REGISTRY
        } else if !key_manager {
            CommitteeState::WAITING_KEY_MANAGER
        } else if !*self.setup.history.initialized().borrow() {
            CommitteeState::WAITING_HISTORY_REINDEX
        } else if !self.runtime.ready {
            CommitteeState::WAITING_HOSTED_RUNTIME
        } else if self.position.as_ref().is_some_and(|position| position.suspended) {
            CommitteeState::RUNTIME_SUSPENDED
        } else {
            CommitteeState::READY
        };
        let ready = match &self.machine {
            Some(_) => {
                self.runtime.ready && self.runtime.trust_synced && self.position.is_some() && key_manager
            }
            None => self.runtime.ready,
        };
        (state, ready)
    }

    /// Tells how things are.
    fn tell(&mut self) {
        let (state, ready) = self.state();
        let worker = if !self.runtime.ready {
            WorkerState::WAITING_RUNTIME
        } else if !self.runtime.trust_synced {
            WorkerState::WAITING_TRUST_SYNC
        } else {
            WorkerState::READY
        };
        let mut status = self.shared.status.lock();
        let executor = self.machine.is_some().then_some(WorkerStatus { status: worker });
        if status.committee.status != state || status.executor != executor {
            let waits_for = match (state, executor) {
                (CommitteeState::READY, Some(executor)) => executor.status.to_string(),
                _ => state.to_string(),
            };
            tracing::info!(module = "worker/common/committee", runtime_id = %self.setup.runtime, status = waits_for,
                "runtime worker");
        }
        status.executor = executor;
        let committee = &mut status.committee;
        committee.status = state;
        committee.active_version = self.setup.host.as_ref().and_then(|host| host.status().version);
        if let Some(position) = &self.position {
            let header = &position.chain.block.header;
            committee.latest_round = header.round;
            committee.latest_height = position.height;
            committee.liveness = position.liveness;
            if let Some(machine) = &self.machine {
                committee.executor_roles = ByteList(machine.roles());
                committee.scheduler_rank = machine.rank();
                let peers = self.setup.p2p.peers(&self.tx_sync).len();
                self.metrics.round(machine, position, peers);
            }
        }
        drop(status);
        self.shared.ready.send_if_modified(|before| std::mem::replace(before, ready) != ready);
    }
}
