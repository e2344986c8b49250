//! The public networks. Source: the published addresses and identifiers.

use std::collections::BTreeMap;

use super::{Denomination, NATIVE, Network, Networks, ParaTime, ParaTimes};

/// Chain context of Mainnet.
pub(crate) const MAINNET: &str = "bb3d748def55bdfb797a2ac53ee6ee141e54cd2ab2dc2375f4a0703a178e6e55";
/// Chain context of Testnet.
pub(crate) const TESTNET: &str = "0b91b8e4e44b2003a7c5e23ddadb5e14ef5345c0ebcb3ddcae07fa2f244cab76";
const MAINNET_RPC: &str = "grpc.oasis.io:443";
const TESTNET_RPC: &str = "testnet.grpc.oasis.io:443";
/// Addresses of earlier years with the ones that took their place.
const OLD_RPC: [(&str, &str); 2] = [("grpc.oasis.dev:443", MAINNET_RPC), ("testnet.grpc.oasis.dev:443", TESTNET_RPC)];

fn token(symbol: &str, decimals: u8) -> Denomination {
    Denomination { decimals, symbol: symbol.to_owned() }
}

struct Row {
    name: &'static str,
    id: &'static str,
    symbol: &'static str,
    decimals: u8,
    /// The token of the consensus layer under another name than the ParaTime's own.
    consensus: Option<&'static str>,
}

const fn row(name: &'static str, id: &'static str, symbol: &'static str, decimals: u8) -> Row {
    Row { name, id, symbol, decimals, consensus: None }
}

const MAINNET_PARATIMES: [Row; 3] = [
    row("cipher", "000000000000000000000000000000000000000000000000e199119c992377cb", "ROSE", 9),
    row("emerald", "000000000000000000000000000000000000000000000000e2eaa99fc008f87f", "ROSE", 18),
    row("sapphire", "000000000000000000000000000000000000000000000000f80306c9858e7279", "ROSE", 18),
];

const TESTNET_PARATIMES: [Row; 5] = [
    row("cipher", "0000000000000000000000000000000000000000000000000000000000000000", "TEST", 9),
    row("emerald", "00000000000000000000000000000000000000000000000072c8215e60d5bca7", "TEST", 18),
    Row {
        name: "pontusx_dev",
        id: "0000000000000000000000000000000000000000000000004febe52eb412b421",
        symbol: "EURAU",
        decimals: 18,
        consensus: Some("TEST"),
    },
    Row {
        name: "pontusx_test",
        id: "00000000000000000000000000000000000000000000000004a6f9071c007069",
        symbol: "EURAU",
        decimals: 18,
        consensus: Some("TEST"),
    },
    row("sapphire", "000000000000000000000000000000000000000000000000a6d1e3ebf60dff6c", "TEST", 18),
];

fn paratime(row: &Row) -> ParaTime {
    let mut denominations = BTreeMap::from([(NATIVE.to_owned(), token(row.symbol, row.decimals))]);
    if let Some(symbol) = row.consensus {
        denominations.insert(symbol.to_lowercase(), token(symbol, row.decimals));
    }
    ParaTime {
        consensus_denomination: row.consensus.unwrap_or(NATIVE).to_owned(),
        description: String::new(),
        id: row.id.to_owned(),
        denominations,
    }
}

fn network(context: &str, rpc: &str, symbol: &str, paratimes: &[Row]) -> Network {
    Network {
        chain_context: context.to_owned(),
        description: String::new(),
        rpc: rpc.to_owned(),
        denomination: token(symbol, 9),
        paratimes: ParaTimes {
            default: "sapphire".to_owned(),
            all: paratimes.iter().map(|row| (row.name.to_owned(), paratime(row))).collect(),
        },
    }
}

/// The networks of a new configuration.
pub(crate) fn networks() -> Networks {
    let mainnet = network(MAINNET, MAINNET_RPC, "ROSE", &MAINNET_PARATIMES);
    let testnet = network(TESTNET, TESTNET_RPC, "TEST", &TESTNET_PARATIMES);
    Networks {
        default: "mainnet".to_owned(),
        all: BTreeMap::from([("mainnet".to_owned(), mainnet), ("testnet".to_owned(), testnet)]),
    }
}

/// Puts today's addresses in the place of old ones.
pub(crate) fn migrate(networks: &mut Networks) {
    for network in networks.all.values_mut() {
        if let Some((_, new)) = OLD_RPC.iter().find(|(old, _)| network.rpc == *old) {
            network.rpc = (*new).to_owned();
        }
    }
}

/// The name of a public network by its chain context.
pub(crate) fn name_of(context: &str) -> Option<&'static str> {
    [("mainnet", MAINNET), ("testnet", TESTNET)].iter().find(|(_, known)| *known == context).map(|(name, _)| *name)
}
