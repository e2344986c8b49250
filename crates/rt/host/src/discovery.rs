//! Finds the bundles that a runtime's descriptor names, and keeps those that are there in order.
//!
//! A registry is a web address; below it, under the hash of a bundle's manifest, lies a short text, the address of the
//! bundle. What is downloaded counts only when its manifest has that hash; nothing half-written is ever seen. Source:
//! `go/runtime/bundle/{manager,registry}.go`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use base_prims::{Hash, Namespace, Version};
use parking_lot::Mutex;
use rt_bundle::{Exploded, Limits, OpenOptions, Store, is_obsolete};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use wire_consensus::registry::Runtime;
use wire_runtime::bundle::{Component, ComponentId, TeeKind};

use crate::http::{Client, HttpError, Progress};

/// Default of `runtime.registries`.
pub const DEFAULT_REGISTRY: &str = "https://raw.githubusercontent.com/oasisprotocol/bundle-registry/main/metadata/";
/// How much of a registry's answer counts; what follows is cut off.
pub const MAX_METADATA_BYTES: u64 = 2 << 10;
/// How long a request may take, from connecting to the last byte.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause between attempts when nothing new is asked for.
pub const RETRY_INTERVAL: Duration = Duration::from_secs(15 * 60);
/// How often a download that broke off is gone on with at once.
pub const MAX_RESUMES: usize = 5;
/// Bundles that may wait to be taken.
pub const MAX_FOUND: usize = 16;
/// Most bundles that are looked for per runtime.
pub const MAX_WANTED: usize = 16;

/// Why a bundle was not found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The registry's answer is no web address.
    #[error("failed to get metadata: {url}: {reason}")]
    Metadata {
        /// Where it was asked for.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// A request failed.
    #[error("failed to fetch: {0}")]
    Http(#[from] HttpError),
    /// What was downloaded is refused.
    #[error("failed to open bundle: {0}")]
    Bundle(#[from] rt_bundle::Error),
    /// There is nowhere to ask.
    #[error("no bundle registry is configured for the runtime")]
    NoRegistry,
    /// A task failed.
    #[error("internal error: {0}")]
    Internal(String),
}

/// Where bundles are looked for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Registries of all runtimes.
    pub registries: Vec<String>,
    /// Runtimes that are hosted, with registries of their own, which are asked first.
    pub runtimes: BTreeMap<Namespace, Vec<String>>,
    /// Bytes that are too many for a bundle.
    pub max_bundle_bytes: u64,
    /// Pause between attempts.
    pub retry: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            registries: vec![DEFAULT_REGISTRY.into()],
            runtimes: BTreeMap::new(),
            max_bundle_bytes: Limits::DEFAULT_DOWNLOAD_BYTES,
            retry: RETRY_INTERVAL,
        }
    }
}

impl Settings {
    fn registries_of(&self, runtime: &Namespace) -> Vec<&str> {
        let own = self.runtimes.get(runtime).into_iter().flatten();
        own.chain(&self.registries).map(String::as_str).collect()
    }

    /// Whether bundles of a runtime are looked for at all.
    fn looks_for(&self, runtime: &Namespace) -> bool {
        !runtime.is_key_manager() && self.runtimes.contains_key(runtime) && !self.registries_of(runtime).is_empty()
    }
}

/// The manifest hashes that a descriptor asks for: of the deployment that is valid and of those after it.
pub fn wanted(runtime: &Runtime, epoch: base_prims::Epoch) -> Vec<Hash> {
    let mut deployments: Vec<_> = runtime.deployments().collect();
    deployments.sort_by_key(|d| std::cmp::Reverse(d.version));
    let mut out = Vec::new();
    for deployment in deployments {
        if let Ok(hash) = <[u8; 32]>::try_from(deployment.bundle_checksum.as_slice()) {
            out.push(Hash::new(hash));
        }
        if deployment.valid_from <= epoch || out.len() >= MAX_WANTED {
            break;
        }
    }
    out
}

/// Looks for bundles in registries.
pub struct Discovery {
    settings: Settings,
    store: Store,
    client: Client,
    queue: Mutex<BTreeMap<Namespace, Vec<Hash>>>,
    known: Mutex<BTreeSet<Hash>>,
    wake: Notify,
}

impl Discovery {
    /// Puts what it finds into `store`; `known` are the manifests that are there.
    pub fn new(settings: Settings, store: Store, known: impl IntoIterator<Item = Hash>) -> Self {
        Self {
            settings,
            store,
            client: Client::new(REQUEST_TIMEOUT),
            queue: Mutex::default(),
            known: Mutex::new(known.into_iter().collect()),
            wake: Notify::new(),
        }
    }

    /// A runtime's descriptor is new: what it asks for replaces what was looked for.
    pub fn set_wanted(&self, runtime: Namespace, hashes: Vec<Hash>) {
        if !self.settings.looks_for(&runtime) {
            return;
        }
        let known = self.known.lock().clone();
        let missing: Vec<Hash> = hashes.into_iter().filter(|hash| !known.contains(hash)).take(MAX_WANTED).collect();
        self.queue.lock().insert(runtime, missing);
        self.wake.notify_one();
    }

    /// A bundle came from elsewhere.
    pub fn set_known(&self, hash: Hash) {
        self.known.lock().insert(hash);
    }

    /// What is still looked for.
    pub fn missing(&self) -> Vec<(Namespace, Hash)> {
        let queue = self.queue.lock();
        queue.iter().flat_map(|(id, hashes)| hashes.iter().map(|hash| (*id, *hash))).collect()
    }

    /// Looks for bundles until stopped; hands over each one that it finds.
    pub async fn run(&self, found: mpsc::Sender<Arc<Exploded>>, stop: CancellationToken) {
        loop {
            let pass = async {
                for (runtime, hash) in self.missing() {
                    match self.fetch(&runtime, &hash, &stop).await {
                        Ok(bundle) => {
                            self.known.lock().insert(hash);
                            if let Some(hashes) = self.queue.lock().get_mut(&runtime) {
                                hashes.retain(|other| *other != hash);
                            }
                            tracing::info!(runtime_id = %runtime, manifest_hash = %hash, "bundle downloaded");
                            if found.send(Arc::new(bundle)).await.is_err() {
                                return;
                            }
                        }
                        Err(e) => tracing::error!(runtime_id = %runtime, manifest_hash = %hash, err = %e,
                            "failed to download bundle"),
                    }
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = pass => {}
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(self.settings.retry) => {}
            }
        }
    }

    /// Asks one registry after the other for a bundle, and unpacks it.
    ///
    /// # Errors
    /// The last registry's error.
    pub async fn fetch(&self, runtime: &Namespace, hash: &Hash, stop: &CancellationToken) -> Result<Exploded, Error> {
        let mut last = Error::NoRegistry;
        for registry in self.settings.registries_of(runtime) {
            match self.fetch_from(registry, runtime, hash, stop).await {
                Ok(bundle) => return Ok(bundle),
                Err(e) => {
                    tracing::warn!(runtime_id = %runtime, manifest_hash = %hash, registry, err = %e,
                        "bundle registry failed");
                    last = e;
                }
            }
        }
        Err(last)
    }

    async fn fetch_from(
        &self,
        registry: &str,
        runtime: &Namespace,
        hash: &Hash,
        stop: &CancellationToken,
    ) -> Result<Exploded, Error> {
        let url = metadata_url(registry, hash);
        let answer = self.client.get(&url, &[], MAX_METADATA_BYTES, true).await?;
        let text = bundle_address(&answer.body).map_err(|reason| Error::Metadata { url, reason })?;
        let file = self.download(&text, hash, stop).await?;
        let limits = Limits::downloaded(self.settings.max_bundle_bytes);
        let options = OpenOptions { limits, manifest_hash: Some(*hash), runtime_id: Some(*runtime) };
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || store.add(&file, &options).map_err(Error::from))
            .await
            .map_err(|e| Error::Internal(e.to_string()))?
    }

    async fn download(&self, url: &str, hash: &Hash, stop: &CancellationToken) -> Result<tempfile::TempPath, Error> {
        let internal = |e: std::io::Error| Error::Internal(format!("{}: {e}", self.store.temporary_dir().display()));
        std::fs::create_dir_all(self.store.temporary_dir()).map_err(internal)?;
        let file = tempfile::Builder::new()
            .prefix("oasis-bundle-")
            .suffix(".orc")
            .tempfile_in(self.store.temporary_dir())
            .map_err(internal)?
            .into_temp_path();
        let mut progress = Progress::default();
        for attempt in 0.. {
            let before = progress.bytes;
            let outcome;
            (progress, outcome) =
                self.client.download(url, &file, self.settings.max_bundle_bytes, progress, stop).await;
            match outcome {
                Ok(()) => return Ok(file),
                Err(e) if e.is_resumable() && attempt < MAX_RESUMES && progress.bytes > before => {
                    tracing::info!(manifest_hash = %hash, bytes = progress.bytes, total = progress.total, err = %e,
                        "bundle download broke off, going on");
                }
                Err(e) => return Err(e.into()),
            }
        }
        Err(Error::NoRegistry)
    }
}

/// Reads a registry's answer: the address of a bundle, with white space around it.
///
/// # Errors
/// What it is instead, shortened.
pub fn bundle_address(answer: &[u8]) -> Result<String, String> {
    let text = String::from_utf8_lossy(answer).trim().to_owned();
    if !(text.starts_with("https://") || text.starts_with("http://")) || text.contains(char::is_whitespace) {
        let shown: String = text.chars().take(100).collect();
        return Err(format!("{shown:?} is no web address"));
    }
    Ok(text)
}

/// The registry's address with the hash at its end.
fn metadata_url(registry: &str, hash: &Hash) -> String {
    let slash = if registry.ends_with('/') { "" } else { "/" };
    format!("{registry}{slash}{}", hash.to_hex())
}

/// Adds the bundles given by path, and bare binaries as they are.
///
/// # Errors
/// The first that is missing or refused; the error names it.
pub fn load_given(
    store: &Store,
    paths: &[PathBuf],
    bare: &[rt_bundle::Wrap],
) -> Result<Vec<Exploded>, rt_bundle::Error> {
    let options = OpenOptions::default();
    let archives = paths.iter().map(|path| store.add(path, &options));
    archives.chain(bare.iter().map(rt_bundle::Wrap::to_exploded)).collect()
}

/// Removes the bundles of a runtime that are older than its active version; returns their hashes. Failures are logged.
pub fn remove_obsolete(store: &Store, bundles: &[Arc<Exploded>], runtime: &Namespace, active: Version) -> Vec<Hash> {
    let obsolete = bundles.iter().filter(|b| !b.version_from_runtime && is_obsolete(&b.manifest, runtime, active));
    obsolete
        .map(|bundle| {
            if let Err(e) = store.remove(bundle) {
                tracing::warn!(runtime_id = %runtime, manifest_hash = %bundle.manifest_hash, err = %e,
                    "failed to remove obsolete bundle");
            }
            bundle.manifest_hash
        })
        .collect()
}

/// What the operator says about a component.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ComponentSettings {
    /// What it is to run in.
    pub tee: Option<TeeKind>,
    /// Whether it is switched off.
    pub disabled: bool,
}

/// Whether a component is to be hosted.
///
/// The on-chain one always is. For others the operator's word counts; else those that come on their own are, and the
/// rest on compute nodes, unless the manifest switches them off.
pub fn is_wanted(
    id: &ComponentId,
    component: &Component,
    detached: bool,
    compute: bool,
    settings: Option<&ComponentSettings>,
) -> bool {
    match (id, settings) {
        (ComponentId::Ronl, _) => true,
        (_, Some(settings)) => !settings.disabled,
        (_, None) => detached || (compute && !component.disabled),
    }
}

/// What a component runs in: the operator's word, or what it is made for.
///
/// In configurations of older generations a client without loader runs the on-chain component as it is; `legacy_client`
/// says that this is one.
pub fn choose_tee(
    id: &ComponentId,
    component: &Component,
    settings: Option<&ComponentSettings>,
    legacy_client: bool,
) -> TeeKind {
    match settings.and_then(|settings| settings.tee) {
        Some(tee) => tee,
        None if legacy_client && *id == ComponentId::Ronl => TeeKind::NONE,
        None => component.tee_kind(),
    }
}

/// The components of a runtime's bundles in the order in which they are added: bundles without on-chain component first.
///
/// # Errors
/// If a component is there twice in one version.
pub fn order(bundles: &[Arc<Exploded>]) -> Result<Vec<(Arc<Exploded>, ComponentId, Component)>, String> {
    let mut sorted: Vec<_> = bundles.iter().collect();
    sorted.sort_by_key(|bundle| !bundle.manifest.is_detached());
    let mut seen = BTreeSet::new();
    let mut out = Vec::new();
    for bundle in sorted {
        for (id, component) in bundle.manifest.available_components() {
            if !seen.insert((bundle.manifest.id, id.clone(), component.version)) {
                return Err(format!(
                    "duplicate component {id} version {} of runtime {}",
                    component.version, bundle.manifest.id
                ));
            }
            out.push((Arc::clone(bundle), id, component));
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
