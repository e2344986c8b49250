//! Numbers about an executor. Source: `go/worker/common/committee/metrics.go`, `go/worker/compute/executor/committee/metrics.go`,
//! `go/runtime/txpool/metrics.go`.

use base_metrics::table;
use base_prims::Namespace;
use rt_executor::round::Machine;
use rt_executor::txpool::Sizes;
use wire_consensus::roothash::HeaderType;
use wire_consensus::scheduler::Role;

use crate::position::Position;

/// The metrics of one runtime.
pub(crate) struct Metrics {
    label: String,
}

impl Metrics {
    pub(crate) fn new(runtime: &Namespace) -> Self {
        Self { label: runtime.to_string() }
    }

    fn labels(&self) -> [&str; 1] {
        [&self.label]
    }

    /// The pool has changed.
    pub(crate) fn pool(&self, sizes: &Sizes) {
        let labels = &self.labels();
        table::TXPOOL_PENDING_CHECK_SIZE.with(labels).set_count(sizes.checking);
        table::TXPOOL_PENDING_SCHEDULE_SIZE.with(labels).set_count(sizes.main);
        table::TXPOOL_RIM_QUEUE_SIZE.with(labels).set_count(sizes.incoming);
        table::TXPOOL_ACCEPTED_TRANSACTIONS.with(labels).raise_to(sizes.accepted as f64);
        table::TXPOOL_REJECTED_TRANSACTIONS.with(labels).raise_to(sizes.rejected as f64);
    }

    /// A runtime block came.
    pub(crate) fn block(&self, position: &Position) {
        let labels = &self.labels();
        table::WORKER_PROCESSED_BLOCK_COUNT.with(labels).inc();
        if position.chain.block.header.header_type == HeaderType::ROUND_FAILED {
            table::WORKER_FAILED_ROUND_COUNT.with(labels).inc();
        }
    }

    /// The committee changed.
    pub(crate) fn committee(&self, epoch: u64) {
        table::WORKER_COMMITTEE_TRANSITION_COUNT.with(&self.labels()).inc();
        table::WORKER_EPOCH_NUMBER.with(&self.labels()).set(epoch as f64);
    }

    /// A round began for the machine.
    pub(crate) fn round(&self, machine: &Machine, position: &Position, peers: usize) {
        let labels = &self.labels();
        let roles = machine.roles();
        table::WORKER_EXECUTOR_COMMITTEE_P2P_PEERS.with(labels).set_count(peers);
        table::WORKER_EXECUTOR_IS_WORKER.with(labels).set_flag(roles.contains(&Role::WORKER));
        table::WORKER_EXECUTOR_IS_BACKUP_WORKER.with(labels).set_flag(roles.contains(&Role::BACKUP_WORKER));
        let ratio = table::WORKER_EXECUTOR_LIVENESS_LIVE_RATIO.with(labels);
        if roles.is_empty() {
            ratio.set(1.0);
            return;
        }
        if let Some(liveness) = &position.liveness {
            let (total, live) = (liveness.total_rounds as f64, liveness.live_rounds as f64);
            table::WORKER_EXECUTOR_LIVENESS_TOTAL_ROUNDS.with(labels).set(total);
            table::WORKER_EXECUTOR_LIVENESS_LIVE_ROUNDS.with(labels).set(live);
            // No round yet is no round missed.
            ratio.set(if liveness.total_rounds == 0 { 1.0 } else { live / total });
        }
    }

    /// Events of the runtime came.
    pub(crate) fn events(&self, count: usize) {
        table::WORKER_PROCESSED_EVENT_COUNT.with(&self.labels()).add(count as f64);
    }

    /// A discrepancy came to light.
    pub(crate) fn discrepancy(&self) {
        table::WORKER_EXECUTION_DISCREPANCY_DETECTED_COUNT.with(&self.labels()).inc();
    }

    /// A batch was given up.
    pub(crate) fn aborted(&self) {
        table::WORKER_ABORTED_BATCH_COUNT.with(&self.labels()).inc();
    }

    /// The runtime is asked to execute a batch.
    pub(crate) fn batch(&self, size: usize) {
        table::WORKER_BATCH_SIZE.with(&self.labels()).observe(size as f64);
    }

    /// The runtime took so long for a batch.
    pub(crate) fn executed(&self, time: std::time::Duration) {
        table::WORKER_BATCH_RUNTIME_PROCESSING_TIME.with(&self.labels()).observe_time(time);
    }

    /// Results were stored.
    pub(crate) fn stored(&self, time: std::time::Duration) {
        table::WORKER_STORAGE_COMMIT_LATENCY.with(&self.labels()).observe_time(time);
    }

    /// What this node committed to is final, so long after it began to execute it.
    pub(crate) fn finalized(&self, time: std::time::Duration) {
        table::WORKER_BATCH_PROCESSING_TIME.with(&self.labels()).observe_time(time);
    }
}
