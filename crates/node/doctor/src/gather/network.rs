//! Ports and addresses.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use node_config::{Config, Mode};

use crate::{Port, PortState, Reach};

/// Longest wait for a connection.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most seeds that are tried.
const MAX_SEEDS: usize = 16;

fn bare(address: &str) -> String {
    address.trim_start_matches("tcp://").to_owned()
}

pub(super) fn ports(config: &Config, running: bool) -> Vec<Port> {
    let mut list = Vec::new();
    let mut add = |key: &str, address: String| list.push((key.to_owned(), address));
    if config.mode != Mode::Archive {
        add("consensus.listen_address", bare(&config.consensus.listen_address));
        add("p2p.port", format!("0.0.0.0:{}", config.p2p.port));
    }
    if config.metrics.mode.eq_ignore_ascii_case("pull") {
        add("metrics.address", config.metrics.address.clone());
    }
    if !config.pprof.bind_address.is_empty() {
        add("pprof.bind_address", config.pprof.bind_address.clone());
    }
    if config.sentry.enabled {
        add("sentry.control.port", format!("0.0.0.0:{}", config.sentry.control.port));
    }
    list.into_iter()
        .map(|(key, address)| {
            let state = match TcpListener::bind(&address) {
                Ok(_) => PortState::Free,
                Err(error) if error.kind() == ErrorKind::AddrInUse && running => PortState::Ours,
                Err(error) if error.kind() == ErrorKind::AddrInUse => PortState::Taken,
                Err(error) => PortState::Error(error.to_string()),
            };
            Port { key, address, state }
        })
        .collect()
}

fn connect(address: &str) -> Option<String> {
    let mut addresses = match address.to_socket_addrs() {
        Ok(addresses) => addresses,
        Err(error) => return Some(error.to_string()),
    };
    let Some(first) = addresses.next() else { return Some("no address of that name".to_owned()) };
    TcpStream::connect_timeout(&first, PATIENCE).err().map(|error| error.to_string())
}

pub(super) fn reach(list: Vec<(String, String)>) -> Vec<Reach> {
    list.into_iter().map(|(key, address)| Reach { error: connect(&address), key, address }).collect()
}

pub(super) fn seeds(config: &Config) -> Vec<(String, String)> {
    let seeds = config.p2p.seeds.iter().take(MAX_SEEDS).enumerate();
    seeds.filter_map(|(at, seed)| Some((format!("p2p.seeds[{at}]"), seed.split_once('@')?.1.to_owned()))).collect()
}

/// Tries the addresses that others are told; on ports that are free, somebody listens meanwhile.
pub(super) fn external(config: &Config, ports: &[Port], offline: bool) -> Vec<Reach> {
    if offline {
        return Vec::new();
    }
    let listen = |key: &str| {
        let port = ports.iter().find(|port| port.key == key && port.state == PortState::Free);
        port.and_then(|port| TcpListener::bind(&port.address).ok())
    };
    let mut found = Vec::new();
    if !config.consensus.external_address.is_empty() {
        let _listener = listen("consensus.listen_address");
        found.extend(reach(vec![("consensus.external_address".to_owned(), bare(&config.consensus.external_address))]));
    }
    let _listener = listen("p2p.port");
    let addresses = config.p2p.registration.addresses.iter();
    found.extend(reach(addresses.map(|address| ("p2p.registration.addresses".to_owned(), address.clone())).collect()));
    found
}
