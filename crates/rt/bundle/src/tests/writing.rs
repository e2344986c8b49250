//! Bundles written here.
//!
//! Verdict of the reference, 26.1: `bundle.Open` accepts every bundle that `rewritten_bundles_mean_the_same` and
//! `wrapped_binaries_are_bundles` write, with the manifest hash, components and enclave identities of the original.
//! With `BUNDLES_OUT=FOLDER` the tests leave them there, for that comparison.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use base_prims::{Namespace, Version};
use wire_consensus::registry::VersionInfo;
use wire_runtime::bundle::{Component, ComponentId, Elf, KIND_RONL, Manifest, TeeKind};

use super::{contents, good, open, test_signer, vector};
use crate::{Binary, Builder, Error, Mismatch, Wrap, compare_with_deployment};

fn runtime_id() -> Namespace {
    "8000000000000000000000000000000000000000000000000000000000000042".parse().unwrap()
}

/// Where tests write: kept if asked for.
struct Out {
    dir: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

fn out() -> Out {
    match std::env::var_os("BUNDLES_OUT") {
        Some(dir) => {
            fs::create_dir_all(&dir).unwrap();
            Out { dir: dir.into(), _temporary: None }
        }
        None => {
            let temporary = tempfile::tempdir().unwrap();
            Out { dir: temporary.path().into(), _temporary: Some(temporary) }
        }
    }
}

#[test]
fn rewritten_bundles_mean_the_same() {
    let out = out();
    let mut written = 0;
    for verdict in good() {
        let mut original = open(&vector(&verdict.file)).unwrap();
        // Digests of files that are not there, and of the manifest itself, are not written.
        let digests = original.manifest().digests.as_ref().map_or(0, |d| d.len());
        if digests != original.names().len() || original.manifest().digests.is_none() {
            continue;
        }
        let mut builder = Builder::new(original.manifest().clone());
        for name in original.names() {
            let bytes = contents(&mut original, &name);
            builder.add_bytes(&name, bytes).unwrap();
        }
        let path = out.dir.join(format!("rewritten-{}", verdict.file));
        let hash = builder.write(&path).unwrap();
        assert_eq!(hash, original.manifest_hash(), "{}", verdict.file);
        let mut back = open(&path).unwrap();
        assert_eq!(back.manifest(), original.manifest());
        assert_eq!(back.names(), original.names());
        for name in back.names() {
            assert_eq!(contents(&mut back, &name), contents(&mut original, &name));
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        written += 1;
    }
    println!("{written} bundles");
    assert!(written >= 30);
}

#[test]
fn equal_inputs_give_equal_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = Manifest {
        id: runtime_id(),
        components: vec![Component {
            kind: KIND_RONL.into(),
            elf: Some(Elf { executable: "b".into() }),
            ..Default::default()
        }],
        ..Default::default()
    };
    let image = vec![7u8; 100_000];
    fs::write(dir.path().join("image"), &image).unwrap();
    let mut written = Vec::new();
    for order in [["a", "b", "c"], ["c", "b", "a"]] {
        let mut builder = Builder::new(manifest.clone());
        for name in order {
            if order[0] == "a" {
                builder.add_bytes(name, image.clone()).unwrap();
            } else {
                builder.add_file(name, &dir.path().join("image")).unwrap();
            }
        }
        let path = dir.path().join(order[0]);
        builder.write(&path).unwrap();
        written.push(fs::read(path).unwrap());
    }
    assert_eq!(written[0], written[1]);
    assert!(written[0].len() < 5000, "compressed");
}

#[test]
fn a_bundle_that_would_be_refused_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.orc");
    fs::write(&path, b"before").unwrap();
    let mut builder = Builder::new(Manifest { id: runtime_id(), executable: "gone".into(), ..Default::default() });
    assert!(matches!(builder.write(&path), Err(Error::FileMissing { .. })));
    builder.add_bytes("gone", *b"x").unwrap();
    builder.edit(|m| m.components.push(Component::default()));
    assert!(matches!(builder.write(&path), Err(Error::Manifest { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"before");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left behind");
    builder.edit(|m| m.components.clear());
    builder.write(&path).unwrap();
    assert_eq!(open(&path).unwrap().names(), ["gone"]);
    for name in ["", ".", "..", "a/b", "/a", "a\\b", "META-INF", "a\nb", &"n".repeat(256)] {
        assert!(builder.add_bytes(name, *b"x").is_err(), "{name:?}");
    }
    assert!(builder.add_file("y", &dir.path().join("absent")).is_err());
}

#[test]
fn wrapped_binaries_are_bundles() {
    let out = out();
    let elf = Binary::detect(&vector("runtime.elf")).unwrap();
    let sgxs = Binary::detect(&vector("runtime.sgxs")).unwrap();
    assert_eq!(elf, Binary::Elf(vector("runtime.elf")));
    let Binary::Sgxs { image, signature, .. } = sgxs.clone() else { panic!("{sgxs:?}") };
    assert_eq!(signature, Some(vector("runtime.sig")));
    let unsigned = Binary::Sgxs { image: image.clone(), signature: None, elf: Some(vector("runtime.elf")) };
    for (name, binary, tee) in [
        ("wrapped-elf.orc", elf, TeeKind::NONE),
        ("wrapped-sgxs.orc", sgxs, TeeKind::SGX),
        ("wrapped-unsigned.orc", unsigned, TeeKind::SGX),
    ] {
        for version in [Some(Version::new(1, 2, 3)), None] {
            let wrap = Wrap { runtime_id: runtime_id(), name: "wrapped".into(), version, binary: binary.clone() };
            let path = out.dir.join(name);
            let hash = wrap.to_builder().unwrap().write(&path).unwrap();
            let mut bundle = open(&path).unwrap();
            let ronl = bundle.manifest().component(&ComponentId::Ronl).unwrap();
            assert_eq!((ronl.tee_kind(), ronl.version), (tee, version.unwrap_or_default()));
            if tee == TeeKind::SGX {
                bundle.enclave_identities(&ComponentId::Ronl, Some(test_signer())).unwrap();
            }
            let exploded = wrap.to_exploded().unwrap();
            assert_eq!(exploded.manifest_hash, hash);
            assert_eq!(exploded.version_from_runtime, version.is_none());
            for (_, file) in ronl.files() {
                assert!(exploded.file(file).starts_with(vector("")), "{file}");
                assert_eq!(fs::read(exploded.file(file)).unwrap(), contents(&mut bundle, file));
            }
        }
    }
    assert!(matches!(Binary::detect(&vector("elf.orc")), Err(Error::UnknownBinary { .. })));
    // An image with a signature of another one.
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = fs::read(&image).unwrap();
    bytes.push(0);
    fs::write(dir.path().join("a.sgxs"), bytes).unwrap();
    fs::copy(vector("runtime.sig"), dir.path().join("a.sig")).unwrap();
    let wrap = Wrap {
        runtime_id: runtime_id(),
        name: String::new(),
        version: None,
        binary: Binary::detect(&dir.path().join("a.sgxs")).unwrap(),
    };
    assert!(matches!(wrap.to_exploded(), Err(Error::Signature { .. })));
    assert!(wrap.to_builder().unwrap().write(&dir.path().join("a.orc")).is_err());
}

#[test]
fn deployments_are_compared() {
    let manifest = open(&vector("elf.orc")).unwrap().manifest().clone();
    let mut deployment = VersionInfo {
        version: Version::new(1, 2, 3),
        bundle_checksum: manifest.hash().as_bytes().to_vec().into(),
        ..Default::default()
    };
    assert_eq!(compare_with_deployment(&manifest, &deployment), []);
    deployment.version = Version::new(1, 2, 4);
    deployment.bundle_checksum = vec![1; 32].into();
    let found: BTreeSet<String> =
        compare_with_deployment(&manifest, &deployment).iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 2);
    deployment.bundle_checksum = vec![1; 31].into();
    assert_eq!(compare_with_deployment(&manifest, &deployment)[0], Mismatch::MalformedChecksum { length: 31 });
    deployment.bundle_checksum = Vec::new().into();
    let detached = open(&vector("rofl-tdx-detached.orc")).unwrap().manifest().clone();
    assert_eq!(compare_with_deployment(&detached, &deployment), [Mismatch::NoChecksum, Mismatch::Detached]);
}
