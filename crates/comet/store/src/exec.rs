//! How a block is judged, built and applied.
//!
//! Reference: `cometbft:state/execution.go`.
//!
//! # Correctness
//! Steps of [`Executor::apply`], each durable (unless it says otherwise) before the next begins. A crash between any two
//! is repaired by [`crate::handshake()`]:
//!
//! 1. the block is in the block store (made durable here if the caller left that open);
//! 2. the application executes it (nothing durable);
//! 3. results are stored, durable;
//! 4. with the application locked and the transaction pool closed, the application commits, then the pool is brought
//!    up to date and opened;
//! 5. the evidence pool takes note of the block (durable in the pool's own store);
//! 6. the state is stored (buffered: lost to a power loss it is made again from the results of step 3);
//! 7. blocks below the application's retain height are removed, then what belongs to their heights;
//! 8. the block is told to subscribers.
//!
//! | Crash after | Stores say: blocks, application, state | On start |
//! |---|---|---|
//! | 1–3 | h, h−1, h−1 | block h is applied |
//! | 4–5 | h, h, h−1 | state is made from the stored results |
//! | 6–8 | h, h, h | nothing |

use std::collections::VecDeque;
use std::sync::Arc;

use comet_chain::app::{BlockResults, Fatal, PrepareProposal, ProposedBlock, Verdict};
use comet_chain::exec::{HandOverError, last_commit_info, misbehavior, proposed_block};
use comet_chain::state::{BlockError, State, UpdateError};
use parking_lot::Mutex;
use tokio::sync::broadcast;
use wire_cometbft::block::{Block, BlockId, Commit, Data};
use wire_cometbft::codec::Message;
use wire_cometbft::evidence::EvidenceList;
use wire_cometbft::keys::Address;
use wire_cometbft::limits::max_data_bytes;
use wire_cometbft::merkle::Hash;

use crate::blocks::BlockStore;
use crate::chain::ChainStore;
use crate::error::StoreError;
use crate::pools::{EvidencePool, SharedApp, TxPool};

#[cfg(test)]
mod tests;

/// Blocks that wait for a slow subscriber; older ones are lost to it.
pub const NEW_BLOCK_QUEUE: usize = 64;
/// Blocks found good, and verdicts of the application, that are remembered.
pub const REMEMBERED: usize = 8;

/// A block was applied.
#[derive(Debug, Clone)]
pub struct NewBlock {
    /// The block.
    pub block: Arc<Block>,
    /// Its id.
    pub block_id: BlockId,
    /// What its execution gave.
    pub results: Arc<BlockResults>,
    /// The state after it.
    pub state: Arc<State>,
}

/// Why a block is not judged, built or applied.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The block does not fit the state.
    #[error("invalid block: {0}")]
    Invalid(#[from] BlockError),
    /// The block's evidence is refused.
    #[error("invalid evidence: {0}")]
    Evidence(String),
    /// The block cannot be handed to the application.
    #[error(transparent)]
    HandOver(#[from] HandOverError),
    /// The application cannot go on; the node must stop.
    #[error(transparent)]
    App(#[from] Fatal),
    /// The results cannot be taken into the state; the node must stop.
    #[error("results of block {height}: {source}")]
    Results {
        /// Height.
        height: i64,
        /// What is wrong.
        source: UpdateError,
    },
    /// A store failed; the node must stop.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ExecError {
    /// Whether the block is at fault, not this node: whoever sent it is to be dropped, and the node goes on.
    pub fn is_bad_block(&self) -> bool {
        matches!(self, Self::Invalid(_) | Self::Evidence(_) | Self::HandOver(_))
    }
}

/// What the application's verdict is remembered by: the header's hash, and what the header does not cover but the
/// application sees, the round of the last commit.
type Judged = (Hash, i32);

#[derive(Debug, Default)]
struct Memory {
    valid: VecDeque<BlockId>,
    verdicts: VecDeque<(Judged, Verdict)>,
}

/// Judges, builds and applies blocks. One caller at a time applies: consensus, block sync or the handshake.
pub struct Executor {
    blocks: Arc<BlockStore>,
    chain: Arc<ChainStore>,
    app: SharedApp,
    txs: Arc<dyn TxPool>,
    evidence: Arc<dyn EvidencePool>,
    memory: Mutex<Memory>,
    applied: broadcast::Sender<Arc<NewBlock>>,
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executor").field("blocks", &self.blocks).finish_non_exhaustive()
    }
}

fn remember<T>(memory: &mut VecDeque<T>, item: T) {
    if memory.len() >= REMEMBERED {
        memory.pop_front();
    }
    memory.push_back(item);
}

impl Executor {
    /// An executor over these stores, this application and these pools.
    pub fn new(
        blocks: Arc<BlockStore>,
        chain: Arc<ChainStore>,
        app: SharedApp,
        txs: Arc<dyn TxPool>,
        evidence: Arc<dyn EvidencePool>,
    ) -> Self {
        let applied = broadcast::Sender::new(NEW_BLOCK_QUEUE);
        Self { blocks, chain, app, txs, evidence, memory: Mutex::default(), applied }
    }

    /// The application.
    pub fn app(&self) -> &SharedApp {
        &self.app
    }

    /// The blocks.
    pub fn blocks(&self) -> &Arc<BlockStore> {
        &self.blocks
    }

    /// The state.
    pub fn chain(&self) -> &Arc<ChainStore> {
        &self.chain
    }

    /// The evidence pool.
    pub fn evidence(&self) -> &Arc<dyn EvidencePool> {
        &self.evidence
    }

    /// Tells of every block applied from now on; who lags more than [`NEW_BLOCK_QUEUE`] behind loses the oldest.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<NewBlock>> {
        self.applied.subscribe()
    }

    /// Checks a block wholly, its evidence included. `id` must be that of the parts the block was made from; a block
    /// found good is remembered by it.
    ///
    /// # Errors
    /// If the block or its evidence is refused.
    pub fn validate(&self, state: &State, block: &Block, id: &BlockId) -> Result<(), ExecError> {
        if self.memory.lock().valid.contains(id) {
            return Ok(());
        }
        state.validate_block(block)?;
        self.check_evidence(state, block).map_err(ExecError::Evidence)?;
        remember(&mut self.memory.lock().valid, id.clone());
        Ok(())
    }

    /// Checks the evidence of a block whose rest was checked.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn check_evidence(&self, state: &State, block: &Block) -> Result<(), String> {
        match block.evidence.evidence.as_slice() {
            [] => Ok(()),
            evidence => self.evidence.check(state, evidence),
        }
    }

    /// Checks a stored block, unless [`Self::validate`] just found it good, and applies it.
    ///
    /// # Errors
    /// If the block is refused (see [`ExecError::is_bad_block`]; nothing has changed then), or the node must stop.
    pub fn apply(&self, state: &State, block: &Block, id: &BlockId) -> Result<State, ExecError> {
        self.validate(state, block, id)?;
        self.apply_verified(state, block, id)
    }

    /// Applies a stored block that the caller has checked. The module tells the order of steps.
    ///
    /// # Errors
    /// If the node must stop.
    pub fn apply_verified(&self, state: &State, block: &Block, id: &BlockId) -> Result<State, ExecError> {
        let height = block.header.height;
        if state.next_height() != height {
            return Err(BlockError::Height { expected: state.next_height(), got: height }.into());
        }
        let stored = self.blocks.meta(height)?.ok_or(StoreError::Missing { what: "block", height })?;
        if stored.block_id != *id {
            return Err(StoreError::OtherBlock(height).into());
        }
        let proposed = proposed_block(block, &state.last_validators, state.initial_height)?;
        if self.blocks.durable_height() < height {
            self.blocks.sync()?;
        }
        let results = self.app.lock().execute(&proposed)?;
        self.finish(state, block, id, results)
    }

    /// Steps 3 to 8.
    fn finish(&self, state: &State, block: &Block, id: &BlockId, results: BlockResults) -> Result<State, ExecError> {
        let height = block.header.height;
        let next = state.after(id.clone(), &block.header, &results);
        let mut next = next.map_err(|source| ExecError::Results { height, source })?;
        self.chain.save_results(height, &results)?;
        let committed = {
            let mut app = self.app.lock();
            self.txs.before_commit();
            match app.commit() {
                Ok(committed) => {
                    self.txs.after_commit(height, &block.data.txs, &results.tx_results, &mut **app);
                    committed
                }
                Err(fatal) => {
                    self.txs.commit_failed();
                    return Err(fatal.into());
                }
            }
        };
        next.app_hash = committed.app_hash;
        self.take(&next, block)?;
        if committed.retain_height > 0 {
            self.prune(committed.retain_height);
        }
        tracing::debug!(height, txs = block.data.txs.len(), "block applied");
        if self.applied.receiver_count() > 0 {
            let new = NewBlock {
                block: Arc::new(block.clone()),
                block_id: id.clone(),
                results: Arc::new(results),
                state: Arc::new(next.clone()),
            };
            // It fails only if the last receiver has just left.
            let _ = self.applied.send(Arc::new(new));
        }
        Ok(next)
    }

    /// Steps 5 and 6: evidence first, so that what was committed never waits for a block again.
    pub(crate) fn take(&self, next: &State, block: &Block) -> Result<(), StoreError> {
        self.evidence.update(next, &block.evidence.evidence);
        self.chain.save(next)?;
        *self.memory.lock() = Memory::default();
        Ok(())
    }

    /// A failure to prune leaves more than needed; the next block tries again.
    fn prune(&self, retain: i64) {
        let retain = retain.min(self.blocks.height());
        let pruned = self.blocks.prune(retain).and_then(|count| {
            if count > 0 {
                self.chain.prune(self.blocks.base())?;
            }
            Ok(count)
        });
        match pruned {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, retain, "blocks pruned"),
            Err(error) => tracing::error!(retain, %error, "failed to prune blocks"),
        }
    }

    /// Builds a block on `state` with transactions and evidence of the pools as the application prepares them; `None` if
    /// no block can be built that fits the parameters.
    ///
    /// # Errors
    /// If `height` is not the next, or the application cannot go on.
    pub fn propose(
        &self,
        state: &State,
        height: i64,
        last_commit: &Commit,
        proposer: Address,
    ) -> Result<Option<Block>, ExecError> {
        if state.next_height() != height {
            return Err(BlockError::Height { expected: state.next_height(), got: height }.into());
        }
        let params = &state.consensus_params;
        let mut evidence = EvidenceList { evidence: self.evidence.pending(params.evidence.max_bytes) };
        let mut evidence_bytes = evidence_len(&evidence);
        while evidence_bytes > params.evidence.max_bytes {
            evidence.evidence.pop();
            evidence_bytes = evidence_len(&evidence);
        }
        let Some(max) = max_data_bytes(params.block.max_bytes, evidence_bytes, state.validators.len()) else {
            tracing::error!(height, max_bytes = params.block.max_bytes, "blocks are too small for their commits");
            return Ok(None);
        };
        let txs = self.txs.reap(max, params.block.max_gas);
        let first = height == state.initial_height;
        let block = match state.make_block(Vec::new(), last_commit.clone(), evidence.evidence.clone(), proposer) {
            Ok(block) => block,
            Err(error) => {
                tracing::error!(height, %error, "last commit gives no block time");
                return Ok(None);
            }
        };
        let info = if first { Ok(Default::default()) } else { last_commit_info(last_commit, &state.last_validators) };
        let request = PrepareProposal {
            max_tx_bytes: max,
            txs,
            last_commit: info.map_err(HandOverError::Commit)?,
            misbehavior: misbehavior(&evidence.evidence),
            height,
            time: block.header.time,
            next_validators_hash: state.next_validators.hash().to_vec(),
            proposer_address: proposer,
        };
        let txs = self.app.lock().prepare_proposal(&request)?;
        let data = Data { txs };
        let bytes = data.encoded_len();
        if i64::try_from(bytes).map_or(true, |bytes| bytes > max) {
            tracing::error!(height, bytes, max, "application prepared more than a block holds");
            return Ok(None);
        }
        let built = state.make_block(data.txs, last_commit.clone(), evidence.evidence, proposer);
        Ok(Some(built.map_err(HandOverError::Commit)?))
    }

    /// Lets the application judge a block that was checked; its verdict is remembered until the next block is applied.
    ///
    /// # Errors
    /// If the application cannot go on.
    pub fn process_proposal(&self, state: &State, block: &Block) -> Result<Verdict, ExecError> {
        let round = block.last_commit.as_ref().map_or(0, |commit| commit.round);
        let judged = block.hash().map(|hash| (hash, round));
        if let Some(judged) = judged
            && let Some((_, verdict)) = self.memory.lock().verdicts.iter().find(|(other, _)| *other == judged)
        {
            return Ok(*verdict);
        }
        let proposed: ProposedBlock = proposed_block(block, &state.last_validators, state.initial_height)?;
        let verdict = self.app.lock().process_proposal(&proposed)?;
        if let Some(judged) = judged {
            remember(&mut self.memory.lock().verdicts, (judged, verdict));
        }
        Ok(verdict)
    }
}

fn evidence_len(list: &EvidenceList) -> i64 {
    if list.evidence.is_empty() { 0 } else { i64::try_from(list.encoded_len()).unwrap_or(i64::MAX) }
}
