//! Servers and clients with certificates, over loopback.

use base_crypto::ed25519::SecretKey;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{Address, Cbor, Client, Code, Listener, Router, RpcError, serve};

const CLIENT_NAME: &str = "test-client";

fn identity(seed: u8, name: &str) -> TlsIdentity {
    TlsIdentity::issue_named(SecretKey::from_seed(&[seed; 32]), name, now_unix()).unwrap()
}

/// A server with key 1 that answers to the key 2 only.
async fn server(stop: &CancellationToken) -> (Address, tokio::task::JoinHandle<()>) {
    let mut router = Router::new();
    router.unary("test.Echo", "Echo", |Cbor(text): Cbor<String>| async move { Ok(Cbor(text)) });
    let allowed = identity(2, CLIENT_NAME).public();
    router.guard(move |_, caller| match caller.tls_key {
        Some(key) if key == allowed => Ok(()),
        key => Err(RpcError::with(Code::PermissionDenied, format!("key {}", key.is_some()))),
    });
    let tls = ServerTls::new(&identity(1, COMMON_NAME), CLIENT_NAME).unwrap();
    let listener = Listener::tls("127.0.0.1:0".parse().unwrap(), tls).await.unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap().to_string());
    (address, tokio::spawn(serve(listener, Arc::new(router), stop.clone())))
}

async fn echo(client: &Client) -> Result<String, RpcError> {
    client.call("test.Echo", "Echo", &Cbor("x".to_owned())).await.map(|Cbor(text): Cbor<String>| text)
}

#[tokio::test]
async fn keys_are_pinned_on_both_sides() {
    let stop = CancellationToken::new();
    let (address, task) = server(&stop).await;
    let key = identity(1, COMMON_NAME).public();
    let connect = |identity: Option<TlsIdentity>, keys: Vec<[u8; 32]>, name| {
        let address = &address;
        async move {
            let tls = ClientTls::pinned(identity.as_ref(), keys, name).unwrap();
            Client::connect_tls(address, tls).await
        }
    };
    let right = || Some(identity(2, CLIENT_NAME));

    let client = connect(right(), vec![[7; 32], key], COMMON_NAME).await.unwrap();
    assert_eq!(echo(&client).await.unwrap(), "x");
    // Somebody else, and nobody: let in, and refused by the method.
    let client = connect(Some(identity(3, CLIENT_NAME)), vec![key], COMMON_NAME).await.unwrap();
    assert_eq!(echo(&client).await.unwrap_err(), RpcError::with(Code::PermissionDenied, "key true"));
    let client = connect(None, vec![key], COMMON_NAME).await.unwrap();
    assert_eq!(echo(&client).await.unwrap_err(), RpcError::with(Code::PermissionDenied, "key false"));
    // A server with another key or another name.
    assert!(connect(right(), vec![[7; 32]], COMMON_NAME).await.is_err());
    assert!(connect(right(), vec![], COMMON_NAME).await.is_err());
    let error = connect(right(), vec![key], CLIENT_NAME).await.unwrap_err();
    assert!(error.to_string().contains("common name is `oasis-node`"), "{error}");
    // A client with a certificate of another name, which it learns at its first call at the latest.
    let refused = match connect(Some(identity(2, "other")), vec![key], COMMON_NAME).await {
        Ok(client) => echo(&client).await.is_err(),
        Err(_) => true,
    };
    assert!(refused);
    // No TLS, and the wrong authorities.
    let refused = match Client::connect(&address).await {
        Ok(client) => echo(&client).await.is_err(),
        Err(_) => true,
    };
    assert!(refused);
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let stop = CancellationToken::new();
    let (address, task) = server(&stop).await;
    let old = now_unix() - 2 * 366 * 24 * 3600;
    let expired = TlsIdentity::issue_named(SecretKey::from_seed(&[2; 32]), CLIENT_NAME, old).unwrap();
    let tls = ClientTls::node(Some(&expired), vec![identity(1, COMMON_NAME).public()]).unwrap();
    let refused = match Client::connect_tls(&address, tls).await {
        Ok(client) => echo(&client).await.is_err(),
        Err(_) => true,
    };
    assert!(refused);
    stop.cancel();
    task.await.unwrap();
}

/// A server with a certificate of an authority, as public gateways have.
#[tokio::test]
async fn authorities_of_a_file_are_trusted_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let roots = dir.path().join("roots.pem");
    std::fs::write(&roots, made.cert.pem()).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![made.cert.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der())),
        )
        .unwrap();
    config.alpn_protocols = vec![ALPN.to_vec()];
    let mut router = Router::new();
    router.unary("test.Echo", "Echo", |Cbor(text): Cbor<String>| async move { Ok(Cbor(text)) });
    let stop = CancellationToken::new();
    let tls = ServerTls(Arc::new(config));
    let listener = Listener::tls("127.0.0.1:0".parse().unwrap(), tls).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(serve(listener, Arc::new(router), stop.clone()));
    let address = |host: &str| Address::Tcp(format!("{host}:{port}"));

    let tls = || ClientTls::with_roots(&roots).unwrap();
    let client = Client::connect_tls(&address("localhost"), tls()).await.unwrap();
    assert_eq!(echo(&client).await.unwrap(), "x");
    // Another name, and a node's certificate, which no authority made.
    assert!(Client::connect_tls(&address("127.0.0.1"), tls()).await.is_err());
    let (node, other) = server(&stop).await;
    assert!(Client::connect_tls(&node, tls()).await.is_err());
    stop.cancel();
    task.await.unwrap();
    other.await.unwrap();
    // A file without certificates.
    std::fs::write(&roots, "").unwrap();
    assert!(ClientTls::with_roots(&roots).is_err());
}
