//! The schedule as tables; the whole worker against a chain in memory.

use base_prims::Hash;

use super::*;
use crate::testing::{MemoryChain, key};

fn seen(height: i64, epoch: Epoch, interval: Option<i64>) -> Seen {
    Seen { height, epoch, epoch_height: height / 1000 * 1000, vrf_interval: interval, owner: None }
}

#[test]
fn registers_at_once_in_each_short_epoch() {
    for interval in [None, Some(99)] {
        let mut schedule = Schedule::new(1);
        assert!(schedule.block(&seen(1, 0, interval)));
        schedule.attempted();
        assert!(!schedule.block(&seen(2, 0, interval)));
        assert!(schedule.block(&seen(3, 1, interval)));
    }
}

#[test]
fn waits_by_chance_within_a_twentieth_of_a_long_epoch() {
    let mut targets = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let mut schedule = Schedule::new(seed * 7919);
        let due = (1000..1100).find(|height| schedule.block(&seen(*height, 7, Some(1000)))).expect("is due");
        assert!((1000..1050).contains(&due), "{due}");
        schedule.attempted();
        assert!(!(due + 1..2000).any(|height| schedule.block(&seen(height, 7, Some(1000)))), "once per epoch");
        targets.insert(due);
    }
    assert!(targets.len() > 10, "{targets:?}");
}

#[test]
fn registers_when_contributions_or_the_owner_change() {
    let mut schedule = Schedule::new(1);
    let mut block = seen(1000, 7, Some(1000));
    block.owner = Some(Hash::of(&[b"1"]));
    schedule.block(&block);
    schedule.attempted();
    assert!(!schedule.block(&block));
    schedule.contributions_changed();
    assert!(schedule.block(&block));
    schedule.attempted();
    assert!(!schedule.block(&block));
    block.owner = Some(Hash::of(&[b"2"]));
    assert!(schedule.block(&block));
    schedule.attempted();
    block.owner = None;
    assert!(!schedule.block(&block), "an owner that left is no reason");
}

struct Loopback;

impl Addresses for Loopback {
    fn consensus(&self) -> BoxFuture<'_, Result<Vec<ConsensusAddress>, String>> {
        let address = "127.0.0.1:26656".parse().expect("an address");
        Box::pin(async move { Ok(vec![ConsensusAddress { id: key(2).public().into(), address }]) })
    }

    fn p2p(&self) -> Vec<NetAddress> {
        vec!["127.0.0.1:9200".parse().expect("an address")]
    }
}

#[derive(Default)]
struct Flag(Mutex<bool>);

impl DeregisterFlag for Flag {
    fn get(&self) -> bool {
        *self.0.lock()
    }

    fn set(&self, value: bool) -> Result<(), String> {
        *self.0.lock() = value;
        Ok(())
    }
}

fn registration(chain: &Arc<MemoryChain>, allow_unroutable: bool) -> (Registration, Arc<Flag>) {
    let flag = Arc::new(Flag::default());
    let keys = Keys { node: key(1), p2p: key(2), consensus: key(3), vrf: key(4), tls: key(5) };
    let setup = Setup {
        entity: Some(key(9).public().into()),
        keys,
        addresses: Arc::new(Loopback),
        allow_unroutable,
        software_version: "1.2.3".to_owned(),
        flag: flag.clone(),
    };
    let submission = Submission::new(chain.clone(), 0, 0);
    (Registration::new(setup, Arc::new(submission)), flag)
}

#[tokio::test(start_paused = true)]
async fn registers_renews_and_leaves() {
    let chain = Arc::new(MemoryChain::new());
    let (registration, flag) = registration(&chain, true);
    let slot = registration.slot(Roles::VALIDATOR);
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (registration, stop) = (registration.clone(), stop.clone());
        async move { registration.run(stop).await }
    });
    chain.advance(1).await;
    assert!(chain.registered().is_empty(), "not synced");
    chain.set_synced();
    chain.advance(1).await;
    assert!(chain.registered().is_empty(), "the slot is not available, the owner unknown");
    let registered = slot.set_available_and_watch(Arc::new(|_| Ok(())));
    chain.advance(1).await;
    assert!(chain.registered().is_empty(), "the owner is unknown");
    chain.set_owner(key(9).public().into(), &[]);
    chain.advance(1).await;
    assert!(chain.registered().is_empty(), "the owner does not list the node");
    chain.set_owner(key(9).public().into(), &[key(1).public().into()]);
    chain.refuse(1);
    chain.advance(1).await;
    registered.await.expect("registers in the end");
    let first = chain.registered().pop().expect("a descriptor");
    assert_eq!((first.roles, first.expiration), (Roles::VALIDATOR, 2));
    assert_eq!(first.consensus_addresses().len(), 1);
    assert_eq!(first.p2p_addresses().len(), 1);
    first.validate_basic(true).expect("valid");
    let status = registration.status().expect("a status");
    assert!(status.last_attempt_successful && status.descriptor == Some(first));

    chain.set_epoch(1);
    chain.advance(2).await;
    assert_eq!(chain.registered().pop().expect("a descriptor").expiration, 3);
    assert_eq!(chain.registered().len(), 2, "once per epoch");

    registration.request_deregistration().expect("the flag is set");
    assert!(flag.get());
    chain.advance(1).await;
    chain.set_epoch(2);
    chain.advance(1).await;
    assert_eq!(chain.registered().len(), 2, "no more");
    assert!(!running.is_finished(), "still registered");
    chain.forget_node(&key(1).public().into());
    chain.advance(1).await;
    assert!(running.await.expect("ends by itself"));
    assert!(!flag.get());
}

#[tokio::test(start_paused = true)]
async fn says_why_it_does_not_register() {
    let chain = Arc::new(MemoryChain::new());
    let (registration, _) = registration(&chain, false);
    registration.slot(Roles::VALIDATOR).set_available(Arc::new(|_| Ok(())));
    chain.set_owner(key(9).public().into(), &[key(1).public().into()]);
    chain.set_synced();
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (registration, stop) = (registration.clone(), stop.clone());
        async move { registration.run(stop).await }
    });
    chain.advance(1).await;
    let status = registration.status().expect("a status");
    let message = status.last_attempt_error_message.expect("a reason");
    assert!(message.contains("consensus.external_address"), "{message}");
    stop.cancel();
    assert!(!running.await.expect("stops"));
}
