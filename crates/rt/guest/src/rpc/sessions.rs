//! The sessions that are open, by peer, within limits.

use std::{collections::HashMap, sync::Arc, time::Instant};

use parking_lot::{Mutex, MutexGuard};
use wire_runtime::enclave_rpc::SessionId;

use super::{MAX_SESSIONS, MAX_SESSIONS_PER_PEER, RpcError, STALE_SESSION_SECS, Session};

/// A session that several threads may use, one at a time.
pub type Shared = Arc<Mutex<Session>>;

/// How many sessions there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of all peers.
    pub sessions: usize,
    /// Of one peer.
    pub per_peer: usize,
    /// Seconds without use after which a session of any peer makes room.
    pub stale_secs: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { sessions: MAX_SESSIONS, per_peer: MAX_SESSIONS_PER_PEER, stale_secs: STALE_SESSION_SECS }
    }
}

struct Entry {
    session: Shared,
    used: Instant,
}

/// The open sessions. Peers are named by bytes: a node's key or a libp2p peer id.
#[derive(Default)]
pub struct Sessions {
    limits: Limits,
    open: Mutex<HashMap<(Vec<u8>, SessionId), Entry>>,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").field("limits", &self.limits).field("open", &self.len()).finish()
    }
}

/// A session that made room for another, with its peer and name.
pub type Removed = (Vec<u8>, SessionId, Shared);

impl Sessions {
    /// No sessions yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, open: Mutex::default() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.open.lock().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.open.lock().is_empty()
    }

    /// A peer's session of that name.
    pub fn get(&self, peer: &[u8], id: &SessionId) -> Option<Shared> {
        let mut open = self.open.lock();
        let entry = open.get_mut(&(peer.to_vec(), *id))?;
        entry.used = Instant::now();
        Some(Arc::clone(&entry.session))
    }

    /// A session with one of the peers (with none given, of any): one that nobody uses at the moment, else any.
    pub fn find(&self, peers: &[Vec<u8>]) -> Option<(SessionId, Shared)> {
        let mut open = self.open.lock();
        let found = open
            .iter_mut()
            .filter(|((peer, _), _)| peers.is_empty() || peers.contains(peer))
            .min_by_key(|(_, entry)| (entry.session.is_locked(), entry.used))?;
        found.1.used = Instant::now();
        Some((found.0.1, Arc::clone(&found.1.session)))
    }

    /// Adds a session; one that makes room for it comes back.
    ///
    /// # Errors
    /// [`RpcError::MaxSessions`] if none can make room.
    pub fn add(&self, peer: Vec<u8>, id: SessionId, session: Shared) -> Result<Option<Removed>, RpcError> {
        let mut open = self.open.lock();
        let of_peer = open.keys().filter(|(p, _)| *p == peer).count();
        let full = open.len() >= self.limits.sessions;
        let removed = if of_peer >= self.limits.per_peer || (full && of_peer > 0) {
            Some(oldest(&mut open, |p, _| *p == peer)?)
        } else if full {
            let stale = self.limits.stale_secs;
            Some(oldest(&mut open, |_, entry| entry.used.elapsed().as_secs() >= stale)?)
        } else {
            None
        };
        open.insert((peer, id), Entry { session, used: Instant::now() });
        Ok(removed)
    }

    /// Forgets a session.
    pub fn remove(&self, peer: &[u8], id: &SessionId) {
        self.open.lock().remove(&(peer.to_vec(), *id));
    }

    /// Forgets all sessions and returns them.
    pub fn drain(&self) -> Vec<Removed> {
        self.open.lock().drain().map(|((peer, id), entry)| (peer, id, entry.session)).collect()
    }
}

/// Takes out the session, of those that qualify and nobody uses, that was used longest ago.
fn oldest(
    open: &mut MutexGuard<'_, HashMap<(Vec<u8>, SessionId), Entry>>,
    qualifies: impl Fn(&Vec<u8>, &Entry) -> bool,
) -> Result<Removed, RpcError> {
    let key = open
        .iter()
        .filter(|((peer, _), entry)| qualifies(peer, entry) && !entry.session.is_locked())
        .min_by_key(|(_, entry)| entry.used)
        .map(|(key, _)| key.clone())
        .ok_or(RpcError::MaxSessions)?;
    let entry = open.remove(&key).ok_or(RpcError::MaxSessions)?;
    Ok((key.0, key.1, entry.session))
}
