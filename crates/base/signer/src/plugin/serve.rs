//! The plugin's side: a program becomes a signer plugin by [`serve`].

use std::io::Write as _;
use std::sync::{Arc, Mutex};

use base_identity::KeyRole;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use super::gob::{Item, Kind, Value};
use super::rpc::Calls;
use super::yamux::Session;
use super::{CLIENT_CERT, COOKIE, PLUGIN, tls};
use crate::role::Role;

/// What there is to implement: the keys. Calls come one at a time.
pub trait Held: Send {
    /// Makes ready for these roles; `config` is what the operator wrote.
    ///
    /// # Errors
    /// What the node is told.
    fn initialize(&mut self, config: &str, roles: &[KeyRole]) -> Result<(), String>;
    /// Loads the key of a role, or makes one.
    ///
    /// # Errors
    /// What the node is told; `file does not exist` if there is no key but one may be made.
    fn load(&mut self, role: KeyRole, must_generate: bool) -> Result<(), String>;
    /// The public key of a role.
    ///
    /// # Errors
    /// What the node is told.
    fn public(&mut self, role: KeyRole) -> Result<[u8; 32], String>;
    /// Signs SHA-512/256(`context` ‖ `message`).
    ///
    /// # Errors
    /// What the node is told.
    fn sign(&mut self, role: KeyRole, context: &[u8], message: &[u8]) -> Result<[u8; 64], String>;
}

/// The only stream of calls that is handed out.
const PLUGIN_STREAM: u32 = 1;

/// Serves as the plugin of that name until whoever started it is gone or asks it to end.
///
/// # Errors
/// If it was not started as a plugin, or can't listen.
pub async fn serve(name: &str, held: impl Held + 'static) -> Result<(), String> {
    if std::env::var(COOKIE).ok().as_deref() != Some(name) {
        return Err("this program is a signer plugin, which the node starts by itself".to_owned());
    }
    let client = std::env::var(CLIENT_CERT).map_err(|_| format!("{CLIENT_CERT} is missing"))?;
    let client = CertificateDer::from_pem_slice(client.as_bytes()).map_err(|error| error.to_string())?;
    let own = tls::Certificate::generate()?;
    let dir = tempfile::Builder::new().prefix("plugin").tempdir().map_err(|error| error.to_string())?;
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).map_err(|error| error.to_string())?;
    {
        let mut out = std::io::stdout().lock();
        let certificate = STANDARD_NO_PAD.encode(own.der());
        writeln!(out, "1|1|unix|{}|netrpc|{certificate}", path.display()).map_err(|error| error.to_string())?;
        out.flush().map_err(|error| error.to_string())?;
    }
    let held: Arc<Mutex<dyn Held>> = Arc::new(Mutex::new(held));
    // One client: whoever started this.
    let (stream, _) = listener.accept().await.map_err(|error| error.to_string())?;
    let stream = tls::accept(&own, &client, stream).await?;
    let session = Session::new(stream, false);
    run(&session, held).await;
    Ok(())
}

/// Serves a connection until it ends or the client says so.
async fn run(session: &Session, held: Arc<Mutex<dyn Held>>) {
    let Some(control) = session.accept().await else { return };
    // The plugin's output, of which there is none.
    let (out, err) = (session.accept().await, session.accept().await);
    let quit = CancellationToken::new();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(serve_control(Calls::new(control), quit.clone()));
    loop {
        let stream = tokio::select! {
            stream = session.accept() => stream,
            () = quit.cancelled() => break,
        };
        let Some(mut stream) = stream else { break };
        let held = held.clone();
        tasks.spawn(async move {
            let mut id = [0; 4];
            let is_plugin = stream.read_exact(&mut id).await.is_ok() && id == PLUGIN_STREAM.to_le_bytes();
            if is_plugin && stream.write_all(&id).await.is_ok() {
                serve_plugin(Calls::new(stream), &held).await;
            }
        });
    }
    drop((out, err));
}

async fn serve_control(mut calls: Calls, quit: CancellationToken) {
    while let Ok((method, number, argument)) = calls.next().await {
        let empty = || Ok((Kind::Struct("", &[]), Item::Struct(Vec::new())));
        let answer = match method.as_str() {
            "Control.Ping" => empty(),
            "Control.Quit" => {
                // Whether the answer gets there does not matter.
                let _ = calls.answer(&method, number, empty()).await;
                break;
            }
            "Dispenser.Dispense" if argument.text() == PLUGIN => Ok((Kind::Uint, Item::Uint(PLUGIN_STREAM.into()))),
            "Dispenser.Dispense" => Err(format!("unknown plugin type: {}", argument.text())),
            other => Err(format!("rpc: can't find method {other}")),
        };
        if calls.answer(&method, number, answer).await.is_err() {
            break;
        }
    }
    // The end of the control stream is the end of the plugin.
    quit.cancel();
}

async fn serve_plugin(mut calls: Calls, held: &Mutex<dyn Held>) {
    while let Ok((method, number, argument)) = calls.next().await {
        let answer = {
            let mut held = held.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            answer(&method, &argument, &mut *held)
        };
        let answer = answer.as_ref().map(Answer::item).map_err(Clone::clone);
        if calls.answer(&method, number, answer).await.is_err() {
            break;
        }
    }
}

enum Answer {
    Nothing,
    Key([u8; 32]),
    Signature([u8; 64]),
}

impl Answer {
    fn item(&self) -> (Kind, Item<'_>) {
        match self {
            Self::Nothing => (Kind::Interface, Item::Nil),
            Self::Key(key) => (Kind::Opaque("PublicKey"), Item::Bytes(key)),
            Self::Signature(signature) => (Kind::Bytes, Item::Bytes(signature)),
        }
    }
}

fn role(value: &Value) -> Result<KeyRole, String> {
    let number = u64::try_from(value.int()).unwrap_or(0);
    Role(number).key_role().ok_or_else(|| "signature: invalid signer role".to_owned())
}

fn answer(method: &str, argument: &Value, held: &mut dyn Held) -> Result<Answer, String> {
    match method {
        "Plugin.Initialize" => {
            let roles = argument.field("Roles").list().iter().map(role).collect::<Result<Vec<_>, _>>()?;
            held.initialize(argument.field("Config").text(), &roles)?;
            Ok(Answer::Nothing)
        }
        "Plugin.Load" => {
            held.load(role(argument.field("Role"))?, argument.field("MustGenerate").is_true())?;
            Ok(Answer::Nothing)
        }
        "Plugin.Public" => held.public(role(argument)?).map(Answer::Key),
        "Plugin.ContextSign" => {
            let context = argument.field("RawContext").text();
            held.sign(role(argument.field("Role"))?, context.as_bytes(), argument.field("Message").bytes())
                .map(Answer::Signature)
        }
        other => Err(format!("rpc: can't find method {other}")),
    }
}
