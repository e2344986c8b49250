//! Crashes at every write of seeded lives: commit, finalize, prune, restore.

use base_kv::{Crash, Faulty};
use base_prims::Hash;
use mkvs_tree::{KvWrite, RootType};

use super::*;
use crate::checkpoint::{self, Restorer};

/// What a scenario knows to be final.
#[derive(Default)]
struct Known {
    /// Finalized versions that were confirmed and not begun to be pruned.
    finals: Vec<(Root, Model)>,
    /// The version being finalized, which may or may not have become final.
    maybe: Option<(Root, Model)>,
}

/// Lives until the end or the crash. Every step is decided by the seed alone.
fn live(db: &NodeDb, seed: u64, known: &mut Known) -> Result<(), DbError> {
    let rng = &mut Rng::new(seed);
    let mut version = 1;
    if seed.is_multiple_of(3) {
        restore(db, rng, known)?;
        version = known.finals.last().map_or(1, |(r, _)| r.version + 1);
    }
    let (mut tree, mut model) = match known.finals.last() {
        Some((root, model)) => (db.tree(root)?, model.clone()),
        None => (db.empty_tree(RootType::STATE), Model::new()),
    };
    for _ in 0..4 {
        for _ in 0..rng.below(25) {
            let key = vec![rng.below(40) as u8; 1 + rng.below(2) as usize];
            if rng.below(3) == 0 {
                tree.remove(&key)?;
                model.remove(&key);
            } else {
                let value = vec![rng.next() as u8; 5];
                tree.insert(&key, &value)?;
                model.insert(key, value);
            }
        }
        let coming = (db.root(RootType::STATE, version, tree.root_hash()), model.clone());
        known.maybe = Some(coming);
        if rng.below(2) == 0 {
            tree.commit_final(version)?;
        } else {
            let mut rival = db.empty_tree(RootType::STATE);
            for n in 0..rng.below(20) {
                rival.insert(&[n as u8], b"rival")?;
            }
            rival.commit(version)?;
            // A root of this version on the way to the one that is kept.
            let last = model.keys().next_back().cloned().unwrap_or_default();
            tree.insert(&last, b"on the way")?;
            tree.insert(b"way", b"way")?;
            tree.commit(version)?;
            match model.get(&last) {
                Some(value) => tree.insert(&last, value)?,
                None => tree.remove(&last)?,
            }
            tree.remove(b"way")?;
            let root = tree.commit(version)?;
            db.finalize(&[root])?;
        }
        known.finals.extend(known.maybe.take());
        if rng.below(3) > 0 && known.finals.len() > 1 {
            let (oldest, _) = known.finals.remove(0);
            // One way or the other to remove one version.
            if oldest.version % 2 == 0 {
                db.prune(oldest.version)?;
            } else {
                db.prune_some(oldest.version + 1, &mut |_| true)?;
            }
        }
        version += 1;
    }
    Ok(())
}

/// Restores a checkpoint that another database made.
fn restore(db: &NodeDb, rng: &mut Rng, known: &mut Known) -> Result<(), DbError> {
    let source = open(&Arc::new(Memory::new()));
    let (mut tree, mut model) = (source.empty_tree(RootType::STATE), Model::new());
    for _ in 0..60 {
        let (key, value) = (rng.next().to_be_bytes().to_vec(), rng.next().to_be_bytes().to_vec());
        tree.insert(&key, &value)?;
        model.insert(key, value);
    }
    let root = tree.commit_final(7)?;
    let mut chunks = Vec::new();
    let metadata = checkpoint::create(&source, &root, 700, 0, &mkvs_tree::Sequential, &mut chunks).unwrap();
    db.start_multipart(7)?;
    let mut restorer = Restorer::new(db.clone());
    restorer.start(metadata).unwrap();
    for (index, chunk) in chunks.iter().enumerate() {
        restorer.restore_chunk(index as u64, chunk).map_err(|e| match e {
            checkpoint::CheckpointError::Db(e) => e,
            other => panic!("{other}"),
        })?;
    }
    known.maybe = Some((root, model));
    db.finalize(&[root])?;
    known.finals.extend(known.maybe.take());
    Ok(())
}

/// After a crash: what was final is there, nothing is damaged or leaked, and the database works.
fn check_after(disk: Memory, known: &Known, context: &str) {
    let kv = Arc::new(disk);
    let db = open(&kv);
    assert_eq!(db.multipart_version(), None, "{context}");
    let latest = db.latest_version();
    if let Some((root, _)) = known.finals.last() {
        let maybe = known.maybe.as_ref().map(|(r, _)| r.version);
        assert!(latest == Some(root.version) || latest == maybe, "{context}: {latest:?}");
    }
    for (root, model) in &known.finals {
        assert_eq!(contents(&db, root).unwrap(), *model, "{context}: version {}", root.version);
    }
    let mut base = None;
    if let Some((root, model)) = &known.maybe
        && latest == Some(root.version)
    {
        assert_eq!(contents(&db, root).unwrap(), *model, "{context}: version in question");
        base = Some(*root);
    }
    assert_sound(&db, context);
    let base = base.or(known.finals.last().map(|(r, _)| *r));
    let mut tree = match &base {
        Some(root) => db.tree(root).unwrap(),
        None => db.empty_tree(RootType::STATE),
    };
    let version = base.map_or(1, |r| r.version + 1);
    tree.insert(b"after the crash", b"it works").unwrap();
    let root = tree.commit_final(version).unwrap();
    db.prune_to(1, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_ne!(root.hash, Hash::EMPTY);
    assert_eq!(db.earliest_version(), Some(version), "{context}");
    assert_sound(&db, context);
}

#[test]
fn crashes_at_every_write() {
    let mut points = 0;
    let seeds = std::env::var("MKVS_FAULT_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(48);
    for seed in 1..=seeds {
        let whole = Arc::new(Faulty::new(Memory::new(), None));
        let db = NodeDb::open(Arc::clone(&whole) as Arc<dyn KvStore>, config()).unwrap();
        let mut known = Known::default();
        live(&db, seed, &mut known).unwrap();
        assert_sound(&db, "whole life");
        for at_write in 0..whole.writes() {
            for applied in [false, true] {
                let kv = Arc::new(Faulty::new(Memory::new(), Some(Crash { at_write, applied })));
                let mut known = Known::default();
                if let Ok(db) = NodeDb::open(Arc::clone(&kv) as Arc<dyn KvStore>, config()) {
                    let ended = live(&db, seed, &mut known);
                    assert!(matches!(ended, Err(DbError::Kv(base_kv::KvError::Crashed))), "{ended:?}");
                }
                assert!(kv.is_down());
                for luck in [0, 1, u64::MAX, seed + at_write] {
                    let context = format!("seed {seed} write {at_write} applied {applied} luck {luck}");
                    check_after(kv.restart(luck), &known, &context);
                    points += 1;
                }
            }
        }
    }
    println!("{points} crash points");
    assert!(seeds < 48 || points > 5_000, "{points}");
}

#[test]
fn crashes_while_recovering() {
    let mut points = 0;
    for seed in (3..=24).step_by(3) {
        let count = {
            let kv = Arc::new(Faulty::new(Memory::new(), None));
            let db = NodeDb::open(Arc::clone(&kv) as Arc<dyn KvStore>, config()).unwrap();
            live(&db, seed, &mut Known::default()).unwrap();
            kv.writes()
        };
        for at_write in (0..count).step_by(2) {
            let kv = Arc::new(Faulty::new(Memory::new(), Some(Crash { at_write, applied: true })));
            let mut known = Known::default();
            if let Ok(db) = NodeDb::open(Arc::clone(&kv) as Arc<dyn KvStore>, config()) {
                let _ = live(&db, seed, &mut known);
            }
            let disk = kv.restart(u64::MAX - 1);
            for second in 0..20 {
                let again =
                    Arc::new(Faulty::new(disk.clone(), Some(Crash { at_write: second, applied: second % 2 == 0 })));
                if NodeDb::open(Arc::clone(&again) as Arc<dyn KvStore>, config()).is_ok() {
                    break;
                }
                check_after(again.restart(second), &known, &format!("seed {seed} write {at_write} then {second}"));
                points += 1;
            }
        }
    }
    println!("{points} crash points during recovery");
    assert!(points > 50, "{points}");
}
