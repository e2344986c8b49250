//! Tables of both backends, their mocks, and every refusal of a proof.

use apps_core::{GasMeter, Mode, Result, Service};
use base_codec::Raw;
use base_crypto::{ed25519::SecretKey, vrf};
use base_prims::{EPOCH_INVALID, PublicKey};
use comet_chain::app::Event;
use wire_consensus::{
    beacon::{Genesis, InsecureParameters, METHOD_SET_EPOCH, METHOD_VRF_PROVE, Parameters, VrfParameters, VrfProve},
    node::{MultiSignedNode, Node},
    registry::NodeStatus,
};

use super::{Beacon, genesis, query, state};
use crate::{
    registry,
    testing::{World, kinds},
};

const INTERVAL: i64 = 10;
const DELAY: i64 = 2;

fn insecure(mock: bool) -> Parameters {
    Parameters {
        backend: "insecure".into(),
        debug_mock_backend: mock,
        insecure_parameters: Some(InsecureParameters { interval: INTERVAL }),
        ..Parameters::default()
    }
}

fn with_vrf(mock: bool) -> Parameters {
    Parameters {
        backend: "vrf".into(),
        debug_mock_backend: mock,
        vrf_parameters: Some(VrfParameters {
            alpha_high_quality_threshold: 2,
            interval: INTERVAL,
            proof_submission_delay: DELAY,
            gas_costs: [("vrf_prove".to_owned(), 5)].into(),
        }),
        ..Parameters::default()
    }
}

/// A network that begins at height 1 with epoch `base`.
fn world(parameters: Parameters, base: u64) -> (World, Vec<Event>) {
    let mut world = World::new();
    world.last_height = 0;
    let doc = Genesis { base, parameters };
    let (result, events) = world.run(Mode::InitChain, |ctx| genesis::init_chain(ctx, &doc));
    result.unwrap();
    (world, events)
}

/// The beginning of the block at `height`.
fn begin(world: &mut World, height: i64) -> Vec<String> {
    world.last_height = height - 1;
    let (result, events) = world.run(Mode::BeginBlock, |ctx| Beacon.begin_block(ctx));
    result.unwrap();
    kinds(&events).iter().map(|k| k.strip_prefix("000_beacon/").unwrap().to_owned()).collect()
}

fn send(world: &mut World, method: &str, body: &Raw) -> Result<()> {
    world.deliver(|ctx| Beacon.execute_tx(ctx, method, body))
}

fn set_epoch(world: &mut World, epoch: u64) -> bool {
    send(world, METHOD_SET_EPOCH, &Raw::of(&epoch)).is_ok()
}

#[test]
fn insecure_epochs_begin_at_multiples_of_the_interval() {
    let (mut world, events) = world(insecure(false), 4);
    assert_eq!(kinds(&events), ["000_beacon/epoch"]);
    assert_eq!(state::epoch(&world.state).unwrap(), (4, 1));
    assert!(state::beacon(&world.state).is_err_and(|e| e.code() == ("beacon", 2)));
    assert!(begin(&mut world, 49).is_empty());
    assert_eq!(begin(&mut world, 50), ["epoch", "beacon"]);
    assert_eq!(state::epoch(&world.state).unwrap(), (5, 50));
    let first = state::beacon(&world.state).unwrap();
    assert_eq!(begin(&mut world, 60), ["epoch", "beacon"]);
    assert_ne!(state::beacon(&world.state).unwrap(), first);
    assert!(!set_epoch(&mut world, 9), "only mocks are told their epoch");
    assert_eq!(query::genesis(&world.state).unwrap(), Genesis { base: 6, parameters: insecure(false) });
    // A transition that was passed over breaks time.
    world.last_height = 70;
    assert!(world.run(Mode::BeginBlock, |ctx| Beacon.begin_block(ctx)).0.is_err());
}

#[test]
fn insecure_mock_goes_where_it_is_told() {
    let (mut world, events) = world(insecure(true), 4);
    assert!(events.is_empty());
    assert_eq!(state::epoch(&world.state).unwrap(), (0, 0), "the base epoch is not used");
    world.last_height = 5;
    assert!(!set_epoch(&mut world, 0));
    assert!(send(&mut world, METHOD_SET_EPOCH, &Raw(vec![0x61, 0x78])).is_err_and(|e| e.code() == ("unknown", 1)));
    assert!(send(&mut world, METHOD_SET_EPOCH, &Raw::default()).is_err(), "no body is epoch 0");
    assert!(set_epoch(&mut world, 3));
    assert!(!set_epoch(&mut world, 4), "one is scheduled already");
    assert_eq!(begin(&mut world, 7), ["epoch", "beacon"]);
    assert_eq!(state::epoch(&world.state).unwrap(), (3, 7));
    assert_eq!(state::future_epoch(&world.state).unwrap(), None);
    assert!(!set_epoch(&mut world, 3));
    assert!(send(&mut world, METHOD_VRF_PROVE, &Raw::default()).is_err());
    assert!(send(&mut world, "beacon.Other", &Raw::default()).is_err());
}

fn key(i: u8) -> SecretKey {
    SecretKey::from_seed(&[i; 32])
}

fn id(i: u8) -> PublicKey {
    PublicKey::new([i; 32])
}

/// Registers node `i`, whose VRF key is `key(i)`.
fn add_node(world: &mut World, i: u8) {
    let mut node = Node { v: 3, id: id(i), expiration: 100, ..Node::default() };
    node.vrf.id = PublicKey::new(key(i).public());
    let signed =
        MultiSignedNode { untrusted_raw_value: Some(base_codec::cbor::to_vec(&node).into()), signatures: None };
    world.put(&apps_core::kv::Key::new(0x11).key_hash(&node.id), &signed);
    let status = NodeStatus { election_eligible_after: EPOCH_INVALID, ..NodeStatus::default() };
    registry::state::set_node_status(&mut world.state, &node.id, &status).unwrap();
}

fn proof(world: &World, i: u8) -> VrfProve {
    let vrf_state = state::vrf_state(&world.state).unwrap().unwrap();
    VrfProve { epoch: vrf_state.epoch, pi: Some(vrf::prove(&key(i), &vrf_state.alpha).into()) }
}

fn prove(world: &mut World, i: u8, body: &VrfProve) -> Result<()> {
    world.signer = id(i);
    send(world, METHOD_VRF_PROVE, &Raw::of(body))
}

#[test]
fn vrf_epochs_roll_their_proofs() {
    let (mut world, events) = world(with_vrf(false), 4);
    assert_eq!(kinds(&events), ["000_beacon/epoch"]);
    (1..=3).for_each(|i| add_node(&mut world, i));
    assert!(begin(&mut world, 1).is_empty());
    let boot = state::vrf_state(&world.state).unwrap().unwrap();
    assert_eq!((boot.epoch, boot.submit_after, boot.alpha_is_high_quality), (4, 1 + DELAY, false));
    assert_eq!((boot.alpha.len(), boot.prev_state), (32, None));

    world.last_height = DELAY;
    let early = proof(&world, 1);
    assert!(prove(&mut world, 1, &early).is_err(), "too early");
    world.last_height = DELAY + 1;
    for i in [1, 2] {
        let body = proof(&world, i);
        prove(&mut world, i, &body).unwrap();
    }
    assert_eq!(begin(&mut world, 11), ["epoch", "beacon", "vrf"]);
    let first = state::vrf_state(&world.state).unwrap().unwrap();
    assert_eq!((first.epoch, first.submit_after, first.alpha_is_high_quality), (5, 11 + DELAY, true));
    let prev = first.prev_state.unwrap();
    assert_eq!((prev.pi.unwrap().len(), prev.can_elect_committees), (2, false), "proofs of a weak alpha elect nobody");
    let status = registry::state::node_status(&world.state, &id(3)).unwrap();
    assert_eq!(status.election_eligible_after, 5);

    // One proof is too few for a strong alpha, but those over this one may elect.
    world.last_height = 11 + DELAY;
    let body = proof(&world, 3);
    prove(&mut world, 3, &body).unwrap();
    assert_eq!(begin(&mut world, 21), ["epoch", "beacon", "vrf"]);
    let second = state::vrf_state(&world.state).unwrap().unwrap();
    let prev = second.prev_state.unwrap();
    assert_eq!((prev.pi.unwrap().len(), prev.can_elect_committees), (1, true));
    assert!(!second.alpha_is_high_quality && second.pi.is_empty());
    // Without any proof the list is empty, not absent: both are different in the state.
    begin(&mut world, 31);
    let raw = apps_core::kv::get_raw(&world.state, &[0x46]).unwrap().unwrap();
    let empty = b"\x6cpi.omitempty\xa0";
    assert!(raw.windows(empty.len()).any(|w| w == empty));
    assert!(!set_epoch(&mut world, 50));
}

#[test]
fn proofs_are_refused_in_order() {
    let (mut world, _) = world(with_vrf(true), 4);
    world.last_height = 9;
    let before = Raw::of(&VrfProve::default());
    assert!(send(&mut world, METHOD_VRF_PROVE, &before).is_err(), "no state yet");
    begin(&mut world, 10);
    world.last_height = 10 + DELAY;
    add_node(&mut world, 1);
    let good = proof(&world, 1);
    let alpha = state::vrf_state(&world.state).unwrap().unwrap().alpha;
    let mut broken = vrf::prove(&key(1), &alpha);
    broken[79] ^= 1;
    let cases = [
        ("not a node", 9, good.clone()),
        ("wrong epoch", 1, VrfProve { epoch: 5, ..good.clone() }),
        ("short", 1, VrfProve { pi: Some(vec![1; 79].into()), ..good.clone() }),
        ("absent", 1, VrfProve { pi: None, ..good.clone() }),
        ("another's", 1, VrfProve { pi: Some(vrf::prove(&key(2), &alpha).into()), ..good.clone() }),
        ("over something else", 1, VrfProve { pi: Some(vrf::prove(&key(1), b"other").into()), ..good.clone() }),
        ("broken", 1, VrfProve { pi: Some(broken.into()), ..good.clone() }),
    ];
    let state_before = world.dump();
    for (name, node, body) in cases {
        assert!(prove(&mut world, node, &body).is_err_and(|e| e.code() == ("unknown", 1)), "{name}");
    }
    world.signer = id(1);
    let result = send(&mut world, METHOD_VRF_PROVE, &Raw(vec![0x61, 0x78]));
    assert!(result.is_err_and(|e| e.code() == ("beacon", 1)), "undecodable");
    assert_eq!(world.dump(), state_before);
    // Gas comes before anything else; checking stores nothing, simulating does not even look.
    let body = Raw::of(&good);
    let mut run = |mode, limit, body: &Raw| {
        world
            .run(mode, |ctx| {
                ctx.set_gas(GasMeter::limited(limit));
                (Beacon.execute_tx(ctx, METHOD_VRF_PROVE, body).is_ok(), ctx.gas_used())
            })
            .0
    };
    assert_eq!(run(Mode::DeliverTx, 4, &body), (false, 0));
    assert_eq!(run(Mode::SimulateTx, 5, &Raw::default()), (true, 5));
    assert_eq!(run(Mode::CheckTx, 5, &body), (true, 5));
    assert_eq!(world.dump(), state_before);
    prove(&mut world, 1, &good).unwrap();
    prove(&mut world, 1, &good).unwrap();
    assert_eq!(state::vrf_state(&world.state).unwrap().unwrap().pi.len(), 1);
}

#[test]
fn vrf_mock_waits_for_proofs() {
    let (mut world, events) = world(with_vrf(true), 4);
    assert!(events.is_empty());
    assert_eq!(state::epoch(&world.state).unwrap(), (4, 1), "this mock uses the base epoch");
    begin(&mut world, 1);
    add_node(&mut world, 1);
    assert!(!set_epoch(&mut world, 4));
    assert!(set_epoch(&mut world, 8));
    assert!(set_epoch(&mut world, 8), "the same again is fine");
    assert!(!set_epoch(&mut world, 9));
    // Proofs cannot be in before the delay is over.
    begin(&mut world, 1 + DELAY);
    assert_eq!(state::future_epoch(&world.state).unwrap(), None);
    begin(&mut world, 2 + DELAY);
    assert_eq!(state::future_epoch(&world.state).unwrap(), None, "node 1 has not proven");
    let body = proof(&world, 1);
    prove(&mut world, 1, &body).unwrap();
    begin(&mut world, 3 + DELAY);
    assert_eq!(state::future_epoch(&world.state).unwrap().unwrap().height, 4 + DELAY);
    assert_eq!(state::pending_mock_epoch(&world.state).unwrap(), None);
    assert_eq!(begin(&mut world, 4 + DELAY), ["epoch", "beacon", "vrf"]);
    assert_eq!(state::epoch(&world.state).unwrap(), (8, 4 + DELAY));
    assert_eq!(state::future_epoch(&world.state).unwrap(), None, "nothing follows by itself");
    // Without all proofs the usual time of an epoch passes first.
    assert!(set_epoch(&mut world, 9));
    begin(&mut world, 3 + DELAY + INTERVAL);
    assert_eq!(state::future_epoch(&world.state).unwrap(), None);
    begin(&mut world, 4 + DELAY + INTERVAL);
    assert!(state::future_epoch(&world.state).unwrap().is_some());
}
