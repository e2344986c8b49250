//! A limit on the memory of incomplete and unhandled messages over all peers.
//!
//! The channels allow messages of up to 100 MiB, so a hundred hostile peers could have us hold many gigabytes of
//! messages that never end. Each peer may hold [`FREE_BYTES`]; what is above comes out of one budget, and when that is
//! used up the peer that holds most is dropped.

use std::collections::HashMap;

use comet_core::PeerId;
use parking_lot::Mutex;

use crate::peer::Peer;
use crate::reactor::DropPeer;

/// Bytes that every peer may hold aside from the budget.
pub const FREE_BYTES: usize = 1 << 20;
/// Bytes that all peers together may hold above [`FREE_BYTES`] each.
pub const SHARED_BYTES: usize = 512 << 20;

#[derive(Default)]
struct Held {
    by_peer: HashMap<PeerId, (Peer, usize)>,
    total: usize,
}

/// Who holds how much.
pub(crate) struct Budget {
    max: usize,
    held: Mutex<Held>,
}

impl Budget {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, held: Mutex::new(Held::default()) }
    }

    /// Takes note of what a peer holds now; drops the greediest peer if all hold too much.
    pub(crate) fn set(&self, peer: &Peer, bytes: usize) {
        let bytes = bytes.saturating_sub(FREE_BYTES);
        let greediest = {
            let mut held = self.held.lock();
            let before = held.by_peer.remove(peer.id()).map_or(0, |(_, bytes)| bytes);
            held.total = held.total.saturating_sub(before);
            if bytes > 0 {
                held.total = held.total.saturating_add(bytes);
                held.by_peer.insert(peer.id().clone(), (peer.clone(), bytes));
            }
            if held.total <= self.max {
                return;
            }
            let Some(id) = held.by_peer.iter().max_by_key(|(_, (_, bytes))| *bytes).map(|(id, _)| id.clone()) else {
                return;
            };
            let Some((peer, bytes)) = held.by_peer.remove(&id) else { return };
            held.total = held.total.saturating_sub(bytes);
            peer
        };
        greediest.stop(DropPeer::new("holds more than its share of the receive memory"));
    }

    /// The peer's connection ended.
    pub(crate) fn release(&self, peer: &Peer) {
        self.set(peer, 0);
    }
}
