//! The switch: all peers of a node, how they come and go.
//!
//! Reference: `cometbft:p2p/switch.go`, `p2p/transport.go`.

pub mod accept;
pub mod dial;
mod upgrade;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base_crypto::ed25519::SecretKey;
use bytes::Bytes;
use comet_core::PeerId;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};
use wire_cometbft::p2p::NodeInfo;

use crate::address::{NetAddress, PeerAddress, node_id};
use crate::budget::{Budget, SHARED_BYTES};
use crate::config::NetConfig;
use crate::connection::{Routes, Settings, Signals, read_loop, write_loop};
use crate::node_info::{self, NodeInfoError};
use crate::peer::{Peer, PeerStatus, Standing};
use crate::pex::Pex;
use crate::pex::store::BookStore;
use crate::reactor::{DropPeer, Reactor};
use dial::DialError;
use upgrade::{Connection, Rejected};

/// Number of the peer exchange channel.
pub const PEX_CHANNEL: u8 = 0x00;

/// How many peers there are, unconditional ones aside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PeerCounts {
    /// Peers we dialed.
    pub outbound: usize,
    /// Peers that dialed us.
    pub inbound: usize,
    /// Peers being dialed.
    pub dialing: usize,
}

/// Why a switch did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Two reactors serve one channel.
    #[error("channel {0:#04x} has more than one reactor")]
    DuplicateChannel(u8),
    /// The address to listen at is not available.
    #[error("cannot listen at {address}: {source}")]
    Listen {
        /// Address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The node info does not hold.
    #[error("own node info: {0}")]
    NodeInfo(#[from] NodeInfoError),
    /// The node info has another id than the key.
    #[error("own node info has id {found}, the key has {expected}")]
    WrongId {
        /// Id in the node info.
        found: String,
        /// Id of the key.
        expected: String,
    },
    /// Replies to keep-alives must come before the next one.
    #[error("the pong timeout is not shorter than the ping interval")]
    PongTimeout,
}

/// Who is connected or about to be.
#[derive(Default)]
struct Table {
    peers: HashMap<PeerId, Peer>,
    /// Being added: no longer dialing, not yet among the peers; `true`: counts as inbound.
    adding: HashMap<PeerId, bool>,
    dialing: HashSet<PeerId>,
    /// Connections by remote address, those in handshake included.
    addresses: HashMap<IpAddr, usize>,
    reconnecting: HashSet<PeerId>,
}

pub(crate) struct Shared {
    pub(crate) config: NetConfig,
    key: SecretKey,
    pub(crate) id: PeerId,
    info: NodeInfo,
    routes: Routes,
    budget: Budget,
    settings: Settings,
    table: Mutex<Table>,
    pub(crate) book: BookStore,
    persistent: HashMap<PeerId, PeerAddress>,
    listen_addr: Option<SocketAddr>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

/// What reactors and the node see of the switch. Cheap to clone.
#[derive(Clone)]
pub struct SwitchHandle(pub(crate) Arc<Shared>);

impl std::fmt::Debug for SwitchHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SwitchHandle").field("id", &self.0.id.0).finish_non_exhaustive()
    }
}

impl SwitchHandle {
    /// All peers.
    pub fn peers(&self) -> Vec<Peer> {
        self.0.table.lock().peers.values().cloned().collect()
    }

    /// The peer of that id.
    pub fn peer(&self, id: &PeerId) -> Option<Peer> {
        self.0.table.lock().peers.get(id).cloned()
    }

    /// Queues a message to all peers that listed the channel and have room.
    pub fn broadcast(&self, channel: u8, message: &Bytes) {
        for peer in self.peers() {
            peer.try_send(channel, message.clone());
        }
    }

    /// The peer was useful: its address moves up in the book.
    pub fn mark_good(&self, id: &PeerId) {
        self.0.book.mark_good(id);
    }

    /// Forgets the peer's address and does not dial it for a time. Connections that it makes are still accepted, and
    /// persistent peers are still dialed.
    pub fn ban(&self, id: &PeerId, time: Duration) {
        self.0.book.ban(id, time);
    }

    /// How many peers there are.
    pub fn counts(&self) -> PeerCounts {
        let table = self.0.table.lock();
        let mut counts = PeerCounts { dialing: table.dialing.len(), ..PeerCounts::default() };
        for peer in table.peers.values().filter(|peer| !peer.is_unconditional()) {
            if peer.is_outbound() {
                counts.outbound += 1;
            } else {
                counts.inbound += 1;
            }
        }
        counts
    }

    /// State of all peers' connections.
    pub fn statuses(&self) -> Vec<PeerStatus> {
        self.peers().iter().map(Peer::status).collect()
    }

    /// Our node id.
    pub fn id(&self) -> &PeerId {
        &self.0.id
    }

    /// What we tell others about ourselves.
    pub fn node_info(&self) -> &NodeInfo {
        &self.0.info
    }

    /// Where we accept connections (with the port chosen by the system if it was 0).
    pub fn listen_addr(&self) -> Option<SocketAddr> {
        self.0.listen_addr
    }

    /// Number of addresses in the book.
    pub fn known_addresses(&self) -> usize {
        self.0.book.len()
    }

    /// Dials a peer once.
    pub async fn dial(&self, address: &PeerAddress) -> Result<(), DialError> {
        let address = address.resolve().await?;
        self.0.dial(&address).await
    }

    /// Ready once all tasks of the switch have ended, after its token was cancelled.
    pub async fn stopped(&self) {
        self.0.stop.cancelled().await;
        self.0.tasks.wait().await;
    }
}

/// Starts switches.
#[derive(Debug)]
pub struct Switch;

impl Switch {
    /// Starts accepting and dialing. Reactors are given the handle by [`Reactor::start`] before there is any peer.
    ///
    /// In `info`, an empty id, listen address or list of channels is filled in. Everything ends when `stop` is cancelled;
    /// [`SwitchHandle::stopped`] waits for that.
    pub async fn start(
        config: NetConfig,
        key: SecretKey,
        info: NodeInfo,
        mut reactors: Vec<Arc<dyn Reactor>>,
        stop: CancellationToken,
    ) -> Result<SwitchHandle, StartError> {
        if config.intervals.pong_timeout >= config.intervals.ping {
            return Err(StartError::PongTimeout);
        }
        let id = node_id(&key.public());
        let book = BookStore::open(&config, &id).await;
        let pex = (config.pex || config.seed_mode).then(|| Arc::new(Pex::new(&config)));
        if let Some(pex) = &pex {
            reactors.push(Arc::clone(pex) as Arc<dyn Reactor>);
        }
        let routes = Routes::new(reactors).map_err(StartError::DuplicateChannel)?;
        let listener = match config.listen {
            None => None,
            Some(address) => {
                Some(TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })?)
            }
        };
        let listen_addr = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let info = complete_info(info, &config, &id, listen_addr, &routes)?;
        let settings = Settings {
            send_rate: config.send_rate,
            recv_rate: config.recv_rate,
            flush_delay: config.flush_delay,
            ping: config.intervals.ping,
            pong_timeout: config.intervals.pong_timeout,
        };
        let persistent = config.persistent_peers.iter().filter(|peer| peer.id != id);
        let persistent = persistent.map(|peer| (peer.id.clone(), peer.clone())).collect();
        let shared = Arc::new(Shared {
            key,
            id,
            info,
            routes,
            budget: Budget::new(SHARED_BYTES),
            settings,
            table: Mutex::new(Table::default()),
            book,
            persistent,
            listen_addr,
            stop,
            tasks: TaskTracker::new(),
            config,
        });
        let handle = SwitchHandle(Arc::clone(&shared));
        shared.routes.reactors.iter().for_each(|reactor| reactor.start(&handle));
        shared.tasks.spawn(Arc::clone(&shared).keep_book());
        if let Some(listener) = listener {
            shared.tasks.spawn(Arc::clone(&shared).accept_loop(listener));
        }
        for peer in shared.persistent.values() {
            shared.reconnect(peer.clone());
        }
        if let Some(pex) = pex {
            shared.tasks.spawn(pex.run(handle.clone()));
        }
        shared.tasks.close();
        info!(id = %shared.id.0, listen = ?listen_addr, "switch started");
        Ok(handle)
    }
}

/// Fills in what the switch knows better, and checks the result.
fn complete_info(
    mut info: NodeInfo,
    config: &NetConfig,
    id: &PeerId,
    listen: Option<SocketAddr>,
    routes: &Routes,
) -> Result<NodeInfo, StartError> {
    if info.default_node_id.is_empty() {
        info.default_node_id = id.0.to_string();
    }
    if info.default_node_id != *id.0 {
        return Err(StartError::WrongId { found: info.default_node_id, expected: id.0.to_string() });
    }
    if info.listen_addr.is_empty() {
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let listen = format!("tcp://{}", listen.unwrap_or(unknown));
        info.listen_addr = config.external_address.clone().filter(|address| !address.is_empty()).unwrap_or(listen);
    }
    if info.channels.is_empty() {
        info.channels = routes.channels.iter().map(|channel| channel.id).collect();
    }
    node_info::validate(&info)?;
    Ok(info)
}

/// One connection from or to an IP address; counted as long as it lives.
pub(crate) struct AddressSlot {
    shared: Arc<Shared>,
    ip: IpAddr,
}

impl Drop for AddressSlot {
    fn drop(&mut self) {
        let mut table = self.shared.table.lock();
        if let Some(count) = table.addresses.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                table.addresses.remove(&self.ip);
            }
        }
    }
}

/// Stops the peer when a task of its ends, however it does.
struct StopAtEnd(Peer);

impl Drop for StopAtEnd {
    fn drop(&mut self) {
        self.0.stop(DropPeer::new("connection task ended"));
    }
}

impl Shared {
    /// Counts a connection of the address; refused if there is one and only one may be.
    fn claim_address(self: &Arc<Self>, ip: IpAddr) -> Result<AddressSlot, Rejected> {
        let mut table = self.table.lock();
        let count = table.addresses.entry(ip).or_default();
        if *count > 0 && !self.config.allow_duplicate_ip {
            return Err(Rejected::DuplicateIp(ip));
        }
        *count += 1;
        drop(table);
        Ok(AddressSlot { shared: Arc::clone(self), ip })
    }

    /// Whether the node is connected or being dialed, or its IP address is taken.
    pub(crate) fn is_connected_or_dialing(&self, address: &NetAddress) -> bool {
        let table = self.table.lock();
        table.peers.contains_key(&address.id)
            || table.adding.contains_key(&address.id)
            || table.dialing.contains(&address.id)
            || (!self.config.allow_duplicate_ip && table.addresses.contains_key(&address.ip))
    }

    fn is_connected(&self, id: &PeerId) -> bool {
        let table = self.table.lock();
        table.peers.contains_key(id) || table.adding.contains_key(id)
    }

    /// Takes the id for a peer being added, within the limits.
    fn claim_id(&self, id: &PeerId, standing: Standing) -> Result<(), Rejected> {
        let mut table = self.table.lock();
        let counts_as_inbound = !standing.outbound && !standing.unconditional;
        if counts_as_inbound {
            let inbound = |peer: &&Peer| !peer.is_outbound() && !peer.is_unconditional();
            let have = table.peers.values().filter(inbound).count() + table.adding.values().filter(|in_| **in_).count();
            if have >= self.config.max_inbound {
                return Err(Rejected::TooManyInbound(have));
            }
        }
        if table.peers.contains_key(id) || table.adding.contains_key(id) {
            return Err(Rejected::DuplicateId(id.clone()));
        }
        table.adding.insert(id.clone(), counts_as_inbound);
        Ok(())
    }

    /// Makes a peer of a connection whose handshake is done, and runs it.
    fn add_peer(self: &Arc<Self>, connection: Connection, outbound: bool) -> Result<(), Rejected> {
        if self.stop.is_cancelled() {
            return Err(Rejected::Stopped);
        }
        let Connection { secured, info, remote, slot, permit } = connection;
        let id = PeerId::new(&info.default_node_id);
        if let Some(filter) = &self.config.filter {
            filter.node(&info, remote).map_err(Rejected::Filtered)?;
        }
        // DEVIATION: the reference also wants the address dialed or reported to be the one configured; the id is proven.
        let standing = Standing {
            outbound,
            persistent: self.persistent.contains_key(&id),
            unconditional: self.config.unconditional.contains(&id),
        };
        self.claim_id(&id, standing)?;
        let channels = Arc::clone(&self.routes.channels);
        let peer = Peer::new(id, info, remote, standing, channels, self.stop.child_token());
        self.routes.reactors.iter().for_each(|reactor| reactor.init_peer(&peer));
        {
            let mut table = self.table.lock();
            table.adding.remove(peer.id());
            table.peers.insert(peer.id().clone(), peer.clone());
        }
        self.routes.reactors.iter().for_each(|reactor| reactor.add_peer(&peer));
        info!(peer = %peer.id().0, %remote, outbound, moniker = %peer.node_info().moniker, "peer added");

        let signals = Arc::new(Signals::default());
        let (shared, signals_too, reading) = (Arc::clone(self), Arc::clone(&signals), peer.clone());
        let read = self.tasks.spawn(async move {
            let _end = StopAtEnd(reading.clone());
            let run =
                read_loop(&reading, secured.reader, shared.settings, &shared.routes, &signals_too, &shared.budget);
            tokio::select! {
                biased;
                () = reading.stop_token().cancelled() => reading.stop(DropPeer::new("stopped")),
                reason = Box::pin(run) => reading.stop(reason),
            }
        });
        let (settings, writing) = (self.settings, peer.clone());
        let write = self.tasks.spawn(async move {
            let _end = StopAtEnd(writing.clone());
            tokio::select! {
                biased;
                () = writing.stop_token().cancelled() => writing.stop(DropPeer::new("stopped")),
                reason = Box::pin(write_loop(&writing, secured.writer, settings, &signals)) => writing.stop(reason),
            }
        });
        let shared = Arc::clone(self);
        self.tasks.spawn(async move {
            // A task that panicked has stopped the peer like any other end.
            let _ = read.await;
            let _ = write.await;
            drop((slot, permit));
            shared.remove_peer(&peer);
        });
        Ok(())
    }

    /// Tidies up after a peer whose tasks have ended.
    fn remove_peer(self: &Arc<Self>, peer: &Peer) {
        let DropPeer { reason, ban } = peer.take_reason();
        peer.clear();
        self.budget.release(peer);
        info!(peer = %peer.id().0, remote = %peer.remote_addr(), %reason, "peer removed");
        // Before its id is free again, so that reactors never meet a new peer of the same id first.
        self.routes.reactors.iter().for_each(|reactor| reactor.remove_peer(peer, &reason));
        self.table.lock().peers.remove(peer.id());
        if let Some(time) = ban {
            warn!(peer = %peer.id().0, %reason, seconds = time.as_secs(), "peer banned");
            self.book.ban(peer.id(), time);
        }
        if let Some(address) = self.persistent.get(peer.id()) {
            self.reconnect(address.clone());
        }
    }

    /// Saves the book from time to time and at the end.
    async fn keep_book(self: Arc<Self>) {
        loop {
            let ended = tokio::select! {
                () = self.stop.cancelled() => true,
                () = tokio::time::sleep(self.config.intervals.save_book) => false,
            };
            self.book.save().await;
            if ended {
                debug!("address book closed");
                return;
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
