//! Snapshots that peers offer: which is the best, who has it, what was rejected.
//!
//! Reference: `cometbft:statesync/snapshots.go`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use comet_chain::app::Snapshot;
use comet_core::PeerId;

/// Snapshots taken from one peer at most; as many as one peer tells.
pub const MAX_PER_PEER: usize = 10;
/// Most bytes of all snapshots' hashes and metadata.
pub const MAX_BYTES: usize = 64 << 20;
/// Most rejections (of snapshots, of peers, of formats) remembered of each kind; more than there are peers.
pub const MAX_REJECTED: usize = 10_000;

/// The order of trial: height, then format, then number of peers; then hash, so that it is the same each time.
type Rank = (u64, u32, usize, Vec<u8>);

#[derive(Debug)]
struct Offered {
    snapshot: Snapshot,
    peers: BTreeSet<PeerId>,
}

impl Offered {
    fn rank(&self) -> Rank {
        (self.snapshot.height, self.snapshot.format, self.peers.len(), self.snapshot.hash.clone())
    }
}

/// The snapshots known.
#[derive(Debug, Default)]
pub(super) struct SnapshotPool {
    offered: Vec<Offered>,
    bytes: usize,
    per_peer: BTreeMap<PeerId, usize>,
    rejected: HashSet<SnapshotKey>,
    rejected_formats: BTreeSet<u32>,
    rejected_peers: BTreeSet<PeerId>,
    /// Requests for chunks made to each peer, to spread them.
    asked: HashMap<PeerId, u64>,
}

/// What tells snapshots apart.
type SnapshotKey = [u8; 32];

fn key(snapshot: &Snapshot) -> SnapshotKey {
    let mut bytes = Vec::with_capacity(32 + snapshot.hash.len() + snapshot.metadata.len());
    bytes.extend_from_slice(&snapshot.height.to_be_bytes());
    bytes.extend_from_slice(&snapshot.format.to_be_bytes());
    bytes.extend_from_slice(&snapshot.chunks.to_be_bytes());
    bytes.extend_from_slice(&(snapshot.hash.len() as u64).to_be_bytes());
    bytes.extend_from_slice(&snapshot.hash);
    bytes.extend_from_slice(&snapshot.metadata);
    wire_cometbft::merkle::sha256(&bytes)
}

fn size(snapshot: &Snapshot) -> usize {
    snapshot.hash.len() + snapshot.metadata.len() + 128
}

impl SnapshotPool {
    /// Takes a snapshot that a peer offers; tells whether it is new.
    pub(super) fn add(&mut self, peer: &PeerId, snapshot: Snapshot) -> bool {
        let count = self.per_peer.get(peer).copied().unwrap_or_default();
        if count >= MAX_PER_PEER
            || self.rejected_formats.contains(&snapshot.format)
            || self.rejected_peers.contains(peer)
            || self.rejected.contains(&key(&snapshot))
        {
            return false;
        }
        if let Some(known) = self.offered.iter_mut().find(|known| known.snapshot == snapshot) {
            if known.peers.insert(peer.clone()) {
                self.per_peer.insert(peer.clone(), count + 1);
            }
            return false;
        }
        let size = size(&snapshot);
        if self.bytes + size > MAX_BYTES {
            return false;
        }
        self.bytes += size;
        self.per_peer.insert(peer.clone(), count + 1);
        self.offered.push(Offered { snapshot, peers: BTreeSet::from([peer.clone()]) });
        true
    }

    /// The snapshot to try next.
    pub(super) fn best(&self) -> Option<&Snapshot> {
        self.offered.iter().max_by_key(|offered| offered.rank()).map(|offered| &offered.snapshot)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.offered.len()
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.offered.is_empty()
    }

    /// Who has a snapshot.
    pub(super) fn peers(&self, snapshot: &Snapshot) -> Vec<PeerId> {
        let found = self.offered.iter().find(|offered| offered.snapshot == *snapshot);
        found.map(|offered| offered.peers.iter().cloned().collect()).unwrap_or_default()
    }

    /// The peer to ask for a chunk: the one asked least so far that is not among `except`; any, if all are.
    pub(super) fn pick(&mut self, snapshot: &Snapshot, except: &[PeerId]) -> Option<PeerId> {
        let peers = self.peers(snapshot);
        let asked = |peer: &PeerId| self.asked.get(peer).copied().unwrap_or_default();
        let fresh = peers.iter().filter(|peer| !except.contains(peer)).min_by_key(|peer| asked(peer));
        let peer = fresh.or_else(|| peers.iter().min_by_key(|peer| asked(peer)))?.clone();
        *self.asked.entry(peer.clone()).or_default() += 1;
        Some(peer)
    }

    /// A peer does not have a snapshot (any more).
    pub(super) fn lacks(&mut self, peer: &PeerId, snapshot: &Snapshot) {
        self.retain_peers(|offered, other| other != peer || offered != snapshot);
    }

    /// Never again this snapshot.
    pub(super) fn reject(&mut self, snapshot: &Snapshot) {
        if self.rejected.len() < MAX_REJECTED {
            self.rejected.insert(key(snapshot));
        }
        self.retain_peers(|offered, _| offered != snapshot);
    }

    /// Never again a snapshot of this format.
    pub(super) fn reject_format(&mut self, format: u32) {
        if self.rejected_formats.len() < MAX_REJECTED {
            self.rejected_formats.insert(format);
        }
        self.retain_peers(|offered, _| offered.format != format);
    }

    /// Never again anything of this peer.
    pub(super) fn reject_peer(&mut self, peer: &PeerId) {
        if self.rejected_peers.len() < MAX_REJECTED {
            self.rejected_peers.insert(peer.clone());
        }
        self.remove_peer(peer);
    }

    /// Whether nothing is taken of this peer.
    pub(super) fn is_rejected(&self, peer: &PeerId) -> bool {
        self.rejected_peers.contains(peer)
    }

    /// A peer is gone.
    pub(super) fn remove_peer(&mut self, peer: &PeerId) {
        self.retain_peers(|_, other| other != peer);
        self.asked.remove(peer);
    }

    fn retain_peers(&mut self, keep: impl Fn(&Snapshot, &PeerId) -> bool) {
        for Offered { snapshot, peers } in &mut self.offered {
            peers.retain(|peer| {
                let kept = keep(snapshot, peer);
                if !kept && let Some(count) = self.per_peer.get_mut(peer) {
                    *count = count.saturating_sub(1);
                }
                kept
            });
        }
        self.per_peer.retain(|_, count| *count > 0);
        self.offered.retain(|offered| !offered.peers.is_empty());
        self.bytes = self.offered.iter().map(|offered| size(&offered.snapshot)).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(height: u64, format: u32, hash: u8) -> Snapshot {
        Snapshot { height, format, chunks: 1, hash: vec![hash], metadata: vec![] }
    }

    fn peer(number: usize) -> PeerId {
        PeerId::new(&format!("{number:040}"))
    }

    #[test]
    fn ranked_by_height_format_and_peers() {
        let mut pool = SnapshotPool::default();
        for (at, offer) in
            [snapshot(5, 1, 1), snapshot(7, 1, 2), snapshot(7, 2, 3), snapshot(7, 2, 4)].iter().enumerate()
        {
            assert!(pool.add(&peer(at), offer.clone()));
        }
        assert!(!pool.add(&peer(9), snapshot(7, 2, 3)));
        let mut order = Vec::new();
        while let Some(best) = pool.best().cloned() {
            order.push(best.hash[0]);
            pool.reject(&best);
            assert!(!pool.add(&peer(1), best));
        }
        assert_eq!(order, [3, 4, 2, 1]);
    }

    #[test]
    fn bounded_per_peer_and_in_bytes() {
        let mut pool = SnapshotPool::default();
        for height in 0..30 {
            pool.add(&peer(1), snapshot(height, 1, 1));
        }
        assert_eq!(pool.len(), MAX_PER_PEER);
        let mut big = snapshot(1, 1, 1);
        for number in 0..40 {
            big.metadata = vec![number; 4 << 20];
            pool.add(&peer(100 + usize::from(number)), big.clone());
        }
        assert!(pool.bytes <= MAX_BYTES && pool.len() > MAX_PER_PEER);
        for number in 0..200 {
            pool.remove_peer(&peer(number));
        }
        assert!(pool.is_empty() && pool.bytes == 0 && pool.per_peer.is_empty());
    }

    #[test]
    fn rejections_hold() {
        let mut pool = SnapshotPool::default();
        pool.add(&peer(1), snapshot(1, 1, 1));
        pool.add(&peer(2), snapshot(1, 1, 1));
        pool.add(&peer(2), snapshot(2, 3, 1));
        pool.reject_peer(&peer(2));
        assert_eq!((pool.len(), pool.peers(&snapshot(1, 1, 1))), (1, vec![peer(1)]));
        assert!(!pool.add(&peer(2), snapshot(9, 1, 1)) && pool.is_rejected(&peer(2)));
        pool.reject_format(1);
        assert!(pool.is_empty() && !pool.add(&peer(1), snapshot(8, 1, 1)));
        assert!(pool.add(&peer(1), snapshot(8, 2, 1)));
        pool.lacks(&peer(1), &snapshot(8, 2, 1));
        assert!(pool.is_empty());
    }

    #[test]
    fn chunks_are_asked_of_all() {
        let mut pool = SnapshotPool::default();
        let offer = snapshot(1, 1, 1);
        for number in 0..3 {
            pool.add(&peer(number), offer.clone());
        }
        let picked: BTreeSet<_> = (0..3).filter_map(|_| pool.pick(&offer, &[])).collect();
        assert_eq!(picked.len(), 3);
        assert_eq!(pool.pick(&offer, &[peer(0), peer(2)]), Some(peer(1)));
        assert!(pool.pick(&offer, &[peer(0), peer(1), peer(2)]).is_some());
        assert_eq!(pool.pick(&snapshot(2, 1, 1), &[]), None);
    }
}
