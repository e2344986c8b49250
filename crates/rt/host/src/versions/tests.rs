//! Choice of versions, and hosts that act as one.

use wire_consensus::registry::VersionInfo;
use wire_runtime::{Empty, bundle::ComponentId, runtime::QueryRequest};

use super::*;
use crate::{
    composite::{BalancedHost, CompositeHost, MAX_INSTANCES},
    mock::MockHost,
};

fn runtime(deployments: &[(u16, Epoch)]) -> Runtime {
    let deployments = deployments
        .iter()
        .map(|(major, valid_from)| {
            let version = Version::new(*major, 0, 0);
            Some(VersionInfo { version, valid_from: *valid_from, ..VersionInfo::default() })
        })
        .collect();
    Runtime { deployments, ..Runtime::default() }
}

#[test]
fn the_next_version_is_made_ready_in_advance() {
    let runtime = runtime(&[(1, 0), (2, 10)]);
    let (one, two) = (Version::new(1, 0, 0), Version::new(2, 0, 0));
    assert_eq!(choose(&runtime, 6, Some(3)), (Some(one), None));
    assert_eq!(choose(&runtime, 7, Some(3)), (Some(one), Some(two)));
    assert_eq!(choose(&runtime, 9, None), (Some(one), None));
    assert_eq!(choose(&runtime, 10, Some(3)), (Some(two), None));
}

fn mock() -> Arc<MockHost> {
    Arc::new(MockHost::new(Namespace::default()))
}

const SYNC: fn() -> Body = || Body::RuntimeConsensusSyncRequest(Default::default());

#[tokio::test]
async fn calls_wait_for_an_active_version() {
    let versions = Arc::new(VersionedHost::new(Namespace::default()));
    versions.start().await.expect("starts");
    assert_eq!(versions.abort(false).await, Err(HostError::NoActiveVersion));
    let call = tokio::spawn({
        let versions = Arc::clone(&versions);
        async move { versions.call(SYNC()).await }
    });
    tokio::task::yield_now().await;
    // Only a next version: it is made active.
    versions.set_version(None, Some(Version::default())).await;
    versions.add_version(Version::default(), mock()).await.expect("added");
    assert_eq!(call.await.expect("no panic"), Ok(Body::RuntimeConsensusSyncResponse(Empty {})));
    assert_eq!(versions.active_version(), Some(Version::default()));
    let other = Arc::new(MockHost::new(Namespace::from_bytes_unchecked([1; 32])));
    assert!(versions.add_version(Version::new(1, 0, 0), other).await.is_err(), "another runtime");
    versions.set_version(None, None).await;
    assert_eq!(versions.active_version(), None);
    assert!(!versions.has_version(Version::default()), "a version that ran is gone");
}

#[tokio::test]
async fn a_chosen_version_is_the_active_one_while_versions_change() {
    let host = Arc::new(CompositeHost::new(Namespace::default()));
    let (one, two, three) = (Version::new(1, 0, 0), Version::new(2, 0, 0), Version::new(3, 0, 0));
    for version in [one, two] {
        host.add_version(&ComponentId::Ronl, version, mock()).await.expect("added");
    }
    host.set_version(Some(one), None).await;
    assert_eq!(RuntimeHost::active_version(&*host), None, "not started");
    host.start().await.expect("starts");
    assert_eq!(RuntimeHost::active_version(&*host), Some(one));
    let ronl = host.component(&ComponentId::Ronl).expect("there");
    let changing = ronl.changing.lock().await;
    let change = tokio::spawn({
        let host = Arc::clone(&host);
        async move { host.set_version(Some(two), None).await }
    });
    tokio::task::yield_now().await;
    assert!(!change.is_finished());
    assert_eq!(RuntimeHost::active_version(&*host), Some(two));
    drop(changing);
    change.await.expect("no panic");
    assert_eq!(RuntimeHost::active_version(&*host), Some(two));
    host.set_version(Some(three), None).await;
    assert_eq!(RuntimeHost::active_version(&*host), None, "not known");
}

#[tokio::test]
async fn components_follow_the_on_chain_one() {
    let host = CompositeHost::new(Namespace::default());
    let rofl = ComponentId::Rofl("abc".into());
    host.start().await.expect("starts");
    let (one, two) = (Version::new(1, 0, 0), Version::new(2, 0, 0));
    host.add_version(&rofl, one, mock()).await.expect("added");
    host.add_version(&ComponentId::Ronl, one, mock()).await.expect("added");
    let component = host.component(&rofl).expect("there");
    assert_eq!(component.active_version(), None);
    host.set_version(Some(one), None).await;
    assert_eq!(component.active_version(), Some(one));
    // A newer off-chain component runs at once.
    host.add_version(&rofl, two, mock()).await.expect("added");
    assert_eq!(component.active_version(), Some(two));
    assert_eq!(component.versions(), [two]);
    assert_eq!(host.call(SYNC()).await, Ok(Body::RuntimeConsensusSyncResponse(Empty {})));
    assert!(host.remove_component(&ComponentId::Ronl).await.is_err());
    host.remove_component(&rofl).await.expect("removed");
    assert_eq!(host.components(), [ComponentId::Ronl]);
    host.stop(Instant::now() + STOP_TIMEOUT).await.expect("stops");
}

#[tokio::test]
async fn instances_share_queries_while_they_are_healthy() {
    assert!(BalancedHost::new(Vec::new()).is_err());
    let many: Vec<Arc<dyn RuntimeHost>> = (0..=MAX_INSTANCES).map(|_| mock() as Arc<dyn RuntimeHost>).collect();
    assert!(BalancedHost::new(many).is_err());
    let mocks = [mock(), mock(), mock()];
    let balanced =
        BalancedHost::new(mocks.iter().map(|m| Arc::clone(m) as Arc<dyn RuntimeHost>).collect()).expect("made");
    let query = || Body::RuntimeQueryRequest(Box::new(QueryRequest { method: "x".into(), ..QueryRequest::default() }));
    assert!(balanced.call(query()).await.is_err_and(|e| e.to_string().contains("no healthy instances")));
    balanced.start().await.expect("starts");
    assert_eq!(balanced.healthy(), [0, 1, 2]);
    mocks[1].stop(Instant::now()).await.expect("stops");
    assert_eq!(balanced.healthy(), [0, 2]);
    for _ in 0..4 {
        assert!(balanced.call(query()).await.is_ok());
    }
    assert_eq!(balanced.call(SYNC()).await, Ok(Body::RuntimeConsensusSyncResponse(Empty {})));
    assert!(balanced.call(Body::RuntimeAbortRequest(Empty {})).await.is_err(), "one refuses, and so do all");
}
