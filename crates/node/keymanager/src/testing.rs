//! A network of key managers for tests: a chain in memory that runs the real service, links without sockets, enclaves on
//! threads of this process.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base_codec::cbor;
use base_crypto::blacklist::test_key;
use base_crypto::context::sign_with_context;
use base_crypto::ed25519::SecretKey;
use base_kv::Memory;
use base_prims::{Epoch, Namespace, PublicKey, RawSignature, Version};
use node_config::schema::{ChurpScheme, Config, Mode};
use node_workers::registration::{Addresses, DeregisterFlag, Keys, Registration, Setup as RegistrationSetup};
use node_workers::{Submission, runtime};
use parking_lot::Mutex;
use rt_bundle::{Binary, Wrap};
use rt_guest::Config as GuestConfig;
use rt_guest::testing::{TEST_TIMEOUT, TestHost};
use rt_host::api::{BoxFuture, ComponentStatus, HostEvent};
use rt_host::component::Timings;
use rt_host::sandbox::Sandbox;
use rt_host::services::{KeyManagerClient, LocalStorage, Services};
use rt_host::{ComponentConfig, HostError, HostHandler as _, HostInfo, Provisioner as _, RuntimeHost};
use rt_keymanager::{key_manager, policy::TrustedSigners};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wire_consensus::keymanager::{PolicySgx, SignedPolicySgx};
use wire_consensus::node::{CapabilityTee, ConsensusAddress, NetAddress, Node, Roles, Runtime as NodeRuntime};
use wire_consensus::signed::Signature;
use wire_runtime::Body;
use wire_runtime::bundle::ComponentId;
use wire_runtime::runtime::{ConsensusSyncRequest, InfoResponse};

use crate::access::peer_id;
use crate::{Client, Setup, Worker};

mod chain;
mod links;

pub(crate) use chain::TestChain;
pub(crate) use links::{Link, Links};

/// The version of the enclaves.
pub(crate) const VERSION: Version = Version::new(1, 0, 0);
/// The context of the chain, as protocols name it.
pub(crate) const CONTEXT: &str = "c0ffee";

/// A key that tests know by number.
pub(crate) fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

pub(crate) fn public(n: u8) -> PublicKey {
    key(n).public().into()
}

/// The key manager.
pub(crate) fn km() -> Namespace {
    Namespace::try_from(&[&[0xc0, 0, 0, 0, 0, 0, 0, 0][..], &[1; 24]].concat()[..]).expect("a namespace")
}

/// A runtime that uses it.
pub(crate) fn compute() -> Namespace {
    Namespace::try_from(&[&[0x80, 0, 0, 0, 0, 0, 0, 0][..], &[2; 24]].concat()[..]).expect("a namespace")
}

/// A policy that the signers of test networks signed.
pub(crate) fn policy(serial: u32, rotation_interval: Epoch) -> SignedPolicySgx {
    let policy = PolicySgx {
        serial,
        id: km(),
        enclaves: Some(Default::default()),
        master_secret_rotation_interval: rotation_interval,
        max_ephemeral_secret_age: 5,
    };
    let raw = cbor::to_vec(&policy);
    let sign = |n: u8| {
        let key = test_key(&format!("ekiden key manager test multisig key {n}"));
        let context = &base_crypto::context::KEYMANAGER_POLICY;
        let signature = sign_with_context(&key, context, None, None, &raw).expect("signs");
        Signature { public_key: key.public().into(), signature: RawSignature::new(signature) }
    };
    SignedPolicySgx { policy, signatures: Some(vec![sign(0), sign(1)]) }
}

/// An enclave on a thread, or in a process.
pub(crate) struct Enclave {
    running: Mutex<Option<TestHost>>,
    events: broadcast::Sender<HostEvent>,
    handler: Arc<Services>,
    process: Option<Arc<dyn RuntimeHost>>,
}

impl Enclave {
    fn new(handler: Services, program: Option<&Path>) -> Self {
        let events = broadcast::Sender::new(64);
        let handler = Arc::new(handler);
        let process = program.map(|program| hosted(program, Arc::clone(&handler)));
        Self { running: Mutex::new(None), events, handler, process }
    }

    /// Starts it, or starts it anew.
    pub(crate) async fn boot(&self) {
        if let Some(process) = &self.process {
            let mut events = process.events();
            process.start().await.expect("starts");
            let started = async { while !matches!(events.recv().await, Ok(HostEvent::Started { .. })) {} };
            tokio::time::timeout(PATIENCE, started).await.expect("the process starts");
            return;
        }
        let (handle, handler) = (tokio::runtime::Handle::current(), Arc::clone(&self.handler));
        let answers = Box::new(move |body: &Body| handle.block_on(handler.handle(body.clone())));
        let config = GuestConfig { version: VERSION, ..GuestConfig::default() };
        let host = TestHost::start(config, key_manager(TrustedSigners::test()), answers).expect("starts");
        let info = host.send(TestHost::info(km())).expect("is sent");
        let info = tokio::task::spawn_blocking(move || info.recv_timeout(TEST_TIMEOUT)).await.expect("runs");
        assert!(matches!(info, Ok(Body::RuntimeInfoResponse(_))), "{info:?}");
        *self.running.lock() = Some(host);
        let _ = self.events.send(HostEvent::Started { version: VERSION, capability_tee: None });
    }
}

/// A program as a runtime, without sandbox.
fn hosted(program: &Path, handler: Arc<Services>) -> Arc<dyn RuntimeHost> {
    let binary = Binary::Elf(program.to_owned());
    let wrap = Wrap { runtime_id: km(), name: "key manager".to_owned(), version: None, binary };
    let bundle = Arc::new(wrap.to_exploded().expect("an executable"));
    let config = ComponentConfig::new(bundle, ComponentId::Ronl, handler).expect("a component");
    let info = HostInfo { consensus_chain_context: CONTEXT.to_owned(), ..HostInfo::default() };
    let timings = Timings { init: Duration::from_secs(20), ..Timings::default() };
    Sandbox::unconfined(info).with_timings(timings).provision(config).expect("is provisioned")
}

impl RuntimeHost for Enclave {
    fn id(&self) -> Namespace {
        km()
    }

    fn start(&self) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(async { Ok(()) })
    }

    fn stop(&self, deadline: Instant) -> BoxFuture<'_, Result<(), HostError>> {
        if let Some(process) = &self.process {
            return process.stop(deadline);
        }
        *self.running.lock() = None;
        let _ = self.events.send(HostEvent::Stopped);
        Box::pin(async { Ok(()) })
    }

    fn abort(&self, _: bool) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(async { Ok(()) })
    }

    fn call(&self, body: Body) -> BoxFuture<'_, Result<Body, HostError>> {
        if let Some(process) = &self.process {
            return process.call(body);
        }
        let sent = self.running.lock().as_ref().map(|host| host.send(body));
        Box::pin(async move {
            let answer = sent.ok_or(HostError::NotReady)?.map_err(|e| HostError::Closed(e.to_string()))?;
            let answer = tokio::task::spawn_blocking(move || answer.recv_timeout(TEST_TIMEOUT)).await.expect("runs");
            let answer = answer.map_err(|e| HostError::Closed(e.to_string()))?;
            answer.into_result().map_err(HostError::Runtime)
        })
    }

    fn info(&self) -> Option<InfoResponse> {
        let runs = self.process.as_ref().map_or(self.running.lock().is_some(), |process| process.info().is_some());
        runs.then(|| InfoResponse { runtime_version: VERSION, ..InfoResponse::default() })
    }

    fn capability_tee(&self) -> Option<Arc<CapabilityTee>> {
        None
    }

    fn update_capability_tee(&self) {}

    fn status(&self) -> ComponentStatus {
        ComponentStatus::new("test", std::time::SystemTime::UNIX_EPOCH)
    }

    fn events(&self) -> broadcast::Receiver<HostEvent> {
        self.process.as_ref().map_or_else(|| self.events.subscribe(), |process| process.events())
    }
}

struct Nowhere;

impl Addresses for Nowhere {
    fn consensus(&self) -> BoxFuture<'_, Result<Vec<ConsensusAddress>, String>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn p2p(&self) -> Vec<NetAddress> {
        vec!["127.0.0.1:9200".parse().expect("an address")]
    }
}

struct NoFlag;

impl DeregisterFlag for NoFlag {
    fn get(&self) -> bool {
        false
    }

    fn set(&self, _: bool) -> Result<(), String> {
        Ok(())
    }
}

/// A key manager's node.
pub(crate) struct TestNode {
    pub(crate) enclave: Arc<Enclave>,
    pub(crate) worker: Arc<Worker>,
    pub(crate) link: Arc<Link>,
    stop: CancellationToken,
}

impl Drop for TestNode {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The network.
pub(crate) struct World {
    pub(crate) chain: Arc<TestChain>,
    pub(crate) links: Arc<Links>,
    pub(crate) nodes: Vec<TestNode>,
}

/// How long a test waits for something.
const PATIENCE: Duration = Duration::from_secs(120);

impl World {
    pub(crate) fn new() -> Self {
        Self { chain: Arc::new(TestChain::new()), links: Arc::default(), nodes: Vec::new() }
    }

    /// Starts a node of the key manager; `n` is its key, `n + 100` that of its links.
    pub(crate) async fn start(&mut self, n: u8, schemes: &[u8]) -> &TestNode {
        self.start_program(n, schemes, None).await
    }

    /// The same with a program as its enclave.
    pub(crate) async fn start_program(&mut self, n: u8, schemes: &[u8], program: Option<&Path>) -> &TestNode {
        let stop = CancellationToken::new();
        let mut config = Config { mode: Mode::KeyManager, ..Config::default() };
        config.keymanager.churp.schemes = schemes.iter().map(|id| ChurpScheme { id: *id }).collect();
        let config = Arc::new(config);
        let chain = Arc::clone(&self.chain);
        let link: Arc<Link> = Links::join(&self.links, peer_id(&public(n + 100)));
        let submission = Arc::new(Submission::new(Arc::clone(&chain) as _, 0, 0));
        let (view, following) = runtime::follow(Arc::clone(&chain) as _, km(), stop.clone());
        tokio::spawn(following);
        let client = Client::new(Arc::clone(&link) as _, CONTEXT.to_owned(), Arc::clone(&chain) as _, view.clone());
        tokio::spawn(Arc::clone(&client).run(stop.clone()));
        let services = Services {
            consensus: Some(Arc::clone(&chain) as _),
            key_manager: Some(Arc::clone(&client) as Arc<dyn KeyManagerClient>),
            node_id: Some(public(n)),
            local_storage: Some(LocalStorage::new(Arc::new(Memory::new()))),
            ..Services::default()
        };
        let enclave = Arc::new(Enclave::new(services, program));
        let setup = RegistrationSetup {
            entity: Some(public(chain::OWNER)),
            keys: Keys {
                node: key(n),
                p2p: key(n + 100),
                consensus: key(n + 101),
                vrf: key(n + 102),
                tls: key(n + 103),
            },
            addresses: Arc::new(Nowhere),
            allow_unroutable: true,
            software_version: String::new(),
            flag: Arc::new(NoFlag),
        };
        let registration = Registration::new(setup, Arc::clone(&submission));
        let slots = registration.clone();
        let worker = Worker::new(Setup {
            runtime: km(),
            config,
            chain: Arc::clone(&chain) as _,
            chain_context: CONTEXT.to_owned(),
            submission,
            p2p: Arc::clone(&link) as _,
            node_key: key(n),
            p2p_key: public(n + 100),
            host: Arc::clone(&enclave) as _,
            view,
            ready: watch::Sender::new(true).subscribe(),
            contribution: Arc::new(|node: &mut Node| {
                let entry = NodeRuntime { id: km(), version: VERSION, ..NodeRuntime::default() };
                node.runtimes.get_or_insert_default().push(entry);
                Ok(())
            }),
            slots: Box::new(move || slots.slot(Roles::KEY_MANAGER)),
            allow_test_keys: true,
        });
        let worker = worker.expect("a worker");
        tokio::spawn(Arc::clone(&worker).run(stop.clone()));
        let ending = stop.clone();
        tokio::spawn(async move { registration.run(ending).await });
        enclave.boot().await;
        self.nodes.push(TestNode { enclave, worker, link, stop });
        self.nodes.last().expect("just added")
    }

    /// Makes a block, and tells the enclaves of it as hosts do.
    pub(crate) async fn block(&self) {
        self.advance(None).await;
    }

    /// Makes a block with which the next epoch begins.
    pub(crate) async fn next_epoch(&self) {
        let next = self.chain.epoch() + 1;
        self.advance(Some(next)).await;
    }

    async fn advance(&self, epoch: Option<Epoch>) {
        let height = self.chain.advance(epoch);
        for node in &self.nodes {
            let body = Body::RuntimeConsensusSyncRequest(ConsensusSyncRequest { height: height.unsigned_abs() });
            // One that does not run hears of it when it does.
            let _ = node.enclave.call(body).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    /// Makes blocks until something is so.
    pub(crate) async fn until(&self, what: &str, so: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        while !so(self) {
            assert!(begin.elapsed() < PATIENCE, "{what}: {:#?}", self.chain.log());
            self.block().await;
        }
    }
}
