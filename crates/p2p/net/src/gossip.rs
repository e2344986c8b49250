//! Gossip: settings of the router, validation of what comes, and publishing.
//!
//! Source: `go/p2p/{p2p,dispatch}.go` and the defaults of go-libp2p-pubsub 0.15. A message is validated by handling it;
//! the author that signed it counts, not who passed it on. Peer exchange on leaving a mesh is neither offered nor used.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base_crypto::tuplehash::tuple_hash256;
use libp2p_gossipsub::{
    AllowAllSubscriptionFilter, ConfigBuilder, IdentityTransform, MaxCountSubscriptionFilter, Message,
    MessageAcceptance, MessageAuthenticity, MessageId, PublishError, ValidationMode,
};
use libp2p_identity::{Keypair, PeerId};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::api::{MAX_GOSSIP, P2pError, Topic, Validate, Validation};
use crate::backoff::Backoff;
use crate::config::Config;
use crate::node::Shared;
use crate::swarm::Command;

/// How many messages to a peer may wait for each one that the configuration allows. The reference's queues are emptied while
/// they are filled; here whoever publishes many messages in a row fills them before any connection has its turn.
const QUEUE_FACTOR: usize = 64;

/// Customization string of message ids.
const MESSAGE_ID: &[u8] = b"oasis-core/p2p: message id";
/// How long a message is remembered as seen.
const SEEN_TTL: Duration = Duration::from_secs(120);
/// What the decoder may hold beyond a message: the bytes read along with it.
const RECEIVE_SLACK: usize = 64 << 10;
/// Largest control part: 5000 message ids of 32 bytes and their framing, with reserve.
const MAX_CONTROL: usize = 256 << 10;
/// Topics that a peer may be subscribed to.
const MAX_TOPICS_PER_PEER: usize = 1000;
/// Topics that a peer may name in one message.
const MAX_TOPICS_PER_REQUEST: usize = 1000;
/// How long handling a message may take.
const PROCESS_TIME: Duration = Duration::from_secs(10);
/// Messages of a topic that are offered again at once.
const MAX_RETRYING: usize = 10;
/// How often a message is offered again.
const MAX_RETRIES: u32 = 5;
/// The first pause before offering a message again.
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// The longest pause before offering a message again.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Messages of a topic that are held while nobody else is on it.
const MAX_HELD: usize = 50;
/// How often held messages are tried.
const HELD_INTERVAL: Duration = Duration::from_secs(1);

/// The router.
pub(crate) type Gossip =
    libp2p_gossipsub::Behaviour<IdentityTransform, MaxCountSubscriptionFilter<AllowAllSubscriptionFilter>>;

/// The id of a message: `TupleHash[…](topic, data)`.
pub(crate) fn message_id(topic: &str, data: &[u8]) -> [u8; 32] {
    tuple_hash256(MESSAGE_ID, &[topic.as_bytes(), data])
}

/// The router with the reference's parameters.
pub(crate) fn behaviour(key: &Keypair, config: &Config) -> Result<Gossip, String> {
    let settings = ConfigBuilder::default()
        .mesh_n(6)
        .mesh_n_low(5)
        .mesh_n_high(12)
        .gossip_lazy(6)
        .retain_scores(4)
        .mesh_outbound_min(2)
        .heartbeat_interval(Duration::from_secs(1))
        .history_length(5)
        .history_gossip(3)
        .fanout_ttl(Duration::from_secs(60))
        .prune_backoff(Duration::from_secs(60))
        .unsubscribe_backoff(Duration::from_secs(10))
        .prune_peers(0)
        .max_transmit_size(MAX_GOSSIP + RECEIVE_SLACK)
        .max_control_message_size(MAX_CONTROL)
        .duplicate_cache_time(SEEN_TTL)
        .flood_publish(true)
        .connection_handler_queue_len(config.gossip_queue.max(1).saturating_mul(QUEUE_FACTOR))
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        .message_id_fn(|m: &Message| MessageId::new(&message_id(m.topic.as_str(), &m.data)))
        .build()
        .map_err(|e| e.to_string())?;
    let filter = MaxCountSubscriptionFilter {
        filter: AllowAllSubscriptionFilter {},
        max_subscribed_topics: MAX_TOPICS_PER_PEER,
        max_subscriptions_per_request: MAX_TOPICS_PER_REQUEST,
    };
    Gossip::new_with_subscription_filter(MessageAuthenticity::Signed(key.clone()), settings, filter)
        .map_err(str::to_owned)
}

/// A topic that this node is on.
pub(crate) struct Handler {
    topic: Topic,
    validate: Arc<dyn Validate>,
    room: Arc<Semaphore>,
    retrying: AtomicUsize,
    held: Mutex<VecDeque<Vec<u8>>>,
    holding: AtomicUsize,
}

/// All topics that this node is on.
pub(crate) struct Topics {
    handlers: Mutex<HashMap<String, Arc<Handler>>>,
    throttle: Arc<Semaphore>,
    concurrency: usize,
}

impl Topics {
    pub(crate) fn new(config: &Config) -> Self {
        let throttle = Arc::new(Semaphore::new(config.validate_throttle));
        Self { handlers: Mutex::default(), throttle, concurrency: config.validate_concurrency }
    }

    /// Adds a topic.
    pub(crate) fn add(&self, topic: &Topic, validate: Arc<dyn Validate>) -> Result<(), P2pError> {
        if topic.as_str().is_empty() || topic.as_str().len() > crate::api::MAX_NAME {
            return Err(P2pError::Name(topic.to_string()));
        }
        let mut handlers = self.handlers.lock();
        if handlers.contains_key(topic.as_str()) {
            return Err(P2pError::Duplicate(topic.to_string()));
        }
        let handler = Handler {
            topic: topic.clone(),
            validate,
            room: Arc::new(Semaphore::new(self.concurrency)),
            retrying: AtomicUsize::new(0),
            held: Mutex::default(),
            holding: AtomicUsize::new(0),
        };
        handlers.insert(topic.as_str().to_owned(), Arc::new(handler));
        Ok(())
    }

    pub(crate) fn get(&self, topic: &str) -> Option<Arc<Handler>> {
        self.handlers.lock().get(topic).cloned()
    }
}

/// Handles a message that came; the verdict goes back to the router.
pub(crate) fn received(shared: &Arc<Shared>, source: PeerId, id: MessageId, message: Message) {
    let handler = shared.topics.get(message.topic.as_str());
    let (Some(handler), Some(author)) = (handler, message.source) else {
        return verdict(shared, id, source, MessageAcceptance::Ignore);
    };
    let room = (handler.room.clone().try_acquire_owned(), shared.topics.throttle.clone().try_acquire_owned());
    let (Ok(room), Ok(throttle)) = room else {
        debug!(topic = %handler.topic, "too many messages in validation, dropping one");
        return verdict(shared, id, source, MessageAcceptance::Ignore);
    };
    let shared = shared.clone();
    let own = author == shared.me;
    shared.clone().spawn(async move {
        let outcome = check(&handler, author, own, &message.data).await;
        drop((room, throttle));
        let acceptance = match outcome {
            Validation::Accept | Validation::Retry | Validation::RejectRelay => MessageAcceptance::Accept,
            Validation::Reject => MessageAcceptance::Reject,
        };
        let _ = shared.commands.send(Command::Validated { id, source, acceptance }).await;
        if outcome == Validation::Retry {
            retry(&handler, author, own, &message.data).await;
        }
    });
}

fn verdict(shared: &Arc<Shared>, id: MessageId, source: PeerId, acceptance: MessageAcceptance) {
    // Without room for the command the router forgets the message by itself.
    let _ = shared.commands.try_send(Command::Validated { id, source, acceptance });
}

async fn check(handler: &Handler, author: PeerId, own: bool, data: &[u8]) -> Validation {
    timeout(PROCESS_TIME, handler.validate.validate(author, own, data)).await.unwrap_or(Validation::Retry)
}

/// Offers a message again, with growing pauses, unless too many are.
async fn retry(handler: &Handler, author: PeerId, own: bool, data: &[u8]) {
    if handler.retrying.fetch_add(1, Ordering::Relaxed) <= MAX_RETRYING {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
        for _ in 0..MAX_RETRIES {
            sleep(backoff.pause()).await;
            if check(handler, author, own, data).await != Validation::Retry {
                break;
            }
        }
    } else {
        debug!(topic = %handler.topic, "too many messages to offer again, dropping one");
    }
    handler.retrying.fetch_sub(1, Ordering::Relaxed);
}

/// Handles a message of this node and gossips it.
pub(crate) fn publish(shared: &Arc<Shared>, topic: &Topic, message: Vec<u8>) -> Result<(), P2pError> {
    if message.len() > MAX_GOSSIP {
        return Err(P2pError::TooLong { len: message.len(), max: MAX_GOSSIP });
    }
    let handler = shared.topics.get(topic.as_str()).ok_or_else(|| P2pError::Name(topic.to_string()))?;
    let room = handler.room.clone().try_acquire_owned().map_err(|_| P2pError::Busy)?;
    let shared = shared.clone();
    shared.clone().spawn(async move {
        let me = shared.me;
        let outcome = check(&handler, me, true, &message).await;
        drop(room);
        if outcome == Validation::Reject {
            warn!(topic = %handler.topic, "own message refused by the own validator");
            return;
        }
        if outcome == Validation::Retry {
            let (handler, message) = (handler.clone(), message.clone());
            shared.spawn(async move { retry(&handler, me, true, &message).await });
        }
        send_or_hold(&shared, &handler, message).await;
    });
    Ok(())
}

async fn send_or_hold(shared: &Arc<Shared>, handler: &Arc<Handler>, message: Vec<u8>) {
    if shared.num_topic_peers(&handler.topic) > 0 {
        match send(shared, &handler.topic, message.clone()).await {
            Err(PublishError::NoPeersSubscribedToTopic) => {}
            result => return report(&handler.topic, result),
        }
    }
    {
        let mut held = handler.held.lock();
        if held.len() >= MAX_HELD {
            warn!(topic = %handler.topic, "nobody is on the topic and too many messages are held, dropping one");
            return;
        }
        held.push_back(message);
    }
    if handler.holding.swap(1, Ordering::AcqRel) == 0 {
        let (shared, handler) = (shared.clone(), handler.clone());
        shared.clone().spawn(async move { release(&shared, &handler).await });
    }
}

/// Sends held messages once somebody is on the topic.
async fn release(shared: &Arc<Shared>, handler: &Handler) {
    loop {
        sleep(HELD_INTERVAL).await;
        while shared.num_topic_peers(&handler.topic) > 0 {
            let Some(message) = handler.held.lock().pop_front() else { break };
            match send(shared, &handler.topic, message.clone()).await {
                Err(PublishError::NoPeersSubscribedToTopic) => {
                    handler.held.lock().push_front(message);
                    break;
                }
                result => report(&handler.topic, result),
            }
        }
        let held = handler.held.lock();
        if held.is_empty() {
            // Under the lock, so that whoever holds a message next starts this anew.
            handler.holding.store(0, Ordering::Release);
            return;
        }
    }
}

async fn send(shared: &Arc<Shared>, topic: &Topic, message: Vec<u8>) -> Result<(), PublishError> {
    let (reply, answer) = oneshot::channel();
    let command = Command::Publish { topic: topic.clone(), message, reply };
    if shared.commands.send(command).await.is_err() {
        return Ok(());
    }
    answer.await.unwrap_or(Ok(()))
}

fn report(topic: &Topic, result: Result<(), PublishError>) {
    match result {
        Ok(()) => debug!(%topic, "published message"),
        Err(error) => warn!(%topic, %error, "cannot publish message"),
    }
}
