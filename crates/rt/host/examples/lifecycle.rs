//! Hosts an executable in the sandbox and puts it through what a host has to survive: restart, crash, hang, the switch to
//! another version, another version in its bundle.
//!
//! `lifecycle EXECUTABLE UPGRADED [--unconfined]` prints each event with the seconds since the start. The first executable
//! has to report version 0.0.0, the second 0.1.0.

use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};

use base_prims::{Namespace, Version};
use rt_bundle::{Binary, Wrap};
use rt_host::{
    ComponentConfig, HostEvent, HostInfo, NoHandler, Provisioner, RuntimeHost,
    sandbox::{DEFAULT_BINARY, Sandbox},
    versions::VersionedHost,
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    sync::broadcast,
    time::{Instant, timeout},
};
use wire_runtime::{Body, Empty, bundle::ComponentId};

/// Longest that an event is waited for.
const PATIENCE: Duration = Duration::from_secs(90);
const OLD: Version = Version::new(0, 0, 0);
const NEW: Version = Version::new(0, 1, 0);

struct Clock(Instant);

impl Clock {
    fn say(&self, text: impl std::fmt::Display) {
        println!("{:7.2}s  {text}", self.0.elapsed().as_secs_f64());
    }

    /// Prints events until the runtime runs.
    async fn until_started(&self, events: &mut broadcast::Receiver<HostEvent>) {
        loop {
            match timeout(PATIENCE, events.recv()).await {
                Ok(Ok(event)) => {
                    self.say(format!("event: {event:?}"));
                    if matches!(event, HostEvent::Started { .. }) {
                        return;
                    }
                }
                Ok(Err(e)) => return self.say(e),
                Err(_) => return self.say(format!("no event within {PATIENCE:?}")),
            }
        }
    }

    async fn ping(&self, host: &dyn RuntimeHost) {
        let answer = host.call(Body::RuntimePingRequest(Empty {})).await;
        self.say(format!("ping: {:?}", answer.map(|body| body.name().to_owned())));
    }
}

/// A test runtime's.
fn runtime_id() -> Namespace {
    let mut id = [0; 32];
    id[0] = 0x80;
    Namespace::from_bytes_unchecked(id)
}

fn host(executable: &str, version: Version, unconfined: bool) -> Arc<dyn RuntimeHost> {
    let wrap = Wrap {
        runtime_id: runtime_id(),
        name: "lifecycle".into(),
        version: Some(version),
        binary: Binary::Elf(executable.into()),
    };
    let bundle = Arc::new(wrap.to_exploded().expect("an ELF file"));
    let config = ComponentConfig::new(bundle, ComponentId::Ronl, Arc::new(NoHandler)).expect("a component");
    let info = HostInfo { consensus_chain_context: "00".repeat(32), ..HostInfo::default() };
    let provisioner = if unconfined { Sandbox::unconfined(info) } else { Sandbox::new(DEFAULT_BINARY, info) };
    provisioner.provision(config).expect("provisions")
}

/// The process of a runtime and those it started: in the sandbox, the runtime is one of the latter.
fn family(first: u32) -> Vec<i32> {
    let mut all = vec![i32::try_from(first).expect("a process id")];
    let parents: Vec<(i32, i32)> = std::fs::read_dir("/proc")
        .expect("readable")
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            Some((pid, stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?))
        })
        .collect();
    let mut at = 0;
    while let Some(parent) = all.get(at).copied() {
        all.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    all
}

fn signal(host: &dyn RuntimeHost, signal: Signal) {
    let last = host.status().pid.map(family).and_then(|all| all.last().copied());
    kill_process(last.and_then(Pid::from_raw).expect("runs"), signal).expect("delivered");
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [executable, upgraded, rest @ ..] = &args[..] else {
        eprintln!("usage: lifecycle EXECUTABLE UPGRADED [--unconfined]");
        return ExitCode::from(2);
    };
    let unconfined = rest.iter().any(|arg| arg == "--unconfined");
    let clock = Clock(Instant::now());
    let versions = VersionedHost::new(runtime_id());
    let mut events = versions.events();
    let (old, new) = (host(executable, OLD, unconfined), host(upgraded, NEW, unconfined));
    versions.add_version(OLD, old.clone()).await.expect("added");
    versions.add_version(NEW, new.clone()).await.expect("added");

    clock.say("-- start");
    versions.set_version(Some(OLD), None).await;
    versions.start().await.expect("starts");
    clock.until_started(&mut events).await;
    clock.ping(&versions).await;
    clock.say("-- abort by the host");
    clock.say(format!("abort: {:?}", versions.abort(true).await));
    clock.until_started(&mut events).await;
    clock.ping(&versions).await;
    clock.say("-- crash: SIGKILL");
    signal(&*old, Signal::KILL);
    clock.until_started(&mut events).await;
    clock.ping(&versions).await;
    clock.say("-- hang: SIGSTOP");
    signal(&*old, Signal::STOP);
    clock.until_started(&mut events).await;
    clock.ping(&versions).await;
    clock.say("-- next version, then switch");
    versions.set_version(Some(OLD), Some(NEW)).await;
    while new.info().is_none() && clock.0.elapsed() < 3 * PATIENCE {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    clock.say(format!("the next version: {}, active: {:?}", new.status(), versions.info().map(|i| i.runtime_version)));
    versions.set_version(Some(NEW), None).await;
    clock.until_started(&mut events).await;
    clock.ping(&versions).await;
    clock.say(format!("active: {:?}", versions.info().map(|info| info.runtime_version)));
    let pids: Vec<u32> = [&old, &new].iter().filter_map(|host| host.status().pid).collect();
    versions.stop(Instant::now() + PATIENCE).await.expect("stops");
    let left = pids.iter().filter(|pid| Path::new(&format!("/proc/{pid}/exe")).exists()).count();
    clock.say(format!("processes after the stop: {left} of {}", pids.len()));

    clock.say("-- another version in the bundle");
    let wrong = host(executable, Version::new(9, 0, 0), unconfined);
    let mut events = wrong.events();
    wrong.start().await.expect("starts");
    clock.say(format!("event: {:?}", timeout(PATIENCE, events.recv()).await));
    wrong.stop(Instant::now() + PATIENCE).await.expect("stops");
    ExitCode::SUCCESS
}
