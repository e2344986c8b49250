//! One runtime: its components in the versions that the chain wants. Source: `go/runtime/registry/host.go`,
//! `go/worker/common/committee/{node,registration}.go`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use apps_committees::beacon::query::next_epoch;
use base_prims::{Epoch, Hash, Namespace, Version};
use node_config::Mode;
use node_workers::registration::Contribution;
use node_workers::runtime::RuntimeView;
use parking_lot::Mutex;
use rt_host::api::{ComponentConfig, ComponentState, HostEvent, HostHandler, RuntimeHost};
use rt_host::composite::CompositeHost;
use rt_host::discovery::{choose_tee, is_wanted, wanted};
use rt_host::logs::ComponentLog;
use rt_host::notify::{Notifier, TagLookup};
use rt_host::services::{RoflServices, Services, Submission};
use rt_host::versions::choose;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wire_consensus::node::{Node, Runtime as NodeRuntime};
use wire_consensus::registry::Runtime;
use wire_consensus::roothash::AnnotatedBlock;
use wire_runtime::bundle::{ComponentId, TeeKind};

use crate::bundles::Offered;
use crate::error::HostingError;
use crate::feed;
use crate::hosting::Hosting;
use crate::management::Managed;
use crate::provision;
use crate::settings;
use crate::status::{ComponentReport, HostedStatus};

/// Runtime blocks that may wait to be told.
const MAX_WAITING_BLOCKS: usize = 64;
/// How long the components may take to end with the node.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// What a runtime gets of the node.
pub struct Parts {
    /// What its components may ask for. Without local storage here, the runtime's own of [`Hosting::local_storage`] is used.
    pub services: Services,
    /// Finds which tags the events of a block have.
    pub tags: Arc<dyn TagLookup>,
    /// Submits transactions of off-chain components.
    pub submission: Option<Arc<dyn Submission>>,
}

/// A version of a component that is known to the host.
#[derive(Clone, Copy, Debug)]
struct Placed {
    /// Of its bundle's manifest.
    manifest: Hash,
    tee: TeeKind,
    /// Whether the version that it reports must still be looked at.
    unproven: bool,
}

#[derive(Default)]
struct State {
    placed: BTreeMap<(ComponentId, Version), Placed>,
    logs: BTreeMap<ComponentId, Arc<ComponentLog>>,
    active: Option<Version>,
    next: Option<Version>,
    problems: BTreeMap<String, String>,
}

/// A hosted runtime.
pub struct Hosted {
    id: Namespace,
    hosting: Arc<Hosting>,
    host: Arc<CompositeHost>,
    notifier: Arc<Notifier>,
    services: Arc<Services>,
    submission: Option<Arc<dyn Submission>>,
    view: watch::Receiver<RuntimeView>,
    blocks: mpsc::Sender<AnnotatedBlock>,
    /// There until the runtime is run.
    waiting_blocks: Mutex<Option<mpsc::Receiver<AnnotatedBlock>>>,
    state: Arc<Mutex<State>>,
    ready: watch::Sender<bool>,
    changed: watch::Sender<u64>,
}

/// What the choice of versions follows from.
#[derive(Clone, Default, PartialEq)]
struct Basis {
    descriptor: Option<Arc<Runtime>>,
    epoch: Epoch,
    bundles: u64,
}

impl Hosted {
    pub(crate) fn new(
        hosting: Arc<Hosting>,
        id: Namespace,
        view: watch::Receiver<RuntimeView>,
        parts: Parts,
    ) -> Result<Arc<Self>, HostingError> {
        let Parts { mut services, tags, submission } = parts;
        if services.local_storage.is_none() {
            services.local_storage = Some(hosting.local_storage(&id)?);
        }
        let host = Arc::new(CompositeHost::new(id));
        let (blocks, waiting_blocks) = mpsc::channel(MAX_WAITING_BLOCKS);
        Ok(Arc::new(Self {
            id,
            notifier: Notifier::new(host.clone(), tags),
            hosting,
            host,
            services: Arc::new(services),
            submission,
            view,
            blocks,
            waiting_blocks: Mutex::new(Some(waiting_blocks)),
            state: Arc::default(),
            ready: watch::Sender::new(false),
            changed: watch::Sender::new(0),
        }))
    }

    /// The runtime.
    pub fn id(&self) -> Namespace {
        self.id
    }

    /// The components as one host.
    pub fn host(&self) -> Arc<CompositeHost> {
        Arc::clone(&self.host)
    }

    /// Takes runtime blocks that components are to be told of.
    pub fn blocks(&self) -> mpsc::Sender<AnnotatedBlock> {
        self.blocks.clone()
    }

    /// Whether the version that the chain wants runs.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Counts what may change the [contribution](Self::contribution): starts, attestations, ends, other versions.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Puts this runtime into a node's descriptor: an entry for the active version and one for the next, each if it runs and,
    /// in a TEE, is attested. Without any the descriptor stays as it is.
    pub fn contribution(&self) -> Contribution {
        let (id, host, state) = (self.id, self.host.clone(), self.state.clone());
        Arc::new(move |node: &mut Node| {
            for (version, tee) in wanted_versions(&state.lock()) {
                let Some(running) = running(&host, version) else {
                    tracing::debug!(module = "worker/registration", runtime_id = %id, %version,
                        "version does not run, skipping");
                    continue;
                };
                let capability = running.capability_tee();
                if tee != TeeKind::NONE && capability.is_none() {
                    tracing::warn!(module = "worker/registration", runtime_id = %id, %version,
                        "failed to get CapabilityTEE for hosted runtime, skipping");
                    continue;
                }
                let runtimes = node.runtimes.get_or_insert_default();
                let at = runtimes.iter().position(|r| r.id == id && r.version == version).unwrap_or_else(|| {
                    runtimes.push(NodeRuntime { id, version, ..NodeRuntime::default() });
                    runtimes.len() - 1
                });
                if let Some(entry) = runtimes.get_mut(at) {
                    entry.capabilities.tee = capability.map(|capability| (*capability).clone());
                }
            }
            Ok(())
        })
    }

    /// How the runtime is.
    pub fn status(&self) -> HostedStatus {
        let (active, next, problems) = {
            let state = self.state.lock();
            (state.active, state.next, state.problems.values().cloned().collect())
        };
        let mut components: Vec<ComponentReport> =
            self.hosting.bundles.offered(&self.id).iter().map(|offered| self.report(offered, active)).collect();
        components.sort_by(|a, b| {
            let key = |r: &ComponentReport| (r.id.kind(), r.id.name().to_owned(), r.version);
            key(a).cmp(&key(b))
        });
        HostedStatus {
            provisioner: self.hosting.provisioner.name(),
            active_version: active,
            next_version: next,
            ready: *self.ready.borrow(),
            components,
            problems,
        }
    }

    fn report(&self, offered: &Offered, active: Option<Version>) -> ComponentReport {
        let version = match active {
            Some(active) if offered.fits_any_version() => active,
            _ => offered.component.version,
        };
        let host = self.host.component(&offered.id).and_then(|host| host.version(version).ok());
        ComponentReport {
            id: offered.id.clone(),
            version,
            detached: offered.known.bundle.manifest.is_detached(),
            disabled: offered.component.disabled,
            status: host.map(|host| host.status()),
        }
    }

    /// Runs the components in the versions that the chain wants and tells them what happens, until stopped; at the end they
    /// have ended too. Runs once.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let Some(blocks) = self.waiting_blocks.lock().take() else {
            return;
        };
        let (inputs, waiting) = mpsc::channel(MAX_WAITING_BLOCKS);
        let telling = self.notifier.clone().run(waiting, stop.child_token());
        let feeding = feed::run(self.hosting.chain.clone(), self.view.clone(), inputs, blocks, stop.child_token());
        tokio::join!(self.manage(&stop), telling, feeding);
        if let Err(e) = self.host.stop(Instant::now() + STOP_TIMEOUT).await {
            tracing::warn!(module = "runtime/host", runtime_id = %self.id, err = %e, "runtime did not stop");
        }
        // Their handlers refer to the host: without this neither would ever be freed.
        for id in self.host.components().into_iter().filter(|id| *id != ComponentId::Ronl) {
            let _ = self.host.remove_component(&id).await;
        }
        self.ready.send_replace(false);
    }

    /// Keeps components and versions as they are to be.
    async fn manage(&self, stop: &CancellationToken) {
        let (mut view, mut bundles) = (self.view.clone(), self.hosting.bundles.watch());
        let mut events = self.host.events();
        let mut next_events: Option<(Version, broadcast::Receiver<HostEvent>)> = None;
        let (mut done, mut followed) = (Basis::default(), true);
        let work = async {
            if let Err(e) = self.host.start().await {
                self.problem("start", Some(e.to_string()));
            }
            loop {
                let seen = view.borrow_and_update().clone();
                let bundle_count = *bundles.borrow_and_update();
                let epoch = self.next_epoch(seen.height).await.unwrap_or(seen.epoch);
                let basis = Basis { descriptor: seen.descriptor, epoch, bundles: bundle_count };
                if basis != done || bundle_count == 0 {
                    self.apply(&basis, &done).await;
                    done = basis;
                }
                self.watch_next(&mut next_events);
                self.refresh();
                loop {
                    let event = tokio::select! {
                        changed = view.changed(), if followed => {
                            // When the chain is no longer followed, what runs goes on.
                            followed = changed.is_ok();
                            break;
                        }
                        _ = bundles.changed() => break,
                        event = events.recv() => event,
                        event = next_event(&mut next_events) => event,
                    };
                    if matches!(event, Err(broadcast::error::RecvError::Closed)) {
                        next_events = None;
                    }
                    self.refresh();
                    self.changed.send_modify(|count| *count = count.wrapping_add(1));
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = stop.cancelled() => {}
        }
    }

    /// The epoch of the block after a height.
    async fn next_epoch(&self, height: i64) -> Option<Epoch> {
        if height == 0 {
            return None;
        }
        let chain = Arc::clone(&self.hosting.chain);
        let read = move || next_epoch(&*chain.state(height).ok()?, height).ok();
        tokio::task::spawn_blocking(read).await.ok().flatten()
    }

    /// Which versions are to run.
    fn versions(&self, basis: &Basis, offered: &[Offered]) -> (Option<Version>, Option<Version>) {
        let config = &self.hosting.config;
        if config.mode == Mode::KeyManager {
            // A key manager runs what it was given: its registration makes the chain's choice.
            let ronl = offered.iter().filter(|o| o.id == ComponentId::Ronl);
            if let Some(newest) = ronl.clone().filter(|o| !o.fits_any_version()).map(|o| o.component.version).max() {
                return (Some(newest), None);
            }
        }
        let Some(descriptor) = &basis.descriptor else {
            return (None, None);
        };
        let pre_warm = Some(config.runtime.pre_warm_epochs);
        choose(descriptor, basis.epoch, pre_warm.filter(|epochs| config.mode == Mode::Compute && *epochs > 0))
    }

    async fn apply(&self, basis: &Basis, before: &Basis) {
        if let Some(descriptor) = &basis.descriptor
            && basis.descriptor != before.descriptor
        {
            self.hosting.discovery.set_wanted(self.id, wanted(descriptor, basis.epoch));
        }
        let offered = self.hosting.bundles.offered(&self.id);
        let (active, next) = self.versions(basis, &offered);
        {
            let mut state = self.state.lock();
            if (state.active, state.next) != (active, next) {
                let shown = |v: Option<Version>| v.map_or_else(|| "none".to_owned(), |v| v.to_string());
                tracing::info!(module = "runtime/host", runtime_id = %self.id, epoch = basis.epoch,
                    version = shown(active), next_version = shown(next), "setting runtime version");
            }
            (state.active, state.next) = (active, next);
        }
        self.refresh();
        self.place(&offered, active, next).await;
        self.host.set_version(active, next).await;
        let lowest = active.or(next);
        self.state
            .lock()
            .placed
            .retain(|(id, version), _| *id != ComponentId::Ronl || lowest.is_none_or(|lowest| *version >= lowest));
        for (name, version) in [("active", active), ("next", next)] {
            let missing = version.filter(|version| !self.host.has_version(&ComponentId::Ronl, *version));
            let text = missing.map(|v| format!("no bundle of the {name} version {v} of the on-chain component"));
            self.problem(name, text);
        }
        if basis.epoch != before.epoch
            && self.hosting.config.mode != Mode::KeyManager
            && let Some(active) = active
        {
            let (hosting, id) = (Arc::clone(&self.hosting), self.id);
            let _ = tokio::task::spawn_blocking(move || hosting.bundles.remove_obsolete(&id, active)).await;
        }
    }

    /// Makes the components known to the host, and those that are gone forgotten.
    async fn place(&self, offered: &[Offered], active: Option<Version>, next: Option<Version>) {
        let config = &self.hosting.config;
        let mut rofl: BTreeMap<ComponentId, &Offered> = BTreeMap::new();
        let mut ronl: BTreeMap<Version, &Offered> = BTreeMap::new();
        for offer in offered {
            let section = settings::component(&config.runtime, &self.id, &offer.id).map(settings::component_settings);
            let detached = offer.known.bundle.manifest.is_detached();
            let compute = config.mode == Mode::Compute;
            if !is_wanted(&offer.id, &offer.component, detached, compute, section.as_ref()) {
                continue;
            }
            match &offer.id {
                ComponentId::Ronl if offer.fits_any_version() => {}
                ComponentId::Ronl => {
                    if active.or(next).is_none_or(|lowest| offer.component.version >= lowest) {
                        ronl.insert(offer.component.version, offer);
                    }
                }
                // They come in order of their versions: the newest stays.
                id => {
                    rofl.insert(id.clone(), offer);
                }
            }
        }
        // A binary without version stands in for the active one.
        if let (Some(active), Some(any)) = (active, offered.iter().find(|o| o.fits_any_version())) {
            ronl.entry(active).or_insert(any);
        }
        self.forget(&rofl).await;
        let mut there = BTreeSet::new();
        let rofl = rofl.values().map(|offer| (offer.component.version, *offer));
        for (version, offer) in rofl.chain(ronl.iter().map(|(version, offer)| (*version, *offer))) {
            let name = format!("{} {version}", offer.id);
            let outcome = self.place_one(offer, version).await;
            if let Err(e) = &outcome {
                tracing::error!(module = "runtime/host", runtime_id = %self.id, component = %offer.id, %version, err = %e,
                    "failed to provision runtime component");
            }
            let text =
                outcome.err().map(|e| format!("failed to provision component {} version {version}: {e}", offer.id));
            self.problem(&name, text);
            there.insert(name);
        }
        let kept = |name: &String| there.contains(name) || !name.contains(' ');
        self.state.lock().problems.retain(|name, _| kept(name));
    }

    /// Removes off-chain components that are not offered any more, or from another bundle.
    async fn forget(&self, offered: &BTreeMap<ComponentId, &Offered>) {
        for id in self.host.components().into_iter().filter(|id| *id != ComponentId::Ronl) {
            let placed: Vec<_> = {
                let state = self.state.lock();
                let own = state.placed.iter().filter(|((other, _), _)| *other == id);
                own.map(|((_, version), placed)| (*version, placed.manifest)).collect()
            };
            let same_version_other_bundle = |offer: &Offered| {
                let hash = offer.known.bundle.manifest_hash;
                placed.iter().any(|(version, manifest)| *version == offer.component.version && *manifest != hash)
            };
            let offer = offered.get(&id);
            let newest = placed.iter().map(|(version, _)| *version).max();
            let older = offer.is_some_and(|offer| newest.is_some_and(|newest| newest > offer.component.version));
            if offer.is_some_and(|offer| !same_version_other_bundle(offer)) && !older {
                continue;
            }
            if let Err(e) = self.host.remove_component(&id).await {
                tracing::warn!(module = "runtime/host", runtime_id = %self.id, component = %id, err = %e,
                    "component did not stop");
            }
            let mut state = self.state.lock();
            state.placed.retain(|(other, _), _| *other != id);
            state.logs.remove(&id);
        }
    }

    async fn place_one(&self, offer: &Offered, version: Version) -> Result<(), HostingError> {
        if self.host.has_version(&offer.id, version) {
            return Ok(());
        }
        let config = self.component_config(offer, version)?;
        let placed = Placed {
            manifest: offer.known.bundle.manifest_hash,
            tee: config.tee,
            unproven: offer.fits_any_version() && self.hosting.config.runtime.provisioner != "mock",
        };
        let host = self.hosting.provisioner.provision(config)?;
        self.state.lock().placed.insert((offer.id.clone(), version), placed);
        Ok(self.host.add_version(&offer.id, version, host).await?)
    }

    fn component_config(&self, offer: &Offered, version: Version) -> Result<ComponentConfig, HostingError> {
        let config = &self.hosting.config;
        let section = settings::component(&config.runtime, &self.id, &offer.id);
        let legacy_client = section.is_none()
            && config.mode == Mode::Client
            && config.runtime.environment == "auto"
            && provision::sgx_loader(&config.runtime).is_none()
            && !config.runtime.debug_mock_tee;
        let mut out = ComponentConfig::new(offer.known.bundle.clone(), offer.id.clone(), self.handler(offer))?;
        out.component.version = version;
        let component_settings = section.map(settings::component_settings);
        out.tee = choose_tee(&offer.id, &out.component, component_settings.as_ref(), legacy_client);
        out.volumes.clone_from(&offer.known.volumes);
        out.local_config = settings::local_config(&config.runtime, &self.id, &offer.id);
        out.log = Some(self.log(&offer.id)?);
        out.incoming = settings::incoming(section);
        Ok(out)
    }

    /// One log per component, begun anew when the component first comes.
    fn log(&self, id: &ComponentId) -> Result<Arc<ComponentLog>, HostingError> {
        let mut state = self.state.lock();
        if let Some(log) = state.logs.get(id) {
            return Ok(Arc::clone(log));
        }
        let path = ComponentLog::path_in(&self.hosting.data_dir, &self.id, id);
        let size = self.hosting.config.runtime.log.max_log_size.unsigned_abs();
        let log = Arc::new(ComponentLog::create(path.clone(), size).map_err(HostingError::io(path))?);
        state.logs.insert(id.clone(), Arc::clone(&log));
        Ok(log)
    }

    fn handler(&self, offer: &Offered) -> Arc<dyn HostHandler> {
        if offer.id == ComponentId::Ronl {
            return self.services.clone();
        }
        let ronl = self.host.component(&ComponentId::Ronl).map(|ronl| {
            let ronl: Arc<dyn RuntimeHost> = ronl;
            Arc::downgrade(&ronl)
        });
        let management = Managed {
            hosting: Arc::downgrade(&self.hosting),
            host: Arc::downgrade(&self.host),
            runtime: self.id,
            labels: offer.known.labels.clone(),
        };
        Arc::new(RoflServices {
            parent: self.services.clone(),
            component: offer.id.clone(),
            ronl,
            submission: self.submission.clone(),
            registrations: Some(self.notifier.clone()),
            management: Some(Arc::new(management)),
        })
    }

    fn problem(&self, name: &str, text: Option<String>) {
        let mut state = self.state.lock();
        match text {
            Some(text) => {
                if state.problems.get(name) != Some(&text) {
                    tracing::warn!(module = "runtime/host", runtime_id = %self.id, err = text, "runtime is not complete");
                }
                state.problems.insert(name.to_owned(), text);
            }
            None => {
                state.problems.remove(name);
            }
        }
    }

    /// The next version's events come to nobody else before it is active.
    fn watch_next(&self, watched: &mut Option<(Version, broadcast::Receiver<HostEvent>)>) {
        let next = self.state.lock().next;
        if watched.as_ref().map(|(version, _)| *version) == next {
            return;
        }
        let host = next.and_then(|v| self.host.component(&ComponentId::Ronl)?.version(v).ok().map(|host| (v, host)));
        *watched = host.map(|(version, host)| (version, host.events()));
    }

    fn refresh(&self) {
        let (active, unproven) = {
            let state = self.state.lock();
            // Before the first version is active, the one that becomes active next stands for it.
            let active = state.active.or(state.next);
            let placed = active.and_then(|version| state.placed.get(&(ComponentId::Ronl, version)));
            (active, placed.is_some_and(|placed| placed.unproven))
        };
        let host = active.and_then(|version| running(&self.host, version));
        let reported = host.as_ref().and_then(|host| host.info()).map(|info| info.runtime_version);
        let ready = host.is_some() && (!unproven || reported == active);
        if unproven {
            let wrong = reported.filter(|reported| Some(*reported) != active).zip(active);
            self.problem(
                "version",
                wrong.map(|(got, want)| format!("the binary is version {got}, the chain wants {want}")),
            );
        }
        self.ready.send_if_modified(|before| std::mem::replace(before, ready) != ready);
    }
}

/// The version's host, if it is ready for calls.
fn running(host: &CompositeHost, version: Version) -> Option<Arc<dyn RuntimeHost>> {
    let host = host.component(&ComponentId::Ronl)?.version(version).ok()?;
    (host.status().state == ComponentState::Running).then_some(host)
}

fn wanted_versions(state: &State) -> Vec<(Version, TeeKind)> {
    let placed = |version: Version| {
        let placed = state.placed.get(&(ComponentId::Ronl, version))?;
        Some((version, placed.tee))
    };
    state.active.into_iter().chain(state.next).filter_map(placed).collect()
}

async fn next_event(
    watched: &mut Option<(Version, broadcast::Receiver<HostEvent>)>,
) -> Result<HostEvent, broadcast::error::RecvError> {
    match watched {
        Some((_, events)) => events.recv().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
