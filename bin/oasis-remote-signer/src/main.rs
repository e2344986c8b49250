//! The `oasis-remote-signer` command: holds keys and signs for a node that may be on another machine.
//!
//! Layer L5. Reference counterpart: `go/oasis-remote-signer`. `init` makes keys and the server's certificate,
//! `init_client` the certificate of the node that may ask; without a command it serves on a port with TLS.
//!
//! It knows nothing of consensus: the record against signing twice is the node's.
//!
//! Tested through `oasis-node`, whose tests sign with it, and by hand with the reference's runner.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base_crypto::ed25519::SecretKey;
use base_grpc::{Code, Listener, RpcError, ServerTls, serve};
use base_identity::{KeyRole, KeySource, TlsIdentity, certificate_key, load_certificate};
use base_service::{errln, logging, signals};
use base_signer::remote::{CLIENT_NAME, SERVER_NAME, router};
use base_signer::{PluginConfig, ROLES, RemoteConfig, SignerConfig};
use clap::{Parser, Subcommand};

/// The reference's port.
const DEFAULT_PORT: u16 = 9001;
const SERVER_FILES: (&str, &str) = ("remote_signer_server_cert.pem", "remote_signer_server_key.pem");
const CLIENT_FILES: (&str, &str) = ("remote_signer_client_cert.pem", "remote_signer_client_key.pem");

/// Oasis Remote Signer.
#[derive(Parser)]
#[command(name = "oasis-remote-signer", version, about = "Oasis Remote Signer")]
struct Cli {
    /// Data directory.
    #[arg(long, global = true)]
    datadir: Option<PathBuf>,
    /// Client TLS certificate.
    #[arg(long = "client.certificate", default_value = "client_cert.pem")]
    client_certificate: PathBuf,
    /// gRPC server port.
    #[arg(long = "grpc.port", default_value_t = DEFAULT_PORT)]
    port: u16,
    /// Signer backend [file, plugin, remote, composite].
    #[arg(short = 's', long = "signer.backend", default_value = "file")]
    backend: String,
    /// Composite signer backends: comma-separated ROLE:BACKEND.
    #[arg(long = "signer.composite.backends", default_value = "", hide_default_value = true)]
    composite: String,
    /// Plugin signer backend name.
    #[arg(long = "signer.plugin.name", default_value = "", hide_default_value = true)]
    plugin_name: String,
    /// Plugin signer binary path.
    #[arg(long = "signer.plugin.path")]
    plugin_path: Option<PathBuf>,
    /// Plugin signer configuration.
    #[arg(long = "signer.plugin.config", default_value = "", hide_default_value = true)]
    plugin_config: String,
    /// Remote signer server address.
    #[arg(long = "signer.remote.address", default_value = "", hide_default_value = true)]
    remote_address: String,
    /// Remote signer client certificate path.
    #[arg(long = "signer.remote.client.certificate")]
    remote_client_certificate: Option<PathBuf>,
    /// Remote signer client certificate key path.
    #[arg(long = "signer.remote.client.key")]
    remote_client_key: Option<PathBuf>,
    /// Remote signer server certificate path.
    #[arg(long = "signer.remote.server.certificate")]
    remote_server_certificate: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand, Clone, Copy)]
enum Command {
    /// Initialize server keys.
    Init,
    /// Initialize client certificate.
    #[command(name = "init_client")]
    InitClient,
}

fn now_unix() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Cli {
    fn dir(&self) -> Result<&Path, String> {
        self.datadir.as_deref().ok_or_else(|| "remote-signer: datadir is mandatory".to_owned())
    }

    fn source(&self) -> Result<Box<dyn KeySource>, String> {
        let config = SignerConfig {
            backend: self.backend.clone(),
            composite: self.composite.clone(),
            remote: RemoteConfig {
                address: self.remote_address.clone(),
                client_certificate: self.remote_client_certificate.clone().unwrap_or_default(),
                client_key: self.remote_client_key.clone().unwrap_or_default(),
                server_certificate: self.remote_server_certificate.clone().unwrap_or_default(),
            },
            plugin: PluginConfig {
                name: self.plugin_name.clone(),
                path: self.plugin_path.clone().unwrap_or_default(),
                config: self.plugin_config.clone(),
            },
        };
        base_signer::open(&config, self.dir()?, &ROLES.map(|(role, _, _)| role)).map_err(text)
    }

    /// Makes the keys, or loads them, and the server's certificate.
    fn keys(&self, make: bool) -> Result<(Vec<(KeyRole, SecretKey)>, TlsIdentity), String> {
        let (dir, source) = (self.dir()?, self.source()?);
        let each = |(role, _, name): (KeyRole, _, &str)| {
            let key = if make { source.generate(role) } else { source.load(role) };
            let what = if make { "provision" } else { "load" };
            key.map(|key| (role, key)).map_err(|error| format!("remote-signer: failed to {what} key ({name}): {error}"))
        };
        let keys = ROLES.into_iter().map(each).collect::<Result<_, _>>()?;
        let (certificate, key) = SERVER_FILES;
        let tls = TlsIdentity::load_or_generate(&dir.join(certificate), &dir.join(key), SERVER_NAME, now_unix());
        Ok((keys, tls.map_err(text)?))
    }

    fn init_client(&self) -> Result<(), String> {
        let (dir, (certificate, key)) = (self.dir()?, CLIENT_FILES);
        let made = TlsIdentity::load_or_generate(&dir.join(certificate), &dir.join(key), CLIENT_NAME, now_unix());
        made.map(drop).map_err(text)
    }

    async fn serve(&self) -> Result<(), String> {
        let (keys, tls) = self.keys(false)?;
        let client = load_certificate(&self.client_certificate).map_err(text)?;
        let client = certificate_key(&client)
            .ok_or_else(|| format!("{}: not a certificate of an Ed25519 key", self.client_certificate.display()))?;
        let mut router = router(keys);
        router.guard(move |_, caller| {
            if caller.tls_key == Some(client) {
                return Ok(());
            }
            Err(RpcError::with(Code::PermissionDenied, "grpc: unknown peer certificate"))
        });
        let stop = signals::stop_token().map_err(text)?;
        let tls = ServerTls::new(&tls, CLIENT_NAME).map_err(text)?;
        // Both families, as the reference; where there is no IPv6, IPv4 alone.
        let listener = match Listener::tls((Ipv6Addr::UNSPECIFIED, self.port).into(), tls.clone()).await {
            Ok(listener) => listener,
            Err(_) => Listener::tls(SocketAddr::from(([0, 0, 0, 0], self.port)), tls).await.map_err(text)?,
        };
        tracing::info!(module = "remote-signer", port = self.port, "gRPC server started");
        serve(listener, Arc::new(router), stop).await;
        Ok(())
    }

    fn run(&self) -> Result<(), String> {
        base_service::limits::private_files();
        match self.command {
            Some(Command::Init) => self.keys(true).map(drop),
            Some(Command::InitClient) => self.init_client(),
            None => {
                let levels = logging::Levels::parse(&[("default".to_owned(), "info".to_owned())].into());
                logging::init(logging::Format::parse("logfmt").map_err(text)?, levels.map_err(text)?, None)
                    .map_err(text)?;
                let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(text)?;
                runtime.block_on(self.serve())
            }
        }
    }
}

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            errln!("Error: {error}");
            ExitCode::FAILURE
        }
    }
}
