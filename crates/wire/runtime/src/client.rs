//! Messages of the services through which clients use runtimes: `RuntimeClient` and `StorageWorker`.
//!
//! Source: `go/runtime/client/api`, `go/worker/storage/api`.

use base_codec::{Bytes, Codec};
use base_prims::Namespace;
use mkvs_tree::{LogEntry, Root};

use crate::{Error, bundle::ComponentId};

/// Stands for the newest round.
pub const ROUND_LATEST: u64 = u64::MAX;

/// A transaction to submit or to check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct TxRequest {
    /// The runtime.
    pub runtime_id: Namespace,
    /// The transaction.
    pub data: Bytes,
}

/// What came of a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct SubmitTxMetaResponse {
    /// Its output.
    #[codec(rename = "data", omitempty)]
    pub output: Option<Bytes>,
    /// The round that it was executed in.
    #[codec(omitempty)]
    pub round: u64,
    /// Its place in the round.
    #[codec(omitempty)]
    pub batch_order: u32,
    /// Why its check failed.
    #[codec(omitempty)]
    pub check_tx_error: Option<Error>,
}

/// Asks about a round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct RoundRequest {
    /// The runtime.
    pub runtime_id: Namespace,
    /// The round; [`ROUND_LATEST`] is the newest.
    pub round: u64,
}

/// A transaction of a round with what it gave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct TransactionWithResults {
    /// The transaction.
    pub tx: Option<Bytes>,
    /// Its output.
    pub result: Option<Bytes>,
    /// Events that it emitted.
    #[codec(omitempty)]
    pub events: Option<Vec<PlainEvent>>,
}

/// An event without the transaction that emitted it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct PlainEvent {
    /// Its key.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
}

/// A question to a runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct QueryRequest {
    /// The runtime.
    pub runtime_id: Namespace,
    /// The component; the on-chain one if absent.
    #[codec(omitempty)]
    pub component: Option<ComponentName>,
    /// The round after which the state is asked about.
    pub round: u64,
    /// The method.
    pub method: String,
    /// Its arguments, CBOR.
    pub args: Bytes,
}

/// A component on the wire: `{kind, name?}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct ComponentName {
    /// `ronl` or `rofl`.
    pub kind: String,
    /// Its name.
    #[codec(omitempty)]
    pub name: String,
}

impl ComponentName {
    /// The component, if the kind is known.
    pub fn id(&self) -> Option<ComponentId> {
        let text = if self.name.is_empty() { self.kind.clone() } else { format!("{}.{}", self.kind, self.name) };
        text.parse().ok()
    }
}

/// Answer to a question.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct QueryResponse {
    /// CBOR.
    pub data: Bytes,
}

/// Asks for the last synced round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct LastSyncedRequest {
    /// The runtime.
    pub runtime_id: Namespace,
}

/// The last round whose state is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct LastSynced {
    /// The round.
    pub round: u64,
    /// Root of its inputs and outputs.
    pub io_root: Root,
    /// Root of its state.
    pub state_root: Root,
}

/// Pauses the making of checkpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct PauseRequest {
    /// The runtime.
    pub runtime_id: Namespace,
    /// Whether to pause.
    pub pause: bool,
}

/// Asks for the checkpoints of a runtime's state. Source: `go/storage/mkvs/checkpoint`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct GetCheckpointsRequest {
    /// Their form.
    pub version: u16,
    /// The runtime.
    pub namespace: Namespace,
    /// Only those of that round.
    #[codec(omitempty)]
    pub root_version: Option<u64>,
}

/// Which part of a write log. Source: `go/storage/api`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct SyncOptions {
    /// The part begins after this key; empty: at the beginning.
    pub offset_key: Bytes,
    /// Most entries; 0: all.
    pub limit: u64,
}

/// Asks for what leads from one root to another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct GetDiffRequest {
    /// Where to begin.
    pub start_root: Root,
    /// Where to end.
    pub end_root: Root,
    /// Which part of the log.
    pub options: SyncOptions,
}

/// A part of a write log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct SyncChunk {
    /// Whether it is the last.
    #[codec(rename = "final")]
    pub last: bool,
    /// Its entries.
    #[codec(rename = "writelog")]
    pub write_log: Option<Vec<LogEntry>>,
}
