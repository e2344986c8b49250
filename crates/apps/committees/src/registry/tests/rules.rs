//! Every refusal of a registration, by rule, in the order of the checks: each row names code and reason.
//!
//! Rules that cannot be reached by a transaction have no row: an entity is looked up by the id that the node names, so it
//! cannot differ from it; of a registered runtime or node the id is the key under which it is found.

use rt_tee::SgxConstraints;
use wire_consensus::{
    node::CapabilityTee,
    registry::{EntityWhitelistRole, EntityWhitelistRoleConfig, PerRoleAdmissionPolicy, StorageParameters},
    tee::{TeeFeatures, TeeHardware},
};

use super::{
    nodes::{CONSENSUS, P2P, TLS, VRF, compute, register, sign_node, validator},
    runtimes::{a_runtime, deployment},
    *,
};

const BAD: &ErrorCode = &codes::INVALID_ARGUMENT;

/// The call failed with the code (none: without one) for the reason.
#[track_caller]
fn fails(result: Result<()>, code: Option<&ErrorCode>, reason: &str, what: &str) {
    let error = result.expect_err(what);
    assert!(error.to_string().contains(reason), "{what}: {error}\ninstead of: {reason}");
    refused(Err(error), code, what);
}

fn with_node() -> World {
    let mut world = world(&parameters());
    with_entity(&mut world);
    world
}

/// Signed by the five keys that the node names.
fn signed(node: &Node) -> MultiSignedNode {
    let keys = [node.id, node.consensus.id, node.vrf.id, node.tls.pub_key, node.p2p.id];
    let signers: Vec<u8> = (1..=60).filter(|n| keys.contains(&key(*n))).collect();
    sign_node(node, &signers)
}

#[test]
fn entities() {
    let mut world = world(&parameters());
    with_entity(&mut world);
    assert_eq!(call(&mut world, 1, METHOD_REGISTER_RUNTIME, &a_runtime(1)).0, Ok(()));
    let result = call(&mut world, 1, METHOD_DEREGISTER_ENTITY, &None::<u64>).0;
    fails(result, Some(&codes::ENTITY_HAS_RUNTIMES), "still has runtimes", "owns a runtime");
    // A null is an envelope of nothing, which nobody signed.
    for (what, body, code) in
        [("no envelope", Raw::of(&7u64), BAD), ("null", Raw::default(), &codes::INVALID_SIGNATURE)]
    {
        world.signer = key(1);
        let result = world.run(Mode::DeliverTx, |ctx| Registry.execute_tx(ctx, METHOD_REGISTER_ENTITY, &body)).0;
        fails(result, Some(code), "", what);
    }
    let entity = Entity { nodes: vec![key(11); 2], ..an_entity() };
    let result = call(&mut world, 1, METHOD_REGISTER_ENTITY, &signed_entity(&entity, 1)).0;
    fails(result, Some(BAD), "duplicate nodes", "doubled node");
    let result = call(&mut world, 1, METHOD_REGISTER_ENTITY, &signed_entity(&an_entity(), 2)).0;
    fails(result, Some(BAD), "entity not signed by itself", "signed by another");
    let entity = Entity { nodes: vec![PublicKey::new(base_crypto::blacklist::BURN)], ..an_entity() };
    let result = call(&mut world, 1, METHOD_REGISTER_ENTITY, &signed_entity(&entity, 1)).0;
    fails(result, Some(BAD), "malformed node id", "reserved node");
}

#[test]
fn nodes_by_themselves() {
    let reserved = || PublicKey::new(base_crypto::blacklist::BURN);
    let unroutable = || "10.0.0.1:1".parse::<node::NetAddress>().unwrap();
    let reserved_node = reserved();
    type Change = Box<dyn Fn(&mut Node)>;
    let roles = |roles: Roles| Box::new(move |n: &mut Node| n.roles = roles) as Change;
    let cases: Vec<(&str, Change)> = vec![
        ("malformed node software version", Box::new(|n| n.software_version = "x".repeat(129))),
        ("no roles specified", roles(Roles(0))),
        ("invalid role specified", roles(Roles(1 << 4))),
        ("invalid role specified", roles(Roles(1 << 6))),
        ("not found in entity's node list", Box::new(|n| n.id = key(15))),
        ("expiration period greater than allowed", Box::new(|n| n.expiration = EPOCH + 6)),
        ("missing runtimes", roles(Roles::COMPUTE)),
        ("missing runtimes", roles(Roles::OBSERVER)),
        ("missing runtimes", roles(Roles::KEY_MANAGER)),
        ("missing runtimes", roles(Roles::STORAGE_RPC)),
        ("invalid consensus ID", Box::new(move |n| n.consensus.id = reserved_node)),
        ("missing consensus address", Box::new(|n| n.consensus.addresses = None)),
        ("consensus address ID invalid", Box::new(move |n| n.consensus.addresses.as_mut().unwrap()[0].id = reserved())),
        ("address not routable", Box::new(move |n| n.consensus.addresses.as_mut().unwrap()[0].address = unroutable())),
        ("invalid VRF ID", Box::new(move |n| n.vrf.id = reserved())),
        ("invalid TLS public key", Box::new(move |n| n.tls.pub_key = reserved())),
        ("invalid P2P ID", Box::new(move |n| n.p2p.id = reserved())),
        ("missing node address", Box::new(|n| n.p2p.addresses = None)),
        ("address not routable", Box::new(move |n| n.p2p.addresses = Some(vec![unroutable()]))),
        ("address not global unicast", Box::new(|n| n.p2p.addresses = Some(vec!["224.0.0.1:1".parse().unwrap()]))),
        ("keys not unique", Box::new(|n| n.vrf.id = n.tls.pub_key)),
        ("keys not unique", Box::new(|n| n.p2p.id = n.consensus.id)),
    ];
    for (reason, change) in cases {
        let mut world = with_node();
        let mut node = validator(11);
        change(&mut node);
        let before = world.dump();
        let result = call(&mut world, 11, METHOD_REGISTER_NODE, &signed(&node)).0;
        fails(result, Some(BAD), reason, reason);
        assert_eq!(world.dump(), before, "{reason}");
    }
    let mut world = with_node();
    let garbage = MultiSigned { untrusted_raw_value: Some(Bytes(vec![1, 2, 3])), signatures: Some(Vec::new()) };
    fails(call(&mut world, 11, METHOD_REGISTER_NODE, &garbage).0, Some(BAD), "", "does not decode");
    // Roles other than the validator's need a P2P address too.
    state::set_runtime(&mut world.state, &a_runtime(1), false).unwrap();
    let mut node = compute(11, 1);
    node.p2p.addresses = None;
    fails(register(&mut world, 11, &node).0, Some(BAD), "missing node address", "compute");
    node.roles = Roles::OBSERVER;
    assert_eq!(register(&mut world, 11, &node).0, Ok(()), "observers need none");
}

#[test]
fn signatures_of_nodes() {
    let node = validator(11);
    for (missing, reason) in [
        (0, "not signed by node identity"),
        (CONSENSUS, "not signed by consensus ID"),
        (VRF, "not signed by VRF ID"),
        (TLS, "not signed by TLS public key"),
        (P2P, "not signed by P2P ID"),
    ] {
        let mut world = with_node();
        let signers: Vec<u8> = (0..=VRF).filter(|n| *n != missing).map(|n| 11 + n).collect();
        fails(call(&mut world, 11, METHOD_REGISTER_NODE, &sign_node(&node, &signers)).0, Some(BAD), reason, reason);
    }
    let mut world = with_node();
    let more = sign_node(&node, &[11, 12, 13, 14, 15, 16]);
    let result = call(&mut world, 11, METHOD_REGISTER_NODE, &more).0;
    fails(result, Some(BAD), "unexpected number of signatures", "one too many");
    // None of the four keys may be one of another node.
    assert_eq!(register(&mut world, 11, &validator(11)).0, Ok(()));
    let steal: [fn(&mut Node); 4] = [
        |n| n.consensus.id = key(11 + CONSENSUS),
        |n| n.p2p.id = key(11 + P2P),
        |n| n.tls.pub_key = key(11 + TLS),
        |n| n.vrf.id = key(11 + VRF),
    ];
    for change in steal {
        let mut thief = validator(21);
        change(&mut thief);
        let result = call(&mut world, 21, METHOD_REGISTER_NODE, &signed(&thief)).0;
        fails(result, Some(BAD), "key of another node", "stolen key");
    }
}

/// A key manager runtime, which is a test runtime without enclaves.
fn a_key_manager() -> Runtime {
    let mut id = [0; 32];
    id[0] = 0xc0;
    let id = Namespace::from_bytes_unchecked(id);
    Runtime { id, kind: RuntimeKind::KEY_MANAGER, ..a_runtime(1) }
}

fn enclaves() -> SgxConstraints {
    SgxConstraints { enclaves: vec![rt_tee::EnclaveIdentity::default()], ..SgxConstraints::default() }
}

/// Changes a deployment to one in enclaves.
fn in_enclaves(runtime: &mut Runtime, constraints: &SgxConstraints) {
    runtime.tee_hardware = TeeHardware::INTEL_SGX;
    for deployment in runtime.deployments.iter_mut().flatten() {
        deployment.tee = Some(Bytes(cbor::to_vec(constraints)));
    }
}

fn a_tee() -> CapabilityTee {
    CapabilityTee { hardware: TeeHardware::INTEL_SGX, ..CapabilityTee::default() }
}

#[test]
fn runtimes_of_nodes() {
    let mut sgx = a_runtime(2);
    in_enclaves(&mut sgx, &enclaves());
    let manager = a_key_manager();
    type Change = fn(&mut Node);
    let cases: [(&str, Option<&ErrorCode>, Change); 8] = [
        ("duplicate version", Some(BAD), |n| {
            let same = n.runtimes.as_ref().unwrap()[0].clone();
            n.runtimes.as_mut().unwrap().push(same);
        }),
        ("failed to lookup runtime", Some(&codes::NO_SUCH_RUNTIME), |n| {
            n.runtimes.as_mut().unwrap()[0].id = runtime_id(9);
        }),
        ("mismatches", Some(&codes::TEE_HARDWARE_MISMATCH), |n| n.runtimes.as_mut().unwrap()[0].id = runtime_id(2)),
        ("mismatches", Some(&codes::TEE_HARDWARE_MISMATCH), |n| {
            n.runtimes.as_mut().unwrap()[0].capabilities.tee = Some(a_tee());
        }),
        ("unknown runtime enclave version", Some(BAD), |n| {
            let runtime = &mut n.runtimes.as_mut().unwrap()[0];
            (runtime.id, runtime.version) = (runtime_id(2), Version::new(9, 0, 0));
            runtime.capabilities.tee = Some(a_tee());
        }),
        // Its attestation is empty.
        ("node: ", None, |n| {
            let runtime = &mut n.runtimes.as_mut().unwrap()[0];
            runtime.id = runtime_id(2);
            runtime.capabilities.tee = Some(a_tee());
        }),
        ("key manager runtime not allowed", Some(BAD), |n| n.runtimes.as_mut().unwrap()[0].id = a_key_manager().id),
        ("compute runtime not allowed", Some(BAD), |n| n.roles = Roles::KEY_MANAGER),
    ];
    for (reason, code, change) in cases {
        let mut world = with_node();
        for runtime in [&a_runtime(1), &sgx, &manager] {
            state::set_runtime(&mut world.state, runtime, false).unwrap();
        }
        let mut node = compute(11, 1);
        change(&mut node);
        let before = world.dump();
        fails(register(&mut world, 11, &node).0, code, reason, reason);
        assert_eq!(world.dump(), before, "{reason}");
    }
}

#[test]
fn admission() {
    let config = |max: &[(Roles, u16)]| EntityWhitelistConfig { max_nodes: max.iter().copied().collect() };
    let whitelist = |entries: Vec<(PublicKey, EntityWhitelistConfig)>| RuntimeAdmissionPolicy {
        entity_whitelist: Some(EntityWhitelist { entities: Some(entries.into_iter().collect()) }),
        ..RuntimeAdmissionPolicy::default()
    };
    let per_role = |role: Roles, entries: &[(PublicKey, u16)]| {
        let entities = entries.iter().map(|(k, max_nodes)| (*k, EntityWhitelistRoleConfig { max_nodes: *max_nodes }));
        let list = EntityWhitelistRole { entities: Some(entities.collect()) };
        let policy = PerRoleAdmissionPolicy { entity_whitelist: Some(list) };
        RuntimeAdmissionPolicy { per_role: Some([(role, policy)].into()), ..RuntimeAdmissionPolicy::default() }
    };
    // What the first and the second node of the entity get.
    let cases = [
        (
            "nobody listed",
            RuntimeAdmissionPolicy { entity_whitelist: Some(Default::default()), ..Default::default() },
            [false; 2],
        ),
        ("another entity", whitelist(vec![(key(2), config(&[]))]), [false; 2]),
        ("no limits", whitelist(vec![(key(1), config(&[]))]), [true; 2]),
        ("other role", whitelist(vec![(key(1), config(&[(Roles::OBSERVER, 1)]))]), [false; 2]),
        ("zero", whitelist(vec![(key(1), config(&[(Roles::COMPUTE, 0)]))]), [false; 2]),
        ("one", whitelist(vec![(key(1), config(&[(Roles::COMPUTE, 1)]))]), [true, false]),
        ("by role: another entity", per_role(Roles::COMPUTE, &[(key(2), 5)]), [false; 2]),
        ("by role: other role", per_role(Roles::OBSERVER, &[(key(2), 5)]), [true; 2]),
        ("by role: zero is no limit", per_role(Roles::COMPUTE, &[(key(1), 0)]), [true; 2]),
        ("by role: one", per_role(Roles::COMPUTE, &[(key(1), 1)]), [true, false]),
    ];
    for (what, policy, expected) in cases {
        let mut world = with_node();
        let runtime = Runtime { admission_policy: policy, ..a_runtime(1) };
        state::set_runtime(&mut world.state, &runtime, false).unwrap();
        for (n, admitted) in [11, 21].into_iter().zip(expected) {
            let result = register(&mut world, n, &compute(n, 1)).0;
            if admitted {
                assert_eq!(result, Ok(()), "{what}: node {n}");
            } else {
                fails(result, Some(&codes::FORBIDDEN), "forbidden by policy", what);
            }
        }
    }
}

#[test]
fn updates_of_nodes() {
    const NOT: &ErrorCode = &codes::NODE_UPDATE_NOT_ALLOWED;
    let started = |versions: &[(u16, u64)]| {
        let deployments = versions.iter().map(|(major, from)| deployment(*major, *from)).collect();
        Runtime { deployments, ..a_runtime(1) }
    };
    let versions = |majors: &[u16]| {
        let mut node = compute(11, 1);
        let first = node.runtimes.as_ref().unwrap()[0].clone();
        let list = majors.iter().map(|m| node::Runtime { version: Version::new(*m, 0, 0), ..first.clone() });
        node.runtimes = Some(list.collect());
        node
    };
    let roles = |roles| Node { roles, ..versions(&[1]) };
    let active_second = started(&[(1, 1), (2, EPOCH)]);
    let cases = [
        // The reference looks for any of the former roles, so one of several may go.
        (
            "one of two roles goes",
            active_second.clone(),
            roles(Roles::COMPUTE.with(Roles::VALIDATOR)),
            roles(Roles::COMPUTE),
            true,
        ),
        ("the only role goes", active_second.clone(), roles(Roles::COMPUTE), roles(Roles::OBSERVER), false),
        (
            "a role comes",
            active_second.clone(),
            roles(Roles::COMPUTE),
            roles(Roles::COMPUTE.with(Roles::OBSERVER)),
            true,
        ),
        ("an old version goes", active_second.clone(), versions(&[1, 2]), versions(&[2]), true),
        ("the active version goes", active_second.clone(), versions(&[1, 2]), versions(&[1]), false),
        ("a coming version goes", started(&[(1, 1), (2, EPOCH + 1)]), versions(&[1, 2]), versions(&[1]), false),
        ("a version that is not deployed goes", active_second, versions(&[2, 7]), versions(&[2]), true),
        ("no version is active", started(&[(1, EPOCH + 1)]), versions(&[1, 2]), versions(&[2]), true),
    ];
    for (what, runtime, before, after, allowed) in cases {
        let mut world = with_node();
        state::set_runtime(&mut world.state, &runtime, false).unwrap();
        assert_eq!(register(&mut world, 11, &before).0, Ok(()), "{what}");
        let result = register(&mut world, 11, &after).0;
        if allowed {
            assert_eq!(result, Ok(()), "{what}");
        } else {
            fails(result, Some(NOT), "not allowed", what);
        }
    }
    let mut world = with_node();
    state::set_runtime(&mut world.state, &a_runtime(1), false).unwrap();
    assert_eq!(register(&mut world, 11, &compute(11, 1)).0, Ok(()));
    fails(register(&mut world, 11, &validator(11)).0, Some(NOT), "not allowed", "role and runtime go");
    // The entity stays.
    let entity = Entity { id: key(2), nodes: vec![key(11)], ..an_entity() };
    state::set_entity(&mut world.state, &key(2), &signed_entity(&entity, 2)).unwrap();
    let mut account = staking::account(&world.state, &Address::of_key(&key(2))).unwrap();
    account.escrow.active.balance = q(1000);
    staking::set_account(&mut world.state, &Address::of_key(&key(2)), &account).unwrap();
    let moved = Node { entity_id: key(2), ..compute(11, 1) };
    fails(register(&mut world, 11, &moved).0, Some(NOT), "not allowed", "another entity");
    // So does the hardware.
    let current = compute(11, 1);
    let mut other = current.clone();
    other.runtimes.as_mut().unwrap()[0].capabilities.tee = Some(a_tee());
    let lookup = super::super::verify::StateLookup(&world.state);
    let result = super::super::verify::node_update(&lookup, &current, &other, EPOCH);
    fails(result, Some(NOT), "not allowed", "other hardware");
    // Once expired, everything but entity and consensus key may change.
    world.put(&epoch::KEY_CURRENT, &EpochTimeState { epoch: EPOCH + 4, height: 5 });
    let late = Node { expiration: EPOCH + 6, ..validator(11) };
    assert_eq!(register(&mut world, 11, &late).0, Ok(()));
}

#[test]
fn runtimes_by_themselves() {
    type Change = fn(&mut Runtime);
    let cases: [(&str, Change); 37] = [
        ("invalid runtime descriptor version", |r| r.v = 2),
        ("bad runtime kind", |r| r.kind = RuntimeKind(7)),
        ("has the key manager flag set", |r| r.id = a_key_manager().id),
        ("self as key manager", |r| r.key_manager = Some(r.id)),
        ("executor primary group too small", |r| r.executor.group_size = 0),
        ("allowed stragglers too large", |r| r.executor.allowed_stragglers = 2),
        ("allowed stragglers too large", |r| {
            (r.executor.group_size, r.executor.group_backup_size, r.executor.allowed_stragglers) = (3, 1, 2);
        }),
        ("round timeout too small", |r| r.executor.round_timeout = 0),
        ("minimum live rounds percentage", |r| r.executor.min_live_rounds_percent = 101),
        ("batch flush timeout parameter too small", |r| r.txn_scheduler.batch_flush_timeout = 49_999_999),
        ("max batch size parameter too small", |r| r.txn_scheduler.max_batch_size = 0),
        ("max batch bytes size parameter too small", |r| r.txn_scheduler.max_batch_size_bytes = 1023),
        ("proposer timeout parameter too small", |r| r.txn_scheduler.proposer_timeout = 999_999_999),
        ("greater than proposer timeout", |r| r.txn_scheduler.batch_flush_timeout = 2_000_000_001),
        ("CheckpointInterval parameter too small", |r| r.storage = storage(9, 1, 1 << 20)),
        ("CheckpointNumKept parameter too small", |r| r.storage = storage(10, 0, 1 << 20)),
        ("CheckpointChunkSize parameter too small", |r| r.storage = storage(10, 1, (1 << 20) - 1)),
        ("slashing for equivocation", |r| r.staking.reward_slash_equivocation_runtime_percent = 101),
        ("slashing for bad results", |r| r.staking.reward_slash_bad_results_runtime_percent = 101),
        ("unsupported staking threshold kind", |r| {
            r.staking.thresholds = [(ThresholdKind::NODE_KEY_MANAGER, q(1))].into();
        }),
        ("invalid admission policy", |r| r.admission_policy.any_node = None),
        ("invalid admission policy", |r| {
            r.admission_policy.per_role = Some([(Roles::COMPUTE, PerRoleAdmissionPolicy::default())].into());
        }),
        ("non-single role in entity whitelist", |r| {
            let config = EntityWhitelistConfig { max_nodes: [(Roles::COMPUTE.with(Roles::OBSERVER), 1)].into() };
            r.admission_policy = RuntimeAdmissionPolicy {
                entity_whitelist: Some(EntityWhitelist { entities: Some([(key(1), config)].into()) }),
                ..RuntimeAdmissionPolicy::default()
            };
        }),
        ("non-single role in per-role", |r| {
            let both = Roles::COMPUTE.with(Roles::OBSERVER);
            r.admission_policy = RuntimeAdmissionPolicy {
                per_role: Some([(both, PerRoleAdmissionPolicy::default())].into()),
                ..RuntimeAdmissionPolicy::default()
            };
        }),
        ("invalid entity ID in entity whitelist", |r| {
            let nobody = PublicKey::new(base_crypto::blacklist::BURN);
            r.admission_policy = RuntimeAdmissionPolicy {
                entity_whitelist: Some(EntityWhitelist { entities: Some([(nobody, Default::default())].into()) }),
                ..RuntimeAdmissionPolicy::default()
            };
        }),
        ("unsupported runtime governance model", |r| r.governance_model = RuntimeGovernanceModel(9)),
        ("no deployment information", |r| r.deployments.clear()),
        ("test runtime not allowed", |r| {
            let mut id = [0; 32];
            id[0] = 0x80;
            r.id = Namespace::from_bytes_unchecked(id);
        }),
        ("invalid TEE hardware", |r| r.tee_hardware = TeeHardware(2)),
        ("too many deployments", |r| r.deployments = (1..4).map(|n| deployment(n, n.into())).collect()),
        ("nil deployment", |r| r.deployments = vec![None]),
        ("duplicate version", |r| r.deployments = vec![deployment(1, 1), deployment(1, 11)]),
        ("versions must increase", |r| r.deployments = vec![deployment(2, 1), deployment(1, 11)]),
        ("TEE constraints when no TEE", |r| r.deployments[0].as_mut().unwrap().tee = Some(Bytes(vec![1]))),
        ("invalid SGX TEE constraints", |r| r.tee_hardware = TeeHardware::INTEL_SGX),
        ("invalid bundle checksum", |r| r.deployments[0].as_mut().unwrap().bundle_checksum = Bytes(vec![1])),
        ("more than one future deployment", |r| r.deployments = vec![deployment(1, 11), deployment(2, 12)]),
    ];
    for (reason, change) in cases {
        let mut world = world(&parameters());
        world.config.allow_debug = false;
        let mut runtime = a_runtime(1);
        change(&mut runtime);
        let before = world.dump();
        fails(call(&mut world, 1, METHOD_REGISTER_RUNTIME, &runtime).0, Some(BAD), reason, reason);
        assert_eq!(world.dump(), before, "{reason}");
    }
    let mut without = a_runtime(1);
    in_enclaves(&mut without, &SgxConstraints::default());
    let mut world = world(&parameters());
    let result = call(&mut world, 1, METHOD_REGISTER_RUNTIME, &without).0;
    fails(result, Some(&codes::NO_ENCLAVE_FOR_RUNTIME), "invalid SGX TEE constraints", "no enclaves");
    // Checkpoints are not looked at where debug options are allowed.
    let mut often = a_runtime(1);
    often.storage = storage(1, 0, 0);
    assert_eq!(call(&mut world, 1, METHOD_REGISTER_RUNTIME, &often).0, Ok(()));
}

fn storage(interval: u64, kept: u64, chunk: u64) -> StorageParameters {
    StorageParameters { checkpoint_interval: interval, checkpoint_num_kept: kept, checkpoint_chunk_size: chunk }
}

#[test]
fn key_managers() {
    let params = Parameters { debug_allow_test_runtimes: true, ..parameters() };
    type Change = fn(&mut Runtime);
    let cases: [(&str, &ErrorCode, Change); 5] = [
        ("does not have the key manager flag", BAD, |r| r.id = runtime_id(1)),
        ("cannot itself have a key manager", BAD, |r| r.key_manager = Some(runtime_id(1))),
        ("non-SGX keymanager runtime", BAD, |r| {
            let mut id = [0; 32];
            id[0] = 0x40;
            r.id = Namespace::from_bytes_unchecked(id);
        }),
        ("only be used with compute runtimes", BAD, |r| r.governance_model = RuntimeGovernanceModel::RUNTIME),
        ("unsupported staking threshold kind", BAD, |r| {
            r.staking.thresholds = [(ThresholdKind::NODE_COMPUTE, q(1))].into();
        }),
    ];
    for (reason, code, change) in cases {
        let mut world = world(&params);
        let mut manager = a_key_manager();
        change(&mut manager);
        fails(call(&mut world, 1, METHOD_REGISTER_RUNTIME, &manager).0, Some(code), reason, reason);
    }
    let mut off = world(&Parameters { disable_key_manager_runtime_registration: true, ..params.clone() });
    let result = call(&mut off, 1, METHOD_REGISTER_RUNTIME, &a_key_manager()).0;
    fails(result, Some(&codes::FORBIDDEN), "", "switched off");
    assert_eq!(call(&mut off, 1, METHOD_REGISTER_RUNTIME, &a_runtime(1)).0, Ok(()), "compute runtimes still may");

    // The key manager that a compute runtime names.
    let mut world = world(&params);
    let named = Runtime { key_manager: Some(a_key_manager().id), ..a_runtime(1) };
    let result = call(&mut world, 1, METHOD_REGISTER_RUNTIME, &named).0;
    fails(result, Some(&codes::NO_SUCH_RUNTIME), "", "no such key manager");
    assert_eq!(call(&mut world, 1, METHOD_REGISTER_RUNTIME, &a_key_manager()).0, Ok(()));
    let result = call(&mut world, 1, METHOD_REGISTER_RUNTIME, &named).0;
    fails(result, Some(BAD), "without SGX using key manager", "no enclaves");
    assert_eq!(call(&mut world, 1, METHOD_REGISTER_RUNTIME, &a_runtime(2)).0, Ok(()));
    let odd = Runtime { key_manager: Some(runtime_id(2)), ..a_runtime(1) };
    fails(call(&mut world, 1, METHOD_REGISTER_RUNTIME, &odd).0, Some(BAD), "", "no key manager");
}

#[test]
fn who_may_register_runtimes() {
    let mut every = parameters();
    every.enable_runtime_governance_models.insert(RuntimeGovernanceModel::CONSENSUS, true);
    let by = |model| Runtime { governance_model: model, ..a_runtime(1) };
    for (what, params, sender, runtime, code, reason) in [
        (
            "no models",
            Parameters { enable_runtime_governance_models: Default::default(), ..parameters() },
            1,
            by(RuntimeGovernanceModel::ENTITY),
            &codes::FORBIDDEN,
            "no runtime governance models",
        ),
        ("model", parameters(), 1, by(RuntimeGovernanceModel::CONSENSUS), &codes::FORBIDDEN, "not enabled"),
        (
            "switched off",
            Parameters { disable_runtime_registration: true, ..parameters() },
            1,
            by(RuntimeGovernanceModel::ENTITY),
            &codes::FORBIDDEN,
            "",
        ),
        ("another sender", every.clone(), 2, by(RuntimeGovernanceModel::ENTITY), &codes::INCORRECT_TX_SIGNER, ""),
        ("a runtime's own", every.clone(), 1, by(RuntimeGovernanceModel::RUNTIME), &codes::FORBIDDEN, ""),
        ("the network's", every.clone(), 1, by(RuntimeGovernanceModel::CONSENSUS), &codes::FORBIDDEN, ""),
        (
            "at once",
            every,
            1,
            Runtime { deployments: vec![deployment(1, EPOCH)], ..a_runtime(1) },
            &codes::RUNTIME_UPDATE_NOT_ALLOWED,
            "",
        ),
    ] {
        let mut world = world(&params);
        let before = world.dump();
        fails(call(&mut world, sender, METHOD_REGISTER_RUNTIME, &runtime).0, Some(code), reason, what);
        assert_eq!(world.dump(), before, "{what}");
    }
    let mut debug = world(&Parameters { debug_deploy_immediately: true, ..parameters() });
    let now = Runtime { deployments: vec![deployment(1, EPOCH)], ..a_runtime(1) };
    assert_eq!(call(&mut debug, 1, METHOD_REGISTER_RUNTIME, &now).0, Ok(()));
    // The owner by the existing descriptor decides.
    let other = Runtime { entity_id: key(2), ..now };
    fails(
        call(&mut debug, 2, METHOD_REGISTER_RUNTIME, &other).0,
        Some(&codes::INCORRECT_TX_SIGNER),
        "",
        "taken by another",
    );
}

#[test]
fn updates_of_runtimes() {
    let params = Parameters {
        debug_allow_test_runtimes: true,
        enable_runtime_governance_models: [
            (RuntimeGovernanceModel::ENTITY, true),
            (RuntimeGovernanceModel::RUNTIME, true),
            (RuntimeGovernanceModel::CONSENSUS, true),
        ]
        .into(),
        ..parameters()
    };
    let test_id = |n: u8| {
        let mut id = [0; 32];
        (id[0], id[31]) = (0x80, n);
        Namespace::from_bytes_unchecked(id)
    };
    type Change = fn(&mut Runtime);
    // Registered two epochs ago with version 1 active and version 2 to come.
    let cases: [(&str, Change); 9] = [
        ("kind", |r| (r.kind, r.key_manager, r.id) = (RuntimeKind::KEY_MANAGER, None, r.id)),
        ("genesis", |r| r.genesis.round = 1),
        ("key manager goes", |r| r.key_manager = None),
        ("key manager changes", |r| r.key_manager = Some(second_manager().id)),
        ("to the network", |r| r.governance_model = RuntimeGovernanceModel::CONSENSUS),
        ("active deployment changes", |r| r.deployments[0].as_mut().unwrap().bundle_checksum = Bytes(vec![7; 32])),
        ("active deployment goes", |r| drop(r.deployments.remove(0))),
        ("coming deployment moves to now", |r| r.deployments[1].as_mut().unwrap().valid_from = EPOCH + 2),
        ("new deployment in the past", |r| r.deployments[1] = deployment(3, EPOCH + 2)),
    ];
    let mut base = world(&params);
    let mut rich = staking::account(&base.state, &Address::of_key(&key(1))).unwrap();
    rich.escrow.active.balance = q(100_000);
    staking::set_account(&mut base.state, &Address::of_key(&key(1)), &rich).unwrap();
    for manager in [a_key_manager(), second_manager()] {
        assert_eq!(call(&mut base, 1, METHOD_REGISTER_RUNTIME, &manager).0, Ok(()));
    }
    let mut runtime = a_runtime(1);
    runtime.id = test_id(1);
    assert_eq!(call(&mut base, 1, METHOD_REGISTER_RUNTIME, &runtime).0, Ok(()));
    // A key manager can be added.
    runtime.key_manager = Some(a_key_manager().id);
    assert_eq!(call(&mut base, 1, METHOD_REGISTER_RUNTIME, &runtime).0, Ok(()));
    base.put(&epoch::KEY_CURRENT, &EpochTimeState { epoch: EPOCH + 2, height: 5 });
    runtime.deployments.push(deployment(2, EPOCH + 4));
    assert_eq!(call(&mut base, 1, METHOD_REGISTER_RUNTIME, &runtime).0, Ok(()));
    for (what, change) in cases {
        let mut changed = runtime.clone();
        change(&mut changed);
        let before = base.dump();
        let result = call(&mut base, 1, METHOD_REGISTER_RUNTIME, &changed).0;
        match what {
            // The kind is in the id, which a descriptor of the other kind cannot have.
            "kind" => fails(result, Some(BAD), "key manager flag", what),
            _ => fails(result, Some(&codes::RUNTIME_UPDATE_NOT_ALLOWED), "not allowed", what),
        }
        assert_eq!(base.dump(), before, "{what}");
    }
    // What belongs to the network is changed by nobody.
    let own = Runtime { governance_model: RuntimeGovernanceModel::CONSENSUS, ..runtime.clone() };
    state::set_runtime(&mut base.state, &own, false).unwrap();
    let result = call(&mut base, 1, METHOD_REGISTER_RUNTIME, &own).0;
    fails(result, Some(&codes::FORBIDDEN), "", "the network's");
    // A runtime that governs itself does not go back to its entity.
    let own = Runtime { governance_model: RuntimeGovernanceModel::RUNTIME, ..runtime.clone() };
    state::set_runtime(&mut base.state, &own, false).unwrap();
    let result = call(&mut base, 1, METHOD_REGISTER_RUNTIME, &runtime).0;
    fails(result, Some(&codes::RUNTIME_UPDATE_NOT_ALLOWED), "not allowed", "back to the entity");
}

fn second_manager() -> Runtime {
    let mut id = [0; 32];
    (id[0], id[31]) = (0xc0, 2);
    Runtime { id: Namespace::from_bytes_unchecked(id), ..a_key_manager() }
}

#[test]
fn stake_for_each_kind() {
    // Entity, node and runtime need 100 each.
    for (have, entity, node, runtime) in
        [(99, false, false, false), (100, true, false, false), (299, true, true, false)]
    {
        let mut world = world(&parameters());
        let owner = Address::of_key(&key(1));
        let mut account = staking::account(&world.state, &owner).unwrap();
        account.escrow.active.balance = q(have);
        staking::set_account(&mut world.state, &owner, &account).unwrap();
        let check = |result: Result<()>, enough: bool, what: &str| match enough {
            true => assert_eq!(result, Ok(()), "{what} with {have}"),
            false => fails(result, Some(&staking_codes::INSUFFICIENT_STAKE), "", what),
        };
        check(call(&mut world, 1, METHOD_REGISTER_ENTITY, &signed_entity(&an_entity(), 1)).0, entity, "entity");
        if entity {
            check(register(&mut world, 11, &validator(11)).0, node, "node");
            check(call(&mut world, 1, METHOD_REGISTER_RUNTIME, &a_runtime(1)).0, runtime, "runtime");
        }
    }
}

#[test]
fn features_are_those_of_the_parameters() {
    // Constraints of version 1 need collateral to be supported.
    let v1 = SgxConstraints { v: 1, ..enclaves() };
    for (pcs, allowed) in [(false, false), (true, true)] {
        let mut features = TeeFeatures::default();
        features.sgx.pcs = pcs;
        let mut world = world(&Parameters { tee_features: Some(features), ..parameters() });
        let mut runtime = a_runtime(1);
        in_enclaves(&mut runtime, &v1);
        let result = call(&mut world, 1, METHOD_REGISTER_RUNTIME, &runtime).0;
        if allowed {
            assert_eq!(result, Ok(()));
        } else {
            fails(result, Some(BAD), "invalid SGX TEE constraints", "version 1");
        }
    }
}
