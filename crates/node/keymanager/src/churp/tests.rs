//! When nodes apply and hand off; a whole handoff of three nodes with real enclaves.

use wire_consensus::churp::{
    CreateRequest, Identity, METHOD_APPLY, METHOD_CONFIRM, METHOD_CREATE, PolicySgx, SignedPolicySgx,
};

use wire_consensus::keymanager::{InitResponse, SignedInitResponse};

use super::*;
use crate::testing::{World, km, public};

#[test]
fn once_per_handoff() {
    let mut once = Once::default();
    let first = once.begin(5).expect("begins");
    assert!(once.begin(5).is_none());
    once.keep(Some(5));
    assert!(!first.is_cancelled());
    once.keep(Some(6));
    assert!(first.is_cancelled());
    let second = once.begin(6).expect("begins");
    let _third = once.begin(7).expect("begins");
    assert!(second.is_cancelled(), "the one before is over");
}

#[test]
fn the_most_useful_nodes_first() {
    let nodes: Vec<_> = (1..=4).map(public).collect();
    let priorities: Priorities = [(public(2), 100), (public(3), -1), (public(4), 1)].into();
    let mut chance = 0;
    let mut ordered = nodes.clone();
    tasks::order(&mut ordered, &priorities, || {
        chance += 1;
        chance
    });
    assert_eq!(ordered, [public(2), public(4), public(1), public(3)]);
    // Among equals chance decides.
    let mut equal = nodes;
    let mut chance = 10;
    tasks::order(&mut equal, &Priorities::default(), || {
        chance -= 1;
        chance
    });
    assert_eq!(equal, [public(4), public(3), public(2), public(1)]);
}

fn status(world: &World) -> Status {
    let identity = Identity { id: 3, runtime_id: km() };
    apps_keymanager::churp::state::status(&world.chain.newest(), &identity).expect("readable").unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_make_a_secret_and_hand_it_off() {
    let mut world = World::new();
    for n in [10, 11, 12] {
        world.start(n, &[3]).await;
    }
    // Enclaves reach each other only as members of the key manager's committee: all have the same master secret first.
    let answers = |world: &World, so: &dyn Fn(&InitResponse) -> bool| {
        let state = world.chain.newest();
        let answer = |n: u8| {
            let node = apps_staking::nodes::node(&state, &public(n)).expect("readable")?;
            let info = node.runtimes().first()?.extra_info.clone()?;
            let signed: SignedInitResponse = base_codec::cbor::from_slice(&info).expect("an answer");
            Some(signed.init_response)
        };
        [10, 11, 12].into_iter().all(|n| answer(n).is_some_and(|answer| so(&answer)))
    };
    let registered = |world: &World| {
        let state = world.chain.newest();
        [10, 11, 12].iter().all(|n| apps_staking::nodes::node(&state, &public(*n)).expect("readable").is_some())
    };
    world.until("three nodes registered", registered).await;
    world.next_epoch().await;
    world.until("initialised", |world| answers(world, &|_| true)).await;
    world.next_epoch().await;
    world.until("secret replicated", |world| answers(world, &|answer| answer.next_rsk.is_some())).await;
    world.next_epoch().await;
    world.until("secret in use", |world| answers(world, &|answer| answer.checksum().len() == 32)).await;
    let identity = Identity { id: 3, runtime_id: km() };
    let policy = PolicySgx { identity, ..PolicySgx::default() };
    let policy = SignedPolicySgx { policy, signatures: Vec::new() };
    let create = CreateRequest { identity, threshold: 1, handoff_interval: 1, policy, ..CreateRequest::default() };
    world.chain.execute(public(1), METHOD_CREATE, &create).expect("is created");
    // All apply in the epoch before the handoff.
    world.until("applications", |world| world.chain.count(METHOD_APPLY) == 3).await;
    world.block().await;
    let applied = status(&world);
    assert_eq!((applied.applications.len(), applied.next_handoff), (3, world.chain.epoch() + 1));
    assert_eq!(world.chain.count(METHOD_CONFIRM), 0);
    // In its epoch they deal, and confirm the same secret.
    world.next_epoch().await;
    world.until("confirmations", |world| world.chain.count(METHOD_CONFIRM) == 3).await;
    world.block().await;
    let done = status(&world);
    assert_eq!(done.handoff, world.chain.epoch());
    assert_eq!(done.committee.len(), 3);
    assert!(done.checksum.is_some() && done.applications.is_empty());
    // Secrets of the key manager itself are another matter: several nodes may propose at once.
    let of_handoffs = |method: &str| [METHOD_APPLY, METHOD_CONFIRM].contains(&method);
    let refused = world.chain.log().into_iter().filter(|tx| tx.error.is_some() && of_handoffs(&tx.method));
    let refused: Vec<_> = refused.collect();
    assert!(refused.is_empty(), "{refused:#?}");
    // The same nodes go on: another secret polynomial, the same committee.
    world.until("applications again", |world| world.chain.count(METHOD_APPLY) == 6).await;
    world.next_epoch().await;
    world.until("confirmations again", |world| world.chain.count(METHOD_CONFIRM) == 6).await;
    world.block().await;
    let again = status(&world);
    assert_eq!((again.handoff, &again.committee), (world.chain.epoch(), &done.committee));
    assert_ne!(again.checksum, done.checksum);
    let known = world.nodes[0].worker.status().churp.schemes;
    assert_eq!(known.get(&3).and_then(|scheme| scheme.status.as_ref()).map(|s| s.handoff), Some(again.handoff));
}
