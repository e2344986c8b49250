//! Quorums and blocking sets.

use std::collections::BTreeMap;

use wire_mobilecoin::quorum::{Member, NodeId, QuorumSet};

/// Whether the members that pass a test are enough for a quorum set.
fn is_satisfied(set: &QuorumSet, passes: &impl Fn(&NodeId) -> bool) -> bool {
    let passing = set.members().filter(|member| match member {
        Member::Node(node) => passes(node),
        Member::InnerSet(inner) => is_satisfied(inner, passes),
    });
    passing.count() >= set.threshold as usize
}

/// The largest quorum of the local node among senders that pass a test: everyone in it has a satisfied quorum set within
/// it. Empty if there is none, or only the local node itself would be in it without anyone's agreement.
///
/// `sets` are the quorum sets of senders that pass.
pub fn find_quorum<'a>(
    local: &'a NodeId,
    local_set: &QuorumSet,
    sets: impl IntoIterator<Item = (&'a NodeId, &'a QuorumSet)>,
) -> Vec<&'a NodeId> {
    let mut within: BTreeMap<&NodeId, &QuorumSet> = sets.into_iter().filter(|(node, _)| *node != local).collect();
    loop {
        let passes = |node: &NodeId| node == local || within.contains_key(node);
        let lost: Vec<&NodeId> =
            within.iter().filter(|(_, set)| !is_satisfied(set, &passes)).map(|(node, _)| *node).collect();
        if lost.is_empty() {
            break;
        }
        lost.iter().for_each(|node| {
            within.remove(*node);
        });
    }
    if local_set.threshold == 0 || !is_satisfied(local_set, &|node| node == local || within.contains_key(node)) {
        return Vec::new();
    }
    std::iter::once(local).chain(within.into_keys()).collect()
}

/// Whether the nodes that pass a test are in every quorum of the set: nobody can agree without one of them.
pub fn is_blocking(set: &QuorumSet, passes: &impl Fn(&NodeId) -> bool) -> bool {
    let passing = set.members().filter(|member| match member {
        Member::Node(node) => passes(node),
        Member::InnerSet(inner) => is_blocking(inner, passes),
    });
    let needed = set.members.len().saturating_sub(set.threshold as usize) + 1;
    set.threshold > 0 && passing.count() >= needed
}

/// How often a node is in the set: the product of threshold and members down the first branch that holds it.
pub fn weight(set: &QuorumSet, node: &NodeId) -> (u64, u64) {
    let (threshold, members) = (u64::from(set.threshold), set.members.len() as u64);
    for member in set.members() {
        match member {
            Member::Node(member) if member == node => return (threshold, members),
            Member::Node(_) => {}
            Member::InnerSet(inner) => {
                let (numerator, denominator) = weight(inner, node);
                if numerator > 0 {
                    return (numerator.saturating_mul(threshold), denominator.saturating_mul(members));
                }
            }
        }
    }
    (0, 1)
}

/// Most steps of one search; a search that takes more finds nothing.
const MAX_STEPS: usize = 20_000;

/// A search for a quorum or blocking set whose members narrow down a state. Members are tried in order, depth first, and
/// the first match wins: which of several sets is found decides how narrow the state gets.
pub struct Search<'a, T, S, M, N, Q> {
    /// The sender's message, if there is one.
    pub message_of: M,
    /// The state with a message taken in; none if it does not pass.
    pub narrow: N,
    /// The quorum set of a message's sender.
    pub set_of: Q,
    /// Steps left.
    steps: usize,
    lifetime: std::marker::PhantomData<(&'a T, S)>,
}

impl<'a, T: 'a, S: Clone, M, N, Q> Search<'a, T, S, M, N, Q>
where
    M: Fn(&NodeId) -> Option<&'a T>,
    N: Fn(&S, &T) -> Option<S>,
    Q: Fn(&'a T) -> &'a QuorumSet,
{
    /// A search.
    pub fn new(message_of: M, narrow: N, set_of: Q) -> Self {
        Self { message_of, narrow, set_of, steps: MAX_STEPS, lifetime: std::marker::PhantomData }
    }

    /// The state that the first quorum found leaves.
    pub fn quorum(&mut self, local: &NodeId, set: &QuorumSet, state: S) -> Option<S> {
        if set.threshold == 0 {
            return None;
        }
        let members: Vec<&Member> = set.members().collect();
        self.slice(set.threshold as usize, &members, vec![local.clone()], state, true).map(|(_, state)| state)
    }

    /// The state that the first blocking set found leaves.
    pub fn blocking(&mut self, set: &QuorumSet, state: S) -> Option<S> {
        if set.threshold == 0 {
            return None;
        }
        let members: Vec<&Member> = set.members().collect();
        let needed = (members.len() + 1).saturating_sub(set.threshold as usize);
        self.slice(needed, &members, Vec::new(), state, false).map(|(_, state)| state)
    }

    fn slice(
        &mut self,
        needed: usize,
        members: &[&Member],
        within: Vec<NodeId>,
        state: S,
        recurse: bool,
    ) -> Option<(Vec<NodeId>, S)> {
        self.steps = self.steps.checked_sub(1)?;
        if needed == 0 {
            return Some((within, state));
        }
        let (first, rest) = members.split_first().filter(|_| members.len() >= needed)?;
        let taken = match first {
            Member::Node(node) if within.contains(node) => Some((within.clone(), state.clone())),
            Member::Node(node) => self.node(node, &within, &state, recurse),
            Member::InnerSet(inner) => {
                let inner_members: Vec<&Member> = inner.members().collect();
                let threshold = inner.threshold as usize;
                let needed = if recurse { threshold } else { (inner_members.len() + 1).saturating_sub(threshold) };
                self.slice(needed, &inner_members, within.clone(), state.clone(), recurse)
            }
        };
        if let Some((grown, narrowed)) = taken
            && let Some(found) = self.slice(needed - 1, rest, grown, narrowed, recurse)
        {
            return Some(found);
        }
        self.slice(needed, rest, within, state, recurse)
    }

    fn node(&mut self, node: &NodeId, within: &[NodeId], state: &S, recurse: bool) -> Option<(Vec<NodeId>, S)> {
        let message = (self.message_of)(node)?;
        let narrowed = (self.narrow)(state, message)?;
        let grown: Vec<NodeId> = within.iter().cloned().chain([node.clone()]).collect();
        if !recurse {
            return Some((grown, narrowed));
        }
        let set = (self.set_of)(message);
        let members: Vec<&Member> = set.members().collect();
        self.slice(set.threshold as usize, &members, grown, narrowed, true)
    }
}
