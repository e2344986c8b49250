//! Registrations of entities, of nodes that do not exist, and of a runtime that changes hands.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use base_crypto::ed25519::SecretKey;
use base_prims::{Epoch, Hash, Namespace, PublicKey};
use wire_consensus::entity::{self, Entity};
use wire_consensus::node::{self, ConsensusAddress, Node as Descriptor, Roles};
use wire_consensus::registry::{
    Empty, ExecutorParameters, LATEST_RUNTIME_VERSION, Limit, METHOD_REGISTER_ENTITY, METHOD_REGISTER_NODE,
    METHOD_REGISTER_RUNTIME, Runtime, RuntimeAdmissionPolicy, RuntimeGenesis, RuntimeGovernanceModel, RuntimeKind,
    SchedulingConstraints, TxnSchedulerParameters, VersionInfo,
};
use wire_consensus::scheduler::{CommitteeKind, Role};
use wire_consensus::signed::{MultiSigned, Signed};

use crate::Job;
use crate::base::address;
use crate::node::{LATEST, MODULE, WorkloadError};
use crate::random::Random;

const ENTITIES: usize = 10;
const NODES: usize = 5;
/// Epochs that a node is registered for, at most.
const MAX_EPOCHS: u64 = 5;
/// The runtime changes hands each time the iteration's number has none of these bits. Source: `registryRtOwnerChangeInterval`.
const OWNER_CHANGE_BITS: u64 = 20;
/// Stake that an entity needs for a runtime.
const STAKE: u64 = 10_000;
const PAUSE: Duration = Duration::from_secs(1);
/// Where the nodes would be.
const NODE_PORT: u16 = 12_345;
const SECOND: i64 = 1_000_000_000;

struct Owner {
    key: SecretKey,
    nodes: Vec<Member>,
}

struct Member {
    /// Keys: node, peer-to-peer, consensus, TLS, VRF.
    keys: [SecretKey; 5],
    descriptor: Descriptor,
}

/// The runtime, which nobody runs.
fn runtime_id() -> Namespace {
    let mut bytes = [0; 32];
    bytes[31] = 2;
    Namespace::from_bytes_unchecked(bytes)
}

fn runtime(entity_id: PublicKey, epoch: Epoch) -> Runtime {
    let pool = SchedulingConstraints { min_pool_size: Some(Limit { limit: 1 }), ..SchedulingConstraints::default() };
    // Two epochs ahead: one may begin before the descriptor is in a block.
    let deployment = VersionInfo { valid_from: epoch.saturating_add(2), ..VersionInfo::default() };
    Runtime {
        v: LATEST_RUNTIME_VERSION,
        id: runtime_id(),
        entity_id,
        genesis: RuntimeGenesis { state_root: Hash::EMPTY, round: 0 },
        kind: RuntimeKind::COMPUTE,
        executor: ExecutorParameters {
            group_size: 1,
            round_timeout: 5,
            max_messages: 32,
            ..ExecutorParameters::default()
        },
        txn_scheduler: TxnSchedulerParameters {
            batch_flush_timeout: SECOND,
            max_batch_size: 1,
            max_batch_size_bytes: 1024,
            proposer_timeout: 2 * SECOND,
            ..TxnSchedulerParameters::default()
        },
        admission_policy: RuntimeAdmissionPolicy { any_node: Some(Empty {}), ..RuntimeAdmissionPolicy::default() },
        constraints: [(CommitteeKind::COMPUTE_EXECUTOR, [(Role::WORKER, pool)].into())].into(),
        governance_model: RuntimeGovernanceModel::ENTITY,
        deployments: vec![Some(deployment)],
        ..Runtime::default()
    }
}

fn member(random: &mut Random, entity_id: PublicKey) -> Member {
    let keys: [SecretKey; 5] = std::array::from_fn(|_| random.key());
    let [id, p2p, consensus, tls, vrf] = [0, 1, 2, 3, 4].map(|at: usize| PublicKey::from(SecretKey::public(&keys[at])));
    let place = SocketAddr::from((Ipv4Addr::LOCALHOST, NODE_PORT));
    // No validators: the network would wait for them.
    let roles = if random.coin() { Roles::COMPUTE } else { Roles::OBSERVER };
    let mut descriptor = Descriptor { v: node::LATEST_VERSION, id, entity_id, roles, ..Descriptor::default() };
    descriptor.tls.pub_key = tls;
    descriptor.p2p.id = p2p;
    descriptor.p2p.addresses = Some(vec![place.into()]);
    descriptor.consensus.id = consensus;
    descriptor.consensus.addresses = Some(vec![ConsensusAddress { id: p2p, address: place.into() }]);
    descriptor.vrf.id = vrf;
    descriptor.runtimes = Some(vec![node::Runtime { id: runtime_id(), ..node::Runtime::default() }]);
    Member { keys, descriptor }
}

fn unsigned(error: impl std::fmt::Display) -> WorkloadError {
    WorkloadError::Sign(error.to_string())
}

async fn register_entity(job: &mut Job) -> Result<Owner, WorkloadError> {
    let key = job.random.key();
    let id = PublicKey::from(key.public());
    let nodes: Vec<Member> = (0..NODES).map(|_| member(&mut job.random, id)).collect();
    let members = nodes.iter().map(|node| node.descriptor.id).collect();
    let entity = Entity { v: entity::LATEST_VERSION, id, nodes: members };
    let signed = Signed::sign(&key, entity::REGISTER_CONTEXT, None, &entity).map_err(unsigned)?;
    job.base.funded(&key, METHOD_REGISTER_ENTITY, &signed).await?;
    job.base.escrow(job.base.funding_key(), address(&key), STAKE).await?;
    Ok(Owner { key, nodes })
}

pub(crate) async fn run(mut job: Job) -> Result<(), WorkloadError> {
    let mut owners = vec![register_entity(&mut job).await?];
    let mut descriptor = runtime(owners[0].key.public().into(), job.node().epoch(LATEST).await?);
    let mut owner = 0;
    job.base.funded(&owners[owner].key, METHOD_REGISTER_RUNTIME, &descriptor).await?;
    while owners.len() < ENTITIES {
        owners.push(register_entity(&mut job).await?);
    }
    for iteration in 0u64.. {
        let chosen = job.random.index(ENTITIES);
        let node = job.random.index(NODES);
        let epoch = job.node().epoch(LATEST).await?;
        let member = &mut owners[chosen].nodes[node];
        member.descriptor.expiration = epoch.saturating_add(2).saturating_add(job.random.below(MAX_EPOCHS - 1));
        let keys: Vec<&SecretKey> = member.keys.iter().collect();
        let signed = MultiSigned::sign(&keys, node::REGISTER_CONTEXT, None, &member.descriptor).map_err(unsigned)?;
        job.base.funded(&member.keys[0], METHOD_REGISTER_NODE, &signed).await?;
        tracing::debug!(module = MODULE, node = %member.descriptor.id, "registered node");
        if iteration & OWNER_CHANGE_BITS == 0 {
            descriptor.entity_id = owners[chosen].key.public().into();
            // The present owner signs it away.
            let present = std::mem::replace(&mut owner, chosen);
            job.base.funded(&owners[present].key, METHOD_REGISTER_RUNTIME, &descriptor).await?;
            tracing::debug!(module = MODULE, owner = %descriptor.entity_id, "registered runtime");
        }
        if !job.deadline.pause(PAUSE).await {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use base_crypto::blacklist::Blacklist;

    use super::*;

    #[test]
    fn descriptors_are_valid() {
        let mut random = Random::new("seed", "registration");
        let owner = PublicKey::from(random.key().public());
        runtime(owner, 7).validate_basic(true, true, &Blacklist::production()).expect("a valid runtime");
        let roles: Vec<Roles> = (0..20).map(|_| member(&mut random, owner).descriptor.roles).collect();
        assert!(roles.contains(&Roles::COMPUTE) && roles.contains(&Roles::OBSERVER));
        let member = member(&mut random, owner);
        member.descriptor.validate_basic(true).expect("a valid node");
        let keys: Vec<&SecretKey> = member.keys.iter().collect();
        let signed = MultiSigned::sign(&keys, node::REGISTER_CONTEXT, None, &member.descriptor).expect("signed");
        signed.verify(node::REGISTER_CONTEXT, None).expect("its signatures");
    }
}
