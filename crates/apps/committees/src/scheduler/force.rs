//! Forced elections: test networks may put certain nodes into committees.

use std::collections::BTreeMap;

use base_prims::{Namespace, PublicKey};
use wire_consensus::{
    node::Node,
    scheduler::{CommitteeKind, CommitteeNode, ForceElectCommitteeRole, Role},
};

use super::epoch::Election;

/// The forced nodes of a runtime, if forcing is on at all.
fn forced<'a>(election: &'a Election, runtime: &Namespace) -> Option<&'a BTreeMap<PublicKey, ForceElectCommitteeRole>> {
    static NONE: BTreeMap<PublicKey, ForceElectCommitteeRole> = BTreeMap::new();
    is_on(election).then(|| election.params.debug_force_elect.get(runtime).unwrap_or(&NONE))
}

/// Whether any runtime has forced nodes and the node allows it.
pub(super) fn is_on(election: &Election) -> bool {
    election.allow_debug && !election.params.debug_force_elect.is_empty()
}

/// Whether the node is forced into a committee of this kind in any role, and so needs no proof.
pub(super) fn is_forced(election: &Election, runtime: &Namespace, kind: CommitteeKind, node: &PublicKey) -> bool {
    forced(election, runtime).and_then(|f| f.get(node)).is_some_and(|r| r.kind == kind)
}

/// The nodes that a role must have, by identifier; nothing if they are no candidates or don't fit.
pub(super) fn elect(
    election: &Election,
    runtime: &Namespace,
    kind: CommitteeKind,
    role: Role,
    nodes: &[&Node],
    wanted: usize,
) -> Option<BTreeMap<PublicKey, u64>> {
    let mut indexes = BTreeMap::new();
    for (id, seat) in forced(election, runtime).into_iter().flatten() {
        if seat.kind == kind && seat.roles.contains(&role) {
            if indexes.len() >= wanted || !nodes.iter().any(|n| n.id == *id) {
                return None;
            }
            indexes.insert(*id, seat.index);
        }
    }
    Some(indexes)
}

/// Puts forced workers at their places; the others fill the rest in order. Nothing if two want one place or a place
/// does not exist.
pub(super) fn arrange(indexes: &BTreeMap<PublicKey, u64>, elected: Vec<CommitteeNode>) -> Option<Vec<CommitteeNode>> {
    if indexes.is_empty() {
        return Some(elected);
    }
    let mut places: Vec<Option<CommitteeNode>> = vec![None; elected.len()];
    let mut others = Vec::new();
    for node in elected {
        match indexes.get(&node.public_key) {
            None => others.push(node),
            Some(index) => {
                let place = usize::try_from(*index).ok().and_then(|i| places.get_mut(i))?;
                if place.replace(node).is_some() {
                    return None;
                }
            }
        }
    }
    let mut others = others.into_iter();
    places.into_iter().map(|place| place.or_else(|| others.next())).collect()
}
