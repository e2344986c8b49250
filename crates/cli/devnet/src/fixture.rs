//! Networks in the form that the reference's runner takes: JSON with lists of entities, runtimes and nodes of each kind.
//!
//! Source: `go/oasis-test-runner/oasis/fixture.go`, `go/oasis-net-runner/fixtures`. What a devnet cannot do is refused
//! when the network would not be what was asked for, and named in a note when it only matters to tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base_codec::json::{Context, FromJson, Map, Value};
use base_prims::{Epoch, Hash, Namespace};
use serde_json::json;
use wire_consensus::registry::{EntityWhitelistConfig, EntityWhitelistRoleConfig, Runtime, RuntimeKind};

use crate::DevnetError;
use crate::blueprint::{
    Admission, Blueprint, Component, DeploymentPlan, EntityPlan, NodePlan, PolicyPlan, RuntimePlan, Source,
};
use crate::plan::{Plan, Role, find_program};

/// Longest fixture in bytes.
const MAX_FIXTURE: u64 = 16 << 20;
/// Most nodes, entities and runtimes each.
const MAX_ITEMS: usize = 256;
/// The binaries of a component for no hardware.
const NO_HARDWARE: &str = "0";

type Result<T> = std::result::Result<T, String>;

/// Reads a fixture.
pub(crate) fn read(path: &Path, plan: &Plan) -> std::result::Result<Blueprint, DevnetError> {
    let wrong = |reason: String| DevnetError::Fixture { path: path.to_owned(), reason };
    let size = std::fs::metadata(path).map_err(DevnetError::io("read", path))?.len();
    if size > MAX_FIXTURE {
        return Err(wrong(format!("it has {size} bytes, at most {MAX_FIXTURE} are read")));
    }
    let text = std::fs::read_to_string(path).map_err(DevnetError::io("read", path))?;
    parse(&text, plan).map_err(wrong)
}

/// A part of the document, which knows where it lies.
#[derive(Clone)]
struct Part<'a> {
    value: &'a Value,
    path: String,
}

impl<'a> Part<'a> {
    /// A field; absent ones are null.
    fn at(&self, key: &str) -> Part<'a> {
        let dot = if self.path.is_empty() { "" } else { "." };
        Part { value: self.value.get(key).unwrap_or(&Value::Null), path: format!("{}{dot}{key}", self.path) }
    }

    /// A field's value, or the default one.
    fn get<T: FromJson>(&self, key: &str) -> Result<T> {
        self.at(key).read()
    }

    fn read<T: FromJson>(&self) -> Result<T> {
        T::from_json(self.value, &mut Context::new()).map_err(|error| format!("{}: {error}", self.path))
    }

    fn wrong<T>(&self, reason: impl std::fmt::Display) -> Result<T> {
        Err(format!("{}: {reason}", self.path))
    }

    fn items(&self, key: &str) -> Result<Vec<Part<'a>>> {
        let list = self.at(key);
        let items = match list.value {
            Value::Null => &[][..],
            Value::Array(items) if items.len() <= MAX_ITEMS => items.as_slice(),
            Value::Array(items) => return list.wrong(format!("{} entries, at most {MAX_ITEMS}", items.len())),
            _ => return list.wrong("expected a list"),
        };
        Ok(items.iter().enumerate().map(|(n, value)| Part { value, path: format!("{}[{n}]", list.path) }).collect())
    }

    /// A place in a list of that many.
    fn place(&self, key: &str, of: usize) -> Result<usize> {
        let place: u64 = self.get(key)?;
        let found = usize::try_from(place).ok().filter(|place| *place < of);
        found.map_or_else(|| self.at(key).wrong(format!("there is no number {place}, only {of}")), Ok)
    }

    /// Whether a field says something.
    fn has(&self, key: &str) -> bool {
        !is_nothing(self.at(key).value)
    }
}

/// Zeros and what is empty: in Go's JSON they also stand for what was not said.
pub(crate) fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || text == "0",
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_nothing),
        Value::Bool(true) => false,
    }
}

fn parse(text: &str, plan: &Plan) -> Result<Blueprint> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let root = Part { value: &value, path: String::new() };
    if !value.is_object() {
        return Err("expected an object".to_owned());
    }
    for kind in ["sentries", "stateless_clients", "byzantine_nodes"] {
        if !root.items(kind)?.is_empty() {
            return Err(format!("{kind}: a devnet has none of these; `oasis-node` can be started as one by hand"));
        }
    }
    if root.at("tee").has("hardware") {
        return root.at("tee").at("hardware").wrong("a devnet runs without enclaves; leave it out");
    }
    let mut blueprint = Blueprint::default();
    network(&root.at("network"), &mut blueprint)?;
    for (place, entity) in root.items("entities")?.iter().enumerate() {
        let is_test = entity.get("IsDebugTestEntity")?;
        blueprint.entities.push(EntityPlan { name: format!("entity-{place}"), is_test });
    }
    for runtime in root.items("runtimes")? {
        let parsed = self::runtime(&runtime, &blueprint)?;
        blueprint.runtimes.push(parsed);
    }
    policies(&root, &mut blueprint)?;
    nodes(&root, plan, &mut blueprint)?;
    Ok(blueprint)
}

fn network(network: &Part<'_>, blueprint: &mut Blueprint) -> Result<()> {
    if network.has("genesis_file") {
        return network.at("genesis_file").wrong("a devnet makes its own genesis document; leave it out");
    }
    let binary: String = network.get("node_binary")?;
    blueprint.node_binary = (!binary.is_empty()).then(|| find_program(PathBuf::from(binary)));
    let height: i64 = network.get("initial_height")?;
    blueprint.initial_height = (height > 0).then_some(height);
    let beacon = network.at("beacon");
    blueprint.has_mock_epochs = beacon.get("debug_mock_backend")?;
    let staking = network.at("staking_genesis");
    for (path, part) in [
        ("consensus.params", network.at("consensus").at("params")),
        ("beacon.params", beacon.clone()),
        ("staking", staking),
        ("governance.params", network.at("governance_parameters")),
        ("roothash.params", network.at("roothash_parameters")),
    ] {
        if !is_nothing(part.value) {
            blueprint.genesis.push((path, part.value.clone()));
        }
    }
    let mut scheduler = Map::new();
    for (key, name) in
        [("scheduler_weak_alpha_ok", "debug_allow_weak_alpha"), ("scheduler_force_elect", "debug_force_elect")]
    {
        if network.has(key) {
            scheduler.insert(name.to_owned(), network.at(key).value.clone());
        }
    }
    if !scheduler.is_empty() {
        blueprint.genesis.push(("scheduler.params", Value::Object(scheduler)));
    }
    let mut settings = json!({});
    let halt: u64 = network.get("halt_epoch")?;
    if halt > 0 && halt < u64::MAX {
        overlay(&mut settings, &json!({ "consensus": { "halt_epoch": halt } }));
    }
    for (key, name) in [("node_log_level", "level"), ("node_log_format", "format")] {
        let text: String = network.get(key)?;
        let value = if name == "level" { json!({ "default": text }) } else { json!(text) };
        if !text.is_empty() {
            overlay(&mut settings, &json!({ "common": { "log": { name: value } } }));
        }
    }
    blueprint.settings = settings;
    let only_tests = ["deterministic_identities", "restore_identities", "metrics", "runtime_attest_interval", "Nodes"];
    let left_out = only_tests.into_iter().filter(|key| network.has(key));
    blueprint.notes.extend(left_out.map(|key| format!("the fixture's network.{key} is left out")));
    Ok(())
}

fn runtime(part: &Part<'_>, blueprint: &Blueprint) -> Result<RuntimePlan> {
    let id: Namespace = part.get("id")?;
    let kind: RuntimeKind = part.get("kind")?;
    let entity = part.place("entity", blueprint.entities.len())?;
    let manager: i64 = part.get("keymanager")?;
    let key_manager = match (usize::try_from(manager).ok(), kind == RuntimeKind::COMPUTE) {
        (None, _) => None,
        (Some(place), true) if blueprint.runtimes.get(place).is_some_and(|r| r.kind == RuntimeKind::KEY_MANAGER) => {
            Some(place)
        }
        (Some(place), true) => {
            return part.at("keymanager").wrong(format!("runtime {place} is no key manager before this one"));
        }
        (Some(_), false) => return part.at("keymanager").wrong("a key manager has none itself, write -1"),
    };
    let deployments = part.items("deployments")?.iter().map(deployment).collect::<Result<Vec<_>>>()?;
    let example = |deployment: &DeploymentPlan| match &deployment.source {
        Source::Programs(components) => components.iter().any(|component| {
            let stem = component.program.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            stem.starts_with("simple-keyvalue")
        }),
        Source::Bundle(_) => false,
    };
    // Where nothing is said of rounds and batches, the usual rules are better than none.
    let root: Option<Hash> = part.get("genesis_state_root")?;
    Ok(RuntimePlan {
        entity,
        key_manager,
        genesis_round: part.get("genesis_round")?,
        genesis_state_root: root.unwrap_or(Hash::EMPTY),
        executor: part.get("executor")?,
        txn_scheduler: part.get("txn_scheduler")?,
        storage: part.get("storage")?,
        admission: admission(&part.at("admission_policy"), blueprint.entities.len())?,
        constraints: Runtime { constraints: part.get("constraints")?, ..Runtime::default() },
        staking: part.get("staking")?,
        governance_model: part.get("governance_model")?,
        is_late: part.get("exclude_from_genesis")?,
        prune: prune(&part.at("pruner"))?,
        is_example: kind == RuntimeKind::COMPUTE && deployments.iter().any(example),
        deployments,
        ..RuntimePlan::new(&format!("runtime-{}", blueprint.runtimes.len()), id, kind, Source::Programs(Vec::new()))
    })
}

fn prune(part: &Part<'_>) -> Result<Option<Value>> {
    let strategy: String = part.get("strategy")?;
    let (interval, kept): (i64, u64) = (part.get("interval")?, part.get("num_kept")?);
    Ok((!strategy.is_empty())
        .then(|| json!({ "strategy": strategy, "interval": nanoseconds(interval), "num_kept": kept })))
}

fn nanoseconds(count: i64) -> String {
    format!("{count}ns")
}

fn deployment(part: &Part<'_>) -> Result<DeploymentPlan> {
    let mut components = Vec::new();
    for component in part.items("components")? {
        let binaries: BTreeMap<String, String> = component.get("binaries")?;
        let Some(binary) = binaries.get(NO_HARDWARE) else {
            return component.at("binaries").wrong(format!("none is for hardware {NO_HARDWARE}, none at all"));
        };
        let kind: String = component.get("kind")?;
        if !["ronl", "rofl"].contains(&kind.as_str()) {
            return component.at("kind").wrong(format!("found {kind:?}, expected ronl or rofl"));
        }
        let program = find_program(PathBuf::from(binary));
        components.push(Component { kind, name: component.get("name")?, version: component.get("version")?, program });
    }
    let old: BTreeMap<String, String> = part.get("binaries")?;
    if let (true, Some(binary)) = (components.is_empty(), old.get(NO_HARDWARE)) {
        components.push(Component::ronl(&find_program(PathBuf::from(binary)), base_prims::Version::default()));
    }
    if components.is_empty() {
        return part.at("components").wrong("there are none");
    }
    if let Some(missing) = components.iter().find(|component| !component.program.is_file()) {
        return part.wrong(format!("there is no program {}", missing.program.display()));
    }
    let valid_from: Epoch = part.get("valid_from")?;
    Ok(DeploymentPlan { valid_from, source: Source::Programs(components), is_excluded: part.get("exclude_bundle")? })
}

fn admission(part: &Part<'_>, entities: usize) -> Result<Admission> {
    let places = |listed: &Part<'_>, places: Vec<&usize>| match places.into_iter().find(|place| **place >= entities) {
        Some(place) => listed.wrong(format!("there is no entity {place}")),
        None => Ok(()),
    };
    let numbered = |key: &String| key.parse::<usize>().unwrap_or(usize::MAX);
    let mut policy = Admission { any_node: part.get("any_node")?, ..Admission::default() };
    let list = part.at("entity_whitelist");
    if !list.value.is_null() {
        let found: BTreeMap<String, EntityWhitelistConfig> = list.get("entities")?;
        let found: BTreeMap<_, _> = found.iter().map(|(key, config)| (numbered(key), config.clone())).collect();
        places(&list, found.keys().collect())?;
        policy.entities = Some(found);
    }
    let roles = part.at("per_role");
    if let Value::Object(fields) = roles.value {
        let mut out = BTreeMap::new();
        for name in fields.keys() {
            let role = base_codec::json::JsonKey::from_key(name).map_err(|e| format!("{}.{name}: {e}", roles.path))?;
            let list = roles.at(name).at("entity_whitelist");
            if list.value.is_null() {
                out.insert(role, None);
                continue;
            }
            let found: BTreeMap<String, EntityWhitelistRoleConfig> = list.get("entities")?;
            let found: BTreeMap<_, _> = found.iter().map(|(key, config)| (numbered(key), config.clone())).collect();
            places(&list, found.keys().collect())?;
            out.insert(role, Some(found));
        }
        policy.per_role = Some(out);
    }
    Ok(policy)
}

/// Gives each key manager the policy that its first node names.
fn policies(root: &Part<'_>, blueprint: &mut Blueprint) -> Result<()> {
    let policies = root.items("keymanager_policies")?;
    for node in root.items("keymanagers")? {
        let runtime = node.place("runtime", blueprint.runtimes.len())?;
        if node.get::<bool>("skip_policy")? || policies.is_empty() {
            continue;
        }
        let Some(policy) = policies.get(node.place("policy", policies.len())?) else { continue };
        let plan = PolicyPlan {
            serial: policy.get("serial")?,
            rotation_interval: policy.get("master_secret_rotation_interval")?,
        };
        if let Some(runtime) = blueprint.runtimes.get_mut(runtime) {
            runtime.policy.get_or_insert(plan);
        }
    }
    Ok(())
}

/// Kinds of nodes in the order in which they are started.
const KINDS: [(&str, Role); 6] = [
    ("seeds", Role::Seed),
    ("validators", Role::Validator),
    ("keymanagers", Role::KeyManager),
    ("compute_workers", Role::Compute),
    ("observers", Role::Observer),
    ("clients", Role::Client),
];

fn nodes(root: &Part<'_>, plan: &Plan, blueprint: &mut Blueprint) -> Result<()> {
    for (kind, role) in KINDS {
        for (place, part) in root.items(kind)?.iter().enumerate() {
            let parsed = node(part, role, place, blueprint)?;
            if blueprint.nodes.iter().any(|other| other.name == parsed.name) {
                return part
                    .at("node_name")
                    .wrong(format!("there are two nodes {:?}; a devnet's do one thing each", parsed.name));
            }
            blueprint.nodes.push(parsed);
        }
    }
    if !blueprint.nodes.iter().any(|node| node.role == Role::Validator && node.starts) {
        return Err("validators: there are none, or none starts by itself".to_owned());
    }
    if !blueprint.nodes.iter().any(|node| node.role == Role::Seed) {
        return Err(format!("seeds: there are none, and nodes in {} would not find each other", plan.dir.display()));
    }
    Ok(())
}

fn node(part: &Part<'_>, role: Role, place: usize, blueprint: &mut Blueprint) -> Result<NodePlan> {
    let named: String = part.get("node_name")?;
    let name = if named.is_empty() { format!("{}-{place}", role.mode()) } else { named };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.chars().all(is_plain) {
        return part.at("node_name").wrong(format!("{name:?}: letters, digits, - and _ are possible"));
    }
    let owned = matches!(role, Role::Validator | Role::KeyManager | Role::Compute | Role::Observer);
    let entity = if owned { Some(part.place("entity", blueprint.entities.len())?) } else { None };
    let mut runtimes = Vec::new();
    if role == Role::KeyManager {
        runtimes.push(part.place("runtime", blueprint.runtimes.len())?);
    }
    for listed in part.get::<Vec<u64>>("runtimes")? {
        match usize::try_from(listed).ok().filter(|place| *place < blueprint.runtimes.len()) {
            Some(place) => runtimes.push(place),
            None => return part.at("runtimes").wrong(format!("there is no runtime {listed}")),
        }
    }
    let provisioner: String = part.get("runtime_provisioner")?;
    let provisioner = if provisioner.is_empty() { "sandboxed".to_owned() } else { provisioner };
    if !["sandboxed", "unconfined"].contains(&provisioner.as_str()) {
        return part
            .at("runtime_provisioner")
            .wrong(format!("found {provisioner:?}, expected sandboxed or unconfined"));
    }
    if part.has("runtime_state_paths") {
        return part.at("runtime_state_paths").wrong("a devnet begins with empty states; leave it out");
    }
    let by_place: BTreeMap<String, Value> = part.get("runtime_config")?;
    let runtime_config = by_place.into_iter().filter_map(|(place, value)| Some((place.parse().ok()?, value))).collect();
    let mut arguments = Vec::new();
    for extra in part.items("extra_args")? {
        arguments.push(format!("--{}", extra.get::<String>("name")?));
        arguments.extend(extra.get::<Vec<String>>("values")?);
    }
    for key in ["crash_points_probability", "crash_point_probability", "enable_profiling", "sentries"] {
        if part.has(key) {
            blueprint.notes.push(format!("the fixture's {}.{key} is left out", part.path));
        }
    }
    let starts = !part.get::<bool>("no_auto_start")?;
    Ok(NodePlan {
        settings: settings(part, role)?,
        name,
        role,
        entity,
        runtimes,
        provisioner,
        runtime_config,
        starts,
        arguments,
    })
}

/// What a node's fixture says about its configuration.
fn settings(part: &Part<'_>, role: Role) -> Result<Value> {
    let mut out = json!({});
    let mut add = |value: Value| overlay(&mut out, &value);
    let consensus = part.at("consensus");
    for refused in ["enable_archive_mode"] {
        if consensus.has(refused) {
            return consensus.at(refused).wrong("a new network has no past to serve; leave it out");
        }
    }
    if consensus.at("StateSync").get::<bool>("Enabled")? {
        return consensus.at("StateSync").wrong("a new network has no checkpoints; leave it out");
    }
    add(json!({ "consensus": {
        "min_gas_price": consensus.get::<u64>("min_gas_price")?,
        "submission": { "gas_price": consensus.get::<u64>("submission_gas_price")? },
    } }));
    let kept: u64 = consensus.get("prune_num_kept")?;
    if kept > 0 {
        let mut prune = json!({ "strategy": "keep_n", "num_kept": kept });
        let interval: i64 = consensus.get("prune_interval")?;
        overlay(
            &mut prune,
            &json!({ "interval": if interval > 0 { json!(nanoseconds(interval)) } else { Value::Null } }),
        );
        add(json!({ "consensus": { "prune": prune } }));
    }
    if consensus.get("cometbft_recover_corrupted_wal")? {
        add(json!({ "consensus": { "debug": { "unsafe_replay_recover_corrupted_wal": true } } }));
    }
    let interval: u64 = consensus.get("supplementary_sanity_interval")?;
    if interval > 0 {
        add(json!({ "consensus": { "supplementary_sanity": { "enabled": true, "interval": interval } } }));
    }
    let check: i64 = part.get("checkpoint_check_interval")?;
    if role == Role::Compute {
        let checkpointer = if check > 0 {
            json!({ "enabled": true, "check_interval": nanoseconds(check), "parallel_chunker": part.get::<bool>("checkpoint_parallel_chunker")? })
        } else {
            Value::Null
        };
        add(json!({ "storage": {
            "public_rpc_enabled": !part.get::<bool>("disable_public_rpc")?,
            "checkpoint_sync_disabled": !part.get::<bool>("checkpoint_sync_enabled")?,
            "checkpointer": checkpointer,
        } }));
    }
    if part.get("disable_addr_book_from_genesis")? {
        add(json!({ "consensus": { "debug": { "disable_addr_book_from_genesis": true } } }));
    }
    let batch: u64 = part.get("batch_size")?;
    if batch > 0 {
        add(json!({ "runtime": { "indexer": { "batch_size": batch } } }));
    }
    if role == Role::KeyManager {
        let peers: Vec<String> = part.get("private_peer_pub_keys")?;
        let schemes: Vec<u64> = part.get("churp_ids")?;
        let schemes: Vec<_> = schemes.iter().map(|id| json!({ "id": id })).collect();
        add(json!({ "keymanager": { "private_peer_pub_keys": peers, "churp": { "schemes": schemes } } }));
    }
    Ok(out)
}

/// Puts what `over` says into `base`: fields of objects one by one, anything else as it is; null changes nothing.
pub(crate) fn overlay(base: &mut Value, over: &Value) {
    match (base, over) {
        (_, Value::Null) => {}
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                if !value.is_null() {
                    overlay(base.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (base, over) => *base = over.clone(),
    }
}
