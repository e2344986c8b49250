//! A seed's register of who offers what.
//!
//! Source: `go/p2p/discovery/peerstore`. Time is an argument.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use libp2p_identity::PeerId;

use crate::address::AddrInfo;
use crate::api::MAX_NAME;
use crate::random;

/// How long a registration lasts.
pub const REGISTRATION_TTL: Duration = Duration::from_secs(3600);

/// Bounds of a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreLimits {
    /// Peers.
    pub peers: usize,
    /// Peers in one namespace.
    pub peers_per_namespace: usize,
    /// Namespaces of one peer.
    pub namespaces_per_peer: usize,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self { peers: 10_000, peers_per_namespace: 1_000, namespaces_per_peer: 20 }
    }
}

/// Why a registration was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The register is full.
    #[error("too many peers")]
    Peers,
    /// The namespace is full.
    #[error("too many peers registered for the namespace")]
    Namespace,
    /// The peer is in too many namespaces.
    #[error("peer registered too many namespaces")]
    Namespaces,
    /// The name of the namespace is too long; the reference has no such limit.
    #[error("name of the namespace is too long")]
    Name,
}

#[derive(Debug)]
struct Registration {
    info: AddrInfo,
    expires: Instant,
}

/// The register.
#[derive(Debug, Default)]
pub struct Store {
    limits: StoreLimits,
    namespaces: HashMap<String, HashMap<PeerId, Registration>>,
    per_peer: HashMap<PeerId, usize>,
}

impl Store {
    /// An empty register.
    #[must_use]
    pub fn new(limits: StoreLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Registers a peer or prolongs its registration; gives how long it lasts.
    pub fn add(&mut self, namespace: &str, info: AddrInfo, now: Instant) -> Result<Duration, StoreError> {
        if namespace.len() > MAX_NAME {
            return Err(StoreError::Name);
        }
        let expires = now + REGISTRATION_TTL;
        let registration = Registration { info, expires };
        let id = registration.info.id;
        let in_namespace = self.namespaces.get(namespace).map_or(0, HashMap::len);
        if let Some(old) = self.namespaces.get_mut(namespace).and_then(|peers| peers.get_mut(&id)) {
            *old = registration;
            return Ok(REGISTRATION_TTL);
        }
        let of_peer = self.per_peer.get(&id).copied().unwrap_or(0);
        // The reference refuses a known peer's further namespaces too once the register is full.
        if self.per_peer.len() >= self.limits.peers {
            return Err(StoreError::Peers);
        }
        if in_namespace >= self.limits.peers_per_namespace {
            return Err(StoreError::Namespace);
        }
        if of_peer >= self.limits.namespaces_per_peer {
            return Err(StoreError::Namespaces);
        }
        self.namespaces.entry(namespace.to_owned()).or_default().insert(id, registration);
        self.per_peer.insert(id, of_peer + 1);
        Ok(REGISTRATION_TTL)
    }

    /// Removes a registration, if there is one; gives when the peer should come again.
    pub fn remove(&mut self, namespace: &str, peer: &PeerId) -> Duration {
        if let Some(peers) = self.namespaces.get_mut(namespace) {
            if peers.remove(peer).is_some() {
                uncount(&mut self.per_peer, peer);
            }
            if peers.is_empty() {
                self.namespaces.remove(namespace);
            }
        }
        REGISTRATION_TTL
    }

    /// Up to `limit` peers of a namespace, chosen at random.
    #[must_use]
    pub fn find(&self, namespace: &str, limit: usize, now: Instant) -> Vec<AddrInfo> {
        let peers = self.namespaces.get(namespace).into_iter().flat_map(HashMap::values);
        let mut live: Vec<&AddrInfo> = peers.filter(|r| r.expires >= now).map(|r| &r.info).collect();
        random::shuffle(&mut live);
        live.into_iter().take(limit).cloned().collect()
    }

    /// All peers, once each.
    #[must_use]
    pub fn peers(&self, now: Instant) -> Vec<AddrInfo> {
        let all = self.namespaces.values().flat_map(HashMap::values).filter(|r| r.expires >= now);
        let unique: BTreeMap<PeerId, AddrInfo> = all.map(|r| (r.info.id, r.info.clone())).collect();
        unique.into_values().collect()
    }

    /// All peers by namespace, for a backup.
    #[must_use]
    pub fn by_namespace(&self) -> crate::backup::Peers {
        let infos = |peers: &HashMap<PeerId, Registration>| peers.values().map(|r| r.info.clone()).collect();
        self.namespaces.iter().map(|(ns, peers)| (ns.clone(), infos(peers))).collect()
    }

    /// Removes what has expired.
    pub fn expire(&mut self, now: Instant) {
        let per_peer = &mut self.per_peer;
        self.namespaces.retain(|_, peers| {
            peers.retain(|id, registration| {
                let live = registration.expires > now;
                if !live {
                    uncount(per_peer, id);
                }
                live
            });
            !peers.is_empty()
        });
    }
}

fn uncount(per_peer: &mut HashMap<PeerId, usize>, peer: &PeerId) {
    if let Some(count) = per_peer.get_mut(peer) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            per_peer.remove(peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> AddrInfo {
        AddrInfo { id: PeerId::random(), addrs: vec!["/ip4/1.2.3.4/tcp/5".parse().unwrap()] }
    }

    #[test]
    fn registers_expire_and_can_be_prolonged() {
        let (mut s, now) = (Store::default(), Instant::now());
        let (a, b) = (info(), info());
        assert_eq!(s.add("x", a.clone(), now), Ok(REGISTRATION_TTL));
        assert_eq!(s.add("x", b.clone(), now), Ok(REGISTRATION_TTL));
        assert_eq!(s.add("y", a.clone(), now), Ok(REGISTRATION_TTL));
        let later = now + REGISTRATION_TTL / 2;
        s.add("x", a.clone(), later).unwrap();
        let end = now + REGISTRATION_TTL + Duration::from_secs(1);
        assert_eq!(s.find("x", 10, end), std::slice::from_ref(&a));
        assert_eq!(s.peers(end), std::slice::from_ref(&a));
        s.expire(end);
        assert_eq!((s.namespaces.len(), s.per_peer.len()), (1, 1));
        s.remove("x", &a.id);
        s.remove("x", &a.id);
        assert_eq!((s.namespaces.len(), s.per_peer.len()), (0, 0));
    }

    #[test]
    fn limits() {
        let limits = StoreLimits { peers: 3, peers_per_namespace: 2, namespaces_per_peer: 2 };
        let (mut s, now) = (Store::new(limits), Instant::now());
        let (a, b, c, d) = (info(), info(), info(), info());
        s.add("x", a.clone(), now).unwrap();
        s.add("x", b.clone(), now).unwrap();
        assert_eq!(s.add("x", c.clone(), now), Err(StoreError::Namespace));
        s.add("y", a.clone(), now).unwrap();
        assert_eq!(s.add("z", a.clone(), now), Err(StoreError::Namespaces));
        s.add("y", c, now).unwrap();
        assert_eq!(s.add("z", d, now), Err(StoreError::Peers));
        assert_eq!(s.add("x", a, now), Ok(REGISTRATION_TTL), "prolonging is always possible");
        assert_eq!(s.add(&"n".repeat(MAX_NAME + 1), b, now), Err(StoreError::Name));
    }

    #[test]
    fn finds_a_random_selection() {
        let (mut s, now) = (Store::default(), Instant::now());
        for _ in 0..50 {
            s.add("x", info(), now).unwrap();
        }
        let ids = |n| s.find("x", n, now).into_iter().map(|i| i.id).collect::<Vec<_>>();
        assert_eq!((ids(10).len(), ids(100).len(), ids(0).len()), (10, 50, 0));
        assert_ne!(ids(50), ids(50));
        assert!(s.find("none", 10, now).is_empty());
    }
}
