//! Messages from the host to a runtime, and their answers.
//!
//! Source: `go/runtime/host/protocol/types.go`, `runtime/src/types.rs`. Field notes name the two senders where their
//! bytes differ: "Go" is the reference's host, "Rust" its runtimes.

use std::collections::BTreeMap;

use base_codec::{Bytes, Codec, Raw, int_type};
use base_prims::{Epoch, Hash, Namespace, PublicKey, RawSignature, Version};
use mkvs_tree::{LogEntry, WriteLog};
use wire_consensus::{
    keymanager::Status as KeyManagerStatus,
    node::{EndorsedCapabilityTee, X25519PublicKey},
    roothash::{
        AnnotatedBlock, Block, ComputeResultsHeader, Header, IncomingMessage, Message as RuntimeMessage, RoundResults,
    },
    tee::QuotePolicy,
};

use crate::{BoundedList, Error, Field, enclave_rpc::Kind};

/// Most results of one [`CheckTxBatchResponse`] that are accepted.
pub const MAX_CHECK_RESULTS: usize = 1 << 16;

/// Most messages of one [`ComputedBatch`] that are accepted.
pub const MAX_EMITTED_MESSAGES: usize = 1 << 16;

/// Most incoming messages of one [`ExecuteTxBatchRequest`] that are accepted.
pub const MAX_INCOMING_MESSAGES: usize = 1 << 16;

/// A light block. CBOR: `{height, meta}`. Source: `go/consensus/api/light.go`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct LightBlock {
    /// Its height.
    pub height: i64,
    /// CometBFT's `LightBlock` protobuf.
    pub meta: Option<Bytes>,
}

/// A validator set. CBOR: `{height, meta}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct Validators {
    /// Its height.
    pub height: i64,
    /// CometBFT's `ValidatorSet` protobuf.
    pub meta: Option<Bytes>,
}

/// What the runtime is told about its host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct InfoRequest {
    /// The runtime that it is to be.
    pub runtime_id: Namespace,
    /// [`CONSENSUS_BACKEND`](crate::CONSENSUS_BACKEND).
    pub consensus_backend: String,
    /// Version of the consensus protocol.
    pub consensus_protocol_version: Version,
    /// The chain context, hexadecimal.
    pub consensus_chain_context: String,
    /// The node's own settings for the runtime.
    #[codec(omitempty)]
    pub local_config: BTreeMap<String, Raw>,
}

/// What the host is told about the runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct InfoResponse {
    /// Version of the host protocol.
    pub protocol_version: Version,
    /// Version of the runtime.
    pub runtime_version: Version,
    /// What it supports; Rust always sends it, Go leaves out an empty one.
    #[codec(omitempty)]
    pub features: Option<Features>,
}

/// What a runtime supports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct Features {
    /// It schedules batches itself; executor nodes require it.
    #[codec(omitempty)]
    pub schedule_control: Option<ScheduleControl>,
    /// It takes [`KeyManagerQuotePolicyUpdateRequest`].
    #[codec(omitempty)]
    pub key_manager_quote_policy_updates: bool,
    /// It takes [`KeyManagerStatusUpdateRequest`].
    #[codec(omitempty)]
    pub key_manager_status_updates: bool,
    /// It takes [`UpdateEndorsementRequest`].
    #[codec(omitempty)]
    pub endorsed_capability_tee: bool,
}

/// How a runtime schedules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct ScheduleControl {
    /// Most transactions it wants with the request.
    pub initial_batch_size: u32,
}

/// First step of attestation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct RakInitRequest {
    /// The quoting enclave's target info.
    pub target_info: Option<Bytes>,
}

/// Second step of attestation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct RakReportResponse {
    /// Attestation key of the enclave.
    pub rak_pub: PublicKey,
    /// Encryption key of the enclave.
    #[codec(omitempty)]
    pub rek_pub: Option<X25519PublicKey>,
    /// The report; for TDX the quote.
    pub report: Option<Bytes>,
    /// Nonce in the report.
    pub nonce: String,
}

/// Last step of attestation with the older service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct RakAvrRequest {
    /// The attestation service's report.
    pub avr: rt_tee::ias::AvrBundle,
}

/// Last step of attestation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct RakQuoteRequest {
    /// The quote with collateral.
    pub quote: rt_tee::Quote,
}

/// The enclave's part of an attestation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct RakQuoteResponse {
    /// Consensus height that the enclave knows.
    pub height: u64,
    /// Signature with its attestation key.
    pub signature: RawSignature,
}

/// The node vouches for an enclave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct UpdateEndorsementRequest {
    /// The endorsed capability.
    pub ect: EndorsedCapabilityTee,
}

/// A call from another enclave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct RpcCallRequest {
    /// The frame or the plain request.
    pub request: Option<Bytes>,
    /// How it is encoded.
    #[codec(omitempty)]
    pub kind: Kind,
    /// Who calls: bytes of the libp2p peer id.
    #[codec(omitempty)]
    pub peer_id: Bytes,
}

/// Answer to a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct RpcCallResponse {
    /// The frame or the plain answer.
    pub response: Option<Bytes>,
}

/// A call from the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct LocalRpcCallRequest {
    /// CBOR of [`enclave_rpc::Request`](crate::enclave_rpc::Request).
    pub request: Option<Bytes>,
}

/// Answer to a call from the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct LocalRpcCallResponse {
    /// CBOR of [`enclave_rpc::Message`](crate::enclave_rpc::Message).
    pub response: Option<Bytes>,
}

/// Transactions to check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct CheckTxBatchRequest {
    /// Light block of the newest round.
    pub consensus_block: LightBlock,
    /// The transactions.
    pub inputs: Option<Vec<Bytes>>,
    /// Newest runtime block.
    pub block: Block,
    /// Current epoch.
    pub epoch: Epoch,
    /// Most messages a round may emit.
    pub max_messages: u32,
}

/// Results of the checks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct CheckTxBatchResponse {
    /// One for each transaction, in order.
    pub results: BoundedList<CheckTxResult, MAX_CHECK_RESULTS>,
}

/// Result of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct CheckTxResult {
    /// Code 0 on success.
    pub error: Error,
    /// There on success; otherwise Rust sends `null`, Go nothing.
    #[codec(omitempty)]
    pub meta: Field<CheckTxMetadata>,
}

/// How to schedule a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct CheckTxMetadata {
    /// Higher goes first.
    #[codec(omitempty)]
    pub priority: u64,
    /// The sender; those without one share one.
    #[codec(omitempty)]
    pub sender: Bytes,
    /// Number of the transaction among the sender's.
    #[codec(omitempty)]
    pub sender_seq: u64,
    /// Number of the sender's next transaction in the state; at most `sender_seq`.
    #[codec(omitempty)]
    pub sender_state_seq: u64,
}

int_type! { int
    /// Whether a batch is executed or made.
    pub struct ExecutionMode: u8 {
        /// Execute the batch as it is.
        EXECUTE = 0 => "execute",
        /// Choose the transactions; the request holds the first candidates.
        SCHEDULE = 1 => "schedule",
    }
}

/// A round to process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct ExecuteTxBatchRequest {
    /// Execute or schedule.
    #[codec(omitempty)]
    pub mode: ExecutionMode,
    /// Light block of the newest round.
    pub consensus_block: LightBlock,
    /// What came of the newest normal round's messages.
    pub round_results: Option<RoundResults>,
    /// Root of the inputs; zero when scheduling.
    pub io_root: Hash,
    /// The transactions.
    pub inputs: Option<Vec<Bytes>>,
    /// The whole queue of incoming messages.
    #[codec(omitempty)]
    pub in_msgs: BoundedList<IncomingMessage, MAX_INCOMING_MESSAGES>,
    /// Newest runtime block.
    pub block: Block,
    /// Current epoch.
    pub epoch: Epoch,
    /// Most messages the round may emit.
    pub max_messages: u32,
}

/// What a round led to.
#[derive(Clone, Debug, Default, PartialEq, Codec)]
#[codec(cbor_only)]
pub struct ExecuteTxBatchResponse {
    /// The results.
    pub batch: ComputedBatch,
    /// Transactions of the batch, when scheduling; Rust sends an empty list otherwise, Go nothing.
    #[codec(omitempty)]
    pub tx_hashes: Field<Vec<Hash>>,
    /// Transactions to drop from the pool.
    #[codec(omitempty)]
    pub tx_reject_hashes: Field<Vec<Hash>>,
    /// Root of the inputs.
    pub tx_input_root: Hash,
    /// Write log of the inputs.
    #[codec(omitempty)]
    pub tx_input_write_log: Field<Vec<LogEntry>>,
    /// Sent by old runtimes, without meaning.
    #[codec(omitempty)]
    pub batch_weight_limits: Raw,
}

/// Results of a round.
#[derive(Clone, Debug, Default, PartialEq, Codec)]
#[codec(cbor_only)]
pub struct ComputedBatch {
    /// What nodes commit to.
    pub header: ComputeResultsHeader,
    /// Outputs and tags (and inputs, where the host did not have them).
    pub io_write_log: Option<WriteLog>,
    /// Changes of the state.
    pub state_write_log: Option<WriteLog>,
    /// Signature of the header by the enclave.
    pub rak_sig: RawSignature,
    /// Messages to the consensus layer.
    pub messages: BoundedList<RuntimeMessage, MAX_EMITTED_MESSAGES>,
}

/// The key manager's status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct KeyManagerStatusUpdateRequest {
    /// The status.
    pub status: KeyManagerStatus,
}

/// The policy for quotes of key manager enclaves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct KeyManagerQuotePolicyUpdateRequest {
    /// The policy.
    pub policy: QuotePolicy,
}

/// A question about a runtime's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct QueryRequest {
    /// Light block of the round.
    pub consensus_block: LightBlock,
    /// Header of the round.
    pub header: Header,
    /// Current epoch.
    pub epoch: Epoch,
    /// Most messages a round may emit.
    pub max_messages: u32,
    /// The method.
    pub method: String,
    /// Its arguments, CBOR.
    #[codec(omitempty)]
    pub args: Bytes,
}

/// Answer to a question.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct QueryResponse {
    /// CBOR.
    #[codec(omitempty)]
    pub data: Bytes,
}

/// A new consensus height.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct ConsensusSyncRequest {
    /// The height.
    pub height: u64,
}

/// Notification of an off-chain component.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct NotifyRequest {
    /// A new runtime block.
    #[codec(omitempty)]
    pub runtime_block: Option<AnnotatedBlock>,
    /// Events of interest.
    #[codec(omitempty)]
    pub runtime_event: Option<NotifyEvent>,
}

/// Events of interest in a runtime block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct NotifyEvent {
    /// The block.
    pub block: Option<AnnotatedBlock>,
    /// Keys of the matching tags.
    pub tags: Option<Vec<Bytes>>,
}
