//! What the executor asks of the application's lock, the transaction pool and the evidence pool.

use std::sync::Arc;

use comet_chain::app::{Application, TxResult};
use comet_chain::state::State;
use wire_cometbft::evidence::Evidence;
use wire_cometbft::vote::Vote;

/// The application behind its one lock.
pub type SharedApp = Arc<parking_lot::Mutex<Box<dyn Application>>>;

/// Transactions that wait for a block.
pub trait TxPool: Send + Sync {
    /// Transactions by priority of at most `max_bytes` (as they count within a block) and `max_gas` (-1: no limit).
    fn reap(&self, max_bytes: i64, max_gas: i64) -> Vec<Vec<u8>>;
    /// Stops taking transactions. The caller holds the application's lock until after [`Self::after_commit`].
    fn before_commit(&self);
    /// Drops what the block held, checks the rest again and takes transactions again.
    fn after_commit(&self, height: i64, txs: &[Vec<u8>], results: &[TxResult], app: &mut dyn Application);
    /// The commit failed: takes transactions again, nothing has changed. The node is about to stop.
    fn commit_failed(&self) {}
}

/// Evidence that waits for a block.
pub trait EvidencePool: Send + Sync {
    /// Evidence whose list takes at most `max_bytes`.
    fn pending(&self, max_bytes: i64) -> Vec<Evidence>;
    /// Checks the evidence of a block: true, recent, not committed before, no item twice.
    fn check(&self, state: &State, evidence: &[Evidence]) -> Result<(), String>;
    /// Takes note of a block's evidence and of the state after it; doing it twice for one block changes nothing.
    fn update(&self, state: &State, committed: &[Evidence]);
    /// Takes two conflicting votes, to be made evidence of once their height is over.
    fn report_conflicting_votes(&self, first: Vote, second: Vote);
}

/// A pool without transactions.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTxs;

impl TxPool for NoTxs {
    fn reap(&self, _: i64, _: i64) -> Vec<Vec<u8>> {
        Vec::new()
    }
    fn before_commit(&self) {}
    fn after_commit(&self, _: i64, _: &[Vec<u8>], _: &[TxResult], _: &mut dyn Application) {}
}

/// A pool without evidence that takes every block's evidence for good.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoEvidence;

impl EvidencePool for NoEvidence {
    fn pending(&self, _: i64) -> Vec<Evidence> {
        Vec::new()
    }
    fn check(&self, _: &State, _: &[Evidence]) -> Result<(), String> {
        Ok(())
    }
    fn update(&self, _: &State, _: &[Evidence]) {}
    fn report_conflicting_votes(&self, _: Vote, _: Vote) {}
}
