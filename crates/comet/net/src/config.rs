//! Settings of the transport, with the network's defaults.
//!
//! Reference: `oasis-core:go/consensus/cometbft/config`, `cometbft:config/config.go`.

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use comet_core::PeerId;
use wire_cometbft::p2p::NodeInfo;

use crate::address::{NetAddress, PeerAddress};

/// Most inbound peers, unconditional ones aside.
pub const DEFAULT_MAX_INBOUND: usize = 100;
/// Most outbound peers that peer exchange looks for.
pub const DEFAULT_MAX_OUTBOUND: usize = 20;
/// Bytes per second in each direction and per peer.
pub const DEFAULT_RATE: u64 = 5_120_000;
/// How long written bytes may wait for more before they are sent.
pub const DEFAULT_FLUSH_DELAY: Duration = Duration::from_millis(2);
/// Time between keep-alives.
pub const PING_INTERVAL: Duration = Duration::from_secs(60);
/// Time for a keep-alive's reply.
pub const PONG_TIMEOUT: Duration = Duration::from_secs(45);

/// Refuses connections before or after their handshake.
pub trait ConnectionFilter: Send + Sync {
    /// Whether a connection from or to the address may go on; asked before the handshake. Must not block.
    fn address(&self, remote: SocketAddr) -> Result<(), String> {
        let _ = remote;
        Ok(())
    }

    /// Whether the node may become a peer; asked after the handshake. Must not block.
    fn node(&self, info: &NodeInfo, remote: SocketAddr) -> Result<(), String> {
        let _ = (info, remote);
        Ok(())
    }
}

/// Intervals of what goes on in the background; the defaults are the reference's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intervals {
    /// Time for a TCP connection to come about.
    pub dial_timeout: Duration,
    /// Time for the secret handshake, and again for the exchange of node infos.
    pub handshake_timeout: Duration,
    /// Time between keep-alives.
    pub ping: Duration,
    /// Time for a keep-alive's reply; shorter than `ping`.
    pub pong_timeout: Duration,
    /// Time between the first tries to reconnect to a persistent peer.
    pub reconnect: Duration,
    /// Upper end of what is added at random before dialing.
    pub dial_jitter: Duration,
    /// Time between looks for more peers; a third of it is the least time between requests of one peer.
    pub ensure_peers: Duration,
    /// Time between saves of the address book.
    pub save_book: Duration,
}

impl Default for Intervals {
    fn default() -> Self {
        Self {
            dial_timeout: Duration::from_secs(1),
            handshake_timeout: Duration::from_secs(3),
            ping: PING_INTERVAL,
            pong_timeout: PONG_TIMEOUT,
            reconnect: Duration::from_secs(5),
            dial_jitter: Duration::from_secs(3),
            ensure_peers: Duration::from_secs(30),
            save_book: Duration::from_secs(120),
        }
    }
}

/// Settings of the switch.
#[derive(Clone)]
pub struct NetConfig {
    /// Where to accept connections; `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// Address told to others in place of `listen`, e.g. `tcp://1.2.3.4:26656`.
    pub external_address: Option<String>,
    /// Most inbound peers, unconditional ones aside.
    pub max_inbound: usize,
    /// Most outbound peers that peer exchange looks for.
    pub max_outbound: usize,
    /// Peers to stay connected to.
    pub persistent_peers: Vec<PeerAddress>,
    /// Longest back-off before peer exchange dials a persistent peer again; zero: no limit.
    pub persistent_peers_max_dial_period: Duration,
    /// Peers that no limit applies to.
    pub unconditional: HashSet<PeerId>,
    /// Peers never told to others.
    pub private: HashSet<PeerId>,
    /// Nodes to ask for addresses.
    pub seeds: Vec<PeerAddress>,
    /// Whether to exchange addresses.
    pub pex: bool,
    /// File of the address book; `None`: kept in memory only.
    pub addr_book: Option<PathBuf>,
    /// Whether the book takes only addresses reachable from everywhere.
    pub addr_book_strict: bool,
    /// Addresses put into the book on start (a seed's genesis validators).
    pub known_addresses: Vec<NetAddress>,
    /// Whether one remote IP address may have several connections.
    pub allow_duplicate_ip: bool,
    /// Bytes per second sent to each peer; zero: no limit.
    pub send_rate: u64,
    /// Bytes per second taken from each peer; zero: no limit.
    pub recv_rate: u64,
    /// How long written bytes may wait for more before they are sent.
    pub flush_delay: Duration,
    /// Whether this is a seed: answers one request, then closes; visits nodes it knows in turn.
    pub seed_mode: bool,
    /// Who decides about connections besides.
    pub filter: Option<Arc<dyn ConnectionFilter>>,
    /// Background intervals.
    pub intervals: Intervals,
}

impl Default for NetConfig {
    fn default() -> Self {
        Self {
            listen: None,
            external_address: None,
            max_inbound: DEFAULT_MAX_INBOUND,
            max_outbound: DEFAULT_MAX_OUTBOUND,
            persistent_peers: Vec::new(),
            persistent_peers_max_dial_period: Duration::ZERO,
            unconditional: HashSet::new(),
            private: HashSet::new(),
            seeds: Vec::new(),
            pex: true,
            addr_book: None,
            addr_book_strict: true,
            known_addresses: Vec::new(),
            allow_duplicate_ip: false,
            send_rate: DEFAULT_RATE,
            recv_rate: DEFAULT_RATE,
            flush_delay: DEFAULT_FLUSH_DELAY,
            seed_mode: false,
            filter: None,
            intervals: Intervals::default(),
        }
    }
}

impl fmt::Debug for NetConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetConfig")
            .field("listen", &self.listen)
            .field("external_address", &self.external_address)
            .field("persistent_peers", &self.persistent_peers)
            .field("seeds", &self.seeds)
            .field("pex", &self.pex)
            .field("seed_mode", &self.seed_mode)
            .finish_non_exhaustive()
    }
}
