//! Messages from a runtime to its host, and their answers.
//!
//! Source: `go/runtime/host/protocol/{types,types_rofl}.go`, `runtime/src/types.rs`. Field notes name the two senders
//! where their bytes differ: "Go" is the reference's host, "Rust" its runtimes.

use base_codec::{Bytes, Codec, int_type};
use base_prims::{Hash, Namespace, PublicKey};
use mkvs_tree::{
    proof::Proof,
    sync::{GetPrefixesRequest, GetRequest, IterateRequest, ProofResponse},
};
use wire_consensus::{governance, registry, roothash, staking, transaction::SignedTransaction};

use crate::{
    enclave_rpc::{Kind, PeerFeedback},
    runtime::{LightBlock, Validators},
};

/// Name of the endpoint of [`RpcCallRequest`] that reaches key manager enclaves.
pub const ENDPOINT_KEY_MANAGER: &str = "key-manager";

/// A call to another enclave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct RpcCallRequest {
    /// Where it goes.
    pub endpoint: String,
    /// For [`SubmitPeerFeedbackRequest`]; 0 in the older form.
    pub request_id: u64,
    /// The frame or the plain request.
    pub request: Option<Bytes>,
    /// How it is encoded; Rust always sends it, Go leaves 0 out.
    #[codec(omitempty)]
    pub kind: Option<Kind>,
    /// Nodes to choose from; none means any.
    pub nodes: Option<Vec<PublicKey>>,
    /// About the call before, in the older form.
    #[codec(omitempty)]
    pub pf: Option<PeerFeedback>,
}

/// Answer to a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct RpcCallResponse {
    /// The frame or the plain answer.
    pub response: Option<Bytes>,
    /// Who answered.
    pub node: PublicKey,
}

/// How good the peer of a call was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct SubmitPeerFeedbackRequest {
    /// Where the call went.
    pub endpoint: String,
    /// The call.
    pub request_id: u64,
    /// The verdict.
    pub peer_feedback: PeerFeedback,
}

int_type! { int
    /// Whose state is asked for.
    pub struct StorageEndpoint: u8 {
        /// The runtime's.
        RUNTIME = 0 => "runtime",
        /// The consensus layer's; the namespace is zero and the version the height.
        CONSENSUS = 1 => "consensus",
    }
}

/// A part of a state tree: exactly one of the three requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct StorageSyncRequest {
    /// Whose state; Rust always sends it and requires it, Go leaves 0 out.
    #[codec(omitempty)]
    pub endpoint: Option<StorageEndpoint>,
    /// A key.
    #[codec(rename = "SyncGet", omitempty)]
    pub get: Option<GetRequest>,
    /// Prefixes.
    #[codec(rename = "SyncGetPrefixes", omitempty)]
    pub get_prefixes: Option<GetPrefixesRequest>,
    /// Pairs in order.
    #[codec(rename = "SyncIterate", omitempty)]
    pub iterate: Option<IterateRequest>,
}

/// Answer to [`StorageSyncRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct StorageSyncResponse {
    /// The proof.
    #[codec(rename = "ProofResponse", omitempty)]
    pub proof_response: Option<ProofResponse>,
}

/// Asks the node's own storage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct LocalStorageGetRequest {
    /// The key.
    pub key: Option<Bytes>,
}

/// A value of the node's own storage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct LocalStorageGetResponse {
    /// The value; `null` if there is none.
    pub value: Option<Bytes>,
}

/// Sets a value of the node's own storage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct LocalStorageSetRequest {
    /// The key.
    pub key: Option<Bytes>,
    /// The value.
    pub value: Option<Bytes>,
}

/// Names a consensus height; 0 is the newest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct HeightRequest {
    /// The height.
    pub height: u64,
}

/// A light block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct FetchConsensusBlockResponse {
    /// The block.
    pub block: LightBlock,
}

/// A validator set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct FetchConsensusValidatorsResponse {
    /// The set.
    pub validators: Validators,
}

int_type! { int
    /// Whose events are asked for.
    pub struct EventKind: u8 {
        /// Staking.
        STAKING = 1 => "staking",
        /// Registry.
        REGISTRY = 2 => "registry",
        /// Root hash.
        ROOTHASH = 3 => "roothash",
        /// Governance.
        GOVERNANCE = 4 => "governance",
    }
}

/// Asks for events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct FetchConsensusEventsRequest {
    /// The height.
    pub height: u64,
    /// Whose.
    pub kind: EventKind,
}

/// Events of a height.
#[derive(Clone, Debug, Default, PartialEq, Codec)]
#[codec(cbor_only)]
pub struct FetchConsensusEventsResponse {
    /// The events.
    #[codec(omitempty)]
    pub events: Vec<ConsensusEvent>,
}

/// An event of the consensus layer: one of the fields is set. Source: `go/consensus/api/transaction/results`.
#[derive(Clone, Debug, Default, PartialEq, Codec)]
#[codec(cbor_only)]
pub struct ConsensusEvent {
    /// Of the staking service.
    #[codec(omitempty)]
    pub staking: Option<Box<staking::Event>>,
    /// Of the registry.
    #[codec(omitempty)]
    pub registry: Option<Box<registry::Event>>,
    /// Of the root hash service.
    #[codec(omitempty)]
    pub roothash: Option<Box<roothash::Event>>,
    /// Of the governance service.
    #[codec(omitempty)]
    pub governance: Option<Box<governance::Event>>,
}

/// Asks for more transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct FetchTxBatchRequest {
    /// The last transaction seen; the reference's host ignores it.
    #[codec(omitempty)]
    pub offset: Option<Hash>,
    /// Most transactions wanted.
    pub limit: u32,
}

/// More transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct FetchTxBatchResponse {
    /// The transactions.
    #[codec(omitempty)]
    pub batch: Option<Vec<Bytes>>,
}

/// Where a transaction is in a block. CBOR: `{height, raw_proof}`. Source: `go/consensus/api/transaction`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct TransactionProof {
    /// The block's height.
    pub height: i64,
    /// CBOR of a CometBFT Merkle proof: `{total, index, leaf_hash, aunts?}`.
    pub raw_proof: Option<Bytes>,
}

/// A transaction and the proof that it is in a block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct ProvenTransaction {
    /// The transaction.
    pub signed_tx: Option<SignedTransaction>,
    /// The proof.
    pub proof: Option<TransactionProof>,
}

/// Asks for a transaction with a blob.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct ProveFreshnessRequest {
    /// The blob.
    pub blob: [u8; 32],
}

/// Who the node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct IdentityResponse {
    /// The node.
    pub node_id: PublicKey,
}

/// A transaction for a runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct SubmitTxRequest {
    /// The runtime.
    pub runtime_id: Namespace,
    /// The transaction.
    pub data: Option<Bytes>,
    /// Whether to wait for its block; Rust always sends it, Go leaves false out.
    #[codec(omitempty)]
    pub wait: Option<bool>,
    /// Whether a proof is wanted; Rust always sends it, Go leaves false out.
    #[codec(omitempty)]
    pub prove: Option<bool>,
}

/// What became of a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct SubmitTxResponse {
    /// Its output.
    #[codec(omitempty)]
    pub output: Bytes,
    /// Its round.
    #[codec(omitempty)]
    pub round: u64,
    /// Its position in the batch.
    #[codec(omitempty)]
    pub batch_order: u32,
    /// A proof of its inclusion; never sent today.
    #[codec(omitempty)]
    pub proof: Option<Proof>,
}

/// Asks for notifications.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct RegisterNotifyRequest {
    /// About runtime blocks.
    #[codec(omitempty)]
    pub runtime_block: bool,
    /// About events.
    #[codec(omitempty)]
    pub runtime_event: Option<RegisterNotifyEvent>,
}

/// Asks for notifications about events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct RegisterNotifyEvent {
    /// Keys of their tags.
    #[codec(omitempty)]
    pub tags: Option<Vec<Bytes>>,
}
