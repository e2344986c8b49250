//! Evidence that a node signed two things for one round.
//!
//! Source: `go/roothash/api/api.go`.

use base_codec::Codec;
use base_prims::{Hash, Namespace, PublicKey};

use super::{ExecutorCommitment, ExecutorCommitmentFailure, Proposal, Verifier};
use crate::{Invalid, invalid};

/// Kind of evidence that equivocation is, as it enters [`Evidence::hash`].
pub const KIND_EQUIVOCATION: u8 = 1;

/// Evidence of misbehaviour; exactly one kind is set.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Evidence {
    /// The runtime.
    pub id: Namespace,
    /// Two commitments.
    #[codec(omitempty)]
    pub equivocation_executor: Option<EquivocationExecutorEvidence>,
    /// Two proposals.
    #[codec(omitempty, rename = "equivocation_prop")]
    pub equivocation_proposal: Option<EquivocationProposalEvidence>,
}

/// Two commitments of one node for one round and scheduler.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct EquivocationExecutorEvidence {
    /// One commitment.
    pub commit_a: ExecutorCommitment,
    /// The other.
    pub commit_b: ExecutorCommitment,
}

/// Two proposals of one node for one round.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct EquivocationProposalEvidence {
    /// One proposal.
    #[codec(rename = "prop_a")]
    pub proposal_a: Proposal,
    /// The other.
    #[codec(rename = "prop_b")]
    pub proposal_b: Proposal,
}

impl Evidence {
    /// Who misbehaved in which round; nothing if no kind is set.
    pub fn culprit(&self) -> Option<(PublicKey, u64)> {
        if let Some(e) = &self.equivocation_executor {
            Some((e.commit_a.node_id, e.commit_a.header.header.round))
        } else {
            self.equivocation_proposal.as_ref().map(|e| (e.proposal_a.node_id, e.proposal_a.header.round))
        }
    }

    /// What makes two pieces of evidence the same: kind and node. Nothing if no kind is set.
    pub fn hash(&self) -> Option<Hash> {
        let node = match (&self.equivocation_proposal, &self.equivocation_executor) {
            (Some(e), _) => &e.proposal_a.node_id,
            (None, Some(e)) => &e.commit_a.node_id,
            (None, None) => return None,
        };
        Some(Hash::of(&[&[KIND_EQUIVOCATION], node.as_bytes()]))
    }

    /// Stateless rules, signatures included. Age is not checked here.
    ///
    /// # Errors
    /// Says which rule does not hold.
    pub fn validate_basic(&self, verifier: &Verifier<'_>) -> Result<(), Invalid> {
        match (&self.equivocation_executor, &self.equivocation_proposal) {
            (Some(_), Some(_)) => invalid!("evidence has multiple fields set"),
            (Some(e), None) => e.validate_basic(verifier, &self.id),
            (None, Some(e)) => e.validate_basic(verifier, &self.id),
            (None, None) => invalid!("evidence content has no fields set"),
        }
    }
}

impl EquivocationExecutorEvidence {
    /// Stateless rules, signatures included.
    ///
    /// # Errors
    /// Says which rule does not hold.
    pub fn validate_basic(&self, verifier: &Verifier<'_>, id: &Namespace) -> Result<(), Invalid> {
        let (a, b) = (&self.commit_a, &self.commit_b);
        if a.header.mostly_equals(&b.header) {
            invalid!("commits are equal, no sign of equivocation");
        }
        if a.node_id != b.node_id {
            invalid!("equivocation executor evidence signature public keys don't match");
        }
        if a.header.scheduler_id != b.header.scheduler_id {
            invalid!("equivocation evidence scheduler IDs don't match");
        }
        if a.header.header.round != b.header.header.round {
            invalid!("equivocation evidence commit headers not for same round");
        }
        if !a.messages.is_empty() || !b.messages.is_empty() {
            invalid!("messages should be empty for equivocation evidence");
        }
        for (name, commit) in [("A", a), ("B", b)] {
            commit
                .validate_basic()
                .map_err(|e| Invalid::new(format!("equivocation evidence commit {name} not valid: {e}")))?;
        }
        let (ha, hb) = (&a.header.header, &b.header.header);
        if a.header.failure == ExecutorCommitmentFailure::NONE && b.header.failure == ExecutorCommitmentFailure::NONE {
            // Incoming messages are not among what is compared.
            if ha.previous_hash == hb.previous_hash
                && ha.io_root == hb.io_root
                && ha.state_root == hb.state_root
                && ha.messages_hash == hb.messages_hash
            {
                invalid!("equivocation evidence commit headers match, no sign of equivocation");
            }
        } else if a.header.failure == b.header.failure {
            invalid!("equivocation evidence failure indication fields match, no sign of equivocation");
        }
        for (name, commit) in [("A", a), ("B", b)] {
            if !commit.verify(verifier, id) {
                invalid!("invalid signature for commit {name}");
            }
        }
        Ok(())
    }
}

impl EquivocationProposalEvidence {
    /// Stateless rules, signatures included.
    ///
    /// # Errors
    /// Says which rule does not hold.
    pub fn validate_basic(&self, verifier: &Verifier<'_>, id: &Namespace) -> Result<(), Invalid> {
        let (a, b) = (&self.proposal_a, &self.proposal_b);
        if a.header == b.header {
            invalid!("proposal headers are equal, no sign of equivocation");
        }
        if a.node_id != b.node_id {
            invalid!("equivocation proposal evidence signature public keys don't match");
        }
        if a.header.round != b.header.round {
            invalid!("equivocation evidence proposal header rounds don't match");
        }
        if !a.batch.is_empty() || !b.batch.is_empty() {
            invalid!("batch should be empty for equivocation evidence");
        }
        if a.batch_signature.is_some() || b.batch_signature.is_some() {
            invalid!("batch signature should be empty for equivocation evidence");
        }
        for (name, proposal) in [("A", a), ("B", b)] {
            if !proposal.verify(verifier, id) {
                invalid!("invalid signature for proposal {name}");
            }
        }
        Ok(())
    }
}
