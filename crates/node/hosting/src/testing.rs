//! A consensus layer in memory, and a node's configuration, for tests of hosting.
// Two programs of tests share this, and neither uses all of it.
#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use apps_committees::{beacon, registry};
use apps_core::submit::{BoxFuture, Included, SubmitError};
use apps_keymanager::secrets;
use base_crypto::context::ChainContext;
use base_prims::{Epoch, Namespace, PublicKey, Version};
use mkvs_tree::{KvRead, KvWrite, TreeError, Visit};
use node_config::Config;
use node_workers::{Chain, ChainError};
use parking_lot::Mutex;
use rt_host::api::{ComponentStatus, HostError, HostEvent, RuntimeHost};
use rt_host::mock::MockHost;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;
use wire_consensus::beacon::{BACKEND_INSECURE, Parameters};
use wire_consensus::keymanager::Status;
use wire_consensus::node::CapabilityTee;
use wire_consensus::registry::{Runtime, RuntimeKind, VersionInfo};
use wire_consensus::transaction::Transaction;
use wire_runtime::Body;
use wire_runtime::runtime::InfoResponse;

/// State as a plain map.
#[derive(Clone, Default)]
pub struct MapState(BTreeMap<Vec<u8>, Vec<u8>>);

impl KvRead for MapState {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TreeError> {
        Ok(self.0.get(key).cloned())
    }

    fn iterate(&self, from: &[u8], visit: Visit<'_>) -> Result<(), TreeError> {
        for (key, value) in self.0.range(from.to_vec()..) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl KvWrite for MapState {
    fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<(), TreeError> {
        self.0.insert(key.to_vec(), value.to_vec());
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), TreeError> {
        self.0.remove(key);
        Ok(())
    }
}

/// The layer.
pub struct MemoryChain {
    context: ChainContext,
    state: Mutex<(i64, MapState)>,
    heights: watch::Sender<i64>,
    synced: watch::Sender<bool>,
}

impl MemoryChain {
    /// At height 1 and epoch 1.
    pub fn new() -> Arc<Self> {
        let mut map = MapState::default();
        let parameters = Parameters { backend: BACKEND_INSECURE.to_owned(), ..Parameters::default() };
        beacon::state::set_parameters(&mut map, &parameters).expect("a map takes everything");
        beacon::state::set_epoch(&mut map, 1, 1).expect("a map takes everything");
        Arc::new(Self {
            context: ChainContext::from_hash(&[7; 32]),
            state: Mutex::new((1, map)),
            heights: watch::Sender::new(1),
            synced: watch::Sender::new(true),
        })
    }

    fn block(&self, change: impl FnOnce(&mut MapState, i64)) {
        let height = {
            let mut state = self.state.lock();
            state.0 += 1;
            let height = state.0;
            change(&mut state.1, height);
            height
        };
        self.heights.send_replace(height);
    }

    /// A block in which nothing happens.
    pub fn advance(&self) {
        self.block(|_, _| {});
    }

    /// A block with which an epoch begins.
    pub fn set_epoch(&self, epoch: Epoch) {
        self.block(|map, height| beacon::state::set_epoch(map, epoch, height).expect("a map takes everything"));
    }

    /// A block that registers a runtime.
    pub fn set_runtime(&self, runtime: &Runtime) {
        self.block(|map, _| registry::state::set_runtime(map, runtime, false).expect("a map takes everything"));
    }

    /// A block that changes a key manager's status.
    pub fn set_key_manager(&self, status: &Status) {
        self.block(|map, _| secrets::state::set_status(map, status).expect("a map takes everything"));
    }
}

impl Chain for MemoryChain {
    fn latest_height(&self) -> i64 {
        self.state.lock().0
    }

    fn state(&self, _height: i64) -> Result<Box<dyn KvRead + Send>, ChainError> {
        Ok(Box::new(self.state.lock().1.clone()))
    }

    fn estimate_gas(&self, _signer: PublicKey, _tx: &Transaction) -> Result<u64, ChainError> {
        Ok(0)
    }

    fn submit(&self, _tx: Vec<u8>) -> BoxFuture<'_, Result<Included, SubmitError>> {
        Box::pin(async { Err(SubmitError::Unavailable("no transactions here".into())) })
    }

    fn heights(&self) -> watch::Receiver<i64> {
        self.heights.subscribe()
    }

    fn synced(&self) -> watch::Receiver<bool> {
        self.synced.subscribe()
    }

    fn context(&self) -> &ChainContext {
        &self.context
    }
}

/// A runtime's id.
pub fn id(n: u8) -> Namespace {
    let mut bytes = [0; 32];
    bytes[0] = 0x80;
    bytes[31] = n;
    Namespace::from_bytes_unchecked(bytes)
}

/// Shorthand.
pub fn v(major: u16) -> Version {
    Version::new(major, 0, 0)
}

/// A descriptor with versions and the epochs at which they begin.
pub fn runtime(id: Namespace, versions: &[(Version, Epoch)]) -> Runtime {
    let deployment = |(version, valid_from): &(Version, Epoch)| {
        Some(VersionInfo { version: *version, valid_from: *valid_from, ..VersionInfo::default() })
    };
    Runtime {
        id,
        kind: RuntimeKind::COMPUTE,
        deployments: versions.iter().map(deployment).collect(),
        ..Runtime::default()
    }
}

/// A configuration from what stands below `runtime:`, without registries.
pub fn config(mode: &str, data_dir: &Path, runtime: &str) -> Arc<Config> {
    let text =
        format!("mode: {mode}\ncommon:\n  data_dir: {}\nruntime:\n  registries: []\n{runtime}", data_dir.display());
    Arc::new(Config::from_text("test", &text, &|_| None).expect("a valid configuration"))
}

/// Waits until something is so.
pub async fn until(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..1200 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("not in time: {what}");
}

/// Stands in for a component in a TEE.
pub struct Attested(pub MockHost, pub Option<Arc<CapabilityTee>>);

impl RuntimeHost for Attested {
    fn id(&self) -> Namespace {
        self.0.id()
    }
    fn start(&self) -> BoxFuture<'_, Result<(), HostError>> {
        self.0.start()
    }
    fn stop(&self, deadline: Instant) -> BoxFuture<'_, Result<(), HostError>> {
        self.0.stop(deadline)
    }
    fn abort(&self, force: bool) -> BoxFuture<'_, Result<(), HostError>> {
        self.0.abort(force)
    }
    fn call(&self, body: Body) -> BoxFuture<'_, Result<Body, HostError>> {
        self.0.call(body)
    }
    fn info(&self) -> Option<InfoResponse> {
        self.0.info()
    }
    fn capability_tee(&self) -> Option<Arc<CapabilityTee>> {
        self.1.clone()
    }
    fn update_capability_tee(&self) {}
    fn status(&self) -> ComponentStatus {
        self.0.status()
    }
    fn events(&self) -> broadcast::Receiver<HostEvent> {
        self.0.events()
    }
}

/// A component with a capability whose key is all fives.
pub fn attested(id: Namespace) -> Arc<dyn RuntimeHost> {
    let capability = CapabilityTee { rak: PublicKey::new([5; 32]), ..CapabilityTee::default() };
    Arc::new(Attested(MockHost::new(id), Some(Arc::new(capability))))
}
