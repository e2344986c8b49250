//! Tests of policies, secrets and committees over a small network.

use apps_core::Mode;
use base_codec::{Bytes, cbor};
use base_crypto::{blacklist::Blacklist, context, hash::sha3_256};
use base_prims::{Epoch, PublicKey};
use wire_consensus::{
    genesis::Document,
    keymanager::*,
    node::X25519PublicKey,
    registry::{RuntimeKind, VersionInfo},
    signed::Signature,
    tee::TeeHardware,
};

use super::*;
use crate::{
    common::INSECURE_REK,
    testing::{EPOCH, OWNER, PLENTY, RAK, Run, World, compute, key, km, runtime, sign},
};

fn status(w: &World) -> Status {
    state::status(&w.tree, &km()).unwrap().unwrap()
}

fn policy(serial: u32) -> SignedPolicySgx {
    let policy = PolicySgx { serial, id: km(), master_secret_rotation_interval: 3, ..PolicySgx::default() };
    SignedPolicySgx { policy, signatures: None }
}

fn policy_hash(p: &SignedPolicySgx) -> Option<Bytes> {
    Some(sha3_256(&[&cbor::to_vec(p)]).to_vec().into())
}

fn checksum(n: u8) -> Option<Bytes> {
    Some(vec![n; 32].into())
}

/// The extra info of a node whose enclave answers so.
fn info(response: InitResponse) -> Option<Vec<u8>> {
    let raw = cbor::to_vec(&response);
    let signature = sign(&context::KEYMANAGER_INIT_RESPONSE, &raw);
    let signed = SignedInitResponse { init_response: response, signature: Some(signature.as_bytes().to_vec().into()) };
    Some(cbor::to_vec(&signed))
}

/// The answer of an enclave under `policy(1)`.
fn answer() -> InitResponse {
    InitResponse { policy_checksum: policy_hash(&policy(1)), ..InitResponse::default() }
}

fn add_node(w: &mut World, n: u8, change: impl FnOnce(&mut InitResponse)) {
    let mut response = answer();
    change(&mut response);
    w.put_node(n, &[info(response)]);
}

/// A world with `policy(1)` in force and the nodes 10, 11 and 12 in the committee.
fn world() -> World {
    let mut w = World::new();
    let status = Status { id: km(), policy: Some(policy(1)), ..Status::default() };
    state::set_status(&mut w.tree, &status).unwrap();
    for n in [10, 11, 12] {
        add_node(&mut w, n, |_| {});
    }
    w.begin_epoch(EPOCH).result.unwrap();
    w.set_epoch(EPOCH - 1);
    w.begin_epoch(EPOCH).result.unwrap();
    assert_eq!(status_nodes(&w), [10, 11, 12]);
    w
}

fn status_nodes(w: &World) -> Vec<u8> {
    status(w).nodes().iter().map(|n| n.as_bytes()[0]).collect()
}

fn encrypted(recipients: &[X25519PublicKey]) -> EncryptedSecret {
    let ciphertexts = recipients.iter().map(|r| (*r, Some(vec![1].into()))).collect();
    EncryptedSecret { checksum: checksum(7), pub_key: X25519PublicKey::default(), ciphertexts: Some(ciphertexts) }
}

fn master(generation: u64, epoch: Epoch) -> SignedEncryptedMasterSecret {
    let secret = EncryptedMasterSecret { id: km(), generation, epoch, secret: encrypted(&[*INSECURE_REK]) };
    let signature = sign(&context::KEYMANAGER_MASTER_SECRET, &cbor::to_vec(&secret));
    SignedEncryptedMasterSecret { secret, signature }
}

fn ephemeral(epoch: Epoch) -> SignedEncryptedEphemeralSecret {
    let secret = EncryptedEphemeralSecret { id: km(), epoch, secret: encrypted(&[*INSECURE_REK]) };
    let signature = sign(&context::KEYMANAGER_EPHEMERAL_SECRET, &cbor::to_vec(&secret));
    SignedEncryptedEphemeralSecret { secret, signature }
}

#[test]
fn policies_wait_for_the_next_epoch() {
    let mut w = World::new();
    let run = w.tx(OWNER, METHOD_UPDATE_POLICY, &policy(1));
    run.result.as_ref().unwrap();
    let want = Status { id: km(), next_policy: Some(policy(1)), ..Status::default() };
    assert_eq!((status(&w), run.gas_used), (want.clone(), 1000));
    assert!(run.has(&StatusUpdateEvent { statuses: Some(vec![want]) }));
    // It may be replaced by any other until then: only the policy in force counts.
    w.tx(OWNER, METHOD_UPDATE_POLICY, &policy(1)).result.unwrap();
    let run = w.begin_epoch(EPOCH + 1);
    let want = Status { id: km(), policy: Some(policy(1)), ..Status::default() };
    assert_eq!(status(&w), want);
    assert!(run.has(&StatusUpdateEvent { statuses: Some(vec![want]) }));
    assert!(w.begin_epoch(EPOCH + 2).events.is_empty(), "nothing changed");
    w.tx(OWNER, METHOD_UPDATE_POLICY, &policy(1)).says("serial number did not increase");
}

#[test]
fn policies_were_applied_at_once_before_26_1() {
    let mut w = world();
    w.params.feature_version = None;
    add_node(&mut w, 13, |r| r.policy_checksum = policy_hash(&policy(2)));
    let run = w.tx(OWNER, METHOD_UPDATE_POLICY, &policy(2));
    run.result.as_ref().unwrap();
    let s = status(&w);
    assert_eq!(
        (s.policy.clone(), s.next_policy.clone(), s.nodes.clone()),
        (Some(policy(2)), None, Some(vec![key(13)]))
    );
    assert!(run.has(&StatusUpdateEvent { statuses: Some(vec![s]) }));
}

#[test]
fn refusals_of_policies() {
    let mut w = world();
    let unknown = SignedPolicySgx { policy: PolicySgx::default(), signatures: None };
    assert_eq!(w.tx(OWNER, METHOD_UPDATE_POLICY, &unknown).code(), ("registry", 11));
    let elsewhere = SignedPolicySgx { policy: PolicySgx { id: compute(), ..Default::default() }, signatures: None };
    w.tx(OWNER, METHOD_UPDATE_POLICY, &elsewhere).says("not a key manager");
    w.tx(2, METHOD_UPDATE_POLICY, &policy(2)).says("invalid update signer");
    w.tx(OWNER, METHOD_UPDATE_POLICY, &policy(1)).says("serial number did not increase");
    let signature = Signature { public_key: PublicKey::new(RAK.public()), ..Signature::default() };
    let forged = SignedPolicySgx { signatures: Some(vec![signature]), ..policy(2) };
    w.tx(OWNER, METHOD_UPDATE_POLICY, &forged).says("is invalid");
    assert_eq!(w.tx(OWNER, METHOD_UPDATE_POLICY, &1u64).code(), ("keymanager", 1));
    let run = w.tx_in(Mode::DeliverTx, OWNER, 999, METHOD_UPDATE_POLICY, &policy(2));
    assert_eq!((run.code(), run.gas_used), (("unknown", 1), 0));
    assert_eq!(status(&w).next_policy, None);
}

#[test]
fn committees() {
    type Change = fn(&mut World);
    // What is special about node 13; whether it is accepted after 10, 11, 12.
    let cases: [(&str, Change, bool); 17] = [
        ("nothing", |w| add_node(w, 13, |_| {}), true),
        ("two versions", |w| w.put_node(13, &[info(answer()), info(answer())]), true),
        ("one of two versions is bad", |w| w.put_node(13, &[info(answer()), None]), false),
        ("no version", |w| w.put_node(13, &[]), false),
        ("no extra info", |w| w.put_node(13, &[None]), false),
        ("empty extra info", |w| w.put_node(13, &[Some(Vec::new())]), false),
        ("unknown field in the extra info", |w| w.put_node(13, &[Some(b"\xa1\x61x\x00".to_vec())]), false),
        ("forged answer", |w| w.put_node(13, &[info(answer()).map(|i| [&i[..i.len() - 1], &[0xff]].concat())]), false),
        ("other policy", |w| add_node(w, 13, |r| r.policy_checksum = policy_hash(&policy(2))), false),
        ("no policy", |w| add_node(w, 13, |r| r.policy_checksum = None), false),
        ("short policy checksum", |w| add_node(w, 13, |r| r.policy_checksum = Some(vec![1].into())), false),
        ("secure", |w| add_node(w, 13, |r| r.is_secure = true), false),
        ("has secrets", |w| add_node(w, 13, |r| r.checksum = checksum(1)), false),
        ("empty checksum", |w| add_node(w, 13, |r| r.checksum = Some(Bytes::default())), true),
        (
            "expired",
            |w| {
                add_node(w, 13, |_| {});
                let i = info(answer());
                w.put_node_with(13, |n| {
                    n.expiration = EPOCH;
                    n.runtimes.as_mut().unwrap()[0].extra_info = i.map(Into::into);
                });
            },
            false,
        ),
        (
            "no key manager",
            |w| {
                let i = info(answer());
                w.put_node_with(13, |n| {
                    n.roles = wire_consensus::node::Roles::COMPUTE;
                    n.runtimes.as_mut().unwrap()[0].extra_info = i.map(Into::into);
                });
            },
            false,
        ),
        (
            "trusted hardware",
            |w| {
                let i = info(answer());
                w.put_node_with(13, |n| {
                    let r = &mut n.runtimes.as_mut().unwrap()[0];
                    r.extra_info = i.map(Into::into);
                    r.capabilities.tee = Some(wire_consensus::node::CapabilityTee {
                        hardware: TeeHardware::INTEL_SGX,
                        ..Default::default()
                    });
                });
            },
            false,
        ),
    ];
    for (name, change, accepted) in cases {
        let mut w = world();
        change(&mut w);
        w.begin_epoch(EPOCH + 1).result.unwrap();
        let want: &[u8] = if accepted { &[10, 11, 12, 13] } else { &[10, 11, 12] };
        assert_eq!(status_nodes(&w), want, "{name}");
        assert!(status(&w).is_initialized && !status(&w).is_secure, "{name}");
    }
}

#[test]
fn the_first_node_decides() {
    // Nodes are taken by identifier: 9 comes before the others.
    let mut w = World::new();
    w.put_runtime(&runtime(km(), RuntimeKind::KEY_MANAGER));
    let no_policy = |r: &mut InitResponse| r.policy_checksum = None;
    add_node(&mut w, 10, no_policy);
    add_node(&mut w, 9, |r| {
        no_policy(r);
        r.is_secure = true;
        r.rsk = Some(key(50));
    });
    add_node(&mut w, 11, |r| {
        no_policy(r);
        r.is_secure = true;
    });
    add_node(&mut w, 12, |r| {
        no_policy(r);
        r.is_secure = true;
        r.rsk = Some(key(51));
    });
    add_node(&mut w, 13, |r| {
        no_policy(r);
        r.is_secure = true;
        r.rsk = Some(key(50));
    });
    w.begin_epoch(EPOCH + 1).result.unwrap();
    let s = status(&w);
    assert_eq!((s.is_initialized, s.is_secure, s.rsk), (true, true, Some(key(50))));
    assert_eq!(status_nodes(&w), [9, 11, 13]);
    // What was decided stays when all nodes are gone; the signing key is found anew each time.
    w.put_node(9, &[]);
    w.put_node(11, &[]);
    w.put_node(13, &[]);
    w.put_node(12, &[]);
    w.begin_epoch(EPOCH + 2).result.unwrap();
    let s = status(&w);
    assert_eq!((s.is_initialized, s.is_secure, s.rsk, s.nodes), (true, true, None, None));
}

#[test]
fn enclaves_must_belong_to_a_deployment() {
    let mut w = World::new();
    let mut rt = runtime(km(), RuntimeKind::KEY_MANAGER);
    rt.tee_hardware = TeeHardware::INTEL_SGX;
    rt.deployments = vec![Some(VersionInfo::default())];
    w.put_runtime(&rt);
    add_node(&mut w, 10, |r| r.policy_checksum = None);
    let i = info(InitResponse::default());
    w.put_node_with(11, |n| {
        let r = &mut n.runtimes.as_mut().unwrap()[0];
        r.extra_info = i.map(Into::into);
        r.capabilities.tee = Some(wire_consensus::node::CapabilityTee {
            hardware: TeeHardware::INTEL_SGX,
            rak: PublicKey::new(RAK.public()),
            ..Default::default()
        });
    });
    w.begin_epoch(EPOCH + 1).result.unwrap();
    assert!(status_nodes(&w).is_empty(), "one has no hardware, the other an unknown version");
}

/// Replaces the nodes by ones of which the first `ready` have replicated the proposed secret.
fn replicate(w: &mut World, ready: u8, total: u8) {
    for n in 10..10 + total {
        add_node(w, n, |r| {
            if n < 10 + ready {
                r.next_checksum = checksum(7);
                r.next_rsk = Some(key(60));
            }
        });
    }
}

#[test]
fn master_secrets_are_accepted_by_two_thirds() {
    for (ready, total, accepted) in
        [(3, 3, true), (2, 3, true), (1, 3, false), (0, 3, false), (33, 50, true), (32, 50, false)]
    {
        let mut w = world();
        let run = w.tx(10, METHOD_PUBLISH_MASTER_SECRET, &master(0, EPOCH + 1));
        run.result.as_ref().unwrap();
        assert!(run.has(&MasterSecretPublishedEvent { secret: Some(master(0, EPOCH + 1)) }));
        replicate(&mut w, ready, total);
        w.begin_epoch(EPOCH + 1).result.unwrap();
        let s = status(&w);
        if accepted {
            assert_eq!((s.generation, s.rotation_epoch, s.checksum.clone()), (0, EPOCH + 1, checksum(7)));
            assert_eq!((s.rsk, s.nodes().len()), (Some(key(60)), usize::from(ready)));
            assert_eq!(s.next_generation(), 1);
        } else {
            assert_eq!((s.checksum.clone(), s.nodes().len()), (None, usize::from(total)));
        }
    }
}

#[test]
fn proposals_for_other_epochs_are_not_accepted() {
    let mut w = world();
    w.tx(10, METHOD_PUBLISH_MASTER_SECRET, &master(0, EPOCH + 1)).result.unwrap();
    replicate(&mut w, 3, 3);
    w.begin_epoch(EPOCH + 2).result.unwrap();
    let s = status(&w);
    // The nodes claim to be ready for a secret that is none: that does not make them bad.
    assert_eq!((s.checksum.clone(), s.nodes().len()), (None, 3));
}

#[test]
fn disagreement_on_the_next_signing_key() {
    let mut w = world();
    w.tx(10, METHOD_PUBLISH_MASTER_SECRET, &master(0, EPOCH + 1)).result.unwrap();
    for (n, rsk) in [(10, Some(key(60))), (11, Some(key(61))), (12, None)] {
        add_node(&mut w, n, |r| {
            r.next_checksum = checksum(7);
            r.next_rsk = rsk;
        });
    }
    w.begin_epoch(EPOCH + 1).result.unwrap();
    assert_eq!((status_nodes(&w), status(&w).rsk), (vec![10, 12], Some(key(60))));
}

#[test]
fn refusals_of_master_secrets() {
    let mut w = world();
    let mut elsewhere = master(0, EPOCH + 1);
    elsewhere.secret.id = compute();
    w.tx(10, METHOD_PUBLISH_MASTER_SECRET, &elsewhere).says("not a key manager");
    elsewhere.secret.id = Default::default();
    assert_eq!(w.tx(10, METHOD_PUBLISH_MASTER_SECRET, &elsewhere).code(), ("registry", 11));
    let mut wrong_recipients = master(0, EPOCH + 1);
    wrong_recipients.secret.secret = encrypted(&[X25519PublicKey::default()]);
    let mut forged = master(0, EPOCH + 1);
    forged.secret.secret.checksum = None;
    for (text, signer, body) in [
        ("only by the key manager committee", 13, master(0, EPOCH + 1)),
        ("invalid generation", 10, master(1, EPOCH + 1)),
        ("invalid epoch", 10, master(0, EPOCH)),
        ("invalid epoch", 10, master(0, EPOCH + 2)),
        ("unknown key", 10, wrong_recipients),
        ("invalid signature", 10, forged),
    ] {
        let run = w.tx(signer, METHOD_PUBLISH_MASTER_SECRET, &body);
        run.says(text);
        assert_eq!(run.gas_used, 0, "{text}");
    }
    assert_eq!(w.tx_in(Mode::DeliverTx, 10, 999, METHOD_PUBLISH_MASTER_SECRET, &master(0, EPOCH + 1)).gas_used, 0);
    w.tx(10, METHOD_PUBLISH_MASTER_SECRET, &master(0, EPOCH + 1)).result.unwrap();
    w.tx(11, METHOD_PUBLISH_MASTER_SECRET, &master(0, EPOCH + 1)).says("once per epoch");
    // A member that is no longer registered.
    let mut s = status(&w);
    s.nodes = Some(vec![key(10), key(99)]);
    state::set_status(&mut w.tree, &s).unwrap();
    w.set_epoch(EPOCH + 1);
    assert_eq!(w.tx(10, METHOD_PUBLISH_MASTER_SECRET, &master(0, EPOCH + 2)).code(), ("registry", 10));
    // Without a status at all.
    assert_eq!(World::new().tx(10, METHOD_PUBLISH_MASTER_SECRET, &master(0, EPOCH + 1)).code(), ("keymanager", 2));
    assert_eq!(w.tx(10, METHOD_PUBLISH_MASTER_SECRET, &1u64).code(), ("keymanager", 1));
}

#[test]
fn rotation() {
    let mut w = world();
    let mut s = status(&w);
    s.checksum = checksum(7);
    s.rotation_epoch = EPOCH;
    state::set_status(&mut w.tree, &s).unwrap();
    for (epoch, due) in [(EPOCH, false), (EPOCH + 1, false), (EPOCH + 2, true)] {
        w.set_epoch(epoch);
        let run = w.tx(10, METHOD_PUBLISH_MASTER_SECRET, &master(1, epoch + 1));
        if due {
            run.result.unwrap();
        } else {
            run.says("master secret rotation not allowed");
        }
    }
}

#[test]
fn ephemeral_secrets() {
    let mut w = world();
    let publish = |w: &mut World, n: u8, s: &SignedEncryptedEphemeralSecret| -> Run<()> {
        w.tx(n, METHOD_PUBLISH_EPHEMERAL_SECRET, s)
    };
    publish(&mut w, 13, &ephemeral(EPOCH + 1)).says("only by the key manager committee");
    publish(&mut w, 10, &ephemeral(EPOCH)).says("invalid epoch");
    let mut forged = ephemeral(EPOCH + 1);
    forged.secret.secret.checksum = None;
    publish(&mut w, 10, &forged).says("invalid signature");
    let run = publish(&mut w, 10, &ephemeral(EPOCH + 1));
    run.result.as_ref().unwrap();
    assert_eq!(run.gas_used, 1000);
    assert!(run.has(&EphemeralSecretPublishedEvent { secret: Some(ephemeral(EPOCH + 1)) }));
    publish(&mut w, 11, &ephemeral(EPOCH + 1)).says("once per epoch");
    w.set_epoch(EPOCH + 1);
    publish(&mut w, 11, &ephemeral(EPOCH + 2)).result.unwrap();
    assert_eq!(query::ephemeral_secret(&w.tree, &km()).unwrap(), ephemeral(EPOCH + 2));
    assert_eq!(World::new().tx(10, METHOD_PUBLISH_EPHEMERAL_SECRET, &ephemeral(6)).code(), ("keymanager", 2));
    assert_eq!(w.tx(10, METHOD_PUBLISH_EPHEMERAL_SECRET, &1u64).code(), ("keymanager", 1));
    // Keys that tests use are refused where they are not allowed.
    w.blacklist = Blacklist::production();
    w.set_epoch(EPOCH + 2);
    publish(&mut w, 10, &ephemeral(EPOCH + 3)).says("invalid signature");
}

#[test]
fn checks_and_simulations() {
    for (mode, gas) in [(Mode::CheckTx, 0), (Mode::SimulateTx, 1000)] {
        let mut w = world();
        let before = w.pairs();
        for run in [
            w.tx_in(mode, OWNER, PLENTY, METHOD_UPDATE_POLICY, &policy(2)),
            w.tx_in(mode, 10, PLENTY, METHOD_PUBLISH_MASTER_SECRET, &master(0, EPOCH + 1)),
            w.tx_in(mode, 10, PLENTY, METHOD_PUBLISH_EPHEMERAL_SECRET, &ephemeral(EPOCH + 1)),
        ] {
            run.result.as_ref().unwrap();
            assert_eq!((run.gas_used, run.events.len()), (gas, 0));
        }
        assert_eq!(w.pairs(), before);
    }
}

#[test]
fn genesis_in_and_out() {
    let mut doc = Document::default();
    doc.registry.runtimes = vec![runtime(km(), RuntimeKind::KEY_MANAGER)];
    let known = Status { id: km(), checksum: Some(Bytes::default()), ..Status::default() };
    let unknown = Status { id: compute(), ..Status::default() };
    doc.keymanager.statuses = vec![known.clone(), unknown];
    let init = |doc: &Document| {
        let mut w = World::new();
        w.tree = mkvs_tree::Tree::in_memory();
        let run = w.run(Mode::InitChain, None, PLENTY, |ctx| genesis::init_chain(ctx, doc));
        (w, run)
    };
    let (w, run) = init(&doc);
    run.result.as_ref().unwrap();
    assert!(run.has(&StatusUpdateEvent { statuses: Some(vec![known.clone()]) }));
    assert_eq!(query::statuses(&w.tree).unwrap(), std::slice::from_ref(&known));
    assert_eq!(query::genesis(&w.tree).unwrap().statuses, [known]);
    for (f, code) in [
        (query::status(&w.tree, &compute()).map(|_| ()), 2),
        (query::master_secret(&w.tree, &km()).map(|_| ()), 3),
        (query::ephemeral_secret(&w.tree, &km()).map(|_| ()), 4),
    ] {
        assert_eq!(f.unwrap_err().code(), ("keymanager", code));
    }
    doc.keymanager.statuses[0].nodes = Some(Vec::new());
    init(&doc).1.says("has nodes");
    // Committees are not exported.
    let w = world();
    assert_eq!(status(&w).nodes().len(), 3);
    assert_eq!(query::genesis(&w.tree).unwrap().statuses[0].nodes, None);
}
