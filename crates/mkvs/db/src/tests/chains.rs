//! Every recorded chain through a database on disk.

use std::path::Path;

use base_kv_disk::{Disk, Options};
use base_prims::Hash;
use mkvs_tree::{KvWrite, Root, RootType};
use serde_json::Value;

use super::*;

struct Version {
    number: u64,
    root: Hash,
    diff: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

fn read_chain(path: &Path) -> Vec<Version> {
    let text = String::from_utf8(dev_testkit::read(path).unwrap()).unwrap();
    let unhex = |v: &Value| hex::decode(v.as_str().unwrap()).unwrap();
    text.lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let change = |c: &Value| (unhex(&c[0]), c[1].as_str().map(|_| unhex(&c[1])));
            Version {
                number: line["version"].as_u64().unwrap(),
                root: Hash::new(unhex(&line["root"]).try_into().unwrap()),
                diff: line["diff"].as_array().unwrap().iter().map(change).collect(),
            }
        })
        .collect()
}

/// Applies all versions; prunes the older half in the middle of it; every version that is kept reads back.
fn replay(chain: &[Version], kv: Arc<dyn KvStore>) -> (u64, u64) {
    let db = NodeDb::open(Arc::clone(&kv), config()).unwrap();
    let mut tree = db.empty_tree(RootType::STATE);
    let mut model = Model::new();
    let mut history: Vec<(Root, Model)> = Vec::new();
    let mut bytes = (0, 0);
    for (i, version) in chain.iter().enumerate() {
        for (key, value) in &version.diff {
            match value {
                Some(value) => {
                    tree.insert(key, value).unwrap();
                    model.insert(key.clone(), value.clone());
                }
                None => {
                    tree.remove(key).unwrap();
                    model.remove(key);
                }
            }
        }
        let root = tree.commit_final(version.number).unwrap();
        assert_eq!(root.hash, version.root, "version {}", version.number);
        history.push((root, model.clone()));
        if i == chain.len() / 2 {
            for (root, model) in history.iter().step_by(5) {
                assert_eq!(contents(&db, root).unwrap(), *model);
            }
            bytes.0 = db.usage().unwrap().node_bytes;
            let half = history.len() / 2;
            for (root, _) in history.drain(..half) {
                db.prune(root.version).unwrap();
                assert!(matches!(db.read(&root), Err(DbError::RootNotFound(_))));
            }
            bytes.1 = db.usage().unwrap().node_bytes;
            assert_sound(&db, "chains");
        }
    }
    assert_eq!(db.earliest_version(), Some(history[0].0.version));
    drop((tree, db));
    let db = NodeDb::open(kv, config()).unwrap();
    for (root, model) in &history {
        assert_eq!(contents(&db, root).unwrap(), *model, "version {}", root.version);
    }
    assert_eq!(db.prune_to(1, &mut |_| ControlFlow::Continue(())).unwrap(), history.len() as u64 - 1);
    assert_sound(&db, "chains");
    bytes
}

#[test]
fn recorded_chains_on_disk_with_pruning() {
    let dir = tempfile::tempdir().unwrap();
    let mut chains = 0;
    for entry in std::fs::read_dir(root_dir().join("vectors/chains")).unwrap() {
        let path = entry.unwrap().path().join("state_diffs.jsonl.gz");
        if !path.exists() {
            continue;
        }
        let chain = read_chain(&path);
        let kv = Disk::open(&dir.path().join(chains.to_string()), Options::default()).unwrap();
        let (before, after) = replay(&chain, Arc::new(kv));
        let name = path.parent().and_then(Path::file_name).unwrap_or_default();
        println!("{name:?}: {} versions; node bytes before pruning {before}, after {after}", chain.len());
        assert!(after < before);
        chains += 1;
    }
    assert!(chains >= 11);
}
