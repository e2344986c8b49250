//! Sockets to listen on, and serving a router on them.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::authority::UnixClient;
use crate::router::{Caller, Router};
use crate::sni;
use crate::tls::ServerTls;

/// Most connections at once.
const MAX_CONNECTIONS: usize = 1024;
/// Most calls at once on a connection.
const MAX_STREAMS: u32 = 1024;
/// How long calls under way may go on when the server stops. Source: `go/common/grpc`.
const DRAIN: Duration = Duration::from_secs(5);
/// How long the TLS handshake of a connection may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Pause after the machine refused a connection for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A socket that is listened on.
#[derive(Debug)]
pub struct Listener(Kind);

#[derive(Debug)]
enum Kind {
    Unix(UnixListener, PathBuf),
    Tcp(TcpListener, Option<ServerTls>),
}

impl Listener {
    /// Listens on a path that only this user may use. A socket that nobody listens on, or an empty file, is replaced; any
    /// other file, and a socket that somebody listens on, is an error.
    pub fn unix(path: &Path) -> io::Result<Self> {
        match std::fs::symlink_metadata(path) {
            Ok(metadata) if metadata.file_type().is_socket() => {
                if std::os::unix::net::UnixStream::connect(path).is_ok() {
                    let text = format!("{} is in use: is the node running already?", path.display());
                    return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
                }
                std::fs::remove_file(path)?;
            }
            // Whoever reserved the name with an empty file loses nothing.
            Ok(metadata) if metadata.is_file() && metadata.len() == 0 => std::fs::remove_file(path)?,
            Ok(_) => {
                let text = format!("{} exists and is no socket: move it away", path.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
        Ok(Self(Kind::Unix(listener, path.to_owned())))
    }

    /// Listens on an address without encryption: for loopback.
    pub async fn tcp(address: SocketAddr) -> io::Result<Self> {
        Ok(Self(Kind::Tcp(TcpListener::bind(address).await?, None)))
    }

    /// Listens on an address with TLS.
    pub async fn tls(address: SocketAddr, tls: ServerTls) -> io::Result<Self> {
        Ok(Self(Kind::Tcp(TcpListener::bind(address).await?, Some(tls))))
    }

    /// The TCP address.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.0 {
            Kind::Tcp(listener, _) => listener.local_addr().ok(),
            Kind::Unix(..) => None,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Kind::Unix(_, path) = &self.0 {
            // It may be gone already; a stale socket is replaced at the next start.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Serves until stopped; then calls under way have five seconds to end.
pub async fn serve(listener: Listener, router: Arc<Router>, stop: CancellationToken) {
    each_connection(listener, stop, |accepted, stop| connection(accepted, router.clone(), stop)).await;
}

/// Runs a handler for each connection until stopped and drained.
pub(crate) async fn each_connection<F>(
    listener: Listener,
    stop: CancellationToken,
    handler: impl Fn(Accepted, CancellationToken) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { break };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener) => accepted,
        };
        match accepted {
            Ok(accepted) => {
                let handled = handler(accepted, stop.clone());
                connections.spawn(async move {
                    handled.await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(module = "grpc", err = %error, "failed to accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    // What is left after that is dropped with the set.
    let _ = tokio::time::timeout(DRAIN, drained).await;
}

/// A connection before its handshake, if it has one.
pub(crate) enum Accepted {
    Unix(UnixStream),
    Tcp(TcpStream, Option<ServerTls>),
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn accept(listener: &Listener) -> io::Result<Accepted> {
    match &listener.0 {
        Kind::Unix(listener, _) => Ok(Accepted::Unix(listener.accept().await?.0)),
        Kind::Tcp(listener, tls) => {
            let stream = listener.accept().await?.0;
            stream.set_nodelay(true)?;
            Ok(Accepted::Tcp(stream, tls.clone()))
        }
    }
}

impl Accepted {
    /// The stream to speak HTTP on, and who is at its other end.
    pub(crate) async fn open(self) -> io::Result<(Box<dyn Stream>, Caller)> {
        let (stream, tls) = match self {
            Self::Unix(stream) => return Ok((Box::new(UnixClient::new(stream)), Caller::default())),
            Self::Tcp(stream, None) => return Ok((Box::new(stream), Caller::default())),
            Self::Tcp(stream, Some(tls)) => (stream, tls),
        };
        let shaking = async {
            // The name is remembered until the handshake is over.
            let (stream, _name) = sni::begin(stream).await?;
            TlsAcceptor::from(tls.0).accept(stream).await
        };
        let shaken = tokio::time::timeout(HANDSHAKE, shaking).await;
        let stream = shaken.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let tls_key = certificate.and_then(|certificate| base_identity::certificate_key(certificate));
        Ok((Box::new(stream), Caller { tls_key }))
    }
}

async fn connection(accepted: Accepted, router: Arc<Router>, stop: CancellationToken) {
    let opened = tokio::select! {
        opened = accepted.open() => opened,
        () = stop.cancelled() => return,
    };
    let (stream, caller) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            tracing::debug!(module = "grpc", err = %error, "connection refused");
            return;
        }
    };
    let service = service_fn(move |request| {
        let (router, caller) = (router.clone(), caller.clone());
        async move { router.answer(request, caller).await }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .keep_alive_interval(Some(Duration::from_secs(600)))
        .keep_alive_timeout(Duration::from_secs(20));
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(module = "grpc", err = %error, "connection ended");
    }
}
