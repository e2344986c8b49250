//! The discovery protocol: seeds keep a register of who offers what.
//!
//! Source: `go/p2p/discovery/bootstrap`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base_codec::{Bytes, Codec, Raw, cbor};
use libp2p_identity::PeerId;
use parking_lot::Mutex;
use tracing::{debug, warn};

use crate::address::{self, AddrInfo};
use crate::api::{BoxFuture, CallLimits};
use crate::backoff::Backoff;
use crate::ids;
use crate::node::Node;
use crate::random;
use crate::rpc::{CallError, Client, Handler, RpcError};
use crate::store::Store;
use crate::table::Table;

/// Module of the protocol's errors.
pub const MODULE: &str = "p2p/discovery/bootstrap";
/// Most peers in one answer.
pub const MAX_PEERS: usize = 100;
/// Method that registers the caller.
pub const ADVERTISE: &str = "advertise";
/// Method that asks for peers.
pub const DISCOVER: &str = "discover";

/// First pause after a seed failed.
const BACKOFF_FIRST: Duration = Duration::from_secs(60);
/// Longest pause after a seed failed.
const BACKOFF_MAX: Duration = Duration::from_secs(3600);
/// How long a seed that broke the protocol gives no peers of the namespace.
const MALICIOUS_PAUSE: Duration = Duration::from_secs(24 * 3600);
/// Peers taken from one answer; the reference takes any number, a seed sends at most [`MAX_PEERS`].
const MAX_TAKEN: usize = 1000;
/// Largest answer of a seed in bytes.
const MAX_ANSWER: usize = 4 << 20;

/// Registers the caller. CBOR: `{namespace?}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct AdvertiseRequest {
    /// Protocol or topic that the caller offers.
    #[codec(omitempty)]
    pub namespace: String,
}

/// Answer to a registration. CBOR: `{ttl?}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct AdvertiseResponse {
    /// How long it lasts, in nanoseconds.
    #[codec(omitempty)]
    pub ttl: i64,
}

/// Asks for peers. CBOR: `{namespace?, limit?}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct DiscoverRequest {
    /// Protocol or topic that they should offer.
    #[codec(omitempty)]
    pub namespace: String,
    /// How many at most; 0 leaves it to the seed.
    #[codec(omitempty)]
    pub limit: i64,
}

/// Peers. CBOR: `{peers?}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct DiscoverResponse {
    /// Each as JSON ([`AddrInfo::to_json`]).
    #[codec(omitempty)]
    pub peers: Vec<Bytes>,
}

/// The seed's side.
pub(crate) struct Server {
    pub(crate) table: Arc<Mutex<Table>>,
    pub(crate) store: Arc<Mutex<Store>>,
    pub(crate) allow_private_ips: bool,
}

impl Server {
    fn advertise(&self, from: PeerId, namespace: &str) -> Result<AdvertiseResponse, RpcError> {
        let mut addrs = self.table.lock().addresses(&from);
        addrs.retain(|a| self.allow_private_ips || address::is_public(a));
        let mut store = self.store.lock();
        let ttl = match addrs.is_empty() {
            true => store.remove(namespace, &from),
            false => store
                .add(namespace, AddrInfo { id: from, addrs }, Instant::now())
                .map_err(|e| RpcError::unknown(&format!("failed to add peer to the store: {e}")))?,
        };
        Ok(AdvertiseResponse { ttl: i64::try_from(ttl.as_nanos()).unwrap_or(i64::MAX) })
    }

    fn discover(&self, namespace: &str, limit: i64) -> DiscoverResponse {
        let limit = usize::try_from(limit).ok().filter(|n| (1..=MAX_PEERS).contains(n)).unwrap_or(MAX_PEERS);
        let peers = self.store.lock().find(namespace, limit, Instant::now());
        DiscoverResponse { peers: peers.iter().map(|p| Bytes(p.to_json())).collect() }
    }

    fn answer(&self, from: PeerId, method: &str, body: &Raw) -> Result<Raw, RpcError> {
        let bad = |_| RpcError::new(MODULE, 2, "bootstrap: bad request");
        match method {
            ADVERTISE => {
                let request: AdvertiseRequest = cbor::from_slice(body).map_err(bad)?;
                Ok(Raw::of(&self.advertise(from, &request.namespace)?))
            }
            DISCOVER => {
                let request: DiscoverRequest = cbor::from_slice(body).map_err(bad)?;
                Ok(Raw::of(&self.discover(&request.namespace, request.limit)))
            }
            _ => Err(RpcError::new(MODULE, 1, "bootstrap: method not supported")),
        }
    }
}

impl Handler for Server {
    fn handle<'a>(&'a self, from: PeerId, method: &'a str, body: &'a Raw) -> BoxFuture<'a, Result<Raw, RpcError>> {
        Box::pin(std::future::ready(self.answer(from, method, body)))
    }
}

#[derive(Debug, Default, Clone)]
struct Cached {
    peers: Vec<AddrInfo>,
    expires: Option<Instant>,
}

#[derive(Debug)]
struct State {
    backoff: Backoff,
    cache: HashMap<String, Cached>,
}

/// One seed, as a node sees it.
pub(crate) struct Seed {
    id: PeerId,
    retention: Duration,
    state: Mutex<State>,
    /// One request at a time.
    busy: tokio::sync::Mutex<()>,
}

impl Seed {
    pub(crate) fn new(id: PeerId, retention: Duration) -> Self {
        let state = State { backoff: Backoff::new(BACKOFF_FIRST, BACKOFF_MAX), cache: HashMap::new() };
        Self { id, retention, state: Mutex::new(state), busy: tokio::sync::Mutex::new(()) }
    }

    /// Registers this node under a namespace; gives how long that lasts.
    pub(crate) async fn advertise(&self, node: &Node, namespace: &str) -> Result<Duration, CallError> {
        let request = AdvertiseRequest { namespace: namespace.to_owned() };
        let limits = CallLimits { max_response: MAX_ANSWER, ..CallLimits::default() };
        let result = client(node).call::<AdvertiseResponse>(self.id, ADVERTISE, &request, limits).await;
        node.close_idle(self.id);
        Ok(Duration::from_nanos(result?.0.ttl.unsigned_abs()))
    }

    /// Peers of a namespace, in random order: from the cache while it is good, else from the seed.
    pub(crate) async fn find(&self, node: &Node, namespace: &str) -> Vec<AddrInfo> {
        let _one = self.busy.lock().await;
        if let Some(peers) = self.cached(namespace, Instant::now()) {
            return peers;
        }
        let request = DiscoverRequest { namespace: namespace.to_owned(), limit: 0 };
        let limits = CallLimits { max_response: MAX_ANSWER, ..CallLimits::default() };
        let result = client(node).call::<DiscoverResponse>(self.id, DISCOVER, &request, limits).await;
        node.close_idle(self.id);
        let answer = result.map(|(answer, _)| read_peers(&answer));
        self.remember(namespace, answer, Instant::now())
    }

    fn cached(&self, namespace: &str, now: Instant) -> Option<Vec<AddrInfo>> {
        let state = self.state.lock();
        let cached = state.cache.get(namespace).cloned().unwrap_or_default();
        let good = !state.backoff.ready(now) || cached.expires.is_some_and(|at| at > now);
        good.then(|| shuffled(cached.peers))
    }

    fn remember(
        &self,
        namespace: &str,
        answer: Result<Option<Vec<AddrInfo>>, CallError>,
        now: Instant,
    ) -> Vec<AddrInfo> {
        let mut state = self.state.lock();
        if let Err(error) = &answer {
            debug!(seed = %self.id, %error, "seed does not answer");
            state.backoff.extend(now);
        } else {
            state.backoff.reset();
        }
        let cached = state.cache.entry(namespace.to_owned()).or_default();
        match answer {
            Ok(Some(peers)) => *cached = Cached { peers, expires: now.checked_add(self.retention) },
            Ok(None) => {
                warn!(seed = %self.id, namespace, "seed breaks the discovery protocol");
                *cached = Cached { peers: Vec::new(), expires: now.checked_add(MALICIOUS_PAUSE) };
            }
            Err(_) => {}
        }
        shuffled(cached.peers.clone())
    }
}

fn client(node: &Node) -> Client {
    Client::new(Arc::new(node.clone()), ids::bootstrap())
}

fn shuffled(mut peers: Vec<AddrInfo>) -> Vec<AddrInfo> {
    random::shuffle(&mut peers);
    peers
}

/// The peers of an answer; none if it is malformed or too long.
fn read_peers(answer: &DiscoverResponse) -> Option<Vec<AddrInfo>> {
    if answer.peers.len() > MAX_TAKEN {
        return None;
    }
    answer.peers.iter().map(|json| AddrInfo::from_json(json).ok()).collect()
}

#[cfg(test)]
mod tests;
