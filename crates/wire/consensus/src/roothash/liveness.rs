//! Per-epoch statistics of how committee members took part.
//!
//! Source: `go/roothash/api/liveness.go`.

use base_codec::Codec;

/// Counters of one epoch; lists are in committee order, workers and backup workers alike.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct LivenessStatistics {
    /// Rounds that the runtime processed.
    pub total_rounds: u64,
    /// Rounds in which the member voted for what was finalized.
    #[codec(rename = "good_rounds")]
    pub live_rounds: Vec<u64>,
    /// Rounds finalized with the member's proposal while it was first in line.
    pub finalized_proposals: Vec<u64>,
    /// Rounds failed, or finalized with another's proposal, while the member was first in line.
    pub missed_proposals: Vec<u64>,
}

impl LivenessStatistics {
    /// Zeros for a committee of `members`.
    pub fn new(members: usize) -> Self {
        Self {
            total_rounds: 0,
            live_rounds: vec![0; members],
            finalized_proposals: vec![0; members],
            missed_proposals: vec![0; members],
        }
    }
}
