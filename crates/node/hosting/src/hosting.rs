//! Everything that a node hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use base_crypto::ed25519::SecretKey;
use base_kv::KvStore;
use base_kv_disk::{Disk, Options};
use base_prims::Namespace;
use node_config::Config;
use node_workers::Chain;
use node_workers::runtime::RuntimeView;
use parking_lot::Mutex;
use rt_bundle::{Limits, OpenOptions};
use rt_host::api::{HostInfo, Provisioner};
use rt_host::discovery::{Discovery, MAX_FOUND, Settings};
use rt_host::services::{LocalStorage, MAX_LOCAL_STORAGE_BYTES};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use wire_runtime::rofl::Labels;

use crate::bundles::Bundles;
use crate::error::HostingError;
use crate::hosted::{Hosted, Parts};
use crate::volumes::Volumes;
use crate::{provision, settings};

/// Folder of collateral below `runtimes`.
const COLLATERAL: &str = "collateral";
/// Most bytes of it.
const MAX_COLLATERAL_BYTES: u64 = 256 << 20;
/// Folder of a runtime's own values below `runtimes/ID`.
pub const LOCAL_STORAGE: &str = "local";

/// What hosting needs.
pub struct Setup {
    /// The node's configuration.
    pub config: Arc<Config>,
    /// The node's data directory.
    pub data_dir: PathBuf,
    /// What every runtime is told about the network.
    pub info: HostInfo,
    /// The consensus layer.
    pub chain: Arc<dyn Chain>,
    /// Whether options for test networks are allowed.
    pub unsafe_options: bool,
    /// How quotes are verified.
    pub tee: rt_tee::VerifyOptions,
    /// The node's key, which endorses components; without it none is endorsed, and labels are not attested.
    pub node_key: Option<SecretKey>,
    /// Who makes reports about quotes of the older kind: see [`crate::ias::proxies`].
    pub ias: Vec<Arc<dyn rt_host::ias::Endpoint>>,
}

/// All configured runtimes.
pub struct Hosting {
    pub(crate) config: Arc<Config>,
    pub(crate) data_dir: PathBuf,
    pub(crate) chain: Arc<dyn Chain>,
    pub(crate) node_key: Option<SecretKey>,
    pub(crate) provisioner: Arc<dyn Provisioner>,
    pub(crate) bundles: Bundles,
    pub(crate) volumes: Arc<Volumes>,
    pub(crate) discovery: Discovery,
    configured: BTreeSet<Namespace>,
    storages: Mutex<BTreeMap<Namespace, LocalStorage>>,
    hosted: Mutex<BTreeMap<Namespace, Weak<Hosted>>>,
}

fn open_store(path: &Path, max_bytes: u64) -> Result<Arc<dyn KvStore>, HostingError> {
    let options = Options { max_bytes, ..Options::default() };
    let failed = |source| HostingError::Store { path: path.to_owned(), source };
    Ok(Arc::new(Disk::open(path, options).map_err(failed)?))
}

/// Where bundles are looked for.
fn discovery_settings(config: &Config, configured: &BTreeSet<Namespace>) -> Settings {
    let own = |id: &Namespace| {
        let entries = config.runtime.runtimes.iter().filter(|entry| entry.id.0 == *id);
        entries.flat_map(|entry| entry.registries.iter().cloned()).collect()
    };
    let max_bundle_bytes = match config.runtime.max_bundle_size.bytes() {
        0 => Limits::DEFAULT_DOWNLOAD_BYTES,
        bytes => bytes,
    };
    Settings {
        registries: config.runtime.registries.clone(),
        runtimes: configured.iter().map(|id| (*id, own(id))).collect(),
        max_bundle_bytes,
        ..Settings::default()
    }
}

impl Hosting {
    /// Reads the configuration, opens stores, takes in bundles. Nothing runs yet.
    ///
    /// # Errors
    /// If an option needs unsafe options, mode and runtimes do not fit, or the data directory cannot be used. A bundle
    /// that cannot be used is no error: see [`problems`](Self::problems).
    pub async fn start(setup: Setup, stop: CancellationToken) -> Result<Arc<Self>, HostingError> {
        let opening = tokio::task::spawn_blocking(move || Self::open(setup));
        tokio::select! {
            opened = opening => opened.map_err(|e| HostingError::Internal(e.to_string()))?.map(Arc::new),
            () = stop.cancelled() => Err(HostingError::Internal("the node was stopped".into())),
        }
    }

    fn open(setup: Setup) -> Result<Self, HostingError> {
        let Setup { config, data_dir, info, chain, unsafe_options, tee, node_key, ias } = setup;
        let runtimes = data_dir.join("runtimes");
        let volumes = Arc::new(Volumes::open(&data_dir)?);
        let (bundles, configured) = Bundles::open(&data_dir, &config, volumes.clone())?;
        settings::check_mode(config.mode, !configured.is_empty(), unsafe_options)?;
        let provisioner = provision::provisioner(provision::Setup {
            config: &config.runtime,
            info,
            unsafe_options,
            chain: chain.clone(),
            node_key: node_key.clone(),
            ias,
            cache: open_store(&runtimes.join(COLLATERAL), MAX_COLLATERAL_BYTES)?,
            tee,
        })?;
        let settings = discovery_settings(&config, &configured);
        let discovery = Discovery::new(settings, bundles.store().clone(), bundles.hashes());
        Ok(Self {
            config,
            data_dir,
            chain,
            node_key,
            provisioner,
            bundles,
            volumes,
            discovery,
            configured,
            storages: Mutex::default(),
            hosted: Mutex::default(),
        })
    }

    /// The configured runtimes, in order of their ids.
    pub fn runtimes(&self) -> Vec<Namespace> {
        self.configured.iter().copied().collect()
    }

    /// Bundles of the configuration that cannot be used, with the reason.
    pub fn problems(&self) -> Vec<String> {
        self.bundles.problems()
    }

    /// The folder of a runtime in the data directory.
    pub fn folder(&self, id: &Namespace) -> PathBuf {
        self.data_dir.join("runtimes").join(id.to_string())
    }

    /// A runtime's own values. Opened at the first call, and the same for all.
    ///
    /// # Errors
    /// If the store cannot be opened.
    pub fn local_storage(&self, id: &Namespace) -> Result<LocalStorage, HostingError> {
        let mut storages = self.storages.lock();
        if let Some(storage) = storages.get(id) {
            return Ok(storage.clone());
        }
        // Room for what is being written beside what is there.
        let store = open_store(&self.folder(id).join(LOCAL_STORAGE), MAX_LOCAL_STORAGE_BYTES.saturating_mul(2))?;
        let storage = LocalStorage::new(store);
        storages.insert(*id, storage.clone());
        Ok(storage)
    }

    /// Adds a bundle to a running node: it is copied, verified, and hosted as soon as the chain wants its version. Reads and
    /// writes disk.
    ///
    /// # Errors
    /// If it is refused, a key manager's, or of a runtime that is not configured.
    pub fn add_bundle(&self, path: &Path) -> Result<(), HostingError> {
        let hash = self.bundles.add(path, &OpenOptions::default(), &self.configured)?;
        self.discovery.set_known(hash);
        Ok(())
    }

    /// A configured runtime, to be run with [`Hosted::run`].
    ///
    /// # Errors
    /// If it is not configured, hosted already, or its local storage cannot be opened.
    pub fn host(
        self: &Arc<Self>,
        id: Namespace,
        view: watch::Receiver<RuntimeView>,
        parts: Parts,
    ) -> Result<Arc<Hosted>, HostingError> {
        if !self.configured.contains(&id) {
            return Err(HostingError::NotConfigured(id));
        }
        let mut hosted = self.hosted.lock();
        if hosted.get(&id).is_some_and(|old| old.strong_count() > 0) {
            return Err(HostingError::Twice(id));
        }
        let new = Hosted::new(self.clone(), id, view, parts)?;
        hosted.insert(id, Arc::downgrade(&new));
        Ok(new)
    }

    /// Looks for bundles until stopped.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let (sender, mut found) = mpsc::channel(MAX_FOUND);
        let take = async {
            while let Some(bundle) = found.recv().await {
                let this = Arc::clone(&self);
                let register = move || this.bundles.register(bundle, Labels::new(), None);
                let outcome = tokio::task::spawn_blocking(register).await;
                if let Err(e) = outcome.unwrap_or_else(|e| Err(HostingError::Internal(e.to_string()))) {
                    tracing::error!(module = "runtime/bundle/manager", err = %e, "failed to register manifest");
                }
            }
        };
        tokio::join!(self.discovery.run(sender, stop), take);
    }
}
