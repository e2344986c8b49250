//! Settings of the two networks, from the configuration.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use base_crypto::ed25519::SecretKey;
use base_prims::PublicKey;
use comet_net::NetConfig;
use comet_net::address::{PeerAddress, node_id, parse_listen};
use node_config::Config;
use p2p_net::address::parse_peers;
use p2p_net::backup::FileBackup;

use crate::error::RunError;

/// Name of the address book, below the consensus folder.
const ADDRESS_BOOK: &str = "config/addrbook.json";
/// File of peers known to the runtime layer's network, below the data directory.
const PEERS: &str = "p2p-peers.json";

fn peers(key: &'static str, texts: &[String]) -> Result<Vec<PeerAddress>, RunError> {
    let parse = |text: &String| {
        PeerAddress::parse_with_key(text).map_err(|error| RunError::Address { key, reason: error.to_string() })
    };
    texts.iter().map(parse).collect()
}

fn size(value: i64) -> usize {
    usize::try_from(value).unwrap_or(0)
}

/// Settings of the consensus transport. `folder` is the consensus folder.
pub(crate) fn consensus(config: &Config, folder: &Path, lenient: bool) -> Result<NetConfig, RunError> {
    let consensus = &config.consensus;
    let listen = parse_listen(&consensus.listen_address)
        .map_err(|error| RunError::Address { key: "consensus.listen_address", reason: error.to_string() })?;
    let upstream = peers("consensus.sentry_upstream_addresses", &consensus.sentry_upstream_addresses)?;
    let mut persistent = peers("consensus.p2p.persistent_peers", &consensus.p2p.persistent_peers)?;
    let mut unconditional = std::collections::HashSet::new();
    for key in &consensus.p2p.unconditional_peers {
        let parsed: PublicKey = key.parse().map_err(|error: base_prims::ParseError| RunError::Address {
            key: "consensus.p2p.unconditional_peers",
            reason: error.to_string(),
        })?;
        unconditional.insert(node_id(parsed.as_bytes()));
    }
    let private = upstream.iter().map(|peer| peer.id.clone()).collect();
    unconditional.extend(upstream.iter().map(|peer| peer.id.clone()));
    persistent.extend(upstream);
    Ok(NetConfig {
        listen: Some(listen),
        external_address: Some(consensus.external_address.clone()).filter(|address| !address.is_empty()),
        max_inbound: size(consensus.p2p.max_num_inbound_peers),
        max_outbound: size(consensus.p2p.max_num_outbound_peers),
        persistent_peers: persistent,
        persistent_peers_max_dial_period: consensus.p2p.persistent_peers_max_dial_period.0,
        unconditional,
        private,
        seeds: peers("p2p.seeds", &config.p2p.seeds)?,
        pex: !consensus.p2p.disable_peer_exchange,
        addr_book: Some(folder.join(ADDRESS_BOOK)),
        addr_book_strict: !lenient,
        allow_duplicate_ip: consensus.p2p.allow_duplicate_ip,
        send_rate: consensus.p2p.send_rate.unsigned_abs(),
        recv_rate: consensus.p2p.recv_rate.unsigned_abs(),
        ..NetConfig::default()
    })
}

/// Settings of the runtime layer's network.
pub(crate) fn p2p(
    config: &Config,
    data_dir: &Path,
    agent: &str,
    test: bool,
) -> Result<p2p_net::config::Config, RunError> {
    let p2p = &config.p2p;
    let wrong = |key: &'static str| move |reason: String| RunError::Address { key, reason };
    let addresses = |texts: &[String]| -> Result<Vec<SocketAddr>, RunError> {
        let parse = |text: &String| {
            text.parse().map_err(|_| wrong("p2p.registration.addresses")(format!("{text:?} is not IP:PORT")))
        };
        texts.iter().map(parse).collect()
    };
    let mut settings = p2p_net::config::Config::new(p2p.port, agent);
    settings.registration_addresses = addresses(&p2p.registration.addresses)?;
    settings.allow_unroutable = test;
    settings.seeds = parse_peers(&p2p.seeds).map_err(|error| wrong("p2p.seeds")(error.to_string()))?;
    settings.bootstrap = p2p.discovery.bootstrap.enable;
    settings.allow_private_ips = p2p.discovery.bootstrap.allow_private_ips;
    settings.retention_period = p2p.discovery.bootstrap.retention_period.0;
    settings.max_peers = size(p2p.connection_manager.max_num_peers);
    settings.grace_period = p2p.connection_manager.peer_grace_period.0;
    settings.persistent_peers = parse_peers(&p2p.connection_manager.persistent_peers)
        .map_err(|error| wrong("p2p.connection_manager.persistent_peers")(error.to_string()))?;
    settings.blocked_ips =
        p2p.connection_gater.blocked_peers.iter().filter_map(|ip| ip.parse::<IpAddr>().ok()).collect();
    settings.gossip_queue = size(p2p.gossipsub.peer_outbound_queue_size);
    settings.validate_concurrency = size(p2p.gossipsub.validate_concurrency);
    settings.validate_throttle = size(p2p.gossipsub.validate_throttle);
    settings.backup = Some(Arc::new(FileBackup::new(data_dir.join(PEERS))));
    Ok(settings)
}

/// The key of the runtime layer's network.
pub(crate) fn keypair(key: &SecretKey) -> p2p_net::Keypair {
    key.clone().into()
}
