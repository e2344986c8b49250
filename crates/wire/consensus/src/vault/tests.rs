//! Tests of the vault's stateless rules.

use super::*;

fn addr(n: u8) -> Address {
    Address::new([n; 21])
}

fn authority(members: &[u8], threshold: u8) -> Authority {
    Authority { addresses: Some(members.iter().map(|n| addr(*n)).collect()), threshold }
}

fn params() -> Parameters {
    Parameters { max_authority_addresses: 3, ..Parameters::defaults() }
}

fn message(method: &str) -> Action {
    Action {
        execute_message: Some(ActionExecuteMessage { method: method.to_owned(), body: Raw::default() }),
        ..Action::default()
    }
}

#[test]
fn authority_rules() {
    for (a, want) in [
        (authority(&[1, 2], 2), Ok(())),
        (authority(&[1, 2, 3], 1), Ok(())),
        (authority(&[], 1), Err("no addresses")),
        (Authority::default(), Err("no addresses")),
        (authority(&[1], 0), Err("threshold cannot be zero")),
        (authority(&[1], 2), Err("threshold is larger than the number of addresses")),
        (authority(&[1, 2, 3, 4], 1), Err("too many addresses in authority (max: 3 got: 4)")),
        (authority(&[1, 1], 1), Err("duplicate address in authority")),
    ] {
        let got = a.validate(&params()).map_err(|e| e.to_string());
        match want {
            Ok(()) => assert_eq!(got, Ok(())),
            Err(text) => assert!(got.clone().unwrap_err().contains(text), "{got:?} should say {text}"),
        }
    }
}

#[test]
fn authority_counts_members_once() {
    let a = authority(&[1, 2, 3], 2);
    for (signers, want) in
        [(&[][..], false), (&[1], false), (&[1, 1], false), (&[1, 9], false), (&[1, 3], true), (&[9, 3, 2, 1], true)]
    {
        let signers: Vec<_> = signers.iter().map(|n| addr(*n)).collect();
        assert_eq!(a.verify(&signers), want, "{signers:?}");
    }
    assert!(!authority(&[1], 0).verify(&[]));
    assert!(authority(&[1], 0).verify(&[addr(1)]));
}

#[test]
fn action_rules() {
    let suspend = || Action { suspend: Some(ActionSuspend {}), ..Action::default() };
    let update = |u: ActionUpdateAuthority| Action { update_authority: Some(u), ..Action::default() };
    let policy = |address: Address| Action {
        update_withdraw_policy: Some(ActionUpdateWithdrawPolicy { address, ..ActionUpdateWithdrawPolicy::default() }),
        ..Action::default()
    };
    for (action, want) in [
        (suspend(), None),
        (message("staking.Transfer"), None),
        (policy(addr(1)), None),
        (update(ActionUpdateAuthority { admin_authority: Some(authority(&[1], 1)), suspend_authority: None }), None),
        (Action::default(), Some("exactly one action must be set")),
        (Action { resume: Some(ActionResume {}), ..suspend() }, Some("exactly one action must be set")),
        (message(""), Some("malformed execute message method")),
        (policy(Address::common_pool()), Some("malformed address in update withdraw policy")),
        (update(ActionUpdateAuthority::default()), Some("at least one authority must be updated")),
        (
            update(ActionUpdateAuthority { admin_authority: None, suspend_authority: Some(authority(&[], 1)) }),
            Some("malformed updated suspend authority: no addresses"),
        ),
        (
            update(ActionUpdateAuthority { admin_authority: Some(authority(&[1], 2)), suspend_authority: None }),
            Some("malformed updated admin authority"),
        ),
    ] {
        let got = action.validate(&params()).err().map(|e| e.to_string());
        match want {
            None => assert_eq!(got, None),
            Some(text) => assert!(got.clone().is_some_and(|g| g.contains(text)), "{got:?} should say {text}"),
        }
    }
}

#[test]
fn who_may_authorize_what() {
    let vault =
        Vault { admin_authority: authority(&[1], 1), suspend_authority: authority(&[2], 1), ..Vault::default() };
    let suspend = Action { suspend: Some(ActionSuspend {}), ..Action::default() };
    let resume = Action { resume: Some(ActionResume {}), ..Action::default() };
    for (action, who, want) in [
        (&suspend, 1, true),
        (&suspend, 2, true),
        (&suspend, 3, false),
        (&resume, 2, true),
        (&message("m"), 1, true),
        (&message("m"), 2, false),
        (&Action::default(), 1, false),
    ] {
        assert_eq!(action.is_authorized(&vault, &addr(who)), want, "{action:?} by {who}");
    }
}

#[test]
fn withdrawals_are_limited_per_interval() {
    let q = |n: u64| Quantity::from(n);
    let mut s = AddressState::default();
    assert!(s.authorize_withdrawal(1, &q(0)), "zero is always fine");
    assert!(!s.authorize_withdrawal(1, &q(1)), "disabled");
    s.update_withdraw_policy(&WithdrawPolicy { limit_amount: q(100), limit_interval: 10 });
    for (height, amount, want) in [
        (15, 60, true),
        (16, 41, false),
        (19, 40, true),
        (19, 1, false),
        (20, 100, true),
        (29, 1, false),
        (40, 101, false),
    ] {
        assert_eq!(s.authorize_withdrawal(height, &q(amount)), want, "{amount} at {height}");
    }
    assert_eq!((s.current_bucket, &s.current_amount), (2, &q(100)));
    s.update_withdraw_policy(&WithdrawPolicy { limit_amount: q(150), limit_interval: 10 });
    assert_eq!(s.current_amount, q(100), "the same interval goes on");
    assert!(s.authorize_withdrawal(29, &q(50)));
    s.update_withdraw_policy(&WithdrawPolicy { limit_amount: q(150), limit_interval: 11 });
    assert_eq!((s.current_bucket, &s.current_amount), (0, &q(0)));
}

#[test]
fn parameter_changes() {
    assert!(ParameterChanges::default().sanity_check().is_err());
    // An empty map is a change: it makes everything free.
    let changes: ParameterChanges = cbor::from_slice(b"\xa1\x69gas_costs\xa0").unwrap();
    assert_eq!(changes.sanity_check(), Ok(()));
    let mut p = params();
    changes.apply(&mut p);
    assert_eq!((p.gas_costs.len(), p.max_authority_addresses), (0, 3));
    let p = Parameters { enabled: true, ..Parameters::default() };
    assert!(p.sanity_check().is_err());
    assert_eq!(Parameters::default().sanity_check(), Ok(()));
}

#[test]
fn bytes_of_an_executed_event() {
    let ok = ActionExecutedEvent::default();
    assert!(!cbor::to_vec(&ok).windows(6).any(|w| w == b"result"), "an empty result is left out");
    let failed =
        ActionExecutedEvent { result: ActionExecutionResult { module: "m".to_owned(), code: 5 }, ..Default::default() };
    assert!(cbor::to_vec(&failed).ends_with(b"\x66result\xa2\x64code\x05\x66module\x61m"));
}
