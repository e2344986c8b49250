//! The application as the engine drives it: services over a state on disk, with snapshots, pruning, checkpoints, halts
//! and restarts. Source: `go/consensus/cometbft/abci/{mux,state}.go`.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use apps_core::{Halt, epoch};
use apps_governance::upgrade::Upgrades;
use base_crypto::ed25519::SecretKey;
use base_kv_disk::Disk;
use base_prims::{EPOCH_INVALID, Epoch, Namespace};
use comet_chain::app::{
    AppInfo, Application, BlockResults, CheckKind, CheckResult, Committed, Fatal, InitChain, InitChainResult,
    PrepareProposal, ProposedBlock, Snapshots, Verdict,
};
use mkvs_db::{
    Config, DbError, NodeDb,
    checkpoint::{CheckpointError, Files, Restorer},
};
use wire_consensus::{Time, genesis::Document, upgrade::PendingUpgrade};

use crate::{
    DbStore, NodeApp, NodeOptions, StoreError, WriteBehind,
    background::Background,
    build_mux,
    checkpointer::{self, Checkpointer, CheckpointerConfig, CheckpointerHandle},
    pruner::{self, MIN_KEPT, PruneConfig, PruneStrategy},
    versions::{Latest, Queries, Versions},
};

/// Folder of the state database within the consensus state folder.
pub const STATE_DB: &str = "mkvs_storage.db";

/// Folder of checkpoints within that of the database.
const CHECKPOINTS: &str = "checkpoints";

/// Keeps the node's pending upgrades, whenever they change; an empty list means that there are none.
pub type SaveUpgrades =
    Box<dyn FnMut(&[PendingUpgrade]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> + Send>;

/// Told once that the node has to stop: the height of the last block, the epoch of the next, and why.
pub type HaltHook = Box<dyn FnOnce(i64, Epoch, &Halt) + Send>;

/// What the application is made of.
pub struct EngineConfig {
    /// The network.
    pub doc: Arc<Document>,
    /// Settings of this node and its pending upgrades.
    pub node: NodeOptions,
    /// Signs block metadata when this node proposes; without it the node cannot propose.
    pub consensus_key: Option<SecretKey>,
    /// What is kept of old states.
    pub prune: PruneConfig,
    /// How checkpoints are made; none are without it.
    pub checkpointer: Option<CheckpointerConfig>,
    /// Keeps pending upgrades on disk; without it somebody else has to.
    pub save_upgrades: Option<SaveUpgrades>,
}

/// The application could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database could not be opened.
    #[error("state database {path}")]
    Engine {
        /// Its folder.
        path: PathBuf,
        /// What went wrong.
        source: base_kv::KvError,
    },
    /// The database is of another kind, format or network, or damaged.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The state could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The node cannot go on from the state.
    #[error(transparent)]
    Resume(#[from] Fatal),
    /// Old checkpoints could not be looked after.
    #[error(transparent)]
    Checkpoints(#[from] CheckpointError),
    /// The system gives no thread.
    #[error("cannot start a background thread")]
    Thread(#[source] std::io::Error),
    /// Fewer versions would be kept than the network needs.
    #[error("pruning has to keep at least {MIN_KEPT} version, not {0}")]
    NumKept(u64),
}

/// Opens the state database in a consensus state folder. The reference's, which has other names, is left alone.
///
/// # Errors
/// If the database cannot be opened.
pub fn open_state_db(state_dir: &Path, options: base_kv_disk::Options) -> Result<NodeDb, OpenError> {
    Ok(NodeDb::open(Arc::new(open_disk(state_dir, options)?), db_config())?)
}

/// Opens the state database of a node that executes blocks: what it commits reaches the disk behind its back, and is made
/// again from stored blocks if it does not. See [`WriteBehind`].
fn open_state_db_behind(state_dir: &Path, options: base_kv_disk::Options) -> Result<NodeDb, OpenError> {
    let disk = open_disk(state_dir, options)?;
    let behind = WriteBehind::new(Arc::new(disk)).map_err(OpenError::Thread)?;
    Ok(NodeDb::open(Arc::new(behind), db_config())?)
}

fn open_disk(state_dir: &Path, options: base_kv_disk::Options) -> Result<Disk, OpenError> {
    let path = state_dir.join(STATE_DB);
    Disk::open(&path, options).map_err(|source| OpenError::Engine { path, source })
}

fn db_config() -> Config {
    // Nobody asks for write logs of the consensus state.
    Config { discard_write_logs: true, ..Config::new(Namespace::ZERO) }
}

/// The consensus application of a running node.
pub struct EngineApp {
    // Threads first: they end before what they use is dropped.
    checkpointer: Option<(Background, CheckpointerHandle)>,
    _pruner: Option<Background>,
    pub(crate) app: NodeApp,
    pub(crate) db: NodeDb,
    pub(crate) versions: Arc<Versions>,
    pub(crate) files: Files,
    pub(crate) restorer: Restorer,
    doc: Arc<Document>,
    queries: Queries,
    upgrades: Option<Upgrades>,
    save_upgrades: Option<SaveUpgrades>,
    halt_hooks: Vec<HaltHook>,
    // Time of the block that awaits its commit.
    block_time: Time,
}

impl EngineApp {
    /// Opens the application over the state in a folder; an empty or missing folder gives one that awaits genesis or a
    /// snapshot.
    ///
    /// Versions are written behind execution: after a power loss or a kill the newest of them are gone, and the engine
    /// executes their blocks again. What depends on a version (pending upgrades, removed blocks, a restored snapshot)
    /// becomes durable after it.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_dir(state_dir: &Path, config: EngineConfig) -> Result<Self, OpenError> {
        let db = open_state_db_behind(state_dir, base_kv_disk::Options::default())?;
        Self::open(&db, &state_dir.join(STATE_DB).join(CHECKPOINTS), config)
    }

    /// Opens the application over a database, with checkpoints in a folder.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(db: &NodeDb, checkpoints: &Path, config: EngineConfig) -> Result<Self, OpenError> {
        if let PruneStrategy::KeepN(kept) = config.prune.strategy
            && kept < MIN_KEPT
        {
            return Err(OpenError::NumKept(kept));
        }
        let (local, upgrades) = (config.node.local.clone(), config.node.upgrades.clone());
        let files = Files::new(checkpoints);
        files.remove_unfinished()?;
        let versions = Versions::new(db.clone());
        let store = DbStore::open(db)?;
        let committed = crate::StateStore::committed(&store);
        let mut app = NodeApp::new(build_mux(&config.doc, config.node), Box::new(store), config.consensus_key);
        if let Some((version, app_hash)) = committed {
            app.resume()?;
            versions.set_latest(Latest { height: version.cast_signed(), app_hash, time: Time::default() });
        }
        let pruner = pruner::start(Arc::clone(&versions), config.prune).map_err(OpenError::Thread)?;
        let checkpointer = match config.checkpointer {
            None => None,
            Some(settings) => {
                let initial_version = u64::try_from(config.doc.height).unwrap_or(0);
                let (versions, files) = (Arc::clone(&versions), files.clone());
                let checkpointer = Checkpointer { versions, files, initial_version, config: settings };
                Some(checkpointer::start(checkpointer).map_err(OpenError::Thread)?)
            }
        };
        let queries = Queries::new(Arc::clone(&versions), Arc::clone(&config.doc), local);
        let mut opened = Self {
            checkpointer,
            _pruner: pruner,
            app,
            db: db.clone(),
            versions,
            files,
            restorer: Restorer::new(db.clone()),
            doc: config.doc,
            queries,
            upgrades,
            save_upgrades: config.save_upgrades,
            halt_hooks: Vec::new(),
            block_time: Time::default(),
        };
        opened.keep_upgrades()?;
        Ok(opened)
    }

    /// Reads the state beside the application.
    pub fn queries(&self) -> Queries {
        self.queries.clone()
    }

    /// Controls the making of checkpoints, if any are made.
    pub fn checkpointer(&self) -> Option<CheckpointerHandle> {
        self.checkpointer.as_ref().map(|(_, handle)| handle.clone())
    }

    /// The application without what surrounds it.
    pub fn node(&self) -> &NodeApp {
        &self.app
    }

    /// Has something done once when the node has to stop at an upgrade or where its operator said.
    pub fn on_halt(&mut self, hook: HaltHook) {
        self.halt_hooks.push(hook);
    }

    /// Writes pending upgrades to disk if they changed.
    pub(crate) fn keep_upgrades(&mut self) -> Result<(), Fatal> {
        if let (Some(upgrades), Some(save)) = (&self.upgrades, &mut self.save_upgrades)
            && let Some(pending) = upgrades.take_changes()
        {
            // Never ahead of the state: an upgrade that is marked as done would not run when its block is executed again.
            self.db.sync().map_err(StoreError::from)?;
            save(&pending).map_err(Fatal::Storage)?;
        }
        Ok(())
    }

    /// The epoch of the next block; invalid before the first one.
    fn next_epoch(&self) -> apps_core::Result<Epoch> {
        let height = self.app.info().last_height;
        if height == 0 {
            return Ok(EPOCH_INVALID);
        }
        let state = self.app.store().state();
        match epoch::future_of_state(state)? {
            Some(future) if future.height == height.saturating_add(1) => Ok(future.epoch),
            _ => Ok(epoch::of_state(state)?.epoch),
        }
    }

    fn halt(&mut self, reason: &Halt) {
        let height = self.app.info().last_height;
        let epoch = self.next_epoch().unwrap_or(EPOCH_INVALID);
        for hook in std::mem::take(&mut self.halt_hooks) {
            hook(height, epoch, reason);
        }
    }

    /// What follows every call that may have run a block: upgrades are written down and halts are told.
    fn after<T>(&mut self, result: Result<T, Fatal>) -> Result<T, Fatal> {
        self.keep_upgrades()?;
        if let Err(Fatal::Halt { reason, .. }) = &result {
            let upgrade = *reason == Halt::Upgrade.to_string();
            self.halt(if upgrade { &Halt::Upgrade } else { &Halt::Configured });
        }
        result
    }

    /// Nodes that do not propose would learn of a stop only with the next block, which validators never make: whoever is
    /// to propose it stops, and without its vote the others may not get any further.
    fn halt_if_due(&mut self) {
        let height = self.app.info().last_height;
        let due = self.next_epoch().and_then(|epoch| {
            if epoch == EPOCH_INVALID {
                return Ok(Ok(()));
            }
            if let Some(upgrades) = &self.upgrades
                && let Err(reason) = upgrades.check_after_commit(epoch, height)?
            {
                return Ok(Err(reason));
            }
            let halts = self.app.mux().halts_before(height.saturating_add(1), epoch);
            Ok(if halts { Err(Halt::Configured) } else { Ok(()) })
        });
        match due {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => self.halt(&reason),
            Err(error) => tracing::error!(%error, height, "failed to check whether a halt is due"),
        }
    }

    /// Goes on from a version that was just restored.
    pub(crate) fn adopt(&mut self) -> Result<(), Fatal> {
        let store = DbStore::open(&self.db)?;
        self.app.resume_from(Box::new(store))?;
        let Some((version, app_hash)) = self.app.store().committed() else {
            return Err(Fatal::Internal("restored state is gone".to_owned()));
        };
        self.versions.set_latest(Latest { height: version.cast_signed(), app_hash, time: Time::default() });
        self.keep_upgrades()
    }
}

impl Drop for EngineApp {
    /// Waits until everything is on disk: others may still hold the database.
    fn drop(&mut self) {
        if let Err(error) = self.db.sync() {
            tracing::error!(%error, "failed to write the state to disk");
        }
    }
}

impl Application for EngineApp {
    fn info(&self) -> AppInfo {
        self.app.info()
    }

    fn init_chain(&mut self, request: &InitChain) -> Result<InitChainResult, Fatal> {
        let refuse = |text: String| Fatal::Internal(format!("genesis: {text}"));
        let text = std::str::from_utf8(&request.app_state).map_err(|e| refuse(e.to_string()))?;
        let doc = Document::from_json(text).map_err(|e| refuse(e.to_string()))?;
        if doc.height != request.initial_height || doc.height != self.doc.height {
            let (genesis, engine, node) = (doc.height, request.initial_height, self.doc.height);
            return Err(refuse(format!(
                "inconsistent initial height (application state: {genesis} engine: {engine} node: {node})"
            )));
        }
        let (found, expected) = (doc.chain_context(), self.app.mux().chain());
        if found != *expected {
            return Err(refuse(format!("application state is of chain {found}, expected {expected}")));
        }
        self.app.init_chain(&doc)
    }

    fn check_tx(&mut self, tx: &[u8], kind: CheckKind) -> CheckResult {
        let result = self.app.check_tx(tx, kind);
        match kind {
            CheckKind::Recheck if result.code != 0 => self.versions.invalidated(tx, &result),
            CheckKind::New if result.code == 0 => self.versions.accepted(tx),
            _ => {}
        }
        result
    }

    fn prepare_proposal(&mut self, request: &PrepareProposal) -> Result<Vec<Vec<u8>>, Fatal> {
        let built = self.app.prepare_proposal(request);
        self.after(built)
    }

    fn process_proposal(&mut self, block: &ProposedBlock) -> Result<Verdict, Fatal> {
        let verdict = self.app.process_proposal(block);
        self.after(verdict)
    }

    fn execute(&mut self, block: &ProposedBlock) -> Result<BlockResults, Fatal> {
        let results = self.app.execute(block);
        self.block_time = block.time;
        self.after(results)
    }

    fn commit(&mut self) -> Result<Committed, Fatal> {
        let committed = self.app.commit()?;
        if let Some((version, app_hash)) = self.app.store().committed() {
            self.versions.set_latest(Latest { height: version.cast_signed(), app_hash, time: self.block_time });
        }
        self.halt_if_due();
        self.keep_upgrades()?;
        Ok(Committed { retain_height: self.versions.retained.load(Ordering::Relaxed), ..committed })
    }

    fn snapshots(&mut self) -> &mut dyn Snapshots {
        self
    }
}

#[cfg(test)]
mod tests;
