//! What is known of peers: who is connected and speaks what, where others are, who is good, important or blocked.
//!
//! Source: `go/p2p/rpc/peermgmt.go` (scores), go-libp2p's basic connection manager (trimming, tags) and address book.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;
use libp2p_swarm::ConnectionId;

use crate::address::{self, AddrInfo, MAX_ADDRESSES};
use crate::api::{PeerInfo, ProtocolId};
use crate::random;

/// Most peers whose addresses are kept; beyond it the one whose addresses expire first makes room.
pub(crate) const MAX_BOOK: usize = 4096;
/// Most blocked peers kept; beyond it the one blocked first is forgotten.
pub(crate) const MAX_BLOCKED: usize = 65_536;
/// How long addresses that a peer named of itself are good after it was last connected.
pub(crate) const ADDRESS_TTL: Duration = Duration::from_secs(15 * 60);
/// How many of the best peers are shuffled.
const SHUFFLED: usize = 5;
/// Inverse weight of a new latency in a peer's average.
const PEER_INV_ALPHA: f64 = 10.0;
/// Inverse weight of a new latency in the protocol's average.
const GLOBAL_INV_ALPHA: f64 = 25.0;
/// Score of a peer without history, in protocol averages.
const NEW_PEER: f64 = 0.9;
/// Value of the tag that a successful call leaves.
const SUCCESS_TAG: i64 = 20;
/// Value of the tag of important peers.
pub(crate) const IMPORTANCE_TAG: i64 = 1000;

#[derive(Debug, Default, Clone)]
struct Stats {
    successes: u32,
    failures: u32,
    /// Nanoseconds; 0 until the first answer.
    latency: f64,
}

impl Stats {
    fn record(&mut self, latency: f64) {
        self.latency = if self.latency == 0.0 { latency } else { average(self.latency, latency, PEER_INV_ALPHA) };
    }

    /// Lower is better.
    fn score(&self, global: f64) -> f64 {
        let calls = f64::from(self.successes) + f64::from(self.failures);
        if calls == 0.0 {
            return global * NEW_PEER;
        }
        self.latency + f64::from(self.failures) / calls * global
    }
}

fn average(old: f64, new: f64, inverse_alpha: f64) -> f64 {
    old + (new - old) / inverse_alpha
}

#[derive(Debug, Default)]
struct Scores {
    peers: HashMap<PeerId, Stats>,
    global: f64,
}

#[derive(Debug)]
struct Known {
    addrs: Vec<Multiaddr>,
    /// Not before; `None` never expires.
    expires: Option<Instant>,
}

#[derive(Debug, Clone)]
pub(crate) struct Connection {
    pub(crate) inbound: bool,
    pub(crate) since: Instant,
    pub(crate) remote: Multiaddr,
    /// Streams of calls in either direction.
    pub(crate) streams: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Connected {
    pub(crate) connections: HashMap<ConnectionId, Connection>,
    agent: String,
    protocols: HashSet<String>,
    identified: bool,
}

/// All of it, behind one lock.
#[derive(Debug)]
pub(crate) struct Table {
    me: PeerId,
    blocked: HashSet<PeerId>,
    blocked_order: VecDeque<PeerId>,
    blocked_ips: HashSet<IpAddr>,
    book: HashMap<PeerId, Known>,
    connected: HashMap<PeerId, Connected>,
    scores: HashMap<ProtocolId, Scores>,
    tags: HashMap<PeerId, HashMap<Arc<str>, i64>>,
    protected: HashSet<PeerId>,
}

impl Table {
    pub(crate) fn new(me: PeerId, blocked_ips: &[IpAddr], protected: &[AddrInfo]) -> Self {
        Self {
            me,
            blocked: HashSet::new(),
            blocked_order: VecDeque::new(),
            blocked_ips: blocked_ips.iter().map(|ip| ip.to_canonical()).collect(),
            book: HashMap::new(),
            connected: HashMap::new(),
            scores: HashMap::new(),
            tags: HashMap::new(),
            protected: protected.iter().map(|p| p.id).collect(),
        }
    }

    // Blocking.

    pub(crate) fn block(&mut self, peer: PeerId) {
        if self.blocked.insert(peer) {
            self.blocked_order.push_back(peer);
        }
        if self.blocked_order.len() > MAX_BLOCKED
            && let Some(first) = self.blocked_order.pop_front()
        {
            self.blocked.remove(&first);
        }
        self.forget_scores(&peer);
    }

    pub(crate) fn is_blocked(&self, peer: &PeerId) -> bool {
        self.blocked.contains(peer)
    }

    pub(crate) fn is_blocked_addr(&self, addr: &Multiaddr) -> bool {
        !self.blocked_ips.is_empty()
            && address::ip(addr).is_some_and(|ip| self.blocked_ips.contains(&ip.to_canonical()))
    }

    // Addresses.

    /// Adds addresses; `ttl` of `None` keeps them for good.
    pub(crate) fn learn(&mut self, info: &AddrInfo, ttl: Option<Duration>, now: Instant) {
        if info.id == self.me || info.addrs.is_empty() {
            return;
        }
        if !self.book.contains_key(&info.id) && self.book.len() >= MAX_BOOK && !self.make_room(now) {
            return;
        }
        let expires = ttl.and_then(|ttl| now.checked_add(ttl));
        let known = self.book.entry(info.id).or_insert(Known { addrs: Vec::new(), expires });
        for addr in &info.addrs {
            if !known.addrs.contains(addr) && known.addrs.len() < MAX_ADDRESSES {
                known.addrs.push(addr.clone());
            }
        }
        known.expires = known.expires.and_then(|old| expires.map(|new| old.max(new)));
    }

    /// Replaces what a peer said of itself, keeping addresses that never expire.
    pub(crate) fn replace(&mut self, info: &AddrInfo, now: Instant) {
        if self.book.get(&info.id).is_some_and(|known| known.expires.is_some()) {
            self.book.remove(&info.id);
        }
        self.learn(info, Some(ADDRESS_TTL), now);
    }

    fn make_room(&mut self, now: Instant) -> bool {
        self.expire(now);
        if self.book.len() < MAX_BOOK {
            return true;
        }
        let connected = &self.connected;
        let first = self
            .book
            .iter()
            .filter(|(id, _)| !connected.contains_key(id))
            .filter_map(|(id, known)| Some((known.expires?, *id)))
            .min_by_key(|(at, _)| *at);
        first.is_some_and(|(_, id)| self.book.remove(&id).is_some())
    }

    /// Forgets what has expired; connected peers' addresses stay.
    pub(crate) fn expire(&mut self, now: Instant) {
        let connected = &self.connected;
        self.book.retain(|id, known| connected.contains_key(id) || known.expires.is_none_or(|at| at > now));
    }

    pub(crate) fn addresses(&self, peer: &PeerId) -> Vec<Multiaddr> {
        let known = self.book.get(peer).map(|k| k.addrs.as_slice()).unwrap_or_default();
        known.iter().filter(|a| !self.is_blocked_addr(a)).cloned().collect()
    }

    pub(crate) fn known_peers(&self) -> Vec<AddrInfo> {
        self.book.iter().map(|(id, known)| AddrInfo { id: *id, addrs: known.addrs.clone() }).collect()
    }

    // Connections.

    pub(crate) fn connected(&mut self, peer: PeerId, id: ConnectionId, connection: Connection) {
        self.connected.entry(peer).or_default().connections.insert(id, connection);
    }

    pub(crate) fn disconnected(&mut self, peer: &PeerId, id: ConnectionId, now: Instant) {
        let Some(entry) = self.connected.get_mut(peer) else { return };
        entry.connections.remove(&id);
        if !entry.connections.is_empty() {
            return;
        }
        self.connected.remove(peer);
        self.forget_scores(peer);
        self.tags.retain(|tagged, tags| {
            // What calls brought goes with the connection; importance is somebody else's to withdraw.
            if tagged == peer {
                tags.retain(|_, value| *value == IMPORTANCE_TAG);
            }
            !tags.is_empty()
        });
        if let Some(known) = self.book.get_mut(peer)
            && known.expires.is_some()
        {
            known.expires = now.checked_add(ADDRESS_TTL);
        }
    }

    pub(crate) fn identified(&mut self, peer: &PeerId, agent: String, protocols: HashSet<String>) {
        let Some(entry) = self.connected.get_mut(peer) else { return };
        let gone: Vec<String> = entry.protocols.difference(&protocols).cloned().collect();
        entry.agent = agent;
        entry.protocols = protocols;
        entry.identified = true;
        for name in gone {
            if let Some(scores) = self.scores.get_mut(&ProtocolId::new(&name)) {
                scores.peers.remove(peer);
            }
        }
    }

    pub(crate) fn is_connected(&self, peer: &PeerId) -> bool {
        self.connected.contains_key(peer)
    }

    pub(crate) fn is_identified(&self, peer: &PeerId) -> bool {
        self.connected.get(peer).is_some_and(|c| c.identified)
    }

    pub(crate) fn describe(&self, peer: &PeerId) -> Option<(String, Vec<String>)> {
        let entry = self.connected.get(peer).filter(|c| c.identified)?;
        let mut protocols: Vec<String> = entry.protocols.iter().cloned().collect();
        protocols.sort_unstable();
        Some((entry.agent.clone(), protocols))
    }

    pub(crate) fn connections(&self, peer: &PeerId) -> Vec<(ConnectionId, Connection)> {
        self.connected
            .get(peer)
            .map(|c| c.connections.iter().map(|(id, c)| (*id, c.clone())).collect())
            .unwrap_or_default()
    }

    pub(crate) fn count_streams(&mut self, peer: &PeerId, id: ConnectionId, change: isize) {
        let connection = self.connected.get_mut(peer).and_then(|c| c.connections.get_mut(&id));
        if let Some(connection) = connection {
            connection.streams = connection.streams.saturating_add_signed(change);
        }
    }

    pub(crate) fn num_peers(&self) -> usize {
        self.connected.len()
    }

    pub(crate) fn num_connections(&self) -> usize {
        self.connected.values().map(|c| c.connections.len()).sum()
    }

    pub(crate) fn num_inbound(&self) -> usize {
        self.connected.values().flat_map(|c| c.connections.values()).filter(|c| c.inbound).count()
    }

    pub(crate) fn num_with_peer(&self, peer: &PeerId) -> usize {
        self.connected.get(peer).map_or(0, |c| c.connections.len())
    }

    pub(crate) fn num_protocol_peers(&self, protocol: &ProtocolId) -> usize {
        self.connected.values().filter(|c| c.protocols.contains(protocol.as_str())).count()
    }

    /// Peers to disconnect so that at most `low` connections remain, if there are more than `high`: the least valued
    /// first, of equal ones those from outside, then the newest. Protected peers and new connections are spared.
    pub(crate) fn trim(&self, low: usize, high: usize, grace: Duration, now: Instant) -> Vec<PeerId> {
        let mut total = self.num_connections();
        if total <= high {
            return Vec::new();
        }
        let mut candidates: Vec<_> = self
            .connected
            .iter()
            .filter(|(id, _)| !self.protected.contains(id))
            .filter(|(_, c)| c.connections.values().all(|c| now.saturating_duration_since(c.since) >= grace))
            .map(|(id, c)| {
                let value: i64 = self.tags.get(id).map_or(0, |tags| tags.values().sum());
                let outbound = c.connections.values().any(|c| !c.inbound);
                let since = c.connections.values().map(|c| c.since).min();
                ((value, outbound, std::cmp::Reverse(since)), *id, c.connections.len())
            })
            .collect();
        candidates.sort_unstable();
        let mut out = Vec::new();
        for (_, id, connections) in candidates {
            if total <= low {
                break;
            }
            total = total.saturating_sub(connections);
            out.push(id);
        }
        out
    }

    // Scores and tags.

    fn forget_scores(&mut self, peer: &PeerId) {
        for scores in self.scores.values_mut() {
            scores.peers.remove(peer);
        }
    }

    fn speaks(&self, peer: &PeerId, protocol: &ProtocolId) -> bool {
        self.connected.get(peer).is_some_and(|c| c.protocols.contains(protocol.as_str()))
    }

    pub(crate) fn success(&mut self, peer: &PeerId, protocol: &ProtocolId, latency: Duration) {
        if !self.speaks(peer, protocol) {
            return;
        }
        let latency = latency.as_nanos() as f64;
        let scores = self.scores.entry(protocol.clone()).or_default();
        let stats = scores.peers.entry(*peer).or_default();
        stats.successes = stats.successes.saturating_add(1);
        stats.record(latency);
        scores.global = if scores.global == 0.0 { latency } else { average(scores.global, latency, GLOBAL_INV_ALPHA) };
        self.tag(*peer, protocol.as_str(), SUCCESS_TAG);
    }

    pub(crate) fn failure(&mut self, peer: &PeerId, protocol: &ProtocolId, latency: Duration) {
        if !self.speaks(peer, protocol) {
            return;
        }
        let stats = self.scores.entry(protocol.clone()).or_default().peers.entry(*peer).or_default();
        stats.failures = stats.failures.saturating_add(1);
        stats.record(latency.as_nanos() as f64);
    }

    pub(crate) fn tag(&mut self, peer: PeerId, tag: &str, value: i64) {
        self.tags.entry(peer).or_default().insert(tag.into(), value);
    }

    /// Tags exactly these peers; others lose the tag.
    pub(crate) fn set_important(&mut self, tag: &str, peers: &[PeerId]) {
        self.tags.retain(|_, tags| {
            tags.remove(tag);
            !tags.is_empty()
        });
        for peer in peers {
            self.tag(*peer, tag, IMPORTANCE_TAG);
        }
    }

    /// Connected peers that speak the protocol, best first, the first few shuffled.
    pub(crate) fn best(&self, protocol: &ProtocolId) -> Vec<PeerInfo> {
        let empty = Scores::default();
        let scores = self.scores.get(protocol).unwrap_or(&empty);
        let mut peers: Vec<(f64, PeerInfo)> = self
            .connected
            .iter()
            .filter(|(id, c)| c.protocols.contains(protocol.as_str()) && !self.blocked.contains(id))
            .map(|(id, c)| {
                let stats = scores.peers.get(id).cloned().unwrap_or_default();
                let latency = (stats.latency > 0.0).then(|| Duration::from_nanos(stats.latency as u64));
                (stats.score(scores.global), PeerInfo { id: *id, agent: c.agent.clone(), latency })
            })
            .collect();
        peers.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.id.cmp(&b.1.id)));
        let mut peers: Vec<PeerInfo> = peers.into_iter().map(|(_, p)| p).collect();
        let few = peers.len().min(SHUFFLED);
        random::shuffle(&mut peers[..few]);
        peers
    }
}

#[cfg(test)]
mod tests;
