//! The pool of commitments of a round: detection and resolution of discrepancies.
//!
//! Source: `go/roothash/api/commitment/{pool,votes}.go`.

use std::collections::BTreeMap;

use base_codec::Codec;
use base_prims::{Hash, PublicKey};

use super::ExecutorCommitment;
use crate::{
    errors::{ErrorCode, commitment as codes},
    scheduler::{Committee, CommitteeNode, Role},
};

/// Commitments of the round in progress; part of a runtime's state.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Pool {
    /// Best rank among the schedulers that committed to their own proposal; [`Pool::NO_RANK`] if none did.
    #[codec(omitempty)]
    pub highest_rank: u64,
    /// Commitments by rank of the scheduler.
    #[codec(omitempty)]
    pub scheduler_commitments: BTreeMap<u64, SchedulerCommitment>,
    /// Whether nodes disagreed and the backup workers decide.
    #[codec(omitempty)]
    pub discrepancy: bool,
}

/// A scheduler's commitment and the votes on it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct SchedulerCommitment {
    /// The scheduler's own commitment; absent until it arrives.
    #[codec(omitempty)]
    pub commitment: Option<ExecutorCommitment>,
    /// What each node committed to; nothing for a failure.
    #[codec(omitempty)]
    pub votes: BTreeMap<PublicKey, Option<Hash>>,
}

impl SchedulerCommitment {
    /// Adds a commitment as a vote.
    ///
    /// # Errors
    /// If the node has voted already.
    pub fn add(&mut self, commit: &ExecutorCommitment) -> Result<(), &'static ErrorCode> {
        if self.votes.contains_key(&commit.node_id) {
            return Err(&codes::ALREADY_COMMITTED);
        }
        let vote = (!commit.indicates_failure()).then(|| commit.to_vote());
        self.votes.insert(commit.node_id, vote);
        if commit.is_by_scheduler() {
            self.commitment = Some(commit.clone());
        }
        Ok(())
    }
}

/// How a round stands after its commitments were processed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Enough equal votes: the round is decided.
    Finalized(Box<SchedulerCommitment>),
    /// More commitments or a timeout are needed.
    StillWaiting,
    /// Nodes disagree, and from now on the backup workers decide.
    DiscrepancyDetected,
    /// The round fails, for the reason that the code names.
    Failed(&'static ErrorCode),
}

/// Votes of those whose votes count, in committee order.
#[derive(Default)]
struct Tally {
    total: usize,
    commits: usize,
    failures: usize,
    votes: BTreeMap<Hash, usize>,
}

impl Pool {
    /// Rank of nobody.
    pub const NO_RANK: u64 = u64::MAX;

    /// A pool without commitments.
    pub fn new() -> Self {
        Self { highest_rank: Self::NO_RANK, ..Self::default() }
    }

    /// Adds a commitment that [`verify_executor_commitment`](super::commitment::verify_executor_commitment) accepted.
    ///
    /// # Errors
    /// The code of the rule that does not hold; the pool may have lost worse ranks nevertheless.
    pub fn add_verified(&mut self, c: &Committee, commit: &ExecutorCommitment) -> Result<(), &'static ErrorCode> {
        if !self.discrepancy && !c.members().iter().any(|m| m.public_key == commit.node_id) {
            return Err(&codes::NOT_IN_COMMITTEE);
        }
        // Workers had their chance: a late vote must not improve their statistics.
        let backup = |m: &CommitteeNode| m.role == Role::BACKUP_WORKER && m.public_key == commit.node_id;
        if self.discrepancy && !c.members().iter().any(backup) {
            return Err(&codes::BAD_EXECUTOR_COMMITMENT);
        }
        let rank = c
            .scheduler_rank(commit.header.header.round, &commit.header.scheduler_id)
            .ok_or(&codes::BAD_EXECUTOR_COMMITMENT)?;
        if rank > self.highest_rank || (rank != self.highest_rank && self.discrepancy) {
            return Err(&codes::BAD_EXECUTOR_COMMITMENT);
        }
        if rank < self.highest_rank && commit.is_by_scheduler() {
            self.highest_rank = rank;
            self.scheduler_commitments.retain(|r, _| *r <= rank);
        }
        self.scheduler_commitments.entry(rank).or_default().add(commit)
    }

    /// Decides how the round stands; `timeout` says that its time is up.
    pub fn process(&mut self, c: &Committee, allowed_stragglers: u16, timeout: bool) -> Outcome {
        let outcome = self.evaluate(c, usize::from(allowed_stragglers), timeout);
        if outcome == Outcome::DiscrepancyDetected {
            self.discrepancy = true;
            let keep = self.highest_rank;
            self.scheduler_commitments.retain(|r, _| *r == keep);
        }
        outcome
    }

    fn evaluate(&self, c: &Committee, allowed_stragglers: usize, timeout: bool) -> Outcome {
        let Some(sc) = self.scheduler_commitments.get(&self.highest_rank) else {
            return if timeout { Outcome::Failed(&codes::NO_SCHEDULER_COMMITMENT) } else { Outcome::StillWaiting };
        };
        let tally = self.tally(c, sc);
        if self.discrepancy {
            Self::resolve(sc, &tally, timeout)
        } else {
            self.detect(sc, &tally, allowed_stragglers, timeout)
        }
    }

    fn tally(&self, c: &Committee, sc: &SchedulerCommitment) -> Tally {
        let role = if self.discrepancy { Role::BACKUP_WORKER } else { Role::WORKER };
        let mut tally = Tally::default();
        for member in c.members().iter().filter(|m| m.role == role) {
            tally.total += 1;
            match sc.votes.get(&member.public_key) {
                None => continue,
                Some(None) => tally.failures += 1,
                Some(Some(vote)) => *tally.votes.entry(*vote).or_default() += 1,
            }
            tally.commits += 1;
        }
        tally
    }

    fn detect(&self, sc: &SchedulerCommitment, tally: &Tally, allowed_stragglers: usize, timeout: bool) -> Outcome {
        if tally.votes.len() > 1 || tally.failures > allowed_stragglers {
            // Schedulers out of turn always wait for the timeout: otherwise a few nodes could pass over those before
            // them by publishing failures or false results at once.
            return if self.highest_rank > 0 && !timeout {
                Outcome::StillWaiting
            } else {
                Outcome::DiscrepancyDetected
            };
        }
        let agreed: usize = tally.votes.values().sum();
        if agreed + allowed_stragglers >= tally.total {
            Outcome::Finalized(Box::new(sc.clone()))
        } else if timeout {
            Outcome::DiscrepancyDetected
        } else {
            Outcome::StillWaiting
        }
    }

    fn resolve(sc: &SchedulerCommitment, tally: &Tally, timeout: bool) -> Outcome {
        let required = tally.total / 2 + 1;
        let remaining = tally.total - tally.commits;
        let best = tally.votes.iter().max_by_key(|(_, count)| **count);
        let count = best.map_or(0, |(_, count)| *count);
        if count + remaining < required || (count < required && timeout) {
            Outcome::Failed(&codes::INSUFFICIENT_VOTES)
        } else if count < required {
            Outcome::StillWaiting
        } else if best.map(|(vote, _)| *vote) == sc.commitment.as_ref().map(ExecutorCommitment::to_vote) {
            Outcome::Finalized(Box::new(sc.clone()))
        } else {
            Outcome::Failed(&codes::BAD_SCHEDULER_COMMITMENT)
        }
    }
}
