//! Secret sharing among changing committees: when the node applies, hands off and confirms.
//!
//! Source: `go/worker/keymanager/churp.go`. In the epoch before a handoff the node applies, from a block on that is chosen
//! by chance. In the handoff's epoch all applicants start at the same block. When a handoff has ended, or failed, the
//! enclave is told.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::Arc;

use base_metrics::table;
use base_prims::Epoch;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;
use wire_consensus::churp::Status;

use crate::shared::Shared;
use crate::snapshot::Snapshot;

mod tasks;

pub(crate) const MODULE: &str = "worker/keymanager/churp";

/// Part of the epoch before a handoff, in percent, within which nodes apply.
const APPLICATION_WINDOW: (i64, i64) = (20, 50);
/// How much of its epoch has passed, in percent, when a handoff starts.
const HANDOFF_START: i64 = 10;

/// The worker for secret sharing.
pub(crate) struct Churp {
    shared: Arc<Shared>,
    schemes: Vec<u8>,
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Something that is done once per handoff.
#[derive(Default)]
struct Once {
    /// The handoff it was begun for last.
    begun: Option<Epoch>,
    stop: CancellationToken,
}

impl Once {
    /// Whether it is still to be done; if so, it counts as begun, and the last one is stopped.
    fn begin(&mut self, handoff: Epoch) -> Option<CancellationToken> {
        if self.begun == Some(handoff) {
            return None;
        }
        self.stop.cancel();
        self.begun = Some(handoff);
        self.stop = CancellationToken::new();
        Some(self.stop.clone())
    }

    /// Stops it, if it is for another handoff.
    fn keep(&self, handoff: Option<Epoch>) {
        if self.begun != handoff {
            self.stop.cancel();
        }
    }
}

/// A scheme that the node takes part in.
#[derive(Default)]
struct Scheme {
    status: Option<Arc<Status>>,
    application: Once,
    /// Height from which the node applies, and the handoff that it is for.
    apply_at: Option<(Epoch, i64)>,
    handoff: Once,
    finish: CancellationToken,
}

/// The worker while it runs.
struct Run<'a> {
    shared: &'a Arc<Shared>,
    seen: Arc<Snapshot>,
    schemes: BTreeMap<u8, Scheme>,
    tasks: FuturesUnordered<Task>,
}

impl Churp {
    pub(crate) fn new(shared: Arc<Shared>, schemes: Vec<u8>) -> Self {
        Self { shared, schemes }
    }

    /// Runs until stopped.
    pub(crate) async fn run(&self, stop: &CancellationToken) {
        let schemes = self.schemes.iter().map(|id| (*id, Scheme::default())).collect();
        let (shared, tasks) = (&self.shared, FuturesUnordered::new());
        let mut run = Run { shared, seen: Arc::default(), schemes, tasks };
        let mut seen = self.shared.snapshot.subscribe();
        seen.mark_changed();
        loop {
            tokio::select! {
                changed = seen.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let snapshot = Arc::clone(&seen.borrow_and_update());
                    if snapshot.height > run.seen.height {
                        run.block(snapshot);
                    }
                }
                Some(()) = run.tasks.next(), if !run.tasks.is_empty() => {}
                () = stop.cancelled() => return,
            }
        }
    }
}

impl Run<'_> {
    fn block(&mut self, new: Arc<Snapshot>) {
        self.seen = new;
        let seen = Arc::clone(&self.seen);
        for (id, scheme) in &mut self.schemes {
            let Some(status) = seen.churp.get(id) else { continue };
            let known = scheme.status.replace(Arc::clone(status));
            if known.as_ref().is_none_or(|known| !Arc::ptr_eq(known, status)) {
                tracing::debug!(
                    module = MODULE,
                    id,
                    handoff = status.handoff,
                    next_handoff = status.next_handoff,
                    applications = status.applications.len(),
                    "status update"
                );
                count(&self.shared.label, status, known.as_deref());
            }
            let ended = known
                .as_ref()
                .is_some_and(|known| (known.handoff, known.next_handoff) != (status.handoff, status.next_handoff));
            if ended {
                scheme.finish.cancel();
                scheme.finish = CancellationToken::new();
                let task = tasks::finalize(Arc::clone(self.shared), Arc::clone(status));
                self.tasks.push(until(scheme.finish.clone(), task));
            }
            let open = (!status.handoffs_disabled()).then_some(status.next_handoff);
            if let Some(task) = scheme.apply(self.shared, &seen, status, open) {
                self.tasks.push(task);
            }
            if let Some(task) = scheme.hand_off(self.shared, &seen, status, open) {
                self.tasks.push(task);
            }
        }
    }
}

fn until(stop: CancellationToken, task: impl Future<Output = ()> + Send + 'static) -> Task {
    Box::pin(async move {
        stop.run_until_cancelled(task).await;
    })
}

impl Scheme {
    /// Applies for the next handoff, in the epoch before it.
    fn apply(
        &mut self,
        shared: &Arc<Shared>,
        seen: &Snapshot,
        status: &Arc<Status>,
        open: Option<Epoch>,
    ) -> Option<Task> {
        let time = open.filter(|handoff| handoff.checked_sub(1) == Some(seen.epoch));
        let applied = status.applications.contains_key(&shared.node_id);
        let Some(handoff) = time.filter(|_| !applied) else {
            self.application.keep(None);
            return None;
        };
        let at = match self.apply_at {
            Some((known, at)) if known == handoff => at,
            _ => {
                let (from, to) = APPLICATION_WINDOW;
                let at = seen.random_height(from, to, shared.draw());
                self.apply_at = Some((handoff, at));
                at
            }
        };
        if seen.height < at {
            return None;
        }
        let stop = self.application.begin(handoff)?;
        Some(until(stop, tasks::apply(Arc::clone(shared), Arc::clone(status))))
    }

    /// Takes part in a handoff for which the node has applied, in its epoch.
    fn hand_off(
        &mut self,
        shared: &Arc<Shared>,
        seen: &Snapshot,
        status: &Arc<Status>,
        open: Option<Epoch>,
    ) -> Option<Task> {
        let handoff = open.filter(|handoff| *handoff == seen.epoch);
        self.handoff.keep(handoff);
        let waits = status.applications.get(&shared.node_id).is_some_and(|application| !application.reconstructed);
        if !waits || seen.height < seen.height_at(HANDOFF_START) {
            return None;
        }
        let stop = self.handoff.begin(handoff?)?;
        Some(until(stop, tasks::hand_off(Arc::clone(shared), Arc::clone(status), seen.height)))
    }
}

/// Sets the metrics of a scheme.
fn count(runtime: &str, status: &Status, known: Option<&Status>) {
    let id = status.identity.id.to_string();
    let label = [runtime, id.as_str()];
    // These are counters: what they gain is told.
    let gain = |now: Epoch, before: Option<Epoch>| now.saturating_sub(before.unwrap_or(0)) as f64;
    if known.is_none() {
        table::WORKER_KEYMANAGER_CHURP_THRESHOLD_NUMBER.with(&label).add(f64::from(status.threshold));
    }
    table::WORKER_KEYMANAGER_CHURP_HANDOFF_NUMBER
        .with(&label)
        .add(gain(status.handoff, known.map(|known| known.handoff)));
    table::WORKER_KEYMANAGER_CHURP_NEXT_HANDOFF_NUMBER
        .with(&label)
        .add(gain(status.next_handoff, known.map(|known| known.next_handoff)));
    table::WORKER_KEYMANAGER_CHURP_HANDOFF_INTERVAL.with(&label).set(status.handoff_interval as f64);
    table::WORKER_KEYMANAGER_CHURP_EXTRA_SHARES_NUMBER.with(&label).set(f64::from(status.extra_shares));
    table::WORKER_KEYMANAGER_CHURP_COMMITTEE_SIZE.with(&label).set_count(status.committee.len());
    table::WORKER_KEYMANAGER_CHURP_SUBMITTED_APPLICATIONS_TOTAL.with(&label).set_count(status.applications.len());
    let confirmed = status.applications.values().filter(|application| application.reconstructed).count();
    table::WORKER_KEYMANAGER_CHURP_CONFIRMED_APPLICATIONS_TOTAL.with(&label).set_count(confirmed);
}

/// Higher is asked first.
type Priorities = HashMap<base_prims::PublicKey, i64>;

#[cfg(test)]
mod tests;
