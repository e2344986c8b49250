//! Tests of secret sharing over a small network.

use apps_core::{Mode, Service};
use base_crypto::context;
use base_prims::{EPOCH_INVALID, Epoch, Hash, Namespace};
use wire_consensus::{churp::*, genesis::Document, keymanager, registry::RuntimeKind};

use super::*;
use crate::{
    KeyManager,
    testing::{EPOCH, OWNER, PLENTY, Run, World, compute, key, km, runtime, sign},
};

fn identity() -> Identity {
    Identity { id: 3, runtime_id: km() }
}

fn policy(serial: u32) -> SignedPolicySgx {
    let policy = PolicySgx { identity: identity(), serial, ..PolicySgx::default() };
    SignedPolicySgx { policy, signatures: Vec::new() }
}

fn create_request() -> CreateRequest {
    CreateRequest { identity: identity(), threshold: 1, handoff_interval: 4, policy: policy(0), ..Default::default() }
}

fn update_request() -> UpdateRequest {
    UpdateRequest { identity: identity(), ..UpdateRequest::default() }
}

fn status(w: &World) -> Status {
    state::status(&w.tree, &identity()).unwrap().unwrap()
}

fn hash(n: u8) -> Hash {
    Hash::new([n; 32])
}

/// A world with an instance whose handoffs need three nodes at first, and six key manager nodes (10 to 15).
fn world() -> World {
    let mut w = World::new();
    w.tx(OWNER, METHOD_CREATE, &create_request()).result.unwrap();
    for n in 10..16 {
        w.put_node_with(n, |_| {});
    }
    w
}

fn application(epoch: Epoch, n: u8) -> SignedApplicationRequest {
    let application = ApplicationRequest { identity: identity(), epoch, checksum: hash(n) };
    let raw = base_codec::cbor::to_vec(&application);
    SignedApplicationRequest { application, signature: sign(&context::CHURP_APPLICATION_REQUEST, &raw) }
}

fn confirmation(epoch: Epoch, checksum: u8) -> SignedConfirmationRequest {
    let confirmation = ConfirmationRequest { identity: identity(), epoch, checksum: hash(checksum) };
    let raw = base_codec::cbor::to_vec(&confirmation);
    SignedConfirmationRequest { confirmation, signature: sign(&context::CHURP_CONFIRMATION_REQUEST, &raw) }
}

fn apply(w: &mut World, n: u8, epoch: Epoch) -> Run<()> {
    w.tx(n, METHOD_APPLY, &application(epoch, n))
}

fn confirm(w: &mut World, n: u8, epoch: Epoch, checksum: u8) -> Run<()> {
    w.tx(n, METHOD_CONFIRM, &confirmation(epoch, checksum))
}

fn apply_all(w: &mut World, nodes: &[u8], epoch: Epoch) {
    for n in nodes {
        apply(w, *n, epoch).result.unwrap();
    }
}

#[test]
fn creation() {
    let mut w = World::new();
    let run = w.tx(OWNER, METHOD_CREATE, &create_request());
    run.result.as_ref().unwrap();
    let want = Status {
        identity: identity(),
        threshold: 1,
        handoff_interval: 4,
        policy: policy(0),
        next_handoff: EPOCH + 1,
        ..Status::default()
    };
    assert_eq!((status(&w), run.gas_used), (want.clone(), 1000));
    assert!(run.has(&CreateEvent { status: Some(want) }));
    assert_eq!(run.kinds(), ["keymanager/churp.create"]);
    assert_eq!(w.claims(), [stake_claim(&km(), 3)]);
    // Without handoffs.
    let mut w = World::new();
    w.tx(OWNER, METHOD_CREATE, &CreateRequest { handoff_interval: 0, ..create_request() }).result.unwrap();
    assert_eq!(status(&w).next_handoff, EPOCH_INVALID);
}

#[test]
fn refusals_of_creation() {
    let with = |change: fn(&mut CreateRequest)| {
        let mut r = create_request();
        change(&mut r);
        r
    };
    let in_runtime = |r: &mut CreateRequest, id: Namespace| {
        r.identity.runtime_id = id;
        r.policy.policy.identity.runtime_id = id;
    };
    let mut elsewhere = create_request();
    in_runtime(&mut elsewhere, compute());
    let mut nowhere = create_request();
    in_runtime(&mut nowhere, Namespace::ZERO);
    let mut w = world();
    let before = w.pairs();
    assert_eq!(w.tx(OWNER, METHOD_CREATE, &nowhere).code(), ("registry", 11));
    for (text, signer, body) in [
        ("not a key manager", OWNER, elsewhere),
        ("invalid signer", 2, create_request()),
        ("ID must be unique", OWNER, create_request()),
        ("policy ID mismatch", OWNER, with(|r| r.identity.id = 4)),
        (
            "unsupported suite",
            OWNER,
            with(|r| {
                r.identity.id = 4;
                r.suite_id = 1;
            }),
        ),
        (
            "threshold too large",
            OWNER,
            with(|r| {
                r.identity.id = 4;
                r.threshold = 128;
            }),
        ),
        (
            "serial number must be 0",
            OWNER,
            with(|r| {
                r.identity.id = 4;
                r.policy.policy.identity.id = 4;
                r.policy.policy.serial = 1;
            }),
        ),
    ] {
        let run = w.tx(signer, METHOD_CREATE, &body);
        run.says(text);
        assert_eq!(run.gas_used, 1000, "{text}: gas comes first");
    }
    // A second instance needs more stake.
    let second = with(|r| {
        r.identity.id = 4;
        r.policy.policy.identity.id = 4;
    });
    assert_eq!(w.tx(OWNER, METHOD_CREATE, &second).code(), ("staking", 4));
    assert_eq!(w.pairs(), before);
    w.set_stake(100);
    w.tx(OWNER, METHOD_CREATE, &second).result.unwrap();
    assert_eq!(w.claims().len(), 2);
    // Malformed bodies have the code of another module.
    assert_eq!(w.tx(OWNER, METHOD_CREATE, &1u64).code(), ("consensus", 6));
    assert_eq!(w.tx_in(Mode::DeliverTx, OWNER, 999, METHOD_CREATE, &create_request()).code(), ("unknown", 1));
}

#[test]
fn queries_are_in_policies_since_26_1() {
    let mut asks = create_request();
    asks.policy.policy.may_query = Some([(compute(), None)].into());
    let update = UpdateRequest {
        policy: Some(SignedPolicySgx { policy: PolicySgx { serial: 1, ..asks.policy.policy.clone() }, ..policy(1) }),
        ..update_request()
    };
    let mut w = World::new();
    w.params.feature_version = None;
    let run = w.tx(OWNER, METHOD_CREATE, &asks);
    assert_eq!((run.code(), run.gas_used), (("registry", 1), 0));
    w.tx(OWNER, METHOD_CREATE, &create_request()).result.unwrap();
    assert_eq!(w.tx(OWNER, METHOD_UPDATE, &update).code(), ("registry", 1));
    w.params.feature_version = World::new().params.feature_version;
    w.tx(OWNER, METHOD_UPDATE, &update).result.unwrap();
    World::new().tx(OWNER, METHOD_CREATE, &asks).result.unwrap();
    // An empty list of queries, which only a body that is not canonical can have, is one too.
    let mut body = base_codec::cbor::to_vec(&create_request());
    let field = b"\x68may_join\xf6";
    let at = body.windows(field.len()).position(|w| w == field).unwrap();
    body.splice(at..at, *b"\x69may_query\xa0");
    let policy = body.windows(7).position(|w| w == b"\x66policy").unwrap() + 7;
    let inner = body[policy..].windows(7).position(|w| w == b"\x66policy").unwrap() + policy + 7;
    body[inner] += 1;
    let mut w = World::new();
    w.params.feature_version = None;
    assert_eq!(w.tx(OWNER, METHOD_CREATE, &base_codec::Raw(body)).code(), ("registry", 1));
}

#[test]
fn checks_and_simulations() {
    for mode in [Mode::CheckTx, Mode::SimulateTx] {
        let mut w = world();
        let before = w.pairs();
        let update = UpdateRequest { extra_shares: Some(1), ..update_request() };
        let mut second = create_request();
        second.identity.id = 4;
        second.policy.policy.identity.id = 4;
        for run in [
            w.tx_in(mode, OWNER, PLENTY, METHOD_CREATE, &second),
            w.tx_in(mode, OWNER, PLENTY, METHOD_UPDATE, &update),
            w.tx_in(mode, 10, PLENTY, METHOD_APPLY, &application(EPOCH + 1, 10)),
        ] {
            run.result.as_ref().unwrap();
            assert_eq!((run.gas_used, run.events.len()), (1000, 0));
        }
        // Simulations stop after the charge, checks go on.
        let run = w.tx_in(mode, 10, PLENTY, METHOD_CONFIRM, &confirmation(EPOCH, 1));
        assert_eq!(run.result.is_ok(), mode == Mode::SimulateTx);
        assert_eq!(w.pairs(), before);
    }
}

#[test]
fn updates() {
    let mut w = world();
    for (text, signer, body) in [
        ("invalid signer", 2, update_request()),
        ("update config should not be empty", OWNER, update_request()),
        ("non-existing ID: 9", OWNER, UpdateRequest { identity: Identity { id: 9, ..identity() }, ..update_request() }),
        ("serial number must be 1", OWNER, UpdateRequest { policy: Some(policy(2)), ..update_request() }),
    ] {
        w.tx(signer, METHOD_UPDATE, &body).says(text);
    }
    apply(&mut w, 10, EPOCH + 1).result.unwrap();
    let update =
        UpdateRequest { extra_shares: Some(2), policy: Some(policy(1)), handoff_interval: Some(7), ..update_request() };
    let run = w.tx(OWNER, METHOD_UPDATE, &update);
    run.result.as_ref().unwrap();
    let s = status(&w);
    assert!(run.has(&UpdateEvent { status: Some(s.clone()) }));
    assert_eq!((s.extra_shares, s.policy, s.handoff_interval), (2, policy(1), 7));
    assert_eq!((s.next_handoff, s.applications.len()), (EPOCH + 1, 1), "a scheduled handoff stays");
    // Off and on again.
    w.tx(OWNER, METHOD_UPDATE, &UpdateRequest { handoff_interval: Some(0), ..update_request() }).result.unwrap();
    let s = status(&w);
    assert_eq!((s.handoff_interval, s.next_handoff, s.applications.len()), (0, HANDOFFS_DISABLED, 0));
    apply(&mut w, 10, EPOCH + 1).says("handoffs disabled");
    confirm(&mut w, 10, EPOCH + 1, 1).says("handoffs disabled");
    w.set_epoch(9);
    w.tx(OWNER, METHOD_UPDATE, &UpdateRequest { handoff_interval: Some(1), ..update_request() }).result.unwrap();
    assert_eq!((status(&w).handoff_interval, status(&w).next_handoff), (1, 10));
}

#[test]
fn applications() {
    let mut w = world();
    let next = EPOCH + 1;
    w.put_node_with(20, |n| n.expiration = EPOCH - 1);
    w.put_node_with(21, |n| n.roles = wire_consensus::node::Roles::COMPUTE);
    w.put_node_with(22, |n| n.runtimes = None);
    let mut forged = application(next, 10);
    forged.application.checksum = hash(77);
    let mut nowhere = application(next, 10);
    nowhere.application.identity.id = 9;
    for (text, n, body) in [
        ("non-existing ID: 9", 10, nowhere),
        ("invalid handoff: got 7, expected 6", 10, application(next + 1, 10)),
        ("node registration expired", 20, application(next, 20)),
        ("node not key manager", 21, application(next, 21)),
        ("node is not a key manager", 22, application(next, 22)),
        ("invalid signature", 10, forged),
    ] {
        w.tx(n, METHOD_APPLY, &body).says(text);
    }
    assert_eq!(apply(&mut w, 99, next).code(), ("registry", 10));
    let run = apply(&mut w, 10, next);
    run.result.as_ref().unwrap();
    let s = status(&w);
    assert_eq!(s.applications, [(key(10), Application { checksum: hash(10), reconstructed: false })].into());
    assert!(run.has(&UpdateEvent { status: Some(s) }));
    apply(&mut w, 10, next).says("application already submitted");
    for epoch in [EPOCH - 1, EPOCH + 1, EPOCH + 2] {
        w.set_epoch(epoch);
        apply(&mut w, 11, next).says("submissions closed");
    }
    // Keys that tests use are refused where they are not allowed.
    w.set_epoch(EPOCH);
    w.blacklist = base_crypto::blacklist::Blacklist::production();
    apply(&mut w, 11, next).says("invalid signature");
}

#[test]
fn a_handoff_ends_with_the_last_confirmation() {
    let mut w = world();
    let next = EPOCH + 1;
    apply_all(&mut w, &[12, 10, 11], next);
    confirm(&mut w, 10, next, 1).says("confirmations closed");
    assert_eq!(w.begin_epoch(next).kinds(), ["status"], "there are enough applicants");
    confirm(&mut w, 10, next + 1, 1).says("invalid handoff");
    confirm(&mut w, 13, next, 1).says("application not found");
    let mut forged = confirmation(next, 1);
    forged.signature = sign(&context::CHURP_APPLICATION_REQUEST, b"");
    w.tx(10, METHOD_CONFIRM, &forged).says("invalid signature");
    assert_eq!(status(&w).next_checksum, None, "nothing stays of a refused confirmation");
    confirm(&mut w, 12, next, 1).result.unwrap();
    confirm(&mut w, 12, next, 1).says("confirmation already submitted");
    confirm(&mut w, 10, next, 2).says("checksum mismatch");
    confirm(&mut w, 10, next, 1).result.unwrap();
    let s = status(&w);
    assert_eq!((s.handoff, s.next_checksum, s.committee.len()), (0, Some(hash(1)), 0));
    confirm(&mut w, 11, next, 1).result.unwrap();
    let s = status(&w);
    assert_eq!((s.handoff, s.checksum, s.next_handoff), (next, Some(hash(1)), next + 4));
    assert_eq!(s.committee, [key(10), key(11), key(12)]);
    assert_eq!((s.next_checksum, s.applications.len()), (None, 0));
}

#[test]
fn too_few_applicants_put_a_handoff_off() {
    let mut w = world();
    apply_all(&mut w, &[10, 11], EPOCH + 1);
    let run = w.begin_epoch(EPOCH + 1);
    run.result.as_ref().unwrap();
    let s = status(&w);
    assert_eq!((s.next_handoff, s.applications.len()), (EPOCH + 2, 0));
    assert_eq!(run.kinds(), ["keymanager/churp.update", "status"].into_iter().rev().collect::<Vec<_>>());
    assert!(run.has(&UpdateEvent { status: Some(s) }));
}

#[test]
fn late_handoffs() {
    // Interval, confirmed, extra shares: committee, next handoff.
    for (interval, confirmed, extra_shares, committee, next_handoff) in [
        (4, &[10, 11][..], 0, 2, EPOCH + 5),
        (1, &[10, 11], 0, 2, EPOCH + 3),
        (4, &[10], 0, 0, EPOCH + 3),
        (4, &[10, 11], 1, 0, EPOCH + 3),
        (4, &[], 0, 0, EPOCH + 3),
    ] {
        let mut w = world();
        let update =
            UpdateRequest { handoff_interval: Some(interval), extra_shares: Some(extra_shares), ..update_request() };
        w.tx(OWNER, METHOD_UPDATE, &update).result.unwrap();
        apply_all(&mut w, &[10, 11, 12], EPOCH + 1);
        w.begin_epoch(EPOCH + 1).result.unwrap();
        for n in confirmed {
            confirm(&mut w, *n, EPOCH + 1, 1).result.unwrap();
        }
        let run = w.begin_epoch(EPOCH + 2);
        let s = status(&w);
        assert!(run.has(&UpdateEvent { status: Some(s.clone()) }));
        assert_eq!((s.committee.len(), s.next_handoff), (committee, next_handoff), "{interval} {confirmed:?}");
        assert_eq!((s.applications.len(), s.next_checksum), (0, None));
        assert_eq!(s.handoff, if committee > 0 { EPOCH + 1 } else { 0 });
    }
}

#[test]
fn what_an_epoch_leaves_alone() {
    // Epochs that are jumped over leave a handoff stuck.
    let mut w = world();
    w.begin_epoch(EPOCH + 3).result.unwrap();
    assert_eq!(status(&w).next_handoff, EPOCH + 1);
    // Suspended runtimes.
    let mut w = world();
    w.set_stake(0);
    let run = w.begin_epoch(EPOCH + 1);
    assert_eq!(run.kinds(), ["runtime_suspended"]);
    assert_eq!(status(&w).next_handoff, EPOCH + 1);
    assert_eq!(apply(&mut w, 10, EPOCH + 1).code(), ("registry", 11));
    // Instances without handoffs.
    let mut w = World::new();
    w.tx(OWNER, METHOD_CREATE, &CreateRequest { handoff_interval: 0, ..create_request() }).result.unwrap();
    assert_eq!(w.begin_epoch(EPOCH + 1).kinds(), ["status"]);
}

#[test]
fn without_stake_checks_nothing_is_claimed() {
    let mut w = World::new();
    w.set_stake(0);
    let params = wire_consensus::staking::Parameters { debug_bypass_stake: true, ..Default::default() };
    w.put(&[0x56], &params);
    w.tx(OWNER, METHOD_CREATE, &create_request()).result.unwrap();
    assert!(w.claims().is_empty());
    assert_eq!(w.begin_epoch(EPOCH + 3).kinds(), ["status"]);
}

#[test]
fn the_last_epochs() {
    use handoff::{Moment, try_finalize};
    let at = |next_handoff: Epoch, handoff: Epoch, interval: Epoch| {
        let mut s = Status { next_handoff, handoff, handoff_interval: interval, ..Status::default() };
        s.applications.insert(key(1), Application { reconstructed: true, ..Application::default() });
        s
    };
    let mut s = at(10, 9, EPOCH_INVALID - 9);
    assert!(try_finalize(&mut s, Moment::InEpoch));
    assert_eq!((s.next_handoff, s.handoff_interval), (HANDOFFS_DISABLED, 0), "overflow ends handoffs");
    let mut s = at(EPOCH_INVALID - 1, 5, 1);
    assert!(try_finalize(&mut s, Moment::EpochOver));
    assert_eq!((s.next_handoff, s.handoff_interval), (HANDOFFS_DISABLED, 0));
}

#[test]
fn genesis_in_and_out() {
    let mut w = world();
    apply_all(&mut w, &[10, 11, 12], EPOCH + 1);
    let exported = query::genesis(&w.tree).unwrap();
    let s = &exported.statuses[0];
    assert_eq!((s.next_handoff, s.applications.len()), (HANDOFFS_DISABLED, 0));
    let mut doc = Document::default();
    doc.registry.runtimes = vec![runtime(km(), RuntimeKind::KEY_MANAGER)];
    let init = |doc: &Document| {
        let mut w = World::new();
        w.tree = mkvs_tree::Tree::in_memory();
        let run = w.run(Mode::InitChain, None, PLENTY, |ctx| genesis::init_chain(ctx, doc));
        (w, run)
    };
    // Without a section nothing is written.
    assert!(init(&doc).0.pairs().is_empty());
    let costs = [("create".to_owned(), 7)].into();
    let section = Genesis { parameters: Parameters { gas_costs: costs }, ..exported };
    doc.keymanager = keymanager::Genesis { churp: Some(section.clone()), ..Default::default() };
    let (w, run) = init(&doc);
    run.result.as_ref().unwrap();
    assert_eq!(state::parameters(&w.tree).unwrap(), Parameters::defaults(), "the document's costs are not used");
    // The epoch is invalid then, so the next handoff is epoch 0.
    let want = Status { next_handoff: 0, ..section.statuses[0].clone() };
    assert_eq!(state::all_statuses(&w.tree).unwrap(), std::slice::from_ref(&want));
    assert!(run.has(&UpdateEvent { status: Some(want) }));
    doc.registry.runtimes.clear();
    init(&doc).1.says("unknown key manager runtime");
}

#[test]
fn statuses_by_runtime() {
    let mut w = world();
    w.set_stake(200);
    for id in [0, 255] {
        let mut r = create_request();
        r.identity.id = id;
        r.policy.policy.identity.id = id;
        w.tx(OWNER, METHOD_CREATE, &r).result.unwrap();
    }
    let ids: Vec<_> = state::statuses(&w.tree, &km()).unwrap().iter().map(|s| s.identity.id).collect();
    assert_eq!(ids, [0, 3, 255]);
    assert!(state::statuses(&w.tree, &compute()).unwrap().is_empty());
    assert_eq!(query::all_statuses(&w.tree).unwrap().len(), 3);
    let missing = Identity { id: 1, runtime_id: km() };
    assert_eq!(query::status(&w.tree, &missing).unwrap_err().code(), ("keymanager/churp", 1));
    assert_eq!(KeyManager.methods().len(), 7);
    assert!(w.pairs().iter().any(|(k, _)| k.len() == 34 && k[0] == 0x75 && k[33] == 255));
}
