//! Gossip.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use p2p_net::api::{BoxFuture, MAX_GOSSIP, P2p, P2pError, Topic, Validate, Validation};
use p2p_net::{Node, PeerId};
use parking_lot::Mutex;

use crate::util::{config, join, pair, start, until};

/// Remembers what comes; the first byte of a message says what to make of it.
#[derive(Default)]
struct Inbox {
    messages: Mutex<Vec<(PeerId, bool, Vec<u8>)>>,
    tries: AtomicUsize,
}

impl Validate for Inbox {
    fn validate<'a>(&'a self, author: PeerId, own: bool, message: &'a [u8]) -> BoxFuture<'a, Validation> {
        Box::pin(async move {
            self.messages.lock().push((author, own, message.to_vec()));
            match message.first() {
                Some(b'r') if !own => Validation::Reject,
                Some(b't') if self.tries.fetch_add(1, Ordering::Relaxed) < 2 => Validation::Retry,
                _ => Validation::Accept,
            }
        })
    }
}

fn topic() -> Topic {
    Topic::new("oasis/test/tx/5.0.0")
}

fn subscribe(node: &Node) -> Arc<Inbox> {
    let inbox = Arc::new(Inbox::default());
    node.subscribe(&topic(), inbox.clone()).unwrap();
    inbox
}

fn got(inbox: &Inbox, message: &[u8]) -> usize {
    inbox.messages.lock().iter().filter(|(_, _, m)| m == message).count()
}

#[tokio::test]
async fn messages_are_passed_on_with_their_author() {
    let (a, b) = pair(config(), config()).await;
    let c = start(config()).await;
    join(&c, &b).await;
    let inboxes = [&a, &b, &c].map(subscribe);
    until("topic", || b.topic_peers(&topic()).len() == 2 && !a.topic_peers(&topic()).is_empty()).await;
    a.publish(&topic(), b"hello".to_vec()).unwrap();
    until("message", || inboxes.iter().all(|i| got(i, b"hello") == 1)).await;
    assert_eq!(inboxes[0].messages.lock()[0], (a.peer_id(), true, b"hello".to_vec()));
    assert_eq!(inboxes[2].messages.lock()[0], (a.peer_id(), false, b"hello".to_vec()));
    assert_eq!(c.status().topics[topic().as_str()], 1);
    let large = vec![b'x'; MAX_GOSSIP - 1000];
    a.publish(&topic(), large.clone()).unwrap();
    until("large message", || inboxes.iter().all(|i| got(i, &large) == 1)).await;
    assert!(matches!(a.publish(&topic(), vec![0; MAX_GOSSIP + 1]), Err(P2pError::TooLong { .. })));
}

#[tokio::test]
async fn rejected_messages_are_not_passed_on() {
    let (a, b) = pair(config(), config()).await;
    let c = start(config()).await;
    join(&c, &b).await;
    let inboxes = [&a, &b, &c].map(subscribe);
    until("topic", || b.topic_peers(&topic()).len() == 2 && !a.topic_peers(&topic()).is_empty()).await;
    a.publish(&topic(), b"rotten".to_vec()).unwrap();
    a.publish(&topic(), b"fine".to_vec()).unwrap();
    until("message", || inboxes.iter().all(|i| got(i, b"fine") == 1)).await;
    assert_eq!([0, 1, 2].map(|i| got(&inboxes[i], b"rotten")), [1, 1, 0]);
}

#[tokio::test]
async fn messages_that_can_t_be_handled_yet_are_offered_again() {
    let (a, b) = pair(config(), config()).await;
    let inbox = subscribe(&b);
    subscribe(&a).tries.store(9, Ordering::Relaxed);
    until("topic", || !a.topic_peers(&topic()).is_empty()).await;
    a.publish(&topic(), b"try".to_vec()).unwrap();
    until("third try", || got(&inbox, b"try") == 3).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(got(&inbox, b"try"), 3);
}

#[tokio::test]
async fn messages_wait_for_somebody_to_hear_them() {
    let (a, b) = pair(config(), config()).await;
    subscribe(&a);
    assert!(matches!(a.publish(&Topic::new("other"), vec![]), Err(P2pError::Name(_))));
    assert!(matches!(a.subscribe(&topic(), Arc::new(Inbox::default())), Err(P2pError::Duplicate(_))));
    a.publish(&topic(), b"early".to_vec()).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let inbox = subscribe(&b);
    until("message", || got(&inbox, b"early") == 1).await;
}
