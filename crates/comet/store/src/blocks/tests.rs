//! What goes in comes out, bounds hold, and damage ends the store early instead of breaking it.

use base_kv::{Crash, Faulty, Memory};
use proptest::prelude::*;

use super::*;
use crate::toy::{CHAIN, Made, chain, stores};

fn memory() -> Arc<dyn KvStore> {
    Arc::new(Memory::new())
}

fn save(store: &BlockStore, made: &Made, durability: Durability) {
    store.save(&made.block, &made.parts, &made.seen, durability).unwrap();
}

/// Everything that can be asked about the blocks of `made` from `base` to `height`, and nothing about others.
fn check(store: &BlockStore, made: &[Made], base: i64, height: i64) {
    assert_eq!((store.base(), store.height()), (base, height));
    for (at, made) in (1i64..).zip(made) {
        let there = (base..=height).contains(&at) && height > 0;
        let bytes = made.block.encode_to_vec();
        assert_eq!(store.block(at).unwrap().as_ref(), there.then_some(&made.block), "block {at}");
        assert_eq!(store.block_bytes(at).unwrap().map(|b| b.to_vec()), there.then(|| bytes.clone()));
        let meta = store.meta(at).unwrap();
        assert_eq!(meta.as_ref().map(|meta| &meta.block_id), there.then_some(&made.id));
        assert_eq!(meta.as_ref().map(|meta| meta.block_size), there.then_some(i64::try_from(bytes.len()).unwrap()));
        for index in 0..=made.parts.header().total {
            let part = made.parts.part(index as usize).filter(|_| there);
            assert_eq!(store.part(at, index).unwrap().as_ref(), part, "part {index} of {at}");
        }
        let hash: Hash = made.id.hash.as_slice().try_into().unwrap();
        assert_eq!(store.height_of(&hash).unwrap(), there.then_some(at));
        // The commit is in the block after.
        let next = base <= at + 1 && at < height;
        assert_eq!(store.commit(at).unwrap().as_ref(), next.then_some(&made.seen), "commit {at}");
        assert_eq!(store.seen_commit(at).unwrap().as_ref(), there.then_some(&made.seen), "seen commit {at}");
    }
    for outside in [i64::MIN, -1, 0, height + 1, i64::MAX] {
        assert!(store.block(outside).unwrap().is_none() && store.meta(outside).unwrap().is_none());
        assert!(store.part(outside, 0).unwrap().is_none());
        assert!(store.commit(i64::MAX).unwrap().is_none());
    }
}

#[test]
fn saved_blocks_are_read_before_and_after_they_are_durable_and_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let kv = memory();
    let (_, made) = chain(12, 900);
    let (store, _) = stores(dir.path(), Arc::clone(&kv)).unwrap();
    check(&store, &made, 0, 0);
    for (at, made) in made.iter().enumerate() {
        save(&store, made, if at % 4 == 3 { Durability::Synced } else { Durability::Deferred });
    }
    assert_eq!(store.durable_height(), 12);
    check(&store, &made, 1, 12);
    drop(store);
    let (store, _) = stores(dir.path(), kv).unwrap();
    check(&store, &made, 1, 12);
    assert!(store.segments.firsts().len() > 2, "several files");
}

/// A node must be able to read what an earlier version of this program wrote.
#[test]
fn the_form_on_disk_is_pinned() {
    let dir = tempfile::tempdir().unwrap();
    let kv = memory();
    let (_, made) = chain(2, 900);
    let (store, states) = stores(dir.path(), Arc::clone(&kv)).unwrap();
    made.iter().for_each(|made| save(&store, made, Durability::Synced));
    let files: Vec<_> = walk(dir.path()).into_iter().filter(|path| path.extension().is_some()).collect();
    assert_eq!(files.len(), 1);
    assert_eq!(files[0].file_name().unwrap(), "00000000000000000001.blocks");
    // Height, length and checksum before each block.
    let mut expected = Vec::new();
    for (height, made) in (1u64..).zip(&made) {
        let block = made.block.encode_to_vec();
        expected.extend_from_slice(&height.to_be_bytes());
        expected.extend_from_slice(&u32::try_from(block.len()).unwrap().to_be_bytes());
        expected.extend_from_slice(&crc32fast::hash(&block).to_be_bytes());
        expected.extend_from_slice(&block);
    }
    assert_eq!(std::fs::read(&files[0]).unwrap(), expected);
    // Format and chain.
    assert_eq!(kv.get(b"format").unwrap().unwrap(), [&[0, 0, 0, 1], CHAIN.as_bytes()].concat());
    // Where the second block is; its last commit lies at its end.
    let (first, second) = (made[0].block.encode_to_vec(), made[1].block.encode_to_vec());
    let commit = made[1].block.last_commit.as_ref().unwrap().encode_to_vec();
    let entry = kv.get(&[&b"bi"[..], &2u64.to_be_bytes()].concat()).unwrap().unwrap();
    let mut head = [1u64.to_be_bytes(), (16 + first.len() as u64 + 16).to_be_bytes()].concat();
    for word in [second.len() as u32, crc32fast::hash(&second), commit.len() as u32, crc32fast::hash(&commit)] {
        head.extend_from_slice(&word.to_be_bytes());
    }
    assert_eq!((&entry[..32], &entry[32..]), (&head[..], &store.meta(2).unwrap().unwrap().encode_to_vec()[..]));
    let hash = [&b"bh"[..], &made[1].id.hash].concat();
    assert_eq!(kv.get(&hash).unwrap().unwrap(), 2u64.to_be_bytes());
    let seen = kv.get(&[&b"bc"[..], &2u64.to_be_bytes()].concat()).unwrap().unwrap();
    assert_eq!(seen, made[1].seen.encode_to_vec());
    assert!(kv.get(b"br").unwrap().is_some());
    drop(states);
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn a_block_of_many_parts_and_one_of_the_largest_size() {
    let dir = tempfile::tempdir().unwrap();
    let store = BlockStore::open(dir.path(), memory(), CHAIN).unwrap();
    let (_, mut made) = chain(2, 200_000);
    let mut large = made.pop().unwrap();
    save(&store, &made[0], Durability::Synced);
    assert_eq!(made[0].parts.header().total, 4);
    // The store keeps what consensus decided, whatever the parameters say: fill up to the protocol's limit.
    let room = MAX_BLOCK_BYTES - large.block.encoded_len();
    large.block.data.txs[0] = vec![7; 200_000 + room - 2];
    large.parts = large.block.part_set();
    assert!((MAX_BLOCK_BYTES - 8..=MAX_BLOCK_BYTES).contains(&large.parts.byte_size()), "{}", large.parts.byte_size());
    large.id = large.block.id().unwrap();
    large.seen.block_id = large.id.clone();
    save(&store, &large, Durability::Deferred);
    assert_eq!(store.durable_height(), 2, "too much to wait");
    assert_eq!(store.part(2, 1599).unwrap().as_ref(), large.parts.part(1599));
    assert_eq!(store.block_bytes(2).unwrap().unwrap().len(), large.parts.byte_size());
    drop(store);
}

#[test]
fn refuses_what_does_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    let kv = memory();
    let (store, _) = stores(dir.path(), Arc::clone(&kv)).unwrap();
    let (_, made) = chain(4, 10);
    save(&store, &made[0], Durability::Synced);
    let refused = |made: &Made| store.save(&made.block, &made.parts, &made.seen, Durability::Synced).unwrap_err();
    assert!(matches!(refused(&made[2]), StoreError::NotContiguous { height: 1, got: 3 }));
    let with = |parts: &PartSet, seen: &Commit| {
        store.save(&made[1].block, parts, seen, Durability::Synced).unwrap_err().to_string()
    };
    assert!(with(&made[1].parts, &made[0].seen).contains("not its own"));
    let empty = PartSet::from_header(made[1].parts.header().clone()).unwrap();
    assert!(with(&empty, &made[1].seen).contains("not complete"));
    // Again: nothing happens. Another block of the same height: refused.
    save(&store, &made[0], Durability::Synced);
    let mut other = made[0].clone();
    other.block.header.app_hash = vec![9; 32];
    assert!(matches!(refused(&other), StoreError::OtherBlock(1)));
    check(&store, &made, 1, 1);
    assert!(matches!(store.prune(3), Err(StoreError::PruneAbove { retain: 3, height: 1 })));

    assert!(stores(dir.path(), Arc::clone(&kv)).is_err(), "in use");
    drop(store);
    let other = BlockStore::open(dir.path(), Arc::clone(&kv), "other").unwrap_err();
    assert!(matches!(other, StoreError::OtherChain { .. }), "{other}");
    let mut batch = Batch::new();
    batch.put(b"format", &[&2u32.to_be_bytes()[..], CHAIN.as_bytes()].concat());
    kv.write(&batch, KvDurability::Synced).unwrap();
    let newer = BlockStore::open(dir.path(), kv, CHAIN).unwrap_err();
    assert!(matches!(newer, StoreError::FutureFormat { stored: 2, known: 1 }), "{newer}");
}

#[test]
fn an_index_that_was_lost_does_not_cost_the_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let (_, made) = chain(20, 900);
    let (store, _) = stores(dir.path(), memory()).unwrap();
    made.iter().for_each(|made| save(&store, made, Durability::Synced));
    let before = store.disk_bytes();
    drop(store);
    let error = stores(dir.path(), memory()).unwrap_err();
    assert!(error.to_string().contains("block files"), "{error}");
    let files = std::fs::read_dir(dir.path()).unwrap();
    assert_eq!(files.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>(), before);
}

#[test]
fn waiting_blocks_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = stores(dir.path(), memory()).unwrap();
    let (_, made) = chain(MAX_DEFERRED_BLOCKS as i64 + 3, 1);
    for made in &made {
        save(&store, made, Durability::Deferred);
        assert!(store.deferred.read().len() <= MAX_DEFERRED_BLOCKS);
    }
    assert_eq!(store.durable_height(), MAX_DEFERRED_BLOCKS as i64 + 1);
    // What waits is lost with the process.
    drop(store);
}

#[test]
fn seen_commits_of_old_heights_are_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let kv = memory();
    let (store, _) = stores(dir.path(), Arc::clone(&kv)).unwrap();
    let (_, made) = chain(2, 1);
    let mut template = made[0].clone();
    for height in 1..=SEEN_COMMITS_KEPT + 50 {
        template.block.header.height = height;
        template.id = template.block.id().unwrap();
        template.parts = template.block.part_set();
        (template.seen.height, template.seen.block_id) = (height, template.id.clone());
        save(&store, &template, Durability::Deferred);
    }
    store.sync().unwrap();
    assert!(store.seen_commit(50).unwrap().is_none() && store.seen_commit(51).unwrap().is_some());
    let mut kept = 0;
    kv.scan(b"bc", Some(b"bd"), base_kv::Order::Forward, &mut |_, _| {
        kept += 1;
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(kept, SEEN_COMMITS_KEPT);
}

#[test]
fn pruning_frees_space_in_proportion() {
    let dir = tempfile::tempdir().unwrap();
    let kv = Arc::new(Memory::new());
    let (store, _) = stores(dir.path(), kv.clone()).unwrap();
    let (_, made) = chain(100, 900);
    made.iter().for_each(|made| save(&store, made, Durability::Deferred));
    store.sync().unwrap();
    let (files, index) = (store.disk_bytes(), kv.stats().unwrap().used_bytes);
    assert_eq!(store.prune(51).unwrap(), 50);
    assert_eq!(store.prune(51).unwrap(), 0);
    check(&store, &made, 51, 100);
    let (files_left, index_left) = (store.disk_bytes(), kv.stats().unwrap().used_bytes);
    println!("block files {files} -> {files_left} bytes, index {index} -> {index_left} bytes");
    assert!(files_left * 100 < files * 56 && index_left * 100 < index * 56);
    assert_eq!(store.prune(100).unwrap(), 49);
    check(&store, &made, 100, 100);
    assert!(store.disk_bytes() <= 4096 + 2048);
    drop(store);
    let (store, _) = stores(dir.path(), kv).unwrap();
    check(&store, &made, 100, 100);
}

/// A crash at any write of the index, while saving and pruning: the store opens with what was durable.
#[test]
fn every_crash_of_the_index_keeps_what_was_durable() {
    let (_, made) = chain(9, 900);
    for at_write in 1..14 {
        for (applied, luck) in [(false, 0), (true, 0), (true, 1), (false, 3)] {
            let dir = tempfile::tempdir().unwrap();
            let kv = Arc::new(Faulty::new(Memory::new(), Some(Crash { at_write, applied })));
            let (store, _) = stores(dir.path(), kv.clone()).unwrap();
            let mut durable = 0;
            for made in &made {
                if store.save(&made.block, &made.parts, &made.seen, Durability::Synced).is_err() {
                    break;
                }
                durable = made.block.header.height;
            }
            let pruned = durable == 9 && store.prune(5).is_ok();
            drop(store);
            let (store, _) = stores(dir.path(), Arc::new(kv.restart(luck))).unwrap();
            let height = store.height();
            assert!(height == durable || height == durable + 1, "{at_write}: {height} after {durable}");
            let base = store.base();
            assert!(if pruned { base == 5 } else { base <= 5 });
            check(&store, &made, base, height);
            made.iter().skip(usize::try_from(height).unwrap()).for_each(|made| save(&store, made, Durability::Synced));
            check(&store, &made, base.max(1), 9);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// A block file cut anywhere, or with a changed byte in its end: the store ends before the damage and goes on.
    #[test]
    fn a_damaged_end_is_cut_off(cut in 0.0..1.0f64, flip in any::<bool>(), garbage in 0..50usize) {
        let dir = tempfile::tempdir().unwrap();
        let kv = memory();
        let (_, made) = chain(10, 900);
        let (store, _) = stores(dir.path(), Arc::clone(&kv)).unwrap();
        made.iter().for_each(|made| save(&store, made, Durability::Synced));
        let last = *store.segments.firsts().last().unwrap();
        let ends: Vec<u64> = (last..=10).map(|height| store.entry(height).unwrap().unwrap().end()).collect();
        drop(store);

        let path = dir.path().join(format!("{last:020}.blocks"));
        let mut bytes = std::fs::read(&path).unwrap();
        let at = (bytes.len() as f64 * cut) as usize;
        let newest = ends.len().checked_sub(2).map_or(0, |at| ends[at]) as usize;
        let expected = if flip {
            // In the newest block.
            let at = newest + RECORD_HEADER + at % (bytes.len() - newest - RECORD_HEADER);
            bytes[at] ^= 0x40;
            9
        } else {
            bytes.truncate(at);
            last - 1 + ends.iter().filter(|end| **end <= at as u64).count() as i64
        };
        bytes.extend(vec![0xa5; garbage]);
        std::fs::write(&path, &bytes).unwrap();

        let (store, _) = stores(dir.path(), Arc::clone(&kv)).unwrap();
        prop_assert_eq!(store.height(), expected);
        for made in &made[expected as usize..] {
            prop_assert!(store.block(made.block.header.height).unwrap().is_none());
            save(&store, made, Durability::Synced);
        }
        check(&store, &made, 1, 10);
        drop(store);
        let (store, _) = stores(dir.path(), kv).unwrap();
        check(&store, &made, 1, 10);
    }
}
