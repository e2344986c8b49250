//! What a block costs while history grows: random traffic followed by a node on disk that keeps every version.

use std::{sync::Arc, time::Duration};

use base_kv_disk::Disk;
use base_prims::Namespace;
use mkvs_db::{Config, NodeDb};

use super::{Rng, traffic::Traffic, world::World};
use crate::{DbStore, WriteBehind};

/// Environment variable with the number of blocks.
const BLOCKS_ENV: &str = "WADI_GROWTH_BLOCKS";
const DEFAULT_BLOCKS: usize = 600;
/// Windows of time of which figures are printed.
const WINDOWS: usize = 10;
/// Most transactions of a block; there are half as many on average.
const MOST_TXS: usize = 10;
/// How many times as much the cheapest late window may cost as the cheapest early one. Generous, because other programs
/// run beside the test; a cost that grows with history goes far beyond it.
const MOST_GROWTH: u32 = 3;

/// Traffic over all services, most of which add keys to the state.
#[test]
fn blocks_cost_the_same_as_history_grows() {
    follow(|traffic, rng| traffic.transaction(rng).1);
}

/// Transfers only: history grows, the state does not.
#[test]
fn blocks_cost_the_same_over_a_state_that_does_not_grow() {
    follow(|traffic, rng| traffic.transfer(rng));
}

fn follow(next: impl Fn(&mut Traffic, &mut Rng) -> Vec<u8>) {
    let blocks = std::env::var(BLOCKS_ENV).map_or(DEFAULT_BLOCKS, |n| n.parse().expect("a number of blocks"));
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path(), base_kv_disk::Options::default()).unwrap();
    let behind = WriteBehind::new(Arc::new(disk)).unwrap();
    let db = NodeDb::open(Arc::new(behind), Config { discard_write_logs: true, ..Config::new(Namespace::ZERO) });
    let db = db.unwrap();
    let mut world = World::followed_by(Some(Box::new(DbStore::open(&db).unwrap())));
    let mut rng = Rng::new(11);
    let mut traffic = Traffic::new(world.app.mux().chain().clone());
    world.block(&mut rng, &[]);
    let window = blocks.div_ceil(WINDOWS);
    let mut costs: Vec<Duration> = Vec::new();
    let mut total = 0;
    for _ in 0..WINDOWS {
        let (before, mut txs) = (world.following, 0);
        for _ in 0..window {
            let count = 1 + rng.below(MOST_TXS);
            traffic.prepare(&world);
            let raw: Vec<_> = (0..count).map(|_| next(&mut traffic, &mut rng)).collect();
            world.block(&mut rng, &raw);
            txs += count;
        }
        total += txs;
        let (clock, processor) = (world.following.0 - before.0, world.following.1 - before.1);
        let per_thousand = |d: Duration| d.as_secs_f64() * 1e6 / window as f64;
        println!(
            "blocks to {}: {txs} transactions, {} keys, per 1,000 blocks {:.0} ms ({:.0} ms of the processor)",
            world.height,
            apps_core::kv::collect(world.state(), &[]).unwrap().len(),
            per_thousand(clock),
            per_thousand(processor)
        );
        costs.push(if processor.is_zero() { clock } else { processor });
    }
    let (early, late) = costs.split_at(WINDOWS / 2);
    let (early, late) = (early.iter().min().unwrap(), late.iter().min().unwrap());
    println!("{total} transactions");
    assert!(*late < *early * MOST_GROWTH, "{early:?} per window became {late:?}");
    assert_eq!(db.latest_version(), Some(world.height.unsigned_abs()));
}
