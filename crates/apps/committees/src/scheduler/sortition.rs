//! Orders that nobody chose: from the beacon, or from the nodes' VRF proofs.

use std::collections::BTreeMap;

use apps_core::{Context, Error, Result};
use base_crypto::{drbg::Drbg, mathrand::Rng, tuplehash::TupleHash256};
use base_prims::{Epoch, Namespace, PublicKey};
use wire_consensus::{
    beacon::PrevVrfState,
    node::Node,
    scheduler::{CommitteeKind, Role},
};

use crate::beacon;

/// Beacon context of the order of entities.
pub(super) const RNG_ENTITIES: &[u8] = b"EkS-ABCI-Entities";
/// Beacon context of the order of validator nodes.
pub(super) const RNG_VALIDATORS: &[u8] = b"EkS-ABCI-Validators";
/// Beacon context of executor committees; the role's follows.
const RNG_EXECUTOR: &[u8] = b"EkS-ABCI-Compute";
/// Domain of the order of validator nodes.
pub(super) const VRF_VALIDATOR: &[u8] = b"oasis-core:vrf/validator";
/// Domain of the order of committee candidates.
pub(super) const VRF_COMMITTEE: &[u8] = b"oasis-core:vrf/committee";
/// Domain of the order in which an entity's surplus nodes are dropped.
pub(super) const VRF_DEDUP: &[u8] = b"oasis-core:vrf/dedup";

/// A generator seeded with the beacon.
pub(super) fn rng(entropy: &[u8], nonce: &[u8], context: &[u8]) -> Result<Rng> {
    let drbg = Drbg::new(entropy, nonce, context)
        .map_err(|e| Error::Uncoded(format!("scheduler: couldn't instantiate DRBG: {e}")))?;
    Ok(Rng::new(drbg))
}

/// Beacon context of a committee role.
pub(super) fn role_context(role: Role) -> Vec<u8> {
    let suffix: &[u8] = if role == Role::WORKER { b"Worker" } else { b"Backup-Worker" };
    [RNG_EXECUTOR, suffix].concat()
}

/// What hashes betas: the domain and what comes before the beta.
pub(super) struct BetaHasher(TupleHash256);

impl BetaHasher {
    /// For validators.
    pub(super) fn new(ctx: &Context<'_>, domain: &[u8], epoch: Epoch) -> Self {
        let mut hash = TupleHash256::new(domain);
        hash.update(ctx.chain().as_str().as_bytes());
        hash.update(&epoch.to_be_bytes());
        Self(hash)
    }

    /// For a role in a runtime's committee.
    pub(super) fn for_committee(
        ctx: &Context<'_>,
        domain: &[u8],
        epoch: Epoch,
        runtime: &Namespace,
        kind: CommitteeKind,
        role: Role,
    ) -> Self {
        let mut this = Self::new(ctx, domain, epoch);
        this.0.update(runtime.as_bytes());
        this.0.update(&[kind.0]);
        this.0.update(&[role.0]);
        this
    }

    fn hash(&self, beta: &[u8]) -> [u8; 32] {
        let mut hash = self.0.clone();
        hash.update(beta);
        hash.finalize()
    }
}

/// Whether a node proved the previous alpha.
pub(super) fn has_proof(vrf: &PrevVrfState, id: &PublicKey) -> bool {
    vrf.pi.as_ref().is_some_and(|pi| pi.contains_key(id))
}

/// The nodes with proofs, ordered by hashed beta.
pub(super) fn sort_by_beta<'a>(vrf: &PrevVrfState, hasher: &BetaHasher, nodes: &[&'a Node]) -> Result<Vec<&'a Node>> {
    let mut sorted = BTreeMap::new();
    for node in nodes {
        if let Some(proof) = vrf.pi.as_ref().and_then(|pi| pi.get(&node.id)) {
            // Should two hashes be equal, the first node counts.
            sorted.entry(hasher.hash(&beacon::beta(proof)?)).or_insert(*node);
        }
    }
    Ok(sorted.into_values().collect())
}

/// At most `limit` nodes of each entity, the first ones.
pub(super) fn limit_per_entity<'a>(nodes: &[&'a Node], limit: u16) -> Vec<&'a Node> {
    let mut counts: BTreeMap<PublicKey, u16> = BTreeMap::new();
    let mut kept = Vec::new();
    for node in nodes {
        let count = counts.entry(node.entity_id).or_default();
        if *count < limit {
            *count += 1;
            kept.push(*node);
        }
    }
    kept
}
