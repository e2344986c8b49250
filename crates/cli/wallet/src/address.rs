//! Accounts by name: addresses, wallets, address book, pools, test accounts.

use std::collections::BTreeMap;

use base_prims::Address;

use crate::config::{Config, Network};
use crate::error::Result;
use crate::sdk;
use crate::wallet::keys::{ethereum_address, ethereum_text};
use crate::wallet::{is_for_consensus, test_account, test_names};

/// Pools of the consensus layer by name.
fn consensus_pool(name: &str) -> Option<Address> {
    match name {
        "burn" => Some(Address::burn()),
        "common" => Some(Address::common_pool()),
        "fee-accumulator" => Some(Address::fee_accumulator()),
        "governance-deposits" => Some(Address::governance_deposits()),
        _ => None,
    }
}

/// Module and kind of the pools of a ParaTime by name.
fn paratime_pool(name: &str) -> Option<Address> {
    let (module, kind) = match name {
        "common" => ("accounts", "common-pool"),
        "fee-accumulator" => ("accounts", "fee-accumulator"),
        "pending-withdrawal" => ("consensus_accounts", "pending-withdrawal"),
        "pending-delegation" => ("consensus_accounts", "pending-delegation"),
        "rewards" => ("rewards", "reward-pool"),
        _ => return None,
    };
    Some(sdk::address::of_module(module, kind))
}

/// An address, and the Ethereum address that it is the hash of, if that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) address: Address,
    pub(crate) ethereum: Option<[u8; 20]>,
}

impl From<Address> for Resolved {
    fn from(address: Address) -> Self {
        Self { address, ethereum: None }
    }
}

/// The address that a wallet name, an address book name or any form of address means.
pub(crate) fn resolve(config: &Config, network: &Network, text: &str) -> Result<Address> {
    resolve_whole(config, network, text).map(|found| found.address)
}

/// As [`resolve`], with the Ethereum address.
pub(crate) fn resolve_whole(config: &Config, network: &Network, text: &str) -> Result<Resolved> {
    let named = config.wallets.all.get(text).map(|account| (&account.address, &account.eth_address));
    let named = named.or_else(|| config.address_book.get(text).map(|entry| (&entry.address, &entry.eth_address)));
    if let Some((address, ethereum)) = named {
        let address = address.parse().map_err(|error| format!("malformed address of '{text}': {error}"))?;
        return Ok(Resolved { address, ethereum: ethereum_address(ethereum) });
    }
    resolve_address_whole(network, text)
}

/// The address that any form of address means.
pub(crate) fn resolve_address(network: &Network, text: &str) -> Result<Address> {
    resolve_address_whole(network, text).map(|found| found.address)
}

/// A native address, or Ethereum's.
pub(crate) fn parse(text: &str) -> Option<Resolved> {
    if let Ok(address) = text.parse::<Address>() {
        return Some(address.into());
    }
    let ethereum = ethereum_address(text)?;
    Some(Resolved { address: sdk::address::of_ethereum(&ethereum), ethereum: Some(ethereum) })
}

fn resolve_address_whole(network: &Network, text: &str) -> Result<Resolved> {
    if let Some(found) = parse(text) {
        return Ok(found);
    }
    let Some((kind, rest)) = text.split_once(':') else {
        return Err("unsupported address format".into());
    };
    match kind {
        "paratime" => {
            let paratime = network.paratimes.all.get(rest);
            let paratime = paratime.ok_or_else(|| format!("paratime '{rest}' does not exist"))?;
            Ok(Address::of_runtime(&paratime.namespace()?).into())
        }
        "pool" => match rest.split_once(':') {
            Some(("paratime", name)) => match paratime_pool(name) {
                Some(address) => Ok(address.into()),
                None => Err(format!("unsupported ParaTime pool: {name}").into()),
            },
            Some(("consensus", name)) => match consensus_pool(name) {
                Some(address) => Ok(address.into()),
                None => Err(format!("unsupported consensus pool: {name}").into()),
            },
            other => Err(format!(
                "unsupported pool kind: {}. Please use pool:<poolKind>:<poolName>, for example pool:paratime:pending-withdrawal",
                other.map_or(rest, |(kind, _)| kind),
            )
            .into()),
        },
        "test" => {
            let account = test_account(rest).map_err(|_| format!("unsupported test account: {rest}"))?.public();
            Ok(Resolved { address: account.address(), ethereum: account.ethereum() })
        }
        _ => Err(format!("unsupported explicit address kind: {kind}").into()),
    }
}

/// Names of all addresses that have one.
pub(crate) fn names(config: &Config) -> BTreeMap<Address, String> {
    let mut names = BTreeMap::new();
    for name in test_names() {
        if let Ok(account) = test_account(name) {
            names.insert(account.address(), format!("test:{name}"));
        }
    }
    for network in config.networks.all.values() {
        for (name, paratime) in &network.paratimes.all {
            if let Ok(id) = paratime.namespace() {
                names.insert(Address::of_runtime(&id), format!("paratime:{name}"));
            }
        }
    }
    let book = config.address_book.iter().map(|(name, entry)| (name, &entry.address));
    let wallets = config.wallets.all.iter().map(|(name, account)| (name, &account.address));
    for (name, address) in book.chain(wallets) {
        if let Ok(address) = address.parse() {
            names.insert(address, name.clone());
        }
    }
    names
}

/// The Ethereum addresses that are known of addresses, as text.
pub(crate) fn ethereum_names(config: &Config) -> BTreeMap<Address, String> {
    let mut names = BTreeMap::new();
    for name in test_names() {
        if let Some(Some(ethereum)) = test_account(name).ok().map(|account| account.public().ethereum()) {
            names.insert(sdk::address::of_ethereum(&ethereum), ethereum_text(&ethereum));
        }
    }
    let book = config.address_book.values().map(|entry| &entry.eth_address);
    let wallets = config.wallets.all.values().map(|account| &account.eth_address);
    for ethereum in book.chain(wallets).filter_map(|text| ethereum_address(text)) {
        names.insert(sdk::address::of_ethereum(&ethereum), ethereum_text(&ethereum));
    }
    names
}

/// Why nobody could spend tokens of the consensus layer at that address, if nobody could.
pub(crate) fn not_for_consensus(config: &Config, to: &Resolved) -> Option<String> {
    let what = "will not be able to sign transactions on consensus layer";
    let same = |address: &str| address.parse() == Ok(to.address);
    let wallets = config.wallets.all.iter();
    if let Some((name, account)) =
        wallets.filter(|(_, account)| same(&account.address)).find(|(_, account)| !is_for_consensus(&account.algorithm))
    {
        return Some(format!("destination account '{name}' ({}) {what}", account.address));
    }
    for name in test_names() {
        let Ok(account) = test_account(name) else { continue };
        if account.address() == to.address && account.consensus().is_err() {
            return Some(format!("test account '{name}' ({}) {what}", to.address));
        }
    }
    let book = config.address_book.iter();
    if let Some((name, entry)) =
        book.filter(|(_, entry)| same(&entry.address)).find(|(_, entry)| !entry.eth_address.is_empty())
    {
        return Some(format!("signer for address named '{name}' ({}) {what}", entry.eth_address));
    }
    to.ethereum.map(|ethereum| format!("signer for address '{}' {what}", ethereum_text(&ethereum)))
}

/// An address with its name before it, if it has one.
pub(crate) fn pretty(names: &BTreeMap<Address, String>, address: &Address) -> String {
    names.get(address).map_or_else(|| address.to_string(), |name| format!("{name} ({address})"))
}

/// Why tokens should not be sent there, if they should not.
pub(crate) fn reserved(config: &Config, address: &Address) -> Option<String> {
    let consensus = [
        ("burn", "consensus burn"),
        ("common", "consensus common pool"),
        ("fee-accumulator", "consensus fee accumulator"),
        ("governance-deposits", "governance deposit"),
    ];
    let paratime = [
        ("rewards", "ParaTime rewards pool"),
        ("common", "ParaTime common pool"),
        ("fee-accumulator", "ParaTime fee accumulator"),
        ("pending-delegation", "ParaTime pending delegations"),
        ("pending-withdrawal", "ParaTime pending withdrawal"),
    ];
    let found = |pool: Option<Address>, what: &str| {
        pool.is_some_and(|pool| pool == *address).then(|| format!("address '{address}' is {what} address"))
    };
    let pools = consensus.iter().map(|(name, what)| (consensus_pool(name), *what));
    let pools = pools.chain(paratime.iter().map(|(name, what)| (paratime_pool(name), *what)));
    if let Some(reason) = pools.into_iter().find_map(|(pool, what)| found(pool, what)) {
        return Some(reason);
    }
    config.networks.all.iter().find_map(|(network, of)| {
        let runtimes = of.paratimes.all.iter();
        let (name, _) = runtimes
            .filter_map(|(name, paratime)| Some((name, paratime.namespace().ok()?)))
            .find(|(_, id)| Address::of_runtime(id) == *address)?;
        Some(format!(
            "did you mean --paratime {name}? Address '{address}' is native address of paratime:{name} on {network} and should \
             not be transferred to directly"
        ))
    })
}
