//! A node: the current slot, and the last one to answer laggards with.

use std::collections::BTreeSet;
use std::time::Duration;

use wire_mobilecoin::quorum::{NodeId, QuorumSet};
use wire_mobilecoin::scp::{Msg, SlotIndex, Value};

use crate::slot::Slot;

/// What the values mean.
pub trait Application<V> {
    /// Whether a value may be agreed on in the current slot.
    fn is_valid(&self, value: &V) -> bool;

    /// Those of the nominated values that go together, in their order. The same set gives the same list on every node.
    fn combine(&self, values: &BTreeSet<V>) -> Vec<V>;
}

/// A node of the protocol.
#[derive(Clone, Debug)]
pub struct Node<V> {
    id: NodeId,
    quorum_set: QuorumSet,
    current: Slot<V>,
    previous: Option<Slot<V>>,
    last_msg: Option<Msg<V>>,
}

impl<V: Value> Node<V> {
    /// A node that begins at a slot. Times of the other functions count from any one moment.
    pub fn new(id: NodeId, quorum_set: QuorumSet, slot: SlotIndex) -> Self {
        let current = Slot::new(id.clone(), quorum_set.clone(), slot);
        Self { id, quorum_set, current, previous: None, last_msg: None }
    }

    /// The node's id.
    pub fn id(&self) -> &NodeId {
        &self.id
    }

    /// The current slot.
    pub fn slot(&self) -> &Slot<V> {
        &self.current
    }

    /// The current slot's index.
    pub fn slot_index(&self) -> SlotIndex {
        self.current.index()
    }

    /// The values of the last externalized slot.
    pub fn externalized(&self) -> Option<(SlotIndex, &[V])> {
        let slot = self.previous.as_ref()?;
        Some((slot.index(), slot.externalized()?))
    }

    /// The last statement of the last externalized slot, for nodes that are behind.
    pub fn externalized_msg(&self) -> Option<&Msg<V>> {
        self.last_msg.as_ref()
    }

    /// Proposes values for the current slot.
    pub fn propose(&mut self, values: BTreeSet<V>, app: &impl Application<V>, now: Duration) -> Option<Msg<V>> {
        let msg = self.current.propose(values, app, now);
        self.after(msg)
    }

    /// Takes messages of any slot. The answer is the node's new statement, if it has one.
    pub fn handle(&mut self, msgs: Vec<Msg<V>>, app: &impl Application<V>, now: Duration) -> Option<Msg<V>> {
        let current = self.current.index();
        let (of_current, others): (Vec<_>, Vec<_>) = msgs.into_iter().partition(|msg| msg.slot_index == current);
        // The last slot may still learn that it is confirmed further.
        let late = self.previous.as_mut().and_then(|slot| slot.handle(others, app, now));
        if let Some(msg) = &late {
            self.last_msg = Some(msg.clone());
        }
        if of_current.is_empty() {
            return late;
        }
        let msg = self.current.handle(of_current, app, now);
        self.after(msg).or(late)
    }

    /// Lets timers fire.
    pub fn timeouts(&mut self, app: &impl Application<V>, now: Duration) -> Option<Msg<V>> {
        let msg = self.current.timeouts(app, now);
        self.after(msg)
    }

    /// Leaves the current slot for another, after catching up in another way.
    pub fn reset(&mut self, slot: SlotIndex) {
        self.current = Slot::new(self.id.clone(), self.quorum_set.clone(), slot);
        self.previous = None;
        self.last_msg = None;
    }

    /// Goes on to the next slot when the current one is done.
    fn after(&mut self, msg: Option<Msg<V>>) -> Option<Msg<V>> {
        let msg = msg?;
        if self.current.externalized().is_some() {
            let index = self.current.index().saturating_add(1);
            let next = Slot::new(self.id.clone(), self.quorum_set.clone(), index);
            self.previous = Some(std::mem::replace(&mut self.current, next));
            self.last_msg = Some(msg.clone());
        }
        Some(msg)
    }
}
