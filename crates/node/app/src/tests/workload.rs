//! Random traffic over all services, with the books checked after every block.

use std::{collections::BTreeMap, time::Instant};

use super::{Rng, local, traffic::Traffic, world::World};
use crate::sanity_check;

/// Environment variable with the number of transactions.
const TXS_ENV: &str = "WADI_WORKLOAD_TXS";
const DEFAULT_TXS: usize = 20_000;
const PER_BLOCK: usize = 100;

/// Successes and failures by method.
type Counts = BTreeMap<String, (usize, usize)>;

fn run(seed: u64, txs: usize, follower: bool) -> (World, Counts) {
    let mut rng = Rng::new(seed);
    let mut world = World::new(follower);
    let mut traffic = Traffic::new(world.app.mux().chain().clone());
    let mut counts = Counts::new();
    let mut sent = 0;
    // No transaction in the first block: the state has no epoch yet.
    world.block(&mut rng, &[]);
    while sent < txs {
        let count = (txs - sent).min(1 + rng.below(2 * PER_BLOCK - 1));
        traffic.prepare(&world);
        let (methods, raw): (Vec<_>, Vec<_>) = (0..count).map(|_| traffic.transaction(&mut rng)).unzip();
        let results = world.block(&mut rng, &raw);
        assert_eq!(results.tx_results.len(), count + 1);
        for (method, result) in methods.iter().zip(&results.tx_results) {
            let (good, bad) = counts.entry(method.clone()).or_default();
            *if result.code == 0 { good } else { bad } += 1;
        }
        world.check();
        sent += count;
    }
    (world, counts)
}

#[test]
fn books_balance_under_random_traffic() {
    let txs = std::env::var(TXS_ENV).map_or(DEFAULT_TXS, |n| n.parse().expect("a number of transactions"));
    let started = Instant::now();
    let (world, counts) = run(1, txs, false);
    println!("{txs} transactions in {} blocks, epoch {}, {:?}", world.height, world.epoch(), started.elapsed());
    for (method, (good, bad)) in &counts {
        println!("{method}: {good} succeeded, {bad} failed");
        if txs >= DEFAULT_TXS {
            assert!(*bad > 0, "{method} never failed");
        }
    }
    if txs >= DEFAULT_TXS {
        for method in Traffic::SUCCEEDING {
            assert!(counts.get(*method).is_some_and(|(good, _)| *good > 10), "{method} hardly ever succeeded");
        }
        traffic_reached_every_outcome(&world);
    }
    let mut doc = world.export();
    // The state does not know the name of the token.
    (doc.staking.token_symbol, doc.staking.token_value_exponent) = ("TEST".to_owned(), 6);
    doc.staking.sanity_check(world.epoch(), true).unwrap();
    sanity_check(&doc, &local()).unwrap();
}

/// Proposals of all fates and vaults in both states, or the traffic is duller than it looks.
fn traffic_reached_every_outcome(world: &World) {
    use apps_governance::{governance::state as governance, vault::state as vault};
    use wire_consensus::governance::ProposalState;
    let proposals = governance::proposals(world.state()).unwrap();
    for state in [ProposalState::PASSED, ProposalState::REJECTED, ProposalState::ACTIVE] {
        let n = proposals.iter().filter(|p| p.state == state).count();
        println!("proposals {state}: {n}");
        assert!(n > 0, "no proposal is {state}");
    }
    let vaults = vault::vaults(world.state()).unwrap();
    let active = vaults.iter().filter(|v| v.is_active()).count();
    println!("vaults: {}, of these active: {active}", vaults.len());
    assert!(active > 0);
}

#[test]
fn same_seed_gives_the_same_state() {
    let root = |seed, follower| run(seed, 2_000, follower).0.app.store().committed().unwrap();
    let first = root(7, true);
    assert_eq!(first, root(7, false));
    assert_ne!(first, root(8, false));
}
