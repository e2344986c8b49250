//! TCP with TLS or Noise and yamux, as the reference negotiates them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::io::{AsyncRead, AsyncWrite, IoSlice, IoSliceMut};
use libp2p_core::muxing::StreamMuxerBox;
use libp2p_core::transport::{Boxed, Transport};
use libp2p_core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo, Version};
use libp2p_identity::{Keypair, PeerId};

use crate::config::Security;

/// How long a connection may take from TCP to multiplexer, either way.
pub(crate) const HANDSHAKE_TIME: Duration = Duration::from_secs(15);

const TLS: &str = "/tls/1.0.0";
const NOISE: &str = "/noise";

/// Why the node's own certificate or keys could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The TLS certificate.
    #[error("making the TLS certificate: {0}")]
    Tls(String),
    /// The Noise key.
    #[error("making the Noise key: {0}")]
    Noise(String),
}

/// The transport of a key.
pub(crate) fn build(key: &Keypair, security: Security) -> Result<Boxed<(PeerId, StreamMuxerBox)>, TransportError> {
    let tls = match security {
        Security::NoiseOnly => None,
        _ => Some(libp2p_tls::Config::new(key).map_err(|e| TransportError::Tls(e.to_string()))?),
    };
    let noise = match security {
        Security::TlsOnly => None,
        _ => Some(libp2p_noise::Config::new(key).map_err(|e| TransportError::Noise(e.to_string()))?),
    };
    Ok(libp2p_tcp::tokio::Transport::new(libp2p_tcp::Config::new().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(Secure { tls, noise })
        .multiplex(libp2p_yamux::Config::default())
        .timeout(HANDSHAKE_TIME)
        .boxed())
}

/// Offers TLS, then Noise, and takes either.
#[derive(Clone)]
struct Secure {
    tls: Option<libp2p_tls::Config>,
    noise: Option<libp2p_noise::Config>,
}

/// The secured connection.
enum Channel<C> {
    Tls(Box<libp2p_tls::TlsStream<C>>),
    Noise(Box<libp2p_noise::Output<C>>),
}

impl UpgradeInfo for Secure {
    type Info = &'static str;
    type InfoIter = std::vec::IntoIter<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        let tls = self.tls.as_ref().map(|_| TLS);
        let noise = self.noise.as_ref().map(|_| NOISE);
        tls.into_iter().chain(noise).collect::<Vec<_>>().into_iter()
    }
}

fn unoffered<T>(name: &str) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::Unsupported, format!("{name} was not offered")))
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> InboundConnectionUpgrade<C> for Secure {
    type Output = (PeerId, Channel<C>);
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Output>>;

    fn upgrade_inbound(self, socket: C, info: &'static str) -> Self::Future {
        Box::pin(async move {
            match (info, self.tls, self.noise) {
                (TLS, Some(tls), _) => {
                    let (peer, stream) = tls.upgrade_inbound(socket, info).await.map_err(io::Error::other)?;
                    Ok((peer, Channel::Tls(Box::new(stream))))
                }
                (NOISE, _, Some(noise)) => {
                    let (peer, stream) = noise.upgrade_inbound(socket, info).await.map_err(io::Error::other)?;
                    Ok((peer, Channel::Noise(Box::new(stream))))
                }
                _ => unoffered(info),
            }
        })
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> OutboundConnectionUpgrade<C> for Secure {
    type Output = (PeerId, Channel<C>);
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Output>>;

    fn upgrade_outbound(self, socket: C, info: &'static str) -> Self::Future {
        Box::pin(async move {
            match (info, self.tls, self.noise) {
                (TLS, Some(tls), _) => {
                    let (peer, stream) = tls.upgrade_outbound(socket, info).await.map_err(io::Error::other)?;
                    Ok((peer, Channel::Tls(Box::new(stream))))
                }
                (NOISE, _, Some(noise)) => {
                    let (peer, stream) = noise.upgrade_outbound(socket, info).await.map_err(io::Error::other)?;
                    Ok((peer, Channel::Noise(Box::new(stream))))
                }
                _ => unoffered(info),
            }
        })
    }
}

macro_rules! forward {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Channel::Tls(stream) => {
                let $stream = Pin::new(stream.as_mut());
                $call
            }
            Channel::Noise(stream) => {
                let $stream = Pin::new(stream.as_mut());
                $call
            }
        }
    };
}

impl<C: AsyncRead + AsyncWrite + Unpin> AsyncRead for Channel<C> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        forward!(self, stream => stream.poll_read(cx, buf))
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        forward!(self, stream => stream.poll_read_vectored(cx, bufs))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Channel<C> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        forward!(self, stream => stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        forward!(self, stream => stream.poll_write_vectored(cx, bufs))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, stream => stream.poll_flush(cx))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, stream => stream.poll_close(cx))
    }
}
