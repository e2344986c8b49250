//! All ParaTimes of a node.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use base_codec::{Raw, cbor};
use base_crypto::blacklist::Blacklist;
use base_identity::Identity;
use base_prims::Namespace;
use node_config::{Config, Mode};
use node_hosting::Hosting;
use node_workers::registration::Registration;
use node_workers::{Blocks, Submission};
use p2p_net::api::P2p;
use rt_host::HostInfo;
use rt_host::services::Consensus;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::worker::ParaTime;

/// What a node has for its ParaTimes.
#[derive(Clone)]
pub struct Parts {
    /// The configuration.
    pub config: Arc<Config>,
    /// The data directory.
    pub data_dir: PathBuf,
    /// The node's keys.
    pub identity: Arc<Identity>,
    /// Whether unsafe options are allowed (test networks).
    pub unsafe_options: bool,
    /// Whether well-known test keys may sign (test networks).
    pub allow_test_keys: bool,
    /// Keys whose signatures never count.
    pub blacklist: Arc<Blacklist>,
    /// How evidence of enclaves is verified.
    pub tee: rt_tee::VerifyOptions,
    /// What runtimes are told of the network.
    pub info: HostInfo,
    /// The consensus layer.
    pub chain: Arc<dyn Blocks>,
    /// What runtimes may ask of it.
    pub consensus: Arc<dyn Consensus>,
    /// The chain context, hexadecimal, as names of the network have it.
    pub chain_context: String,
    /// The network.
    pub p2p: Arc<dyn P2p>,
    /// Sends transactions.
    pub submission: Arc<Submission>,
    /// Registers the node.
    pub registration: Registration,
}

impl Parts {
    /// Whether the node keeps the state of its runtimes.
    pub(crate) fn with_state(&self) -> bool {
        self.config.consensus.local_storage && self.serves_clients()
    }

    /// Whether clients may use the runtimes through this node, for which it has a pool.
    pub(crate) fn serves_clients(&self) -> bool {
        !matches!(self.config.mode, Mode::Validator | Mode::Seed | Mode::KeyManager)
    }
}

/// The node's ParaTimes cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Bundles, sandbox or settings.
    #[error(transparent)]
    Hosting(Box<node_hosting::HostingError>),
    /// The state of one cannot be opened.
    #[error("runtime {runtime}: {source}")]
    Store {
        /// Which.
        runtime: Namespace,
        /// Why.
        source: Box<node_storage::StoreError>,
    },
    /// The committee worker of one cannot be made.
    #[error("runtime {runtime}: {source}")]
    Executor {
        /// Which.
        runtime: Namespace,
        /// Why.
        source: Box<node_executor::ExecutorError>,
    },
    /// The key manager's worker cannot be made.
    #[error("key manager {runtime}: {source}")]
    KeyManager {
        /// Which.
        runtime: Namespace,
        /// Why.
        source: Box<node_keymanager::KeyManagerError>,
    },
}

impl From<node_hosting::HostingError> for StartError {
    fn from(error: node_hosting::HostingError) -> Self {
        Self::Hosting(Box::new(error))
    }
}

/// The ParaTimes of a node.
pub struct ParaTimes {
    parts: Parts,
    hosting: Arc<Hosting>,
    runtimes: BTreeMap<Namespace, Arc<ParaTime>>,
    ready: watch::Sender<bool>,
    stop: CancellationToken,
}

impl ParaTimes {
    /// Puts together what the configuration names; nothing runs before [`ParaTimes::run`]. `None` if the node has no
    /// ParaTimes by its mode.
    ///
    /// # Errors
    /// If something that was configured cannot be used.
    pub async fn new(parts: Parts, stop: CancellationToken) -> Result<Option<Arc<Self>>, StartError> {
        if matches!(parts.config.mode, Mode::Validator | Mode::Seed) {
            return Ok(None);
        }
        let (proxies, tls) = (&parts.config.ias.proxy_addresses, &parts.identity.tls);
        let setup = node_hosting::Setup {
            config: Arc::clone(&parts.config),
            data_dir: parts.data_dir.clone(),
            info: parts.info.clone(),
            chain: parts.chain.clone(),
            unsafe_options: parts.unsafe_options,
            tee: parts.tee.clone(),
            node_key: Some(parts.identity.node.clone()),
            ias: node_hosting::ias::proxies(proxies, tls, &parts.tee)?,
        };
        let hosting = Hosting::start(setup, stop.child_token()).await?;
        let mut runtimes = BTreeMap::new();
        for id in hosting.runtimes() {
            runtimes.insert(id, ParaTime::new(&parts, &hosting, id, &stop)?);
        }
        let ready = watch::Sender::new(runtimes.is_empty());
        Ok(Some(Arc::new(Self { parts, hosting, runtimes, ready, stop })))
    }

    /// One of them.
    pub fn get(&self, id: &Namespace) -> Option<Arc<ParaTime>> {
        self.runtimes.get(id).cloned()
    }

    /// Their ids.
    pub fn ids(&self) -> Vec<Namespace> {
        self.runtimes.keys().copied().collect()
    }

    /// The bundles.
    pub fn hosting(&self) -> &Arc<Hosting> {
        &self.hosting
    }

    /// The services for clients.
    pub fn router(self: &Arc<Self>) -> base_grpc::Router {
        crate::service::router(self)
    }

    /// Whether all of them are ready; never goes back.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    pub(crate) fn is_debug(&self) -> bool {
        self.parts.unsafe_options
    }

    /// Whether no runtime's history needs the consensus block any more.
    ///
    /// # Errors
    /// Says which one does.
    pub fn can_prune_consensus(&self, height: i64) -> Result<(), String> {
        self.runtimes.values().try_for_each(|runtime| runtime.store().can_prune_consensus(height))
    }

    /// How they are, by id, as `control status` shows it. Reads disk.
    pub fn statuses(&self) -> BTreeMap<Namespace, Raw> {
        self.runtimes
            .iter()
            .filter(|_| self.parts.config.mode != Mode::KeyManager)
            .map(|(id, runtime)| (*id, Raw(cbor::to_vec(&runtime.status(&self.parts)))))
            .collect()
    }

    /// How the key manager is, if the node is one.
    pub fn key_manager_status(&self) -> Option<Raw> {
        self.runtimes.values().find_map(|runtime| runtime.key_manager_status())
    }

    /// Runs them until stopped.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&self.hosting).run(stop.child_token()));
        for runtime in self.runtimes.values() {
            tasks.spawn(Arc::clone(runtime).run(stop.child_token()));
        }
        let all = Arc::clone(&self);
        let ending = stop.clone();
        tasks.spawn(async move {
            for runtime in all.runtimes.values() {
                let mut ready = runtime.ready();
                tokio::select! {
                    done = ready.wait_for(|ready| *ready) => if done.is_err() { return },
                    () = ending.cancelled() => return,
                }
            }
            all.ready.send_replace(true);
        });
        while tasks.join_next().await.is_some() {}
    }
}
