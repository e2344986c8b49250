//! Tests of the vault service over a small network.

use apps_core::{Message, Mode, Reply};
use base_codec::Raw;
use base_prims::{Address, Quantity};
use wire_consensus::{
    governance::METHOD_CAST_VOTE,
    staking::{HookDestination, HookKind},
    vault::*,
};

use super::*;
use crate::{
    governance::Governance,
    testing::{LAST_HEIGHT, PLENTY, Run, World, addr, q},
};

const ADMINS: [u8; 3] = [1, 2, 3];
const SUSPENDERS: [u8; 2] = [3, 4];

fn authority(members: &[u8], threshold: u8) -> Authority {
    Authority { addresses: Some(members.iter().map(|n| addr(*n)).collect()), threshold }
}

fn two_of_three() -> Create {
    Create { admin_authority: authority(&ADMINS, 2), suspend_authority: authority(&SUSPENDERS, 1) }
}

fn empty_world() -> World {
    let mut w = World::new(vec![Box::new(Governance::default()), Box::new(Vaults)]);
    w.put(&[0x33], &Parameters { max_authority_addresses: 5, ..Parameters::defaults() });
    w
}

/// A world with the vault of account 1: admins 1, 2, 3 (two must agree), suspenders 3 and 4 (one is enough).
fn world() -> (World, Address) {
    let mut w = empty_world();
    let mut account = w.account(1);
    account.general.nonce = 7;
    w.set_account(&addr(1), &account);
    w.tx(1, METHOD_CREATE, &two_of_three()).result.unwrap();
    (w, Address::of_vault(&addr(1), 7))
}

fn suspend() -> Action {
    Action { suspend: Some(ActionSuspend {}), ..Action::default() }
}

fn resume() -> Action {
    Action { resume: Some(ActionResume {}), ..Action::default() }
}

fn call<B: base_codec::cbor::Encode>(method: &str, body: &B) -> Action {
    let message = ActionExecuteMessage { method: method.to_owned(), body: Raw::of(body) };
    Action { execute_message: Some(message), ..Action::default() }
}

fn policy(address: Address, limit_amount: u64, limit_interval: u64) -> Action {
    let policy = WithdrawPolicy { limit_amount: q(limit_amount), limit_interval };
    Action { update_withdraw_policy: Some(ActionUpdateWithdrawPolicy { address, policy }), ..Action::default() }
}

fn authorize(w: &mut World, signer: u8, vault: Address, nonce: u64, action: &Action) -> Run<()> {
    w.tx(signer, METHOD_AUTHORIZE_ACTION, &AuthorizeAction { vault, nonce, action: action.clone() })
}

/// Has two admins authorize the action, and returns the second run and its outcome.
fn execute(w: &mut World, vault: Address, action: &Action) -> (Run<()>, (String, u32)) {
    let nonce = state::vault(&w.tree, &vault).unwrap().nonce;
    authorize(w, 1, vault, nonce, action).result.unwrap();
    let run = authorize(w, 2, vault, nonce, action);
    run.result.as_ref().unwrap();
    let value = &run.events.last().unwrap().attributes[0].value;
    let done = [("", 0), ("vault", 1), ("vault", 2), ("vault", 4), ("vault", 5), ("unknown", 1), ("governance", 1)];
    let outcome = done.into_iter().find(|(module, code)| {
        use wire_consensus::events::TypedEvent;
        let result = ActionExecutionResult { module: (*module).to_owned(), code: *code };
        ActionExecutedEvent { vault, nonce, result }.attribute_value() == *value
    });
    let (module, code) = outcome.expect("the last event tells the outcome");
    assert_eq!(state::vault(&w.tree, &vault).unwrap().nonce, nonce + 1);
    assert!(state::pending_actions(&w.tree, &vault).unwrap().is_empty());
    (run, (module.to_owned(), code))
}

#[test]
fn creation() {
    let (w, address) = world();
    let vault = state::vault(&w.tree, &address).unwrap();
    let Create { admin_authority, suspend_authority } = two_of_three();
    let want = Vault { creator: addr(1), id: 7, state: State::ACTIVE, nonce: 0, admin_authority, suspend_authority };
    assert_eq!(vault, want);
    let account = apps_staking::state::account(&w.tree, &address).unwrap();
    let hook = HookDestination { module: "vault".to_owned() };
    assert_eq!(account.general.hooks, [(HookKind::WITHDRAW, hook)].into());
}

#[test]
fn refusals_of_creation() {
    let mut w = empty_world();
    let create = |admin: Authority, suspend: Authority| Create { admin_authority: admin, suspend_authority: suspend };
    for body in [
        Create::default(),
        create(authority(&[1], 1), authority(&[], 1)),
        create(authority(&[1], 2), authority(&[1], 1)),
        create(authority(&[1, 2, 3, 4, 5, 6], 1), authority(&[1], 1)),
        create(authority(&[1, 1], 1), authority(&[1], 1)),
    ] {
        let run = w.tx(1, METHOD_CREATE, &body);
        assert_eq!((run.code(), run.gas_used), (("vault", 1), 0), "{body:?}");
    }
    let run = w.tx_in(Mode::DeliverTx, 1, 9_999, METHOD_CREATE, &two_of_three());
    assert_eq!(run.code(), ("unknown", 1));
    assert_eq!(w.tx(1, METHOD_CREATE, &1u64).code(), ("vault", 1));
    let run = w.tx(1, METHOD_CREATE, &two_of_three());
    run.result.as_ref().unwrap();
    assert_eq!((run.gas_used, run.events.len()), (10_000, 0));
    // The same creator and nonce once more.
    let run = w.tx(1, METHOD_CREATE, &two_of_three());
    assert_eq!((run.code(), run.gas_used), (("vault", 1), 10_000));
    for mode in [Mode::CheckTx, Mode::SimulateTx] {
        w.tx_in(mode, 5, PLENTY, METHOD_CREATE, &two_of_three()).result.unwrap();
    }
    assert_eq!(state::vaults(&w.tree).unwrap().len(), 1);
}

#[test]
fn a_disabled_service_has_no_methods() {
    let mut w = empty_world();
    w.put(&[0x33], &Parameters::default());
    assert_eq!(w.tx(1, METHOD_CREATE, &two_of_three()).code(), ("unknown", 1));
    assert!(!Vaults.is_enabled(&World::new(Vec::new()).tree).unwrap());
}

#[test]
fn refusals_of_authorizations() {
    let (mut w, vault) = world();
    let other = Address::of_vault(&addr(9), 1);
    let malformed = Action { resume: Some(ActionResume {}), ..suspend() };
    for (name, signer, vault, nonce, action, code) in [
        ("two actions", 1, vault, 0, malformed, 1),
        ("no action", 1, vault, 0, Action::default(), 1),
        ("reserved address", 1, Address::burn(), 0, suspend(), 1),
        ("no such vault", 1, other, 0, suspend(), 2),
        ("nonce to come", 1, vault, 1, suspend(), 4),
        ("stranger", 9, vault, 0, suspend(), 5),
        ("suspender may not call", 4, vault, 0, call("staking.Burn", &0u64), 5),
        ("suspender may not set limits", 4, vault, 0, policy(addr(8), 1, 1), 5),
    ] {
        for mode in [Mode::DeliverTx, Mode::CheckTx] {
            let body = AuthorizeAction { vault, nonce, action: action.clone() };
            let run = w.tx_in(mode, signer, PLENTY, METHOD_AUTHORIZE_ACTION, &body);
            assert_eq!((run.code(), run.gas_used), (("vault", code), 0), "{name}");
        }
    }
    let body = AuthorizeAction { vault, nonce: 0, action: suspend() };
    assert_eq!(w.tx_in(Mode::DeliverTx, 1, 4_999, METHOD_AUTHORIZE_ACTION, &body).code(), ("unknown", 1));
    w.tx_in(Mode::CheckTx, 1, 0, METHOD_AUTHORIZE_ACTION, &body).result.unwrap();
    assert!(state::pending_actions(&w.tree, &vault).unwrap().is_empty());
    // Another action than the pending one.
    authorize(&mut w, 1, vault, 0, &policy(addr(8), 1, 1)).result.unwrap();
    let run = authorize(&mut w, 2, vault, 0, &policy(addr(8), 2, 1));
    assert_eq!((run.code(), run.gas_used, run.events.len()), (("vault", 1), 5_000, 0));
    let pending = state::pending_action(&w.tree, &vault, 0).unwrap();
    assert_eq!(pending.authorized_by, Some(vec![addr(1)]));
}

#[test]
fn several_must_agree() {
    let (mut w, vault) = world();
    let action = policy(addr(8), 100, 10);
    for _ in 0..2 {
        // Repeating an approval adds nothing but is reported.
        let run = authorize(&mut w, 2, vault, 0, &action);
        run.result.as_ref().unwrap();
        assert_eq!(run.kinds(), ["action_submitted"]);
        assert!(run.has(NAME, &ActionSubmittedEvent { submitter: addr(2), vault, nonce: 0 }));
        let pending = state::pending_action(&w.tree, &vault, 0).unwrap();
        let want = PendingAction { nonce: 0, authorized_by: Some(vec![addr(2)]), action: action.clone() };
        assert_eq!(pending, want);
    }
    let run = authorize(&mut w, 3, vault, 0, &action);
    run.result.as_ref().unwrap();
    assert_eq!(run.kinds(), ["action_submitted", "policy_updated", "action_executed"]);
    assert!(run.has(NAME, &PolicyUpdatedEvent { vault, address: addr(8) }));
    assert!(run.has(NAME, &ActionExecutedEvent { vault, nonce: 0, result: ActionExecutionResult::default() }));
    assert_eq!(state::vault(&w.tree, &vault).unwrap().nonce, 1);
    assert!(state::pending_actions(&w.tree, &vault).unwrap().is_empty());
    let s = state::address_state(&w.tree, &vault, &addr(8)).unwrap();
    assert_eq!(s.withdraw_policy, WithdrawPolicy { limit_amount: q(100), limit_interval: 10 });
    assert_eq!(authorize(&mut w, 1, vault, 0, &action).code(), ("vault", 4), "that one is done");
}

#[test]
fn either_authority_can_suspend_and_resume() {
    let (mut w, vault) = world();
    for (nonce, action, old_state, new_state) in
        [(0, suspend(), State::ACTIVE, State::SUSPENDED), (1, resume(), State::SUSPENDED, State::ACTIVE)]
    {
        let run = authorize(&mut w, 4, vault, nonce, &action);
        run.result.as_ref().unwrap();
        assert_eq!(run.kinds(), ["action_submitted", "state_changed", "action_executed"]);
        assert!(run.has(NAME, &StateChangedEvent { vault, old_state, new_state }));
        assert_eq!(state::vault(&w.tree, &vault).unwrap().state, new_state);
    }
    // Nothing changes: no event of a change.
    let run = authorize(&mut w, 4, vault, 2, &resume());
    assert_eq!(run.kinds(), ["action_submitted", "action_executed"]);
    // Account 3 is in both authorities: one approval is enough through the suspenders'.
    assert_eq!(authorize(&mut w, 3, vault, 3, &suspend()).kinds().len(), 3);
    // Two admins who are no suspenders.
    authorize(&mut w, 1, vault, 4, &resume()).result.unwrap();
    assert_eq!(authorize(&mut w, 2, vault, 4, &resume()).kinds().len(), 3);
}

#[test]
fn authorities_change() {
    let (mut w, vault) = world();
    let update = ActionUpdateAuthority { admin_authority: None, suspend_authority: Some(authority(&[5], 1)) };
    let action = Action { update_authority: Some(update), ..Action::default() };
    let (run, outcome) = execute(&mut w, vault, &action);
    assert_eq!(outcome, (String::new(), 0));
    assert_eq!(run.kinds(), ["action_submitted", "authority_updated", "action_executed"]);
    let v = state::vault(&w.tree, &vault).unwrap();
    assert_eq!((v.admin_authority, v.suspend_authority), (authority(&ADMINS, 2), authority(&[5], 1)));
    // The limit shrinks between submission and execution: the action fails, and is done with.
    let update = ActionUpdateAuthority { admin_authority: Some(authority(&[1, 2, 3, 4], 1)), suspend_authority: None };
    let action = Action { update_authority: Some(update), ..Action::default() };
    authorize(&mut w, 1, vault, 1, &action).result.unwrap();
    w.put(&[0x33], &Parameters { max_authority_addresses: 3, ..Parameters::defaults() });
    assert_eq!(authorize(&mut w, 2, vault, 1, &action).code(), ("vault", 1), "refused as a new submission");
}

#[test]
fn a_vault_calls_methods() {
    let (mut w, vault) = world();
    // The vault creates a vault of its own; its nonce is zero.
    let (run, outcome) = execute(&mut w, vault, &call(METHOD_CREATE, &two_of_three()));
    assert_eq!((outcome, run.gas_used), ((String::new(), 0), 15_000));
    let child = Address::of_vault(&vault, 0);
    assert_eq!(state::vault(&w.tree, &child).unwrap().creator, vault);
    // Failures are reported, and what the method had done is undone.
    for (action, outcome) in [
        (call(METHOD_CREATE, &two_of_three()), ("vault", 1)),
        (call("no.such.method", &0u64), ("unknown", 1)),
        (call(METHOD_CAST_VOTE, &1u64), ("governance", 1)),
    ] {
        let (run, got) = execute(&mut w, vault, &action);
        assert_eq!((got.0.as_str(), got.1), outcome, "{action:?}");
        assert_eq!(run.kinds(), ["action_submitted", "action_executed"]);
    }
}

#[test]
fn what_a_call_back_writes_covers_what_the_vault_wrote() {
    let mut w = empty_world();
    // The vault is its own admin, together with account 1.
    let vault = Address::of_vault(&addr(1), 0);
    let admins = Authority { addresses: Some(vec![addr(1), vault]), threshold: 1 };
    let create = Create { admin_authority: admins, suspend_authority: authority(&[4], 1) };
    w.tx(1, METHOD_CREATE, &create).result.unwrap();
    // While its action is executed, the vault cancels that very action.
    let action = call(METHOD_CANCEL_ACTION, &CancelAction { vault, nonce: 0 });
    let run = authorize(&mut w, 1, vault, 0, &action);
    run.result.as_ref().unwrap();
    assert_eq!(run.kinds(), ["action_submitted", "action_canceled", "action_executed"]);
    assert_eq!(state::vault(&w.tree, &vault).unwrap().nonce, 1, "counted up once, not twice");
    assert!(state::pending_actions(&w.tree, &vault).unwrap().is_empty());
    // Or approves another one at the same number: another action is pending there.
    let inner = AuthorizeAction { vault, nonce: 1, action: suspend() };
    let run = authorize(&mut w, 1, vault, 1, &call(METHOD_AUTHORIZE_ACTION, &inner));
    let result = ActionExecutionResult { module: "vault".to_owned(), code: 1 };
    assert!(run.has(NAME, &ActionExecutedEvent { vault, nonce: 1, result }));
    assert_eq!(state::vault(&w.tree, &vault).unwrap().state, State::ACTIVE);
}

#[test]
fn calls_nest_only_so_deep() {
    // A chain of vaults, each of which is the admin of the next; each calls the next one's authorization.
    let mut w = empty_world();
    let mut vaults = vec![addr(1)];
    for n in 0..6u8 {
        let admin = Authority { addresses: Some(vec![*vaults.last().unwrap()]), threshold: 1 };
        let creator = 10 + n;
        let create = Create { admin_authority: admin.clone(), suspend_authority: admin };
        w.tx(creator, METHOD_CREATE, &create).result.unwrap();
        vaults.push(Address::of_vault(&addr(creator), 0));
    }
    let mut action = policy(addr(8), 1, 1);
    for vault in vaults[2..].iter().rev() {
        action = call(METHOD_AUTHORIZE_ACTION, &AuthorizeAction { vault: *vault, nonce: 0, action });
    }
    let run = authorize(&mut w, 1, vaults[1], 0, &action);
    run.result.as_ref().unwrap();
    // Each level nests three contexts: the fourth vault's action is executed, but its call is ten deep and fails.
    let nonces: Vec<_> = vaults[1..].iter().map(|v| state::vault(&w.tree, v).unwrap().nonce).collect();
    assert_eq!(nonces, [1, 1, 1, 1, 0, 0]);
}

#[test]
fn simulations_of_authorizations_estimate_the_whole_call() {
    let (mut w, vault) = world();
    authorize(&mut w, 1, vault, 0, &call(METHOD_CREATE, &two_of_three())).result.unwrap();
    let body = AuthorizeAction { vault, nonce: 0, action: call(METHOD_CREATE, &two_of_three()) };
    let run = w.tx_in(Mode::SimulateTx, 2, PLENTY, METHOD_AUTHORIZE_ACTION, &body);
    run.result.as_ref().unwrap();
    assert_eq!(run.gas_used, 15_000);
    assert!(state::vault(&w.tree, &Address::of_vault(&vault, 0)).is_err(), "the inner method only counted gas");
}

fn cancel(w: &mut World, signer: u8, vault: Address, nonce: u64) -> Run<()> {
    w.tx(signer, METHOD_CANCEL_ACTION, &CancelAction { vault, nonce })
}

#[test]
fn cancellation() {
    let (mut w, vault) = world();
    for (name, signer, vault, nonce, code, gas) in [
        ("reserved address", 1, Address::burn(), 0, 1, 0),
        ("no such vault", 1, addr(1), 0, 2, 0),
        ("nonce to come", 1, vault, 1, 4, 0),
        ("stranger", 9, vault, 0, 5, 0),
        ("nothing pending", 1, vault, 0, 6, 5_000),
    ] {
        let run = cancel(&mut w, signer, vault, nonce);
        assert_eq!((run.code(), run.gas_used), (("vault", code), gas), "{name}");
    }
    authorize(&mut w, 1, vault, 0, &policy(addr(8), 1, 1)).result.unwrap();
    assert_eq!(cancel(&mut w, 4, vault, 0).code(), ("vault", 5), "suspenders have no say in limits");
    let body = CancelAction { vault, nonce: 0 };
    for (mode, gas) in [(Mode::CheckTx, 0), (Mode::SimulateTx, 5_000)] {
        let run = w.tx_in(mode, 2, PLENTY, METHOD_CANCEL_ACTION, &body);
        run.result.as_ref().unwrap();
        assert_eq!(run.gas_used, gas);
    }
    let run = cancel(&mut w, 3, vault, 0);
    run.result.as_ref().unwrap();
    assert!(run.has(NAME, &ActionCanceledEvent { vault, nonce: 0 }));
    assert_eq!(run.kinds().len(), 1);
    assert_eq!(state::vault(&w.tree, &vault).unwrap().nonce, 1);
    assert!(state::pending_actions(&w.tree, &vault).unwrap().is_empty());
}

fn withdraw(w: &mut World, module: &str, from: Address, to: Address, amount: u64) -> Run<Option<Reply>> {
    let amount: Quantity = q(amount);
    let message = Message::AccountHookWithdraw { module, from: &from, to: &to, amount: &amount };
    w.run(Mode::DeliverTx, Some(8), PLENTY, |ctx| Vaults.message(ctx, &message))
}

#[test]
fn withdrawals() {
    let (mut w, vault) = world();
    let to = addr(8);
    assert_eq!(withdraw(&mut w, "other", vault, to, 1).result.unwrap(), None);
    assert_eq!(withdraw(&mut w, "vault", addr(9), to, 1).code(), ("vault", 2));
    assert_eq!(withdraw(&mut w, "vault", vault, to, 0).code(), ("vault", 3));
    execute(&mut w, vault, &policy(to, 100, 5));
    assert_eq!(withdraw(&mut w, "vault", vault, to, 60).result.unwrap(), Some(Reply::Done));
    assert_eq!(withdraw(&mut w, "vault", vault, to, 41).code(), ("vault", 5));
    withdraw(&mut w, "vault", vault, to, 40).result.unwrap();
    let s = state::address_state(&w.tree, &vault, &to).unwrap();
    let bucket = (LAST_HEIGHT.cast_unsigned() + 1) / 5;
    assert_eq!((s.current_bucket, s.current_amount), (bucket, q(100)));
    authorize(&mut w, 4, vault, 1, &suspend()).result.unwrap();
    assert_eq!(withdraw(&mut w, "vault", vault, to, 0).code(), ("vault", 5), "suspended");
}

#[test]
fn only_these_parameters_change() {
    let mut w = empty_world();
    let mut change = |changes: &[u8], apply: bool| {
        let (module, changes) = ("vault", &Raw(changes.to_vec()));
        let message = if apply {
            Message::ChangeParameters { module, changes }
        } else {
            Message::ValidateParameterChanges { module, changes }
        };
        let run = w.run(Mode::EndBlock, None, PLENTY, |ctx| Vaults.message(ctx, &message));
        (run.result, state::parameters(&w.tree).unwrap().max_authority_addresses)
    };
    let nine = b"\xa1\x77max_authority_addresses\x09";
    assert_eq!(change(nine, false), (Ok(Some(Reply::Done)), 5));
    assert_eq!(change(nine, true), (Ok(Some(Reply::Done)), 9));
    assert!(change(b"\xa1\x67enabled\xf4", true).0.is_err());
    assert!(change(b"\xa0", true).0.is_err());
    let changes = Raw(nine.to_vec());
    let other = Message::ChangeParameters { module: "staking", changes: &changes };
    assert_eq!(w.run(Mode::EndBlock, None, PLENTY, |ctx| Vaults.message(ctx, &other)).result.unwrap(), None);
}

#[test]
fn genesis_in_and_out() {
    let (mut w, vault) = world();
    execute(&mut w, vault, &policy(addr(8), 100, 5));
    authorize(&mut w, 1, vault, 1, &suspend()).result.unwrap();
    let exported = query::genesis(&w.tree).unwrap();
    assert_eq!(exported.vaults.len(), 1);
    assert_eq!(exported.states[&vault].as_ref().unwrap().len(), 1);
    assert_eq!(exported.pending_actions[&vault].as_ref().unwrap().len(), 1);
    let mut again = World::new(vec![Box::new(Vaults)]);
    again.run(Mode::InitChain, None, PLENTY, |ctx| genesis::init_chain(ctx, &exported)).result.unwrap();
    assert_eq!(query::genesis(&again.tree).unwrap(), exported);
    let keys = |w: &World| w.pairs().into_iter().filter(|(k, _)| k[0] >> 4 == 3).collect::<Vec<_>>();
    assert_eq!(keys(&again), keys(&w));
    let lengths: Vec<_> = keys(&w).iter().map(|(k, _)| (k[0], k.len())).collect();
    assert_eq!(lengths, [(0x30, 22), (0x31, 43), (0x32, 30), (0x33, 1)]);
}
