//! What others commit to: the best rank, discrepancies before the consensus layer finds them, and equivocation.
//!
//! Source: `discrepancy.go`, and `estimatePoolRank` in `node.go`.

use base_prims::PublicKey;
use wire_consensus::node::Node;
use wire_consensus::roothash::commitment::{CommitmentError, verify_executor_commitment};
use wire_consensus::roothash::pool::Outcome;
use wire_consensus::roothash::{EquivocationExecutorEvidence, Evidence, ExecutorCommitment};
use wire_consensus::staking::SlashReason;

use super::{Effect, Machine};

/// A discrepancy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Discrepancy {
    /// Rank of the scheduler in doubt.
    pub(super) rank: u64,
    /// Whether the consensus layer said so.
    pub(super) authoritative: bool,
}

impl Machine {
    /// A commitment that is in no block yet.
    pub(super) fn observed(&mut self, commit: &ExecutorCommitment, out: &mut Vec<Effect>) {
        let Some(active) = &self.active else { return };
        if commit.header.header.round != active.round.number() || !self.verified(commit) {
            return;
        }
        self.compare_commitments(commit, out);
        let (worker, backup) = self.active.as_ref().map_or((false, false), |a| (a.worker, a.backup));
        if worker {
            self.estimate_rank(commit);
        } else if backup {
            self.predict(commit, out);
        }
    }

    /// A commitment that the consensus layer accepted.
    pub(super) fn committed(&mut self, commit: &ExecutorCommitment, out: &mut Vec<Effect>) {
        let Some(active) = &self.active else { return };
        if commit.header.header.round != active.round.number() {
            return;
        }
        self.compare_commitments(commit, out);
        if self.active.as_ref().is_some_and(|a| a.worker) {
            self.estimate_rank(commit);
        }
    }

    /// Whether the consensus layer could accept the commitment.
    fn verified(&self, commit: &ExecutorCommitment) -> bool {
        let Some(active) = &self.active else { return false };
        let members = &active.members;
        if !members.committee.members().iter().any(|m| m.public_key == commit.node_id) {
            return false;
        }
        let mut find = |id: &PublicKey| Ok::<Option<Node>, CommitmentError>(members.nodes.get(id).cloned());
        verify_executor_commitment(
            &self.verifier(),
            &active.round.block.header,
            &active.round.descriptor,
            members.committee.valid_for,
            commit,
            &mut find,
            &mut |_| Ok(()),
        )
        .is_ok()
    }

    fn estimate_rank(&mut self, commit: &ExecutorCommitment) {
        let Some(active) = &mut self.active else { return };
        if !commit.is_by_scheduler() {
            return;
        }
        let header = &commit.header;
        if let Some(rank) = active.members.committee.scheduler_rank(header.header.round, &header.scheduler_id) {
            active.pool_rank = active.pool_rank.min(rank);
        }
    }

    fn predict(&mut self, commit: &ExecutorCommitment, out: &mut Vec<Effect>) {
        let Some(active) = &mut self.active else { return };
        let committee = &active.members.committee;
        if active.pool.discrepancy || active.pool.add_verified(committee, commit).is_err() {
            return;
        }
        let stragglers = active.round.descriptor.executor.allowed_stragglers;
        if active.pool.process(committee, stragglers, false) == Outcome::DiscrepancyDetected {
            let (height, rank) = (active.round.height, active.pool.highest_rank);
            self.discrepancy(height, Discrepancy { rank, authoritative: false }, out);
        }
    }

    /// What the consensus layer says counts for good, what the backup workers predict until then.
    pub(super) fn discrepancy(&mut self, height: u64, found: Discrepancy, out: &mut Vec<Effect>) {
        let Some(active) = &mut self.active else { return };
        out.push(Effect::SyncRuntime { height });
        if !active.discrepancy.is_some_and(|d| d.authoritative) {
            active.discrepancy = Some(found);
        }
    }

    /// Keeps a member's first commitment to a scheduler's proposal; another one is evidence.
    fn compare_commitments(&mut self, commit: &ExecutorCommitment, out: &mut Vec<Effect>) {
        let id = self.setup().runtime;
        let Some(active) = &mut self.active else { return };
        let committee = &active.members.committee;
        if committee.scheduler_rank(commit.header.header.round, &commit.header.scheduler_id).is_none() {
            return;
        }
        let key = (commit.node_id, commit.header.scheduler_id);
        let bare = ExecutorCommitment { messages: Vec::new(), ..commit.clone() };
        let Some(first) = active.commitments.get(&key) else {
            active.commitments.insert(key, bare);
            return;
        };
        let both = EquivocationExecutorEvidence { commit_a: first.clone(), commit_b: bare };
        let evidence = Evidence { id, equivocation_executor: Some(both), ..Evidence::default() };
        self.give_evidence(evidence, out);
    }

    /// Submits evidence, once per node and round, if it holds and leads to anything.
    pub(super) fn give_evidence(&mut self, evidence: Evidence, out: &mut Vec<Effect>) {
        let Some((culprit, _)) = evidence.culprit() else { return };
        if culprit == self.setup().node || evidence.validate_basic(&self.verifier()).is_err() {
            return;
        }
        let Some(active) = &mut self.active else { return };
        let penalty = active.round.descriptor.staking.slashing.get(&SlashReason::RUNTIME_EQUIVOCATION);
        if penalty.is_none_or(|p| p.amount.is_zero()) || !active.accused.insert(culprit) {
            return;
        }
        out.push(Effect::SubmitEvidence(Box::new(evidence)));
    }
}
