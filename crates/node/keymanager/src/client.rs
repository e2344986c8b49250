//! Calls to key manager enclaves of other nodes, on behalf of the components of one runtime.
//!
//! Source: `go/worker/common/committee/keymanager.go`, `go/worker/keymanager/p2p/client.go`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use base_prims::{Namespace, PublicKey};
use node_workers::runtime::RuntimeView;
use node_workers::{Chain, ChainError};
use p2p_net::api::{CallLimits, P2p};
use p2p_net::rpc::{CallOptions, Feedback};
use p2p_net::{PeerId, ids, rpc};
use parking_lot::Mutex;
use rt_host::api::BoxFuture;
use rt_host::services::{KeyManagerClient, Served};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wire_consensus::keymanager::Status;
use wire_consensus::registry::RuntimeKind;
use wire_runtime::enclave_rpc::PeerFeedback;
use wire_runtime::{Error, error, host};

use crate::protocol::{
    CALL_ENCLAVE_TIME, CallEnclaveRequest, CallEnclaveResponse, MAX_ANSWER_BYTES, METHOD_CALL_ENCLAVE,
};

/// Calls of which the peer is remembered until the runtime has judged it; beyond it the oldest is forgotten.
pub const MAX_FEEDBACKS: usize = 100;
/// How long the peer of a call is remembered.
pub const MAX_FEEDBACK_AGE: Duration = Duration::from_secs(60);
/// Calls that are under way at once; further ones wait.
pub const MAX_CALLS: usize = 128;

const MODULE: &str = "worker/common/committee/keymanager";

fn plain(text: impl Into<String>) -> Error {
    Error::new(error::UNKNOWN, text)
}

/// The key manager that the runtime uses.
struct Target {
    id: Namespace,
    rpc: rpc::Client,
    /// Its committee, as far as it is registered.
    nodes: BTreeMap<PublicKey, PeerId>,
    /// The status that the committee is from.
    status: Option<Status>,
}

/// Who answered calls, until the runtime says what the answers were worth.
#[derive(Default)]
struct Feedbacks {
    /// Oldest first.
    waiting: VecDeque<(u64, Feedback, Instant)>,
    /// Of the last call in the older form, where the next call judges it.
    last: Option<Feedback>,
}

/// Calls the key manager that one runtime uses; for a key manager's own runtime, its other nodes.
pub struct Client {
    p2p: Arc<dyn P2p>,
    chain_context: String,
    chain: Arc<dyn Chain>,
    view: watch::Receiver<RuntimeView>,
    target: Mutex<Option<Target>>,
    feedbacks: Mutex<Feedbacks>,
    calls: Semaphore,
    ready: watch::Sender<bool>,
    peers: watch::Sender<Vec<PeerId>>,
}

impl Client {
    /// A client for the runtime of the view. It knows no key manager before [`Client::run`].
    pub fn new(
        p2p: Arc<dyn P2p>,
        chain_context: String,
        chain: Arc<dyn Chain>,
        view: watch::Receiver<RuntimeView>,
    ) -> Arc<Self> {
        Arc::new(Self {
            p2p,
            chain_context,
            chain,
            view,
            target: Mutex::new(None),
            feedbacks: Mutex::default(),
            calls: Semaphore::new(MAX_CALLS),
            ready: watch::Sender::new(false),
            peers: watch::Sender::new(Vec::new()),
        })
    }

    /// Whether the runtime needs no key manager, or one with a committee was found.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// The peers of the key manager's committee: links to them matter more than others.
    pub fn peers(&self) -> watch::Receiver<Vec<PeerId>> {
        self.peers.subscribe()
    }

    /// Follows the runtime's descriptor and its key manager's committee until stopped.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut view = self.view.clone();
        loop {
            let seen = view.borrow_and_update().clone();
            if let Err(error) = self.follow(&seen) {
                tracing::warn!(module = MODULE, err = %error, "key manager's committee cannot be read");
            }
            tokio::select! {
                changed = view.changed() => if changed.is_err() { return },
                () = stop.cancelled() => return,
            }
        }
    }

    fn follow(&self, view: &RuntimeView) -> Result<(), ChainError> {
        let Some(descriptor) = &view.descriptor else { return Ok(()) };
        let id = match descriptor.kind {
            RuntimeKind::KEY_MANAGER => Some(descriptor.id),
            _ => descriptor.key_manager,
        };
        self.aim(id);
        let Some(id) = id else {
            self.ready.send_if_modified(|ready| !std::mem::replace(ready, true));
            return Ok(());
        };
        let state = self.chain.state(view.height)?;
        let Some(status) = apps_keymanager::secrets::state::status(&*state, &id)? else { return Ok(()) };
        if !status.is_initialized || status.nodes().is_empty() {
            // It can serve nobody; its last committee stays.
            return Ok(());
        }
        let mut nodes = BTreeMap::new();
        for key in status.nodes() {
            match apps_committees::registry::state::node(&*state, key)? {
                Some(node) => {
                    nodes.insert(*key, crate::access::peer_id(&node.p2p.id));
                }
                None => tracing::debug!(module = MODULE, node_id = %key, "key manager's node is not registered"),
            }
        }
        let mut target = self.target.lock();
        let Some(target) = target.as_mut().filter(|target| target.id == id) else { return Ok(()) };
        let peers: Vec<PeerId> = nodes.values().copied().collect();
        self.peers.send_if_modified(|known| {
            let differs = *known != peers;
            *known = peers;
            differs
        });
        if target.status.is_none() {
            tracing::info!(module = MODULE, keymanager_id = %id, nodes = nodes.len(), "key manager is initialized");
        }
        target.nodes = nodes;
        target.status = Some(status);
        self.ready.send_if_modified(|ready| !std::mem::replace(ready, true));
        Ok(())
    }

    /// Changes the key manager, if it is another one.
    fn aim(&self, id: Option<Namespace>) {
        let mut target = self.target.lock();
        if target.as_ref().map(|target| target.id) == id {
            return;
        }
        tracing::debug!(module = MODULE, keymanager_id = ?id, "key manager updated");
        *target = id.map(|id| {
            let protocol = ids::KEY_MANAGER.of_runtime(&self.chain_context, &id);
            self.p2p.track(&protocol, ids::KEY_MANAGER.min_peers, ids::KEY_MANAGER.total_peers);
            Target { id, rpc: rpc::Client::new(Arc::clone(&self.p2p), protocol), nodes: BTreeMap::new(), status: None }
        });
        self.ready.send_if_modified(|ready| std::mem::replace(ready, false));
        self.peers.send_replace(Vec::new());
        drop(target);
        *self.feedbacks.lock() = Feedbacks::default();
    }

    async fn call_enclave(&self, request: host::RpcCallRequest) -> Served<host::RpcCallResponse> {
        let asked = request.nodes.unwrap_or_default();
        let _permit = self.calls.acquire().await.map_err(|_| plain("key manager not available"))?;
        let old_form = request.request_id == 0;
        let (id, client, nodes) = {
            let target = self.target.lock();
            let target = target.as_ref().ok_or_else(|| plain("key manager not available"))?;
            let wanted = |key: &PublicKey| asked.is_empty() || asked.contains(key);
            let nodes: BTreeMap<PeerId, PublicKey> =
                target.nodes.iter().filter(|(key, _)| wanted(key)).map(|(key, peer)| (*peer, *key)).collect();
            (target.id, target.rpc.clone(), nodes)
        };
        if old_form {
            self.judge_last(request.pf.unwrap_or(PeerFeedback::SUCCESS));
        }
        if nodes.is_empty() && !asked.is_empty() {
            return Err(plain("nodes not in committee"));
        }
        let connected = client.peers().into_iter().map(|peer| peer.id);
        let peers: Vec<PeerId> = connected.filter(|peer| nodes.contains_key(peer)).collect();
        let body = CallEnclaveRequest { data: request.request, kind: request.kind.unwrap_or_default() };
        let limits = CallLimits { response_time: CALL_ENCLAVE_TIME, max_response: MAX_ANSWER_BYTES };
        let options = CallOptions { limits, ..CallOptions::default() };
        let (answer, feedback): (CallEnclaveResponse, Feedback) = client
            .call_one(Some(&peers), METHOD_CALL_ENCLAVE, &body, options, |_, _| Ok(()))
            .await
            .map_err(|error| plain(error.to_string()))?;
        let node = *nodes.get(&feedback.peer()).ok_or_else(|| plain("unknown peer id"))?;
        // The key manager may have changed during the call; then nobody cares about the peer any more.
        if self.target.lock().as_ref().is_some_and(|target| target.id == id) {
            let mut feedbacks = self.feedbacks.lock();
            if old_form {
                feedbacks.last = Some(feedback);
            } else {
                feedbacks.remember(request.request_id, feedback);
            }
        }
        Ok(host::RpcCallResponse { response: answer.data, node })
    }

    fn judge_last(&self, verdict: PeerFeedback) {
        let last = self.feedbacks.lock().last.take();
        if let Some(feedback) = last {
            judge(&feedback, verdict);
        }
    }
}

impl Feedbacks {
    fn remember(&mut self, request: u64, feedback: Feedback) {
        self.waiting.retain(|(known, _, at)| *known != request && at.elapsed() <= MAX_FEEDBACK_AGE);
        if self.waiting.len() >= MAX_FEEDBACKS {
            self.waiting.pop_front();
        }
        self.waiting.push_back((request, feedback, Instant::now()));
    }

    fn take(&mut self, request: u64) -> Option<Feedback> {
        let at = self.waiting.iter().position(|(known, ..)| *known == request)?;
        let (_, feedback, when) = self.waiting.remove(at)?;
        (when.elapsed() <= MAX_FEEDBACK_AGE).then_some(feedback)
    }
}

fn judge(feedback: &Feedback, verdict: PeerFeedback) {
    match verdict {
        PeerFeedback::SUCCESS => feedback.success(),
        PeerFeedback::FAILURE => feedback.failure(),
        PeerFeedback::BAD_PEER => feedback.bad(),
        _ => {}
    }
}

impl KeyManagerClient for Client {
    fn call(&self, request: host::RpcCallRequest) -> BoxFuture<'_, Served<host::RpcCallResponse>> {
        Box::pin(self.call_enclave(request))
    }

    fn feedback(&self, request_id: u64, feedback: PeerFeedback) {
        let known = self.feedbacks.lock().take(request_id);
        tracing::debug!(module = MODULE, request_id, peer_feedback = %feedback, valid = known.is_some(),
            "received peer feedback from runtime");
        if let Some(known) = known {
            judge(&known, feedback);
        }
    }
}

#[cfg(test)]
mod tests;
