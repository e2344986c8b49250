//! Streams that follow the chain.

use std::collections::VecDeque;
use std::sync::Arc;

use apps_core::events;
use base_grpc::{BoxStream, Cbor, RpcError};
use base_prims::Hash;
use comet_chain::app::{BlockResults, Event};
use futures_util::stream;
use tokio::sync::broadcast::error::RecvError;
use wire_cometbft::block::Block;
use wire_consensus::events::TypedEvent;

use crate::backend::{Applied, Backend, Feed, store_error};
use crate::serve::Item;

impl Applied {
    /// From the stores.
    pub(crate) fn load(backend: &Backend, height: i64) -> Result<Self, RpcError> {
        let (block, results) = (load_block(backend, height)?, load_results(backend, height)?);
        Ok(Self { height, block: Arc::new(block), results: Arc::new(results) })
    }

    /// The events of a service, as `read` understands them.
    pub(crate) fn events<T>(
        &self,
        read: impl Fn(i64, Hash, &Event) -> apps_core::Result<Vec<T>>,
    ) -> apps_core::Result<Vec<T>> {
        events::of_block(&self.block.data.txs, &self.results, |tx, event| read(self.height, tx, event))
    }

    /// The events of one kind of a service.
    pub(crate) fn typed<E: TypedEvent + base_codec::cbor::Decode>(&self, service: &str) -> apps_core::Result<Vec<E>> {
        self.events(|_, _, event| {
            let attributes = events::attributes(service, event).into_iter().flatten();
            attributes.filter_map(|attribute| attribute.typed::<E>().transpose()).collect()
        })
    }
}

/// A block, from the store.
pub(crate) fn load_block(backend: &Backend, height: i64) -> Result<Block, RpcError> {
    let blocks = backend.engine.blocks();
    blocks.block(height).map_err(store_error)?.ok_or_else(|| missing("block", backend, height))
}

/// The results of a block, from the store.
pub(crate) fn load_results(backend: &Backend, height: i64) -> Result<BlockResults, RpcError> {
    let results = backend.engine.blocks().results(height).map_err(store_error)?;
    results.ok_or_else(|| missing("block results", backend, height))
}

fn missing(what: &str, backend: &Backend, height: i64) -> RpcError {
    let (base, latest) = (backend.engine.blocks().base(), backend.queries.latest().height);
    store_error(format!("{what} query failed: height {height} is not available (available: {base} to {latest})"))
}

/// What a stream shows.
pub(crate) struct Watched<S, F> {
    /// The items to begin with, and the height they are of.
    pub(crate) first: S,
    /// The items of a block.
    pub(crate) items: F,
}

struct Follower<A, T, S, F> {
    backend: Arc<Backend>,
    argument: Arc<A>,
    watched: Arc<Watched<S, F>>,
    blocks: Box<dyn Feed>,
    // Height of the block to show next.
    next: i64,
    // A block that came; those from `next` to it are shown first.
    came: Option<Applied>,
    ready: VecDeque<T>,
    failed: bool,
}

/// A stream of items of blocks. What a slow reader misses of the announcements is read from the stores.
pub(crate) async fn follow<A, T, S, F>(
    backend: Arc<Backend>,
    argument: A,
    watched: Arc<Watched<S, F>>,
) -> Result<BoxStream<Cbor<T>>, RpcError>
where
    A: Send + Sync + 'static,
    T: Item,
    S: Fn(&Arc<Backend>, &A) -> Result<(Option<i64>, Vec<T>), RpcError> + Send + Sync + 'static,
    F: Fn(&Arc<Backend>, &A, &Applied) -> Result<Vec<T>, RpcError> + Send + Sync + 'static,
{
    // Before the state is looked at, so that no block falls between.
    let blocks = backend.engine.subscribe();
    let next = match backend.queries.latest().height {
        0 => backend.queries.genesis().height,
        latest => latest.saturating_add(1),
    };
    let argument = Arc::new(argument);
    let (shared, about) = (Arc::clone(&watched), Arc::clone(&argument));
    let (seen, first) = backend.read(move |backend| (shared.first)(backend, &about)).await?;
    let next = seen.map_or(next, |height| height.saturating_add(1));
    let follower =
        Follower { backend, argument, watched, blocks, next, came: None, ready: first.into(), failed: false };
    Ok(Box::pin(stream::unfold(follower, Follower::step)))
}

impl<A, T, S, F> Follower<A, T, S, F>
where
    A: Send + Sync + 'static,
    T: Item,
    S: Send + Sync + 'static,
    F: Fn(&Arc<Backend>, &A, &Applied) -> Result<Vec<T>, RpcError> + Send + Sync + 'static,
{
    async fn step(mut self) -> Option<(Result<Cbor<T>, RpcError>, Self)> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Some((Ok(Cbor(item)), self));
            }
            if self.failed {
                return None;
            }
            if let Some(came) = self.came.clone() {
                match self.show(came).await {
                    Ok(items) => self.ready = items.into(),
                    Err(error) => {
                        self.failed = true;
                        return Some((Err(error), self));
                    }
                }
                continue;
            }
            let received = tokio::select! {
                biased;
                () = self.backend.stop.cancelled() => return None,
                received = self.blocks.next() => received,
            };
            match received {
                Ok(new) if new.height >= self.next => self.came = Some(new),
                // Shown already; or the gap is found with the next block.
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// The items of the next block: the one that came, or one before it.
    async fn show(&mut self, came: Applied) -> Result<Vec<T>, RpcError> {
        let (height, watched, argument) = (self.next, Arc::clone(&self.watched), Arc::clone(&self.argument));
        if height >= came.height {
            self.came = None;
        }
        self.next = height.saturating_add(1);
        let reading = self.backend.read(move |backend| {
            let applied = if height >= came.height { came } else { Applied::load(backend, height)? };
            (watched.items)(backend, &argument, &applied)
        });
        reading.await
    }
}
