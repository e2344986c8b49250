//! Proposals that were accepted and wait for their round. Source: `proposals.go`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use wire_consensus::roothash::Proposal;

/// Most proposals that are kept. Source: `maxPendingProposals`.
pub const MAX_PROPOSALS: usize = 32;

/// Why a proposal is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// Its round is over.
    #[error("proposal round is in the past")]
    Past,
    /// There is one of the same round and rank.
    #[error("proposal already exists")]
    Exists,
    /// The queue is full of earlier ones.
    #[error("proposal queue overflow")]
    Overflow,
}

#[derive(Debug)]
struct Entry {
    proposal: Arc<Proposal>,
    invalid: bool,
}

/// The queue, by round and rank.
#[derive(Debug, Default)]
pub struct Proposals {
    queue: BTreeMap<(u64, u64), Entry>,
    round: u64,
}

impl Proposals {
    /// Keeps a proposal that passed all checks that need no state. The one farthest in the future goes if there are too
    /// many.
    ///
    /// # Errors
    /// If it is not kept.
    pub fn add(&mut self, rank: u64, proposal: Proposal) -> Result<(), AddError> {
        let key = (proposal.header.round, rank);
        if key.0 < self.round {
            return Err(AddError::Past);
        }
        if self.queue.contains_key(&key) {
            return Err(AddError::Exists);
        }
        self.queue.insert(key, Entry { proposal: Arc::new(proposal), invalid: false });
        if self.queue.len() > MAX_PROPOSALS && self.queue.pop_last().is_some_and(|(last, _)| last == key) {
            return Err(AddError::Overflow);
        }
        Ok(())
    }

    /// The proposal of a round and rank.
    pub fn get(&self, round: u64, rank: u64) -> Option<&Arc<Proposal>> {
        self.queue.get(&(round, rank)).map(|e| &e.proposal)
    }

    /// The valid proposal of the best rank from `min` to `max` that is not excluded.
    pub fn best(&self, round: u64, min: u64, max: u64, exclude: &BTreeSet<u64>) -> Option<(u64, Arc<Proposal>)> {
        if min > max {
            return None;
        }
        let mut range = self.queue.range((round, min)..=(round, max));
        let found = range.find(|((_, rank), e)| !e.invalid && !exclude.contains(rank));
        found.map(|((_, rank), e)| (*rank, Arc::clone(&e.proposal)))
    }

    /// Marks a proposal that turned out wrong.
    pub fn reject(&mut self, round: u64, rank: u64) {
        if let Some(entry) = self.queue.get_mut(&(round, rank)) {
            entry.invalid = true;
        }
    }

    /// Forgets rounds before `round`.
    pub fn prune(&mut self, round: u64) {
        self.queue = self.queue.split_off(&(round, 0));
        self.round = round;
    }

    /// Forgets all: another committee has other ranks.
    pub fn clear(&mut self) {
        self.queue.clear();
    }

    /// Number of proposals.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposal(round: u64) -> Proposal {
        let mut p = Proposal::default();
        p.header.round = round;
        p
    }

    #[test]
    fn keeps_the_first_and_the_nearest() {
        let mut q = Proposals::default();
        q.prune(5);
        assert_eq!(q.add(0, proposal(4)), Err(AddError::Past));
        assert_eq!(q.add(1, proposal(5)), Ok(()));
        assert_eq!(q.add(1, proposal(5)), Err(AddError::Exists));
        for rank in 0..MAX_PROPOSALS as u64 - 1 {
            assert_eq!(q.add(rank, proposal(7)), Ok(()));
        }
        assert_eq!(q.add(0, proposal(8)), Err(AddError::Overflow));
        assert_eq!(q.add(0, proposal(6)), Ok(()));
        assert!(q.len() == MAX_PROPOSALS && q.get(7, MAX_PROPOSALS as u64 - 2).is_none(), "the farthest went");
        q.prune(7);
        assert!(q.get(5, 1).is_none() && q.get(6, 0).is_none() && q.get(7, 0).is_some());
        q.clear();
        assert!(q.is_empty());
    }

    #[test]
    fn finds_the_best_within_bounds() {
        let mut q = Proposals::default();
        for rank in [1, 2, 4] {
            q.add(rank, proposal(5)).unwrap();
        }
        q.add(0, proposal(6)).unwrap();
        let best = |q: &Proposals, min, max, not: &[u64]| q.best(5, min, max, &not.iter().copied().collect());
        let rank = |found: Option<(u64, _)>| found.map(|(rank, _): (u64, Arc<Proposal>)| rank);
        assert_eq!(rank(best(&q, 0, u64::MAX, &[])), Some(1));
        assert_eq!(rank(best(&q, 0, 0, &[])), None);
        assert_eq!(rank(best(&q, 3, 4, &[])), Some(4));
        assert_eq!(rank(best(&q, 0, 9, &[1])), Some(2));
        assert_eq!(rank(best(&q, 3, 2, &[])), None);
        q.reject(5, 1);
        assert_eq!(rank(best(&q, 0, 3, &[2])), None);
    }
}
