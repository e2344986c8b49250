//! Streams follow the chain.

use std::time::Duration;

use apps_committees::roothash;
use base_codec::cbor;
use base_grpc::{BoxStream, Cbor};
use base_prims::Namespace;
use comet_store::exec::NEW_BLOCK_QUEUE;
use futures_util::StreamExt as _;
use tokio::time::timeout;
use wire_consensus::registry::NodeList;
use wire_consensus::roothash::AnnotatedBlock;
use wire_consensus::{keymanager, registry, scheduler, staking};

use super::{Served, served};
use crate::serve::service;
use crate::types::Block;

const RUNTIME: &str = "runtime-runtime";
const LONG: Duration = Duration::from_secs(20);

type Items<T> = BoxStream<Cbor<T>>;

impl Served {
    async fn watch<T: cbor::Encode + cbor::Decode + Send + 'static>(&self, method: &str) -> Items<T> {
        let (name, method) = method.rsplit_once('/').unwrap();
        self.client.stream(&service(name), method, &()).await.unwrap()
    }
}

async fn next<T>(items: &mut Items<T>) -> T {
    let item = timeout(LONG, items.next()).await.expect("an item comes").expect("the stream goes on");
    item.unwrap().0
}

#[tokio::test]
async fn a_slow_reader_misses_nothing() {
    let served = served(RUNTIME, 2).await;
    let mut blocks: Items<Block> = served.watch("Consensus/WatchBlocks").await;
    let mut staking: Items<staking::Event> = served.watch("Staking/WatchEvents").await;
    let mut registry: Items<registry::Event> = served.watch("Registry/WatchEvents").await;
    // More blocks at once than wait for a reader.
    const { assert!(75 > NEW_BLOCK_QUEUE) };
    served.apply(2..77);
    let (mut staked, mut registered) = (0, 0);
    for height in 3..=77i64 {
        let block = next(&mut blocks).await;
        assert_eq!(block, served.call::<_, Block>("Consensus/GetBlock", height).await.unwrap());
        let events: Vec<staking::Event> = served.call("Staking/GetEvents", height).await.unwrap();
        staked += events.len();
        for event in events {
            assert_eq!(event.height, height);
            assert_eq!(next(&mut staking).await, event);
        }
        let events: Vec<registry::Event> = served.call("Registry/GetEvents", height).await.unwrap();
        registered += events.len();
        for event in events {
            assert_eq!(next(&mut registry).await, event);
        }
    }
    assert!(staked > 0 && registered > 0, "{staked} {registered}");
    // Nothing more comes, and a stop ends what waits.
    assert!(timeout(Duration::from_millis(50), blocks.next()).await.is_err());
    served.stop.cancel();
    assert!(timeout(LONG, blocks.next()).await.unwrap().is_none());
    assert!(timeout(LONG, staking.next()).await.unwrap().is_none());
    served.end().await;
}

#[tokio::test]
async fn streams_begin_with_what_is() {
    let served = served(RUNTIME, 40).await;
    let mut epochs: Items<u64> = served.watch("Beacon/WatchEpochs").await;
    let mut committees: Items<scheduler::Committee> = served.watch("Scheduler/WatchCommittees").await;
    let mut lists: Items<NodeList> = served.watch("Registry/WatchNodeList").await;
    let mut runtimes: Items<registry::Runtime> = served.watch("Registry/WatchRuntimes").await;
    let mut statuses: Items<keymanager::Status> = served.watch("KeyManager/WatchStatuses").await;
    let epoch: u64 = served.call("Beacon/GetEpoch", 40i64).await.unwrap();
    assert_eq!(next(&mut epochs).await, epoch);
    let known: Vec<registry::Runtime> = served
        .call("Registry/GetRuntimes", registry::GetRuntimesQuery { height: 40, include_suspended: true })
        .await
        .unwrap();
    for runtime in &known {
        assert_eq!(next(&mut runtimes).await, *runtime);
    }
    let nodes = next(&mut lists).await.nodes.unwrap();
    assert!(nodes.is_sorted_by_key(|node| node.id) && !nodes.is_empty());
    assert!(next(&mut statuses).await.is_initialized);
    let state = served.queries.state(40).unwrap();
    // A wait for a coming epoch ends with it.
    let client = served.client.clone();
    let waiting =
        tokio::spawn(async move { client.call::<_, ()>("oasis-core.Beacon", "WaitEpoch", &Cbor(epoch + 1)).await });
    let mut blocks = Vec::new();
    for runtime in &known {
        // Key managers have no blocks.
        let Ok(newest) = roothash::query::latest_block(&state, &runtime.id) else { continue };
        let stream = served.client.stream(&service("RootHash"), "WatchBlocks", &Cbor(runtime.id)).await.unwrap();
        let mut stream: Items<AnnotatedBlock> = stream;
        let first = next(&mut stream).await;
        assert_eq!(first.block, Some(newest));
        blocks.push((stream, first));
    }
    drop(state);
    assert_eq!(blocks.len(), 1);
    served.apply(40..77);
    timeout(LONG, waiting).await.unwrap().unwrap().unwrap();
    let last: u64 = served.call("Beacon/GetEpoch", 77i64).await.unwrap();
    assert!(last > epoch);
    for expected in epoch + 1..=last {
        assert_eq!(next(&mut epochs).await, expected);
        assert!(next(&mut lists).await.nodes.is_some());
    }
    let newest = served.queries.state(77).unwrap();
    let elected = apps_committees::scheduler::query::committees(&newest, None).unwrap();
    assert!(!elected.is_empty());
    for committee in &elected {
        assert_eq!(next(&mut committees).await, *committee);
    }
    // Whoever comes now gets them at once.
    let mut late: Items<scheduler::Committee> = served.watch("Scheduler/WatchCommittees").await;
    assert_eq!(next(&mut late).await, elected[0]);
    for (stream, first) in &mut blocks {
        let id = first.block.as_ref().unwrap().header.namespace;
        let end = roothash::query::latest_block(&newest, &id).unwrap().header.round;
        let mut round = first.block.as_ref().unwrap().header.round;
        while round < end {
            let block = next(stream).await;
            round += 1;
            assert_eq!(block.block.unwrap().header.round, round);
        }
    }
    // A runtime that nobody registered has no blocks, and is no error.
    let mut id = [0; 32];
    id[31] = 7;
    let id = Namespace::from_bytes_unchecked(id);
    let none = served.client.stream::<_, Cbor<AnnotatedBlock>>(&service("RootHash"), "WatchBlocks", &Cbor(id)).await;
    assert!(timeout(Duration::from_millis(50), none.unwrap().next()).await.is_err());
    served.end().await;
}
