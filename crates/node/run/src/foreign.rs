//! A data directory that the reference's node used before: its databases stay as they are, the chain is fetched again
//! beside them.

use std::path::Path;
use std::time::Instant;

use node_workers::Chain;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Module of the log lines.
const MODULE: &str = "oasis-node";

/// Says which databases are left alone, and, if there is no own chain yet, how long it takes to fetch one.
pub(crate) fn watch(folder: &Path, chain: &impl Chain, tasks: &mut JoinSet<()>, stop: &CancellationToken) {
    let found = comet_engine::foreign_databases(folder);
    if found.is_empty() {
        return;
    }
    let names: Vec<_> =
        found.iter().filter_map(|path| Some(path.strip_prefix(folder).ok()?.display().to_string())).collect();
    let height = chain.latest_height();
    tracing::warn!(
        module = MODULE,
        left_alone = names.join(", "),
        height,
        "databases of another program are left alone; this node keeps a chain of its own beside them: they can be \
         removed once nobody wants to go back"
    );
    if height > 0 {
        return;
    }
    let (began, mut synced, heights, stop) = (Instant::now(), chain.synced(), chain.heights(), stop.child_token());
    tasks.spawn(async move {
        tokio::select! {
            reached = synced.wait_for(|synced| *synced) => if reached.is_err() { return },
            () = stop.cancelled() => return,
        }
        let (height, seconds) = (*heights.borrow(), began.elapsed().as_secs());
        tracing::info!(module = MODULE, height, seconds, "the chain was fetched again beside the other program's");
    });
}
