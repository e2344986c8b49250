//! `oasis-node ias proxy`: passes attestation requests of the EPID kind on to Intel's service, which has ended; for test
//! networks it makes reports that nobody signs.
//!
//! Reference: `go/oasis-node/cmd/ias`, `go/ias`.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use base_codec::{Bytes, cbor};
use base_grpc::{BoxStream, Cbor, Client, Listener, Router, RpcError, ServerTls};
use base_identity::{COMMON_NAME, TlsIdentity};
use base_prims::{Epoch, Namespace};
use clap::{Subcommand, ValueEnum};
use futures_util::StreamExt as _;
use parking_lot::RwLock;
use rt_host::api::BoxFuture;
use rt_host::ias::{
    DEVELOPMENT_URL, Endpoint, Evidence, PRODUCTION_URL, PROXY_NAME, SERVICE, SPID_BYTES, Service, SpidInfo,
};
use rt_host::pcs::{Clock, system_clock};
use rt_tee::ias::{AvrBundle, IasQuote, NONCE_MAX_LEN, mock_avr};
use rt_tee::{EnclaveIdentity, SgxConstraints, VerifyOptions};
use tokio::sync::watch;
use wire_consensus::registry::{GetRuntimesQuery, Runtime};
use wire_consensus::tee::TeeHardware;

use crate::args::Session;
use crate::client::ClientArgs;
use crate::tool::{Done, Failure, OrFail as _, end, now_unix};

const MODULE: &str = "cmd/ias/proxy";
/// Files of the proxy's key and certificate.
const KEY_FILE: &str = "ias_proxy.pem";
const CERTIFICATE_FILE: &str = "ias_proxy_cert.pem";
/// The pause before the registry is watched again.
const RETRY: Duration = Duration::from_secs(2);
/// How long a request waits for the runtimes.
const WAIT_TIME: Duration = Duration::from_secs(60);

/// Subcommands of `ias`.
#[derive(Subcommand)]
pub(crate) enum IasCommand {
    /// Answer attestation requests of nodes.
    Proxy(Box<ProxyArgs>),
}

/// `ias proxy`.
#[derive(clap::Args)]
pub(crate) struct ProxyArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Path of the genesis document; taken, not read.
    #[arg(id = "ias_genesis", long = "genesis.file", visible_alias = "genesis_file", short = 'g', hide = true)]
    _genesis: Option<std::path::PathBuf>,
    /// gRPC server port.
    #[arg(long = "grpc.port", default_value_t = 9001)]
    port: u16,
    /// The IAS subscription API key.
    #[arg(long = "ias.auth.api_key")]
    api_key: Option<String>,
    /// Use the production IAS endpoint.
    #[arg(long = "ias.production")]
    production: bool,
    /// Quote signature type associated with the SPID.
    #[arg(long = "ias.quote.signature_type", value_enum, ignore_case = true, default_value_t = SignatureType::Linkable)]
    signature_type: SignatureType,
    /// SPID associated with the client certificate, hexadecimal; `OASIS_IAS_SPID` in the environment will do.
    #[arg(long = "ias.spid")]
    spid: Option<String>,
    /// Generate mock IAS AVR responses (UNSAFE).
    #[arg(long = "ias.debug.mock", hide = true)]
    mock: bool,
    /// Disable proxy authentication (UNSAFE).
    #[arg(long = "ias.debug.skip_auth", hide = true)]
    skip_auth: bool,
    /// Wait for N runtimes to be registered before servicing requests.
    #[arg(long = "ias.wait_runtimes", default_value_t = 0)]
    wait_runtimes: usize,
}

/// Whether signatures of one platform can be told to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SignatureType {
    Unlinkable = 0,
    Linkable = 1,
}

/// Makes reports that nobody signs.
struct Mock {
    info: SpidInfo,
    options: VerifyOptions,
    clock: Clock,
}

impl Endpoint for Mock {
    fn spid_info(&self) -> BoxFuture<'_, Result<SpidInfo, String>> {
        Box::pin(async { Ok(self.info.clone()) })
    }

    fn revocations(&self, _: u32) -> BoxFuture<'_, Result<Vec<u8>, String>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn verify_evidence(&self, evidence: Evidence) -> BoxFuture<'_, Result<AvrBundle, String>> {
        Box::pin(async move {
            if evidence.nonce.len() > NONCE_MAX_LEN {
                return Err("ias: invalid nonce length".to_owned());
            }
            let body = mock_avr(quote_of(&evidence), &evidence.nonce, (self.clock)(), &self.options);
            let body = body.map_err(|error| format!("ias: failed to generate mock AVR: {error}"))?;
            Ok(AvrBundle { body: Some(Bytes(body)), ..AvrBundle::default() })
        })
    }
}

fn quote_of(evidence: &Evidence) -> &[u8] {
    evidence.quote.as_ref().map_or(&[], |quote| quote.0.as_slice())
}

/// Enclaves of the registered runtimes.
#[derive(Default)]
struct Enclaves(RwLock<BTreeMap<Namespace, Vec<EnclaveIdentity>>>);

impl Enclaves {
    /// Takes a runtime's deployments in place of those known before; how many runtimes are known then.
    fn add(&self, runtime: &Runtime) -> usize {
        let mut known = self.0.write();
        if runtime.tee_hardware != TeeHardware::INTEL_SGX {
            return known.len();
        }
        let constraints = runtime.deployments().filter_map(|deployment| deployment.tee.as_ref());
        let read = constraints.map(|tee| cbor::from_slice::<SgxConstraints>(tee)).collect::<Result<Vec<_>, _>>();
        match read {
            Ok(all) => drop(known.insert(runtime.id, all.into_iter().flat_map(|one| one.enclaves).collect())),
            Err(error) => tracing::error!(module = MODULE, id = %runtime.id, err = %error, "failed to add runtime"),
        }
        known.len()
    }

    /// Whether the quote is of an enclave of the runtime, or of one by the same signer: such are not all registered.
    fn check(&self, runtime: &Namespace, quote: &[u8]) -> Result<(), String> {
        let known = self.0.read();
        let enclaves = known.get(runtime).ok_or_else(|| format!("ias: unknown runtime: {runtime}"))?;
        let quote = IasQuote::parse(quote).map_err(|e| format!("ias: evidence contains an invalid quote: {e}"))?;
        if enclaves.iter().any(|known| known.mr_signer == quote.report.mr_signer) {
            return Ok(());
        }
        Err("ias: enclave identity not in runtime descriptor".to_owned())
    }
}

pub(crate) fn run(command: &IasCommand, session: &Session) -> ExitCode {
    let IasCommand::Proxy(args) = command;
    end(proxy(args, session))
}

fn spid(args: &ProxyArgs) -> Result<Vec<u8>, Failure> {
    let text = args.spid.clone().or_else(|| std::env::var("OASIS_IAS_SPID").ok()).unwrap_or_default();
    let bytes = hex::decode(&text).or_fail(MODULE, "ias: malformed SPID")?;
    if bytes.len() == SPID_BYTES { Ok(bytes) } else { Err(Failure::new(MODULE, "ias: malformed SPID")) }
}

/// Who makes the reports.
fn endpoint(args: &ProxyArgs, session: &Session) -> Result<Arc<dyn Endpoint>, Failure> {
    let what = "failed to initialize IAS endpoint";
    let info = SpidInfo { spid: Bytes(spid(args)?), quote_signature_type: args.signature_type as u16 };
    let options = VerifyOptions { allow_debug_enclaves: !args.production, ..session.options.local().tee };
    if args.mock {
        if !session.options.dont_blame_oasis {
            return Err(Failure::because(MODULE, what, "ias: refusing to mock IAS responses"));
        }
        return Ok(Arc::new(Mock { info, options, clock: system_clock() }));
    }
    let key = args.api_key.clone().or_else(|| std::env::var("OASIS_IAS_APIKEY").ok()).unwrap_or_default();
    if key.is_empty() {
        return Err(Failure::because(MODULE, what, "ias: the subscription key is missing: --ias.auth.api_key"));
    }
    let url = if args.production { PRODUCTION_URL } else { DEVELOPMENT_URL };
    Ok(Arc::new(Service::new(url, &key, info, options, system_clock())))
}

fn proxy(args: &ProxyArgs, session: &Session) -> Done {
    let dir = session.data_dir();
    let (certificate, key) = (dir.join(CERTIFICATE_FILE), dir.join(KEY_FILE));
    let identity = TlsIdentity::load_or_generate(&certificate, &key, PROXY_NAME, now_unix());
    let identity = identity.or_fail(MODULE, "failed to load or generate TLS cert")?;
    let tls = ServerTls::new(&identity, COMMON_NAME).or_fail(MODULE, "failed to initialize gRPC server")?;
    let endpoint = endpoint(args, session)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.or_fail(MODULE, "failed to start the runtime")?;
    runtime.block_on(async {
        let enclaves = (!args.skip_auth).then(Arc::<Enclaves>::default);
        let (enough, ready) = watch::channel(args.wait_runtimes == 0 || args.skip_auth);
        let router = router(endpoint, enclaves.clone(), ready);
        let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, args.port));
        let listener = Listener::tls(address, tls).await.or_fail(MODULE, "failed to start gRPC server")?;
        let stop = base_service::signals::stop_token().or_fail(MODULE, "failed to start gRPC server")?;
        tracing::info!(module = MODULE, "initialization complete: ready to serve");
        tokio::select! {
            () = base_grpc::serve(listener, Arc::new(router), stop) => {}
            () = follow(args, enclaves, enough) => {}
        }
        Ok(())
    })
}

fn router(endpoint: Arc<dyn Endpoint>, enclaves: Option<Arc<Enclaves>>, ready: watch::Receiver<bool>) -> Router {
    let mut router = Router::new();
    let service = endpoint.clone();
    router.unary(SERVICE, "GetSPIDInfo", move |(): ()| {
        let service = service.clone();
        async move { service.spid_info().await.map(Cbor).map_err(RpcError::unknown) }
    });
    let service = endpoint.clone();
    router.unary(SERVICE, "GetSigRL", move |Cbor(gid): Cbor<u32>| {
        let service = service.clone();
        async move {
            let list = service.revocations(gid).await.map_err(RpcError::unknown)?;
            Ok(Cbor((!list.is_empty()).then_some(Bytes(list))))
        }
    });
    router.unary(SERVICE, "VerifyEvidence", move |Cbor(evidence): Cbor<Evidence>| {
        let (service, enclaves, mut ready) = (endpoint.clone(), enclaves.clone(), ready.clone());
        async move {
            if !matches!(tokio::time::timeout(WAIT_TIME, ready.wait_for(|ready| *ready)).await, Ok(Ok(_))) {
                return Err(RpcError::unknown("ias: runtimes are not registered yet"));
            }
            report(&*service, evidence, enclaves.as_deref()).await.map(Cbor).map_err(RpcError::unknown)
        }
    });
    router
}

/// The report about a quote, of a registered enclave where that is wanted.
async fn report(service: &dyn Endpoint, evidence: Evidence, enclaves: Option<&Enclaves>) -> Result<AvrBundle, String> {
    if let Some(enclaves) = enclaves {
        enclaves.check(&evidence.runtime_id, quote_of(&evidence)).inspect_err(|error| {
            tracing::warn!(module = MODULE, err = %error, "failed to authenticate IAS VerifyEvidence request");
        })?;
    }
    service.verify_evidence(evidence).await
}

/// Follows the registry of a node for ever; for ever idle without enclaves to know.
async fn follow(args: &ProxyArgs, enclaves: Option<Arc<Enclaves>>, enough: watch::Sender<bool>) {
    let Some(enclaves) = enclaves else { return std::future::pending().await };
    let seen = |count: usize| {
        if args.wait_runtimes > 0 && count >= args.wait_runtimes {
            enough.send_replace(true);
        }
    };
    loop {
        let ended = watch_registry(&args.client, &enclaves, &seen).await;
        if let Err(error) = ended {
            tracing::warn!(module = MODULE, err = %error, "unable to watch the registry, trying again");
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn watch_registry(client: &ClientArgs, enclaves: &Enclaves, seen: &impl Fn(usize)) -> Result<(), String> {
    let client: Client = client.dial().await?;
    let text = |error: RpcError| error.to_string();
    let registry = "oasis-core.Registry";
    let mut runtimes: BoxStream<Cbor<Runtime>> = client.stream(registry, "WatchRuntimes", &()).await.map_err(text)?;
    let mut epochs: BoxStream<Cbor<Epoch>> =
        client.stream("oasis-core.Beacon", "WatchEpochs", &()).await.map_err(text)?;
    loop {
        tokio::select! {
            runtime = runtimes.next() => {
                let Some(runtime) = runtime else { return Ok(()) };
                seen(enclaves.add(&runtime.map_err(text)?.0));
            }
            epoch = epochs.next() => {
                let Some(epoch) = epoch else { return Ok(()) };
                epoch.map_err(text)?;
                let query = GetRuntimesQuery { height: 0, include_suspended: true };
                let all: Result<Cbor<Option<Vec<Runtime>>>, _> =
                    client.call(registry, "GetRuntimes", &Cbor(query)).await;
                for runtime in all.map_err(text)?.0.unwrap_or_default() {
                    seen(enclaves.add(&runtime));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use base_crypto::ed25519::SecretKey;
    use wire_consensus::registry::VersionInfo;

    use super::*;

    fn quote(signer: u8) -> Vec<u8> {
        let mut quote = vec![0; 432];
        quote[0] = 1;
        quote[48 + 48] = 2;
        quote[48 + 128..48 + 160].fill(signer);
        quote
    }

    fn mock() -> Mock {
        let options = VerifyOptions { allow_debug_enclaves: true, skip_avr_verify: true, ..VerifyOptions::default() };
        let info = SpidInfo { spid: Bytes(vec![5; SPID_BYTES]), quote_signature_type: 1 };
        Mock { info, options, clock: Arc::new(|| 1_700_000_000.into()) }
    }

    #[tokio::test]
    async fn reports_are_made_for_registered_enclaves_only() {
        let enclaves = Enclaves::default();
        let id = Namespace::from_bytes_unchecked([1; 32]);
        let enclave: EnclaveIdentity = format!("{}{}", "aa".repeat(32), "bb".repeat(32)).parse().unwrap();
        let constraints = SgxConstraints { v: 1, enclaves: vec![enclave], ..SgxConstraints::default() };
        let deployment = VersionInfo { tee: Some(Bytes(cbor::to_vec(&constraints))), ..VersionInfo::default() };
        let plain = Runtime { id: Namespace::ZERO, ..Runtime::default() };
        let runtime = Runtime {
            id,
            tee_hardware: TeeHardware::INTEL_SGX,
            deployments: vec![Some(deployment)],
            ..Runtime::default()
        };
        assert_eq!((enclaves.add(&plain), enclaves.add(&runtime), enclaves.add(&runtime)), (0, 1, 1));
        let mock = mock();
        let ask = async |runtime_id, signer, nonce: &str| {
            let nonce = nonce.to_owned();
            let evidence = Evidence { runtime_id, quote: Some(Bytes(quote(signer))), nonce, ..Evidence::default() };
            report(&mock, evidence, Some(&enclaves)).await
        };
        let body = ask(id, 0xbb, "nonce").await.unwrap().body.unwrap();
        let found = rt_tee::ias::Report::parse_unverified(&body, &mock.options).unwrap();
        assert_eq!(
            (found.nonce.as_str(), found.isv_enclave_quote_body.0.as_slice()),
            ("nonce", quote(0xbb).as_slice())
        );
        assert!(ask(id, 0xbc, "nonce").await.is_err());
        assert!(ask(Namespace::ZERO, 0xbb, "nonce").await.is_err());
        assert!(ask(id, 0xbb, &"n".repeat(33)).await.is_err());
        assert!(report(&mock, Evidence::default(), None).await.is_err());
    }

    /// The oldest guide's way to a report: its configuration, migrated, names a proxy, which the node reaches over TLS with
    /// its own certificate; the proxy asks the service over HTTP.
    #[tokio::test]
    async fn a_node_of_the_oldest_guide_gets_its_reports_through_a_proxy() {
        use std::io::{BufRead as _, Read as _, Write as _};
        // The service: a list of revoked keys, and a report that was published.
        let folder = "oasis-core/go/common/sgx/ias/testdata";
        let file = |name: &str| dev_testkit::paths::published(&format!("{folder}/{name}"));
        let Some([body, signature, chain]) = [
            "avr_v4_body_sw_hardening_needed.json",
            "avr_v4_body_sw_hardening_needed.sig",
            "avr_certificates_urlencoded.pem",
        ]
        .map(|name| file(name).and_then(|path| dev_testkit::read(&path).ok()))
        .into_iter()
        .collect::<Option<Vec<_>>>()
        .and_then(|files| <[Vec<u8>; 3]>::try_from(files).ok()) else {
            return dev_testkit::skip(1, "published files with evidence are missing");
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/sgx", listener.local_addr().unwrap());
        let published = body.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = std::io::BufReader::new(stream.unwrap());
                let mut lines = Vec::new();
                loop {
                    let mut line = String::new();
                    if stream.read_line(&mut line).unwrap_or(0) <= 2 {
                        break;
                    }
                    lines.push(line.to_ascii_lowercase());
                }
                let length = lines.iter().find_map(|line| line.strip_prefix("content-length:"));
                let length: u64 = length.map_or(0, |text| text.trim().parse().unwrap());
                std::io::copy(&mut stream.by_ref().take(length), &mut std::io::sink()).unwrap();
                let knows_key = lines.iter().any(|line| line.trim() == "ocp-apim-subscription-key: key");
                let (status, extra, body) = match lines.first().map(String::as_str) {
                    _ if !knows_key => ("401 Unauthorized", String::new(), Vec::new()),
                    Some(line) if line.starts_with("get /sgx/attestation/v5/sigrl/00000b39 ") => {
                        ("200 OK", String::new(), b"cmV2b2tlZA==".to_vec())
                    }
                    Some(line) if line.starts_with("post /sgx/attestation/v4/report ") => {
                        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
                        let (signature, chain) = (text(&signature), text(&chain));
                        let extra = format!(
                            "X-IASReport-Signature: {signature}\r\nX-IASReport-Signing-Certificate: {chain}\r\n"
                        );
                        ("200 OK", extra, published.clone())
                    }
                    _ => ("404 Not Found", String::new(), Vec::new()),
                };
                let head =
                    format!("HTTP/1.1 {status}\r\n{extra}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let _ = stream.get_mut().write_all(&[head.into_bytes(), body].concat());
            }
        });

        // The proxy.
        let Mock { info, .. } = mock();
        let options = VerifyOptions { allow_debug_enclaves: true, allow_test_signer: true, ..VerifyOptions::default() };
        let then: Clock = Arc::new(|| 1_600_000_000.into());
        let service = Service::new(&url, "key", info.clone(), options.clone(), then);
        let proxy_identity = TlsIdentity::issue_named(SecretKey::from_seed(&[1; 32]), PROXY_NAME, now_unix()).unwrap();
        let tls = ServerTls::new(&proxy_identity, COMMON_NAME).unwrap();
        let listener = Listener::tls("127.0.0.1:0".parse().unwrap(), tls).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = router(Arc::new(service), None, watch::channel(true).1);
        let stop = tokio_util::sync::CancellationToken::new();
        let serving = tokio::spawn(base_grpc::serve(listener, Arc::new(router), stop.clone()));

        // The node.
        let key = base_prims::PublicKey::new(proxy_identity.public());
        let guide =
            format!("datadir: /serverdir/node\nias:\n  proxy:\n    address:\n      - \"{key}@127.0.0.1:{port}\"\n");
        let config = node_config::Config::from_tree("guide", &node_migrate::migrate(&guide).unwrap().tree).unwrap();
        let node = TlsIdentity::issue(SecretKey::from_seed(&[2; 32]), now_unix()).unwrap();
        let proxies = node_hosting::ias::proxies(&config.ias.proxy_addresses, &node, &options).unwrap();
        assert_eq!(proxies.len(), 1);
        assert_eq!(proxies[0].spid_info().await.unwrap(), info);
        assert_eq!(proxies[0].revocations(0x0b39).await.unwrap(), b"revoked");
        let missing = proxies[0].revocations(7).await.unwrap_err();
        assert!(missing.contains("404") && missing.contains("Intel has ended"), "{missing}");
        let evidence = Evidence { quote: Some(Bytes(quote(0xbb))), nonce: "nonce".into(), ..Evidence::default() };
        let bundle = proxies[0].verify_evidence(evidence).await.unwrap();
        assert_eq!(bundle.body.clone().unwrap().0, body);
        bundle.open(None, 1_600_000_000.into(), &options).unwrap();
        assert!(proxies[0].verify_evidence(Evidence::default()).await.unwrap_err().starts_with("ias: "), "no quote");
        for wrong in ["127.0.0.1:1", "x@127.0.0.1:1", &format!("{key}@nowhere")] {
            let error = node_hosting::ias::proxies(&[wrong.to_owned()], &node, &options).map(drop).unwrap_err();
            assert!(error.to_string().contains(wrong), "{error}");
        }
        stop.cancel();
        serving.await.unwrap();
    }
}
