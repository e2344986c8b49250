//! Queries about random heights and rounds, whose answers must agree with each other.

mod staking;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use base_codec::cbor::{Decode, Encode};
use base_codec::{Bytes, Codec, Raw, cbor};
use base_prims::{Hash, Namespace};
use mkvs_tree::sync::{GetPrefixesRequest, GetRequest, IterateRequest, ProofResponse, ReadSyncer, Remote};
use mkvs_tree::{KvRead as _, Proof, Retention, Root, Tree};
use wire_consensus::registry::{
    ConsensusAddressQuery, GetRuntimeQuery, GetRuntimesQuery, IdQuery, NodeStatus, Runtime,
};
use wire_consensus::roothash::{Block as RuntimeBlock, InMessageQueueRequest, RoundRootsRequest, RuntimeRequest};
use wire_consensus::scheduler::{Committee, Validator};
use wire_consensus::{beacon, entity, governance, node, registry, roothash, scheduler};
use wire_runtime::client::{ROUND_LATEST, RoundRequest};

use crate::Job;
use crate::node::{LATEST, MODULE, Node, WorkloadError, violated};

const PAUSE: Duration = Duration::from_secs(1);
/// How long one round of queries may take.
const ITERATION_TIME: Duration = Duration::from_secs(300);
/// How often, of a hundred, the earliest, the newest height is asked about, and all state is read.
const EARLIEST: u64 = 10;
const NEWEST: u64 = 10;
const ALL_STATE: u64 = 5;
/// In how many iterations all proposals are asked for once.
const ALL_PROPOSALS: u64 = 10;
/// Epoch from which on the runtime works, and from which on it has a committee.
const FIRST_EPOCH: u64 = 3;
/// Pairs that come with a proof.
const PREFETCH: usize = 4 << 20;

/// A block, as far as it is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
struct Block {
    height: i64,
    hash: Hash,
    time: Option<i64>,
    state_root: Root,
    #[codec(omitempty)]
    size: u64,
    meta: Raw,
}

/// Results of a block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
struct BlockResults {
    height: i64,
    meta: Raw,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
struct TransactionsWithResults {
    transactions: Option<Vec<Bytes>>,
    results: Option<Vec<TransactionResult>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
struct TransactionResult {
    error: Raw,
    events: Option<Vec<TransactionEvent>>,
    #[codec(omitempty)]
    gas_used: u64,
}

/// An event of a transaction: exactly one field is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
struct TransactionEvent {
    #[codec(omitempty)]
    staking: Option<wire_consensus::staking::Event>,
    #[codec(omitempty)]
    registry: Option<registry::Event>,
    #[codec(omitempty)]
    roothash: Option<roothash::Event>,
    #[codec(omitempty)]
    governance: Option<governance::Event>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
struct CommitteesRequest {
    height: i64,
    runtime_id: Namespace,
}

struct Queries {
    job: Job,
    runtime: Namespace,
    staking: wire_consensus::staking::Parameters,
    scheduler: scheduler::Parameters,
    beacon: beacon::Parameters,
    genesis_round: u64,
    iteration: u64,
}

pub(crate) async fn run(job: Job) -> Result<(), WorkloadError> {
    let runtime = job.runtime()?;
    let node = job.node().clone();
    let mut all = Queries {
        runtime,
        staking: node.ask("Staking", "ConsensusParameters", LATEST).await?,
        scheduler: node.ask("Scheduler", "ConsensusParameters", LATEST).await?,
        beacon: node.ask("Beacon", "ConsensusParameters", LATEST).await?,
        genesis_round: 0,
        iteration: 0,
        job,
    };
    if all.job.args.runtime_queries {
        let genesis: RuntimeBlock = node.call("RuntimeClient", "GetGenesisBlock", runtime).await?;
        all.genesis_round = genesis.header.round;
        tracing::info!(module = MODULE, epoch = FIRST_EPOCH, "waiting for epoch");
        node.wait_epoch(FIRST_EPOCH).await?;
    }
    loop {
        let asking = tokio::time::timeout(ITERATION_TIME, all.iterate()).await;
        let limit = WorkloadError::Timeout { what: "queries", limit: ITERATION_TIME };
        match asking.unwrap_or(Err(limit)) {
            Ok(()) => {}
            // It may be restarting.
            Err(error) if error.is_away() => {
                tracing::warn!(module = MODULE, err = %error, "node unavailable, retrying")
            }
            Err(error) => return Err(error),
        }
        if !all.job.deadline.pause(PAUSE).await {
            return Ok(());
        }
    }
}

impl Queries {
    fn node(&self) -> &Node {
        self.job.node()
    }

    async fn at<R: Encode + Decode>(&self, service: &str, method: &str, height: i64) -> Result<R, WorkloadError> {
        self.node().call(service, method, height).await
    }

    /// One round of queries, or waits for a node that is not synced.
    async fn iterate(&mut self) -> Result<(), WorkloadError> {
        let synced: bool = self.node().get("NodeController", "IsSynced").await?;
        if !synced {
            return self.node().wait_sync().await;
        }
        let newest = self.node().height().await?;
        let earliest = newest.saturating_sub(self.job.args.num_kept_versions).max(1);
        let random = &mut self.job.random;
        let drawn = random.below(100);
        let height = match drawn {
            _ if drawn < EARLIEST => earliest,
            _ if drawn < EARLIEST + NEWEST => newest,
            _ => earliest.saturating_add_unsigned(random.below(newest.saturating_sub(earliest).unsigned_abs() + 1)),
        };
        tracing::debug!(module = MODULE, height, height_latest = newest, "doing queries");
        let _: Raw = self.node().get("NodeController", "GetStatus").await?;
        self.consensus(height).await?;
        self.scheduler(height).await?;
        self.registry(height).await?;
        self.staking(height).await?;
        self.governance(height, drawn < EARLIEST).await?;
        self.roothash(height).await?;
        if self.job.args.runtime_queries {
            self.runtime().await?;
        }
        self.iteration += 1;
        tracing::debug!(module = MODULE, height, "queries done");
        Ok(())
    }

    async fn consensus(&mut self, height: i64) -> Result<(), WorkloadError> {
        let epoch = self.node().epoch(height).await?;
        let block: Block = self.at("Consensus", "GetBlock", height).await?;
        let results: BlockResults = self.at("Consensus", "GetBlockResults", height).await?;
        if (block.height, results.height) != (height, height) {
            return violated(format!("block {}, results {} at height {height}", block.height, results.height));
        }
        if let (Some(params), false) = (&self.beacon.insecure_parameters, self.beacon.debug_mock_backend)
            && Some(epoch) != height.checked_div(params.interval).map(i64::unsigned_abs)
        {
            return violated(format!("invalid epoch {epoch} at height {height}"));
        }
        let txs: Option<Vec<Bytes>> = self.at("Consensus", "GetTransactions", height).await?;
        let with: TransactionsWithResults = self.at("Consensus", "GetTransactionsWithResults", height).await?;
        let (txs, same) = (txs.unwrap_or_default(), with.transactions.unwrap_or_default());
        let results = with.results.unwrap_or_default();
        if txs != same || txs.len() != results.len() {
            let counts = format!("{}, {} with {} results", txs.len(), same.len(), results.len());
            return violated(format!("transactions at height {height} differ: {counts}"));
        }
        let events = results.into_iter().flat_map(|result| result.events.unwrap_or_default()).collect();
        self.events(height, events).await?;
        if height > 1 && self.job.random.percent(ALL_STATE) {
            read_all(self.node().clone(), block.state_root).await?;
            tracing::debug!(module = MODULE, height, "state integrity verified");
        }
        Ok(())
    }

    /// Events of transactions are those that the services tell.
    async fn events(&self, height: i64, events: Vec<TransactionEvent>) -> Result<(), WorkloadError> {
        let mut expected = BTreeMap::new();
        let registry: Option<Vec<registry::Event>> = self.at("Registry", "GetEvents", height).await?;
        let staking: Option<Vec<wire_consensus::staking::Event>> = self.at("Staking", "GetEvents", height).await?;
        let governance: Option<Vec<governance::Event>> = self.at("Governance", "GetEvents", height).await?;
        let registry = registry.unwrap_or_default().into_iter().filter(|event| event.tx_hash != Hash::EMPTY);
        let staking = staking.unwrap_or_default().into_iter().filter(|event| event.tx_hash != Hash::EMPTY);
        let governance = governance.unwrap_or_default().into_iter().filter(|event| event.tx_hash != Hash::EMPTY);
        let all = registry.map(|event| TransactionEvent { registry: Some(event), ..Default::default() });
        let all = all.chain(staking.map(|event| TransactionEvent { staking: Some(event), ..Default::default() }));
        let all = all.chain(governance.map(|event| TransactionEvent { governance: Some(event), ..Default::default() }));
        for event in all {
            *expected.entry(cbor::to_vec(&event)).or_insert(0u64) += 1;
        }
        match difference(expected, &events) {
            None => Ok(()),
            Some(text) => violated(format!("events of transactions at height {height}: {text}")),
        }
    }

    async fn scheduler(&self, height: i64) -> Result<(), WorkloadError> {
        let validators: Option<Vec<Validator>> = self.at("Scheduler", "GetValidators", height).await?;
        let found = i64::try_from(validators.unwrap_or_default().len()).unwrap_or(i64::MAX);
        if found < self.scheduler.min_validators {
            return violated(format!("not enough validators at height {height}: {found}"));
        }
        let request = CommitteesRequest { height, runtime_id: self.runtime };
        let committees: Option<Vec<Committee>> = self.node().call("Scheduler", "GetCommittees", request).await?;
        let epoch = self.node().epoch(height).await?;
        if epoch > FIRST_EPOCH && committees.is_none() {
            return violated(format!("missing committees at height {height} (epoch {epoch})"));
        }
        Ok(())
    }

    async fn registry(&self, height: i64) -> Result<(), WorkloadError> {
        let different = |what: &str| violated(format!("{what} at height {height} is another one"));
        let entities: Option<Vec<entity::Entity>> = self.at("Registry", "GetEntities", height).await?;
        let entities = entities.unwrap_or_default();
        for known in &entities {
            let query = IdQuery { height, id: known.id };
            let found: entity::Entity = self.node().call("Registry", "GetEntity", query).await?;
            if found.id != known.id {
                return different("entity");
            }
        }
        let nodes: Option<Vec<node::Node>> = self.at("Registry", "GetNodes", height).await?;
        let nodes = nodes.unwrap_or_default();
        for known in &nodes {
            let query = IdQuery { height, id: known.id };
            let found: node::Node = self.node().call("Registry", "GetNode", query.clone()).await?;
            let _: NodeStatus = self.node().call("Registry", "GetNodeStatus", query).await?;
            let address = consensus_address(&known.consensus.id);
            let query = ConsensusAddressQuery { height, address: Some(Bytes(address)) };
            let same: node::Node = self.node().call("Registry", "GetNodeByConsensusAddress", query).await?;
            if found.id != known.id || same.id != known.id {
                return different("node");
            }
        }
        let query = GetRuntimesQuery { height, include_suspended: false };
        let runtimes: Option<Vec<Runtime>> = self.node().call("Registry", "GetRuntimes", query.clone()).await?;
        let runtimes = runtimes.unwrap_or_default();
        for known in &runtimes {
            let query = GetRuntimeQuery { height, id: known.id, ..GetRuntimeQuery::default() };
            let found: Runtime = self.node().call("Registry", "GetRuntime", query).await?;
            if found.id != known.id {
                return different("runtime");
            }
        }
        let query = GetRuntimesQuery { include_suspended: true, ..query };
        let all: Option<Vec<Runtime>> = self.node().call("Registry", "GetRuntimes", query).await?;
        if all.unwrap_or_default().len() < runtimes.len() {
            return violated(format!("fewer runtimes with suspended ones at height {height}"));
        }
        Ok(())
    }

    async fn governance(&self, height: i64, is_earliest: bool) -> Result<(), WorkloadError> {
        let proposals: Option<Vec<governance::Proposal>> = self.at("Governance", "Proposals", height).await?;
        // The earliest height may be pruned meanwhile.
        if self.iteration.is_multiple_of(ALL_PROPOSALS) && !is_earliest {
            for known in proposals.unwrap_or_default() {
                let query = governance::ProposalQuery { height, proposal_id: known.id };
                let found: governance::Proposal = self.node().call("Governance", "Proposal", query).await?;
                let _: Raw = self.node().call("Governance", "Votes", query).await?;
                if found.content != known.content {
                    return violated(format!("proposal {} differs at height {height}", known.id));
                }
            }
        }
        let _: Raw = self.at("Governance", "ActiveProposals", height).await?;
        let pending: Option<Vec<wire_consensus::upgrade::Descriptor>> =
            self.at("Governance", "PendingUpgrades", height).await?;
        for upgrade in pending.unwrap_or_default() {
            let invalid = |error| WorkloadError::Violated(format!("invalid pending upgrade: {error}"));
            upgrade.validate_basic().map_err(invalid)?;
        }
        Ok(())
    }

    async fn roothash(&self, height: i64) -> Result<(), WorkloadError> {
        let _: roothash::Parameters = self.at("RootHash", "ConsensusParameters", height).await?;
        let request = RuntimeRequest { runtime_id: self.runtime, height };
        for method in [
            "GetGenesisBlock",
            "GetIncomingMessageQueueMeta",
            "GetLastRoundResults",
            "GetLatestBlock",
            "GetPastRoundRoots",
        ] {
            let _: Raw = self.node().call("RootHash", method, request.clone()).await?;
        }
        let queue = InMessageQueueRequest { runtime_id: self.runtime, height, ..InMessageQueueRequest::default() };
        let _: Raw = self.node().call("RootHash", "GetIncomingMessageQueue", queue).await?;
        let state: roothash::RuntimeState = self.node().call("RootHash", "GetRuntimeState", request).await?;
        let roots = RoundRootsRequest { runtime_id: self.runtime, height, round: state.last_normal_round };
        let _: Raw = self.node().call("RootHash", "GetRoundRoots", roots).await?;
        Ok(())
    }

    async fn runtime(&mut self) -> Result<(), WorkloadError> {
        let runtime_id = self.runtime;
        let request = |round| RoundRequest { runtime_id, round };
        let newest: RuntimeBlock = self.node().call("RuntimeClient", "GetBlock", request(ROUND_LATEST)).await?;
        let (first, last) = (self.genesis_round, newest.header.round);
        let drawn = self.job.random.below(100);
        let round = match drawn {
            _ if drawn < EARLIEST => first,
            _ if drawn < EARLIEST + NEWEST => last,
            _ => first + self.job.random.below(last.saturating_sub(first) + 1),
        };
        let block: RuntimeBlock = self.node().call("RuntimeClient", "GetBlock", request(round)).await?;
        if block.header.round == round { Ok(()) } else { violated(format!("block {} for {round}", block.header.round)) }
    }
}

/// What the expected events and those that were found do not have in common. Those of the root hash service are not looked
/// at, for clients cannot ask for them.
fn difference(mut expected: BTreeMap<Vec<u8>, u64>, found: &[TransactionEvent]) -> Option<String> {
    for event in found.iter().filter(|event| event.roothash.is_none()) {
        let key = cbor::to_vec(event);
        match expected.get_mut(&key) {
            None => return Some(format!("unexpected {event:?}")),
            Some(1) => {
                expected.remove(&key);
            }
            Some(left) => *left -= 1,
        }
    }
    (!expected.is_empty()).then(|| format!("{} missing", expected.len()))
}

/// The address of a consensus key: the first bytes of its SHA-256.
fn consensus_address(key: &base_prims::PublicKey) -> Vec<u8> {
    wire_cometbft::keys::Address::of(key.as_bytes()).0.to_vec()
}

/// Proofs of the consensus layer's state.
struct State {
    node: Node,
    tokio: tokio::runtime::Handle,
}

impl State {
    fn ask<T: Encode + Decode>(&self, method: &str, request: T) -> Result<Proof, String> {
        let asked = self.tokio.block_on(self.node.call("Consensus", method, request));
        asked.map(|answer: ProofResponse| answer.proof).map_err(|error| error.to_string())
    }
}

impl ReadSyncer for State {
    fn get(&self, request: &GetRequest) -> Result<Proof, String> {
        self.ask("StateSyncGet", request.clone())
    }

    fn get_prefixes(&self, request: &GetPrefixesRequest) -> Result<Proof, String> {
        self.ask("StateSyncGetPrefixes", request.clone())
    }

    fn iterate(&self, request: &IterateRequest) -> Result<Proof, String> {
        self.ask("StateSyncIterate", request.clone())
    }
}

/// Reads every key of a state, with proofs.
async fn read_all(node: Node, root: Root) -> Result<(), WorkloadError> {
    let state = State { node, tokio: tokio::runtime::Handle::current() };
    let reading = tokio::task::spawn_blocking(move || {
        let tree = Tree::remote(Arc::new(Remote::new(state, root, PREFETCH)), Retention::Bytes(PREFETCH));
        tree.iterate(&[], &mut |_, _| ControlFlow::Continue(()))
    });
    let done = reading.await.map_err(|error| WorkloadError::Violated(error.to_string()))?;
    done.map_err(|error| WorkloadError::Violated(format!("consensus state iteration failed: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(amount: u64) -> TransactionEvent {
        let burn = wire_consensus::staking::BurnEvent { amount: amount.into(), ..Default::default() };
        let staking = wire_consensus::staking::Event { burn: Some(burn), ..Default::default() };
        TransactionEvent { staking: Some(staking), ..TransactionEvent::default() }
    }

    #[test]
    fn events_are_counted() {
        let expected = |amounts: &[u64]| {
            let mut all = BTreeMap::new();
            for amount in amounts {
                *all.entry(cbor::to_vec(&event(*amount))).or_insert(0) += 1;
            }
            all
        };
        assert_eq!(difference(expected(&[1, 1, 2]), &[event(1), event(2), event(1)]), None);
        assert!(difference(expected(&[1, 1, 2]), &[event(1), event(2)]).is_some());
        assert!(difference(expected(&[1]), &[event(1), event(1)]).is_some());
        assert!(difference(expected(&[]), &[event(1)]).is_some());
        let other = TransactionEvent { roothash: Some(roothash::Event::default()), ..TransactionEvent::default() };
        assert_eq!(difference(expected(&[]), &[other]), None);
    }
}
