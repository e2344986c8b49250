//! Decisions on their own, and told to mock components.

use base_prims::{Namespace, Version};

use super::*;
use crate::mock::MockHost;

fn rofl() -> ComponentId {
    ComponentId::Rofl("abc".into())
}

#[tokio::test]
async fn attestations_are_renewed_by_height_and_time() {
    let components = [ComponentId::Ronl];
    let mut decisions = Decisions::default();
    let begin = Instant::now();
    decisions.on(Input::MaxAttestationAge(100, 0.0), &components);
    let mut reattests = |height: u64, seconds: u64| {
        let at = begin + Duration::from_secs(seconds);
        let actions = decisions.on(Input::ConsensusBlock(height, at), &components);
        assert_eq!(actions[0], Action::Tell(ComponentId::Ronl, Notification::ConsensusSync(height)));
        actions.contains(&Action::Reattest)
    };
    assert!(!reattests(1000, 0), "the first block only sets the beginning");
    assert!(!reattests(1050, 1000), "not more than half the age");
    assert!(!reattests(1051, 299), "too soon");
    assert!(reattests(1051, 301));
    assert!(!reattests(1060, 1000));
    assert!(reattests(1102, 1000));
}

#[test]
fn the_interval_is_half_to_nine_tenths() {
    assert_eq!(attestation_interval(0, 0.5), 0);
    assert_eq!(attestation_interval(2, 0.5), 0);
    assert_eq!(attestation_interval(1000, 0.0), 500);
    assert_eq!(attestation_interval(1000, 1.0), 899);
    assert_eq!(attestation_interval(1000, 7.0), 899);
    assert!(attestation_interval(u64::MAX, 0.5) > u64::MAX / 2);
}

#[test]
fn key_manager_updates_are_repeated_after_restarts() {
    let components = [ComponentId::Ronl, rofl()];
    let mut decisions = Decisions::default();
    assert!(decisions.on(Input::RuntimeChanged, &components).is_empty(), "nothing is known yet");
    let status = Box::new(Status { generation: 3, ..Status::default() });
    let told = decisions.on(Input::KeyManagerStatus(status.clone()), &components);
    assert_eq!(told.len(), 2);
    let policy = Box::new(QuotePolicy::default());
    assert_eq!(decisions.on(Input::KeyManagerQuotePolicy(policy.clone()), &components).len(), 2);
    assert!(decisions.on(Input::KeyManagerQuotePolicy(policy.clone()), &components).is_empty(), "the same policy");
    let again = decisions.on(Input::RuntimeChanged, &components);
    assert!(again.contains(&Action::Tell(rofl(), Notification::KeyManagerStatus(status))));
    assert!(again.contains(&Action::Tell(ComponentId::Ronl, Notification::KeyManagerQuotePolicy(policy))));
    assert_eq!(again.len(), 4);
}

#[test]
fn off_chain_components_are_told_what_they_want() {
    let components = [ComponentId::Ronl, rofl()];
    let mut decisions = Decisions::default();
    let block = Box::new(AnnotatedBlock { consensus_height: 5, block: None });
    let on = |decisions: &mut Decisions| decisions.on(Input::RuntimeBlock(block.clone()), &components);
    assert_eq!(on(&mut decisions), [Action::Tell(rofl(), Notification::RoflConfig)], "asked first");
    decisions.register(rofl(), Notifications::default());
    assert!(on(&mut decisions).is_empty());
    let tags = vec![Bytes::from(b"tag".to_vec()); MAX_TAGS + 5];
    decisions.register(rofl(), Notifications { blocks: true, events: Some(tags) });
    let actions = on(&mut decisions);
    assert_eq!(actions[0], Action::Tell(rofl(), Notification::RoflBlock(block.clone())));
    let Action::Tell(_, Notification::RoflTags(_, tags)) = &actions[1] else { panic!("{actions:?}") };
    assert_eq!(tags.len(), MAX_TAGS);
    // One that went away is asked again when it comes back.
    decisions.on(Input::RuntimeBlock(block.clone()), &[ComponentId::Ronl]);
    assert_eq!(on(&mut decisions), [Action::Tell(rofl(), Notification::RoflConfig)]);
}

#[tokio::test]
async fn tells_components_until_stopped() {
    let id = Namespace::default();
    let host = Arc::new(CompositeHost::new(id));
    host.add_version(&ComponentId::Ronl, Version::default(), Arc::new(MockHost::new(id))).await.expect("added");
    host.set_version(Some(Version::default()), None).await;
    host.start().await.expect("starts");
    let notifier = Notifier::new(Arc::clone(&host), Arc::new(NoTags));
    let (sender, receiver) = mpsc::channel(8);
    let stop = CancellationToken::new();
    let task = tokio::spawn(Arc::clone(&notifier).run(receiver, stop.clone()));
    for height in 0..100 {
        sender.send(Input::ConsensusBlock(height, Instant::now())).await.expect("taken");
    }
    stop.cancel();
    timeout(Duration::from_secs(10), task).await.expect("ends").expect("no panic");
}
