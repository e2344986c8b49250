//! Rules that differ before feature version 26.1, each on both sides of it.

use rt_tee::{EnclaveIdentity, Policy, SgxConstraints, pcs};
use wire_consensus::{
    registry::ParameterChanges,
    tee::{PcsQuotePolicy, QuotePolicy, TeeFeatures, TeeFeaturesSgx, TeeHardware},
};

use super::{
    nodes::{register, sign_node, validator},
    runtimes::a_runtime,
    *,
};

/// Runs a case under the old rules and the new ones.
fn both(mut case: impl FnMut(bool, &dyn Fn(&Parameters) -> World)) {
    for new in [false, true] {
        case(new, &|params| {
            let mut world = world(params);
            if !new {
                world.params.feature_version = None;
            }
            world
        });
    }
}

#[test]
fn any_later_version_has_the_new_rules() {
    for (version, new) in [
        (None, false),
        (Some(Version::new(26, 0, 9)), false),
        (Some(Version::new(26, 1, 0)), true),
        (Some(Version::new(27, 0, 0)), true),
    ] {
        let mut world = world(&parameters());
        world.params.feature_version = version;
        assert_eq!(world.run(Mode::DeliverTx, |ctx| ctx.is_feature_26_1()).0, new, "{version:?}");
        assert!(world.run(Mode::InitChain, |ctx| ctx.is_feature_26_1()).0, "genesis");
    }
}

/// Observers needed no runtime.
#[test]
fn observers_without_runtimes() {
    both(|new, start| {
        let mut world = start(&parameters());
        with_entity(&mut world);
        let observer = Node { roles: Roles::OBSERVER, ..validator(11) };
        let result = register(&mut world, 11, &observer).0;
        if new {
            refused(result, Some(&codes::INVALID_ARGUMENT), "observer");
        } else {
            assert_eq!(result, Ok(()));
        }
    });
}

/// A new VRF key did not cost the eligibility.
#[test]
fn new_vrf_keys() {
    both(|new, start| {
        let mut world = start(&parameters());
        with_entity(&mut world);
        assert_eq!(register(&mut world, 11, &validator(11)).0, Ok(()));
        let mut status = state::node_status(&world.state, &key(11)).unwrap();
        status.election_eligible_after = EPOCH;
        state::set_node_status(&mut world.state, &key(11), &status).unwrap();
        let mut renewed = validator(11);
        renewed.vrf.id = key(40);
        let signed = sign_node(&renewed, &[11, 12, 13, 14, 40]);
        assert_eq!(call(&mut world, 11, METHOD_REGISTER_NODE, &signed).0, Ok(()));
        let after = state::node_status(&world.state, &key(11)).unwrap().election_eligible_after;
        assert_eq!(after, if new { EPOCH_INVALID } else { EPOCH });
    });
}

/// A former owner stayed in the index of owners.
#[test]
fn former_owners_of_runtimes() {
    both(|new, start| {
        let mut world = start(&parameters());
        for n in [1, 2] {
            let owner = Address::of_key(&key(n));
            let mut account = staking::account(&world.state, &owner).unwrap();
            account.escrow.active.balance = q(1000);
            staking::set_account(&mut world.state, &owner, &account).unwrap();
        }
        assert_eq!(call(&mut world, 1, METHOD_REGISTER_RUNTIME, &a_runtime(1)).0, Ok(()));
        let moved = Runtime { entity_id: key(2), ..a_runtime(1) };
        assert_eq!(call(&mut world, 1, METHOD_REGISTER_RUNTIME, &moved).0, Ok(()));
        assert!(state::has_entity_runtimes(&world.state, &key(2)).unwrap());
        assert_eq!(state::has_entity_runtimes(&world.state, &key(1)).unwrap(), !new);
        assert_eq!((claims(&world, 1).len(), claims(&world, 2).len()), (0, 1));
    });
}

fn whitelisted() -> Vec<String> {
    vec!["00606a000000".to_owned()]
}

/// Constraints could not list platforms.
#[test]
fn platforms_in_constraints() {
    both(|new, start| {
        let mut features = TeeFeatures::default();
        features.sgx.pcs = true;
        let mut world = start(&Parameters { tee_features: Some(features), ..parameters() });
        let policy = pcs::QuotePolicy { fmspc_whitelist: whitelisted(), ..Default::default() };
        let constraints = SgxConstraints {
            v: 1,
            enclaves: vec![EnclaveIdentity::default()],
            policy: Some(Policy { ias: None, pcs: Some(policy) }),
            max_attestation_age: 0,
        };
        let mut runtime = Runtime { tee_hardware: TeeHardware::INTEL_SGX, ..a_runtime(1) };
        runtime.deployments[0].as_mut().unwrap().tee = Some(Bytes(cbor::to_vec(&constraints)));
        let result = call(&mut world, 1, METHOD_REGISTER_RUNTIME, &runtime).0;
        if new {
            assert_eq!(result, Ok(()));
        } else {
            refused(result, Some(&codes::INVALID_ARGUMENT), "platforms");
        }
    });
}

/// Neither could the default policy in the parameters.
#[test]
fn platforms_in_parameters() {
    both(|new, start| {
        let mut world = start(&parameters());
        let policy = PcsQuotePolicy { fmspc_whitelist: whitelisted(), ..PcsQuotePolicy::default() };
        let policy = QuotePolicy { pcs: Some(policy), ..QuotePolicy::default() };
        let sgx = TeeFeaturesSgx { default_policy: Some(policy), ..TeeFeaturesSgx::default() };
        let changes = ParameterChanges {
            tee_features: Some(TeeFeatures { sgx, ..TeeFeatures::default() }),
            ..Default::default()
        };
        let changes = Raw::of(&changes);
        let message = Message::ChangeParameters { module: "registry", changes: &changes };
        let result = world.run(Mode::EndBlock, |ctx| Registry.message(ctx, &message)).0;
        assert_eq!(result.is_ok(), new, "{result:?}");
    });
}
