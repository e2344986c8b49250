//! A server and its clients, over a socket file and over TLS.

use std::path::Path;

use base_crypto::context::{CONSENSUS_TX, ChainContext, REGISTER_NODE, sign_with_context};
use base_grpc::{Code, Listener, ServerTls, serve};
use tokio_util::sync::CancellationToken;

use super::*;

fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().cast_signed()
}

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn keys() -> Vec<(KeyRole, SecretKey)> {
    vec![(KeyRole::Vrf, key(5)), (KeyRole::Node, key(2))]
}

/// A server in a thread of its own, until dropped.
struct Server {
    address: String,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    fn start(router: Router, listen: impl FnOnce() -> Listen + Send + 'static) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let (told, address) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = match listen() {
                    Listen::Unix(path) => {
                        let listener = Listener::unix(&path).unwrap();
                        told.send(format!("unix:{}", path.display())).unwrap();
                        listener
                    }
                    Listen::Tls(tls) => {
                        let listener = Listener::tls("127.0.0.1:0".parse().unwrap(), tls).await.unwrap();
                        told.send(listener.local_addr().unwrap().to_string()).unwrap();
                        listener
                    }
                };
                serve(listener, Arc::new(router), stopped).await;
            });
        });
        Self { address: address.recv().unwrap(), stop, thread: Some(thread) }
    }
}

enum Listen {
    Unix(std::path::PathBuf),
    Tls(ServerTls),
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn unix(router: Router, dir: &Path) -> (Server, RemoteConfig) {
    let path = dir.join("signer.sock");
    let server = Server::start(router, move || Listen::Unix(path));
    let config = RemoteConfig { address: server.address.clone(), ..RemoteConfig::default() };
    (server, config)
}

#[test]
fn keys_behind_a_socket_sign_as_if_they_were_here() {
    let dir = tempfile::tempdir().unwrap();
    let (server, config) = unix(router(keys()), dir.path());
    let signer = RemoteSigner::connect(&config).unwrap();
    let node = signer.load(KeyRole::Node).unwrap();
    assert_eq!(node.public(), key(2).public());
    let chain = ChainContext::from_hash(&[1; 32]);
    let sign = |key: &SecretKey| sign_with_context(key, &CONSENSUS_TX, Some(&chain), None, b"message");
    assert_eq!(sign(&node), sign(&key(2)));
    let vrf = signer.load(KeyRole::Vrf).unwrap();
    assert_eq!(vrf::try_prove(&vrf, b"alpha"), Ok(vrf::prove(&key(5), b"alpha")));
    // A role that may not prove, one that is not there, one that nobody may make.
    assert!(vrf::try_prove(&node, b"alpha").unwrap_err().contains("invalid signer role"));
    assert!(signer.load(KeyRole::Consensus).is_err());
    assert!(signer.generate(KeyRole::Consensus).is_err());
    // From within tasks too.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mine = node.clone();
    let signed =
        runtime.block_on(runtime.spawn(async move { sign_with_context(&mine, &REGISTER_NODE, None, None, b"m") }));
    assert!(signed.unwrap().is_ok());
    // A server that is gone costs the signature, and nothing once it is back.
    drop(server);
    assert!(sign(&node).is_err());
    let (_server, _) = unix(router(keys()), dir.path());
    assert_eq!(sign(&node), sign(&key(2)));
}

#[test]
fn a_client_is_known_by_its_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let make = |cert: &str, key: &str, name| TlsIdentity::load_or_generate(&at(cert), &at(key), name, now()).unwrap();
    let tls = make("server.pem", "server.key", SERVER_NAME);
    let client = make("client.pem", "client.key", CLIENT_NAME).public();
    make("other.pem", "other.key", CLIENT_NAME);
    let mut router = router(keys());
    router.guard(move |_, caller| {
        if caller.tls_key == Some(client) { Ok(()) } else { Err(RpcError::with(Code::PermissionDenied, "unknown")) }
    });
    let server = Server::start(router, move || Listen::Tls(ServerTls::new(&tls, CLIENT_NAME).unwrap()));
    let config = |cert: &str, key: &str, server_certificate: &str| RemoteConfig {
        address: server.address.clone(),
        client_certificate: at(cert),
        client_key: at(key),
        server_certificate: at(server_certificate),
    };
    let signer = RemoteSigner::connect(&config("client.pem", "client.key", "server.pem")).unwrap();
    assert_eq!(signer.load(KeyRole::Node).unwrap().public(), key(2).public());
    let refused = |config: RemoteConfig| RemoteSigner::connect(&config).unwrap_err().to_string();
    assert!(refused(config("other.pem", "other.key", "server.pem")).contains("unknown"));
    assert!(refused(config("client.pem", "client.key", "other.pem")).contains("remote signer at 127.0.0.1"));
    assert!(refused(config("client.pem", "other.key", "server.pem")).contains("not of the key"));
    assert!(refused(config("nothing.pem", "client.key", "server.pem")).contains("not found"));
}

#[test]
fn signers_that_hang_or_lie_give_no_signature() {
    let dir = tempfile::tempdir().unwrap();
    let mut bad = Router::new();
    let served = ServedKey { role: Role::from(KeyRole::Node), public_key: key(2).public().into() };
    bad.unary(SERVICE, "PublicKeys", move |(): ()| {
        let all = vec![served.clone()];
        async move { Ok(Cbor(all)) }
    });
    bad.unary(SERVICE, "Sign", |Cbor(request): Cbor<SignRequest>| async move {
        match request.message.unwrap_or_default().0.as_slice() {
            b"hang" => std::future::pending().await,
            b"short" => Ok(Cbor(Bytes(vec![1; 63]))),
            // A signature with another key.
            message => Ok(Cbor(Bytes(sign(&key(9), request.context.as_bytes(), message).unwrap().to_vec()))),
        }
    });
    let (_server, config) = unix(bad, dir.path());
    let node = RemoteSigner::connect(&config).unwrap().load(KeyRole::Node).unwrap();
    let reason =
        |message: &[u8]| sign_with_context(&node, &REGISTER_NODE, None, None, message).unwrap_err().to_string();
    assert!(reason(b"other").contains("does not verify"));
    assert!(reason(b"short").contains("63 bytes"));
    let began = std::time::Instant::now();
    assert!(reason(b"hang").contains("no answer within"));
    assert!(began.elapsed() < SIGN_TIMEOUT * 2);
    assert!(reason(b"other").contains("does not verify"));
}

#[test]
fn nobody_listens() {
    let config = RemoteConfig { address: "unix:/nonexistent/socket".to_owned(), ..RemoteConfig::default() };
    assert!(RemoteSigner::connect(&config).unwrap_err().to_string().contains("no node answers"));
    let config = RemoteConfig { address: "nonsense".to_owned(), ..RemoteConfig::default() };
    assert!(RemoteSigner::connect(&config).unwrap_err().to_string().contains("malformed address"));
}

#[test]
fn contexts_are_bounded() {
    assert!(sign(&key(1), b"", b"m").is_err());
    assert!(sign(&key(1), &[b'x'; 256], b"m").is_err());
    assert!(sign(&key(1), &[b'x'; 255], b"m").is_ok());
}
