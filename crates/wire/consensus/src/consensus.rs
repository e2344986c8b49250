//! Parameters of the consensus backend.

use base_codec::Codec;
use base_prims::{PublicKey, Version};

use crate::{Invalid, invalid, transaction::Costs};

/// Gas operation charged per byte of a transaction.
pub const GAS_OP_TX_BYTE: &str = "tx_byte";

/// The only backend.
pub const BACKEND: &str = "tendermint";

/// Feature version from which the rules of release 26.1 hold.
pub const FEATURE_26_1: Version = Version::new(26, 1, 0);

/// Shortest `timeout_commit` unless it is skipped, in nanoseconds.
pub const MIN_TIMEOUT_COMMIT_NANOS: i64 = 1_000_000;
/// Smallest state checkpoint interval other than zero, in blocks.
pub const MIN_CHECKPOINT_INTERVAL: u64 = 1000;
/// Smallest state checkpoint chunk, in bytes.
pub const MIN_CHECKPOINT_CHUNK_BYTES: u64 = 1024 * 1024;

/// The section `consensus` of a genesis document. Source: `go/consensus/genesis`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Genesis {
    /// Name of the backend.
    pub backend: String,
    /// Parameters.
    #[codec(rename = "params")]
    pub parameters: Parameters,
}

/// Consensus parameters; part of the state under the key `f1`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Parameters {
    /// How long to wait for more votes after a block is decided, in nanoseconds.
    pub timeout_commit: i64,
    /// Whether not to wait once all votes are there.
    pub skip_timeout_commit: bool,
    /// How long to wait before an empty block, in nanoseconds.
    pub empty_block_interval: i64,
    /// Largest transaction in bytes; 0 is unlimited.
    pub max_tx_size: u64,
    /// Largest block in bytes.
    pub max_block_size: u64,
    /// Most gas in a block; 0 is unlimited.
    pub max_block_gas: u64,
    /// Most evidence in a block, in bytes.
    pub max_evidence_size: u64,
    /// Lowest price of a unit of gas.
    #[codec(omitempty)]
    pub min_gas_price: u64,
    /// Blocks between state checkpoints; 0 disables them.
    pub state_checkpoint_interval: u64,
    /// Checkpoints to keep.
    #[codec(omitempty)]
    pub state_checkpoint_num_kept: u64,
    /// Size of a chunk in bytes.
    #[codec(omitempty)]
    pub state_checkpoint_chunk_size: u64,
    /// Gas costs.
    #[codec(omitempty)]
    pub gas_costs: Costs,
    /// Keys that never verify on this network.
    #[codec(omitempty)]
    pub public_key_blacklist: Vec<PublicKey>,
    /// Which rules are in force; absent means those before the first feature version.
    #[codec(omitempty)]
    pub feature_version: Option<Version>,
}

impl Parameters {
    /// Whether the rules of a feature version are in force.
    pub fn has_feature(&self, version: Version) -> bool {
        self.feature_version.is_some_and(|v| v >= version)
    }
}

impl Genesis {
    /// Checks the section. `allow_debug` is set where unsafe debug options are allowed.
    ///
    /// # Errors
    /// Names the first parameter that is out of range.
    pub fn sanity_check(&self, allow_debug: bool) -> Result<(), Invalid> {
        let p = &self.parameters;
        if p.timeout_commit < MIN_TIMEOUT_COMMIT_NANOS && !p.skip_timeout_commit {
            invalid!("consensus: sanity check failed: timeout commit must be >= 1ms, found {} ns", p.timeout_commit);
        }
        if p.state_checkpoint_interval > 0 && !allow_debug {
            if p.state_checkpoint_interval < MIN_CHECKPOINT_INTERVAL {
                invalid!(
                    "consensus: sanity check failed: state checkpoint interval must be >= {MIN_CHECKPOINT_INTERVAL}, found {}",
                    p.state_checkpoint_interval
                );
            }
            if p.state_checkpoint_num_kept == 0 {
                invalid!("consensus: sanity check failed: number of kept state checkpoints must be > 0");
            }
            if p.state_checkpoint_chunk_size < MIN_CHECKPOINT_CHUNK_BYTES {
                invalid!(
                    "consensus: sanity check failed: state checkpoint chunk size must be >= 1 MiB, found {}",
                    p.state_checkpoint_chunk_size
                );
            }
        }
        let mut keys = p.public_key_blacklist.clone();
        keys.sort_unstable();
        if let Some(pair) = keys.windows(2).find(|w| w[0] == w[1]) {
            invalid!("consensus: sanity check failed: redundant blacklisted public key {}", pair[0]);
        }
        Ok(())
    }
}
