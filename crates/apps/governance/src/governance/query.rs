//! Queries of the governance service. Those for single items are the functions of [`super::state`].

use apps_core::{Result, kv::KvRead};
use wire_consensus::governance::Genesis;

use super::state;
pub use super::state::{active_proposals, parameters, pending_upgrades, proposal, proposals, votes};

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
