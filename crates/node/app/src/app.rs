//! Services, state and engine put together.

use std::cell::RefCell;

use apps_core::{
    Mux,
    mux::{BlockError, Executed, Purpose},
};
use base_codec::{Bytes, cbor};
use base_crypto::ed25519::SecretKey;
use base_prims::{Hash, version::COMET_APP_VERSION};
use comet_chain::app::{
    AppInfo, BlockResults, CheckKind, CheckResult, Committed, Fatal, InitChainResult, PrepareProposal, ProposedBlock,
    Verdict,
};
use wire_consensus::{
    Time,
    genesis::Document,
    meta::{BlockMetadata, MAX_META_TX_BYTES, METHOD_META},
    transaction::Transaction,
};

use mkvs_tree::{KvRead, TreeError};

use crate::{
    ahead::Ahead,
    check::CheckState,
    store::{Change, StateStore, StoreError},
};

impl From<StoreError> for Fatal {
    fn from(e: StoreError) -> Self {
        Self::Storage(Box::new(e))
    }
}

/// A block that was executed and applied to the state but not committed.
struct Pending {
    block: ProposedBlock,
    executed: Executed,
}

/// The consensus application. Everything but the services' code is here: the state, the pool's view of it, and the
/// block that awaits its commit.
pub struct NodeApp {
    mux: Mux,
    store: Box<dyn StateStore>,
    check: CheckState,
    pending: Option<Pending>,
    // Signs block metadata when this node proposes.
    consensus_key: Option<SecretKey>,
    ahead: Ahead,
}

impl NodeApp {
    /// An application over a store.
    pub fn new(mux: Mux, store: Box<dyn StateStore>, consensus_key: Option<SecretKey>) -> Self {
        let ahead = Ahead::new(mux.opener().clone());
        Self { mux, store, check: CheckState::default(), pending: None, consensus_key, ahead }
    }

    /// Opens the transactions of coming blocks, on whatever thread has time for it.
    pub fn ahead(&self) -> &Ahead {
        &self.ahead
    }

    /// The services.
    pub fn mux(&self) -> &Mux {
        &self.mux
    }

    /// The state.
    pub fn store(&self) -> &dyn StateStore {
        self.store.as_ref()
    }

    /// Changes of the block that awaits its commit.
    pub fn pending_changes(&self) -> &[Change] {
        self.pending.as_ref().map_or(&[], |p| &p.executed.changes)
    }

    /// Where the application stands.
    pub fn info(&self) -> AppInfo {
        let committed = self.store.committed();
        AppInfo {
            last_height: committed.map_or(0, |(version, _)| version.cast_signed()),
            last_app_hash: committed.map_or_else(Vec::new, |(_, root)| root.as_bytes().to_vec()),
            app_version: COMET_APP_VERSION,
        }
    }

    /// Goes on from another store, which has a committed version.
    ///
    /// # Errors
    /// As [`NodeApp::resume`].
    pub fn resume_from(&mut self, store: Box<dyn StateStore>) -> Result<(), Fatal> {
        self.store = store;
        self.resume()
    }

    /// Goes on from what the store holds: a version kept from an earlier run, or restored.
    ///
    /// # Errors
    /// If the store is empty, its state is unreadable or of another network, or a service cannot go on from it.
    pub fn resume(&mut self) -> Result<(), Fatal> {
        self.pending = None;
        self.check = CheckState::default();
        let (version, root) =
            self.store.committed().ok_or_else(|| Fatal::Internal("cannot go on from an empty state".to_owned()))?;
        let internal = |e: apps_core::Error| Fatal::Internal(e.to_string());
        let state = self.store.state();
        // Like the reference, checks see no time until the first commit.
        self.mux.resume(state, version.cast_signed(), root, Time::default()).map_err(internal)?;
        self.mux.state_synced(state).map_err(internal)
    }

    /// Sets the genesis state. It is not durable by itself: the first block's commit makes it so.
    ///
    /// # Errors
    /// If a service refuses the document.
    pub fn init_chain(&mut self, doc: &Document) -> Result<InitChainResult, Fatal> {
        let changes = self.mux.init_chain(doc).map_err(|e| Fatal::Internal(e.to_string()))?;
        let root = self.store.apply_genesis(&changes)?;
        Ok(InitChainResult { app_hash: root.as_bytes().to_vec(), ..InitChainResult::default() })
    }

    /// Judges a transaction for the pool.
    pub fn check_tx(&mut self, tx: &[u8], _kind: CheckKind) -> CheckResult {
        let (result, changes) = self.mux.check(&self.check.over(self.store.state()), tx);
        self.check.keep(changes);
        result
    }

    fn run(&mut self, block: &ProposedBlock, purpose: Purpose) -> Result<(Executed, Hash), Error> {
        self.undo_pending()?;
        let opened = self.ahead.take(block);
        let state = Noted { state: self.store.state(), failure: RefCell::default() };
        let executed = self.mux.execute_opened(&state, block, opened, purpose);
        // Whatever the services made of it: without its state this node can judge no block.
        if let Some(reason) = state.failure.into_inner() {
            return Err(StoreError::Unreadable(reason).into());
        }
        let executed = executed?;
        let root = self.store.apply(&executed.changes)?;
        Ok((executed, root))
    }

    fn undo_pending(&mut self) -> Result<(), StoreError> {
        if self.pending.take().is_some() { self.store.discard() } else { Ok(()) }
    }

    /// Executes a block and keeps it for its commit; a block that was executed before is not executed again.
    fn follow(&mut self, block: &ProposedBlock) -> Result<&Pending, Error> {
        let reusable = self.pending.as_ref().is_some_and(|p| {
            // The hash is not known while a block is being built.
            p.block.hash == block.hash || (p.block.hash.is_empty() && same_inputs(&p.block, block))
        });
        if !reusable {
            let (executed, root) = self.run(block, Purpose::Follow)?;
            if let Err(e) = executed.verify_metadata(&root) {
                self.store.discard()?;
                return Err(e.into());
            }
            self.pending = Some(Pending { block: block.clone(), executed });
        }
        let pending = self.pending.as_mut().expect("set just now or reused");
        pending.block.hash.clone_from(&block.hash);
        Ok(pending)
    }

    /// Executes a committed block.
    ///
    /// # Errors
    /// If the node has to stop.
    pub fn execute(&mut self, block: &ProposedBlock) -> Result<BlockResults, Fatal> {
        let height = block.height;
        self.follow(block).map(|p| p.executed.results.clone()).map_err(|e| e.fatal(height))
    }

    /// Judges another node's proposal.
    ///
    /// # Errors
    /// If the node has to stop.
    pub fn process_proposal(&mut self, block: &ProposedBlock) -> Result<Verdict, Fatal> {
        match self.follow(block) {
            Ok(_) => Ok(Verdict::Accept),
            Err(Error::Block(BlockError::Invalid(_) | BlockError::Fatal(_))) => Ok(Verdict::Reject),
            Err(e) => Err(e.fatal(block.height)),
        }
    }

    /// Builds the transactions of this node's proposal: those of the pool that fit, then the block metadata. An empty
    /// list means that the node cannot propose.
    ///
    /// # Errors
    /// If the node has to stop.
    pub fn prepare_proposal(&mut self, request: &PrepareProposal) -> Result<Vec<Vec<u8>>, Fatal> {
        let Some(key) = self.consensus_key.clone() else { return Ok(Vec::new()) };
        let reserved = i64::try_from(MAX_META_TX_BYTES).unwrap_or(i64::MAX);
        let mut room = usize::try_from(request.max_tx_bytes.saturating_sub(reserved)).unwrap_or(0);
        let mut txs = Vec::new();
        for tx in &request.txs {
            if tx.len() > room {
                break;
            }
            room -= tx.len();
            txs.push(tx.clone());
        }
        let mut block = ProposedBlock {
            height: request.height,
            time: request.time,
            proposer_address: request.proposer_address,
            txs,
            last_commit: request.last_commit.clone(),
            misbehavior: request.misbehavior.clone(),
            ..ProposedBlock::default()
        };
        let (mut executed, root) = match self.run(&block, Purpose::Propose) {
            Ok(done) => done,
            Err(Error::Block(BlockError::Invalid(_) | BlockError::Fatal(_))) => return Ok(Vec::new()),
            Err(e) => return Err(e.fatal(request.height)),
        };
        let meta = BlockMetadata { state_root: root, events_root: Some(Bytes(executed.events_root.to_vec())) };
        let signed = Transaction::new(0, None, METHOD_META, &meta).sign(&key, self.mux.chain());
        let raw = match signed {
            Ok(signed) => cbor::to_vec(&signed),
            Err(e) => {
                // A signer that is away costs this proposal, not the node.
                tracing::error!(module = "abci-mux", height = request.height, err = %e, "cannot sign block metadata");
                self.store.discard()?;
                return Ok(Vec::new());
            }
        };
        executed.push_metadata_result();
        block.txs.push(raw);
        let txs = block.txs.clone();
        self.pending = Some(Pending { block, executed });
        Ok(txs)
    }

    /// Makes the executed block durable.
    ///
    /// # Errors
    /// If there is none, or the store fails.
    pub fn commit(&mut self) -> Result<Committed, Fatal> {
        let pending = self.pending.take().ok_or_else(|| Fatal::Internal("commit without a block".to_owned()))?;
        let version = u64::try_from(pending.block.height)
            .map_err(|_| Fatal::Internal(format!("negative height {}", pending.block.height)))?;
        let root = self.store.commit(version)?;
        self.mux.committed(&pending.executed, self.store.state(), root).map_err(|e| Fatal::Internal(e.to_string()))?;
        self.check = CheckState::default();
        Ok(Committed { app_hash: root.as_bytes().to_vec(), retain_height: 0 })
    }
}

fn same_inputs(ours: &ProposedBlock, theirs: &ProposedBlock) -> bool {
    ours.height == theirs.height
        && ours.time == theirs.time
        && ours.proposer_address == theirs.proposer_address
        && ours.txs == theirs.txs
        && ours.misbehavior == theirs.misbehavior
}

/// A state that remembers the first failure of the store.
struct Noted<'a> {
    state: &'a dyn KvRead,
    failure: RefCell<Option<String>>,
}

impl Noted<'_> {
    fn note<T>(&self, read: Result<T, TreeError>) -> Result<T, TreeError> {
        read.inspect_err(|error| {
            self.failure.borrow_mut().get_or_insert_with(|| base_service::chain(error));
        })
    }
}

impl KvRead for Noted<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TreeError> {
        self.note(self.state.get(key))
    }

    fn iterate(&self, from: &[u8], visit: mkvs_tree::Visit<'_>) -> Result<(), TreeError> {
        self.note(self.state.iterate(from, visit))
    }
}

/// Why a block was not executed.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Block(#[from] BlockError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Error {
    fn fatal(self, height: i64) -> Fatal {
        match self {
            Self::Block(BlockError::Halt(halt)) => Fatal::Halt { height, reason: halt.to_string() },
            Self::Block(BlockError::Invalid(reason)) => Fatal::InvalidBlock { height, reason },
            Self::Block(BlockError::Fatal(text)) => Fatal::Internal(text),
            Self::Store(e) => e.into(),
        }
    }
}
