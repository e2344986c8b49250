//! Where proven blocks go.

use std::sync::Arc;

use comet_chain::state::State;
use comet_store::{Durability, ExecError, Executor};

use super::BlockSyncError;
use super::verify::Proven;

/// Stores and applies proven blocks; called from one thread that may block.
pub trait BlockSink: Send + Sync + 'static {
    /// Stores consecutive blocks; on return they survive a power loss.
    ///
    /// # Errors
    /// If they cannot be stored.
    fn store(&self, group: &[Proven]) -> Result<(), BlockSyncError>;

    /// Checks a stored block against the state and applies it.
    ///
    /// # Errors
    /// If it does not fit or cannot be executed.
    fn apply(&self, state: &State, block: &Proven) -> Result<State, BlockSyncError>;
}

/// Into the stores and the application of an [`Executor`].
pub struct StoreSink {
    /// The executor.
    pub executor: Arc<Executor>,
}

impl BlockSink for StoreSink {
    fn store(&self, group: &[Proven]) -> Result<(), BlockSyncError> {
        let blocks = self.executor.blocks();
        for (place, proven) in group.iter().enumerate() {
            // What an earlier run stored ahead of its end is there already.
            if proven.block.height() <= blocks.height() {
                continue;
            }
            let last = place + 1 == group.len();
            let durability = if last { Durability::Synced } else { Durability::Deferred };
            blocks.save(&proven.block.block, &proven.block.parts, &proven.commit, durability)?;
        }
        Ok(())
    }

    /// # Consensus
    /// Every rule of the reference's validation holds here too; only the signatures of the last commit were checked
    /// earlier, with those of other blocks, and count if the set they were checked by is the state's.
    ///
    /// DEVIATION: the reference takes a block that fails here for the fault of the peer that sent it and asks others, for
    /// ever. At this point two thirds of the validators have signed the block, so that no other can come.
    fn apply(&self, state: &State, proven: &Proven) -> Result<State, BlockSyncError> {
        let candidate = &proven.block;
        let (block, id, height) = (&candidate.block, &candidate.id, candidate.height());
        let checked = proven.last_commit_checked_by.is_some_and(|set| set == state.last_validators.hash());
        let result = if checked {
            state.check_block(block).map_err(ExecError::from).and_then(|_signatures_were_checked| {
                self.executor.check_evidence(state, block).map_err(ExecError::Evidence)?;
                self.executor.apply_verified(state, block, id)
            })
        } else {
            self.executor.apply(state, block, id)
        };
        result.map_err(|error| {
            let diverged = error.is_bad_block();
            let source = Box::new(error);
            if diverged {
                BlockSyncError::Diverged { height, source }
            } else {
                BlockSyncError::Apply { height, source }
            }
        })
    }
}
