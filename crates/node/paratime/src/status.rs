//! How a ParaTime is, as `control status` shows it. Source: `go/control/api`, `go/worker/common/api`, `go/runtime/history`.
//!
//! Fields that the reference does not have are left out when empty; its clients pass over them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base_codec::Codec;
use base_prims::{Hash, Version};
use mkvs_tree::Root;
use node_executor::{CommitteeStatus, HostVersions, WorkerStatus};
use node_hosting::ComponentReport;
use node_rpc::types::Timestamp;
use node_storage::StorageStatus;
use rt_history::IndexerStatus as Indexing;
use wire_cometbft::Time;
use wire_consensus::registry::Runtime;
use wire_consensus::roothash::Block;

use crate::node::Parts;
use crate::worker::ParaTime;

/// How a ParaTime is.
#[derive(Clone, Debug, Default, PartialEq, Codec)]
pub struct RuntimeStatus {
    /// Its descriptor.
    pub descriptor: Option<Runtime>,
    /// Newest round.
    pub latest_round: u64,
    /// Hash of its header.
    pub latest_hash: Hash,
    /// Its time.
    pub latest_time: wire_consensus::roothash::Timestamp,
    /// Root of the state after it.
    pub latest_state_root: Root,
    /// First round.
    pub genesis_round: u64,
    /// Hash of its header.
    pub genesis_hash: Hash,
    /// Oldest round that is there.
    pub last_retained_round: u64,
    /// Hash of its header.
    pub last_retained_hash: Hash,
    /// The common worker.
    pub committee: Option<CommitteeStatus>,
    /// The committee's work, on compute nodes.
    #[codec(omitempty)]
    pub executor: Option<WorkerStatus>,
    /// The state, where it is kept.
    #[codec(omitempty)]
    pub storage: Option<StorageStatus>,
    /// The history.
    #[codec(omitempty)]
    pub indexer: Option<IndexerStatus>,
    /// Name of the provisioner.
    #[codec(omitempty)]
    pub provisioner: String,
    /// Its components.
    #[codec(omitempty)]
    pub components: Vec<ComponentStatus>,
    /// Why it was given up, or what keeps components from being hosted. Not in the reference.
    #[codec(omitempty)]
    pub problems: Vec<String>,
}

/// How a component is.
#[derive(Clone, Debug, Default, PartialEq, Codec)]
pub struct ComponentStatus {
    /// `ronl` or `rofl`.
    pub kind: String,
    /// Its name.
    #[codec(omitempty)]
    pub name: String,
    /// Its version.
    #[codec(omitempty)]
    pub version: Version,
    /// Whether it came in a bundle of its own.
    #[codec(omitempty)]
    pub detached: bool,
    /// Whether it is off unless the configuration says otherwise.
    #[codec(omitempty)]
    pub disabled: bool,
    /// What it does: `running`, `warming`, `failed: ERROR, since SECONDS`. Not in the reference.
    #[codec(omitempty)]
    pub state: String,
}

impl From<&ComponentReport> for ComponentStatus {
    fn from(report: &ComponentReport) -> Self {
        Self {
            kind: report.id.kind().to_owned(),
            name: report.id.name().to_owned(),
            version: report.version,
            detached: report.detached,
            disabled: report.disabled,
            state: report.status.as_ref().map_or_else(String::new, ToString::to_string),
        }
    }
}

/// How far the history is.
#[derive(Clone, Debug, Default, PartialEq, Codec)]
pub struct IndexerStatus {
    /// `started`, `reindexing`, `indexing` or `stopped`.
    pub status: String,
    /// The last round that was added.
    pub last_round: u64,
    /// While old blocks are looked up.
    #[codec(omitempty)]
    pub reindex_status: Option<ReindexStatus>,
}

/// How far the looking up of old blocks is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Codec)]
pub struct ReindexStatus {
    /// Blocks of a batch.
    pub batch_size: u16,
    /// Last height that was looked at.
    pub last_height: i64,
    /// First height.
    pub start_height: i64,
    /// Last height.
    pub end_height: i64,
    /// When it is probably done.
    pub eta: Timestamp,
}

fn in_future(after: Duration) -> Timestamp {
    let then = SystemTime::now().checked_add(after).and_then(|then| then.duration_since(UNIX_EPOCH).ok());
    let seconds = then.and_then(|then| i64::try_from(then.as_secs()).ok());
    seconds.and_then(|seconds| Time::new(seconds, 0).ok()).map(Timestamp).unwrap_or_default()
}

impl From<Indexing> for IndexerStatus {
    fn from(indexing: Indexing) -> Self {
        let reindex = |r: rt_history::ReindexStatus| ReindexStatus {
            batch_size: r.batch_size,
            last_height: r.last_height,
            start_height: r.start_height,
            end_height: r.end_height,
            eta: in_future(r.remaining),
        };
        Self {
            status: indexing.status.as_str().to_owned(),
            last_round: indexing.last_round,
            reindex_status: indexing.reindex.map(reindex),
        }
    }
}

impl RuntimeStatus {
    /// How it is now. Reads disk.
    pub(crate) fn of(runtime: &ParaTime, parts: &Parts, failed: Option<String>) -> Self {
        let mut status = Self { descriptor: runtime.view.borrow().descriptor.as_deref().cloned(), ..Self::default() };
        status.set_blocks(runtime, parts);
        let store = runtime.store().status();
        status.storage = store.storage;
        status.indexer = Some(store.indexer.into());
        let hosted = runtime.hosted().status();
        let mut versions: Vec<Version> = hosted
            .components
            .iter()
            .filter(|report| report.id == wire_runtime::bundle::ComponentId::Ronl)
            .map(|report| report.version)
            .collect();
        versions.sort();
        versions.dedup();
        if let Some(executor) = &runtime.executor {
            let executor = executor.status();
            let mut committee = executor.committee;
            committee.host = HostVersions { versions: Some(versions) };
            status.committee = Some(committee);
            status.executor = executor.executor;
        }
        status.provisioner = hosted.provisioner;
        status.components = hosted.components.iter().map(ComponentStatus::from).collect();
        status.problems = failed.into_iter().chain(store.error).chain(hosted.problems).collect();
        status
    }

    fn set_blocks(&mut self, runtime: &ParaTime, parts: &Parts) {
        let history = runtime.store().history();
        if let Ok(Some(block)) = history.block(wire_runtime::client::ROUND_LATEST).map(|found| found.block) {
            self.latest_round = block.header.round;
            self.latest_hash = block.header.hash();
            self.latest_time = block.header.timestamp;
            let [_, state_root] = rt_storage::roots_of(&block.header);
            self.latest_state_root = state_root;
        }
        let genesis = parts
            .chain
            .state(0)
            .ok()
            .and_then(|state| apps_committees::roothash::query::genesis_block(&*state, &runtime.id).ok());
        if let Some(Block { header }) = genesis {
            self.genesis_round = header.round;
            self.genesis_hash = header.hash();
        }
        let retained = match runtime.client() {
            Some(client) => client.last_retained_block().ok(),
            None => history.earliest_block().ok().and_then(|found| found.block),
        };
        if let Some(Block { header }) = retained {
            self.last_retained_round = header.round;
            self.last_retained_hash = header.hash();
        }
    }
}
