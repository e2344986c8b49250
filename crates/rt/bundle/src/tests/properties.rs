//! Damaged archives, bombs, and arbitrary signatures.

use std::{fs, io::Write as _};

use proptest::prelude::*;
use wire_runtime::bundle::MANIFEST_NAME;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::{open, vector};
use crate::{Bundle, Error, Limits, OpenOptions, check_name, sigstruct};

const SAMPLES: [&str; 4] = ["sgx.orc", "x-stored.orc", "rofl-tdx-detached.orc", "legacy-elf.orc"];

fn small() -> OpenOptions {
    OpenOptions {
        limits: Limits { archive_bytes: 1 << 20, unpacked_bytes: 1 << 20, files: 16, manifest_bytes: 1 << 16 },
        ..Default::default()
    }
}

fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        writer.start_file(*name, options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn open_bytes(bytes: &[u8]) -> Result<Bundle, Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.orc");
    fs::write(&path, bytes).unwrap();
    Bundle::open(&path, &small())
}

#[test]
fn bombs_are_refused_by_what_they_announce() {
    let zeros = vec![0u8; 8 << 20];
    let bomb = archive(&[(MANIFEST_NAME, b"{}"), ("a", &zeros)]);
    assert!(bomb.len() < 20_000);
    let e = open_bytes(&bomb).unwrap_err();
    assert!(matches!(e, Error::TooLarge { .. }), "{e}");
    // A manifest that is itself one.
    let e = open_bytes(&archive(&[(MANIFEST_NAME, &zeros[..500_000])])).unwrap_err();
    assert!(matches!(e, Error::TooLarge { .. }), "{e}");
    let many: Vec<String> = (0..17).map(|i| format!("f{i}")).collect();
    let mut entries: Vec<(&str, &[u8])> = vec![(MANIFEST_NAME, b"{}")];
    entries.extend(many.iter().map(|n| (n.as_str(), &b""[..])));
    assert!(matches!(open_bytes(&archive(&entries)), Err(Error::TooManyFiles { .. })));
}

#[test]
fn sizes_that_lie_are_refused() {
    let zeros = vec![0u8; 4096];
    let manifest = format!(
        "{{\"id\":\"8000000000000000000000000000000000000000000000000000000000000042\",\"digests\":{{\"a\":\"{}\"}}}}",
        base_prims::Hash::of(&[&zeros]).to_hex()
    );
    let honest = archive(&[(MANIFEST_NAME, manifest.as_bytes()), ("a", &zeros)]);
    assert!(open_bytes(&honest).is_ok());
    // The uncompressed size stands in the local and the central header.
    let size = 4096u32.to_le_bytes();
    let at: Vec<usize> = (0..honest.len() - 3).filter(|i| honest[*i..*i + 4] == size).collect();
    assert!(!at.is_empty());
    for lie in [1u32, 4095, 4097, 1 << 19] {
        let mut lying = honest.clone();
        for i in &at {
            lying[*i..*i + 4].copy_from_slice(&lie.to_le_bytes());
        }
        assert!(open_bytes(&lying).is_err(), "{lie}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damaged_archives_never_panic_and_never_lie(
        sample in 0..SAMPLES.len(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<Option<prop::sample::Index>>(),
    ) {
        let original = fs::read(vector(SAMPLES[sample])).unwrap();
        let mut bytes = original.clone();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            let cut = cut.index(bytes.len());
            bytes.truncate(cut);
        }
        if let Ok(bundle) = open_bytes(&bytes) {
            // Whatever is accepted has the contents that its manifest fixes; the manifest itself is fixed by its hash.
            let intact = open(&vector(SAMPLES[sample])).unwrap();
            if bundle.manifest_hash() == intact.manifest_hash() {
                prop_assert_eq!(bundle.manifest(), intact.manifest());
            }
        }
    }

    #[test]
    fn arbitrary_files_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(open_bytes(&bytes).is_err());
        prop_assert!(open_bytes(&[b"PK\x03\x04".as_slice(), &bytes].concat()).is_err());
        prop_assert!(open_bytes(&[&bytes, b"PK\x05\x06".as_slice(), &[0; 18]].concat()).is_err());
    }

    #[test]
    fn names_that_pass_stay_in_the_folder(name in "(\\PC|[./\\\\]){0,20}") {
        if check_name(&name).is_ok() {
            let path = std::path::Path::new("/folder").join(&name);
            prop_assert_eq!(path.parent(), Some(std::path::Path::new("/folder")));
            prop_assert!(path.file_name().is_some());
        }
    }

    #[test]
    fn arbitrary_signatures_never_panic(fill in any::<u8>(), at in 0..sigstruct::BYTES, byte in any::<u8>()) {
        let mut bytes = vec![fill; sigstruct::BYTES];
        bytes[512..516].copy_from_slice(&[3, 0, 0, 0]);
        bytes[at] = byte;
        prop_assert!(sigstruct::verify(&bytes).is_err());
    }
}
