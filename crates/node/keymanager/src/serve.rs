//! Calls of peers into the enclave. Source: `go/worker/keymanager/{worker,handler}.go`, `go/worker/keymanager/p2p/server.go`.

use std::sync::Arc;
use std::time::Duration;

use base_codec::{Bytes, Raw, cbor};
use base_metrics::table;
use p2p_net::PeerId;
use p2p_net::api::BoxFuture;
use p2p_net::rpc::{Handler, RpcError};
use rt_host::HostError;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use wire_runtime::Body;
use wire_runtime::enclave_rpc::{Frame, Kind, Request};
use wire_runtime::runtime::RpcCallRequest;

use crate::protocol::{CallEnclaveRequest, CallEnclaveResponse, METHOD_CALL_ENCLAVE};
use crate::shared::Shared;

/// How long the enclave may take for a peer's call.
pub const ENCLAVE_CALL_TIME: Duration = Duration::from_secs(2);
/// Calls of peers that are in the enclave at once; further ones are refused.
pub const MAX_SERVED_CALLS: usize = 128;

/// Answers the key manager's protocol.
pub(crate) struct EnclaveCalls {
    shared: Arc<Shared>,
    room: Semaphore,
}

fn refuse<T>(text: &str) -> Result<T, RpcError> {
    Err(RpcError::unknown(text))
}

/// The method that a call names, as far as nodes can see it.
fn method_of(kind: Kind, data: &[u8]) -> Result<String, RpcError> {
    match kind {
        Kind::NOISE_SESSION => match cbor::from_slice::<Frame>(data) {
            Ok(frame) => Ok(frame.untrusted_plaintext),
            Err(_) => refuse("malformed RPC frame"),
        },
        Kind::INSECURE_QUERY => match cbor::from_slice::<Request>(data) {
            Ok(request) => Ok(request.method),
            Err(_) => refuse("malformed RPC request"),
        },
        // Local queries are the node's own.
        _ => refuse("unsupported RPC kind"),
    }
}

impl EnclaveCalls {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, room: Semaphore::new(MAX_SERVED_CALLS) }
    }

    async fn call(&self, from: PeerId, request: CallEnclaveRequest) -> Result<Option<Bytes>, RpcError> {
        let kind = request.kind;
        let method = method_of(kind, request.data.as_ref().map_or(&[], |data| data.as_slice()))?;
        self.shared.authorize(&method, kind, &from).or_else(|denied| {
            tracing::debug!(module = "worker/keymanager", peer_id = %from, method, kind = %kind, err = %denied,
                "call of the enclave refused");
            refuse(&denied.to_string())
        })?;
        let Ok(_permit) = self.room.try_acquire() else { return refuse("too many calls") };
        let call = RpcCallRequest { request: request.data, kind, peer_id: Bytes(from.to_bytes()) };
        let answer = timeout(ENCLAVE_CALL_TIME, self.shared.host.call(Body::RuntimeRPCCallRequest(call))).await;
        match answer {
            Ok(Ok(Body::RuntimeRPCCallResponse(answer))) => Ok(answer.response),
            Ok(Ok(_)) => refuse("malformed response from runtime"),
            Ok(Err(HostError::Runtime(error))) => Err(RpcError::new(&error.module, error.code, &error.message)),
            Ok(Err(error)) => refuse(&error.to_string()),
            Err(_) => refuse("enclave did not answer in time"),
        }
    }
}

impl Handler for EnclaveCalls {
    fn handle<'a>(&'a self, from: PeerId, method: &'a str, body: &'a Raw) -> BoxFuture<'a, Result<Raw, RpcError>> {
        Box::pin(async move {
            if method != METHOD_CALL_ENCLAVE {
                table::WORKER_KEYMANAGER_ENCLAVE_RPC_COUNT.with(&["unsupported"]).inc();
                return Err(RpcError::unsupported_method());
            }
            table::WORKER_KEYMANAGER_ENCLAVE_RPC_COUNT.with(&[METHOD_CALL_ENCLAVE]).inc();
            let request = cbor::from_slice(&body.0).map_err(|_| RpcError::bad_request())?;
            let data = self.call(from, request).await?;
            Ok(Raw::of(&CallEnclaveResponse { data }))
        })
    }
}

#[cfg(test)]
mod tests;
