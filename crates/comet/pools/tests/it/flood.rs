//! Many peers send as much as they can; the size of the process is watched.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use comet_core::PeerId;
use comet_net::Reactor;
use comet_net::testing::peer;
use comet_pools::{PeerHeights, TX_CHANNEL, TxPool, TxPoolConfig, TxPoolReactor};
use tokio_util::sync::CancellationToken;
use wire_cometbft::Message;
use wire_cometbft::mempool::{MempoolMessage, MempoolMessageSum, Txs};

const PEERS: u32 = 20;
/// Messages per peer, each of up to 1 MiB.
const MESSAGES: u32 = 12;
const TXS_PER_MESSAGE: u32 = 1_000;
const TX_BYTES: usize = 1_000;
/// What may stay of some 250 MB that were sent.
const GROWTH: u64 = 96 << 20;

struct Unknown;

impl PeerHeights for Unknown {
    fn height(&self, _: &PeerId) -> Option<i64> {
        None
    }
}

/// Bytes of memory in use, if the system tells.
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(statm.split(' ').nth(1)?.parse::<u64>().ok()? * 4096)
}

fn message(lead: &[u8], from: u32, number: u32) -> Bytes {
    let tx = |n: u32| {
        let mut tx = lead.to_vec();
        for part in [from, number, n] {
            tx.extend_from_slice(&part.to_be_bytes());
        }
        tx.resize(TX_BYTES, 0);
        tx
    };
    let message: MempoolMessage = MempoolMessageSum::Txs(Txs { txs: (0..TXS_PER_MESSAGE).map(tx).collect() }).into();
    Bytes::from(message.encode_to_vec())
}

async fn flood(config: TxPoolConfig, lead: &'static [u8]) -> (Arc<TxPool>, u64, Duration) {
    let pool = Arc::new(TxPool::new(config, crate::app::shared(), 0));
    let reactor = Arc::new(TxPoolReactor::new(Arc::clone(&pool), Arc::new(Unknown), CancellationToken::new()));
    let before = resident().unwrap_or_default();
    let mut peers = tokio::task::JoinSet::new();
    for from in 0..PEERS {
        let reactor = Arc::clone(&reactor);
        peers.spawn(async move {
            let peer = peer(&from.to_string(), false, &reactor.channels());
            for number in 0..MESSAGES {
                reactor.receive(TX_CHANNEL, &peer, message(lead, from, number)).await.expect("peer is not dropped");
            }
        });
    }
    // Somebody who uses the node meanwhile.
    let mut slowest = Duration::ZERO;
    let mut n = 0_u32;
    while !peers.is_empty() {
        let start = Instant::now();
        let mut tx = b"+\xff".to_vec();
        tx.extend_from_slice(&n.to_be_bytes());
        let outcome = pool.submit(Bytes::from(tx), None).await;
        assert!(outcome.is_added(), "{outcome:?}");
        slowest = slowest.max(start.elapsed());
        n += 1;
        let _ = tokio::time::timeout(Duration::from_millis(20), peers.join_next()).await;
    }
    (pool, resident().unwrap_or_default().saturating_sub(before), slowest)
}

/// One after the other: both watch the whole process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_do_not_grow_the_process() {
    let config = TxPoolConfig { keep_invalid_in_cache: true, ..TxPoolConfig::default() };
    let (pool, grown, slowest) = flood(config, b"-").await;
    println!("bad transactions: grown by {} KiB, slowest submission {slowest:?}", grown >> 10);
    assert!(grown < GROWTH, "{grown}");
    assert_eq!(pool.remembered(), pool.config().cache_size);
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");

    // Good ones: the pool is full, then they are refused.
    let config = TxPoolConfig { max_txs: 5_000, max_bytes: 2 << 20, ..TxPoolConfig::default() };
    let (pool, grown, slowest) = flood(config, b"+\x01").await;
    println!("good transactions: grown by {} KiB, slowest submission {slowest:?}", grown >> 10);
    assert!(grown < GROWTH, "{grown}");
    assert!(pool.bytes() <= 2 << 20 && pool.bytes() > (2 << 20) - 2 * TX_BYTES as u64);
    assert!(pool.remembered() <= pool.config().cache_size);
}
