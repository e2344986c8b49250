//! The runtimes of a local network: their bundles, descriptors, and the state of key managers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base_codec::Bytes;
use base_crypto::blacklist::test_key;
use base_prims::{Hash, PublicKey};
use rt_bundle::{Binary, Bundle, OpenOptions, Wrap};
use wire_consensus::keymanager::{PolicySgx, SignedPolicySgx, Status};
use wire_consensus::registry::{
    Empty, EntityWhitelist, EntityWhitelistRole, PerRoleAdmissionPolicy, Runtime, RuntimeAdmissionPolicy,
    RuntimeGenesis, VersionInfo,
};
use wire_consensus::signed::Signature;
use wire_runtime::bundle::{ComponentId, Elf};

use crate::DevnetError;
use crate::blueprint::{Admission, Component, DeploymentPlan, RuntimePlan, Source};
use crate::plan::{BundleId, Plan};

/// Version of the descriptor.
const DESCRIPTOR_VERSION: u16 = 3;
/// Names of the keys that sign policies of test networks, which the example's key manager trusts.
const POLICY_SIGNERS: [&str; 3] = [
    "ekiden key manager test multisig key 0",
    "ekiden key manager test multisig key 1",
    "ekiden key manager test multisig key 2",
];
/// Kind of a component that runs off the chain.
const KIND_ROFL: &str = "rofl";

fn wrong(path: &Path) -> impl FnOnce(rt_bundle::Error) -> DevnetError {
    let path = path.to_owned();
    move |error| DevnetError::Bundle { path, reason: error.to_string() }
}

/// What a bundle says about itself; nothing if the file is a program.
///
/// # Errors
/// If it is neither, or can only run in an enclave.
pub(crate) fn inspect(path: &Path) -> Result<Option<BundleId>, DevnetError> {
    if path.extension().is_none_or(|extension| extension != "orc") {
        return Ok(None);
    }
    let bundle = Bundle::open(path, &OpenOptions::default()).map_err(wrong(path))?;
    let failed = |reason: &str| DevnetError::Bundle { path: path.to_owned(), reason: reason.to_owned() };
    let component = bundle.manifest().component(&ComponentId::Ronl).ok_or_else(|| failed("no on-chain component"))?;
    if component.elf.is_none() {
        return Err(failed("it has no executable for machines without enclaves"));
    }
    Ok(Some(BundleId { id: bundle.manifest().id, version: component.version }))
}

/// A deployment whose bundle lies below the network's directory.
pub(crate) struct Deployed {
    pub(crate) path: PathBuf,
    pub(crate) is_excluded: bool,
    info: VersionInfo,
}

/// Writes the bundles of a runtime.
pub(crate) fn bundles(plan: &Plan, runtime: &RuntimePlan) -> Result<Vec<Deployed>, DevnetError> {
    let dir = plan.bundles_dir();
    std::fs::create_dir_all(&dir).map_err(DevnetError::io("create", &dir))?;
    let numbered = runtime.deployments.iter().enumerate();
    numbered.map(|(number, deployment)| deploy(&dir, runtime, number, deployment)).collect()
}

fn deploy(
    dir: &Path,
    runtime: &RuntimePlan,
    number: usize,
    deployment: &DeploymentPlan,
) -> Result<Deployed, DevnetError> {
    let path = dir.join(format!("{}-{number}.orc", runtime.name));
    let (version, hash) = match &deployment.source {
        Source::Bundle(source) => {
            std::fs::copy(source, &path).map_err(DevnetError::io("copy", source))?;
            let bundle = Bundle::open(&path, &OpenOptions::default()).map_err(wrong(source))?;
            let component = bundle.manifest().component(&ComponentId::Ronl);
            (component.map(|component| component.version).unwrap_or_default(), bundle.manifest_hash())
        }
        Source::Programs(components) => {
            let Some(first) = components.iter().find(|component| component.kind != KIND_ROFL) else {
                return Err(DevnetError::Bundle { path, reason: "no on-chain component".to_owned() });
            };
            (first.version, wrap(&path, runtime, first, components)?)
        }
    };
    let info = VersionInfo {
        version,
        valid_from: deployment.valid_from,
        tee: None,
        bundle_checksum: Bytes(hash.as_bytes().to_vec()),
    };
    Ok(Deployed { path, is_excluded: deployment.is_excluded, info })
}

fn wrap(path: &Path, runtime: &RuntimePlan, ronl: &Component, all: &[Component]) -> Result<Hash, DevnetError> {
    let wrap = Wrap {
        runtime_id: runtime.id,
        name: runtime.name.clone(),
        version: Some(ronl.version),
        binary: Binary::Elf(ronl.program.clone()),
    };
    let mut builder = wrap.to_builder().map_err(wrong(&ronl.program))?;
    for (number, component) in all.iter().filter(|component| component.kind == KIND_ROFL).enumerate() {
        let file = format!("rofl-{number}.elf");
        builder.add_file(&file, &component.program).map_err(wrong(&component.program))?;
        builder.edit(|manifest| {
            manifest.components.push(wire_runtime::bundle::Component {
                kind: KIND_ROFL.into(),
                name: component.name.clone(),
                version: component.version,
                elf: Some(Elf { executable: file }),
                ..wire_runtime::bundle::Component::default()
            });
        });
    }
    builder.write(path).map_err(wrong(path))
}

/// The descriptor.
pub(crate) fn descriptor(
    runtime: &RuntimePlan,
    deployed: &[Deployed],
    runtimes: &[RuntimePlan],
    entities: &[PublicKey],
) -> Result<Runtime, DevnetError> {
    let entity = entities.get(runtime.entity).copied();
    let entity_id = entity.ok_or_else(|| DevnetError::Plan(format!("there is no entity {}", runtime.entity)))?;
    Ok(Runtime {
        v: DESCRIPTOR_VERSION,
        id: runtime.id,
        entity_id,
        genesis: RuntimeGenesis { state_root: runtime.genesis_state_root, round: runtime.genesis_round },
        kind: runtime.kind,
        key_manager: runtime.key_manager.and_then(|place| runtimes.get(place)).map(|manager| manager.id),
        executor: runtime.executor.clone(),
        txn_scheduler: runtime.txn_scheduler.clone(),
        storage: runtime.storage.clone(),
        admission_policy: admission(&runtime.admission, entities),
        constraints: runtime.constraints.constraints.clone(),
        staking: runtime.staking.clone(),
        governance_model: runtime.governance_model,
        deployments: deployed.iter().map(|deployed| Some(deployed.info.clone())).collect(),
        ..Runtime::default()
    })
}

fn admission(admission: &Admission, entities: &[PublicKey]) -> RuntimeAdmissionPolicy {
    RuntimeAdmissionPolicy {
        any_node: admission.any_node.then_some(Empty {}),
        entity_whitelist: admission
            .entities
            .as_ref()
            .map(|map| EntityWhitelist { entities: Some(by_key(map, entities)) }),
        per_role: admission.per_role.as_ref().map(|roles| {
            let policy = |map: &Option<BTreeMap<usize, _>>| PerRoleAdmissionPolicy {
                entity_whitelist: map.as_ref().map(|map| EntityWhitelistRole { entities: Some(by_key(map, entities)) }),
            };
            roles.iter().map(|(role, map)| (*role, policy(map))).collect()
        }),
    }
}

fn by_key<T: Clone>(map: &BTreeMap<usize, T>, entities: &[PublicKey]) -> BTreeMap<PublicKey, T> {
    map.iter().filter_map(|(place, value)| Some((*entities.get(*place)?, value.clone()))).collect()
}

/// The state of a key manager before its first node: with its policy, signed by the keys of test networks.
///
/// Without enclaves the policy names none; it then only says whether and how often the secret is renewed.
pub(crate) fn key_manager(runtime: &RuntimePlan) -> Result<Status, DevnetError> {
    let sign = |plan: &crate::blueprint::PolicyPlan| {
        let policy = PolicySgx {
            serial: plan.serial,
            id: runtime.id,
            enclaves: Some(BTreeMap::new()),
            master_secret_rotation_interval: plan.rotation_interval,
            ..PolicySgx::default()
        };
        let raw = base_codec::cbor::to_vec(&policy);
        let context = &base_crypto::context::KEYMANAGER_POLICY;
        let sign = |name: &&str| Signature::sign(&test_key(name), context, None, &raw);
        let signatures = POLICY_SIGNERS.iter().map(sign).collect::<Result<Vec<_>, _>>();
        let signatures = signatures.map_err(|error| DevnetError::Genesis(error.to_string()))?;
        Ok::<_, DevnetError>(SignedPolicySgx { policy, signatures: Some(signatures) })
    };
    Ok(Status { id: runtime.id, policy: runtime.policy.as_ref().map(sign).transpose()?, ..Status::default() })
}
