//! One slot: nomination and ballots.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use wire_mobilecoin::quorum::{NodeId, QuorumSet};
use wire_mobilecoin::scp::{Ballot, Commit, Externalize, Msg, Nominate, Prepare, SlotIndex, Topic, Value};

use crate::leader::next_leader;
use crate::message;
use crate::node::Application;
use crate::quorum::{find_quorum, is_blocking};

/// Nomination round `n` lasts `n` times this.
pub const ROUND_INTERVAL: Duration = Duration::from_secs(1);
/// Ballot `n` lasts `n + 1` times this once a quorum is at it.
pub const BALLOT_INTERVAL: Duration = Duration::from_secs(1);
/// Most senders whose messages are kept; further ones are ignored.
pub const MAX_SENDERS: usize = 1_000;
/// Most values that a message may name in nomination or a ballot.
pub const MAX_VALUES: usize = 20_000;

/// How far the slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Nominating, perhaps preparing.
    NominatePrepare,
    /// A ballot is confirmed prepared.
    Prepare,
    /// A commit is accepted.
    Commit,
    /// Done.
    Externalize,
}

/// The state of a slot.
#[derive(Clone, Debug)]
pub struct Slot<V> {
    node: NodeId,
    quorum_set: QuorumSet,
    index: SlotIndex,
    phase: Phase,
    /// What the node itself proposes.
    proposed: BTreeSet<V>,
    voted: BTreeSet<V>,
    accepted: BTreeSet<V>,
    confirmed: BTreeSet<V>,
    leaders: BTreeSet<NodeId>,
    round: u32,
    /// Set when there is something to nominate or a message was heard.
    round_ends: Option<Duration>,
    /// The current ballot.
    ballot: Option<Ballot<V>>,
    /// The highest accepted prepared ballot, and the highest below it with other values.
    prepared: Option<Ballot<V>>,
    prepared_other: Option<Ballot<V>>,
    /// The highest confirmed prepared, later accepted committed ballot.
    high: Option<Ballot<V>>,
    /// The lowest counter that is voted, later accepted, to commit; 0 for none.
    low: u32,
    ballot_ends: Option<Duration>,
    msgs: BTreeMap<NodeId, Msg<V>>,
    last: Option<Topic<V>>,
}

impl<V: Value> Slot<V> {
    /// A fresh slot.
    pub fn new(node: NodeId, quorum_set: QuorumSet, index: SlotIndex) -> Self {
        let leaders = next_leader(index, 1, &node, &quorum_set, &BTreeSet::new()).into_iter().collect();
        Self {
            node,
            quorum_set,
            index,
            phase: Phase::NominatePrepare,
            proposed: BTreeSet::new(),
            voted: BTreeSet::new(),
            accepted: BTreeSet::new(),
            confirmed: BTreeSet::new(),
            leaders,
            round: 1,
            round_ends: None,
            ballot: None,
            prepared: None,
            prepared_other: None,
            high: None,
            low: 0,
            ballot_ends: None,
            msgs: BTreeMap::new(),
            last: None,
        }
    }

    /// Its index.
    pub fn index(&self) -> SlotIndex {
        self.index
    }

    /// How far it is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Whose values the node votes for.
    pub fn leaders(&self) -> &BTreeSet<NodeId> {
        &self.leaders
    }

    /// Numbers for metrics: values voted for, accepted and confirmed; nomination round; ballot counter.
    pub fn numbers(&self) -> (usize, usize, usize, u32, u32) {
        let counter = self.ballot.as_ref().map_or(0, |b| b.n);
        (self.voted.len(), self.accepted.len(), self.confirmed.len(), self.round, counter)
    }

    /// The agreed values, once there are.
    pub fn externalized(&self) -> Option<&[V]> {
        match self.phase {
            Phase::Externalize => self.high.as_ref().map(|ballot| ballot.x.as_slice()),
            _ => None,
        }
    }

    /// Proposes values.
    pub fn propose(&mut self, values: BTreeSet<V>, app: &impl Application<V>, now: Duration) -> Option<Msg<V>> {
        self.proposed.extend(values.into_iter().filter(|value| app.is_valid(value)));
        self.advance(app, now)
    }

    /// Takes messages about this slot.
    pub fn handle(&mut self, mut msgs: Vec<Msg<V>>, app: &impl Application<V>, now: Duration) -> Option<Msg<V>> {
        msgs.sort_by(|a, b| message::compare(&b.topic, &a.topic));
        for msg in msgs {
            self.take(msg, app);
        }
        self.advance(app, now)
    }

    fn take(&mut self, msg: Msg<V>, app: &impl Application<V>) {
        if msg.slot_index != self.index || msg.sender_id == self.node || message::validate(&msg).is_err() {
            return;
        }
        match self.msgs.get(&msg.sender_id) {
            Some(known) if message::compare(&msg.topic, &known.topic).is_le() => return,
            None if self.msgs.len() >= MAX_SENDERS => return,
            _ => {}
        }
        let values = message::values(&msg.topic);
        if values.len() > 4 * MAX_VALUES {
            return;
        }
        let done = matches!(msg.topic, Topic::Externalize(_));
        if done || values.into_iter().all(|value| app.is_valid(value)) {
            self.msgs.insert(msg.sender_id.clone(), msg);
        }
    }

    /// Lets timers fire.
    pub fn timeouts(&mut self, app: &impl Application<V>, now: Duration) -> Option<Msg<V>> {
        let nominating = self.phase == Phase::NominatePrepare && self.confirmed.is_empty();
        if nominating && self.round_ends.is_some_and(|end| now >= end) {
            self.round = self.round.saturating_add(1);
            self.round_ends = Some(now + ROUND_INTERVAL.saturating_mul(self.round));
            let next = next_leader(self.index, self.round, &self.node, &self.quorum_set, &self.leaders);
            self.leaders.extend(next);
        }
        if self.phase < Phase::Externalize && self.ballot_ends.is_some_and(|end| now >= end) {
            self.ballot_ends = None;
            let counter = self.ballot.as_ref().map_or(0, |b| b.n).saturating_add(1);
            self.start_ballot(counter, app);
        }
        self.advance(app, now)
    }

    /// The node's own statement now, if it has one.
    fn topic(&self) -> Option<Topic<V>> {
        let nominate = || Nominate { x: self.voted.clone(), y: self.accepted.clone() };
        match self.phase {
            Phase::NominatePrepare => match self.prepare() {
                Some(prepare) => Some(Topic::NominatePrepare(nominate(), prepare)),
                None if self.voted.is_empty() && self.accepted.is_empty() => None,
                None => Some(Topic::Nominate(nominate())),
            },
            Phase::Prepare => self.prepare().map(Topic::Prepare),
            Phase::Commit => {
                let (ballot, high) = (self.ballot.as_ref()?, self.high.as_ref()?);
                Some(Topic::Commit(Commit {
                    b: ballot.clone(),
                    pn: self.prepared.as_ref().map_or(0, |p| p.n),
                    cn: self.low,
                    hn: high.n,
                }))
            }
            Phase::Externalize => {
                let high = self.high.as_ref()?;
                Some(Topic::Externalize(Externalize { c: Ballot::new(self.low, high.x.clone()), hn: high.n }))
            }
        }
    }

    fn prepare(&self) -> Option<Prepare<V>> {
        let ballot = self.ballot.as_ref()?;
        // What is accepted prepared can be above the current ballot; lower counters of it are prepared too.
        let clamp = |prepared: &Ballot<V>| {
            let below = |n: u32| (n > 0).then(|| Ballot::new(n, prepared.x.clone()));
            match prepared <= ballot {
                true => Some(prepared.clone()),
                false if prepared.x <= ballot.x => below(ballot.n),
                false => below(ballot.n.saturating_sub(1)),
            }
        };
        let p = self.prepared.as_ref().and_then(clamp);
        let pp = self.prepared_other.as_ref().and_then(clamp).filter(|pp| p.as_ref().is_some_and(|p| pp < p));
        let high = self.high.as_ref().filter(|high| high.x == ballot.x);
        let hn = high.map_or(0, |high| high.n.min(ballot.n));
        let cn = if hn == 0 || self.low > hn { 0 } else { self.low };
        Some(Prepare { b: ballot.clone(), p, pp, cn, hn })
    }

    /// Own statements as they count in votes: like the message, but nothing is clamped.
    fn own(&self, test: impl Fn(&Topic<V>) -> bool) -> bool {
        self.topic().is_some_and(|topic| test(&topic))
    }

    /// Whether a quorum with this node in it passes.
    fn quorum(&self, test: impl Fn(&Topic<V>) -> bool) -> bool {
        let passing = self.msgs.iter().filter(|(_, msg)| test(&msg.topic)).map(|(node, msg)| (node, &msg.quorum_set));
        !find_quorum(&self.node, &self.quorum_set, passing).is_empty()
    }

    /// Whether nodes pass that the local node cannot do without.
    fn blocking(&self, test: impl Fn(&Topic<V>) -> bool) -> bool {
        is_blocking(&self.quorum_set, &|node| self.msgs.get(node).is_some_and(|msg| test(&msg.topic)))
    }

    /// Runs both protocols until nothing changes; the new statement, if it differs from the last.
    fn advance(&mut self, app: &impl Application<V>, now: Duration) -> Option<Msg<V>> {
        if self.round_ends.is_none() && !(self.proposed.is_empty() && self.msgs.is_empty()) {
            self.round_ends = Some(now + ROUND_INTERVAL);
        }
        loop {
            let mut changed = self.nominate();
            changed |= self.run_ballots(app);
            if !changed {
                break;
            }
        }
        self.arm_ballot_timer(now);
        let topic = self.topic()?;
        if self.last.as_ref() == Some(&topic) {
            return None;
        }
        self.last = Some(topic.clone());
        Some(Msg { sender_id: self.node.clone(), slot_index: self.index, quorum_set: self.quorum_set.clone(), topic })
    }

    fn arm_ballot_timer(&mut self, now: Duration) {
        let Some(counter) = self.ballot.as_ref().map(|b| b.n) else {
            return;
        };
        let reached = |topic: &Topic<V>| message::ballot_counter(topic) >= counter;
        if self.ballot_ends.is_none() && self.phase < Phase::Externalize && self.quorum(reached) {
            self.ballot_ends = Some(now + BALLOT_INTERVAL.saturating_mul(counter.saturating_add(1)));
        }
    }

    /// One pass of nomination; whether anything changed.
    fn nominate(&mut self) -> bool {
        if self.phase != Phase::NominatePrepare {
            return false;
        }
        let mut changed = false;
        if self.confirmed.is_empty() {
            let mut votes: BTreeSet<&V> = BTreeSet::new();
            if self.leaders.contains(&self.node) {
                votes.extend(&self.proposed);
            }
            for leader in self.leaders.iter().filter_map(|node| self.msgs.get(node)) {
                votes.extend(message::nominated(&leader.topic));
            }
            let new: Vec<V> = votes
                .into_iter()
                .filter(|v| !self.voted.contains(*v) && !self.accepted.contains(*v))
                .cloned()
                .collect();
            changed |= !new.is_empty();
            self.voted.extend(new);
        }
        let heard = self.msgs.values().flat_map(|msg| message::nominated(&msg.topic));
        let candidates: BTreeSet<&V> = heard.chain(&self.voted).filter(|v| !self.accepted.contains(*v)).collect();
        let newly: Vec<V> = candidates
            .into_iter()
            .filter(|v| {
                (self.voted.contains(*v) && self.quorum(|topic| message::votes_nominated(topic, v)))
                    || self.blocking(|topic| message::accepts_nominated(topic, v))
            })
            .cloned()
            .collect();
        for value in newly {
            self.voted.remove(&value);
            self.accepted.insert(value);
            changed = true;
        }
        let confirmed: Vec<V> = self
            .accepted
            .iter()
            .filter(|v| !self.confirmed.contains(*v) && self.quorum(|topic| message::accepts_nominated(topic, v)))
            .cloned()
            .collect();
        changed |= !confirmed.is_empty();
        self.confirmed.extend(confirmed);
        changed
    }

    /// What a new ballot stands for.
    fn next_values(&self, app: &impl Application<V>) -> Option<Vec<V>> {
        if let Some(high) = &self.high {
            return Some(high.x.clone());
        }
        let combined = || app.combine(&self.confirmed);
        let values = if self.confirmed.is_empty() { None } else { Some(combined()).filter(|v| !v.is_empty()) };
        values
            .or_else(|| self.prepared.as_ref().map(|p| p.x.clone()))
            .or_else(|| self.ballot.as_ref().map(|b| b.x.clone()))
    }

    fn start_ballot(&mut self, counter: u32, app: &impl Application<V>) -> bool {
        let Some(values) = self.next_values(app) else {
            return false;
        };
        let next = Ballot::new(counter, values);
        if self.ballot.as_ref() == Some(&next) {
            return false;
        }
        self.ballot = Some(next);
        self.ballot_ends = None;
        true
    }
}

mod ballots;
