//! An enclave from its signed image to its attestation, where hardware and services are played: this program is the loader
//! and the enclave, a socket is the daemon, and Intel's older service is an object.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use base_prims::{PublicKey, Version};
use prost::Message as _;
use rt_host::{
    HostEvent, HostInfo, Provisioner,
    aesm::proto,
    api::BoxFuture,
    attest::{Attester, NoPolicies},
    ias::{Endpoint, Evidence, SpidInfo},
    logs::ComponentLog,
    pcs::{QuoteService, system_clock},
    sandbox::{DEFAULT_BINARY, Isolation, probe},
    sgx::Sgx,
};
use rt_tee::{SgxAttestation, VerifyOptions, ias::AvrBundle};
use wire_runtime::{
    Body, Empty, Message, MessageType, PROTOCOL_VERSION,
    frame::{self, FrameReader},
    runtime::{InfoResponse, RakQuoteResponse, RakReportResponse},
};

use super::lifecycle::{WAIT, config, timings, until};

crate::tests![
    an_enclave_of_the_oldest_guide_is_launched_and_attested,
    a_missing_plugin_of_the_daemon_is_logged_in_the_guides_words,
];

const IMAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../vectors/bundles/runtime.sgxs");
const NOW: i64 = 1_700_000_000;
const RAK: [u8; 32] = [7; 32];

/// Whether this program was started as a loader.
pub(crate) fn is_loader() -> bool {
    std::env::args().nth(1).as_deref() == Some("--host-socket")
}

/// The loader: looks at what it was given, and is the enclave.
pub(crate) fn run() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let ["--host-socket", socket, "--type", "sgxs", "--signature", signature, image] = words[..] else {
        return ExitCode::from(20);
    };
    let begins = |path: &str, with: &[u8]| std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(with));
    if !begins(image, b"ECREATE\0") || !begins(signature, &[6, 0, 0, 0]) || !Path::new("/dev/full").exists() {
        return ExitCode::from(21);
    }
    if !Path::new(rt_host::aesm::SOCKET).exists() {
        return ExitCode::from(22);
    }
    let Ok(mut stream) = UnixStream::connect(socket) else { return ExitCode::from(23) };
    let mut frames = FrameReader::new(frame::MAX_RUNTIME_FRAME_BYTES);
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        frames.push(&buffer[..count]);
        while let Ok(Some(bytes)) = frames.next_frame() {
            let message = frame::decode(bytes).expect("a message");
            if message.message_type != MessageType::REQUEST {
                continue;
            }
            let answer = frame::encode(&Message::response(message.id, answer(message.body)), frame::MAX_FRAME_BYTES);
            stream.write_all(&answer.expect("fits")).expect("the host reads");
        }
    }
    ExitCode::SUCCESS
}

fn answer(request: Body) -> Body {
    match request {
        Body::RuntimeInfoRequest(_) => Body::RuntimeInfoResponse(InfoResponse {
            protocol_version: PROTOCOL_VERSION,
            runtime_version: Version::default(),
            features: None,
        }),
        Body::RuntimeCapabilityTEERakInitRequest(_) => Body::RuntimeCapabilityTEERakInitResponse(Empty {}),
        Body::RuntimeCapabilityTEERakReportRequest(_) => {
            let mut report = vec![0; 384];
            report[48] = 2; // A debug enclave.
            report[128..160].fill(0xbb);
            report[320..352].copy_from_slice(&RAK);
            Body::RuntimeCapabilityTEERakReportResponse(Box::new(RakReportResponse {
                rak_pub: PublicKey::new(RAK),
                rek_pub: None,
                report: Some(report.into()),
                nonce: "the enclave's nonce".into(),
            }))
        }
        Body::RuntimeCapabilityTEERakQuoteRequest(request) => {
            assert!(request.quote.ias.is_some() && request.quote.pcs.is_none(), "a report of the older kind");
            Body::RuntimeCapabilityTEERakQuoteResponse(RakQuoteResponse { height: 42, ..Default::default() })
        }
        _ => Body::Empty(Empty {}),
    }
}

/// A daemon without DCAP; with the plugin for EPID or without.
fn daemon(dir: &Path, plugin: bool) -> PathBuf {
    let path = dir.join("aesm.socket");
    let listener = UnixListener::bind(&path).expect("binds");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut length = [0; 4];
            stream.read_exact(&mut length).expect("a length");
            let mut request = vec![0; usize::try_from(u32::from_le_bytes(length)).expect("short")];
            stream.read_exact(&mut request).expect("a request");
            let request = proto::Request::decode(&*request).expect("a request");
            let mut out = proto::Response::default();
            if request.key_count.is_some() {
                out.key_count = Some(proto::GetSupportedAttKeyIdNumResponse { error_code: 0, att_key_id_num: Some(0) });
            } else if request.keys.is_some() {
                out.keys = Some(proto::GetSupportedAttKeyIdsResponse { error_code: 0, att_key_ids: None });
            } else if request.init_quote.is_some() {
                let error_code = if plugin { 0 } else { 30 };
                let (target_info, gid) = (Some(vec![9; 512]), Some(vec![0x39, 0x0b, 0, 0]));
                out.init_quote = Some(proto::InitQuoteResponse { error_code, target_info, gid });
            } else if let Some(get) = request.get_quote {
                let mut quote = vec![0; usize::try_from(get.buf_size).expect("small")];
                (quote[0], quote[2]) = (2, 1);
                quote[48..432].copy_from_slice(&get.report[..384]);
                quote[432..436].copy_from_slice(&100u32.to_le_bytes());
                out.get_quote = Some(proto::GetQuoteResponse { error_code: 0, quote: Some(quote), qe_report: None });
            }
            let body = out.encode_to_vec();
            let length = u32::try_from(body.len()).expect("short").to_le_bytes();
            let _ = stream.write_all(&[&length, body.as_slice()].concat());
        }
    });
    path
}

/// Intel's service, or a proxy of it.
struct Reports;

fn options() -> VerifyOptions {
    VerifyOptions { allow_debug_enclaves: true, skip_avr_verify: true, ..VerifyOptions::default() }
}

impl Endpoint for Reports {
    fn spid_info(&self) -> BoxFuture<'_, Result<SpidInfo, String>> {
        Box::pin(async { Ok(SpidInfo { spid: vec![5; 16].into(), quote_signature_type: 1 }) })
    }

    fn revocations(&self, _: u32) -> BoxFuture<'_, Result<Vec<u8>, String>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn verify_evidence(&self, evidence: Evidence) -> BoxFuture<'_, Result<AvrBundle, String>> {
        let quote = evidence.quote.unwrap_or_default();
        let body = rt_tee::ias::mock_avr(&quote, &evidence.nonce, NOW.into(), &options()).map_err(|e| e.to_string());
        Box::pin(async { Ok(AvrBundle { body: Some(body?.into()), ..AvrBundle::default() }) })
    }
}

/// A host of the signed image that is in the project's recorded bundles.
fn sgx(aesm: PathBuf) -> (Sgx, rt_host::ComponentConfig) {
    let cache = Arc::new(base_kv::Memory::default());
    let quotes = QuoteService::new("http://127.0.0.1:9", cache, system_clock(), VerifyOptions::default());
    let attester = Attester { quotes, policies: Arc::new(NoPolicies), endorser: None, ias: vec![Arc::new(Reports)] };
    let loader = std::env::current_exe().expect("a path");
    let isolation = Isolation::Sandbox(DEFAULT_BINARY.into());
    let mut sgx = Sgx::new(Some(loader), isolation, false, attester, HostInfo::default());
    // A device that every machine has stands for that of SGX.
    (sgx.devices, sgx.aesm_socket, sgx.timings) = (vec!["/dev/full".into()], aesm, timings());
    let mut config = config(&[]);
    let wrap = rt_bundle::Wrap {
        runtime_id: config.runtime_id,
        name: "test".into(),
        version: None,
        binary: rt_bundle::Binary::detect(Path::new(IMAGE)).expect("an enclave"),
    };
    config.bundle = Arc::new(wrap.to_exploded().expect("signed"));
    config.component = config.bundle.manifest.component(&config.component_id).expect("there");
    (sgx, config)
}

async fn an_enclave_of_the_oldest_guide_is_launched_and_attested() -> Option<String> {
    if let Err(e) = probe(Path::new(DEFAULT_BINARY)).await {
        return Some(e.to_string());
    }
    let dir = tempfile::tempdir().expect("a folder");
    let (sgx, config) = sgx(daemon(dir.path(), true));
    let host = sgx.provision(config).expect("provisions");
    let mut events = host.events();
    host.start().await.expect("starts");
    let event = until(&mut events, |event| {
        assert!(!matches!(event, HostEvent::FailedToStart { .. }), "{event:?}");
        matches!(event, HostEvent::Started { .. })
    })
    .await;
    let HostEvent::Started { capability_tee: Some(capability), .. } = event else { panic!("{event:?}") };
    assert_eq!(capability.rak, PublicKey::new(RAK));
    let attestation = capability.attestation.as_ref().expect("there");
    let attestation: SgxAttestation = base_codec::cbor::from_slice(attestation).expect("decodes");
    assert_eq!(attestation.height, 42);
    let report = attestation.quote.ias.expect("a report").open(None, NOW.into(), &options()).expect("is good");
    assert_eq!(report.nonce, "the enclave's nonce");
    assert_eq!(report.quote().expect("a quote").report.report_data[..32], RAK);
    host.stop(tokio::time::Instant::now() + WAIT).await.expect("stops");
    None
}

async fn a_missing_plugin_of_the_daemon_is_logged_in_the_guides_words() -> Option<String> {
    if let Err(e) = probe(Path::new(DEFAULT_BINARY)).await {
        return Some(e.to_string());
    }
    let dir = tempfile::tempdir().expect("a folder");
    let (sgx, mut config) = sgx(daemon(dir.path(), false));
    let path = ComponentLog::path_in(dir.path(), &config.runtime_id, &config.component_id);
    config.log = Some(Arc::new(ComponentLog::create(path, 1 << 20).expect("a log")));
    let host = sgx.provision(config).expect("provisions");
    let mut events = host.events();
    host.start().await.expect("starts");
    let event = until(&mut events, |event| matches!(event, HostEvent::FailedToStart { .. })).await;
    let HostEvent::FailedToStart { error } = event else { panic!("{event:?}") };
    let words = "failed to initialize TEE: error while getting quote info from AESMD: aesm: error 30";
    assert!(error.contains(words), "{error}");
    host.stop(tokio::time::Instant::now() + WAIT).await.expect("stops");
    None
}
