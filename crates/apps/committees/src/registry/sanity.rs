//! Checks of everything that is registered, as in genesis documents and by the supplementary sanity service.
//!
//! Source: `go/registry/api/sanity_check.go`.

use std::collections::BTreeMap;

use apps_core::{Error, Result};
use base_prims::{Address, Namespace, PublicKey};
use wire_consensus::{
    entity::{Entity, SignedEntity},
    node::{MultiSignedNode, Node},
    registry::{
        Genesis, Runtime, STAKE_CLAIM_REGISTER_ENTITY, stake_claim_for_node, stake_claim_for_runtime,
        validate::stake_thresholds_for_node,
    },
    staking::{EscrowAccount, StakeThreshold, ThresholdKind},
};

use super::{
    runtime,
    verify::{self, Lookup, Rules, Trust},
};

fn wrong(text: impl std::fmt::Display) -> Error {
    Error::Uncoded(format!("registry: sanity check failed: {text}"))
}

/// Checks entities and returns them by key.
///
/// # Errors
/// Names what is wrong.
pub fn entities(signed: &[SignedEntity], trust: &Trust<'_>) -> Result<BTreeMap<PublicKey, Entity>> {
    signed
        .iter()
        .map(|s| verify::entity(s, trust, false).map(|e| (e.id, e)))
        .collect::<Result<_>>()
        .map_err(|e| e.context("entity sanity check failed"))
}

/// Descriptors that were found to be fine.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    runtimes: BTreeMap<Namespace, Runtime>,
    suspended: BTreeMap<Namespace, Runtime>,
    nodes: Vec<Node>,
    by_key: BTreeMap<PublicKey, usize>,
}

impl Lookup for Checked {
    fn any_runtime(&self, id: &Namespace) -> Result<Option<Runtime>> {
        Ok(self.runtimes.get(id).or_else(|| self.suspended.get(id)).cloned())
    }

    fn node_by_subkey(&self, key: &PublicKey) -> Result<Option<Node>> {
        Ok(self.by_key.get(key).and_then(|i| self.nodes.get(*i)).cloned())
    }
}

impl Checked {
    /// Checks runtimes.
    ///
    /// # Errors
    /// Names what is wrong.
    pub fn runtimes(rules: &Rules<'_>, active: &[Runtime], suspended: &[Runtime]) -> Result<Self> {
        let mut checked = Self::default();
        for descriptor in active.iter().chain(suspended) {
            runtime::verify(rules, descriptor).map_err(|e| e.context("runtime sanity check failed"))?;
        }
        for descriptor in active {
            if checked.runtimes.insert(descriptor.id, descriptor.clone()).is_some() {
                return Err(Error::Uncoded(format!(
                    "runtime sanity check failed: duplicate runtime: {}",
                    descriptor.id
                )));
            }
        }
        for descriptor in suspended {
            let known = checked.runtimes.contains_key(&descriptor.id);
            if known || checked.suspended.insert(descriptor.id, descriptor.clone()).is_some() {
                let id = descriptor.id;
                return Err(Error::Uncoded(format!(
                    "runtime sanity check failed: duplicate (suspended) runtime: {id}"
                )));
            }
        }
        for descriptor in active.iter().chain(suspended).filter(|r| r.is_compute()) {
            runtime::verify_key_manager(&checked, descriptor)
                .map_err(|e| e.context("compute runtime sanity check failed"))?;
        }
        Ok(checked)
    }

    /// Checks nodes of checked runtimes and entities.
    ///
    /// # Errors
    /// Names what is wrong.
    pub fn nodes(
        &mut self,
        rules: &Rules<'_>,
        signed: &[MultiSignedNode],
        entities: &BTreeMap<PublicKey, Entity>,
    ) -> Result<()> {
        for signed in signed {
            let untrusted: Node =
                base_codec::cbor::from_slice(signed.blob()).map_err(|_| wrong("unable to open signed node"))?;
            let id = untrusted.id;
            if rules.trust.blacklist.contains(id.as_bytes()) {
                return Err(Error::Uncoded(format!("registry: node sanity check failed: ID {id} is invalid")));
            }
            let entity = entities.get(&untrusted.entity_id).ok_or_else(|| {
                Error::Uncoded(format!("registry: node sanity check failed node: {id} references a missing entity"))
            })?;
            let (node, _) = verify::node(rules, &*self, signed, entity)
                .map_err(|e| e.context(format!("registry: node sanity check failed: ID: {id}, error")))?;
            // VRF keys are not looked at here.
            for key in [node.consensus.id, node.p2p.id, node.tls.pub_key] {
                self.by_key.insert(key, self.nodes.len());
            }
            self.nodes.push(node);
        }
        Ok(())
    }

    /// Adds what is registered to the claims on stake. Suspended runtimes of a genesis document claim nothing.
    pub fn add_stake_claims<'e>(
        &self,
        entities: impl IntoIterator<Item = &'e Entity>,
        escrows: &mut BTreeMap<Address, EscrowAccount>,
    ) {
        let all: Vec<Runtime> = self.runtimes.values().chain(self.suspended.values()).cloned().collect();
        add_stake_claims(entities, &self.nodes, self.runtimes.values(), &all, escrows);
    }
}

/// Adds what is registered to the claims on stake. `all`: the runtimes that nodes may refer to.
pub fn add_stake_claims<'e, 'r>(
    entities: impl IntoIterator<Item = &'e Entity>,
    nodes: &[Node],
    runtimes: impl IntoIterator<Item = &'r Runtime>,
    all: &[Runtime],
    escrows: &mut BTreeMap<Address, EscrowAccount>,
) {
    let mut claim = |owner: Address, name: &str, thresholds: &[StakeThreshold]| {
        escrows.entry(owner).or_default().stake_accumulator.add_claim_unchecked(name, thresholds);
    };
    for entity in entities {
        let thresholds = [StakeThreshold::global(ThresholdKind::ENTITY)];
        claim(Address::of_key(&entity.id), STAKE_CLAIM_REGISTER_ENTITY, &thresholds);
    }
    for node in nodes {
        let thresholds = stake_thresholds_for_node(node, all);
        claim(Address::of_key(&node.entity_id), &stake_claim_for_node(&node.id), &thresholds);
    }
    for runtime in runtimes {
        if let Some(owner) = runtime.staking_address() {
            claim(owner, &stake_claim_for_runtime(&runtime.id), &runtime.stake_thresholds());
        }
    }
}

/// Checks the section `registry` of a genesis document and adds its claims on stake to `escrows`.
///
/// `forbidden`: keys that the document's consensus parameters blacklist.
///
/// # Errors
/// Names what is wrong.
pub fn genesis(
    rules: &Rules<'_>,
    doc: &Genesis,
    forbidden: &[PublicKey],
    escrows: &mut BTreeMap<Address, EscrowAccount>,
) -> Result<()> {
    doc.parameters.sanity_check(rules.allow_debug, true).map_err(wrong)?;
    let known = entities(&doc.entities, &rules.trust)?;
    let mut checked = Checked::runtimes(rules, &doc.runtimes, &doc.suspended_runtimes)?;
    checked.nodes(rules, &doc.nodes, &known)?;
    for key in forbidden {
        if known.contains_key(key) {
            return Err(wrong(format!("entity public key blacklisted: '{key}'")));
        }
        if let Some(runtime) = doc.runtimes.iter().chain(&doc.suspended_runtimes).find(|r| r.entity_id == *key) {
            return Err(wrong(format!("runtime '{}' owned by blacklisted entity: '{key}'", runtime.id)));
        }
        if let Some(node) = checked.node_by_subkey(key)? {
            return Err(wrong(format!("node '{}' uses blacklisted key: '{key}'", node.id)));
        }
    }
    checked.add_stake_claims(known.values(), escrows);
    Ok(())
}
