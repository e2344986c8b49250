//! The order in which a node starts and ends.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use apps_core::LocalConfig;
use base_identity::Identity;
use base_prims::PublicKey;
use base_prims::version::PROTOCOLS;
use base_service::data_dir::DataDir;
use base_service::{limits, logging};
use comet_engine::{Engine, EngineHandle, StateSyncSetup, StopReason};
use comet_sync::{StateSyncConfig, TrustOptions};
use node_app::Queries;
use node_config::{Config, Mode};
use node_paratime::ParaTimes;
use node_workers::registration::{Addresses, Contribution, Keys, Registration, Setup as RegistrationSetup};
use node_workers::{Chain as _, Submission};
use p2p_net::api::P2p;
use p2p_net::light::ProviderPool;
use p2p_net::registry::Registered;
use rt_host::HostInfo;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use wire_consensus::entity::Entity;
use wire_consensus::genesis::Document;
use wire_consensus::node::{ConsensusAddress, Roles};

use crate::addresses::OwnAddresses;
use crate::chain::LocalChain;
use crate::control::{Common, FullControl};
use crate::engine::Opened;
use crate::error::RunError;
use crate::halt::Halted;
use crate::light::Served;
use crate::runtime_view::ConsensusForRuntimes;
use crate::socket::Socket;
use crate::store::CommonStore;
use crate::{
    archive, chain, engine, events, foreign, halt, light, metrics, network, paratimes, seed, sentry, stateless, web,
};

/// Longest wait for parts of the node to end.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// How long what the registry says within an epoch is taken for granted; looked at with each block.
const REGISTRY_REFRESH: Duration = Duration::from_secs(5);
/// Name of the control socket in the data directory.
const SOCKET: &str = "internal.sock";

/// What the command line says beside the configuration.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether unsafe options are allowed (test networks).
    pub dont_blame_oasis: bool,
    /// Whether well-known test keys may sign (test networks).
    pub allow_test_keys: bool,
    /// How attestations are verified.
    pub tee: rt_tee::VerifyOptions,
    /// Version of this software.
    pub version: String,
    /// Sign votes whenever the network elects this node's key, also if it is not configured as a validator: for nodes of
    /// tests, which register by themselves.
    pub votes: bool,
    /// Where the node's keys are; files of the data directory by default.
    pub signer: base_signer::SignerConfig,
}

impl Options {
    /// What the node calls its software to peers.
    pub(crate) fn agent(&self) -> String {
        format!("oasis-core/{}", self.version)
    }

    /// What the consensus services are told of it.
    pub(crate) fn local(&self) -> LocalConfig {
        LocalConfig {
            allow_debug: self.dont_blame_oasis,
            allow_test_keys: self.allow_test_keys,
            tee: self.tee.clone(),
            ..LocalConfig::default()
        }
    }
}

/// How a node ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// As asked.
    Requested,
    /// At an upgrade or where the operator said.
    Halted(String),
    /// Something failed.
    Failed(String),
}

/// What runs, by mode.
enum Parts {
    Full(Full),
    Seed(seed::Seed),
}

/// A node with the consensus layer: one that takes part in it, or one that only reads.
pub(crate) struct Full {
    /// What takes part; a stateless node and an archive have none.
    pub(crate) engine: Option<EngineHandle>,
    /// An archive has none.
    pub(crate) p2p: Option<p2p_net::Node>,
    pub(crate) chain: Arc<LocalChain>,
    pub(crate) registration: Registration,
    pub(crate) paratimes: Option<Arc<ParaTimes>>,
    pub(crate) upgrades: apps_governance::upgrade::Upgrades,
    /// Ends once a planned halt was dealt with.
    pub(crate) halted: Option<tokio::sync::Mutex<AbortOnDropHandle<Halted>>>,
}

/// A running node.
pub struct Node {
    parts: Parts,
    identity: Arc<Identity>,
    config: Arc<Config>,
    tasks: JoinSet<()>,
    stop: CancellationToken,
    // Unlocked last.
    _data_dir: DataDir,
}

/// Everything that is known before anything starts.
#[derive(Clone)]
pub(crate) struct Basis {
    pub(crate) config: Arc<Config>,
    pub(crate) options: Options,
    pub(crate) identity: Arc<Identity>,
    pub(crate) doc: Arc<Document>,
    pub(crate) text: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) entity: Option<PublicKey>,
    pub(crate) socket: Socket,
}

pub(crate) fn now_unix() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Sets up logging as configured; call once per process, before [`Node::start`].
///
/// # Errors
/// If the settings are wrong or the file can't be opened.
pub fn init_logging(config: &Config) -> Result<(), RunError> {
    let log = &config.common.log;
    let format = logging::Format::parse(&log.format)?;
    let levels = logging::Levels::parse(&log.level)?;
    let file = (!log.file.is_empty()).then(|| Path::new(&config.common.data_dir).join(&log.file));
    Ok(logging::init(format, levels, file)?)
}

fn read_genesis(config: &Config, options: &Options) -> Result<(Arc<Document>, String), RunError> {
    let path = PathBuf::from(&config.genesis.file);
    let wrong = |reason: String| RunError::Genesis { path: path.clone(), reason };
    let text = std::fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
    let doc = Document::from_json(&text).map_err(|error| wrong(error.to_string()))?;
    node_app::sanity_check(&doc, &options.local()).map_err(|error| wrong(error.to_string()))?;
    Ok((Arc::new(doc), text))
}

fn entity_of(config: &Config) -> Result<Option<PublicKey>, RunError> {
    let registration = &config.registration;
    if !registration.entity_id.is_empty() {
        return registration.entity_id.parse().map(Some).map_err(|error: base_prims::ParseError| RunError::Address {
            key: "registration.entity_id",
            reason: error.to_string(),
        });
    }
    if registration.entity.is_empty() {
        return Ok(None);
    }
    let wrong = |reason: String| RunError::Entity(format!("{}: {reason}", registration.entity));
    let text = std::fs::read_to_string(&registration.entity).map_err(|error| wrong(error.to_string()))?;
    let entity: Entity = base_codec::json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    Ok(Some(entity.id))
}

/// Checks what the process may do and use.
fn check_process(config: &Config, options: &Options) -> Result<(), RunError> {
    if limits::is_root() {
        if !(config.common.debug.allow_root && options.dont_blame_oasis) {
            return Err(RunError::Root);
        }
        tracing::warn!(module = "oasis-node", "running with elevated privileges");
    }
    let files = limits::raise_open_files(config.required_files(), config.common.debug.rlimit)?;
    if files < limits::RECOMMENDED_FILES {
        tracing::warn!(
            module = "oasis-node",
            current = files,
            recommended = limits::RECOMMENDED_FILES,
            "few files may be open at once; raise LimitNOFILE"
        );
    }
    Ok(())
}

fn identity_of(options: &Options, data_dir: &Path) -> Result<Arc<Identity>, RunError> {
    let identity = crate::keys::load(&options.signer, data_dir, now_unix())?;
    if let Some(reason) = &identity.replaced_tls_key {
        tracing::warn!(module = "oasis-node", err = %reason, "the TLS key could not be read and was replaced");
    }
    tracing::info!(module = "oasis-node", node_pk = %PublicKey::from(identity.node.public()),
        consensus_pk = %PublicKey::from(identity.consensus.public()),
        p2p_pk = %PublicKey::from(identity.p2p.public()), "loaded/generated node identity");
    Ok(Arc::new(identity))
}

/// The owner, which a mode may need or not allow.
fn owner_of(config: &Config) -> Result<Option<PublicKey>, RunError> {
    let entity = entity_of(config)?;
    let needs_entity =
        engine::is_validator(config) || matches!(config.mode, Mode::Compute | Mode::KeyManager | Mode::Observer);
    if needs_entity && entity.is_none() {
        return Err(RunError::NoEntity);
    }
    if config.mode == Mode::Client && entity.is_some() && !engine::is_validator(config) {
        return Err(RunError::UnexpectedEntity);
    }
    Ok(entity)
}

/// Where the control socket is.
fn socket_path(config: &Config, data_dir: &Path) -> PathBuf {
    match config.common.internal_socket_path.as_str() {
        "" => data_dir.join(SOCKET),
        path => path.into(),
    }
}

impl Node {
    /// Starts a node; it runs until [`Node::run`] has ended it.
    ///
    /// # Errors
    /// If anything that it needs is missing or refuses.
    pub async fn start(config: Config, options: Options, stop: CancellationToken) -> Result<Self, RunError> {
        // On the heap, for whoever starts one within something else.
        Box::pin(Self::start_all(config, options, stop)).await
    }

    async fn start_all(config: Config, options: Options, stop: CancellationToken) -> Result<Self, RunError> {
        limits::private_files();
        let data_dir = DataDir::open(Path::new(&config.common.data_dir))?;
        tracing::info!(
            module = "oasis-node",
            version = options.version,
            mode = config.mode.name(),
            "Starting oasis-node"
        );
        check_process(&config, &options)?;
        let identity = identity_of(&options, data_dir.path())?;
        let entity = owner_of(&config)?;
        let config = Arc::new(config);
        let mut tasks = JoinSet::new();
        let common =
            Common { config: config.clone(), options: options.clone(), identity: identity.clone(), stop: stop.clone() };
        let socket_path = socket_path(&config, data_dir.path());
        let socket = Socket::open(&socket_path, common.clone(), &mut tasks, &stop)?;
        web::dashboard(&config, data_dir.path(), socket_path, &mut tasks, &stop).await?;
        let (doc, text) = read_genesis(&config, &options)?;
        let basis = Basis {
            config: config.clone(),
            options,
            identity: identity.clone(),
            doc,
            text,
            data_dir: data_dir.path().to_owned(),
            entity,
            socket,
        };
        let parts = match basis.config.mode {
            Mode::Seed => {
                let Basis { config, options, identity, doc, data_dir, .. } = &basis;
                let seed = seed::start(config, options, identity, doc, data_dir, stop.child_token()).await?;
                let router = node_rpc::seed_router(Arc::new(seed.control(common, doc.chain_context().to_string())));
                basis.socket.hand_over(router);
                tracing::info!(module = "oasis-node", "Seed node initialized and ready to serve");
                Parts::Seed(seed)
            }
            mode => {
                let full = if mode == Mode::Archive {
                    archive::start(&basis, common, &mut tasks, &stop).await?
                } else if config.consensus.local_storage {
                    Full::start(&basis, common, &mut tasks, &stop).await?
                } else {
                    stateless::start(&basis, common, &mut tasks, &stop).await?
                };
                let watched = metrics::Watched {
                    chain: full.chain.clone(),
                    engine: full.engine.clone(),
                    p2p: full.p2p.clone(),
                    registration: full.registration.clone(),
                    chain_id: basis.doc.comet_chain_id(),
                    data_dir: basis.data_dir.clone(),
                };
                let debug = basis.options.dont_blame_oasis;
                metrics::start(&basis.config, debug, watched, &mut tasks, &stop).await?;
                tracing::info!(module = "oasis-node", "initialization complete: ready to serve");
                Parts::Full(full)
            }
        };
        Ok(Self { parts, identity, config, tasks, stop, _data_dir: data_dir })
    }

    /// The node's keys.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The consensus layer; a seed has none.
    pub fn chain(&self) -> Option<&Arc<LocalChain>> {
        match &self.parts {
            Parts::Full(full) => Some(&full.chain),
            Parts::Seed(_) => None,
        }
    }

    /// The registration; a seed has none.
    pub fn registration(&self) -> Option<&Registration> {
        match &self.parts {
            Parts::Full(full) => Some(&full.registration),
            Parts::Seed(_) => None,
        }
    }

    /// The runtime layer's network; an archive has none.
    pub fn p2p(&self) -> Option<&p2p_net::Node> {
        match &self.parts {
            Parts::Full(full) => full.p2p.as_ref(),
            Parts::Seed(seed) => Some(seed.p2p.node()),
        }
    }

    /// Its ParaTimes, by its mode.
    pub fn paratimes(&self) -> Option<&Arc<ParaTimes>> {
        match &self.parts {
            Parts::Full(full) => full.paratimes.as_ref(),
            Parts::Seed(_) => None,
        }
    }

    /// Pending upgrades; a seed has none.
    pub fn upgrades(&self) -> Option<&apps_governance::upgrade::Upgrades> {
        match &self.parts {
            Parts::Full(full) => Some(&full.upgrades),
            Parts::Seed(_) => None,
        }
    }

    /// Peers on the consensus transport.
    pub fn consensus_peers(&self) -> usize {
        match &self.parts {
            Parts::Full(full) => full.engine.as_ref().map_or(0, |engine| engine.switch().peers().len()),
            Parts::Seed(seed) => seed.switch.peers().len(),
        }
    }

    /// Runs until stopped, halted, deregistered or failed, and ends everything.
    pub async fn run(mut self) -> Ended {
        let ended = match &self.parts {
            Parts::Seed(_) => {
                self.stop.cancelled().await;
                Ended::Requested
            }
            Parts::Full(full) => full.ended(&self.stop).await,
        };
        self.stop.cancel();
        let drain = async {
            if let Parts::Full(full) = &self.parts {
                if let Some(engine) = &full.engine {
                    engine.stopped().await;
                }
                if let Some(p2p) = &full.p2p {
                    p2p.stop().await;
                }
            }
            while self.tasks.join_next().await.is_some() {}
        };
        if tokio::time::timeout(STOP_DEADLINE, drain).await.is_err() {
            tracing::warn!(module = "oasis-node", "parts of the node did not end in time");
        }
        ended
    }
}

impl Full {
    async fn start(
        basis: &Basis,
        common: Common,
        tasks: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) -> Result<Self, RunError> {
        let Basis { config, options, identity, doc, text, data_dir, .. } = basis;
        let store = CommonStore::open(data_dir)?;
        let folder = data_dir.join("consensus");
        let opened = engine::setup(config, options, identity, doc, text, &folder, &store)?;
        let Opened { mut setup, queries, upgrades, halted } = opened;
        tasks.spawn(events::watch_pruning(queries.clone(), stop.child_token()));
        if config.consensus.p2p.disable_peer_exchange {
            events::peer_exchange_disabled();
        }
        let settings = network::p2p(config, data_dir, &options.agent(), options.dont_blame_oasis)?;
        let p2p = p2p_net::Node::start(settings, network::keypair(&identity.p2p), stop.child_token())
            .await
            .map_err(|error| RunError::P2p(error.to_string()))?;
        let chain_name = doc.chain_context().to_string();
        let pool = ProviderPool::new(Arc::new(p2p.clone()) as Arc<dyn P2p>, &chain_name, &doc.comet_chain_id());
        if config.consensus.state_sync.enabled && queries.latest().height == 0 {
            let params = setup.genesis.params.clone();
            let trusted = trusted(config, doc, params, &folder)?;
            tracing::info!(module = "consensus/cometbft", height = trusted.options.height, "starting state sync");
            let provider = tokio::select! {
                provider = light::state_provider(&pool, trusted) => provider.map_err(RunError::StateSync)?,
                () = stop.cancelled() => return Err(RunError::StateSync("stopped".to_owned())),
            };
            setup.state_sync = Some(StateSyncSetup {
                provider: Arc::new(provider),
                config: StateSyncConfig::new(folder.join("data/snapshot")),
            });
            tasks.spawn(events::watch_state_sync(queries.clone(), stop.child_token()));
        }
        let engine = Engine::start(setup, stop.child_token()).await?;
        tasks.spawn(events::watch_rounds(queries.clone(), engine.clone(), stop.child_token()));
        let running: Arc<dyn node_rpc::Engine> = Arc::new(node_rpc::Running::new(engine.clone()));
        let served = Served { engine: running.clone(), queries: queries.clone() };
        light::serve(&p2p, &chain_name, served).map_err(|error| RunError::P2p(error.to_string()))?;
        let synced = chain::caught_up(&queries, &engine, stop.child_token());
        let chain = Arc::new(LocalChain::new(queries.clone(), running, synced, stop.child_token()));
        foreign::watch(&folder, &*chain, tasks, stop);
        tasks.spawn(follow_registry(chain.clone(), p2p.clone(), chain_name, stop.child_token()));
        let addresses = own_addresses(basis, &p2p);
        sentry::serve(config, identity, &addresses, tasks, stop).await?;
        let registered = sentry::addresses(config, identity, addresses.clone())?;
        let (registration, submission) = start_workers(basis, &chain, registered, store.clone(), tasks, stop);
        let network: Arc<dyn P2p> = Arc::new(p2p.clone());
        let paratimes = start_paratimes(basis, &chain, network, Some(&pool), &registration, &submission, stop).await?;
        run_registration(&registration, tasks, stop);
        if let Some(paratimes) = &paratimes {
            tasks.spawn(Arc::clone(paratimes).run(stop.child_token()));
        }
        let common_store = store;
        let control = FullControl {
            common,
            engine: Some(engine.clone()),
            p2p: Some(p2p.clone()),
            light: None,
            registration: registration.clone(),
            upgrades: upgrades.clone(),
            store: common_store,
            synced: chain.synced(),
            ready: paratimes::ready(chain.synced(), paratimes.as_ref(), tasks, stop),
            submission,
            paratimes: paratimes.clone(),
        };
        let states = engine.clone();
        let rounds: node_rpc::RoundStates = Box::new(move || states.round_state());
        let backend = backend(control, &chain, addresses.find().ok(), Some(rounds), stop);
        let pause = config.consensus.upgrade_stop_delay.0;
        let seed = node_workers::backoff::seed_of(&identity.node.public());
        let halted = tokio::spawn(halt::wait(halted, backend.clone(), data_dir.clone(), pause, seed));
        let halted = AbortOnDropHandle::new(halted);
        let full = Self {
            engine: Some(engine),
            p2p: Some(p2p),
            chain,
            registration,
            paratimes,
            upgrades,
            halted: Some(tokio::sync::Mutex::new(halted)),
        };
        full.serve(basis, backend, tasks, stop).await?;
        Ok(full)
    }
}

impl Full {
    /// Serves clients on the sockets.
    pub(crate) async fn serve(
        &self,
        basis: &Basis,
        backend: Arc<node_rpc::Backend>,
        tasks: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) -> Result<(), RunError> {
        let mut router = node_rpc::router(backend);
        if let Some(paratimes) = &self.paratimes {
            router.merge(paratimes.router());
        }
        web::serve(&basis.config, &router, tasks, stop).await?;
        basis.socket.hand_over(router);
        Ok(())
    }

    /// Waits until the node has to end. A planned halt ends it only after what belongs to the halt is done.
    async fn ended(&self, stop: &CancellationToken) -> Ended {
        let (Some(engine), Some(halted)) = (&self.engine, &self.halted) else {
            stop.cancelled().await;
            return Ended::Requested;
        };
        let mut halted = halted.lock().await;
        tokio::select! {
            reason = engine.stopped() => match reason {
                StopReason::Requested => return Ended::Requested,
                StopReason::Failed(reason) => return Ended::Failed(reason),
                StopReason::Halted { .. } => {}
            },
            ended = &mut *halted => return Ended::Halted(halt_reason(ended)),
            () = stop.cancelled() => return Ended::Requested,
        }
        tokio::select! {
            ended = &mut *halted => Ended::Halted(halt_reason(ended)),
            () = stop.cancelled() => Ended::Requested,
        }
    }
}

fn halt_reason(ended: Result<Halted, tokio::task::JoinError>) -> String {
    ended.map_or_else(
        |error| error.to_string(),
        |halted| format!("{} after height {} (epoch {})", halted.reason, halted.height, halted.epoch),
    )
}

/// What the services on the control socket stand on.
pub(crate) fn backend(
    control: FullControl,
    chain: &LocalChain,
    address: Option<ConsensusAddress>,
    rounds: Option<node_rpc::RoundStates>,
    stop: &CancellationToken,
) -> Arc<node_rpc::Backend> {
    let identity = &control.common.identity;
    let keys = node_rpc::NodeKeys {
        consensus: identity.consensus.public().into(),
        p2p: identity.p2p.public().into(),
        addresses: address.into_iter().collect(),
    };
    let (queries, engine) = (chain.queries().clone(), chain.engine().clone());
    let mut backend = node_rpc::Backend::new(queries, engine, Arc::new(control), keys, stop.child_token());
    backend.rounds = rounds;
    Arc::new(backend)
}

pub(crate) fn own_addresses(basis: &Basis, p2p: &p2p_net::Node) -> OwnAddresses {
    let consensus = &basis.config.consensus;
    let address = match consensus.external_address.as_str() {
        "" => consensus.listen_address.clone(),
        external => external.to_owned(),
    };
    OwnAddresses { key: basis.identity.p2p.public().into(), address, p2p: p2p.clone() }
}

pub(crate) fn trusted(
    config: &Config,
    doc: &Document,
    params: wire_cometbft::params::ConsensusParams,
    folder: &Path,
) -> Result<light::Trusted, RunError> {
    let trust = &config.consensus.light_client.trust;
    let wrong = |reason: &str| RunError::Address { key: "consensus.light_client.trust", reason: reason.to_owned() };
    let hash: base_prims::Hash = trust.hash.parse().map_err(|_| wrong("malformed trust hash"))?;
    let height = i64::try_from(trust.height).map_err(|_| wrong("trust height is too high"))?;
    Ok(light::Trusted {
        chain_id: doc.comet_chain_id(),
        period: trust.period.0,
        options: TrustOptions { height, hash: hash.into() },
        initial_height: doc.height,
        params,
        folder: folder.to_owned(),
    })
}

pub(crate) fn start_workers(
    basis: &Basis,
    chain: &Arc<LocalChain>,
    addresses: Arc<dyn Addresses>,
    store: CommonStore,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> (Registration, Arc<Submission>) {
    let Basis { config, options, identity, .. } = basis;
    let submission = &config.consensus.submission;
    let submission = Arc::new(Submission::new(chain.clone(), submission.gas_price, submission.max_fee));
    let setup = RegistrationSetup {
        entity: basis.entity,
        keys: Keys {
            node: identity.node.clone(),
            p2p: identity.p2p.clone(),
            consensus: identity.consensus.clone(),
            vrf: identity.vrf.clone(),
            tls: identity.tls.key().clone(),
        },
        addresses,
        allow_unroutable: options.dont_blame_oasis,
        software_version: options.version.clone(),
        flag: Arc::new(store),
    };
    let registration = Registration::new(setup, submission.clone());
    if engine::is_validator(config) {
        let nothing_more: Contribution = Arc::new(|_| Ok(()));
        registration.slot(Roles::VALIDATOR).set_available(nothing_more);
    }
    if basis.entity.is_some() {
        let (node, vrf, stop) = (identity.node.clone(), identity.vrf.clone(), stop.child_token());
        tasks.spawn(node_workers::beacon::run(submission.clone(), node, vrf, stop));
    }
    (registration, submission)
}

/// Registers the node from now on, once all that contributes to its descriptor has its slot.
pub(crate) fn run_registration(registration: &Registration, tasks: &mut JoinSet<()>, stop: &CancellationToken) {
    let (running, all) = (registration.clone(), stop.clone());
    tasks.spawn(async move {
        if running.run(all.child_token()).await {
            // The node has left as its operator wanted.
            all.cancel();
        }
    });
}

pub(crate) async fn start_paratimes(
    basis: &Basis,
    chain: &Arc<LocalChain>,
    p2p: Arc<dyn P2p>,
    pool: Option<&ProviderPool>,
    registration: &Registration,
    submission: &Arc<Submission>,
    stop: &CancellationToken,
) -> Result<Option<Arc<ParaTimes>>, RunError> {
    let context = basis.doc.chain_context().to_string();
    let consensus = ConsensusForRuntimes::new(chain.clone(), pool, submission.clone(), basis.identity.node.clone());
    let parts = node_paratime::Parts {
        config: basis.config.clone(),
        data_dir: basis.data_dir.clone(),
        identity: basis.identity.clone(),
        unsafe_options: basis.options.dont_blame_oasis,
        allow_test_keys: basis.options.allow_test_keys,
        blacklist: Arc::new(basis.doc.blacklist(basis.options.allow_test_keys)),
        tee: basis.options.tee.clone(),
        info: HostInfo {
            consensus_protocol_version: PROTOCOLS.consensus_protocol,
            consensus_chain_context: context.clone(),
        },
        chain: chain.clone(),
        consensus: Arc::new(consensus),
        chain_context: context,
        p2p,
        submission: submission.clone(),
        registration: registration.clone(),
    };
    paratimes::open(parts, chain.queries(), stop).await
}

/// Which epoch's registry is known, unless that was read too long ago.
fn still_known(read: Option<(u64, Instant)>, now: Instant) -> Option<u64> {
    read.filter(|(_, at)| now.duration_since(*at) < REGISTRY_REFRESH).map(|(epoch, _)| epoch)
}

/// Tells the runtime layer's network who is registered: when an epoch begins, and soon after nodes join within one, so that
/// they have their connections before they are elected.
pub(crate) async fn follow_registry(chain: Arc<LocalChain>, p2p: p2p_net::Node, name: String, stop: CancellationToken) {
    let mut heights = chain.heights();
    let mut known = None;
    loop {
        let read = read_registry(chain.queries(), still_known(known, Instant::now()));
        match read {
            Ok(Some((epoch, nodes))) => {
                known = Some((epoch, Instant::now()));
                p2p.set_registry(nodes.iter().map(|node| Registered::from_descriptor(node, &name)).collect());
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(module = "p2p", err = %error, "registry not readable"),
        }
        tokio::select! {
            changed = heights.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
    }
}

type Nodes = Vec<wire_consensus::node::Node>;

/// The epoch with all nodes, if it is another one than the known.
fn read_registry(queries: &Queries, known: Option<u64>) -> Result<Option<(u64, Nodes)>, String> {
    if queries.latest().height == 0 {
        return Ok(None);
    }
    let state = queries.state(0).map_err(|error| error.to_string())?;
    let (epoch, _) = apps_committees::beacon::state::epoch(&state).map_err(|error| error.to_string())?;
    if known == Some(epoch) {
        return Ok(None);
    }
    let nodes = apps_committees::registry::state::nodes(&state).map_err(|error| error.to_string())?;
    Ok(Some((epoch, nodes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_is_read_again_within_an_epoch() {
        let now = Instant::now();
        assert_eq!(still_known(None, now), None);
        assert_eq!(still_known(Some((3, now)), now + REGISTRY_REFRESH / 2), Some(3));
        assert_eq!(still_known(Some((3, now)), now + REGISTRY_REFRESH), None);
    }
}
