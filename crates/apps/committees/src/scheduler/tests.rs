//! Elections against recorded ones, and tables for what those leave out.

use std::collections::BTreeMap;

use apps_core::Mode;
use base_crypto::context::ChainContext;
use base_prims::{Hash, Namespace, PublicKey};
use dev_testkit::{paths, read};
use mkvs_tree::KvWrite;
use serde_json::Value;
use wire_consensus::scheduler::{
    CommitteeNode, ParameterChanges, Parameters, Role, Validator, VotingPowerDistribution,
};

use super::{epoch, force, messages, state, validators};
use crate::testing::{Sink, World, forget};

fn text(v: &Value) -> &str {
    v.as_str().unwrap()
}

fn bytes(v: &Value) -> Vec<u8> {
    hex::decode(text(v)).unwrap()
}

/// Holds one recorded election; returns a description of what differs.
fn replay(case: &Value) -> Result<(), String> {
    let mut world = World::new();
    world.services.push(Box::new(Sink { refuse: |_| false }));
    world.chain = ChainContext::parse(text(&case["chain_context"])).unwrap();
    world.config.allow_debug = case["debug"].as_bool().unwrap();
    world.last_height = case["last_height"].as_i64().unwrap();
    if !case["feature_26_1"].as_bool().unwrap() {
        world.params.feature_version = None;
    }
    for pair in case["before"].as_array().unwrap() {
        world.state.insert(&bytes(&pair[0]), &bytes(&pair[1])).unwrap();
    }
    let before: BTreeMap<_, _> = world.dump().into_iter().collect();
    let at = case["epoch"].as_u64().unwrap();
    let (result, events) = world.run(Mode::BeginBlock, |ctx| epoch::elect(ctx, at, true));
    forget(&mut world.state);
    let failed = !text(&case["error"]).is_empty();
    if result.is_err() != failed {
        return Err(format!("{result:?}, expected {:?}", case["error"]));
    }
    if failed {
        // Nothing is committed then.
        return Ok(());
    }
    let mut expected = before;
    for pair in case["after"].as_array().unwrap() {
        match &pair[1] {
            Value::Null => expected.remove(&bytes(&pair[0])),
            value => expected.insert(bytes(&pair[0]), bytes(value)),
        };
    }
    let found: BTreeMap<_, _> = world.dump().into_iter().collect();
    for key in expected.keys().chain(found.keys()) {
        let hex = |m: &BTreeMap<Vec<u8>, Vec<u8>>| m.get(key).map(hex::encode);
        if hex(&expected) != hex(&found) {
            return Err(format!("key {}: {:?}, expected {:?}", hex::encode(key), hex(&found), hex(&expected)));
        }
    }
    let events: Vec<(String, String)> = events
        .into_iter()
        .flat_map(|e| {
            let kind = e.kind;
            e.attributes.into_iter().map(move |a| (format!("{kind}/{}", a.key), a.value))
        })
        .collect();
    let expected: Vec<(String, String)> = case["events"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|pair| (text(&pair[0]).to_owned(), text(&pair[1]).to_owned()))
        .collect();
    if events != expected { Err(format!("events {events:?}, expected {expected:?}")) } else { Ok(()) }
}

#[test]
fn elections_are_as_recorded() {
    let path = paths::vectors_dir().join("consensus/elections.json.gz");
    let cases: Vec<Value> = serde_json::from_slice(&read(&path).unwrap()).unwrap();
    assert_eq!(cases.len(), 72);
    let failures: Vec<_> =
        cases.iter().filter_map(|case| replay(case).err().map(|e| format!("seed {}: {e}", case["seed"]))).collect();
    assert!(failures.is_empty(), "{} failed, first: {}", failures.len(), failures[0]);
}

fn key(i: u8) -> PublicKey {
    PublicKey::new([i; 32])
}

#[test]
fn only_changed_validators_are_reported() {
    let set = |list: &[(u8, i64)]| -> state::Validators {
        list.iter()
            .map(|(i, power)| (key(*i), Validator { id: key(*i), entity_id: key(100), voting_power: *power }))
            .collect()
    };
    type Case<'a> = (&'a [(u8, i64)], &'a [(u8, i64)], &'a [(u8, i64)]);
    let cases: [Case<'_>; 5] = [
        (&[(1, 5)], &[(1, 5)], &[]),
        (&[], &[(1, 5)], &[(1, 5)]),
        (&[(1, 5)], &[(1, 6)], &[(1, 6)]),
        (&[(1, 5)], &[], &[(1, 0)]),
        (&[(1, 5), (2, 5), (3, 5)], &[(2, 5), (3, 4), (4, 1)], &[(1, 0), (3, 4), (4, 1)]),
    ];
    for (current, pending, expected) in cases {
        let updates: Vec<_> =
            validators::diff(&set(current), &set(pending)).iter().map(|u| (u.pub_key[0], u.power)).collect();
        assert_eq!(updates, expected);
    }
}

#[test]
fn pending_validators_come_into_force_once() {
    let mut world = World::new();
    let pending: state::Validators = [(key(1), Validator { id: key(2), entity_id: key(3), voting_power: 7 })].into();
    state::set_pending_validators(&mut world.state, Some(&pending)).unwrap();
    let updates = world.run(Mode::EndBlock, validators::update).0.unwrap();
    assert_eq!(updates.len(), 1);
    assert_eq!(state::pending_validators(&world.state).unwrap(), None);
    assert_eq!(state::current_validators(&world.state).unwrap(), pending);
    assert!(world.run(Mode::EndBlock, validators::update).0.unwrap().is_empty());
}

#[test]
fn no_elections_in_the_first_epoch() {
    let mut world = World::new();
    world.put(&[0x40], &wire_consensus::beacon::EpochTimeState { epoch: 7, height: 1 });
    // With elections this would fail: the state has no parameters.
    world.run(Mode::BeginBlock, |ctx| epoch::begin_block(ctx, 7)).0.unwrap();
    // Neither does anything happen later without a new epoch or slashing.
    world.run(Mode::BeginBlock, |ctx| epoch::begin_block(ctx, 6)).0.unwrap();
    let slashed = wire_consensus::staking::TakeEscrowEvent::default();
    let result = world.run(Mode::BeginBlock, |ctx| {
        ctx.emit(apps_staking::NAME, &slashed);
        epoch::begin_block(ctx, 6)
    });
    assert!(result.0.is_err(), "slashing brings an election");
}

#[test]
fn forced_workers_take_their_places() {
    let node = |i| CommitteeNode { role: Role::WORKER, public_key: key(i) };
    let arrange = |forced: &[(u8, u64)], elected: &[u8]| {
        let forced = forced.iter().map(|(i, place)| (key(*i), *place)).collect();
        let elected = elected.iter().map(|i| node(*i)).collect();
        force::arrange(&forced, elected).map(|m| m.iter().map(|n| n.public_key.as_bytes()[0]).collect::<Vec<_>>())
    };
    assert_eq!(arrange(&[], &[3, 1, 2]), Some(vec![3, 1, 2]));
    assert_eq!(arrange(&[(3, 0)], &[3, 1, 2]), Some(vec![3, 1, 2]));
    assert_eq!(arrange(&[(3, 2)], &[3, 1, 2]), Some(vec![1, 2, 3]));
    assert_eq!(arrange(&[(1, 2), (3, 1)], &[1, 3, 2]), Some(vec![2, 3, 1]));
    assert_eq!(arrange(&[(1, 1), (3, 1)], &[1, 3, 2]), None, "two want one place");
    assert_eq!(arrange(&[(1, 3)], &[1, 3, 2]), None, "no such place");
    assert_eq!(arrange(&[(1, u64::MAX)], &[1]), None);
}

#[test]
fn parameters_change_when_addressed() {
    use apps_core::{Message, Reply};
    use base_codec::Raw;
    let mut world = World::new();
    let params = Parameters { min_validators: 1, max_validators: 10, ..Parameters::default() };
    state::set_parameters(&mut world.state, &params).unwrap();
    let changes = ParameterChanges {
        min_validators: Some(3),
        voting_power_distribution: Some(VotingPowerDistribution::SQRT),
        ..ParameterChanges::default()
    };
    let (good, empty) = (Raw::of(&changes), Raw::of(&ParameterChanges::default()));
    let absent = Raw::default();
    let unknown = Raw(b"\xa1\x61x\x01".to_vec());
    let mut send = |message| world.run(Mode::EndBlock, |ctx| messages::execute(ctx, &message)).0;
    assert_eq!(send(Message::ChangeParameters { module: "staking", changes: &good }), Ok(None));
    for changes in [&empty, &unknown, &absent] {
        let result = send(Message::ValidateParameterChanges { module: "scheduler", changes });
        assert!(matches!(&result, Err(e) if e.code() == ("unknown", 1)), "{result:?}");
    }
    assert_eq!(send(Message::ValidateParameterChanges { module: "scheduler", changes: &good }), Ok(Some(Reply::Done)));
    assert!(send(Message::StateSyncCompleted).is_err());
    assert_eq!(send(Message::ChangeParameters { module: "scheduler", changes: &good }), Ok(Some(Reply::Done)));
    let after = state::parameters(&world.state).unwrap();
    assert_eq!((after.min_validators, after.max_validators), (3, 10));
    assert_eq!(after.voting_power_distribution, VotingPowerDistribution::SQRT);
}

#[test]
fn committees_are_found_by_runtime() {
    use wire_consensus::scheduler::{Committee, CommitteeKind};
    let mut world = World::new();
    let id = |i: u8| Namespace::try_from(&[&[0; 31][..], &[i]].concat()[..]).unwrap();
    for i in 1..=3 {
        let committee = Committee { kind: CommitteeKind::COMPUTE_EXECUTOR, runtime_id: id(i), ..Committee::default() };
        state::set_committee(&mut world.state, &committee).unwrap();
    }
    state::drop_committee(&mut world.state, CommitteeKind::COMPUTE_EXECUTOR, &id(2)).unwrap();
    assert_eq!(super::query::committees(&world.state, None).unwrap().len(), 2);
    assert_eq!(super::query::runtime_committees(&world.state, &id(3)).unwrap().len(), 1);
    assert!(super::query::runtime_committees(&world.state, &id(2)).unwrap().is_empty());
    assert_ne!(Hash::EMPTY, id(1).hash());
}

/// Before feature version 26.1 elections looked at key manager runtimes too: without group sizes they lost their committee,
/// with group sizes they could get one.
#[test]
fn key_managers_are_skipped_since_26_1() {
    use wire_consensus::{
        registry::{Runtime, RuntimeKind},
        scheduler::{Committee, CommitteeKind},
    };
    for new in [false, true] {
        let mut world = World::new();
        if !new {
            world.params.feature_version = None;
        }
        let staking = wire_consensus::staking::Parameters::default();
        world.run(Mode::InitChain, |ctx| apps_staking::state::set_parameters(ctx, &staking)).0.unwrap();
        let runtime = Runtime { kind: RuntimeKind::KEY_MANAGER, ..Runtime::default() };
        let committee =
            Committee { kind: CommitteeKind::COMPUTE_EXECUTOR, runtime_id: runtime.id, ..Committee::default() };
        state::set_committee(&mut world.state, &committee).unwrap();
        world
            .run(Mode::BeginBlock, |ctx| {
                let mut election = epoch::Election {
                    epoch: 5,
                    params: Parameters::default(),
                    registry_params: Default::default(),
                    use_vrf: false,
                    vrf: Default::default(),
                    entropy: vec![1; 32],
                    stake: apps_staking::accumulator::StakeAccumulator::new(&ctx.state())?,
                    rewardable: Default::default(),
                    validators: Default::default(),
                    allow_debug: true,
                };
                super::committees::elect(ctx, &mut election, &runtime, &[])
            })
            .0
            .unwrap();
        let left = super::query::runtime_committees(&world.state, &runtime.id).unwrap();
        assert_eq!(left.len(), usize::from(new), "new rules: {new}");
    }
}
