//! Runtimes.

use super::*;

/// A compute runtime of entity 1 that begins in the next epoch.
pub(super) fn a_runtime(n: u8) -> Runtime {
    Runtime {
        v: 3,
        id: runtime_id(n),
        entity_id: key(1),
        kind: RuntimeKind::COMPUTE,
        executor: ExecutorParameters { group_size: 1, round_timeout: 5, ..ExecutorParameters::default() },
        txn_scheduler: TxnSchedulerParameters {
            batch_flush_timeout: 1_000_000_000,
            max_batch_size: 1,
            max_batch_size_bytes: 1024,
            max_in_messages: 0,
            proposer_timeout: 2_000_000_000,
        },
        admission_policy: RuntimeAdmissionPolicy {
            any_node: Some(Default::default()),
            ..RuntimeAdmissionPolicy::default()
        },
        governance_model: RuntimeGovernanceModel::ENTITY,
        deployments: vec![deployment(1, EPOCH + 1)],
        ..Runtime::default()
    }
}

pub(super) fn deployment(major: u16, valid_from: u64) -> Option<VersionInfo> {
    Some(VersionInfo { version: Version::new(major, 0, 0), valid_from, ..VersionInfo::default() })
}

type Case = (&'static str, fn(&mut Runtime), Option<&'static ErrorCode>);

#[test]
fn refusals() {
    const BAD: Option<&ErrorCode> = Some(&codes::INVALID_ARGUMENT);
    let cases: Vec<Case> = vec![
        ("version", |r| r.v = 2, BAD),
        ("kind", |r| r.kind = RuntimeKind(7), BAD),
        ("reserved bits of the id", |r| r.id = Namespace::from_bytes_unchecked([0x40; 32]), BAD),
        ("no workers", |r| r.executor.group_size = 0, BAD),
        ("stragglers", |r| r.executor.allowed_stragglers = 2, BAD),
        ("timeout", |r| r.executor.round_timeout = 0, BAD),
        ("live rounds", |r| r.executor.min_live_rounds_percent = 101, BAD),
        ("flush timeout", |r| r.txn_scheduler.batch_flush_timeout = 49_999_999, BAD),
        ("batch", |r| r.txn_scheduler.max_batch_size = 0, BAD),
        ("batch bytes", |r| r.txn_scheduler.max_batch_size_bytes = 1023, BAD),
        ("proposer timeout", |r| r.txn_scheduler.proposer_timeout = 999_999_999, BAD),
        ("timeouts", |r| r.txn_scheduler.batch_flush_timeout = 2_000_000_001, BAD),
        ("reward", |r| r.staking.reward_slash_bad_results_runtime_percent = 101, BAD),
        ("threshold", |r| r.staking.thresholds = [(ThresholdKind::NODE_KEY_MANAGER, q(1))].into(), BAD),
        ("no policy", |r| r.admission_policy.any_node = None, BAD),
        ("two policies", |r| r.admission_policy.per_role = Some([(Roles::COMPUTE, Default::default())].into()), BAD),
        ("model", |r| r.governance_model = RuntimeGovernanceModel(9), BAD),
        ("model not enabled", |r| r.governance_model = RuntimeGovernanceModel::CONSENSUS, Some(&codes::FORBIDDEN)),
        ("own key manager", |r| r.key_manager = Some(r.id), BAD),
        ("no such key manager", |r| r.key_manager = Some(runtime_id(9)), Some(&codes::NO_SUCH_RUNTIME)),
        ("reserved bits of the id", |r| r.id = Namespace::from_bytes_unchecked([0x80; 32]), BAD),
        ("hardware", |r| r.tee_hardware = wire_consensus::tee::TeeHardware(2), BAD),
        ("no constraints", |r| r.tee_hardware = wire_consensus::tee::TeeHardware::INTEL_SGX, BAD),
        ("no deployments", |r| r.deployments.clear(), BAD),
        ("null deployment", |r| r.deployments = vec![None], BAD),
        ("three deployments", |r| r.deployments = (1..4).map(|n| deployment(n, n.into())).collect(), BAD),
        ("same version", |r| r.deployments = vec![deployment(1, 1), deployment(1, 11)], BAD),
        ("falling versions", |r| r.deployments = vec![deployment(2, 1), deployment(1, 11)], BAD),
        ("two to come", |r| r.deployments = vec![deployment(1, 11), deployment(2, 12)], BAD),
        ("at once", |r| r.deployments = vec![deployment(1, EPOCH)], Some(&codes::RUNTIME_UPDATE_NOT_ALLOWED)),
        ("constraints", |r| r.deployments[0].as_mut().unwrap().tee = Some(Bytes(vec![1])), BAD),
        ("checksum", |r| r.deployments[0].as_mut().unwrap().bundle_checksum = Bytes(vec![1]), BAD),
        ("another's", |r| r.entity_id = key(2), Some(&codes::INCORRECT_TX_SIGNER)),
        ("a runtime's own", |r| r.governance_model = RuntimeGovernanceModel::RUNTIME, Some(&codes::FORBIDDEN)),
    ];
    for (what, change, expected) in cases {
        let mut world = world(&parameters());
        let mut runtime = a_runtime(1);
        change(&mut runtime);
        let before = world.dump();
        refused(call(&mut world, 1, METHOD_REGISTER_RUNTIME, &runtime).0, expected, what);
        assert_eq!(world.dump(), before, "{what}");
    }
    let mut off = world(&Parameters { disable_runtime_registration: true, ..parameters() });
    refused(call(&mut off, 1, METHOD_REGISTER_RUNTIME, &a_runtime(1)).0, Some(&codes::FORBIDDEN), "switched off");
    let mut poor = world(&parameters());
    let other = Runtime { entity_id: key(2), ..a_runtime(1) };
    refused(
        call(&mut poor, 2, METHOD_REGISTER_RUNTIME, &other).0,
        Some(&staking_codes::INSUFFICIENT_STAKE),
        "no stake",
    );
}

#[test]
fn other_services_may_refuse() {
    let mut world = world(&parameters());
    world.services = vec![Box::new(Sink { refuse: |m| matches!(m, Message::RuntimeUpdated(_)) })];
    let before = world.dump();
    refused(call(&mut world, 1, METHOD_REGISTER_RUNTIME, &a_runtime(1)).0, None, "refused by another service");
    assert_eq!(world.dump(), before);
}

#[test]
fn updates() {
    let mut world = world(&parameters());
    let (result, events) = call(&mut world, 1, METHOD_REGISTER_RUNTIME, &a_runtime(1));
    assert_eq!((result, kinds(&events)), (Ok(()), vec!["200_registry/runtime_started".to_owned()]));
    assert!(state::has_entity_runtimes(&world.state, &key(1)).unwrap());
    assert_eq!(claims(&world, 1), [format!("registry.RegisterRuntime.{}", runtime_id(1))]);
    world.put(&epoch::KEY_CURRENT, &EpochTimeState { epoch: EPOCH + 2, height: 5 });

    const NOT: Option<&ErrorCode> = Some(&codes::RUNTIME_UPDATE_NOT_ALLOWED);
    let cases: Vec<Case> = vec![
        ("genesis", |r| r.genesis.round = 1, NOT),
        ("active deployment", |r| r.deployments = vec![deployment(2, EPOCH + 1)], NOT),
        ("new one in the past", |r| r.deployments.push(deployment(2, EPOCH + 2)), NOT),
        ("removed", |r| r.deployments = vec![deployment(2, EPOCH + 3)], NOT),
    ];
    for (what, change, expected) in cases {
        let mut runtime = a_runtime(1);
        change(&mut runtime);
        refused(call(&mut world, 1, METHOD_REGISTER_RUNTIME, &runtime).0, expected, what);
    }
    let mut next = a_runtime(1);
    next.deployments.push(deployment(2, EPOCH + 3));
    assert_eq!(call(&mut world, 1, METHOD_REGISTER_RUNTIME, &next).0, Ok(()));

    // Handing the runtime to itself moves the claim, which it cannot cover without stake.
    let own = Runtime { governance_model: RuntimeGovernanceModel::RUNTIME, ..next.clone() };
    let result = call(&mut world, 1, METHOD_REGISTER_RUNTIME, &own).0;
    refused(result, Some(&staking_codes::INSUFFICIENT_STAKE), "no stake");
    let address = Address::of_runtime(&runtime_id(1));
    let mut account = staking::account(&world.state, &address).unwrap();
    account.escrow.active.balance = q(100);
    staking::set_account(&mut world.state, &address, &account).unwrap();
    assert_eq!(call(&mut world, 1, METHOD_REGISTER_RUNTIME, &own).0, Ok(()));
    assert!(claims(&world, 1).is_empty());
    refused(call(&mut world, 1, METHOD_REGISTER_RUNTIME, &own).0, Some(&codes::FORBIDDEN), "no longer the owner");

    // By message the runtime updates itself, suspended or not.
    world.run(Mode::EndBlock, |ctx| state::suspend_runtime(ctx, &runtime_id(1)).unwrap());
    let message =
        wire_consensus::roothash::message::RegistryMessage { update_runtime: Some(own.clone()), ..Default::default() };
    let (reply, events) = world.run(Mode::EndBlock, |ctx: &mut Context<'_>| {
        ctx.with_caller(address, |ctx| Registry.message(ctx, &Message::RuntimeRegistry(&message)))
    });
    assert_eq!(reply, Ok(Some(apps_core::Reply::Result(Raw::of(&own)))));
    assert!(events.is_empty());
    assert!(state::suspended_runtime(&world.state, &runtime_id(1)).unwrap().is_some());

    // The index of owners follows the entity.
    let moved = Runtime { entity_id: key(2), ..own };
    let message =
        wire_consensus::roothash::message::RegistryMessage { update_runtime: Some(moved), ..Default::default() };
    let (reply, _) = world.run(Mode::EndBlock, |ctx: &mut Context<'_>| {
        ctx.with_caller(address, |ctx| Registry.message(ctx, &Message::RuntimeRegistry(&message)))
    });
    assert!(reply.is_ok());
    assert!(!state::has_entity_runtimes(&world.state, &key(1)).unwrap());
    assert!(state::has_entity_runtimes(&world.state, &key(2)).unwrap());
}
