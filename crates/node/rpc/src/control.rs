//! `NodeController`: the node itself. Source: `go/control/api`, `go/oasis-node/cmd/node/{node,seed}_control.go`.

use std::sync::Arc;

use base_grpc::{Cbor, Code, Router, RpcError};
use tokio::sync::watch;
use wire_consensus::upgrade::Descriptor;

use crate::backend::{Backend, Control, NotImplemented};
use crate::consensus;
use crate::serve::service;
use crate::status::Status;

const NAME: &str = "NodeController";

/// Runs something of the node's that may read or write disk.
async fn blocking<T: Send + 'static>(
    control: Arc<dyn Control>,
    run: impl FnOnce(&dyn Control) -> Result<T, RpcError> + Send + 'static,
) -> Result<T, RpcError> {
    let running = tokio::task::spawn_blocking(move || run(control.as_ref()));
    running.await.map_err(|_| RpcError::with(Code::Internal, "call ended unexpectedly"))?
}

/// Waits until it is `true`.
async fn wait(seen: Option<watch::Receiver<bool>>) -> Result<(), RpcError> {
    let mut seen = seen.ok_or(NotImplemented)?;
    let stopped = |_| RpcError::with(Code::Unavailable, "node is shutting down");
    seen.wait_for(|is| *is).await.map(|_| ()).map_err(stopped)
}

fn now(seen: Option<watch::Receiver<bool>>) -> Result<Cbor<bool>, RpcError> {
    Ok(Cbor(*seen.ok_or(NotImplemented)?.borrow()))
}

/// What a seed node serves: its status and its end; all else is not implemented there.
pub fn seed_router(control: Arc<dyn Control>) -> Router {
    let mut router = router(Arc::clone(&control));
    router.merge(status_router(control));
    router
}

/// The status alone, of a node that has no more yet.
pub fn status_router(control: Arc<dyn Control>) -> Router {
    let mut router = Router::new();
    router.unary(&service(NAME), "GetStatus", move |()| {
        let control = Arc::clone(&control);
        async move { blocking(control, |control| Ok(Cbor(control.status()))).await }
    });
    router
}

/// All methods but `GetStatus`.
pub(crate) fn router(control: Arc<dyn Control>) -> Router {
    let (mut router, name) = (Router::new(), service(NAME));
    let c = Arc::clone(&control);
    router.unary(&name, "RequestShutdown", move |Cbor(wait): Cbor<bool>| {
        let control = Arc::clone(&c);
        async move { control.request_shutdown(wait).await }
    });
    let c = Arc::clone(&control);
    router.unary(&name, "WaitSync", move |()| wait(c.synced()));
    let c = Arc::clone(&control);
    router.unary(&name, "WaitReady", move |()| wait(c.ready()));
    let c = Arc::clone(&control);
    router.unary(&name, "IsSynced", move |()| std::future::ready(now(c.synced())));
    let c = Arc::clone(&control);
    router.unary(&name, "IsReady", move |()| std::future::ready(now(c.ready())));
    let c = Arc::clone(&control);
    router.unary(&name, "UpgradeBinary", move |Cbor(descriptor): Cbor<Descriptor>| {
        blocking(Arc::clone(&c), move |control| control.upgrade_binary(descriptor))
    });
    let c = Arc::clone(&control);
    router.unary(&name, "CancelUpgrade", move |Cbor(descriptor): Cbor<Descriptor>| {
        blocking(Arc::clone(&c), move |control| control.cancel_upgrade(descriptor))
    });
    router.unary(&name, "AddBundle", move |Cbor(path): Cbor<String>| {
        let control = Arc::clone(&control);
        async move { control.add_bundle(path).await }
    });
    router
}

/// `GetStatus` of a node that has the consensus layer.
pub(crate) fn add_status(router: &mut Router, backend: &Arc<Backend>) {
    let backend = Arc::clone(backend);
    router.unary(&service(NAME), "GetStatus", move |()| {
        let backend = Arc::clone(&backend);
        async move {
            let status = backend.read(|backend| {
                let consensus = Some(consensus::status(backend));
                Ok(Cbor(Status { consensus, ..backend.control.status() }))
            });
            status.await
        }
    });
}
