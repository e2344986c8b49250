//! What state and block stores keep.
//!
//! Reference: `cometbft:proto/tendermint/{state,store}/types.proto`.

use crate::block::{BlockId, ConsensusVersion};
use crate::codec::messages;
use crate::params::ConsensusParams;
use crate::time::Time;
use crate::validators::ValidatorSet;

messages! {
    /// Validators as stored per height; the set only where it changed.
    pub struct ValidatorsInfo {
        /// The set, if stored at this height.
        1 => validator_set: Option<ValidatorSet>,
        /// Height of the last change.
        2 => last_height_changed: i64,
    }

    /// Parameters as stored per height; the values only where they changed.
    pub struct ConsensusParamsInfo {
        /// The parameters, empty if not stored at this height.
        1 => consensus_params: crate::params::ConsensusParamsUpdate,
        /// Height of the last change.
        2 => last_height_changed: i64,
    }

    /// Versions within a stored state.
    pub struct StateVersion {
        /// Block and application protocol.
        1 => consensus: ConsensusVersion,
        /// Software version.
        2 => software: String,
    }

    /// The state after a block (`tendermint.state.State`).
    pub struct State {
        /// Versions.
        1 => version: StateVersion,
        /// Chain id.
        2 => chain_id: String,
        /// Height of the last block; 0: none.
        3 => last_block_height: i64,
        /// Id of the last block.
        4 => last_block_id: BlockId,
        /// Time of the last block.
        5 => last_block_time: Time,
        /// Validators of the height after the next.
        6 => next_validators: Option<ValidatorSet>,
        /// Validators of the next height.
        7 => validators: Option<ValidatorSet>,
        /// Validators of the last height.
        8 => last_validators: Option<ValidatorSet>,
        /// Height from which `next_validators` holds.
        9 => last_height_validators_changed: i64,
        /// Parameters.
        10 => consensus_params: ConsensusParams,
        /// Height from which the parameters hold.
        11 => last_height_consensus_params_changed: i64,
        /// Hash of the last block's results.
        12 => last_results_hash: Vec<u8>,
        /// State root after the last block.
        13 => app_hash: Vec<u8>,
        /// Height of the first block.
        14 => initial_height: i64,
    }

    /// Range of a block store.
    pub struct BlockStoreState {
        /// Lowest height.
        1 => base: i64,
        /// Highest height.
        2 => height: i64,
    }
}
