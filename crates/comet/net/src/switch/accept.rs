//! Accepting connections.
//!
//! Reference: `cometbft:p2p/transport.go` (`acceptPeers`), `p2p/switch.go` (`acceptRoutine`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::Shared;

/// Pause after the system refused to hand over a connection.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(200);

/// Too many open files: of the process (`EMFILE`), of the system (`ENFILE`).
const OUT_OF_FILES: [i32; 2] = [24, 23];

impl Shared {
    /// Accepts connections, no more at a time than inbound and unconditional peers are allowed; the others wait in the
    /// system's queue. When files run out, connections still in handshake are closed.
    pub(super) async fn accept_loop(self: Arc<Self>, listener: TcpListener) {
        let places = self.config.max_inbound.saturating_add(self.config.unconditional.len());
        let places = Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        let mut half_open = self.stop.child_token();
        loop {
            let next = async {
                let permit = Arc::clone(&places).acquire_owned().await;
                (permit, listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                () = self.stop.cancelled() => return,
                next = next => next,
            };
            let Ok(permit) = permit else { return };
            match accepted {
                Ok((stream, remote)) => {
                    let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
                    self.tasks.spawn(Arc::clone(&self).accept(stream, remote, permit, half_open.clone()));
                }
                Err(error) => {
                    warn!(%error, "cannot accept connections");
                    if error.raw_os_error().is_some_and(|code| OUT_OF_FILES.contains(&code)) {
                        half_open.cancel();
                        half_open = self.stop.child_token();
                    }
                    tokio::select! {
                        () = self.stop.cancelled() => return,
                        () = tokio::time::sleep(ACCEPT_RETRY) => {}
                    }
                }
            }
        }
    }

    async fn accept(
        self: Arc<Self>,
        stream: TcpStream,
        remote: SocketAddr,
        permit: OwnedSemaphorePermit,
        half_open: CancellationToken,
    ) {
        let upgraded = tokio::select! {
            () = half_open.cancelled() => {
                debug!(%remote, "connection closed in handshake");
                return;
            }
            upgraded = Box::pin(self.upgrade(stream, remote, None, Some(permit))) => upgraded,
        };
        if let Err(error) = upgraded.and_then(|connection| self.add_peer(connection, false)) {
            info!(%remote, %error, "inbound connection refused");
        }
    }
}
