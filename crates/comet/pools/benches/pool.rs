//! How the transaction pool grows: checking, reaping, updating and evicting with 10^3, 10^4 and 10^5 transactions.
//!
//! Each line is `name transactions milliseconds nanoseconds-per-transaction`. The application's own work is not counted:
//! it looks at two bytes.

#[path = "../tests/it/app.rs"]
mod app;

use std::time::Instant;

use bytes::Bytes;
use comet_chain::app::TxResult;
use comet_pools::{TxPool, TxPoolConfig};
use comet_store::TxPool as _;

/// Bytes of a transaction; about the size of a transfer.
const TX_BYTES: usize = 250;

fn tx(n: u32, priority: u8) -> Bytes {
    let mut tx = vec![b'+', priority];
    tx.extend_from_slice(&n.to_be_bytes());
    tx.resize(TX_BYTES, 7);
    Bytes::from(tx)
}

fn timed<T>(name: &str, txs: usize, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let out = work();
    let time = start.elapsed();
    let each = time.as_nanos() / txs.max(1) as u128;
    println!("{name:10} {txs:>7} {:>10.2} {each:>8}", time.as_secs_f64() * 1e3);
    out
}

fn main() {
    for txs in [1_000_u32, 10_000, 100_000] {
        let count = txs as usize;
        let config = TxPoolConfig { max_txs: count, cache_size: 2 * count, ..TxPoolConfig::default() };
        let app = app::shared();
        let pool = TxPool::new(config, app.clone(), 0);
        let all: Vec<Bytes> = (0..txs).map(|n| tx(n, (n % 100) as u8)).collect();
        timed("check", count, || {
            for tx in &all {
                assert!(pool.check(tx.clone(), None).is_added());
            }
        });
        timed("duplicate", count, || {
            for tx in &all {
                assert!(!pool.check(tx.clone(), None).is_added());
            }
        });
        let reaped = timed("reap", count, || pool.reap(-1, -1));
        assert_eq!(reaped.len(), count);
        timed("evict", count, || {
            for n in 0..txs {
                assert!(pool.check(tx(txs + n, 200), None).is_added());
            }
        });
        assert_eq!(pool.size(), count);
        let block = pool.reap(125 * i64::from(txs), -1);
        let results = vec![TxResult::default(); block.len()];
        timed("update", count, || {
            let mut app = app.lock();
            pool.before_commit();
            pool.after_commit(1, &block, &results, &mut **app);
        });
        assert_eq!(pool.size(), count - block.len());
    }
}
