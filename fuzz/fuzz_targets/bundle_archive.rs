//! Bundles as archives: nothing that is accepted has other contents than its manifest says, or leaves its folder.
#![no_main]

use std::io::Write as _;

use libfuzzer_sys::fuzz_target;
use rt_bundle::{Bundle, Limits, OpenOptions, Store, check_name};

fuzz_target!(|data: &[u8]| {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("x.orc");
    std::fs::File::create(&path).and_then(|mut file| file.write_all(data)).expect("written");
    let limits = Limits { archive_bytes: 1 << 20, unpacked_bytes: 1 << 20, files: 16, manifest_bytes: 1 << 16 };
    let Ok(mut bundle) = Bundle::open(&path, &OpenOptions { limits, ..OpenOptions::default() }) else { return };
    let names = bundle.names();
    assert!(names.len() <= 16);
    for name in &names {
        assert!(check_name(name).is_ok());
        let mut contents = Vec::new();
        bundle.copy(name, &mut contents).expect("what was verified is read");
        let expected = bundle.manifest().digests.as_ref().and_then(|digests| digests.get(name)).copied();
        assert_eq!(expected, Some(base_prims::Hash::of(&[&contents])));
    }
    let store = Store::new(dir.path());
    store.prepare().expect("prepares");
    let _ = store.explode(&mut bundle);
});
