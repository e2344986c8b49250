//! The node's own chain as a provider of light blocks.

use std::sync::Arc;

use comet_chain::light::{BoxFuture, Height, LightBlockProvider, ProviderError, UntrustedLightBlock};
use comet_store::{BlockStore, ChainStore};
use wire_cometbft::evidence::Evidence;

/// Takes evidence that a light client reports; an error text if it is refused.
pub type TakeEvidence = Arc<dyn Fn(Evidence) -> Result<(), String> + Send + Sync>;

/// Light blocks from this node's stores. Reads block for as long as the disk takes.
#[derive(Clone)]
pub struct LocalProvider {
    blocks: Arc<BlockStore>,
    chain: Arc<ChainStore>,
    evidence: Option<TakeEvidence>,
}

impl LocalProvider {
    /// A provider over these stores; evidence goes to `evidence`, or nowhere.
    pub fn new(blocks: Arc<BlockStore>, chain: Arc<ChainStore>, evidence: Option<TakeEvidence>) -> Self {
        Self { blocks, chain, evidence }
    }

    /// The light block of a height; 0 means the newest.
    ///
    /// # Errors
    /// If it is not there or cannot be read.
    pub fn get(&self, height: Height) -> Result<UntrustedLightBlock, ProviderError> {
        let newest = self.blocks.height();
        if height > newest {
            return Err(ProviderError::HeightTooHigh(height));
        }
        let wanted = if height == 0 { newest } else { height };
        match self.chain.light_block(&self.blocks, wanted) {
            Ok(Some(block)) => Ok(UntrustedLightBlock(block.to_wire())),
            Ok(None) => Err(ProviderError::NotFound(wanted)),
            Err(error) => {
                tracing::error!(height = wanted, %error, "stored light block cannot be read");
                Err(ProviderError::NotFound(wanted))
            }
        }
    }
}

impl LightBlockProvider for LocalProvider {
    fn light_block(&self, height: Height) -> BoxFuture<'_, Result<UntrustedLightBlock, ProviderError>> {
        Box::pin(async move { self.get(height) })
    }

    fn report(&self, evidence: Evidence) -> BoxFuture<'_, Result<(), ProviderError>> {
        Box::pin(async move {
            match &self.evidence {
                Some(take) => take(evidence).map_err(ProviderError::BadLightBlock),
                None => Ok(()),
            }
        })
    }
}
