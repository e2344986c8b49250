//! The rules as a table, for each kind of peer and hardware.

use std::sync::LazyLock;

use wire_consensus::churp::{Application, PolicySgx as ChurpPolicy, SignedPolicySgx as SignedChurpPolicy};
use wire_consensus::keymanager::{EnclavePolicySgx, PolicySgx, SignedPolicySgx};

use super::*;
use crate::testing::{compute, km, public};

const NOISE: Kind = Kind::NOISE_SESSION;
const PLAIN: Kind = Kind::INSECURE_QUERY;

static STRANGER: LazyLock<PeerId> = LazyLock::new(|| peer_id(&public(50)));
static CLIENT: LazyLock<PeerId> = LazyLock::new(|| peer_id(&public(51)));
static KEY_MANAGER: LazyLock<PeerId> = LazyLock::new(|| peer_id(&public(52)));
static APPLICANT: LazyLock<PeerId> = LazyLock::new(|| peer_id(&public(53)));
static PRIVATE: LazyLock<PeerId> = LazyLock::new(|| peer_id(&public(54)));

fn access() -> Access {
    let mut access = Access::default();
    access.add(compute(), *CLIENT);
    for (peer, node) in [(*KEY_MANAGER, 52), (*APPLICANT, 53)] {
        access.add(km(), peer);
        access.key_managers.insert(peer, public(node));
    }
    access
}

fn status(secure: bool) -> Status {
    let rules = EnclavePolicySgx { may_query: Some([(compute(), None)].into()), may_replicate: None };
    let enclaves = Some([(Default::default(), Some(rules))].into());
    let policy = SignedPolicySgx { policy: PolicySgx { enclaves, ..PolicySgx::default() }, signatures: None };
    Status { is_secure: secure, policy: Some(policy), ..Status::default() }
}

fn scheme() -> ChurpStatus {
    let policy = ChurpPolicy { may_query: Some([(compute(), None)].into()), ..ChurpPolicy::default() };
    ChurpStatus {
        policy: SignedChurpPolicy { policy, signatures: Vec::new() },
        applications: [(public(53), Application::default())].into(),
        ..ChurpStatus::default()
    }
}

struct Case {
    tee: TeeHardware,
    ready: bool,
    secure: bool,
}

impl Case {
    fn check(&self, method: &str, kind: Kind, peer: &PeerId) -> Result<(), Denied> {
        let (access, status, scheme) = (access(), status(self.secure), scheme());
        let private = [*PRIVATE].into();
        let descriptor = Runtime { tee_hardware: self.tee, ..Runtime::default() };
        let rules = Rules {
            key_manager: km(),
            descriptor: Some(&descriptor),
            access: &access,
            private: &private,
            status: self.ready.then_some(&status),
            churp: vec![&scheme],
        };
        rules.authorize(method, kind, peer)
    }

    fn allowed(&self, method: &str, kind: Kind) -> Vec<&'static str> {
        let peers = [
            ("stranger", &*STRANGER),
            ("client", &*CLIENT),
            ("key manager", &*KEY_MANAGER),
            ("applicant", &*APPLICANT),
            ("private", &*PRIVATE),
        ];
        peers.iter().filter(|(_, peer)| self.check(method, kind, peer).is_ok()).map(|(name, _)| *name).collect()
    }
}

const EVERYBODY: [&str; 5] = ["stranger", "client", "key manager", "applicant", "private"];

#[test]
fn in_enclaves_policies_decide() {
    let case = Case { tee: TeeHardware::INTEL_SGX, ready: true, secure: true };
    for (method, kind, allowed) in [
        ("get_public_key", PLAIN, &EVERYBODY[..]),
        ("get_public_ephemeral_key", PLAIN, &EVERYBODY),
        ("get_or_create_keys", NOISE, &["client", "private"]),
        ("get_or_create_ephemeral_keys", NOISE, &["client", "private"]),
        ("replicate_master_secret", NOISE, &["key manager", "applicant", "private"]),
        ("replicate_ephemeral_secret", NOISE, &["key manager", "applicant", "private"]),
        ("churp/sgx_policy_key_share", NOISE, &["client"]),
        ("churp/verification_matrix", PLAIN, &["applicant"]),
        ("churp/share_reduction_point", NOISE, &["applicant"]),
        ("churp/share_distribution_point", NOISE, &["applicant"]),
        ("churp/bivariate_share", NOISE, &["applicant"]),
        // Opening a session needs some method of sessions.
        ("", NOISE, &["client", "key manager", "applicant", "private"]),
    ] {
        assert_eq!(case.allowed(method, kind), allowed, "{method}");
        // The other encoding is never right.
        let other = if kind == NOISE { PLAIN } else { NOISE };
        assert!(case.allowed(method, other).is_empty(), "{method} as {other}");
        assert!(case.allowed(method, Kind::LOCAL_QUERY).is_empty(), "{method} as a local query");
    }
}

#[test]
fn methods_of_the_node_itself_are_for_no_peer() {
    let case = Case { tee: TeeHardware::INVALID, ready: true, secure: false };
    for method in ["init", "generate_master_secret", "load_master_secret", "load_ephemeral_secret", "churp/apply", "x"]
    {
        for kind in [NOISE, PLAIN] {
            assert_eq!(case.check(method, kind, &PRIVATE), Err(Denied::UnknownMethod), "{method}");
        }
    }
}

#[test]
fn outside_of_enclaves_everybody_may_query_but_not_replicate() {
    let case = Case { tee: TeeHardware::INVALID, ready: true, secure: false };
    assert_eq!(case.allowed("get_or_create_keys", NOISE), EVERYBODY);
    assert_eq!(case.allowed("churp/sgx_policy_key_share", NOISE), EVERYBODY);
    assert_eq!(case.allowed("", NOISE), EVERYBODY);
    assert_eq!(case.check("replicate_master_secret", NOISE, &STRANGER), Err(Denied::NotKeyManager));
    assert_eq!(case.check("churp/bivariate_share", NOISE, &KEY_MANAGER), Err(Denied::NotApplied));
    // A key manager that calls itself secure where there are no enclaves is believed by nobody.
    let case = Case { secure: true, ..case };
    assert_eq!(case.check("get_or_create_keys", NOISE, &CLIENT), Err(Denied::UntrustedHardware));
}

#[test]
fn nothing_of_secrets_before_the_node_is_ready() {
    let case = Case { tee: TeeHardware::INTEL_SGX, ready: false, secure: true };
    for (method, kind) in [("get_public_key", PLAIN), ("get_or_create_keys", NOISE), ("replicate_master_secret", NOISE)]
    {
        for peer in [&*CLIENT, &*KEY_MANAGER, &*PRIVATE] {
            assert_eq!(case.check(method, kind, peer), Err(Denied::NotInitialized), "{method}");
        }
    }
    // Secret sharing has its own rules.
    assert_eq!(case.allowed("", NOISE), ["client", "applicant"]);
    assert_eq!(case.check("", NOISE, &KEY_MANAGER), Err(Denied::Connect));
}
