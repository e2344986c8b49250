//! Random lives of a database against a map of versions.

use std::collections::BTreeMap;

use base_kv::{Batch, Durability};
use base_prims::Hash;
use mkvs_tree::{KvWrite, RootType, writelog};

use super::*;
use crate::DbTree;

/// Changes a tree and its model in the same way.
fn change(rng: &mut Rng, tree: &mut DbTree, model: &mut Model) {
    for _ in 0..rng.below(12) {
        if rng.below(3) == 0 {
            let n = rng.below(model.len().max(1) as u64) as usize;
            if let Some(key) = model.keys().nth(n).cloned() {
                tree.remove(&key).unwrap();
                model.remove(&key);
            }
        } else {
            let key = rng.below(200).to_be_bytes()[6..].repeat(1 + rng.below(2) as usize);
            let value = vec![rng.next() as u8; rng.below(20) as usize];
            tree.insert(&key, &value).unwrap();
            model.insert(key, value);
        }
    }
}

/// One life: versions with competing and chained roots of both types, finalized and pruned, reopened now and then.
fn life(seed: u64) {
    let rng = &mut Rng::new(seed);
    let kv = Arc::new(Memory::new());
    let mut db = open(&kv);
    let mut kept: BTreeMap<u64, Vec<(Root, Model)>> = BTreeMap::new();
    let mut version = rng.below(3);
    for _ in 0..30 {
        let last_state =
            kept.last_key_value().and_then(|(_, roots)| roots.iter().find(|(r, _)| r.root_type == RootType::STATE));
        let base = last_state.cloned().filter(|(r, _)| r.version + 1 == version && rng.below(10) > 0);
        let mut made: Vec<(Root, Model)> = Vec::new();
        for _ in 0..1 + rng.below(3) {
            let (mut tree, mut model) = match &base {
                Some((root, model)) => (db.tree(root).unwrap(), model.clone()),
                None => (db.empty_tree(RootType::STATE), Model::new()),
            };
            tree = tree.with_write_log();
            for _ in 0..1 + rng.below(3) {
                change(rng, &mut tree, &mut model);
                made.push((tree.commit(version).unwrap(), model.clone()));
            }
        }
        let pick = rng.below(made.len() as u64) as usize;
        let mut finals = vec![made.swap_remove(pick)];
        if rng.below(3) > 0 {
            let (mut tree, mut model) = (db.empty_tree(RootType::IO), Model::new());
            change(rng, &mut tree, &mut model);
            tree.commit(version).unwrap();
            change(rng, &mut tree, &mut model);
            finals.push((tree.commit(version).unwrap(), model));
        }
        let roots: Vec<Root> = finals.iter().map(|(r, _)| *r).collect();
        db.finalize(&roots).unwrap();
        for (root, _) in made {
            assert!(roots.contains(&root) || root.hash == Hash::EMPTY || !db.has_root(&root).unwrap());
        }
        // The write log from the version before leads to this one.
        let (base_root, mut replayed) = match &base {
            Some((root, model)) => (*root, model.clone()),
            None => (db.root(RootType::STATE, version, Hash::EMPTY), Model::new()),
        };
        let log = db.write_log(&base_root, &finals[0].0).unwrap();
        for entry in &log {
            match &entry.value {
                Some(value) => replayed.insert(entry.key.0.clone(), value.0.clone()),
                None => replayed.remove(&entry.key.0),
            };
        }
        assert_eq!(replayed, finals[0].1);
        let mut tree = mkvs_tree::Tree::in_memory();
        writelog::apply(&log, &mut tree).unwrap();
        kept.insert(version, finals);
        while kept.len() > 1 && rng.below(2) == 0 {
            if rng.below(3) == 0 {
                let (oldest, _) = kept.pop_first().unwrap();
                db.prune(oldest).unwrap();
                continue;
            }
            // Several at once, as many as fit one write each time.
            let before = *kept.keys().nth(1 + rng.below(kept.len() as u64 - 1) as usize).unwrap();
            let expected = kept.keys().filter(|v| **v < before).count() as u64;
            let mut asked = 0;
            let mut removed = 0;
            while let more @ 1.. = db
                .prune_some(before, &mut |_| {
                    asked += 1;
                    true
                })
                .unwrap()
            {
                removed += more;
            }
            assert_eq!((removed, asked), (expected, expected));
            kept.retain(|version, _| *version >= before);
        }
        if rng.below(4) == 0 {
            db = open(&kv);
        }
        assert_eq!(db.latest_version(), Some(version));
        assert_eq!(db.earliest_version(), kept.first_key_value().map(|(v, _)| *v));
        for (root, model) in kept.values().flatten() {
            assert_eq!(contents(&db, root).unwrap(), *model);
        }
        assert_sound(&db, "model");
        version += 1 + u64::from(rng.below(12) == 0) * rng.below(5);
    }
}

#[test]
fn random_lives() {
    for seed in 1..=60 {
        life(seed);
    }
}

#[test]
fn commits_outside_the_rules_are_refused() {
    let kv = Arc::new(Memory::new());
    let db = open(&kv);
    let mut tree = db.empty_tree(RootType::STATE);
    tree.insert(b"a", b"1").unwrap();
    let first = tree.commit(5).unwrap();
    assert!(matches!(tree.commit(6), Err(DbError::NotFinalized(5))));
    assert!(matches!(db.prune(5), Err(DbError::VersionNotFound(5))));
    db.finalize(&[first]).unwrap();
    assert!(matches!(db.finalize(&[first]), Err(DbError::AlreadyFinalized { version: 5, latest: 5 })));
    assert!(matches!(tree.commit(5), Err(DbError::AlreadyFinalized { .. })));
    assert!(matches!(tree.commit(7), Err(DbError::MustFollow { base: 5, version: 7 })));
    assert!(matches!(db.prune(5), Err(DbError::CannotPruneLatest(5))));
    assert!(matches!(db.prune(4), Err(DbError::NotEarliest { version: 4, earliest: 5 })));
    let mut io = db.empty_tree(RootType::IO);
    io.insert(b"x", b"y").unwrap();
    let io_root = io.commit(6).unwrap();
    assert!(matches!(db.finalize(&[io_root, io_root]), Err(DbError::MixedRoots)));
    db.finalize(&[io_root]).unwrap();
    assert!(matches!(io.commit(7), Err(DbError::NoChildRoots(RootType::IO))));
    let foreign = Root { namespace: Namespace::from_bytes_unchecked([1; 32]), ..first };
    assert!(matches!(db.read(&foreign), Err(DbError::OtherNamespace { .. })));
    tree.insert(b"a", b"2").unwrap();
    let wrong = db.root(RootType::STATE, 6, Hash::of(&[b"wrong"]));
    assert!(matches!(tree.commit_known(&wrong), Err(DbError::Tree(mkvs_tree::TreeError::RootMismatch { .. }))));
    tree.rollback().unwrap();
    assert_eq!(tree.get(b"a").unwrap().as_deref(), Some(&b"1"[..]));
}

#[test]
fn foreign_stores_are_refused_and_left_alone() {
    let kv = Arc::new(Memory::new());
    drop(open(&kv));
    let shared = || Arc::clone(&kv) as Arc<dyn KvStore>;
    let other = Namespace::from_bytes_unchecked([7; 32]);
    let refused = NodeDb::open(shared(), Config::new(other)).unwrap_err();
    assert!(matches!(refused, DbError::OtherNamespace { found: Namespace::ZERO, .. }), "{refused}");
    let record = kv.get(b"m").unwrap().unwrap();
    let mut newer = record.clone();
    newer[11] = 9;
    kv.write(Batch::new().put(b"m", &newer), Durability::Synced).unwrap();
    let refused = NodeDb::open(shared(), config()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "node database has format 9, this program knows formats up to 1; use a newer program"
    );
    assert_eq!(kv.get(b"m").unwrap(), Some(newer));
    kv.write(Batch::new().put(b"m", b"something else"), Durability::Synced).unwrap();
    assert!(matches!(NodeDb::open(shared(), config()), Err(DbError::NotADatabase(_))));
    kv.write(Batch::new().delete(b"m").put(b"z", b"z"), Durability::Synced).unwrap();
    assert!(matches!(NodeDb::open(shared(), config()), Err(DbError::NotADatabase(_))));
    kv.write(Batch::new().put(b"m", &record).delete(b"z"), Durability::Synced).unwrap();
    NodeDb::rename_namespace(&*kv, Namespace::ZERO, other).unwrap();
    assert!(NodeDb::rename_namespace(&*kv, Namespace::ZERO, other).is_err());
    assert_eq!(NodeDb::peek(&*kv, other).unwrap(), None);
    assert!(NodeDb::open(shared(), Config::new(other)).is_ok());
}

#[test]
fn damage_is_found() {
    let kv = Arc::new(Memory::new());
    let db = open(&kv);
    let mut tree = db.empty_tree(RootType::STATE);
    for n in 0..100u8 {
        tree.insert(&[n], &[n]).unwrap();
    }
    let root = tree.commit_final(1).unwrap();
    let mut keys = Vec::new();
    kv.scan(b"n", Some(b"o"), base_kv::Order::Forward, &mut |k, v| {
        keys.push((k.to_vec(), v.to_vec()));
        ControlFlow::Continue(())
    })
    .unwrap();
    for (i, (key, value)) in keys.iter().enumerate() {
        let mut bad = value.clone();
        let at = i % bad.len();
        bad[at] ^= 1 << (i % 8);
        kv.write(Batch::new().put(key, &bad), Durability::Synced).unwrap();
        let report = db.check(&mut |_| ControlFlow::Continue(())).unwrap();
        assert!(!report.bad.is_empty(), "node {i}, byte {at}");
        kv.write(Batch::new().put(key, value), Durability::Synced).unwrap();
    }
    let mut stray = keys[0].0.clone();
    stray[11] = 1;
    kv.write(Batch::new().put(&stray, &keys[0].1), Durability::Synced).unwrap();
    assert_eq!(db.check(&mut |_| ControlFlow::Continue(())).unwrap().leaked, 1);
    assert_eq!(contents(&db, &root).unwrap().len(), 100);
}
