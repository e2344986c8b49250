//! `oasis-node ias proxy`: an attestation service of the EPID kind for test networks, whose reports nobody signs.
//!
//! Reference: `go/oasis-node/cmd/ias`, `go/ias`. Requests are not passed on to Intel's service: only mock reports are made.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use base_codec::{Bytes, Codec, cbor};
use base_grpc::{BoxStream, Cbor, Client, Listener, Router, RpcError, ServerTls};
use base_identity::{COMMON_NAME, TlsIdentity};
use base_prims::{Epoch, Namespace};
use clap::{Subcommand, ValueEnum};
use futures_util::StreamExt as _;
use parking_lot::RwLock;
use rt_tee::ias::{AvrBundle, IasQuote, mock_avr};
use rt_tee::{EnclaveIdentity, SgxConstraints, UnixTime, VerifyOptions};
use tokio::sync::watch;
use wire_consensus::registry::{GetRuntimesQuery, Runtime};
use wire_consensus::tee::TeeHardware;

use crate::args::Session;
use crate::client::ClientArgs;
use crate::tool::{Done, Failure, OrFail as _, end, now_unix};

const MODULE: &str = "cmd/ias/proxy";
const SERVICE: &str = "oasis-core.IAS";
/// Files of the proxy's key and certificate, and the certificate's name.
const KEY_FILE: &str = "ias_proxy.pem";
const CERTIFICATE_FILE: &str = "ias_proxy_cert.pem";
const NAME: &str = "ias-proxy";
/// Longest nonce in bytes.
const MAX_NONCE: usize = 32;
/// Bytes of a service provider's identifier.
const SPID_BYTES: usize = 16;
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
    #[arg(long = "ias.auth.api_key", hide = true)]
    _api_key: Option<String>,
    /// Use the production IAS endpoint.
    #[arg(long = "ias.production", hide = true)]
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

/// Evidence of an enclave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
struct Evidence {
    runtime_id: Namespace,
    quote: Option<Bytes>,
    pse_manifest: Option<Bytes>,
    nonce: String,
    #[codec(omitempty)]
    early_tcb_update: bool,
    #[codec(omitempty)]
    min_tcb_evaluation_data_number: u32,
}

/// What quotes have to be made for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
struct SpidInfo {
    spid: Bytes,
    quote_signature_type: u16,
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

fn proxy(args: &ProxyArgs, session: &Session) -> Done {
    let what = "failed to initialize IAS endpoint";
    if !args.mock {
        return Err(Failure::because(MODULE, what, "only mock reports are made here: give --ias.debug.mock"));
    }
    if !session.options.dont_blame_oasis {
        return Err(Failure::because(MODULE, what, "ias: refusing to mock IAS responses"));
    }
    let dir = session.data_dir();
    let identity = TlsIdentity::load_or_generate(&dir.join(CERTIFICATE_FILE), &dir.join(KEY_FILE), NAME, now_unix());
    let identity = identity.or_fail(MODULE, "failed to load or generate TLS cert")?;
    let tls = ServerTls::new(&identity, COMMON_NAME).or_fail(MODULE, "failed to initialize gRPC server")?;
    let info = SpidInfo { spid: Bytes(spid(args)?), quote_signature_type: args.signature_type as u16 };
    let options = VerifyOptions { allow_debug_enclaves: !args.production, ..session.options.local().tee };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.or_fail(MODULE, "failed to start the runtime")?;
    runtime.block_on(async {
        let enclaves = (!args.skip_auth).then(Arc::<Enclaves>::default);
        let (enough, ready) = watch::channel(args.wait_runtimes == 0 || args.skip_auth);
        let router = router(info, options, enclaves.clone(), ready);
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

fn router(
    info: SpidInfo,
    options: VerifyOptions,
    enclaves: Option<Arc<Enclaves>>,
    ready: watch::Receiver<bool>,
) -> Router {
    let mut router = Router::new();
    router.unary(SERVICE, "GetSPIDInfo", move |(): ()| {
        let info = info.clone();
        async move { Ok(Cbor(info)) }
    });
    // A mock has no revocation lists.
    router.unary(SERVICE, "GetSigRL", |Cbor(_): Cbor<u32>| async { Ok(Cbor(None::<Bytes>)) });
    router.unary(SERVICE, "VerifyEvidence", move |Cbor(evidence): Cbor<Evidence>| {
        let (options, enclaves, mut ready) = (options.clone(), enclaves.clone(), ready.clone());
        async move {
            if !matches!(tokio::time::timeout(WAIT_TIME, ready.wait_for(|ready| *ready)).await, Ok(Ok(_))) {
                return Err(RpcError::unknown("ias: runtimes are not registered yet"));
            }
            let now = UnixTime::new(now_unix(), 0);
            report(&evidence, enclaves.as_deref(), now, &options).map(Cbor).map_err(RpcError::unknown)
        }
    });
    router
}

/// The mock report about a quote.
fn report(
    evidence: &Evidence,
    enclaves: Option<&Enclaves>,
    now: UnixTime,
    options: &VerifyOptions,
) -> Result<AvrBundle, String> {
    let quote = evidence.quote.as_ref().map_or(&[][..], |quote| quote.0.as_slice());
    if let Some(enclaves) = enclaves {
        enclaves.check(&evidence.runtime_id, quote).inspect_err(|error| {
            tracing::warn!(module = MODULE, err = %error, "failed to authenticate IAS VerifyEvidence request");
        })?;
    }
    if evidence.nonce.len() > MAX_NONCE {
        return Err("ias: invalid nonce length".to_owned());
    }
    let body = mock_avr(quote, &evidence.nonce, now, options);
    let body = body.map_err(|error| format!("ias: failed to generate mock AVR: {error}"))?;
    Ok(AvrBundle { body: Some(Bytes(body)), ..AvrBundle::default() })
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
    use wire_consensus::registry::VersionInfo;

    use super::*;

    fn quote(signer: u8) -> Vec<u8> {
        let mut quote = vec![0; 432];
        quote[0] = 1;
        quote[48 + 48] = 2;
        quote[48 + 128..48 + 160].fill(signer);
        quote
    }

    #[test]
    fn reports_are_made_for_registered_enclaves_only() {
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
        let options = VerifyOptions { allow_debug_enclaves: true, skip_avr_verify: true, ..VerifyOptions::default() };
        let ask = |runtime_id, signer, nonce: &str| {
            let nonce = nonce.to_owned();
            let evidence = Evidence { runtime_id, quote: Some(Bytes(quote(signer))), nonce, ..Evidence::default() };
            report(&evidence, Some(&enclaves), UnixTime::new(1_700_000_000, 0), &options)
        };
        let body = ask(id, 0xbb, "nonce").unwrap().body.unwrap();
        let found = rt_tee::ias::Report::parse_unverified(&body, &options).unwrap();
        assert_eq!(
            (found.nonce.as_str(), found.isv_enclave_quote_body.0.as_slice()),
            ("nonce", quote(0xbb).as_slice())
        );
        assert!(ask(id, 0xbc, "nonce").is_err());
        assert!(ask(Namespace::ZERO, 0xbb, "nonce").is_err());
        assert!(ask(id, 0xbb, &"n".repeat(33)).is_err());
        assert!(report(&Evidence::default(), None, UnixTime::new(0, 0), &options).is_err());
    }
}
