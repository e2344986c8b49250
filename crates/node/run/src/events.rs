//! Log lines by which operators' tools tell that something happened: the field `log_event`.
//!
//! Reference: `go/upgrade/api`, `go/consensus/cometbft/{api,abci,full}`.

use apps_committees::roothash::{self, query};
use base_prims::Namespace;
use base_service::log_event::{
    CONSENSUS_UPGRADE, EXECUTION_DISCREPANCY_DETECTED, INCOMPATIBLE_BINARY, PEER_EXCHANGE_DISABLED, PRUNE,
    ROUND_FAILED, STARTUP_UPGRADE, STATE_SYNC_COMPLETE, TIMER_FIRED,
};
use comet_engine::EngineHandle;
use comet_store::NewBlock;
use node_app::Queries;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use wire_consensus::roothash::{Event, ExecutionDiscrepancyDetectedEvent, HeaderType};
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

/// What a block did to the rounds of runtimes: which timers fired, in which discrepancies were found, which failed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Rounds {
    fired: Vec<Namespace>,
    discrepancies: Vec<(Namespace, ExecutionDiscrepancyDetectedEvent)>,
    failed: Vec<(Namespace, u64)>,
}

/// Reads it from a block's events. `due` are the timers that were set for its height after the block before; one whose
/// round moved on by a transaction of the block was set anew and did not fire. `header_type` is that of a runtime's newest
/// block.
fn rounds(due: Vec<Namespace>, events: &[Event], header_type: impl Fn(&Namespace) -> Option<HeaderType>) -> Rounds {
    let moved = |id: &Namespace| {
        let by_transaction = |e: &&Event| e.runtime_id == *id && !e.tx_hash.is_empty_hash();
        events.iter().filter(by_transaction).any(|e| e.finalized.is_some() || e.execution_discrepancy.is_some())
    };
    let mut found = Rounds { fired: due.into_iter().filter(|id| !moved(id)).collect(), ..Rounds::default() };
    for event in events {
        if let Some(discrepancy) = &event.execution_discrepancy {
            found.discrepancies.push((event.runtime_id, discrepancy.clone()));
        }
        if let Some(finalized) = &event.finalized
            && header_type(&event.runtime_id) == Some(HeaderType::ROUND_FAILED)
        {
            found.failed.push((event.runtime_id, finalized.round));
        }
    }
    found
}

/// Tells what each block does to the rounds of runtimes. Blocks that come faster than they can be looked at are left out.
pub(crate) async fn watch_rounds(queries: Queries, engine: EngineHandle, stop: CancellationToken) {
    let mut blocks = engine.subscribe();
    loop {
        let new = tokio::select! {
            new = blocks.recv() => match new {
                Ok(new) => new,
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            },
            () = stop.cancelled() => return,
        };
        let queries = queries.clone();
        let reading = tokio::task::spawn_blocking(move || rounds_of(&queries, &new)).await;
        match reading {
            Ok(Ok(found)) => tell_rounds(&found),
            Ok(Err(error)) => tracing::debug!(module = "roothash", err = %error, "rounds of a block cannot be read"),
            Err(_) => return,
        }
    }
}

fn rounds_of(queries: &Queries, new: &NewBlock) -> Result<Rounds, String> {
    let height = new.block.header.height;
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let read = |tx, event: &comet_chain::app::Event| query::events(height, tx, event);
    let events = apps_core::events::of_block(&new.block.data.txs, &new.results, read).map_err(|e| text(&e))?;
    let before = queries.state(height - 1);
    let due = before.map_or_else(|_| Ok(Vec::new()), |kv| roothash::state::timeouts_at(&kv, height));
    let due = due.map_err(|e| text(&e))?;
    let header_type = |id: &Namespace| {
        let kv = queries.state(height).ok()?;
        query::latest_block(&kv, id).ok().map(|block| block.header.header_type)
    };
    Ok(rounds(due, &events, header_type))
}

fn tell_rounds(found: &Rounds) {
    for id in &found.fired {
        tracing::warn!(module = "roothash", log_event = TIMER_FIRED, runtime_id = %id,
            "round timeout expired, forcing finalization");
    }
    for (id, event) in &found.discrepancies {
        tracing::warn!(module = "roothash", log_event = EXECUTION_DISCREPANCY_DETECTED, runtime_id = %id,
            round = event.round, rank = event.rank, timeout = event.timeout, "executor discrepancy detected");
    }
    for (id, round) in &found.failed {
        tracing::debug!(module = "roothash", log_event = ROUND_FAILED, runtime_id = %id, round, "round failed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base_prims::Hash;
    use wire_consensus::roothash::FinalizedEvent;
    use wire_consensus::upgrade::Descriptor;

    #[test]
    fn timers_discrepancies_and_failed_rounds_are_told() {
        let id = |n: u8| Namespace::from_bytes_unchecked([n; 32]);
        let finalized = |n: u8, tx_hash: Hash| Event {
            runtime_id: id(n),
            tx_hash,
            finalized: Some(FinalizedEvent { round: 7 }),
            ..Event::default()
        };
        let discrepancy = ExecutionDiscrepancyDetectedEvent { timeout: true, ..Default::default() };
        let events = [
            finalized(1, Hash::EMPTY),
            finalized(2, Hash::of(&[b"tx"])),
            Event {
                runtime_id: id(3),
                tx_hash: Hash::EMPTY,
                execution_discrepancy: Some(discrepancy.clone()),
                ..Event::default()
            },
        ];
        let header_type =
            |of: &Namespace| Some(if *of == id(1) { HeaderType::ROUND_FAILED } else { HeaderType::NORMAL });
        let found = rounds(vec![id(1), id(2), id(3)], &events, header_type);
        // The second one's round ended by a transaction before its timer was looked at.
        let expected =
            Rounds { fired: vec![id(1), id(3)], discrepancies: vec![(id(3), discrepancy)], failed: vec![(id(1), 7)] };
        assert_eq!(found, expected);
        assert_eq!(rounds(Vec::new(), &[], |_| None), Rounds::default());
    }

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
