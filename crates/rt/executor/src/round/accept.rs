//! Which gossip of the committee is accepted. Source: `p2p.go`.

use base_prims::PublicKey;
use wire_consensus::roothash::{EquivocationProposalEvidence, Evidence, Proposal};

use super::{AddError, Effect, Machine};
use crate::messages::CommitteeMessage;

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// Handled: pass it on, and give the machine a [`super::Input::Tick`].
    Accept,
    /// It may become valid: pass it on and try again.
    Retry,
    /// It never will be valid: do not pass it on.
    Reject,
}

impl Machine {
    /// Handles a message of the committee's topic that the peer `author` signed; `own` if that is this node.
    pub fn accept(
        &mut self,
        author: &PublicKey,
        own: bool,
        message: &CommitteeMessage,
        out: &mut Vec<Effect>,
    ) -> Acceptance {
        let Some(members) = self.members() else { return Acceptance::Retry };
        let now = members.committee.valid_for;
        if message.epoch != now {
            let next = now.checked_add(1) == Some(message.epoch);
            return if next { Acceptance::Retry } else { Acceptance::Reject };
        }
        if !members.peers.contains(author) {
            return Acceptance::Reject;
        }
        let Some(proposal) = &message.proposal else { return Acceptance::Reject };
        if own {
            return Acceptance::Accept;
        }
        let Some(rank) = members.committee.scheduler_rank(proposal.header.round, &proposal.node_id) else {
            return Acceptance::Reject;
        };
        if !proposal.verify(&self.verifier(), &self.setup().runtime) {
            return Acceptance::Reject;
        }
        if let Some(first) = self.proposals.get(proposal.header.round, rank).cloned() {
            self.compare_proposals(&first, proposal, out);
            return Acceptance::Accept;
        }
        match self.proposals.add(rank, proposal.clone()) {
            Ok(()) => Acceptance::Accept,
            Err(AddError::Past) => Acceptance::Reject,
            Err(AddError::Exists | AddError::Overflow) => Acceptance::Retry,
        }
    }

    /// Two proposals of one round and rank: evidence, if they differ.
    fn compare_proposals(&mut self, first: &Proposal, second: &Proposal, out: &mut Vec<Effect>) {
        if first.header == second.header || first.node_id != second.node_id {
            return;
        }
        let bare = |p: &Proposal| Proposal { batch: Vec::new(), batch_signature: None, ..p.clone() };
        let both = EquivocationProposalEvidence { proposal_a: bare(first), proposal_b: bare(second) };
        let id = self.setup().runtime;
        self.give_evidence(Evidence { id, equivocation_proposal: Some(both), ..Evidence::default() }, out);
    }
}
