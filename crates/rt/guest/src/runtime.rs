//! A runtime from its connection to its end: handshake, threads, and which request goes where.
//!
//! One thread reads the connection; requests run on others, which may call the host and wait. Source:
//! `runtime/src/{init,protocol,dispatcher}.rs`.

use std::{
    io::{Read, Write},
    sync::{
        Arc, OnceLock,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
};

use base_prims::{Namespace, Version};
use parking_lot::Mutex;
use rt_tee::Policy;
use wire_consensus::keymanager::Status;
use wire_runtime::{
    Body, CONSENSUS_BACKEND, Empty, Error as WireError, Message, MessageType, PROTOCOL_VERSION,
    enclave_rpc::Kind,
    error as codes,
    frame::{self, LENGTH_BYTES, MAX_RUNTIME_FRAME_BYTES},
    runtime::{
        Features, InfoRequest, InfoResponse, LocalRpcCallResponse, NotifyRequest, QueryRequest, RakQuoteResponse,
        RakReportResponse, RpcCallResponse, ScheduleControl,
    },
};

use crate::{
    Error, Host,
    batch::Runner,
    identity::Identity,
    policy,
    rpc::{Limits, Methods, Server, SessionConfig},
    state::StateCache,
    tee::Tee,
    txn::Transactions,
    verifier::{TrustRoot, Verifier},
};

/// Most requests that wait for a thread; a host that sends more is told so.
pub const BACKLOG: usize = 1000;
/// Most threads that handle requests.
pub const MAX_WORKERS: usize = 64;
/// Bytes of state nodes that are kept per state.
pub const STATE_CACHE_BYTES: usize = 32 << 20;
/// Times that the verifier is started: it may ask the host before that is ready to answer.
const VERIFIER_ATTEMPTS: u32 = 3;
/// Environment variable that names the host's socket.
pub const HOST_VARIABLE: &str = "OASIS_WORKER_HOST";
/// Stack of threads that handle requests.
const STACK_BYTES: usize = 4 << 20;

/// What a runtime is, before it meets its host.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Its version, which must be that of its bundle.
    pub version: Version,
    /// Most transactions that it wants to choose from at once, if it schedules batches itself. Executor nodes require it.
    pub schedule: Option<u32>,
    /// Where its trust in the consensus layer starts; without one it believes its host.
    pub trust_root: Option<TrustRoot>,
    /// What it runs in.
    pub tee: Tee,
}

/// What a runtime has when it is set up.
#[derive(Clone, Debug)]
pub struct Env {
    /// The host.
    pub host: Host,
    /// What the handshake said.
    pub info: InfoRequest,
    /// The runtime's keys and evidence.
    pub identity: Arc<Identity>,
    /// The consensus verifier.
    pub verifier: Arc<Verifier>,
    /// The runtime's own version.
    pub version: Version,
}

impl Env {
    /// The runtime's id.
    pub fn runtime_id(&self) -> Namespace {
        self.info.runtime_id
    }
}

/// Told of a key manager's verified status.
pub type StatusHandler = Box<dyn Fn(&Status) -> Result<(), Error> + Send + Sync>;
/// Told of a key manager's verified quote policy.
pub type QuotePolicyHandler = Box<dyn Fn(&Policy) -> Result<(), Error> + Send + Sync>;

/// An off-chain component (ROFL): what it is asked and told.
pub trait Component: Send + Sync + 'static {
    /// Policy for its own quotes.
    ///
    /// # Errors
    /// If it is not known yet.
    fn quote_policy(&self) -> Result<Policy, Error>;

    /// Answers a question of the host; `rofl.GetConfig` asks for [`wire_runtime::rofl::Config`].
    ///
    /// # Errors
    /// If there is no such method, or it fails.
    fn query(&self, method: &str, args: &[u8]) -> Result<Vec<u8>, Error>;

    /// Is told what it asked to be told of.
    ///
    /// # Errors
    /// Are logged.
    fn notify(&self, request: &NotifyRequest) -> Result<(), Error>;
}

/// What a runtime does.
#[derive(Default)]
pub struct Services {
    /// Its transactions, if it has any.
    pub transactions: Option<Box<dyn Transactions>>,
    /// Methods for other enclaves and the host.
    pub methods: Methods,
    /// How sessions of other enclaves are accepted; by default with the runtime's own identity and policy.
    pub sessions: Option<SessionConfig>,
    /// Where statuses of the runtime's key manager go.
    pub on_status: Option<StatusHandler>,
    /// Where quote policies of the runtime's key manager go.
    pub on_quote_policy: Option<QuotePolicyHandler>,
    /// Its off-chain component, if it is one.
    pub component: Option<Box<dyn Component>>,
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").field("methods", &self.methods).finish_non_exhaustive()
    }
}

/// Sets a runtime up, once, after the handshake; calls of the host are allowed.
pub type Init = Box<dyn FnOnce(&Env) -> Result<Services, Error> + Send>;

/// Why a runtime ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum End {
    /// The host closed the connection.
    #[error("the host closed the connection")]
    Closed,
    /// There is no host.
    #[error("no connection with the host: {0}")]
    Connect(std::io::Error),
    /// The connection broke.
    #[error("connection with the host: {0}")]
    Read(std::io::Error),
    /// The host sent a frame that is too long to be skipped.
    #[error("{0}")]
    Frame(frame::FrameError),
    /// The runtime could not be set up.
    #[error("setup: {0}")]
    Setup(String),
}

struct Ready {
    env: Env,
    services: Services,
    server: Server,
    states: StateCache,
}

struct Shared {
    config: Config,
    host: Host,
    identity: Arc<Identity>,
    ready: OnceLock<Option<Ready>>,
    jobs: Mutex<Receiver<(u64, Body)>>,
}

/// Connects to the host that the environment names, and runs until it closes the connection.
///
/// # Errors
/// Says why the runtime ended, always.
pub fn run(config: Config, init: Init) -> Result<std::convert::Infallible, End> {
    let path = std::env::var_os(HOST_VARIABLE).unwrap_or_default();
    tracing::info!("establishing connection with the worker host");
    let stream = std::os::unix::net::UnixStream::connect(path).map_err(End::Connect)?;
    let reader = stream.try_clone().map_err(End::Connect)?;
    Err(serve(Box::new(reader), Box::new(stream), config, init))
}

/// Runs on a connection until it ends.
pub fn serve(mut reader: Box<dyn Read + Send>, writer: Box<dyn Write + Send>, config: Config, init: Init) -> End {
    let identity = match Identity::new(config.tee.clone()) {
        Ok(identity) => Arc::new(identity),
        Err(error) => return End::Setup(error.to_string()),
    };
    let host = Host::new(writer);
    let (sender, receiver) = sync_channel(BACKLOG);
    let shared =
        Arc::new(Shared { config, host: host.clone(), identity, ready: OnceLock::new(), jobs: Mutex::new(receiver) });
    let mut connection = Connection { shared, jobs: sender, workers: 0, init: Some(init) };
    let end = connection.read(&mut *reader);
    host.close();
    tracing::info!(reason = %end, "protocol reader ends");
    end
}

/// The reading side.
struct Connection {
    shared: Arc<Shared>,
    jobs: SyncSender<(u64, Body)>,
    workers: usize,
    init: Option<Init>,
}

impl Connection {
    fn read(&mut self, reader: &mut dyn Read) -> End {
        let mut reader = std::io::BufReader::with_capacity(64 << 10, reader);
        let mut buffer = Vec::new();
        loop {
            let mut header = [0; LENGTH_BYTES];
            match reader.read_exact(&mut header) {
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return End::Closed,
                Err(error) => return End::Read(error),
                Ok(()) => {}
            }
            let length = match frame::frame_length(header, MAX_RUNTIME_FRAME_BYTES) {
                Ok(length) => length,
                Err(error) => return End::Frame(error),
            };
            // Room grows with what arrives, not with what is announced.
            buffer.clear();
            match (&mut reader).take(length as u64).read_to_end(&mut buffer) {
                Ok(read) if read == length => {}
                Ok(_) => return End::Closed,
                Err(error) => return End::Read(error),
            }
            match frame::decode(&buffer) {
                Ok(message) => self.message(message),
                Err(error) => tracing::warn!(err = %error, "malformed message"),
            }
            if self.shared.host.is_closed() {
                return End::Closed;
            }
            if buffer.capacity() > 4 << 20 {
                buffer = Vec::new();
            }
        }
    }

    fn message(&mut self, message: Message) {
        let Message { id, message_type, body } = message;
        if message_type == MessageType::RESPONSE {
            if !self.shared.host.complete(id, body) {
                tracing::warn!(id, "response for unknown request");
            }
        } else if message_type == MessageType::REQUEST {
            let answer = match body {
                Body::RuntimeInfoRequest(info) => Some(self.handshake(info)),
                Body::RuntimePingRequest(_) => Some(Ok(Body::Empty(Empty {}))),
                body if handled(&body) && self.shared.host.info().is_none() => {
                    Some(Err("host environment information not configured".to_owned()))
                }
                body if handled(&body) => self.enqueue(id, body),
                body => {
                    tracing::warn!(name = body.name(), "unsupported request");
                    Some(Err("method not supported".to_owned()))
                }
            };
            if let Some(answer) = answer {
                let started = matches!(answer, Ok(Body::RuntimeInfoResponse(_)));
                let body = answer.unwrap_or_else(|text| Body::Error(WireError::new(codes::DISPATCHER, text)));
                respond(&self.shared.host, id, body);
                if started {
                    self.start();
                }
            }
        } else {
            tracing::warn!("malformed message type");
        }
    }

    fn handshake(&mut self, info: InfoRequest) -> Result<Body, String> {
        if info.consensus_backend != CONSENSUS_BACKEND {
            return Err("incompatible consensus backend".into());
        }
        let config = &self.shared.config;
        if let Some(root) = &config.trust_root
            && root.runtime_id != info.runtime_id
        {
            return Err(format!("invalid runtime id (expected: {} got: {})", root.runtime_id, info.runtime_id));
        }
        tracing::info!(runtime_id = %info.runtime_id, chain_context = %info.consensus_chain_context, "host is known");
        if !self.shared.host.set_info(info) {
            return Err("already initialized".into());
        }
        Ok(Body::RuntimeInfoResponse(InfoResponse {
            protocol_version: PROTOCOL_VERSION,
            runtime_version: config.version,
            features: Some(Features {
                schedule_control: config.schedule.map(|initial_batch_size| ScheduleControl { initial_batch_size }),
                key_manager_quote_policy_updates: true,
                key_manager_status_updates: true,
                endorsed_capability_tee: true,
            }),
        }))
    }

    /// Sets the runtime up on a thread of its own, since that may call the host.
    fn start(&mut self) {
        let Some(init) = self.init.take() else { return };
        let shared = Arc::clone(&self.shared);
        let spawned = thread::Builder::new().name("setup".into()).spawn(move || {
            let ready = set_up(&shared, init);
            if let Err(error) = &ready {
                tracing::error!(err = %error, "setup failed");
            }
            let failed = ready.is_err();
            let set = shared.ready.set(ready.ok());
            debug_assert!(set.is_ok(), "set up once");
            if failed {
                shared.host.close();
                crate::abort("the runtime cannot be set up");
            }
        });
        if let Err(error) = spawned {
            tracing::error!(err = %error, "no thread");
            self.shared.host.close();
        }
    }

    fn enqueue(&mut self, id: u64, body: Body) -> Option<Result<Body, String>> {
        if self.workers < MAX_WORKERS {
            let shared = Arc::clone(&self.shared);
            let name = format!("worker-{}", self.workers);
            // One more thread per request until all are there: a host that asks little has few.
            if thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(move || work(&shared)).is_ok() {
                self.workers += 1;
            }
        }
        match self.jobs.try_send((id, body)) {
            Ok(()) => None,
            Err(TrySendError::Full(_)) => Some(Err(format!("{BACKLOG} requests wait already"))),
            Err(TrySendError::Disconnected(_)) => Some(Err("no threads".into())),
        }
    }
}

/// The requests that runtimes answer after the handshake.
fn handled(body: &Body) -> bool {
    matches!(
        body,
        Body::RuntimeCapabilityTEERakInitRequest(_)
            | Body::RuntimeCapabilityTEERakReportRequest(_)
            | Body::RuntimeCapabilityTEERakAvrRequest(_)
            | Body::RuntimeCapabilityTEERakQuoteRequest(_)
            | Body::RuntimeCapabilityTEEUpdateEndorsementRequest(_)
            | Body::RuntimeRPCCallRequest(_)
            | Body::RuntimeLocalRPCCallRequest(_)
            | Body::RuntimeCheckTxBatchRequest(_)
            | Body::RuntimeExecuteTxBatchRequest(_)
            | Body::RuntimeNotifyRequest(_)
            | Body::RuntimeKeyManagerStatusUpdateRequest(_)
            | Body::RuntimeKeyManagerQuotePolicyUpdateRequest(_)
            | Body::RuntimeQueryRequest(_)
            | Body::RuntimeConsensusSyncRequest(_)
    )
}

fn respond(host: &Host, id: u64, body: Body) {
    if let Err(error) = host.respond(id, body) {
        tracing::warn!(err = %error, "response not delivered");
    }
}

fn set_up(shared: &Shared, init: Init) -> Result<Ready, Error> {
    let info = shared.host.info().cloned().ok_or(Error::Closed)?;
    let verifier = match &shared.config.trust_root {
        None => Verifier::nop(shared.host.clone()),
        Some(root) => Verifier::light(
            shared.host.clone(),
            root.clone(),
            &info.consensus_chain_context,
            shared.config.version,
            Arc::clone(&shared.identity),
        )?,
    };
    let verifier = Arc::new(verifier);
    start_verifier(&verifier)?;
    let env = Env {
        host: shared.host.clone(),
        info,
        identity: Arc::clone(&shared.identity),
        verifier,
        version: shared.config.version,
    };
    let mut services = init(&env)?;
    let sessions = services
        .sessions
        .take()
        .unwrap_or_else(|| SessionConfig { identity: Some(Arc::clone(&env.identity)), ..SessionConfig::default() });
    let server = Server::new(sessions, std::mem::take(&mut services.methods), Limits::default());
    let states = StateCache::new(env.host.clone(), STATE_CACHE_BYTES);
    Ok(Ready { env, services, server, states })
}

fn start_verifier(verifier: &Verifier) -> Result<(), Error> {
    let mut attempts = 1;
    loop {
        match verifier.init() {
            Err(error) if attempts < VERIFIER_ATTEMPTS => {
                tracing::warn!(err = %error, attempts, "consensus verifier failed to initialize, retrying");
                thread::sleep(std::time::Duration::from_secs(1));
                attempts += 1;
            }
            outcome => return outcome,
        }
    }
}

/// Handles requests until there are no more.
fn work(shared: &Shared) {
    let _guard = crate::AbortOnPanic;
    loop {
        let next = shared.jobs.lock().recv();
        let Ok((id, body)) = next else { return };
        let answer = match shared.ready.wait() {
            Some(ready) => ready.handle(body),
            None => Err(Error::Closed),
        };
        respond(&shared.host, id, answer.unwrap_or_else(|error| Body::Error(error.to_wire())));
    }
}

impl Ready {
    fn handle(&self, body: Body) -> Result<Body, Error> {
        if is_attestation(&body) {
            return self.attest(body);
        }
        if !self.env.identity.is_ready() {
            return Err(WireError::new(codes::DISPATCHER, "attestation required").into());
        }
        Ok(match body {
            Body::RuntimeRPCCallRequest(request) => {
                let raw = request.request.unwrap_or_default();
                let response = match request.kind {
                    Kind::NOISE_SESSION => self.server.frame(&request.peer_id, &raw)?,
                    Kind::INSECURE_QUERY => self.server.insecure(&raw)?,
                    _ => self.server.local(&raw)?,
                };
                Body::RuntimeRPCCallResponse(RpcCallResponse { response: Some(response.into()) })
            }
            Body::RuntimeLocalRPCCallRequest(request) => {
                let response = self.server.local(&request.request.unwrap_or_default())?;
                Body::RuntimeLocalRPCCallResponse(LocalRpcCallResponse { response: Some(response.into()) })
            }
            Body::RuntimeCheckTxBatchRequest(request) => {
                Body::RuntimeCheckTxBatchResponse(self.runner()?.check(&request)?)
            }
            Body::RuntimeExecuteTxBatchRequest(request) => {
                Body::RuntimeExecuteTxBatchResponse(Box::new(self.runner()?.execute(*request)?))
            }
            Body::RuntimeQueryRequest(request) => self.query(&request)?,
            Body::RuntimeNotifyRequest(request) => {
                if let Some(component) = &self.services.component
                    && let Err(error) = component.notify(&request)
                {
                    tracing::error!(err = %error, "notification failed");
                }
                Body::Empty(Empty {})
            }
            Body::RuntimeKeyManagerStatusUpdateRequest(request) => {
                let id = self.env.runtime_id();
                let status = policy::verify_key_manager_status(&self.env.verifier, &id, &request.status)?;
                if let Some(handler) = &self.services.on_status {
                    handler(&status)?;
                }
                Body::RuntimeKeyManagerStatusUpdateResponse(Empty {})
            }
            Body::RuntimeKeyManagerQuotePolicyUpdateRequest(request) => {
                let id = self.env.runtime_id();
                let policy = policy::verify_key_manager_quote_policy(&self.env.verifier, &id, &request.policy)?;
                if let Some(handler) = &self.services.on_quote_policy {
                    handler(&policy)?;
                }
                Body::RuntimeKeyManagerQuotePolicyUpdateResponse(Empty {})
            }
            Body::RuntimeConsensusSyncRequest(request) => {
                self.env.verifier.sync(request.height)?;
                Body::RuntimeConsensusSyncResponse(Empty {})
            }
            _ => return Err(unsupported()),
        })
    }

    fn runner(&self) -> Result<Runner<'_>, Error> {
        let txn = self.services.transactions.as_deref().ok_or_else(unsupported)?;
        let Env { host, verifier, identity, .. } = &self.env;
        Ok(Runner { host, verifier, identity, states: &self.states, txn })
    }

    fn query(&self, request: &QueryRequest) -> Result<Body, Error> {
        if self.services.transactions.is_some() {
            return Ok(Body::RuntimeQueryResponse(self.runner()?.query(request)?));
        }
        let component = self.services.component.as_ref().ok_or_else(unsupported)?;
        let data = component.query(&request.method, &request.args)?.into();
        Ok(Body::RuntimeQueryResponse(wire_runtime::runtime::QueryResponse { data }))
    }

    fn attest(&self, body: Body) -> Result<Body, Error> {
        let identity = &self.env.identity;
        Ok(match body {
            Body::RuntimeCapabilityTEERakInitRequest(request) => {
                identity.init_target_info(&request.target_info.unwrap_or_default())?;
                Body::RuntimeCapabilityTEERakInitResponse(Empty {})
            }
            Body::RuntimeCapabilityTEERakReportRequest(_) => {
                let (report, nonce) = identity.init_report()?;
                let (rak_pub, rek_pub) = (identity.rak(), Some(identity.rek()));
                let report = RakReportResponse { rak_pub, rek_pub, report: Some(report.into()), nonce };
                Body::RuntimeCapabilityTEERakReportResponse(Box::new(report))
            }
            Body::RuntimeCapabilityTEERakAvrRequest(request) => {
                self.set_quote(rt_tee::Quote { ias: Some(request.avr), pcs: None })?;
                Body::RuntimeCapabilityTEERakAvrResponse(Empty {})
            }
            Body::RuntimeCapabilityTEERakQuoteRequest(request) => {
                Body::RuntimeCapabilityTEERakQuoteResponse(self.set_quote(request.quote)?)
            }
            Body::RuntimeCapabilityTEEUpdateEndorsementRequest(request) => {
                identity.set_endorsed(request.ect)?;
                Body::RuntimeCapabilityTEEUpdateEndorsementResponse(Empty {})
            }
            _ => return Err(unsupported()),
        })
    }

    fn set_quote(&self, quote: rt_tee::Quote) -> Result<RakQuoteResponse, Error> {
        let Env { host, identity, verifier, .. } = &self.env;
        let state = verifier.latest_state()?;
        let policy = match &self.services.component {
            Some(component) => component.quote_policy()?,
            None => policy::quote_policy(&state, &self.env.runtime_id(), Some(self.env.version))?,
        };
        identity.set_quote_policy(policy);
        let signature = identity.set_quote(host.identity()?, quote, state.height())?;
        Ok(RakQuoteResponse { height: state.height(), signature })
    }
}

fn is_attestation(body: &Body) -> bool {
    matches!(
        body,
        Body::RuntimeCapabilityTEERakInitRequest(_)
            | Body::RuntimeCapabilityTEERakReportRequest(_)
            | Body::RuntimeCapabilityTEERakAvrRequest(_)
            | Body::RuntimeCapabilityTEERakQuoteRequest(_)
            | Body::RuntimeCapabilityTEEUpdateEndorsementRequest(_)
    )
}

fn unsupported() -> Error {
    WireError::new(codes::UNSUPPORTED_REQUEST, "Unsupported request type").into()
}
