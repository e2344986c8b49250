//! What the rest of a node sees of a hosted runtime.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base_codec::Raw;
use base_prims::{Namespace, Version};
use rt_bundle::Exploded;
use tokio::{sync::broadcast, time::Instant};
use wire_consensus::node::CapabilityTee;
use wire_runtime::{
    Body,
    bundle::{Component, ComponentId, TeeKind},
    runtime::InfoResponse,
};

use crate::{limits::ResourceLimits, logs::ComponentLog};

/// A boxed future, as object-safe traits return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Events that a reader of [`RuntimeHost::events`] may lag behind before it is told that it missed some.
pub const EVENT_BACKLOG: usize = 64;

/// Why hosting failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The runtime does not run, or its handshake is not done.
    #[error("runtime is not yet ready")]
    NotReady,
    /// No version is active.
    #[error("no active runtime version")]
    NoActiveVersion,
    /// The version is neither active nor next.
    #[error("runtime version {0} is not hosted")]
    NoSuchVersion(Version),
    /// The connection ended before the answer came.
    #[error("connection to the runtime closed: {0}")]
    Closed(String),
    /// It took too long.
    #[error("{what} took longer than {after:?}")]
    Timeout {
        /// What was being done.
        what: &'static str,
        /// The limit.
        after: Duration,
    },
    /// The runtime answered with an error.
    #[error("{0}")]
    Runtime(wire_runtime::Error),
    /// The runtime answered with something that is no answer to the request.
    #[error("malformed runtime response: {answer} is no answer to {request}")]
    UnexpectedAnswer {
        /// The request.
        request: String,
        /// The answer.
        answer: String,
    },
    /// An answer whose content cannot be.
    #[error("malformed runtime response: {0}")]
    MalformedAnswer(String),
    /// More calls at once than a connection takes.
    #[error("{limit} calls to the runtime are already waiting for answers")]
    Busy {
        /// The limit.
        limit: usize,
    },
    /// The request does not fit a frame, so it was not sent.
    #[error("request does not fit a frame: {0}")]
    TooLarge(String),
    /// The runtime could not be started.
    #[error("{0}")]
    Start(String),
    /// The runtime's answers at the start contradict what it should be.
    #[error("{0}")]
    Incompatible(String),
    /// The host was stopped.
    #[error("runtime host is stopped")]
    Stopped,
    /// What was asked for contradicts how things are set up.
    #[error("{0}")]
    Configuration(String),
}

impl HostError {
    /// Whether trying again later, unchanged, may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::NotReady | Self::NoActiveVersion | Self::Closed(_) | Self::Timeout { .. } | Self::Busy { .. }
        )
    }
}

/// One component of a runtime in one version, or several that act as one.
///
/// Everything that waits may be dropped at any time. Calls have no time limit of their own but
/// [`connection::MAX_CALL_TIME`](crate::connection::MAX_CALL_TIME): callers set one with `tokio::time::timeout`.
pub trait RuntimeHost: Send + Sync {
    /// The runtime.
    fn id(&self) -> Namespace;

    /// Makes the runtime run, and run again whenever it ends. Returns once that is under way, not when it is done.
    fn start(&self) -> BoxFuture<'_, Result<(), HostError>>;

    /// Ends the runtime for good: the process is killed and reaped when this returns, or at the latest at `deadline`.
    fn stop(&self, deadline: Instant) -> BoxFuture<'_, Result<(), HostError>>;

    /// Makes the runtime give up what it does; restarts it if it does not agree, or with `force`.
    fn abort(&self, force: bool) -> BoxFuture<'_, Result<(), HostError>>;

    /// A request of the Runtime Host Protocol and its answer, which is never [`Body::Error`]. Waits until the runtime is
    /// ready.
    fn call(&self, body: Body) -> BoxFuture<'_, Result<Body, HostError>>;

    /// What the runtime said about itself, while it runs.
    fn info(&self) -> Option<InfoResponse>;

    /// The attested capability, while the runtime runs in a TEE.
    fn capability_tee(&self) -> Option<Arc<CapabilityTee>>;

    /// Asks for a new attestation soon; [`HostEvent::Updated`] tells when it is there.
    fn update_capability_tee(&self);

    /// How it is.
    fn status(&self) -> ComponentStatus;

    /// The version that runs or, of several, is to run now.
    fn active_version(&self) -> Option<Version> {
        self.status().version
    }

    /// What happens from now on; bounded, lagging readers are told.
    fn events(&self) -> broadcast::Receiver<HostEvent>;
}

/// What happened to a runtime.
#[derive(Clone, Debug, PartialEq)]
pub enum HostEvent {
    /// It runs and its handshake and attestation are done.
    Started {
        /// The version that it reported.
        version: Version,
        /// Its capability, in a TEE.
        capability_tee: Option<Arc<CapabilityTee>>,
    },
    /// A start failed; the next attempt follows by itself.
    FailedToStart {
        /// The error.
        error: String,
    },
    /// It ended.
    Stopped,
    /// It was attested anew.
    Updated {
        /// The version that it reported.
        version: Version,
        /// Its capability.
        capability_tee: Option<Arc<CapabilityTee>>,
    },
    /// What is hosted changed, which may matter for the node's registration.
    ConfigUpdated,
}

/// What a component is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ComponentState {
    /// Not asked to run, or given up.
    #[default]
    Stopped,
    /// Starting, shaking hands or being attested.
    Warming,
    /// Ready for calls.
    Running,
    /// The last start failed, or it ended by itself; the next attempt is scheduled.
    Failed,
}

/// How a component is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentStatus {
    /// What it is doing.
    pub state: ComponentState,
    /// Since when.
    pub since: SystemTime,
    /// The version that it reported, while it runs.
    pub version: Option<Version>,
    /// Its process, while there is one.
    pub pid: Option<u32>,
    /// Starts since the back-off was last reset.
    pub attempts: u32,
    /// The last error and when it was.
    pub last_error: Option<(String, SystemTime)>,
    /// Name of the provisioner.
    pub provisioner: String,
}

impl ComponentStatus {
    /// A component that was not started yet.
    pub fn new(provisioner: impl Into<String>, now: SystemTime) -> Self {
        Self {
            state: ComponentState::Stopped,
            since: now,
            version: None,
            pid: None,
            attempts: 0,
            last_error: None,
            provisioner: provisioner.into(),
        }
    }
}

impl fmt::Display for ComponentStatus {
    /// `running`, `warming`, `stopped`, `failed: ERROR, since SECONDS` (Unix time).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.state, &self.last_error) {
            (ComponentState::Running, _) => f.write_str("running"),
            (ComponentState::Warming, _) => f.write_str("warming"),
            (ComponentState::Stopped, _) => f.write_str("stopped"),
            (ComponentState::Failed, error) => {
                let text = error.as_ref().map_or("ended", |(text, _)| text);
                let since = self.since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
                write!(f, "failed: {text}, since {since}")
            }
        }
    }
}

/// Serves the requests of a runtime.
pub trait HostHandler: Send + Sync {
    /// Answers a request. The future is dropped when the connection ends.
    ///
    /// The body is always one of the `Host…Request` messages. An answer of the wrong kind is sent as it is.
    fn handle(&self, request: Body) -> BoxFuture<'_, Result<Body, wire_runtime::Error>>;
}

/// Refuses everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHandler;

impl HostHandler for NoHandler {
    fn handle(&self, _: Body) -> BoxFuture<'_, Result<Body, wire_runtime::Error>> {
        Box::pin(async { Err(wire_runtime::Error::method_not_supported()) })
    }
}

/// What every runtime is told about the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostInfo {
    /// Version of the consensus protocol.
    pub consensus_protocol_version: Version,
    /// The chain context, hexadecimal.
    pub consensus_chain_context: String,
}

/// A port of the node's machine that is forwarded to a component.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortForward {
    /// Address to listen on; empty is any.
    pub ip: String,
    /// `tcp`, `udp` or empty for `tcp`.
    pub protocol: String,
    /// Port on the machine.
    pub src_port: u16,
    /// Port in the component; 0 is the same.
    pub dst_port: u16,
}

/// A component that is to be hosted.
#[derive(Clone)]
pub struct ComponentConfig {
    /// The runtime.
    pub runtime_id: Namespace,
    /// Its name, for logs.
    pub runtime_name: String,
    /// The component.
    pub component_id: ComponentId,
    /// What the manifest says about it.
    pub component: Component,
    /// Its files.
    pub bundle: Arc<Exploded>,
    /// What it runs in.
    pub tee: TeeKind,
    /// Paths of its volumes, by name.
    pub volumes: BTreeMap<String, PathBuf>,
    /// The node's own settings for it.
    pub local_config: BTreeMap<String, Raw>,
    /// Serves its requests.
    pub handler: Arc<dyn HostHandler>,
    /// Gets its output.
    pub log: Option<Arc<ComponentLog>>,
    /// Bounds of its process.
    pub limits: ResourceLimits,
    /// Ports forwarded to it.
    pub incoming: Vec<PortForward>,
}

impl ComponentConfig {
    /// The component of that id, as the bundle has it, without settings, log or limits.
    ///
    /// # Errors
    /// If the bundle has no such component.
    pub fn new(
        bundle: Arc<Exploded>,
        component_id: ComponentId,
        handler: Arc<dyn HostHandler>,
    ) -> Result<Self, HostError> {
        let component = bundle.manifest.component(&component_id).ok_or_else(|| {
            HostError::Configuration(format!("bundle {} has no component {component_id}", bundle.manifest_hash))
        })?;
        Ok(Self {
            runtime_id: bundle.manifest.id,
            runtime_name: bundle.manifest.name.clone(),
            component_id,
            tee: component.tee_kind(),
            component,
            bundle,
            volumes: BTreeMap::new(),
            local_config: BTreeMap::new(),
            handler,
            log: None,
            limits: ResourceLimits::default(),
            incoming: Vec::new(),
        })
    }

    /// Whether the version that the component reports must be that of the bundle.
    pub fn checks_version(&self) -> bool {
        self.component_id == ComponentId::Ronl && !self.bundle.version_from_runtime
    }
}

impl fmt::Debug for ComponentConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ComponentConfig")
            .field("runtime_id", &self.runtime_id)
            .field("component_id", &self.component_id)
            .field("version", &self.component.version)
            .field("tee", &self.tee)
            .finish_non_exhaustive()
    }
}

/// Makes hosts.
pub trait Provisioner: Send + Sync {
    /// Its name, as in logs and status.
    fn name(&self) -> String;

    /// A host for the component. It is not started.
    ///
    /// # Errors
    /// If this provisioner cannot host the component, now or ever.
    fn provision(&self, config: ComponentConfig) -> Result<Arc<dyn RuntimeHost>, HostError>;
}
