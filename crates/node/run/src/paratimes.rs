//! The ParaTimes of this node: made from its parts, served, asked before consensus blocks go.

use std::sync::Arc;

use node_app::PruneHandler;
use node_paratime::{ParaTimes, Parts};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Keeps consensus blocks that a runtime's history still needs.
pub(crate) struct HistoryNeeds(pub(crate) Arc<ParaTimes>);

impl PruneHandler for HistoryNeeds {
    fn can_prune(&self, version: i64) -> Result<(), String> {
        self.0.can_prune_consensus(version)
    }
}

/// Puts the ParaTimes together; `None` for a node that has none by its mode.
pub(crate) async fn open(
    parts: Parts,
    queries: &node_app::Queries,
    stop: &CancellationToken,
) -> Result<Option<Arc<ParaTimes>>, crate::RunError> {
    let Some(all) = ParaTimes::new(parts, stop.child_token()).await? else { return Ok(None) };
    queries.register_prune_handler(Arc::new(HistoryNeeds(all.clone())));
    Ok(Some(all))
}

/// Whether the node has caught up and its ParaTimes are ready; never goes back.
pub(crate) fn ready(
    synced: watch::Receiver<bool>,
    paratimes: Option<&Arc<ParaTimes>>,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> watch::Receiver<bool> {
    let Some(paratimes) = paratimes else { return synced };
    let (told, ready) = watch::channel(false);
    let (mut synced, mut others, stop) = (synced, paratimes.ready(), stop.child_token());
    tasks.spawn(async move {
        let both = async { synced.wait_for(|done| *done).await.is_ok() && others.wait_for(|done| *done).await.is_ok() };
        tokio::select! {
            done = both => {
                told.send_replace(done);
            }
            () = stop.cancelled() => {}
        }
        // The receivers must not find the sender gone while the node runs.
        stop.cancelled().await;
    });
    ready
}
