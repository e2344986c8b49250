//! Root hash service: what runtimes commit to, round by round.
//!
//! Source: `go/roothash/api`.

pub mod block;
pub mod commitment;
pub mod evidence;
pub mod genesis;
pub mod liveness;
pub mod message;
pub mod pool;
#[cfg(test)]
mod tests;

pub use block::{Block, Header, HeaderType, Timestamp};
pub use commitment::{
    ComputeResultsHeader, ExecutorCommitment, ExecutorCommitmentFailure, ExecutorCommitmentHeader, Proposal,
    ProposalHeader, Verifier,
};
pub use evidence::{EquivocationExecutorEvidence, EquivocationProposalEvidence, Evidence};
pub use genesis::{Genesis, GenesisRuntimeState, ParameterChanges, Parameters};
pub use liveness::LivenessStatistics;
pub use message::{
    GovernanceMessage, IncomingMessage, IncomingMessageQueueMeta, Message, RegistryMessage, StakingMessage,
};
pub use pool::{Pool, SchedulerCommitment};

use base_codec::{Bytes, Codec, Raw};
use base_prims::{Address, Hash, Namespace, PublicKey, Quantity};

use crate::{
    errors::{ErrorCode, roothash as codes},
    registry::Runtime,
    scheduler::Committee,
    typed_event,
};

/// Name of the module, in errors and parameter changes.
pub const MODULE: &str = "roothash";

/// Method that submits executor commitments; body [`ExecutorCommit`].
pub const METHOD_EXECUTOR_COMMIT: &str = "roothash.ExecutorCommit";
/// Method that submits evidence of a node's misbehaviour; body [`Evidence`].
pub const METHOD_EVIDENCE: &str = "roothash.Evidence";
/// Method that queues a message for a runtime; body [`SubmitMsg`].
pub const METHOD_SUBMIT_MSG: &str = "roothash.SubmitMsg";
/// All methods of the service.
pub const METHODS: &[&str] = &[METHOD_EXECUTOR_COMMIT, METHOD_EVIDENCE, METHOD_SUBMIT_MSG];

/// Gas operation of [`METHOD_EXECUTOR_COMMIT`].
pub const GAS_OP_COMPUTE_COMMIT: &str = "compute_commit";
/// Gas operation of a proposer timeout; it has a price, but nothing charges it today.
pub const GAS_OP_PROPOSER_TIMEOUT: &str = "proposer_timeout";
/// Gas operation of [`METHOD_EVIDENCE`].
pub const GAS_OP_EVIDENCE: &str = "evidence";
/// Gas operation of [`METHOD_SUBMIT_MSG`].
pub const GAS_OP_SUBMIT_MSG: &str = "submit_msg";

/// Round that stands for the latest one in queries.
pub const ROUND_LATEST: u64 = u64::MAX;
/// Round that refers to none.
pub const ROUND_INVALID: u64 = u64::MAX - 1;
/// Value of [`RuntimeState::timeout`] that never expires.
pub const TIMEOUT_NEVER: i64 = 0;

/// Body of [`METHOD_EXECUTOR_COMMIT`].
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct ExecutorCommit {
    /// The runtime.
    pub id: Namespace,
    /// Commitments, usually one.
    pub commits: Option<Vec<ExecutorCommitment>>,
}

/// Body of [`METHOD_SUBMIT_MSG`].
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct SubmitMsg {
    /// The runtime that gets the message.
    pub id: Namespace,
    /// Chosen by the caller and repeated in the event of processing.
    #[codec(omitempty)]
    pub tag: u64,
    /// Fee for the runtime, in base units; transferred before the runtime processes the message.
    #[codec(omitempty)]
    pub fee: Quantity,
    /// Tokens for the runtime, in base units; transferred before the runtime processes the message.
    #[codec(omitempty)]
    pub tokens: Quantity,
    /// Content that only the runtime understands.
    #[codec(omitempty)]
    pub data: Option<Bytes>,
}

/// A runtime's state in the consensus layer.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct RuntimeState {
    /// Descriptor as of the start of the epoch.
    pub runtime: Runtime,
    /// Whether the runtime is suspended.
    #[codec(omitempty)]
    pub suspended: bool,
    /// First block.
    pub genesis_block: Block,
    /// Newest block.
    pub last_block: Block,
    /// Consensus height of the newest block.
    pub last_block_height: i64,
    /// Newest round that the runtime itself processed; results of its messages belong to it.
    pub last_normal_round: u64,
    /// Consensus height of that round.
    pub last_normal_height: i64,
    /// Committee whose commitments are collected.
    #[codec(omitempty)]
    pub committee: Option<Committee>,
    /// Commitments of the round in progress.
    #[codec(omitempty)]
    pub commitment_pool: Option<Pool>,
    /// Height at which the round is decided by force; [`TIMEOUT_NEVER`] if none is set.
    #[codec(omitempty)]
    pub timeout: i64,
    /// Statistics of the epoch; absent until the first attempt to finalize.
    #[codec(omitempty)]
    pub liveness_stats: Option<LivenessStatistics>,
}

/// A block and the consensus height that produced it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct AnnotatedBlock {
    /// Consensus height.
    pub consensus_height: i64,
    /// The block.
    pub block: Option<Block>,
}

/// State and I/O roots of a round. CBOR: list of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Codec)]
#[codec(array)]
pub struct RoundRoots {
    /// State root.
    #[codec(rename = "StateRoot")]
    pub state_root: Hash,
    /// I/O root.
    #[codec(rename = "IORoot")]
    pub io_root: Hash,
}

/// How the consensus layer executed a round.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct RoundResults {
    /// Results of the messages that the runtime emitted.
    #[codec(omitempty)]
    pub messages: Vec<MessageEvent>,
    /// Entities whose nodes computed what was finalized.
    #[codec(omitempty)]
    pub good_compute_entities: Vec<PublicKey>,
    /// Entities whose nodes computed something else.
    #[codec(omitempty)]
    pub bad_compute_entities: Vec<PublicKey>,
}

/// Result of one message that a runtime emitted.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct MessageEvent {
    /// Module of the error; empty on success.
    #[codec(omitempty)]
    pub module: String,
    /// Code of the error; zero on success.
    #[codec(omitempty)]
    pub code: u32,
    /// Position of the message.
    #[codec(omitempty)]
    pub index: u32,
    /// What the service answered; `null` if nothing.
    #[codec(omitempty)]
    pub result: Raw,
}

impl MessageEvent {
    /// Whether the message was executed.
    pub fn is_success(&self) -> bool {
        self.code == 0
    }
}

/// A node's commitment was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct ExecutorCommittedEvent {
    /// The commitment.
    pub commit: ExecutorCommitment,
}

/// Nodes disagree; the backup workers decide.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct ExecutionDiscrepancyDetectedEvent {
    /// The round.
    pub round: u64,
    /// Rank of the scheduler whose proposal is in doubt.
    pub rank: u64,
    /// Whether the timeout brought it to light.
    pub timeout: bool,
}

/// A round has a block.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct FinalizedEvent {
    /// The round.
    pub round: u64,
}

/// A queued message was processed by a runtime.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct InMsgProcessedEvent {
    /// Sequence number of the message.
    pub id: u64,
    /// Round that processed it.
    pub round: u64,
    /// Who submitted it.
    pub caller: Address,
    /// The tag given on submission.
    #[codec(omitempty)]
    pub tag: u64,
}

typed_event!(ExecutorCommittedEvent, "executor_commit");
typed_event!(ExecutionDiscrepancyDetectedEvent, "execution_discrepancy");
typed_event!(FinalizedEvent, "finalized");
typed_event!(InMsgProcessedEvent, "in_msg_processed");

/// Key of the attribute that names the runtime; every event of the service has one.
pub const RUNTIME_ID_ATTRIBUTE: &str = "runtime_id";

/// Value of [`RUNTIME_ID_ATTRIBUTE`]: padded base64 of the 32 bytes.
pub fn runtime_id_value(id: &Namespace) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.encode(id.as_bytes())
}

/// The runtime in a value of [`RUNTIME_ID_ATTRIBUTE`].
pub fn runtime_id_from_value(value: &str) -> Option<Namespace> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.decode(value).ok()?.try_into().ok().map(Namespace::from_bytes_unchecked)
}

/// An event as clients see it: one of the optional fields is set.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Event {
    /// Consensus height.
    #[codec(omitempty)]
    pub height: i64,
    /// Hash of the transaction; the empty hash for events of block boundaries.
    #[codec(omitempty)]
    pub tx_hash: Hash,
    /// The runtime.
    pub runtime_id: Namespace,
    /// Commitment accepted.
    #[codec(omitempty)]
    pub executor_committed: Option<ExecutorCommittedEvent>,
    /// Discrepancy detected.
    #[codec(omitempty)]
    pub execution_discrepancy: Option<ExecutionDiscrepancyDetectedEvent>,
    /// Round finalized.
    #[codec(omitempty)]
    pub finalized: Option<FinalizedEvent>,
    /// Incoming message processed.
    #[codec(omitempty)]
    pub in_msg_processed: Option<InMsgProcessedEvent>,
}

/// Query about one runtime.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct RuntimeRequest {
    /// The runtime.
    pub runtime_id: Namespace,
    /// Consensus height; 0 is the latest.
    pub height: i64,
}

/// Query about the roots of one round.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct RoundRootsRequest {
    /// The runtime.
    pub runtime_id: Namespace,
    /// Consensus height; 0 is the latest.
    pub height: i64,
    /// The round.
    pub round: u64,
}

/// Query about queued incoming messages.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct InMessageQueueRequest {
    /// The runtime.
    pub runtime_id: Namespace,
    /// Consensus height; 0 is the latest.
    pub height: i64,
    /// Lowest sequence number wanted.
    #[codec(omitempty)]
    pub offset: u64,
    /// Most messages wanted; 0 is no limit.
    #[codec(omitempty)]
    pub limit: u32,
}

/// Checks a runtime descriptor against the service's limits.
///
/// # Errors
/// The code of the limit that is exceeded.
pub fn validate_runtime_parameters(runtime: &Runtime, params: &Parameters) -> Result<(), &'static ErrorCode> {
    if runtime.executor.max_messages > params.max_runtime_messages {
        return Err(&codes::MAX_MESSAGES_TOO_BIG);
    }
    if runtime.txn_scheduler.max_in_messages > params.max_in_runtime_messages {
        return Err(&codes::MAX_IN_MESSAGES_TOO_BIG);
    }
    Ok(())
}
