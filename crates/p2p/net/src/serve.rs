//! Serving streams within bounds.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p_identity::PeerId;
use libp2p_swarm::{ConnectionId, Stream, StreamProtocol};
use parking_lot::{Mutex, RwLock};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::api::{P2pError, ProtocolId, Serve};
use crate::config::ServeLimits;
use crate::links::Accept;
use crate::rpc::frame::{self, Memory};
use crate::table::Table;

/// How long the rate of a peer without requests is remembered.
const IDLE_LOAD: Duration = Duration::from_secs(10);
/// A handler gets this much longer than its own limit before its stream is closed without an answer.
const HANDLE_SLACK: Duration = Duration::from_secs(1);

/// Requests of a peer in work and how many more it may make.
#[derive(Debug)]
struct Load {
    active: usize,
    tokens: f64,
    at: Instant,
}

impl Load {
    /// Takes a token if there is one.
    fn admit(&mut self, limits: &ServeLimits, now: Instant) -> bool {
        let rate = f64::from(limits.requests_per_second);
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * rate;
        self.tokens = (self.tokens + earned).min(2.0 * rate);
        self.at = now;
        if self.active >= limits.streams_per_peer || self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        self.active += 1;
        true
    }
}

#[derive(Default)]
struct Loads {
    peers: HashMap<PeerId, Load>,
    active: usize,
}

struct Service {
    name: StreamProtocol,
    handler: Arc<dyn Serve>,
}

/// All served protocols.
pub(crate) struct Services {
    limits: ServeLimits,
    services: RwLock<HashMap<String, Service>>,
    loads: Arc<Mutex<Loads>>,
    memory: Memory,
    table: Arc<Mutex<Table>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Services {
    pub(crate) fn new(
        limits: ServeLimits,
        table: Arc<Mutex<Table>>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let memory = Memory::new(limits.request_memory);
        Self { limits, services: RwLock::default(), loads: Arc::default(), memory, table, tasks, stop }
    }

    /// Adds a protocol.
    pub(crate) fn add(&self, protocol: ProtocolId, handler: Arc<dyn Serve>) -> Result<(), P2pError> {
        let invalid = || P2pError::Name(protocol.to_string());
        if protocol.as_str().len() > crate::api::MAX_NAME {
            return Err(invalid());
        }
        let name = StreamProtocol::try_from_owned(protocol.as_str().to_owned()).map_err(|_| invalid())?;
        let mut services = self.services.write();
        if services.contains_key(protocol.as_str()) {
            return Err(P2pError::Duplicate(protocol.to_string()));
        }
        services.insert(protocol.as_str().to_owned(), Service { name, handler });
        Ok(())
    }

    /// Forgets peers that ask for nothing.
    pub(crate) fn sweep(&self, now: Instant) {
        self.loads.lock().peers.retain(|_, load| load.active > 0 || now.saturating_duration_since(load.at) < IDLE_LOAD);
    }

    fn slot(&self, from: PeerId, connection: ConnectionId) -> Option<Slot> {
        let now = Instant::now();
        let mut loads = self.loads.lock();
        if loads.active >= self.limits.streams {
            return None;
        }
        let full = 2.0 * f64::from(self.limits.requests_per_second);
        let load = loads.peers.entry(from).or_insert(Load { active: 0, tokens: full, at: now });
        if !load.admit(&self.limits, now) {
            return None;
        }
        loads.active += 1;
        drop(loads);
        self.table.lock().count_streams(&from, connection, 1);
        Some(Slot { from, connection, loads: self.loads.clone(), table: self.table.clone() })
    }
}

/// A request in work.
struct Slot {
    from: PeerId,
    connection: ConnectionId,
    loads: Arc<Mutex<Loads>>,
    table: Arc<Mutex<Table>>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut loads = self.loads.lock();
        loads.active = loads.active.saturating_sub(1);
        if let Some(load) = loads.peers.get_mut(&self.from) {
            load.active = load.active.saturating_sub(1);
        }
        drop(loads);
        self.table.lock().count_streams(&self.from, self.connection, -1);
    }
}

impl Accept for Services {
    fn protocols(&self) -> Vec<StreamProtocol> {
        self.services.read().values().map(|s| s.name.clone()).collect()
    }

    fn accept(&self, from: PeerId, connection: ConnectionId, protocol: &str, stream: Stream) {
        let Some(handler) = self.services.read().get(protocol).map(|s| s.handler.clone()) else { return };
        let Some(slot) = self.slot(from, connection) else {
            debug!(%from, protocol, "too many requests, closing stream");
            return;
        };
        let (limits, memory, stop) = (self.limits, self.memory.clone(), self.stop.clone());
        let protocol = protocol.to_owned();
        self.tasks.spawn(async move {
            let _slot = slot;
            tokio::select! {
                () = stop.cancelled() => {}
                result = answer(stream, from, handler, limits, memory) => {
                    if let Err(error) = result {
                        debug!(%from, protocol, %error, "request failed");
                    }
                }
            }
        });
    }
}

/// Reads one frame, has it handled, writes one frame.
async fn answer(
    mut stream: Stream,
    from: PeerId,
    handler: Arc<dyn Serve>,
    limits: ServeLimits,
    memory: Memory,
) -> Result<(), P2pError> {
    let late = |what, limit| move |_| P2pError::Timeout { what, limit };
    let (request, room) = timeout(limits.read_time, frame::read_bounded(&mut stream, limits.max_request, &memory))
        .await
        .map_err(late("request", limits.read_time))??;
    let response = timeout(limits.handle_time + HANDLE_SLACK, handler.serve(from, request))
        .await
        .map_err(late("handler", limits.handle_time))?;
    drop(room);
    let write = async {
        if let Some(response) = response {
            frame::write(&mut stream, &response).await?;
        }
        frame::close(&mut stream).await
    };
    timeout(limits.write_time, write).await.map_err(late("end of response", limits.write_time))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        let limits = ServeLimits { requests_per_second: 10, streams_per_peer: 25, ..ServeLimits::default() };
        let now = Instant::now();
        let mut load = Load { active: 0, tokens: 20.0, at: now };
        let burst = (0..30).filter(|_| load.admit(&limits, now)).count();
        assert_eq!(burst, 20, "twice the rate at once");
        load.active = 0;
        let later = now + Duration::from_millis(500);
        assert_eq!((0..30).filter(|_| load.admit(&limits, later)).count(), 5, "then the rate");
        load.active = 25;
        assert!(!load.admit(&limits, later + Duration::from_secs(60)), "no more than so many at once");
    }
}
