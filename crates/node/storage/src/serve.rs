//! Answering peers. What is answered is `rt_storage::Server`'s.

use std::sync::Arc;

use base_codec::Raw;
use p2p_net::api::{BoxFuture, P2p, PeerId};
use p2p_net::ids::{self, Spec};
use p2p_net::rpc::{Handler, RpcError, Service};
use rt_storage::{ServeError, Server};
use tokio::sync::Semaphore;

use crate::error::StoreError;
use crate::store::RuntimeStore;

/// Most requests of a runtime's peers that are worked on at once, over all protocols: each may take as much memory as an
/// answer has bytes.
pub const MAX_SERVED_AT_ONCE: usize = 8;

type Method = fn(&Server, &str, &Raw) -> Result<Raw, ServeError>;

struct Answers {
    server: Arc<Server>,
    method: Method,
    permits: Arc<Semaphore>,
}

impl Handler for Answers {
    fn handle<'a>(&'a self, _: PeerId, method: &'a str, body: &'a Raw) -> BoxFuture<'a, Result<Raw, RpcError>> {
        Box::pin(async move {
            let busy = || RpcError::unknown("storage is busy");
            // Held until the thread is done, even if nobody waits for the answer any more.
            let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| busy())?;
            let (server, answer, name, body) = (Arc::clone(&self.server), self.method, method.to_owned(), body.clone());
            let answered = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                answer(&server, &name, &body)
            });
            let answered = answered.await.map_err(|_| busy())?;
            answered.map_err(|e: ServeError| RpcError::new(e.module, e.code, &e.message))
        })
    }
}

/// Begins to answer the protocols that the configuration wants answered, and has peers for those that are asked kept
/// connected.
pub(crate) fn register(store: &RuntimeStore) -> Result<(), StoreError> {
    let Some(p2p) = &store.setup.p2p else { return Ok(()) };
    let Some(state) = &store.state else {
        track(&**p2p, store, &ids::STORAGE_PUB);
        return Ok(());
    };
    let config = &store.setup.config.storage;
    let server = Arc::new(Server::new((*state.storage).clone(), Some(state.files.clone())));
    let permits = Arc::new(Semaphore::new(MAX_SERVED_AT_ONCE));
    let serve = |spec: &Spec, method: Method| {
        let answers = Answers { server: Arc::clone(&server), method, permits: Arc::clone(&permits) };
        let protocol = spec.of_runtime(&store.setup.chain_context, &store.setup.runtime);
        p2p.serve(protocol, Service::shared(answers))
    };
    serve(&ids::STORAGE_SYNC, Server::storage_sync)?;
    serve(&ids::DIFF_SYNC, Server::diff_sync)?;
    if config.checkpointer.enabled {
        serve(&ids::CHECKPOINT_SYNC, Server::checkpoint_sync)?;
    }
    if config.public_rpc_enabled {
        serve(&ids::STORAGE_PUB, Server::storage_pub)?;
    }
    for spec in [&ids::STORAGE_SYNC, &ids::DIFF_SYNC, &ids::CHECKPOINT_SYNC] {
        track(&**p2p, store, spec);
    }
    Ok(())
}

fn track(p2p: &dyn P2p, store: &RuntimeStore, spec: &Spec) {
    let protocol = spec.of_runtime(&store.setup.chain_context, &store.setup.runtime);
    p2p.track(&protocol, spec.min_peers, spec.total_peers);
}
