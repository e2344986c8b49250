//! The pool as the hosted runtime and its off-chain components see it, which is made after the host.

use std::sync::{Arc, OnceLock, Weak};

use base_codec::Bytes;
use base_grpc::RpcError;
use base_prims::{Hash, Namespace};
use node_executor::Executor;
use rt_host::api::BoxFuture;
use rt_host::services::{Scheduling, Served, Submission};
use wire_consensus::errors::runtime_client as codes;
use wire_runtime::Error;
use wire_runtime::client::SubmitTxMetaResponse;
use wire_runtime::error::UNKNOWN;
use wire_runtime::host::{SubmitTxRequest, SubmitTxResponse};

use crate::client::{Client, coded, coded_with};

/// Asks the executor once there is one.
#[derive(Default)]
pub(crate) struct LateScheduling(OnceLock<Weak<Executor>>);

impl LateScheduling {
    pub(crate) fn set(&self, executor: &Arc<Executor>) {
        // Set once, when the runtime is put together.
        let _ = self.0.set(Arc::downgrade(executor));
    }
}

impl Scheduling for LateScheduling {
    fn more_transactions(&self, offset: Option<Hash>, limit: u32) -> Served<Vec<Bytes>> {
        match self.0.get().and_then(Weak::upgrade) {
            Some(executor) => executor.more_transactions(offset, limit),
            None => Err(Error::method_not_supported()),
        }
    }
}

/// Takes transactions of one runtime.
pub(crate) trait Submits: Send + Sync {
    /// Submits one and waits for its round.
    fn meta(&self, tx: Vec<u8>) -> BoxFuture<'_, Result<SubmitTxMetaResponse, RpcError>>;
    /// Submits one.
    fn no_wait(&self, tx: Vec<u8>) -> BoxFuture<'_, Result<(), RpcError>>;
}

impl Submits for Client {
    fn meta(&self, tx: Vec<u8>) -> BoxFuture<'_, Result<SubmitTxMetaResponse, RpcError>> {
        Box::pin(self.submit_meta(tx))
    }

    fn no_wait(&self, tx: Vec<u8>) -> BoxFuture<'_, Result<(), RpcError>> {
        Box::pin(self.submit_no_wait(tx))
    }
}

/// Submits transactions of off-chain components to their own runtime, once there is somebody who takes them.
/// Source: `go/runtime/registry/handler_rofl.go`.
pub(crate) struct LateSubmission {
    runtime: Namespace,
    taker: OnceLock<Weak<dyn Submits>>,
}

impl LateSubmission {
    pub(crate) fn new(runtime: Namespace) -> Self {
        Self { runtime, taker: OnceLock::new() }
    }

    pub(crate) fn set(&self, taker: &Arc<impl Submits + 'static>) {
        let taker: Weak<dyn Submits> = Arc::downgrade(taker) as _;
        // Set once, when the runtime is put together.
        let _ = self.taker.set(taker);
    }

    async fn submit(&self, request: SubmitTxRequest) -> Result<SubmitTxResponse, RpcError> {
        let taker = self.taker.get().and_then(Weak::upgrade).filter(|_| request.runtime_id == self.runtime);
        let taker = taker.ok_or_else(|| coded(&codes::NO_HOSTED_RUNTIME))?;
        let tx = request.data.unwrap_or_default().0;
        if request.wait != Some(true) {
            taker.no_wait(tx).await?;
            return Ok(SubmitTxResponse::default());
        }
        let meta = taker.meta(tx).await?;
        match meta.check_tx_error {
            Some(error) => Err(coded_with(&codes::CHECK_TX_FAILED, error)),
            None => Ok(SubmitTxResponse {
                output: meta.output.unwrap_or_default(),
                round: meta.round,
                batch_order: meta.batch_order,
                proof: None,
            }),
        }
    }
}

impl Submission for LateSubmission {
    fn submit(&self, request: SubmitTxRequest) -> BoxFuture<'_, Served<SubmitTxResponse>> {
        Box::pin(async move {
            Self::submit(self, request).await.map_err(|error| match error.detail {
                Some((module, code)) => Error { module, code, message: error.message },
                None => Error::new(UNKNOWN, error.message),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    /// Notes what it is given; refuses what begins with a zero.
    #[derive(Default)]
    struct Taker(Mutex<Vec<(Vec<u8>, bool)>>);

    impl Submits for Taker {
        fn meta(&self, tx: Vec<u8>) -> BoxFuture<'_, Result<SubmitTxMetaResponse, RpcError>> {
            let refused = tx.first() == Some(&0);
            self.0.lock().push((tx, true));
            let check_tx_error = refused.then(|| Error::new(UNKNOWN, "no"));
            Box::pin(async {
                Ok(SubmitTxMetaResponse { output: Some(Bytes(vec![9])), round: 5, batch_order: 2, check_tx_error })
            })
        }

        fn no_wait(&self, tx: Vec<u8>) -> BoxFuture<'_, Result<(), RpcError>> {
            self.0.lock().push((tx, false));
            Box::pin(async { Err(coded(&codes::NOT_SYNCED)) })
        }
    }

    #[tokio::test]
    async fn components_submit_to_their_own_runtime() {
        let (own, other) = (Namespace::from_bytes_unchecked([1; 32]), Namespace::from_bytes_unchecked([2; 32]));
        let late: Arc<LateSubmission> = Arc::new(LateSubmission::new(own));
        let request = |runtime_id, data: &[u8], wait| SubmitTxRequest {
            runtime_id,
            data: Some(Bytes(data.to_vec())),
            wait,
            prove: None,
        };
        let submit = |request| Submission::submit(&*late, request);
        let none = codes::NO_HOSTED_RUNTIME;
        let error = submit(request(own, b"a", Some(true))).await.unwrap_err();
        assert_eq!((&*error.module, error.code), (none.module, none.code), "nobody yet");
        let taker = Arc::new(Taker::default());
        late.set(&taker);
        assert!(submit(request(other, b"a", Some(true))).await.is_err());
        let answer = submit(request(own, b"a", Some(true))).await.unwrap();
        assert_eq!((answer.output.0, answer.round, answer.batch_order), (vec![9], 5, 2));
        let error = submit(request(own, b"\0", Some(true))).await.unwrap_err();
        assert_eq!((&*error.module, error.code), (codes::CHECK_TX_FAILED.module, codes::CHECK_TX_FAILED.code));
        let error = submit(request(own, b"b", None)).await.unwrap_err();
        assert_eq!((&*error.module, error.code), (codes::NOT_SYNCED.module, codes::NOT_SYNCED.code));
        let seen = std::mem::take(&mut *taker.0.lock());
        assert_eq!(seen, [(b"a".to_vec(), true), (b"\0".to_vec(), true), (b"b".to_vec(), false)]);
    }
}
