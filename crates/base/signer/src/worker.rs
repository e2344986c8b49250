//! A thread of its own for what signers wait on, so that callers may be threads or tasks.

use std::future::Future;
use std::io;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, RuntimeFlavor};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How much longer than the work's own limit its answer is waited for.
const GRACE: Duration = Duration::from_millis(500);

/// Runs futures on a thread that ends with this.
#[derive(Debug)]
pub(crate) struct Worker {
    handle: Handle,
    _stop: DropGuard,
}

impl Worker {
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        std::thread::Builder::new().name("signer".into()).spawn(move || runtime.block_on(stopped.cancelled()))?;
        Ok(Self { handle, _stop: stop.drop_guard() })
    }

    /// Runs something to its end, at most for `limit`; `None` if that was not enough. Blocks the caller.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (done, answer) = sync_channel(1);
        self.handle.spawn(async move {
            if let Ok(value) = tokio::time::timeout(limit, work).await {
                // Nobody may be waiting any more.
                let _ = done.try_send(value);
            }
        });
        let wait = || answer.recv_timeout(limit.saturating_add(GRACE)).ok();
        // Other tasks of the caller's runtime go on.
        match Handle::try_current().map(|handle| handle.runtime_flavor()) {
            Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(wait),
            _ => wait(),
        }
    }
}
