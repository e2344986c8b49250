//! Checks of runtime descriptors and parameters that need nothing but themselves, and what they claim of stake.
//!
//! Source: `go/registry/api/{runtime,admission,sanity_check}.go`.

use base_crypto::blacklist::Blacklist;
use base_prims::PublicKey;

use super::{
    ExecutorParameters, ParameterChanges, Parameters, PerRoleAdmissionPolicy, Runtime, RuntimeAdmissionPolicy,
    RuntimeGovernanceModel, RuntimeKind, RuntimeStakingParameters, StorageParameters, TxnSchedulerParameters,
};
use crate::{
    Invalid, invalid,
    node::{Node, Roles},
    staking::{StakeThreshold, ThresholdKind},
    tee::TeeHardware,
};

/// Shortest wait for a full batch.
const MIN_BATCH_FLUSH_TIMEOUT: i64 = 50_000_000;
/// Shortest wait for a proposer.
const MIN_PROPOSER_TIMEOUT: i64 = 1_000_000_000;

impl ExecutorParameters {
    fn validate_basic(&self) -> Result<(), Invalid> {
        if self.group_size == 0 {
            invalid!("executor primary group too small");
        }
        let stragglers = self.allowed_stragglers;
        if stragglers > self.group_size || (self.group_backup_size > 0 && stragglers > self.group_backup_size) {
            invalid!("number of allowed stragglers too large");
        }
        if self.round_timeout <= 0 {
            invalid!("round timeout too small");
        }
        if self.min_live_rounds_percent > 100 {
            invalid!("minimum live rounds percentage cannot be greater than 100");
        }
        Ok(())
    }
}

impl TxnSchedulerParameters {
    fn validate_basic(&self) -> Result<(), Invalid> {
        if self.batch_flush_timeout < MIN_BATCH_FLUSH_TIMEOUT {
            invalid!("transaction scheduler batch flush timeout parameter too small");
        }
        if self.max_batch_size < 1 {
            invalid!("transaction scheduler max batch size parameter too small");
        }
        if self.max_batch_size_bytes < 1024 {
            invalid!("transaction scheduler max batch bytes size parameter too small");
        }
        if self.proposer_timeout < MIN_PROPOSER_TIMEOUT {
            invalid!("transaction scheduler proposer timeout parameter too small");
        }
        if self.batch_flush_timeout > self.proposer_timeout {
            invalid!("transaction scheduler batch flush timeout parameter greater than proposer timeout parameter");
        }
        Ok(())
    }
}

impl StorageParameters {
    fn validate_basic(&self, allow_debug: bool) -> Result<(), Invalid> {
        if self.checkpoint_interval == 0 || allow_debug {
            return Ok(());
        }
        if self.checkpoint_interval < 10 {
            invalid!("storage CheckpointInterval parameter too small");
        }
        if self.checkpoint_num_kept == 0 {
            invalid!("storage CheckpointNumKept parameter too small");
        }
        if self.checkpoint_chunk_size < 1024 * 1024 {
            invalid!("storage CheckpointChunkSize parameter too small");
        }
        Ok(())
    }
}

impl RuntimeStakingParameters {
    fn validate_basic(&self, kind: RuntimeKind) -> Result<(), Invalid> {
        if self.reward_slash_equivocation_runtime_percent > 100 {
            invalid!("runtime reward percentage from slashing for equivocation must be <= 100");
        }
        if self.reward_slash_bad_results_runtime_percent > 100 {
            invalid!("runtime reward percentage from slashing for bad results must be <= 100");
        }
        for threshold in self.thresholds.keys() {
            let of = match *threshold {
                ThresholdKind::NODE_COMPUTE | ThresholdKind::NODE_OBSERVER => Some(RuntimeKind::COMPUTE),
                ThresholdKind::NODE_KEY_MANAGER => Some(RuntimeKind::KEY_MANAGER),
                _ => None,
            };
            if of != Some(kind) {
                invalid!("unsupported staking threshold kind for runtime: {threshold}");
            }
        }
        Ok(())
    }
}

impl RuntimeAdmissionPolicy {
    /// Checks that there is exactly one kind of policy, and its keys and roles.
    ///
    /// # Errors
    /// Names what is wrong.
    pub fn validate_basic(&self, blacklist: &Blacklist) -> Result<(), Invalid> {
        let restricted = self.entity_whitelist.is_some() || self.per_role.is_some();
        if self.any_node.is_some() == restricted {
            invalid!("invalid admission policy");
        }
        if let Some(list) = &self.entity_whitelist {
            for (entity, config) in list.entities.iter().flatten() {
                check_key(entity, blacklist)?;
                if !config.max_nodes.keys().all(|role| role.is_single()) {
                    invalid!("non-single role in entity whitelist max nodes map");
                }
            }
        }
        for (role, policy) in self.per_role.iter().flatten() {
            if !role.is_single() {
                invalid!("non-single role in per-role admission policy");
            }
            let PerRoleAdmissionPolicy { entity_whitelist } = policy;
            let entities = entity_whitelist.iter().filter_map(|list| list.entities.as_ref());
            entities.flat_map(|m| m.keys()).try_for_each(|entity| check_key(entity, blacklist))?;
        }
        Ok(())
    }
}

fn check_key(key: &PublicKey, blacklist: &Blacklist) -> Result<(), Invalid> {
    if blacklist.contains(key.as_bytes()) {
        invalid!("invalid entity ID in entity whitelist");
    }
    Ok(())
}

impl Runtime {
    /// Checks everything but deployments. `strict`: the version must be the latest. `allow_debug`: unsafe debug
    /// options are allowed.
    ///
    /// # Errors
    /// Names what is wrong.
    pub fn validate_basic(&self, strict: bool, allow_debug: bool, blacklist: &Blacklist) -> Result<(), Invalid> {
        // The oldest supported version is the latest one, so both modes come to the same.
        if self.v != super::LATEST_RUNTIME_VERSION {
            let expected = super::LATEST_RUNTIME_VERSION;
            if strict {
                invalid!("invalid runtime descriptor version (expected: {expected} got: {})", self.v);
            }
            invalid!("invalid runtime descriptor version (min: {expected} max: {expected})");
        }
        match self.kind {
            RuntimeKind::COMPUTE => self.validate_compute(allow_debug)?,
            RuntimeKind::KEY_MANAGER => self.validate_key_manager()?,
            kind => invalid!("bad runtime kind: {kind}"),
        }
        self.staking.validate_basic(self.kind).map_err(|e| Invalid(format!("bad staking parameters: {e}")))?;
        self.admission_policy.validate_basic(blacklist)?;
        if !(RuntimeGovernanceModel::ENTITY..=RuntimeGovernanceModel::CONSENSUS).contains(&self.governance_model) {
            invalid!("unsupported runtime governance model: out of range");
        }
        if self.deployments.is_empty() {
            invalid!("no deployment information specified");
        }
        Ok(())
    }

    fn validate_compute(&self, allow_debug: bool) -> Result<(), Invalid> {
        if self.id.is_key_manager() {
            invalid!("compute runtime ID has the key manager flag set");
        }
        if self.key_manager == Some(self.id) {
            invalid!("compute runtime has self as key manager");
        }
        self.executor.validate_basic().map_err(|e| Invalid(format!("bad executor parameters: {e}")))?;
        self.txn_scheduler.validate_basic().map_err(|e| Invalid(format!("bad txn scheduler parameters: {e}")))?;
        self.storage.validate_basic(allow_debug).map_err(|e| Invalid(format!("bad storage parameters: {e}")))
    }

    fn validate_key_manager(&self) -> Result<(), Invalid> {
        if !self.id.is_key_manager() {
            invalid!("key manager runtime ID does not have the key manager flag set");
        }
        if self.key_manager.is_some() {
            invalid!("key manager runtime cannot itself have a key manager");
        }
        if !self.id.is_test() && self.tee_hardware != TeeHardware::INTEL_SGX {
            invalid!("non-SGX keymanager runtime");
        }
        Ok(())
    }

    /// What a registration of the runtime claims of its owner's stake.
    pub fn stake_thresholds(&self) -> Vec<StakeThreshold> {
        let kind = match self.kind {
            RuntimeKind::KEY_MANAGER => ThresholdKind::RUNTIME_KEY_MANAGER,
            _ => ThresholdKind::RUNTIME_COMPUTE,
        };
        vec![StakeThreshold::global(kind)]
    }
}

/// What a registration of a node claims of its entity's stake. `runtimes`: the descriptors of its runtimes.
pub fn stake_thresholds_for_node(node: &Node, runtimes: &[Runtime]) -> Vec<StakeThreshold> {
    const BY_ROLE: [(Roles, ThresholdKind); 3] = [
        (Roles::KEY_MANAGER, ThresholdKind::NODE_KEY_MANAGER),
        (Roles::COMPUTE, ThresholdKind::NODE_COMPUTE),
        (Roles::OBSERVER, ThresholdKind::NODE_OBSERVER),
    ];
    let mut thresholds = Vec::new();
    if node.has_roles(Roles::VALIDATOR) {
        thresholds.push(StakeThreshold::global(ThresholdKind::NODE_VALIDATOR));
    }
    let mut seen = std::collections::BTreeSet::new();
    for registered in node.runtimes() {
        // A runtime is listed once for each of its versions.
        if !seen.insert(registered.id) {
            continue;
        }
        let Some(runtime) = runtimes.iter().find(|r| r.id == registered.id) else { continue };
        for (_, kind) in BY_ROLE.iter().filter(|(role, _)| node.has_roles(*role)) {
            thresholds.push(StakeThreshold::global(*kind));
            if let Some(amount) = runtime.staking.thresholds.get(kind).filter(|q| !q.is_zero()) {
                thresholds.push(StakeThreshold::constant(amount.clone()));
            }
        }
    }
    thresholds
}

impl Parameters {
    /// Checks the parameters. `allow_debug`: unsafe debug options are allowed.
    ///
    /// # Errors
    /// Names what is wrong.
    pub fn sanity_check(&self, allow_debug: bool, feature_version_26_1: bool) -> Result<(), Invalid> {
        if !allow_debug {
            if self.debug_allow_unroutable_addresses || self.debug_deploy_immediately {
                invalid!("one or more unsafe debug flags set");
            }
            if self.max_node_expiration == 0 {
                invalid!("maximum node expiration not specified");
            }
        }
        let policy = self.tee_features.as_ref().and_then(|f| f.sgx.default_policy.as_ref());
        let whitelist = policy.and_then(|p| p.pcs.as_ref()).is_some_and(|p| !p.fmspc_whitelist.is_empty());
        if whitelist && !feature_version_26_1 {
            invalid!("fmspc whitelist should be empty");
        }
        Ok(())
    }
}

impl ParameterChanges {
    /// Checks that something changes. The number of deployments does not count.
    ///
    /// # Errors
    /// If nothing does.
    pub fn sanity_check(&self) -> Result<(), Invalid> {
        let counted = Self { max_runtime_deployments: None, ..self.clone() };
        if counted == Self::default() {
            invalid!("consensus parameter changes should not be empty");
        }
        Ok(())
    }

    /// Applies the changes.
    pub fn apply(&self, params: &mut Parameters) {
        fn set<T: Clone>(target: &mut T, change: &Option<T>) {
            if let Some(value) = change {
                target.clone_from(value);
            }
        }
        set(&mut params.disable_runtime_registration, &self.disable_runtime_registration);
        set(&mut params.disable_key_manager_runtime_registration, &self.disable_key_manager_runtime_registration);
        set(&mut params.gas_costs, &self.gas_costs);
        set(&mut params.max_node_expiration, &self.max_node_expiration);
        set(&mut params.enable_runtime_governance_models, &self.enable_runtime_governance_models);
        if self.tee_features.is_some() {
            params.tee_features.clone_from(&self.tee_features);
        }
        set(&mut params.max_runtime_deployments, &self.max_runtime_deployments);
    }
}
