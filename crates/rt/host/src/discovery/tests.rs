//! Bundles from local registries: good, corrupt, too large, broken off, and for the wrong runtime.

use std::sync::atomic::{AtomicUsize, Ordering};

use base_prims::Epoch;
use rt_bundle::{Binary, Builder, Wrap};
use wire_consensus::registry::VersionInfo;
use wire_runtime::bundle::{Elf, KIND_ROFL, KIND_RONL, Manifest};

use super::*;
use crate::http::tests::{Reply, serve};

fn id(last: u8) -> Namespace {
    let mut bytes = [0; 32];
    bytes[31] = last;
    Namespace::from_bytes_unchecked(bytes)
}

/// A bundle around this test program's first bytes.
fn bundle(runtime: Namespace, version: Version) -> (Hash, Vec<u8>) {
    let dir = tempfile::tempdir().expect("a folder");
    let elf = dir.path().join("elf");
    std::fs::write(&elf, [b"\x7fELF".as_slice(), &[3; 5000]].concat()).expect("written");
    let wrap = Wrap { runtime_id: runtime, name: "test".into(), version: Some(version), binary: Binary::Elf(elf) };
    let mut builder = wrap.to_builder().expect("a bundle");
    let path = dir.path().join("out.orc");
    let hash = builder.write(&path).expect("written");
    (hash, std::fs::read(&path).expect("there"))
}

fn settings(registries: &[&str], runtime: Namespace) -> Settings {
    Settings {
        registries: registries.iter().map(|r| (*r).to_owned()).collect(),
        runtimes: BTreeMap::from([(runtime, Vec::new())]),
        retry: Duration::from_millis(50),
        ..Settings::default()
    }
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::new(dir.path());
    store.prepare().expect("prepares");
    (dir, store)
}

fn deployment(version: Version, valid_from: Epoch, checksum: &[u8]) -> VersionInfo {
    VersionInfo { version, valid_from, bundle_checksum: checksum.to_vec().into(), ..VersionInfo::default() }
}

#[test]
fn wants_the_valid_deployment_and_those_after_it() {
    let deployments = vec![
        deployment(Version::new(1, 0, 0), 1, &[1; 32]),
        deployment(Version::new(3, 0, 0), 30, &[3; 32]),
        deployment(Version::new(2, 0, 0), 10, &[2; 32]),
        deployment(Version::new(4, 0, 0), 40, &[]),
    ];
    let runtime = Runtime { deployments: deployments.into_iter().map(Some).collect(), ..Runtime::default() };
    assert_eq!(wanted(&runtime, 12), [Hash::new([3; 32]), Hash::new([2; 32])]);
    assert_eq!(wanted(&runtime, 5), [Hash::new([3; 32]), Hash::new([2; 32]), Hash::new([1; 32])]);
    assert_eq!(wanted(&runtime, 45), []);
}

#[tokio::test]
async fn finds_a_bundle_and_hands_it_over() {
    let runtime = id(1);
    let (hash, bytes) = bundle(runtime, Version::new(1, 0, 0));
    let base = Arc::new(Mutex::new(String::new()));
    let (own, served) = (Arc::clone(&base), bytes.clone());
    let server = serve(move |request| {
        if request.path == format!("/metadata/{}", hash.to_hex()) {
            Reply::ok(format!("  {}/bundle.orc\n{}", own.lock(), " ".repeat(4000)).as_bytes())
        } else if request.path == "/bundle.orc" {
            Reply::ok(&served)
        } else {
            Reply::status(404)
        }
    })
    .await;
    *base.lock() = server.url.clone();
    let (_dir, store) = store();
    // The first registry is down.
    let registries = ["http://127.0.0.1:9/", &format!("{}/metadata", server.url)];
    let discovery = Arc::new(Discovery::new(settings(&registries, runtime), store.clone(), []));
    discovery.set_wanted(id(2), vec![hash]);
    assert!(discovery.missing().is_empty(), "not hosted here");
    discovery.set_wanted(runtime, vec![hash]);
    assert_eq!(discovery.missing(), [(runtime, hash)]);
    let (sender, mut found) = mpsc::channel(MAX_FOUND);
    let stop = CancellationToken::new();
    let task = tokio::spawn({
        let (discovery, stop) = (Arc::clone(&discovery), stop.clone());
        async move { discovery.run(sender, stop).await }
    });
    let bundle = tokio::time::timeout(Duration::from_secs(30), found.recv()).await.expect("in time").expect("found");
    assert_eq!((bundle.manifest_hash, bundle.manifest.id), (hash, runtime));
    assert!(bundle.file("runtime.elf").is_file());
    stop.cancel();
    task.await.expect("ends");
    assert!(discovery.missing().is_empty());
    assert_eq!(std::fs::read_dir(store.temporary_dir()).expect("readable").count(), 0, "nothing is left over");
    // It is known now.
    discovery.set_wanted(runtime, vec![hash]);
    assert!(discovery.missing().is_empty());
}

#[tokio::test]
async fn refuses_what_is_not_the_bundle() {
    let runtime = id(1);
    let (hash, good) = bundle(runtime, Version::new(1, 0, 0));
    let (_, other_runtime) = bundle(id(3), Version::new(1, 0, 0));
    let mut corrupt = good.clone();
    let middle = corrupt.len() / 2;
    corrupt[middle] ^= 0xff;
    let cases: [(&str, Vec<u8>, u64); 4] = [
        ("another bundle", other_runtime, 20 << 20),
        ("failed to open bundle", corrupt, 20 << 20),
        ("too large", good.clone(), good.len() as u64),
        ("status code 404", Vec::new(), 20 << 20),
    ];
    for (expected, bytes, limit) in cases {
        let base = Arc::new(Mutex::new(String::new()));
        let own = Arc::clone(&base);
        let server = serve(move |request| match request.path.as_str() {
            "/bundle" if bytes.is_empty() => Reply::status(404),
            "/bundle" => Reply::ok(&bytes),
            _ => Reply::ok(format!("{}/bundle", own.lock()).as_bytes()),
        })
        .await;
        *base.lock() = server.url.clone();
        let (_dir, store) = store();
        let settings = Settings { max_bundle_bytes: limit, ..settings(&[&server.url], runtime) };
        let discovery = Discovery::new(settings, store.clone(), []);
        let error = discovery.fetch(&runtime, &hash, &CancellationToken::new()).await.expect_err("refused").to_string();
        assert!(error.contains(expected), "{expected}: {error}");
        assert_eq!(std::fs::read_dir(store.temporary_dir()).expect("readable").count(), 0, "nothing half-written");
        assert_eq!(store.list().expect("lists").bundles.len(), 0);
    }
    let server = serve(|_| Reply::ok(b"ftp://example.com/bundle")).await;
    let (_dir, store) = store();
    let discovery = Discovery::new(settings(&[&server.url], runtime), store, []);
    let error = discovery.fetch(&runtime, &hash, &CancellationToken::new()).await.expect_err("refused");
    assert!(matches!(error, Error::Metadata { .. }), "{error}");
}

#[tokio::test]
async fn goes_on_with_a_broken_download_and_retries_failed_ones() {
    let runtime = id(1);
    let (hash, bytes) = bundle(runtime, Version::new(1, 0, 0));
    let base = Arc::new(Mutex::new(String::new()));
    let (own, failures) = (Arc::clone(&base), Arc::new(AtomicUsize::new(0)));
    let server = serve(move |request| {
        if request.path != "/bundle" {
            // The registry fails twice.
            return if failures.fetch_add(1, Ordering::SeqCst) < 2 {
                Reply::status(503)
            } else {
                Reply::ok(format!("{}/bundle", own.lock()).as_bytes())
            };
        }
        match request
            .headers
            .get("range")
            .and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok())
        {
            Some(from) => Reply::ok(&bytes[from..])
                .with_status(206)
                .with_header("Content-Range", &format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len())),
            None => Reply::ok(&bytes).with_header("ETag", "\"1\"").cut_after(bytes.len() / 3),
        }
    })
    .await;
    *base.lock() = server.url.clone();
    let (_dir, store) = store();
    let discovery = Discovery::new(settings(&[&server.url], runtime), store, []);
    discovery.set_wanted(runtime, vec![hash]);
    let (sender, mut found) = mpsc::channel(MAX_FOUND);
    let stop = CancellationToken::new();
    let search = discovery.run(sender, stop.clone());
    let bundle = tokio::select! {
        bundle = found.recv() => bundle,
        () = search => None,
        () = tokio::time::sleep(Duration::from_secs(30)) => None,
    };
    assert_eq!(bundle.expect("found").manifest_hash, hash);
}

#[test]
fn components_are_chosen() {
    let component = |kind: &str, disabled| Component { kind: kind.into(), disabled, ..Component::default() };
    let rofl = ComponentId::Rofl("abc".into());
    let (on, off) = (ComponentSettings::default(), ComponentSettings { disabled: true, tee: None });
    let ronl = component(KIND_RONL, false);
    assert!(is_wanted(&ComponentId::Ronl, &ronl, false, false, Some(&off)));
    for (disabled, detached, compute, settings, expected) in [
        (false, false, true, None, true),
        (true, false, true, None, false),
        (false, false, false, None, false),
        (true, true, false, None, true),
        (true, false, false, Some(&on), true),
        (false, true, true, Some(&off), false),
    ] {
        assert_eq!(is_wanted(&rofl, &component(KIND_ROFL, disabled), detached, compute, settings), expected);
    }
    let sgx = Component { sgx: Some(Default::default()), ..ronl.clone() };
    assert_eq!(choose_tee(&ComponentId::Ronl, &sgx, None, false), TeeKind::SGX);
    assert_eq!(choose_tee(&ComponentId::Ronl, &sgx, None, true), TeeKind::NONE);
    let none = ComponentSettings { tee: Some(TeeKind::NONE), disabled: false };
    assert_eq!(choose_tee(&ComponentId::Ronl, &sgx, Some(&none), false), TeeKind::NONE);
    assert_eq!(choose_tee(&ComponentId::Ronl, &ronl, None, false), TeeKind::NONE);
}

#[test]
fn bundles_are_ordered_given_and_retired() {
    let (_dir, store) = store();
    let runtime = id(1);
    let dir = tempfile::tempdir().expect("a folder");
    let path = |version: u16| {
        let (_, bytes) = bundle(runtime, Version::new(version, 0, 0));
        let path = dir.path().join(format!("{version}.orc"));
        std::fs::write(&path, bytes).expect("written");
        path
    };
    let mut builder = Builder::new(Manifest { id: runtime, ..Manifest::default() });
    builder.add_bytes("e", b"\x7fELF".to_vec()).expect("added");
    builder.edit(|manifest| {
        manifest.components = vec![Component {
            kind: KIND_ROFL.into(),
            name: "abc".into(),
            elf: Some(Elf { executable: "e".into() }),
            ..Component::default()
        }];
    });
    let rofl = dir.path().join("rofl.orc");
    builder.write(&rofl).expect("written");
    let missing = load_given(&store, &["/nowhere/x.orc".into()], &[]).expect_err("missing");
    assert!(missing.to_string().contains("/nowhere/x.orc"), "{missing}");
    let given: Vec<_> =
        load_given(&store, &[path(1), path(2), rofl], &[]).expect("loads").into_iter().map(Arc::new).collect();
    let ordered = order(&given).expect("no duplicates");
    let ids: Vec<String> = ordered.iter().map(|(_, id, _)| id.to_string()).collect();
    assert_eq!(ids, ["rofl.abc", "ronl", "ronl"], "what has no on-chain component goes first");
    let twice = [given.as_slice(), &given[..1]].concat();
    assert!(order(&twice).expect_err("twice").contains("duplicate component ronl version 1.0.0"));
    let gone = remove_obsolete(&store, &given, &runtime, Version::new(2, 0, 0));
    assert_eq!(gone, [given[0].manifest_hash]);
    assert_eq!(store.list().expect("lists").bundles.len(), 2);
}

proptest::proptest! {
    #[test]
    fn arbitrary_answers_of_registries_are_addresses_or_refused(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300),
        text in "( |\n|\t)*https?://[!-~]{0,40}( |\n)*",
    ) {
        if let Ok(address) = bundle_address(&bytes) {
            proptest::prop_assert!(address.starts_with("http") && !address.contains(char::is_whitespace));
        }
        proptest::prop_assert_eq!(bundle_address(text.as_bytes()), Ok(text.trim().to_owned()));
        let two = format!("{} {}", text, text);
        proptest::prop_assert!(bundle_address(two.as_bytes()).is_err());
    }
}
