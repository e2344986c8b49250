//! Accounts by name: addresses, wallets, address book, pools, test accounts.

use std::collections::BTreeMap;

use base_prims::address::ADDRESS_BYTES;
use base_prims::{Address, Hash};

use crate::config::{Config, Network};
use crate::error::Result;
use crate::wallet::{TEST_ACCOUNTS, test_account};

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
    Some(module_address(module, kind))
}

/// Address of an account of a module within a ParaTime: other than those of the consensus layer's modules.
fn module_address(module: &str, kind: &str) -> Address {
    const CONTEXT: &[u8] = b"oasis-runtime-sdk/address: module";
    const VERSION: u8 = 0;
    let hash = Hash::of(&[CONTEXT, &[VERSION], module.as_bytes(), b".", kind.as_bytes()]);
    let mut bytes = [VERSION; ADDRESS_BYTES];
    bytes[1..].copy_from_slice(&hash.as_bytes()[..ADDRESS_BYTES - 1]);
    Address::new(bytes)
}

/// The address that a wallet name, an address book name or any form of address means.
pub(crate) fn resolve(config: &Config, network: &Network, text: &str) -> Result<Address> {
    let named = config.wallets.all.get(text).map(|account| &account.address);
    let named = named.or_else(|| config.address_book.get(text).map(|entry| &entry.address));
    if let Some(address) = named {
        return address.parse().map_err(|error| format!("malformed address of '{text}': {error}").into());
    }
    resolve_address(network, text)
}

/// The address that any form of address means.
pub(crate) fn resolve_address(network: &Network, text: &str) -> Result<Address> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let Some((kind, rest)) = text.split_once(':') else {
        return Err("unsupported address format".into());
    };
    match kind {
        "paratime" => {
            let paratime = network.paratimes.all.get(rest);
            let paratime = paratime.ok_or_else(|| format!("paratime '{rest}' does not exist"))?;
            Ok(Address::of_runtime(&paratime.namespace()?))
        }
        "pool" => match rest.split_once(':') {
            Some(("paratime", name)) => {
                paratime_pool(name).ok_or_else(|| format!("unsupported ParaTime pool: {name}").into())
            }
            Some(("consensus", name)) => {
                consensus_pool(name).ok_or_else(|| format!("unsupported consensus pool: {name}").into())
            }
            other => Err(format!(
                "unsupported pool kind: {}. Please use pool:<poolKind>:<poolName>, for example pool:paratime:pending-withdrawal",
                other.map_or(rest, |(kind, _)| kind),
            )
            .into()),
        },
        "test" => Ok(test_account(rest).map_err(|_| format!("unsupported test account: {rest}"))?.address()),
        _ => Err(format!("unsupported explicit address kind: {kind}").into()),
    }
}

/// Names of all addresses that have one.
pub(crate) fn names(config: &Config) -> BTreeMap<Address, String> {
    let mut names = BTreeMap::new();
    for name in TEST_ACCOUNTS {
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
