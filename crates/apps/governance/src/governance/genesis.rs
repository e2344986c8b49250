//! The first state of the governance service.

use apps_core::{Context, Result, epoch};
use wire_consensus::governance::{Genesis, ProposalState, pending_upgrades};

use super::state;

/// Writes parameters, proposals, votes and the number of the next proposal.
///
/// Pending upgrades are derived against the current epoch, which is invalid (the largest number) at this point, so in
/// fact none is ever restored.
pub fn init_chain(ctx: &mut Context<'_>, doc: &Genesis) -> Result<()> {
    let epoch = epoch::current_epoch(ctx)?;
    let kv = &mut ctx.state();
    state::set_parameters(kv, &doc.parameters)?;
    let mut largest = 0;
    for p in &doc.proposals {
        largest = p.id.max(largest);
        if p.state == ProposalState::ACTIVE {
            state::set_active_proposal(kv, p)?;
        } else {
            state::set_proposal(kv, p)?;
        }
        for v in doc.vote_entries.get(&p.id).into_iter().flatten().flatten() {
            state::set_vote(kv, p.id, &v.voter, v.vote)?;
        }
    }
    for (id, upgrade) in pending_upgrades(&doc.proposals, epoch) {
        state::set_pending_upgrade(kv, id, upgrade.epoch)?;
    }
    state::set_next_proposal_id(kv, largest.wrapping_add(1))
}
