//! Limits of the transaction pool.

use std::time::Duration;

/// Most transactions in the pool.
pub const DEFAULT_MAX_TXS: usize = 5_000;
/// Most bytes of all transactions in the pool.
pub const DEFAULT_MAX_BYTES: u64 = 1 << 30;
/// Largest transaction in bytes.
pub const DEFAULT_MAX_TX_BYTES: usize = 1 << 20;
/// Hashes of seen transactions that are remembered.
pub const DEFAULT_CACHE_SIZE: usize = 10_000;

/// Limits and habits of the pool; the default is what nodes of the network run with (`cometbft:config/config.go`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxPoolConfig {
    /// Most transactions.
    pub max_txs: usize,
    /// Most bytes of all transactions.
    pub max_bytes: u64,
    /// Largest transaction in bytes; the application has a limit of its own, below this one.
    pub max_tx_bytes: usize,
    /// Hashes of seen transactions that are remembered; 0: none.
    pub cache_size: usize,
    /// Whether transactions that the application found bad are not checked again when they come again.
    pub keep_invalid_in_cache: bool,
    /// Whether what is left after a block is checked again.
    pub recheck: bool,
    /// Whether transactions are sent to peers.
    pub broadcast: bool,
    /// Blocks that a transaction may wait; 0: any number.
    pub ttl_blocks: i64,
    /// Time that a transaction may wait; 0: any time.
    pub ttl: Duration,
}

impl Default for TxPoolConfig {
    fn default() -> Self {
        Self {
            max_txs: DEFAULT_MAX_TXS,
            max_bytes: DEFAULT_MAX_BYTES,
            max_tx_bytes: DEFAULT_MAX_TX_BYTES,
            cache_size: DEFAULT_CACHE_SIZE,
            keep_invalid_in_cache: false,
            recheck: true,
            broadcast: true,
            ttl_blocks: 0,
            ttl: Duration::ZERO,
        }
    }
}
