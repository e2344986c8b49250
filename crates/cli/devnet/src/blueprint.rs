//! What a network is made of before it has keys: entities, runtimes, nodes, and rules that differ from the usual ones.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base_prims::{Epoch, Hash, Namespace, Version};
use serde_json::{Map, Value};
use wire_consensus::node::Roles;
use wire_consensus::registry::{
    EntityWhitelistConfig, EntityWhitelistRoleConfig, ExecutorParameters, Runtime, RuntimeGovernanceModel, RuntimeKind,
    RuntimeStakingParameters, StorageParameters, TxnSchedulerParameters,
};

use crate::plan::{KeyManager, ParaTime, Plan, Role};

/// Blocks until a round times out.
const ROUND_TIMEOUT: i64 = 20;
/// How long a scheduler waits for a full batch, and others for a scheduler, in nanoseconds.
const BATCH_FLUSH_TIMEOUT: i64 = 1_000_000_000;
const PROPOSER_TIMEOUT: i64 = 2_000_000_000;
/// Most bytes of a round's transactions.
const MAX_BATCH_BYTES: u64 = 16 << 20;
/// Most messages of a round, in each direction.
const MAX_MESSAGES: u32 = 128;
/// Checkpoints that are kept, and bytes of a chunk.
const CHECKPOINTS_KEPT: u64 = 2;
const CHUNK_BYTES: u64 = 1 << 20;

/// An entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EntityPlan {
    /// Name of its directory.
    pub(crate) name: String,
    /// Whether its key is the one that everybody knows.
    pub(crate) is_test: bool,
}

/// Where a deployment's bundle comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// Programs of components, put into a bundle.
    Programs(Vec<Component>),
    /// A bundle that exists.
    Bundle(PathBuf),
}

/// A component of a bundle that is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Component {
    /// `ronl` or `rofl`.
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) version: Version,
    /// An ELF executable.
    pub(crate) program: PathBuf,
}

/// A version of a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeploymentPlan {
    pub(crate) valid_from: Epoch,
    pub(crate) source: Source,
    /// Nodes are not given the bundle.
    pub(crate) is_excluded: bool,
}

/// Which nodes may register for a runtime; entities by their place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Admission {
    pub(crate) any_node: bool,
    pub(crate) entities: Option<BTreeMap<usize, EntityWhitelistConfig>>,
    pub(crate) per_role: Option<BTreeMap<Roles, Option<BTreeMap<usize, EntityWhitelistRoleConfig>>>>,
}

/// The access policy of a key manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PolicyPlan {
    pub(crate) serial: u32,
    pub(crate) rotation_interval: Epoch,
}

/// A runtime.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RuntimePlan {
    /// Name of its bundles' files.
    pub(crate) name: String,
    pub(crate) id: Namespace,
    pub(crate) kind: RuntimeKind,
    pub(crate) entity: usize,
    pub(crate) key_manager: Option<usize>,
    pub(crate) deployments: Vec<DeploymentPlan>,
    pub(crate) genesis_round: u64,
    pub(crate) genesis_state_root: Hash,
    pub(crate) executor: ExecutorParameters,
    pub(crate) txn_scheduler: TxnSchedulerParameters,
    pub(crate) storage: StorageParameters,
    pub(crate) admission: Admission,
    /// A descriptor, of which only the constraints count.
    pub(crate) constraints: Runtime,
    pub(crate) staking: RuntimeStakingParameters,
    pub(crate) governance_model: RuntimeGovernanceModel,
    pub(crate) policy: Option<PolicyPlan>,
    /// It is not registered from the beginning.
    pub(crate) is_late: bool,
    /// Part `runtime.prune` of its nodes' configurations.
    pub(crate) prune: Option<Value>,
    /// Its transactions are those of the key-value example.
    pub(crate) is_example: bool,
}

/// A node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NodePlan {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) entity: Option<usize>,
    pub(crate) runtimes: Vec<usize>,
    /// As in the configuration.
    pub(crate) provisioner: String,
    /// Further parts of its configuration.
    pub(crate) settings: Value,
    /// Configuration handed to runtimes, by runtime.
    pub(crate) runtime_config: BTreeMap<usize, Value>,
    pub(crate) starts: bool,
    pub(crate) arguments: Vec<String>,
}

/// A network without keys.
#[derive(Debug, Clone, Default)]
pub(crate) struct Blueprint {
    pub(crate) entities: Vec<EntityPlan>,
    pub(crate) runtimes: Vec<RuntimePlan>,
    pub(crate) nodes: Vec<NodePlan>,
    /// Parts of the genesis document that stand in the place of the usual ones, by path (`consensus.params`); zeros and
    /// what is empty stand for the usual value.
    pub(crate) genesis: Vec<(&'static str, Value)>,
    pub(crate) initial_height: Option<i64>,
    /// Parts of all nodes' configurations.
    pub(crate) settings: Value,
    /// The node program that was asked for.
    pub(crate) node_binary: Option<PathBuf>,
    /// Epochs stand still until somebody moves them.
    pub(crate) has_mock_epochs: bool,
    /// Lines for whoever starts the network: what is different from what was asked.
    pub(crate) notes: Vec<String>,
}

impl Blueprint {
    /// The usual network of these sizes.
    pub(crate) fn of_sizes(plan: &Plan) -> Self {
        let entities = vec![EntityPlan { name: "entity".to_owned(), is_test: false }];
        let (mut runtimes, mut paratimes, mut managers) = (Vec::new(), Vec::new(), Vec::new());
        let mut provisioner = "sandboxed";
        if let Some(paratime) = &plan.paratime {
            provisioner = if paratime.sandboxed { "sandboxed" } else { "unconfined" };
            if let Some(manager) = &paratime.keymanager {
                managers.push(runtimes.len());
                runtimes.push(RuntimePlan::key_manager(manager));
            }
            paratimes.push(runtimes.len());
            runtimes.push(RuntimePlan::paratime(paratime, managers.first().copied()));
        }
        let counts = [
            (Role::Seed, 1),
            (Role::Validator, plan.validators),
            (Role::KeyManager, plan.keymanagers()),
            (Role::Compute, plan.computes()),
            (Role::Client, plan.clients),
        ];
        let all = counts.into_iter().flat_map(|(role, count)| (0..count).map(move |index| (role, index)));
        let checkpoints = plan.paratime.as_ref().is_some_and(|paratime| paratime.checkpoint_interval > 0);
        let node = |(role, index): (Role, u16)| NodePlan {
            name: format!("{}-{index}", role.mode()),
            role,
            entity: matches!(role, Role::Validator | Role::KeyManager | Role::Compute).then_some(0),
            runtimes: match role {
                Role::KeyManager => managers.clone(),
                Role::Compute | Role::Client => paratimes.clone(),
                _ => Vec::new(),
            },
            provisioner: provisioner.to_owned(),
            settings: if role == Role::Compute && checkpoints {
                serde_json::json!({ "storage": { "checkpointer": { "enabled": true, "check_interval": "1s" } } })
            } else {
                Value::Object(Map::new())
            },
            runtime_config: BTreeMap::new(),
            starts: true,
            arguments: Vec::new(),
        };
        Self { entities, runtimes, nodes: all.map(node).collect(), ..Self::default() }
    }

    /// The runtimes that a node hosts.
    pub(crate) fn hosted<'a>(&'a self, node: &'a NodePlan) -> impl Iterator<Item = &'a RuntimePlan> {
        node.runtimes.iter().filter_map(|place| self.runtimes.get(*place))
    }
}

impl RuntimePlan {
    pub(crate) fn new(name: &str, id: Namespace, kind: RuntimeKind, source: Source) -> Self {
        Self {
            name: name.to_owned(),
            id,
            kind,
            entity: 0,
            key_manager: None,
            deployments: vec![DeploymentPlan { valid_from: 0, source, is_excluded: false }],
            genesis_round: 0,
            genesis_state_root: Hash::EMPTY,
            executor: ExecutorParameters::default(),
            txn_scheduler: TxnSchedulerParameters::default(),
            storage: StorageParameters::default(),
            admission: Admission { any_node: true, ..Admission::default() },
            constraints: Runtime::default(),
            staking: RuntimeStakingParameters::default(),
            governance_model: RuntimeGovernanceModel::ENTITY,
            policy: None,
            is_late: false,
            prune: None,
            is_example: false,
        }
    }

    fn key_manager(manager: &KeyManager) -> Self {
        let source = Source::Programs(vec![Component::ronl(&manager.binary, Version::new(0, 0, 0))]);
        let policy = PolicyPlan { serial: 1, rotation_interval: 0 };
        Self { policy: Some(policy), ..Self::new("keymanager", key_manager_id(), RuntimeKind::KEY_MANAGER, source) }
    }

    fn paratime(paratime: &ParaTime, key_manager: Option<usize>) -> Self {
        let own = if key_manager.is_some() { confidential_paratime_id() } else { paratime_id() };
        let id = paratime.bundle.as_ref().map_or(own, |bundle| bundle.id);
        let source = match &paratime.bundle {
            Some(_) => Source::Bundle(paratime.binary.clone()),
            None => Source::Programs(vec![Component::ronl(&paratime.binary, Version::new(0, 0, 0))]),
        };
        let backup = u16::from(paratime.computes >= 3);
        let checkpoints = paratime.checkpoint_interval > 0;
        Self {
            key_manager,
            executor: ExecutorParameters {
                group_size: paratime.computes - backup,
                group_backup_size: backup,
                round_timeout: ROUND_TIMEOUT,
                max_messages: MAX_MESSAGES,
                ..ExecutorParameters::default()
            },
            txn_scheduler: TxnSchedulerParameters {
                batch_flush_timeout: BATCH_FLUSH_TIMEOUT,
                max_batch_size: paratime.max_batch_size,
                max_batch_size_bytes: MAX_BATCH_BYTES,
                max_in_messages: MAX_MESSAGES,
                proposer_timeout: PROPOSER_TIMEOUT,
            },
            storage: StorageParameters {
                checkpoint_interval: paratime.checkpoint_interval,
                checkpoint_num_kept: if checkpoints { CHECKPOINTS_KEPT } else { 0 },
                checkpoint_chunk_size: if checkpoints { CHUNK_BYTES } else { 0 },
            },
            is_example: paratime.is_example(),
            ..Self::new("paratime", id, RuntimeKind::COMPUTE, source)
        }
    }
}

impl Component {
    pub(crate) fn ronl(program: &std::path::Path, version: Version) -> Self {
        Self { kind: "ronl".to_owned(), name: String::new(), version, program: program.to_owned() }
    }
}

/// The id of the ParaTime.
pub(crate) fn paratime_id() -> Namespace {
    let mut bytes = [0; 32];
    bytes[31] = 1;
    Namespace::from_bytes_unchecked(bytes)
}

/// The id of a ParaTime with a key manager: one bit says that it is for tests, as only those may be without enclave.
fn confidential_paratime_id() -> Namespace {
    let mut bytes = [0; 32];
    bytes[0] = 0x80;
    bytes[31] = 1;
    Namespace::from_bytes_unchecked(bytes)
}

/// The id of its key manager: one bit says what it is, another that it is for tests, as only those may be without enclave.
fn key_manager_id() -> Namespace {
    let mut bytes = [0; 32];
    bytes[0] = 0xc0;
    bytes[31] = 2;
    Namespace::from_bytes_unchecked(bytes)
}
