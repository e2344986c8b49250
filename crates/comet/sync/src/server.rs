//! Answering what peers ask for: one task per peer, at a bounded rate.
//!
//! The reference answers on the peer's read routine, at any rate.

use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::port::Port;
use crate::rate::{Budget, ServeLimits};

/// An answer: channel and message.
pub(crate) type Answer = (u8, Bytes);

/// Where the tasks of servers run, and what ends them.
pub(crate) struct Place<'a> {
    pub(crate) tasks: &'a TaskTracker,
    pub(crate) runtime: &'a Handle,
    pub(crate) stop: &'a CancellationToken,
}

/// One peer's requests; its task ends when this is dropped.
pub(crate) struct Server<R> {
    requests: mpsc::Sender<R>,
}

impl<R: Send + 'static> Server<R> {
    /// Starts the task. `answers` may block.
    pub(crate) fn start(
        place: &Place<'_>,
        port: Arc<dyn Port>,
        limits: ServeLimits,
        answers: impl Fn(R) -> Vec<Answer> + Send + Sync + 'static,
    ) -> Self {
        let (requests, queue) = mpsc::channel(limits.queue.max(1));
        let stop = place.stop.clone();
        let work = async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = serve(queue, port, limits, Arc::new(answers)) => {}
            }
        };
        place.tasks.spawn_on(work, place.runtime);
        Self { requests }
    }

    /// Queues a request; it is lost if too many wait.
    pub(crate) fn ask(&self, request: R) {
        if self.requests.try_send(request).is_err() {
            tracing::debug!("too many requests of a peer wait");
        }
    }
}

async fn serve<R: Send + 'static>(
    mut queue: mpsc::Receiver<R>,
    port: Arc<dyn Port>,
    limits: ServeLimits,
    answers: Arc<impl Fn(R) -> Vec<Answer> + Send + Sync + 'static>,
) {
    let mut budget = Budget::new(limits, Instant::now());
    while let Some(request) = queue.recv().await {
        let wait = budget.wait(Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        let answers = Arc::clone(&answers);
        let Ok(answers) = tokio::task::spawn_blocking(move || answers(request)).await else {
            return;
        };
        for (channel, answer) in answers {
            budget.spend(answer.len() as u64, Instant::now());
            let _sent = port.send(channel, answer).await;
        }
    }
}
