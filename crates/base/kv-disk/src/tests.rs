//! The store keeps its promises, also when it is killed or its file is damaged.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::*;

fn open(path: &Path) -> Disk {
    Disk::open(path, Options { max_bytes: 1 << 30, ..Options::default() }).unwrap()
}

#[test]
fn conforms() {
    let dir = tempfile::tempdir().unwrap();
    let mut n = 0;
    base_kv::conformance::run(&mut || {
        n += 1;
        open(&dir.path().join(n.to_string()))
    });
}

#[test]
fn keeps_its_contents_and_gives_space_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut batch = Batch::new();
    for n in 0..20_000u32 {
        batch.put(&n.to_be_bytes(), &[7; 200]);
    }
    store.write(&batch, Durability::Synced).unwrap();
    let before = store.stats().unwrap();
    batch.clear();
    for n in 0..19_000u32 {
        batch.delete(&n.to_be_bytes());
    }
    store.write(&batch, Durability::Synced).unwrap();
    store.compact().unwrap();
    let after = store.stats().unwrap();
    println!("bytes on disk before {} after {}", before.disk_bytes, after.disk_bytes);
    assert!(after.disk_bytes * 5 < before.disk_bytes);
    drop(store);
    let store = Disk::open(dir.path(), Options { read_only: true, ..Options::default() }).unwrap();
    assert_eq!(store.get(&19_500u32.to_be_bytes()).unwrap(), Some(vec![7; 200]));
    assert_eq!(store.get(&18_999u32.to_be_bytes()).unwrap(), None);
    assert!(matches!(store.write(&batch, Durability::Synced), Err(KvError::ReadOnly)));
    assert!(matches!(store.compact(), Err(KvError::ReadOnly)));
}

#[test]
fn its_size_does_not_depend_on_what_keys_look_like() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut batch = Batch::new();
    // Neither text nor with a zero byte, which is how names of databases within the file look.
    for n in 1..=255u8 {
        batch.put(&[0xff, 0xfe, n], &[7; 3_000]);
    }
    store.write(&batch, Durability::Synced).unwrap();
    let used = store.stats().unwrap().used_bytes;
    assert!((255 * 3_000..4 * 255 * 3_000).contains(&used), "{used}");
}

#[test]
fn says_when_it_is_full_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = Disk::open(dir.path(), Options { max_bytes: 1 << 20, ..Options::default() }).unwrap();
    let mut batch = Batch::new();
    batch.put(b"a", b"1");
    store.write(&batch, Durability::Synced).unwrap();
    batch.put(b"b", &vec![1; 2 << 20]);
    assert!(matches!(store.write(&batch, Durability::Synced), Err(KvError::Full { limit: 1_048_576 })));
    assert_eq!(store.get(b"a").unwrap().as_deref(), Some(&b"1"[..]));
    batch.clear();
    batch.put(b"c", b"2");
    store.write(&batch, Durability::Synced).unwrap();
}

/// Run by the next test in a process of its own: writes batches of 100 keys and tells each that is synced.
#[test]
fn writer_process() {
    let Ok(path) = std::env::var("BASE_KV_DISK_TEST_PATH") else { return };
    let store = open(Path::new(&path));
    let start = store.get(b"round").unwrap().map_or(0, |v| u64::from_be_bytes(v.try_into().unwrap()) + 1);
    for round in start.. {
        let mut batch = Batch::new();
        for n in 0..100u64 {
            batch.put(&n.to_be_bytes(), &[round.to_be_bytes(); 40].concat());
        }
        batch.put(b"round", &round.to_be_bytes());
        let durability = if round % 3 == 0 { Durability::Synced } else { Durability::Buffered };
        store.write(&batch, durability).unwrap();
        println!("round {round}");
    }
}

#[test]
fn killed_while_writing() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = None;
    for kill in 0..12u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::writer_process", "--nocapture"])
            .env("BASE_KV_DISK_TEST_PATH", dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut seen = 0;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in lines.by_ref() {
            let line = line.unwrap();
            let Some((_, round)) = line.rsplit_once("round ") else { continue };
            last = Some(round.parse::<u64>().unwrap());
            seen += 1;
            if seen > kill * 5 {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // Rounds that were told before the kill took effect.
        for line in lines.map_while(Result::ok) {
            if let Some((_, round)) = line.rsplit_once("round ") {
                last = round.parse().ok().or(last);
            }
        }
        let store = open(dir.path());
        let round = u64::from_be_bytes(store.get(b"round").unwrap().unwrap().try_into().unwrap());
        assert!(round >= last.unwrap(), "round {last:?} was confirmed, {round} is there");
        for n in 0..100u64 {
            let value = store.get(&n.to_be_bytes()).unwrap().unwrap();
            assert_eq!(value, [round.to_be_bytes(); 40].concat(), "a batch is there whole or not at all");
        }
    }
}

#[test]
fn damaged_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("data.mdb"), vec![0x5a; 40_960]).unwrap();
    assert!(Disk::open(dir.path(), Options::default()).is_err());
    let none = dir.path().join("none");
    assert!(Disk::open(&none, Options { read_only: true, ..Options::default() }).is_err());
}
