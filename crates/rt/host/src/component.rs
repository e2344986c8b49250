//! The life of one component in one version: started, watched, attested, restarted, stopped.
//!
//! One task owns the process and the connection. How the process comes to be is a [`Launcher`]'s business. Source:
//! `go/runtime/host/sandbox/host.go`, `go/runtime/host/sgx/common`.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, broadcast, mpsc, oneshot, watch},
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use wire_consensus::node::CapabilityTee;
use wire_runtime::{Body, Empty, runtime::InfoResponse};

use crate::{
    api::{
        BoxFuture, ComponentConfig, ComponentState, ComponentStatus, EVENT_BACKLOG, HostError, HostEvent, HostInfo,
        RuntimeHost,
    },
    backoff::{self, Backoff},
    connection::{Connection, MAX_CALL_TIME},
    process::Process,
};

/// Abort requests that may wait.
pub const MAX_ABORTS: usize = 16;
/// Most characters of an error that are kept for the status.
const MAX_ERROR_CHARS: usize = 1000;

/// How long things may take, and how often they are done.
#[derive(Clone, Debug, PartialEq)]
pub struct Timings {
    /// For the handshake.
    pub init: Duration,
    /// For what comes after it before the runtime is ready: attestation.
    pub extended_init: Duration,
    /// For the answer to an abort request.
    pub interrupt: Duration,
    /// Between pings.
    pub watchdog: Duration,
    /// For the answer to a ping.
    pub ping: Duration,
    /// After so long without a restart, the next one is immediate again.
    pub stable: Duration,
    /// Longest pause between starts.
    pub restart_max: Duration,
    /// How long starts are tried altogether.
    pub restart_total: Duration,
    /// Between attestations; `None` for the launcher's default.
    pub attest: Option<Duration>,
}

impl Default for Timings {
    /// Those of the reference.
    fn default() -> Self {
        Self {
            init: Duration::from_secs(1),
            extended_init: Duration::from_secs(120),
            interrupt: Duration::from_secs(1),
            watchdog: Duration::from_secs(15),
            ping: Duration::from_secs(5),
            stable: Duration::from_secs(15 * 60),
            restart_max: Duration::from_secs(3600),
            restart_total: Duration::from_secs(24 * 3600),
            attest: None,
        }
    }
}

/// A process that connected.
pub struct Launched {
    /// The process.
    pub process: Process,
    /// What it writes.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// What it reads.
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
}

/// Starts the processes of one kind of component.
pub trait Launcher: Send + Sync {
    /// Name of the provisioner.
    fn name(&self) -> String;

    /// Starts the process and waits until it is connected. Dropping the future kills it.
    fn launch<'a>(&'a self, config: &'a ComponentConfig) -> BoxFuture<'a, Result<Launched, HostError>>;

    /// Attests a runtime: once after each start, and again from time to time if [`attest_interval`](Self::attest_interval)
    /// says so.
    fn attest<'a>(
        &'a self,
        _config: &'a ComponentConfig,
        _connection: &'a Connection,
    ) -> BoxFuture<'a, Result<Option<Arc<CapabilityTee>>, HostError>> {
        Box::pin(async { Ok(None) })
    }

    /// How often it is attested again; `None` for never.
    fn attest_interval(&self) -> Option<Duration> {
        None
    }

    /// The component will not be started again.
    fn release(&self, _config: &ComponentConfig) {}
}

/// A runtime that is ready.
struct Running {
    process: Process,
    connection: Connection,
    info: InfoResponse,
    capability: Mutex<Option<Arc<CapabilityTee>>>,
}

struct Abort {
    force: bool,
    done: oneshot::Sender<Result<(), HostError>>,
}

/// What callers and the task share.
struct Shared {
    launcher: Arc<dyn Launcher>,
    info: HostInfo,
    config: ComponentConfig,
    timings: Timings,
    current: watch::Sender<Option<Arc<Running>>>,
    status: Mutex<ComponentStatus>,
    events: broadcast::Sender<HostEvent>,
    stop: CancellationToken,
    stopped: CancellationToken,
    reattest: Notify,
}

impl Shared {
    fn set_state(&self, state: ComponentState) {
        let mut status = self.status.lock();
        status.state = state;
        status.since = SystemTime::now();
    }

    fn set_failed(&self, error: &str) {
        let mut status = self.status.lock();
        let now = SystemTime::now();
        status.state = ComponentState::Failed;
        status.since = now;
        status.last_error = Some((error.chars().take(MAX_ERROR_CHARS).collect(), now));
    }

    fn emit(&self, event: HostEvent) {
        // Nobody needs to listen.
        let _ = self.events.send(event);
    }
}

/// A component in one version.
pub struct ComponentHost {
    shared: Arc<Shared>,
    aborts: mpsc::Sender<Abort>,
    /// There until the task is started.
    parts: Mutex<Option<mpsc::Receiver<Abort>>>,
    tasks: TaskTracker,
}

impl ComponentHost {
    /// A host that is not started.
    pub fn new(launcher: Arc<dyn Launcher>, info: HostInfo, config: ComponentConfig, timings: Timings) -> Arc<Self> {
        let (aborts, receiver) = mpsc::channel(MAX_ABORTS);
        let status = ComponentStatus::new(launcher.name(), SystemTime::now());
        Arc::new(Self {
            shared: Arc::new(Shared {
                launcher,
                info,
                config,
                timings,
                current: watch::Sender::new(None),
                status: Mutex::new(status),
                events: broadcast::Sender::new(EVENT_BACKLOG),
                stop: CancellationToken::new(),
                stopped: CancellationToken::new(),
                reattest: Notify::new(),
            }),
            aborts,
            parts: Mutex::new(Some(receiver)),
            tasks: TaskTracker::new(),
        })
    }

    /// The runtime once it is ready.
    async fn running(&self) -> Result<Arc<Running>, HostError> {
        if let Some(running) = self.shared.current.borrow().as_ref() {
            return Ok(Arc::clone(running));
        }
        let mut current = self.shared.current.subscribe();
        tokio::select! {
            biased;
            () = self.shared.stopped.cancelled() => Err(HostError::Stopped),
            found = timeout(MAX_CALL_TIME, current.wait_for(Option::is_some)) => match found {
                Ok(Ok(running)) => running.clone().ok_or(HostError::NotReady),
                _ => Err(HostError::NotReady),
            },
        }
    }
}

impl RuntimeHost for ComponentHost {
    fn id(&self) -> base_prims::Namespace {
        self.shared.config.runtime_id
    }

    fn start(&self) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(async {
            let parts = self.parts.lock().take();
            match parts {
                Some(aborts) => {
                    self.tasks.spawn(manage(Arc::clone(&self.shared), aborts));
                    self.tasks.close();
                    Ok(())
                }
                None if self.shared.stop.is_cancelled() => Err(HostError::Stopped),
                None => Ok(()),
            }
        })
    }

    fn stop(&self, deadline: Instant) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(async move {
            let begin = Instant::now();
            self.shared.stop.cancel();
            if self.parts.lock().take().is_some() {
                // It never ran.
                self.shared.stopped.cancel();
                self.shared.launcher.release(&self.shared.config);
                return Ok(());
            }
            timeout_at(deadline, self.tasks.wait())
                .await
                .map_err(|_| HostError::Timeout { what: "stopping a runtime", after: deadline - begin })
        })
    }

    fn abort(&self, force: bool) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(async move {
            if self.shared.current.borrow().is_none() {
                return Ok(());
            }
            let (done, receiver) = oneshot::channel();
            self.aborts.try_send(Abort { force, done }).map_err(|_| HostError::Busy { limit: MAX_ABORTS })?;
            receiver.await.unwrap_or(Err(HostError::Stopped))
        })
    }

    fn call(&self, body: Body) -> BoxFuture<'_, Result<Body, HostError>> {
        Box::pin(async move { self.running().await?.connection.call(body).await })
    }

    fn info(&self) -> Option<InfoResponse> {
        self.shared.current.borrow().as_ref().map(|running| running.info.clone())
    }

    fn capability_tee(&self) -> Option<Arc<CapabilityTee>> {
        self.shared.current.borrow().as_ref().and_then(|running| running.capability.lock().clone())
    }

    fn update_capability_tee(&self) {
        self.shared.reattest.notify_one();
    }

    fn status(&self) -> ComponentStatus {
        self.shared.status.lock().clone()
    }

    fn events(&self) -> broadcast::Receiver<HostEvent> {
        self.shared.events.subscribe()
    }
}

impl Drop for ComponentHost {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

/// Runs the component until it is stopped or given up.
async fn manage(shared: Arc<Shared>, mut aborts: mpsc::Receiver<Abort>) {
    let timings = &shared.timings;
    let mut pauses: Option<Backoff> = None;
    loop {
        let pause = match &mut pauses {
            None => {
                pauses = Some(Backoff::new(timings.restart_max, Some(timings.restart_total)));
                shared.status.lock().attempts = 0;
                Duration::ZERO
            }
            Some(pauses) => match pauses.next(backoff::random()) {
                Some(pause) => pause,
                None => {
                    tracing::error!(runtime_id = %shared.config.runtime_id, component = %shared.config.component_id,
                        "runtime could not be started for too long, giving up");
                    break;
                }
            },
        };
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => break,
            () = sleep(pause) => {}
        }
        let attempt = {
            let mut status = shared.status.lock();
            status.attempts = status.attempts.saturating_add(1);
            status.attempts
        };
        shared.set_state(ComponentState::Warming);
        tracing::info!(runtime_id = %shared.config.runtime_id, component = %shared.config.component_id, attempt,
            "starting runtime");
        let started = tokio::select! {
            biased;
            () = shared.stop.cancelled() => break,
            started = start(&shared) => started,
        };
        let running = match started {
            Ok(running) => Arc::new(running),
            Err(e) => {
                let error = e.to_string();
                tracing::error!(runtime_id = %shared.config.runtime_id, component = %shared.config.component_id,
                    err = %error, attempt, "failed to start runtime");
                shared.set_failed(&error);
                shared.emit(HostEvent::FailedToStart { error });
                continue;
            }
        };
        publish(&shared, &running, &mut aborts);
        let end = watch_over(&shared, &running, &mut aborts, &mut pauses).await;
        shared.current.send_replace(None);
        {
            let mut status = shared.status.lock();
            status.version = None;
            status.pid = None;
        }
        if let Some(error) = &end {
            tracing::error!(runtime_id = %shared.config.runtime_id, component = %shared.config.component_id,
                err = %error, "runtime process has terminated unexpectedly");
            shared.set_failed(error);
        }
        running.connection.shut_down().await;
        running.process.finish().await;
        if shared.stop.is_cancelled() {
            break;
        }
        shared.emit(HostEvent::Stopped);
    }
    shared.set_state(ComponentState::Stopped);
    shared.stopped.cancel();
    aborts.close();
    shared.launcher.release(&shared.config);
    shared.emit(HostEvent::Stopped);
}

/// Starts the process, shakes hands and attests.
async fn start(shared: &Shared) -> Result<Running, HostError> {
    let (config, timings) = (&shared.config, &shared.timings);
    let Launched { process, reader, writer } = shared.launcher.launch(config).await?;
    let connection = Connection::new(reader, writer, config.runtime_id, Arc::clone(&config.handler));
    let outcome = initialize(shared, &process, &connection).await;
    match outcome {
        Ok((info, capability)) => Ok(Running { process, connection, info, capability: Mutex::new(capability) }),
        Err(e) => {
            connection.shut_down().await;
            process.finish().await;
            Err(e)
        }
    }
    .inspect_err(|_| tracing::debug!(component = %config.component_id, ?timings, "start failed"))
}

async fn initialize(
    shared: &Shared,
    process: &Process,
    connection: &Connection,
) -> Result<(InfoResponse, Option<Arc<CapabilityTee>>), HostError> {
    let (config, timings) = (&shared.config, &shared.timings);
    let failed = |e: HostError| match e {
        HostError::Incompatible(text) => HostError::Incompatible(text),
        e => HostError::Start(format!("failed to initialize connection: {e}")),
    };
    let steps = async {
        let info = timeout(timings.init, connection.init(&shared.info, config.local_config.clone()))
            .await
            .unwrap_or(Err(HostError::Timeout { what: "the handshake", after: timings.init }))
            .map_err(failed)?;
        if config.checks_version() && info.runtime_version != config.component.version {
            return Err(HostError::Incompatible(format!(
                "version mismatch (runtime reported: {} bundle: {})",
                info.runtime_version, config.component.version
            )));
        }
        let capability = timeout(timings.extended_init, shared.launcher.attest(config, connection))
            .await
            .unwrap_or(Err(HostError::Timeout { what: "initialization", after: timings.extended_init }))
            .map_err(failed)?;
        Ok((info, capability))
    };
    tokio::select! {
        biased;
        outcome = steps => outcome,
        end = process.exited() => Err(HostError::Start(format!("failed to initialize connection: {end}"))),
    }
}

/// Tells everybody that the runtime is ready.
fn publish(shared: &Shared, running: &Arc<Running>, aborts: &mut mpsc::Receiver<Abort>) {
    // Aborts meant the process before this one.
    while let Ok(abort) = aborts.try_recv() {
        let _ = abort.done.send(Err(HostError::Closed("runtime restarted".into())));
    }
    let version = running.info.runtime_version;
    {
        let mut status = shared.status.lock();
        status.state = ComponentState::Running;
        status.since = SystemTime::now();
        status.version = Some(version);
        status.pid = Some(running.process.pid());
    }
    shared.current.send_replace(Some(Arc::clone(running)));
    let capability_tee = running.capability.lock().clone();
    shared.emit(HostEvent::Started { version, capability_tee });
}

/// Serves a running component until it ends; an error if that was not asked for.
async fn watch_over(
    shared: &Arc<Shared>,
    running: &Arc<Running>,
    aborts: &mut mpsc::Receiver<Abort>,
    pauses: &mut Option<Backoff>,
) -> Option<String> {
    let timings = &shared.timings;
    let stable = sleep_until(Instant::now() + timings.stable);
    tokio::pin!(stable);
    let mut watchdog = tokio::time::interval_at(Instant::now() + timings.watchdog, timings.watchdog);
    watchdog.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // Attestation takes minutes at worst; pings and aborts do not wait for it.
    let attestation = attest_again(shared, running);
    tokio::pin!(attestation);
    loop {
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => return None,
            end = running.process.exited() => return Some(end),
            reason = running.connection.closed() => {
                running.process.kill();
                let end = running.process.exited().await;
                return Some(format!("{reason} ({end})"));
            }
            Some(abort) = aborts.recv() => {
                let (outcome, restart) = interrupt(shared, running, abort.force).await;
                let _ = abort.done.send(outcome);
                if restart {
                    return None;
                }
            }
            _ = watchdog.tick() => {
                let ping = running.connection.call(Body::RuntimePingRequest(Empty {}));
                let failed = match timeout(timings.ping, ping).await {
                    Ok(Ok(_)) => continue,
                    Ok(Err(e)) => e.to_string(),
                    Err(_) => format!("no answer within {:?}", timings.ping),
                };
                tracing::warn!(runtime_id = %shared.config.runtime_id, component = %shared.config.component_id,
                    err = %failed, "watchdog ping failed, terminating runtime");
                running.process.kill();
                running.process.exited().await;
                return Some(format!("watchdog ping failed: {failed}"));
            }
            () = &mut stable, if pauses.is_some() => *pauses = None,
            () = &mut attestation => {}
        }
    }
}

/// Asks the runtime to give up what it does. Whether that worked, and whether the runtime must be restarted.
async fn interrupt(shared: &Shared, running: &Running, force: bool) -> (Result<(), HostError>, bool) {
    tracing::warn!(runtime_id = %shared.config.runtime_id, component = %shared.config.component_id, "interrupting runtime");
    let request = running.connection.call(Body::RuntimeAbortRequest(Empty {}));
    let answer = timeout(shared.timings.interrupt, request).await;
    if !force && matches!(answer, Ok(Ok(Body::RuntimeAbortResponse(_)))) {
        return (Ok(()), false);
    }
    tracing::warn!(runtime_id = %shared.config.runtime_id, component = %shared.config.component_id, force,
        "restarting runtime");
    running.process.kill();
    running.process.exited().await;
    (Ok(()), true)
}

/// Attests the runtime again whenever it is due or asked for. Never ends if the launcher attests.
async fn attest_again(shared: &Shared, running: &Running) {
    let Some(interval) = shared.launcher.attest_interval().map(|default| shared.timings.attest.unwrap_or(default))
    else {
        return std::future::pending().await;
    };
    let mut due = Instant::now() + interval;
    let mut retries: Option<Backoff> = None;
    loop {
        tokio::select! {
            () = sleep_until(due) => {}
            () = shared.reattest.notified() => {}
        }
        tracing::info!(runtime_id = %shared.config.runtime_id, component = %shared.config.component_id,
            "regenerating CapabilityTEE");
        match shared.launcher.attest(&shared.config, &running.connection).await {
            Ok(capability) => {
                running.capability.lock().clone_from(&capability);
                retries = None;
                due = Instant::now() + interval;
                shared.emit(HostEvent::Updated { version: running.info.runtime_version, capability_tee: capability });
            }
            Err(e) => {
                tracing::error!(runtime_id = %shared.config.runtime_id, component = %shared.config.component_id,
                    err = %e, "failed to regenerate CapabilityTEE");
                let retries = retries.get_or_insert_with(|| Backoff::new(Duration::from_secs(60), None));
                due = Instant::now() + retries.next(backoff::random()).unwrap_or(Duration::from_secs(60));
            }
        }
    }
}
