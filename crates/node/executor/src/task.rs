//! The task that owns machine and pool.

mod committee;
mod hosted;
mod pool;
mod rounds;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use base_codec::ByteList;
use base_prims::{Hash, PublicKey};
use p2p_net::api::{ProtocolId, Topic, Validation};
use p2p_net::ids;
use rt_executor::Moment;
use rt_executor::round::{self, Input, Machine, Record};
use rt_executor::txpool::{Checked, Ticket, Tx};
use rt_host::{ComponentState, HostEvent};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wire_consensus::roothash::{AnnotatedBlock, ExecutorCommit};
use wire_runtime::runtime::{CheckTxResult, ExecuteTxBatchResponse};

use crate::client::{ClientTx, Shared, Start};
use crate::effects::Aborts;
use crate::gossip::Inboxes;
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
            Some(_) => self.runtime.ready && self.runtime.trust_synced && self.position.is_some() && key_manager,
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
