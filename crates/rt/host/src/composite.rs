//! All components of a runtime as one host, and several instances of one component as one. Source:
//! `go/runtime/host/{composite,loadbalance}`, `go/runtime/registry/host.go`.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use base_prims::{Namespace, Version};
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::{
    sync::broadcast,
    time::{Instant, timeout},
};
use wire_consensus::node::CapabilityTee;
use wire_runtime::{Body, bundle::ComponentId, runtime::InfoResponse};

use crate::{
    api::{
        BoxFuture, ComponentConfig, ComponentState, ComponentStatus, HostError, HostEvent, Provisioner, RuntimeHost,
    },
    versions::{PROPAGATION_TIMEOUT, VersionedHost, goes_everywhere},
};

/// Most instances of a component, as `runtime.load_balancer.num_instances` may say.
pub const MAX_INSTANCES: usize = 128;

/// A runtime: its on-chain component, and off-chain components beside it.
pub struct CompositeHost {
    id: Namespace,
    ronl: Arc<VersionedHost>,
    rofl: Mutex<BTreeMap<ComponentId, Rofl>>,
    running: Mutex<bool>,
}

struct Rofl {
    host: Arc<VersionedHost>,
    /// The newest version; it runs as soon as it is there.
    latest: Version,
}

impl CompositeHost {
    /// Without components.
    pub fn new(id: Namespace) -> Self {
        Self { id, ronl: Arc::new(VersionedHost::new(id)), rofl: Mutex::default(), running: Mutex::new(false) }
    }

    /// The ids of all components.
    pub fn components(&self) -> Vec<ComponentId> {
        std::iter::once(ComponentId::Ronl).chain(self.rofl.lock().keys().cloned()).collect()
    }

    /// A component.
    pub fn component(&self, id: &ComponentId) -> Option<Arc<VersionedHost>> {
        match id {
            ComponentId::Ronl => Some(Arc::clone(&self.ronl)),
            id => self.rofl.lock().get(id).map(|rofl| Arc::clone(&rofl.host)),
        }
    }

    /// Whether a component is there in that version.
    pub fn has_version(&self, id: &ComponentId, version: Version) -> bool {
        self.component(id).is_some_and(|host| host.has_version(version))
    }

    /// Adds a version of a component.
    ///
    /// # Errors
    /// If it is there already, or of another runtime.
    pub async fn add_version(
        &self,
        id: &ComponentId,
        version: Version,
        host: Arc<dyn RuntimeHost>,
    ) -> Result<(), HostError> {
        if *id == ComponentId::Ronl {
            return self.ronl.add_version(version, host).await;
        }
        let (component, is_latest) = {
            let mut rofl = self.rofl.lock();
            let entry = rofl
                .entry(id.clone())
                .or_insert_with(|| Rofl { host: Arc::new(VersionedHost::new(self.id)), latest: version });
            entry.latest = entry.latest.max(version);
            (Arc::clone(&entry.host), entry.latest == version)
        };
        component.add_version(version, host).await?;
        if *self.running.lock() {
            component.start().await?;
        }
        if is_latest && self.ronl.active_version().is_some() {
            component.set_version(Some(version), None).await;
            prune(&component, version);
        }
        Ok(())
    }

    /// Removes an off-chain component.
    ///
    /// # Errors
    /// For the on-chain component.
    pub async fn remove_component(&self, id: &ComponentId) -> Result<(), HostError> {
        if *id == ComponentId::Ronl {
            return Err(HostError::Configuration("RONL component cannot be removed".into()));
        }
        let removed = self.rofl.lock().remove(id);
        match removed {
            Some(rofl) => rofl.host.stop(Instant::now() + crate::versions::STOP_TIMEOUT).await,
            None => Ok(()),
        }
    }

    /// Says which versions of the on-chain component are to run. Off-chain components run in their newest version as soon
    /// as there is any.
    pub async fn set_version(&self, active: Option<Version>, next: Option<Version>) {
        self.ronl.set_version(active, next).await;
        if let Some(active) = active {
            prune(&self.ronl, active);
        }
        let rofl: Vec<_> = self.rofl.lock().values().map(|r| (Arc::clone(&r.host), r.latest)).collect();
        for (host, latest) in rofl {
            host.set_version((active.is_some() || next.is_some()).then_some(latest), None).await;
            prune(&host, latest);
        }
    }

    fn rofl_hosts(&self) -> Vec<(ComponentId, Arc<VersionedHost>)> {
        self.rofl.lock().iter().map(|(id, rofl)| (id.clone(), Arc::clone(&rofl.host))).collect()
    }
}

/// Forgets versions below the lowest that may still be needed.
fn prune(host: &VersionedHost, lowest: Version) {
    for version in host.versions().into_iter().filter(|version| *version < lowest) {
        let _ = host.remove_version(version);
    }
}

impl RuntimeHost for CompositeHost {
    fn id(&self) -> Namespace {
        self.id
    }

    fn start(&self) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(async {
            *self.running.lock() = true;
            self.ronl.start().await?;
            for (_, host) in self.rofl_hosts() {
                host.start().await?;
            }
            Ok(())
        })
    }

    fn stop(&self, deadline: Instant) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(async move {
            *self.running.lock() = false;
            let hosts = self.rofl_hosts();
            let stops = hosts.iter().map(|(_, host)| host.stop(deadline)).chain([self.ronl.stop(deadline)]);
            join_all(stops).await.into_iter().collect()
        })
    }

    fn abort(&self, force: bool) -> BoxFuture<'_, Result<(), HostError>> {
        self.ronl.abort(force)
    }

    fn call(&self, body: Body) -> BoxFuture<'_, Result<Body, HostError>> {
        Box::pin(async move {
            if !goes_everywhere(&body) {
                return self.ronl.call(body).await;
            }
            let answer = self.ronl.call(body.clone()).await?;
            let hosts = self.rofl_hosts();
            join_all(hosts.iter().map(|(id, host)| {
                let body = body.clone();
                async move {
                    let error = match timeout(PROPAGATION_TIMEOUT, host.call(body)).await {
                        Ok(Ok(_)) => return,
                        Ok(Err(e)) => e.to_string(),
                        Err(_) => "no answer".into(),
                    };
                    tracing::warn!(runtime_id = %self.id, component = %id, err = %error,
                        "failed to propagate call to component");
                }
            }))
            .await;
            Ok(answer)
        })
    }

    fn info(&self) -> Option<InfoResponse> {
        self.ronl.info()
    }

    fn capability_tee(&self) -> Option<Arc<CapabilityTee>> {
        self.ronl.capability_tee()
    }

    fn update_capability_tee(&self) {
        self.ronl.update_capability_tee();
        self.rofl_hosts().iter().for_each(|(_, host)| host.update_capability_tee());
    }

    fn status(&self) -> ComponentStatus {
        self.ronl.status()
    }

    fn active_version(&self) -> Option<Version> {
        self.ronl.active_version()
    }

    fn events(&self) -> broadcast::Receiver<HostEvent> {
        self.ronl.events()
    }
}

/// Several instances of one component that share checks and queries.
pub struct BalancedHost {
    instances: Vec<Arc<dyn RuntimeHost>>,
    next: AtomicUsize,
}

impl BalancedHost {
    /// Of one to [`MAX_INSTANCES`] instances.
    ///
    /// # Errors
    /// If there are none or more.
    pub fn new(instances: Vec<Arc<dyn RuntimeHost>>) -> Result<Self, HostError> {
        if instances.is_empty() || instances.len() > MAX_INSTANCES {
            return Err(HostError::Configuration(format!(
                "{} instances of a runtime, must be 1 to {MAX_INSTANCES}",
                instances.len()
            )));
        }
        Ok(Self { instances, next: AtomicUsize::new(0) })
    }

    fn first(&self) -> &Arc<dyn RuntimeHost> {
        // Not empty, as `new` saw to.
        &self.instances[0]
    }

    /// Numbers of the instances that are ready.
    pub fn healthy(&self) -> Vec<usize> {
        let running = |host: &Arc<dyn RuntimeHost>| host.status().state == ComponentState::Running;
        self.instances.iter().enumerate().filter(|(_, host)| running(host)).map(|(i, _)| i).collect()
    }

    fn select(&self) -> Result<&Arc<dyn RuntimeHost>, HostError> {
        let healthy = self.healthy();
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let index = turn.checked_rem(healthy.len()).and_then(|i| healthy.get(i));
        index
            .and_then(|i| self.instances.get(*i))
            .ok_or_else(|| HostError::Start("host/loadbalance: no healthy instances available".into()))
    }
}

impl RuntimeHost for BalancedHost {
    fn id(&self) -> Namespace {
        self.first().id()
    }

    fn start(&self) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(async { join_all(self.instances.iter().map(|host| host.start())).await.into_iter().collect() })
    }

    fn stop(&self, deadline: Instant) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(
            async move { join_all(self.instances.iter().map(|host| host.stop(deadline))).await.into_iter().collect() },
        )
    }

    fn abort(&self, force: bool) -> BoxFuture<'_, Result<(), HostError>> {
        // Which one is busy is not known.
        Box::pin(
            async move { join_all(self.instances.iter().map(|host| host.abort(force))).await.into_iter().collect() },
        )
    }

    fn call(&self, body: Body) -> BoxFuture<'_, Result<Body, HostError>> {
        Box::pin(async move {
            match &body {
                body if goes_everywhere(body) => {
                    let answers = join_all(self.instances.iter().map(|host| host.call(body.clone()))).await;
                    let answers: Vec<Body> = answers.into_iter().collect::<Result<_, _>>()?;
                    answers.into_iter().next_back().ok_or(HostError::NotReady)
                }
                Body::RuntimeQueryRequest(_) | Body::RuntimeCheckTxBatchRequest(_) => self.select()?.call(body).await,
                _ => self.first().call(body).await,
            }
        })
    }

    fn info(&self) -> Option<InfoResponse> {
        self.first().info()
    }

    fn capability_tee(&self) -> Option<Arc<CapabilityTee>> {
        self.first().capability_tee()
    }

    fn update_capability_tee(&self) {
        self.instances.iter().for_each(|host| host.update_capability_tee());
    }

    fn status(&self) -> ComponentStatus {
        self.first().status()
    }

    fn events(&self) -> broadcast::Receiver<HostEvent> {
        self.first().events()
    }
}

/// Hosts on-chain components in several instances.
pub struct Balanced {
    inner: Arc<dyn Provisioner>,
    instances: usize,
}

impl Balanced {
    /// Instances of what `inner` makes.
    pub fn new(inner: Arc<dyn Provisioner>, instances: usize) -> Self {
        Self { inner, instances }
    }
}

impl Provisioner for Balanced {
    fn name(&self) -> String {
        format!("load-balancer[{}]/{}", self.instances, self.inner.name())
    }

    fn provision(&self, config: ComponentConfig) -> Result<Arc<dyn RuntimeHost>, HostError> {
        if config.component_id != ComponentId::Ronl {
            return self.inner.provision(config);
        }
        let instances = (0..self.instances).map(|_| self.inner.provision(config.clone())).collect::<Result<_, _>>()?;
        Ok(Arc::new(BalancedHost::new(instances)?))
    }
}

/// Chooses the provisioner by what a component runs in.
#[derive(Default)]
pub struct ByTee {
    provisioners: BTreeMap<u8, Arc<dyn Provisioner>>,
}

impl ByTee {
    /// Sets the provisioner of a kind.
    #[must_use]
    pub fn with(mut self, tee: wire_runtime::bundle::TeeKind, provisioner: Arc<dyn Provisioner>) -> Self {
        self.provisioners.insert(tee.0, provisioner);
        self
    }
}

impl Provisioner for ByTee {
    fn name(&self) -> String {
        let names: Vec<_> = self.provisioners.values().map(|p| p.name()).collect();
        format!("composite{{{}}}", names.join(", "))
    }

    fn provision(&self, config: ComponentConfig) -> Result<Arc<dyn RuntimeHost>, HostError> {
        self.provisioners
            .get(&config.tee.0)
            .ok_or_else(|| HostError::Configuration(format!("no provisioner for TEE kind {:?}", config.tee)))?
            .provision(config)
    }
}
