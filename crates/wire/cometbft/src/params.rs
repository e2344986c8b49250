//! Consensus parameters and their hash.
//!
//! Reference: `cometbft:types/params.go`, `proto/tendermint/types/params.proto`.

use crate::codec::{Message, messages};
use crate::limits::MAX_BLOCK_BYTES;
use crate::merkle::{Hash, sha256};
use crate::time::Duration;

messages! {
    /// Parameters as the application returns them: what is absent stays as it was (`tendermint.types.ConsensusParams`).
    pub struct ConsensusParamsUpdate {
        /// Block size and gas.
        1 => block: Option<BlockParams>,
        /// Evidence age and size.
        2 => evidence: Option<EvidenceParams>,
        /// Key types.
        3 => validator: Option<ValidatorParams>,
        /// Application version.
        4 => version: Option<VersionParams>,
    }

    /// All parameters; on the wire as `tendermint.types.ConsensusParams` with each part present.
    pub struct ConsensusParams {
        /// Block size and gas.
        1 => block: BlockParams,
        /// Evidence age and size.
        2 => evidence: EvidenceParams,
        /// Key types.
        3 => validator: ValidatorParams,
        /// Application version.
        4 => version: VersionParams,
    }

    /// Limits of a block.
    pub struct BlockParams {
        /// Largest block in bytes.
        1 => max_bytes: i64,
        /// Most gas of a block; -1: unlimited.
        2 => max_gas: i64,
    }

    /// Limits of evidence.
    pub struct EvidenceParams {
        /// Evidence is too old when older than this many blocks *and* `max_age_duration`.
        1 => max_age_num_blocks: i64,
        /// See `max_age_num_blocks`.
        2 => max_age_duration: Duration,
        /// Most bytes of a block's evidence list.
        3 => max_bytes: i64,
    }

    /// Limits on validators.
    pub struct ValidatorParams {
        /// Key types allowed, e.g. `ed25519`.
        1 => pub_key_types: Vec<String>,
    }

    /// Version of the application's protocol.
    pub struct VersionParams {
        /// The version, as in the block header.
        1 => app: u64,
    }

    /// What of the parameters the header's hash covers (`tendermint.types.HashedParams`).
    pub struct HashedParams {
        /// Largest block in bytes.
        1 => block_max_bytes: i64,
        /// Most gas of a block.
        2 => block_max_gas: i64,
    }
}

/// Which parameter is out of range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParamsError {
    /// Block size not within 1 to 100 MiB.
    #[error("block.max_bytes out of range: {0}")]
    MaxBytes(i64),
    /// Gas below -1.
    #[error("block.max_gas out of range: {0}")]
    MaxGas(i64),
    /// Evidence age not above zero.
    #[error("evidence age must be above zero: {blocks} blocks, {nanos} ns")]
    EvidenceAge {
        /// Age in blocks.
        blocks: i64,
        /// Age in nanoseconds.
        nanos: i64,
    },
    /// Evidence size below zero or above the block's.
    #[error("evidence.max_bytes out of range: {0}")]
    EvidenceBytes(i64),
    /// No key types, or an unknown one.
    #[error("unknown or no public key type")]
    PubKeyTypes,
}

impl ConsensusParams {
    /// Checks that every parameter is within its range.
    pub fn validate_basic(&self) -> Result<(), ParamsError> {
        let BlockParams { max_bytes, max_gas } = self.block;
        if max_bytes <= 0 || max_bytes > MAX_BLOCK_BYTES as i64 {
            return Err(ParamsError::MaxBytes(max_bytes));
        }
        if max_gas < -1 {
            return Err(ParamsError::MaxGas(max_gas));
        }
        let (blocks, nanos) = (self.evidence.max_age_num_blocks, self.evidence.max_age_duration.nanos());
        if blocks <= 0 || nanos <= 0 {
            return Err(ParamsError::EvidenceAge { blocks, nanos });
        }
        if !(0..=max_bytes).contains(&self.evidence.max_bytes) {
            return Err(ParamsError::EvidenceBytes(self.evidence.max_bytes));
        }
        let types = &self.validator.pub_key_types;
        if types.is_empty() || types.iter().any(|name| name != "ed25519" && name != "secp256k1") {
            return Err(ParamsError::PubKeyTypes);
        }
        Ok(())
    }

    /// The header's `consensus_hash`: SHA-256 of [`HashedParams`].
    pub fn hash(&self) -> Hash {
        let hashed = HashedParams { block_max_bytes: self.block.max_bytes, block_max_gas: self.block.max_gas };
        sha256(&hashed.encode_to_vec())
    }

    /// These parameters with the parts that `update` has.
    #[must_use]
    pub fn updated(&self, update: &ConsensusParamsUpdate) -> Self {
        Self {
            block: update.block.clone().unwrap_or_else(|| self.block.clone()),
            evidence: update.evidence.clone().unwrap_or_else(|| self.evidence.clone()),
            validator: update.validator.clone().unwrap_or_else(|| self.validator.clone()),
            version: update.version.clone().unwrap_or_else(|| self.version.clone()),
        }
    }
}
