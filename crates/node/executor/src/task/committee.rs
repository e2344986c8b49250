//! What the machine wants done, and gossip of the committee.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base_codec::cbor;
use p2p_net::api::Validation;
use p2p_net::rpc::Client;
use rt_executor::messages::CommitteeMessage;
use rt_executor::round::{self, Acceptance, Effect, Execution, Input, ProposalDraft};
use tokio::time::Instant;

use super::{Done, Executing, Task};
use crate::effects;
use crate::gossip::CommitteeGossip;

impl Task {
    pub(super) fn committee_gossip(&mut self, gossip: CommitteeGossip) {
        let mut effects = Vec::new();
        let verdict = match &mut self.machine {
            Some(machine) => machine.accept(&gossip.author, gossip.own, &gossip.message, &mut effects),
            None => Acceptance::Retry,
        };
        for effect in effects {
            self.perform(effect);
        }
        if verdict == Acceptance::Accept {
            self.inputs.push_back(Input::Tick);
        }
        let _ = gossip.reply.send(match verdict {
            Acceptance::Accept => Validation::Accept,
            Acceptance::Retry => Validation::Retry,
            Acceptance::Reject => Validation::Reject,
        });
    }

    pub(super) fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Execute(execution) => self.execute(execution),
            Effect::AbortRuntime => {
                tracing::error!(module = "worker/executor/committee", runtime_id = %self.setup.runtime,
                    "execution of the batch takes too long, aborting the runtime");
                self.metrics.aborted();
                if let Some(executing) = self.executing.take() {
                    executing.handle.abort();
                    if executing.in_runtime.load(Ordering::Relaxed) {
                        self.abort_runtime();
                    }
                }
            }
            Effect::SyncRuntime { height } => {
                self.metrics.discrepancy();
                if let Some(host) = self.setup.host.clone() {
                    self.work.spawn(async move {
                        effects::sync_runtime(host, height).await;
                        Done::Nothing
                    });
                }
            }
            Effect::Fetch { id, hashes } => {
                tracing::debug!(module = "worker/executor/committee", runtime_id = %self.setup.runtime,
                    num_missing = hashes.len(), "some transactions are missing");
                let client = Client::new(Arc::clone(&self.setup.p2p), self.tx_sync.clone());
                let fetching = effects::fetch(client, hashes, self.fetched.clone());
                let handle = self.work.spawn(async move {
                    fetching.await;
                    Done::FetchEnded(id)
                });
                self.fetches.insert(id, handle);
            }
            Effect::StopFetch { id } => {
                if let Some(handle) = self.fetches.remove(&id) {
                    handle.abort();
                }
            }
            Effect::Store(store) => {
                let (storage, runtime) = (self.setup.storage.clone(), self.setup.runtime);
                self.work.spawn_blocking(move || {
                    let start = std::time::Instant::now();
                    let ok = storage.is_some_and(|storage| effects::store(&storage, runtime, &store));
                    Done::Stored(store.id, ok, Some(start.elapsed()))
                });
            }
            Effect::FindRoots { id, round, io_root, state_root } => {
                let storage = self.setup.storage.clone();
                self.work.spawn_blocking(move || {
                    let ok = storage.is_some_and(|s| effects::has_roots(&s, round, io_root, state_root));
                    Done::Stored(id, ok, None)
                });
            }
            Effect::Record { id, record } => {
                self.to_record.push_back((id, record));
                self.write_next_record();
            }
            Effect::Propose(draft) => self.propose(draft),
            Effect::Commit(draft) => self.commit(*draft),
            Effect::SubmitEvidence(evidence) => {
                let (submission, key) = (Arc::clone(&self.setup.submission), self.setup.node_key.clone());
                self.work.spawn(async move {
                    effects::give_evidence(submission, key, *evidence).await;
                    Done::Nothing
                });
            }
        }
    }

    pub(super) fn execute(&mut self, execution: Execution) {
        let id = execution.id;
        let host = self.setup.host.clone().filter(|_| self.runtime.ready);
        let position = self.position.clone().filter(|p| p.round.number() == execution.round);
        let (Some(host), Some(position)) = (host, position) else {
            self.inputs.push_back(Input::Executed { id, result: None });
            return;
        };
        self.metrics.batch(execution.inputs.len());
        self.executed_at = Some(Instant::now());
        let in_runtime = Arc::new(AtomicBool::new(false));
        let (history, aborts) = (Arc::clone(&self.setup.history), self.aborts.clone());
        let executing = effects::execute(host, history, aborts, position, execution, Arc::clone(&in_runtime));
        let handle = self.work.spawn(async move {
            let (result, time) = executing.await;
            Done::Executed(id, result, time)
        });
        self.executing = Some(Executing { id, handle, in_runtime });
    }

    /// Records are written one after another: the last one asked for is the one that stays.
    pub(super) fn write_next_record(&mut self) {
        if self.recording {
            return;
        }
        let Some((id, record)) = self.to_record.pop_front() else { return };
        let Some(records) = self.records.clone() else { return };
        self.recording = true;
        let runtime = self.setup.runtime;
        self.work.spawn_blocking(move || {
            let written = records.write(&record);
            if let Err(error) = &written {
                tracing::error!(module = "worker/executor/committee", runtime_id = %runtime, err = %error,
                    "record of what is to be signed cannot be written");
            }
            Done::Recorded(id, written.is_ok())
        });
    }

    pub(super) fn propose(&mut self, draft: ProposalDraft) {
        let (epoch, round) = (draft.epoch, draft.header.round);
        let failed = match draft.sign(&self.setup.node_key, &self.signing) {
            Ok(proposal) => {
                let message = CommitteeMessage { epoch, proposal: Some(proposal) };
                match self.setup.p2p.publish(&self.topics.1, cbor::to_vec(&message)) {
                    Ok(()) => return,
                    Err(error) => error.to_string(),
                }
            }
            Err(error) => error.to_string(),
        };
        tracing::error!(module = "worker/executor/committee", runtime_id = %self.setup.runtime, round, err = failed,
            "failed to sign and publish proposal");
    }

    pub(super) fn commit(&mut self, draft: round::CommitmentDraft) {
        let round = draft.header.header.round;
        let io_root = draft.header.header.io_root;
        match draft.sign(&self.setup.node_key, &self.signing) {
            Ok(commitment) => {
                if let (Some(io_root), Some(start)) = (io_root, self.executed_at.or(Some(Instant::now()))) {
                    self.committed = Some((io_root, start));
                }
                let (submission, key) = (Arc::clone(&self.setup.submission), self.setup.node_key.clone());
                let (runtime, over) = (self.setup.runtime, self.round_over.clone());
                self.work.spawn(async move {
                    effects::commit(submission, key, runtime, commitment, over).await;
                    Done::Nothing
                });
            }
            Err(error) => {
                tracing::error!(module = "worker/executor/committee", runtime_id = %self.setup.runtime, round,
                err = %error, "failed to sign the commitment")
            }
        }
    }
}
