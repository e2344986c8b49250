//! One kind of fault at a time.

use dev_sim::scenario::{Crash, Partition, Role, Scenario, Tx};
use dev_sim::world::run;

use crate::seeds::check;

#[test]
fn a_calm_network_commits_in_round_zero() {
    let outcome = check(&Scenario::calm(1, 4));
    assert!(outcome.height >= 15 && outcome.max_round == 0, "{outcome:?}");
}

fn with_one(role: Role, seed: u64) -> Scenario {
    let mut scenario = Scenario::calm(seed, 4);
    scenario.roles[0] = role;
    (scenario.latency_ms, scenario.jitter_ms) = (5, 60);
    scenario
}

#[test]
fn a_silent_validator_only_costs_rounds() {
    let outcome = check(&with_one(Role::Silent, 2));
    assert!(outcome.max_round > 0, "{outcome:?}");
}

#[test]
fn an_equivocator_is_proven_in_blocks() {
    let mut scenario = with_one(Role::Equivocator, 3);
    scenario.heights_after = 15;
    let outcome = check(&scenario);
    assert!(outcome.faults > 0, "{outcome:?}");
}

#[test]
fn an_amnesiac_does_not_split_the_rest() {
    let mut scenario = with_one(Role::Amnesiac, 4);
    scenario.loss = 150;
    check(&scenario);
}

#[test]
fn votes_of_future_rounds_do_no_harm() {
    check(&with_one(Role::FutureRound, 5));
}

#[test]
fn bad_parts_do_no_harm() {
    check(&with_one(Role::BadPart, 6));
}

#[test]
fn twins_are_proven_and_do_not_split_the_rest() {
    let mut faults = 0;
    for seed in 70..74 {
        let mut scenario = with_one(Role::Honest, seed);
        scenario.roles.push(Role::TwinOf(0));
        scenario.heights_after = 12;
        // Each twin on one side for a while.
        for (at, side) in [(300, 0b10010), (1800, 0b10100), (3300, 0b11000)] {
            scenario.partitions.push(Partition { from_ms: at, to_ms: at + 1200, side });
        }
        faults += check(&scenario).faults;
    }
    assert!(faults > 0);
}

#[test]
fn partitions_heal() {
    for (seed, side) in [(80, 0b0011), (81, 0b0001), (82, 0b0101)] {
        let mut scenario = Scenario::calm(seed, 4);
        scenario.block_sync = seed % 2 == 0;
        scenario.partitions.push(Partition { from_ms: 500, to_ms: 4500, side });
        check(&scenario);
    }
}

#[test]
fn validators_join_and_leave_while_others_crash() {
    let mut scenario = Scenario::calm(90, 5);
    scenario.validators = 4;
    for (at_ms, text) in [(500, "val 4 10"), (1800, "val 1 0"), (3000, "val 1 12"), (4000, "val 4 0")] {
        scenario.txs.push(Tx { at_ms, text: text.into() });
    }
    for (node, point) in [(0, 200), (1, 300), (2, 400), (4, 250)] {
        scenario.crashes.push(Crash { node, point, down_ms: 700 });
    }
    let outcome = check(&scenario);
    assert_eq!(outcome.crashes, 4);
}

/// One node of four crashes at each of its first places in turn, from the first start on: before and after each effect,
/// within the guard and within the execution of a block. With the others it must go on as if nothing had been.
#[test]
fn a_crash_at_any_point_is_survived() {
    let mut calm = Scenario::calm(100, 4);
    (calm.heights_after, calm.faults_end_ms) = (1, 1500);
    let whole = std::env::var("WADI_SIM_SEEDS").is_ok();
    let places = if whole { 1..1500 } else { 1..150 };
    let mut crashed = 0;
    for point in places {
        let mut scenario = calm.clone();
        scenario.seed = 100 + point % 7;
        scenario.crashes.push(Crash { node: usize::try_from(point % 4).unwrap(), point, down_ms: 300 });
        let outcome = run(&scenario);
        assert!(outcome.violations.is_empty(), "{:?}\n{scenario:#?}", outcome.violations);
        crashed += outcome.crashes;
    }
    assert!(crashed >= 149, "{crashed}");
}

/// All nodes crash at about the same time, again and again.
#[test]
fn crashes_of_everybody_are_survived() {
    for seed in 110..114 {
        let mut scenario = Scenario::calm(seed, 4);
        scenario.jitter_ms = 50;
        for node in 0..4 {
            for time in 1..6 {
                let point = time * 100 + (seed * 31 + node * 17 + time * 7) % 40;
                let node = usize::try_from(node).unwrap();
                scenario.crashes.push(Crash { node, point, down_ms: 200 });
            }
        }
        let outcome = check(&scenario);
        assert!(outcome.crashes >= 15, "{outcome:?}");
    }
}

/// The oracles see what they are there for: nodes that forget are caught when watched as if they were honest, and too
/// many hostile validators split the chain.
#[test]
fn the_oracles_see_violations() {
    let violations = |scenario: &Scenario| run(scenario).violations.join("; ");
    let mut seen = String::new();
    for seed in 120..126 {
        let mut scenario = with_one(Role::Amnesiac, seed);
        scenario.loss = 250;
        scenario.slow_ms = vec![200, 0, 300, 0];
        scenario.watch_all = true;
        seen += &violations(&scenario);
    }
    assert!(seen.contains("signed twice"), "{seen}");

    // Half of the keys run twice, once on each side of a split: both sides have two thirds.
    let mut scenario = Scenario::calm(130, 4);
    scenario.roles.extend([Role::TwinOf(0), Role::TwinOf(1)]);
    scenario.partitions.push(Partition { from_ms: 0, to_ms: 5000, side: 0b111000 });
    let seen = violations(&scenario);
    assert!(seen.contains("committed another block"), "{seen}");
}
