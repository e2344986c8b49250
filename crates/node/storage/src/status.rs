//! How a runtime's storage stands. Source: `go/worker/storage/api`, `go/runtime/history/indexer.go`.

use base_codec::Codec;
use rt_history::IndexerStatus;

/// Stands for "no round" in [`StorageStatus::last_finalized_round`].
pub const UNDEFINED_ROUND: u64 = u64::MAX;

/// What the storage does. CBOR and JSON `{status, last_finalized_round}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct StorageStatus {
    /// One of the texts of [`rt_storage::Status`].
    pub status: String,
    /// The last final round, or [`UNDEFINED_ROUND`].
    pub last_finalized_round: u64,
}

/// How the storage of a runtime stands.
#[derive(Clone, Debug, PartialEq)]
pub struct StoreStatus {
    /// The state, if it is kept here.
    pub storage: Option<StorageStatus>,
    /// The history.
    pub indexer: IndexerStatus,
    /// Why it ended, if it failed.
    pub error: Option<String>,
}
