//! Every key of the configuration with its default.
//!
//! Names and defaults are those of the reference (`go/config/config.go` and the packages it imports, at 26.1).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

use crate::read::{Any, ByteSize, GoDuration, Identifier, Reader, Value, textual};
use crate::yaml::{Kind, Node};

const fn seconds(n: u64) -> GoDuration {
    GoDuration(Duration::from_secs(n))
}

fn text(value: &str) -> String {
    value.to_owned()
}

/// A section: its keys with types and defaults.
macro_rules! sections {
    ($($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $ty:ty = $default:expr,)* })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $ty,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl Value for $name {
            fn read(&mut self, node: &Node, reader: &mut Reader) {
                reader.section(node, &[$(stringify!($field)),*], &mut |reader, key, value| match key {
                    $(stringify!($field) => Value::read(&mut self.$field, value, reader),)*
                    _ => {}
                });
            }

            fn print(&self, out: &mut String, indent: usize) {
                out.push('\n');
                $(
                    let _ = write!(out, "{:width$}{}:", "", stringify!($field), width = indent * 2);
                    Value::print(&self.$field, out, indent + 1);
                )*
            }

            fn keys(path: &str, out: &mut Vec<String>) {
                let dot = if path.is_empty() { "" } else { "." };
                $(<$ty as Value>::keys(&format!("{path}{dot}{}", stringify!($field)), out);)*
            }
        }
    )*};
}

/// What a node is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Takes part in consensus.
    Validator,
    /// Executes runtimes.
    Compute,
    /// Registered, sees confidential runtimes, executes for itself.
    Observer,
    /// Serves keys.
    KeyManager,
    /// Follows and serves its user.
    #[default]
    Client,
    /// Tells nodes about each other.
    Seed,
    /// Serves the past, follows nothing.
    Archive,
}

const MODES: [(Mode, &str); 7] = [
    (Mode::Validator, "validator"),
    (Mode::Compute, "compute"),
    (Mode::Observer, "observer"),
    (Mode::KeyManager, "keymanager"),
    (Mode::Client, "client"),
    (Mode::Seed, "seed"),
    (Mode::Archive, "archive"),
];

impl FromStr for Mode {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        MODES.iter().find(|(_, name)| *name == text).map(|(mode, _)| *mode).ok_or(())
    }
}

impl Mode {
    /// Its name.
    pub fn name(self) -> &'static str {
        MODES.iter().find(|(mode, _)| *mode == self).map_or("", |(_, name)| name)
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
textual!(Mode, "a node mode: validator, compute, observer, keymanager, client, seed or archive");

sections! {
    /// Everything.
    Config {
        /// What the node is.
        mode: Mode = Mode::Client,
        /// Data directory, logging.
        common: Common = Common::default(),
        /// The genesis document.
        genesis: Genesis = Genesis::default(),
        /// The consensus layer.
        consensus: Consensus = Consensus::default(),
        /// ParaTimes.
        runtime: Runtime = Runtime::default(),
        /// Peer-to-peer network of the runtime layer.
        p2p: P2p = P2p::default(),
        /// Intel's attestation service (EPID).
        ias: Ias = Ias::default(),
        /// Profiling endpoint.
        pprof: Pprof = Pprof::default(),
        /// Metrics.
        metrics: Metrics = Metrics::default(),
        /// Registration of the node.
        registration: Registration = Registration::default(),
        /// Key manager.
        keymanager: KeyManager = KeyManager::default(),
        /// Storage of runtime state.
        storage: Storage = Storage::default(),
        /// Sentry duty.
        sentry: Sentry = Sentry::default(),
    }

    /// Data directory and logging.
    Common {
        /// Data directory; needed to run.
        data_dir: String = String::new(),
        /// Path of the socket for local control; empty: `internal.sock` in the data directory.
        internal_socket_path: String = String::new(),
        /// Logging.
        log: Log = Log::default(),
        /// Calls of web pages; the reference has none.
        grpc_web: GrpcWeb = GrpcWeb::default(),
        /// A page that shows the node; the reference has none.
        dashboard: Dashboard = Dashboard::default(),
        /// For tests.
        debug: CommonDebug = CommonDebug::default(),
    }

    /// Calls of web pages (gRPC-Web), none by default.
    GrpcWeb {
        /// Loopback address to listen on, `IP:port`; empty: none.
        listen_address: String = String::new(),
        /// Pages that may call, such as `https://app.example`; `*`: any.
        origins: Vec<String> = Vec::new(),
        /// Methods that they may call, such as `oasis-core.Consensus/GetStatus`.
        methods: Vec<String> = Vec::new(),
    }

    /// A page that shows the node, none by default.
    Dashboard {
        /// Loopback address to listen on, `IP:port`; empty: none.
        listen_address: String = String::new(),
    }

    /// Logging.
    Log {
        /// File to append to, relative to the data directory; empty: standard output.
        file: String = String::new(),
        /// `logfmt` or `json`.
        format: String = text("logfmt"),
        /// Level (`debug`, `info`, `warn`, `error`) of each module; `default` for all others.
        level: BTreeMap<String, String> = [
            ("cometbft/context", "error"),
            ("cometbft/db", "info"),
            ("common/persistent", "info"),
            ("mkvs/db", "info"),
        ].into_iter().map(|(module, level)| (text(module), text(level))).collect(),
    }

    /// For tests.
    CommonDebug {
        /// Whether root may run the node.
        allow_root: bool = false,
        /// Limit on open files to set; 0: leave it.
        rlimit: u64 = 0,
    }

    /// The genesis document.
    Genesis {
        /// Its file.
        file: String = text("genesis.json"),
    }

    /// The consensus layer.
    Consensus {
        /// Whether to validate besides another mode.
        validator: bool = false,
        /// Where to listen.
        listen_address: String = text("tcp://0.0.0.0:26656"),
        /// Address told to peers, if not the one listened on.
        external_address: String = String::new(),
        /// Peers.
        p2p: ConsensusP2p = ConsensusP2p::default(),
        /// Nodes that this node is the sentry of, `pubkey@IP:port`.
        sentry_upstream_addresses: Vec<String> = Vec::new(),
        /// Least gas price that this validator takes.
        min_gas_price: u64 = 0,
        /// Own transactions.
        submission: Submission = Submission::default(),
        /// Epoch before which the node stops; 0: none.
        halt_epoch: u64 = 0,
        /// Height before which the node stops; 0: none.
        halt_height: u64 = 0,
        /// How long to wait before stopping for an upgrade, on average.
        upgrade_stop_delay: GoDuration = seconds(60),
        /// Whether consensus state is kept here.
        local_storage: bool = true,
        /// Pruning of state.
        prune: ConsensusPrune = ConsensusPrune::default(),
        /// Making of checkpoints.
        checkpointer: ConsensusCheckpointer = ConsensusCheckpointer::default(),
        /// Restoring of checkpoints.
        state_sync: StateSync = StateSync::default(),
        /// Light client.
        light_client: LightClient = LightClient::default(),
        /// gRPC addresses of nodes that a stateless node asks.
        providers: Vec<String> = Vec::new(),
        /// Additional checks of state.
        supplementary_sanity: SupplementarySanity = SupplementarySanity::default(),
        /// Whether to log the engine's debug messages.
        log_debug: bool = false,
        /// For tests.
        debug: ConsensusDebug = ConsensusDebug::default(),
    }

    /// Peers of the consensus layer.
    ConsensusP2p {
        /// Most inbound peers.
        max_num_inbound_peers: i64 = 100,
        /// Most outbound peers, persistent ones apart.
        max_num_outbound_peers: i64 = 20,
        /// Bytes per second sent to a peer; 0: no limit.
        send_rate: i64 = 5_120_000,
        /// Bytes per second taken from a peer; 0: no limit.
        recv_rate: i64 = 5_120_000,
        /// Peers to stay connected to, `pubkey@IP:port`.
        persistent_peers: Vec<String> = Vec::new(),
        /// Public keys of peers that limits do not apply to.
        unconditional_peers: Vec<String> = Vec::new(),
        /// Whether peer exchange is off.
        disable_peer_exchange: bool = false,
        /// Longest wait between attempts to reach a persistent peer; 0: no limit.
        persistent_peers_max_dial_period: GoDuration = seconds(0),
        /// Whether several peers may come from one IP address.
        allow_duplicate_ip: bool = false,
    }

    /// Own transactions.
    Submission {
        /// Gas price to pay.
        gas_price: u64 = 0,
        /// Highest fee to pay.
        max_fee: u64 = 10_000_000_000,
    }

    /// Pruning of consensus state.
    ConsensusPrune {
        /// `none` or `keep_n`.
        strategy: String = text("none"),
        /// Versions kept.
        num_kept: u64 = 250_000,
        /// How often.
        interval: GoDuration = seconds(120),
    }

    /// Making of checkpoints of consensus state.
    ConsensusCheckpointer {
        /// Whether none are made.
        disabled: bool = false,
        /// How often to look whether one is due.
        check_interval: GoDuration = seconds(60),
        /// Whether chunks are made in parallel.
        parallel_chunker: bool = false,
    }

    /// Restoring of checkpoints of consensus state.
    StateSync {
        /// Whether to.
        enabled: bool = false,
    }

    /// Light client.
    LightClient {
        /// What it trusts.
        trust: Trust = Trust::default(),
    }

    /// What a light client trusts.
    Trust {
        /// For how long.
        period: GoDuration = seconds(720 * 3600),
        /// Height of a trusted header.
        height: u64 = 0,
        /// Its hash, 64 hex digits.
        hash: String = String::new(),
    }

    /// Additional checks of state.
    SupplementarySanity {
        /// Whether to.
        enabled: bool = false,
        /// Every how many blocks.
        interval: u64 = 10,
    }

    /// For tests.
    ConsensusDebug {
        /// Whether the address book takes addresses that are not routable.
        addr_book_lenient: bool = false,
        /// Whether replay of the log stops at a corrupt record instead of failing.
        unsafe_replay_recover_corrupted_wal: bool = false,
        /// Whether a seed's address book starts without the validators of the genesis document.
        disable_addr_book_from_genesis: bool = false,
    }

    /// ParaTimes.
    Runtime {
        /// Runtimes and their components.
        runtimes: Vec<RuntimeEntry> = Vec::new(),
        /// Bundles to load.
        paths: Vec<String> = Vec::new(),
        /// Bare executables and enclaves to load, as guides of 2021 hand them out; not a key of the reference.
        binaries: Vec<RuntimeBinary> = Vec::new(),
        /// `sandboxed`, `unconfined` or `mock`.
        provisioner: String = text("sandboxed"),
        /// The bubblewrap program.
        sandbox_binary: String = text("/usr/bin/bwrap"),
        /// The SGX loader; older spelling of `sgx.loader`.
        sgx_loader: String = String::new(),
        /// `auto`, `sgx` or `sgx-mock`; older spelling of `debug_mock_tee`.
        environment: String = text("auto"),
        /// Pruning of history.
        prune: RuntimePrune = RuntimePrune::default(),
        /// Indexing of history.
        indexer: Indexer = Indexer::default(),
        /// Local configuration by runtime id; older spelling of `runtimes[].config`.
        config: BTreeMap<String, BTreeMap<String, Any>> = BTreeMap::new(),
        /// Sentries, `[pubkey@]IP:port`.
        sentry_addresses: Vec<String> = Vec::new(),
        /// Transaction pool.
        tx_pool: TxPool = TxPool::default(),
        /// Epochs before its activation that a version is started; 0: none.
        pre_warm_epochs: u64 = 3,
        /// How often to attest anew; 0: the default.
        attest_interval: GoDuration = seconds(0),
        /// Load balancing.
        load_balancer: LoadBalancer = LoadBalancer::default(),
        /// Base URLs of bundle registries.
        registries: Vec<String> =
            vec![text("https://raw.githubusercontent.com/oasisprotocol/bundle-registry/main/metadata/")],
        /// Largest bundle; empty: 20 MiB.
        max_bundle_size: ByteSize = ByteSize::default(),
        /// Whether trusted execution is simulated.
        debug_mock_tee: bool = false,
        /// Intel SGX.
        sgx: Sgx = Sgx::default(),
        /// Intel TDX.
        tdx: Tdx = Tdx::default(),
        /// Logs of runtimes.
        log: RuntimeLog = RuntimeLog::default(),
    }

    /// A runtime.
    RuntimeEntry {
        /// Its id.
        id: Identifier = Identifier::default(),
        /// Its components.
        components: Vec<Component> = Vec::new(),
        /// Its local configuration.
        config: BTreeMap<String, Any> = BTreeMap::new(),
        /// Base URLs of its bundle registries.
        registries: Vec<String> = Vec::new(),
    }

    /// A runtime that is an executable or an enclave without a bundle; its version is the one that it answers.
    RuntimeBinary {
        /// The runtime's id.
        id: Identifier = Identifier::default(),
        /// ELF executable or SGXS image.
        path: String = String::new(),
        /// The image's signature; empty: none, or `NAME.sig` beside `NAME.sgxs`.
        signature: String = String::new(),
    }

    /// Networking of a component.
    Networking {
        /// What reaches it.
        incoming: Vec<Incoming> = Vec::new(),
    }

    /// A port that reaches a component.
    Incoming {
        /// Address on this machine; empty: all.
        ip: String = String::new(),
        /// `tcp` (also if empty) or `udp`.
        protocol: String = String::new(),
        /// Port on this machine.
        src_port: u16 = 0,
        /// Port in the component; 0: the same.
        dst_port: u16 = 0,
    }

    /// Pruning of a runtime's history.
    RuntimePrune {
        /// `none` or `keep_last`.
        strategy: String = text("none"),
        /// How often.
        interval: GoDuration = seconds(120),
        /// Rounds kept.
        num_kept: u64 = 250_000,
    }

    /// Indexing of a runtime's history.
    Indexer {
        /// Most blocks in a batch; 0: the default.
        batch_size: u16 = 1000,
    }

    /// Transaction pool of a runtime.
    TxPool {
        /// Most transactions.
        schedule_max_tx_pool_size: u64 = 50_000,
        /// Transactions remembered as seen.
        schedule_tx_cache_size: u64 = 100_000,
        /// Most transactions checked in a batch.
        check_tx_max_batch_size: u64 = 128,
        /// Rounds between checks of what waits.
        recheck_interval: u64 = 5,
        /// How often a waiting transaction is published again.
        republishinterval: GoDuration = seconds(60),
    }

    /// Load balancing over several instances of a runtime.
    LoadBalancer {
        /// Instances; 0 or 1: no balancing.
        num_instances: u64 = 0,
    }

    /// Intel SGX.
    Sgx {
        /// The loader program.
        loader: String = String::new(),
    }

    /// Intel TDX.
    Tdx {
        /// First context id of virtual machines.
        cid_start: u32 = 0xA515_0000,
        /// How many.
        cid_count: u32 = 1024,
    }

    /// Logs of runtimes.
    RuntimeLog {
        /// Bytes after which a log is rotated.
        max_log_size: i64 = 1 << 20,
    }

    /// Peer-to-peer network of the runtime layer.
    P2p {
        /// Port to listen on.
        port: u16 = 9200,
        /// Seeds, `pubkey@IP:port`.
        seeds: Vec<String> = Vec::new(),
        /// Finding peers.
        discovery: Discovery = Discovery::default(),
        /// Own addresses.
        registration: P2pRegistration = P2pRegistration::default(),
        /// Gossip.
        gossipsub: Gossipsub = Gossipsub::default(),
        /// Keeping peers.
        peer_manager: PeerManager = PeerManager::default(),
        /// Limits on connections.
        connection_manager: ConnectionManager = ConnectionManager::default(),
        /// Refused connections.
        connection_gater: ConnectionGater = ConnectionGater::default(),
    }

    /// Finding peers.
    Discovery {
        /// Through seeds.
        bootstrap: Bootstrap = Bootstrap::default(),
    }

    /// Finding peers through seeds.
    Bootstrap {
        /// Whether to.
        enable: bool = true,
        /// Whether private addresses are taken.
        allow_private_ips: bool = false,
        /// How long peers are remembered.
        retention_period: GoDuration = seconds(3600),
    }

    /// Addresses that the node registers.
    P2pRegistration {
        /// `IP:port`; empty: all interfaces but loopback.
        addresses: Vec<String> = Vec::new(),
    }

    /// Gossip.
    Gossipsub {
        /// Messages that wait for a peer.
        peer_outbound_queue_size: i64 = 32,
        /// Messages that wait for validation.
        validate_queue_size: i64 = 32,
        /// Validations at once per topic.
        validate_concurrency: i64 = 1024,
        /// Validations at once.
        validate_throttle: i64 = 8192,
    }

    /// Keeping peers.
    PeerManager {
        /// Share of wanted peers below which new ones are sought.
        connectedness_low_water: f64 = 0.2,
    }

    /// Limits on connections.
    ConnectionManager {
        /// Most peers.
        max_num_peers: i64 = 100,
        /// How long a new peer is safe from being dropped.
        peer_grace_period: GoDuration = seconds(20),
        /// Peers to stay connected to, `pubkey@IP:port`.
        persistent_peers: Vec<String> = Vec::new(),
    }

    /// Refused connections.
    ConnectionGater {
        /// IP addresses.
        blocked_peers: Vec<String> = Vec::new(),
    }

    /// Intel's attestation service.
    Ias {
        /// Proxies, `ID@HOST:PORT`.
        proxy_addresses: Vec<String> = Vec::new(),
        /// Whether signatures of reports are not checked.
        debug_skip_verify: bool = false,
    }

    /// Profiling endpoint.
    Pprof {
        /// Where; empty: off.
        bind_address: String = String::new(),
    }

    /// Metrics.
    Metrics {
        /// `none`, `pull` or `push`.
        mode: String = text("none"),
        /// Where to listen or to push to.
        address: String = text("127.0.0.1:3000"),
        /// Name of the job, for pushing.
        job_name: String = String::new(),
        /// Labels of the instance, for pushing.
        labels: BTreeMap<String, String> = BTreeMap::new(),
        /// How often resources are measured, or pushed.
        interval: GoDuration = seconds(5),
    }

    /// Registration of the node.
    Registration {
        /// File of the owner's descriptor.
        entity: String = String::new(),
        /// The owner's public key.
        entity_id: String = String::new(),
    }

    /// Key manager.
    KeyManager {
        /// Runtime id of the key manager.
        runtime_id: String = String::new(),
        /// Public keys of peers that may call protected methods.
        private_peer_pub_keys: Vec<String> = Vec::new(),
        /// CHURP.
        churp: Churp = Churp::default(),
    }

    /// CHURP.
    Churp {
        /// Schemes that this node takes part in.
        schemes: Vec<ChurpScheme> = Vec::new(),
    }

    /// A CHURP scheme.
    ChurpScheme {
        /// Its id.
        id: u8 = 0,
    }

    /// Storage of runtime state.
    Storage {
        /// `auto`, `badger` or `pathbadger`: all mean the one store that there is.
        backend: String = text("auto"),
        /// Largest cache.
        max_cache_size: ByteSize = "256mb".parse().unwrap_or_default(),
        /// Differences fetched at once.
        fetcher_count: u64 = 4,
        /// Whether everybody may read.
        public_rpc_enabled: bool = false,
        /// Whether the first synchronisation uses no checkpoints.
        checkpoint_sync_disabled: bool = false,
        /// Making of checkpoints.
        checkpointer: StorageCheckpointer = StorageCheckpointer::default(),
    }

    /// Making of checkpoints of runtime state.
    StorageCheckpointer {
        /// Whether to.
        enabled: bool = false,
        /// How often to look whether one is due.
        check_interval: GoDuration = seconds(60),
        /// Whether chunks are made in parallel.
        parallel_chunker: bool = false,
    }

    /// Sentry duty.
    Sentry {
        /// Whether to.
        enabled: bool = false,
        /// Its server for the nodes behind it.
        control: SentryControl = SentryControl::default(),
    }

    /// A sentry's server for the nodes behind it.
    SentryControl {
        /// Port.
        port: u16 = 9009,
        /// Public keys of those nodes.
        authorized_pubkeys: Vec<String> = Vec::new(),
    }
}

sections! {
    /// The long form of [`Component`].
    ComponentSection {
        /// `ronl`, `rofl` or `rofl.NAME`.
        id: ComponentId = ComponentId::default(),
        /// Empty, `none`, `sgx` or `tdx`.
        tee: String = String::new(),
        /// Whether it does not run.
        disabled: bool = false,
        /// Networking.
        networking: Networking = Networking::default(),
        /// `bundle_add`, `bundle_remove`, `volume_add`, `volume_remove`, `log_view`.
        permissions: Vec<String> = Vec::new(),
        /// Local configuration.
        config: BTreeMap<String, Any> = BTreeMap::new(),
    }
}

/// A component of a runtime; its id alone is enough.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Component(
    /// What is configured.
    pub ComponentSection,
);

impl Value for Component {
    fn read(&mut self, node: &Node, reader: &mut Reader) {
        match node.kind {
            Kind::Map(_) => self.0.read(node, reader),
            _ => self.0.id.read(node, reader),
        }
    }

    fn print(&self, out: &mut String, indent: usize) {
        self.0.print(out, indent);
    }
}

/// Names a component of a runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ComponentId {
    /// The on-chain logic.
    #[default]
    Ronl,
    /// Off-chain logic, with its name, which may be empty.
    Rofl(String),
}

impl FromStr for ComponentId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.split_once('.') {
            None if text == "ronl" => Ok(Self::Ronl),
            None if text == "rofl" => Ok(Self::Rofl(String::new())),
            Some(("rofl", name)) if !name.is_empty() => Ok(Self::Rofl(name.to_owned())),
            _ => Err(()),
        }
    }
}

impl std::fmt::Display for ComponentId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ronl => f.write_str("ronl"),
            Self::Rofl(name) if name.is_empty() => f.write_str("rofl"),
            Self::Rofl(name) => write!(f, "rofl.{name}"),
        }
    }
}
textual!(ComponentId, "a component: ronl, rofl or rofl.NAME");
