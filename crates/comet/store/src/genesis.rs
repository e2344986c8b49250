//! The start of a chain as the engine sees it.

use comet_chain::app::{ConsensusParams, InitChain, ValidatorUpdate};
use comet_chain::state::{State, UpdateError};
use wire_cometbft::Time;

/// The start of a chain.
#[derive(Debug, Clone)]
pub struct Genesis {
    /// Chain id, at most 50 characters.
    pub chain_id: String,
    /// Height of the first block.
    pub initial_height: i64,
    /// Genesis time.
    pub time: Time,
    /// Parameters.
    pub params: ConsensusParams,
    /// Validators.
    pub validators: Vec<ValidatorUpdate>,
    /// The application's part.
    pub app_state: Vec<u8>,
}

impl Genesis {
    /// The state before the first block, before the application has spoken.
    ///
    /// # Errors
    /// If parameters or validators are out of range.
    pub fn state(&self) -> Result<State, UpdateError> {
        State::genesis(self.chain_id.clone(), self.initial_height, self.time, self.params.clone(), &self.validators)
    }

    /// What the application is told; validators in the order of the set.
    ///
    /// # Errors
    /// If parameters or validators are out of range.
    pub fn init_chain(&self) -> Result<InitChain, UpdateError> {
        let set = self.state()?.validators;
        let validators = set.validators().iter();
        Ok(InitChain {
            time: self.time,
            chain_id: self.chain_id.clone(),
            consensus_params: self.params.clone(),
            validators: validators.map(|v| ValidatorUpdate { pub_key: v.pub_key, power: v.voting_power }).collect(),
            app_state: self.app_state.clone(),
            initial_height: self.initial_height,
        })
    }
}
