//! Saving and loading blocks of 1 KB and 50 KB on disk, one by one and in groups.

use std::hint::black_box;

use comet_store::{BlockStore, Durability};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use wire_cometbft::Time;
use wire_cometbft::block::{Block, BlockId, Commit, CommitSig, Data, Header};
use wire_cometbft::codec::Message;
use wire_cometbft::part_set::PartSet;

const SIZES: [usize; 2] = [1_000, 50_000];
/// Blocks per round.
const GROUP: i64 = 200;

fn main() {
    divan::main();
}

fn blocks(bytes: usize) -> Vec<(Block, PartSet, Commit)> {
    let make = |height: i64| {
        let signature = CommitSig { signature: vec![1; 64], validator_address: vec![2; 20], ..CommitSig::absent() };
        let last_commit = Commit { height: height - 1, signatures: vec![signature; 4], ..Commit::default() };
        let header = Header {
            height,
            chain_id: "bench".into(),
            time: Time::new(height, 0).expect("in range"),
            validators_hash: vec![3; 32],
            ..Header::default()
        };
        let mut block = Block { header, last_commit: Some(last_commit), ..Block::default() };
        let rest = bytes.saturating_sub(block.encoded_len());
        block.data = Data { txs: vec![vec![5; rest]] };
        let parts = block.part_set();
        let hash = block.hash().expect("it has one").to_vec();
        let block_id = BlockId { hash, part_set_header: parts.header().clone() };
        (block, parts, Commit { height, block_id, ..Commit::default() })
    };
    (1..=GROUP).map(make).collect()
}

fn empty() -> (tempfile::TempDir, std::sync::Arc<BlockStore>) {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, _) = comet_store::open(dir.path(), "bench").expect("opens");
    (dir, store)
}

fn save(bencher: Bencher<'_, '_>, bytes: usize, durability: Durability) {
    let blocks = blocks(bytes);
    bencher
        .counter(ItemsCount::new(blocks.len()))
        .counter(BytesCount::new(blocks.iter().map(|(_, parts, _)| parts.byte_size()).sum::<usize>()))
        .with_inputs(empty)
        .bench_local_values(|(dir, store)| {
            for (block, parts, seen) in &blocks {
                store.save(block, parts, seen, durability).expect("saved");
            }
            store.sync().expect("synced");
            (dir, store)
        });
}

#[divan::bench(args = SIZES, sample_count = 5, sample_size = 1)]
fn save_each_synced(bencher: Bencher<'_, '_>, bytes: usize) {
    save(bencher, bytes, Durability::Synced);
}

#[divan::bench(args = SIZES, sample_count = 10, sample_size = 1)]
fn save_in_groups(bencher: Bencher<'_, '_>, bytes: usize) {
    save(bencher, bytes, Durability::Deferred);
}

fn load(bencher: Bencher<'_, '_>, bytes: usize, read: impl Fn(&BlockStore, i64)) {
    let (_dir, store) = empty();
    for (block, parts, seen) in &blocks(bytes) {
        store.save(block, parts, seen, Durability::Deferred).expect("saved");
    }
    store.sync().expect("synced");
    bencher
        .counter(ItemsCount::new(usize::try_from(GROUP).unwrap_or_default()))
        .bench_local(|| (1..=GROUP).for_each(|height| read(&store, height)));
}

#[divan::bench(args = SIZES)]
fn load_bytes(bencher: Bencher<'_, '_>, bytes: usize) {
    load(bencher, bytes, |store, height| {
        black_box(store.block_bytes(height).expect("read"));
    });
}

#[divan::bench(args = SIZES)]
fn load_blocks(bencher: Bencher<'_, '_>, bytes: usize) {
    load(bencher, bytes, |store, height| {
        black_box(store.block(height).expect("read"));
    });
}

#[divan::bench(args = SIZES)]
fn load_parts(bencher: Bencher<'_, '_>, bytes: usize) {
    load(bencher, bytes, |store, height| {
        black_box(store.part(height, 0).expect("read"));
    });
}

#[divan::bench(args = SIZES)]
fn load_commits(bencher: Bencher<'_, '_>, bytes: usize) {
    load(bencher, bytes, |store, height| {
        black_box(store.commit(height).expect("read"));
    });
}
