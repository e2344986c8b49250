//! Key managers of two kinds in one committee: secrets go both ways, and both derive the same keys.
//!
//! The other kind is the program that `WADI_OTHER_KEYMANAGER` names, such as the reference's key manager for tests, built
//! without TEE; `WADI_KEYMANAGER` may name a build of ours, which otherwise runs on a thread.

use std::path::PathBuf;

use wire_consensus::keymanager::rpc::{EphemeralKeyRequest, METHOD_GET_PUBLIC_EPHEMERAL_KEY};
use wire_runtime::enclave_rpc::Message;

use super::*;

fn program(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from)
}

/// What a node's enclave answers to anybody who asks for a public key.
async fn public_key(world: &World, n: u8, method: &str, args: base_codec::Raw) -> SignedPublicKey {
    let request = cbor::to_vec(&Request { method: method.to_owned(), args });
    let answer = call_as_stranger(world, n, Kind::INSECURE_QUERY, request).await.expect("is answered");
    let body = cbor::from_slice::<Response>(&answer).map(|response| response.body);
    let body = body.or_else(|_| match cbor::from_slice::<Message>(&answer) {
        Ok(Message::Response(response)) => Ok(response.body),
        Ok(other) => panic!("{other:?}"),
        Err(e) => Err(e),
    });
    match body.expect("an answer") {
        ResponseBody::Success(key) => key.decode_as().expect("a key"),
        other => panic!("node {n} refused {method}: {other:?}"),
    }
}

/// Both nodes vouch for the same keys: of each generation, and of the newest epoch.
async fn same_keys(world: &World, generation: u64) -> usize {
    let rsk = status(world).rsk.expect("a signing key");
    let mut compared = 0;
    for generation in 0..=generation {
        for id in [[9; 32], [0; 32], [255; 32]] {
            let args = LongTermKeyRequest { height: None, id: compute(), key_pair_id: id, generation };
            let mut keys = Vec::new();
            for n in [10, 11] {
                let signed = public_key(world, n, METHOD_GET_PUBLIC_KEY, base_codec::Raw::of(&args)).await;
                let of = rt_keymanager::api::KeyOf { runtime: compute(), id, epoch: None };
                rt_keymanager::api::verify_public_key(&signed, &of, None, &rsk).expect("vouched for");
                keys.push(signed);
            }
            assert_eq!(keys[0], keys[1], "generation {generation}");
            compared += 1;
        }
    }
    let epoch = world.chain.epoch();
    let args = EphemeralKeyRequest { height: None, id: compute(), key_pair_id: [9; 32], epoch };
    let mut keys = Vec::new();
    for n in [10, 11] {
        let signed = public_key(world, n, METHOD_GET_PUBLIC_EPHEMERAL_KEY, base_codec::Raw::of(&args)).await;
        let of = rt_keymanager::api::KeyOf { runtime: compute(), id: [9; 32], epoch: Some(epoch) };
        rt_keymanager::api::verify_public_key(&signed, &of, Some(epoch), &rsk).expect("vouched for");
        keys.push(signed);
    }
    assert_eq!(keys[0], keys[1], "epoch {epoch}");
    compared + 1
}

/// The first one makes the secrets, the second one replicates them; then secrets rotate with both.
async fn committee(first: Option<PathBuf>, second: Option<PathBuf>) -> usize {
    let mut world = World::new();
    world.start_program(10, &[], first.as_deref()).await;
    let registered = |world: &World, n| apps_staking::nodes::node(&world.chain.newest(), &public(n)).expect("readable");
    world.until("first registration", |world| registered(world, 10).is_some()).await;
    world.next_epoch().await;
    world.until("initialised", |world| extra_info(world, 10).is_some()).await;
    world.next_epoch().await;
    world.until("secret made", |world| extra_info(world, 10).is_some_and(|r| r.next_rsk.is_some())).await;
    world.next_epoch().await;
    assert_eq!((status(&world).generation, status(&world).checksum().len()), (0, 32));
    let with_secret = |world: &World, n| {
        let wanted = status(world).checksum().to_vec();
        extra_info(world, n).is_some_and(|response| response.checksum() == wanted)
    };
    world.until("secret in use", |world| with_secret(world, 10)).await;

    // The second one has nothing stored: what it has it got from the first one's enclave.
    world.start_program(11, &[], second.as_deref()).await;
    world.until("second node has the secret", |world| with_secret(world, 11)).await;
    assert!(world.nodes[1].link.called.lock().contains(&peer_id(&public(110))), "it asked the first one");
    world.next_epoch().await;
    assert_eq!(status(&world).nodes().len(), 2);

    world.chain.execute(public(1), METHOD_UPDATE_POLICY, &policy(1, 2)).expect("is taken");
    for _ in 0..12 {
        if status(&world).generation > 1 {
            break;
        }
        world.next_epoch().await;
        let policy_everywhere = |world: &World| {
            let both = [10, 11].map(|n| extra_info(world, n));
            both.iter().flatten().filter(|r| !r.policy_checksum().is_empty()).count() == 2
        };
        world.until("policy in both", policy_everywhere).await;
        let ephemeral = |world: &World| world.chain.count(METHOD_PUBLISH_EPHEMERAL_SECRET);
        let before = ephemeral(&world);
        for _ in 0..60 {
            world.block().await;
            if ephemeral(&world) > before && status(&world).generation > 1 {
                break;
            }
        }
    }
    let rotated = status(&world);
    assert_eq!(rotated.generation, 2, "{:#?}", world.chain.log());
    assert_eq!(rotated.nodes().len(), 2, "both have every secret");
    world.until("newest secret in use", |world| with_secret(world, 10) && with_secret(world, 11)).await;
    let made: std::collections::BTreeMap<_, usize> =
        world.chain.log().iter().fold(Default::default(), |mut made, tx| {
            if tx.error.is_none()
                && [METHOD_PUBLISH_MASTER_SECRET, METHOD_PUBLISH_EPHEMERAL_SECRET].contains(&&*tx.method)
            {
                *made.entry((tx.method.clone(), tx.signer == public(10))).or_default() += 1;
            }
            made
        });
    println!("secrets made (by the first node?): {made:?}");
    let keys = same_keys(&world, rotated.generation).await;
    for node in &world.nodes {
        node.enclave.stop(tokio::time::Instant::now() + std::time::Duration::from_secs(10)).await.expect("stops");
    }
    keys
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_kinds_in_one_committee_have_the_same_keys() {
    let ours = program("WADI_KEYMANAGER");
    let Some(other) = program("WADI_OTHER_KEYMANAGER") else {
        dev_testkit::skip(2, "no other key manager; name one with WADI_OTHER_KEYMANAGER");
        let keys = committee(ours.clone(), ours).await;
        println!("ours with ours: {keys} keys equal");
        return;
    };
    let keys = committee(ours.clone(), Some(other.clone())).await;
    println!("the other one replicates from ours: {keys} keys equal");
    let keys = committee(Some(other), ours).await;
    println!("ours replicates from the other one: {keys} keys equal");
}
