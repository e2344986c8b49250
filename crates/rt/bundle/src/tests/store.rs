//! Unpacking, listing, retention and removal.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use base_prims::Version;
use wire_runtime::bundle::MANIFEST_NAME;

use super::{contents, good, open, vector};
use crate::{Error, Exploded, OpenOptions, Store, is_obsolete, keep_at_start};

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    store.prepare().unwrap();
    (dir, store)
}

fn add(store: &Store, file: &str) -> Result<Exploded, Error> {
    store.add(&vector(file), &OpenOptions::default())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).unwrap().next().is_none()
}

#[test]
fn bundles_unpack_as_the_reference_lays_them_out() {
    let (dir, store) = store();
    for verdict in good() {
        let exploded = add(&store, &verdict.file).unwrap();
        let mut bundle = open(&vector(&verdict.file)).unwrap();
        let expected = dir.path().join("runtimes/bundles").join(bundle.manifest_hash().to_hex());
        assert_eq!(exploded.dir, expected);
        let executables: BTreeSet<String> = bundle
            .manifest()
            .available_components()
            .values()
            .filter_map(|c| c.elf_executable().map(str::to_owned))
            .collect();
        assert_eq!(mode(&exploded.dir), 0o700);
        for name in bundle.names() {
            let path = exploded.file(&name);
            assert_eq!(fs::read(&path).unwrap(), contents(&mut bundle, &name));
            let expected = if executables.contains(&name) { 0o700 } else { 0o600 };
            assert_eq!(mode(&path), expected, "{} {name}", verdict.file);
        }
        assert_eq!(mode(&exploded.dir.join("META-INF")), 0o700);
        assert!(exploded.file(MANIFEST_NAME).is_file());
        store.remove(&exploded).unwrap();
        assert!(!exploded.dir.exists());
    }
    assert!(is_empty(store.temporary_dir()));
}

#[test]
fn adding_again_checks_and_completes() {
    let (_dir, store) = store();
    let first = add(&store, "top-version.orc").unwrap();
    assert_eq!(add(&store, "top-version.orc").unwrap(), first);
    let (oracle, manifest) = (first.file("oracle.elf"), first.file(MANIFEST_NAME));
    fs::remove_file(&oracle).unwrap();
    fs::remove_dir_all(manifest.parent().unwrap()).unwrap();
    assert_eq!(add(&store, "top-version.orc").unwrap(), first);
    assert!(oracle.is_file() && manifest.is_file());
    assert_eq!(mode(&oracle), 0o700);
    fs::write(&oracle, b"changed").unwrap();
    let e = add(&store, "top-version.orc").unwrap_err();
    assert!(matches!(&e, Error::Digest { name, .. } if name == "oracle.elf"), "{e}");
    assert!(is_empty(store.temporary_dir()));
}

#[test]
fn refused_bundles_leave_nothing() {
    let (_dir, store) = store();
    for file in ["x-wrong-digest.orc", "x-parent.orc", "x-sig-bad.orc", "x-not-zip.orc"] {
        assert!(add(&store, file).is_err());
    }
    assert!(add(&store, "absent.orc").is_err());
    assert!(is_empty(store.bundles_dir()) && is_empty(store.temporary_dir()));
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(&dir.path().join("file"));
    fs::write(dir.path().join("file"), b"").unwrap();
    let e = add(&store, "elf.orc").unwrap_err().to_string();
    assert!(e.contains("create folder") && e.contains("runtimes"), "{e}");
}

#[test]
fn listing_skips_what_is_no_bundle() {
    let (_dir, store) = store();
    let elf = add(&store, "elf.orc").unwrap();
    let detached = add(&store, "rofl-tdx-detached.orc").unwrap();
    let renamed = add(&store, "sgx.orc").unwrap();
    fs::rename(&renamed.dir, store.bundles_dir().join("renamed")).unwrap();
    fs::create_dir(store.bundles_dir().join("empty")).unwrap();
    let broken = store.bundles_dir().join("broken/META-INF");
    fs::create_dir_all(&broken).unwrap();
    fs::write(broken.join("MANIFEST.MF"), b"{").unwrap();
    fs::write(store.bundles_dir().join("file"), b"").unwrap();
    let listing = store.list().unwrap();
    let mut expected = vec![elf, detached];
    expected.sort_by(|a, b| a.dir.cmp(&b.dir));
    assert_eq!(listing.bundles, expected);
    let skipped: Vec<PathBuf> = listing.skipped.iter().map(|s| s.path.clone()).collect();
    assert_eq!(skipped, ["broken", "empty", "renamed"].map(|n| store.bundles_dir().join(n)));
    assert!(Store::new(Path::new("/nonexistent")).list().is_err());
}

#[test]
fn unfinished_work_is_removed_at_start() {
    let (_dir, store) = store();
    let elf = add(&store, "elf.orc").unwrap();
    fs::create_dir_all(store.temporary_dir().join("explode-x/META-INF")).unwrap();
    fs::write(store.temporary_dir().join("oasis-bundle-1.orc"), b"part").unwrap();
    store.prepare().unwrap();
    assert!(is_empty(store.temporary_dir()));
    assert!(elf.dir.is_dir());
}

#[test]
fn retention_at_start() {
    let (_dir, store) = store();
    let elf = add(&store, "elf.orc").unwrap();
    let detached = add(&store, "rofl-tdx-detached.orc").unwrap();
    let km = add(&store, "legacy-sgx.orc").unwrap();
    let (runtime, km_id) = (elf.manifest.id, km.manifest.id);
    assert!(km_id.is_key_manager());
    let (none, both) = (BTreeSet::new(), BTreeSet::from([runtime, km_id]));
    let paths = BTreeSet::from([km.manifest_hash, detached.manifest_hash]);
    for (bundle, without, with) in [(&elf, true, true), (&detached, false, true), (&km, false, true)] {
        assert_eq!(keep_at_start(&bundle.manifest, &both, &none_hashes()), without);
        assert_eq!(keep_at_start(&bundle.manifest, &both, &paths), with);
        assert!(!keep_at_start(&bundle.manifest, &none, &paths));
    }
    let bundles = store.list().unwrap().bundles;
    assert_eq!(bundles.len(), 3);
    let kept = store.clean_at_start(bundles, &both, &none_hashes()).unwrap();
    assert_eq!(kept, std::slice::from_ref(&elf));
    assert_eq!(store.list().unwrap().bundles, [elf]);
    assert!(is_empty(store.temporary_dir()));
}

fn none_hashes() -> BTreeSet<base_prims::Hash> {
    BTreeSet::new()
}

#[test]
fn retention_while_running() {
    let manifest = |file: &str| open(&vector(file)).unwrap().manifest().clone();
    let elf = manifest("elf.orc");
    for (active, obsolete) in [
        (Version::new(1, 2, 3), false),
        (Version::new(1, 2, 2), false),
        (Version::new(1, 2, 4), true),
        (Version::new(2, 0, 0), true),
    ] {
        assert_eq!(is_obsolete(&elf, &elf.id, active), obsolete, "{active}");
    }
    let newest = Version::new(9, 9, 9);
    let km = manifest("legacy-sgx.orc");
    assert!(!is_obsolete(&km, &km.id, newest));
    assert!(!is_obsolete(&elf, &km.id, newest));
    let detached = manifest("rofl-tdx-detached.orc");
    assert!(!is_obsolete(&detached, &detached.id, newest));
    let legacy = manifest("legacy-elf.orc");
    assert!(is_obsolete(&legacy, &legacy.id, newest));
}
