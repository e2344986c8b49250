//! How an executor is, as `control.GetStatus` shows it. Source: `go/worker/common/api`, `go/worker/compute/executor/api`.

use base_codec::{ByteList, Codec, int_type};
use base_prims::Version;
use wire_consensus::scheduler::Role;

int_type! { text
    /// What the worker of a runtime waits for.
    pub struct CommitteeState: u8 {
        READY = 0 => "ready",
        WAITING_CONSENSUS_SYNC = 1 => "waiting for consensus sync",
        WAITING_RUNTIME_REGISTRY = 2 => "waiting for runtime registry descriptor",
        WAITING_KEY_MANAGER = 3 => "waiting for available keymanager",
        WAITING_HOSTED_RUNTIME = 4 => "waiting for hosted runtime provision",
        WAITING_HISTORY_REINDEX = 5 => "waiting for history reindex",
        WAITING_WORKERS_INIT = 6 => "waiting for workers to initialize",
        RUNTIME_SUSPENDED = 7 => "runtime suspended",
    }
}

int_type! { text
    /// What the committee's work waits for.
    pub struct WorkerState: u8 {
        READY = 0 => "ready",
        WAITING_RUNTIME = 1 => "waiting for runtime readiness",
        WAITING_TRUST_SYNC = 2 => "waiting for trust sync",
    }
}

/// Liveness of the node in the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Codec)]
pub struct Liveness {
    /// Rounds that the runtime processed.
    pub total_rounds: u64,
    /// Those to which the node contributed.
    pub live_rounds: u64,
    /// Rounds finalized with the node's proposal while it was first in line.
    pub finalized_proposals: u64,
    /// Rounds failed while it was first in line.
    pub missed_proposals: u64,
}

/// Versions that are hosted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct HostVersions {
    /// All versions for which there is a bundle.
    pub versions: Option<Vec<Version>>,
}

/// Status of the runtime's worker; the field `committee` of a runtime's status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct CommitteeStatus {
    /// What it waits for.
    pub status: CommitteeState,
    /// The version that runs.
    pub active_version: Option<Version>,
    /// Newest round seen.
    pub latest_round: u64,
    /// Consensus height of that round's block.
    pub latest_height: i64,
    /// The node's roles in the committee.
    pub executor_roles: ByteList<Role>,
    /// Place of the node in the next round's order of schedulers; the highest number if it has none.
    pub scheduler_rank: u64,
    /// Liveness of a committee's member.
    #[codec(omitempty)]
    pub liveness: Option<Liveness>,
    /// Peers of the runtime.
    pub peers: Option<Vec<String>>,
    /// The hosted runtime; filled in by whoever hosts it.
    pub host: HostVersions,
}

/// Status of the committee's work; the field `executor` of a runtime's status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Codec)]
pub struct WorkerStatus {
    /// What it waits for.
    pub status: WorkerState,
}

/// Status of an executor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecutorStatus {
    /// The worker.
    pub committee: CommitteeStatus,
    /// The committee's work, on compute nodes.
    pub executor: Option<WorkerStatus>,
    /// Name of the state that the round's machine is in; empty on nodes without one.
    pub round_state: &'static str,
    /// What the pool holds.
    pub pool: rt_executor::txpool::Sizes,
}
