//! Queries of the governance service. Those for single items are the functions of [`super::state`].

use apps_core::{Result, events, kv::KvRead, typed_into};
use base_prims::Hash;
use wire_consensus::governance::{
    Event, Genesis, ProposalExecutedEvent, ProposalFinalizedEvent, ProposalSubmittedEvent, VoteEvent,
};

pub use super::state::{active_proposals, parameters, pending_upgrades, proposal, proposals, votes};
use super::{NAME, state};

/// The state as a section of a genesis document. Proposals without votes have a null entry among the votes.
pub fn genesis(kv: &dyn KvRead) -> Result<Genesis> {
    let proposals = state::proposals(kv)?;
    let vote_entries = proposals
        .iter()
        .map(|p| {
            let votes = state::votes(kv, p.id)?;
            Ok((p.id, Some(votes).filter(|v| !v.is_empty())))
        })
        .collect::<Result<_>>()?;
    Ok(Genesis { parameters: state::parameters(kv)?, proposals, vote_entries })
}

/// The events of the service in a block's event, as clients see them. Source: `go/consensus/cometbft/governance/events.go`.
///
/// # Errors
/// If an attribute is malformed or unknown.
pub fn events(height: i64, tx_hash: Hash, event: &comet_chain::app::Event) -> Result<Vec<Event>> {
    let mut found = Vec::new();
    for attribute in events::attributes(NAME, event).into_iter().flatten() {
        let mut event = Event { height, tx_hash, ..Event::default() };
        let known = typed_into!(attribute, event, {
            proposal_submitted: ProposalSubmittedEvent,
            proposal_executed: ProposalExecutedEvent,
            proposal_finalized: ProposalFinalizedEvent,
            vote: VoteEvent,
        });
        if !known {
            return Err(attribute.unknown().context("governance"));
        }
        found.push(event);
    }
    Ok(found)
}
