//! Settings of the network; the node's `p2p` configuration section fills them in.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::address::AddrInfo;
use crate::backup::PeerBackup;

/// How many connections above the configured maximum trigger trimming down to that maximum.
pub const HIGH_WATERMARK_DELTA: usize = 30;

/// Which secure channels are offered and taken; both as the reference does, one alone for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// TLS 1.3 preferred, Noise as well.
    Both,
    /// TLS 1.3 only.
    TlsOnly,
    /// Noise only.
    NoiseOnly,
}

/// Bounds of what peers may ask of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServeLimits {
    /// Requests of one peer that may be in work at once; more are refused by closing their streams.
    pub streams_per_peer: usize,
    /// Requests of all peers that may be in work at once.
    pub streams: usize,
    /// Requests that one peer may make per second on average, with bursts of twice as many.
    pub requests_per_second: u32,
    /// Largest request in bytes.
    pub max_request: usize,
    /// Bytes of requests being read, of all peers together; without room a stream is closed.
    pub request_memory: usize,
    /// How long a peer may take to send its request.
    pub read_time: Duration,
    /// How long a handler may take.
    pub handle_time: Duration,
    /// How long a peer may take to receive the answer.
    pub write_time: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            streams_per_peer: 256,
            streams: 2048,
            requests_per_second: 1000,
            max_request: crate::api::MAX_FRAME,
            request_memory: 256 << 20,
            read_time: Duration::from_secs(5),
            handle_time: Duration::from_secs(60),
            write_time: Duration::from_secs(60),
        }
    }
}

/// Settings of a node's network. Defaults are the reference's.
#[derive(Clone)]
pub struct Config {
    /// Where to listen (TCP); port 0 takes any free one.
    pub listen: Vec<SocketAddr>,
    /// Addresses to register instead of those of the host's interfaces.
    pub registration_addresses: Vec<SocketAddr>,
    /// Whether addresses that are not reachable from everywhere may be registered (for test networks).
    pub allow_unroutable: bool,
    /// Seeds to discover peers with and advertise to.
    pub seeds: Vec<AddrInfo>,
    /// Whether the discovery protocol is used (and, by a seed, served).
    pub bootstrap: bool,
    /// As a seed: whether private addresses are handed out.
    pub allow_private_ips: bool,
    /// How long an answer of a seed is good.
    pub retention_period: Duration,
    /// Connections to trim down to once there are [`HIGH_WATERMARK_DELTA`] more.
    pub max_peers: usize,
    /// How long a new connection is safe from trimming.
    pub grace_period: Duration,
    /// Connections from outside that may exist at once.
    pub max_inbound: usize,
    /// Connections with one peer that may exist at once.
    pub max_per_peer: usize,
    /// Connections from outside that may be shaking hands at once.
    pub max_handshakes: usize,
    /// Peers whose connections are never trimmed and which get every gossip message.
    pub persistent_peers: Vec<AddrInfo>,
    /// Addresses with which there are no connections.
    pub blocked_ips: Vec<IpAddr>,
    /// Messages that may wait for a slow gossip peer.
    pub gossip_queue: usize,
    /// Messages of one topic that may be in validation at once; more are not passed on.
    pub validate_concurrency: usize,
    /// Messages of all topics that may be in validation at once.
    pub validate_throttle: usize,
    /// Whether to gossip at all; a seed does not.
    pub gossip: bool,
    /// Whether to keep peers connected; a seed does not.
    pub manage_peers: bool,
    /// What the node calls its software, such as `oasis-core/26.1`.
    pub agent: String,
    /// Which secure channels.
    pub security: Security,
    /// Bounds of serving.
    pub serve: ServeLimits,
    /// Where known peers are kept across restarts.
    pub backup: Option<Arc<dyn PeerBackup>>,
}

impl Config {
    /// The reference's defaults for a node that listens on a port of all IPv4 interfaces.
    #[must_use]
    pub fn new(port: u16, agent: &str) -> Self {
        Self {
            listen: vec![SocketAddr::from(([0, 0, 0, 0], port))],
            registration_addresses: Vec::new(),
            allow_unroutable: false,
            seeds: Vec::new(),
            bootstrap: true,
            allow_private_ips: false,
            retention_period: Duration::from_secs(3600),
            max_peers: 100,
            grace_period: Duration::from_secs(20),
            max_inbound: 256,
            max_per_peer: 8,
            max_handshakes: 64,
            persistent_peers: Vec::new(),
            blocked_ips: Vec::new(),
            gossip_queue: 32,
            validate_concurrency: 1024,
            validate_throttle: 8192,
            gossip: true,
            manage_peers: true,
            agent: agent.to_owned(),
            security: Security::Both,
            serve: ServeLimits::default(),
            backup: None,
        }
    }

    /// The settings of a seed: no gossip, no peers to keep, more streams and fewer connections from outside.
    #[must_use]
    pub fn into_seed(mut self) -> Self {
        self.gossip = false;
        self.manage_peers = false;
        self.max_inbound = 128;
        self.serve.streams = 2048;
        self
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new(9200, "oasis-core")
    }
}
