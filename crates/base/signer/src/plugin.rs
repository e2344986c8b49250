//! Signer plugins: programs that the node starts and that hold keys.
//!
//! Reference: `go/common/crypto/signature/signers/plugin`, which uses HashiCorp's `go-plugin` 1 with Go's `net/rpc`. The
//! plugin is told its name and a certificate by its environment, listens on a socket, and writes one line about it. On
//! the socket there is TLS with the two certificates pinned, on that yamux, on its streams calls in gob.
//!
//! Methods of a plugin: `Initialize{Config, Roles}`, `Load{Role, MustGenerate}`, `Public(role)` → 32 bytes,
//! `ContextSign{Role, RawContext, Message}` → 64 bytes. Plugins give no VRF proofs.

mod gob;
mod rpc;
mod serve;
mod tls;
mod yamux;

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use base_crypto::ed25519::{KeyHolder, SecretKey};
use base_identity::{KeyRole, KeySource, KeySourceError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::role::Role;
use crate::worker::Worker;
use crate::{PluginConfig, SIGN_TIMEOUT, SignerError};
use gob::{Item, Kind, Value};
use rpc::Calls;
pub use serve::{Held, serve};
use yamux::Session;

/// Environment variable that says who is asked for.
const COOKIE: &str = "OASIS_CORE_SIGNER_PLUGIN";
/// Environment variable with the certificate of whoever started the plugin (PEM).
const CLIENT_CERT: &str = "PLUGIN_CLIENT_CERT";
/// What the plugin is called within its program.
const PLUGIN: &str = "oasis_core_signer";
/// How long a plugin may take to say where it listens, and to load keys.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest line that a plugin may write first, in bytes.
const MAX_LINE: u64 = 16 << 10;

const INIT: Kind = Kind::Struct("RPCInitArgs", &[("Config", Kind::Text), ("Roles", Kind::Ints)]);
const LOAD: Kind = Kind::Struct("RPCLoadArgs", &[("Role", Kind::Int), ("MustGenerate", Kind::Bool)]);
const SIGN: Kind =
    Kind::Struct("RPCContextSignArgs", &[("Role", Kind::Int), ("RawContext", Kind::Text), ("Message", Kind::Bytes)]);

/// A running plugin; it ends with this.
pub struct Plugin {
    link: Arc<Link>,
    roles: Vec<KeyRole>,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").field("roles", &self.roles).finish_non_exhaustive()
    }
}

struct Link {
    worker: Worker,
    calls: Arc<Mutex<Option<Calls>>>,
    _running: DropGuard,
}

/// Everything that has to live as long as the plugin is used.
struct Started {
    child: Child,
    session: Arc<Session>,
    calls: Calls,
}

fn number(role: KeyRole) -> i64 {
    Role::from(role).0.cast_signed()
}

impl Plugin {
    /// Starts the program and makes it ready for these roles. Blocks.
    ///
    /// # Errors
    /// If it can't be started, is another one, or refuses.
    pub fn start(config: &PluginConfig, roles: &[KeyRole]) -> Result<Self, SignerError> {
        if config.name.is_empty() {
            return Err(SignerError::PluginName);
        }
        if roles.contains(&KeyRole::Vrf) {
            return Err(SignerError::VrfNotSupported);
        }
        let failed = |reason: String| SignerError::Plugin { path: config.path.clone(), reason };
        let worker = Worker::start()?;
        let (mine, wanted) = (config.clone(), roles.to_vec());
        let started = worker.run(START_TIMEOUT, async move { start(&mine, &wanted).await });
        let started = started.unwrap_or_else(|| Err("it did not get ready in time".to_owned())).map_err(failed)?;
        let Started { mut child, session, calls } = started;
        let calls = Arc::new(Mutex::new(Some(calls)));
        let stop = CancellationToken::new();
        let running = stop.clone().drop_guard();
        // Ends with the worker's thread at the latest, which kills the plugin.
        worker.run(SIGN_TIMEOUT, async move {
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    ended = child.wait() => {
                        let status = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
                        tracing::error!(module = "signer/plugin", status, "signer plugin ended");
                    }
                }
                drop(session);
                // It has ended already, or is to.
                let _ = child.start_kill();
                let _ = child.wait().await;
            });
        });
        Ok(Self { link: Arc::new(Link { worker, calls, _running: running }), roles: roles.to_vec() })
    }
}

async fn start(config: &PluginConfig, roles: &[KeyRole]) -> Result<Started, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let own = tls::Certificate::generate()?;
    let mut child = Command::new(&config.path)
        .env(COOKIE, &config.name)
        .env(CLIENT_CERT, own.pem())
        .env("PLUGIN_PROTOCOL_VERSIONS", "1")
        .env("PLUGIN_MIN_PORT", "10000")
        .env("PLUGIN_MAX_PORT", "25000")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| text(&error))?;
    if let Some(stderr) = child.stderr.take() {
        tokio::spawn(drain(stderr));
    }
    let stdout = child.stdout.take().ok_or("no output")?;
    let mut output = BufReader::new(stdout);
    let mut line = String::new();
    (&mut output).take(MAX_LINE).read_line(&mut line).await.map_err(|error| text(&error))?;
    tokio::spawn(drain(output));
    let (socket, certificate) = parse_line(line.trim())?;
    let stream = tokio::net::UnixStream::connect(&socket).await.map_err(|error| text(&error))?;
    let stream = tls::connect(&own, &certificate, stream).await?;
    let session = Arc::new(Session::new(stream, true));
    let opened = || async { session.open().await.map_err(|error| text(&error)) };
    let mut control = Calls::new(opened().await?);
    for mut output in [opened().await?, opened().await?] {
        tokio::spawn(async move { while output.next().await.is_some() {} });
    }
    let called = control.call("Dispenser.Dispense", Kind::Text, &Item::Text(PLUGIN)).await;
    let id = called.map_err(|error| text(&error))??.uint();
    let id = u32::try_from(id).map_err(|error| text(&error))?.to_le_bytes();
    let mut stream = opened().await?;
    stream.write_all(&id).await.map_err(|error| text(&error))?;
    let mut echo = [0; 4];
    stream.read_exact(&mut echo).await.map_err(|error| text(&error))?;
    if echo != id {
        return Err("wrong stream".to_owned());
    }
    let mut calls = Calls::new(stream);
    let numbers: Vec<_> = roles.iter().map(|role| number(*role)).collect();
    let argument = Item::Struct(vec![Item::Text(&config.config), Item::Ints(&numbers)]);
    calls.call("Plugin.Initialize", INIT, &argument).await.map_err(|error| text(&error))??;
    // The control stream stays open: its end would end the plugin.
    tokio::spawn({
        let session = session.clone();
        async move {
            session.ended().await;
            drop(control);
        }
    });
    Ok(Started { child, session, calls })
}

/// `1|1|unix|PATH|netrpc|CERTIFICATE`.
fn parse_line(line: &str) -> Result<(PathBuf, Vec<u8>), String> {
    let parts: Vec<&str> = line.splitn(6, '|').collect();
    let [core, version, network, path, protocol, certificate] = parts[..] else {
        return Err(format!("it is no plugin: it said {line:?}"));
    };
    if core != "1" || version != "1" {
        return Err(format!("it speaks version {core}.{version}, expected 1.1"));
    }
    if network != "unix" || protocol != "netrpc" {
        return Err(format!("it offers {protocol} over {network}, expected netrpc over unix"));
    }
    let certificate = STANDARD_NO_PAD.decode(certificate).map_err(|error| format!("its certificate: {error}"))?;
    Ok((path.into(), certificate))
}

/// Whatever a plugin says besides is not kept.
async fn drain(mut output: impl AsyncRead + Unpin) {
    let mut buffer = [0; 4096];
    while output.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
}

impl Link {
    fn call(
        &self,
        limit: Duration,
        method: &'static str,
        build: impl FnOnce() -> Prepared + Send + 'static,
    ) -> Result<Value, String> {
        let calls = self.calls.clone();
        let answer = self.worker.run(limit, async move {
            let mut slot = calls.lock().await;
            // Taken while it is used: a call that is given up leaves a stream that can't be used any more.
            let mut mine =
                slot.take().ok_or("signer plugin: gave no answer before; it is started anew with the node")?;
            let prepared = build();
            let answer = mine.call(method, prepared.kind(), &prepared.item()).await;
            let answer = answer.map_err(|error| format!("signer plugin: {error}"))?;
            *slot = Some(mine);
            answer.map_err(|error| format!("signer plugin: {error}"))
        });
        answer.unwrap_or_else(|| Err(format!("signer plugin: no answer within {limit:?}")))
    }

    fn public(&self, role: KeyRole) -> Result<[u8; 32], String> {
        let value = self.call(SIGN_TIMEOUT, "Plugin.Public", move || Prepared::Role(number(role)))?;
        let bytes = value.bytes();
        bytes.try_into().map_err(|_| format!("signer plugin: public key of {} bytes", bytes.len()))
    }

    fn load(self: &Arc<Self>, role: KeyRole, must_generate: bool) -> Result<SecretKey, String> {
        self.call(START_TIMEOUT, "Plugin.Load", move || Prepared::Load(number(role), must_generate))?;
        let holder = PluginKey { link: self.clone(), role };
        Ok(SecretKey::held(self.public(role)?, Arc::new(holder)))
    }
}

/// An argument that travels to the worker.
enum Prepared {
    Role(i64),
    Load(i64, bool),
    Sign(i64, String, Vec<u8>),
}

impl Prepared {
    fn kind(&self) -> Kind {
        match self {
            Self::Role(_) => Kind::Int,
            Self::Load(..) => LOAD,
            Self::Sign(..) => SIGN,
        }
    }

    fn item(&self) -> Item<'_> {
        match self {
            Self::Role(role) => Item::Int(*role),
            Self::Load(role, generate) => Item::Struct(vec![Item::Int(*role), Item::Bool(*generate)]),
            Self::Sign(role, context, message) => {
                Item::Struct(vec![Item::Int(*role), Item::Text(context), Item::Bytes(message)])
            }
        }
    }
}

impl KeySource for Plugin {
    fn load(&self, role: KeyRole) -> Result<SecretKey, KeySourceError> {
        if !self.roles.contains(&role) {
            return Err(KeySourceError::Signer(format!("the plugin was not started for {role:?} keys")));
        }
        match self.link.load(role, false) {
            // How the reference's plugins say that there is none.
            Err(error) if error.ends_with("file does not exist") => Err(KeySourceError::Missing(role)),
            other => other.map_err(KeySourceError::Signer),
        }
    }

    fn generate(&self, role: KeyRole) -> Result<SecretKey, KeySourceError> {
        self.link.load(role, true).map_err(KeySourceError::Signer)
    }
}

/// A key of the plugin.
struct PluginKey {
    link: Arc<Link>,
    role: KeyRole,
}

impl KeyHolder for PluginKey {
    fn sign(&self, context: &[u8], message: &[u8]) -> Result<[u8; 64], String> {
        let (role, message) = (number(self.role), message.to_vec());
        let context = String::from_utf8(context.to_vec()).map_err(|_| "context is no text".to_owned())?;
        let build = move || Prepared::Sign(role, context, message);
        let value = self.link.call(SIGN_TIMEOUT, "Plugin.ContextSign", build)?;
        let bytes = value.bytes();
        bytes.try_into().map_err(|_| format!("signer plugin: signature of {} bytes", bytes.len()))
    }

    fn prove(&self, _: &[u8]) -> Result<[u8; 80], String> {
        Err("plugins give no VRF proofs".to_owned())
    }
}

#[cfg(test)]
mod tests;
