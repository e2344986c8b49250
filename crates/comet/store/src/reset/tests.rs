//! What is removed and what is kept.

use super::*;

fn node(dir: &Path) {
    for folder in ["consensus/data/cs.wal", "consensus/state", "tendermint", "runtimes/80aa", "runtimes/80bb", "p2p"] {
        fs::create_dir_all(dir.join(folder)).unwrap();
    }
    for file in [
        "identity_pub.pem",
        "entity.json",
        "persistent-store.badger.db",
        "consensus/oasis_priv_validator.json",
        "consensus/data/cs.wal/wal",
        "runtimes/80aa/history.db",
        "runtimes/80aa/worker-local-storage.badger.db",
        "runtimes/80bb/mkvs_storage.badger.db",
        "runtimes/80bb/other",
    ] {
        fs::write(dir.join(file), b"x").unwrap();
    }
}

fn left(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(folder) = open.pop() {
        for (path, _) in list(&folder).unwrap() {
            if path.is_dir() {
                open.push(path)
            } else {
                found.push(path.strip_prefix(dir).unwrap().display().to_string())
            }
        }
    }
    found.sort();
    found
}

#[test]
fn state_goes_and_keys_guard_and_runtime_data_stay() {
    let dir = tempfile::tempdir().unwrap();
    node(dir.path());
    let before = left(dir.path());
    let told = reset(dir.path(), &ResetOptions { dry_run: true, ..ResetOptions::default() }).unwrap();
    assert_eq!(left(dir.path()), before);
    assert_eq!(reset(dir.path(), &ResetOptions::default()).unwrap(), told);
    assert_eq!(
        left(dir.path()),
        [
            "consensus/oasis_priv_validator.json",
            "entity.json",
            "identity_pub.pem",
            "runtimes/80aa/worker-local-storage.badger.db",
            "runtimes/80bb/mkvs_storage.badger.db",
            "runtimes/80bb/other",
        ]
    );
    let all = ResetOptions {
        keep_local_storage: false,
        keep_runtime_state: false,
        remove_guard: true,
        ..ResetOptions::default()
    };
    reset(dir.path(), &all).unwrap();
    assert_eq!(left(dir.path()), ["entity.json", "identity_pub.pem", "runtimes/80bb/other"]);
}

#[test]
fn another_folder_is_left_alone_unless_forced() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("tendermint")).unwrap();
    assert!(matches!(reset(dir.path(), &ResetOptions::default()), Err(ResetError::NotADataDir { .. })));
    assert!(dir.path().join("tendermint").exists());
    reset(dir.path(), &ResetOptions { force: true, ..ResetOptions::default() }).unwrap();
    assert!(!dir.path().join("tendermint").exists());
    // What a link points to is not touched.
    node(dir.path());
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("precious"), b"x").unwrap();
    std::os::unix::fs::symlink(outside.path(), dir.path().join("consensus/link")).unwrap();
    reset(dir.path(), &ResetOptions::default()).unwrap();
    assert!(outside.path().join("precious").exists() && !dir.path().join("consensus/link").exists());
}
