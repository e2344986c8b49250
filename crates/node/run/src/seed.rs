//! Seed mode: two networks' address service, nothing else.
//!
//! Reference: `go/consensus/cometbft/seed`, `go/oasis-node/cmd/node/node_control.go`.

use std::sync::Arc;

use base_identity::Identity;
use base_prims::version::COMET_APP_VERSION;
use comet_net::{NetConfig, Switch, SwitchHandle};
use node_config::Config;
use p2p_net::seed::SeedNode;
use tokio_util::sync::CancellationToken;
use wire_consensus::genesis::Document;

use crate::control::{Common, SeedControl};
use crate::error::RunError;
use crate::network;
use crate::start::Options;

/// Folder of a seed below the data directory.
pub(crate) const FOLDER: &str = "consensus/seed";

/// A running seed.
pub(crate) struct Seed {
    pub(crate) switch: SwitchHandle,
    pub(crate) p2p: Arc<SeedNode>,
    /// Where its consensus transport is reached, `KEY@IP:PORT`.
    address: String,
}

impl Seed {
    /// What `control status` sees of the seed.
    pub(crate) fn control(&self, common: Common, chain_context: String) -> SeedControl {
        let (address, p2p, switch) = (self.address.clone(), self.p2p.clone(), self.switch.clone());
        let known = self.p2p.clone();
        SeedControl {
            common,
            chain_context,
            addresses: Box::new(move || std::iter::once(address.clone()).chain(p2p.addresses()).collect()),
            peers: Box::new(move || {
                let peers = switch.statuses();
                let comet = peers.iter().map(|peer| format!("{}@{}", peer.id.0, peer.remote_addr));
                comet.chain(known.peers()).collect()
            }),
        }
    }
}

/// Addresses of the genesis document's validators, so that the first visitors get an answer.
fn genesis_addresses(doc: &Document) -> Vec<comet_net::address::NetAddress> {
    let mut found = Vec::new();
    for signed in &doc.registry.nodes {
        let Ok(node) = base_codec::cbor::from_slice::<wire_consensus::node::Node>(signed.blob()) else { continue };
        if !node.has_roles(wire_consensus::node::Roles::VALIDATOR) {
            continue;
        }
        for address in node.consensus_addresses() {
            if let Some(socket) = address.address.socket_addr() {
                let id = comet_net::address::node_id(address.id.as_bytes());
                found.push(comet_net::address::NetAddress { id, ip: socket.ip(), port: socket.port() });
            }
        }
    }
    found
}

/// Starts a seed.
pub(crate) async fn start(
    config: &Config,
    options: &Options,
    identity: &Identity,
    doc: &Document,
    data_dir: &std::path::Path,
    stop: CancellationToken,
) -> Result<Seed, RunError> {
    let folder = data_dir.join(FOLDER);
    let lenient = config.consensus.debug.addr_book_lenient && options.dont_blame_oasis;
    let net = network::consensus(config, &folder, lenient)?;
    let known_addresses = if config.consensus.debug.disable_addr_book_from_genesis && options.dont_blame_oasis {
        Vec::new()
    } else {
        genesis_addresses(doc)
    };
    let net = NetConfig { seed_mode: true, pex: true, known_addresses, ..net };
    let moniker = format!("oasis-seed-{}", base_prims::PublicKey::from(identity.node.public()));
    let mut info = comet_net::node_info::node_info(&doc.comet_chain_id(), &moniker, COMET_APP_VERSION);
    info.listen_addr.clone_from(&config.consensus.listen_address);
    info.other.tx_index = String::new();
    let switch = Switch::start(net, identity.p2p.clone(), info, Vec::new(), stop.clone()).await?;
    let p2p = network::p2p(config, data_dir, &options.agent(), options.dont_blame_oasis)?.into_seed();
    let p2p = SeedNode::start(p2p, network::keypair(&identity.p2p), stop)
        .await
        .map_err(|error| RunError::P2p(error.to_string()))?;
    let external = match config.consensus.external_address.as_str() {
        "" => &config.consensus.listen_address,
        external => external,
    };
    let key = base_prims::PublicKey::from(identity.p2p.public());
    let address = format!("{key}@{}", external.trim_start_matches("tcp://"));
    Ok(Seed { switch, p2p: Arc::new(p2p), address })
}
