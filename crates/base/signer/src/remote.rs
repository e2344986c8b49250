//! Remote signers: the gRPC service `RemoteSigner`, from both sides.
//!
//! Reference: `go/common/crypto/signature/signers/remote/grpc.go`. The client sends the full context and the message; the
//! server hashes and signs. Public keys are asked for once, when the client connects.

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use base_codec::{Bytes, Codec};
use base_crypto::context::MAX_CONTEXT_LEN;
use base_crypto::ed25519::{KeyHolder, SecretKey};
use base_crypto::hash::sha512_256;
use base_crypto::vrf;
use base_grpc::{Address, Cbor, Client, ClientTls, Router, RpcError};
use base_identity::{KeyRole, KeySource, KeySourceError, TlsIdentity, certificate_key, load_certificate};
use base_prims::PublicKey;

use crate::role::{ROLES, Role};
use crate::worker::Worker;
use crate::{RemoteConfig, SIGN_TIMEOUT, SignerError};

/// Full name of the service.
pub const SERVICE: &str = "oasis-core.RemoteSigner";
/// Common name of the certificates of servers. Source: `go/oasis-remote-signer/cmd`.
pub const SERVER_NAME: &str = "remote-signer-server";
/// Common name of the certificates of clients.
pub const CLIENT_NAME: &str = "remote-signer-client";
/// How long the connection and the first question may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A key of the server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct ServedKey {
    role: Role,
    public_key: PublicKey,
}

#[derive(Debug, Clone, Default, Codec)]
#[codec(cbor_only)]
struct SignRequest {
    role: Role,
    context: String,
    message: Option<Bytes>,
}

#[derive(Debug, Clone, Default, Codec)]
#[codec(cbor_only)]
struct ProveRequest {
    role: Role,
    alpha: Option<Bytes>,
}

/// The service over these keys. Who may call is for [`Router::guard`] to say.
pub fn router(keys: Vec<(KeyRole, SecretKey)>) -> Router {
    let keys = Arc::new(keys);
    let find = |keys: &[(KeyRole, SecretKey)], role: Role| {
        let wanted = role.key_role();
        let found = keys.iter().find(|(known, _)| Some(*known) == wanted);
        found.map(|(_, key)| key.clone()).ok_or_else(|| RpcError::unknown("file does not exist"))
    };
    let mut router = Router::new();
    let all: Vec<_> = ROLES
        .iter()
        .filter_map(|(role, number, _)| {
            let (_, key) = keys.iter().find(|(known, _)| known == role)?;
            Some(ServedKey { role: *number, public_key: PublicKey::from(key.public()) })
        })
        .collect();
    router.unary(SERVICE, "PublicKeys", move |(): ()| {
        let all = all.clone();
        async move { Ok(Cbor(all)) }
    });
    let mine = keys.clone();
    router.unary(SERVICE, "Sign", move |Cbor(request): Cbor<SignRequest>| {
        let key = find(&mine, request.role);
        async move {
            let message = request.message.unwrap_or_default();
            let signature = sign(&key?, request.context.as_bytes(), &message.0).map_err(RpcError::unknown)?;
            Ok(Cbor(Bytes(signature.to_vec())))
        }
    });
    router.unary(SERVICE, "Prove", move |Cbor(request): Cbor<ProveRequest>| {
        let key = find(&keys, request.role);
        async move {
            let key = key?;
            if request.role.key_role() != Some(KeyRole::Vrf) {
                return Err(RpcError::unknown("signature: invalid signer role"));
            }
            let proof = vrf::try_prove(&key, &request.alpha.unwrap_or_default().0).map_err(RpcError::unknown)?;
            Ok(Cbor(Bytes(proof.to_vec())))
        }
    });
    router
}

/// Signs in a full context, which nobody here knows.
pub(crate) fn sign(key: &SecretKey, context: &[u8], message: &[u8]) -> Result<[u8; 64], String> {
    if context.is_empty() || context.len() > MAX_CONTEXT_LEN {
        return Err("signature: malformed context".to_owned());
    }
    match key.holder() {
        Some(holder) => holder.sign(context, message),
        None => Ok(key.sign(&sha512_256(&[context, message]))),
    }
}

/// A connection to a remote signer.
pub struct RemoteSigner {
    link: Arc<Link>,
    keys: Vec<ServedKey>,
}

struct Link {
    worker: Worker,
    client: Client,
}

impl std::fmt::Debug for RemoteSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteSigner").field("keys", &self.keys).finish_non_exhaustive()
    }
}

fn tls(config: &RemoteConfig) -> Result<ClientTls, SignerError> {
    let identity = TlsIdentity::load_pair(&config.client_certificate, &config.client_key)?;
    let server = load_certificate(&config.server_certificate)?;
    let path = || config.server_certificate.clone();
    let key = certificate_key(&server).ok_or_else(|| SignerError::ServerCertificate { path: path() })?;
    Ok(ClientTls::pinned(Some(&identity), vec![key], SERVER_NAME)?)
}

impl RemoteSigner {
    /// Connects and asks for the public keys. Blocks.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn connect(config: &RemoteConfig) -> Result<Self, SignerError> {
        let failed = |reason: String| SignerError::Remote { address: config.address.clone(), reason };
        let address = Address::from_str(&config.address).map_err(|error| failed(error.to_string()))?;
        let tls = match address {
            Address::Unix(_) => None,
            Address::Tcp(_) => Some(tls(config)?),
        };
        let worker = Worker::start()?;
        let connecting = async move {
            let client = match tls {
                Some(tls) => Client::connect_tls(&address, tls).await,
                None => Client::connect(&address).await,
            };
            let client = client.map_err(|error| error.to_string())?;
            let keys = client.call(SERVICE, "PublicKeys", &()).await.map_err(|error| error.to_string())?;
            let Cbor(keys): Cbor<Option<Vec<ServedKey>>> = keys;
            Ok((client, keys.unwrap_or_default()))
        };
        let connected = worker.run(CONNECT_TIMEOUT, connecting);
        let (client, keys) = connected.unwrap_or_else(|| Err("no answer in time".to_owned())).map_err(failed)?;
        Ok(Self { link: Arc::new(Link { worker, client }), keys })
    }
}

impl KeySource for RemoteSigner {
    fn load(&self, role: KeyRole) -> Result<SecretKey, KeySourceError> {
        let number = Role::from(role);
        let Some(served) = self.keys.iter().find(|served| served.role == number) else {
            return Err(KeySourceError::Signer(format!("the remote signer has no {role:?} key")));
        };
        let holder = RemoteKey { link: self.link.clone(), role: number };
        Ok(SecretKey::held(*served.public_key.as_bytes(), Arc::new(holder)))
    }

    fn generate(&self, _: KeyRole) -> Result<SecretKey, KeySourceError> {
        Err(KeySourceError::Signer("keys of a remote signer are generated by its own init".to_owned()))
    }
}

/// A key behind the connection.
struct RemoteKey {
    link: Arc<Link>,
    role: Role,
}

impl RemoteKey {
    fn call<A, const N: usize>(&self, method: &'static str, argument: A) -> Result<[u8; N], String>
    where
        A: base_codec::cbor::Encode + base_codec::cbor::Decode + Send + Sync + 'static,
    {
        let client = self.link.client.clone();
        let called = self.link.worker.run(SIGN_TIMEOUT, async move {
            let answer: Result<Cbor<Option<Bytes>>, _> = client.call(SERVICE, method, &Cbor(argument)).await;
            answer.map_err(|error| error.to_string())
        });
        let Some(answer) = called else { return Err(format!("remote signer: no answer within {SIGN_TIMEOUT:?}")) };
        let Cbor(bytes) = answer.map_err(|error| format!("remote signer: {error}"))?;
        let bytes = bytes.unwrap_or_default().0;
        bytes.as_slice().try_into().map_err(|_| format!("remote signer: answer of {} bytes", bytes.len()))
    }
}

impl KeyHolder for RemoteKey {
    fn sign(&self, context: &[u8], message: &[u8]) -> Result<[u8; 64], String> {
        let context = String::from_utf8(context.to_vec()).map_err(|_| "context is no text".to_owned())?;
        self.call("Sign", SignRequest { role: self.role, context, message: Some(Bytes(message.to_vec())) })
    }

    fn prove(&self, alpha: &[u8]) -> Result<[u8; 80], String> {
        self.call("Prove", ProveRequest { role: self.role, alpha: Some(Bytes(alpha.to_vec())) })
    }
}

#[cfg(test)]
mod tests;
