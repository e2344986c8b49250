//! The reference's bundles and verdicts.

use std::collections::{BTreeMap, BTreeSet};

use base_prims::Hash;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use wire_runtime::bundle::{ComponentId, MANIFEST_NAME};

use super::{contents, good, identity_texts, open, test_signer, vector, vectors, verdicts};
use crate::{Bundle, Error, Limits, OpenOptions, sigstruct};

/// Files that the reference accepts and this crate does not: names that cannot be unpacked into a folder of their own,
/// and several entries of one name, of which the reference takes the last.
pub(super) const STRICTER: [&str; 6] = [
    "x-backslash.orc",
    "x-dot-only.orc",
    "x-dot.orc",
    "x-dotdot-only.orc",
    "x-empty-name.orc",
    "x-repeated-entry-last-good.orc",
];

#[test]
fn verdicts_are_the_reference_s() {
    let (mut accepted, mut refused) = (0, 0);
    for verdict in verdicts() {
        let result = open(&vector(&verdict.file));
        if STRICTER.contains(&verdict.file.as_str()) {
            assert!(verdict.ok, "{}", verdict.file);
            assert!(matches!(result, Err(Error::Name { .. } | Error::Archive { .. })), "{}", verdict.file);
            continue;
        }
        match result {
            Ok(_) => accepted += 1,
            Err(e) => {
                refused += 1;
                assert!(e.to_string().contains(&verdict.file), "no file in: {e}");
            }
        }
        assert_eq!(
            open(&vector(&verdict.file)).is_ok(),
            verdict.ok,
            "{}: {} / {:?}",
            verdict.file,
            verdict.value["error"],
            open(&vector(&verdict.file)).err().map(|e| e.to_string()),
        );
    }
    println!("{accepted} accepted, {refused} refused");
    assert!(accepted >= 30 && refused >= 50);
}

#[test]
fn every_file_has_a_verdict() {
    let listed: BTreeSet<String> = verdicts().into_iter().map(|v| v.file).collect();
    let found: BTreeSet<String> = std::fs::read_dir(vectors())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".orc"))
        .collect();
    assert_eq!(listed, found);
}

#[test]
fn manifests_hash_and_mean_the_same() {
    for verdict in good() {
        let file = &verdict.file;
        let mut bundle = open(&vector(file)).unwrap();
        let manifest = bundle.manifest().clone();
        let want = &verdict.value;
        assert_eq!(bundle.manifest_hash().to_hex(), want["manifest_hash"], "{file}");
        assert_eq!(STANDARD.encode(base_codec::cbor::to_vec(&manifest)), want["manifest_cbor"], "{file}");
        assert_eq!(manifest.is_detached(), want["detached"], "{file}");
        let components = manifest.available_components();
        let listed = want["components"].as_array().cloned().unwrap_or_default();
        assert_eq!(components.len(), listed.len(), "{file}");
        for want in listed {
            let id: ComponentId = want["id"].as_str().unwrap().parse().unwrap();
            let component = &components[&id];
            assert_eq!(component.version.to_string(), want["version"], "{file} {id}");
            assert_eq!(component.tee_kind().to_string(), want["tee"], "{file} {id}");
            let identities = bundle.enclave_identities(&id, None).map(|ids| identity_texts(&ids)).unwrap_or_default();
            let none = Vec::new();
            assert_eq!(
                serde_json::Value::from(identities),
                serde_json::Value::from(want["identities"].as_array().unwrap_or(&none).clone()),
                "{file} {id}"
            );
            assert_eq!(
                serde_json::Value::from(component.required_volumes()),
                serde_json::Value::from(want["volumes"].as_array().unwrap_or(&none).clone()),
                "{file} {id}"
            );
        }
        let mut files: BTreeMap<String, String> = BTreeMap::new();
        for name in bundle.names() {
            files.insert(name.clone(), Hash::of(&[&contents(&mut bundle, &name)]).to_hex());
        }
        files.insert(MANIFEST_NAME.into(), Hash::of(&[bundle.manifest_text()]).to_hex());
        assert_eq!(serde_json::to_value(files).unwrap(), want["files"], "{file}");
    }
}

#[test]
fn manifests_are_written_as_the_reference_writes_them() {
    let mut compared = 0;
    for verdict in good() {
        // Those with `x-` were written by hand.
        if verdict.file.starts_with("x-") {
            continue;
        }
        let bundle = open(&vector(&verdict.file)).unwrap();
        let mut manifest = bundle.manifest().clone();
        // Reading copies a version at the top level, which the reference's writer had not.
        if verdict.file.starts_with("top-version") {
            let ronl = manifest.components.iter_mut().find(|c| c.is_ronl()).unwrap();
            ronl.version = if verdict.file == "top-version-and-component.orc" {
                base_prims::Version::new(7, 0, 0)
            } else {
                base_prims::Version::default()
            };
        }
        assert_eq!(manifest.to_json(), String::from_utf8_lossy(bundle.manifest_text()), "{}", verdict.file);
        compared += 1;
    }
    assert_eq!(compared, 16);
}

#[test]
fn what_was_asked_for_is_checked() {
    let path = vector("elf.orc");
    let bundle = open(&path).unwrap();
    let (hash, id) = (bundle.manifest_hash(), bundle.manifest().id);
    let with = |options: OpenOptions| Bundle::open(&path, &options).map(|_| ());
    assert!(with(OpenOptions { manifest_hash: Some(hash), runtime_id: Some(id), ..Default::default() }).is_ok());
    let other = Hash::of(&[b"other"]);
    let e = with(OpenOptions { manifest_hash: Some(other), ..Default::default() }).unwrap_err();
    assert!(e.to_string().contains(&other.to_hex()) && e.to_string().contains(&hash.to_hex()));
    assert!(matches!(
        with(OpenOptions { runtime_id: Some(base_prims::Namespace::default()), ..Default::default() }),
        Err(Error::RuntimeId { .. })
    ));
}

#[test]
fn limits_hold() {
    let path = vector("extra-file.orc");
    let size = std::fs::metadata(&path).unwrap().len();
    let with = |limits: Limits| Bundle::open(&path, &OpenOptions { limits, ..Default::default() }).map(|_| ());
    let ok = Limits::default();
    assert!(with(ok).is_ok());
    assert!(with(Limits { archive_bytes: size, files: 4, ..ok }).is_ok());
    for (limits, what) in [
        (Limits { archive_bytes: size - 1, ..ok }, "archive"),
        (Limits { unpacked_bytes: 100, ..ok }, "contents"),
        (Limits { manifest_bytes: 10, ..ok }, "manifest"),
        (Limits { files: 3, ..ok }, "files"),
    ] {
        let e = with(limits).unwrap_err().to_string();
        assert!(e.contains(what), "{e}");
    }
    assert_eq!(Limits::downloaded(100).unpacked_bytes, 12_800);
    assert_eq!(Limits::downloaded(u64::MAX).unpacked_bytes, ok.unpacked_bytes);
}

#[test]
fn unsigned_enclaves_need_a_test_signer() {
    for file in ["sgx-unsigned.orc", "legacy-sgx-unsigned.orc"] {
        let mut bundle = open(&vector(file)).unwrap();
        assert!(matches!(bundle.enclave_identities(&ComponentId::Ronl, None), Err(Error::Component { .. })));
        let ids = bundle.enclave_identities(&ComponentId::Ronl, Some(test_signer())).unwrap();
        // The signed variant has the same image, and was signed with that very key.
        let mut signed = open(&vector("sgx.orc")).unwrap();
        assert_eq!(signed.enclave_identities(&ComponentId::Ronl, None).unwrap(), ids);
    }
    let mut elf = open(&vector("elf.orc")).unwrap();
    assert!(elf.enclave_identities(&ComponentId::Ronl, None).is_err());
    assert!(elf.enclave_identities(&ComponentId::Rofl("x".into()), None).is_err());
}

#[test]
fn sigstructs_verify_and_are_rebuilt() {
    let bytes = std::fs::read(vector("runtime.sig")).unwrap();
    let (statement, signer) = sigstruct::verify(&bytes).unwrap();
    assert_eq!(signer, test_signer());
    assert_eq!(statement.build_date, (1, 1, 1));
    assert_eq!(statement.attributes, [6, 3]);
    let reversed = |range: std::ops::Range<usize>| -> Vec<u8> { bytes[range].iter().rev().copied().collect() };
    let rebuilt = statement.with_signature(&reversed(128..512), &reversed(516..900));
    assert_eq!(rebuilt, Ok(bytes.clone()));
    let other = sigstruct::Sigstruct { isv_svn: 1, ..statement };
    assert_eq!(other.with_signature(&reversed(128..512), &reversed(516..900)), Err(sigstruct::Error::Signature));
    assert_ne!(other.hash_for_signature(), sigstruct::Sigstruct::default().hash_for_signature());
    // Every signed byte, and every byte of key, signature and quotients, counts.
    for at in (0..1028).chain(1040..1808) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(sigstruct::verify(&changed).is_err(), "{at}");
    }
    assert!(matches!(sigstruct::verify(&bytes[1..]), Err(sigstruct::Error::Length { length: 1807 })));
}
