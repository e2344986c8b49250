//! Commands to a node behind TLS, as operators put one there, and to one on the loopback interface without.

use std::path::Path;
use std::sync::Arc;

use cli_devnet::Node;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, UnixStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{Cli, has};

/// An authority of our own, and what a server of that name needs. The authority goes into a file.
fn certificates(name: &str, authority: &Path) -> ServerConfig {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).expect("a certificate");
    std::fs::write(authority, certificate.pem()).expect("written");
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_no_client_auth();
    let mut config = config.with_single_cert(vec![certificate.der().clone()], key).expect("a configuration");
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// Hands everything that comes in on to the node's socket; gives the port.
async fn relay(node: &Node, tls: Option<ServerConfig>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (socket, acceptor) = (node.socket(), tls.map(|config| TlsAcceptor::from(Arc::new(config))));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (socket, acceptor) = (socket.clone(), acceptor.clone());
            tokio::spawn(async move {
                let mut node = UnixStream::connect(socket).await.expect("the node listens");
                // The client ends connections as it likes.
                let _ = match acceptor {
                    Some(acceptor) => match acceptor.accept(stream).await {
                        Ok(mut stream) => copy_bidirectional(&mut stream, &mut node).await,
                        Err(error) => Err(error),
                    },
                    None => copy_bidirectional(&mut stream, &mut node).await,
                };
            });
        }
    });
    port
}

/// Runs a command on a thread of its own: the relay works meanwhile.
async fn run(cli: &Cli<'_>, code: i32, line: String) -> String {
    let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
    tokio::task::block_in_place(|| cli.ends(code, &words.iter().map(String::as_str).collect::<Vec<_>>()))
}

pub(super) async fn over_tls(cli: &Cli<'_>, node: &Node) {
    let authority = cli.dir.join("authority.pem");
    let port = relay(node, Some(certificates("localhost", &authority))).await;
    let at = format!("-a localhost:{port}");
    let trusting =
        Cli { dir: cli.dir, genesis: cli.genesis.clone(), socket: cli.socket.clone(), certificates: Some(authority) };
    has(&run(&trusting, 0, format!("control status {at}")).await, &["\"latest_height\""]);
    has(&run(&trusting, 0, format!("control is-synced {at}")).await, &["node completed initial syncing"]);
    has(&run(&trusting, 0, format!("stake info {at}")).await, &["Total supply: "]);
    has(&run(&trusting, 0, format!("registry node list {at}")).await, &["="]);
    run(&trusting, 0, format!("genesis dump --height 2 --genesis.file over-tls.json {at}")).await;
    run(&trusting, 0, format!("consensus next_block_state {at}")).await;
    // A certificate of somebody that nobody vouches for; a name that it is not for; no TLS where it is spoken.
    run(cli, super::QUERY_FAILED, format!("control status {at}")).await;
    run(&trusting, super::QUERY_FAILED, format!("control status -a 127.0.0.1:{port}")).await;
    run(&trusting, super::QUERY_FAILED, format!("control status -k -a 127.0.0.1:{port}")).await;

    let port = relay(node, None).await;
    has(&run(cli, 0, format!("control status -k -a 127.0.0.1:{port}")).await, &["\"latest_height\""]);
    // Without being asked for, TLS is not left out; nor is it beyond the loopback interface.
    run(cli, super::QUERY_FAILED, format!("control status -a 127.0.0.1:{port}")).await;
    let text = run(cli, super::QUERY_FAILED, format!("control status -k -a 192.0.2.1:{port}")).await;
    has(&text, &["not loopback"]);
}
