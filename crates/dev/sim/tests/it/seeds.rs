//! Scenarios drawn from seeds.

use dev_sim::scenario::Scenario;
use dev_sim::world::{Outcome, run};

/// Runs a scenario twice: the same must happen. On failure prints how to run it again, and the least of it that fails.
pub(crate) fn check(scenario: &Scenario) -> Outcome {
    let outcome = run(scenario);
    assert_eq!(run(scenario), outcome, "not deterministic: {scenario:?}");
    if outcome.violations.is_empty() {
        return outcome;
    }
    let mut least = scenario.clone();
    while let Some(smaller) = least.smaller().into_iter().find(|smaller| !run(smaller).violations.is_empty()) {
        least = smaller;
    }
    let seed = scenario.seed;
    panic!(
        "{:#?}\nagain (if the scenario was drawn from its seed): \
         WADI_SIM_SEEDS={seed}..{} cargo test -p dev-sim --test it seeds\nleast that fails: {least:#?}\n{:#?}",
        outcome.violations,
        seed + 1,
        run(&least).violations,
    );
}

fn range() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("WADI_SIM_SEEDS") else { return 0..16 };
    let (from, to) = text.split_once("..").expect("WADI_SIM_SEEDS is FROM..TO");
    from.parse().unwrap()..to.parse().unwrap()
}

#[test]
fn seeds_hold() {
    let (mut crashes, mut faults, mut max_round, mut events, mut locked) = (0, 0, 0, 0, 0);
    for seed in range() {
        let outcome = check(&Scenario::from_seed(seed));
        crashes += outcome.crashes;
        faults += outcome.faults;
        events += outcome.events;
        locked += outcome.locked_votes;
        max_round = max_round.max(outcome.max_round);
    }
    println!(
        "seeds {:?}: {events} events, {crashes} crashes, {faults} faults proven, {locked} votes under a lock, \
         round {max_round}",
        range()
    );
    if range().count() >= 16 {
        assert!(crashes > 0 && faults > 0 && locked > 0 && max_round > 1, "the corpus has grown too tame");
    }
}

#[test]
fn regressions_hold() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/regressions");
    let text = std::fs::read_to_string(format!("{dir}/seeds.txt")).unwrap();
    let seeds = text.lines().filter_map(|line| line.split('#').next()?.trim().parse().ok());
    for seed in seeds {
        check(&Scenario::from_seed(seed));
    }
}
