//! Signals that ask the process to end.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancels the token at the first SIGINT or SIGTERM. Must be called within a runtime.
///
/// # Errors
/// If the system does not let signals be caught.
pub fn stop_token() -> io::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = interrupt.recv() => "interrupt",
            _ = terminate.recv() => "terminated",
            () = stop.cancelled() => return,
        };
        tracing::info!(module = "oasis-node", signal = name, "user requested shutdown");
        stop.cancel();
    });
    Ok(token)
}
