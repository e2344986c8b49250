//! Keeps peers connected, advertises what is served, and backs up known peers.
//!
//! Source: `go/p2p/peermgmt`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p_identity::PeerId;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{debug, warn};

use crate::address::AddrInfo;
use crate::api::{ProtocolId, Topic};
use crate::backoff::Backoff;
use crate::backup::{self, PeerBackup, Peers};
use crate::bootstrap::Seed;
use crate::config::Config;
use crate::node::Node;
use crate::random;
use crate::registry::Registry;
use crate::table::{ADDRESS_TTL, MAX_BOOK};

/// How often it is checked whether there are enough peers.
const INTERVAL: Duration = Duration::from_secs(1);
/// First pause after a peer could not be reached. The reference waits a minute, in which a node that was restarted is
/// missed by everybody.
const DIAL_BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// Longest pause after a peer could not be reached.
const DIAL_BACKOFF_MAX: Duration = Duration::from_secs(4 * 3600);
/// First pause after an advertisement failed.
const ADVERTISE_BACKOFF_FIRST: Duration = Duration::from_secs(60);
/// Longest pause after an advertisement failed.
const ADVERTISE_BACKOFF_MAX: Duration = Duration::from_secs(3600);
/// An advertisement is renewed no sooner, whatever the seed says.
const ADVERTISE_MIN: Duration = Duration::from_secs(60);
/// An advertisement is renewed no later, whatever the seed says.
const ADVERTISE_MAX: Duration = Duration::from_secs(24 * 3600);
/// How often known peers are backed up.
pub(crate) const BACKUP_INTERVAL: Duration = Duration::from_secs(15 * 60);
/// Peers of the backup that are connected to at start.
const MAX_RESTORED: usize = 100;
/// Peers that are dialled at once.
const MAX_DIALS: usize = 32;
/// Peers whose failed dials are remembered.
const MAX_BACKOFFS: usize = 2 * MAX_BOOK;

#[derive(Debug, Clone, Copy)]
struct Want {
    min: usize,
    total: usize,
}

/// What to keep connected, and how.
pub(crate) struct Manager {
    pub(crate) registry: Mutex<Registry>,
    seeds: Vec<Arc<Seed>>,
    protocols: Mutex<HashMap<ProtocolId, Want>>,
    topics: Mutex<HashMap<Topic, Want>>,
    advertised: Mutex<HashSet<String>>,
    advertise: tokio::sync::Notify,
    backoffs: Mutex<HashMap<PeerId, Backoff>>,
    dials: Semaphore,
}

impl Manager {
    pub(crate) fn new(config: &Config) -> Self {
        let use_seeds = config.bootstrap && config.manage_peers;
        let seeds = config.seeds.iter().filter(|_| use_seeds);
        Self {
            registry: Mutex::default(),
            seeds: seeds.map(|s| Arc::new(Seed::new(s.id, config.retention_period))).collect(),
            protocols: Mutex::default(),
            topics: Mutex::default(),
            advertised: Mutex::default(),
            advertise: tokio::sync::Notify::new(),
            backoffs: Mutex::default(),
            dials: Semaphore::new(MAX_DIALS),
        }
    }

    pub(crate) fn track_protocol(&self, protocol: &ProtocolId, min: usize, total: usize) {
        self.protocols.lock().insert(protocol.clone(), Want { min, total });
    }

    pub(crate) fn track_topic(&self, topic: &Topic, min: usize, total: usize) {
        self.topics.lock().insert(topic.clone(), Want { min, total });
    }

    pub(crate) fn tracked(&self) -> (Vec<ProtocolId>, Vec<Topic>) {
        (self.protocols.lock().keys().cloned().collect(), self.topics.lock().keys().cloned().collect())
    }

    pub(crate) fn advertise(&self, name: &str) {
        if !self.seeds.is_empty() && self.advertised.lock().insert(name.to_owned()) {
            self.advertise.notify_one();
        }
    }

    fn may_dial(&self, peer: &PeerId, now: Instant) -> bool {
        self.backoffs.lock().get(peer).is_none_or(|b| b.ready(now))
    }

    fn dialled(&self, peer: PeerId, ok: bool, now: Instant) {
        let mut backoffs = self.backoffs.lock();
        if ok {
            backoffs.remove(&peer);
            return;
        }
        if backoffs.len() >= MAX_BACKOFFS && !backoffs.contains_key(&peer) {
            backoffs.retain(|_, b| !b.ready(now));
            if backoffs.len() >= MAX_BACKOFFS {
                backoffs.clear();
            }
        }
        backoffs.entry(peer).or_insert_with(|| Backoff::new(DIAL_BACKOFF_FIRST, DIAL_BACKOFF_MAX)).extend(now);
    }

    /// Everything there should be peers for: name, how many there are, how many there should be.
    fn wants(&self, node: &Node) -> Vec<(String, usize, Want)> {
        let mut out = Vec::new();
        {
            let table = node.shared.table.lock();
            for (protocol, want) in self.protocols.lock().iter() {
                out.push((protocol.to_string(), table.num_protocol_peers(protocol), *want));
            }
        }
        for (topic, want) in self.topics.lock().iter() {
            out.push((topic.to_string(), node.shared.num_topic_peers(topic), *want));
        }
        out
    }
}

/// Starts the manager's tasks.
pub(crate) fn start(node: &Node) {
    let config = node.config();
    if !config.manage_peers {
        return;
    }
    let (a, b) = (node.clone(), node.clone());
    node.shared.spawn(async move { keep_connected(&a).await });
    node.shared.spawn(async move { keep_advertised(&b).await });
    if let Some(backup) = config.backup.clone() {
        let node = node.clone();
        node.shared.clone().spawn(async move { keep_backup(&node, backup).await });
    }
    if !config.persistent_peers.is_empty() {
        let node = node.clone();
        node.shared.clone().spawn(async move { keep_persistent(&node).await });
    }
}

async fn keep_connected(node: &Node) {
    loop {
        sleep(INTERVAL).await;
        let manager = node.manager();
        let mut work = JoinSet::new();
        for (name, connected, want) in manager.wants(node) {
            let missing = want.min.saturating_sub(connected);
            if missing > 0 {
                let peers = manager.registry.lock().find(&name);
                let node = node.clone();
                work.spawn(async move { connect_many(&node, peers, missing).await });
            }
        }
        while work.join_next().await.is_some() {}
        for (name, connected, want) in manager.wants(node) {
            let missing = want.total.saturating_sub(connected);
            if missing > 0 && !manager.seeds.is_empty() {
                let seed = manager.seeds[(random::number() % manager.seeds.len() as u64) as usize].clone();
                let node = node.clone();
                work.spawn(async move {
                    let peers = seed.find(&node, &name).await;
                    connect_many(&node, peers, missing).await;
                });
            }
        }
        while work.join_next().await.is_some() {}
    }
}

/// Connects to peers of the list until so many are connected; those that already are count.
async fn connect_many(node: &Node, peers: Vec<AddrInfo>, mut missing: usize) {
    let mut peers = peers.into_iter();
    let mut dials = JoinSet::new();
    loop {
        while dials.len() < missing {
            let Some(peer) = peers.next() else { break };
            let node = node.clone();
            dials.spawn(async move { connect_one(&node, &peer).await });
        }
        match dials.join_next().await {
            None => return,
            Some(Ok(true)) => missing = missing.saturating_sub(1),
            Some(_) => {}
        }
        if missing == 0 {
            return;
        }
    }
}

async fn connect_one(node: &Node, peer: &AddrInfo) -> bool {
    if peer.id == node.peer_id() || peer.addrs.is_empty() || node.shared.table.lock().is_blocked(&peer.id) {
        return false;
    }
    if node.is_connected(&peer.id) {
        return true;
    }
    let manager = node.manager();
    if !manager.may_dial(&peer.id, Instant::now()) {
        return false;
    }
    let Ok(_turn) = manager.dials.acquire().await else { return false };
    let result = node.connect(peer).await;
    if let Err(error) = &result {
        debug!(peer = %peer.id, %error, "cannot connect to peer");
    }
    manager.dialled(peer.id, result.is_ok(), Instant::now());
    result.is_ok()
}

async fn keep_persistent(node: &Node) {
    loop {
        for peer in &node.config().persistent_peers {
            connect_one(node, peer).await;
        }
        sleep(5 * INTERVAL).await;
    }
}

async fn keep_advertised(node: &Node) {
    let manager = node.manager();
    let mut started = HashSet::new();
    loop {
        let names: Vec<String> = manager.advertised.lock().difference(&started).cloned().collect();
        for name in names {
            for seed in &manager.seeds {
                let (node, seed, name) = (node.clone(), seed.clone(), name.clone());
                node.shared.clone().spawn(async move { advertise(&node, &seed, &name).await });
            }
            started.insert(name);
        }
        manager.advertise.notified().await;
    }
}

async fn advertise(node: &Node, seed: &Seed, name: &str) {
    let mut backoff = Backoff::new(ADVERTISE_BACKOFF_FIRST, ADVERTISE_BACKOFF_MAX);
    loop {
        let pause = match seed.advertise(node, name).await {
            Ok(ttl) => {
                backoff.reset();
                (ttl / 8 * 7).clamp(ADVERTISE_MIN, ADVERTISE_MAX)
            }
            Err(error) => {
                debug!(name, %error, "cannot advertise");
                backoff.pause()
            }
        };
        sleep(pause).await;
    }
}

async fn keep_backup(node: &Node, backup: Arc<dyn PeerBackup>) {
    match load(backup.clone()).await {
        Ok(mut peers) => {
            let mut known = peers.remove("").unwrap_or_default();
            known.truncate(MAX_BOOK / 2);
            random::shuffle(&mut known);
            {
                let (mut table, now) = (node.shared.table.lock(), Instant::now());
                known.iter().for_each(|peer| table.learn(peer, Some(ADDRESS_TTL), now));
            }
            let node = node.clone();
            node.shared.clone().spawn(async move { connect_many(&node, known, MAX_RESTORED).await });
        }
        Err(error) => warn!(%error, "cannot restore known peers"),
    }
    loop {
        sleep(BACKUP_INTERVAL).await;
        let known = node.shared.table.lock().known_peers();
        save(backup.clone(), Peers::from([(String::new(), known)])).await;
    }
}

/// Reads a backup on a blocking thread.
pub(crate) async fn load(backup: Arc<dyn PeerBackup>) -> Result<Peers, backup::BackupError> {
    let read = tokio::task::spawn_blocking(move || backup.load());
    match read.await.map_err(std::io::Error::other)?? {
        None => Ok(Peers::new()),
        Some(bytes) => backup::decode(&bytes),
    }
}

/// Writes a backup on a blocking thread; nothing to keep leaves the old one.
pub(crate) async fn save(backup: Arc<dyn PeerBackup>, peers: Peers) {
    let Some(bytes) = backup::encode(&peers) else { return };
    let written = tokio::task::spawn_blocking(move || backup.store(&bytes)).await.map_err(std::io::Error::other);
    if let Err(error) = written.and_then(|result| result) {
        warn!(%error, "cannot back up known peers");
    }
}
