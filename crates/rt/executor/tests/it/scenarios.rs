//! Scenarios over ranges of seeds: `SIM_SEEDS=1000` runs that many of each, `SIM_SEED=7` only that one.

use wire_consensus::roothash::HeaderType;

use crate::world::{Kind, Outcome, Scenario, World};

use Kind::*;

fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIM_SEEDS").unwrap_or(default),
    }
}

fn scenario(seed: u64, kinds: &[Kind]) -> Scenario {
    Scenario {
        seed,
        kinds: kinds.to_vec(),
        workers: kinds.len(),
        backups: kinds.len(),
        stragglers: 0,
        epoch_blocks: 0,
        blocks: 60,
        txs: 30,
        loss: 2,
    }
}

/// Runs a scenario twice and compares; says which seed failed.
fn run(scenario: Scenario) -> Outcome {
    let seed = scenario.seed;
    let result = std::panic::catch_unwind(|| {
        let first = World::new(scenario.clone()).run();
        let second = World::new(scenario).run();
        assert_eq!(first.trace, second.trace, "not deterministic");
        first
    });
    result.unwrap_or_else(|cause| {
        println!("failed; repeat with SIM_SEED={seed} SIM_TRACE=1");
        std::panic::resume_unwind(cause)
    })
}

fn count(outcome: &Outcome, kind: HeaderType) -> usize {
    outcome.blocks.iter().filter(|t| **t == kind).count()
}

/// No transaction is in two blocks.
fn check_once(outcome: &Outcome) {
    assert!(outcome.included.values().all(|n| *n == 1), "{:?}", outcome.included);
}

/// Every submitted transaction is in exactly one block.
fn check_all(outcome: &Outcome) {
    check_once(outcome);
    let included = outcome.included.keys().copied().collect();
    assert_eq!(outcome.submitted, included, "not all transactions are in blocks");
}

#[test]
fn honest_committee() {
    for seed in seeds(3) {
        let outcome = run(Scenario { loss: 0, ..scenario(seed, &[Honest; 4]) });
        check_all(&outcome);
        assert!(count(&outcome, HeaderType::NORMAL) >= 20, "{outcome:?}");
        assert_eq!(count(&outcome, HeaderType::ROUND_FAILED), 0, "{outcome:?}");
        assert_eq!(outcome.discrepancies, 0, "{outcome:?}");
        assert!(outcome.accused.is_empty() && outcome.refused.is_empty(), "{outcome:?}");
    }
}

#[test]
fn epochs_change_in_the_middle_of_rounds() {
    for seed in seeds(3) {
        let mut s = scenario(seed, &[Honest; 6]);
        (s.workers, s.backups, s.epoch_blocks) = (3, 2, 7);
        let outcome = run(s);
        check_once(&outcome);
        assert!(count(&outcome, HeaderType::EPOCH_TRANSITION) >= 7);
        assert!(count(&outcome, HeaderType::NORMAL) >= 12, "{outcome:?}");
        assert!(outcome.included.len() * 10 >= outcome.submitted.len() * 9, "{outcome:?}");
    }
}

#[test]
fn stragglers_are_waited_for_or_not() {
    for seed in seeds(3) {
        let mut s = scenario(seed, &[Honest, Honest, Straggler, Honest, Honest]);
        s.stragglers = 1;
        let outcome = run(s.clone());
        check_once(&outcome);
        assert!(count(&outcome, HeaderType::NORMAL) >= 10, "{outcome:?}");
        s.stragglers = 0;
        let outcome = run(s);
        check_once(&outcome);
        // Backup workers decide without it.
        assert!(outcome.discrepancies > 0 && count(&outcome, HeaderType::NORMAL) >= 3, "{outcome:?}");
    }
}

#[test]
fn dishonest_minority_is_outvoted() {
    for seed in seeds(3) {
        let outcome = run(scenario(seed, &[Honest, Dishonest, Honest, Honest, Honest]));
        check_once(&outcome);
        assert!(outcome.discrepancies > 0, "{outcome:?}");
        // Its own rounds fail, others succeed.
        assert!(count(&outcome, HeaderType::NORMAL) >= 10, "{outcome:?}");
        assert!(count(&outcome, HeaderType::ROUND_FAILED) >= 1, "{outcome:?}");
    }
}

#[test]
fn equivocation_is_reported() {
    let mut accused = 0;
    for seed in seeds(3) {
        let outcome = run(scenario(seed, &[Honest, Equivocating, Honest, Honest, Honest]));
        check_once(&outcome);
        accused += outcome.accused.len();
        assert!(count(&outcome, HeaderType::NORMAL) >= 5, "{outcome:?}");
    }
    assert!(accused > 0);
}

#[test]
fn crashing_nodes_never_contradict_themselves() {
    for seed in seeds(6) {
        let mut s = scenario(seed, &[Honest, Crashing, Crashing, Honest, Honest]);
        s.stragglers = (seed % 2) as u16;
        s.blocks = 90;
        let outcome = run(s);
        check_once(&outcome);
        assert!(outcome.restarts > 0);
        assert!(count(&outcome, HeaderType::NORMAL) >= 3, "{outcome:?}");
    }
}

#[test]
fn late_nodes_and_bad_disks() {
    for seed in seeds(3) {
        let outcome = run(scenario(seed, &[Honest, Late, Honest, BadDisk, Honest]));
        check_once(&outcome);
        assert!(count(&outcome, HeaderType::NORMAL) >= 3, "{outcome:?}");
        assert!(outcome.accused.is_empty());
    }
}

#[test]
fn everything_at_once() {
    let all = [Honest, Straggler, Dishonest, Equivocating, Crashing, Late, BadDisk, Honest, Honest];
    for seed in seeds(3) {
        let mut s = scenario(seed, &all);
        (s.workers, s.backups, s.stragglers) = (5, 7, 1);
        (s.epoch_blocks, s.blocks, s.loss) = (11, 80, 5);
        let outcome = run(s);
        check_once(&outcome);
        assert!(count(&outcome, HeaderType::EPOCH_TRANSITION) >= 6);
    }
}
