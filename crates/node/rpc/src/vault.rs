//! `Vault`: vaults and their actions. Source: `go/vault/api`, `go/consensus/cometbft/vault`.

use std::sync::Arc;

use apps_governance::vault::query;
use base_grpc::Router;
use wire_consensus::vault::{AddressQuery, VaultQuery};

use crate::backend::Backend;
use crate::serve::{Methods, nil};

pub(crate) fn add(router: &mut Router, backend: &Arc<Backend>) {
    Methods::new(router, "Vault", backend)
        .at("Vaults", |kv| query::vaults(kv).map(nil))
        .query("Vault", |kv, q: &VaultQuery| query::vault(kv, &q.address))
        .query("PendingActions", |kv, q: &VaultQuery| query::pending_actions(kv, &q.address).map(nil))
        .query("AddressState", |kv, q: &AddressQuery| query::address_state(kv, &q.vault, &q.address))
        .at("StateToGenesis", query::genesis)
        .at("ConsensusParameters", query::parameters)
        .events(|applied| applied.events(query::events))
        .watch("WatchEvents", |applied| applied.events(query::events));
}
