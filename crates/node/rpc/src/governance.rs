//! `Governance`: proposals and votes. Source: `go/governance/api`, `go/consensus/cometbft/governance`.

use std::sync::Arc;

use apps_governance::governance::query;
use base_grpc::Router;
use wire_consensus::governance::ProposalQuery;

use crate::backend::Backend;
use crate::serve::{Methods, nil};

pub(crate) fn add(router: &mut Router, backend: &Arc<Backend>) {
    Methods::new(router, "Governance", backend)
        .at("ActiveProposals", |kv| query::active_proposals(kv).map(nil))
        .at("Proposals", |kv| query::proposals(kv).map(nil))
        .at("PendingUpgrades", |kv| query::pending_upgrades(kv).map(nil))
        .query("Proposal", |kv, q: &ProposalQuery| query::proposal(kv, q.proposal_id))
        .query("Votes", |kv, q: &ProposalQuery| query::votes(kv, q.proposal_id).map(nil))
        .at("StateToGenesis", query::genesis)
        .at("ConsensusParameters", query::parameters)
        .events(|applied| applied.events(query::events))
        .watch("WatchEvents", |applied| applied.events(query::events));
}
