//! The storage of one runtime: what it is made of, what others ask of it, and its tasks.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base_kv::KvStore;
use base_metrics::table;
use base_prims::Namespace;
use mkvs_db::NodeDb;
use mkvs_db::checkpoint::{ChunkMetadata, Files, Metadata};
use mkvs_tree::Root;
use node_app::WriteBehind;
use node_config::Config;
use node_workers::Blocks;
use node_workers::runtime::RuntimeView;
use p2p_net::api::P2p;
use parking_lot::Mutex;
use rt_history::{History, IndexerStatus, Moment, Sync};
use rt_storage::{Availability, Server, Status, Storage, Synced};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::{StoreError, chain_of};
use crate::status::{StorageStatus, StoreStatus, UNDEFINED_ROUND};
use crate::{checkpoint, index, prune, serve, sync};

/// Folder of the history below the runtime's.
pub const HISTORY: &str = "history";
/// Folder of the state, below the runtime's.
pub const STORAGE: &str = "storage";
/// Folder of the checkpoints, below the runtime's.
pub const CHECKPOINTS: &str = "checkpoints";
/// Most forced checkpoints that wait.
const MAX_FORCED: usize = 64;

/// Says why a round must not be pruned yet.
pub type PruneVeto = Arc<dyn Fn(u64) -> Result<(), String> + Send + std::marker::Sync>;

/// What a runtime's storage is made from.
pub struct Setup {
    /// The runtime.
    pub runtime: Namespace,
    /// The node's configuration.
    pub config: Arc<Config>,
    /// The runtime's own folder.
    pub folder: PathBuf,
    /// The consensus layer.
    pub chain: Arc<dyn Blocks>,
    /// Chain context as 64 hexadecimal digits; part of the protocols' names.
    pub chain_context: String,
    /// The network; without it nothing is fetched or served.
    pub p2p: Option<Arc<dyn P2p>>,
    /// Whether the state is kept here; otherwise only the history is.
    pub with_state: bool,
    /// The runtime's descriptor, for the parameters of checkpoints.
    pub view: watch::Receiver<RuntimeView>,
}

/// Where the data lie.
pub struct Stores {
    /// Of the history.
    pub history: Arc<dyn KvStore>,
    /// Of the state, if it is kept here.
    pub storage: Option<Arc<dyn KvStore>>,
}

/// The state and what belongs to it.
pub(crate) struct Stateful {
    pub(crate) storage: Arc<Storage>,
    pub(crate) files: Files,
    /// Answers what hosted components ask.
    pub(crate) server: Server,
}

struct Mutable {
    status: Status,
    availability: Availability,
    indexer: IndexerStatus,
    error: Option<String>,
}

/// The storage of one runtime.
pub struct RuntimeStore {
    pub(crate) setup: Setup,
    pub(crate) history: Arc<History>,
    pub(crate) state: Option<Stateful>,
    /// Zero of [`Moment`]s.
    started: Instant,
    mutable: Mutex<Mutable>,
    pub(crate) synced: watch::Sender<Option<Synced>>,
    available: watch::Sender<bool>,
    initialized: watch::Sender<bool>,
    veto: Mutex<Option<PruneVeto>>,
    pub(crate) paused: AtomicBool,
    /// Rounds to make checkpoints of, beside the schedule.
    forced: Mutex<BTreeSet<u64>>,
    pub(crate) forced_some: Notify,
    /// The runtime's id as the label of metrics.
    pub(crate) label: String,
}

impl std::fmt::Debug for RuntimeStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RuntimeStore").field("runtime", &self.setup.runtime).finish_non_exhaustive()
    }
}

fn open_disk(setup: &Setup, what: &'static str) -> Result<Arc<dyn KvStore>, StoreError> {
    let disk = base_kv_disk::Disk::open(&setup.folder.join(what), base_kv_disk::Options::default());
    Ok(Arc::new(disk.map_err(|source| StoreError::Open { what, source })?))
}

/// Runs what blocks on a thread that may.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| StoreError::Task(e.to_string()))
}

impl RuntimeStore {
    /// Opens what is in the runtime's folder, or begins it. Blocks on the disk.
    ///
    /// # Errors
    /// If something else is there, or it is damaged.
    pub fn open(setup: Setup) -> Result<Arc<Self>, StoreError> {
        let history = open_disk(&setup, HISTORY)?;
        let storage: Option<Arc<dyn KvStore>> = if setup.with_state {
            // Whoever needs what it wrote to survive calls `Storage::sync`; all other rounds can be fetched again.
            Some(Arc::new(WriteBehind::new(open_disk(&setup, STORAGE)?).map_err(StoreError::Thread)?))
        } else {
            None
        };
        Self::open_in(setup, Stores { history, storage })
    }

    /// Opens what is in the stores, or begins it; checkpoints are in the runtime's folder.
    ///
    /// # Errors
    /// As [`RuntimeStore::open`].
    pub fn open_in(setup: Setup, stores: Stores) -> Result<Arc<Self>, StoreError> {
        let honor = if stores.storage.is_some() { Sync::Honor } else { Sync::Ignore };
        let history = Arc::new(History::open(stores.history, setup.runtime, honor)?);
        let state = match stores.storage {
            Some(kv) => {
                let storage = Storage::new(NodeDb::open(kv, mkvs_db::Config::new(setup.runtime))?);
                let files = Files::new(setup.folder.join(CHECKPOINTS));
                let server = Server::new(storage.clone(), None);
                Some(Stateful { storage: Arc::new(storage), files, server })
            }
            None => None,
        };
        let last_round = history.last_round().unwrap_or(0);
        let indexer = IndexerStatus { status: rt_history::Status::Started, last_round, reindex: None };
        let mutable =
            Mutable { status: Status::Initializing, availability: Availability::default(), indexer, error: None };
        Ok(Arc::new(Self {
            label: setup.runtime.to_string(),
            setup,
            history,
            state,
            started: Instant::now(),
            mutable: Mutex::new(mutable),
            synced: watch::Sender::new(None),
            available: watch::Sender::new(false),
            initialized: watch::Sender::new(false),
            veto: Mutex::default(),
            paused: AtomicBool::new(false),
            forced: Mutex::default(),
            forced_some: Notify::new(),
        }))
    }

    /// Follows and serves the runtime until stopped, or something fails that cannot be mended. When it has returned nothing
    /// writes to the stores any more.
    ///
    /// # Errors
    /// What failed first; [`RuntimeStore::status`] has it too.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) -> Result<(), StoreError> {
        let stop = stop.child_token();
        let outcome = match serve::register(&self) {
            Ok(()) => self.tasks(&stop).await,
            Err(e) => Err(e),
        };
        self.set_status(Status::Stopping);
        let outcome = match self.sync_state().await {
            Err(e) if outcome.is_ok() => Err(e),
            _ => outcome,
        };
        self.available.send_replace(false);
        if let Err(e) = &outcome {
            let text = chain_of(e);
            tracing::error!(module = "worker/storage", runtime_id = %self.setup.runtime, err = %text, "worker stopped");
            self.mutable.lock().error = Some(text);
        }
        outcome
    }

    /// Waits until everything of the state is on disk.
    async fn sync_state(&self) -> Result<(), StoreError> {
        let Some(storage) = self.storage().cloned() else { return Ok(()) };
        Ok(blocking(move || storage.sync()).await??)
    }

    async fn tasks(self: &Arc<Self>, stop: &CancellationToken) -> Result<(), StoreError> {
        let mut tasks = JoinSet::new();
        tasks.spawn(index::run(Arc::clone(self), stop.clone()));
        tasks.spawn(prune::run(Arc::clone(self), stop.clone()));
        if self.state.is_some() {
            tasks.spawn(sync::run(Arc::clone(self), stop.clone()));
            tasks.spawn(checkpoint::run(Arc::clone(self), stop.clone()));
        }
        let mut outcome = Ok(());
        while let Some(done) = tasks.join_next().await {
            let done = done.unwrap_or_else(|e| Err(StoreError::Task(e.to_string())));
            if done.is_err() {
                stop.cancel();
                if outcome.is_ok() {
                    outcome = done;
                }
            }
        }
        outcome
    }

    /// The blocks.
    pub fn history(&self) -> &Arc<History> {
        &self.history
    }

    /// The state, if it is kept here.
    pub fn storage(&self) -> Option<&Arc<Storage>> {
        self.state.as_ref().map(|s| &s.storage)
    }

    pub(crate) fn stateful(&self) -> Result<&Stateful, StoreError> {
        self.state.as_ref().ok_or(StoreError::Stateless)
    }

    /// Whether the state is near enough to the chain's end to serve others. Without state it never is.
    pub fn available(&self) -> watch::Receiver<bool> {
        self.available.subscribe()
    }

    /// Whether all old blocks are there and, with state, the first synchronisation by checkpoints is over.
    pub fn initialized(&self) -> watch::Receiver<bool> {
        self.initialized.subscribe()
    }

    pub(crate) fn set_initialized(&self) {
        self.initialized.send_replace(true);
    }

    /// The last round whose state is final here.
    pub fn last_synced(&self) -> Option<Synced> {
        *self.synced.borrow()
    }

    /// Waits until the state of a round is here, or its root if one is given and comes earlier; gives the newest round whose
    /// state is here then. Without state the blocks count.
    ///
    /// # Errors
    /// If the round is here and the root is not.
    pub async fn wait_round(&self, round: u64, root: Option<Root>) -> Result<u64, StoreError> {
        let has = async |root: Root| match &self.state {
            Some(state) => {
                let storage = Arc::clone(&state.storage);
                blocking(move || storage.db().has_root(&root)).await?.map_err(StoreError::from)
            }
            None => Ok(true),
        };
        if let Some(root) = root
            && self.state.is_some()
            && has(root).await?
        {
            return Ok(self.history.last_synced().unwrap_or(round));
        }
        let reached = self.history.wait_synced(round).await?;
        match root {
            Some(root) if !has(root).await? => Err(StoreError::NoRoot(Box::new(root))),
            _ => Ok(reached),
        }
    }

    /// Stops and resumes the making of checkpoints; those already begun and forced ones are made.
    ///
    /// # Errors
    /// If no state is kept here.
    pub fn pause_checkpointer(&self, pause: bool) -> Result<(), StoreError> {
        self.stateful()?;
        self.paused.store(pause, Ordering::Relaxed);
        Ok(())
    }

    /// The checkpoints that are here.
    ///
    /// # Errors
    /// If no state is kept here, or the folder cannot be read.
    pub async fn checkpoints(&self) -> Result<Vec<Metadata>, StoreError> {
        let files = self.stateful()?.files.clone();
        Ok(blocking(move || files.list(None)).await??)
    }

    /// A chunk of a checkpoint.
    ///
    /// # Errors
    /// If it is not here.
    pub async fn checkpoint_chunk(&self, chunk: ChunkMetadata) -> Result<Vec<u8>, StoreError> {
        let files = self.stateful()?.files.clone();
        Ok(blocking(move || files.chunk(&chunk)).await??)
    }

    /// Sets who is asked before a round is dropped; replaces whoever was asked before.
    pub fn set_prune_veto(&self, veto: PruneVeto) {
        *self.veto.lock() = Some(veto);
    }

    /// Whether rounds may be dropped from the history, in ascending order; `synced` is the last one whose state is on disk.
    pub(crate) fn may_prune(&self, rounds: &[u64], synced: Option<Synced>) -> Result<(), String> {
        let Some(last) = rounds.last() else { return Ok(()) };
        if self.state.is_some() {
            let past = "worker/storage: tried to prune past last synced round";
            match synced {
                None => return Err(format!("{past} (empty state db)")),
                Some(synced) if *last >= synced.round => return Err(format!("{past} (last synced: {})", synced.round)),
                Some(_) => {}
            }
        }
        let veto = self.veto.lock().clone();
        veto.map_or(Ok(()), |veto| rounds.iter().try_for_each(|round| veto(*round)))
    }

    /// Whether the consensus layer may forget a height.
    ///
    /// # Errors
    /// A text that says why not.
    pub fn can_prune_consensus(&self, height: i64) -> Result<(), String> {
        self.history.can_prune_consensus(height).map_err(|e| e.to_string())
    }

    /// How it stands.
    pub fn status(&self) -> StoreStatus {
        let mutable = self.mutable.lock();
        let storage = self.state.is_some().then(|| StorageStatus {
            status: mutable.status.as_str().to_owned(),
            last_finalized_round: self.synced.borrow().map_or(UNDEFINED_ROUND, |s| s.round),
        });
        StoreStatus { storage, indexer: mutable.indexer, error: mutable.error.clone() }
    }

    pub(crate) fn set_status(&self, status: Status) {
        self.mutable.lock().status = status;
    }

    pub(crate) fn set_indexer(&self, status: IndexerStatus) {
        self.mutable.lock().indexer = status;
    }

    /// How long this store has been open.
    pub(crate) fn now(&self) -> Moment {
        self.started.elapsed()
    }

    /// When a moment will be.
    pub(crate) fn at(&self, moment: Moment) -> Instant {
        self.started + moment
    }

    /// A round is final: whoever waits for it in the history finds it in [`RuntimeStore::last_synced`] too. Blocks on the disk.
    pub(crate) fn reached(&self, synced: Synced) -> Result<(), StoreError> {
        self.synced.send_replace(Some(synced));
        Ok(self.history.storage_synced(synced.round)?)
    }

    /// A round is final and the history knows.
    pub(crate) fn set_synced(&self, synced: Synced) {
        let round = metric(synced.round);
        table::WORKER_STORAGE_FULL_ROUND.with(&[&self.label]).set(round);
        table::WORKER_STORAGE_SYNCED_ROUND.with(&[&self.label]).set(round);
        self.nudge_availability();
    }

    /// Compares the state with the newest block.
    pub(crate) fn nudge_availability(&self) {
        let latest = *self.history.committed().borrow();
        let synced = self.synced.borrow().map(|s| s.round);
        let changed = self.mutable.lock().availability.update(synced, latest);
        if let Some(available) = changed {
            tracing::info!(module = "worker/storage/committee", runtime_id = %self.setup.runtime, available,
                last_synced = synced, latest, "availability changed");
            self.available.send_replace(available);
        }
    }

    /// Makes a checkpoint of a round beside the schedule, soon; nothing happens if there is one.
    pub(crate) fn force_checkpoint(&self, round: u64) {
        let mut forced = self.forced.lock();
        forced.insert(round);
        if forced.len() > MAX_FORCED {
            forced.pop_first();
        }
        drop(forced);
        self.forced_some.notify_one();
    }

    pub(crate) fn take_forced(&self) -> BTreeSet<u64> {
        std::mem::take(&mut self.forced.lock())
    }
}

/// A round as the value of a metric.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn metric(round: u64) -> f64 {
    round as f64
}
