//! What an executor is made of, and how it fails.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base_crypto::blacklist::Blacklist;
use base_crypto::ed25519::SecretKey;
use base_kv::KvError;
use base_prims::Namespace;
use node_config::{Config, Mode};
use node_workers::runtime::RuntimeView;
use node_workers::{Blocks, Submission};
use p2p_net::api::{MIN_REPUBLISH_INTERVAL, P2p, P2pError};
use rt_executor::txpool;
use rt_history::History;
use rt_host::RuntimeHost;
use rt_host::services::Consensus;
use rt_storage::Storage;
use tokio::sync::watch;

/// What an executor is made of.
#[derive(Clone)]
pub struct Setup {
    /// The runtime.
    pub runtime: Namespace,
    /// What the node is. Only compute nodes take part in committees; all others just have the transaction pool.
    pub mode: Mode,
    /// Settings, of which `runtime.tx_pool` and `consensus.local_storage` are used.
    pub config: Arc<Config>,
    /// The runtime's folder; compute nodes keep their record in its `executor`.
    pub folder: PathBuf,
    /// The consensus layer.
    pub chain: Arc<dyn Blocks>,
    /// The chain context in the names of topics and protocols, 64 hexadecimal digits.
    pub chain_context: String,
    /// Keys whose signatures never count, as the genesis document has it.
    pub blacklist: Arc<Blacklist>,
    /// Submits commitments and evidence.
    pub submission: Arc<Submission>,
    /// Gives the light blocks that go to the runtime.
    pub light_blocks: Arc<dyn Consensus>,
    /// The network.
    pub p2p: Arc<dyn P2p>,
    /// Signs proposals, commitments and their transactions.
    pub node_key: SecretKey,
    /// The runtime's blocks.
    pub history: Arc<History>,
    /// Its state and I/O; none on nodes that keep none.
    pub storage: Option<Arc<Storage>>,
    /// The hosted runtime; without one no transaction can be checked.
    pub host: Option<Arc<dyn RuntimeHost>>,
    /// The runtime in the registry.
    pub view: watch::Receiver<RuntimeView>,
    /// Whether the runtime's key manager can be reached; none if that does not matter.
    pub key_manager: Option<watch::Receiver<bool>>,
}

impl Setup {
    /// Whether the node takes part in committees.
    pub(crate) fn is_compute(&self) -> bool {
        self.mode == Mode::Compute
    }

    /// Settings of the pool. What the configuration does not name keeps its default.
    pub(crate) fn pool_config(&self) -> txpool::Config {
        let wanted = &self.config.runtime.tx_pool;
        let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        txpool::Config {
            max_txs: size(wanted.schedule_max_tx_pool_size),
            seen_cache: size(wanted.schedule_tx_cache_size),
            check_batch: size(wanted.check_tx_max_batch_size),
            recheck_rounds: wanted.recheck_interval,
            republish: wanted.republishinterval.0,
            min_republish: MIN_REPUBLISH_INTERVAL,
            ..txpool::Config::default()
        }
    }
}

/// Why an executor cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The record of what the node signed cannot be read or its store cannot be opened.
    #[error("executor's store in {path}: {source}")]
    Store {
        /// The folder.
        path: PathBuf,
        /// What happened.
        #[source]
        source: KvError,
    },
    /// The record is there, but means nothing: what the node signed in the round in progress is not known.
    #[error("record of the executor in {path} cannot be read: {reason}")]
    Record {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A topic or protocol could not be joined.
    #[error(transparent)]
    Network(#[from] P2pError),
    /// It ran before.
    #[error("an executor runs only once")]
    RanBefore,
    /// The blocks cannot be read any more.
    #[error("history: {0}")]
    History(#[from] rt_history::HistoryError),
    /// A compute node needs more than it was given.
    #[error("a compute node cannot do without {0}")]
    Missing(&'static str),
}

/// Why a client's transaction was not checked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The consensus layer is not synchronised. Source: `go/runtime/client/api`, `ErrNotSynced`.
    #[error("client: not finished initial sync")]
    NotSynced,
    /// The pool does not take it.
    #[error(transparent)]
    Refused(#[from] txpool::SubmitError),
    /// No runtime is hosted here that could check it.
    #[error("client: no hosted runtime is available")]
    NoRuntime,
    /// The executor has stopped.
    #[error("transaction pool is stopped")]
    Stopped,
}

/// Longest time a call may wait for whatever else is going on in the runtime.
pub(crate) const SYNC_CALL_TIME: Duration = Duration::from_secs(60);
