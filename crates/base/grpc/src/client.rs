//! Calls to a server.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

use crate::codec::{MAX_MESSAGE_BYTES, Opaque};
use crate::error::RpcError;
use crate::message::{Argument, Reply};
use crate::router::BoxStream;

/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A socket file: `unix:PATH`.
    Unix(PathBuf),
    /// `HOST:PORT`, without encryption.
    Tcp(String),
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

fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let inner = error.to_string();
        if !text.contains(&inner) {
            text = format!("{text}: {inner}");
        }
        source = error.source();
    }
    text
}

impl Client {
    /// Connects.
    pub async fn connect(address: &Address) -> Result<Self, ConnectError> {
        let uri = match address {
            Address::Unix(path) => format!("unix:{}", path.display()),
            Address::Tcp(address) => format!("http://{address}"),
        };
        let unreachable = |error: &dyn std::error::Error| ConnectError::Unreachable {
            address: address.to_string(),
            reason: chain_of(error),
        };
        let endpoint = Endpoint::from_shared(uri).map_err(|error| unreachable(&error))?;
        let channel = endpoint.connect_timeout(CONNECT_TIMEOUT).connect().await.map_err(|error| unreachable(&error))?;
        Ok(Self { channel })
    }

    fn grpc(&self) -> Grpc<Channel> {
        Grpc::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Calls a method with one answer; `service` is the full name.
    pub async fn call<A: Argument, R: Reply>(&self, service: &str, method: &str, argument: &A) -> Result<R, RpcError> {
        let (mut grpc, path) = (self.grpc(), path(service, method)?);
        ready(&mut grpc).await?;
        let request = Request::new(argument.to_message());
        let answer = grpc.unary(request, path, Opaque).await.map_err(|status| RpcError::from_status(&status))?;
        R::from_message(&answer.into_inner())
    }

    /// Calls a method with a stream of answers.
    pub async fn stream<A: Argument, R: Reply + Send + 'static>(
        &self,
        service: &str,
        method: &str,
        argument: &A,
    ) -> Result<BoxStream<R>, RpcError> {
        let (mut grpc, path) = (self.grpc(), path(service, method)?);
        ready(&mut grpc).await?;
        let request = Request::new(argument.to_message());
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
    grpc.ready().await.map_err(|error| RpcError::with(Code::Unavailable, chain_of(&error)))
}
