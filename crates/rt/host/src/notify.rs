//! Tells hosted components what happens on the chain.
//!
//! What to tell is decided by [`Decisions`], which has neither clock nor tasks; [`Notifier`] does it. A component that is
//! slow gets the newest of each kind only. Source: `go/runtime/registry/notifier*.go`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use base_codec::{Bytes, cbor};
use parking_lot::Mutex;
use tokio::{
    sync::{broadcast, mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use wire_consensus::{keymanager::Status, roothash::AnnotatedBlock, tee::QuotePolicy};
use wire_runtime::{
    Body,
    bundle::ComponentId,
    rofl::{Config, METHOD_GET_CONFIG, Notifications},
    runtime::{
        ConsensusSyncRequest, KeyManagerQuotePolicyUpdateRequest, KeyManagerStatusUpdateRequest, NotifyEvent,
        NotifyRequest, QueryRequest,
    },
};

use crate::{
    api::{BoxFuture, HostEvent, RuntimeHost},
    composite::CompositeHost,
    services::Registrations,
};

/// Time limit of what is told about consensus and key managers.
pub const NOTIFY_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit of what off-chain components are told.
pub const ROFL_NOTIFY_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a key manager update is tried.
pub const KEY_MANAGER_TRIES: usize = 16;
/// Pause between these tries.
pub const KEY_MANAGER_RETRY: Duration = Duration::from_secs(1);
/// Least time between attestations because of height.
pub const MIN_ATTESTATION_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// Most tags that an off-chain component may ask to be told of.
pub const MAX_TAGS: usize = 1024;

/// What kind of notification; a newer one of the same kind replaces one that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Queue {
    /// `key-manager/status`
    KeyManagerStatus,
    /// `key-manager/quote-policy`
    KeyManagerQuotePolicy,
    /// `consensus-sync`
    ConsensusSync,
    /// `rofl/block`
    RoflBlock,
    /// `rofl/tags`
    RoflTags,
    /// `rofl/config`
    RoflConfig,
}

/// What a component is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Notification {
    /// A new consensus height.
    ConsensusSync(u64),
    /// The key manager's status.
    KeyManagerStatus(Box<Status>),
    /// The policy for key managers' quotes.
    KeyManagerQuotePolicy(Box<QuotePolicy>),
    /// A new runtime block.
    RoflBlock(Box<AnnotatedBlock>),
    /// A new runtime block that may have events with these tags.
    RoflTags(Box<AnnotatedBlock>, Vec<Bytes>),
    /// Asks what the component wants to be told of.
    RoflConfig,
}

impl Notification {
    fn queue(&self) -> Queue {
        match self {
            Self::ConsensusSync(_) => Queue::ConsensusSync,
            Self::KeyManagerStatus(_) => Queue::KeyManagerStatus,
            Self::KeyManagerQuotePolicy(_) => Queue::KeyManagerQuotePolicy,
            Self::RoflBlock(_) => Queue::RoflBlock,
            Self::RoflTags(..) => Queue::RoflTags,
            Self::RoflConfig => Queue::RoflConfig,
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A consensus block, at a time.
    ConsensusBlock(u64, Instant),
    /// Greatest age of attestations in blocks, from the deployment or the consensus parameters; 0 for none. The number
    /// between 0 and 1 spreads nodes.
    MaxAttestationAge(u64, f64),
    /// The key manager's status.
    KeyManagerStatus(Box<Status>),
    /// The quote policy of the key manager's active deployment.
    KeyManagerQuotePolicy(Box<QuotePolicy>),
    /// The runtime started or was attested anew: it forgot what it was told.
    RuntimeChanged,
    /// A runtime block.
    RuntimeBlock(Box<AnnotatedBlock>),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Tell a component.
    Tell(ComponentId, Notification),
    /// Ask for a new attestation.
    Reattest,
}

/// Decides what components are told. Pure.
#[derive(Debug, Default)]
pub struct Decisions {
    attestation_age: u64,
    last_attestation: Option<(u64, Instant)>,
    status: Option<Box<Status>>,
    policy: Option<Box<QuotePolicy>>,
    wants: BTreeMap<ComponentId, Notifications>,
}

impl Decisions {
    /// A component said what it wants to be told of. Tags beyond [`MAX_TAGS`] are dropped.
    pub fn register(&mut self, component: ComponentId, mut wants: Notifications) {
        if let Some(events) = &mut wants.events {
            events.truncate(MAX_TAGS);
        }
        self.wants.insert(component, wants);
    }

    /// What follows from something that happened, for the components that are there.
    pub fn on(&mut self, input: Input, components: &[ComponentId]) -> Vec<Action> {
        let tell = |what: Notification| -> Vec<Action> {
            components.iter().map(|id| Action::Tell(id.clone(), what.clone())).collect()
        };
        match input {
            Input::ConsensusBlock(height, now) => {
                let mut out = tell(Notification::ConsensusSync(height));
                // The first attestation was made at the start.
                let (last_height, last_time) = *self.last_attestation.get_or_insert((height, now));
                if self.attestation_age > 0
                    && height.saturating_sub(last_height) > self.attestation_age
                    && now.saturating_duration_since(last_time) > MIN_ATTESTATION_INTERVAL
                {
                    self.last_attestation = Some((height, now));
                    out.push(Action::Reattest);
                }
                out
            }
            Input::MaxAttestationAge(age, random) => {
                self.attestation_age = attestation_interval(age, random);
                Vec::new()
            }
            Input::KeyManagerStatus(status) => {
                self.status = Some(status.clone());
                tell(Notification::KeyManagerStatus(status))
            }
            Input::KeyManagerQuotePolicy(policy) => {
                if self.policy.as_ref() == Some(&policy) {
                    return Vec::new();
                }
                self.policy = Some(policy.clone());
                tell(Notification::KeyManagerQuotePolicy(policy))
            }
            Input::RuntimeChanged => {
                let mut out = Vec::new();
                out.extend(self.status.clone().into_iter().flat_map(|s| tell(Notification::KeyManagerStatus(s))));
                out.extend(self.policy.clone().into_iter().flat_map(|p| tell(Notification::KeyManagerQuotePolicy(p))));
                out
            }
            Input::RuntimeBlock(block) => self.on_runtime_block(&block, components),
        }
    }

    fn on_runtime_block(&mut self, block: &AnnotatedBlock, components: &[ComponentId]) -> Vec<Action> {
        let there: BTreeSet<_> = components.iter().collect();
        self.wants.retain(|id, _| there.contains(id));
        let mut out = Vec::new();
        for id in components.iter().filter(|id| matches!(id, ComponentId::Rofl(_))) {
            let Some(wants) = self.wants.get(id) else {
                out.push(Action::Tell(id.clone(), Notification::RoflConfig));
                continue;
            };
            if wants.blocks {
                out.push(Action::Tell(id.clone(), Notification::RoflBlock(Box::new(block.clone()))));
            }
            if let Some(tags) = wants.events.as_ref().filter(|tags| !tags.is_empty()) {
                out.push(Action::Tell(id.clone(), Notification::RoflTags(Box::new(block.clone()), tags.clone())));
            }
        }
        out
    }
}

/// After how many blocks an attestation is renewed: half to nine tenths of its greatest age.
fn attestation_interval(max_age: u64, random: f64) -> u64 {
    if max_age <= 2 {
        return 0;
    }
    let span = max_age.saturating_mul(4) / 10;
    // Rounding does not matter here.
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)]
    let offset = (span as f64 * random.clamp(0.0, 1.0)) as u64;
    max_age / 2 + offset.min(span.saturating_sub(1))
}

/// Finds which tags the events of a block have.
pub trait TagLookup: Send + Sync {
    /// Those of `tags` that events of the block have.
    fn present(&self, block: &AnnotatedBlock, tags: &[Bytes]) -> BoxFuture<'_, Result<Vec<Bytes>, String>>;
}

/// No events are found.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTags;

impl TagLookup for NoTags {
    fn present(&self, _: &AnnotatedBlock, _: &[Bytes]) -> BoxFuture<'_, Result<Vec<Bytes>, String>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// Tells the components of one runtime.
pub struct Notifier {
    host: Arc<CompositeHost>,
    tags: Arc<dyn TagLookup>,
    decisions: Mutex<Decisions>,
}

type Slots = BTreeMap<(ComponentId, Queue), watch::Sender<Option<Notification>>>;

impl Notifier {
    /// For the components of `host`.
    pub fn new(host: Arc<CompositeHost>, tags: Arc<dyn TagLookup>) -> Arc<Self> {
        Arc::new(Self { host, tags, decisions: Mutex::default() })
    }

    /// Tells what comes in until stopped.
    pub async fn run(self: Arc<Self>, mut inputs: mpsc::Receiver<Input>, stop: CancellationToken) {
        let mut slots = Slots::new();
        let mut tasks = JoinSet::new();
        let mut events = self.host.events();
        loop {
            let input = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                input = inputs.recv() => match input {
                    Some(input) => input,
                    None => break,
                },
                event = events.recv() => match event {
                    Ok(HostEvent::Started { .. } | HostEvent::Updated { .. })
                    | Err(broadcast::error::RecvError::Lagged(_)) => Input::RuntimeChanged,
                    Ok(_) => continue,
                    Err(broadcast::error::RecvError::Closed) => break,
                },
            };
            let components = self.host.components();
            let actions = self.decisions.lock().on(input, &components);
            for action in actions {
                match action {
                    Action::Reattest => self.host.update_capability_tee(),
                    Action::Tell(id, what) => self.queue(&mut slots, &mut tasks, id, what),
                }
            }
            // Closing its slot ends the task of a component that is gone.
            slots.retain(|(id, _), _| components.contains(id));
            while tasks.try_join_next().is_some() {}
        }
        drop(slots);
        tasks.shutdown().await;
    }

    fn queue(self: &Arc<Self>, slots: &mut Slots, tasks: &mut JoinSet<()>, id: ComponentId, what: Notification) {
        let slot = slots.entry((id.clone(), what.queue())).or_insert_with(|| {
            let (sender, receiver) = watch::channel(None);
            tasks.spawn(Arc::clone(self).serve(id, receiver));
            sender
        });
        slot.send_replace(Some(what));
    }

    /// Tells one component one kind of notification, always the newest.
    async fn serve(self: Arc<Self>, id: ComponentId, mut slot: watch::Receiver<Option<Notification>>) {
        while slot.changed().await.is_ok() {
            let what = slot.borrow_and_update().clone();
            if let (Some(what), Some(host)) = (what, self.host.component(&id)) {
                self.tell(&id, &*host, what).await;
            }
        }
    }

    async fn tell(&self, id: &ComponentId, host: &dyn RuntimeHost, what: Notification) {
        let queue = what.queue();
        let (request, limit, tries) = match what {
            Notification::ConsensusSync(height) => {
                (Body::RuntimeConsensusSyncRequest(ConsensusSyncRequest { height }), NOTIFY_TIMEOUT, 1)
            }
            Notification::KeyManagerStatus(status) => {
                let request = KeyManagerStatusUpdateRequest { status: *status };
                (Body::RuntimeKeyManagerStatusUpdateRequest(Box::new(request)), NOTIFY_TIMEOUT, KEY_MANAGER_TRIES)
            }
            Notification::KeyManagerQuotePolicy(policy) => {
                let request = KeyManagerQuotePolicyUpdateRequest { policy: *policy };
                (Body::RuntimeKeyManagerQuotePolicyUpdateRequest(Box::new(request)), NOTIFY_TIMEOUT, KEY_MANAGER_TRIES)
            }
            Notification::RoflBlock(block) => {
                let request = NotifyRequest { runtime_block: Some(*block), runtime_event: None };
                (Body::RuntimeNotifyRequest(Box::new(request)), ROFL_NOTIFY_TIMEOUT, 1)
            }
            Notification::RoflTags(block, tags) => {
                let present = match self.tags.present(&block, &tags).await {
                    Ok(present) => present,
                    Err(e) => {
                        tracing::warn!(component = %id, err = %e, "failed to fetch tags for block");
                        return;
                    }
                };
                if present.is_empty() {
                    return;
                }
                let event = NotifyEvent { block: Some(*block), tags: Some(present) };
                let request = NotifyRequest { runtime_block: None, runtime_event: Some(event) };
                (Body::RuntimeNotifyRequest(Box::new(request)), ROFL_NOTIFY_TIMEOUT, 1)
            }
            Notification::RoflConfig => {
                let request = QueryRequest { method: METHOD_GET_CONFIG.into(), ..QueryRequest::default() };
                (Body::RuntimeQueryRequest(Box::new(request)), ROFL_NOTIFY_TIMEOUT, 1)
            }
        };
        for attempt in 1..=tries {
            let error = match timeout(limit, host.call(request.clone())).await {
                Ok(Ok(answer)) => return self.take_answer(id, &answer),
                Ok(Err(e)) => e.to_string(),
                Err(_) => format!("no answer within {limit:?}"),
            };
            tracing::warn!(component = %id, ?queue, err = %error, attempt, "failed to notify runtime");
            if attempt < tries {
                sleep(KEY_MANAGER_RETRY).await;
            }
        }
    }

    /// Only the question for the configuration has an answer that says something.
    fn take_answer(&self, id: &ComponentId, answer: &Body) {
        let Body::RuntimeQueryResponse(answer) = answer else {
            return;
        };
        match cbor::from_slice::<Config>(&answer.data) {
            Ok(config) => self.register(id, config.notifications),
            Err(e) => tracing::error!(component = %id, err = %e, "failed to unmarshal config"),
        }
    }
}

impl Registrations for Notifier {
    fn register(&self, component: &ComponentId, wants: Notifications) {
        self.decisions.lock().register(component.clone(), wants);
    }
}

#[cfg(test)]
mod tests;
