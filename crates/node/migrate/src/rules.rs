//! What each key of the past is today.

/// How a key is mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The same value under another name.
    To(&'static str),
    /// A span of time; a bare number counted nanoseconds.
    Time(&'static str),
    /// A list, which also could be text with commas.
    List(&'static str),
    /// The opposite truth value.
    Not(&'static str),
    /// No effect any more.
    Gone(&'static str),
    /// An option of the command line only.
    CommandLine,
    /// Needs the operator.
    Operator(&'static str),
    /// Needs more than its own value.
    Special(Special),
}

/// Keys that need more than their own value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Special {
    Validator,
    ConsensusMode,
    RuntimeMode,
    ComputeEnabled,
    KeymanagerEnabled,
    StorageEnabled,
    LogLevel,
    Seeds,
    Peers(&'static str),
    PeerIds(&'static str),
    Supported,
    Paths,
    Signatures,
    Entity,
    Components,
    Mode,
}

use Rule::{CommandLine, Gone, List, Not, Operator, Special as S, Time, To};

const CERTIFICATES: &str = "certificates are issued anew at every start";
const GENERATE: &str = "key managers generate secrets as the policy says";
const CLIENT: &str = "nodes of the runtime layer are reached through p2p";

/// Keys of 21.x and 22.x, in lower case. A key that ends in `.*` stands for all below it.
pub(crate) const OLD: &[(&str, Rule)] = &[
    ("datadir", To("common.data_dir")),
    ("log.file", To("common.log.file")),
    ("log.format", To("common.log.format")),
    ("log.level", S(Special::LogLevel)),
    ("debug.rlimit", To("common.debug.rlimit")),
    ("debug.allow_root", To("common.debug.allow_root")),
    ("debug.grpc.internal.socket_path", To("common.internal_socket_path")),
    ("debug.*", CommandLine),
    ("grpc.*", CommandLine),
    ("signer.*", CommandLine),
    ("pprof.bind", To("pprof.bind_address")),
    ("metrics.interval", Time("metrics.interval")),
    ("tracing.*", Gone("tracing was removed")),
    ("ias.proxy.address", List("ias.proxy_addresses")),
    ("ias.debug.skip_verify", To("ias.debug_skip_verify")),
    ("consensus.backend", Gone("there is one consensus backend")),
    ("consensus.validator", S(Special::Validator)),
    ("consensus.tendermint.mode", S(Special::ConsensusMode)),
    ("consensus.tendermint.core.listen_address", To("consensus.listen_address")),
    ("consensus.tendermint.core.external_address", To("consensus.external_address")),
    ("consensus.tendermint.log.debug", To("consensus.log_debug")),
    ("consensus.tendermint.upgrade.stop_delay", Time("consensus.upgrade_stop_delay")),
    ("consensus.tendermint.supplementarysanity.enabled", To("consensus.supplementary_sanity.enabled")),
    ("consensus.tendermint.supplementarysanity.interval", To("consensus.supplementary_sanity.interval")),
    ("consensus.tendermint.abci.prune.strategy", To("consensus.prune.strategy")),
    ("consensus.tendermint.abci.prune.num_kept", To("consensus.prune.num_kept")),
    ("consensus.tendermint.abci.prune.interval", Time("consensus.prune.interval")),
    ("consensus.tendermint.checkpointer.disabled", To("consensus.checkpointer.disabled")),
    ("consensus.tendermint.checkpointer.check_interval", Time("consensus.checkpointer.check_interval")),
    ("consensus.tendermint.sentry.upstream_address", S(Special::Peers("consensus.sentry_upstream_addresses"))),
    (
        "consensus.tendermint.seed.debug.disable_addr_book_from_genesis",
        To("consensus.debug.disable_addr_book_from_genesis"),
    ),
    ("consensus.tendermint.debug.p2p_addr_book_lenient", To("consensus.debug.addr_book_lenient")),
    ("consensus.tendermint.debug.addr_book_lenient", To("consensus.debug.addr_book_lenient")),
    ("consensus.tendermint.debug.p2p_allow_duplicate_ip", To("consensus.p2p.allow_duplicate_ip")),
    ("consensus.tendermint.debug.allow_duplicate_ip", To("consensus.p2p.allow_duplicate_ip")),
    (
        "consensus.tendermint.debug.unsafe_replay_recover_corrupted_wal",
        To("consensus.debug.unsafe_replay_recover_corrupted_wal"),
    ),
    ("consensus.tendermint.state_sync.enabled", To("consensus.state_sync.enabled")),
    ("consensus.tendermint.state_sync.consensus_node", Gone("light blocks come from peers")),
    ("consensus.tendermint.state_sync.trust_period", Time("consensus.light_client.trust.period")),
    ("consensus.tendermint.state_sync.trust_height", To("consensus.light_client.trust.height")),
    ("consensus.tendermint.state_sync.trust_hash", To("consensus.light_client.trust.hash")),
    ("consensus.tendermint.light_client.consensus_node", Gone("light blocks come from peers")),
    ("consensus.tendermint.light_client.trust_period", Time("consensus.light_client.trust.period")),
    ("consensus.tendermint.light_client.trust_height", To("consensus.light_client.trust.height")),
    ("consensus.tendermint.light_client.trust_hash", To("consensus.light_client.trust.hash")),
    ("consensus.tendermint.p2p.seed", S(Special::Seeds)),
    ("consensus.tendermint.p2p.persistent_peer", S(Special::Peers("consensus.p2p.persistent_peers"))),
    ("consensus.tendermint.p2p.unconditional_peer", S(Special::PeerIds("consensus.p2p.unconditional_peers"))),
    ("consensus.tendermint.p2p.unconditional_peer_ids", S(Special::PeerIds("consensus.p2p.unconditional_peers"))),
    (
        "consensus.tendermint.p2p.persistent_peers_max_dial_period",
        Time("consensus.p2p.persistent_peers_max_dial_period"),
    ),
    ("consensus.tendermint.db.*", Gone("there is one database")),
    ("runtime.mode", S(Special::RuntimeMode)),
    ("runtime.supported", S(Special::Supported)),
    ("runtime.paths", S(Special::Paths)),
    ("runtime.sgx.signatures", S(Special::Signatures)),
    ("runtime.sgx.loader", To("runtime.sgx.loader")),
    ("runtime.sandbox.binary", To("runtime.sandbox_binary")),
    ("runtime.history.pruner.strategy", To("runtime.prune.strategy")),
    ("runtime.history.pruner.interval", Time("runtime.prune.interval")),
    ("runtime.history.pruner.num_kept", To("runtime.prune.num_kept")),
    ("runtime.history.tag_indexer.*", Gone("events are indexed without it")),
    ("runtime.client.*", Gone("transactions wait in the pool of the runtime")),
    ("worker.client.*", Gone(CLIENT)),
    ("worker.compute.enabled", S(Special::ComputeEnabled)),
    ("worker.storage.enabled", S(Special::StorageEnabled)),
    ("worker.keymanager.enabled", S(Special::KeymanagerEnabled)),
    ("worker.consensusrpc.enabled", Gone("light blocks and queries are served through p2p")),
    ("worker.registration.entity", S(Special::Entity)),
    ("worker.registration.force_register", Gone("use `oasis-node control clear-deregister`")),
    ("worker.registration.rotate_certs", Gone(CERTIFICATES)),
    ("worker.p2p.enabled", Gone("it is always on where it is needed")),
    ("worker.p2p.port", To("p2p.port")),
    ("worker.p2p.addresses", List("p2p.registration.addresses")),
    ("worker.p2p.peer_outbound_queue_size", To("p2p.gossipsub.peer_outbound_queue_size")),
    ("worker.p2p.validate_queue_size", To("p2p.gossipsub.validate_queue_size")),
    ("worker.p2p.validate_concurrency", To("p2p.gossipsub.validate_concurrency")),
    ("worker.p2p.validate_throttle", To("p2p.gossipsub.validate_throttle")),
    ("worker.p2p.max_num_peers", To("p2p.connection_manager.max_num_peers")),
    ("worker.p2p.peer_grace_period", Time("p2p.connection_manager.peer_grace_period")),
    ("worker.p2p.persistent_peers", S(Special::Peers("p2p.connection_manager.persistent_peers"))),
    ("worker.p2p.blocked_peers", List("p2p.connection_gater.blocked_peers")),
    ("worker.p2p.connectedness_low_water", To("p2p.peer_manager.connectedness_low_water")),
    ("worker.storage.backend", To("storage.backend")),
    ("worker.storage.max_cache_size", To("storage.max_cache_size")),
    ("worker.storage.fetcher_count", To("storage.fetcher_count")),
    ("worker.storage.public_rpc.enabled", To("storage.public_rpc_enabled")),
    ("worker.storage.checkpoint_sync.disabled", To("storage.checkpoint_sync_disabled")),
    ("worker.storage.checkpointer.disabled", Not("storage.checkpointer.enabled")),
    ("worker.storage.checkpointer.enabled", To("storage.checkpointer.enabled")),
    ("worker.storage.checkpointer.check_interval", Time("storage.checkpointer.check_interval")),
    ("worker.storage.crash.*", CommandLine),
    ("worker.storage.debug.*", Gone("it was for tests")),
    ("worker.sentry.enabled", To("sentry.enabled")),
    ("worker.sentry.address", List("runtime.sentry_addresses")),
    ("worker.sentry.addresses", List("runtime.sentry_addresses")),
    (
        "worker.sentry.cert_file",
        Operator("put the sentry's TLS public key before its address in runtime.sentry_addresses"),
    ),
    ("worker.sentry.control.port", To("sentry.control.port")),
    ("worker.sentry.control.authorized_pubkey", List("sentry.control.authorized_pubkeys")),
    ("worker.sentry.grpc.*", Gone(CLIENT)),
    ("worker.keymanager.runtime.id", To("keymanager.runtime_id")),
    ("worker.keymanager.private_peer_pub_keys", List("keymanager.private_peer_pub_keys")),
    ("worker.keymanager.may_generate", Gone(GENERATE)),
    ("worker.executor.schedule_check_tx_enabled", Gone("transactions are always checked")),
    ("worker.executor.schedule_max_tx_pool_size", To("runtime.tx_pool.schedule_max_tx_pool_size")),
    ("worker.executor.schedule_tx_cache_size", To("runtime.tx_pool.schedule_tx_cache_size")),
    ("worker.executor.check_tx_max_batch_size", To("runtime.tx_pool.check_tx_max_batch_size")),
    ("worker.txpool.republish_interval", Time("runtime.tx_pool.republishinterval")),
    ("worker.tx_pool.republish_interval", Time("runtime.tx_pool.republishinterval")),
    ("worker.tx_pool.schedule_max_tx_pool_size", To("runtime.tx_pool.schedule_max_tx_pool_size")),
    ("worker.tx_pool.schedule_tx_cache_size", To("runtime.tx_pool.schedule_tx_cache_size")),
    ("worker.tx_pool.check_tx_max_batch_size", To("runtime.tx_pool.check_tx_max_batch_size")),
    ("worker.tx_pool.recheck_interval", To("runtime.tx_pool.recheck_interval")),
    ("worker.txnscheduler.*", Gone("the chain's parameters decide about batches")),
];

/// Keys that existed at some time since 23.0.
pub(crate) const SINCE_23: &[(&str, Rule)] = &[
    ("mode", S(Special::Mode)),
    ("registration.rotate_certs", Gone(CERTIFICATES)),
    ("registration.force_register", Gone("use `oasis-node control clear-deregister`")),
    ("keymanager.may_generate", Gone(GENERATE)),
    ("consensus.prune.num_light_blocks_kept", Gone("light blocks are pruned with the blocks")),
    ("consensus.state_sync.consensus_node", Gone("light blocks come from peers")),
    ("consensus.state_sync.trust_period", Time("consensus.light_client.trust.period")),
    ("consensus.state_sync.trust_height", To("consensus.light_client.trust.height")),
    ("consensus.state_sync.trust_hash", To("consensus.light_client.trust.hash")),
    ("consensus.light_client.trust_period", Time("consensus.light_client.trust.period")),
    ("consensus.debug.allow_duplicate_ip", To("consensus.p2p.allow_duplicate_ip")),
    ("runtime.history_pruner.strategy", To("runtime.prune.strategy")),
    ("runtime.history_pruner.interval", Time("runtime.prune.interval")),
    ("runtime.history_pruner.num_kept", To("runtime.prune.num_kept")),
    ("runtime.components", S(Special::Components)),
];

/// The rule for a key, and whether it is for that key alone.
pub(crate) fn find(table: &[(&'static str, Rule)], key: &str) -> Option<Rule> {
    let exact = table.iter().find(|(old, _)| *old == key);
    let below = || table.iter().find(|(old, _)| old.strip_suffix('*').is_some_and(|prefix| key.starts_with(prefix)));
    exact.or_else(below).map(|(_, rule)| *rule)
}
