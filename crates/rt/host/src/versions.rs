//! Several versions of one component as one host: the active one, and the next one made ready in advance.
//!
//! Source: `go/runtime/host/multi`.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base_prims::{Epoch, Namespace, Version};
use parking_lot::Mutex;
use tokio::{
    sync::{broadcast, watch},
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use wire_consensus::{node::CapabilityTee, registry::Runtime};
use wire_runtime::{Body, runtime::InfoResponse};

use crate::{
    api::{BoxFuture, ComponentStatus, EVENT_BACKLOG, HostError, HostEvent, RuntimeHost},
    connection::MAX_CALL_TIME,
};

/// How long a version that is no longer wanted may take to stop.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a call that also goes to another host may take there.
pub const PROPAGATION_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether a request is for all versions, instances and components: what keeps their view of the chain fresh.
pub fn goes_everywhere(body: &Body) -> bool {
    matches!(
        body,
        Body::RuntimeConsensusSyncRequest(_)
            | Body::RuntimeKeyManagerStatusUpdateRequest(_)
            | Body::RuntimeKeyManagerQuotePolicyUpdateRequest(_)
    )
}

/// Which versions of a runtime are to run, given the epoch of the next block.
///
/// The second one is only given within `pre_warm` epochs before it becomes active; `None` never makes ready in advance.
pub fn choose(runtime: &Runtime, epoch: Epoch, pre_warm: Option<u64>) -> (Option<Version>, Option<Version>) {
    let active = runtime.active_deployment(epoch).map(|d| d.version);
    let next = runtime
        .next_deployment(epoch)
        .filter(|d| pre_warm.is_some_and(|epochs| d.valid_from.saturating_sub(epoch) <= epochs))
        .map(|d| d.version);
    (active, next)
}

/// A version that was started.
struct Slot {
    version: Version,
    host: Arc<dyn RuntimeHost>,
    /// Whether its events are passed on.
    promoted: watch::Sender<bool>,
    /// Passes on what is left and ends.
    drain: CancellationToken,
    forwarder: JoinHandle<()>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        // After `finish` this does nothing.
        self.forwarder.abort();
    }
}

impl Slot {
    fn new(version: Version, host: Arc<dyn RuntimeHost>, promoted: bool, events: broadcast::Sender<HostEvent>) -> Self {
        let (promoted, seen) = watch::channel(promoted);
        let drain = CancellationToken::new();
        let forwarder = tokio::spawn(forward(host.events(), events, seen, drain.clone()));
        Self { version, host, promoted, drain, forwarder }
    }

    /// Stops the version and passes on its last events.
    async fn finish(mut self) {
        if let Err(e) = self.host.stop(Instant::now() + STOP_TIMEOUT).await {
            tracing::error!(version = %self.version, err = %e, "version did not stop");
        }
        self.drain.cancel();
        let _ = (&mut self.forwarder).await;
    }
}

/// Passes events on once the version is the active one; until then keeps the start that is still true.
async fn forward(
    mut from: broadcast::Receiver<HostEvent>,
    to: broadcast::Sender<HostEvent>,
    mut promoted: watch::Receiver<bool>,
    drain: CancellationToken,
) {
    let mut held: Option<HostEvent> = None;
    loop {
        let passing = *promoted.borrow_and_update();
        if passing && let Some(event) = held.take() {
            let _ = to.send(event);
        }
        let event = tokio::select! {
            biased;
            event = from.recv() => event,
            changed = promoted.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            () = drain.cancelled() => return,
        };
        match event {
            Err(broadcast::error::RecvError::Closed) => return,
            // The state matters, not each event: the receiver goes on with the newest ones.
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Ok(event) if passing => {
                let _ = to.send(event);
            }
            Ok(event @ HostEvent::Started { .. }) => held = Some(event),
            Ok(HostEvent::Stopped) => held = None,
            Ok(HostEvent::Updated { capability_tee: new, .. }) => {
                if let Some(HostEvent::Started { capability_tee, .. }) = &mut held {
                    *capability_tee = new;
                }
            }
            Ok(_) => {}
        }
    }
}

#[derive(Default)]
struct State {
    running: bool,
    hosts: BTreeMap<Version, Arc<dyn RuntimeHost>>,
    active: Option<Slot>,
    next: Option<Slot>,
    wanted_active: Option<Version>,
    wanted_next: Option<Version>,
}

impl State {
    fn knows(&self, version: Version) -> bool {
        let slots = [&self.active, &self.next];
        self.hosts.contains_key(&version) || slots.into_iter().flatten().any(|slot| slot.version == version)
    }
}

/// All versions of one component.
pub struct VersionedHost {
    id: Namespace,
    state: Mutex<State>,
    /// Held while versions are started and stopped.
    changing: tokio::sync::Mutex<()>,
    changed: watch::Sender<()>,
    events: broadcast::Sender<HostEvent>,
}

impl VersionedHost {
    /// Without versions.
    pub fn new(id: Namespace) -> Self {
        Self {
            id,
            state: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            changed: watch::Sender::new(()),
            events: broadcast::Sender::new(EVENT_BACKLOG),
        }
    }

    /// The versions that are known, started or not.
    pub fn versions(&self) -> Vec<Version> {
        self.state.lock().hosts.keys().copied().collect()
    }

    /// Whether that version is known.
    pub fn has_version(&self, version: Version) -> bool {
        self.state.lock().hosts.contains_key(&version)
    }

    /// The version that is to be active, if it is known: from the moment it was chosen, also while the one before it is
    /// still being stopped.
    pub fn active_version(&self) -> Option<Version> {
        let state = self.state.lock();
        state.wanted_active.filter(|version| state.running && state.knows(*version))
    }

    /// The host of a version that is active or next.
    ///
    /// # Errors
    /// If it is neither.
    pub fn version(&self, version: Version) -> Result<Arc<dyn RuntimeHost>, HostError> {
        let state = self.state.lock();
        [&state.active, &state.next]
            .into_iter()
            .flatten()
            .find(|slot| slot.version == version)
            .map(|slot| Arc::clone(&slot.host))
            .ok_or(HostError::NoSuchVersion(version))
    }

    /// Makes a version known; starts it if it is wanted.
    ///
    /// # Errors
    /// If it is known already, or of another runtime.
    pub async fn add_version(&self, version: Version, host: Arc<dyn RuntimeHost>) -> Result<(), HostError> {
        if host.id() != self.id {
            return Err(HostError::Configuration(format!("runtime mismatch: got {}, expected {}", host.id(), self.id)));
        }
        {
            let mut state = self.state.lock();
            if state.hosts.contains_key(&version) {
                return Err(HostError::Configuration(format!("duplicate runtime version: {version}")));
            }
            state.hosts.insert(version, host);
        }
        self.apply().await;
        Ok(())
    }

    /// Forgets a version.
    ///
    /// # Errors
    /// If it is active or next, or not known.
    pub fn remove_version(&self, version: Version) -> Result<(), HostError> {
        let mut state = self.state.lock();
        for (name, wanted) in [("active", state.wanted_active), ("next", state.wanted_next)] {
            if wanted == Some(version) {
                return Err(HostError::Configuration(format!("cannot remove {name} version {version}")));
            }
        }
        state.hosts.remove(&version).map(drop).ok_or(HostError::NoSuchVersion(version))
    }

    /// Says which versions are to run. Those that no longer are get stopped; those that are not known yet start when they
    /// are added. Returns when that is done.
    pub async fn set_version(&self, active: Option<Version>, next: Option<Version>) {
        {
            let mut state = self.state.lock();
            (state.wanted_active, state.wanted_next) = match (active, next) {
                (None, next) => (next, None),
                (active, next) if active == next => (active, None),
                both => both,
            };
        }
        self.apply().await;
    }

    /// Starts and stops what differs from what is wanted.
    async fn apply(&self) {
        let _changing = self.changing.lock().await;
        if !self.state.lock().running {
            return;
        }
        self.apply_active().await;
        self.apply_next().await;
        self.changed.send_replace(());
    }

    async fn apply_active(&self) {
        let old = {
            let mut state = self.state.lock();
            let wanted = state.wanted_active;
            if state.active.as_ref().map(|slot| slot.version) == wanted {
                return;
            }
            state.active.take()
        };
        if let Some(old) = old {
            self.state.lock().hosts.remove(&old.version);
            old.finish().await;
        }
        let start = {
            let mut state = self.state.lock();
            let Some(version) = state.wanted_active else {
                return;
            };
            if state.next.as_ref().is_some_and(|slot| slot.version == version) {
                // Made ready in advance: what it told so far is told now.
                state.active = state.next.take();
                if let Some(slot) = &state.active {
                    slot.promoted.send_replace(true);
                }
                return;
            }
            let Some(host) = state.hosts.get(&version).cloned() else {
                tracing::warn!(runtime_id = %self.id, %version, "unknown active version, postponing startup");
                return;
            };
            state.active = Some(Slot::new(version, Arc::clone(&host), true, self.events.clone()));
            host
        };
        if let Err(e) = start.start().await {
            tracing::error!(runtime_id = %self.id, err = %e, "active version cannot be started");
        }
    }

    async fn apply_next(&self) {
        let old = {
            let mut state = self.state.lock();
            let wanted = state.wanted_next;
            if state.next.as_ref().map(|slot| slot.version) == wanted {
                return;
            }
            state.next.take()
        };
        if let Some(old) = old {
            self.state.lock().hosts.remove(&old.version);
            old.finish().await;
            let _ = self.events.send(HostEvent::ConfigUpdated);
        }
        let start = {
            let mut state = self.state.lock();
            let Some(version) = state.wanted_next else {
                return;
            };
            let Some(host) = state.hosts.get(&version).cloned() else {
                tracing::warn!(runtime_id = %self.id, %version, "unknown next version, postponing startup");
                return;
            };
            state.next = Some(Slot::new(version, Arc::clone(&host), false, self.events.clone()));
            host
        };
        if let Err(e) = start.start().await {
            tracing::error!(runtime_id = %self.id, err = %e, "next version cannot be started");
        }
        let _ = self.events.send(HostEvent::ConfigUpdated);
    }

    fn active(&self) -> Option<Arc<dyn RuntimeHost>> {
        self.state.lock().active.as_ref().map(|slot| Arc::clone(&slot.host))
    }

    /// The active version, and the one that a request also goes to.
    async fn hosts_for(&self, body: &Body) -> Result<(Arc<dyn RuntimeHost>, Option<Arc<dyn RuntimeHost>>), HostError> {
        let mut changed = self.changed.subscribe();
        let found = async {
            loop {
                changed.borrow_and_update();
                {
                    let state = self.state.lock();
                    if let Some(active) = &state.active {
                        let next = state.next.as_ref().filter(|_| goes_everywhere(body));
                        return (Arc::clone(&active.host), next.map(|slot| Arc::clone(&slot.host)));
                    }
                }
                if changed.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        timeout(MAX_CALL_TIME, found).await.map_err(|_| HostError::NoActiveVersion)
    }
}

impl RuntimeHost for VersionedHost {
    fn id(&self) -> Namespace {
        self.id
    }

    fn start(&self) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(async {
            self.state.lock().running = true;
            self.apply().await;
            Ok(())
        })
    }

    fn stop(&self, _deadline: Instant) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(async {
            let _changing = self.changing.lock().await;
            let slots = {
                let mut state = self.state.lock();
                state.running = false;
                let slots = [state.active.take(), state.next.take()];
                for slot in slots.iter().flatten() {
                    state.hosts.remove(&slot.version);
                }
                slots
            };
            for slot in slots.into_iter().flatten() {
                slot.finish().await;
            }
            Ok(())
        })
    }

    fn abort(&self, force: bool) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(async move { self.active().ok_or(HostError::NoActiveVersion)?.abort(force).await })
    }

    fn call(&self, body: Body) -> BoxFuture<'_, Result<Body, HostError>> {
        Box::pin(async move {
            let (active, next) = self.hosts_for(&body).await?;
            let Some(next) = next else {
                return active.call(body).await;
            };
            // The next version may still be starting; the active one does not wait for it.
            let beside = async {
                match timeout(PROPAGATION_TIMEOUT, next.call(body.clone())).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(e)) => tracing::warn!(runtime_id = %self.id, err = %e,
                        "failed to propagate runtime request to next version"),
                    Err(_) => tracing::warn!(runtime_id = %self.id,
                        "next version does not answer a propagated request"),
                }
            };
            tokio::join!(active.call(body.clone()), beside).0
        })
    }

    fn info(&self) -> Option<InfoResponse> {
        self.active()?.info()
    }

    fn capability_tee(&self) -> Option<Arc<CapabilityTee>> {
        self.active()?.capability_tee()
    }

    fn update_capability_tee(&self) {
        let hosts: Vec<_> = {
            let state = self.state.lock();
            [&state.active, &state.next].into_iter().flatten().map(|slot| Arc::clone(&slot.host)).collect()
        };
        hosts.iter().for_each(|host| host.update_capability_tee());
    }

    fn status(&self) -> ComponentStatus {
        self.active().map_or_else(|| ComponentStatus::new("", SystemTime::UNIX_EPOCH), |host| host.status())
    }

    fn active_version(&self) -> Option<Version> {
        Self::active_version(self)
    }

    fn events(&self) -> broadcast::Receiver<HostEvent> {
        self.events.subscribe()
    }
}

#[cfg(test)]
mod tests;
