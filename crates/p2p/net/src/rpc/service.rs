//! Answering a protocol's methods.

use std::sync::Arc;
use std::time::Duration;

use base_codec::{Raw, cbor};
use libp2p_identity::PeerId;

use crate::api::{BoxFuture, Serve};
use crate::rpc::message::read;
use crate::rpc::{Request, Response, RpcError};

/// How long a method may take.
const HANDLE_TIME: Duration = Duration::from_secs(60);

/// The methods of a protocol.
pub trait Handler: Send + Sync {
    /// Answers a method. `body` is CBOR as the peer sent it; the answer is CBOR too ([`Raw::of`]).
    fn handle<'a>(&'a self, from: PeerId, method: &'a str, body: &'a Raw) -> BoxFuture<'a, Result<Raw, RpcError>>;
}

/// Makes a [`Handler`] something to [`serve`](crate::api::P2p::serve).
pub struct Service<H>(pub H);

impl<H: Handler + 'static> Service<H> {
    /// Ready to be served.
    pub fn shared(handler: H) -> Arc<dyn Serve> {
        Arc::new(Self(handler))
    }
}

impl<H: Handler> Service<H> {
    /// Answers a request, with a limit on how long the method may take.
    pub(crate) async fn answer(&self, from: PeerId, request: &[u8], limit: Duration) -> Option<Vec<u8>> {
        // A request that is none gets no answer.
        let request: Request = read(request).ok()?;
        let handled = tokio::time::timeout(limit, self.0.handle(from, &request.method, &request.body));
        let result = handled.await.unwrap_or_else(|_| Err(RpcError::unknown("context deadline exceeded")));
        let response = match result {
            Ok(ok) => Response { ok, error: None },
            Err(error) => Response { ok: Raw::default(), error: Some(error) },
        };
        Some(cbor::to_vec(&response))
    }
}

impl<H: Handler> Serve for Service<H> {
    fn serve<'a>(&'a self, from: PeerId, request: Vec<u8>) -> BoxFuture<'a, Option<Vec<u8>>> {
        Box::pin(async move { self.answer(from, &request, HANDLE_TIME).await })
    }
}
