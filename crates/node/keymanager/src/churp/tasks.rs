//! The steps of applications and handoffs, each with its attempts.

use std::sync::Arc;
use std::time::Duration;

use base_codec::cbor::{Decode, Encode};
use base_metrics::table;
use base_prims::PublicKey;
use tokio::time::Instant;
use wire_consensus::churp::rpc::{
    FetchRequest, FetchResponse, HandoffRequest, METHOD_APPLY as APPLY, METHOD_CONFIRM as CONFIRM, METHOD_FINALIZE,
    METHOD_PROACTIVIZATION, METHOD_SHARE_DISTRIBUTION, METHOD_SHARE_REDUCTION,
};
use wire_consensus::churp::{
    HandoffKind, METHOD_APPLY, METHOD_CONFIRM, SignedApplicationRequest, SignedConfirmationRequest, Status,
};
use wire_runtime::Empty;

use super::{MODULE, Priorities};
use crate::shared::{Shared, TaskError};

/// How often a step is tried.
pub(super) const MAX_ATTEMPTS: u32 = 10;
/// Blocks between switches of the polynomial's dimension: other nodes must be done with the step before.
pub(super) const DIMENSION_SWITCH_DELAY: i64 = 2;
/// Pause after the first failed attempt; it grows by half each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The priority of the node itself: it is asked first.
const OWN_PRIORITY: i64 = 100;

/// Attempts at a step, with growing pauses.
struct Attempts<'a> {
    shared: &'a Shared,
    status: &'a Status,
    what: &'static str,
    pause: Duration,
    made: u32,
}

impl<'a> Attempts<'a> {
    fn new(shared: &'a Shared, status: &'a Status, what: &'static str) -> Self {
        Self { shared, status, what, pause: FIRST_PAUSE, made: 0 }
    }

    /// Waits for the next attempt after one that failed; fails if that was the last one.
    async fn failed(&mut self, error: TaskError) -> Result<(), TaskError> {
        self.made += 1;
        let (id, epoch) = (self.status.identity.id, self.status.next_handoff);
        tracing::debug!(module = MODULE, id, epoch, what = self.what, attempt = self.made, err = %error,
            "attempt failed");
        if self.made >= MAX_ATTEMPTS {
            return Err(error);
        }
        let permille = 500 + u32::try_from(self.shared.draw() % 1000).unwrap_or(0);
        tokio::time::sleep(self.pause * permille / 1000).await;
        self.pause = (self.pause * 3 / 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

/// Calls the enclave and measures how long it takes.
async fn call<T: Decode>(shared: &Shared, status: &Status, method: &str, args: &impl Encode) -> Result<T, TaskError> {
    let start = Instant::now();
    let answer = shared.local(method, args).await;
    let id = status.identity.id.to_string();
    let label = [shared.label.as_str(), id.as_str(), method];
    table::WORKER_KEYMANAGER_CHURP_ENCLAVE_RPC_LATENCY_SECONDS.with(&label).observe_time(start.elapsed());
    if answer.is_err() {
        table::WORKER_KEYMANAGER_CHURP_ENCLAVE_RPC_FAILURES_TOTAL.with(&label).inc();
    }
    answer
}

fn failed(status: &Status, what: &str, error: &TaskError) {
    let (id, epoch) = (status.identity.id, status.next_handoff);
    tracing::warn!(module = MODULE, id, epoch, what, err = %error, "failed");
}

/// Applies for the committee of the next handoff.
pub(super) async fn apply(shared: Arc<Shared>, status: Arc<Status>) {
    let mut attempts = Attempts::new(&shared, &status, "submit application");
    loop {
        let Err(error) = try_apply(&shared, &status).await else { return };
        if let Err(error) = attempts.failed(error).await {
            return failed(&status, "submit application", &error);
        }
    }
}

async fn try_apply(shared: &Shared, status: &Status) -> Result<(), TaskError> {
    let request = HandoffRequest { identity: status.identity, epoch: status.next_handoff };
    let signed: SignedApplicationRequest = call(shared, status, APPLY, &request).await?;
    signed.verify_rak(&shared.attestation_key()?, &shared.blacklist)?;
    shared.submission.submit(&shared.node_key, METHOD_APPLY, &signed).await?;
    Ok(())
}

async fn try_confirm(shared: &Shared, status: &Status) -> Result<(), TaskError> {
    let request = HandoffRequest { identity: status.identity, epoch: status.next_handoff };
    let signed: SignedConfirmationRequest = call(shared, status, CONFIRM, &request).await?;
    signed.verify_rak(&shared.attestation_key()?, &shared.blacklist)?;
    shared.submission.submit(&shared.node_key, METHOD_CONFIRM, &signed).await?;
    Ok(())
}

/// Tells the enclave that a handoff has ended.
pub(super) async fn finalize(shared: Arc<Shared>, status: Arc<Status>) {
    let request = HandoffRequest { identity: status.identity, epoch: status.handoff };
    let done: Result<Option<Empty>, _> = call(&shared, &status, METHOD_FINALIZE, &request).await;
    if let Err(error) = done {
        tracing::info!(module = MODULE, id = status.identity.id, epoch = status.handoff, err = %error,
            "failed to finalize handoff");
    }
}

/// Takes part in a handoff that started at a height, and confirms it.
pub(super) async fn hand_off(shared: Arc<Shared>, status: Arc<Status>, started: i64) {
    let handoff = Handoff { shared: &shared, status: &status };
    if let Err(error) = handoff.run(started).await {
        failed(&status, "hand off", &error);
    }
}

struct Handoff<'a> {
    shared: &'a Shared,
    status: &'a Status,
}

impl Handoff<'_> {
    async fn run(&self, started: i64) -> Result<(), TaskError> {
        let kind = self.status.handoff_kind();
        let old = &self.status.committee;
        let new: Vec<PublicKey> = self.status.applications.keys().copied().collect();
        tracing::info!(module = MODULE, id = self.status.identity.id, epoch = self.status.next_handoff,
            threshold = self.status.threshold, kind = ?kind, old = old.len(), new = new.len(), "starting handoff");
        let mut priorities: Priorities = [(self.shared.node_id, OWN_PRIORITY)].into();
        if kind == HandoffKind::CommitteeChanged {
            self.fetch(METHOD_SHARE_REDUCTION, old, &mut priorities).await?;
        }
        // It does not depend on the reduction, so there is nothing to wait for.
        self.fetch(METHOD_PROACTIVIZATION, &new, &mut priorities).await?;
        if kind == HandoffKind::CommitteeChanged {
            let mut seen = self.shared.snapshot.subscribe();
            let reached = seen.wait_for(|seen| seen.height >= started.saturating_add(DIMENSION_SWITCH_DELAY));
            reached.await.map_err(|_| TaskError::Incomplete)?;
            self.fetch(METHOD_SHARE_DISTRIBUTION, &new, &mut priorities).await?;
        }
        self.confirm().await
    }

    /// Has the enclave fetch from nodes until it has enough.
    async fn fetch(
        &self,
        method: &'static str,
        nodes: &[PublicKey],
        priorities: &mut Priorities,
    ) -> Result<(), TaskError> {
        let mut remaining = nodes.to_vec();
        let mut attempts = Attempts::new(self.shared, self.status, method);
        loop {
            order(&mut remaining, priorities, || self.shared.draw());
            let error = match self.try_fetch(method, &remaining).await {
                Err(error) => error,
                Ok(answer) => {
                    for (nodes, change) in [(&answer.succeeded, 1), (&answer.failed, -1)] {
                        for node in nodes {
                            *priorities.entry(*node).or_default() += change;
                        }
                    }
                    if answer.completed {
                        return Ok(());
                    }
                    remaining.retain(|node| !answer.succeeded.contains(node));
                    TaskError::Incomplete
                }
            };
            attempts.failed(error).await?;
        }
    }

    async fn try_fetch(&self, method: &'static str, nodes: &[PublicKey]) -> Result<FetchResponse, TaskError> {
        let (identity, epoch) = (self.status.identity, self.status.next_handoff);
        let request = FetchRequest { identity, epoch, node_ids: Some(nodes.to_vec()) };
        let answer: FetchResponse = call(self.shared, self.status, method, &request).await?;
        tracing::info!(
            module = MODULE,
            id = identity.id,
            epoch,
            method,
            completed = answer.completed,
            succeeded = answer.succeeded.len(),
            failed = answer.failed.len(),
            "nodes were asked"
        );
        Ok(answer)
    }

    async fn confirm(&self) -> Result<(), TaskError> {
        let mut attempts = Attempts::new(self.shared, self.status, "submit confirmation");
        while let Err(error) = try_confirm(self.shared, self.status).await {
            attempts.failed(error).await?;
        }
        Ok(())
    }
}

/// Puts nodes of higher priority first, and equals in an order by chance.
pub(super) fn order(nodes: &mut [PublicKey], priorities: &Priorities, mut draw: impl FnMut() -> u64) {
    nodes.sort_by_cached_key(|node| (std::cmp::Reverse(priorities.get(node).copied().unwrap_or(0)), draw()));
}
