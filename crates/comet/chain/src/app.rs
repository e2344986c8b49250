//! The border between the consensus engine and the application: a trait and plain data.
//!
//! Reference: `cometbft:abci/types/application.go`, `proto/tendermint/abci/types.proto`,
//! `oasis-core:go/consensus/cometbft/abci/mux.go`. The engine calls one method at a time and never between the
//! beginning and the end of a block.

use wire_cometbft::Time;
pub use wire_cometbft::block::Header;
pub use wire_cometbft::keys::Address;
pub use wire_cometbft::params::{
    BlockParams, ConsensusParams, ConsensusParamsUpdate, EvidenceParams, ValidatorParams, VersionParams,
};

/// The application can't go on; the node stops. The state on disk is that of the last commit.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The node must stop before this block by plan (upgrade or halt); not an error for operators.
    #[error("node must stop at height {height}: {reason}")]
    Halt {
        /// Height that is not executed.
        height: i64,
        /// Why.
        reason: String,
    },
    /// The state could not be read or written.
    #[error("storage: {0}")]
    Storage(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The block, committed by the network, is not one that this application can execute.
    #[error("invalid block at height {height}: {reason}")]
    InvalidBlock {
        /// Height.
        height: i64,
        /// What is wrong.
        reason: String,
    },
    /// The engine and the application disagree on where they are, or some other state that can't be.
    #[error("{0}")]
    Internal(String),
}

/// Where the application stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppInfo {
    /// Height of the last committed block; 0: none.
    pub last_height: i64,
    /// State root after that block.
    pub last_app_hash: Vec<u8>,
    /// Version of the application's protocol, as in block headers.
    pub app_version: u64,
}

/// The start of a chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InitChain {
    /// Genesis time.
    pub time: Time,
    /// Chain id, at most 50 characters.
    pub chain_id: String,
    /// Parameters of the genesis document.
    pub consensus_params: ConsensusParams,
    /// Validators of the genesis document, in the order of the validator set.
    pub validators: Vec<ValidatorUpdate>,
    /// The application's part of the genesis document.
    pub app_state: Vec<u8>,
    /// Height of the first block.
    pub initial_height: i64,
}

/// What the application makes of the start of a chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InitChainResult {
    /// Changed parameters; absent parts stay as they were.
    pub consensus_param_updates: ConsensusParamsUpdate,
    /// The validators to start with; empty: those of the genesis document.
    pub validators: Vec<ValidatorUpdate>,
    /// State root after genesis.
    pub app_hash: Vec<u8>,
}

/// Why a transaction is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckKind {
    /// It came in just now.
    New,
    /// It is in the pool still after a block.
    Recheck,
}

/// Verdict on a transaction for the pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckResult {
    /// 0: the transaction may wait in the pool.
    pub code: u32,
    /// Module that the code belongs to.
    pub codespace: String,
    /// Result data.
    pub data: Vec<u8>,
    /// Error text.
    pub log: String,
    /// More text.
    pub info: String,
    /// Most gas that the transaction may use.
    pub gas_wanted: i64,
    /// Gas used by the check.
    pub gas_used: i64,
    /// Order in the pool: higher first.
    pub priority: i64,
    /// Who pays, to tell senders apart; may be empty.
    pub sender: String,
}

/// What one validator did about the block before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VoteInfo {
    /// Address.
    pub address: Address,
    /// Voting power at the height of the block before.
    pub power: i64,
    /// Whether its precommit (for the block or for none) is in the last commit.
    pub signed_last_block: bool,
}

/// Who signed the block before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastCommitInfo {
    /// Round of the last commit.
    pub round: i32,
    /// Validators of the height before, in the order of the validator set; empty at the initial height.
    pub votes: Vec<VoteInfo>,
}

/// What a validator did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MisbehaviorKind {
    /// Signed two different votes for one round.
    DuplicateVote,
    /// Signed a header that is not the chain's.
    LightClientAttack,
}

/// One validator's proven misbehaviour; one item of evidence may name several validators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misbehavior {
    /// What it did.
    pub kind: MisbehaviorKind,
    /// Its address.
    pub address: Address,
    /// Its voting power at `height`.
    pub power: i64,
    /// When: height.
    pub height: i64,
    /// When: time of the block at `height`.
    pub time: Time,
    /// Power of all validators at `height`.
    pub total_voting_power: i64,
}

/// What the proposer may build a block from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrepareProposal {
    /// Most encoded bytes that the resulting transactions may take.
    pub max_tx_bytes: i64,
    /// Transactions of the pool by priority; may be changed, left out or added to.
    pub txs: Vec<Vec<u8>>,
    /// Who signed the block before.
    pub last_commit: LastCommitInfo,
    /// Evidence that the block will carry.
    pub misbehavior: Vec<Misbehavior>,
    /// Height of the block.
    pub height: i64,
    /// Time of the block.
    pub time: Time,
    /// Hash of the validators of the height after.
    pub next_validators_hash: Vec<u8>,
    /// This node's validator address.
    pub proposer_address: Address,
}

/// A whole block as proposed or committed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProposedBlock {
    /// Hash of the header.
    pub hash: Vec<u8>,
    /// Header.
    pub header: Header,
    /// Height, as in the header.
    pub height: i64,
    /// Time, as in the header.
    pub time: Time,
    /// Address of the proposer, as in the header.
    pub proposer_address: Address,
    /// Transactions in order.
    pub txs: Vec<Vec<u8>>,
    /// Who signed the block before.
    pub last_commit: LastCommitInfo,
    /// Proven misbehaviour that the block carries.
    pub misbehavior: Vec<Misbehavior>,
}

/// Verdict on a proposed block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Vote for it.
    Accept,
    /// Vote for none.
    Reject,
}

/// One key and value of an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventAttribute {
    /// Key.
    pub key: String,
    /// Value.
    pub value: String,
    /// Whether an indexer should index it.
    pub index: bool,
}

/// An event emitted during execution.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// Type.
    pub kind: String,
    /// Attributes in order.
    pub attributes: Vec<EventAttribute>,
}

/// Result of one transaction. Code, data and gas are hashed into the next header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TxResult {
    /// 0: success.
    pub code: u32,
    /// Result data.
    pub data: Vec<u8>,
    /// Error text.
    pub log: String,
    /// More text.
    pub info: String,
    /// Gas asked for.
    pub gas_wanted: i64,
    /// Gas used.
    pub gas_used: i64,
    /// Events in order.
    pub events: Vec<Event>,
    /// Module that the code belongs to.
    pub codespace: String,
}

/// A validator's new power; 0 removes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ValidatorUpdate {
    /// Ed25519 consensus key.
    pub pub_key: [u8; 32],
    /// Voting power.
    pub power: i64,
}

/// What the execution of a block gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockResults {
    /// Events of the beginning.
    pub begin_events: Vec<Event>,
    /// One result per transaction, in order.
    pub tx_results: Vec<TxResult>,
    /// Events of the end.
    pub end_events: Vec<Event>,
    /// Changes of the validator set; they sign from the height after the next.
    pub validator_updates: Vec<ValidatorUpdate>,
    /// Changed parameters, from the next height; the reference's application sends its version in every block.
    pub consensus_param_updates: Option<ConsensusParamsUpdate>,
}

/// What a commit gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Committed {
    /// State root; goes into the next header.
    pub app_hash: Vec<u8>,
    /// Blocks below this height may be pruned; 0: none.
    pub retain_height: i64,
}

/// A snapshot as offered to peers and by them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Height.
    pub height: u64,
    /// Format; the network's is 1.
    pub format: u32,
    /// Number of chunks.
    pub chunks: u32,
    /// Hash that tells snapshots apart.
    pub hash: Vec<u8>,
    /// Whatever the application needs to restore it.
    pub metadata: Vec<u8>,
}

/// Verdict on a snapshot offered by peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfferSnapshotResult {
    /// Restore it: chunks may come.
    Accept,
    /// Stop restoring altogether.
    Abort,
    /// Try another one.
    Reject,
    /// Try another format.
    RejectFormat,
    /// Try one of other peers.
    RejectSender,
}

/// What became of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyChunkOutcome {
    /// Taken.
    Accept,
    /// Stop restoring altogether.
    Abort,
    /// Apply this chunk again.
    Retry,
    /// Start this snapshot over.
    RetrySnapshot,
    /// Try another snapshot.
    RejectSnapshot,
}

/// What became of a chunk, and what to do about others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyChunkResult {
    /// Outcome for the snapshot.
    pub outcome: ApplyChunkOutcome,
    /// Chunks to fetch again.
    pub refetch_chunks: Vec<u32>,
    /// Peers to take no more chunks from.
    pub reject_senders: Vec<String>,
}

/// State snapshots: served to peers, restored from them.
pub trait Snapshots {
    /// Snapshots that this node can serve, at most ten of them are told to peers.
    fn list(&mut self) -> Result<Vec<Snapshot>, Fatal>;
    /// A chunk of a snapshot; `None` if it is not there.
    fn load_chunk(&mut self, height: u64, format: u32, chunk: u32) -> Result<Option<Vec<u8>>, Fatal>;
    /// Starts restoring a snapshot whose state root must be `app_hash` (from a verified header).
    fn offer(&mut self, snapshot: &Snapshot, app_hash: &[u8]) -> Result<OfferSnapshotResult, Fatal>;
    /// Restores a chunk that `sender` gave.
    fn apply_chunk(&mut self, index: u32, chunk: &[u8], sender: &str) -> Result<ApplyChunkResult, Fatal>;
}

/// The replicated state machine that the engine drives.
pub trait Application: Send {
    /// Where the application stands.
    fn info(&self) -> AppInfo;
    /// Sets the state of genesis; called once, before the first block.
    fn init_chain(&mut self, request: &InitChain) -> Result<InitChainResult, Fatal>;
    /// Judges a transaction for the pool; never fails the node.
    fn check_tx(&mut self, tx: &[u8], kind: CheckKind) -> CheckResult;
    /// Builds the transactions of this node's proposal.
    fn prepare_proposal(&mut self, request: &PrepareProposal) -> Result<Vec<Vec<u8>>, Fatal>;
    /// Judges another node's proposal.
    fn process_proposal(&mut self, block: &ProposedBlock) -> Result<Verdict, Fatal>;
    /// Executes a committed block: beginning, every transaction, end. Nothing is durable before [`Self::commit`].
    fn execute(&mut self, block: &ProposedBlock) -> Result<BlockResults, Fatal>;
    /// Makes the executed block durable.
    fn commit(&mut self) -> Result<Committed, Fatal>;
    /// Access to snapshots.
    fn snapshots(&mut self) -> &mut dyn Snapshots;
}
