//! Start, restart, abort, hang, crash, versions and stop, without sandbox.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use base_codec::{Raw, cbor};
use base_prims::{Namespace, Version};
use rt_bundle::{Binary, Wrap};
use rt_host::{
    ComponentConfig, ComponentState, HostError, HostEvent, HostInfo, NoHandler, Provisioner, RuntimeHost,
    calls::{self, ChainPosition},
    component::Timings,
    logs::{ComponentLog, MIN_MAX_FILE_BYTES},
    sandbox::Sandbox,
    versions::VersionedHost,
};
use tokio::{sync::broadcast, time::timeout};
use wire_runtime::{Body, Empty, bundle::ComponentId};

crate::tests![
    answers_calls,
    restarts_after_a_crash,
    restarts_what_hangs,
    restarts_what_breaks_the_protocol,
    aborts_by_restarting,
    refuses_other_versions,
    reports_failed_starts,
    stops_at_any_time,
    switches_versions,
    writes_the_log,
];

pub(crate) const WAIT: Duration = Duration::from_secs(60);

pub(crate) fn timings() -> Timings {
    Timings {
        // The machine may be busy with other tests.
        init: Duration::from_secs(20),
        watchdog: Duration::from_millis(500),
        ping: Duration::from_secs(2),
        restart_max: Duration::from_millis(100),
        ..Timings::default()
    }
}

/// This program as a component.
pub(crate) fn config(settings: &[(&str, &str)]) -> ComponentConfig {
    let version = settings.iter().find(|(key, _)| *key == "bundle").map(|(_, text)| match *text {
        "1.0.0" => Version::new(1, 0, 0),
        _ => Version::new(2, 0, 0),
    });
    let wrap = Wrap {
        runtime_id: Namespace::default(),
        name: "test".into(),
        version,
        binary: Binary::Elf(std::env::current_exe().expect("a path")),
    };
    let bundle = Arc::new(wrap.to_exploded().expect("an ELF file"));
    let mut config = ComponentConfig::new(bundle, ComponentId::Ronl, Arc::new(NoHandler)).expect("a component");
    config.local_config = settings
        .iter()
        .map(|(key, value)| ((*key).to_owned(), Raw::of(&(*value).to_owned())))
        .collect::<BTreeMap<_, _>>();
    config
}

fn host(settings: &[(&str, &str)]) -> Arc<dyn RuntimeHost> {
    let provisioner = Sandbox::unconfined(HostInfo::default()).with_timings(timings());
    provisioner.provision(config(settings)).expect("provisions")
}

pub(crate) async fn ask(host: &dyn RuntimeHost, what: &str) -> Result<String, HostError> {
    let call = calls::query(host, ChainPosition::default(), Default::default(), what, Vec::new());
    let data = timeout(WAIT, call).await.expect("an answer in time")?;
    Ok(cbor::from_slice::<String>(&data).expect("text"))
}

pub(crate) async fn until(
    events: &mut broadcast::Receiver<HostEvent>,
    wanted: impl Fn(&HostEvent) -> bool,
) -> HostEvent {
    let search = async {
        loop {
            match events.recv().await {
                Ok(event) if wanted(&event) => return event,
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(e) => panic!("{e}"),
            }
        }
    };
    timeout(WAIT, search).await.expect("the event comes")
}

fn started(event: &HostEvent) -> bool {
    matches!(event, HostEvent::Started { .. })
}

async fn stop(host: &dyn RuntimeHost) {
    host.stop(tokio::time::Instant::now() + WAIT).await.expect("stops");
}

async fn answers_calls() -> Option<String> {
    let host = host(&[]);
    assert_eq!(host.status().to_string(), "stopped");
    let mut events = host.events();
    host.start().await.expect("starts");
    host.start().await.expect("a second start does nothing");
    // A call before the start is done waits for it.
    assert_eq!(ask(&*host, "echo hello").await.as_deref(), Ok("ok hello"));
    until(&mut events, started).await;
    let status = host.status();
    assert_eq!((status.to_string().as_str(), status.version), ("running", Some(Version::default())));
    assert!(status.pid.is_some() && host.info().is_some());
    let refused = host.call(Body::RuntimeAbortRequest(Empty {})).await;
    assert!(matches!(refused, Err(HostError::Runtime(_))), "{refused:?}");
    // Only what was set is in the environment.
    assert!(ask(&*host, "env PATH").await.expect("an answer").starts_with("denied"));
    stop(&*host).await;
    until(&mut events, |event| *event == HostEvent::Stopped).await;
    assert_eq!(host.status().to_string(), "stopped");
    assert_eq!(host.call(Body::RuntimePingRequest(Empty {})).await, Err(HostError::Stopped));
    assert_eq!(host.start().await, Err(HostError::Stopped));
    None
}

async fn restarts_after_a_crash() -> Option<String> {
    let host = host(&[]);
    let mut events = host.events();
    host.start().await.expect("starts");
    for _ in 0..3 {
        until(&mut events, started).await;
        let crash = ask(&*host, "exit 5").await;
        assert!(matches!(crash, Err(HostError::Closed(_))), "{crash:?}");
        until(&mut events, |event| *event == HostEvent::Stopped).await;
    }
    until(&mut events, started).await;
    let (error, _) = host.status().last_error.expect("the crash is remembered");
    assert!(error.contains("exit code 5"), "{error}");
    assert_eq!(ask(&*host, "echo again").await.as_deref(), Ok("ok again"));
    stop(&*host).await;
    None
}

async fn restarts_what_hangs() -> Option<String> {
    let host = host(&[]);
    let mut events = host.events();
    host.start().await.expect("starts");
    until(&mut events, started).await;
    let begin = Instant::now();
    assert!(matches!(ask(&*host, "hang").await, Err(HostError::Closed(_))));
    assert!(begin.elapsed() < Duration::from_secs(20), "the watchdog took {:?}", begin.elapsed());
    until(&mut events, started).await;
    let (error, _) = host.status().last_error.expect("remembered");
    assert!(error.contains("watchdog"), "{error}");
    stop(&*host).await;
    None
}

async fn restarts_what_breaks_the_protocol() -> Option<String> {
    let host = host(&[]);
    let mut events = host.events();
    host.start().await.expect("starts");
    until(&mut events, started).await;
    let _ = ask(&*host, "oversize").await;
    until(&mut events, started).await;
    let (error, _) = host.status().last_error.expect("remembered");
    assert!(error.contains("frame of 4294967295 bytes"), "{error}");
    assert_eq!(ask(&*host, "echo back").await.as_deref(), Ok("ok back"));
    stop(&*host).await;
    None
}

async fn aborts_by_restarting() -> Option<String> {
    let host = host(&[]);
    assert_eq!(host.abort(true).await, Ok(()), "nothing to abort");
    let mut events = host.events();
    host.start().await.expect("starts");
    until(&mut events, started).await;
    let pid = ask(&*host, "pid").await;
    let hanging = tokio::spawn({
        let host = Arc::clone(&host);
        async move { ask(&*host, "hang").await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    timeout(WAIT, host.abort(false)).await.expect("in time").expect("aborts");
    assert!(matches!(hanging.await.expect("no panic"), Err(HostError::Closed(_))));
    until(&mut events, started).await;
    assert_ne!(ask(&*host, "pid").await, pid);
    stop(&*host).await;
    None
}

async fn refuses_other_versions() -> Option<String> {
    let host = host(&[("bundle", "2.0.0"), ("version", "1.0.0")]);
    let mut events = host.events();
    host.start().await.expect("starts");
    let event = until(&mut events, |event| matches!(event, HostEvent::FailedToStart { .. })).await;
    let HostEvent::FailedToStart { error } = event else { return None };
    assert_eq!(error, "version mismatch (runtime reported: 1.0.0 bundle: 2.0.0)");
    stop(&*host).await;
    None
}

async fn reports_failed_starts() -> Option<String> {
    for (mode, expected) in [("exit", "exit code 7"), ("garbage", "malformed frame"), ("silent", "handshake")] {
        let settings = [("mode", mode)];
        let timings = Timings { init: Duration::from_secs(3), ..timings() };
        let provisioner = Sandbox::unconfined(HostInfo::default()).with_timings(timings);
        let host = provisioner.provision(config(&settings)).expect("provisions");
        let mut events = host.events();
        host.start().await.expect("starts");
        for _ in 0..2 {
            until(&mut events, |event| matches!(event, HostEvent::FailedToStart { .. })).await;
        }
        let status = host.status();
        assert!(status.attempts >= 2);
        let (error, _) = status.last_error.expect("remembered");
        assert!(error.contains(expected) || error.contains("hung up"), "{mode}: {error}");
        stop(&*host).await;
    }
    None
}

async fn stops_at_any_time() -> Option<String> {
    for pause in [0, 1, 3, 10, 30] {
        let host = host(&[]);
        host.start().await.expect("starts");
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let pid = host.status().pid;
        stop(&*host).await;
        assert_eq!(host.status().state, ComponentState::Stopped);
        if let Some(pid) = pid {
            assert!(!PathBuf::from(format!("/proc/{pid}/exe")).exists(), "{pid} lives on");
        }
    }
    let host = host(&[]);
    stop(&*host).await;
    assert_eq!(host.start().await, Err(HostError::Stopped));
    None
}

async fn switches_versions() -> Option<String> {
    let (one, two) = (Version::new(1, 0, 0), Version::new(2, 0, 0));
    let versions = VersionedHost::new(Namespace::default());
    let mut events = versions.events();
    versions.set_version(Some(one), None).await;
    versions.start().await.expect("starts");
    // Not known yet: it starts when it is added.
    versions.add_version(one, host(&[("bundle", "1.0.0"), ("version", "1.0.0")])).await.expect("added");
    assert!(versions.add_version(one, host(&[])).await.is_err(), "twice");
    let event = until(&mut events, started).await;
    assert_eq!(event, HostEvent::Started { version: one, capability_tee: None });
    versions.add_version(two, host(&[("bundle", "2.0.0"), ("version", "2.0.0")])).await.expect("added");
    versions.set_version(Some(one), Some(two)).await;
    until(&mut events, |event| *event == HostEvent::ConfigUpdated).await;
    let next = versions.version(two).expect("the next version is there");
    while next.status().state != ComponentState::Running {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(versions.info().expect("runs").runtime_version, one);
    assert!(versions.remove_version(one).is_err() && versions.remove_version(two).is_err());
    // Both get what keeps them fresh.
    calls::consensus_sync(&versions, 7).await.expect("syncs");
    let pid = ask(&*next, "pid").await;
    versions.set_version(Some(two), None).await;
    until(&mut events, |event| *event == HostEvent::Stopped).await;
    let event = until(&mut events, started).await;
    assert_eq!(event, HostEvent::Started { version: two, capability_tee: None });
    assert_eq!(ask(&versions, "pid").await, pid, "the process that was made ready goes on");
    assert!(!versions.has_version(one));
    stop(&versions).await;
    None
}

async fn writes_the_log() -> Option<String> {
    let dir = tempfile::tempdir().expect("a folder");
    let mut config = config(&[]);
    let path = ComponentLog::path_in(dir.path(), &config.runtime_id, &config.component_id);
    config.log = Some(Arc::new(ComponentLog::create(path.clone(), MIN_MAX_FILE_BYTES).expect("a log")));
    let provisioner = Sandbox::unconfined(HostInfo::default()).with_timings(timings());
    let host = provisioner.provision(config).expect("provisions");
    host.start().await.expect("starts");
    assert_eq!(ask(&*host, "echo x").await.as_deref(), Ok("ok x"));
    let read = || std::fs::read_to_string(&path).expect("readable");
    let begin = Instant::now();
    while !read().contains("guest connected") && begin.elapsed() < WAIT {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(read().contains(r#""module":"runtime/guest""#), "{}", read());
    // Whatever it prints, the file stays small.
    ask(&*host, "print 5000").await.expect("prints");
    assert!(std::fs::metadata(&path).expect("there").len() <= MIN_MAX_FILE_BYTES);
    stop(&*host).await;
    None
}
