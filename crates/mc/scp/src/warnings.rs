//! What is wrong with a set of quorum sets that the protocol itself would only show by standing still or forking.

use std::collections::{BTreeMap, BTreeSet};

use wire_mobilecoin::quorum::{NodeId, QuorumSet};

use crate::quorum::find_quorum;

/// Most nodes whose quorums are all enumerated.
pub const MAX_NODES: usize = 16;

/// A misconfiguration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// A set can never be satisfied, or always is.
    InvalidSet(NodeId),
    /// A node is in nobody's quorum set.
    Unheard(NodeId),
    /// Two quorums share no node: the network can fork.
    Disjoint(BTreeSet<NodeId>, BTreeSet<NodeId>),
    /// If that node is down, some node has no quorum.
    SinglePointOfFailure(NodeId),
}

fn quorum_within(nodes: &BTreeMap<NodeId, QuorumSet>, allowed: &BTreeSet<&NodeId>) -> BTreeSet<NodeId> {
    let sets = || nodes.iter().filter(|(node, _)| allowed.contains(node));
    let mut out = BTreeSet::new();
    for (node, set) in sets() {
        let quorum = find_quorum(node, set, sets());
        out.extend(quorum.into_iter().cloned());
    }
    out
}

/// Looks at the quorum sets of all nodes of a network.
pub fn check(nodes: &BTreeMap<NodeId, QuorumSet>) -> Vec<Warning> {
    let mut out = Vec::new();
    for (node, set) in nodes {
        if !set.is_valid() || (set.threshold == 0 && nodes.len() > 1) {
            out.push(Warning::InvalidSet(node.clone()));
        }
        if nodes.len() > 1 && !nodes.iter().any(|(other, set)| other != node && set.nodes().contains(&node)) {
            out.push(Warning::Unheard(node.clone()));
        }
    }
    let all: BTreeSet<&NodeId> = nodes.keys().collect();
    let whole = quorum_within(nodes, &all);
    for node in &all {
        let without: BTreeSet<&NodeId> = all.iter().copied().filter(|other| other != node).collect();
        let left = quorum_within(nodes, &without);
        if whole.iter().any(|other| other != *node && !left.contains(other)) {
            out.push(Warning::SinglePointOfFailure((*node).clone()));
        }
    }
    out.extend(disjoint(nodes));
    out
}

/// Two quorums without a common node, found by splitting the nodes in all ways.
fn disjoint(nodes: &BTreeMap<NodeId, QuorumSet>) -> Option<Warning> {
    let all: Vec<&NodeId> = nodes.keys().collect();
    if all.is_empty() || all.len() > MAX_NODES {
        return None;
    }
    (0..1u32 << (all.len() - 1)).find_map(|split| {
        let side = |bit: bool| -> BTreeSet<&NodeId> {
            all.iter().enumerate().filter(|(i, _)| (split >> i & 1 == 1) == bit).map(|(_, node)| *node).collect()
        };
        let (a, b) = (quorum_within(nodes, &side(true)), quorum_within(nodes, &side(false)));
        (!a.is_empty() && !b.is_empty()).then_some(Warning::Disjoint(a, b))
    })
}
