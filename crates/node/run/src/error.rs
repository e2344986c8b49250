//! Why a node does not start or run.

use std::path::PathBuf;

/// Why a node does not start or run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data directory can't be used.
    #[error(transparent)]
    DataDir(#[from] base_service::data_dir::DataDirError),
    /// Logging could not be set up.
    #[error(transparent)]
    Logging(#[from] base_service::logging::LoggingError),
    /// The system's limits are too low.
    #[error(transparent)]
    Limit(#[from] base_service::limits::LimitError),
    /// Run as root.
    #[error(
        "running with elevated privileges not allowed: run the node as a user of its own (or set \
         common.debug.allow_root together with --debug.dont_blame_oasis)"
    )]
    Root,
    /// The genesis document can't be used.
    #[error("genesis document {path}: {reason}")]
    Genesis {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A key file can't be used.
    #[error("identity: {0}")]
    Identity(#[from] base_identity::FileError),
    /// A key that a signer holds can't be used.
    #[error("identity: {0}")]
    Keys(#[from] base_identity::KeySourceError),
    /// The signer can't be used.
    #[error(transparent)]
    Signer(#[from] base_signer::SignerError),
    /// The owner's descriptor can't be used.
    #[error("registration.entity: {0}")]
    Entity(String),
    /// The mode needs an owner.
    #[error("node has no entity configured but expects one: set registration.entity or registration.entity_id")]
    NoEntity,
    /// The mode must not have an owner.
    #[error("client nodes cannot have an entity configured: use mode `observer` or remove registration.entity")]
    UnexpectedEntity,
    /// An address or key in the configuration.
    #[error("{key}: {reason}")]
    Address {
        /// The configuration key.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The node's own store.
    #[error("common store: {0}")]
    Store(#[from] base_kv::KvError),
    /// A record in the node's own store.
    #[error("common store: record {key}: {reason}")]
    Record {
        /// Its key.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The pending upgrades do not fit this program.
    #[error("upgrade: {0}")]
    Upgrade(String),
    /// The consensus state.
    #[error(transparent)]
    Application(#[from] node_app::OpenError),
    /// The consensus engine.
    #[error(transparent)]
    Engine(#[from] comet_engine::EngineError),
    /// The transport of a seed.
    #[error(transparent)]
    Switch(#[from] comet_net::StartError),
    /// The peer-to-peer network.
    #[error("p2p: {0}")]
    P2p(String),
    /// State sync.
    #[error("state sync: {0}")]
    StateSync(String),
    /// Metrics.
    #[error(transparent)]
    Metrics(#[from] base_metrics::StartError),
    /// Profiles.
    #[error(transparent)]
    Profile(#[from] base_metrics::profile::BindError),
    /// The node's ParaTimes.
    #[error(transparent)]
    ParaTimes(#[from] node_paratime::StartError),
    /// The control socket.
    #[error("internal socket {path}: {source}")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A node that keeps no state.
    #[error("stateless: {0}")]
    Stateless(String),
    /// An archive.
    #[error("archive: {0}")]
    Archive(String),
    /// The system.
    #[error("{what}: {source}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
}

/// What helps where the chain on disk is damaged.
const FETCH_AGAIN: &str = "if the disk has room and is sound, move the folders consensus/data and consensus/state away \
    and start again: the node fetches the chain anew (a validator keeps consensus/oasis_priv_validator.json)";
/// What helps where the node's own store is damaged.
const FORGET: &str = "if the disk has room and is sound, move the folder persistent-store.db away and start again: it \
    holds pending upgrades, and whether the node is to leave";

impl RunError {
    /// What the operator can do about a store that can't be used.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        use comet_engine::EngineError as Engine;
        use node_app::OpenError as Open;
        match self {
            Self::Store(_) | Self::Record { .. } => Some(FORGET),
            Self::Application(Open::Engine { .. } | Open::Database(_) | Open::Store(_) | Open::Resume(_))
            | Self::Engine(Engine::Store(_) | Engine::Evidence(_) | Engine::Handshake(_)) => Some(FETCH_AGAIN),
            _ => None,
        }
    }
}
