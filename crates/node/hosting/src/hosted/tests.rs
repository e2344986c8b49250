//! A hosted runtime over a chain in memory: versions, contribution, readiness, what components are told.

use std::path::Path;

use node_workers::runtime::follow;
use rt_host::api::HostInfo;
use rt_host::notify::{Input, NoTags};
use wire_consensus::keymanager::Status;
use wire_consensus::node::{CapabilityTee, TeeHardware};

use super::*;
use crate::Setup;
use crate::testing::{Attested, MemoryChain, config, id, runtime, until, v};

fn setup(chain: &Arc<MemoryChain>, dir: &Path, mode: &str, text: &str) -> Setup {
    Setup {
        config: config(mode, dir, text),
        data_dir: dir.to_owned(),
        info: HostInfo::default(),
        chain: chain.clone(),
        unsafe_options: true,
        tee: rt_tee::VerifyOptions::default(),
        ias: Vec::new(),
        node_key: None,
    }
}

fn mock(ids: &[Namespace]) -> String {
    let entries: String = ids.iter().map(|id| format!("    - id: {id}\n")).collect();
    format!("  provisioner: mock\n  runtimes:\n{entries}")
}

struct Running {
    hosting: Arc<Hosting>,
    hosted: Arc<Hosted>,
    task: tokio::task::JoinHandle<()>,
    stop: CancellationToken,
}

async fn run(setup: Setup, chain: &Arc<MemoryChain>, id: Namespace) -> Running {
    let stop = CancellationToken::new();
    let hosting = Hosting::start(setup, stop.clone()).await.expect("starts");
    let (view, following) = follow(chain.clone(), id, stop.clone());
    tokio::spawn(following);
    let parts = Parts { services: Services::default(), tags: Arc::new(NoTags), submission: None };
    let hosted = hosting.host(id, view, parts).expect("hosts");
    let task = tokio::spawn(hosted.clone().run(stop.clone()));
    Running { hosting, hosted, task, stop }
}

impl Running {
    fn registered(&self) -> Vec<Version> {
        let mut node = Node::default();
        (self.hosted.contribution())(&mut node).expect("contributes");
        assert!(node.runtimes().iter().all(|r| r.id == self.hosted.id()));
        node.runtimes().iter().map(|r| r.version).collect()
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.expect("ends");
        assert!(!*self.hosted.ready().borrow());
    }
}

#[tokio::test]
async fn versions_follow_the_chain_and_so_does_the_registration() {
    let (chain, dir) = (MemoryChain::new(), tempfile::tempdir().expect("a folder"));
    let node = run(setup(&chain, dir.path(), "compute", &mock(&[id(1)])), &chain, id(1)).await;
    assert_eq!(node.hosting.runtimes(), [id(1)]);
    assert!(node.registered().is_empty());
    assert_eq!(node.hosted.status().active_version, None);

    chain.set_runtime(&runtime(id(1), &[(v(1), 0), (v(2), 10)]));
    let mut ready = node.hosted.ready();
    ready.wait_for(|ready| *ready).await.expect("runs");
    assert_eq!(node.registered(), [v(1)]);
    let status = node.hosted.status();
    assert_eq!((status.active_version, status.next_version, status.ready), (Some(v(1)), None, true));
    assert_eq!(status.components.len(), 1);
    assert_eq!(status.components[0].to_string(), "ronl 1.0.0: running");
    assert!(status.problems.is_empty(), "{:?}", status.problems);

    // At an epoch change the next version takes over.
    let mut changed = node.hosted.changed();
    changed.borrow_and_update();
    chain.set_epoch(10);
    until("the next version is active", || node.registered() == [v(2)]).await;
    changed.changed().await.expect("told");
    assert!(*ready.borrow());
    node.end().await;
}

#[tokio::test]
async fn a_descriptor_that_others_have_written_to_keeps_what_is_theirs() {
    let (chain, dir) = (MemoryChain::new(), tempfile::tempdir().expect("a folder"));
    chain.set_runtime(&runtime(id(1), &[(v(1), 0)]));
    let node = run(setup(&chain, dir.path(), "observer", &mock(&[id(1)])), &chain, id(1)).await;
    node.hosted.ready().wait_for(|ready| *ready).await.expect("runs");
    let mut descriptor = Node::default();
    let other = NodeRuntime { id: id(2), version: v(1), ..NodeRuntime::default() };
    let extra = NodeRuntime { id: id(1), version: v(1), extra_info: Some(vec![1, 2].into()), ..NodeRuntime::default() };
    descriptor.runtimes = Some(vec![other.clone(), extra.clone()]);
    (node.hosted.contribution())(&mut descriptor).expect("contributes");
    assert_eq!(descriptor.runtimes(), [other, extra]);
    node.end().await;
}

#[tokio::test]
async fn a_version_in_a_tee_is_registered_with_its_capability_and_not_without() {
    let (chain, dir) = (MemoryChain::new(), tempfile::tempdir().expect("a folder"));
    let hosting = Hosting::start(setup(&chain, dir.path(), "compute", &mock(&[id(1)])), CancellationToken::new());
    let hosting = hosting.await.expect("starts");
    let (_sender, view) = watch::channel(RuntimeView::default());
    let parts = Parts { services: Services::default(), tags: Arc::new(NoTags), submission: None };
    let hosted = hosting.host(id(1), view, parts).expect("hosts");
    let capability = Arc::new(CapabilityTee { hardware: TeeHardware::INTEL_SGX, ..CapabilityTee::default() });
    let with = Attested(rt_host::mock::MockHost::new(id(1)), Some(capability.clone()));
    let without = Attested(rt_host::mock::MockHost::new(id(1)), None);
    hosted.host().start().await.expect("starts");
    for (version, host) in [(v(1), with), (v(2), without)] {
        hosted.host().add_version(&ComponentId::Ronl, version, Arc::new(host)).await.expect("added");
        let placed = Placed { manifest: Hash::EMPTY, tee: TeeKind::SGX, unproven: false };
        hosted.state.lock().placed.insert((ComponentId::Ronl, version), placed);
    }
    hosted.host().set_version(Some(v(1)), Some(v(2))).await;
    {
        let mut state = hosted.state.lock();
        (state.active, state.next) = (Some(v(1)), Some(v(2)));
    }
    let mut node = Node::default();
    (hosted.contribution())(&mut node).expect("contributes");
    assert_eq!(node.runtimes().len(), 1);
    assert_eq!(node.runtimes()[0].version, v(1));
    assert_eq!(node.runtimes()[0].capabilities.tee, Some((*capability).clone()));
}

#[tokio::test]
async fn unsafe_options_need_the_flag_and_modes_their_runtimes() {
    let (chain, dir) = (MemoryChain::new(), tempfile::tempdir().expect("a folder"));
    let entry = format!("  runtimes:\n    - id: {}\n", id(1));
    for (mode, text, expected) in [
        ("compute", mock(&[id(1)]), "mock requires use of unsafe debug flags"),
        ("client", format!("  provisioner: unconfined\n{entry}"), "unconfined requires use of unsafe debug flags"),
        ("client", format!("  debug_mock_tee: true\n{entry}"), "debug_mock_tee requires use of unsafe debug flags"),
        ("client", format!("  environment: sgx-mock\n{entry}"), "debug_mock_tee requires use of unsafe debug flags"),
        ("compute", String::new(), "at least one runtime must be configured"),
    ] {
        let mut setup = setup(&chain, dir.path(), mode, &text);
        setup.unsafe_options = false;
        let error = Hosting::start(setup, CancellationToken::new()).await.err().expect("refused").to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// The guides name the loader whether or not there is an enclave: without one it shows in the provisioner's name, and the
/// file need not be there.
#[tokio::test]
async fn a_loader_without_an_enclave_has_no_effect() {
    for loader in [false, true] {
        let (chain, dir) = (MemoryChain::new(), tempfile::tempdir().expect("a folder"));
        let sgx = if loader { "  sgx: {loader: /nowhere/oasis-core-runtime-loader}\n" } else { "" };
        let text = format!("  provisioner: unconfined\n{sgx}  runtimes:\n    - id: {}\n", id(1));
        let node = run(setup(&chain, dir.path(), "client", &text), &chain, id(1)).await;
        assert_eq!(node.hosted.status().provisioner.contains("sgx"), loader);
        assert_eq!(node.hosting.problems(), Vec::<String>::new());
        node.end().await;
    }
}

#[tokio::test]
async fn a_broken_bundle_and_a_missing_one_show_and_leave_others_alone() {
    let (chain, dir) = (MemoryChain::new(), tempfile::tempdir().expect("a folder"));
    let broken = dir.path().join("broken.orc");
    std::fs::write(&broken, b"PK but no archive").expect("writes");
    let text = format!("  paths: ['{}', /no/such/file.orc]\n{}", broken.display(), mock(&[id(1)]));
    chain.set_runtime(&runtime(id(1), &[(v(1), 0)]));
    let node = run(setup(&chain, dir.path(), "compute", &text), &chain, id(1)).await;
    let problems = node.hosting.problems();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].starts_with(&broken.display().to_string()), "{problems:?}");
    assert!(problems[1].starts_with("/no/such/file.orc: "), "{problems:?}");
    node.hosted.ready().wait_for(|ready| *ready).await.expect("runs");
    assert!(matches!(node.hosting.add_bundle(&broken), Err(HostingError::Bundle(_))));
    node.end().await;

    // Without any bundle of the wanted version the status says so.
    let dir = tempfile::tempdir().expect("a folder");
    let text = format!("  runtimes:\n    - id: {}\n", id(1));
    let node = run(setup(&chain, dir.path(), "client", &text), &chain, id(1)).await;
    let missing = "no bundle of the active version 1.0.0 of the on-chain component";
    until("the status says it", || node.hosted.status().problems == [missing]).await;
    assert!(!*node.hosted.ready().borrow());
    node.end().await;
}

#[tokio::test]
async fn only_what_is_configured_is_hosted_and_once() {
    let (chain, dir) = (MemoryChain::new(), tempfile::tempdir().expect("a folder"));
    let hosting = Hosting::start(setup(&chain, dir.path(), "client", &mock(&[id(1)])), CancellationToken::new());
    let hosting = hosting.await.expect("starts");
    let (_sender, view) = watch::channel(RuntimeView::default());
    let parts = || Parts { services: Services::default(), tags: Arc::new(NoTags), submission: None };
    assert!(matches!(hosting.host(id(2), view.clone(), parts()), Err(HostingError::NotConfigured(_))));
    let hosted = hosting.host(id(1), view.clone(), parts()).expect("hosts");
    assert!(matches!(hosting.host(id(1), view.clone(), parts()), Err(HostingError::Twice(_))));
    drop(hosted);
    assert!(hosting.host(id(1), view, parts()).is_ok());
    assert!(hosting.folder(&id(1)).join("local").is_dir());
}

#[tokio::test]
async fn components_are_told_of_blocks_and_of_their_key_manager() {
    let chain = MemoryChain::new();
    let mut key_manager = *id(9).as_bytes();
    key_manager[0] |= 0x40;
    let key_manager = Namespace::from_bytes_unchecked(key_manager);
    let mut descriptor = runtime(id(1), &[(v(1), 0)]);
    descriptor.key_manager = Some(key_manager);
    chain.set_runtime(&descriptor);
    let policy = rt_tee::Policy { ias: None, pcs: Some(rt_tee::pcs::QuotePolicy::default()) };
    let constraints = rt_tee::SgxConstraints { v: 1, policy: Some(policy), ..Default::default() };
    let mut manager = runtime(key_manager, &[(v(1), 0)]);
    manager.tee_hardware = TeeHardware::INTEL_SGX;
    if let Some(Some(deployment)) = manager.deployments.first_mut() {
        deployment.tee = Some(base_codec::cbor::to_vec(&constraints).into());
    }
    chain.set_runtime(&manager);
    chain.set_key_manager(&Status { id: key_manager, ..Status::default() });

    let stop = CancellationToken::new();
    let (view, following) = follow(chain.clone(), id(1), stop.clone());
    tokio::spawn(following);
    let (inputs, mut told) = mpsc::channel(16);
    let (blocks, waiting) = mpsc::channel(1);
    let task = tokio::spawn(feed::run(chain.clone(), view, inputs, waiting, stop.clone()));
    let mut next = async || told.recv().await.expect("told");
    assert!(matches!(next().await, Input::ConsensusBlock(4, _)));
    assert!(matches!(next().await, Input::KeyManagerStatus(status) if status.id == key_manager));
    assert!(matches!(next().await, Input::KeyManagerQuotePolicy(policy) if policy.pcs.is_some()));
    // What did not change is not told again.
    chain.advance();
    assert!(matches!(next().await, Input::ConsensusBlock(5, _)));
    blocks.send(AnnotatedBlock::default()).await.expect("taken");
    assert!(matches!(next().await, Input::RuntimeBlock(_)));
    chain.set_key_manager(&Status { id: key_manager, is_initialized: true, ..Status::default() });
    assert!(matches!(next().await, Input::ConsensusBlock(6, _)));
    assert!(matches!(next().await, Input::KeyManagerStatus(status) if status.is_initialized));
    stop.cancel();
    task.await.expect("ends");
}

/// A bundle of one off-chain component, as if it were unpacked.
fn rofl(name: &str, version: Version, label: &str) -> Arc<rt_bundle::Exploded> {
    let component = wire_runtime::bundle::Component {
        kind: wire_runtime::bundle::KIND_ROFL.into(),
        name: name.into(),
        version,
        elf: Some(wire_runtime::bundle::Elf { executable: label.into() }),
        ..Default::default()
    };
    let manifest = wire_runtime::bundle::Manifest { id: id(1), components: vec![component], ..Default::default() };
    Arc::new(rt_bundle::Exploded::new(manifest, "/nowhere".into()))
}

#[tokio::test]
async fn off_chain_components_come_are_replaced_and_go_with_their_bundles() {
    let (chain, dir) = (MemoryChain::new(), tempfile::tempdir().expect("a folder"));
    let text = format!("{}      components:\n        - id: rofl.off\n          disabled: true\n", mock(&[id(1)]));
    chain.set_runtime(&runtime(id(1), &[(v(1), 0)]));
    let node = run(setup(&chain, dir.path(), "client", &text), &chain, id(1)).await;
    node.hosted.ready().wait_for(|ready| *ready).await.expect("runs");
    let labels = |value: &str| wire_runtime::rofl::Labels::from([("who".to_owned(), value.to_owned())]);
    let add = |bundle, value: &str| node.hosting.bundles.register(bundle, labels(value), None);
    let app = ComponentId::Rofl("app".into());
    let shown = || {
        let components = node.hosted.status().components;
        components.iter().map(ToString::to_string).filter(|text| text.starts_with("rofl")).collect::<Vec<_>>()
    };

    add(rofl("off", v(1), "x"), "off").expect("adds");
    add(rofl("app", v(1), "first"), "first").expect("adds");
    until("it runs", || shown() == ["rofl.app 1.0.0: running", "rofl.off 1.0.0: not running"]).await;
    let same = add(rofl("app", v(1), "second"), "second").expect_err("refused").to_string();
    assert!(same.contains("duplicate component 'rofl.app', version '1.0.0'"), "{same}");
    let first = node.hosted.host().component(&app).expect("there");

    // The same version from another bundle is another component.
    assert_eq!(node.hosting.bundles.remove(&id(1), &labels("first")), 1);
    add(rofl("app", v(1), "second"), "second").expect("adds");
    until("it is another", || {
        let now = node.hosted.host().component(&app);
        now.is_some_and(|now| !Arc::ptr_eq(&now, &first)) && shown()[0] == "rofl.app 1.0.0: running"
    })
    .await;
    // A newer version takes over at once.
    add(rofl("app", v(2), "third"), "third").expect("adds");
    until("the newest runs", || shown()[..2] == ["rofl.app 1.0.0: not running", "rofl.app 2.0.0: running"]).await;
    for value in ["second", "third"] {
        node.hosting.bundles.remove(&id(1), &labels(value));
    }
    until("it is gone", || node.hosted.host().component(&app).is_none()).await;
    assert!(*node.hosted.ready().borrow());
    assert!(node.hosted.status().problems.is_empty(), "{:?}", node.hosted.status().problems);
    node.end().await;
}
