//! Tests of what recorded chains do not reach: refusals of registrations, update rules, expiration.

use apps_core::{Context, Error, Message, MessageKind, Mode, Result, Service, epoch, kv};
use apps_staking::state as staking;
use base_codec::{Bytes, Raw, cbor};
use base_crypto::{context, ed25519::SecretKey};
use base_prims::{Address, EPOCH_INVALID, Namespace, PublicKey, Quantity, RawSignature, Version};
use comet_chain::app::Event;
use wire_consensus::{
    beacon::{self, EpochTimeState},
    entity::{self, Entity},
    errors::{ErrorCode, registry as codes, staking as staking_codes},
    node::{
        self, Capabilities, ConsensusAddress, ConsensusInfo, MultiSignedNode, Node, P2pInfo, Roles, TlsInfo, VrfInfo,
    },
    registry::{
        EntityWhitelist, EntityWhitelistConfig, ExecutorParameters, METHOD_DEREGISTER_ENTITY, METHOD_PROVE_FRESHNESS,
        METHOD_REGISTER_ENTITY, METHOD_REGISTER_NODE, METHOD_REGISTER_RUNTIME, METHOD_UNFREEZE_NODE, Parameters,
        Runtime, RuntimeAdmissionPolicy, RuntimeGovernanceModel, RuntimeKind, TxnSchedulerParameters, UnfreezeNode,
        VersionInfo,
    },
    signed::{MultiSigned, Signature, Signed},
    staking::{REQUIRED_THRESHOLDS, ThresholdKind},
};

use super::{Registry, state};
use crate::testing::{Sink, World, kinds};

mod nodes;
mod rules;
mod runtimes;
mod versions;

const EPOCH: u64 = 10;

fn secret(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

fn key(n: u8) -> PublicKey {
    PublicKey::new(secret(n).public())
}

fn q(n: u64) -> Quantity {
    n.into()
}

fn runtime_id(n: u8) -> Namespace {
    let mut bytes = [0; 32];
    bytes[31] = n;
    Namespace::from_bytes_unchecked(bytes)
}

fn sign(context: &context::Context, signer: u8, blob: &[u8]) -> Signature {
    let prepared = context::prepare(context, None, None, blob).unwrap();
    Signature { public_key: key(signer), signature: RawSignature::new(secret(signer).sign(&prepared)) }
}

/// Parameters without debug options, which cost gas for everything.
fn parameters() -> Parameters {
    Parameters {
        max_node_expiration: 5,
        enable_runtime_governance_models: [
            (RuntimeGovernanceModel::ENTITY, true),
            (RuntimeGovernanceModel::RUNTIME, true),
        ]
        .into(),
        ..Parameters::default()
    }
}

/// Epoch 10; entity 1 with 1000 tokens of stake, of which each kind of registration needs 100.
fn world(params: &Parameters) -> World {
    let mut world = World::new();
    world.services = vec![Box::new(Sink { refuse: |_| false })];
    world.put(&epoch::KEY_CURRENT, &EpochTimeState { epoch: EPOCH, height: 5 });
    let beacon = beacon::Parameters { backend: beacon::BACKEND_VRF.to_owned(), ..beacon::Parameters::default() };
    world.put(&[0x43], &beacon);
    let (result, _) = world.run(Mode::InitChain, |ctx| {
        let staking_params = wire_consensus::staking::Parameters {
            thresholds: REQUIRED_THRESHOLDS.into_iter().map(|k| (k, q(100))).collect(),
            debonding_interval: 2,
            ..Default::default()
        };
        staking::set_parameters(ctx, &staking_params)?;
        state::set_parameters(ctx, params)?;
        let owner = Address::of_key(&key(1));
        let mut account = staking::account(&ctx.state(), &owner)?;
        account.escrow.active.balance = q(1000);
        account.escrow.active.total_shares = q(1000);
        staking::set_account(&mut ctx.state(), &owner, &account)
    });
    result.unwrap();
    world
}

/// Executes a method as the key `n`.
fn call<T: cbor::Encode>(world: &mut World, n: u8, method: &str, body: &T) -> (Result<()>, Vec<Event>) {
    world.signer = key(n);
    let body = Raw::of(body);
    world.run(Mode::DeliverTx, |ctx| Registry.execute_tx(ctx, method, &body))
}

#[track_caller]
fn refused(result: Result<()>, expected: Option<&ErrorCode>, what: &str) {
    match (result, expected) {
        (Err(Error::Coded(code, _)), Some(expected)) => assert_eq!(code, expected, "{what}"),
        (Err(Error::Uncoded(_)), None) => {}
        (other, expected) => panic!("{what}: {other:?} instead of {expected:?}"),
    }
}

fn signed_entity(entity: &Entity, signer: u8) -> Signed {
    let blob = cbor::to_vec(entity);
    let signature = sign(entity::REGISTER_CONTEXT, signer, &blob);
    Signed { untrusted_raw_value: Some(Bytes(blob)), signature }
}

fn an_entity() -> Entity {
    Entity { v: entity::LATEST_VERSION, id: key(1), nodes: vec![key(11), key(21), key(31)] }
}

/// Registers entity 1.
fn with_entity(world: &mut World) {
    assert_eq!(call(world, 1, METHOD_REGISTER_ENTITY, &signed_entity(&an_entity(), 1)).0, Ok(()));
}

fn claims(world: &World, n: u8) -> Vec<String> {
    let account = staking::account(&world.state, &Address::of_key(&key(n))).unwrap();
    account.escrow.stake_accumulator.claims.into_keys().collect()
}

#[test]
fn entities() {
    let mut world = world(&parameters());
    let good = an_entity();
    let reserved = PublicKey::new(base_crypto::blacklist::BURN);
    for (what, signer, signed, expected) in [
        // It does not decode, which is told as a bad signature.
        ("unknown version", 1, signed_entity(&Entity { v: 3, ..good.clone() }, 1), &codes::INVALID_SIGNATURE),
        ("other key", 1, signed_entity(&good, 2), &codes::INVALID_ARGUMENT),
        ("other sender", 2, signed_entity(&good, 1), &codes::INCORRECT_TX_SIGNER),
        (
            "doubled node",
            1,
            signed_entity(&Entity { nodes: vec![key(11), key(11)], ..good.clone() }, 1),
            &codes::INVALID_ARGUMENT,
        ),
        (
            "reserved node",
            1,
            signed_entity(&Entity { nodes: vec![reserved], ..good.clone() }, 1),
            &codes::INVALID_ARGUMENT,
        ),
        ("no stake", 2, signed_entity(&Entity { id: key(2), ..good.clone() }, 2), &staking_codes::INSUFFICIENT_STAKE),
    ] {
        refused(call(&mut world, signer, METHOD_REGISTER_ENTITY, &signed).0, Some(expected), what);
    }
    let mut forged = signed_entity(&good, 1);
    forged.untrusted_raw_value = Some(Bytes(cbor::to_vec(&Entity { nodes: vec![], ..good })));
    refused(call(&mut world, 1, METHOD_REGISTER_ENTITY, &forged).0, Some(&codes::INVALID_SIGNATURE), "forged");
    refused(call(&mut world, 1, METHOD_DEREGISTER_ENTITY, &None::<u64>).0, Some(&codes::NO_SUCH_ENTITY), "not there");

    with_entity(&mut world);
    assert_eq!(claims(&world, 1), ["registry.RegisterEntity"]);
    let (result, events) = call(&mut world, 1, METHOD_DEREGISTER_ENTITY, &None::<u64>);
    assert_eq!((result, kinds(&events)), (Ok(()), vec!["200_registry/entity".to_owned()]));
    assert!(claims(&world, 1).is_empty() && state::entities(&world.state).unwrap().is_empty());
}

#[test]
fn proofs_of_freshness() {
    let mut params = parameters();
    let mut off = world(&params);
    let blob = Bytes(vec![1; 32]);
    refused(call(&mut off, 1, METHOD_PROVE_FRESHNESS, &blob).0, Some(&codes::INVALID_ARGUMENT), "switched off");
    params.tee_features = Some(wire_consensus::tee::TeeFeatures { freshness_proofs: true, ..Default::default() });
    let mut on = world(&params);
    assert_eq!(call(&mut on, 1, METHOD_PROVE_FRESHNESS, &blob).0, Ok(()));
    // The reference cuts and fills byte strings of another length.
    assert_eq!(call(&mut on, 1, METHOD_PROVE_FRESHNESS, &Bytes(vec![1; 5])).0, Ok(()));
    refused(call(&mut on, 1, METHOD_PROVE_FRESHNESS, &7u64).0, Some(&codes::INVALID_ARGUMENT), "no bytes");
}

#[test]
fn changes_of_parameters() {
    use wire_consensus::registry::ParameterChanges;
    let mut world = world(&parameters());
    let mut send = |changes: &ParameterChanges| {
        let changes = Raw::of(changes);
        let message = Message::ChangeParameters { module: "registry", changes: &changes };
        assert!(Registry.handles(MessageKind::ChangeParameters));
        world.run(Mode::EndBlock, |ctx| Registry.message(ctx, &message)).0.map(drop)
    };
    refused(send(&ParameterChanges::default()), None, "empty");
    // The reference forgets this field when it looks for changes.
    let deployments = ParameterChanges { max_runtime_deployments: Some(9), ..ParameterChanges::default() };
    refused(send(&deployments), None, "deployments alone");
    let both = ParameterChanges { max_node_expiration: Some(3), ..deployments };
    assert_eq!(send(&both), Ok(()));
    let params = state::parameters(&world.state).unwrap();
    assert_eq!((params.max_node_expiration, params.max_runtime_deployments), (3, 9));
}
