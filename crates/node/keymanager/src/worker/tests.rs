//! Whole nodes with real enclaves, from nothing to rotation.

use apps_keymanager::secrets::state;
use wire_consensus::keymanager::{METHOD_PUBLISH_EPHEMERAL_SECRET, METHOD_PUBLISH_MASTER_SECRET, METHOD_UPDATE_POLICY};

use base_codec::cbor;
use p2p_net::api::CallLimits;
use p2p_net::rpc::{CallError, Client};
use wire_consensus::keymanager::rpc::{LongTermKeyRequest, METHOD_GET_PUBLIC_KEY, SignedPublicKey};
use wire_runtime::enclave_rpc::{Frame, Kind, Request, Response, ResponseBody};

use super::*;

mod mixed;

use crate::protocol::{CallEnclaveRequest, CallEnclaveResponse};
use crate::testing::{CONTEXT, Links, World, compute, km, policy, public};

fn status(world: &World) -> wire_consensus::keymanager::Status {
    state::status(&world.chain.newest(), &km()).expect("readable").unwrap_or_default()
}

fn extra_info(world: &World, n: u8) -> Option<wire_consensus::keymanager::InitResponse> {
    let node = apps_staking::nodes::node(&world.chain.newest(), &public(n)).expect("readable")?;
    let info = node.runtimes().iter().find(|runtime| runtime.id == km())?.extra_info.clone()?;
    let signed: wire_consensus::keymanager::SignedInitResponse =
        cbor::from_slice(&info).expect("an answer of the enclave");
    Some(signed.init_response)
}

/// A call of a peer that nobody knows.
async fn call_as_stranger(world: &World, n: u8, kind: Kind, data: Vec<u8>) -> Result<Vec<u8>, String> {
    let link = Links::join(&world.links, peer_id(&public(77)));
    let client = Client::new(link, ids::KEY_MANAGER.of_runtime(CONTEXT, &km()));
    let request = CallEnclaveRequest { data: Some(data.into()), kind };
    let limits = CallLimits::within(std::time::Duration::from_secs(3));
    let answer = client.call::<CallEnclaveResponse>(peer_id(&public(n + 100)), "CallEnclave", &request, limits).await;
    match answer {
        Ok((answer, _)) => Ok(answer.data.unwrap_or_default().to_vec()),
        Err(CallError::Remote(error)) => Err(error.message),
        Err(other) => panic!("{other}"),
    }
}

/// Strangers get public keys, and nothing else.
async fn strangers(world: &World, n: u8) {
    let request = LongTermKeyRequest { height: None, id: compute(), key_pair_id: [9; 32], generation: 0 };
    let args = base_codec::Raw::of(&request);
    let request = cbor::to_vec(&Request { method: METHOD_GET_PUBLIC_KEY.to_owned(), args });
    let answer = call_as_stranger(world, n, Kind::INSECURE_QUERY, request.clone()).await.expect("is answered");
    let Response { body: ResponseBody::Success(key) } = cbor::from_slice(&answer).expect("an answer") else {
        panic!("refused by the enclave: {answer:?}")
    };
    let signed: SignedPublicKey = key.decode_as().expect("a key");
    let rsk = status(world).rsk.expect("a signing key");
    let of = rt_keymanager::api::KeyOf { runtime: compute(), id: [9; 32], epoch: None };
    rt_keymanager::api::verify_public_key(&signed, &of, None, &rsk).expect("the key manager vouches for it");
    let frame = cbor::to_vec(&Frame { untrusted_plaintext: "replicate_master_secret".to_owned(), ..Frame::default() });
    for (kind, data, why) in [
        (Kind::NOISE_SESSION, frame.clone(), "not authorized: not a key manager"),
        (Kind::INSECURE_QUERY, frame, "malformed RPC request"),
        (Kind::NOISE_SESSION, request.clone(), "malformed RPC frame"),
        (Kind::LOCAL_QUERY, request, "unsupported RPC kind"),
        (Kind::INSECURE_QUERY, vec![0xff; 100], "malformed RPC request"),
    ] {
        assert_eq!(call_as_stranger(world, n, kind, data).await, Err(why.to_owned()));
    }
    let link = Links::join(&world.links, peer_id(&public(77)));
    let client = Client::new(link, ids::KEY_MANAGER.of_runtime(CONTEXT, &km()));
    let peer = peer_id(&public(n + 100));
    let request = CallEnclaveRequest::default();
    let refused = client.call::<CallEnclaveResponse>(peer, "Other", &request, CallLimits::default()).await;
    assert!(matches!(refused, Err(CallError::Remote(error)) if error.is("p2p/rpc", 1)), "no such method");
    let refused = client.call::<CallEnclaveResponse>(peer, "CallEnclave", &7u64, CallLimits::default()).await;
    assert!(matches!(refused, Err(CallError::Remote(error)) if error.is("p2p/rpc", 2)), "not a request");
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
    let with_secret = |world: &World, n| {
        let wanted = status(world).checksum().to_vec();
        extra_info(world, n).is_some_and(|response| response.checksum() == wanted)
    };
    world.until("secret in use", |world| with_secret(world, 10)).await;
    strangers(&world, 10).await;

    // A second node replicates the secret from the first one's enclave.
    world.start(11, &[]).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enclave_that_starts_anew_is_initialised_again() {
    let mut world = World::new();
    world.start(10, &[]).await;
    world.next_epoch().await;
    world.until("initialised", |world| extra_info(world, 10).is_some()).await;
    world.next_epoch().await;
    world.until("secret replicated", |world| extra_info(world, 10).is_some_and(|r| r.next_rsk.is_some())).await;
    world.next_epoch().await;
    assert_eq!(status(&world).checksum().len(), 32);
    let has_secret = |world: &World| extra_info(world, 10).is_some_and(|r| r.checksum().len() == 32);
    world.until("secret in use", has_secret).await;
    let loaded =
        |world: &World| world.nodes[0].worker.status().secrets.expect("a status").worker.ephemeral_secrets.num_loaded;
    world.until("ephemeral secret", |world| loaded(world) > 0).await;
    let before = loaded(&world);
    let registrations = world.chain.count(wire_consensus::registry::METHOD_REGISTER_NODE);
    world.nodes[0].enclave.boot().await;
    // The same secrets, from the node's own storage, and the newest ephemeral one again.
    let registered = |world: &World| world.chain.count(wire_consensus::registry::METHOD_REGISTER_NODE) > registrations;
    world.until("registered again", registered).await;
    world.until("ephemeral secret again", |world| loaded(world) > before).await;
    strangers(&world, 10).await;
}

#[test]
fn wrong_settings_are_refused() {
    assert!(matches!(private_peers(&["x".to_owned()]), Err(KeyManagerError::PrivatePeer(_))));
    let key = public(3);
    assert_eq!(private_peers(&[key.to_string()]).expect("a key"), [peer_id(&key)].into());
}
