//! What an engine is made of.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base_crypto::ed25519::SecretKey;
use comet_core::Config;
use comet_net::NetConfig;
use comet_pools::TxPoolConfig;
use comet_store::{ConsensusSigner, Genesis, SharedApp};
use comet_sync::{BlockSyncConfig, StateProvider, StateSyncConfig};

use crate::submit::DEFAULT_SUBMIT_TIMEOUT;

/// The folder of blocks and state, below [`Setup::data_dir`].
pub const STORE_DIR: &str = "data/store";
/// The folder of evidence, below [`Setup::data_dir`].
pub const EVIDENCE_DIR: &str = "data/evidence";
/// The folder of the log, below [`Setup::data_dir`]; the reference's is `data/cs.wal`, which is left alone.
pub const WAL_DIR: &str = "data/wal";
/// The guard file, below [`Setup::data_dir`].
pub const GUARD_FILE: &str = "oasis_priv_validator.json";

/// What the reference keeps its chain and state in, below [`Setup::data_dir`]. Source: `go/consensus/cometbft`.
const FOREIGN: [&str; 6] = [
    "data/blockstore.badger.db",
    "data/blockstore.db",
    "data/state.badger.db",
    "data/state.db",
    "state/mkvs_storage.badger.db",
    "state/mkvs_storage.pathbadger.db",
];

/// The databases of the reference in an engine's folder: with one of them, a key that votes here may have voted before.
#[must_use]
pub fn foreign_databases(dir: &Path) -> Vec<PathBuf> {
    FOREIGN.iter().map(|name| dir.join(name)).filter(|path| path.exists()).collect()
}

/// How to begin with a snapshot of the application instead of the first block.
pub struct StateSyncSetup {
    /// Where the state to trust comes from.
    pub provider: Arc<dyn StateProvider>,
    /// Bounds and intervals.
    pub config: StateSyncConfig,
}

/// What an engine is made of.
pub struct Setup {
    /// The start of the chain.
    pub genesis: Genesis,
    /// The application.
    pub app: SharedApp,
    /// Times and switches of the round machine. With `block_sync_lag`, a node that fell behind fetches blocks.
    pub consensus: Config,
    /// The engine's folder; made if it is not there.
    pub data_dir: PathBuf,
    /// Settings of the transport.
    pub net: NetConfig,
    /// The transport's key: the node's identity to its peers.
    pub p2p_key: SecretKey,
    /// The node's name.
    pub moniker: String,
    /// The consensus key; `None`: the node never votes.
    pub signer: Option<Arc<dyn ConsensusSigner>>,
    /// Make a new guard file where there is none although there is a chain: the key has never signed.
    pub new_guard: bool,
    /// Whether to fetch blocks before taking part in rounds.
    pub block_sync: bool,
    /// Settings of block sync; the own address is filled in.
    pub block_sync_config: BlockSyncConfig,
    /// How to begin without the first blocks; used only if the node has nothing yet.
    pub state_sync: Option<StateSyncSetup>,
    /// Limits of the transaction pool.
    pub txs: TxPoolConfig,
    /// Longest wait of a submitted transaction for its block.
    pub submit_timeout: Duration,
    /// How long most peers must be ahead before the round machine is told.
    pub lag_patience: Duration,
}

/// For how long most peers must be ahead, by default, before the round machine is told.
pub const DEFAULT_LAG_PATIENCE: Duration = Duration::from_secs(10);

impl Setup {
    /// The network's settings for a full node; public fields are changed from there.
    pub fn new(genesis: Genesis, app: SharedApp, data_dir: PathBuf, p2p_key: SecretKey) -> Self {
        Self {
            genesis,
            app,
            consensus: Config::default(),
            data_dir,
            net: NetConfig::default(),
            p2p_key,
            moniker: "node".to_owned(),
            signer: None,
            new_guard: false,
            block_sync: true,
            block_sync_config: BlockSyncConfig::default(),
            state_sync: None,
            txs: TxPoolConfig::default(),
            submit_timeout: DEFAULT_SUBMIT_TIMEOUT,
            lag_patience: DEFAULT_LAG_PATIENCE,
        }
    }
}
