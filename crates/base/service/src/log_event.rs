//! Values of the field by which log lines tell test runners and operators' tools that something happened.
//!
//! A line is marked by a field of the name [`KEY`]: `tracing::info!(module = "roothash", log_event = log_event::TIMER_FIRED,
//! "round timeout expired")`. Reference: `go/common/logging/event.go` and the packages that each value names.

/// Name of the field.
pub const KEY: &str = "log_event";

macro_rules! values {
    ($($(#[$meta:meta])* $name:ident = $value:literal;)*) => {
        $($(#[$meta])* pub const $name: &str = $value;)*

        /// All values.
        pub const ALL: &[&str] = &[$($value),*];
    };
}

values! {
    /// Addresses of peers are not exchanged.
    PEER_EXCHANGE_DISABLED = "cometbft/peer_exchange_disabled";
    /// A snapshot of the state was restored.
    STATE_SYNC_COMPLETE = "cometbft/abci/state_sync_complete";
    /// A version of the state was removed.
    PRUNE = "cometbft/abci/prune";
    /// The committee of a runtime disagreed.
    EXECUTION_DISCREPANCY_DETECTED = "roothash/execution_discrepancy_detected";
    /// A round of a runtime timed out.
    TIMER_FIRED = "roothash/timer_fired";
    /// A round of a runtime failed.
    ROUND_FAILED = "roothash/round_failed";
    /// A message of a runtime could not be carried out.
    MESSAGE_UNSAT = "roothash/message_unsat";
    /// The history of a runtime is read again.
    HISTORY_REINDEXING = "roothash/history_reindexing";
    /// The backup workers of a committee disagreed too.
    DISCREPANCY_MAJORITY_FAILURE = "pool/discrepancy_majority_failure";
    /// A checkpoint of a runtime's state was restored.
    CHECKPOINT_SYNC_SUCCESS = "worker/storage/checkpoint-sync-success";
    /// A transfer that did not come from a transaction.
    GENERAL_ADJUSTMENT = "staking/general_adjustment";
    /// The program does not fit the pending upgrade.
    INCOMPATIBLE_BINARY = "upgrade/incompatible-binary";
    /// The part of an upgrade that runs at the start has run.
    STARTUP_UPGRADE = "upgrade/startup-upgrade";
    /// The part of an upgrade that runs within a block has run.
    CONSENSUS_UPGRADE = "upgrade/consensus-upgrade";
    /// A round of the beacon went as the byzantine scenario wanted.
    VRF_BEACON_ROUND_COMPLETED = "byzantine/vrf_beacon/round_completed";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_differ() {
        let mut all = ALL.to_vec();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 15);
        assert!(ALL.iter().all(|value| value.contains('/')));
    }
}
