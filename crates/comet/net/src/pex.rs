//! Peer exchange: asks peers for addresses, tells them ours, and dials until there are enough peers.
//!
//! Reference: `cometbft:p2p/pex/pex_reactor.go`, `oasis-core:go/consensus/cometbft/seed`.

pub(crate) mod store;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use comet_core::PeerId;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tracing::{debug, info};
use wire_cometbft::codec::Message;
use wire_cometbft::limits::MAX_PEX_MESSAGE_BYTES;
use wire_cometbft::p2p::{self, PexAddrs, PexMessage, PexMessageSum, PexRequest};

use crate::address::{NetAddress, PeerAddress, parse_id, parse_ip};
use crate::config::NetConfig;
use crate::node_info::reported_address;
use crate::peer::Peer;
use crate::random::{below, jitter, shuffle_front};
use crate::reactor::{ChannelDescriptor, DropPeer, Reactor};
use crate::switch::dial::DialError;
use crate::switch::{PEX_CHANNEL, SwitchHandle};

/// How long a peer is banned for.
pub const BAN_TIME: Duration = Duration::from_secs(24 * 3600);
/// Failed tries after which an address is banned.
pub const MAX_ATTEMPTS: u32 = 16;
/// Addresses whose failed tries are remembered; beyond, that tried longest ago is forgotten.
pub const MAX_ATTEMPTED: usize = 4096;
/// Share of new addresses that a seed tells, in percent.
pub const SEED_NEW_BIAS: usize = 30;
/// How long a seed keeps a peer.
pub const SEED_KEEP_TIME: Duration = Duration::from_secs(28 * 3600);
/// Time between a seed's visits to one node.
pub const CRAWL_INTERVAL: Duration = Duration::from_secs(120);
/// How long a seed remembers its visit to a node.
pub const CRAWL_MEMORY: Duration = Duration::from_secs(24 * 3600);
/// Nodes that a seed visits at once.
pub const CRAWL_AT_ONCE: usize = 16;
/// Most outbound peers of a seed; the reference has no such limit.
pub const SEED_MAX_OUTBOUND: usize = 512;

/// What a peer asked of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Once,
    At(Instant),
}

#[derive(Debug, Clone, Copy)]
struct Attempts {
    failed: u32,
    last: Instant,
}

#[derive(Default)]
struct State {
    /// Peers that owe us an answer.
    requested: HashSet<PeerId>,
    asked: HashMap<PeerId, Asked>,
    attempts: HashMap<SocketAddr, Attempts>,
    crawled: HashMap<PeerId, Instant>,
}

/// The reactor of channel 0x00.
pub(crate) struct Pex {
    seed_mode: bool,
    seeds: Vec<PeerAddress>,
    max_outbound: usize,
    period: Duration,
    persistent_max_dial_period: Duration,
    persistent: HashSet<PeerId>,
    switch: OnceLock<SwitchHandle>,
    state: Mutex<State>,
    /// Have a look for peers now.
    look: Notify,
}

/// Takes note of a peer's request: the first is free, the second too, later ones must keep `least` apart.
fn take_request(state: &mut State, id: &PeerId, least: Duration, now: Instant) -> Result<(), DropPeer> {
    match state.asked.get(id) {
        None => {
            state.asked.insert(id.clone(), Asked::Once);
        }
        Some(Asked::At(last)) if now.saturating_duration_since(*last) < least => {
            return Err(DropPeer::banned("asked for addresses too often", BAN_TIME));
        }
        Some(_) => {
            state.asked.insert(id.clone(), Asked::At(now));
        }
    }
    Ok(())
}

/// How long to leave an address alone after so many failed tries, without jitter.
fn backoff(failed: u32) -> Duration {
    Duration::from_secs(1_u64.checked_shl(failed).unwrap_or(u64::MAX >> 1))
}

fn encode(message: PexMessageSum) -> Bytes {
    Bytes::from(PexMessage::from(message).encode_to_vec())
}

fn encode_addresses(addresses: Vec<NetAddress>) -> Bytes {
    let to_wire = |address: NetAddress| p2p::NetAddress {
        id: address.id.0.to_string(),
        ip: address.ip.to_string(),
        port: u32::from(address.port),
    };
    encode(PexMessageSum::Addrs(PexAddrs { addrs: addresses.into_iter().map(to_wire).collect() }))
}

/// The addresses of an answer; those with a malformed id are left out, a malformed IP address or port refuses all.
fn decode_addresses(addrs: &[p2p::NetAddress]) -> Result<Vec<NetAddress>, DropPeer> {
    let mut addresses = Vec::with_capacity(addrs.len());
    for address in addrs {
        let (Some(ip), Ok(port)) = (parse_ip(&address.ip), u16::try_from(address.port)) else {
            return Err(DropPeer::banned("told a malformed address", BAN_TIME));
        };
        if let Ok(id) = parse_id(&address.id) {
            addresses.push(NetAddress { id, ip, port });
        }
    }
    Ok(addresses)
}

impl Pex {
    pub(crate) fn new(config: &NetConfig) -> Self {
        Self {
            seed_mode: config.seed_mode,
            seeds: config.seeds.clone(),
            max_outbound: config.max_outbound,
            period: config.intervals.ensure_peers,
            persistent_max_dial_period: config.persistent_peers_max_dial_period,
            persistent: config.persistent_peers.iter().map(|peer| peer.id.clone()).collect(),
            switch: OnceLock::new(),
            state: Mutex::new(State::default()),
            look: Notify::new(),
        }
    }

    /// Looks for peers until the switch stops.
    pub(crate) async fn run(self: Arc<Self>, switch: SwitchHandle) {
        let stop = switch.0.stop.clone();
        let work = async {
            if self.seed_mode {
                Box::pin(self.crawl_loop(&switch)).await
            } else {
                Box::pin(self.look_loop(&switch)).await
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = work => {}
        }
    }

    async fn look_loop(&self, switch: &SwitchHandle) {
        let counts = switch.counts();
        if counts.inbound + counts.outbound + counts.dialing > 0 {
            sleep(jitter(self.period)).await;
        }
        loop {
            self.ensure_peers(switch).await;
            tokio::select! {
                () = sleep(self.period) => {}
                () = self.look.notified() => {}
            }
        }
    }

    /// Dials as many addresses of the book as outbound peers are missing; asks for more if there are few.
    async fn ensure_peers(&self, switch: &SwitchHandle) {
        let counts = switch.counts();
        let missing = self.max_outbound.saturating_sub(counts.outbound + counts.dialing);
        debug!(?counts, missing, known = switch.known_addresses(), "looking for peers");
        if missing == 0 {
            return;
        }
        let book = &switch.0.book;
        let new_bias = counts.outbound.min(8) * 10 + 10;
        let mut chosen: HashMap<PeerId, NetAddress> = HashMap::new();
        for _ in 0..missing.saturating_mul(3) {
            if chosen.len() >= missing {
                break;
            }
            if let Some(address) = book.pick(new_bias).filter(|address| !switch.0.is_connected_or_dialing(address)) {
                chosen.insert(address.id.clone(), address);
            }
        }
        if book.needs_more() {
            book.reinstate();
            let peers = switch.peers();
            if let Some(peer) = peers.get(below(peers.len())) {
                self.request(peer);
            }
        }
        if chosen.is_empty() && book.needs_more() {
            self.dial_seeds(switch).await;
            return;
        }
        let dials = chosen.into_values().map(|address| async move {
            let result = self.dial(switch, &address).await;
            debug!(%address, ?result, "dialed from the address book");
        });
        futures_util::future::join_all(dials).await;
    }

    /// Dials an address of the book unless it was tried too often or too recently.
    async fn dial(&self, switch: &SwitchHandle, address: &NetAddress) -> Result<(), DialError> {
        let book = &switch.0.book;
        let socket = address.socket();
        let persistent = self.persistent.contains(&address.id);
        if !persistent && book.is_banned(&address.id) {
            return Err(DialError::Banned);
        }
        let attempts = self.state.lock().attempts.get(&socket).copied();
        if let Some(Attempts { failed, last }) = attempts {
            if !persistent && failed > MAX_ATTEMPTS {
                book.ban(&address.id, BAN_TIME);
                self.state.lock().attempts.remove(&socket);
                return Err(DialError::Banned);
            }
            let mut wait = backoff(failed) + jitter(Duration::from_secs(1));
            if persistent && !self.persistent_max_dial_period.is_zero() {
                wait = wait.min(self.persistent_max_dial_period);
            }
            if last.elapsed() < wait {
                return Err(DialError::TooEarly);
            }
        }
        let result = switch.0.dial(address).await;
        let mut state = self.state.lock();
        match &result {
            Ok(()) => {
                state.attempts.remove(&socket);
            }
            Err(DialError::Already | DialError::Stopped | DialError::Banned | DialError::TooEarly) => {}
            Err(_) => {
                book.mark_attempt(&address.id);
                if state.attempts.len() >= MAX_ATTEMPTED && !state.attempts.contains_key(&socket) {
                    let oldest = state.attempts.iter().min_by_key(|(_, attempts)| attempts.last).map(|(at, _)| *at);
                    oldest.and_then(|at| state.attempts.remove(&at));
                }
                let failed = attempts.map_or(1, |attempts| attempts.failed.saturating_add(1));
                state.attempts.insert(socket, Attempts { failed, last: Instant::now() });
            }
        }
        result
    }

    /// Dials the seeds in random order until one answers.
    async fn dial_seeds(&self, switch: &SwitchHandle) {
        let mut seeds: Vec<_> = self.seeds.iter().collect();
        let count = seeds.len();
        shuffle_front(&mut seeds, count);
        for seed in seeds {
            match switch.dial(seed).await {
                Ok(()) | Err(DialError::Already) => return,
                Err(error) => info!(%seed, %error, "cannot connect to seed"),
            }
        }
    }

    /// Asks a peer for addresses, unless it owes us some.
    fn request(&self, peer: &Peer) {
        if !self.state.lock().requested.insert(peer.id().clone()) {
            return;
        }
        if !peer.try_send(PEX_CHANNEL, encode(PexMessageSum::Request(PexRequest {}))) {
            self.state.lock().requested.remove(peer.id());
        }
    }

    async fn crawl_loop(&self, switch: &SwitchHandle) {
        if self.seeds.is_empty() {
            self.crawl(switch).await;
        } else {
            self.dial_seeds(switch).await;
        }
        loop {
            sleep(self.period).await;
            for peer in switch.peers() {
                if peer.connected_for() >= SEED_KEEP_TIME && !peer.is_persistent() {
                    peer.stop_after_flush(DropPeer::new("kept long enough"));
                }
            }
            self.crawl(switch).await;
            self.state.lock().crawled.retain(|_, at| at.elapsed() <= CRAWL_MEMORY);
        }
    }

    /// Visits nodes of the book and asks them for addresses.
    async fn crawl(&self, switch: &SwitchHandle) {
        let due = |address: &NetAddress| {
            let mut state = self.state.lock();
            let due = state.crawled.get(&address.id).is_none_or(|at| at.elapsed() >= CRAWL_INTERVAL);
            if due {
                state.crawled.insert(address.id.clone(), Instant::now());
            }
            due
        };
        let addresses: Vec<_> = switch.0.book.selection().into_iter().filter(due).collect();
        let visits = addresses.into_iter().map(|address| async move {
            if switch.counts().outbound >= SEED_MAX_OUTBOUND {
                return;
            }
            match self.dial(switch, &address).await {
                // The peer was asked when it was added if the book needs more; each owes us one answer at most.
                Ok(()) => {
                    if let Some(peer) = switch.peer(&address.id) {
                        self.request(&peer);
                    }
                }
                Err(error) => debug!(%address, %error, "not visited"),
            }
        });
        stream::iter(visits).buffer_unordered(CRAWL_AT_ONCE).collect::<Vec<()>>().await;
    }

    async fn handle_request(&self, peer: &Peer, switch: &SwitchHandle) -> Result<(), DropPeer> {
        if self.seed_mode && !peer.is_outbound() {
            if self.state.lock().asked.insert(peer.id().clone(), Asked::Once).is_none() {
                let selection = switch.0.book.biased_selection(SEED_NEW_BIAS);
                peer.try_send(PEX_CHANNEL, encode_addresses(selection));
                peer.stop_after_flush(DropPeer::new("answered as seed"));
            }
            return Ok(());
        }
        take_request(&mut self.state.lock(), peer.id(), self.period / 3, Instant::now())?;
        let answer = encode_addresses(switch.0.book.selection());
        peer.send(PEX_CHANNEL, answer).await;
        Ok(())
    }

    fn handle_addresses(&self, peer: &Peer, switch: &SwitchHandle, addrs: &[p2p::NetAddress]) -> Result<(), DropPeer> {
        let addresses = decode_addresses(addrs)?;
        if !self.state.lock().requested.remove(peer.id()) {
            return Err(DropPeer::banned("told addresses without being asked", BAN_TIME));
        }
        let source = reported_address(peer.node_info()).unwrap_or_else(|| NetAddress {
            id: peer.id().clone(),
            ip: peer.remote_addr().ip(),
            port: peer.remote_addr().port(),
        });
        debug!(peer = %peer.id().0, count = addresses.len(), "addresses received");
        addresses.into_iter().for_each(|address| switch.0.book.add(address, source.clone()));
        if self.seeds.iter().any(|seed| seed.id == *peer.id()) {
            self.look.notify_one();
        }
        Ok(())
    }
}

impl Reactor for Pex {
    fn channels(&self) -> Vec<ChannelDescriptor> {
        vec![ChannelDescriptor { id: PEX_CHANNEL, priority: 1, send_queue: 10, max_message: MAX_PEX_MESSAGE_BYTES }]
    }

    fn start(&self, switch: &SwitchHandle) {
        // Called once; a second handle would be of the same switch.
        let _ = self.switch.set(switch.clone());
    }

    fn add_peer(&self, peer: &Peer) {
        let Some(switch) = self.switch.get() else { return };
        if peer.is_outbound() {
            if switch.0.book.needs_more() {
                self.request(peer);
            }
        } else if let Some(address) = reported_address(peer.node_info()) {
            switch.0.book.add(address.clone(), address);
        }
    }

    fn remove_peer(&self, peer: &Peer, _reason: &str) {
        let mut state = self.state.lock();
        state.requested.remove(peer.id());
        state.asked.remove(peer.id());
    }

    fn receive<'a>(&'a self, _channel: u8, peer: &'a Peer, message: Bytes) -> BoxFuture<'a, Result<(), DropPeer>> {
        Box::pin(async move {
            let Some(switch) = self.switch.get() else { return Ok(()) };
            let message = PexMessage::decode(&message).map_err(|error| DropPeer::new(error.to_string()))?;
            match message.sum {
                Some(PexMessageSum::Request(_)) => self.handle_request(peer, switch).await,
                Some(PexMessageSum::Addrs(answer)) => self.handle_addresses(peer, switch, &answer.addrs),
                None => Err(DropPeer::new("empty peer exchange message")),
            }
        })
    }
}

#[cfg(test)]
mod tests;
