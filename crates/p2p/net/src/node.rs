//! The node's network.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p_core::Multiaddr;
use libp2p_identity::{Keypair, PeerId, PublicKey};
use libp2p_swarm::{ConnectionId, Stream};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use wire_consensus::node::NetAddress;

use crate::address::{self, AddrInfo};
use crate::api::{
    BoxFuture, CallLimits, MAX_FRAME, P2p, P2pError, PeerInfo, PeerVerdict, ProtocolId, Serve, Topic, Validate,
};
use crate::config::Config;
use crate::gossip::{self, Topics};
use crate::ids::{MIN_TOPIC_PEERS, TOTAL_TOPIC_PEERS};
use crate::manager::{self, Manager};
use crate::registry::Registered;
use crate::rpc::frame;
use crate::serve::Services;
use crate::swarm::{Command, Driver};
use crate::table::Table;
use crate::transport::{HANDSHAKE_TIME, TransportError};

/// Commands that may wait for the swarm's task.
const COMMANDS: usize = 1024;
/// How long a peer may take to receive a request.
const REQUEST_WRITE_TIME: Duration = Duration::from_secs(5);
/// How long opening a stream may take, waiting for its turn included.
const OPEN_TIME: Duration = Duration::from_secs(10);

/// Why the network could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Keys and certificates.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// An address cannot be listened on.
    #[error("cannot listen on {addr}: {error}")]
    Listen {
        /// Which.
        addr: SocketAddr,
        /// Why.
        error: String,
    },
    /// The listeners did not come up.
    #[error("listeners did not come up in time")]
    ListenTimeout,
    /// The gossip settings do not fit together.
    #[error("gossip settings: {0}")]
    Gossip(String),
}

/// What the tasks of the network share.
pub(crate) struct Shared {
    pub(crate) me: PeerId,
    pub(crate) table: Arc<Mutex<Table>>,
    pub(crate) services: Arc<Services>,
    pub(crate) topics: Topics,
    pub(crate) topic_peers: Mutex<HashMap<String, Vec<PeerId>>>,
    pub(crate) listen: Mutex<Vec<Multiaddr>>,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    pub(crate) max_peers: usize,
    pub(crate) grace_period: Duration,
}

impl Shared {
    /// Runs a task that ends with the network.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
    }

    pub(crate) fn num_topic_peers(&self, topic: &Topic) -> usize {
        self.topic_peers.lock().get(topic.as_str()).map_or(0, Vec::len)
    }
}

/// What is reported of the network. Source: `go/p2p/api/api.go`, `Status`.
#[derive(Debug, Clone)]
pub struct Status {
    /// The node's key.
    pub public_key: PublicKey,
    /// Its peer id.
    pub peer_id: PeerId,
    /// Addresses to register.
    pub addresses: Vec<NetAddress>,
    /// Connected peers.
    pub num_peers: usize,
    /// Connections with them.
    pub num_connections: usize,
    /// Tracked protocols and how many connected peers speak them.
    pub protocols: BTreeMap<String, usize>,
    /// Tracked topics and how many peers are on them.
    pub topics: BTreeMap<String, usize>,
}

/// The network of a node. Cheap to clone.
#[derive(Clone)]
pub struct Node {
    pub(crate) shared: Arc<Shared>,
    manager: Arc<Manager>,
    public_key: PublicKey,
    config: Arc<Config>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Node({})", self.shared.me)
    }
}

impl Node {
    /// Listens and starts all tasks. They end when the token is cancelled.
    pub async fn start(config: Config, key: Keypair, stop: CancellationToken) -> Result<Self, StartError> {
        let public_key = key.public();
        let me = public_key.to_peer_id();
        let table = Table::new(me, &config.blocked_ips, &config.persistent_peers);
        let table = Arc::new(Mutex::new(table));
        let tasks = TaskTracker::new();
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let services = Services::new(config.serve, table.clone(), tasks.clone(), stop.clone());
        let shared = Arc::new(Shared {
            me,
            table,
            services: Arc::new(services),
            topics: Topics::new(&config),
            topic_peers: Mutex::default(),
            listen: Mutex::default(),
            commands,
            tasks,
            stop,
            max_peers: config.max_peers,
            grace_period: config.grace_period,
        });
        {
            let (mut table, now) = (shared.table.lock(), Instant::now());
            for peer in config.seeds.iter().chain(&config.persistent_peers) {
                table.learn(peer, None, now);
            }
        }
        let driver = Driver::start(&key, &config, shared.clone(), receiver).await?;
        shared.tasks.spawn(driver.run());
        let config = Arc::new(config);
        let manager = Arc::new(Manager::new(&config));
        let node = Self { shared, manager, public_key, config };
        manager::start(&node);
        info!(peer_id = %me, addresses = ?node.listen_addresses(), "network started");
        Ok(node)
    }

    /// Ends all tasks and waits for them.
    pub async fn stop(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// This node's peer id.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.shared.me
    }

    /// Its settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn manager(&self) -> &Manager {
        &self.manager
    }

    /// Addresses of the host that are listened on.
    #[must_use]
    pub fn listen_addresses(&self) -> Vec<Multiaddr> {
        self.shared.listen.lock().clone()
    }

    /// This node as others would reach it.
    #[must_use]
    pub fn addr_info(&self) -> AddrInfo {
        AddrInfo { id: self.shared.me, addrs: self.listen_addresses() }
    }

    /// The addresses to register: the configured ones or those of the host's interfaces, without those that are not
    /// reachable from everywhere unless that is allowed.
    #[must_use]
    pub fn addresses(&self) -> Vec<NetAddress> {
        let addrs = match self.config.registration_addresses.as_slice() {
            [] => self.listen_addresses().iter().filter_map(address::socket_addr).collect(),
            configured => configured.to_vec(),
        };
        let allowed = |a: &NetAddress| self.config.allow_unroutable || (a.is_global_unicast() && a.is_routable());
        addrs.into_iter().map(NetAddress::from).filter(allowed).collect()
    }

    /// What is reported of the network.
    #[must_use]
    pub fn status(&self) -> Status {
        let (protocols, topics) = self.manager.tracked();
        let table = self.shared.table.lock();
        let count = |p: ProtocolId| (p.to_string(), table.num_protocol_peers(&p));
        Status {
            public_key: self.public_key,
            peer_id: self.shared.me,
            addresses: self.addresses(),
            num_peers: table.num_peers(),
            num_connections: table.num_connections(),
            protocols: protocols.into_iter().map(count).collect(),
            topics: topics.into_iter().map(|t| (t.to_string(), self.shared.num_topic_peers(&t))).collect(),
        }
    }

    /// Peers on a topic.
    #[must_use]
    pub fn topic_peers(&self, topic: &Topic) -> Vec<PeerId> {
        self.shared.topic_peers.lock().get(topic.as_str()).cloned().unwrap_or_default()
    }

    /// The texts `<address>/p2p/<peer id>` of peers on any of the topics, one address each, public ones preferred.
    #[must_use]
    pub fn topic_peer_addresses(&self, topics: &[Topic]) -> Vec<String> {
        let mut peers: Vec<PeerId> = topics.iter().flat_map(|t| self.topic_peers(t)).collect();
        peers.sort_unstable();
        peers.dedup();
        let table = self.shared.table.lock();
        let text = |peer: PeerId| {
            let addrs = table.addresses(&peer);
            let best = addrs.iter().find(|a| address::is_public(a)).or(addrs.first())?;
            Some(format!("{best}/p2p/{peer}"))
        };
        peers.into_iter().filter_map(text).collect()
    }

    /// Replaces what the registry says of peers.
    pub fn set_registry(&self, peers: Vec<Registered>) {
        self.manager.registry.lock().reset(peers);
    }

    /// A node registered or changed its registration.
    pub fn update_registry(&self, peer: Registered) {
        self.manager.registry.lock().update(peer);
    }

    /// Marks exactly these peers as important for the purpose that the tag names; they are trimmed last.
    pub fn set_important(&self, tag: &str, peers: &[PeerId]) {
        self.shared.table.lock().set_important(tag, peers);
    }

    /// Whether a connection with the peer exists.
    #[must_use]
    pub fn is_connected(&self, peer: &PeerId) -> bool {
        self.shared.table.lock().is_connected(peer)
    }

    /// Whether the peer has said which protocols it speaks.
    #[must_use]
    pub fn is_identified(&self, peer: &PeerId) -> bool {
        self.shared.table.lock().is_identified(peer)
    }

    /// What a connected peer said of itself: software, protocols, addresses.
    #[must_use]
    pub fn describe(&self, peer: &PeerId) -> Option<(String, Vec<String>, Vec<Multiaddr>)> {
        let table = self.shared.table.lock();
        let (agent, protocols) = table.describe(peer)?;
        Some((agent, protocols, table.addresses(peer)))
    }

    /// Connects to a peer at the given and already known addresses.
    pub async fn connect(&self, peer: &AddrInfo) -> Result<(), P2pError> {
        self.shared.table.lock().learn(peer, Some(crate::table::ADDRESS_TTL), Instant::now());
        self.dial(peer.id).await
    }

    pub(crate) async fn dial(&self, peer: PeerId) -> Result<(), P2pError> {
        if self.shared.table.lock().is_blocked(&peer) {
            return Err(P2pError::Blocked(peer));
        }
        // A dial tries a few addresses at a time, each with a handshake's time.
        let limit = 2 * HANDSHAKE_TIME;
        self.ask(limit, "connection", |reply| Command::Dial { peer, reply }).await?
    }

    /// Closes connections with a peer that carry no call.
    pub(crate) fn close_idle(&self, peer: PeerId) {
        let _ = self.shared.commands.try_send(Command::CloseIdle { peer });
    }

    async fn ask<T>(
        &self,
        limit: Duration,
        what: &'static str,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, P2pError> {
        let (reply, answer) = oneshot::channel();
        let ask = async {
            self.shared.commands.send(command(reply)).await.map_err(|_| P2pError::Closed)?;
            answer.await.map_err(|_| match self.shared.stop.is_cancelled() {
                true => P2pError::Closed,
                false => P2pError::Stream("connection closed".into()),
            })
        };
        timeout(limit, ask).await.map_err(|_| P2pError::Timeout { what, limit })?
    }

    async fn call_peer(
        &self,
        peer: PeerId,
        protocol: ProtocolId,
        request: Vec<u8>,
        limits: CallLimits,
    ) -> Result<Vec<u8>, P2pError> {
        let connected = {
            let table = self.shared.table.lock();
            if table.is_blocked(&peer) {
                return Err(P2pError::Blocked(peer));
            }
            table.is_connected(&peer)
        };
        if !connected {
            self.dial(peer).await?;
        }
        let open = |reply| Command::Open { peer, protocol, reply };
        let (connection, mut stream) = self.ask(OPEN_TIME, "stream", open).await??;
        let _counted = Counted::new(&self.shared.table, peer, connection);
        exchange(&mut stream, &request, limits).await
    }
}

/// Writes a request and reads the response.
async fn exchange(stream: &mut Stream, request: &[u8], limits: CallLimits) -> Result<Vec<u8>, P2pError> {
    let late = |what, limit| move |_| P2pError::Timeout { what, limit };
    timeout(REQUEST_WRITE_TIME, frame::write(stream, request))
        .await
        .map_err(late("end of request", REQUEST_WRITE_TIME))??;
    let response = timeout(limits.response_time, frame::read(stream, limits.max_response.min(MAX_FRAME)))
        .await
        .map_err(late("response", limits.response_time))??;
    // The peer may have gone; the answer is here.
    let _ = timeout(REQUEST_WRITE_TIME, frame::close(stream)).await;
    Ok(response)
}

/// A stream that keeps its connection from being closed as idle.
struct Counted<'a> {
    table: &'a Mutex<Table>,
    peer: PeerId,
    connection: ConnectionId,
}

impl<'a> Counted<'a> {
    fn new(table: &'a Mutex<Table>, peer: PeerId, connection: ConnectionId) -> Self {
        table.lock().count_streams(&peer, connection, 1);
        Self { table, peer, connection }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.table.lock().count_streams(&self.peer, self.connection, -1);
    }
}

impl P2p for Node {
    fn publish(&self, topic: &Topic, message: Vec<u8>) -> Result<(), P2pError> {
        if self.shared.stop.is_cancelled() {
            return Err(P2pError::Closed);
        }
        gossip::publish(&self.shared, topic, message)
    }

    fn subscribe(&self, topic: &Topic, validate: Arc<dyn Validate>) -> Result<(), P2pError> {
        if !self.config.gossip {
            return Err(P2pError::Name(topic.to_string()));
        }
        self.shared.topics.add(topic, validate)?;
        self.shared.commands.try_send(Command::Join { topic: topic.clone() }).map_err(|_| P2pError::Busy)?;
        self.manager.track_topic(topic, MIN_TOPIC_PEERS, TOTAL_TOPIC_PEERS);
        self.manager.advertise(topic.as_str());
        Ok(())
    }

    fn call(
        &self,
        peer: &PeerId,
        protocol: &ProtocolId,
        request: Vec<u8>,
        limits: CallLimits,
    ) -> BoxFuture<'_, Result<Vec<u8>, P2pError>> {
        Box::pin(self.call_peer(*peer, protocol.clone(), request, limits))
    }

    fn serve(&self, protocol: ProtocolId, handler: Arc<dyn Serve>) -> Result<(), P2pError> {
        let name = protocol.to_string();
        self.shared.services.add(protocol, handler)?;
        self.shared.commands.try_send(Command::ProtocolsChanged).map_err(|_| P2pError::Busy)?;
        self.manager.advertise(&name);
        Ok(())
    }

    fn track(&self, protocol: &ProtocolId, min: usize, total: usize) {
        self.manager.track_protocol(protocol, min, total);
    }

    fn peers(&self, protocol: &ProtocolId) -> Vec<PeerInfo> {
        self.shared.table.lock().best(protocol)
    }

    fn feedback(&self, peer: &PeerId, verdict: PeerVerdict) {
        match verdict {
            PeerVerdict::Success { protocol, latency } => self.shared.table.lock().success(peer, &protocol, latency),
            PeerVerdict::Failure { protocol, latency } => self.shared.table.lock().failure(peer, &protocol, latency),
            PeerVerdict::Bad => {
                warn!(%peer, "blocking peer");
                self.shared.table.lock().block(*peer);
                let node = self.clone();
                let peer = *peer;
                self.shared.spawn(async move {
                    let _ = node.shared.commands.send(Command::Block { peer }).await;
                });
            }
        }
    }
}
