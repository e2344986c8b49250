//! What off-chain components may manage, with whose permission.

use base_codec::{Codec, Raw};
use rt_bundle::Builder;
use rt_host::api::HostInfo;
use tokio_util::sync::CancellationToken;
use wire_runtime::bundle::{Component, Elf};

use super::*;
use crate::Setup;
use crate::testing::{MemoryChain, config, id};

struct Fixture {
    hosting: Arc<Hosting>,
    host: Arc<CompositeHost>,
    dir: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let text = format!(
            r"  provisioner: mock
  runtimes:
    - id: {}
      components:
        - id: rofl.manager
          permissions: [bundle_add, bundle_remove, volume_add, volume_remove, log_view]
        - id: rofl.other
          permissions: [bundle_add, volume_add, log_view]
        - rofl.powerless
",
            id(1)
        );
        let setup = Setup {
            config: config("compute", dir.path(), &text),
            data_dir: dir.path().to_owned(),
            info: HostInfo::default(),
            chain: MemoryChain::new(),
            unsafe_options: true,
            tee: rt_tee::VerifyOptions::default(),
            node_key: Some(base_crypto::ed25519::SecretKey::from_seed(&[3; 32])),
            ias: Vec::new(),
        };
        let hosting = Hosting::start(setup, CancellationToken::new()).await.expect("starts");
        Self { hosting, host: Arc::new(CompositeHost::new(id(1))), dir }
    }

    async fn call<T: base_codec::cbor::Encode, R: base_codec::cbor::Decode>(
        &self,
        component: &str,
        endpoint: &str,
        method: &str,
        args: &T,
    ) -> Result<R, String> {
        let managed = Managed {
            hosting: Arc::downgrade(&self.hosting),
            host: Arc::downgrade(&self.host),
            runtime: id(1),
            labels: Labels::new(),
        };
        let request = Request { method: method.into(), args: Raw::of(args) };
        let answer = managed.call(ComponentId::Rofl(component.into()), endpoint.into(), request).await;
        answer.map(|bytes| cbor::from_slice(&bytes).expect("the answer's form")).map_err(|e| e.message)
    }

    fn bundle(&self, name: &str) -> (Vec<u8>, Hash) {
        let component = Component {
            kind: KIND_ROFL.into(),
            name: name.into(),
            version: Version::new(1, 2, 3),
            elf: Some(Elf { executable: "app.elf".into() }),
            ..Component::default()
        };
        let manifest = Manifest { name: "n".into(), id: id(1), components: vec![component], ..Manifest::default() };
        let mut builder = Builder::new(manifest);
        builder.add_bytes("app.elf", b"\x7fELF".to_vec()).expect("adds");
        let path = self.dir.path().join(format!("{name}.orc"));
        let hash = builder.write(&path).expect("writes");
        (fs::read(path).expect("reads"), hash)
    }

    async fn upload(&self, component: &str, name: &str, bytes: &[u8]) -> Result<Empty, String> {
        let (first, second) = bytes.split_at(bytes.len() / 2);
        let request = |create, data: &[u8]| rofl::BundleWriteRequest {
            temporary_name: name.into(),
            create,
            data: Some(data.to_vec().into()),
        };
        let call = async |request| {
            self.call::<_, Empty>(component, rofl::ENDPOINT_BUNDLE_MANAGER, rofl::METHOD_BUNDLE_WRITE, &request).await
        };
        call(request(true, first)).await?;
        call(request(false, second)).await
    }

    async fn list(&self, component: &str) -> Vec<rofl::BundleInfo> {
        let all = rofl::LabelsRequest::default();
        let found: rofl::BundleListResponse =
            self.call(component, rofl::ENDPOINT_BUNDLE_MANAGER, rofl::METHOD_BUNDLE_LIST, &all).await.expect("lists");
        found.bundles
    }
}

fn add(name: &str, manifest_hash: Hash) -> rofl::BundleAddRequest {
    let labels = [("net.oasis.instance_id", "7"), (LABEL_ORIGIN, "somebody else")];
    let labels = labels.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    rofl::BundleAddRequest { temporary_name: name.into(), manifest_hash, labels: Some(labels), volumes: None }
}

#[derive(Default, Codec)]
#[codec(cbor_only)]
struct Nothing {}

#[tokio::test]
async fn bundles_come_go_and_belong_to_who_brought_them() {
    let fixture = Fixture::new().await;
    let (bytes, hash) = fixture.bundle("app");
    let manager = rofl::ENDPOINT_BUNDLE_MANAGER;
    fixture.upload("manager", "up.orc", &bytes).await.expect("uploads");
    let added: Result<Empty, _> =
        fixture.call("manager", manager, rofl::METHOD_BUNDLE_ADD, &add("up.orc", Hash::EMPTY)).await;
    assert!(added.expect_err("another hash").contains("failed to open bundle"));
    let added: Result<Empty, _> = fixture.call("manager", manager, rofl::METHOD_BUNDLE_ADD, &add("up.orc", hash)).await;
    added.expect("adds");

    let found = fixture.list("manager").await;
    assert_eq!(found.len(), 1);
    assert_ne!(found[0].manifest_hash, hash);
    let name = &found[0].components.as_ref().expect("components")[0].name;
    let origin = format!("{}-rofl.manager", id(1));
    let expected = tuple_hash256(COMPONENT_NAME_CONTEXT, &[origin.as_bytes(), b"7", b"app"]);
    assert_eq!(*name, Hash::new(expected).to_hex());
    assert_eq!(found[0].labels[LABEL_ORIGIN], origin);
    // The unpacked bundle carries the manifest that it became.
    let offered = fixture.hosting.bundles.offered(&id(1));
    let rofl = offered.iter().find(|o| o.id == ComponentId::Rofl(name.clone())).expect("offered");
    assert_eq!(rofl.component.version, Version::default());
    assert!(rofl.known.bundle.dir.ends_with(found[0].manifest_hash.to_hex()));
    assert!(rofl.known.bundle.file("app.elf").is_file());
    let listed = fixture.hosting.bundles.store().list().expect("lists");
    assert!(listed.skipped.is_empty(), "{:?}", listed.skipped);

    // The upload is gone; another component sees nothing of it and removes nothing.
    let again: Result<Empty, _> = fixture.call("manager", manager, rofl::METHOD_BUNDLE_ADD, &add("up.orc", hash)).await;
    assert!(again.is_err());
    assert!(fixture.list("other").await.is_empty());
    let all = rofl::LabelsRequest::default();
    let removed: Result<Empty, _> = fixture.call("other", manager, rofl::METHOD_BUNDLE_REMOVE, &all).await;
    assert_eq!(removed.expect_err("not permitted"), "forbidden");
    let removed: Result<Empty, _> = fixture.call("manager", manager, rofl::METHOD_BUNDLE_REMOVE, &all).await;
    removed.expect("removes");
    assert!(fixture.list("manager").await.is_empty());
}

#[tokio::test]
async fn nothing_is_permitted_that_is_not_configured() {
    let fixture = Fixture::new().await;
    let all = rofl::LabelsRequest::default();
    for component in ["powerless", "unknown"] {
        for (endpoint, method) in [
            (rofl::ENDPOINT_BUNDLE_MANAGER, rofl::METHOD_BUNDLE_REMOVE),
            (rofl::ENDPOINT_BUNDLE_MANAGER, rofl::METHOD_BUNDLE_LIST),
            (rofl::ENDPOINT_VOLUME_MANAGER, rofl::METHOD_VOLUME_ADD),
            (rofl::ENDPOINT_VOLUME_MANAGER, rofl::METHOD_VOLUME_REMOVE),
            (rofl::ENDPOINT_VOLUME_MANAGER, rofl::METHOD_VOLUME_LIST),
        ] {
            let answer: Result<Nothing, _> = fixture.call(component, endpoint, method, &all).await;
            assert_eq!(answer.err().as_deref(), Some("forbidden"), "{component} {method}");
        }
        assert_eq!(fixture.upload(component, "x", b"xx").await.expect_err("refused"), "forbidden");
        let log = rofl::LogGetRequest { component_id: "rofl.x".into(), ..Default::default() };
        let answer: Result<Nothing, _> =
            fixture.call(component, rofl::ENDPOINT_LOG_MANAGER, rofl::METHOD_LOG_GET, &log).await;
        assert_eq!(answer.err().as_deref(), Some("forbidden"));
    }
    let answer: Result<Nothing, _> = fixture.call("manager", rofl::ENDPOINT_LOG_MANAGER, "BundleAdd", &all).await;
    assert_eq!(answer.err().as_deref(), Some("method not supported"));
}

#[tokio::test]
async fn uploads_stay_in_their_folder_and_are_bounded() {
    let fixture = Fixture::new().await;
    for name in ["../up", "a/b", "", ".."] {
        let error = fixture.upload("manager", name, b"xx").await.expect_err("refused");
        assert!(error.contains("invalid temporary name"), "{error}");
    }
    for n in 0..MAX_UPLOADS {
        fixture.upload("manager", &format!("up{n}"), b"xx").await.expect("uploads");
    }
    assert!(fixture.upload("manager", "more", b"xx").await.expect_err("refused").contains("already"));
    fixture.upload("manager", "up0", b"anew").await.expect("begins anew");
    fixture.upload("other", "up0", b"xx").await.expect("has its own");
    let append = rofl::BundleWriteRequest { temporary_name: "new".into(), create: false, data: None };
    let answer: Result<Empty, _> =
        fixture.call("other", rofl::ENDPOINT_BUNDLE_MANAGER, rofl::METHOD_BUNDLE_WRITE, &append).await;
    assert_eq!(answer.err().as_deref(), Some("failed to open temporary bundle"));
}

#[tokio::test]
async fn on_chain_components_and_others_bundles_are_not_taken() {
    let fixture = Fixture::new().await;
    let ronl = Component {
        kind: wire_runtime::bundle::KIND_RONL.into(),
        elf: Some(Elf { executable: "app.elf".into() }),
        ..Component::default()
    };
    let mut builder = Builder::new(Manifest { id: id(1), components: vec![ronl], ..Manifest::default() });
    builder.add_bytes("app.elf", b"\x7fELF".to_vec()).expect("adds");
    let path = fixture.dir.path().join("ronl.orc");
    let hash = builder.write(&path).expect("writes");
    fixture.upload("manager", "r", &fs::read(path).expect("reads")).await.expect("uploads");
    let added: Result<Empty, _> =
        fixture.call("manager", rofl::ENDPOINT_BUNDLE_MANAGER, rofl::METHOD_BUNDLE_ADD, &add("r", hash)).await;
    assert_eq!(added.expect_err("refused"), "non-ROFL components are not supported");
}

#[tokio::test]
async fn volumes_and_logs_are_reached_by_labels() {
    let fixture = Fixture::new().await;
    let all = rofl::LabelsRequest::default();
    let manager = rofl::ENDPOINT_VOLUME_MANAGER;
    let added: rofl::VolumeAddResponse =
        fixture.call("manager", manager, rofl::METHOD_VOLUME_ADD, &all).await.expect("adds");
    let list = async |component| -> Vec<String> {
        let found: rofl::VolumeListResponse =
            fixture.call(component, manager, rofl::METHOD_VOLUME_LIST, &all).await.expect("lists");
        found.volumes.into_iter().map(|volume| volume.id).collect()
    };
    assert_eq!(list("manager").await, std::slice::from_ref(&added.id));
    assert!(list("other").await.is_empty());

    // Another component's volume cannot be attached.
    let (bytes, hash) = fixture.bundle("app");
    fixture.upload("other", "up", &bytes).await.expect("uploads");
    let mut request = add("up", hash);
    request.volumes = Some([("data".to_owned(), added.id.clone())].into());
    let refused: Result<Empty, _> =
        fixture.call("other", rofl::ENDPOINT_BUNDLE_MANAGER, rofl::METHOD_BUNDLE_ADD, &request).await;
    assert_eq!(refused.expect_err("refused"), format!("volume '{}' not found", added.id));
    request.volumes = None;
    let taken: Result<Empty, _> =
        fixture.call("other", rofl::ENDPOINT_BUNDLE_MANAGER, rofl::METHOD_BUNDLE_ADD, &request).await;
    taken.expect("adds");

    let name = fixture.list("other").await[0].components.as_ref().expect("components")[0].name.clone();
    let component = ComponentId::Rofl(name);
    let path = ComponentLog::path_in(fixture.dir.path(), &id(1), &component);
    fs::create_dir_all(path.parent().expect("a folder")).expect("makes");
    let lines = [
        r#"{"ts":"2025-11-21T16:59:59.000000Z","msg":"old"}"#,
        r#"{"msg":"new","a":{"ts":"1999-01-01T00:00:00.000000Z"},"ts":"2025-11-21T17:00:01.000000Z"}"#,
        "no JSON",
    ];
    fs::write(&path, format!("{}\n{{\"ts\":\"2026", lines.join("\n"))).expect("writes");
    let get = |component_id: String, since| rofl::LogGetRequest { labels: None, component_id, since };
    let log = async |from, request: rofl::LogGetRequest| -> Result<rofl::LogGetResponse, String> {
        fixture.call(from, rofl::ENDPOINT_LOG_MANAGER, rofl::METHOD_LOG_GET, &request).await
    };
    let text = component.to_string();
    let found = log("other", get(text.clone(), 1_763_744_399)).await.expect("reads");
    assert_eq!(found.logs, Some(vec![lines[1].to_owned()]));
    let found = log("other", get(text.clone(), 0)).await.expect("reads");
    assert_eq!(found.logs.map(|logs| logs.len()), Some(2));
    assert_eq!(log("manager", get(text, 0)).await.err().as_deref(), Some("component not found"));
    assert_eq!(log("other", get("ronl".into(), 0)).await.err().as_deref(), Some("RONL component not allowed"));
}

#[tokio::test]
async fn labels_are_attested_only_with_a_key_of_a_tee() {
    let fixture = Fixture::new().await;
    let ask = async |count: usize| -> Result<rofl::AttestLabelsResponse, String> {
        let labels = (0..count).map(|n| n.to_string()).collect();
        let request = rofl::AttestLabelsRequest { labels: Some(labels) };
        fixture.call("manager", rofl::ENDPOINT_ATTESTATION, rofl::METHOD_ATTEST_LABELS, &request).await
    };
    assert_eq!(ask(0).await.err().as_deref(), Some("no labels specified"));
    assert_eq!(ask(11).await.err().as_deref(), Some("too many labels specified (max: 10)"));
    assert_eq!(ask(1).await.err().as_deref(), Some("failed to retrieve component"));

    let attested = crate::testing::attested(id(1));
    let component = ComponentId::Rofl("manager".into());
    fixture.host.start().await.expect("starts");
    let ronl = Arc::new(rt_host::mock::MockHost::new(id(1)));
    fixture.host.add_version(&ComponentId::Ronl, Version::default(), ronl).await.expect("adds");
    fixture.host.set_version(Some(Version::default()), None).await;
    fixture.host.add_version(&component, Version::default(), attested).await.expect("adds");
    let answer = ask(2).await.expect("attests");
    let key = base_crypto::ed25519::SecretKey::from_seed(&[3; 32]);
    assert_eq!(answer.node_id, PublicKey::from(key.public()));
    let attestation = answer.attestation.expect("an attestation");
    let content: rofl::LabelAttestation = cbor::from_slice(&attestation).expect("its form");
    assert_eq!(content.rak, PublicKey::new([5; 32]));
    assert_eq!(content.labels, Some([("0", ""), ("1", "")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()));
    let valid = context::verify_with_context(
        answer.node_id.as_bytes(),
        &context::ATTEST_LABELS,
        None,
        None,
        &attestation,
        answer.signature.as_bytes(),
    );
    assert!(valid.expect("the context fits"));
}
