//! Every metric, with its handle.
//!
//! The first table holds all names of the reference (`docs/oasis-node/metrics.md`); `later` marks those that nothing sets yet,
//! which therefore are not exposed. The second table holds metrics of the consensus engine under the names of the
//! reference's library, the third those that Prometheus clients give for a process.

use crate::family::{Counter, Family, Gauge, Histogram, Metric, Summary};
use crate::text::Page;

/// What the table says of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Name of its handle in this module.
    pub handle: &'static str,
    /// Name in the text format.
    pub name: &'static str,
    /// `counter`, `gauge`, `summary` or `histogram`.
    pub kind: &'static str,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// Whether something sets it.
    pub fed: bool,
}

macro_rules! is_fed {
    (fed) => {
        true
    };
    (later) => {
        false
    };
}

macro_rules! table {
    ($(#[$meta:meta])* $rows:ident, $expose:ident:
     $($fed:ident $handle:ident: $kind:ident = $name:literal, [$($label:literal),*], $help:literal;)*) => {
        $(#[doc = $help] pub static $handle: Family<$kind> = Family::new($name, &[$($label),*], $help);)*

        $(#[$meta])*
        pub const $rows: &[Row] = &[$(Row {
            handle: stringify!($handle),
            name: $name,
            kind: <$kind as Metric>::KIND,
            labels: &[$($label),*],
            fed: is_fed!($fed),
        },)*];

        pub(crate) fn $expose(page: &mut Page) {
            $(page.add(&$handle, is_fed!($fed));)*
        }
    };
}

table! {
    /// Metrics of the reference.
    OASIS, expose_oasis:
    fed ABCI_DB_SIZE: Gauge = "oasis_abci_db_size", [], "Size of the consensus state on disk (MiB).";
    later CODEC_SIZE: Summary = "oasis_codec_size", ["call", "module"], "Size of encoded CBOR messages (bytes).";
    fed CONSENSUS_PROPOSED_BLOCKS: Counter = "oasis_consensus_proposed_blocks", ["backend"], "Committed blocks that this node proposed.";
    fed CONSENSUS_SIGNED_BLOCKS: Counter = "oasis_consensus_signed_blocks", ["backend"], "Committed blocks that carry a vote of this node.";
    later FINALIZED_ROUNDS: Counter = "oasis_finalized_rounds", [], "Rounds of runtimes that were finalized.";
    fed GRPC_CLIENT_CALLS: Counter = "oasis_grpc_client_calls", ["call"], "Calls made.";
    fed GRPC_CLIENT_LATENCY: Summary = "oasis_grpc_client_latency", ["call"], "Time a call made took (seconds).";
    fed GRPC_CLIENT_STREAM_WRITES: Counter = "oasis_grpc_client_stream_writes", ["call"], "Messages sent on streams by this client.";
    fed GRPC_SERVER_CALLS: Counter = "oasis_grpc_server_calls", ["call"], "Calls answered.";
    fed GRPC_SERVER_LATENCY: Summary = "oasis_grpc_server_latency", ["call"], "Time a call answered took (seconds).";
    fed GRPC_SERVER_STREAM_WRITES: Counter = "oasis_grpc_server_stream_writes", ["call"], "Messages sent on streams by this server.";
    fed NODE_CPU_STIME_SECONDS: Gauge = "oasis_node_cpu_stime_seconds", [], "Processor time in the kernel (seconds).";
    fed NODE_CPU_UTIME_SECONDS: Gauge = "oasis_node_cpu_utime_seconds", [], "Processor time in the program (seconds).";
    fed NODE_DISK_READ_BYTES: Gauge = "oasis_node_disk_read_bytes", [], "Bytes read from storage devices.";
    fed NODE_DISK_USAGE_BYTES: Gauge = "oasis_node_disk_usage_bytes", [], "Bytes in files of the data directory.";
    fed NODE_DISK_WRITTEN_BYTES: Gauge = "oasis_node_disk_written_bytes", [], "Bytes written to storage devices.";
    fed NODE_MEM_RSS_ANON_BYTES: Gauge = "oasis_node_mem_rss_anon_bytes", [], "Resident anonymous memory (bytes).";
    fed NODE_MEM_RSS_FILE_BYTES: Gauge = "oasis_node_mem_rss_file_bytes", [], "Resident memory that maps files (bytes).";
    fed NODE_MEM_RSS_SHMEM_BYTES: Gauge = "oasis_node_mem_rss_shmem_bytes", [], "Resident shared memory (bytes).";
    fed NODE_MEM_VM_SIZE_BYTES: Gauge = "oasis_node_mem_vm_size_bytes", [], "Virtual memory (bytes).";
    fed NODE_NET_RECEIVE_BYTES_TOTAL: Gauge = "oasis_node_net_receive_bytes_total", ["device"], "Bytes received by a network device.";
    fed NODE_NET_RECEIVE_PACKETS_TOTAL: Gauge = "oasis_node_net_receive_packets_total", ["device"], "Packets received by a network device.";
    fed NODE_NET_TRANSMIT_BYTES_TOTAL: Gauge = "oasis_node_net_transmit_bytes_total", ["device"], "Bytes sent by a network device.";
    fed NODE_NET_TRANSMIT_PACKETS_TOTAL: Gauge = "oasis_node_net_transmit_packets_total", ["device"], "Packets sent by a network device.";
    later P2P_BLOCKED_PEERS: Gauge = "oasis_p2p_blocked_peers", [], "Peers that are blocked now.";
    fed P2P_CONNECTIONS: Gauge = "oasis_p2p_connections", [], "Open connections to peers.";
    fed P2P_PEERS: Gauge = "oasis_p2p_peers", [], "Connected peers.";
    fed P2P_PROTOCOLS: Gauge = "oasis_p2p_protocols", [], "Protocols served.";
    fed P2P_TOPICS: Gauge = "oasis_p2p_topics", [], "Topics subscribed to.";
    fed REGISTRY_ENTITIES: Gauge = "oasis_registry_entities", [], "Registered entities.";
    fed REGISTRY_NODES: Gauge = "oasis_registry_nodes", [], "Registered nodes.";
    fed REGISTRY_RUNTIMES: Gauge = "oasis_registry_runtimes", [], "Registered runtimes, suspended ones apart.";
    later RHP_FAILURES: Counter = "oasis_rhp_failures", ["call"], "Calls between node and runtime that failed.";
    later RHP_LATENCY: Summary = "oasis_rhp_latency", ["call"], "Time a call between node and runtime took (seconds).";
    later RHP_SUCCESSES: Counter = "oasis_rhp_successes", ["call"], "Calls between node and runtime that succeeded.";
    later RHP_TIMEOUTS: Counter = "oasis_rhp_timeouts", [], "Calls between node and runtime that were given up.";
    fed ROOTHASH_BLOCK_INTERVAL: Summary = "oasis_roothash_block_interval", ["runtime"], "Time between blocks of a runtime (seconds).";
    later STORAGE_FAILURES: Counter = "oasis_storage_failures", ["call"], "Calls to storage that failed.";
    later STORAGE_LATENCY: Summary = "oasis_storage_latency", ["call"], "Time a call to storage took (seconds).";
    later STORAGE_SUCCESSES: Counter = "oasis_storage_successes", ["call"], "Calls to storage that succeeded.";
    later STORAGE_VALUE_SIZE: Summary = "oasis_storage_value_size", ["call"], "Size of values read from storage (bytes).";
    later TEE_ATTESTATIONS_FAILED: Counter = "oasis_tee_attestations_failed", ["runtime", "kind"], "Attestations that failed.";
    later TEE_ATTESTATIONS_PERFORMED: Counter = "oasis_tee_attestations_performed", ["runtime", "kind"], "Attestations attempted.";
    later TEE_ATTESTATIONS_SUCCESSFUL: Counter = "oasis_tee_attestations_successful", ["runtime", "kind"], "Attestations that succeeded.";
    fed TXPOOL_ACCEPTED_TRANSACTIONS: Counter = "oasis_txpool_accepted_transactions", ["runtime"], "Transactions that passed their check.";
    fed TXPOOL_PENDING_CHECK_SIZE: Gauge = "oasis_txpool_pending_check_size", ["runtime"], "Transactions that wait for their check.";
    fed TXPOOL_PENDING_SCHEDULE_SIZE: Gauge = "oasis_txpool_pending_schedule_size", ["runtime"], "Transactions that wait to be scheduled.";
    fed TXPOOL_REJECTED_TRANSACTIONS: Counter = "oasis_txpool_rejected_transactions", ["runtime"], "Transactions that failed their check.";
    fed TXPOOL_RIM_QUEUE_SIZE: Gauge = "oasis_txpool_rim_queue_size", ["runtime"], "Incoming messages that wait to be scheduled.";
    later UP: Gauge = "oasis_up", [], "Whether a scenario of the test runner is active.";
    fed WORKER_ABORTED_BATCH_COUNT: Counter = "oasis_worker_aborted_batch_count", ["runtime"], "Batches that were aborted.";
    fed WORKER_BATCH_PROCESSING_TIME: Summary = "oasis_worker_batch_processing_time", ["runtime"], "Time from a batch to its finalization (seconds).";
    fed WORKER_BATCH_RUNTIME_PROCESSING_TIME: Summary = "oasis_worker_batch_runtime_processing_time", ["runtime"], "Time the runtime took for a batch (seconds).";
    fed WORKER_BATCH_SIZE: Summary = "oasis_worker_batch_size", ["runtime"], "Transactions in a batch.";
    later WORKER_CLIENT_LB_HEALTHY_INSTANCE_COUNT: Gauge = "oasis_worker_client_lb_healthy_instance_count", ["runtime"], "Healthy instances behind the load balancer.";
    later WORKER_CLIENT_LB_REQUESTS: Counter = "oasis_worker_client_lb_requests", ["runtime", "lb_instance"], "Requests that an instance behind the load balancer took.";
    fed WORKER_COMMITTEE_TRANSITION_COUNT: Counter = "oasis_worker_committee_transition_count", ["runtime"], "Changes of the committee.";
    fed WORKER_EPOCH_NUMBER: Gauge = "oasis_worker_epoch_number", ["runtime"], "Epoch that the worker is in.";
    fed WORKER_EXECUTION_DISCREPANCY_DETECTED_COUNT: Counter = "oasis_worker_execution_discrepancy_detected_count", ["runtime"], "Disagreements within the committee.";
    fed WORKER_EXECUTOR_COMMITTEE_P2P_PEERS: Gauge = "oasis_worker_executor_committee_p2p_peers", ["runtime"], "Connected peers of the committee.";
    fed WORKER_EXECUTOR_IS_BACKUP_WORKER: Gauge = "oasis_worker_executor_is_backup_worker", ["runtime"], "1 for a backup worker, else 0.";
    fed WORKER_EXECUTOR_IS_WORKER: Gauge = "oasis_worker_executor_is_worker", ["runtime"], "1 for a worker of the committee, else 0.";
    fed WORKER_EXECUTOR_LIVENESS_LIVE_RATIO: Gauge = "oasis_worker_executor_liveness_live_ratio", ["runtime"], "Share of rounds the node took part in; 1 outside the committee.";
    fed WORKER_EXECUTOR_LIVENESS_LIVE_ROUNDS: Gauge = "oasis_worker_executor_liveness_live_rounds", ["runtime"], "Rounds of the epoch the node took part in.";
    fed WORKER_EXECUTOR_LIVENESS_TOTAL_ROUNDS: Gauge = "oasis_worker_executor_liveness_total_rounds", ["runtime"], "Rounds of the epoch.";
    fed WORKER_FAILED_ROUND_COUNT: Counter = "oasis_worker_failed_round_count", ["runtime"], "Rounds that failed.";
    fed WORKER_KEYMANAGER_CHURP_COMMITTEE_SIZE: Gauge = "oasis_worker_keymanager_churp_committee_size", ["runtime", "churp"], "Nodes in the committee.";
    fed WORKER_KEYMANAGER_CHURP_CONFIRMED_APPLICATIONS_TOTAL: Gauge = "oasis_worker_keymanager_churp_confirmed_applications_total", ["runtime", "churp"], "Confirmed applications.";
    fed WORKER_KEYMANAGER_CHURP_ENCLAVE_RPC_FAILURES_TOTAL: Counter = "oasis_worker_keymanager_churp_enclave_rpc_failures_total", ["runtime", "churp", "method"], "Calls to the enclave that failed.";
    fed WORKER_KEYMANAGER_CHURP_ENCLAVE_RPC_LATENCY_SECONDS: Summary = "oasis_worker_keymanager_churp_enclave_rpc_latency_seconds", ["runtime", "churp", "method"], "Time a call to the enclave took.";
    fed WORKER_KEYMANAGER_CHURP_EXTRA_SHARES_NUMBER: Gauge = "oasis_worker_keymanager_churp_extra_shares_number", ["runtime", "churp"], "Shares needed beyond the minimum.";
    fed WORKER_KEYMANAGER_CHURP_HANDOFF_INTERVAL: Gauge = "oasis_worker_keymanager_churp_handoff_interval", ["runtime", "churp"], "Epochs between handoffs.";
    fed WORKER_KEYMANAGER_CHURP_HANDOFF_NUMBER: Counter = "oasis_worker_keymanager_churp_handoff_number", ["runtime", "churp"], "Epoch of the last handoff.";
    fed WORKER_KEYMANAGER_CHURP_NEXT_HANDOFF_NUMBER: Counter = "oasis_worker_keymanager_churp_next_handoff_number", ["runtime", "churp"], "Epoch of the next handoff.";
    fed WORKER_KEYMANAGER_CHURP_SUBMITTED_APPLICATIONS_TOTAL: Gauge = "oasis_worker_keymanager_churp_submitted_applications_total", ["runtime", "churp"], "Submitted applications.";
    fed WORKER_KEYMANAGER_CHURP_THRESHOLD_NUMBER: Counter = "oasis_worker_keymanager_churp_threshold_number", ["runtime", "churp"], "Degree of the polynomial.";
    fed WORKER_KEYMANAGER_COMPUTE_RUNTIME_COUNT: Counter = "oasis_worker_keymanager_compute_runtime_count", ["runtime"], "Runtimes that use the key manager.";
    fed WORKER_KEYMANAGER_CONSENSUS_EPHEMERAL_SECRET_EPOCH_NUMBER: Gauge = "oasis_worker_keymanager_consensus_ephemeral_secret_epoch_number", ["runtime"], "Epoch of the newest ephemeral secret.";
    fed WORKER_KEYMANAGER_CONSENSUS_MASTER_SECRET_GENERATION_NUMBER: Gauge = "oasis_worker_keymanager_consensus_master_secret_generation_number", ["runtime"], "Generation of the newest master secret.";
    fed WORKER_KEYMANAGER_CONSENSUS_MASTER_SECRET_PROPOSAL_EPOCH_NUMBER: Gauge = "oasis_worker_keymanager_consensus_master_secret_proposal_epoch_number", ["runtime"], "Epoch of the newest proposal of a master secret.";
    fed WORKER_KEYMANAGER_CONSENSUS_MASTER_SECRET_PROPOSAL_GENERATION_NUMBER: Gauge = "oasis_worker_keymanager_consensus_master_secret_proposal_generation_number", ["runtime"], "Generation of the newest proposal of a master secret.";
    fed WORKER_KEYMANAGER_CONSENSUS_MASTER_SECRET_ROTATION_EPOCH_NUMBER: Gauge = "oasis_worker_keymanager_consensus_master_secret_rotation_epoch_number", ["runtime"], "Epoch of the newest rotation of the master secret.";
    fed WORKER_KEYMANAGER_ENCLAVE_EPHEMERAL_SECRET_EPOCH_NUMBER: Gauge = "oasis_worker_keymanager_enclave_ephemeral_secret_epoch_number", ["runtime"], "Epoch of the newest ephemeral secret in the enclave.";
    fed WORKER_KEYMANAGER_ENCLAVE_GENERATED_EPHEMERAL_SECRET_EPOCH_NUMBER: Gauge = "oasis_worker_keymanager_enclave_generated_ephemeral_secret_epoch_number", ["runtime"], "Epoch of the newest ephemeral secret that the enclave made.";
    fed WORKER_KEYMANAGER_ENCLAVE_GENERATED_MASTER_SECRET_EPOCH_NUMBER: Gauge = "oasis_worker_keymanager_enclave_generated_master_secret_epoch_number", ["runtime"], "Epoch of the newest master secret that the enclave made.";
    fed WORKER_KEYMANAGER_ENCLAVE_GENERATED_MASTER_SECRET_GENERATION_NUMBER: Gauge = "oasis_worker_keymanager_enclave_generated_master_secret_generation_number", ["runtime"], "Generation of the newest master secret that the enclave made.";
    fed WORKER_KEYMANAGER_ENCLAVE_MASTER_SECRET_GENERATION_NUMBER: Gauge = "oasis_worker_keymanager_enclave_master_secret_generation_number", ["runtime"], "Generation of the newest master secret in the enclave.";
    fed WORKER_KEYMANAGER_ENCLAVE_MASTER_SECRET_PROPOSAL_EPOCH_NUMBER: Gauge = "oasis_worker_keymanager_enclave_master_secret_proposal_epoch_number", ["runtime"], "Epoch of the newest proposal in the enclave.";
    fed WORKER_KEYMANAGER_ENCLAVE_MASTER_SECRET_PROPOSAL_GENERATION_NUMBER: Gauge = "oasis_worker_keymanager_enclave_master_secret_proposal_generation_number", ["runtime"], "Generation of the newest proposal in the enclave.";
    fed WORKER_KEYMANAGER_ENCLAVE_RPC_COUNT: Counter = "oasis_worker_keymanager_enclave_rpc_count", ["method"], "Calls to the enclave from peers.";
    fed WORKER_KEYMANAGER_POLICY_UPDATE_COUNT: Counter = "oasis_worker_keymanager_policy_update_count", ["runtime"], "Changes of the policy.";
    fed WORKER_NODE_REGISTERED: Gauge = "oasis_worker_node_registered", [], "Whether the node is registered.";
    fed WORKER_NODE_REGISTRATION_ELIGIBLE: Gauge = "oasis_worker_node_registration_eligible", [], "Whether the node may register.";
    fed WORKER_NODE_STATUS_FROZEN: Gauge = "oasis_worker_node_status_frozen", [], "Whether the node is frozen.";
    fed WORKER_NODE_STATUS_RUNTIME_FAULTS: Gauge = "oasis_worker_node_status_runtime_faults", ["runtime"], "Faults of the node in a runtime.";
    fed WORKER_NODE_STATUS_RUNTIME_SUSPENDED: Gauge = "oasis_worker_node_status_runtime_suspended", ["runtime"], "Whether the node is suspended in a runtime.";
    fed WORKER_PROCESSED_BLOCK_COUNT: Counter = "oasis_worker_processed_block_count", ["runtime"], "Blocks of a runtime that were processed.";
    fed WORKER_PROCESSED_EVENT_COUNT: Counter = "oasis_worker_processed_event_count", ["runtime"], "Events of a runtime that were processed.";
    fed WORKER_STORAGE_COMMIT_LATENCY: Summary = "oasis_worker_storage_commit_latency", ["runtime"], "Time a commit of state and outputs took (seconds).";
    fed WORKER_STORAGE_FULL_ROUND: Gauge = "oasis_worker_storage_full_round", ["runtime"], "Last round that is stored whole.";
    fed WORKER_STORAGE_PENDING_ROUND: Gauge = "oasis_worker_storage_pending_round", ["runtime"], "Last round that is being fetched.";
    fed WORKER_STORAGE_PRUNE_LATENCY: Summary = "oasis_worker_storage_prune_latency", ["runtime"], "Time to prune a round (seconds).";
    fed WORKER_STORAGE_ROUND_SYNC_LATENCY: Summary = "oasis_worker_storage_round_sync_latency", ["runtime"], "Time to fetch a round (seconds).";
    fed WORKER_STORAGE_SYNCED_ROUND: Gauge = "oasis_worker_storage_synced_round", ["runtime"], "Last round that was fetched.";
}

table! {
    /// Metrics of the consensus engine that are kept here, under the names of the reference's library.
    COMETBFT, expose_cometbft:
    fed COMET_HEIGHT: Gauge = "cometbft_consensus_height", ["chain_id"], "Height of the chain.";
    fed COMET_LATEST_BLOCK_HEIGHT: Gauge = "cometbft_consensus_latest_block_height", ["chain_id"], "Height of the newest block.";
    fed COMET_ROUNDS: Gauge = "cometbft_consensus_rounds", ["chain_id"], "Round of consensus at this height.";
    fed COMET_VALIDATORS: Gauge = "cometbft_consensus_validators", ["chain_id"], "Validators.";
    fed COMET_VALIDATORS_POWER: Gauge = "cometbft_consensus_validators_power", ["chain_id"], "Voting power of all validators.";
    fed COMET_MISSING_VALIDATORS: Gauge = "cometbft_consensus_missing_validators", ["chain_id"], "Validators without a vote in the last commit.";
    fed COMET_BYZANTINE_VALIDATORS: Gauge = "cometbft_consensus_byzantine_validators", ["chain_id"], "Validators that the last block accuses.";
    fed COMET_BLOCK_INTERVAL: Histogram = "cometbft_consensus_block_interval_seconds", ["chain_id"], "Time between blocks.";
    fed COMET_NUM_TXS: Gauge = "cometbft_consensus_num_txs", ["chain_id"], "Transactions of the last block.";
    fed COMET_TOTAL_TXS: Counter = "cometbft_consensus_total_txs", ["chain_id"], "Transactions since the start of this program.";
    fed COMET_BLOCK_SYNCING: Gauge = "cometbft_blocksync_syncing", ["chain_id"], "1 while blocks are fetched from peers, else 0.";
    fed COMET_STATE_SYNCING: Gauge = "cometbft_statesync_syncing", ["chain_id"], "1 while a snapshot is restored, else 0.";
    fed COMET_P2P_PEERS: Gauge = "cometbft_p2p_peers", ["chain_id"], "Peers of the consensus layer.";
    fed COMET_MEMPOOL_SIZE: Gauge = "cometbft_mempool_size", ["chain_id"], "Transactions in the pool.";
    fed COMET_MEMPOOL_SIZE_BYTES: Gauge = "cometbft_mempool_size_bytes", ["chain_id"], "Bytes of transactions in the pool.";
}

table! {
    /// Metrics of the process, as Prometheus clients name them.
    PROCESS, expose_process:
    fed PROCESS_CPU_SECONDS: Counter = "process_cpu_seconds_total", [], "Processor time (seconds).";
    fed PROCESS_OPEN_FDS: Gauge = "process_open_fds", [], "Open files.";
    fed PROCESS_MAX_FDS: Gauge = "process_max_fds", [], "Most files that may be open.";
    fed PROCESS_RESIDENT_MEMORY: Gauge = "process_resident_memory_bytes", [], "Resident memory (bytes).";
    fed PROCESS_VIRTUAL_MEMORY: Gauge = "process_virtual_memory_bytes", [], "Virtual memory (bytes).";
    fed PROCESS_START_TIME: Gauge = "process_start_time_seconds", [], "Start of the process (seconds since 1970).";
    fed PROCESS_THREADS: Gauge = "process_threads", [], "Threads.";
}

/// All rows of all tables.
pub fn all() -> impl Iterator<Item = &'static Row> {
    OASIS.iter().chain(COMETBFT).chain(PROCESS)
}
