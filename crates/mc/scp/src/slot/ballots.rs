//! The ballot part of a slot: prepare, commit, externalize.

use std::collections::BTreeSet;

use wire_mobilecoin::quorum::NodeId;
use wire_mobilecoin::scp::{Ballot, Msg, Topic, Value};

use super::{Phase, Slot};
use crate::message;
use crate::node::Application;
use crate::quorum::Search;

/// A range of counters that a message says something about, for some values.
type Commits<'a, V> = Option<(u32, u32, &'a [V])>;

impl<V: Value> Slot<V> {
    /// One pass of the ballot protocol; whether anything changed.
    pub(super) fn run_ballots(&mut self, app: &impl Application<V>) -> bool {
        if self.phase == Phase::Externalize {
            return self.raise_externalized();
        }
        let mut changed = false;
        if self.ballot.is_none() && !self.confirmed.is_empty() {
            changed |= self.start_ballot(1, app);
        }
        if self.phase <= Phase::Prepare {
            changed |= self.accept_prepared();
            changed |= self.confirm_prepared();
        } else if self.phase == Phase::Commit {
            changed |= self.raise_prepared();
        }
        changed |= self.accept_commit();
        changed |= self.confirm_commit();
        changed |= self.follow_counters(app);
        changed
    }

    /// All ballots that anybody says something about, the highest first.
    fn candidates(&self) -> BTreeSet<Ballot<V>> {
        let mut out: BTreeSet<Ballot<V>> =
            self.msgs.values().flat_map(|msg| message::prepared_ballots(&msg.topic)).collect();
        out.extend(self.ballot.iter().chain(&self.prepared).chain(&self.prepared_other).cloned());
        out.retain(|ballot| ballot.n > 0);
        out
    }

    fn is_accepted_prepared(&self, ballot: &Ballot<V>) -> bool {
        let known = |p: &Ballot<V>| p.n >= ballot.n && p.x == ballot.x;
        self.prepared.iter().chain(&self.prepared_other).any(known)
            || (self.own(|topic| message::votes_prepared(topic, ballot))
                && self.quorum(|topic| message::votes_prepared(topic, ballot)))
            || self.blocking(|topic| message::accepts_prepared(topic, ballot))
    }

    fn accept_prepared(&mut self) -> bool {
        let candidates = self.candidates();
        let mut accepted = candidates.iter().rev().filter(|ballot| self.is_accepted_prepared(ballot));
        let Some(first) = accepted.next().cloned() else {
            return false;
        };
        let other = accepted.find(|ballot| ballot.x != first.x).cloned();
        let mut changed = false;
        if self.prepared.as_ref().is_none_or(|p| first > *p) {
            self.prepared = Some(first);
            changed = true;
        }
        if self.prepared_other != other {
            self.prepared_other = other;
            changed = true;
        }
        if changed {
            self.withdraw_aborted();
        }
        changed
    }

    /// A vote to commit ends when a higher ballot of other values is accepted prepared.
    fn withdraw_aborted(&mut self) {
        let Some(high) = &self.high else {
            return;
        };
        let aborts = |p: &Ballot<V>| p > high && p.x != high.x;
        if self.low > 0 && self.prepared.iter().chain(&self.prepared_other).any(aborts) {
            self.low = 0;
        }
    }

    fn confirm_prepared(&mut self) -> bool {
        let confirmed = |ballot: &&Ballot<V>| {
            let own = self.prepared.iter().chain(&self.prepared_other);
            let accepted = own.into_iter().any(|p| p.n >= ballot.n && p.x == ballot.x);
            accepted && self.quorum(|topic| message::accepts_prepared(topic, ballot))
        };
        let candidates = self.candidates();
        let Some(high) = candidates.iter().rev().find(confirmed).cloned() else {
            return false;
        };
        if self.high.as_ref().is_some_and(|known| high <= *known) {
            return false;
        }
        let changed_values = self.high.as_ref().is_some_and(|known| known.x != high.x);
        if changed_values {
            self.low = 0;
        }
        let reached = self.ballot.as_ref().is_none_or(|ballot| *ballot <= high);
        if reached && self.ballot.as_ref() != Some(&high) {
            self.ballot = Some(high.clone());
            self.ballot_ends = None;
        }
        let aborts = |p: &Ballot<V>| *p > high && p.x != high.x;
        let aborted = self.prepared.iter().chain(&self.prepared_other).any(aborts);
        if self.low == 0 && reached && !aborted {
            self.low = high.n;
        }
        self.high = Some(high);
        self.phase = Phase::Prepare;
        true
    }

    /// In the commit phase only ballots of the accepted values matter.
    fn raise_prepared(&mut self) -> bool {
        let Some(high) = self.high.clone() else {
            return false;
        };
        let candidates = self.candidates();
        let best = candidates.iter().rev().filter(|b| b.x == high.x).find(|ballot| self.is_accepted_prepared(ballot));
        match best {
            Some(best) if self.prepared.as_ref().is_none_or(|p| p.x != high.x || p.n < best.n) => {
                self.prepared = Some(best.clone());
                true
            }
            _ => false,
        }
    }

    /// Narrows a range of counters by what a message says of some values.
    fn narrow(range: &(u32, u32), said: Commits<'_, V>, values: &[V]) -> Option<(u32, u32)> {
        let (low, high, of) = said?;
        let narrowed = (range.0.max(low), range.1.min(high));
        (low > 0 && of == values && narrowed.0 <= narrowed.1).then_some(narrowed)
    }

    /// The range that a quorum with this node in it leaves of the node's own.
    fn quorum_range(
        &self,
        own: (u32, u32),
        values: &[V],
        said: impl Fn(&Topic<V>) -> Commits<'_, V>,
    ) -> Option<(u32, u32)> {
        let narrow = |range: &(u32, u32), msg: &Msg<V>| Self::narrow(range, said(&msg.topic), values);
        let mut search = Search::new(|node: &NodeId| self.msgs.get(node), narrow, |msg: &Msg<V>| &msg.quorum_set);
        search.quorum(&self.node, &self.quorum_set, own)
    }

    /// The range that a blocking set leaves.
    fn blocking_range(&self, values: &[V], said: impl Fn(&Topic<V>) -> Commits<'_, V>) -> Option<(u32, u32)> {
        let narrow = |range: &(u32, u32), msg: &Msg<V>| Self::narrow(range, said(&msg.topic), values);
        let mut search = Search::new(|node: &NodeId| self.msgs.get(node), narrow, |msg: &Msg<V>| &msg.quorum_set);
        search.blocking(&self.quorum_set, (1, u32::MAX))
    }

    /// What this node itself says of some values.
    fn own_range(&self, values: &[V], said: impl Fn(&Topic<V>) -> Commits<'_, V>) -> Option<(u32, u32)> {
        let own = self.topic()?;
        Self::narrow(&(1, u32::MAX), said(&own), values)
    }

    fn committed_values(&self) -> BTreeSet<Vec<V>> {
        let own = self.topic();
        let topics = self.msgs.values().map(|msg| &msg.topic).chain(&own);
        topics.filter_map(|topic| message::voted_commits(topic)).map(|(_, _, values)| values.to_vec()).collect()
    }

    fn accept_commit(&mut self) -> bool {
        let mut found: Option<(u32, u32, Vec<V>)> = None;
        for values in self.committed_values() {
            if self.phase >= Phase::Commit && self.high.as_ref().is_some_and(|high| high.x != values) {
                continue;
            }
            let own = self.own_range(&values, |topic| message::voted_commits(topic));
            let agreed = own.and_then(|own| self.quorum_range(own, &values, |topic| message::voted_commits(topic)));
            let forced = self.blocking_range(&values, |topic| message::accepted_commits(topic));
            let best = agreed.into_iter().chain(forced).max_by_key(|(low, high)| (*high, std::cmp::Reverse(*low)));
            if let Some((low, high)) = best
                && found.as_ref().is_none_or(|(_, best, _)| high > *best)
            {
                found = Some((low, high, values));
            }
        }
        let Some((low, high, values)) = found else {
            return false;
        };
        if self.phase >= Phase::Commit {
            let known = self.high.as_ref().map_or(0, |h| h.n);
            if high < known || (high == known && low >= self.low) {
                return false;
            }
        }
        let low = if self.phase >= Phase::Commit { low.min(self.low) } else { low };
        let ballot = Ballot::new(high, values);
        if self.ballot.as_ref().is_none_or(|b| b.x != ballot.x || b.n < ballot.n) {
            let counter = self.ballot.as_ref().map_or(high, |b| b.n.max(high));
            self.ballot = Some(Ballot::new(counter, ballot.x.clone()));
            self.ballot_ends = None;
        }
        if self.prepared.as_ref().is_none_or(|p| p.x != ballot.x || p.n < ballot.n) {
            self.prepared = Some(ballot.clone());
        }
        self.prepared_other = None;
        self.low = low;
        self.high = Some(ballot);
        self.phase = Phase::Commit;
        true
    }

    fn confirm_commit(&mut self) -> bool {
        if self.phase != Phase::Commit {
            return false;
        }
        let Some(values) = self.high.as_ref().map(|high| high.x.clone()) else {
            return false;
        };
        let own = self.own_range(&values, |topic| message::accepted_commits(topic));
        let range = own.and_then(|own| self.quorum_range(own, &values, |topic| message::accepted_commits(topic)));
        let Some((low, high)) = range else {
            return false;
        };
        self.low = low;
        self.high = Some(Ballot::new(high, values));
        self.phase = Phase::Externalize;
        true
    }

    /// After the end only the highest confirmed counter may still rise.
    fn raise_externalized(&mut self) -> bool {
        let Some(known) = self.high.clone() else {
            return false;
        };
        match self.quorum_range((self.low, u32::MAX), &known.x, |topic| message::accepted_commits(topic)) {
            Some((_, high)) if high > known.n => {
                self.high = Some(Ballot::new(high, known.x));
                true
            }
            _ => false,
        }
    }

    /// When nodes that cannot be done without are at higher counters, goes to the lowest that they are not all above.
    fn follow_counters(&mut self, app: &impl Application<V>) -> bool {
        if self.phase == Phase::Externalize {
            return false;
        }
        let counter = self.ballot.as_ref().map_or(0, |b| b.n);
        let ahead = |n: u32| self.blocking(|topic| message::ballot_counter(topic) > n);
        if !ahead(counter) {
            return false;
        }
        let counters: BTreeSet<u32> = self
            .msgs
            .values()
            .map(|msg| message::ballot_counter(&msg.topic))
            .filter(|n| *n > counter && *n < u32::MAX)
            .collect();
        let Some(target) = counters.iter().find(|n| !ahead(**n)).or(counters.last()).copied() else {
            return false;
        };
        if self.phase == Phase::Commit {
            let Some(ballot) = &mut self.ballot else {
                return false;
            };
            ballot.n = target;
            self.ballot_ends = None;
            return true;
        }
        self.start_ballot(target, app)
    }
}
