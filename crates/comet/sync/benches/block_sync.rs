//! How fast recorded chains are synced from a peer in the same process, with stores on disk and their real syncs.
//!
//! `cargo bench -p comet-sync` prints, for each chain, blocks per second and where the time of the two threads went.

#![allow(clippy::unwrap_used)] // a failure ends the measurement

#[path = "../tests/it/lab.rs"]
#[allow(dead_code)]
mod lab;

use std::sync::Arc;
use std::time::{Duration, Instant};

use base_kv_disk::{Disk, Options};
use comet_sync::{BlockSync, BlockSyncConfig, Goal, StoreSink};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use lab::{Node, Recorded, RecordedApp, RecordedSource, connect};

const CHAINS: [&str; 4] = ["vault", "insecure-beacon-rewards", "runtime-txsource-multi-short", "runtime-runtime"];
const ROUNDS: usize = 3;

async fn sync_once(chain: &Arc<Recorded>) {
    let dir = tempfile::tempdir().unwrap();
    let kv = Arc::new(Disk::open(&dir.path().join("index"), Options::default()).unwrap());
    let node = Node::with(&dir.path().join("blocks"), kv, RecordedApp::new(chain, &Arc::default()));
    let stop = CancellationToken::new();
    let config = || BlockSyncConfig {
        switch_interval: Duration::from_millis(5),
        tick: Duration::from_millis(5),
        ..BlockSyncConfig::default()
    };
    let source = Arc::new(RecordedSource::new(chain));
    let bytes: usize = source.encoded.iter().map(bytes::Bytes::len).sum();
    let server = BlockSync::new(config(), source, Handle::current(), stop.clone());
    let client = BlockSync::new(config(), Arc::clone(&node.blocks) as _, Handle::current(), stop.clone());
    connect((&client, 1), (&server, 2));
    let sink = Arc::new(StoreSink { executor: Arc::clone(&node.executor) });
    let begun = Instant::now();
    let end = client.run(chain.genesis_state(), sink, Goal::CaughtUp, stop.clone()).await.unwrap();
    let spent = begun.elapsed();
    stop.cancel();
    let per_second = end.applied as f64 / spent.as_secs_f64();
    println!(
        "{:>4} blocks of {:>6} bytes, {:>3} validators: {per_second:>7.0} blocks/s; {:?}",
        end.applied,
        bytes / chain.blocks.len(),
        end.state.validators.len(),
        end.times,
    );
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for name in CHAINS {
        println!("{name}");
        let chain = Arc::new(Recorded::named(name));
        for _ in 0..ROUNDS {
            runtime.block_on(sync_once(&chain));
        }
    }
}
