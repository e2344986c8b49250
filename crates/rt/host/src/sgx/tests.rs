//! What is started, and attestation against a simulated daemon, a stand-in of Intel's service and a scripted runtime.

use std::{collections::BTreeMap, ffi::OsString};

use base_codec::cbor;
use base_kv::Memory;
use base_prims::{Namespace, PublicKey, Version};
use rt_bundle::{Binary, Wrap};
use rt_tee::{SgxAttestation, ias::AvrBundle};
use tokio::{io::AsyncReadExt as _, io::AsyncWriteExt as _, net::UnixStream};
use wire_consensus::signed::Signature;
use wire_runtime::{
    Body, Empty, Message, PROTOCOL_VERSION,
    bundle::{ComponentId, Sgx as SgxManifest, TeeKind},
    frame::{self, FrameReader},
    runtime::{Features, InfoResponse, RakQuoteResponse, RakReportResponse},
};

use super::*;
use crate::{
    aesm::tests::{daemon, dcap},
    api::{ComponentConfig, NoHandler},
    attest::{Endorser, NoPolicies},
    pcs::tests::{SGX_NOW, quote_service, service},
};

struct Signs;

impl Endorser for Signs {
    fn endorse(&self, _: &CapabilityTee) -> Option<Signature> {
        Some(Signature::default())
    }
}

fn attester(base: &str) -> Attester {
    Attester {
        quotes: quote_service(base, SGX_NOW, Arc::new(Memory::default())),
        policies: Arc::new(NoPolicies),
        endorser: Some(Arc::new(Signs)),
        ias: Vec::new(),
    }
}

/// A component with an enclave, whose files lie in a folder.
fn config(dir: &Path, signed: bool) -> ComponentConfig {
    std::fs::write(dir.join("runtime.elf"), b"\x7fELF rest").expect("written");
    let wrap = Wrap {
        runtime_id: Namespace::default(),
        name: "test".into(),
        version: Some(Version::new(1, 0, 0)),
        binary: Binary::Elf(dir.join("runtime.elf")),
    };
    let bundle = Arc::new(wrap.to_exploded().expect("an ELF file"));
    let mut config = ComponentConfig::new(bundle, ComponentId::Ronl, Arc::new(NoHandler)).expect("a component");
    std::fs::write(dir.join("runtime.sgxs"), b"ECREATE\0 image").expect("written");
    let signature = if signed { "runtime.sig" } else { "" };
    config.component.sgx = Some(SgxManifest { executable: "runtime.sgxs".into(), signature: signature.into() });
    config.tee = TeeKind::SGX;
    config
}

fn sgx(mock: bool, loader: Option<&str>) -> Sgx {
    let loader = loader.map(PathBuf::from);
    let isolation = Isolation::Sandbox("/usr/bin/bwrap".into());
    Sgx::new(loader, isolation, mock, attester("http://127.0.0.1:9"), HostInfo::default())
}

#[test]
fn arguments_are_those_of_the_reference() {
    let words: Vec<OsString> =
        loader_arguments(Path::new("/host.sock"), Path::new("/runtime.sig"), Path::new("/runtime"), true);
    let expected =
        ["--host-socket", "/host.sock", "--type", "sgxs", "--signature", "/runtime.sig", "/runtime", "--allow-network"];
    assert_eq!(words, expected.map(OsString::from));
}

#[tokio::test]
async fn what_is_missing_is_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let text = |r: Result<SandboxSpec, HostError>| r.map(drop).expect_err("refused").to_string();
    let no_loader = sgx(false, None).provision(config(dir.path(), true)).map(drop);
    assert!(no_loader.expect_err("refused").to_string().contains("runtime.sgx.loader"));
    let (socket, folder) = (Path::new("/tmp/x/host.sock"), Path::new("/tmp/x"));
    let with_loader = sgx(false, Some("/loader"));
    assert!(text(with_loader.spec(&config(dir.path(), false), socket, folder)).contains("SIGSTRUCT not available"));
    assert!(text(with_loader.spec(&config(dir.path(), true), socket, folder)).contains("runtime.sig"));
    std::fs::write(dir.path().join("runtime.sig"), [0; 1808]).expect("written");
    assert!(text(with_loader.spec(&config(dir.path(), true), socket, folder)).contains("failed to validate SIGSTRUCT"));
    let mut plain = config(dir.path(), true);
    plain.component.sgx = None;
    assert!(text(with_loader.spec(&plain, socket, folder)).contains("not available in bundle"));
    let none = Sgx { devices: vec!["/nowhere/sgx".into(), dir.path().into()], ..with_loader };
    let error = none.device().expect_err("no device").to_string();
    assert!(error.contains("no SGX device was found") && error.contains("hardware.md"), "{error}");
    let null = Sgx { devices: vec!["/dev/null".into()], ..none };
    assert_eq!(null.device(), Ok(Path::new("/dev/null")));
}

#[tokio::test]
async fn mock_enclaves_claim_the_measurement_of_the_image() {
    let dir = tempfile::tempdir().expect("a folder");
    let spec = sgx(true, None).spec(&config(dir.path(), false), Path::new("/s"), Path::new("/")).expect("a process");
    assert_eq!(spec.path, dir.path().join("runtime.elf"));
    let expected = hex::encode(Sha256::digest(b"ECREATE\0 image"));
    assert_eq!(spec.env.get(ENV_MOCK_MRENCLAVE), Some(&OsString::from(expected)));
    assert!(spec.data.is_empty() && spec.bind_dev.is_empty());
}

/// A runtime in an enclave: answers the steps of attestation, and remembers them.
async fn runtime(mut stream: UnixStream, report: Vec<u8>) -> Vec<String> {
    let mut frames = FrameReader::new(frame::MAX_FRAME_BYTES);
    let (mut buffer, mut steps) = (vec![0; 64 << 10], Vec::new());
    while let Ok(count) = stream.read(&mut buffer).await {
        if count == 0 {
            break;
        }
        frames.push(&buffer[..count]);
        while let Some(bytes) = frames.next_frame().expect("a frame") {
            let message = frame::decode(bytes).expect("a message");
            steps.push(message.body.name().to_owned());
            let answer = match message.body {
                Body::RuntimeInfoRequest(_) => Body::RuntimeInfoResponse(InfoResponse {
                    protocol_version: PROTOCOL_VERSION,
                    runtime_version: Version::new(1, 0, 0),
                    features: Some(Features { endorsed_capability_tee: true, ..Features::default() }),
                }),
                Body::RuntimeCapabilityTEERakInitRequest(_) => Body::RuntimeCapabilityTEERakInitResponse(Empty {}),
                Body::RuntimeCapabilityTEERakReportRequest(_) => {
                    Body::RuntimeCapabilityTEERakReportResponse(Box::new(RakReportResponse {
                        rak_pub: PublicKey::new([7; 32]),
                        rek_pub: None,
                        report: Some(report.clone().into()),
                        nonce: "nonce".into(),
                    }))
                }
                Body::RuntimeCapabilityTEERakQuoteRequest(_) => {
                    Body::RuntimeCapabilityTEERakQuoteResponse(RakQuoteResponse { height: 42, ..Default::default() })
                }
                Body::RuntimeCapabilityTEEUpdateEndorsementRequest(request) => {
                    assert_eq!(request.ect.capability_tee.rak, PublicKey::new([7; 32]));
                    Body::RuntimeCapabilityTEEUpdateEndorsementResponse(Empty {})
                }
                _ => Body::Error(wire_runtime::Error::method_not_supported()),
            };
            let out = frame::encode(&Message::response(message.id, answer), frame::MAX_FRAME_BYTES).expect("fits");
            stream.write_all(&out).await.expect("the host reads");
        }
    }
    steps
}

async fn attest(
    attester: &Attester,
    source: QuoteSource,
    report: Vec<u8>,
) -> (Result<Arc<CapabilityTee>, HostError>, Vec<String>) {
    let dir = tempfile::tempdir().expect("a folder");
    let config = config(dir.path(), true);
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let runtime = tokio::spawn(runtime(theirs, report));
    let (reader, writer) = ours.into_split();
    let connection = Connection::new(reader, writer, Namespace::default(), Arc::new(NoHandler));
    connection.init(&HostInfo::default(), BTreeMap::new()).await.expect("handshake");
    let outcome = attester.attest(&source, &config, &connection).await;
    connection.shut_down().await;
    drop(connection);
    (outcome, runtime.await.expect("no panic"))
}

#[tokio::test]
async fn attests_with_the_daemon_and_collateral() {
    let Some((server, _)) = service(false).await else { return };
    let path = dev_testkit::paths::published("oasis-core/go/common/sgx/pcs/testdata/quote_v3_ecdsa_p256_pck_chain.bin");
    let Some(path) = path else { return };
    let quote = dev_testkit::read(&path).expect("readable");
    let made = quote.clone();
    let daemon = daemon(move |request| {
        let made = made.clone();
        dcap(request, move |report| {
            assert_eq!(report, b"the report");
            made.clone()
        })
    });
    let source = QuoteSource::Aesm(aesm::Client::new(&daemon.path));
    let (capability, steps) = attest(&attester(&server.url), source, b"the report".to_vec()).await;
    let capability = capability.expect("attests");
    assert_eq!(
        steps,
        [
            "RuntimeInfoRequest",
            "RuntimeCapabilityTEERakInitRequest",
            "RuntimeCapabilityTEERakReportRequest",
            "RuntimeCapabilityTEERakQuoteRequest",
            "RuntimeCapabilityTEEUpdateEndorsementRequest",
        ]
    );
    let attestation: SgxAttestation =
        cbor::from_slice(capability.attestation.as_ref().expect("there")).expect("decodes");
    assert_eq!((attestation.v, attestation.height), (1, 42));
    let bundle = attestation.quote.pcs.expect("a DCAP quote");
    assert_eq!(bundle.quote.map(Vec::from), Some(quote));
}

/// A service that makes mock reports, and remembers what it was asked.
struct Reports(parking_lot::Mutex<Vec<crate::ias::Evidence>>);

const GROUP: [u8; 4] = [0x39, 0x0b, 0, 0];

impl crate::ias::Endpoint for Reports {
    fn spid_info(&self) -> BoxFuture<'_, Result<crate::ias::SpidInfo, String>> {
        Box::pin(async { Ok(crate::ias::SpidInfo { spid: vec![5; 16].into(), quote_signature_type: 1 }) })
    }

    fn revocations(&self, gid: u32) -> BoxFuture<'_, Result<Vec<u8>, String>> {
        assert_eq!(gid, 0x0b39);
        Box::pin(async { Ok(b"revoked".to_vec()) })
    }

    fn verify_evidence(&self, evidence: crate::ias::Evidence) -> BoxFuture<'_, Result<AvrBundle, String>> {
        let options = rt_tee::VerifyOptions { allow_debug_enclaves: true, ..rt_tee::VerifyOptions::default() };
        let quote = evidence.quote.clone().unwrap_or_default();
        let body = rt_tee::ias::mock_avr(&quote, &evidence.nonce, SGX_NOW.into(), &options);
        self.0.lock().push(evidence);
        Box::pin(async move { Ok(AvrBundle { body: Some(body.expect("a quote").into()), ..AvrBundle::default() }) })
    }
}

/// One that cannot be reached.
struct Gone;

impl crate::ias::Endpoint for Gone {
    fn spid_info(&self) -> BoxFuture<'_, Result<crate::ias::SpidInfo, String>> {
        Box::pin(async { Err("proxy unreachable".to_owned()) })
    }

    fn revocations(&self, _: u32) -> BoxFuture<'_, Result<Vec<u8>, String>> {
        Box::pin(async { Err("not asked".to_owned()) })
    }

    fn verify_evidence(&self, _: crate::ias::Evidence) -> BoxFuture<'_, Result<AvrBundle, String>> {
        Box::pin(async { Err("not asked".to_owned()) })
    }
}

/// A daemon of a machine without DCAP.
fn epid_daemon() -> crate::aesm::tests::FakeDaemon {
    use crate::aesm::proto;
    daemon(|request| {
        let mut out = proto::Response::default();
        if request.key_count.is_some() {
            out.key_count = Some(proto::GetSupportedAttKeyIdNumResponse { error_code: 0, att_key_id_num: Some(0) });
        } else if request.keys.is_some() {
            out.keys = Some(proto::GetSupportedAttKeyIdsResponse { error_code: 0, att_key_ids: None });
        } else if request.init_quote.is_some() {
            let (target_info, gid) = (Some(vec![9; 512]), Some(GROUP.to_vec()));
            out.init_quote = Some(proto::InitQuoteResponse { error_code: 0, target_info, gid });
        } else if let Some(get) = request.get_quote {
            assert_eq!((get.quote_type, get.spid, get.sig_rl), (1, vec![5; 16], Some(b"revoked".to_vec())));
            let mut quote = vec![0; usize::try_from(get.buf_size).expect("small")];
            (quote[0], quote[2]) = (2, 1);
            quote[4..8].copy_from_slice(&GROUP);
            quote[48..432].copy_from_slice(&get.report[..384]);
            quote[432..436].copy_from_slice(&100u32.to_le_bytes());
            out.get_quote = Some(proto::GetQuoteResponse { error_code: 0, quote: Some(quote), qe_report: None });
        }
        out
    })
}

#[tokio::test]
async fn machines_without_dcap_attest_by_epid_where_a_proxy_is_configured() {
    let daemon = epid_daemon();
    let source = || QuoteSource::Aesm(aesm::Client::new(&daemon.path));
    let mut report = vec![0; 384];
    report[48] = 2; // A debug enclave.
    let reports = Arc::new(Reports(Default::default()));
    let older = Attester { ias: vec![Arc::new(Gone), reports.clone()], ..attester("http://127.0.0.1:9") };
    let (capability, steps) = attest(&older, source(), report.clone()).await;
    let capability = capability.expect("attests");
    assert_eq!(steps.len(), 5, "{steps:?}");
    let attestation: SgxAttestation =
        cbor::from_slice(capability.attestation.as_ref().expect("there")).expect("decodes");
    assert!(attestation.quote.pcs.is_none());
    let options =
        rt_tee::VerifyOptions { allow_debug_enclaves: true, skip_avr_verify: true, ..rt_tee::VerifyOptions::default() };
    let verified = attestation.quote.ias.expect("a report").open(None, SGX_NOW.into(), &options).expect("is good");
    assert_eq!(verified.nonce, "nonce", "the runtime's own");
    let asked = std::mem::take(&mut *reports.0.lock());
    let quote = asked[0].quote.as_ref().expect("a quote");
    assert_eq!((asked.len(), quote.len(), &quote[48..432]), (1, 536, report.as_slice()));

    // Nobody makes reports; or none is configured, as in all later guides.
    let alone = Attester { ias: vec![Arc::new(Gone)], ..older.clone() };
    let error = attest(&alone, source(), report.clone()).await.0.expect_err("no report").to_string();
    assert!(error.contains("failed to get quote: proxy unreachable"), "{error}");
    let error = attest(&attester("http://127.0.0.1:9"), source(), report).await.0.expect_err("no key").to_string();
    assert!(error.contains("no suitable ECDSA attestation keys"), "{error}");
}

/// The oldest guide's remedy: error 30 of the daemon means that the plugin for EPID is missing.
#[tokio::test]
async fn a_missing_epid_plugin_is_told_in_the_guides_words() {
    use crate::aesm::proto;
    let refusing = daemon(|request| proto::Response {
        key_count: request
            .key_count
            .map(|_| proto::GetSupportedAttKeyIdNumResponse { error_code: 30, att_key_id_num: None }),
        init_quote: request.init_quote.map(|_| proto::InitQuoteResponse {
            error_code: 30,
            target_info: None,
            gid: None,
        }),
        ..Default::default()
    });
    let older = Attester { ias: vec![Arc::new(Gone)], ..attester("http://127.0.0.1:9") };
    let source = QuoteSource::Aesm(aesm::Client::new(&refusing.path));
    let error = attest(&older, source, Vec::new()).await.0.expect_err("refused").to_string();
    let words = "failed to initialize TEE: error while getting quote info from AESMD: aesm: error 30";
    assert!(error.contains(words), "{error}");
}

#[tokio::test]
async fn errors_name_the_step() {
    let refusing = daemon(|_| crate::aesm::proto::Response {
        key_count: Some(crate::aesm::proto::GetSupportedAttKeyIdNumResponse { error_code: 30, att_key_id_num: None }),
        ..Default::default()
    });
    let source = QuoteSource::Aesm(aesm::Client::new(&refusing.path));
    let (outcome, _) = attest(&attester("http://127.0.0.1:9"), source, Vec::new()).await;
    let error = outcome.expect_err("refused").to_string();
    assert!(
        error.starts_with("failed to initialize TEE: error while getting quote info from AESMD: aesm: ")
            && error.contains("error 30"),
        "{error}"
    );
    // A machine without collateral.
    let (outcome, steps) = attest(&attester("http://127.0.0.1:9"), QuoteSource::Report, vec![1; 10]).await;
    let error = outcome.expect_err("no quote").to_string();
    assert!(error.contains("failed to parse quote"), "{error}");
    assert!(!steps.iter().any(|step| step.contains("RakInit")), "machines get no target");
    // A mock enclave's report becomes a quote, whose collateral is asked for.
    let (outcome, _) = attest(&attester("http://127.0.0.1:9"), QuoteSource::Mock, vec![0; 384]).await;
    let error = outcome.expect_err("no collateral").to_string();
    assert!(error.contains("failed to fetch any valid TCB bundles") || error.contains("PCK"), "{error}");
}

/// A chain of one block with an empty state, and a node.
struct OneBlock;

impl crate::HostHandler for OneBlock {
    fn handle(&self, request: Body) -> BoxFuture<'_, Result<Body, wire_runtime::Error>> {
        use wire_consensus::{meta, transaction::Transaction};
        use wire_runtime::{host, runtime::LightBlock};
        let answer = match request {
            Body::HostFetchConsensusBlockRequest(_) => {
                let block = LightBlock { height: 42, meta: None };
                Ok(Body::HostFetchConsensusBlockResponse(host::FetchConsensusBlockResponse { block }))
            }
            Body::HostFetchBlockMetadataTxRequest(_) => {
                let key = base_crypto::ed25519::SecretKey::from_seed(&[1; 32]);
                let context = base_crypto::context::ChainContext::from_hash(&[7; 32]);
                let meta = meta::BlockMetadata { state_root: base_prims::Hash::EMPTY, events_root: None };
                let tx = Transaction::new(0, None, meta::METHOD_META, &meta).sign(&key, &context).expect("signs");
                Ok(Body::HostFetchBlockMetadataTxResponse(Box::new(host::ProvenTransaction {
                    signed_tx: Some(tx),
                    ..Default::default()
                })))
            }
            Body::HostIdentityRequest(_) => {
                Ok(Body::HostIdentityResponse(host::IdentityResponse { node_id: PublicKey::new([3; 32]) }))
            }
            _ => Err(wire_runtime::Error::method_not_supported()),
        };
        Box::pin(async { answer })
    }
}

/// A component that knows its policy.
struct Knows;

impl rt_guest::Component for Knows {
    fn quote_policy(&self) -> Result<rt_tee::Policy, rt_guest::Error> {
        Ok(rt_tee::Policy { pcs: Some(rt_tee::pcs::QuotePolicy::builtin()), ..Default::default() })
    }

    fn query(&self, _: &str, _: &[u8]) -> Result<Vec<u8>, rt_guest::Error> {
        Ok(Vec::new())
    }

    fn notify(&self, _: &wire_runtime::runtime::NotifyRequest) -> Result<(), rt_guest::Error> {
        Ok(())
    }
}

/// A mock enclave of ours, attested by the mock host with the collateral that Intel published, from a local stand-in at the
/// time at which it was valid: every step of a network that runs mock enclaves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mock_enclave_is_attested_end_to_end() {
    let Some((server, asked)) = service(false).await else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let config = config(dir.path(), false);
    let spec = sgx(true, None).spec(&config, Path::new("/s"), Path::new("/")).expect("a process");
    let claimed = spec.env.get(ENV_MOCK_MRENCLAVE).and_then(|text| text.to_str()).expect("a measurement");
    let mut mr_enclave = [0; 32];
    hex::decode_to_slice(claimed, &mut mr_enclave).expect("a measurement");
    let mr_enclave = rt_tee::MrEnclave::new(mr_enclave);
    let identity = rt_tee::EnclaveIdentity { mr_enclave, mr_signer: rt_tee::TEST_MR_SIGNER };

    let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
    let runtime = std::thread::spawn(move || {
        let tee = rt_guest::tee::Tee::MockSgx(identity);
        let config = rt_guest::Config { tee, version: Version::new(1, 0, 0), ..Default::default() };
        let writer = theirs.try_clone().expect("a socket");
        let services =
            |_: &rt_guest::Env| Ok(rt_guest::Services { component: Some(Box::new(Knows)), ..Default::default() });
        rt_guest::serve(Box::new(theirs), Box::new(writer), config, Box::new(services))
    });
    ours.set_nonblocking(true).expect("set");
    let (reader, writer) = UnixStream::from_std(ours).expect("a stream").into_split();
    let connection = Connection::new(reader, writer, Namespace::default(), Arc::new(OneBlock));
    connection.init(&HostInfo::default(), BTreeMap::new()).await.expect("handshake");
    let options = rt_tee::VerifyOptions::mock();
    let clock: crate::pcs::Clock = Arc::new(|| SGX_NOW.into());
    let quotes = crate::pcs::QuoteService::new(&server.url, Arc::new(Memory::default()), clock, options.clone());
    let attester = Attester { quotes, policies: Arc::new(NoPolicies), endorser: None, ias: Vec::new() };
    let capability = attester.attest(&QuoteSource::Mock, &config, &connection).await.expect("attests");

    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 4, "collateral came from the stand-in");
    let attestation: SgxAttestation =
        cbor::from_slice(capability.attestation.as_ref().expect("there")).expect("decodes");
    let bundle = attestation.quote.pcs.expect("a DCAP quote");
    let verified = bundle.verify(None, SGX_NOW.into(), &options).expect("verifies where mocks are allowed");
    assert_eq!(verified.identity, identity);
    let hash = rt_tee::hash_rak(&capability.rak);
    assert_eq!(verified.report_data[..32], hash[..], "the report binds the key");
    // A production network takes nothing of it.
    bundle.verify(None, SGX_NOW.into(), &rt_tee::VerifyOptions::default()).expect_err("nobody signed it");
    connection.shut_down().await;
    drop(connection);
    runtime.join().expect("no panic");
}
