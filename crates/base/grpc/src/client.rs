//! Calls to a server.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use base_metrics::table;
use base_service::chain;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

use crate::codec::{MAX_MESSAGE_BYTES, Opaque};
use crate::error::RpcError;
use crate::message::{Argument, Reply};
use crate::router::BoxStream;
use crate::tls::ClientTls;

/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A socket file: `unix:PATH`.
    Unix(PathBuf),
    /// `HOST:PORT`.
    Tcp(String),
}

/// How a connection comes up whenever it is needed: a socket, and TLS on it.
#[derive(Clone)]
struct Connector {
    address: Address,
    tls: Option<ClientTls>,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}
type Connected = TokioIo<Box<dyn Io>>;

async fn open(address: Address, tls: Option<ClientTls>) -> std::io::Result<Connected> {
    let host = match &address {
        Address::Unix(path) => return Ok(TokioIo::new(Box::new(UnixStream::connect(path).await?))),
        Address::Tcp(host) => host,
    };
    let stream = TcpStream::connect(host).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok(TokioIo::new(Box::new(stream))) };
    let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = rustls::pki_types::ServerName::try_from(name).map_err(std::io::Error::other)?;
    let stream = TlsConnector::from(tls.0).connect(name, stream).await?;
    Ok(TokioIo::new(Box::new(stream)))
}

impl tower_service::Service<http::Uri> for Connector {
    type Response = Connected;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Connected>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        Box::pin(open(self.address.clone(), self.tls.clone()))
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address can't be used.
    #[error("malformed address {0:?}: expected unix:PATH or HOST:PORT")]
    Address(String),
    /// Nobody answers.
    #[error("no node answers at {address}: {reason}")]
    Unreachable {
        /// The address.
        address: String,
        /// Why.
        reason: String,
    },
}

impl FromStr for Address {
    type Err = ConnectError;

    fn from_str(text: &str) -> Result<Self, ConnectError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        let port = text.rsplit_once(':').map(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if port == Some(true) { Ok(Self::Tcp(text.to_owned())) } else { Err(ConnectError::Address(text.to_owned())) }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => f.write_str(address),
        }
    }
}

/// A connection that is made anew when it breaks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
}

impl Client {
    /// Connects without encryption.
    pub async fn connect(address: &Address) -> Result<Self, ConnectError> {
        Self::open(address, None).await
    }

    /// Connects over TLS; a socket file needs none and has none.
    pub async fn connect_tls(address: &Address, tls: ClientTls) -> Result<Self, ConnectError> {
        Self::open(address, Some(tls)).await
    }

    async fn open(address: &Address, tls: Option<ClientTls>) -> Result<Self, ConnectError> {
        let unreachable = |error: &dyn std::error::Error| ConnectError::Unreachable {
            address: address.to_string(),
            reason: chain(error),
        };
        // The scheme is not looked at; the authority is what servers are told.
        let uri = match address {
            Address::Unix(_) => "http://localhost".to_owned(),
            Address::Tcp(host) => format!("http://{host}"),
        };
        let connector = Connector { address: address.clone(), tls };
        let endpoint = Endpoint::from_shared(uri).map_err(|error| unreachable(&error))?;
        let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT);
        let connected = endpoint.connect_with_connector(connector);
        // The endpoint's own limit covers the socket, not the handshake on it.
        match tokio::time::timeout(CONNECT_TIMEOUT, connected).await {
            Ok(Ok(channel)) => Ok(Self { channel }),
            Ok(Err(error)) => Err(unreachable(&error)),
            Err(error) => Err(unreachable(&error)),
        }
    }

    fn grpc(&self) -> Grpc<Channel> {
        Grpc::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Calls a method with one answer; `service` is the full name.
    pub async fn call<A: Argument, R: Reply>(&self, service: &str, method: &str, argument: &A) -> Result<R, RpcError> {
        let (mut grpc, path) = (self.grpc(), path(service, method)?);
        let (name, began) = (path.as_str().to_owned(), Instant::now());
        table::GRPC_CLIENT_CALLS.with(&[&name]).inc();
        ready(&mut grpc).await?;
        let request = Request::new(argument.to_message());
        let answer = grpc.unary(request, path, Opaque).await;
        table::GRPC_CLIENT_LATENCY.with(&[&name]).observe_time(began.elapsed());
        R::from_message(&answer.map_err(|status| RpcError::from_status(&status))?.into_inner())
    }

    /// Calls a method with a stream of answers.
    pub async fn stream<A: Argument, R: Reply + Send + 'static>(
        &self,
        service: &str,
        method: &str,
        argument: &A,
    ) -> Result<BoxStream<R>, RpcError> {
        let (mut grpc, path) = (self.grpc(), path(service, method)?);
        table::GRPC_CLIENT_CALLS.with(&[path.as_str()]).inc();
        ready(&mut grpc).await?;
        let request = Request::new(argument.to_message());
        table::GRPC_CLIENT_STREAM_WRITES.with(&[path.as_str()]).inc();
        let answers =
            grpc.server_streaming(request, path, Opaque).await.map_err(|status| RpcError::from_status(&status))?;
        let decoded = answers.into_inner().map(|answer: Result<Bytes, _>| match answer {
            Ok(bytes) => R::from_message(&bytes),
            Err(status) => Err(RpcError::from_status(&status)),
        });
        Ok(Box::pin(decoded))
    }
}

fn path(service: &str, method: &str) -> Result<PathAndQuery, RpcError> {
    PathAndQuery::try_from(format!("/{service}/{method}"))
        .map_err(|error| RpcError::with(Code::InvalidArgument, error.to_string()))
}

async fn ready(grpc: &mut Grpc<Channel>) -> Result<(), RpcError> {
    grpc.ready().await.map_err(|error| RpcError::with(Code::Unavailable, chain(&error)))
}
