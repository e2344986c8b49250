//! The life of an engine after its start: state sync, block sync, rounds, and the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use comet_chain::state::State;
use comet_core::{Config, Input};
use comet_net::Reactor;
use comet_pools::{EvidenceReactor, TxPoolReactor};
use comet_store::{Guard, Wal};
use comet_sync::{BlockSync, Goal, StateSync, StateSyncError, StoreSink};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::Inner;
use crate::driver::{Driver, DriverParts, StartKind, StopReason};
use crate::intake::Signal;
use crate::reactor::ConsensusReactor;
use crate::setup::StateSyncSetup;
use crate::status::Phase;

/// How long peers are served after the application halted, so that they can finish the block before.
pub const HALT_GRACE: Duration = Duration::from_secs(5);
/// Time between looks at whether most peers are ahead.
const LAG_INTERVAL: Duration = Duration::from_millis(200);
/// Least time between two returns to block sync.
pub const RESYNC_INTERVAL: Duration = Duration::from_secs(30);

/// What the supervisor starts.
pub(super) struct Plan {
    pub(super) consensus: Config,
    pub(super) block_sync: bool,
    pub(super) state_sync: Option<StateSyncSetup>,
    pub(super) lag_patience: Duration,
    pub(super) guard: Option<Guard>,
    pub(super) wal: Wal,
    pub(super) state: State,
}

/// All reactors.
pub(super) struct Reactors {
    pub(super) consensus: ConsensusReactor,
    pub(super) block_sync: Arc<BlockSync>,
    pub(super) state_sync: Arc<StateSync>,
    pub(super) txs: Arc<TxPoolReactor>,
    pub(super) evidence: Arc<EvidenceReactor>,
}

impl Reactors {
    pub(super) fn list(&self) -> Vec<Arc<dyn Reactor>> {
        vec![
            Arc::new(self.consensus.clone()),
            Arc::clone(&self.block_sync) as Arc<dyn Reactor>,
            Arc::clone(&self.state_sync) as Arc<dyn Reactor>,
            Arc::clone(&self.txs) as Arc<dyn Reactor>,
            Arc::clone(&self.evidence) as Arc<dyn Reactor>,
        ]
    }

    async fn stopped(&self) {
        self.consensus.join().await;
        self.block_sync.stopped().await;
        self.state_sync.stopped().await;
        self.txs.finished().await;
        self.evidence.finished().await;
    }
}

/// Runs an engine to its end.
pub(super) async fn supervise(
    inner: Arc<Inner>,
    plan: Plan,
    reactors: Reactors,
    net_stop: CancellationToken,
    stop: CancellationToken,
) {
    let follower = tokio::spawn(follow(Arc::clone(&inner), net_stop.clone()));
    let reason = match live(&inner, plan, &reactors, &stop).await {
        Ok(()) => StopReason::Requested,
        Err(reason) => reason,
    };
    if matches!(reason, StopReason::Halted { .. }) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(HALT_GRACE) => {}
        }
    }
    inner.intake.stop();
    net_stop.cancel();
    inner.switch.stopped().await;
    reactors.stopped().await;
    let _ = follower.await;
    drop(reactors);
    if reason == StopReason::Requested {
        tracing::info!("engine stopped");
    } else {
        tracing::error!(%reason, "engine stopped");
    }
    inner.phase.send_replace(Phase::Stopped(reason));
}

/// Tells the pool the limits of each next block.
async fn follow(inner: Arc<Inner>, stop: CancellationToken) {
    let mut blocks = inner.executor.subscribe();
    let work = async {
        loop {
            match blocks.recv().await {
                Ok(new) => inner.pool.follow(&new.state),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

async fn live(inner: &Arc<Inner>, plan: Plan, reactors: &Reactors, stop: &CancellationToken) -> Result<(), StopReason> {
    let Plan { consensus, block_sync, state_sync, lag_patience, guard, wal, mut state } = plan;
    let mut kind = StartKind::Restart;
    if let Some(sync) = state_sync {
        match restore(inner, reactors, sync, stop).await? {
            Some(restored) => state = restored,
            None => return Ok(()),
        }
        kind = StartKind::Synced;
    }
    let only_us =
        inner.address.is_some_and(|address| state.validators.len() == 1 && state.validators.find(&address).is_some());
    if block_sync && !only_us {
        inner.phase.send_replace(Phase::BlockSync);
        let sink = Arc::new(StoreSink { executor: Arc::clone(&inner.executor) });
        let end = reactors.block_sync.run(state, sink, Goal::CaughtUp, stop.child_token()).await;
        let end = end.map_err(|error| StopReason::from(&error))?;
        if !end.caught_up {
            return Ok(());
        }
        if end.applied > 0 {
            kind = StartKind::Synced;
        }
        state = end.state;
    }
    inner.phase.send_replace(Phase::Consensus);
    inner.pool.follow(&state);
    rounds(inner, reactors, Rounds { consensus, guard, wal, state, kind, lag_patience }, stop).await
}

/// Restores a snapshot; `None`: told to stop.
async fn restore(
    inner: &Arc<Inner>,
    reactors: &Reactors,
    sync: StateSyncSetup,
    stop: &CancellationToken,
) -> Result<Option<State>, StopReason> {
    let restored = reactors.state_sync.run(sync.provider, stop.child_token()).await;
    let restored = match restored {
        Ok(restored) => restored,
        Err(_) if stop.is_cancelled() => return Ok(None),
        Err(StateSyncError::App(fatal)) => return Err((&fatal).into()),
        Err(error) => return Err(StopReason::failed("state sync", &error)),
    };
    let executor = Arc::clone(&inner.executor);
    let saving = tokio::task::spawn_blocking(move || {
        restored.bootstrap(executor.blocks(), executor.chain())?;
        Ok::<State, comet_store::StoreError>(restored.state)
    });
    let state = saving.await.map_err(|_| StopReason::Failed("state sync: saving ended without a result".into()))?;
    let state = state.map_err(|error| StopReason::failed("state sync", &error))?;
    comet_store::EvidencePool::update(&*inner.evidence, &state, &[]);
    Ok(Some(state))
}

/// What rounds begin with.
struct Rounds {
    consensus: Config,
    guard: Option<Guard>,
    wal: Wal,
    state: State,
    kind: StartKind,
    lag_patience: Duration,
}

/// Tells of the end of the thread even if it panics.
struct OnExit(watch::Sender<Option<StopReason>>);

impl Drop for OnExit {
    fn drop(&mut self) {
        self.0.send_if_modified(|reason| {
            let panicked = reason.is_none();
            if panicked {
                *reason = Some(StopReason::Failed("consensus thread panicked".into()));
            }
            panicked
        });
    }
}

/// Waits for the end of the thread.
async fn ended(end: &mut watch::Receiver<Option<StopReason>>) -> StopReason {
    let reason = end.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
    reason.unwrap_or_else(|| StopReason::Failed("consensus thread ended without a reason".into()))
}

async fn rounds(
    inner: &Arc<Inner>,
    reactors: &Reactors,
    begin: Rounds,
    stop: &CancellationToken,
) -> Result<(), StopReason> {
    let (sync_wanted, mut wanted) = mpsc::channel(1);
    let lag = begin.consensus.block_sync_lag;
    let waits_for_txs = begin.consensus.waits_for_txs();
    let parts = DriverParts {
        config: begin.consensus,
        address: inner.address,
        state: begin.state,
        wal: begin.wal,
        guard: begin.guard,
        executor: Arc::clone(&inner.executor),
        evidence: Arc::clone(&inner.evidence) as Arc<dyn comet_store::EvidencePool>,
        blocks: Arc::clone(inner.executor.blocks()),
        reactor: reactors.consensus.clone(),
        intake: Arc::clone(&inner.intake),
        sync_wanted,
        unsigned: Arc::clone(&inner.unsigned),
        kind: begin.kind,
    };
    let (told, mut end) = watch::channel(None);
    let thread = std::thread::Builder::new().name("consensus".into()).spawn(move || {
        let exit = OnExit(told);
        match Driver::new(parts) {
            Ok(driver) => driver.run(&exit.0),
            Err(reason) => {
                exit.0.send_replace(Some(reason));
            }
        }
    });
    let thread = thread.map_err(|error| StopReason::failed("consensus thread", &error))?;
    let watch = Watch { lag, waits_for_txs, lag_patience: begin.lag_patience };
    let outcome = attend(inner, reactors, watch, &mut wanted, &mut end, stop).await;
    inner.intake.stop();
    // So that nothing of it is left when the engine counts as stopped; how it ended is known already.
    let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    outcome
}

/// What is looked after while rounds go on.
struct Watch {
    lag: Option<u32>,
    waits_for_txs: bool,
    lag_patience: Duration,
}

/// Looks after the machine until it has ended or cannot be gone on with.
async fn attend(
    inner: &Arc<Inner>,
    reactors: &Reactors,
    watch: Watch,
    wanted: &mut mpsc::Receiver<i64>,
    end: &mut watch::Receiver<Option<StopReason>>,
    stop: &CancellationToken,
) -> Result<(), StopReason> {
    let Watch { lag, waits_for_txs, lag_patience } = watch;
    let mut tick = interval(LAG_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut available = inner.pool.subscribe_available();
    let (mut ahead_since, mut synced) = (None, None::<Instant>);
    let mut stopping = false;
    loop {
        tokio::select! {
            reason = ended(end) => {
                return if reason == StopReason::Requested { Ok(()) } else { Err(reason) };
            }
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                inner.intake.stop();
            }
            Ok(()) = available.changed(), if waits_for_txs => {
                available.borrow_and_update();
                inner.intake.signal(Signal::Input(Box::new(Input::TxsAvailable)));
            }
            Some(height) = wanted.recv(), if !stopping => {
                resync(inner, reactors, height, end.clone(), stop).await?;
                synced = Some(Instant::now());
                ahead_since = None;
            }
            _ = tick.tick(), if !stopping && lag.is_some() => {
                let rested = synced.is_none_or(|at| at.elapsed() >= RESYNC_INTERVAL);
                match committed_by_most(inner, lag.unwrap_or(u32::MAX)) {
                    Some(height) if rested => {
                        let since = *ahead_since.get_or_insert_with(Instant::now);
                        if since.elapsed() >= lag_patience {
                            inner.intake.signal(Signal::Input(Box::new(Input::CommitSeen { height })));
                            ahead_since = None;
                        }
                    }
                    _ => ahead_since = None,
                }
            }
        }
    }
}

/// The height that more than half of the peers that announced one say is committed, if that is `lag` or more ahead.
///
/// # Security
/// Announcements prove nothing. If most peers lie, this node fetches blocks that do not come, each of which would have
/// been proven by two thirds of the validators, finds that it is level, and goes back to rounds.
fn committed_by_most(inner: &Inner, lag: u32) -> Option<i64> {
    let ours = inner.reactor.place()?.height;
    let mut heights: Vec<i64> = inner.reactor.peer_heights().into_iter().filter(|&height| height > 0).collect();
    heights.sort_unstable_by(|a, b| b.cmp(a));
    let median = *heights.get(heights.len() / 2)?;
    let committed = median.saturating_sub(1);
    (committed.saturating_sub(ours) >= i64::from(lag)).then_some(committed)
}

/// Fetches blocks while the machine stands still.
async fn resync(
    inner: &Arc<Inner>,
    reactors: &Reactors,
    height: i64,
    mut end: watch::Receiver<Option<StopReason>>,
    stop: &CancellationToken,
) -> Result<(), StopReason> {
    tracing::info!(height, "behind: fetching blocks");
    reactors.consensus.set_syncing(true);
    inner.intake.clear();
    let (answer, paused) = oneshot::channel();
    inner.intake.signal(Signal::Pause(answer));
    tokio::select! {
        paused = paused => if paused.is_err() { return Ok(()) },
        // The caller sees the same.
        _ = ended(&mut end) => return Ok(()),
    }
    inner.phase.send_replace(Phase::BlockSync);
    let loaded = inner.executor.chain().load().map_err(|error| StopReason::failed("state store", &error))?;
    let state = loaded.ok_or_else(|| StopReason::Failed("state store: no state".into()))?;
    let sink = Arc::new(StoreSink { executor: Arc::clone(&inner.executor) });
    let run = reactors.block_sync.run(state, sink, Goal::Height(height), stop.child_token()).await;
    let sync = run.map_err(|error| StopReason::from(&error))?;
    let input = sync.seen_commit.map(|seen_commit| {
        let meta = inner.executor.blocks().meta(sync.state.last_block_height).ok().flatten();
        let last_header_app_hash = meta.map(|meta| meta.header.app_hash);
        let (state, seen_commit) = (Box::new(sync.state), Box::new(seen_commit));
        Box::new(Input::Advanced { state, seen_commit, last_header_app_hash })
    });
    inner.phase.send_replace(Phase::Consensus);
    inner.intake.signal(Signal::Resume(input));
    reactors.consensus.set_syncing(false);
    Ok(())
}
