//! Starts the metrics and profiling endpoints, and sets the metrics of parts that set none themselves.
//!
//! Reference: `go/oasis-node/cmd/node`, `go/consensus/metrics`, `go/registry/metrics.go`, `go/worker/registration`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base_metrics::{Mode, Service, Settings, profile, table};
use comet_engine::{EngineHandle, Phase};
use comet_store::NewBlock;
use node_config::Config;
use node_workers::registration::Registration;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wire_cometbft::Time;
use wire_cometbft::block::BlockIdFlag;

use crate::chain::LocalChain;
use crate::error::RunError;

/// Value of the label `backend`.
const BACKEND: &str = "cometbft";
/// Least time between looks at what changes without blocks.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// Folder of the consensus state below the data directory.
const STATE: &str = "consensus/state";
/// Folders below it that are measured too.
const STATE_DEPTH: usize = 3;

/// What is measured.
pub(crate) struct Watched {
    pub(crate) chain: Arc<LocalChain>,
    /// What takes part in the network, if it does.
    pub(crate) engine: Option<EngineHandle>,
    pub(crate) p2p: Option<p2p_net::Node>,
    pub(crate) registration: Registration,
    pub(crate) chain_id: String,
    pub(crate) data_dir: PathBuf,
}

/// Starts what is configured: nothing, unless metrics or profiles are asked for.
pub(crate) async fn start(
    config: &Config,
    debug: bool,
    watched: Watched,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    let metrics = &config.metrics;
    let settings = Settings {
        mode: metrics.mode.parse()?,
        address: metrics.address.clone(),
        interval: metrics.interval.0,
        job_name: metrics.job_name.clone(),
        labels: metrics.labels.clone(),
        data_dir: watched.data_dir.clone(),
        debug,
    };
    if settings.mode != Mode::None {
        let service = Service::bind(&settings).await?;
        tasks.spawn(service.run(stop.child_token()));
        if let Some(engine) = &watched.engine {
            tasks.spawn(follow_blocks(engine.clone(), watched.chain_id.clone(), stop.child_token()));
        }
        tasks.spawn(look_around(watched, settings.interval.max(MIN_INTERVAL), stop.child_token()));
    }
    if !config.pprof.bind_address.is_empty() {
        let server = profile::Server::bind(&config.pprof.bind_address).await?;
        tracing::info!(module = "pprof", address = config.pprof.bind_address, "profiling HTTP endpoint is enabled");
        tasks.spawn(server.run(stop.child_token()));
    }
    Ok(())
}

/// Counts blocks as they come.
async fn follow_blocks(engine: EngineHandle, chain_id: String, stop: CancellationToken) {
    let mut blocks = engine.subscribe();
    let mut before = None;
    loop {
        let next = tokio::select! {
            next = blocks.recv() => next,
            () = stop.cancelled() => return,
        };
        match next {
            Ok(block) => {
                count_block(&block, &chain_id, engine.address().as_ref().map(|address| address.0.as_slice()), before);
                before = Some(block.block.header.time);
            }
            // While blocks are fetched in bulk some are missed; times between them say nothing then.
            Err(RecvError::Lagged(_)) => before = None,
            Err(RecvError::Closed) => return,
        }
    }
}

fn count_block(new: &NewBlock, chain_id: &str, own: Option<&[u8]>, before: Option<Time>) {
    let (block, label) = (&new.block, [chain_id]);
    let height = block.header.height as f64;
    table::COMET_HEIGHT.with(&label).set(height);
    table::COMET_LATEST_BLOCK_HEIGHT.with(&label).set(height);
    table::COMET_NUM_TXS.with(&label).set_count(block.data.txs.len());
    table::COMET_TOTAL_TXS.with(&label).add(block.data.txs.len() as f64);
    table::COMET_BYZANTINE_VALIDATORS.with(&label).set_count(block.evidence.evidence.len());
    let validators = &new.state.validators;
    table::COMET_VALIDATORS.with(&label).set_count(validators.len());
    table::COMET_VALIDATORS_POWER.with(&label).set(validators.total_voting_power() as f64);
    if let Some(before) = before {
        let nanos = block.header.time.unix_nanos() - before.unix_nanos();
        table::COMET_BLOCK_INTERVAL.with(&label).observe(nanos as f64 / 1e9);
    }
    let votes = block.last_commit.iter().flat_map(|commit| &commit.signatures);
    table::COMET_MISSING_VALIDATORS
        .with(&label)
        .set_count(votes.clone().filter(|vote| vote.block_id_flag == BlockIdFlag::ABSENT).count());
    let Some(own) = own else { return };
    if block.header.proposer_address == own {
        table::CONSENSUS_PROPOSED_BLOCKS.with(&[BACKEND]).inc();
    }
    if votes.into_iter().any(|vote| vote.block_id_flag == BlockIdFlag::COMMIT && vote.validator_address == own) {
        table::CONSENSUS_SIGNED_BLOCKS.with(&[BACKEND]).inc();
    }
}

/// Looks again and again at everything that does not come with a block.
async fn look_around(watched: Watched, interval: Duration, stop: CancellationToken) {
    let watched = Arc::new(watched);
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut known = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
        let now = watched.clone();
        // Reads the state and walks a folder.
        let look = tokio::task::spawn_blocking(move || now.look(known));
        tokio::select! {
            seen = look => known = seen.ok().flatten().or(known),
            () = stop.cancelled() => return,
        }
    }
}

impl Watched {
    /// Gives the height at which the registry was counted, if it was.
    fn look(&self, known: Option<i64>) -> Option<i64> {
        let label = [self.chain_id.as_str()];
        if let Some(engine) = &self.engine {
            let phase = engine.phase();
            table::COMET_BLOCK_SYNCING.with(&label).set_flag(phase == Phase::BlockSync);
            table::COMET_STATE_SYNCING.with(&label).set_flag(phase == Phase::StateSync);
            table::COMET_P2P_PEERS.with(&label).set_count(engine.switch().peers().len());
            table::COMET_MEMPOOL_SIZE.with(&label).set_count(engine.pool().size());
            table::COMET_MEMPOOL_SIZE_BYTES.with(&label).set(engine.pool().bytes() as f64);
            let round = engine.status().round.map_or(0, |round| round.round);
            table::COMET_ROUNDS.with(&label).set(f64::from(round));
        }
        table::ABCI_DB_SIZE.get().set(size_of(&self.data_dir.join(STATE), STATE_DEPTH) as f64 / f64::from(1u32 << 20));
        if let Some(p2p) = self.p2p.as_ref().map(p2p_net::Node::status) {
            table::P2P_PEERS.get().set_count(p2p.num_peers);
            table::P2P_CONNECTIONS.get().set_count(p2p.num_connections);
            table::P2P_PROTOCOLS.get().set_count(p2p.protocols.len());
            table::P2P_TOPICS.get().set_count(p2p.topics.len());
        }
        self.count_registry(known)
    }

    fn count_registry(&self, known: Option<i64>) -> Option<i64> {
        let height = self.chain.queries().latest().height;
        if height == 0 || known == Some(height) {
            return None;
        }
        let state = self.chain.queries().state(0).ok()?;
        let (epoch, _) = apps_committees::beacon::state::epoch(&state).ok()?;
        use apps_committees::registry::state as registry;
        table::REGISTRY_ENTITIES.get().set_count(registry::entities(&state).ok()?.len());
        table::REGISTRY_NODES.get().set_count(registry::nodes(&state).ok()?.len());
        table::REGISTRY_RUNTIMES.get().set_count(registry::runtimes(&state).ok()?.len());
        let status = self.registration.status().ok()?;
        let node = status.node_status;
        table::WORKER_NODE_REGISTERED.get().set_flag(node.as_ref().is_some_and(|node| !node.expiration_processed));
        if let (Some(node), Some(descriptor)) = (node, status.descriptor) {
            table::WORKER_NODE_STATUS_FROZEN.get().set_flag(node.is_frozen());
            let after = node.election_eligible_after;
            table::WORKER_NODE_REGISTRATION_ELIGIBLE.get().set_flag(after > 0 && after < epoch);
            for runtime in descriptor.runtimes() {
                let (id, fault) = (runtime.id.to_string(), node.faults.get(&runtime.id));
                let failures = fault.map_or(0, |fault| fault.failures);
                let suspended = fault.is_some_and(|fault| fault.suspended_until > 0 && epoch < fault.suspended_until);
                table::WORKER_NODE_STATUS_RUNTIME_FAULTS.with(&[&id]).set(f64::from(failures));
                table::WORKER_NODE_STATUS_RUNTIME_SUSPENDED.with(&[&id]).set_flag(suspended);
            }
        }
        Some(height)
    }
}

/// Bytes in the files of a folder and of those below it; links are not followed.
fn size_of(folder: &Path, depth: usize) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?))).map(|(path, metadata)| {
        match depth.checked_sub(1) {
            Some(depth) if metadata.is_dir() => size_of(&path, depth),
            _ if metadata.is_file() => metadata.len(),
            _ => 0,
        }
    });
    sizes.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_measured() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/b/c"), [0; 10]).unwrap();
        std::fs::write(dir.path().join("d"), [0; 5]).unwrap();
        assert_eq!(size_of(dir.path(), STATE_DEPTH), 15);
        assert_eq!(size_of(dir.path(), 1), 5);
        assert_eq!(size_of(&dir.path().join("none"), STATE_DEPTH), 0);
    }
}
