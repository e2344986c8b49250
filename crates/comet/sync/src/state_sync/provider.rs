//! What must be known from elsewhere to restore a snapshot: the state root to expect, and the engine's own state.
//!
//! Reference: `cometbft:statesync/stateprovider.go`, `oasis-core:go/consensus/cometbft/full/statesync.go`.

use std::sync::Arc;

use comet_chain::light::{BoxFuture, LightBlock, ProviderError};
use comet_chain::state::State;
use wire_cometbft::block::Commit;
use wire_cometbft::params::{ConsensusParams, ParamsError};

use crate::light::{LightClient, LightClientError};

/// Why the state of a height is not known.
#[derive(Debug, thiserror::Error)]
pub enum StateProviderError {
    /// The light client does not vouch for a header.
    #[error(transparent)]
    Light(#[from] LightClientError),
    /// Nobody delivered the parameters.
    #[error("consensus parameters of height {height}: {source}")]
    Params {
        /// Height.
        height: i64,
        /// Why.
        source: ProviderError,
    },
    /// The parameters delivered are not those that the header names.
    #[error("consensus parameters of height {0} are not those of the header")]
    ParamsHash(i64),
    /// The parameters delivered are out of range.
    #[error(transparent)]
    ParamsRange(#[from] ParamsError),
    /// The height is out of range.
    #[error("height {0} out of range")]
    Height(u64),
}

/// Trusted answers about a height.
pub trait StateProvider: Send + Sync + 'static {
    /// The application's state root after the block of this height.
    fn app_hash(&self, height: u64) -> BoxFuture<'_, Result<Vec<u8>, StateProviderError>>;
    /// The commit for the block of this height.
    fn commit(&self, height: u64) -> BoxFuture<'_, Result<Commit, StateProviderError>>;
    /// The engine's state after the block of this height.
    fn state(&self, height: u64) -> BoxFuture<'_, Result<State, StateProviderError>>;
}

/// Where parameters come from; they are in no light block.
pub trait ParamsSource: Send + Sync + 'static {
    /// Parameters of a height. Block size and gas are checked by the header; the rest is taken on trust, as in the
    /// reference, so whoever knows better (from genesis, say) should put it in.
    fn params(&self, height: i64) -> BoxFuture<'_, Result<ConsensusParams, ProviderError>>;
}

/// Answers by a light client.
pub struct LightStateProvider {
    /// The light client.
    pub client: Arc<LightClient>,
    /// Parameters.
    pub params: Arc<dyn ParamsSource>,
    /// Height of the chain's first block.
    pub initial_height: i64,
}

impl LightStateProvider {
    /// Verified light blocks of a height and those after it.
    async fn blocks<const N: usize>(&self, height: u64) -> Result<[LightBlock; N], StateProviderError> {
        let first = i64::try_from(height).map_err(|_| StateProviderError::Height(height))?;
        first.checked_add(N as i64).ok_or(StateProviderError::Height(height))?;
        let mut blocks = Vec::with_capacity(N);
        for step in 0..N as i64 {
            blocks.push(self.client.verify_at(first + step).await?);
        }
        blocks.try_into().map_err(|_| StateProviderError::Height(height))
    }
}

impl StateProvider for LightStateProvider {
    /// # Consensus
    /// The root after a block is in the header of the next one. The one after that must exist too, or the state could
    /// not be built.
    fn app_hash(&self, height: u64) -> BoxFuture<'_, Result<Vec<u8>, StateProviderError>> {
        Box::pin(async move {
            let [_, next, _] = self.blocks::<3>(height).await?;
            Ok(next.header.app_hash)
        })
    }

    fn commit(&self, height: u64) -> BoxFuture<'_, Result<Commit, StateProviderError>> {
        Box::pin(async move {
            let [block] = self.blocks::<1>(height).await?;
            Ok(block.commit)
        })
    }

    /// # Consensus
    /// The state after H: last block and its validators from H; validators, app hash and results hash from H+1; next
    /// validators from H+2, where changes made in H take effect.
    ///
    /// DEVIATION: versions and parameters are those of H+1, as its header demands them. The reference takes its own
    /// application version and the parameters of H+2, which fails across upgrades and changes.
    fn state(&self, height: u64) -> BoxFuture<'_, Result<State, StateProviderError>> {
        Box::pin(async move {
            let [last, current, next] = self.blocks::<3>(height).await?;
            let at = current.header.height;
            let params = self.params.params(at).await;
            let consensus_params = params.map_err(|source| StateProviderError::Params { height: at, source })?;
            consensus_params.validate_basic()?;
            if current.header.consensus_hash != consensus_params.hash() {
                return Err(StateProviderError::ParamsHash(at));
            }
            Ok(State {
                version: current.header.version,
                chain_id: self.client.chain_id().to_owned(),
                initial_height: self.initial_height,
                last_block_height: last.header.height,
                last_block_id: last.commit.block_id,
                last_block_time: last.header.time,
                next_validators: next.validators,
                validators: current.validators,
                last_validators: last.validators,
                last_height_validators_changed: next.header.height,
                consensus_params,
                last_height_consensus_params_changed: at,
                last_results_hash: current.header.last_results_hash,
                app_hash: current.header.app_hash,
            })
        })
    }
}
