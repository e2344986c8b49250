//! Registry: runtime descriptors, node statuses, parameters, transactions and events.

use std::collections::BTreeMap;

use base_codec::{Bytes, Codec, int_type};
use base_prims::{Address, Epoch, Hash, Namespace, PublicKey, Quantity, Version};

use crate::{
    entity::{Entity, SignedEntity},
    node::{MultiSignedNode, Node, Roles},
    scheduler::{CommitteeKind, Role},
    staking::{Slash, SlashReason, ThresholdKind},
    tee::{TeeFeatures, TeeHardware},
    transaction::Costs,
    typed_event,
};

pub mod validate;

/// Module name.
pub const MODULE: &str = "registry";
/// Registers an entity.
pub const METHOD_REGISTER_ENTITY: &str = "registry.RegisterEntity";
/// Removes an entity.
pub const METHOD_DEREGISTER_ENTITY: &str = "registry.DeregisterEntity";
/// Registers a node.
pub const METHOD_REGISTER_NODE: &str = "registry.RegisterNode";
/// Ends the freezing of a node.
pub const METHOD_UNFREEZE_NODE: &str = "registry.UnfreezeNode";
/// Registers a runtime.
pub const METHOD_REGISTER_RUNTIME: &str = "registry.RegisterRuntime";
/// Puts a blob on chain, as proof of freshness.
pub const METHOD_PROVE_FRESHNESS: &str = "registry.ProveFreshness";

/// Gas operation of an entity registration.
pub const GAS_OP_REGISTER_ENTITY: &str = "register_entity";
/// Gas operation of an entity's removal.
pub const GAS_OP_DEREGISTER_ENTITY: &str = "deregister_entity";
/// Gas operation per node that an entity lists.
pub const GAS_OP_REGISTER_NODE: &str = "register_node";
/// Gas operation of unfreezing a node.
pub const GAS_OP_UNFREEZE_NODE: &str = "unfreeze_node";
/// Gas operation of a runtime registration.
pub const GAS_OP_REGISTER_RUNTIME: &str = "register_runtime";
/// Gas operation per runtime and epoch of a node registration.
pub const GAS_OP_RUNTIME_EPOCH_MAINTENANCE: &str = "runtime_epoch_maintenance";
/// Gas operation of a proof of freshness.
pub const GAS_OP_PROVE_FRESHNESS: &str = "prove_freshness";

/// Version that new runtime descriptors must have.
pub const LATEST_RUNTIME_VERSION: u16 = 3;
/// End of a freeze that never ends.
pub const FREEZE_FOREVER: Epoch = u64::MAX;
/// Deployments that every network allows.
pub const MIN_MAX_RUNTIME_DEPLOYMENTS: u8 = 2;

/// Stake claim of an entity registration.
pub const STAKE_CLAIM_REGISTER_ENTITY: &str = "registry.RegisterEntity";

/// Stake claim of a node registration.
pub fn stake_claim_for_node(id: &PublicKey) -> String {
    format!("registry.RegisterNode.{id}")
}

/// Stake claim of a runtime registration.
pub fn stake_claim_for_runtime(id: &Namespace) -> String {
    format!("registry.RegisterRuntime.{id}")
}

int_type! { int
    /// Kind of a runtime. Source: `go/registry/api/runtime.go`.
    pub struct RuntimeKind: u32 {
        INVALID = 0 => "invalid",
        COMPUTE = 1 => "compute",
        KEY_MANAGER = 2 => "keymanager",
    }
}

int_type! { text
    /// Who may change a runtime's descriptor.
    pub struct RuntimeGovernanceModel: u8 {
        INVALID = 0 => "invalid",
        ENTITY = 1 => "entity",
        RUNTIME = 2 => "runtime",
        CONSENSUS = 3 => "consensus",
    }
}

/// Parameters of a runtime's executor committee.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct ExecutorParameters {
    /// Workers.
    pub group_size: u16,
    /// Backup workers.
    pub group_backup_size: u16,
    /// Workers that may fail without a discrepancy.
    pub allowed_stragglers: u16,
    /// Blocks until a round times out.
    pub round_timeout: i64,
    /// Most messages of a round.
    pub max_messages: u32,
    /// Part of rounds in which a node must be live, in percent.
    #[codec(omitempty)]
    pub min_live_rounds_percent: u8,
    /// Part of proposals that a node may miss, in percent; 0 is no limit.
    #[codec(omitempty)]
    pub max_missed_proposals_percent: u8,
    /// Rounds before liveness is evaluated.
    #[codec(rename = "min_live_rounds_eval", omitempty)]
    pub min_live_rounds_for_evaluation: u64,
    /// Liveness failures until a node is slashed; 0 stands for 255.
    #[codec(rename = "max_liveness_fails", omitempty)]
    pub max_liveness_failures: u8,
}

/// Parameters of a runtime's transaction scheduler.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct TxnSchedulerParameters {
    /// How long to wait for a full batch, in nanoseconds.
    #[codec(omitempty)]
    pub batch_flush_timeout: i64,
    /// Most transactions of a batch.
    #[codec(omitempty)]
    pub max_batch_size: u64,
    /// Most bytes of a batch.
    #[codec(omitempty)]
    pub max_batch_size_bytes: u64,
    /// Most queued incoming messages.
    #[codec(omitempty)]
    pub max_in_messages: u32,
    /// How long to wait for a proposer, in nanoseconds.
    #[codec(rename = "propose_batch_timeout", omitempty)]
    pub proposer_timeout: i64,
}

/// Parameters of a runtime's storage.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct StorageParameters {
    /// Rounds between checkpoints; 0 disables them.
    pub checkpoint_interval: u64,
    /// Checkpoints to keep.
    pub checkpoint_num_kept: u64,
    /// Size of a chunk in bytes.
    pub checkpoint_chunk_size: u64,
}

/// Constraints of elections for one role.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct SchedulingConstraints {
    /// Only nodes of entities with a validator.
    #[codec(omitempty)]
    pub validator_set: Option<Empty>,
    /// Most nodes of an entity.
    #[codec(omitempty)]
    pub max_nodes: Option<Limit>,
    /// Fewest candidates.
    #[codec(omitempty)]
    pub min_pool_size: Option<Limit>,
}

/// A struct without fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Codec)]
pub struct Empty {}

/// A number of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Codec)]
pub struct Limit {
    /// The number.
    pub limit: u16,
}

/// Staking parameters of a runtime.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct RuntimeStakingParameters {
    /// Stake for nodes beyond the global thresholds.
    #[codec(omitempty)]
    pub thresholds: BTreeMap<ThresholdKind, Quantity>,
    /// Penalties.
    #[codec(omitempty)]
    pub slashing: BTreeMap<SlashReason, Slash>,
    /// The runtime's part of a slash for equivocation, in percent.
    #[codec(rename = "reward_equivocation", omitempty)]
    pub reward_slash_equivocation_runtime_percent: u8,
    /// The runtime's part of a slash for bad results, in percent.
    #[codec(rename = "reward_bad_results", omitempty)]
    pub reward_slash_bad_results_runtime_percent: u8,
    /// Lowest fee of an incoming message.
    #[codec(omitempty)]
    pub min_in_message_fee: Quantity,
}

/// Where a runtime's chain starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Codec)]
pub struct RuntimeGenesis {
    /// First state root.
    pub state_root: Hash,
    /// First round.
    pub round: u64,
}

/// A version of a runtime's code.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct VersionInfo {
    /// Version.
    pub version: Version,
    /// First epoch.
    pub valid_from: Epoch,
    /// Constraints on enclaves, by hardware.
    #[codec(omitempty)]
    pub tee: Option<Bytes>,
    /// SHA-512/256 of the CBOR of the bundle's manifest.
    #[codec(omitempty)]
    pub bundle_checksum: Bytes,
}

impl VersionInfo {
    /// Whether two deployments are the same, not telling nil from empty.
    pub fn same(&self, other: &Self) -> bool {
        let bytes = |v: &Option<Bytes>| v.as_ref().map(|b| b.to_vec()).unwrap_or_default();
        self.version == other.version
            && self.valid_from == other.valid_from
            && bytes(&self.tee) == bytes(&other.tee)
            && self.bundle_checksum == other.bundle_checksum
    }
}

/// A runtime.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Runtime {
    /// Version of the descriptor.
    pub v: u16,
    /// The runtime's id.
    pub id: Namespace,
    /// Its entity.
    pub entity_id: PublicKey,
    /// Where its chain starts.
    pub genesis: RuntimeGenesis,
    /// Kind.
    pub kind: RuntimeKind,
    /// Hardware that its nodes need.
    pub tee_hardware: TeeHardware,
    /// Its key manager.
    #[codec(omitempty)]
    pub key_manager: Option<Namespace>,
    /// Executor committee.
    #[codec(omitempty)]
    pub executor: ExecutorParameters,
    /// Transaction scheduler.
    #[codec(omitempty)]
    pub txn_scheduler: TxnSchedulerParameters,
    /// Storage.
    #[codec(omitempty)]
    pub storage: StorageParameters,
    /// Which nodes may register for it.
    pub admission_policy: RuntimeAdmissionPolicy,
    /// Constraints of elections.
    #[codec(omitempty)]
    pub constraints: BTreeMap<CommitteeKind, BTreeMap<Role, SchedulingConstraints>>,
    /// Staking.
    #[codec(omitempty)]
    pub staking: RuntimeStakingParameters,
    /// Who may change the descriptor.
    pub governance_model: RuntimeGovernanceModel,
    /// Versions. An absent entry decodes but never validates.
    #[codec(omitempty)]
    pub deployments: Vec<Option<VersionInfo>>,
}

impl Runtime {
    /// The versions.
    pub fn deployments(&self) -> impl Iterator<Item = &VersionInfo> {
        self.deployments.iter().flatten()
    }

    /// The version in force at an epoch: of those that have begun, the one that began last.
    pub fn active_deployment(&self, now: Epoch) -> Option<&VersionInfo> {
        let mut active: Option<&VersionInfo> = None;
        for d in self.deployments().filter(|d| d.valid_from <= now) {
            if active.is_none_or(|a| a.valid_from < d.valid_from) {
                active = Some(d);
            }
        }
        active
    }

    /// The version that begins next.
    pub fn next_deployment(&self, now: Epoch) -> Option<&VersionInfo> {
        let mut next: Option<&VersionInfo> = None;
        for d in self.deployments().filter(|d| d.valid_from > now) {
            if next.is_none_or(|n| n.valid_from >= d.valid_from) {
                next = Some(d);
            }
        }
        next
    }

    /// The deployment of a version.
    pub fn deployment_for_version(&self, version: Version) -> Option<&VersionInfo> {
        self.deployments().find(|d| d.version == version)
    }

    /// Whether this is a compute runtime.
    pub fn is_compute(&self) -> bool {
        self.kind == RuntimeKind::COMPUTE
    }

    /// The account that stakes for the runtime; absent for consensus-governed ones.
    pub fn staking_address(&self) -> Option<Address> {
        match self.governance_model {
            RuntimeGovernanceModel::ENTITY => Some(Address::of_key(&self.entity_id)),
            RuntimeGovernanceModel::RUNTIME => Some(Address::of_runtime(&self.id)),
            _ => None,
        }
    }
}

/// Which nodes may register for a runtime. Source: `go/registry/api/admission.go`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct RuntimeAdmissionPolicy {
    /// Any node.
    #[codec(omitempty)]
    pub any_node: Option<Empty>,
    /// Nodes of the listed entities.
    #[codec(omitempty)]
    pub entity_whitelist: Option<EntityWhitelist>,
    /// Further policies by role. An empty map counts as a policy where the descriptor is validated.
    #[codec(omitempty)]
    pub per_role: Option<BTreeMap<Roles, PerRoleAdmissionPolicy>>,
}

/// Entities whose nodes may register.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct EntityWhitelist {
    /// Entities.
    pub entities: Option<BTreeMap<PublicKey, EntityWhitelistConfig>>,
}

/// What an entity may register.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct EntityWhitelistConfig {
    /// Most nodes by role; empty is unlimited.
    #[codec(omitempty)]
    pub max_nodes: BTreeMap<Roles, u16>,
}

/// Admission policy of a role.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct PerRoleAdmissionPolicy {
    /// Nodes of the listed entities.
    #[codec(omitempty)]
    pub entity_whitelist: Option<EntityWhitelistRole>,
}

/// Entities whose nodes may register with a role.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct EntityWhitelistRole {
    /// Entities.
    pub entities: Option<BTreeMap<PublicKey, EntityWhitelistRoleConfig>>,
}

/// What an entity may register with a role.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct EntityWhitelistRoleConfig {
    /// Most nodes; 0 is unlimited.
    #[codec(omitempty)]
    pub max_nodes: u16,
}

/// State of a node beside its descriptor. Source: `go/registry/api/status.go`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct NodeStatus {
    /// Whether its expiration was handled.
    pub expiration_processed: bool,
    /// Epoch at which it is no longer frozen; 0 if it is not.
    pub freeze_end_time: Epoch,
    /// Epoch after which committees may elect it.
    pub election_eligible_after: Epoch,
    /// Faults by runtime.
    #[codec(omitempty)]
    pub faults: BTreeMap<Namespace, Fault>,
}

/// Faults of a node in a runtime.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Fault {
    /// Failures in a row.
    #[codec(omitempty)]
    pub failures: u8,
    /// First epoch in which it may be elected again.
    #[codec(omitempty)]
    pub suspended_until: Epoch,
}

impl NodeStatus {
    /// Whether the node is frozen.
    pub fn is_frozen(&self) -> bool {
        self.freeze_end_time > 0
    }

    /// Whether the node may not be elected for the runtime: it is frozen or failed too often.
    pub fn is_suspended(&self, runtime: &Namespace, epoch: Epoch) -> bool {
        self.is_frozen() || self.faults.get(runtime).is_some_and(|f| f.suspended_until > 0 && epoch < f.suspended_until)
    }
}

/// Body of `registry.UnfreezeNode`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct UnfreezeNode {
    /// The node.
    pub node_id: PublicKey,
}

/// The section `registry` of a genesis document.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Genesis {
    /// Parameters.
    #[codec(rename = "params")]
    pub parameters: Parameters,
    /// Entities.
    #[codec(omitempty)]
    pub entities: Vec<SignedEntity>,
    /// Runtimes.
    #[codec(omitempty)]
    pub runtimes: Vec<Runtime>,
    /// Suspended runtimes.
    #[codec(omitempty)]
    pub suspended_runtimes: Vec<Runtime>,
    /// Nodes.
    #[codec(omitempty)]
    pub nodes: Vec<MultiSignedNode>,
    /// Statuses of nodes.
    #[codec(omitempty)]
    pub node_statuses: BTreeMap<PublicKey, NodeStatus>,
}

/// Consensus parameters of the registry.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Parameters {
    /// Accept addresses that are not routable (test networks).
    #[codec(omitempty)]
    pub debug_allow_unroutable_addresses: bool,
    /// Accept test runtimes (test networks).
    #[codec(omitempty)]
    pub debug_allow_test_runtimes: bool,
    /// Accept deployments that begin at once (test networks).
    #[codec(omitempty)]
    pub debug_deploy_immediately: bool,
    /// No runtime registrations.
    #[codec(omitempty)]
    pub disable_runtime_registration: bool,
    /// No key manager runtime registrations.
    #[codec(rename = "disable_km_runtime_registration", omitempty)]
    pub disable_key_manager_runtime_registration: bool,
    /// Former switch of CHURP.
    #[codec(rename = "enable_km_churp", omitempty)]
    pub deprecated_enable_key_manager_churp: bool,
    /// Gas costs.
    #[codec(omitempty)]
    pub gas_costs: Costs,
    /// Most epochs that a node registration may last.
    #[codec(omitempty)]
    pub max_node_expiration: Epoch,
    /// Governance models that runtimes may have.
    #[codec(omitempty)]
    pub enable_runtime_governance_models: BTreeMap<RuntimeGovernanceModel, bool>,
    /// TEE features.
    #[codec(omitempty)]
    pub tee_features: Option<TeeFeatures>,
    /// Most deployments of a runtime (at least two are allowed).
    #[codec(omitempty)]
    pub max_runtime_deployments: u8,
}

/// Parameter changes that governance may make. Absent fields stay.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct ParameterChanges {
    /// See [`Parameters::disable_runtime_registration`].
    #[codec(omitempty)]
    pub disable_runtime_registration: Option<bool>,
    /// See [`Parameters::disable_key_manager_runtime_registration`].
    #[codec(rename = "disable_km_runtime_registration", omitempty)]
    pub disable_key_manager_runtime_registration: Option<bool>,
    /// See [`Parameters::gas_costs`].
    #[codec(omitempty)]
    pub gas_costs: Option<Costs>,
    /// See [`Parameters::max_node_expiration`].
    #[codec(omitempty)]
    pub max_node_expiration: Option<Epoch>,
    /// See [`Parameters::enable_runtime_governance_models`].
    #[codec(omitempty)]
    pub enable_runtime_governance_models: Option<BTreeMap<RuntimeGovernanceModel, bool>>,
    /// See [`Parameters::tee_features`]. A pointer to a pointer in the reference, where null stands for no change.
    #[codec(omitempty)]
    pub tee_features: Option<TeeFeatures>,
    /// See [`Parameters::max_runtime_deployments`].
    #[codec(omitempty)]
    pub max_runtime_deployments: Option<u8>,
}

/// An entity was registered or removed.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct EntityEvent {
    /// The entity.
    pub entity: Option<Entity>,
    /// Which of both.
    pub is_registration: bool,
}
typed_event!(EntityEvent, "entity");

/// A node was registered or expired.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct NodeEvent {
    /// The node.
    pub node: Option<Node>,
    /// Which of both.
    pub is_registration: bool,
}
typed_event!(NodeEvent, "node");

/// A runtime was registered, updated or resumed.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct RuntimeStartedEvent {
    /// The runtime.
    pub runtime: Option<Runtime>,
}
typed_event!(RuntimeStartedEvent, "runtime_started");

/// A runtime was suspended.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct RuntimeSuspendedEvent {
    /// The runtime.
    pub runtime_id: Namespace,
}
typed_event!(RuntimeSuspendedEvent, "runtime_suspended");

/// A node is no longer frozen.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct NodeUnfrozenEvent {
    /// The node.
    pub node_id: PublicKey,
}
typed_event!(NodeUnfrozenEvent, "node_unfrozen");

/// Attribute key and value of the event that follows the node events of an epoch change.
pub const NODE_LIST_EPOCH_ATTRIBUTE: (&str, &str) = ("node_list_epoch", "1");

/// A registry event, as queries give it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Event {
    /// Height.
    #[codec(omitempty)]
    pub height: i64,
    /// Transaction, or the empty hash for block events.
    #[codec(omitempty)]
    pub tx_hash: Hash,
    /// A runtime was registered, updated or resumed.
    #[codec(rename = "runtime_started", omitempty)]
    pub runtime_started: Option<RuntimeStartedEvent>,
    /// A runtime was suspended.
    #[codec(omitempty)]
    pub runtime_suspended: Option<RuntimeSuspendedEvent>,
    /// An entity was registered or removed.
    #[codec(omitempty)]
    pub entity: Option<EntityEvent>,
    /// A node was registered or expired.
    #[codec(omitempty)]
    pub node: Option<NodeEvent>,
    /// A node is no longer frozen.
    #[codec(omitempty)]
    pub node_unfrozen: Option<NodeUnfrozenEvent>,
}

/// Query by public key.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct IdQuery {
    /// Height, 0 for the newest.
    pub height: i64,
    /// Key.
    pub id: PublicKey,
}

/// Query by namespace.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct NamespaceQuery {
    /// Height, 0 for the newest.
    pub height: i64,
    /// Namespace.
    pub id: Namespace,
}

/// Query for a runtime.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct GetRuntimeQuery {
    /// Height, 0 for the newest.
    pub height: i64,
    /// The runtime.
    pub id: Namespace,
    /// Whether a suspended one counts.
    #[codec(omitempty)]
    pub include_suspended: bool,
}

/// Query for all runtimes.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct GetRuntimesQuery {
    /// Height, 0 for the newest.
    pub height: i64,
    /// Whether suspended ones count.
    pub include_suspended: bool,
}

/// Query by CometBFT address.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct ConsensusAddressQuery {
    /// Height, 0 for the newest.
    pub height: i64,
    /// The 20 bytes.
    pub address: Option<Bytes>,
}

/// The nodes of an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct NodeList {
    /// Nodes.
    pub nodes: Option<Vec<Node>>,
}
