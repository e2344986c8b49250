//! Versions that take over, runtimes that fail.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base_codec::cbor;
use base_prims::{Namespace, Version};
use node_hosting::{Hosted, Hosting, Parts, Setup};
use node_workers::runtime::follow;
use rt_bundle::Builder;
use rt_host::api::HostInfo;
use rt_host::calls::{self, ChainPosition};
use rt_host::notify::NoTags;
use rt_host::services::Services;
use tokio_util::sync::CancellationToken;
use wire_consensus::node::Node;
use wire_runtime::bundle::{Component, Elf, KIND_RONL, Manifest};

use super::guest::MARK;
use crate::testing::{MemoryChain, config, id, runtime, until, v};

/// This program, which says of itself to be of that version.
fn program(version: u8) -> Vec<u8> {
    let mut bytes = std::fs::read(std::env::current_exe().expect("a path")).expect("readable");
    bytes.extend(MARK);
    bytes.push(version);
    bytes
}

fn bundle(dir: &Path, id: Namespace, version: u8) -> PathBuf {
    let ronl = Component {
        kind: KIND_RONL.into(),
        version: v(u16::from(version)),
        elf: Some(Elf { executable: "guest".into() }),
        ..Component::default()
    };
    let mut builder =
        Builder::new(Manifest { name: "guest".into(), id, components: vec![ronl], ..Manifest::default() });
    builder.add_bytes("guest", program(version)).expect("adds");
    let path = dir.join(format!("{id}-{version}.orc"));
    builder.write(&path).expect("writes");
    path
}

struct Host {
    chain: Arc<MemoryChain>,
    hosting: Arc<Hosting>,
    stop: CancellationToken,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Host {
    async fn new(dir: &Path, mode: &str, text: &str) -> Self {
        let chain = MemoryChain::new();
        let setup = Setup {
            config: config(mode, dir, text),
            data_dir: dir.to_owned(),
            info: HostInfo::default(),
            chain: chain.clone(),
            unsafe_options: true,
            tee: rt_tee::VerifyOptions::default(),
            node_key: None,
            ias: Vec::new(),
        };
        let stop = CancellationToken::new();
        let hosting = Hosting::start(setup, stop.clone()).await.expect("starts");
        let tasks = vec![tokio::spawn(hosting.clone().run(stop.clone()))];
        Self { chain, hosting, stop, tasks }
    }

    fn run(&mut self, id: Namespace) -> Arc<Hosted> {
        let (view, following) = follow(self.chain.clone(), id, self.stop.clone());
        tokio::spawn(following);
        let parts = Parts { services: Services::default(), tags: Arc::new(NoTags), submission: None };
        let hosted = self.hosting.host(id, view, parts).expect("hosts");
        self.tasks.push(tokio::spawn(hosted.clone().run(self.stop.clone())));
        hosted
    }

    async fn end(self) {
        self.stop.cancel();
        for task in self.tasks {
            task.await.expect("ends");
        }
    }
}

async fn says(hosted: &Hosted) -> String {
    let host = hosted.host();
    let data = calls::query(&*host, ChainPosition::default(), Default::default(), "hello", Vec::new()).await;
    cbor::from_slice(&data.expect("answers")).expect("text")
}

fn registered(hosted: &Hosted) -> Vec<Version> {
    let mut node = Node::default();
    (hosted.contribution())(&mut node).expect("contributes");
    node.runtimes().iter().map(|r| r.version).collect()
}

fn components(hosted: &Hosted) -> Vec<String> {
    hosted.status().components.iter().map(ToString::to_string).collect()
}

pub(crate) async fn a_second_bundle_added_while_running_takes_over_at_its_epoch() {
    let dir = tempfile::tempdir().expect("a folder");
    let first = bundle(dir.path(), id(1), 1);
    let text = format!(
        "  paths: ['{}']\n  runtimes:\n    - id: {}\n      config:\n        greeting: hello\n",
        first.display(),
        id(1)
    );
    let mut host = Host::new(dir.path(), "compute", &text).await;
    host.chain.set_runtime(&runtime(id(1), &[(v(1), 0), (v(2), 5)]));
    let hosted = host.run(id(1));
    let mut ready = hosted.ready();
    ready.wait_for(|ready| *ready).await.expect("runs");
    assert_eq!(says(&hosted).await, "hello from 1.0.0");
    assert_eq!(registered(&hosted), [v(1)]);
    let log = dir.path().join(format!("runtimes/logs/{}/ronl/log", id(1)));
    until("the log has a line", || std::fs::read_to_string(&log).is_ok_and(|log| log.contains("guest connected")))
        .await;
    let bundles = dir.path().join("runtimes/bundles");
    let count = || std::fs::read_dir(&bundles).expect("there").count();
    assert_eq!(count(), 1);

    // Three epochs before its turn the next version would run in advance; its bundle comes while the node runs.
    host.chain.set_epoch(3);
    until("the status misses the bundle", || {
        hosted.status().problems == ["no bundle of the next version 2.0.0 of the on-chain component"]
    })
    .await;
    let second = bundle(dir.path(), id(1), 2);
    let hosting = host.hosting.clone();
    tokio::task::spawn_blocking(move || hosting.add_bundle(&second).expect("adds")).await.expect("adds");
    until("both are registered", || registered(&hosted) == [v(1), v(2)]).await;
    assert_eq!(says(&hosted).await, "hello from 1.0.0");
    assert_eq!(components(&hosted), ["ronl 1.0.0: running", "ronl 2.0.0: running"]);
    assert!(hosted.status().problems.is_empty());

    host.chain.set_epoch(5);
    until("the second is active", || registered(&hosted) == [v(2)]).await;
    assert!(*ready.borrow());
    assert_eq!(says(&hosted).await, "hello from 2.0.0");
    until("the first bundle is removed", || count() == 1).await;
    until("and forgotten", || components(&hosted) == ["ronl 2.0.0: running"]).await;
    let pid = hosted.status().components[0].status.as_ref().and_then(|status| status.pid).expect("a process");
    host.end().await;
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

pub(crate) async fn a_runtime_that_fails_leaves_others_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let paths = [bundle(dir.path(), id(1), 1), bundle(dir.path(), id(2), 1)];
    let text = format!(
        "  paths: ['{}', '{}']\n  runtimes:\n    - id: {}\n      config:\n        mode: exit\n    - id: {}\n",
        paths[0].display(),
        paths[1].display(),
        id(1),
        id(2)
    );
    let mut host = Host::new(dir.path(), "client", &text).await;
    host.chain.set_runtime(&runtime(id(1), &[(v(1), 0)]));
    host.chain.set_runtime(&runtime(id(2), &[(v(1), 0)]));
    let (crashing, good) = (host.run(id(1)), host.run(id(2)));
    good.ready().wait_for(|ready| *ready).await.expect("runs");
    let text = "ronl 1.0.0: failed: failed to initialize connection";
    until("the crash shows", || components(&crashing).iter().any(|shown| shown.starts_with(text))).await;
    assert!(!*crashing.ready().borrow());
    assert!(registered(&crashing).is_empty());
    assert_eq!(says(&good).await, " from 1.0.0");
    host.end().await;

    // A sandbox that is not there.
    let dir = tempfile::tempdir().expect("a folder");
    let path = bundle(dir.path(), id(1), 1);
    let text = format!("  sandbox_binary: /no/such/bwrap\n  paths: ['{}']\n", path.display());
    let mut host = Host::new(dir.path(), "client", &text).await;
    host.chain.set_runtime(&runtime(id(1), &[(v(1), 0)]));
    let hosted = host.run(id(1));
    until("the status names the sandbox", || {
        components(&hosted).iter().any(|text| {
            text.starts_with("ronl 1.0.0: failed: failed to spawn sandbox: sandbox binary not found at /no/such/bwrap")
        })
    })
    .await;
    host.end().await;
}

pub(crate) async fn bare_binaries_run_as_what_the_chain_wants_or_say_what_they_are() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("guest");
    std::fs::write(&path, program(1)).expect("writes");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("sets");
    let text = format!("  binaries:\n    - id: {}\n      path: '{}'\n", id(1), path.display());
    let mut host = Host::new(dir.path(), "client", &text).await;
    host.chain.set_runtime(&runtime(id(1), &[(v(1), 0), (v(2), 5)]));
    let hosted = host.run(id(1));
    let mut ready = hosted.ready();
    ready.wait_for(|ready| *ready).await.expect("runs");
    assert_eq!(says(&hosted).await, " from 1.0.0");
    // The binary is not what comes next.
    host.chain.set_epoch(5);
    ready.wait_for(|ready| !*ready).await.expect("told");
    until("the status says it", || hosted.status().problems == ["the binary is version 1.0.0, the chain wants 2.0.0"])
        .await;
    host.end().await;
}

/// Serves one bundle as a registry does, until the test ends.
fn registry(hash: String, bundle: Vec<u8>) -> String {
    use std::io::{BufRead as _, BufReader, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    let url = base.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut reader = BufReader::new(stream.try_clone().expect("a handle"));
            let mut line = String::new();
            let _ = reader.read_line(&mut line);
            let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
            while reader.read_line(&mut line).is_ok_and(|count| count > 2) {}
            let (status, body) = match path.as_str() {
                "/bundle.orc" => ("200 OK", bundle.clone()),
                path if path == format!("/{hash}") => ("200 OK", format!("{url}/bundle.orc\n").into_bytes()),
                _ => ("404 Not Found", Vec::new()),
            };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    base
}

pub(crate) async fn a_deployment_brings_its_bundle_from_a_registry() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = bundle(dir.path(), id(1), 1);
    let hash = rt_bundle::Bundle::open(&path, &rt_bundle::OpenOptions::default()).expect("opens").manifest_hash();
    let base = registry(hash.to_hex(), std::fs::read(path).expect("reads"));
    let text = format!(
        "  max_bundle_size: 2gb\n  runtimes:\n    - id: {}\n      registries: ['{base}']\n    - id: {}\n",
        id(1),
        id(2)
    );
    let mut host = Host::new(dir.path(), "client", &text).await;
    let mut descriptor = runtime(id(1), &[(v(1), 0)]);
    if let Some(Some(deployment)) = descriptor.deployments.first_mut() {
        deployment.bundle_checksum = hash.as_bytes().to_vec().into();
    }
    let hosted = host.run(id(1));
    host.chain.set_runtime(&descriptor);
    hosted.ready().wait_for(|ready| *ready).await.expect("found and run");
    assert_eq!(says(&hosted).await, " from 1.0.0");
    assert!(dir.path().join("runtimes/bundles").join(hash.to_hex()).is_dir());
    drop(hosted);
    host.end().await;

    // It is there at the next start, and goes when its runtime is not configured any more.
    let other = format!("  runtimes:\n    - id: {}\n", id(2));
    let host = Host::new(dir.path(), "client", &text).await;
    assert!(dir.path().join("runtimes/bundles").join(hash.to_hex()).is_dir());
    host.end().await;
    let host = Host::new(dir.path(), "client", &other).await;
    assert!(!dir.path().join("runtimes/bundles").join(hash.to_hex()).exists());
    host.end().await;
}
