//! Dropping old rounds: from the history first, then their states. Source: `go/worker/storage/committee/prune.go`.

use std::sync::Arc;
use std::time::Instant;

use base_metrics::table;
use rt_history::{MIN_PRUNE_INTERVAL, PruneConfig, PruneStrategy, Pruner};
use tokio_util::sync::CancellationToken;

use crate::error::{StoreError, chain_of};
use crate::store::{RuntimeStore, blocking};

/// Value of `runtime.prune.strategy` with which rounds are dropped.
const KEEP_LAST: &str = "keep_last";

/// Prunes until stopped.
pub(crate) async fn run(store: Arc<RuntimeStore>, stop: CancellationToken) -> Result<(), StoreError> {
    let config = &store.setup.config.runtime.prune;
    let strategy = if config.strategy == KEEP_LAST { PruneStrategy::KeepLast } else { PruneStrategy::None };
    let config = PruneConfig { strategy, num_kept: config.num_kept, interval: config.interval.0 };
    let mut pruner = Pruner::new(config, store.now());
    let mut committed = store.history.committed();
    loop {
        let Some(at) = pruner.next_wakeup() else {
            stop.cancelled().await;
            return Ok(());
        };
        // Never without pause, whatever the pruner says.
        let at = store.at(at.max(store.now() + MIN_PRUNE_INTERVAL / 2));
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep_until(at) => {}
        }
        // A block makes others old: what it does goes with it, not up to an interval later.
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            Ok(()) = committed.changed() => {}
            () = tokio::time::sleep(config.interval.max(MIN_PRUNE_INTERVAL)) => {}
        }
        committed.borrow_and_update();
        let (theirs, stopping) = (Arc::clone(&store), stop.clone());
        let (back, done) = blocking(move || {
            let mut pruner = pruner;
            let done = prune(&theirs, &mut pruner, &stopping);
            (pruner, done)
        })
        .await?;
        pruner = back;
        if let Err(e) = done {
            tracing::warn!(module = "worker/storage/state-pruner", runtime_id = %store.setup.runtime,
                err = %chain_of(&e), "failed to prune");
        }
    }
}

fn prune(store: &RuntimeStore, pruner: &mut Pruner, stop: &CancellationToken) -> Result<(), StoreError> {
    // After a power loss the history must still have the newest round whose state is there.
    let synced = *store.synced.borrow();
    if let Some(state) = &store.state {
        state.storage.sync()?;
    }
    let history = pruner.run(store.now(), &store.history, &mut |rounds| store.may_prune(rounds, synced));
    match &history {
        Ok(rounds) if !rounds.is_empty() => {
            tracing::debug!(module = "runtime/history/pruner", runtime_id = %store.setup.runtime,
                first = rounds.first(), last = rounds.last(), "pruned blocks");
        }
        _ => {}
    }
    // What was dropped before may have left states behind.
    if let Some(state) = &store.state {
        prune_states(store, state.storage.db(), stop)?;
    }
    history?;
    Ok(())
}

fn prune_states(store: &RuntimeStore, db: &mkvs_db::NodeDb, stop: &CancellationToken) -> Result<(), StoreError> {
    let earliest = match store.history.earliest_block() {
        Ok(block) => block.block.map_or(0, |b| b.header.round),
        Err(rt_history::HistoryError::NotFound) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    // A restore in progress has nothing that could be dropped.
    while !stop.is_cancelled() && db.multipart_version().is_none() {
        let begun = Instant::now();
        let dropped = db.prune_some(earliest, &mut |_| !stop.is_cancelled())?;
        let Ok(count) = u32::try_from(dropped) else { continue };
        if count == 0 {
            break;
        }
        table::WORKER_STORAGE_PRUNE_LATENCY.with(&[&store.label]).observe_time(begun.elapsed() / count);
    }
    Ok(())
}
