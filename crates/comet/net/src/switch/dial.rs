//! Dialing, and staying connected to persistent peers.
//!
//! Reference: `cometbft:p2p/switch.go` (`DialPeerWithAddress`, `reconnectToPeer`).

use std::sync::Arc;
use std::time::Duration;

use comet_core::PeerId;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tracing::{debug, info};

use super::Shared;
pub use super::upgrade::Rejected;
use crate::address::{AddressError, NetAddress, PeerAddress};
use crate::random::jitter;

/// Tries at the short interval.
pub const SHORT_TRIES: u32 = 20;
/// Tries at growing intervals; that of the last is kept for all later ones.
pub const LONG_TRIES: u32 = 10;
/// The growing intervals are powers of this, in seconds.
pub const LONG_BASE: u64 = 3;

/// Why dialing made no peer.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Connected or being dialed already, or the IP address is.
    #[error("connected or dialing already")]
    Already,
    /// Our own id.
    #[error("this is our own address")]
    Ourselves,
    /// Banned.
    #[error("banned")]
    Banned,
    /// It was tried in vain not long ago.
    #[error("too early to dial again")]
    TooEarly,
    /// The host name could not be looked up.
    #[error("{0}")]
    Address(#[from] AddressError),
    /// No TCP connection.
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    /// No TCP connection in time.
    #[error("connecting timed out")]
    Timeout,
    /// The connection did not become a peer.
    #[error("{0}")]
    Rejected(#[from] Rejected),
    /// The switch is stopping.
    #[error("stopped")]
    Stopped,
}

/// How long to wait before the next try after `failed` tries.
///
/// DEVIATION: the reference gives up after the last.
pub fn reconnect_delay(failed: u32, short: Duration) -> Duration {
    if failed < SHORT_TRIES {
        return short;
    }
    let power = (failed - SHORT_TRIES + 1).min(LONG_TRIES);
    Duration::from_secs(LONG_BASE.saturating_pow(power))
}

/// A node being dialed, as long as it lives.
struct Dialing<'a> {
    shared: &'a Shared,
    id: &'a PeerId,
}

impl Drop for Dialing<'_> {
    fn drop(&mut self) {
        self.shared.table.lock().dialing.remove(self.id);
    }
}

impl Shared {
    /// Dials a node once; a peer if it worked.
    pub(crate) async fn dial(self: &Arc<Self>, address: &NetAddress) -> Result<(), DialError> {
        if address.id == self.id {
            return Err(DialError::Ourselves);
        }
        if self.is_connected_or_dialing(address) || !self.table.lock().dialing.insert(address.id.clone()) {
            return Err(DialError::Already);
        }
        let _dialing = Dialing { shared: self, id: &address.id };
        let work = async {
            let limit = self.config.intervals.dial_timeout;
            let stream = timeout(limit, TcpStream::connect(address.socket()))
                .await
                .map_err(|_| DialError::Timeout)?
                .map_err(DialError::Connect)?;
            let connection = self.upgrade(stream, address.socket(), Some(&address.id), None).await?;
            self.add_peer(connection, true)?;
            Ok(())
        };
        tokio::select! {
            () = self.stop.cancelled() => Err(DialError::Stopped),
            result = Box::pin(work) => result,
        }
    }

    /// Dials a persistent peer until it is connected, whoever dialed; at most one such task for each peer.
    pub(super) fn reconnect(self: &Arc<Self>, address: PeerAddress) {
        if self.stop.is_cancelled() || !self.table.lock().reconnecting.insert(address.id.clone()) {
            return;
        }
        let shared = Arc::clone(self);
        self.tasks.spawn(async move {
            tokio::select! {
                () = shared.stop.cancelled() => {}
                () = Box::pin(shared.dial_until_connected(&address)) => {}
            }
            shared.table.lock().reconnecting.remove(&address.id);
            // It may have been lost again while this task still counted as trying.
            if !shared.is_connected(&address.id) {
                shared.reconnect(address);
            }
        });
    }

    async fn dial_until_connected(self: &Arc<Self>, address: &PeerAddress) {
        let intervals = &self.config.intervals;
        sleep(jitter(intervals.dial_jitter)).await;
        let mut failed = 0_u32;
        while !self.is_connected(&address.id) {
            let error = match address.resolve().await {
                Err(error) => error.into(),
                Ok(found) => {
                    if self.config.pex {
                        self.book.add(found.clone(), found.clone());
                    }
                    match self.dial(&found).await {
                        Ok(()) => return,
                        Err(error) => error,
                    }
                }
            };
            if failed < SHORT_TRIES {
                debug!(peer = %address, %error, tries = failed + 1, "cannot connect to persistent peer");
            } else {
                info!(peer = %address, %error, tries = failed + 1, "cannot connect to persistent peer");
            }
            sleep(reconnect_delay(failed, intervals.reconnect) + jitter(intervals.dial_jitter)).await;
            failed = failed.saturating_add(1);
        }
    }
}
