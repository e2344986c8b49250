//! `DebugController`: methods for test networks. Source: `go/control/api`, `go/oasis-node/cmd/node/node_debug.go`.

use std::sync::Arc;

use apps_committees::registry::query;
use base_grpc::{Cbor, Code, Router, RpcError};
use base_prims::Epoch;

use crate::backend::{Backend, service_error};
use crate::beacon::wait_epoch;
use crate::serve::service;

const NAME: &str = "DebugController";

pub(crate) fn add(router: &mut Router, backend: &Arc<Backend>) {
    let name = service(NAME);
    let b = Arc::clone(backend);
    router.unary(&name, "SetEpoch", move |Cbor(epoch): Cbor<Epoch>| {
        let backend = Arc::clone(&b);
        async move {
            backend.control.set_epoch(epoch).await?;
            wait_epoch(backend, epoch).await
        }
    });
    let b = Arc::clone(backend);
    router.unary(&name, "WaitNodesRegistered", move |Cbor(count): Cbor<i64>| wait_nodes(Arc::clone(&b), count));
}

/// Ready once that many nodes are registered.
async fn wait_nodes(backend: Arc<Backend>, count: i64) -> Result<(), RpcError> {
    let wanted = usize::try_from(count).unwrap_or(0);
    let mut latest = backend.queries.watch();
    loop {
        let height = latest.borrow_and_update().height;
        if height > 0 {
            let nodes = backend.read(|backend| {
                let nodes = query::nodes(&backend.state(0)?).map_err(|error| service_error(&error))?;
                Ok(nodes.len())
            });
            if nodes.await? >= wanted {
                return Ok(());
            }
        }
        tokio::select! {
            changed = latest.changed() => if changed.is_ok() { continue },
            () = backend.stop.cancelled() => {}
        }
        return Err(RpcError::with(Code::Unavailable, "node is shutting down"));
    }
}
