//! Refusals and effects of each method.

use wire_consensus::{
    errors::staking as codes,
    roothash::message::StakingMessage,
    staking::{
        Allow, AmendCommissionSchedule, Burn, CommissionRateBoundStep, CommissionRateStep, CommissionSchedule,
        CommissionScheduleRules, Escrow, HookDestination, HookKind, METHOD_ADD_ESCROW, METHOD_ALLOW,
        METHOD_AMEND_COMMISSION_SCHEDULE, METHOD_BURN, METHOD_RECLAIM_ESCROW, METHOD_TRANSFER, METHOD_WITHDRAW,
        ReclaimEscrow, SharePool, Transfer, Withdraw,
    },
};

use super::*;

fn transfer(to: Address, amount: u64) -> Transfer {
    Transfer { to, amount: q(amount) }
}

#[test]
fn transfers() {
    type Change = fn(&mut Parameters);
    let none: Change = |_| {};
    let cases: &[(&str, Change, u8, Address, u64, Option<Option<&ErrorCode>>)] = &[
        ("plain", none, 1, addr(2), 1000, None),
        ("too much has no code", none, 1, addr(2), 1001, Some(None)),
        ("too much to oneself", none, 1, addr(1), 1001, Some(Some(&codes::INSUFFICIENT_BALANCE))),
        ("to oneself", none, 1, addr(1), 1000, None),
        ("reserved receiver", none, 1, Address::common_pool(), 1, Some(None)),
        ("burn", none, 1, Address::burn(), 1000, None),
        ("burn too much", none, 1, Address::burn(), 1001, Some(None)),
        ("small", |p| p.min_transfer_amount = q(5), 1, addr(2), 4, Some(Some(&codes::UNDER_MIN_TRANSFER))),
        ("small to oneself", |p| p.min_transfer_amount = q(5), 1, addr(1), 4, Some(Some(&codes::UNDER_MIN_TRANSFER))),
        ("leaves too little", |p| p.min_transact_balance = q(5), 1, addr(2), 996, Some(Some(&codes::BALANCE_TOO_LOW))),
        ("too little there", |p| p.min_transact_balance = q(5), 1, addr(9), 4, Some(Some(&codes::BALANCE_TOO_LOW))),
        ("disabled", |p| p.disable_transfers = true, 1, addr(2), 1, Some(Some(&codes::FORBIDDEN))),
        (
            "allowed nevertheless",
            |p| {
                p.disable_transfers = true;
                p.undisable_transfers_from = [(addr(1), true)].into();
            },
            1,
            addr(2),
            1,
            None,
        ),
    ];
    for (what, change, from, to, amount, expected) in cases {
        let mut params = parameters();
        change(&mut params);
        let mut world = World::new(params);
        let before = world.dump();
        let result = world.call(*from, METHOD_TRANSFER, &transfer(*to, *amount));
        match expected {
            None => assert_eq!(result, Ok(()), "{what}"),
            Some(code) => {
                refused(result, *code, what);
                assert_eq!(world.dump(), before, "{what}");
            }
        }
    }
    let mut world = World::new(parameters());
    let (_, events) = world.call_in(Mode::DeliverTx, 1, METHOD_TRANSFER, &transfer(Address::burn(), 30));
    assert_eq!(kinds(&events), ["burn", "transfer"]);
    assert_eq!(state::total_supply(&world.state).unwrap(), q(13_970));
    let (_, events) = world.call_in(Mode::DeliverTx, 1, METHOD_BURN, &Burn { amount: q(70) });
    assert_eq!((kinds(&events), world.balance(1)), (vec!["burn"], q(900)));
}

#[test]
fn checks_and_simulations_change_nothing() {
    let mut params = parameters();
    params.gas_costs = [("transfer".to_owned(), 7)].into();
    let mut world = World::new(params);
    let before = world.dump();
    for mode in [Mode::CheckTx, Mode::SimulateTx] {
        let body = Raw::of(&transfer(addr(2), 5000));
        let ((result, used), events) = world.run(mode, |ctx| {
            ctx.set_tx_signer(key(1));
            ctx.set_gas(apps_core::GasMeter::limited(100));
            (Staking.execute_tx(ctx, METHOD_TRANSFER, &body), ctx.gas_used())
        });
        assert_eq!((result, used), (Ok(()), if mode == Mode::CheckTx { 0 } else { 7 }));
        assert!(events.is_empty());
    }
    assert_eq!(world.dump(), before);
    let bad = Raw(vec![0x01]);
    let (result, _) = world.run(Mode::CheckTx, |ctx| Staking.execute_tx(ctx, METHOD_TRANSFER, &bad));
    refused(result, Some(&codes::INVALID_ARGUMENT), "malformed body");
}

#[test]
fn allowances() {
    let allow = |to, negative, amount| Allow { beneficiary: to, negative, amount_change: q(amount) };
    let mut world = World::new(parameters());
    for (what, body, expected) in [
        ("to oneself", allow(addr(1), false, 1), &codes::INVALID_ARGUMENT),
        ("to the common pool", allow(Address::common_pool(), false, 1), &codes::FORBIDDEN),
        ("above supply", allow(addr(2), false, 14_001), &codes::ALLOWANCE_GREATER_THAN_SUPPLY),
    ] {
        refused(world.call(1, METHOD_ALLOW, &body), Some(expected), what);
    }
    assert_eq!(world.call(1, METHOD_ALLOW, &allow(addr(2), false, 100)), Ok(()));
    assert_eq!(world.call(1, METHOD_ALLOW, &allow(addr(3), false, 100)), Ok(()));
    refused(world.call(1, METHOD_ALLOW, &allow(addr(4), false, 1)), Some(&codes::TOO_MANY_ALLOWANCES), "third");
    // More than there is takes all, and removes the entry.
    assert_eq!(world.call(1, METHOD_ALLOW, &allow(addr(3), true, 200)), Ok(()));
    assert_eq!(world.call(1, METHOD_ALLOW, &allow(addr(4), false, 1)), Ok(()));

    let take = |from: Address, amount| Withdraw { from, amount: q(amount) };
    refused(world.call(3, METHOD_WITHDRAW, &take(addr(1), 1)), Some(&codes::FORBIDDEN), "no allowance");
    refused(world.call(2, METHOD_WITHDRAW, &take(addr(1), 101)), Some(&codes::FORBIDDEN), "more than allowed");
    refused(world.call(2, METHOD_WITHDRAW, &take(addr(2), 1)), Some(&codes::INVALID_ARGUMENT), "from oneself");
    let (result, events) = world.call_in(Mode::DeliverTx, 2, METHOD_WITHDRAW, &take(addr(1), 40));
    assert_eq!((result, kinds(&events)), (Ok(()), vec!["transfer", "allowance_change"]));
    assert_eq!((world.balance(1), world.balance(2)), (q(960), q(1040)));
    assert_eq!(world.call(1, METHOD_TRANSFER, &transfer(addr(3), 950)), Ok(()));
    refused(world.call(2, METHOD_WITHDRAW, &take(addr(1), 60)), Some(&codes::INSUFFICIENT_BALANCE), "not there");

    let mut off = World::new(Parameters { max_allowances: 0, ..parameters() });
    refused(off.call(1, METHOD_ALLOW, &allow(addr(2), false, 1)), Some(&codes::FORBIDDEN), "switched off");
    refused(off.call(2, METHOD_WITHDRAW, &take(addr(1), 1)), Some(&codes::FORBIDDEN), "switched off");
}

#[test]
fn hooks_decide_over_withdrawals_and_are_undone_when_these_fail() {
    let mut world = World::new(parameters());
    let destination = HookDestination { module: "hook".to_owned() };
    state::set_account_hook(&mut world.state, &addr(1), HookKind::WITHDRAW, &destination).unwrap();
    let take = |amount| Withdraw { from: addr(1), amount: q(amount) };
    let (result, events) = world.call_in(Mode::DeliverTx, 2, METHOD_WITHDRAW, &take(51));
    refused(result, Some(&codes::FORBIDDEN), "refused by the hook");
    assert!(events.is_empty() && kv::get_raw(&world.state, &HOOK_KEY).unwrap().is_none());
    assert_eq!(world.call(2, METHOD_WITHDRAW, &take(50)), Ok(()));
    assert_eq!((world.balance(1), world.balance(2)), (q(950), q(1050)));
    assert!(kv::get_raw(&world.state, &HOOK_KEY).unwrap().is_some());
}

fn escrow(n: u8, amount: u64) -> Escrow {
    Escrow { account: addr(n), amount: q(amount) }
}

fn reclaim(n: u8, shares: u64) -> ReclaimEscrow {
    ReclaimEscrow { account: addr(n), shares: q(shares) }
}

#[test]
fn delegations() {
    let mut world = World::new(Parameters { min_delegation_amount: q(10), ..parameters() });
    refused(world.call(1, METHOD_ADD_ESCROW, &escrow(2, 9)), Some(&codes::UNDER_MIN_DELEGATION), "small");
    refused(world.call(1, METHOD_ADD_ESCROW, &escrow(2, 1001)), None, "too much");
    refused(world.call(1, METHOD_RECLAIM_ESCROW, &reclaim(2, 0)), Some(&codes::INVALID_ARGUMENT), "nothing");
    let (check, _) = world.call_in(Mode::CheckTx, 1, METHOD_RECLAIM_ESCROW, &reclaim(2, 0));
    refused(check, Some(&codes::INVALID_ARGUMENT), "nothing, while checking");
    refused(world.call(1, METHOD_RECLAIM_ESCROW, &reclaim(2, 1)), None, "no such shares");

    assert_eq!(world.call(1, METHOD_ADD_ESCROW, &escrow(2, 300)), Ok(()));
    assert_eq!(world.call(2, METHOD_ADD_ESCROW, &escrow(2, 100)), Ok(()));
    // A pool that doubled its tokens gives half the shares.
    let mut account = state::account(&world.state, &addr(2)).unwrap();
    account.escrow.active.balance = q(800);
    state::set_account(&mut world.state, &addr(2), &account).unwrap();
    assert_eq!(world.call(3, METHOD_ADD_ESCROW, &escrow(2, 100)), Ok(()));
    assert_eq!(state::delegation(&world.state, &addr(3), &addr(2)).unwrap().shares, q(50));
    assert_eq!(state::delegations_for(&world.state, &addr(3)).unwrap().len(), 1);
    assert_eq!(state::delegations_to(&world.state, &addr(2)).unwrap().len(), 3);

    let (result, events) = world.call_in(Mode::DeliverTx, 3, METHOD_RECLAIM_ESCROW, &reclaim(2, 20));
    assert_eq!((result, kinds(&events)), (Ok(()), vec!["debonding_start"]));
    assert_eq!(world.call(3, METHOD_RECLAIM_ESCROW, &reclaim(2, 30)), Ok(()));
    // Both end at the same time and are one.
    let debonding = state::debonding_delegations_for(&world.state, &addr(3)).unwrap();
    assert_eq!(debonding[&addr(2)].len(), 1);
    assert_eq!((&debonding[&addr(2)][0].shares, debonding[&addr(2)][0].debond_end_time), (&q(100), 13));
    assert!(state::delegations_for(&world.state, &addr(3)).unwrap().is_empty());

    account.escrow.active = SharePool { balance: q(0), total_shares: q(5) };
    state::set_account(&mut world.state, &addr(4), &account).unwrap();
    refused(world.call(1, METHOD_ADD_ESCROW, &escrow(4, 10)), Some(&codes::INVALID_ARGUMENT), "no price");

    let mut own_only = World::new(Parameters { disable_delegation: true, ..parameters() });
    assert_eq!(own_only.call(1, METHOD_ADD_ESCROW, &escrow(1, 10)), Ok(()));
    assert_eq!(own_only.call(1, METHOD_RECLAIM_ESCROW, &reclaim(1, 4)), Ok(()));
    refused(own_only.call(1, METHOD_ADD_ESCROW, &escrow(2, 10)), Some(&codes::FORBIDDEN), "delegation is disabled");
    assert_eq!(own_only.balance(1), q(990));
}

#[test]
fn runtimes_may_delegate_only_where_allowed() {
    for (allowed, mode) in [(false, Mode::DeliverTx), (false, Mode::SimulateTx), (true, Mode::DeliverTx)] {
        let mut world = World::new(Parameters { allow_escrow_messages: allowed, ..parameters() });
        let message = StakingMessage { add_escrow: Some(escrow(2, 10)), ..StakingMessage::default() };
        let (result, _) = world.run(mode, |ctx| {
            ctx.set_tx_signer(key(1));
            ctx.dispatch(&Message::RuntimeStaking(&message))
        });
        match (allowed, result) {
            (true, Ok(Some(Reply::Result(raw)))) => assert!(raw.0.len() > 1),
            (false, result) => refused(result.map(drop), Some(&codes::FORBIDDEN), "message"),
            (true, other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn commission_schedules() {
    let rules = CommissionScheduleRules {
        rate_change_interval: 5,
        rate_bound_lead: 10,
        max_rate_steps: 3,
        max_bound_steps: 2,
        min_commission_rate: q(1000),
    };
    let amendment = |rates: &[(u64, u64)], bounds: &[(u64, u64, u64)]| AmendCommissionSchedule {
        amendment: CommissionSchedule {
            rates: rates.iter().map(|(start, rate)| CommissionRateStep { start: *start, rate: q(*rate) }).collect(),
            bounds: bounds
                .iter()
                .map(|(start, min, max)| CommissionRateBoundStep {
                    start: *start,
                    rate_min: q(*min),
                    rate_max: q(*max),
                })
                .collect(),
        },
    };
    let mut world = World::new(Parameters { commission_schedule_rules: rules, ..parameters() });
    let good = amendment(&[(15, 2000)], &[(15, 1000, 5000)]);
    let amend = METHOD_AMEND_COMMISSION_SCHEDULE;
    refused(world.call(1, amend, &good), Some(&codes::INSUFFICIENT_STAKE), "no stake");
    assert_eq!(world.call(1, METHOD_ADD_ESCROW, &escrow(1, 200)), Ok(()));
    for (what, body) in [
        ("in the past", amendment(&[(10, 2000)], &[(10, 1000, 5000)])),
        ("not aligned", amendment(&[(16, 2000)], &[(16, 1000, 5000)])),
        ("not rising", amendment(&[(15, 2000), (15, 3000)], &[(15, 1000, 5000)])),
        ("out of bounds", amendment(&[(15, 6000)], &[(15, 1000, 5000)])),
        ("below the lowest", amendment(&[(15, 2000)], &[(15, 999, 5000)])),
        ("above all", amendment(&[(15, 2000)], &[(15, 1000, 100_001)])),
        ("crossed bounds", amendment(&[(15, 2000)], &[(15, 3000, 2000)])),
        ("too many rates", amendment(&[(15, 2000), (20, 2000), (25, 2000), (30, 2000)], &[(15, 1000, 5000)])),
        ("no bounds", amendment(&[(15, 2000)], &[])),
        ("no rates", amendment(&[], &[(15, 1000, 5000)])),
        ("different starts", amendment(&[(20, 2000)], &[(15, 1000, 5000)])),
        ("later rate out of bounds", amendment(&[(15, 2000), (20, 5001)], &[(15, 1000, 5000)])),
        ("later bound excludes", amendment(&[(15, 2000)], &[(15, 1000, 5000), (20, 3000, 5000)])),
    ] {
        refused(world.call(1, amend, &body), None, what);
    }
    assert_eq!(world.call(1, amend, &good), Ok(()));
    assert_eq!(state::commission_schedule_addresses(&world.state).unwrap(), [addr(1)]);
    // From the second schedule on bounds need their lead.
    refused(world.call(1, amend, &amendment(&[], &[(20, 1000, 6000)])), None, "bounds too soon");
    assert_eq!(world.call(1, amend, &amendment(&[(20, 3000)], &[(25, 1000, 6000)])), Ok(()));
    world.set_epoch(20);
    assert_eq!(world.call(1, amend, &amendment(&[(25, 6000)], &[])), Ok(()));
    let schedule = state::account(&world.state, &addr(1)).unwrap().escrow.commission_schedule;
    assert_eq!(schedule.rates.iter().map(|s| s.start).collect::<Vec<_>>(), [20, 25]);
    assert_eq!(schedule.bounds.iter().map(|s| s.start).collect::<Vec<_>>(), [15, 25]);
    assert_eq!(schedule.current_rate(24), Some(&q(3000)));
}

#[test]
fn parameter_changes() {
    use wire_consensus::staking::ParameterChanges;
    let rules = CommissionScheduleRules {
        rate_change_interval: 1,
        max_rate_steps: 2,
        max_bound_steps: 2,
        ..CommissionScheduleRules::default()
    };
    let mut world = World::new(Parameters { commission_schedule_rules: rules, ..parameters() });
    let mut account = state::account(&world.state, &addr(1)).unwrap();
    account.escrow.commission_schedule = CommissionSchedule {
        rates: vec![CommissionRateStep { start: 1, rate: q(10) }],
        bounds: vec![CommissionRateBoundStep { start: 1, rate_min: q(5), rate_max: q(2000) }],
    };
    state::set_account(&mut world.state, &addr(1), &account).unwrap();
    let mut send = |module: &str, changes: &ParameterChanges, apply: bool| {
        let changes = Raw::of(changes);
        let message = if apply {
            Message::ChangeParameters { module, changes: &changes }
        } else {
            Message::ValidateParameterChanges { module, changes: &changes }
        };
        let mode = if apply { Mode::EndBlock } else { Mode::DeliverTx };
        let (result, _) = world.run(mode, |ctx| Staking.message(ctx, &message));
        (result, state::parameters(&world.state).unwrap(), state::account(&world.state, &addr(1)).unwrap())
    };
    let raise = ParameterChanges { min_commission_rate: Some(q(1000)), ..ParameterChanges::default() };
    assert_eq!(send("registry", &raise, true).0, Ok(None));
    refused(send("staking", &ParameterChanges::default(), false).0.map(drop), None, "empty");
    let bad = ParameterChanges { min_commission_rate: Some(q(100_001)), ..ParameterChanges::default() };
    refused(send("staking", &bad, true).0.map(drop), None, "over unity");

    let (result, params, _) = send("staking", &raise, false);
    assert_eq!((result, params.commission_schedule_rules.min_commission_rate), (Ok(Some(Reply::Done)), q(0)));
    let (result, params, account) = send("staking", &raise, true);
    assert_eq!((result, params.commission_schedule_rules.min_commission_rate), (Ok(Some(Reply::Done)), q(1000)));
    let schedule = account.escrow.commission_schedule;
    assert_eq!(schedule.rates[0].rate, q(1000));
    assert_eq!((&schedule.bounds[0].rate_min, &schedule.bounds[0].rate_max), (&q(1000), &q(2000)));
}
