//! One ParaTime of a node.

use std::sync::Arc;
use std::time::Duration;

use base_codec::{Raw, cbor};
use base_prims::Namespace;
use node_config::Mode;
use node_executor::Executor;
use node_hosting::{Hosted, Hosting};
use node_keymanager::Worker as KeyManager;
use node_storage::RuntimeStore;
use node_workers::registration::Slot;
use node_workers::runtime::{self, RuntimeView};
use parking_lot::Mutex;
use rt_host::RuntimeHost;
use rt_host::services::Services;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wire_consensus::node::Roles;

use crate::client::Client;
use crate::late::{LateScheduling, LateSubmission};
use crate::node::{Parts, StartError};
use crate::results::Results;
use crate::status::RuntimeStatus;
use crate::trees::Trees;

/// Folder of the runtimes below the data directory, and of one below it by its id.
const RUNTIMES: &str = "runtimes";

/// How often it is looked at whether the key manager is ready.
const KEY_MANAGER_POLL: Duration = Duration::from_millis(100);

type Boxed = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// One ParaTime.
pub struct ParaTime {
    pub(crate) id: Namespace,
    pub(crate) view: watch::Receiver<RuntimeView>,
    pub(crate) hosted: Arc<Hosted>,
    pub(crate) store: Arc<RuntimeStore>,
    pub(crate) executor: Option<Arc<Executor>>,
    pub(crate) key_manager: Option<Arc<KeyManager>>,
    key_managers: Arc<node_keymanager::Client>,
    client: Option<Arc<Client>>,
    results: Arc<Results>,
    // What the node is registered for while this is well: none, or once for the committee and once for storage.
    slots: Vec<Slot>,
    failed: Mutex<Option<String>>,
    ready: watch::Sender<bool>,
    following: Mutex<Option<Boxed>>,
}

impl ParaTime {
    pub(crate) fn new(
        parts: &Parts,
        hosting: &Arc<Hosting>,
        id: Namespace,
        stop: &CancellationToken,
    ) -> Result<Arc<Self>, StartError> {
        let (view, following) = runtime::follow(parts.chain.clone(), id, stop.child_token());
        let folder = parts.data_dir.join(RUNTIMES).join(id.to_string());
        let mode = parts.config.mode;
        let store = RuntimeStore::open(node_storage::Setup {
            runtime: id,
            config: Arc::clone(&parts.config),
            folder: folder.clone(),
            chain: parts.chain.clone(),
            chain_context: parts.chain_context.clone(),
            p2p: (mode != Mode::KeyManager).then(|| parts.p2p.clone()),
            with_state: parts.with_state(),
            view: view.clone(),
        })
        .map_err(|e| StartError::Store { runtime: id, source: Box::new(e) })?;
        let key_managers = node_keymanager::Client::new(
            parts.p2p.clone(),
            parts.chain_context.clone(),
            parts.chain.clone(),
            view.clone(),
        );
        let scheduling = Arc::new(LateScheduling::default());
        let services = Services {
            consensus: Some(parts.consensus.clone()),
            state: parts.with_state().then(|| store.clone() as _),
            scheduling: parts.serves_clients().then(|| scheduling.clone() as _),
            key_manager: Some(key_managers.clone()),
            node_id: Some(parts.identity.node.public().into()),
            local_storage: Some(hosting.local_storage(&id)?),
        };
        let submission = Arc::new(LateSubmission::new(id));
        let hosting_parts =
            node_hosting::Parts { services, tags: store.clone(), submission: Some(submission.clone() as _) };
        let hosted = hosting.host(id, view.clone(), hosting_parts)?;
        let executor =
            parts.serves_clients().then(|| Self::executor(parts, id, &folder, &store, &hosted, &key_managers, &view));
        let executor = executor.transpose()?;
        if let Some(executor) = &executor {
            scheduling.set(executor);
            let pruned_by = Arc::clone(executor);
            store.set_prune_veto(Arc::new(move |round| pruned_by.may_prune(round)));
        }
        let results = Arc::new(Results::default());
        let client = executor.as_ref().map(|executor| {
            Arc::new(Client {
                runtime: id,
                chain: parts.chain.clone(),
                consensus: parts.consensus.clone(),
                history: store.history().clone(),
                trees: Trees::new(store.storage().cloned()),
                state: store.clone(),
                results: results.clone(),
                executor: executor.clone(),
                host: Some(hosted.host()),
            })
        });
        if let Some(client) = &client {
            submission.set(client);
        }
        let key_manager =
            (mode == Mode::KeyManager).then(|| Self::key_manager(parts, id, &hosted, &view)).transpose()?;
        Ok(Arc::new(Self {
            id,
            view,
            hosted,
            store,
            executor,
            key_manager,
            key_managers,
            client,
            results,
            slots: slots(parts),
            failed: Mutex::new(None),
            ready: watch::Sender::new(false),
            following: Mutex::new(Some(Box::pin(following))),
        }))
    }

    fn executor(
        parts: &Parts,
        id: Namespace,
        folder: &std::path::Path,
        store: &Arc<RuntimeStore>,
        hosted: &Arc<Hosted>,
        key_managers: &node_keymanager::Client,
        view: &watch::Receiver<RuntimeView>,
    ) -> Result<Arc<Executor>, StartError> {
        let setup = node_executor::Setup {
            runtime: id,
            mode: parts.config.mode,
            config: Arc::clone(&parts.config),
            folder: folder.to_owned(),
            chain: parts.chain.clone(),
            chain_context: parts.chain_context.clone(),
            light_blocks: parts.consensus.clone(),
            submission: parts.submission.clone(),
            p2p: parts.p2p.clone(),
            node_key: parts.identity.node.clone(),
            history: store.history().clone(),
            storage: store.storage().cloned(),
            host: Some(hosted.host() as Arc<dyn RuntimeHost>),
            view: view.clone(),
            blacklist: parts.blacklist.clone(),
            key_manager: Some(key_managers.ready()),
        };
        Executor::new(setup).map_err(|e| StartError::Executor { runtime: id, source: Box::new(e) })
    }

    fn key_manager(
        parts: &Parts,
        id: Namespace,
        hosted: &Arc<Hosted>,
        view: &watch::Receiver<RuntimeView>,
    ) -> Result<Arc<KeyManager>, StartError> {
        let registration = parts.registration.clone();
        let setup = node_keymanager::Setup {
            runtime: id,
            config: Arc::clone(&parts.config),
            chain: parts.chain.clone(),
            chain_context: parts.chain_context.clone(),
            submission: parts.submission.clone(),
            p2p: parts.p2p.clone(),
            node_key: parts.identity.node.clone(),
            p2p_key: parts.identity.p2p.public().into(),
            host: hosted.host(),
            view: view.clone(),
            ready: hosted.ready(),
            contribution: hosted.contribution(),
            slots: Box::new(move || registration.slot(Roles::KEY_MANAGER)),
            allow_test_keys: parts.allow_test_keys,
        };
        KeyManager::new(setup).map_err(|e| StartError::KeyManager { runtime: id, source: Box::new(e) })
    }

    /// What clients may ask; a key manager node has none.
    pub fn client(&self) -> Option<&Arc<Client>> {
        self.client.as_ref()
    }

    /// Its history and state.
    pub fn store(&self) -> &Arc<RuntimeStore> {
        &self.store
    }

    /// Its host.
    pub fn hosted(&self) -> &Arc<Hosted> {
        &self.hosted
    }

    /// Whether everything of it was ready once.
    pub(crate) fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    pub(crate) fn status(&self, parts: &Parts) -> RuntimeStatus {
        RuntimeStatus::of(self, parts, self.failed.lock().clone())
    }

    pub(crate) fn key_manager_status(&self) -> Option<Raw> {
        self.key_manager.as_ref().map(|worker| Raw(cbor::to_vec(&worker.status())))
    }

    fn fail(&self, what: &str, error: &dyn std::fmt::Display, stop: &CancellationToken) {
        tracing::error!(module = "worker/common", runtime_id = %self.id, part = what, err = %error,
            "part of the runtime's worker failed, the runtime is given up until the node is restarted");
        *self.failed.lock() = Some(format!("{what}: {error}"));
        for slot in &self.slots {
            slot.set_unavailable();
        }
        stop.cancel();
    }

    /// Runs until stopped, or until a part of it fails.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let stop = stop.child_token();
        let mut tasks = JoinSet::new();
        if let Some(following) = self.following.lock().take() {
            let ending = stop.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = following => {}
                    () = ending.cancelled() => {}
                }
            });
        }
        tasks.spawn(Arc::clone(&self.key_managers).run(stop.child_token()));
        tasks.spawn(Arc::clone(&self.hosted).run(stop.child_token()));
        // A key manager has no blocks.
        let (me, child) = (Arc::clone(&self), stop.clone());
        let has_blocks = self.key_manager.is_none();
        tasks.spawn(async move {
            if !has_blocks {
                return;
            }
            if let Err(error) = Arc::clone(&me.store).run(child.child_token()).await {
                me.fail("storage", &error, &child);
            }
        });
        if let Some(executor) = self.executor.clone() {
            let (me, child) = (Arc::clone(&self), stop.clone());
            tasks.spawn(async move {
                if let Err(error) = executor.run(child.child_token()).await {
                    me.fail("executor", &error, &child);
                }
            });
        }
        if let Some(client) = &self.client {
            let (history, trees) = (client.history.clone(), client.trees.clone());
            let executor = client.executor.clone();
            tasks.spawn(Arc::clone(&self.results).run(history, trees, executor, stop.child_token()));
        }
        if let Some(worker) = self.key_manager.clone() {
            tasks.spawn(worker.clone().run(stop.child_token()));
            tasks.spawn(Arc::clone(&self).watch_key_manager(worker, stop.clone()));
        } else {
            tasks.spawn(Arc::clone(&self).tell_blocks(stop.clone()));
            tasks.spawn(Arc::clone(&self).keep_registered(stop.clone()));
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Tells the hosted components of the runtime's blocks.
    async fn tell_blocks(self: Arc<Self>, stop: CancellationToken) {
        let blocks = self.hosted.blocks();
        let mut watcher = self.store.history().watch_synced();
        loop {
            let next = tokio::select! {
                () = stop.cancelled() => return,
                next = watcher.next() => next,
            };
            match next {
                Ok(Some(block)) => {
                    tokio::select! {
                        () = stop.cancelled() => return,
                        sent = blocks.send(block) => if sent.is_err() { return },
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(module = "runtime/registry", runtime_id = %self.id, err = %error,
                        "components are not told of a block");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// Notices when the key manager is registered with its enclave's answer, which is when it can serve.
    async fn watch_key_manager(self: Arc<Self>, worker: Arc<KeyManager>, stop: CancellationToken) {
        while worker.status().status != node_keymanager::WorkerState::READY {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(KEY_MANAGER_POLL) => {}
            }
        }
        self.ready.send_replace(true);
    }

    /// Lets the node be registered for the runtime while everything is well.
    async fn keep_registered(self: Arc<Self>, stop: CancellationToken) {
        let mut hosted = self.hosted.ready();
        let mut changed = self.hosted.changed();
        let mut state = self.store.available();
        let mut initialized = self.store.initialized();
        let mut working = self.executor.as_ref().map_or_else(|| watch::channel(true).1, |executor| executor.ready());
        let mut told = None;
        loop {
            let well = *hosted.borrow_and_update() && *working.borrow_and_update();
            let version = *changed.borrow_and_update();
            if well && *initialized.borrow_and_update() {
                self.ready.send_replace(true);
            }
            let now = (well && *state.borrow_and_update()).then_some(version);
            if told != Some(now) {
                told = Some(now);
                for slot in &self.slots {
                    match now {
                        Some(_) => slot.set_available(self.hosted.contribution()),
                        None => slot.set_unavailable(),
                    }
                }
            }
            // A sender that is gone changes nothing any more.
            tokio::select! {
                () = stop.cancelled() => return,
                Ok(()) = hosted.changed() => {}
                Ok(()) = changed.changed() => {}
                Ok(()) = state.changed() => {}
                Ok(()) = initialized.changed() => {}
                Ok(()) = working.changed() => {}
                else => {
                    stop.cancelled().await;
                    return;
                }
            }
        }
    }
}

/// What a node is registered for with each of its runtimes.
fn slots(parts: &Parts) -> Vec<Slot> {
    let role = match parts.config.mode {
        Mode::Compute => Roles::COMPUTE,
        Mode::Observer => Roles::OBSERVER,
        _ => return Vec::new(),
    };
    let mut slots = vec![parts.registration.slot(role)];
    if parts.with_state() && parts.config.storage.public_rpc_enabled {
        let slot = parts.registration.slot(Roles::STORAGE_RPC);
        slots.push(slot);
    }
    slots
}
