//! The bundles that a node has: those configured, those found, those added by hand or by components.
//!
//! Source: `go/runtime/bundle/{manager,registry}.go`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base_prims::{Hash, Namespace, Version};
use parking_lot::Mutex;
use rt_bundle::{Binary, Exploded, OpenOptions, Store, Wrap};
use rt_host::discovery::remove_obsolete;
use tokio::sync::watch;
use wire_runtime::bundle::{
    Component, ComponentId, Elf, KIND_RONL, LABEL_VOLUME_AUTO_GENERATED, LABEL_VOLUME_COMPONENT_ID, LABEL_VOLUME_NAME,
    LABEL_VOLUME_RUNTIME_ID, Manifest, has_labels, validate_labels,
};
use wire_runtime::rofl::Labels;

use crate::error::HostingError;
use crate::volumes::Volumes;

/// Most bundles that a node hosts at once. The reference has no limit.
pub const MAX_BUNDLES: usize = 4096;
/// Name of the executable in the manifest of a runtime that has none (mock).
const MOCK_EXECUTABLE: &str = "mock";

/// Paths of volumes, by the names that the bundle has for them.
pub(crate) type Attached = BTreeMap<String, PathBuf>;

/// A bundle with what the node knows about it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) bundle: Arc<Exploded>,
    pub(crate) labels: Labels,
    pub(crate) volumes: Attached,
}

/// A component of a known bundle.
#[derive(Clone, Debug)]
pub(crate) struct Offered {
    pub(crate) id: ComponentId,
    pub(crate) component: Component,
    pub(crate) known: Known,
}

impl Offered {
    /// Whether whatever version the chain wants may be tried with it.
    pub(crate) fn fits_any_version(&self) -> bool {
        self.known.bundle.version_from_runtime
    }
}

/// All bundles.
pub(crate) struct Bundles {
    store: Store,
    volumes: Arc<Volumes>,
    known: Mutex<BTreeMap<Hash, Known>>,
    changed: watch::Sender<u64>,
    /// Bundles of the configuration that cannot be used.
    problems: Vec<String>,
}

/// A bare binary of the configuration as if it were a bundle.
fn wrap(entry: &node_config::schema::RuntimeBinary) -> Result<Exploded, rt_bundle::Error> {
    let binary = match Binary::detect(Path::new(&entry.path))? {
        Binary::Sgxs { image, elf, .. } if !entry.signature.is_empty() => {
            Binary::Sgxs { image, elf, signature: Some(PathBuf::from(&entry.signature)) }
        }
        other => other,
    };
    let name = Path::new(&entry.path).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Wrap { runtime_id: entry.id.0, name, version: None, binary }.to_exploded()
}

/// Stands for the bundle of a runtime that is mocked.
fn mock_bundle(runtime: Namespace) -> Exploded {
    let ronl = Component {
        kind: KIND_RONL.into(),
        elf: Some(Elf { executable: MOCK_EXECUTABLE.into() }),
        ..Component::default()
    };
    let manifest = Manifest { id: runtime, components: vec![ronl], ..Manifest::default() };
    let mut bundle = Exploded::new(manifest, PathBuf::new());
    bundle.version_from_runtime = true;
    bundle
}

impl Bundles {
    /// Opens the store, takes in the configured bundles and those of earlier runs, and drops what is not wanted any more.
    /// Returns the ids of all configured runtimes too. Reads and writes disk.
    pub(crate) fn open(
        data_dir: &Path,
        config: &node_config::Config,
        volumes: Arc<Volumes>,
    ) -> Result<(Self, BTreeSet<Namespace>), HostingError> {
        let store = Store::new(data_dir);
        store.prepare()?;
        let mut problems = Vec::new();
        let mut given = Vec::new();
        let archives = config.runtime.paths.iter();
        let archives = archives.map(|path| (path, store.add(Path::new(path), &OpenOptions::default())));
        let bare = config.runtime.binaries.iter().map(|entry| (&entry.path, wrap(entry)));
        for (path, loaded) in archives.chain(bare) {
            match loaded {
                Ok(bundle) => given.push(bundle),
                Err(e) => {
                    tracing::error!(module = "runtime/bundle/manager", path, err = %e, "failed to explode bundle");
                    problems.push(format!("{path}: {e}"));
                }
            }
        }
        let mut configured = crate::settings::named(config);
        configured.extend(given.iter().map(|bundle| bundle.manifest.id));
        let listing = store.list()?;
        for skipped in &listing.skipped {
            tracing::warn!(module = "runtime/bundle/manager", path = %skipped.path.display(), err = skipped.reason,
                "skipping malformed manifest");
        }
        let from_paths: BTreeSet<Hash> = given.iter().map(|bundle| bundle.manifest_hash).collect();
        let mut all = store.clean_at_start(listing.bundles, &configured, &from_paths)?;
        let stored: BTreeSet<Hash> = all.iter().map(|bundle| bundle.manifest_hash).collect();
        all.extend(given.into_iter().filter(|bundle| !stored.contains(&bundle.manifest_hash)));
        let mut this = Self { store, volumes, known: Mutex::default(), changed: watch::Sender::new(0), problems };
        // Bundles without on-chain component first, so that components are there when their runtime starts.
        all.sort_by_key(|bundle| !bundle.manifest.is_detached());
        for bundle in all {
            let dir = bundle.dir.display().to_string();
            if let Err(e) = this.register(Arc::new(bundle), Labels::new(), None) {
                tracing::error!(module = "runtime/bundle/manager", path = dir, err = %e, "bundle cannot be hosted");
                this.problems.push(format!("{dir}: {e}"));
            }
        }
        if config.runtime.provisioner == "mock" {
            for id in &configured {
                if this.offered(id).is_empty() {
                    this.register(Arc::new(mock_bundle(*id)), Labels::new(), None)?;
                }
            }
        }
        Ok((this, configured))
    }

    pub(crate) fn problems(&self) -> Vec<String> {
        self.problems.clone()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Counts changes.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn hashes(&self) -> Vec<Hash> {
        self.known.lock().keys().copied().collect()
    }

    /// Takes in an unpacked bundle. Volumes that are not given are made where components need them.
    pub(crate) fn register(
        &self,
        bundle: Arc<Exploded>,
        labels: Labels,
        volumes: Option<Attached>,
    ) -> Result<(), HostingError> {
        let refused = |reason: String| HostingError::Register(reason);
        validate_labels(&labels).map_err(|e| refused(e.to_string()))?;
        let volumes = match volumes {
            Some(volumes) => volumes,
            None => self.default_volumes(&bundle)?,
        };
        let components = bundle.manifest.available_components();
        for (id, component) in &components {
            if let Some(missing) = component.required_volumes().into_iter().find(|name| !volumes.contains_key(*name)) {
                return Err(refused(format!("failed to validate volumes: component '{id}' needs volume '{missing}'")));
            }
        }
        {
            let mut known = self.known.lock();
            if known.contains_key(&bundle.manifest_hash) {
                return Ok(());
            }
            if known.len() >= MAX_BUNDLES {
                return Err(refused(format!("there are {MAX_BUNDLES} bundles already; remove some")));
            }
            for other in known.values().filter(|other| other.bundle.manifest.id == bundle.manifest.id) {
                for (id, component) in other.bundle.manifest.available_components() {
                    if components.get(&id).is_some_and(|new| new.version == component.version) {
                        return Err(refused(format!(
                            "duplicate component '{id}', version '{}', for runtime '{}'",
                            component.version, bundle.manifest.id
                        )));
                    }
                }
            }
            tracing::info!(module = "runtime/bundle/registry", name = bundle.manifest.name,
                hash = %bundle.manifest_hash, runtime_id = %bundle.manifest.id, "manifest added");
            known.insert(bundle.manifest_hash, Known { bundle, labels, volumes });
        }
        self.tell();
        Ok(())
    }

    fn tell(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn default_volumes(&self, bundle: &Exploded) -> Result<Attached, HostingError> {
        let mut out = Attached::new();
        for (id, component) in bundle.manifest.available_components() {
            for name in component.required_volumes() {
                let labels = [
                    (LABEL_VOLUME_AUTO_GENERATED, "true".to_owned()),
                    (LABEL_VOLUME_RUNTIME_ID, bundle.manifest.id.to_string()),
                    (LABEL_VOLUME_COMPONENT_ID, id.to_string()),
                    (LABEL_VOLUME_NAME, name.to_owned()),
                ];
                let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
                out.insert(name.to_owned(), self.volumes.get_or_create(&labels)?.path);
            }
        }
        Ok(out)
    }

    /// Adds an archive that an operator or a component brings; reads and writes disk.
    pub(crate) fn add(
        &self,
        path: &Path,
        options: &OpenOptions,
        configured: &BTreeSet<Namespace>,
    ) -> Result<Hash, HostingError> {
        let mut bundle = rt_bundle::Bundle::open(path, options)?;
        let id = bundle.manifest().id;
        if id.is_key_manager() {
            tracing::warn!(module = "runtime/bundle/manager", runtime_id = %id, "not allowed to add key manager bundle");
            return Err(HostingError::KeyManagerBundle);
        }
        if !configured.contains(&id) {
            return Err(HostingError::NotConfigured(id));
        }
        let exploded = self.store.explode(&mut bundle)?;
        let hash = exploded.manifest_hash;
        self.register(Arc::new(exploded), Labels::new(), None)?;
        Ok(hash)
    }

    /// Bundles that have these labels.
    pub(crate) fn find(&self, labels: &Labels) -> Vec<Known> {
        self.known.lock().values().filter(|known| has_labels(&known.labels, labels)).cloned().collect()
    }

    /// Forgets bundles of a runtime that have these labels. Their files go at the next start.
    pub(crate) fn remove(&self, runtime: &Namespace, labels: &Labels) -> usize {
        let removed = {
            let mut known = self.known.lock();
            let before = known.len();
            known.retain(|_, k| k.bundle.manifest.id != *runtime || !has_labels(&k.labels, labels));
            before.saturating_sub(known.len())
        };
        if removed > 0 {
            self.tell();
        }
        removed
    }

    /// Forgets and removes the bundles of a runtime that are older than its active version. Writes to disk.
    pub(crate) fn remove_obsolete(&self, runtime: &Namespace, active: Version) {
        let bundles: Vec<_> = self.known.lock().values().map(|known| Arc::clone(&known.bundle)).collect();
        let removed = remove_obsolete(&self.store, &bundles, runtime, active);
        if removed.is_empty() {
            return;
        }
        {
            let mut known = self.known.lock();
            for hash in &removed {
                known.remove(hash);
                tracing::info!(module = "runtime/bundle/manager", runtime_id = %runtime, manifest_hash = %hash,
                    "bundle removed");
            }
        }
        self.tell();
    }

    /// The components of a runtime: those of bundles without on-chain component first, then by version.
    pub(crate) fn offered(&self, runtime: &Namespace) -> Vec<Offered> {
        let known = self.known.lock();
        let of_runtime = known.values().filter(|known| known.bundle.manifest.id == *runtime);
        let mut out: Vec<Offered> = of_runtime
            .flat_map(|known| {
                let components = known.bundle.manifest.available_components().into_iter();
                components.map(|(id, component)| Offered { id, component, known: known.clone() })
            })
            .collect();
        out.sort_by_key(|o| (!o.known.bundle.manifest.is_detached(), o.component.version, o.id.clone()));
        out
    }
}
