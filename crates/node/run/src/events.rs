//! Log lines by which operators' tools tell that something happened: the field `log_event`.
//!
//! Reference: `go/upgrade/api`, `go/consensus/cometbft/{api,abci,full}`.

use base_service::log_event::{
    CONSENSUS_UPGRADE, INCOMPATIBLE_BINARY, PEER_EXCHANGE_DISABLED, PRUNE, STARTUP_UPGRADE, STATE_SYNC_COMPLETE,
};
use node_app::Queries;
use tokio_util::sync::CancellationToken;
use wire_consensus::upgrade::{HEIGHT_INVALID, PendingUpgrade, STAGE_CONSENSUS, STAGE_STARTUP};

/// What changed about pending upgrades.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Startup(String),
    Consensus(String),
}

fn handler(pending: &PendingUpgrade) -> String {
    pending.descriptor.as_ref().map(|descriptor| descriptor.handler.clone()).unwrap_or_default()
}

fn changes(before: &[PendingUpgrade], after: &[PendingUpgrade]) -> Vec<Change> {
    let mut found = Vec::new();
    for old in before {
        let new = after.iter().find(|new| new.descriptor == old.descriptor);
        // What is gone after its epoch has come is done; before that, it was cancelled.
        let stage = match new {
            Some(new) => new.last_completed_stage,
            None if old.upgrade_height != HEIGHT_INVALID => STAGE_CONSENSUS,
            None => continue,
        };
        if old.last_completed_stage < STAGE_STARTUP && stage == STAGE_STARTUP {
            found.push(Change::Startup(handler(old)));
        }
        if old.last_completed_stage < STAGE_CONSENSUS && stage >= STAGE_CONSENSUS {
            found.push(Change::Consensus(handler(old)));
        }
    }
    found
}

/// Tells of stages of upgrades that were completed.
pub(crate) fn upgrades_changed(before: &[PendingUpgrade], after: &[PendingUpgrade]) {
    for change in changes(before, after) {
        match change {
            Change::Startup(handler) => {
                tracing::warn!(module = "upgrade", log_event = STARTUP_UPGRADE, handler, "performing startup upgrade")
            }
            Change::Consensus(handler) => tracing::warn!(
                module = "upgrade",
                log_event = CONSENSUS_UPGRADE,
                handler,
                "performing consensus upgrade"
            ),
        }
    }
}

/// Tells of upgrades that are due and that this program is too old or too new for.
pub(crate) fn incompatible_upgrades(pending: &[PendingUpgrade]) {
    for upgrade in pending.iter().filter(|upgrade| upgrade.upgrade_height != HEIGHT_INVALID && !upgrade.is_completed())
    {
        if let Some(Err(error)) = upgrade.descriptor.as_ref().map(|descriptor| descriptor.ensure_compatible()) {
            tracing::error!(module = "upgrade", log_event = INCOMPATIBLE_BINARY, handler = handler(upgrade),
                err = %error, "incompatible binary version for upgrade");
        }
    }
}

/// Tells that addresses of peers are not exchanged.
pub(crate) fn peer_exchange_disabled() {
    tracing::info!(module = "consensus/cometbft", log_event = PEER_EXCHANGE_DISABLED, "pex reactor disabled");
}

/// Tells when the first state is there, of a node that restores a snapshot.
pub(crate) async fn watch_state_sync(queries: Queries, stop: CancellationToken) {
    let mut latest = queries.watch();
    tokio::select! {
        found = latest.wait_for(|latest| latest.height > 0) => if let Ok(latest) = found {
            tracing::info!(module = "consensus/cometbft/abci", log_event = STATE_SYNC_COMPLETE,
                height = latest.height, "successfully synced state");
        },
        () = stop.cancelled() => {}
    }
}

/// Tells of versions of the state that were removed, seen at the next block.
pub(crate) async fn watch_pruning(queries: Queries, stop: CancellationToken) {
    let mut latest = queries.watch();
    let mut earliest = queries.earliest_height();
    loop {
        tokio::select! {
            changed = latest.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
        let now = queries.earliest_height();
        if earliest > 0 && now > earliest {
            let latest_version = latest.borrow().height;
            tracing::debug!(
                module = "consensus/cometbft/abci/prune",
                log_event = PRUNE,
                latest_version,
                pruned_version = now - 1,
                "Prune: Delete"
            );
        }
        earliest = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire_consensus::upgrade::Descriptor;

    fn upgrade(height: i64, stage: u64) -> PendingUpgrade {
        let descriptor = Descriptor { handler: "handler".to_owned(), ..Descriptor::default() };
        PendingUpgrade { upgrade_height: height, last_completed_stage: stage, ..PendingUpgrade::new(descriptor) }
    }

    #[test]
    fn stages_are_told_once_and_cancelling_is_no_stage() {
        let (startup, consensus) = (Change::Startup("handler".to_owned()), Change::Consensus("handler".to_owned()));
        let due = [upgrade(10, 0)];
        assert_eq!(changes(&due, &[upgrade(10, STAGE_STARTUP)]), [startup]);
        assert_eq!(changes(&[upgrade(10, STAGE_STARTUP)], &[]), [consensus]);
        assert_eq!(changes(&due, &due), []);
        assert_eq!(changes(&[upgrade(HEIGHT_INVALID, 0)], &[]), [], "cancelled");
        assert_eq!(changes(&[], &due), [], "submitted");
    }
}
