//! The executor as the rest of the node sees it.

use std::sync::Arc;

use base_codec::Bytes;
use base_prims::Hash;
use parking_lot::Mutex;
use rt_executor::round::Record;
use rt_executor::txpool::{Origin, Pool};
use rt_host::services::{Scheduling, Served};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use wire_runtime::runtime::CheckTxResult;

use crate::gossip::Inboxes;
use crate::record::Records;
use crate::setup::{ExecutorError, Setup, SubmitError};
use crate::status::{CommitteeStatus, ExecutorStatus};
use crate::task::Task;

/// Requests of clients that wait for the task; more wait at the caller.
const CLIENT_BACKLOG: usize = 256;

/// A client's transaction.
pub(crate) struct ClientTx {
    pub(crate) data: Vec<u8>,
    pub(crate) origin: Origin,
    pub(crate) reply: oneshot::Sender<Result<CheckTxResult, SubmitError>>,
}

/// What the task shares with everybody else.
pub(crate) struct Shared {
    /// Never locked over anything that waits.
    pub(crate) pool: Mutex<Pool>,
    pub(crate) ready: watch::Sender<bool>,
    pub(crate) status: Mutex<ExecutorStatus>,
}

/// The part that the task takes when it begins.
pub(crate) struct Start {
    pub(crate) clients: mpsc::Receiver<ClientTx>,
    pub(crate) records: Option<(Records, Option<Record>)>,
}

/// The work of a node in one runtime's committee, and its transaction pool.
pub struct Executor {
    setup: Setup,
    shared: Arc<Shared>,
    clients: mpsc::Sender<ClientTx>,
    start: Mutex<Option<Start>>,
}

impl Executor {
    /// Opens the record of a compute node.
    ///
    /// # Errors
    /// If there is a record that cannot be read, or a compute node lacks storage or host.
    pub fn new(setup: Setup) -> Result<Arc<Self>, ExecutorError> {
        let records = if setup.is_compute() {
            setup.storage.as_ref().ok_or(ExecutorError::Missing("storage"))?;
            setup.host.as_ref().ok_or(ExecutorError::Missing("a hosted runtime"))?;
            Some(Records::open(&setup.folder)?)
        } else {
            None
        };
        let (sender, clients) = mpsc::channel(CLIENT_BACKLOG);
        let committee = CommitteeStatus { scheduler_rank: u64::MAX, ..CommitteeStatus::default() };
        let shared = Arc::new(Shared {
            pool: Mutex::new(Pool::new(setup.pool_config())),
            ready: watch::Sender::new(false),
            status: Mutex::new(ExecutorStatus { committee, ..ExecutorStatus::default() }),
        });
        let start = Mutex::new(Some(Start { clients, records }));
        Ok(Arc::new(Self { setup, shared, clients: sender, start }))
    }

    /// Joins the topics, serves transactions to peers, and works until stopped.
    ///
    /// # Errors
    /// If it ran before, the network refuses a topic, or the history cannot be read.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) -> Result<(), ExecutorError> {
        let start = self.start.lock().take().ok_or(ExecutorError::RanBefore)?;
        let inboxes = Inboxes::join(&self.setup, &self.shared)?;
        let task = Task::new(self.setup.clone(), Arc::clone(&self.shared), start, inboxes);
        let done = task.run(&stop).await;
        self.shared.ready.send_replace(false);
        done
    }

    /// Submits a client's transaction: it is checked, queued and published. The result is that of the check, which may be a
    /// refusal. Waits as long as the check takes, however long the runtime needs to be there.
    ///
    /// # Errors
    /// If it is not checked.
    pub async fn submit(&self, tx: Vec<u8>) -> Result<CheckTxResult, SubmitError> {
        self.ask(tx, Origin { local: true, discard: false }).await
    }

    /// Lets the runtime check a transaction and forgets it.
    ///
    /// # Errors
    /// If it is not checked.
    pub async fn check(&self, tx: Vec<u8>) -> Result<CheckTxResult, SubmitError> {
        self.ask(tx, Origin { local: true, discard: true }).await
    }

    async fn ask(&self, data: Vec<u8>, origin: Origin) -> Result<CheckTxResult, SubmitError> {
        if self.setup.host.is_none() {
            return Err(SubmitError::NoRuntime);
        }
        if !*self.setup.chain.synced().borrow() {
            return Err(SubmitError::NotSynced);
        }
        let (reply, answer) = oneshot::channel();
        self.clients.send(ClientTx { data, origin, reply }).await.map_err(|_| SubmitError::Stopped)?;
        answer.await.unwrap_or(Err(SubmitError::Stopped))
    }

    /// Transactions that passed their check and are in no block yet, in no order.
    pub fn unconfirmed(&self) -> Vec<Vec<u8>> {
        let all: Vec<_> = self.shared.pool.lock().all().cloned().collect();
        all.into_iter().map(|tx| tx.data.to_vec()).collect()
    }

    /// These transactions are in a block: they leave the pool. Whoever watches for transactions says so.
    pub fn used(&self, hashes: &[Hash]) {
        self.shared.pool.lock().used(hashes);
    }

    /// Whether the history may drop a round. The newest round that the runtime processed and those after it are needed. Reads
    /// disk. Source: `prune.go`.
    ///
    /// # Errors
    /// If it is needed, or that cannot be found out.
    pub fn may_prune(&self, round: u64) -> Result<(), String> {
        let state = self.setup.chain.state(0).map_err(|e| format!("worker/executor: {e}"))?;
        let runtime = apps_committees::roothash::query::runtime_state(&*state, &self.setup.runtime)
            .map_err(|e| format!("worker/executor: failed to fetch runtime state: {e}"))?;
        let last = runtime.last_normal_round;
        if round >= last {
            return Err(format!("worker/executor: tried to prune past last normal round ({last})"));
        }
        Ok(())
    }

    /// Whether the node could do what it registers for: the runtime runs, and on compute nodes follows the consensus layer,
    /// blocks are there, and so is the key manager.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.shared.ready.subscribe()
    }

    /// How it is.
    pub fn status(&self) -> ExecutorStatus {
        let mut status = self.shared.status.lock().clone();
        status.committee.active_version = self.setup.host.as_ref().and_then(|host| host.active_version());
        status.pool = self.shared.pool.lock().sizes();
        let protocol = p2p_net::ids::TX_SYNC.of_runtime(&self.setup.chain_context, &self.setup.runtime);
        let peers = self.setup.p2p.peers(&protocol);
        status.committee.peers = Some(peers.iter().map(|peer| peer.id.to_string()).collect());
        status
    }
}

impl Scheduling for Executor {
    /// The reference's pool ignores the offset too: every call goes on where the one before ended.
    fn more_transactions(&self, _offset: Option<Hash>, limit: u32) -> Served<Vec<Bytes>> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let txs = self.shared.pool.lock().suggest_extra(limit);
        Ok(txs.into_iter().map(|tx| Bytes(tx.data.to_vec())).collect())
    }
}
