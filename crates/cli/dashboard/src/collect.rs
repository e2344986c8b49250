//! Asks the nodes.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base_codec::Bytes;
use base_codec::json::{ToJson as _, Value};
use base_crypto::context::ChainContext;
use base_grpc::{Argument, Cbor, Client, Reply};
use base_prims::{Address, Namespace};
use node_rpc::status::Status;
use node_rpc::types::{AtHeight, Block, BlockMeta, TransactionResult, TransactionsWithResults};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use wire_cometbft::block::{BlockIdFlag, Commit, Header};
use wire_cometbft::codec::Message as _;
use wire_cometbft::keys::PublicKeySum;
use wire_cometbft::merkle::sha256;
use wire_cometbft::validators::ValidatorSet;
use wire_consensus::keymanager;
use wire_consensus::registry::{GetRuntimesQuery, NamespaceQuery, Runtime, RuntimeKind};
use wire_consensus::roothash::{Block as RuntimeBlock, HeaderType, RuntimeRequest};
use wire_consensus::scheduler::{Committee, GetCommitteesRequest};
use wire_consensus::transaction::SignedTransaction;
use wire_runtime::client::{RoundRequest, TransactionWithResults};

use crate::logs::{self, LogQuery};
use crate::overview::{
    BlockView, ComponentView, MemberView, NodeView, Overview, ParaTimeView, RoundView, State, TxView, ValidatorView,
};

/// How old an answer may be that is given again.
pub const MAX_AGE: Duration = Duration::from_millis(900);
/// How long a node may take for one answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Most nodes that are asked.
const MAX_TARGETS: usize = 256;
/// Blocks that are shown.
const BLOCKS: usize = 20;
/// Transactions that are shown.
const TRANSACTIONS: usize = 100;
/// ParaTimes that are shown, and rounds of each.
const PARATIMES: usize = 32;
const ROUNDS: u64 = 8;
/// Transactions of a round that are shown.
const ROUND_TRANSACTIONS: usize = 20;

/// States of an executor's worker, by number. Source: `go/worker/compute/executor/api`.
const WORKER_STATES: [&str; 3] = ["ready", "waiting for runtime readiness", "waiting for trust sync"];

/// A node to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name, for people.
    pub name: String,
    /// What it is there for, until it says so itself.
    pub mode: String,
    /// Its socket.
    pub socket: PathBuf,
    /// Its log file, if it may be shown.
    pub log: Option<PathBuf>,
}

/// A block with what it says about votes for the one before.
struct Seen {
    view: BlockView,
    /// By address: the votes for the block before.
    votes: BTreeMap<Vec<u8>, &'static str>,
    proposer: Vec<u8>,
    transactions: Vec<TxView>,
}

#[derive(Default)]
struct Cache {
    taken: Option<(Instant, Arc<Overview>)>,
    chain_context: String,
    /// Newest first, without holes.
    blocks: VecDeque<Seen>,
}

/// Asks nodes when somebody looks.
pub struct Dashboard {
    targets: Vec<Target>,
    cache: Mutex<Cache>,
}

impl std::fmt::Debug for Dashboard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dashboard").field("targets", &self.targets).finish_non_exhaustive()
    }
}

/// A connection that gives up in time. What it asks for is only shown: that there is no answer is enough to know.
#[derive(Clone)]
struct Connection(Client);

impl Connection {
    async fn new(target: &Target) -> Result<Self, String> {
        let address = base_grpc::Address::Unix(target.socket.clone());
        match tokio::time::timeout(PATIENCE, Client::connect(&address)).await {
            Ok(Ok(client)) => Ok(Self(client)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no connection in time".to_owned()),
        }
    }

    async fn ask<A: Argument, R: Reply>(&self, service: &str, method: &str, argument: A) -> Result<R, String> {
        let service = format!("oasis-core.{service}");
        match tokio::time::timeout(PATIENCE, self.0.call(&service, method, &argument)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer to {method} in time")),
        }
    }
}

impl Dashboard {
    /// A dashboard of these nodes; beyond 256 they are left out.
    #[must_use]
    pub fn new(mut targets: Vec<Target>) -> Self {
        targets.truncate(MAX_TARGETS);
        Self { targets, cache: Mutex::new(Cache::default()) }
    }

    /// How everything stands now, or a moment ago.
    pub async fn overview(&self) -> Arc<Overview> {
        let mut cache = self.cache.lock().await;
        if let Some((at, overview)) = &cache.taken
            && at.elapsed() < MAX_AGE
        {
            return Arc::clone(overview);
        }
        let overview = Arc::new(self.collect(&mut cache).await);
        cache.taken = Some((Instant::now(), Arc::clone(&overview)));
        overview
    }

    /// The end of a node's log.
    ///
    /// # Errors
    /// If there is no such node, or its log cannot be read.
    pub async fn log(&self, query: LogQuery) -> Result<Vec<String>, String> {
        let target = self.targets.iter().find(|target| target.name == query.node);
        let Some(path) = target.and_then(|target| target.log.clone()) else {
            return Err(format!("{:?} is not a node with a log", query.node));
        };
        let read = tokio::task::spawn_blocking(move || logs::tail(&path, &query)).await;
        read.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    async fn collect(&self, cache: &mut Cache) -> Overview {
        let mut asked = JoinSet::new();
        for (place, target) in self.targets.iter().cloned().enumerate() {
            asked.spawn(async move { (place, stand(&target).await) });
        }
        let mut answers: Vec<Option<(Connection, Status)>> = Vec::new();
        answers.resize_with(self.targets.len(), || None);
        let mut nodes: Vec<_> = self.targets.iter().map(unreachable_node).collect();
        while let Some(answer) = asked.join_next().await {
            let Ok((place, answer)) = answer else { continue };
            let (Some(node), Some(slot)) = (nodes.get_mut(place), answers.get_mut(place)) else { continue };
            match answer {
                Ok((connection, status)) => {
                    describe(node, &status);
                    *slot = Some((connection, status));
                }
                Err(reason) => node.why = reason,
            }
        }
        let mut overview = Overview { nodes, ..Overview::default() };
        let names = Names::new(&self.targets, &answers);
        let best =
            answers.iter().flatten().filter_map(|(connection, status)| Some((connection, status.consensus.as_ref()?)));
        let Some((front, consensus)) = best.max_by_key(|(_, consensus)| consensus.latest_height) else {
            return overview;
        };
        overview.chain_context = consensus.chain_context.clone();
        overview.height = consensus.latest_height;
        overview.epoch = consensus.latest_epoch;
        overview.time = consensus.latest_time.0.to_string();
        if cache.chain_context != overview.chain_context {
            cache.chain_context = overview.chain_context.clone();
            cache.blocks.clear();
        }
        refresh(cache, front, overview.height, &names).await;
        overview.blocks = cache.blocks.iter().map(|seen| seen.view.clone()).collect();
        name_proposers(&mut overview.blocks, cache, &names);
        let transactions = cache.blocks.iter().flat_map(|seen| seen.transactions.iter().cloned());
        overview.transactions = transactions.take(TRANSACTIONS).collect();
        overview.validators = validators(front, cache, &names).await;
        overview.paratimes = paratimes(front, &answers, &names).await;
        overview
    }
}

/// What nodes are called by their keys.
struct Names {
    /// By node key.
    nodes: BTreeMap<String, String>,
    /// By consensus key.
    validators: BTreeMap<Vec<u8>, String>,
    /// By account.
    accounts: BTreeMap<String, String>,
}

impl Names {
    fn new(targets: &[Target], answers: &[Option<(Connection, Status)>]) -> Self {
        let mut names = Self { nodes: BTreeMap::new(), validators: BTreeMap::new(), accounts: BTreeMap::new() };
        for (target, answer) in targets.iter().zip(answers) {
            let Some((_, status)) = answer else { continue };
            let identity = &status.identity;
            names.nodes.insert(identity.node.to_string(), target.name.clone());
            names.validators.insert(identity.consensus.as_bytes().to_vec(), target.name.clone());
            names.accounts.insert(Address::of_key(&identity.node).to_string(), target.name.clone());
        }
        names
    }

    fn node(&self, key: &base_prims::PublicKey) -> String {
        let key = key.to_string();
        self.nodes.get(&key).cloned().unwrap_or(key)
    }
}

async fn stand(target: &Target) -> Result<(Connection, Status), String> {
    let connection = Connection::new(target).await?;
    let Cbor(status) = connection.ask("NodeController", "GetStatus", ()).await?;
    Ok((connection, status))
}

fn unreachable_node(target: &Target) -> NodeView {
    NodeView {
        name: target.name.clone(),
        mode: target.mode.clone(),
        has_log: target.log.is_some(),
        ..NodeView::default()
    }
}

/// Says how a node stands, and why.
pub(crate) fn describe(node: &mut NodeView, status: &Status) {
    node.mode.clone_from(&status.mode);
    node.version.clone_from(&status.software_version);
    node.id = status.identity.node.to_string();
    node.p2p_peers = status.p2p.as_ref().map_or(0, |p2p| p2p.num_peers);
    // What this does not know by type is looked at as clients show it.
    let shown = status.to_json();
    let mut reasons: Vec<String> = Vec::new();
    node.state = State::Ready;
    if let Some(consensus) = &status.consensus {
        node.height = consensus.latest_height;
        let peers = consensus.p2p.as_ref().and_then(|p2p| p2p.peers.as_ref());
        node.consensus_peers = peers.map_or(0, Vec::len);
        if consensus.status != node_rpc::status::StatusState::READY {
            node.state = State::Waiting;
            reasons.push(format!("catching up, at height {}", consensus.latest_height));
        }
        reasons.extend(texts(shown.pointer("/consensus/problems")));
        if consensus.is_validator {
            reasons.push("validates".to_owned());
        }
    }
    if let Some(seed) = &status.seed {
        node.consensus_peers = seed.node_peers.as_ref().map_or(0, Vec::len);
    }
    if let Some(waits_for) = shown.get("waits_for").and_then(Value::as_str).filter(|text| !text.is_empty()) {
        node.state = State::Waiting;
        reasons.push(waits_for.to_owned());
    }
    if let Some(registration) = &status.registration {
        if !registration.last_registration.0.is_zero() {
            node.registered = registration.last_registration.0.to_string();
        }
        let descriptor = registration.descriptor.as_ref();
        node.roles = descriptor.map_or_else(String::new, |descriptor| descriptor.roles.to_string());
        if !registration.last_attempt_successful && !registration.last_attempt_error_message.is_empty() {
            reasons.push(format!("registration failed: {}", registration.last_attempt_error_message));
        }
    }
    for (id, runtime) in shown.get("runtimes").and_then(Value::as_object).into_iter().flatten() {
        let problems = texts(runtime.get("problems"));
        if !problems.is_empty() {
            node.state = State::Waiting;
        }
        reasons.extend(problems);
        components(node, id, runtime);
    }
    for component in &node.components {
        if !["", "running", "started"].contains(&component.state.as_str()) {
            reasons.push(format!("component {} is {}", component.name, component.state));
        }
        if !["", "ready"].contains(&component.worker.as_str()) {
            node.state = State::Waiting;
            reasons.push(format!("worker: {}", component.worker));
        }
    }
    reasons.dedup();
    node.why = if reasons.is_empty() { "nothing is missing".to_owned() } else { reasons.join("; ") };
}

fn components(node: &mut NodeView, id: &str, runtime: &Value) {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |value: Option<&Value>| value.and_then(Value::as_u64).unwrap_or(0);
    let worker = runtime.pointer("/executor/status").map_or_else(String::new, |state| {
        // On the wire the state is a number.
        let place = state.as_u64().and_then(|place| usize::try_from(place).ok());
        let name = place.and_then(|place| WORKER_STATES.get(place)).copied();
        name.map_or_else(|| state.to_string(), str::to_owned)
    });
    for component in runtime.get("components").and_then(Value::as_array).into_iter().flatten() {
        let name = text(component, "name");
        let kind = text(component, "kind");
        let version = component.get("version");
        let part = |key| number(version.and_then(|version| version.get(key)));
        node.components.push(ComponentView {
            runtime: id.to_owned(),
            name: if name.is_empty() { kind } else { format!("{kind}.{name}") },
            version: format!("{}.{}.{}", part("major"), part("minor"), part("patch")),
            state: text(component, "state"),
            worker: worker.clone(),
            round: number(runtime.get("latest_round")),
        });
    }
}

fn texts(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Fetches the blocks that are new.
async fn refresh(cache: &mut Cache, front: &Connection, height: i64, names: &Names) {
    let known = cache.blocks.front().map_or(0, |seen| seen.view.height);
    let first = (height - i64::try_from(BLOCKS).unwrap_or(0) + 1).max(1).max(known + 1);
    if first > known + 1 {
        cache.blocks.clear();
    }
    let context = ChainContext::parse(&cache.chain_context).ok();
    for at in first..=height {
        let Ok(seen) = fetch(front, at, context.as_ref(), names).await else {
            // The next look tries again.
            break;
        };
        cache.blocks.push_front(seen);
        cache.blocks.truncate(BLOCKS);
    }
}

async fn fetch(front: &Connection, height: i64, chain: Option<&ChainContext>, names: &Names) -> Result<Seen, String> {
    let Cbor(block): Cbor<Block> = front.ask("Consensus", "GetBlock", Cbor(height)).await?;
    let meta: BlockMeta = block.meta.decode_as().map_err(|error| error.to_string())?;
    let header = Header::decode(&meta.header).map_err(|error| error.to_string())?;
    let commit = Commit::decode(&meta.last_commit).map_err(|error| error.to_string())?;
    let Cbor(found): Cbor<TransactionsWithResults> =
        front.ask("Consensus", "GetTransactionsWithResults", Cbor(height)).await?;
    let vote = |flag: BlockIdFlag| match flag {
        BlockIdFlag::COMMIT => "commit",
        BlockIdFlag::NIL => "nil",
        _ => "absent",
    };
    // Absent entries have no address; the order is that of the validators.
    let votes = commit.signatures.iter().filter(|entry| !entry.validator_address.is_empty());
    let pairs = found.transactions.iter().zip(&found.results);
    Ok(Seen {
        view: BlockView {
            height,
            time: header.time.to_string(),
            hash: block.hash.to_string(),
            transactions: found.transactions.len(),
            size: block.size,
            ..BlockView::default()
        },
        votes: votes.map(|entry| (entry.validator_address.clone(), vote(entry.block_id_flag))).collect(),
        proposer: header.proposer_address.clone(),
        transactions: pairs.map(|(raw, result)| transaction(height, raw, result, chain, names)).collect(),
    })
}

fn transaction(
    height: i64,
    raw: &Bytes,
    result: &TransactionResult,
    chain: Option<&ChainContext>,
    names: &Names,
) -> TxView {
    let mut view = TxView { height, size: raw.len(), gas: result.gas_used, ..TxView::default() };
    if result.error.code != 0 {
        view.error = format!("{} ({}, code {})", result.error.message, result.error.module, result.error.code);
    }
    let Ok(signed) = base_codec::cbor::from_slice::<SignedTransaction>(raw) else {
        view.method = "(not a transaction)".to_owned();
        return view;
    };
    view.hash = signed.hash().to_string();
    let from = Address::of_key(&signed.signer()).to_string();
    view.from = names.accounts.get(&from).map_or_else(|| from.clone(), |name| format!("{name} ({from})"));
    match chain.map(|chain| signed.open(chain)) {
        Some(Ok(tx)) => {
            view.method = tx.method;
            view.nonce = tx.nonce;
            view.fee = tx.fee.map_or_else(|| "0".to_owned(), |fee| fee.amount.to_string());
        }
        // Blocks hold such: they failed.
        _ => view.method = "(signature does not verify)".to_owned(),
    }
    view
}

/// Blocks name who proposed them by address.
fn name_proposers(blocks: &mut [BlockView], cache: &Cache, names: &Names) {
    for (view, seen) in blocks.iter_mut().zip(&cache.blocks) {
        view.proposer = names.of_address(&seen.proposer).unwrap_or_else(|| hex::encode_upper(&seen.proposer));
    }
}

impl Names {
    fn of_address(&self, address: &[u8]) -> Option<String> {
        let is = |key: &Vec<u8>| !address.is_empty() && sha256(key).starts_with(address);
        self.validators.iter().find(|(key, _)| is(key)).map(|(_, name)| name.clone())
    }
}

async fn validators(front: &Connection, cache: &Cache, names: &Names) -> Vec<ValidatorView> {
    let answer: Result<Cbor<AtHeight>, _> = front.ask("Consensus", "GetValidators", Cbor(0_i64)).await;
    let set = answer.ok().and_then(|Cbor(answer)| ValidatorSet::decode(&answer.meta).ok()).unwrap_or_default();
    let view = |validator: wire_cometbft::validators::Validator| {
        let known = match &validator.pub_key.sum {
            Some(PublicKeySum::Ed25519(key)) => names.validators.get(key).cloned(),
            _ => None,
        };
        let votes = cache.blocks.iter().map(|seen| seen.votes.get(&validator.address).copied().unwrap_or("absent"));
        ValidatorView {
            name: known.unwrap_or_default(),
            address: hex::encode_upper(&validator.address),
            power: validator.voting_power,
            votes: votes.collect(),
        }
    };
    set.validators.into_iter().map(view).collect()
}

async fn paratimes(front: &Connection, answers: &[Option<(Connection, Status)>], names: &Names) -> Vec<ParaTimeView> {
    let query = GetRuntimesQuery { height: 0, include_suspended: true };
    let answer: Result<Cbor<Option<Vec<Runtime>>>, _> = front.ask("Registry", "GetRuntimes", Cbor(query)).await;
    let runtimes = answer.ok().and_then(|Cbor(runtimes)| runtimes).unwrap_or_default();
    let mut views = Vec::new();
    for runtime in runtimes.into_iter().take(PARATIMES) {
        let hosting = answers.iter().flatten().find(|(_, status)| status.runtimes.contains_key(&runtime.id));
        views.push(paratime(front, hosting.map(|(connection, _)| connection), &runtime, names).await);
    }
    views
}

async fn paratime(front: &Connection, hosting: Option<&Connection>, runtime: &Runtime, names: &Names) -> ParaTimeView {
    let id = runtime.id;
    let deployment = runtime.deployments().last();
    let mut view = ParaTimeView {
        id: id.to_string(),
        kind: runtime.kind.to_string(),
        key_manager: runtime.key_manager.map_or_else(String::new, |id| id.to_string()),
        version: deployment.map_or_else(String::new, |deployment| deployment.version.to_string()),
        ..ParaTimeView::default()
    };
    if runtime.kind == RuntimeKind::KEY_MANAGER {
        secrets(front, id, names, &mut view).await;
        return view;
    }
    let query = Cbor(RuntimeRequest { runtime_id: id, height: 0 });
    let latest: Result<Cbor<RuntimeBlock>, _> = front.ask("RootHash", "GetLatestBlock", query).await;
    if let Ok(Cbor(block)) = latest {
        view.round = block.header.round;
        view.time = block.header.timestamp.to_rfc3339().unwrap_or_default();
        view.block = block_kind(block.header.header_type).to_owned();
        view.state_root = block.header.state_root.to_string();
        view.suspended = block.header.header_type == HeaderType::SUSPENDED;
    }
    let query = Cbor(GetCommitteesRequest { height: 0, runtime_id: id });
    let committees: Result<Cbor<Option<Vec<Committee>>>, _> = front.ask("Scheduler", "GetCommittees", query).await;
    for committee in committees.ok().and_then(|Cbor(found)| found).unwrap_or_default() {
        let member = |member: &wire_consensus::scheduler::CommitteeNode| MemberView {
            node: names.node(&member.public_key),
            role: member.role.to_string(),
        };
        view.committee.extend(committee.members().iter().map(member));
    }
    if let Some(hosting) = hosting {
        view.rounds = rounds(hosting, id, view.round).await;
    }
    view
}

async fn secrets(front: &Connection, id: Namespace, names: &Names, view: &mut ParaTimeView) {
    let query = Cbor(NamespaceQuery { height: 0, id });
    let status: Result<Cbor<keymanager::Status>, _> = front.ask("KeyManager", "GetStatus", query).await;
    let Ok(Cbor(status)) = status else { return };
    let role = "key manager".to_owned();
    let members = status.nodes().iter().map(|key| MemberView { node: names.node(key), role: role.clone() });
    view.committee = members.collect();
    let how = if status.is_secure { "in enclaves" } else { "outside of enclaves, insecure" };
    view.secrets = if status.checksum().is_empty() {
        format!("no secret yet, {how}")
    } else {
        format!("secret {} since epoch {}, {how}", status.generation, status.rotation_epoch)
    };
}

/// The newest rounds, as far as a node that hosts the ParaTime has them.
async fn rounds(hosting: &Connection, id: Namespace, newest: u64) -> Vec<RoundView> {
    let mut views = Vec::new();
    for round in (newest.saturating_sub(ROUNDS - 1)..=newest).rev() {
        let query = Cbor(RoundRequest { runtime_id: id, round });
        let found: Result<Cbor<Option<Vec<TransactionWithResults>>>, _> =
            hosting.ask("RuntimeClient", "GetTransactionsWithResults", query).await;
        let Ok(Cbor(found)) = found else { continue };
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, |bytes| bytes.len());
        let transaction = |tx: &TransactionWithResults| {
            let raw = tx.tx.as_ref().map_or(&[][..], |bytes| bytes.as_slice());
            (base_prims::Hash::of(&[raw]).to_string(), raw.len(), length(&tx.result))
        };
        let transactions = found.iter().flatten().take(ROUND_TRANSACTIONS).map(transaction).collect();
        views.push(RoundView { round, transactions });
    }
    views
}

/// What a block of a ParaTime stands for.
fn block_kind(kind: HeaderType) -> &'static str {
    match kind {
        HeaderType::NORMAL => "transactions",
        HeaderType::ROUND_FAILED => "failed round",
        HeaderType::EPOCH_TRANSITION => "new committee",
        HeaderType::SUSPENDED => "suspended",
        _ => "unknown",
    }
}
