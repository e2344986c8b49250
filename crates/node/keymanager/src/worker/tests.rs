//! Whole nodes with real enclaves, from nothing to rotation.

use apps_keymanager::secrets::state;
use wire_consensus::keymanager::{METHOD_PUBLISH_EPHEMERAL_SECRET, METHOD_PUBLISH_MASTER_SECRET, METHOD_UPDATE_POLICY};

use super::*;
use crate::testing::{World, km, policy, public};

fn status(world: &World) -> wire_consensus::keymanager::Status {
    state::status(&world.chain.newest(), &km()).expect("readable").unwrap_or_default()
}

fn extra_info(world: &World, n: u8) -> Option<wire_consensus::keymanager::InitResponse> {
    let node = apps_staking::nodes::node(&world.chain.newest(), &public(n)).expect("readable")?;
    let info = node.runtimes().iter().find(|runtime| runtime.id == km())?.extra_info.clone()?;
    let signed: wire_consensus::keymanager::SignedInitResponse =
        base_codec::cbor::from_slice(&info).expect("an answer of the enclave");
    Some(signed.init_response)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_nothing_to_a_second_node_and_rotation() {
    let mut world = World::new();
    world.start(10, &[]).await;
    // It registers although the enclave knows of no status.
    let known = |world: &World| apps_staking::nodes::node(&world.chain.newest(), &public(10)).expect("readable");
    world.until("first registration", |world| known(world).is_some()).await;
    assert_eq!(extra_info(&world, 10), None);
    let first = world.nodes[0].worker.status();
    assert_eq!(first.status, WorkerState::STARTING);
    world.next_epoch().await;
    // With a status the enclave is initialised, and its answer registered.
    world.until("initialised", |world| extra_info(world, 10).is_some()).await;
    let response = extra_info(&world, 10).expect("just seen");
    assert_eq!((response.checksum(), response.next_checksum()), (&[][..], &[][..]));
    world.next_epoch().await;
    assert_eq!(status(&world).nodes(), [public(10)]);
    // A member makes the first master secret and an ephemeral one, and takes both.
    world.until("secret replicated", |world| extra_info(world, 10).is_some_and(|r| r.next_rsk.is_some())).await;
    world.until("ephemeral secret", |world| world.chain.count(METHOD_PUBLISH_EPHEMERAL_SECRET) == 1).await;
    world.next_epoch().await;
    let accepted = status(&world);
    assert_eq!((accepted.generation, accepted.checksum().len()), (0, 32));
    assert_eq!(world.chain.count(METHOD_PUBLISH_MASTER_SECRET), 1, "rotation is not allowed");
    world.until("next ephemeral secret", |world| world.chain.count(METHOD_PUBLISH_EPHEMERAL_SECRET) == 2).await;
    world.until("ready", |world| world.nodes[0].worker.status().status == WorkerState::READY).await;

    // A second node replicates the secret from the first one's enclave.
    world.start(11, &[]).await;
    let with_secret = |world: &World, n| {
        let wanted = status(world).checksum().to_vec();
        extra_info(world, n).is_some_and(|response| response.checksum() == wanted)
    };
    world.until("second node initialised", |world| with_secret(world, 11)).await;
    world.next_epoch().await;
    assert_eq!(status(&world).nodes().len(), 2);
    let access = world.nodes[1].worker.status().access_list;
    assert!(access.iter().any(|list| list.runtime_id == km() && list.peers.len() == 2), "{access:?}");

    // A policy that allows rotation every second epoch.
    world.chain.execute(public(1), METHOD_UPDATE_POLICY, &policy(1, 2)).expect("is taken");
    let before = status(&world).rotation_epoch;
    for _ in 0..8 {
        if status(&world).generation > 0 {
            break;
        }
        world.next_epoch().await;
        let policy_everywhere = |world: &World| {
            let status = status(world);
            let both = [10, 11].map(|n| extra_info(world, n));
            status.policy.is_some() && both.iter().flatten().filter(|r| !r.policy_checksum().is_empty()).count() == 2
        };
        world.until("policy in both", policy_everywhere).await;
        for _ in 0..40 {
            world.block().await;
        }
    }
    let rotated = status(&world);
    assert_eq!(rotated.generation, 1, "{:#?}", world.chain.log());
    assert!(rotated.rotation_epoch >= before + 2);
    assert_eq!(rotated.nodes().len(), 2, "both had it in time");
    let failed: Vec<_> = world
        .chain
        .log()
        .into_iter()
        .filter(|tx| tx.error.is_some() && tx.method == METHOD_PUBLISH_MASTER_SECRET)
        .collect();
    assert!(failed.len() <= 2, "both nodes may propose at once: {failed:#?}");
    let worker = world.nodes[0].worker.status().secrets.expect("a status").worker;
    assert!(worker.ephemeral_secrets.num_loaded > 2 && worker.master_secrets.num_loaded >= 2, "{worker:?}");
    assert_eq!(worker.status, WorkerState::READY);
    assert!(worker.policy.is_some());
}
