//! The services of the consensus layer, put together for a network.

use apps_core::{LocalConfig, Mux, MuxConfig, Service};
use wire_consensus::genesis::Document;

use crate::supplementary::Supplementary;

/// What a node brings to the services beside the genesis document.
#[derive(Default)]
pub struct NodeOptions {
    /// This node's settings.
    pub local: LocalConfig,
    /// The node's pending upgrades.
    pub upgrades: Option<apps_governance::upgrade::Upgrades>,
}

/// The multiplexer with every service of the network that starts with the document.
pub fn build_mux(doc: &Document, options: NodeOptions) -> Mux {
    let NodeOptions { local, upgrades } = options;
    let mut services: Vec<Box<dyn Service>> = vec![
        Box::new(apps_committees::beacon::Beacon),
        Box::new(apps_staking::Staking),
        Box::new(apps_committees::registry::Registry),
        Box::new(apps_committees::scheduler::Scheduler { base_epoch: doc.beacon.base }),
        Box::new(apps_governance::governance::Governance::new(upgrades.clone())),
        Box::new(apps_governance::vault::Vaults),
        Box::new(apps_keymanager::KeyManager),
        Box::new(apps_committees::roothash::RootHash),
    ];
    if let Some(schedule) = local.supplementary_sanity {
        services.push(Box::new(Supplementary(schedule)));
    }
    let config = MuxConfig {
        services,
        authenticator: Box::new(apps_staking::Staking),
        upgrader: upgrades.map(|u| Box::new(u) as Box<dyn apps_core::Upgrader>),
        local,
    };
    Mux::new(config, doc)
}
