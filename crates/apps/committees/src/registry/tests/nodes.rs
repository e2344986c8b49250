//! Nodes.

use super::*;

pub(super) const CONSENSUS: u8 = 1;
pub(super) const P2P: u8 = 2;
pub(super) const TLS: u8 = 3;
pub(super) const VRF: u8 = 4;

/// A validator of entity 1, whose keys are `n` and the four after it.
pub(super) fn validator(n: u8) -> Node {
    let address: node::NetAddress = "8.8.8.8:26656".parse().unwrap();
    Node {
        v: node::LATEST_VERSION,
        id: key(n),
        entity_id: key(1),
        expiration: EPOCH + 3,
        tls: TlsInfo { pub_key: key(n + TLS) },
        p2p: P2pInfo { id: key(n + P2P), addresses: Some(vec![address.clone()]) },
        consensus: ConsensusInfo {
            id: key(n + CONSENSUS),
            addresses: Some(vec![ConsensusAddress { id: key(n + CONSENSUS), address }]),
        },
        vrf: VrfInfo { id: key(n + VRF) },
        runtimes: None,
        roles: Roles::VALIDATOR,
        software_version: "1".to_owned(),
    }
}

pub(super) fn sign_node(node: &Node, signers: &[u8]) -> MultiSignedNode {
    let blob = cbor::to_vec(node);
    let signatures = signers.iter().map(|s| sign(node::REGISTER_CONTEXT, *s, &blob)).collect();
    MultiSigned { untrusted_raw_value: Some(Bytes(blob)), signatures: Some(signatures) }
}

pub(super) fn register(world: &mut World, n: u8, node: &Node) -> (Result<()>, Vec<Event>) {
    let signers: Vec<u8> = (n..=n + VRF).collect();
    call(world, n, METHOD_REGISTER_NODE, &sign_node(node, &signers))
}

pub(super) fn compute(n: u8, runtime: u8) -> Node {
    let runtime = node::Runtime {
        id: runtime_id(runtime),
        version: Version::new(1, 0, 0),
        capabilities: Capabilities::default(),
        extra_info: None,
    };
    Node { roles: Roles::COMPUTE, runtimes: Some(vec![runtime]), ..validator(n) }
}

#[test]
fn refusals() {
    let with = |change: fn(&mut Node)| {
        let mut node = validator(11);
        change(&mut node);
        node
    };
    let bad = Some(&codes::INVALID_ARGUMENT);
    let cases: Vec<(&str, Node, Option<&ErrorCode>)> = vec![
        ("unknown entity", with(|n| n.entity_id = key(2)), Some(&codes::NO_SUCH_ENTITY)),
        ("not listed", with(|n| n.id = key(15)), bad),
        ("no roles", with(|n| n.roles = Roles(0)), bad),
        ("reserved role", with(|n| n.roles = Roles(1 << 4)), bad),
        ("too long", with(|n| n.expiration = EPOCH + 6), bad),
        ("long version", with(|n| n.software_version = "x".repeat(129)), bad),
        ("expired", with(|n| n.expiration = EPOCH), Some(&codes::NODE_EXPIRED)),
        ("no runtimes", with(|n| n.roles = Roles::COMPUTE), bad),
        ("observer without runtimes", with(|n| n.roles = Roles::OBSERVER), bad),
        ("no consensus address", with(|n| n.consensus.addresses = None), bad),
        ("no P2P address", with(|n| n.p2p.addresses = None), bad),
        ("private address", with(|n| n.p2p.addresses = Some(vec!["10.0.0.1:1".parse().unwrap()])), bad),
        ("multicast address", with(|n| n.p2p.addresses = Some(vec!["224.0.0.1:1".parse().unwrap()])), bad),
        ("doubled keys", with(|n| n.vrf.id = n.tls.pub_key), bad),
        ("unknown runtime", compute(11, 9), Some(&codes::NO_SUCH_RUNTIME)),
    ];
    for (what, node, expected) in cases {
        let mut world = world(&parameters());
        with_entity(&mut world);
        let before = world.dump();
        let mut signed = sign_node(&node, &[11, 12, 13, 14, 15]);
        if what == "doubled keys" {
            signed = sign_node(&node, &[11, 12, 13, 14]);
        }
        refused(call(&mut world, 11, METHOD_REGISTER_NODE, &signed).0, expected, what);
        assert_eq!(world.dump(), before, "{what}");
    }
}

#[test]
fn signatures() {
    let node = validator(11);
    let all = [11, 12, 13, 14, 15];
    for (what, signers, expected) in [
        ("nobody", &[][..], Some(&codes::INVALID_SIGNATURE)),
        ("one missing", &[11, 12, 13, 14], Some(&codes::INVALID_ARGUMENT)),
        ("one too many", &[11, 12, 13, 14, 15, 16], Some(&codes::INVALID_ARGUMENT)),
        // The reference counts different signers.
        ("one twice", &[11, 12, 13, 14, 15, 15], None),
    ] {
        let mut world = world(&parameters());
        with_entity(&mut world);
        let result = call(&mut world, 11, METHOD_REGISTER_NODE, &sign_node(&node, signers)).0;
        match expected {
            Some(code) => refused(result, Some(code), what),
            None => assert_eq!(result, Ok(()), "{what}"),
        }
    }
    let mut world = world(&parameters());
    with_entity(&mut world);
    refused(
        call(&mut world, 12, METHOD_REGISTER_NODE, &sign_node(&node, &all)).0,
        Some(&codes::INCORRECT_TX_SIGNER),
        "another sender",
    );
    let mut forged = sign_node(&node, &all);
    forged.signatures.as_mut().unwrap()[4].signature = RawSignature::new([0; 64]);
    refused(
        call(&mut world, 11, METHOD_REGISTER_NODE, &forged).0,
        Some(&codes::INVALID_SIGNATURE),
        "one signature is wrong",
    );
    // A null in the list of runtimes is refused before the runtime is looked for.
    let mut odd = cbor::to_vec(&compute(11, 9));
    let (empty, null) = (cbor::to_vec(&compute(11, 9).runtimes.unwrap()), [0x81, 0xf6]);
    let at = odd.windows(empty.len()).position(|w| w == empty).unwrap();
    odd.splice(at..at + empty.len(), null);
    let signatures = all.iter().map(|s| sign(node::REGISTER_CONTEXT, *s, &odd)).collect();
    let odd = MultiSigned { untrusted_raw_value: Some(Bytes(odd)), signatures: Some(signatures) };
    refused(call(&mut world, 11, METHOD_REGISTER_NODE, &odd).0, Some(&codes::INVALID_ARGUMENT), "null runtime");
}

#[test]
fn lifecycle() {
    let mut world = world(&parameters());
    with_entity(&mut world);
    let (result, events) = register(&mut world, 11, &validator(11));
    assert_eq!((result, kinds(&events)), (Ok(()), vec!["200_registry/node".to_owned()]));
    assert_eq!(claims(&world, 1), ["registry.RegisterEntity".to_owned(), format!("registry.RegisterNode.{}", key(11))]);
    let status = state::node_status(&world.state, &key(11)).unwrap();
    assert_eq!(status.election_eligible_after, EPOCH_INVALID);
    for sub in CONSENSUS..=VRF {
        assert_eq!(state::node_by_subkey(&world.state, &key(11 + sub)).unwrap().unwrap().id, key(11));
    }
    refused(call(&mut world, 1, METHOD_DEREGISTER_ENTITY, &None::<u64>).0, Some(&codes::ENTITY_HAS_NODES), "has nodes");

    // Another node may not take its keys.
    let mut thief = validator(21);
    thief.tls.pub_key = key(14);
    let signed = sign_node(&thief, &[21, 22, 23, 14, 25]);
    refused(call(&mut world, 21, METHOD_REGISTER_NODE, &signed).0, Some(&codes::INVALID_ARGUMENT), "taken key");

    // A new VRF key costs the eligibility.
    let mut eligible = status.clone();
    eligible.election_eligible_after = EPOCH;
    state::set_node_status(&mut world.state, &key(11), &eligible).unwrap();
    assert_eq!(register(&mut world, 11, &validator(11)).0, Ok(()));
    assert_eq!(state::node_status(&world.state, &key(11)).unwrap(), eligible);
    let mut renewed = validator(11);
    renewed.vrf.id = key(40);
    let signed = sign_node(&renewed, &[11, 12, 13, 14, 40]);
    assert_eq!(call(&mut world, 11, METHOD_REGISTER_NODE, &signed).0, Ok(()));
    assert_eq!(state::node_status(&world.state, &key(11)).unwrap().election_eligible_after, EPOCH_INVALID);
    assert!(state::node_by_subkey(&world.state, &key(15)).unwrap().is_none());

    // The consensus key stays, even of an expired node; roles may be added.
    let mut other = renewed.clone();
    other.consensus.id = key(41);
    let signed = sign_node(&other, &[11, 41, 13, 14, 40]);
    refused(
        call(&mut world, 11, METHOD_REGISTER_NODE, &signed).0,
        Some(&codes::NODE_UPDATE_NOT_ALLOWED),
        "other consensus key",
    );

    // Expired after epoch 13, gone after two more.
    let mut log = Vec::new();
    for now in 13..=17u64 {
        let (result, events) = world.run(Mode::BeginBlock, |ctx| {
            kv::put(&mut ctx.state(), &epoch::KEY_CURRENT, &EpochTimeState { epoch: now, height: 11 })?;
            Registry.begin_block(ctx)
        });
        result.unwrap();
        let there = state::node(&world.state, &key(11)).unwrap().is_some();
        log.push((now, kinds(&events).len(), there, super::super::query::nodes(&world.state).unwrap().len()));
    }
    assert_eq!(log, [(13, 1, true, 1), (14, 2, true, 0), (15, 1, true, 0), (16, 1, false, 0), (17, 1, false, 0)]);
    assert_eq!(claims(&world, 1), ["registry.RegisterEntity"]);
    assert_eq!(call(&mut world, 1, METHOD_DEREGISTER_ENTITY, &None::<u64>).0, Ok(()));
    // Of the node nothing is left.
    assert!((0x11..=0x12).chain([0x14, 0x15, 0x17]).all(|p| kv::collect(&world.state, &[p]).unwrap().is_empty()));
}

#[test]
fn freezing() {
    let mut world = world(&parameters());
    with_entity(&mut world);
    let body = UnfreezeNode { node_id: key(11) };
    refused(call(&mut world, 1, METHOD_UNFREEZE_NODE, &body).0, Some(&codes::NO_SUCH_NODE), "unknown");
    assert_eq!(register(&mut world, 11, &validator(11)).0, Ok(()));
    refused(call(&mut world, 11, METHOD_UNFREEZE_NODE, &body).0, Some(&codes::BAD_ENTITY_FOR_NODE), "by itself");
    for (until, expected) in [(EPOCH + 1, Some(&codes::NODE_CANNOT_BE_UNFROZEN)), (EPOCH, None)] {
        let mut status = state::node_status(&world.state, &key(11)).unwrap();
        status.freeze_end_time = until;
        state::set_node_status(&mut world.state, &key(11), &status).unwrap();
        let result = call(&mut world, 1, METHOD_UNFREEZE_NODE, &body).0;
        match expected {
            Some(code) => refused(result, Some(code), "too soon"),
            None => assert_eq!(result, Ok(())),
        }
    }
    assert!(!state::node_status(&world.state, &key(11)).unwrap().is_frozen());
}

/// Compute nodes with a whitelist that allows one compute node and no observers.
#[test]
fn admission_stake_and_fees() {
    let mut params = parameters();
    params.gas_costs = [("runtime_epoch_maintenance".to_owned(), 10)].into();
    let mut world = world(&params);
    with_entity(&mut world);
    let mut runtime = runtimes::a_runtime(1);
    let config = EntityWhitelistConfig { max_nodes: [(Roles::COMPUTE, 1)].into() };
    runtime.admission_policy = RuntimeAdmissionPolicy {
        entity_whitelist: Some(EntityWhitelist { entities: Some([(key(1), config)].into()) }),
        ..RuntimeAdmissionPolicy::default()
    };
    runtime.staking.thresholds = [(ThresholdKind::NODE_COMPUTE, q(700))].into();
    state::set_runtime(&mut world.state, &runtime, true).unwrap();

    let validator_too = |n| Node { roles: Roles::COMPUTE.with(Roles::VALIDATOR), ..compute(n, 1) };
    refused(register(&mut world, 11, &validator_too(11)).0, Some(&codes::FORBIDDEN), "role is not listed");
    let (result, events) = register(&mut world, 11, &compute(11, 1));
    // 100 each for entity and node and 700 for the runtime: the runtime's own claim is not there yet.
    assert_eq!(result, Ok(()));
    assert_eq!(kinds(&events), ["200_registry/runtime_started", "200_registry/node"]);
    assert!(state::runtime(&world.state, &runtime_id(1)).unwrap().is_some());
    refused(register(&mut world, 21, &compute(21, 1)).0, Some(&codes::FORBIDDEN), "second node");

    // Three epochs were paid; a renewal pays for those that come on top.
    let longer = Node { expiration: EPOCH + 5, ..compute(11, 1) };
    let signed = sign_node(&longer, &[11, 12, 13, 14, 15]);
    for (limit, expected) in [(19, false), (20, true)] {
        world.signer = key(11);
        let body = Raw::of(&signed);
        let (result, _) = world.run(Mode::DeliverTx, |ctx| {
            ctx.set_gas(apps_core::GasMeter::limited(limit));
            Registry.execute_tx(ctx, METHOD_REGISTER_NODE, &body)
        });
        assert_eq!(result.is_ok(), expected, "{result:?}");
    }
    // Active nodes keep runtimes and versions.
    let mut dropped = validator_too(11);
    dropped.roles = Roles::VALIDATOR;
    dropped.runtimes = None;
    refused(register(&mut world, 11, &dropped).0, Some(&codes::NODE_UPDATE_NOT_ALLOWED), "runtime dropped");

    // A node whose stake is not there leaves nothing behind.
    runtime.id = runtime_id(2);
    runtime.admission_policy =
        RuntimeAdmissionPolicy { any_node: Some(Default::default()), ..RuntimeAdmissionPolicy::default() };
    state::set_runtime(&mut world.state, &runtime, false).unwrap();
    let before = world.dump();
    let result = register(&mut world, 21, &compute(21, 2)).0;
    refused(result, Some(&staking_codes::INSUFFICIENT_STAKE), "no stake");
    assert_eq!(world.dump(), before);
}
